//! What a request says its body is.

use axum::http::{HeaderMap, header};

/// The media type in `Content-Type` without its parameters; empty when there is none.
fn media_type(headers: &HeaderMap) -> &str {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim()
}

/// Whether the body is said to be of that type.
pub(super) fn is(headers: &HeaderMap, wanted: &str) -> bool {
    media_type(headers).eq_ignore_ascii_case(wanted)
}

/// The same, where a request that says nothing passes.
pub(super) fn may_be(headers: &HeaderMap, wanted: &str) -> bool {
    media_type(headers).is_empty() || is(headers, wanted)
}
