//! Maskinporten: grants in, access tokens out (docs.digdir.no, "JWT grants", "the token endpoint",
//! "troubleshooting").

use std::sync::PoisonError;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Response, StatusCode, header};
use serde_json::{Map, Value, json};
use url::form_urlencoded;
use uuid::Uuid;

use crate::sandbox::faults::Quirk;
use crate::sandbox::keys::Parsed;
use crate::sandbox::problem::{answer, json_answer};
use crate::sandbox::site::{Note, Site};
use crate::sandbox::world::{Client, ScopeDelegation, SystemUser, World, bare_number};

/// How long an access token lives: what Digdir's own client observes for the Broker scopes.
const LIFETIME: i64 = 120;
/// The longest a grant may live.
const LONGEST_GRANT: i64 = 120;
/// How far ahead of Maskinporten's clock a grant may be issued.
const AHEAD: i64 = 10;
/// Registered keys live for a year.
const KEY_LIFETIME: i64 = 365 * 24 * 3600;

const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// The claims a grant may carry; `nbf` is tolerated although it is not listed.
const CLAIMS: [&str; 12] = [
    "aud",
    "iss",
    "iat",
    "exp",
    "jti",
    "scope",
    "resource",
    "pid",
    "consumer_org",
    "iss_onbehalfof",
    "authorization_details",
    "nbf",
];

/// A refusal of the token endpoint.
struct Denied {
    status: StatusCode,
    error: &'static str,
    description: String,
    code: Option<&'static str>,
}

fn denied(error: &'static str, description: impl Into<String>, code: Option<&'static str>) -> Denied {
    Denied { status: StatusCode::BAD_REQUEST, error, description: description.into(), code }
}

fn bad_client(detail: &str, code: Option<&'static str>) -> Denied {
    denied("invalid_grant", format!("Invalid assertion. Client authentication failed. {detail}"), code)
}

fn bad_claim(detail: &str, code: Option<&'static str>) -> Denied {
    denied("invalid_grant", format!("Invalid assertion. {detail}"), code)
}

/// `POST /token`.
pub(in crate::sandbox) fn token(
    site: &Site,
    headers: &HeaderMap,
    body: &Bytes,
    note: &mut Note,
) -> Response<Body> {
    match grant(site, headers, body, note) {
        Ok(body) => {
            note.entry.effect = Some("token issued");
            json_answer(&body)
        }
        Err(denied) => {
            let trace = Uuid::new_v4().simple();
            let mut body = json!({
                "error": denied.error,
                "error_description": format!("{} (trace_id: {trace})", denied.description),
            });
            if let (Some(code), Some(members)) = (denied.code, body.as_object_mut()) {
                members.insert("error_uri".to_owned(), format!("{}/errors/{code}", site.url).into());
            }
            answer(denied.status, "application/json; charset=utf-8", body.to_string())
        }
    }
}

fn grant(site: &Site, headers: &HeaderMap, body: &Bytes, note: &mut Note) -> Result<Value, Denied> {
    let assertion = assertion(headers, body)?;
    let parsed = Parsed::parse(&assertion).ok_or_else(|| bad_client("Invalid JWT.", Some("MP-011")))?;
    let client_id = parsed.text("iss").ok_or_else(|| bad_client("Invalid JWT claim iss.", Some("MP-100")))?;
    let client = site
        .look(|world| world.client(client_id).cloned())
        .ok_or_else(|| bad_client("Client not found.", Some("MP-100")))?;
    note.entry.vendor = Some(client.owner.clone());
    note.entry.client = Some(client.id.clone());
    let now = skewed(site, &client.owner);
    authenticate(&parsed, &client, now)?;
    check_claims(site, &parsed, now)?;
    remember(site, &parsed, &assertion, now)?;
    let scope = site.look(|world| check_scopes(&parsed, &client, world))?;
    let details = match parsed.claims.get("authorization_details") {
        Some(details) => {
            let user = site.look(|world| find_system_user(details, &client, world))?;
            note.entry.organization = Some(user.organization.clone());
            Some(user)
        }
        None => None,
    };
    issue(site, &parsed, &client, &scope, details.as_ref(), now)
}

/// The organisation that a grant says it is for, nine digits: its system user's, or else the client's owner. Nothing of
/// it is verified.
pub(in crate::sandbox) fn presented(site: &Site, form: &[u8]) -> Option<String> {
    let (_, assertion) = form_urlencoded::parse(form).find(|(name, _)| name == "assertion")?;
    let parsed = Parsed::parse(&assertion)?;
    let details = parsed.claims.get("authorization_details").and_then(|details| details.get(0));
    let user = details.and_then(|entry| entry.get("systemuser_org")?.get("ID")?.as_str());
    match user {
        Some(number) => Some(bare_number(number).to_owned()),
        None => site.look(|world| Some(world.client(parsed.text("iss")?)?.owner.clone())),
    }
}

/// Maskinporten's clock, which may be wrong.
fn skewed(site: &Site, organization: &str) -> i64 {
    let seconds = |quirk| {
        let amount = site.faults.strikes(quirk, Some(organization)).unwrap_or_default();
        // Some thirty years, so that sums stay in range.
        i64::try_from(amount.min(1_000_000_000)).unwrap_or_default()
    };
    let now = site.clock.now().as_second();
    now.saturating_add(seconds(Quirk::MaskinportenAhead)).saturating_sub(seconds(Quirk::MaskinportenBehind))
}

/// The grant in a form-encoded body.
fn assertion(headers: &HeaderMap, body: &Bytes) -> Result<String, Denied> {
    let declared =
        headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = declared.split(';').next().unwrap_or_default().trim();
    if !media_type.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Err(denied("invalid_request", "The request must be form-encoded.", Some("MP-011")));
    }
    let parameter = |name: &str| {
        form_urlencoded::parse(body).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    };
    match parameter("grant_type").as_deref() {
        Some(GRANT_TYPE) => {}
        Some(_) => return Err(denied("unsupported_grant_type", "Unsupported grant type.", Some("MP-011"))),
        None => return Err(denied("invalid_request", "Missing parameter grant_type.", Some("MP-011"))),
    }
    parameter("assertion")
        .filter(|text| !text.is_empty())
        .ok_or_else(|| denied("invalid_request", "Missing parameter assertion.", Some("MP-011")))
}

/// The signature is the client's authentication.
fn authenticate(parsed: &Parsed<'_>, client: &Client, now: i64) -> Result<(), Denied> {
    if parsed.algorithm().is_none() {
        return Err(bad_client("Invalid JWT. Unsupported algorithm.", Some("MP-011")));
    }
    if parsed.header.contains_key("kid") && parsed.header.contains_key("x5c") {
        return Err(bad_client("Invalid JWT. Both kid and x5c are present.", Some("MP-123")));
    }
    let Some(kid) = parsed.header.get("kid").and_then(Value::as_str) else {
        return Err(bad_client(
            "Invalid JWT. The client requires pre-registered jwk and no key identifier (kid) provided",
            None,
        ));
    };
    let Some(key) = client.keys.iter().find(|key| key.id == kid) else {
        return Err(bad_client("Unknown key identifier (kid) for client.", None));
    };
    if now - key.registered.as_second() > KEY_LIFETIME {
        return Err(bad_client("Expired key.", Some("MP-121")));
    }
    if parsed.is_signed_by(&key.modulus, &key.exponent) {
        Ok(())
    } else {
        Err(bad_client("Invalid JWT signature.", Some("MP-124")))
    }
}

fn check_claims(site: &Site, parsed: &Parsed<'_>, now: i64) -> Result<(), Denied> {
    if parsed.text("aud") != Some(site.maskinporten_issuer().as_str()) {
        return Err(bad_client("Invalid JWT claim aud.", Some("MP-110")));
    }
    if let Some(claim) = parsed.claims.keys().find(|claim| !CLAIMS.contains(&claim.as_str())) {
        return Err(bad_claim(&format!("Unknown claim {claim}."), Some("MP-011")));
    }
    let missing = |claim: &str| bad_claim(&format!("Missing claim {claim}."), Some("MP-011"));
    let issued = parsed.seconds("iat").ok_or_else(|| missing("iat"))?;
    let expires = parsed.seconds("exp").ok_or_else(|| missing("exp"))?;
    if expires.saturating_sub(issued) > LONGEST_GRANT {
        return Err(bad_claim("Validity is longer than 120 seconds.", Some("MP-011")));
    }
    if issued > now.saturating_add(AHEAD) {
        return Err(bad_claim("JWT issue time is after now.", None));
    }
    if expires <= now {
        return Err(bad_claim("Expired JWT.", Some("MP-130")));
    }
    Ok(())
}

/// A grant, and a `jti`, may be used once.
fn remember(site: &Site, parsed: &Parsed<'_>, assertion: &str, now: i64) -> Result<(), Denied> {
    let client = parsed.text("iss").unwrap_or_default();
    let mark = parsed.text("jti").map_or_else(|| assertion.to_owned(), |jti| format!("{client} {jti}"));
    let expires = parsed.seconds("exp").unwrap_or(now);
    let mut used = site.used_grants.lock().unwrap_or_else(PoisonError::into_inner);
    if used.len() > 10_000 {
        used.retain(|_, expires| *expires > now);
    }
    match used.insert(mark, expires) {
        Some(_) => Err(bad_claim("The grant, or its jti, has been used before.", Some("MP-012"))),
        None => Ok(()),
    }
}

/// The scopes asked for, all of which the client must have, and its owner, or the consumer that has
/// delegated them to it.
fn check_scopes(parsed: &Parsed<'_>, client: &Client, world: &World) -> Result<String, Denied> {
    let asked = parsed.text("scope").unwrap_or_default();
    let scopes: Vec<&str> = asked.split_whitespace().collect();
    if scopes.is_empty() {
        return Err(denied("invalid_scope", "Missing claim scope.", Some("MP-011")));
    }
    let unknown: Vec<&str> = scopes.iter().copied().filter(|scope| !client.scopes.contains(*scope)).collect();
    if !unknown.is_empty() {
        let text = format!("Token request contains invalid scopes for client, {}", unknown.join(" "));
        return Err(denied("invalid_scope", text, Some("MP-200")));
    }
    let consumer = consumer(parsed, client)?;
    let forbidden = |description, code| Denied {
        status: StatusCode::FORBIDDEN,
        error: "forbidden",
        description,
        code: Some(code),
    };
    let granted = world.organization(consumer).map(|organization| &organization.granted);
    for scope in &scopes {
        if !granted.is_some_and(|granted| granted.contains(*scope)) {
            let text = format!("Consumer has not been granted access to the scope {scope}.");
            return Err(forbidden(text, "MP-250"));
        }
        let supplier = &client.owner;
        let delegated =
            |it: &ScopeDelegation| it.from == consumer && it.to == *supplier && it.scope == *scope;
        if consumer != supplier && !world.scope_delegations.iter().any(delegated) {
            let text = format!(
                "Consumer {consumer} has not delegated access to the scope {scope} to supplier {supplier}."
            );
            return Err(forbidden(text, "MP-251"));
        }
    }
    Ok(scopes.join(" "))
}

/// Whose scopes are used: the client's owner, or the `consumer_org` that it is a supplier of.
fn consumer<'a>(parsed: &'a Parsed<'_>, client: &'a Client) -> Result<&'a str, Denied> {
    let claim = |name: &str| parsed.claims.contains_key(name);
    if !claim("consumer_org") {
        return Ok(&client.owner);
    }
    if claim("iss_onbehalfof") {
        return Err(bad_claim("consumer_org and iss_onbehalfof exclude each other.", Some("MP-011")));
    }
    match parsed.text("consumer_org") {
        Some(consumer) if consumer == client.owner => {
            let text = "combination consumer_org in claim and delegation scope on client is invalid";
            Err(bad_claim(text, None))
        }
        Some(consumer) => Ok(consumer),
        None => Err(bad_claim("Invalid value of claim consumer_org.", Some("MP-011"))),
    }
}

/// The system user that an `authorization_details` asks for (RFC 9396).
fn find_system_user(details: &Value, client: &Client, world: &World) -> Result<SystemUser, Denied> {
    let malformed =
        |text: &str, code| denied("invalid_request", format!("Invalid authorization_details. {text}"), code);
    let Some([Value::Object(entry)]) = details.as_array().map(Vec::as_slice) else {
        return Err(malformed("Exactly one entry is expected.", Some("MP-011")));
    };
    if entry.get("type").and_then(Value::as_str) != Some("urn:altinn:systemuser") {
        return Err(malformed("Unknown type.", Some("MP-301")));
    }
    let organization = entry.get("systemuser_org").and_then(Value::as_object);
    let unknown = unknown_member(entry, &["type", "systemuser_org", "externalRef"])
        .or_else(|| organization.and_then(|members| unknown_member(members, &["authority", "ID"])));
    if let Some(member) = unknown {
        return Err(malformed(&format!("Unknown member {member}."), Some("MP-302")));
    }
    let text = |name: &str| organization.and_then(|members| members.get(name)).and_then(Value::as_str);
    let number = text("ID").and_then(|id| id.strip_prefix("0192:")).unwrap_or_default();
    let reference = match entry.get("externalRef") {
        Some(Value::String(reference)) => reference.as_str(),
        // A system user that was asked for without a reference has the organisation number as one.
        None => number,
        Some(_) => return Err(malformed("externalRef must be a string.", Some("MP-302"))),
    };
    let is_it = |user: &&SystemUser| {
        user.approved
            && user.organization == number
            && user.clients.contains(&client.id)
            && user.reference.as_deref().unwrap_or(&user.organization) == reference
    };
    let user =
        world.system_users.iter().find(is_it).filter(|_| text("authority") == Some("iso6523-actorid-upis"));
    user.cloned().ok_or_else(|| {
        denied("invalid_altinn_customer_configuration", "No system user was found.", Some("MP-303"))
    })
}

fn unknown_member<'a>(members: &'a Map<String, Value>, known: &[&str]) -> Option<&'a str> {
    members.keys().map(String::as_str).find(|name| !known.contains(name))
}

fn issue(
    site: &Site,
    grant: &Parsed<'_>,
    client: &Client,
    scope: &str,
    user: Option<&SystemUser>,
    now: i64,
) -> Result<Value, Denied> {
    let organization = |number: &str| json!({ "authority": "iso6523-actorid-upis", "ID": format!("0192:{}", bare_number(number)) });
    let mut claims = Map::new();
    let audience = grant.claims.get("resource").cloned().unwrap_or_else(|| "unspecified".into());
    claims.insert("aud".to_owned(), audience);
    claims.insert("iss".to_owned(), site.maskinporten_issuer().into());
    claims.insert("client_id".to_owned(), client.id.clone().into());
    claims.insert("client_amr".to_owned(), "private_key_jwt".into());
    match grant.text("consumer_org") {
        None => claims.insert("consumer".to_owned(), organization(&client.owner)),
        Some(consumer) => {
            claims.insert("supplier".to_owned(), organization(&client.owner));
            claims.insert("delegation_source".to_owned(), format!("{}/", site.url).into());
            claims.insert("consumer".to_owned(), organization(consumer))
        }
    };
    claims.insert("scope".to_owned(), scope.into());
    claims.insert("token_type".to_owned(), "Bearer".into());
    claims.insert("iat".to_owned(), now.into());
    claims.insert("exp".to_owned(), (now + LIFETIME).into());
    claims.insert("jti".to_owned(), Uuid::new_v4().to_string().into());
    if let Some(user) = user {
        let details = json!([{
            "type": "urn:altinn:systemuser",
            "systemuser_id": [user.id],
            "systemuser_org": organization(&user.organization),
            "system_id": user.system_id,
        }]);
        claims.insert("authorization_details".to_owned(), details);
    }
    let token = site.maskinporten.sign(&claims).map_err(|error| Denied {
        status: StatusCode::INTERNAL_SERVER_ERROR,
        error: "server_error",
        description: error.to_string(),
        code: None,
    })?;
    Ok(json!({ "access_token": token, "token_type": "Bearer", "expires_in": LIFETIME, "scope": scope }))
}

/// The metadata of RFC 8414.
pub(in crate::sandbox) fn metadata(site: &Site) -> Value {
    json!({
        "issuer": site.maskinporten_issuer(),
        "token_endpoint": format!("{}/token", site.url),
        "jwks_uri": format!("{}/jwk", site.url),
        "token_endpoint_auth_methods_supported": ["private_key_jwt"],
        "grant_types_supported": [GRANT_TYPE],
        "token_endpoint_auth_signing_alg_values_supported": ["RS256", "RS384", "RS512"],
    })
}
