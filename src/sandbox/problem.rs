//! Refusals of the Broker, in its own words and shapes (Broker API, errors).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};
use uuid::Uuid;

use super::broker::OwnerFault;

/// A numbered error of the Broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    NotFound,
    NoServiceOwner,
    NothingUploaded,
    AlreadyUploaded,
    NotInRegistry,
    NoAccess,
    NotReadyForDownload,
    UploadFailed,
    ChecksumMismatch,
    NotPublished,
    TooLarge,
    NotDownloaded,
    ScanRequired,
    StorageNotReady,
    RequiredPartyMissing,
    RequiredPartyAlone,
    NotInAccessList,
    RangeNotSatisfiable,
    /// One that only a service owner meets.
    Owner(OwnerFault),
}

impl Fault {
    /// The number in `code`, and the status.
    fn row(self) -> (u16, StatusCode) {
        use StatusCode as S;
        match self {
            Self::NotFound => (1, S::NOT_FOUND),
            Self::NoServiceOwner => (2, S::BAD_REQUEST),
            Self::NothingUploaded => (3, S::BAD_REQUEST),
            Self::AlreadyUploaded => (4, S::CONFLICT),
            Self::NotInRegistry => (5, S::FORBIDDEN),
            Self::NoAccess => (6, S::UNAUTHORIZED),
            Self::NotReadyForDownload => (7, S::FORBIDDEN),
            Self::UploadFailed => (8, S::INTERNAL_SERVER_ERROR),
            Self::ChecksumMismatch => (9, S::BAD_REQUEST),
            Self::NotPublished => (10, S::BAD_REQUEST),
            Self::TooLarge => (16, S::BAD_REQUEST),
            Self::NotDownloaded => (19, S::BAD_REQUEST),
            Self::ScanRequired => (20, S::BAD_REQUEST),
            Self::StorageNotReady => (21, S::SERVICE_UNAVAILABLE),
            Self::RequiredPartyMissing => (26, S::BAD_REQUEST),
            Self::RequiredPartyAlone => (27, S::BAD_REQUEST),
            Self::NotInAccessList => (28, S::BAD_REQUEST),
            Self::RangeNotSatisfiable => (29, S::RANGE_NOT_SATISFIABLE),
            Self::Owner(fault) => fault.row(),
        }
    }

    /// The status.
    pub(super) fn status(self) -> StatusCode {
        self.row().1
    }

    /// The `detail`.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::NotFound => "The requested file transfer was not found",
            Self::NoServiceOwner => "Service owner needs to be configured to use the broker API",
            Self::NothingUploaded => "No file uploaded yet",
            Self::AlreadyUploaded => {
                "A file transfer has already been, or attempted to be, created. Create a new file transfer resource to try again."
            }
            Self::NotInRegistry => {
                "The resource needs to be registered as an Altinn 3 resource and it has to be associated with a service owner"
            }
            Self::NoAccess => {
                "You must use a bearer token that represents a system user with access to the resource in the Resource Rights Registry"
            }
            Self::NotReadyForDownload => {
                "The requested file transfer's file is not ready for download. See file transfer status."
            }
            Self::UploadFailed => "Error occurred while uploading file See /details for more information.",
            Self::ChecksumMismatch => {
                "The checksum of uploaded file did not match the checksum specified in initialize call."
            }
            Self::NotPublished => {
                "A file transfer can only be confirmed to be downloaded when it is published. See file transfer status."
            }
            Self::TooLarge => "File size exceeds maximum",
            Self::NotDownloaded => "Cannot confirm before the files have been downloaded",
            Self::ScanRequired => {
                "In order to use file transfers without virus scan the service resource needs to be approved by Altinn. Please contact us @ Slack."
            }
            Self::StorageNotReady => "Storage provider is not ready yet. Please try again later.",
            Self::RequiredPartyMissing => {
                "The resource requires the service owner party to be present as part of the transaction."
            }
            Self::RequiredPartyAlone => {
                "When required party is specified and the required party is not the sender, the number of recipients can only be one."
            }
            Self::NotInAccessList => "All recipients need to be in the access list of the resource.",
            Self::RangeNotSatisfiable => "The requested byte range is not satisfiable.",
            Self::Owner(fault) => fault.text(),
        }
    }
}

/// Messages per member, as ASP.NET's model validation reports them.
pub(super) type Messages = BTreeMap<String, Vec<String>>;

/// Why a request was not done.
#[derive(Debug)]
pub(super) enum Refusal {
    /// A numbered error.
    Fault(Fault),
    /// Members or parameters are wrong: 400 without a code.
    Invalid(Messages),
    /// An exception that nobody handled: 500 without a code.
    Unhandled,
    /// A bare status from routing or authorization.
    Bare(StatusCode),
    /// 401 without a body; the text completes the challenge.
    Token(&'static str),
    /// More than the sandbox reads into memory; the real one has no such limit.
    Oversized,
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<OwnerFault> for Fault {
    fn from(fault: OwnerFault) -> Self {
        Self::Owner(fault)
    }
}

impl From<OwnerFault> for Refusal {
    fn from(fault: OwnerFault) -> Self {
        Self::Fault(Fault::Owner(fault))
    }
}

/// One message about one member.
pub(super) fn invalid(member: &str, message: impl Into<String>) -> Refusal {
    Refusal::Invalid(Messages::from([(member.to_owned(), vec![message.into()])]))
}

/// The media type that an endpoint declares as the only thing it produces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Produces {
    /// JSON: problems are `application/json` too, and `Accept` is checked.
    Json,
    /// CSV: `Accept` is checked.
    Csv,
    /// None: problems are `application/problem+json`.
    Anything,
}

impl Produces {
    /// What `Accept` must name, unless it names `*/*`; nothing where it is not looked at.
    pub(super) fn media_type(self) -> Option<&'static str> {
        match self {
            Self::Json => Some("application/json"),
            Self::Csv => Some("text/csv"),
            Self::Anything => None,
        }
    }
}

impl Refusal {
    /// The answer.
    pub(super) fn into_response(self, produces: Produces, path: &str) -> Response<Body> {
        let declared = match produces {
            Produces::Json => "application/json; charset=utf-8",
            Produces::Csv | Produces::Anything => "application/problem+json",
        };
        match self {
            Self::Fault(fault) => {
                let (number, status) = fault.row();
                answer(status, declared, problem(number, status, fault.text()))
            }
            Self::Invalid(errors) => {
                let body = json!({
                    "type": section(StatusCode::BAD_REQUEST),
                    "title": "One or more validation errors occurred.",
                    "status": 400, "errors": errors, "traceId": trace_id(),
                });
                answer(StatusCode::BAD_REQUEST, declared, body.to_string())
            }
            Self::Unhandled => {
                let status = StatusCode::INTERNAL_SERVER_ERROR;
                let body = json!({
                    "type": section(status), "title": "Internal Server Error", "status": 500,
                    "detail": "", "instance": path, "traceId": trace_id(),
                });
                answer(status, "application/problem+json", body.to_string())
            }
            Self::Bare(status) => bare(status),
            Self::Token(challenge) => {
                let mut response = bare(StatusCode::UNAUTHORIZED);
                response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
                response
            }
            Self::Oversized => answer(
                StatusCode::PAYLOAD_TOO_LARGE,
                "text/plain; charset=utf-8",
                "The sandbox reads no more than 16 MiB here. This limit is its own: Altinn has none.",
            ),
        }
    }
}

/// Whether `Accept` lets ASP.NET write a problem document, without which an unhandled exception has no body.
pub(super) fn allows_json(headers: &HeaderMap) -> bool {
    const WIDE_ENOUGH: [&str; 5] =
        ["*/*", "application/*", "application/json", "application/problem+json", "application/*+json"];
    let values = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut elements = values.flat_map(|value| value.split(',')).filter(|it| it.contains('/')).peekable();
    elements.peek().is_none()
        || elements.any(|element| {
            let mut parts = element.split(';').map(|part| part.trim().to_ascii_lowercase());
            let media_type = parts.next().unwrap_or_default();
            // A type with a parameter does not include one without.
            WIDE_ENOUGH.contains(&media_type.as_str()) && parts.all(|it| it.starts_with("q="))
        })
}

/// A response without a body.
pub(super) fn bare(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// A response with a text of the given type.
pub(super) fn answer(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Body>,
) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// A JSON answer of an endpoint that produces JSON.
pub(super) fn json_answer(body: &Value) -> Response<Body> {
    answer(StatusCode::OK, "application/json; charset=utf-8", body.to_string())
}

/// Problem JSON; `traceId` is written twice, by a typed member and by an extension of the same name.
fn problem(number: u16, status: StatusCode, detail: &str) -> String {
    let reason = status.canonical_reason().unwrap_or_default();
    let trace = trace_id();
    let mut text = String::new();
    // Writing to a String cannot fail.
    if write!(
        text,
        r#"{{"type":"{}","title":"{reason}","status":{},"detail":{},"code":"BRO-{number:05}","traceId":"{trace}","statusDescription":"{reason}","traceId":"{trace}"}}"#,
        section(status),
        status.as_u16(),
        Value::from(detail),
    )
    .is_err()
    {
        text.clear();
    }
    text
}

/// Problem JSON of Altinn's other platforms, which have no codes.
pub(super) fn platform_problem(status: StatusCode, detail: Option<&str>) -> Response<Body> {
    let mut body = json!({
        "type": section(status), "title": status.canonical_reason().unwrap_or_default(),
        "status": status.as_u16(), "traceId": trace_id(),
    });
    if let (Some(detail), Some(members)) = (detail, body.as_object_mut()) {
        members.insert("detail".to_owned(), detail.into());
    }
    answer(status, "application/problem+json; charset=utf-8", body.to_string())
}

/// The section of RFC 9110 that defines the status.
fn section(status: StatusCode) -> String {
    let section = match status.as_u16() {
        code @ 400..=406 => format!("15.5.{}", code - 399),
        409 => "15.5.10".to_owned(),
        416 => "15.5.17".to_owned(),
        code => format!("15.6.{}", code.saturating_sub(499)),
    };
    format!("https://tools.ietf.org/html/rfc9110#section-{section}")
}

/// A W3C trace context id.
pub(super) fn trace_id() -> String {
    let trace = Uuid::new_v4().simple().to_string();
    let span: String = Uuid::new_v4().simple().to_string().chars().take(16).collect();
    format!("00-{trace}-{span}-00")
}
