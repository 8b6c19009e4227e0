//! Calls to the small Altinn, and its answers.

use std::collections::BTreeMap;

use bytes::Bytes;
use reqwest::Method;
use serde_json::{Value, json};

use super::tus;

/// A request, as far as it matters.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: BTreeMap<String, String>,
    pub(crate) range: Option<String>,
    /// What the headers of resumable uploads say.
    pub(crate) tus: BTreeMap<&'static str, String>,
    /// Which organisation calls, by its token.
    pub(crate) caller: String,
}

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Operation {
    Token,
    Exchange,
    Initialize,
    Upload,
    Overview,
    Details,
    Search,
    Download,
    Confirm,
    TusCreate,
    TusHead,
    TusPatch,
    TusJoin,
}

impl Operation {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Exchange => "exchange",
            Self::Initialize => "initialize",
            Self::Upload => "upload",
            Self::Overview => "overview",
            Self::Details => "details",
            Self::Search => "search",
            Self::Download => "download",
            Self::Confirm => "confirm",
            Self::TusCreate => "tus_create",
            Self::TusHead => "tus_head",
            Self::TusPatch => "tus_patch",
            Self::TusJoin => "tus_join",
        }
    }
}

const BASE: &str = "/broker/api/v1/filetransfer";

impl Call {
    /// A header of resumable uploads.
    pub(crate) fn tus(&self, name: &str) -> Option<&str> {
        self.tus.get(name).map(String::as_str)
    }

    pub(crate) fn operation(&self) -> Operation {
        if self.path.starts_with(tus::BASE) {
            let is_join = self.tus("upload-concat").is_some_and(|parts| parts.starts_with("final"));
            return match self.method {
                Method::HEAD => Operation::TusHead,
                Method::PATCH => Operation::TusPatch,
                _ if is_join => Operation::TusJoin,
                _ => Operation::TusCreate,
            };
        }
        let rest = match self.path.strip_prefix(BASE) {
            Some(rest) => rest.trim_start_matches('/'),
            None if self.path == "/token" => return Operation::Token,
            None => return Operation::Exchange,
        };
        match (self.method == Method::POST, rest.split_once('/'), rest) {
            (true, None, "") => Operation::Initialize,
            (false, None, "") => Operation::Search,
            (false, None, _) => Operation::Overview,
            (true, Some((_, "upload")), _) => Operation::Upload,
            (true, Some((_, "confirmdownload")), _) => Operation::Confirm,
            (false, Some((_, "details")), _) => Operation::Details,
            (false, Some((_, "download")), _) => Operation::Download,
            _ => panic!("no such operation: {self:?}"),
        }
    }

    pub(crate) fn id(&self) -> &str {
        let rest = self.path.strip_prefix(tus::BASE).or_else(|| self.path.strip_prefix(BASE));
        let rest = rest.unwrap_or_default().trim_start_matches('/');
        rest.split('/').next().unwrap_or_default()
    }
}

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Bytes,
}

impl Reply {
    pub(crate) fn json(status: u16, body: &Value) -> Self {
        Self {
            status,
            headers: vec![("content-type", "application/json".to_owned())],
            body: body.to_string().into(),
        }
    }

    pub(crate) fn problem(status: u16, number: u16) -> Self {
        Self::json(
            status,
            &json!({ "status": status, "code": format!("BRO-{number:05}"), "detail": "by the simulation" }),
        )
    }

    pub(crate) fn bare(status: u16, body: &'static str) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }
    }
}
