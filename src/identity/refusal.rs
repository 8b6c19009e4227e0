//! What Maskinporten says when it says no, and what a person can do about it (docs.digdir.no: error codes).

use jiff::SignedDuration;
use serde::Deserialize;

use super::skew::in_words;

/// A refusal of the token endpoint. Its texts are Maskinporten's, cut to a readable length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// `error`, such as `invalid_grant`.
    pub error: String,
    /// `error_description`.
    pub description: String,
    /// The number in `error_uri`: 303 of `…/errors/MP-303`.
    pub number: Option<u16>,
    /// The trace id in the description, which Digdir's support asks for.
    pub trace_id: Option<String>,
    /// How far ahead our clock is, where that is enough to be the reason.
    pub skew: Option<SignedDuration>,
}

/// The values that the words to a person name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Values {
    pub(super) client_id: String,
    pub(super) organization: String,
    pub(super) reference: Option<String>,
    pub(super) audience: String,
    pub(super) key: String,
    pub(super) scope: &'static str,
}

impl Refusal {
    /// Reads an answer of any form.
    pub(super) fn read(status: u16, body: &[u8], skew: Option<SignedDuration>) -> Self {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Body {
            error: serde_json::Value,
            error_description: serde_json::Value,
            error_uri: serde_json::Value,
        }
        let text = |value: &serde_json::Value| printable(value.as_str().unwrap_or_default(), 400);
        match serde_json::from_slice::<Body>(body) {
            Ok(body) => {
                let description = text(&body.error_description);
                let number = number(&text(&body.error_uri))
                    .or_else(|| number(&text(&body.error)))
                    .or_else(|| number(&description));
                let trace_id = trace_id(&description);
                Self { status, error: text(&body.error), description, number, trace_id, skew }
            }
            Err(_) => Self {
                status,
                error: String::new(),
                description: printable(&String::from_utf8_lossy(body), 200),
                number: None,
                trace_id: None,
                skew,
            },
        }
    }

    /// Whether the key is not known there (yet): for some minutes that follows every upload of a key.
    #[must_use]
    pub fn is_unknown_key(&self) -> bool {
        self.description.contains("Unknown key identifier")
    }

    /// Whether another grant, made anew, may be taken: this one was used before, or came too late.
    pub(super) fn is_cured_by_a_new_grant(&self) -> bool {
        matches!(self.number, Some(12 | 130))
    }

    /// `MP-303`, or what there is instead.
    #[must_use]
    pub fn name(&self) -> String {
        match self.number {
            Some(number) => format!("MP-{number:03}"),
            None if self.error.is_empty() => format!("HTTP {}", self.status),
            None => self.error.clone(),
        }
    }

    pub(super) fn remedy(&self, values: &Values) -> String {
        let mut remedy = self.by_number(values);
        if let Some(ahead) = self.skew {
            remedy =
                format!("set this machine's clock, which is {} (check NTP); else {remedy}", in_words(ahead));
        }
        if let Some(trace_id) = &self.trace_id {
            remedy = format!("{remedy} (trace id for support: {trace_id})");
        }
        remedy
    }

    fn by_number(&self, values: &Values) -> String {
        let Values { client_id, organization, audience, key, scope, .. } = values;
        match self.number {
            Some(11) => format!("look for stray characters in client_id {client_id:?}, key_id and system_user_reference"),
            Some(12) => "nothing: the grant was used before, and the next attempt makes a new one".into(),
            Some(100) => format!(
                "check that client {client_id} exists in this environment: test and production have separate clients ({audience})"
            ),
            Some(110) => format!(
                "let the audience be the issuer of the environment that client {client_id} is in, with its closing slash; it is {audience}"
            ),
            Some(120) => format!("renew the business certificate of client {client_id}: it is expired, revoked, or of the other environment"),
            Some(121) => format!("upload the public key of {key} to client {client_id} again: a key lasts a year at Maskinporten (`formidlingd key public` prints it)"),
            Some(122) => format!("use a certificate of the organisation that owns client {client_id}"),
            Some(123) => "give the whole chain in certificate_chain, the certificate itself first".into(),
            Some(124) => format!("use the private key that belongs to {key} of client {client_id}: the signature does not fit it"),
            Some(130) => "set this machine's clock (NTP), or look for a slow proxy: the grant had expired when it arrived".into(),
            Some(200) => format!("add the scope {scope} to client {client_id} in Digdir's self-service"),
            Some(201) => format!("make a client of the type `maskinporten`: the type of client {client_id} cannot have the scope {scope}"),
            Some(250) => format!("ask Altinn (servicedesk@altinn.no) to give the owner of client {client_id} the scope {scope}"),
            Some(251) => format!("let the consumer delegate the scope {scope} to the owner of client {client_id} in Altinn"),
            Some(301 | 302) => "this is a fault in formidlingd: please report it".into(),
            Some(303) => no_system_user(values),
            None if self.is_unknown_key() => format!(
                "register {key} on client {client_id}; if that was just done, wait: a new key is known after some minutes"
            ),
            None if self.description.contains("no key identifier") => {
                format!("give the key_id under which the key is registered on client {client_id}")
            }
            None if self.status == 403 => {
                format!("ask Altinn (servicedesk@altinn.no) to give the owner of client {client_id} the scope {scope}")
            }
            Some(_) | None => format!(
                "look the message up at docs.digdir.no (Maskinporten, error codes), for client {client_id} and {organization}"
            ),
        }
    }
}

/// MP-303 has four causes, and Maskinporten does not say which.
fn no_system_user(values: &Values) -> String {
    let Values { client_id, organization, reference, .. } = values;
    let reference = match reference {
        Some(reference) => {
            format!("system_user_reference {reference:?} is not the one the system user was requested with")
        }
        None => "the system user was requested with an externalRef, and system_user_reference is not set"
            .to_owned(),
    };
    format!(
        "Altinn knows no such system user. One of: (1) {organization} has not approved the request for it, or has deleted it; \
         (2) client {client_id} is not among the client ids of the registered system; (3) {reference}; \
         (4) {organization} is not the organisation that owns it, or is one of the other environment"
    )
}

/// The number in a text that ends with, or holds, `MP-nnn`.
fn number(text: &str) -> Option<u16> {
    let (_, after) = text.rsplit_once("MP-")?;
    let digits: String = after.chars().take_while(char::is_ascii_digit).take(5).collect();
    digits.parse().ok()
}

/// The id in `(trace_id: …)` or, in older answers, `(correlation id: …)`.
fn trace_id(description: &str) -> Option<String> {
    let (_, after) =
        description.split_once("trace_id:").or_else(|| description.split_once("correlation id:"))?;
    let id: String = after
        .trim_start()
        .chars()
        .take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
        .collect();
    (!id.is_empty()).then_some(id)
}

/// The first characters of a foreign text, on one line.
pub(super) fn printable(text: &str, length: usize) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(length)
        .collect::<String>()
        .trim()
        .to_owned()
}
