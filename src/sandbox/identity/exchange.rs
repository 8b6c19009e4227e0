//! Altinn Authentication: a Maskinporten token in, an Altinn token out.

use axum::body::Body;
use axum::http::{HeaderMap, Response, StatusCode, header};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::sandbox::auth::bearer;
use crate::sandbox::keys::Parsed;
use crate::sandbox::problem::{answer, bare};
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
    match provider.to_ascii_lowercase().as_str() {
        "maskinporten" => {}
        // Known, but nothing here issues such tokens: whatever comes is a foreign one.
        "id-porten" | "altinnstudio" => return bare(StatusCode::UNAUTHORIZED),
        _ => {
            let text = format!(
                "Invalid token provider: {provider}. Trusted token providers are 'Maskinporten', 'Id-porten' and 'AltinnStudio'."
            );
            return answer(StatusCode::BAD_REQUEST, "text/plain; charset=utf-8", text);
        }
    }
    let Some(claims) = bearer(headers).and_then(|token| verify(site, token)) else {
        return bare(StatusCode::UNAUTHORIZED);
    };
    let Some(claims) = exchanged(site, &claims, note) else { return bare(StatusCode::UNAUTHORIZED) };
    // Any internal failure shows as 401, as in the real one.
    let Ok(token) = site.altinn.sign(&claims) else { return bare(StatusCode::UNAUTHORIZED) };
    note.entry.effect = Some("token exchanged");
    if prefers_json(headers) {
        answer(StatusCode::OK, "application/json; charset=utf-8", Value::from(token).to_string())
    } else {
        answer(StatusCode::OK, "text/plain; charset=utf-8", token)
    }
}

/// Signature, issuer and lifetime; the audience is not checked.
fn verify(site: &Site, token: &str) -> Option<Map<String, Value>> {
    let parsed = Parsed::parse(token)?;
    let key = &site.maskinporten;
    let alive = parsed.seconds("exp")? + TOLERANCE > site.clock.now().as_second();
    let genuine =
        parsed.text("iss")? == site.maskinporten_issuer() && parsed.is_signed_by(&key.modulus, &key.exponent);
    (alive && genuine).then_some(parsed.claims)
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
    if let Some(code) = owner_code(site, &claims, &number) {
        claims.insert("urn:altinn:org".to_owned(), code.into());
    }
    claims.insert("urn:altinn:orgNumber".to_owned(), number.into());
    claims.insert("urn:altinn:authenticatemethod".to_owned(), "maskinporten".into());
    claims.insert("urn:altinn:authlevel".to_owned(), 3.into());
    claims.insert("iss".to_owned(), site.altinn_issuer().into());
    claims.insert("sid".to_owned(), Uuid::new_v4().to_string().into());
    claims.insert("iat".to_owned(), now.into());
    claims.insert("nbf".to_owned(), now.into());
    claims.insert("exp".to_owned(), (now + LIFETIME).into());
    Some(claims)
}

/// The code of a known service owner whose token has a scope of one.
fn owner_code(site: &Site, claims: &Map<String, Value>, number: &str) -> Option<String> {
    let scope = claims.get("scope")?.as_str()?;
    scope
        .contains("altinn:serviceowner")
        .then(|| site.look(|world| world.owner_codes.get(number).cloned()))?
}

/// Whether `Accept` asks for JSON rather than for text or anything.
fn prefers_json(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let first = accept.split(',').map(|range| range.split(';').next().unwrap_or_default().trim()).next();
    first.is_some_and(|range| range.eq_ignore_ascii_case("application/json"))
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
