//! What Altinn says when it says no: read with patience, since it comes in many forms.

use std::time::Duration;

use serde_json::Value;

use super::effect::{Code, Facts, TusRefusal};
use super::parse;
use crate::http::{Reply, retry_after};
use crate::identity::is_key_gate;

/// How much of a foreign text is kept.
const LONGEST_DETAIL: usize = 400;
/// How much of a page that is no problem document is kept.
const LONGEST_SUMMARY: usize = 200;

/// An answer that is no success. Its texts are Altinn's, cut to a readable length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// `code`, such as `BRO-00006`.
    pub code: Option<Code>,
    /// `detail`, or the validation errors in a row, or the beginning of what came instead.
    pub detail: String,
    /// Whether it has the member `errors`.
    pub has_errors: bool,
    /// Whether there was no body at all.
    pub is_empty: bool,
    /// Whether it is the API gateway's, about the subscription key.
    pub is_key_gate: bool,
    /// What a refusal of a resumable upload says in words.
    pub tus: Option<TusRefusal>,
    /// How long we are asked to wait.
    pub retry_after: Option<Duration>,
}

impl Problem {
    /// Reads any answer, whatever it claims to be.
    #[must_use]
    pub fn read(reply: &Reply) -> Self {
        Self { retry_after: retry_after(&reply.headers), ..Self::of(reply.status, &reply.body) }
    }

    pub(super) fn of(status: u16, body: &[u8]) -> Self {
        let mut problem = Self {
            status,
            code: None,
            detail: String::new(),
            has_errors: false,
            is_empty: body.iter().all(u8::is_ascii_whitespace),
            is_key_gate: status == 401 && is_key_gate(body),
            tus: None,
            retry_after: None,
        };
        // A map and not a struct: Altinn writes `traceId` twice, and a struct with that member would refuse.
        if let Some(Value::Object(members)) = parse::value(body) {
            let text = |name: &str| members.get(name).and_then(Value::as_str);
            problem.code = text("code").and_then(code);
            let errors = members.get("errors").map(validation_errors);
            problem.has_errors = errors.is_some();
            let detail = [errors.as_deref(), text("detail"), text("message"), text("title")];
            let detail = detail.into_iter().flatten().find(|text| !text.trim().is_empty());
            problem.detail = printable(detail.unwrap_or_default(), LONGEST_DETAIL);
        } else {
            let text = String::from_utf8_lossy(body);
            problem.code = Code::of_text(&text);
            problem.tus = tus_refusal(&text);
            problem.detail = printable(&text, LONGEST_SUMMARY);
        }
        problem
    }

    /// What the table of effects goes by.
    #[must_use]
    pub fn facts(&self) -> Facts {
        Facts {
            status: self.status,
            code: self.code,
            has_errors: self.has_errors,
            is_key_gate: self.is_key_gate,
            tus: self.tus,
        }
    }
}

/// `Offset does not match file. File offset: 16777216. Request offset: 8388608`, and what is said of parts.
fn tus_refusal(text: &str) -> Option<TusRefusal> {
    if let Some(rest) = text.trim().strip_prefix("Offset does not match file. File offset: ") {
        let (accepted, _) = rest.split_once('.')?;
        return accepted.parse().ok().map(|accepted| TusRefusal::Offset { accepted });
    }
    if text.contains("Could not find some of the files supplied for concatenation") {
        return Some(TusRefusal::PartsLost);
    }
    text.contains("concatenat").then_some(TusRefusal::NotJoined)
}

/// The number of `BRO-00006`.
fn code(text: &str) -> Option<Code> {
    let digits = text.strip_prefix("BRO-")?;
    (digits.len() <= 9 && digits.bytes().all(|byte| byte.is_ascii_digit())).then_some(())?;
    digits.parse().ok().map(Code::of)
}

/// `FileName: The FileName field is required.; Sender: …`
fn validation_errors(errors: &Value) -> String {
    let Value::Object(fields) = errors else { return String::new() };
    let fields = fields.iter().map(|(field, texts)| {
        let texts: Vec<&str> = match texts {
            Value::Array(texts) => texts.iter().filter_map(Value::as_str).collect(),
            Value::String(text) => vec![text],
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => Vec::new(),
        };
        format!("{field}: {}", texts.join(" "))
    });
    fields.collect::<Vec<_>>().join("; ")
}

/// The first characters of a foreign text, on one line.
pub(super) fn printable(text: &str, length: usize) -> String {
    let mut line = String::new();
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()) {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
        if line.chars().count() >= length {
            break;
        }
    }
    line.chars().take(length).collect()
}
