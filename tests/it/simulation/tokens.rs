//! Tokens of the small Altinn: nobody looks at a signature, and they say for whom they are.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::time::Duration;

use super::call::{Call, Reply};

const EXTENDS: Duration = Duration::from_mins(30);

/// The claims of a grant, and a token that remembers them.
pub(crate) fn granted(body: &[u8]) -> Reply {
    let grant = url::form_urlencoded::parse(body).find(|(name, _)| name == "assertion");
    let Some((_, grant)) = grant else { return Reply::json(400, &json!({ "error": "invalid_grant" })) };
    let organization = organization(&grant).unwrap_or_default();
    let token = token(&json!({ "org": organization }));
    Reply::json(200, &json!({ "access_token": token, "token_type": "Bearer", "expires_in": 120 }))
}

pub(crate) fn exchanged(call: &Call, now: Timestamp) -> Reply {
    let expires = (now + EXTENDS).as_second();
    let text = token(&json!({ "org": call.caller, "exp": expires }));
    Reply { status: 200, headers: vec![("content-type", "text/plain".to_owned())], body: text.into() }
}

fn token(claims: &Value) -> String {
    format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()))
}

/// What a token or grant says.
fn claims(token: &str) -> Option<Value> {
    let payload = token.split('.').nth(1)?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}

fn organization(grant: &str) -> Option<String> {
    let details = claims(grant)?;
    Some(details["authorization_details"][0]["systemuser_org"]["ID"].as_str()?.to_owned())
}

/// For whom a token is.
pub(crate) fn caller(authorization: &str) -> String {
    let token = authorization.strip_prefix("Bearer ").unwrap_or_default();
    let org = claims(token).and_then(|claims| Some(claims["org"].as_str()?.to_owned()));
    org.unwrap_or_default()
}
