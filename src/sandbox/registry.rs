//! The Resource Registry (`/resourceregistry/api/v1/resource/{id}`), open to everybody.

use axum::body::Body;
use axum::http::{Response, StatusCode};

use super::problem::bare;
use super::route::Question;
use super::site::Site;

/// Answers a question about a resource.
pub(super) fn answer(_site: &Site, _question: &Question) -> Response<Body> {
    bare(StatusCode::NOT_FOUND)
}
