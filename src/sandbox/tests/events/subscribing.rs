//! Who may subscribe to what, and whose a subscription is.

use reqwest::Method;
use serde_json::{Value, json};

use super::super::support::{RESOURCE, Reply, send};
use super::{RECIPIENT, SENDER, SUBSCRIPTIONS, Stage, as_token, claims, is_text, subscribe, token};
use crate::sandbox::Role;

const NO_ENDPOINT: &str = "Missing or invalid endpoint to push events towards";

/// What the sender is answered when it wishes for that.
pub(super) async fn wished(stage: &Stage, change: impl FnOnce(&mut Value)) -> Reply {
    stage.try_subscribe(SENDER, "/hook", change).await
}

pub(super) async fn get(stage: &Stage, path: &str, token: &str) -> Reply {
    as_token(&stage.bench, Method::GET, &format!("{SUBSCRIPTIONS}{path}"), token).await
}

fn remove(wish: &mut Value, member: &str) {
    wish.as_object_mut().unwrap().remove(member).unwrap();
}

#[tokio::test]
async fn e001_a_subscription_is_created() {
    let stage = Stage::start().await;
    let reply = wished(&stage, |wish| wish["typeFilter"] = "no.altinn.broker.published".into()).await;
    assert_eq!(reply.status, 201, "{}", reply.text());
    let id = reply.json()["id"].as_i64().unwrap();
    assert_eq!(
        reply.json(),
        json!({
            "id": id,
            "endPoint": stage.receiver.url("/hook"),
            "resourceFilter": "urn:altinn:resource:sandbox-files",
            "subjectFilter": "urn:altinn:organization:identifier-no:991825827",
            "typeFilter": "no.altinn.broker.published",
            "consumer": "/organisation/991825827", "createdBy": "/organisation/991825827",
            "created": "2026-08-18T11:40:01.5Z", "validated": false, "includeSubunits": false,
        })
    );
    let location = format!("/events/api/v1/subscription/{id}");
    assert_eq!(reply.header("Location"), Some(location.as_str()));
    assert_eq!(reply.header("Content-Type"), Some("application/json; charset=utf-8"));
    let followed = as_token(&stage.bench, Method::GET, &location, &token(&stage.bench, SENDER)).await;
    assert_eq!(followed.status, 404, "there is nothing where Location points");
}

/// Whether subscribing, looking and pulling are all 401 with that token.
async fn is_refused(stage: &Stage, token: &str) {
    let pull = format!("/events/api/v1/events?resource=urn:altinn:resource:{RESOURCE}&after=0");
    subscribe(&stage.bench, token, &stage.wish(SENDER, "/hook")).await.is_bare(401);
    get(stage, "", token).await.is_bare(401);
    as_token(&stage.bench, Method::GET, &pull, token).await.is_bare(401);
}

#[tokio::test]
async fn e002_no_token_and_an_expired_one_are_401() {
    let stage = Stage::start().await;
    let bench = &stage.bench;
    send(bench.request(Method::POST, SUBSCRIPTIONS).json(&stage.wish(SENDER, "/hook"))).await.is_bare(401);
    let mut expired = claims(bench, SENDER);
    expired.insert("exp".to_owned(), bench.now().into());
    is_refused(&stage, &bench.sign(&expired)).await;
    is_refused(&stage, "garbage").await;
}

#[tokio::test]
async fn i046_maskinportens_own_token_is_401() {
    let stage = Stage::start().await;
    let system_user = json!([{
        "type": "urn:altinn:systemuser",
        "systemuser_org": { "authority": "iso6523-actorid-upis", "ID": "0192:991825827" },
    }]);
    for details in [None, Some(system_user)] {
        let grant = stage.bench.grant(Role::Sender, |claims| {
            claims["scope"] = "altinn:broker.read altinn:events.subscribe".into();
            if let Some(details) = details {
                claims["authorization_details"] = details;
            }
        });
        let raw = stage.bench.post_grant(&grant).await.json()["access_token"].as_str().unwrap().to_owned();
        is_refused(&stage, &raw).await;
    }
}

#[tokio::test]
async fn i046_an_exchanged_token_is_accepted() {
    let stage = Stage::start().await;
    let grant = stage.bench.grant(Role::Sender, |claims| claims["scope"] = "altinn:events.subscribe".into());
    let raw = stage.bench.post_grant(&grant).await.json()["access_token"].as_str().unwrap().to_owned();
    let exchange = "/authentication/api/v1/exchange/maskinporten";
    let token = as_token(&stage.bench, Method::GET, exchange, &raw).await.text();
    let reply = subscribe(&stage.bench, &token, &stage.wish(SENDER, "/hook")).await;
    assert_eq!((reply.status, &reply.json()["consumer"]), (201, &"/organisation/991825827".into()));
}

#[tokio::test]
async fn e003_without_the_scope_it_is_403_without_a_word() {
    let stage = Stage::start().await;
    let mut claims = claims(&stage.bench, SENDER);
    claims.insert("scope".to_owned(), "altinn:broker.write altinn:broker.read".into());
    let token = stage.bench.sign(&claims);
    subscribe(&stage.bench, &token, &stage.wish(SENDER, "/hook")).await.is_bare(403);
    assert_eq!(get(&stage, "", &token).await.status, 200, "looking needs no scope");
}

#[tokio::test]
async fn e004_the_endpoint_is_absolute_https() {
    let stage = Stage::start().await;
    for endpoint in ["http://127.0.0.1/hook", "/hook", "hook", "", "https:hook", "https://"] {
        is_text(&wished(&stage, |wish| wish["endPoint"] = endpoint.into()).await, 400, NO_ENDPOINT);
    }
    is_text(&wished(&stage, |wish| remove(wish, "endPoint")).await, 400, NO_ENDPOINT);
    is_text(&wished(&stage, |wish| wish["endPoint"] = Value::Null).await, 400, NO_ENDPOINT);
}

#[tokio::test]
async fn e005_the_resource_is_a_urn_in_lower_case() {
    let stage = Stage::start().await;
    let long = format!("urn:altinn:resource:{}", "x".repeat(101));
    let deep = format!("urn:altinn{}", ":x".repeat(11));
    let urns = [
        "urn:altinn:resource:Sandbox-files",
        "URN:altinn:resource:x",
        "urn:altinn",
        "x",
        "urn::x",
        "urn:altinn:",
        "urn:altinn:resource:x x",
        &long,
        &deep,
    ];
    for urn in urns {
        let reply = wished(&stage, |wish| wish["resourceFilter"] = urn.into()).await;
        is_text(&reply, 400, "Resource filter must be a valid urn");
    }
}

#[tokio::test]
async fn e006_the_resource_is_required() {
    let stage = Stage::start().await;
    is_text(
        &wished(&stage, |wish| remove(wish, "resourceFilter")).await,
        400,
        "Resource filter is required.",
    );
}

#[tokio::test]
async fn e007_a_source_is_refused() {
    let stage = Stage::start().await;
    let source = stage.bench.url("/broker/api/v1/filetransfer").replace("http://", "https://");
    let reply = wished(&stage, |wish| wish["sourceFilter"] = source.into()).await;
    is_text(&reply, 400, "Source filter is not supported for subscriptions on this resource.");
    let reply = wished(&stage, |wish| wish["sourceFilter"] = "http://x/".into()).await;
    is_text(&reply, 400, "SourceFilter must be an absolute URL with the https scheme.");
}

#[tokio::test]
async fn e008_an_alternative_subject_is_refused() {
    let stage = Stage::start().await;
    let reply =
        wished(&stage, |wish| wish["alternativeSubjectFilter"] = "/organisation/991825827".into()).await;
    is_text(&reply, 400, "AlternativeSubject filter is not supported for subscriptions on this resource.");
    let reply = wished(&stage, |wish| wish["alternativeSubjectFilter"] = "".into()).await;
    assert_eq!(reply.status, 201, "an empty one is none");
}

#[tokio::test]
async fn e009_sub_units_need_a_subject() {
    let stage = Stage::start().await;
    let reply = wished(&stage, |wish| {
        remove(wish, "subjectFilter");
        wish["includeSubunits"] = true.into();
    });
    is_text(&reply.await, 400, "IncludeSubunits requires a subject filter.");
}

#[tokio::test]
async fn e010_the_policy_must_permit_it() {
    let stage = Stage::start().await;
    let refusal = "Not authorized to create a subscription for resource urn:altinn:resource:sandbox-files.";
    let others = format!("urn:altinn:organization:identifier-no:{RECIPIENT}");
    is_text(&wished(&stage, |wish| wish["subjectFilter"] = others.into()).await, 403, refusal);
    is_text(&wished(&stage, |wish| remove(wish, "subjectFilter")).await, 403, refusal);
    let reply = wished(&stage, |wish| wish["resourceFilter"] = "urn:altinn:resource:unknown".into()).await;
    is_text(&reply, 403, "Not authorized to create a subscription for resource urn:altinn:resource:unknown.");
    stage.forbid(SENDER);
    is_text(&wished(&stage, |_| {}).await, 403, refusal);
}

#[tokio::test]
async fn e010_what_the_broker_knows_of_the_resource_does_not_matter() {
    let stage = Stage::start().await;
    stage.bench.resource(|resource| resource.configured = false);
    let reply = wished(&stage, |_| {}).await;
    assert_eq!(reply.status, 201, "{}", reply.text());
}

#[tokio::test]
async fn e010_a_service_owner_hears_of_every_subject() {
    let stage = Stage::start().await;
    let with_code = |code: &str| {
        let mut claims = claims(&stage.bench, SENDER);
        claims.insert("urn:altinn:org".to_owned(), code.into());
        stage.bench.sign(&claims)
    };
    let mut wish = stage.wish(SENDER, "/hook");
    remove(&mut wish, "subjectFilter");
    let reply = subscribe(&stage.bench, &with_code("brg"), &wish).await;
    assert_eq!(reply.status, 403, "another one's resource: {}", reply.text());
    let reply = subscribe(&stage.bench, &with_code(&stage.owner_code()), &wish).await;
    assert_eq!(reply.status, 201, "{}", reply.text());
    stage.until_attempts(|_| true, 1).await;
    stage.bench.publish("hello").await;
    // Initialised and published for the sender, published for the recipient.
    stage.until_heard("/hook", 3).await;
}

#[tokio::test]
async fn e011_the_first_check_answers() {
    let stage = Stage::start().await;
    let bench = &stage.bench;
    let mut without_scope = claims(bench, SENDER);
    without_scope.remove("scope");
    let (scoped, without_scope) = (token(bench, SENDER), bench.sign(&without_scope));
    let mut wish = json!({
        "endPoint": 7, "sourceFilter": "http://x", "resourceFilter": "Urn", "alternativeSubjectFilter": "x",
        "includeSubunits": true,
    });
    send(bench.request(Method::POST, SUBSCRIPTIONS).body("x")).await.is_bare(401);
    let plain = bench.request(Method::POST, SUBSCRIPTIONS).bearer_auth(&without_scope);
    send(plain.header("Content-Type", "text/plain").body("{")).await.is_bare(415);
    subscribe(bench, &without_scope, &wish).await.is_invalid("$.endPoint", "The JSON value could not be");
    wish["endPoint"] = "http://x".into();
    is_text(&subscribe(bench, &without_scope, &wish).await, 400, NO_ENDPOINT);
    wish["endPoint"] = "https://x".into();
    let text = "SourceFilter must be an absolute URL with the https scheme.";
    is_text(&subscribe(bench, &without_scope, &wish).await, 400, text);
    wish["sourceFilter"] = "https://x".into();
    subscribe(bench, &without_scope, &wish).await.is_bare(403);
    is_text(&subscribe(bench, &scoped, &wish).await, 400, "Resource filter must be a valid urn");
    remove(&mut wish, "resourceFilter");
    is_text(&subscribe(bench, &scoped, &wish).await, 400, "Resource filter is required.");
    wish["resourceFilter"] = "urn:altinn:resource:x".into();
    let text = "Source filter is not supported for subscriptions on this resource.";
    is_text(&subscribe(bench, &scoped, &wish).await, 400, text);
    remove(&mut wish, "sourceFilter");
    let text = "AlternativeSubject filter is not supported for subscriptions on this resource.";
    is_text(&subscribe(bench, &scoped, &wish).await, 400, text);
    remove(&mut wish, "alternativeSubjectFilter");
    is_text(&subscribe(bench, &scoped, &wish).await, 400, "IncludeSubunits requires a subject filter.");
    wish["includeSubunits"] = false.into();
    let text = "Not authorized to create a subscription for resource urn:altinn:resource:x.";
    is_text(&subscribe(bench, &scoped, &wish).await, 403, text);
}

#[tokio::test]
async fn e011_malformed_json_and_wrong_types_are_problems() {
    let stage = Stage::start().await;
    let token = token(&stage.bench, SENDER);
    let post = |body: &'static str| {
        let request = stage.bench.request(Method::POST, SUBSCRIPTIONS).bearer_auth(&token);
        send(request.header("Content-Type", "application/json; charset=utf-8").body(body))
    };
    for body in ["", "{", "null", "[]", "\"x\"", "{\"endPoint\":\"https://x\",}"] {
        let reply = post(body).await;
        assert_eq!(reply.status, 400, "{body}");
        assert_eq!(reply.header("Content-Type"), Some("application/problem+json"), "{body}");
    }
    post(r#"{"includeSubunits":"true"}"#).await.is_invalid("$.includeSubunits", "The JSON value");
    let names = stage.wish(SENDER, "/hook").to_string().replace("endPoint", "ENDPOINT");
    let request = stage.bench.request(Method::POST, SUBSCRIPTIONS).bearer_auth(&token);
    let reply = send(request.header("Content-Type", "application/json").body(names)).await;
    assert_eq!(reply.status, 201, "names are read in any case");
}

#[tokio::test]
async fn e012_an_identical_post_gives_the_same_id_and_validates_again() {
    let stage = Stage::start().await;
    let id = stage.subscribe(SENDER, "/hook", |_| {}).await;
    let again = wished(&stage, |_| {}).await;
    assert_eq!((again.status, again.json()["id"].as_i64()), (201, Some(id)));
    assert_eq!(again.json()["validated"], true, "what it was before");
    stage.until_attempts(|_| true, 2).await;
    let validations = stage.receiver.validations("/hook");
    assert_eq!(validations.len(), 2);
    assert_eq!(validations[0].json()["source"], validations[1].json()["source"]);
}

#[tokio::test]
async fn e013_any_difference_gives_a_new_id() {
    let stage = Stage::start().await;
    let mut ids = vec![wished(&stage, |_| {}).await.json()["id"].as_i64().unwrap()];
    let changes: [fn(&mut Value); 4] = [
        |wish| wish["endPoint"] = "https://127.0.0.1:1/other".into(),
        |wish| wish["typeFilter"] = "no.altinn.broker.published".into(),
        |wish| wish["includeSubunits"] = true.into(),
        |wish| wish["typeFilter"] = "".into(),
    ];
    for change in changes {
        ids.push(wished(&stage, change).await.json()["id"].as_i64().unwrap());
    }
    stage.bench.sandbox.world(|world| world.organizations[1].parent = Some(SENDER.to_owned())).unwrap();
    let other = format!("urn:altinn:organization:identifier-no:{RECIPIENT}");
    let reply = wished(&stage, |wish| wish["subjectFilter"] = other.into()).await;
    ids.push(reply.json()["id"].as_i64().unwrap());
    let mut unique = ids.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), 6, "{ids:?}");
}
