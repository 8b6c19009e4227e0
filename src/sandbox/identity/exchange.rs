//! Altinn Authentication: a Maskinporten token in, an Altinn token out.

use axum::body::Body;
use axum::http::{HeaderMap, Response, StatusCode, header};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::sandbox::auth::bearer;
use crate::sandbox::keys::Parsed;
use crate::sandbox::problem::{Produces, Refusal, answer, bare};
use crate::sandbox::site::{Note, Site};
use crate::sandbox::world::bare_number;

/// How long an Altinn token lives, whatever was left of the other one.
const LIFETIME: i64 = 1800;
/// How long after its end a token can still be exchanged.
const TOLERANCE: i64 = 10;
/// Claims that do not survive the exchange.
const DROPPED: [&str; 4] = ["aud", "iss", "client_amr", "sid"];

/// `GET /authentication/api/v1/exchange/{provider}`.
pub(in crate::sandbox) fn exchange(
    site: &Site,
    provider: &str,
    headers: &HeaderMap,
    note: &mut Note,
) -> Response<Body> {
    if headers.contains_key("X-Altinn-EnterpriseUser-Authentication") {
        let body = json!({ "title": "Virksomhetsbruker is no longer available", "status": 410 });
        return answer(StatusCode::GONE, "application/problem+json", body.to_string());
    }
    let Some(token) = bearer(headers).and_then(Parsed::parse) else { return bare(StatusCode::UNAUTHORIZED) };
    let claims = match provider.to_ascii_lowercase().as_str() {
        "maskinporten" => {
            verified(site, token, &site.maskinporten_issuer()).and_then(|it| exchanged(site, &it, note))
        }
        "id-porten" => match verified(site, token, &idporten_issuer(site)) {
            Some(claims) if !has_altinn_scope(&claims) => return bare(StatusCode::FORBIDDEN),
            // Nobody here is known to Altinn's register of persons.
            Some(_) | None => None,
        },
        // Nothing here issues such tokens: whatever comes is a foreign one.
        "altinnstudio" => None,
        _ => {
            let text = format!(
                "Invalid token provider: {provider}. Trusted token providers are 'Maskinporten', 'Id-porten' and 'AltinnStudio'."
            );
            return answer(StatusCode::BAD_REQUEST, "text/plain; charset=utf-8", text);
        }
    };
    // Any internal failure shows as 401, as in the real one.
    let token = claims.and_then(|claims| site.altinn.sign(&claims).ok());
    let Some(token) = token else { return bare(StatusCode::UNAUTHORIZED) };
    note.entry.effect = Some("token exchanged");
    token_answer(headers, token)
}

/// `GET /authentication/api/v1/refresh`: a living Altinn token in, the same with a new lifetime out.
pub(in crate::sandbox) fn refresh(site: &Site, headers: &HeaderMap, note: &mut Note) -> Response<Body> {
    let refused = || Refusal::Token("Bearer").into_response(Produces::Anything, "");
    let Some(token) = bearer(headers).and_then(Parsed::parse) else { return refused() };
    let now = site.clock.now().as_second();
    let alive = token.seconds("exp").is_some_and(|expires| expires > now);
    let own = token.text("iss") == Some(site.altinn_issuer().as_str())
        && token.is_signed_by(&site.altinn.modulus, &site.altinn.exponent);
    if !alive || !own {
        return refused();
    }
    let mut claims = token.claims;
    live_from(&mut claims, now);
    let Ok(token) = site.altinn.sign(&claims) else { return refused() };
    note.entry.effect = Some("token refreshed");
    token_answer(headers, token)
}

/// The issuer of ID-porten's tokens. Nothing here issues any; Digdir's key signs what a test makes.
pub(in crate::sandbox) fn idporten_issuer(site: &Site) -> String {
    format!("{}/idporten", site.url)
}

fn has_altinn_scope(claims: &Map<String, Value>) -> bool {
    let scope = claims.get("scope").and_then(Value::as_str).unwrap_or_default();
    scope.split(' ').any(|scope| scope.starts_with("altinn:"))
}

fn token_answer(headers: &HeaderMap, token: String) -> Response<Body> {
    if prefers_json(headers) {
        answer(StatusCode::OK, "application/json; charset=utf-8", Value::from(token).to_string())
    } else {
        answer(StatusCode::OK, "text/plain; charset=utf-8", token)
    }
}

/// Signature, issuer and lifetime; the audience is not checked.
fn verified(site: &Site, parsed: Parsed<'_>, issuer: &str) -> Option<Map<String, Value>> {
    let key = &site.maskinporten;
    let alive = parsed.seconds("exp")?.saturating_add(TOLERANCE) > site.clock.now().as_second();
    let genuine = parsed.text("iss")? == issuer && parsed.is_signed_by(&key.modulus, &key.exponent);
    (alive && genuine).then_some(parsed.claims)
}

/// Sets the times of a new token.
fn live_from(claims: &mut Map<String, Value>, now: i64) {
    claims.insert("iat".to_owned(), now.into());
    claims.insert("nbf".to_owned(), now.into());
    claims.insert("exp".to_owned(), (now + LIFETIME).into());
}

fn exchanged(site: &Site, claims: &Map<String, Value>, note: &mut Note) -> Option<Map<String, Value>> {
    let consumer = claims.get("consumer")?;
    if consumer.get("authority")?.as_str()? != "iso6523-actorid-upis" {
        return None;
    }
    let id = consumer.get("ID")?.as_str().filter(|id| id.contains(':'))?;
    let number = bare_number(id).to_owned();
    note.entry.vendor = Some(number.clone());
    let now = site.clock.now().as_second();
    let mut claims: Map<String, Value> = claims.clone();
    claims.retain(|name, _| !DROPPED.contains(&name.as_str()));
    if has_service_owner_scope(&claims)
        && let Some(code) = site.look(|world| world.owner_codes.get(&number).cloned())
    {
        claims.insert("urn:altinn:org".to_owned(), code.into());
    }
    claims.insert("urn:altinn:orgNumber".to_owned(), number.into());
    claims.insert("urn:altinn:authenticatemethod".to_owned(), "maskinporten".into());
    claims.insert("urn:altinn:authlevel".to_owned(), 3.into());
    claims.insert("iss".to_owned(), site.altinn_issuer().into());
    claims.insert("sid".to_owned(), Uuid::new_v4().to_string().into());
    live_from(&mut claims, now);
    Some(claims)
}

fn has_service_owner_scope(claims: &Map<String, Value>) -> bool {
    claims.get("scope").and_then(Value::as_str).is_some_and(|scope| scope.contains("altinn:serviceowner"))
}

/// Whether `Accept` puts JSON before text. With `*/*` in it, ASP.NET looks at nothing else, and
/// writes text.
fn prefers_json(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut best: Option<(bool, f32)> = None;
    for range in accept.split(',') {
        let mut parts = range.split(';').map(|part| part.trim().to_ascii_lowercase());
        let json = match parts.next().as_deref() {
            Some("application/json" | "text/json" | "application/*") => true,
            Some("text/plain" | "text/*") => false,
            Some("*/*") => return false,
            _ => continue,
        };
        let quality = parts.find_map(|part| part.strip_prefix("q=")?.parse().ok()).unwrap_or(1.0);
        if best.is_none_or(|(_, other)| quality > other) {
            best = Some((json, quality));
        }
    }
    best.is_some_and(|(json, _)| json)
}

/// The OpenID configuration of Altinn's own tokens.
pub(in crate::sandbox) fn configuration(site: &Site) -> Value {
    json!({
        "issuer": site.altinn_issuer(),
        "jwks_uri": format!("{}.well-known/openid-configuration/jwks", site.altinn_issuer()),
        "response_types_supported": ["token", "id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
    })
}
