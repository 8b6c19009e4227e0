//! Resumable upload (Broker API, TUS; tus.io protocol 1.0.0).

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, Response, StatusCode};

use crate::sandbox::auth::Caller;
use crate::sandbox::problem::Refusal;
use crate::sandbox::route::TusRequest;
use crate::sandbox::site::{Note, Site};

/// Answers a TUS request.
#[expect(clippy::unused_async, reason = "skeleton")]
pub(super) async fn serve(
    site: &Arc<Site>,
    _caller: &Caller,
    _request: &TusRequest,
    _headers: &HeaderMap,
    body: Body,
    _note: &mut Note,
) -> Result<Response<Body>, Refusal> {
    site.drain(body);
    Err(Refusal::Bare(StatusCode::NOT_FOUND))
}
