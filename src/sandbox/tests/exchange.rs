//! Altinn's exchange, and what the tokens of both are good for.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Map, Value, json};

use super::identity::{systemuser, systemuser_token, verified};
use super::support::{BASE, Bench, RECIPIENT, Reply, SENDER, send};
use crate::sandbox::Role;

const EXCHANGE: &str = "/authentication/api/v1/exchange/maskinporten";

async fn exchange(bench: &Bench, token: &str) -> Reply {
    send(bench.request(Method::GET, EXCHANGE).bearer_auth(token)).await
}

#[tokio::test]
async fn i035_the_exchanged_token_has_altinns_claims() {
    let bench = Bench::start().await;
    let raw = bench.raw_token(Role::Sender).await;
    let reply = exchange(&bench, &raw).await;
    assert_eq!(reply.status, 200);
    let keys = "/authentication/api/v1/openid/.well-known/openid-configuration/jwks";
    let claims = verified(&bench, &reply.text(), keys).await;
    assert_eq!(claims["iss"], bench.url("/authentication/api/v1/openid/"));
    assert_eq!(claims["urn:altinn:orgNumber"], "991825827");
    assert_eq!(claims["urn:altinn:authlevel"], 3);
    assert_eq!(claims["urn:altinn:authenticatemethod"], "maskinporten");
    assert_eq!(claims["exp"], bench.now() + 1800);
    assert!(claims.contains_key("client_id") && claims.contains_key("jti") && claims.contains_key("sid"));
    assert!(!claims.contains_key("aud") && !claims.contains_key("client_amr"));
    let configuration =
        send(bench.http.get(bench.url("/authentication/api/v1/openid/.well-known/openid-configuration")));
    assert_eq!(configuration.await.json()["jwks_uri"], bench.url(keys));
}

#[tokio::test]
async fn i036_json_is_quoted_and_text_is_bare() {
    let bench = Bench::start().await;
    let raw = bench.raw_token(Role::Sender).await;
    for (accept, quoted) in [
        ("application/json", true),
        ("text/plain", false),
        ("*/*", false),
        ("application/json, */*", false),
        ("text/plain;q=0.5, application/json", true),
        ("application/json;q=0.5, text/plain", false),
        ("text/html", false),
    ] {
        let request = bench.request(Method::GET, EXCHANGE).bearer_auth(&raw).header("Accept", accept);
        let text = send(request).await.text();
        assert_eq!(text.starts_with('"') && text.ends_with('"'), quoted, "{accept}");
        assert_eq!(text.trim_matches('"').matches('.').count(), 2);
    }
}

#[tokio::test]
async fn i038_a_missing_mangled_or_foreign_token_is_401() {
    let bench = Bench::start().await;
    let other = Bench::start().await;
    assert_eq!(send(bench.request(Method::GET, EXCHANGE)).await.status, 401);
    let expired = bench.raw_token(Role::Sender).await;
    assert_eq!(exchange(&bench, &expired).await.status, 200);
    bench.clock.advance(Duration::from_secs(131));
    assert_eq!(exchange(&bench, &expired).await.status, 401);
    // The token is read before the provider.
    let path = "/authentication/api/v1/exchange/foo";
    assert_eq!(send(bench.request(Method::GET, path).bearer_auth("garbage")).await.status, 401);
    let altinn = bench.token(SENDER);
    for token in ["garbage".to_owned(), other.raw_token(Role::Sender).await, altinn] {
        assert_eq!(exchange(&bench, &token).await.status, 401);
    }
}

#[tokio::test]
async fn i039_the_exchange_forgives_ten_seconds_and_formidling_none() {
    let bench = Bench::start().await;
    let raw = bench.raw_token(Role::Sender).await;
    bench.clock.advance(Duration::from_secs(125));
    assert_eq!(exchange(&bench, &raw).await.status, 200);
    let search = format!("{BASE}?resourceId=sandbox-files");
    send(bench.request(Method::GET, &search).bearer_auth(&raw)).await.is_bare(401);
    bench.clock.advance(Duration::from_secs(5));
    assert_eq!(exchange(&bench, &raw).await.status, 401);
}

#[tokio::test]
async fn i040_the_provider_is_named_in_any_case() {
    let bench = Bench::start().await;
    let raw = bench.raw_token(Role::Sender).await;
    let at = |provider: &str| {
        let path = format!("/authentication/api/v1/exchange/{provider}");
        send(bench.request(Method::GET, &path).bearer_auth(&raw))
    };
    let reply = at("foo").await;
    assert_eq!(reply.status, 400);
    assert_eq!(
        reply.text(),
        "Invalid token provider: foo. Trusted token providers are 'Maskinporten', 'Id-porten' and 'AltinnStudio'."
    );
    assert_eq!(at("MASKINPORTEN").await.status, 200);
    let request = bench.request(Method::GET, EXCHANGE).bearer_auth(&raw);
    assert_eq!(send(request.header("X-Altinn-EnterpriseUser-Authentication", "x")).await.status, 410);
}

#[tokio::test]
async fn i041_a_system_user_survives_the_exchange() {
    let bench = Bench::start().await;
    let vendor = bench.party(Role::Sender).client_id.clone();
    bench.sandbox.world(|world| world.system_users[1].clients.push(vendor)).unwrap();
    let raw = systemuser_token(&bench, systemuser(None, RECIPIENT)).await.json();
    let token = exchange(&bench, raw["access_token"].as_str().unwrap()).await.text();
    let keys = "/authentication/api/v1/openid/.well-known/openid-configuration/jwks";
    let claims = verified(&bench, &token, keys).await;
    assert_eq!(claims["urn:altinn:orgNumber"], "991825827");
    assert_eq!(claims["authorization_details"][0]["systemuser_org"]["ID"], RECIPIENT);
}

#[tokio::test]
async fn i044_an_id_porten_token_needs_a_scope_of_altinn() {
    let bench = Bench::start().await;
    let site = &bench.sandbox.site;
    let exchange = async |scope: &str, change: fn(&mut Map<String, Value>)| {
        let claims = json!({
            "iss": bench.url("/idporten"), "exp": bench.now() + 100, "scope": scope,
            "pid": "21826297947", "acr": "idporten-loa-substantial",
        });
        let mut claims = claims.as_object().unwrap().clone();
        change(&mut claims);
        let path = "/authentication/api/v1/exchange/id-porten";
        send(bench.request(Method::GET, path).bearer_auth(site.maskinporten.sign(&claims).unwrap())).await
    };
    exchange("openid profile", |_| {}).await.is_bare(403);
    exchange("openid xaltinn:instances.read", |_| {}).await.is_bare(403);
    // With one, the person is looked up, and nobody is known.
    exchange("openid altinn:instances.read", |_| {}).await.is_bare(401);
    exchange("openid", |claims| drop(claims.insert("exp".to_owned(), 1.into()))).await.is_bare(401);
    let raw = bench.raw_token(Role::Sender).await;
    let path = "/authentication/api/v1/exchange/id-porten";
    send(bench.request(Method::GET, path).bearer_auth(raw)).await.is_bare(401);
}

#[tokio::test]
async fn i045_raw_tokens_of_organisations_and_system_users_are_accepted() {
    let bench = Bench::start().await;
    let plain = bench.raw_token(Role::Sender).await;
    let user = systemuser_token(&bench, systemuser(None, SENDER)).await.json();
    for token in [plain.as_str(), user["access_token"].as_str().unwrap()] {
        let request = bench.request(Method::POST, BASE).bearer_auth(token).json(&Bench::metadata());
        let reply = send(request).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
}

#[tokio::test]
async fn i047_a_token_with_read_alone_cannot_initialize() {
    let bench = Bench::start().await;
    let change = |claims: &mut Value| claims["scope"] = "altinn:broker.read".into();
    let raw = bench.post_grant(&bench.grant(Role::Sender, change)).await.json();
    let raw = raw["access_token"].as_str().unwrap();
    let altinn = exchange(&bench, raw).await.text();
    for token in [raw, &altinn] {
        let request = bench.request(Method::POST, BASE).bearer_auth(token).json(&Bench::metadata());
        send(request).await.is_bare(403);
    }
}

#[tokio::test]
async fn a_service_owners_token_names_its_code() {
    let bench = Bench::start().await;
    let with_scope = async |scope: &'static str| {
        let change = |claims: &mut Value| claims["scope"] = scope.into();
        let raw = bench.post_grant(&bench.grant(Role::Sender, change)).await.json();
        let token = exchange(&bench, raw["access_token"].as_str().unwrap()).await.text();
        let keys = "/authentication/api/v1/openid/.well-known/openid-configuration/jwks";
        verified(&bench, &token, keys).await.get("urn:altinn:org").cloned()
    };
    bench
        .sandbox
        .world(|world| {
            let scope = || "altinn:serviceowner".to_owned();
            world.organizations[0].granted.insert(scope());
            world.clients[0].scopes.insert(scope());
        })
        .unwrap();
    assert_eq!(with_scope("altinn:serviceowner").await, None, "Altinn knows no such service owner");
    bench.sandbox.world(|world| world.owner_codes.insert("991825827".to_owned(), "avs".to_owned())).unwrap();
    assert_eq!(with_scope("altinn:serviceowner altinn:broker.read").await, Some("avs".into()));
    assert_eq!(with_scope("altinn:broker.read").await, None);
}

#[tokio::test]
async fn an_altinn_token_can_be_refreshed_while_it_lives() {
    let bench = Bench::start().await;
    let raw = bench.raw_token(Role::Sender).await;
    let altinn = exchange(&bench, &raw).await.text();
    let refresh = async |token: &str| {
        let request = bench.request(Method::GET, "/authentication/api/v1/refresh").bearer_auth(token);
        send(request.header("Accept", "application/json")).await
    };
    refresh(&raw).await.is_bare(401);
    bench.clock.advance(Duration::from_secs(1799));
    let reply = refresh(&altinn).await;
    assert_eq!(reply.status, 200);
    let token = reply.json().as_str().unwrap().to_owned();
    let keys = "/authentication/api/v1/openid/.well-known/openid-configuration/jwks";
    let claims = verified(&bench, &token, keys).await;
    assert_eq!((&claims["exp"], &claims["consumer"]["ID"]), (&(bench.now() + 1800).into(), &SENDER.into()));
    bench.clock.advance(Duration::from_secs(1));
    let reply = refresh(&altinn).await;
    reply.is_bare(401);
    assert!(reply.header("WWW-Authenticate").is_some());
}
