//! `POST /broker/api/v1/filetransfer/upload` (Broker API, initialize and upload in one).

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, Response, StatusCode};

use crate::sandbox::auth::Caller;
use crate::sandbox::problem::Refusal;
use crate::sandbox::site::{Note, Site};

/// Initializes and uploads.
#[expect(clippy::unused_async, reason = "skeleton")]
pub(super) async fn upload(
    site: &Arc<Site>,
    _caller: &Caller,
    _headers: &HeaderMap,
    body: Body,
    _note: &mut Note,
) -> Result<Response<Body>, Refusal> {
    site.drain(body);
    Err(Refusal::Bare(StatusCode::NOT_FOUND))
}
