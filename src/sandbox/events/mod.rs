//! Altinn Events: subscriptions, delivery and pull.

use std::sync::Arc;

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{Response, StatusCode};

use super::problem::bare;
use super::route::Events;
use super::site::{Note, Site};

/// Answers a request to Altinn Events.
#[expect(clippy::unused_async, reason = "skeleton")]
pub(super) async fn serve(
    site: &Arc<Site>,
    _operation: &Events,
    _parts: &Parts,
    body: Body,
    _note: &mut Note,
) -> Response<Body> {
    site.drain(body);
    bare(StatusCode::NOT_FOUND)
}
