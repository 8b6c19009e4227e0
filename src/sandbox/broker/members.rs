//! A JSON body as ASP.NET reads it: names in any case, unknown members ignored, numbers also as
//! strings (Broker API, wire conventions and validation errors).

use axum::http::{HeaderMap, StatusCode, header};
use serde_json::{Map, Value};

use crate::sandbox::problem::{Messages, Refusal};

/// The members of a body.
pub(super) struct Members {
    /// The name of the parameter that the body is bound to, which complaints mention.
    parameter: &'static str,
    members: Map<String, Value>,
}

impl Members {
    /// Reads a body; anything but a JSON object is refused.
    pub(super) fn read(body: &[u8], parameter: &'static str) -> Result<Self, Refusal> {
        let required = (parameter.to_owned(), vec![format!("The {parameter} field is required.")]);
        if body.is_empty() {
            return Err(Refusal::Invalid(Messages::from([
                (String::new(), vec!["A non-empty request body is required.".to_owned()]),
                required,
            ])));
        }
        match serde_json::from_slice(body) {
            Ok(Value::Object(members)) => Ok(Self { parameter, members }),
            Ok(_) | Err(_) => Err(unreadable(parameter, "$")),
        }
    }

    /// A member, if it is there; of several the last counts.
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.members.iter().rev().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// What a value that does not fit is answered with.
    pub(super) fn misfit(&self, path: &str) -> Refusal {
        unreadable(self.parameter, path)
    }

    /// A string, or nothing when it is missing or null.
    pub(super) fn text(&self, name: &str) -> Result<Option<String>, Refusal> {
        match self.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(self.misfit(&format!("$.{name}"))),
        }
    }

    /// A boolean, or nothing when it is missing or null.
    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, Refusal> {
        match self.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(_) => Err(self.misfit(&format!("$.{name}"))),
        }
    }

    /// A whole number, also as a string, or nothing when it is missing or null.
    pub(super) fn number(&self, name: &str) -> Result<Option<i64>, Refusal> {
        let number = match self.get(name) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::Number(number)) => number.as_i64(),
            Some(Value::String(text)) => text.parse().ok(),
            Some(_) => None,
        };
        number.map(Some).ok_or_else(|| self.misfit(&format!("$.{name}")))
    }
}

fn unreadable(parameter: &str, path: &str) -> Refusal {
    Refusal::Invalid(Messages::from([
        (parameter.to_owned(), vec![format!("The {parameter} field is required.")]),
        (path.to_owned(), vec![format!("The JSON value could not be converted. Path: {path}")]),
    ]))
}

/// Refuses a body that is not said to be JSON.
pub(super) fn must_be_json(headers: &HeaderMap) -> Result<(), Refusal> {
    if is_json(headers) { Ok(()) } else { Err(Refusal::Bare(StatusCode::UNSUPPORTED_MEDIA_TYPE)) }
}

/// `application/json`, `text/json` and `application/*+json`, as ASP.NET's input formatter.
fn is_json(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    let media_type = media_type.to_ascii_lowercase();
    media_type == "application/json"
        || media_type == "text/json"
        || (media_type.starts_with("application/") && media_type.ends_with("+json"))
}
