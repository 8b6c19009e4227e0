//! Faults on demand: what goes wrong, by rule.

mod quirk;

use std::sync::Arc;

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{Response, StatusCode};

use super::problem::bare;
use super::site::Site;
pub(super) use quirk::Quirk;

/// The rules in force.
#[derive(Debug, Default)]
pub(super) struct Faults;

impl Faults {
    /// Whether a peculiarity strikes here and now, and how much of it; each call counts as one
    /// occurrence. `organization` is nine digits.
    #[expect(clippy::unused_self, reason = "skeleton")]
    pub(super) fn strikes(&self, _quirk: Quirk, _organization: Option<&str>) -> Option<u64> {
        None
    }
}

/// `/_sandbox/faults`: reads, replaces, adds to and removes the rules.
#[expect(clippy::unused_async, reason = "skeleton")]
pub(super) async fn control(site: &Arc<Site>, _parts: &Parts, body: Body) -> Response<Body> {
    site.drain(body);
    bare(StatusCode::NOT_FOUND)
}
