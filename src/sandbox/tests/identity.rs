//! Maskinporten and system users.

use std::time::Duration;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::support::{BASE, Bench, RECIPIENT, Reply, SENDER, send};
use crate::sandbox::{Role, ScopeDelegation, SystemUser};

/// A refusal with its description and the number in `error_uri`.
#[track_caller]
pub(super) fn is_denied(reply: &Reply, status: u16, error: &str, description: &str, number: &str) {
    let body = reply.json();
    assert_eq!((reply.status, body["error"].as_str().unwrap()), (status, error), "{body}");
    let text = body["error_description"].as_str().unwrap();
    assert!(text.contains(description) && text.contains("(trace_id: "), "{body}");
    let uri = body["error_uri"].as_str().unwrap_or_default();
    assert!(uri.ends_with(number), "{body}");
}

/// The payload of a token, verified with the published keys by another library.
pub(super) async fn verified(bench: &Bench, token: &str, keys: &str) -> Map<String, Value> {
    let set = send(bench.http.get(bench.url(keys))).await.json();
    let jwk = serde_json::from_value(set["keys"][0].clone()).unwrap();
    let mut validation = Validation::new(Algorithm::RS256);
    (validation.validate_exp, validation.validate_aud) = (false, false);
    jsonwebtoken::decode(token, &DecodingKey::from_jwk(&jwk).unwrap(), &validation).unwrap().claims
}

pub(super) fn systemuser(reference: Option<&str>, organization: &str) -> Value {
    let mut entry = json!({
        "type": "urn:altinn:systemuser",
        "systemuser_org": { "authority": "iso6523-actorid-upis", "ID": organization },
    });
    if let Some(reference) = reference {
        entry["externalRef"] = reference.into();
    }
    json!([entry])
}

pub(super) async fn systemuser_token(bench: &Bench, details: Value) -> Reply {
    bench.post_grant(&bench.grant(Role::Sender, |claims| claims["authorization_details"] = details)).await
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
