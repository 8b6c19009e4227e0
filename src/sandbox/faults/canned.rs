//! Answers that a rule gives instead of the real one.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Response, StatusCode, header};
use serde_json::json;

use crate::sandbox::problem::{Fault, Produces, Refusal, trace_id};

/// An answer as a rule describes it.
#[derive(Debug, Clone)]
pub(super) struct Canned {
    pub(super) status: StatusCode,
    pub(super) text: Text,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
}

/// What an answer says.
#[derive(Debug, Clone)]
pub(super) enum Text {
    Empty,
    Preset(Preset),
    Given(String),
}

/// Answers that somebody really gives.
#[derive(Debug, Clone, Copy)]
pub(super) enum Preset {
    Empty,
    /// The page of the gateway before the Broker.
    Html,
    /// JSON that breaks off.
    GarbageJson,
    /// A problem of ASP.NET, without a number.
    Problem,
    /// The form of API Management.
    Gateway,
    /// A numbered error of the Broker.
    Numbered(Fault),
}

/// Presets that are no numbered errors.
pub(in crate::sandbox) const BODIES: [&str; 5] = ["empty", "html", "garbage-json", "problem", "gateway-json"];

impl Text {
    /// Every preset by its name.
    pub(super) fn presets() -> Vec<(&'static str, Preset)> {
        let others = [Preset::Empty, Preset::Html, Preset::GarbageJson, Preset::Problem, Preset::Gateway];
        let numbered = NUMBERED.map(|(name, fault)| (name, Preset::Numbered(fault)));
        BODIES.into_iter().zip(others).chain(numbered).collect()
    }

    /// The status that goes with it unless the rule gives another.
    pub(super) fn own_status(&self) -> Option<StatusCode> {
        match self {
            Self::Preset(Preset::Numbered(fault)) => {
                let answer = Refusal::from(*fault).into_response(Produces::Json, "");
                Some(answer.status())
            }
            _ => None,
        }
    }
}

/// The Broker's errors by the names that rules give them.
const NUMBERED: [(&str, Fault); 18] = [
    ("bro-00001", Fault::NotFound),
    ("bro-00002", Fault::NoServiceOwner),
    ("bro-00003", Fault::NothingUploaded),
    ("bro-00004", Fault::AlreadyUploaded),
    ("bro-00005", Fault::NotInRegistry),
    ("bro-00006", Fault::NoAccess),
    ("bro-00007", Fault::NotReadyForDownload),
    ("bro-00008", Fault::UploadFailed),
    ("bro-00009", Fault::ChecksumMismatch),
    ("bro-00010", Fault::NotPublished),
    ("bro-00016", Fault::TooLarge),
    ("bro-00019", Fault::NotDownloaded),
    ("bro-00020", Fault::ScanRequired),
    ("bro-00021", Fault::StorageNotReady),
    ("bro-00026", Fault::RequiredPartyMissing),
    ("bro-00027", Fault::RequiredPartyAlone),
    ("bro-00028", Fault::NotInAccessList),
    ("bro-00029", Fault::RangeNotSatisfiable),
];

impl Canned {
    /// The answer, as an endpoint that `produces` that gives it.
    pub(super) fn response(&self, produces: Produces) -> Response<Body> {
        let reason = self.status.canonical_reason().unwrap_or_default();
        let (content_type, text) = match &self.text {
            Text::Empty | Text::Preset(Preset::Empty) => (None, String::new()),
            Text::Preset(Preset::Html) => (Some("text/html"), page(self.status, reason)),
            Text::Preset(Preset::GarbageJson) => {
                (Some("application/json; charset=utf-8"), r#"{"fileTransferId":"4207dc"#.to_owned())
            }
            Text::Preset(Preset::Problem) => {
                let status = self.status.as_u16();
                let body = json!({ "title": reason, "status": status, "traceId": trace_id() });
                (Some("application/problem+json"), body.to_string())
            }
            Text::Preset(Preset::Gateway) => {
                let body = json!({ "statusCode": self.status.as_u16(), "message": reason });
                (Some("application/json"), body.to_string())
            }
            Text::Preset(Preset::Numbered(fault)) => {
                let mut response = Refusal::from(*fault).into_response(produces, "");
                *response.status_mut() = self.status;
                return self.with_headers(response);
            }
            Text::Given(text) => (Some("text/plain; charset=utf-8"), text.clone()),
        };
        let has_body = !matches!(self.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let mut response = Response::new(if has_body { Body::from(text) } else { Body::empty() });
        *response.status_mut() = self.status;
        if let Some(content_type) = content_type {
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        } else if self.status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static(r#"Bearer error="invalid_token""#);
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        self.with_headers(response)
    }

    fn with_headers(&self, mut response: Response<Body>) -> Response<Body> {
        for (name, value) in &self.headers {
            response.headers_mut().insert(name.clone(), value.clone());
        }
        response
    }
}

/// What Azure's gateway shows when what stands behind it does not answer.
fn page(status: StatusCode, reason: &str) -> String {
    let title = format!("{} {reason}", status.as_u16());
    format!(
        "<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>\r\n<hr><center>Microsoft-Azure-Application-Gateway/v2</center>\r\n</body>\r\n</html>\r\n"
    )
}
