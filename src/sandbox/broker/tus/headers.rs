//! Headers of the protocol: reading them by the rules of the Broker's library, and writing them.

use std::collections::HashSet;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;

use super::refusal::Refused;
use crate::sandbox::problem::bare;

/// The one version of the protocol.
pub(super) const VERSION: &str = "1.0.0";
pub(super) const TUS_RESUMABLE: HeaderName = HeaderName::from_static("tus-resumable");
pub(super) const TUS_VERSION: HeaderName = HeaderName::from_static("tus-version");
pub(super) const UPLOAD_OFFSET: HeaderName = HeaderName::from_static("upload-offset");
pub(super) const UPLOAD_LENGTH: HeaderName = HeaderName::from_static("upload-length");
pub(super) const UPLOAD_CONCAT: HeaderName = HeaderName::from_static("upload-concat");
const UPLOAD_EXPIRES: HeaderName = HeaderName::from_static("upload-expires");
const EXTENSIONS: &str =
    "creation,creation-with-upload,termination,checksum,checksum-trailer,concatenation,expiration";
const CONTENT_TYPE: &str = "application/offset+octet-stream";

/// The text of a header that is there.
pub(super) fn text(headers: &HeaderMap, name: impl header::AsHeaderName) -> Option<&str> {
    headers.get(name).map(|value| value.to_str().unwrap_or_default())
}

/// The version of the protocol is looked at after the rights.
pub(super) fn must_have_version(headers: &HeaderMap) -> Result<(), Refused> {
    match text(headers, TUS_RESUMABLE) {
        Some(VERSION) => Ok(()),
        other => Err(Refused::Version(other.unwrap_or_default().to_owned())),
    }
}

/// The body's type must be exactly that of the protocol, without parameters.
pub(super) fn must_be_chunk(headers: &HeaderMap) -> Result<(), Refused> {
    let given = text(headers, header::CONTENT_TYPE).unwrap_or_default();
    if given.eq_ignore_ascii_case(CONTENT_TYPE) {
        Ok(())
    } else {
        Err(Refused::ContentType(given.to_owned()))
    }
}

/// `Upload-Offset`, if it is there and a number.
pub(super) fn offset(headers: &HeaderMap) -> Option<i64> {
    text(headers, UPLOAD_OFFSET)?.trim().parse().ok()
}

/// `Upload-Offset` of a PATCH.
pub(super) fn must_have_offset(headers: &HeaderMap) -> Result<u64, Refused> {
    number(headers, UPLOAD_OFFSET, "Upload-Offset", "Could not parse Upload-Offset header")
}

/// `Upload-Length` of a POST.
pub(super) fn must_have_length(headers: &HeaderMap) -> Result<u64, Refused> {
    let deferred = headers.contains_key("upload-defer-length");
    if deferred && headers.contains_key(UPLOAD_LENGTH) {
        return Err(Refused::Header(
            "Headers Upload-Length and Upload-Defer-Length are mutually exclusive and cannot be used in the same request"
                .to_owned(),
        ));
    }
    if deferred {
        return Err(Refused::Header("Header Upload-Defer-Length is not supported".to_owned()));
    }
    number(headers, UPLOAD_LENGTH, "Upload-Length", "Could not parse Upload-Length")
}

fn number(headers: &HeaderMap, name: HeaderName, shown: &str, unreadable: &str) -> Result<u64, Refused> {
    let Some(given) = text(headers, name) else {
        return Err(Refused::Header(format!("Missing {shown} header")));
    };
    let number: i64 = given.trim().parse().map_err(|_| Refused::Header(unreadable.to_owned()))?;
    u64::try_from(number).map_err(|_| Refused::Header(format!("Header {shown} must be a positive number")))
}

/// What `Upload-Checksum` does to a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Checksum {
    /// There is none.
    Absent,
    /// The chunk is counted, and then refused: the Broker compares it with nothing.
    Mismatch,
}

/// `Upload-Checksum`: only `md5` passes the first check.
pub(super) fn checksum(headers: &HeaderMap) -> Result<Checksum, Refused> {
    let Some(given) = text(headers, "upload-checksum") else { return Ok(Checksum::Absent) };
    let pair = given.split_once(' ').filter(|(_, hash)| STANDARD.decode(hash.trim()).is_ok());
    let Some((algorithm, _)) = pair else {
        return Err(Refused::Header("Could not parse Upload-Checksum header".to_owned()));
    };
    if algorithm.eq_ignore_ascii_case("md5") {
        return Ok(Checksum::Mismatch);
    }
    Err(Refused::Header("Unsupported checksum algorithm. Supported algorithms are: md5".to_owned()))
}

/// `Upload-Metadata`: checked, and then ignored. A key may stand alone.
pub(super) fn check_metadata(headers: &HeaderMap) -> Result<(), Refused> {
    let Some(given) = text(headers, "upload-metadata") else { return Ok(()) };
    let wrong = |text: String| Err(Refused::Header(format!("Header Upload-Metadata: {text}")));
    let mut seen = HashSet::new();
    for item in given.split(',').map(str::trim).filter(|_| !given.trim().is_empty()) {
        let (key, value) = item.split_once(' ').unwrap_or((item, ""));
        if key.is_empty() {
            return wrong("Key must not be empty".to_owned());
        }
        if value.contains(' ') {
            return wrong(METADATA_FORMAT.to_owned());
        }
        if !seen.insert(key) {
            return wrong("Duplicate keys are not allowed".to_owned());
        }
        if STANDARD.decode(value).is_err() {
            return wrong(format!("Value for {key} is not properly encoded using base64"));
        }
    }
    Ok(())
}

const METADATA_FORMAT: &str = "The Upload-Metadata request and response header MUST consist of one or more comma - separated key - value pairs. The key and value MUST be separated by a space.The key MUST NOT contain spaces and commas and MUST NOT be empty. The key SHOULD be ASCII encoded and the value MUST be Base64 encoded. All keys MUST be unique. The value MAY be empty. In these cases, the space, which would normally separate the key and the value, MAY be left out.";

/// What `Upload-Concat` asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Concat {
    /// There is none.
    Absent,
    /// A part of a file.
    Partial,
    /// Joining parts, by what follows the request's path in their URLs.
    Final(Vec<String>),
}

/// `Upload-Concat`. Each reference must begin with exactly the request's path.
pub(super) fn concat(headers: &HeaderMap, path: &str) -> Result<Concat, Refused> {
    let Some(given) = text(headers, UPLOAD_CONCAT) else { return Ok(Concat::Absent) };
    if given == "partial" {
        return Ok(Concat::Partial);
    }
    let invalid = || {
        Refused::Header(
            r#"Header Upload-Concat: Header is invalid. Valid values are "partial" and "final" followed by a list of file urls to concatenate"#
                .to_owned(),
        )
    };
    let list = given.strip_prefix("final;").filter(|list| !list.is_empty()).ok_or_else(invalid)?;
    let path = path.trim_end_matches('/');
    let reference = |url: &str| {
        let absolute = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
        let local = match absolute {
            Some(rest) => rest.find('/').and_then(|slash| rest.get(slash..)),
            None => Some(url),
        };
        let rest = local?.strip_prefix(path)?.trim_matches('/');
        rest.split(['?', '#']).next().map(str::to_owned)
    };
    let files: Option<Vec<String>> = list.split(' ').filter(|url| !url.is_empty()).map(reference).collect();
    files.filter(|files| !files.is_empty()).map(Concat::Final).ok_or_else(invalid)
}

/// An answer of the protocol.
pub(super) struct Reply(Response<Body>);

impl Reply {
    pub(super) fn new(status: StatusCode) -> Self {
        Self(bare(status)).with(TUS_RESUMABLE, VERSION)
    }

    pub(super) fn with(mut self, name: HeaderName, value: &(impl ToString + ?Sized)) -> Self {
        // Everything that is written here is digits, URLs or fixed text.
        if let Ok(value) = HeaderValue::from_str(&value.to_string()) {
            self.0.headers_mut().insert(name, value);
        }
        self
    }

    /// `Upload-Expires`, an IMF-fixdate.
    pub(super) fn expires(self, time: Timestamp) -> Self {
        match DateTimePrinter::new().timestamp_to_rfc9110_string(&time) {
            Ok(date) => self.with(UPLOAD_EXPIRES, &date),
            Err(_) => self,
        }
    }

    pub(super) fn into_response(self) -> Response<Body> {
        self.0
    }
}

/// What the server can do. `Tus-Max-Size` is absent: the limits differ from transfer to transfer.
pub(super) fn capabilities() -> Response<Body> {
    Reply::new(StatusCode::NO_CONTENT)
        .with(TUS_VERSION, VERSION)
        .with(HeaderName::from_static("tus-extension"), EXTENSIONS)
        .with(HeaderName::from_static("tus-checksum-algorithm"), "md5")
        .into_response()
}
