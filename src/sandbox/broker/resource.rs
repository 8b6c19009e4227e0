//! The service owner's endpoints (Broker API, resource, service owner and the rest).

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, Response, StatusCode};

use crate::sandbox::auth::Caller;
use crate::sandbox::problem::Refusal;
use crate::sandbox::route::Operation;
use crate::sandbox::site::{Note, Site};

/// Answers one of them.
#[expect(clippy::unused_async, reason = "skeleton")]
pub(super) async fn serve(
    site: &Arc<Site>,
    _caller: &Caller,
    _operation: &Operation,
    _headers: &HeaderMap,
    body: Body,
    _note: &mut Note,
) -> Result<Response<Body>, Refusal> {
    site.drain(body);
    Err(Refusal::Bare(StatusCode::NOT_FOUND))
}
