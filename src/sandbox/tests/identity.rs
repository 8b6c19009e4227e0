//! Maskinporten, system users, and the exchange.

use std::time::Duration;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::support::{BASE, Bench, RECIPIENT, Reply, SENDER, send};
use crate::sandbox::{Role, ScopeDelegation, SystemUser};

const EXCHANGE: &str = "/authentication/api/v1/exchange/maskinporten";

/// A refusal with its description and the number in `error_uri`.
#[track_caller]
fn is_denied(reply: &Reply, status: u16, error: &str, description: &str, number: &str) {
    let body = reply.json();
    assert_eq!((reply.status, body["error"].as_str().unwrap()), (status, error), "{body}");
    let text = body["error_description"].as_str().unwrap();
    assert!(text.contains(description) && text.contains("(trace_id: "), "{body}");
    let uri = body["error_uri"].as_str().unwrap_or_default();
    assert!(uri.ends_with(number), "{body}");
}

/// The payload of a token, verified with the published keys by another library.
async fn verified(bench: &Bench, token: &str, keys: &str) -> Map<String, Value> {
    let set = send(bench.http.get(bench.url(keys))).await.json();
    let jwk = serde_json::from_value(set["keys"][0].clone()).unwrap();
    let mut validation = Validation::new(Algorithm::RS256);
    (validation.validate_exp, validation.validate_aud) = (false, false);
    jsonwebtoken::decode(token, &DecodingKey::from_jwk(&jwk).unwrap(), &validation).unwrap().claims
}

fn systemuser(reference: Option<&str>, organization: &str) -> Value {
    let mut entry = json!({
        "type": "urn:altinn:systemuser",
        "systemuser_org": { "authority": "iso6523-actorid-upis", "ID": organization },
    });
    if let Some(reference) = reference {
        entry["externalRef"] = reference.into();
    }
    json!([entry])
}

async fn systemuser_token(bench: &Bench, details: Value) -> Reply {
    bench.post_grant(&bench.grant(Role::Sender, |claims| claims["authorization_details"] = details)).await
}

async fn exchange(bench: &Bench, token: &str) -> Reply {
    send(bench.request(Method::GET, EXCHANGE).bearer_auth(token)).await
}

#[tokio::test]
async fn i001_a_correct_grant_gives_a_token() {
    let bench = Bench::start().await;
    let reply = bench.post_grant(&bench.grant(Role::Sender, |_| {})).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let body = reply.json();
    assert_eq!((&body["token_type"], &body["expires_in"]), (&"Bearer".into(), &120.into()));
    assert_eq!(body["scope"], "altinn:broker.write altinn:broker.read");
    let claims = verified(&bench, body["access_token"].as_str().unwrap(), "/jwk").await;
    assert_eq!(claims["iss"], bench.url("/"));
    assert_eq!(claims["consumer"], json!({ "authority": "iso6523-actorid-upis", "ID": SENDER }));
    assert_eq!(claims["exp"], bench.now() + 120);
    let metadata = send(bench.http.get(bench.url("/.well-known/oauth-authorization-server"))).await.json();
    assert_eq!(
        (&metadata["issuer"], &metadata["token_endpoint"]),
        (&bench.url("/").into(), &bench.url("/token").into())
    );
}

#[tokio::test]
async fn i001_three_algorithms_are_taken() {
    let bench = Bench::start().await;
    for algorithm in [Algorithm::RS256, Algorithm::RS384, Algorithm::RS512] {
        let mut header = Header::new(algorithm);
        header.kid = Some(bench.party(Role::Sender).key_id.clone());
        let claims = bench.grant_claims(Role::Sender);
        let reply = bench.post_grant(&bench.sign_grant(Role::Sender, &header, &claims)).await;
        assert_eq!(reply.status, 200, "{algorithm:?}: {}", reply.text());
    }
}

#[tokio::test]
async fn a_supplier_may_use_a_scope_that_its_consumer_has_delegated() {
    let bench = Bench::start().await;
    let post = async |consumer: Value| {
        let change = |claims: &mut Value| {
            (claims["consumer_org"], claims["scope"]) = (consumer, "altinn:broker.read".into());
        };
        bench.post_grant(&bench.grant(Role::Sender, change)).await
    };
    let own = post("991825827".into()).await;
    let text = "combination consumer_org in claim and delegation scope on client is invalid";
    is_denied(&own, 400, "invalid_grant", text, "");
    let unknown = post("313579246".into()).await;
    let text = "Consumer has not been granted access to the scope altinn:broker.read.";
    is_denied(&unknown, 403, "forbidden", text, "MP-250");
    let refused = post("910753614".into()).await;
    let text =
        "Consumer 910753614 has not delegated access to the scope altinn:broker.read to supplier 991825827.";
    is_denied(&refused, 403, "forbidden", text, "MP-251");
    is_denied(&post(5.into()).await, 400, "invalid_grant", "consumer_org", "MP-011");
    let delegation = ScopeDelegation {
        from: "910753614".to_owned(),
        to: "991825827".to_owned(),
        scope: "altinn:broker.read".to_owned(),
    };
    bench.sandbox.world(|world| world.scope_delegations.push(delegation)).unwrap();
    let reply = post("910753614".into()).await;
    let claims = verified(&bench, reply.json()["access_token"].as_str().unwrap(), "/jwk").await;
    assert_eq!((&claims["consumer"]["ID"], &claims["supplier"]["ID"]), (&RECIPIENT.into(), &SENDER.into()));
}

#[tokio::test]
async fn i002_the_audience_is_the_issuer_with_its_slash() {
    let bench = Bench::start().await;
    for audience in [bench.url(""), bench.url("/token")] {
        let reply =
            bench.post_grant(&bench.grant(Role::Sender, |claims| claims["aud"] = audience.into())).await;
        is_denied(&reply, 400, "invalid_grant", "Invalid JWT claim aud", "MP-110");
    }
}

#[tokio::test]
async fn i003_an_unknown_client_is_refused() {
    let bench = Bench::start().await;
    let reply = bench.post_grant(&bench.grant(Role::Sender, |claims| claims["iss"] = "nobody".into())).await;
    is_denied(&reply, 400, "invalid_grant", "Client authentication failed", "MP-100");
}

#[tokio::test]
async fn i005_the_key_must_be_named() {
    let bench = Bench::start().await;
    let claims = bench.grant_claims(Role::Sender);
    let mut header = Header::new(Algorithm::RS256);
    let reply = bench.post_grant(&bench.sign_grant(Role::Sender, &header, &claims)).await;
    is_denied(&reply, 400, "invalid_grant", "no key identifier (kid) provided", "");
    // A certificate is for clients without registered keys.
    header.x5c = Some(vec!["MIIB".to_owned()]);
    let reply = bench.post_grant(&bench.sign_grant(Role::Sender, &header, &claims)).await;
    is_denied(&reply, 400, "invalid_grant", "no key identifier (kid) provided", "");
}

#[tokio::test]
async fn i004_the_key_must_be_registered() {
    let bench = Bench::start().await;
    let claims = bench.grant_claims(Role::Sender);
    let mut header = Header::new(Algorithm::RS256);
    header.kid = Some("another".to_owned());
    let reply = bench.post_grant(&bench.sign_grant(Role::Sender, &header, &claims)).await;
    is_denied(&reply, 400, "invalid_grant", "Unknown key identifier (kid)", "");
}

#[tokio::test]
async fn i006_a_signature_by_another_key_is_refused() {
    let bench = Bench::start().await;
    let mut header = Header::new(Algorithm::RS256);
    header.kid = Some(bench.party(Role::Sender).key_id.clone());
    let claims = bench.grant_claims(Role::Sender);
    let reply = bench.post_grant(&bench.sign_grant(Role::Recipient, &header, &claims)).await;
    is_denied(&reply, 400, "invalid_grant", "Invalid JWT signature", "MP-124");
}

#[tokio::test]
async fn i007_a_key_lives_for_a_year() {
    let bench = Bench::start().await;
    bench.clock.advance(Duration::from_hours(365 * 24));
    bench.raw_token(Role::Sender).await;
    bench.clock.advance(Duration::from_secs(1));
    let reply = bench.post_grant(&bench.grant(Role::Sender, |_| {})).await;
    is_denied(&reply, 400, "invalid_grant", "Expired key", "MP-121");
}

/// Posts a grant with these times.
async fn with_times(bench: &Bench, issued: i64, expires: i64) -> Reply {
    let change = |claims: &mut Value| (claims["iat"], claims["exp"]) = (issued.into(), expires.into());
    bench.post_grant(&bench.grant(Role::Sender, change)).await
}

#[tokio::test]
async fn i008_a_grant_lives_for_two_minutes_at_most() {
    let bench = Bench::start().await;
    let now = bench.now();
    let reply = with_times(&bench, now, now + 121).await;
    is_denied(&reply, 400, "invalid_grant", "Invalid assertion", "MP-011");
    assert_eq!(with_times(&bench, now, now + 120).await.status, 200);
}

#[tokio::test]
async fn i009_a_grant_may_be_ten_seconds_ahead() {
    let bench = Bench::start().await;
    let now = bench.now();
    let reply = with_times(&bench, now + 11, now + 60).await;
    is_denied(&reply, 400, "invalid_grant", "issue time is after now", "");
    for ahead in [5, 10] {
        assert_eq!(with_times(&bench, now + ahead, now + 60).await.status, 200);
    }
}

#[tokio::test]
async fn i010_an_expired_grant_is_refused() {
    let bench = Bench::start().await;
    let now = bench.now();
    for expires in [now - 1, now] {
        let reply = with_times(&bench, now - 60, expires).await;
        is_denied(&reply, 400, "invalid_grant", "Expired", "MP-130");
    }
    assert_eq!(with_times(&bench, now - 60, now + 1).await.status, 200);
}

#[tokio::test]
async fn i011_a_grant_and_a_jti_work_once() {
    let bench = Bench::start().await;
    let grant = bench.grant(Role::Sender, |claims| claims["jti"] = "one".into());
    assert_eq!(bench.post_grant(&grant).await.status, 200);
    is_denied(&bench.post_grant(&grant).await, 400, "invalid_grant", "used before", "MP-012");
    let other = bench.grant(Role::Sender, |claims| {
        (claims["jti"], claims["exp"]) = ("one".into(), (bench.now() + 50).into());
    });
    is_denied(&bench.post_grant(&other).await, 400, "invalid_grant", "used before", "MP-012");
    let without = bench.grant(Role::Sender, |claims| drop(claims.as_object_mut().unwrap().remove("jti")));
    assert_eq!(bench.post_grant(&without).await.status, 200);
    is_denied(&bench.post_grant(&without).await, 400, "invalid_grant", "used before", "MP-012");
}

#[tokio::test]
async fn i012_a_claim_outside_the_list_is_refused() {
    let bench = Bench::start().await;
    for claim in ["sub", "foo"] {
        let reply = bench.post_grant(&bench.grant(Role::Sender, |claims| claims[claim] = "x".into())).await;
        let text = reply.json()["error_description"].as_str().unwrap().to_owned();
        assert!(reply.status == 400 && text.starts_with("Invalid assertion"), "{text}");
    }
}

#[tokio::test]
async fn i013_other_algorithms_never_give_a_token() {
    let bench = Bench::start().await;
    let claims = bench.grant_claims(Role::Sender);
    let kid = bench.party(Role::Sender).key_id.clone();
    let pem = std::fs::read(&bench.party(Role::Sender).private_key).unwrap();
    let mut pss = Header::new(Algorithm::PS256);
    pss.kid = Some(kid.clone());
    let mut hmac = Header::new(Algorithm::HS256);
    hmac.kid = Some(kid.clone());
    let pss = jsonwebtoken::encode(&pss, &claims, &EncodingKey::from_rsa_pem(&pem).unwrap()).unwrap();
    let hmac = jsonwebtoken::encode(&hmac, &claims, &EncodingKey::from_secret(&pem)).unwrap();
    let with_header = |header: Value| {
        use base64::Engine as _;
        let encoded = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(header.to_string());
        let (_, rest) = pss.split_once('.').unwrap();
        format!("{encoded}.{rest}")
    };
    let none = with_header(json!({ "alg": "none", "kid": kid }));
    let unsigned = format!("{}.", none.rsplit_once('.').unwrap().0);
    let elliptic = with_header(json!({ "alg": "ES256", "kid": kid }));
    for grant in [pss.clone(), hmac, none, unsigned, elliptic] {
        let reply = bench.post_grant(&grant).await;
        assert_eq!(reply.status, 400, "{}", reply.text());
        assert!(!reply.text().contains("access_token"));
    }
}

#[tokio::test]
async fn i014_a_scope_must_be_on_the_client() {
    let bench = Bench::start().await;
    let grant =
        bench.grant(Role::Sender, |claims| claims["scope"] = "altinn:broker.read altinn:serviceowner".into());
    let reply = bench.post_grant(&grant).await;
    is_denied(
        &reply,
        400,
        "invalid_scope",
        "Token request contains invalid scopes for client, altinn:serviceowner",
        "MP-200",
    );
}

#[tokio::test]
async fn i015_a_scope_must_be_granted_to_the_organisation() {
    let bench = Bench::start().await;
    bench.sandbox.world(|world| world.organizations[0].granted.remove("altinn:broker.read")).unwrap();
    let reply = bench.post_grant(&bench.grant(Role::Sender, |_| {})).await;
    is_denied(
        &reply,
        403,
        "forbidden",
        "Consumer has not been granted access to the scope altinn:broker.read.",
        "MP-250",
    );
}

#[tokio::test]
async fn i016_the_request_must_be_a_form_with_the_right_grant_type() {
    let bench = Bench::start().await;
    let grant = bench.grant(Role::Sender, |_| {});
    let post = || bench.http.post(bench.url("/token"));
    assert_eq!(send(post().form(&[("assertion", &grant)])).await.status, 400);
    let other = [("grant_type", "client_credentials"), ("assertion", &grant)];
    assert_eq!(send(post().form(&other)).await.status, 400);
    let kind = "urn:ietf:params:oauth:grant-type:jwt-bearer";
    assert_eq!(send(post().json(&json!({ "grant_type": kind, "assertion": grant }))).await.status, 400);
    assert_eq!(bench.post_grant(&grant).await.status, 200, "none of them used the grant up");
}

#[tokio::test]
async fn i027_a_system_user_token_names_vendor_and_customer() {
    let bench = Bench::start().await;
    let vendor = bench.party(Role::Sender).client_id.clone();
    bench.sandbox.world(|world| world.system_users[1].clients.push(vendor)).unwrap();
    let reply = systemuser_token(&bench, systemuser(None, RECIPIENT)).await;
    let claims = verified(&bench, reply.json()["access_token"].as_str().unwrap(), "/jwk").await;
    assert_eq!(claims["consumer"]["ID"], SENDER);
    let details = &claims["authorization_details"][0];
    assert_eq!(details["systemuser_org"]["ID"], RECIPIENT);
    assert!(details["systemuser_id"].is_array() && details["system_id"].is_string());
}

#[tokio::test]
async fn i028_no_matching_system_user_is_mp_303() {
    let bench = Bench::start().await;
    let wanted =
        [systemuser(None, RECIPIENT), systemuser(Some("other"), SENDER), systemuser(None, "991825827")];
    for details in wanted {
        let reply = systemuser_token(&bench, details).await;
        is_denied(&reply, 400, "invalid_altinn_customer_configuration", "", "MP-303");
    }
    // Another client of another organisation asks for the same.
    let change = |claims: &mut Value| claims["authorization_details"] = systemuser(None, SENDER);
    let reply = bench.post_grant(&bench.grant(Role::Recipient, change)).await;
    is_denied(&reply, 400, "invalid_altinn_customer_configuration", "", "MP-303");
    bench.sandbox.world(|world| world.system_users[0].approved = false).unwrap();
    let reply = systemuser_token(&bench, systemuser(None, SENDER)).await;
    is_denied(&reply, 400, "invalid_altinn_customer_configuration", "", "MP-303");
}

#[tokio::test]
async fn i029_unknown_types_and_members_are_told_apart() {
    let bench = Bench::start().await;
    for kind in ["urn:altinn:other", "urn:altinn:SystemUser", ""] {
        let mut details = systemuser(None, SENDER);
        details[0]["type"] = kind.into();
        is_denied(&systemuser_token(&bench, details).await, 400, "invalid_request", "", "MP-301");
    }
    // What Altinn's own samples write, and a member in the wrong case.
    for (outer, inner) in [("externalReference", None), ("systemuser_org", Some("id"))] {
        let mut details = systemuser(None, SENDER);
        match inner {
            None => details[0][outer] = "x".into(),
            Some(inner) => details[0][outer][inner] = "x".into(),
        }
        is_denied(&systemuser_token(&bench, details).await, 400, "invalid_request", "", "MP-302");
    }
    let twice = json!([systemuser(None, SENDER)[0], systemuser(None, SENDER)[0]]);
    is_denied(&systemuser_token(&bench, twice).await, 400, "invalid_request", "", "MP-011");
}

#[tokio::test]
async fn i030_a_system_user_without_a_reference_has_the_organisation_number() {
    let bench = Bench::start().await;
    assert_eq!(systemuser_token(&bench, systemuser(None, SENDER)).await.status, 200);
    assert_eq!(systemuser_token(&bench, systemuser(Some("991825827"), SENDER)).await.status, 200);
    bench
        .sandbox
        .world(|world| {
            let first = world.system_users[0].clone();
            world.system_users[0] = SystemUser { reference: Some("mine".to_owned()), ..first };
        })
        .unwrap();
    assert_eq!(systemuser_token(&bench, systemuser(Some("mine"), SENDER)).await.status, 200);
    assert_eq!(systemuser_token(&bench, systemuser(None, SENDER)).await.status, 400);
}

#[tokio::test]
async fn i034_the_caller_is_the_system_users_organisation() {
    let bench = Bench::start().await;
    let vendor = bench.party(Role::Recipient).client_id.clone();
    bench.sandbox.world(|world| world.system_users[0].clients.push(vendor)).unwrap();
    let grant =
        bench.grant(Role::Recipient, |claims| claims["authorization_details"] = systemuser(None, SENDER));
    let token = bench.post_grant(&grant).await.json()["access_token"].as_str().unwrap().to_owned();
    let reply = send(bench.request(Method::POST, BASE).bearer_auth(&token).json(&Bench::metadata())).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let entry = bench.sandbox.ledger().entries().pop().unwrap();
    assert_eq!(
        (entry.organization.as_deref(), entry.vendor.as_deref()),
        (Some("991825827"), Some("910753614"))
    );
    assert_eq!(bench.sandbox.transfers()[0].vendor.as_deref(), Some("910753614"));
}

#[tokio::test]
async fn an_unreadable_system_user_makes_the_caller_nobody() {
    let bench = Bench::start().await;
    let mut claims = bench.claims(SENDER);
    claims.insert("authorization_details".to_owned(), json!([{ "type": "urn:altinn:systemuser" }]));
    let token = bench.sign(&claims);
    send(bench.request(Method::POST, BASE).bearer_auth(&token).json(&Bench::metadata()))
        .await
        .is_fault(401, 6);
    let search = format!("{BASE}?resourceId=sandbox-files");
    send(bench.request(Method::GET, &search).bearer_auth(&token)).await.is_fault(401, 6);
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
