//! The service owner's endpoints.

use std::collections::BTreeSet;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::support::{Bench, OWNER, RECIPIENT, RESOURCE, Reply, SENDER, THIRD, send};
use crate::sandbox::{Action, Resource, Stage};

const BROKER: &str = "/broker/api/v1";

fn owner_token(bench: &Bench, organization: &str) -> String {
    bench.token_with_scope(organization, "altinn:serviceowner")
}

async fn put_as(bench: &Bench, organization: &str, id: &str, body: Value) -> Reply {
    let request = bench.request(Method::PUT, &format!("{BROKER}/resource/{id}"));
    send(request.bearer_auth(owner_token(bench, organization)).json(&body)).await
}

async fn put(bench: &Bench, body: Value) -> Reply {
    put_as(bench, OWNER, RESOURCE, body).await
}

async fn get_as(bench: &Bench, organization: &str, path: &str) -> Reply {
    let request = bench.request(Method::GET, &format!("{BROKER}{path}"));
    send(request.bearer_auth(owner_token(bench, organization))).await
}

async fn settings(bench: &Bench) -> Value {
    let reply = get_as(bench, OWNER, &format!("/resource/{RESOURCE}")).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()
}

#[tokio::test]
async fn settings_are_written_as_iso_8601_and_read_as_net_time_spans() {
    let bench = Bench::start().await;
    let defaults = settings(&bench).await;
    assert_eq!(
        defaults,
        json!({
            "maxFileTransferSize": null, "fileTransferTimeToLive": null,
            "purgeFileTransferAfterAllRecipientsConfirmed": true, "purgeFileTransferGracePeriod": null,
            "useManifestFileShim": null, "externalServiceCodeLegacy": null,
            "externalServiceEditionCodeLegacy": null, "requiredParty": null,
        })
    );
    let everything = json!({
        "MaxFileTransferSize": "1000", "fileTransferTimeToLive": "P30D", "purgeFileTransferGracePeriod": "PT2H",
        "purgeFileTransferAfterAllRecipientsConfirmed": false, "useManifestFileShim": true,
        "externalServiceCodeLegacy": "1234", "externalServiceEditionCodeLegacy": 5, "requiredParty": SENDER,
        "somethingElse": 1,
    });
    put(&bench, everything).await.is_bare(204);
    let written = json!({
        "maxFileTransferSize": 1000, "fileTransferTimeToLive": "30.00:00:00",
        "purgeFileTransferAfterAllRecipientsConfirmed": false, "purgeFileTransferGracePeriod": "02:00:00",
        "useManifestFileShim": true, "externalServiceCodeLegacy": "1234",
        "externalServiceEditionCodeLegacy": 5, "requiredParty": SENDER,
    });
    assert_eq!(settings(&bench).await, written);
    // What is not named, or null, stays.
    put(&bench, json!({ "maxFileTransferSize": null })).await.is_bare(204);
    assert_eq!(settings(&bench).await, written);
    for (given, shown) in [
        ("P1Y", "365.00:00:00"),
        ("P2M", "60.00:00:00"),
        ("P1DT2H3M4.5S", "1.02:03:04.5000000"),
        ("PT36H", "1.12:00:00"),
        ("PT0S", "00:00:00"),
    ] {
        put(&bench, json!({ "fileTransferTimeToLive": given })).await.is_bare(204);
        assert_eq!(settings(&bench).await["fileTransferTimeToLive"], shown, "{given}");
    }
    let bench = bench.restart().await;
    assert_eq!(settings(&bench).await["externalServiceCodeLegacy"], "1234", "a restart keeps them");
}

#[tokio::test]
async fn settings_take_effect() {
    let bench = Bench::start().await;
    put(
        &bench,
        json!({ "maxFileTransferSize": 4, "fileTransferTimeToLive": "PT1H", "requiredParty": THIRD }),
    )
    .await
    .is_bare(204);
    bench.try_initialize(|_| {}).await.is_fault(400, 26);
    put(&bench, json!({ "requiredParty": " " })).await.is_bare(204);
    let id = bench.initialize(|_| {}).await;
    assert_eq!(bench.overview(&id).await["expirationTime"], "2026-08-18T12:40:01.5+00:00");
    bench.upload(&id, "hello").await.is_fault(400, 16);
    put(&bench, json!({ "maxFileTransferSize": 5, "purgeFileTransferGracePeriod": "PT1M" }))
        .await
        .is_bare(204);
    assert_eq!(bench.upload(&id, "hello").await.status, 200);
    bench.download(RECIPIENT, &id, None).await;
    bench.confirm(RECIPIENT, &id).await.is_bare(204);
    bench.clock.advance(Duration::from_mins(1));
    bench.until(&id, "Purged").await;
}

#[tokio::test]
async fn settings_have_limits() {
    let bench = Bench::start().await;
    let size = |size: i64| put(&bench, json!({ "maxFileTransferSize": size }));
    size(-1).await.is_fault(400, 11);
    size(0).await.is_fault(400, 12);
    size(1_677_721_600_001).await.is_fault(400, 22);
    size(1_677_721_600_000).await.is_bare(204);
    bench.sandbox.world(|world| world.stage = Stage::Production).unwrap();
    size(50_000_000_001).await.is_fault(400, 13);
    size(50_000_000_000).await.is_bare(204);
    bench.resource(|resource| resource.virus_scan_waiver = true);
    size(50_000_000_001).await.is_bare(204);
    size(1_677_721_600_001).await.is_fault(400, 22);
    let life = |text: &str| put(&bench, json!({ "fileTransferTimeToLive": text }));
    for wrong in ["", "P", "PT", "30", "P1W", "P1D2H", "PT1.5H", "p1d", "P-1D", "PT1S1M", "30.00:00:00"] {
        life(wrong).await.is_fault(400, 14);
    }
    life("P365DT1S").await.is_fault(400, 15);
    life("P365D").await.is_bare(204);
    let grace = |text: &str| put(&bench, json!({ "purgeFileTransferGracePeriod": text }));
    grace("two hours").await.is_fault(400, 17);
    grace("PT24H1S").await.is_fault(400, 18);
    grace("PT24H").await.is_bare(204);
    put(&bench, json!({ "useManifestFileShim": true })).await.is_fault(400, 23);
    put(&bench, json!({ "useManifestFileShim": false })).await.is_bare(204);
    let codes = json!({ "externalServiceCodeLegacy": "1", "externalServiceEditionCodeLegacy": "2" });
    put(&bench, codes).await.is_bare(204);
    put(&bench, json!({ "useManifestFileShim": true })).await.is_bare(204);
    let wrong = put(&bench, json!({ "maxFileTransferSize": "many" })).await;
    wrong.is_invalid("$.maxFileTransferSize", "The JSON value");
    wrong.is_invalid("resourceExt", "The resourceExt field is required.");
    // A refusal changes nothing.
    put(&bench, json!({ "requiredParty": SENDER, "fileTransferTimeToLive": "x" })).await.is_fault(400, 14);
    assert_eq!(settings(&bench).await["requiredParty"], Value::Null);
}

#[tokio::test]
async fn only_the_owner_may_look_and_write() {
    let bench = Bench::start().await;
    put_as(&bench, SENDER, RESOURCE, json!({})).await.is_fault(401, 6);
    get_as(&bench, SENDER, &format!("/resource/{RESOURCE}")).await.is_fault(401, 6);
    put_as(&bench, OWNER, "unknown", json!({})).await.is_fault(403, 5);
    get_as(&bench, OWNER, "/resource/unknown").await.is_fault(400, 25);
    for path in [format!("/resource/{RESOURCE}"), "/serviceowner".into(), "/statistics/monthly".into()] {
        let request = bench.request(Method::GET, &format!("{BROKER}{path}"));
        send(request.bearer_auth(bench.token(OWNER))).await.is_bare(403);
        send(bench.request(Method::GET, &format!("{BROKER}{path}"))).await.is_bare(401);
    }
    let path = format!("{BROKER}/resource/{RESOURCE}");
    let get = || bench.request(Method::GET, &path).bearer_auth(owner_token(&bench, OWNER));
    send(get().header("Content-Type", "text/plain")).await.is_bare(415);
    assert_eq!(send(get().header("Content-Type", "application/json")).await.status, 200);
    send(get().header("Accept", "text/plain")).await.status_is(406);
    let text = bench.request(Method::PUT, &path).bearer_auth(owner_token(&bench, OWNER)).body("{}");
    send(text).await.is_bare(415);
}

#[tokio::test]
async fn the_first_put_makes_a_resource_known_to_the_broker() {
    let bench = Bench::start().await;
    let number = OWNER.strip_prefix("0192:").unwrap().to_owned();
    bench
        .sandbox
        .world(|world| {
            let resource = Resource { configured: false, owner: Some(number), ..Resource::default() };
            world.resources.insert("new".to_owned(), resource);
            world
                .resources
                .insert("ownerless".to_owned(), Resource { configured: false, ..Resource::default() });
            for action in [Action::Read, Action::Write] {
                world.permit("new", "991825827", action);
                world.permit("new", "910753614", action);
            }
        })
        .unwrap();
    let initialize = || bench.try_initialize(|body| body["resourceId"] = "new".into());
    initialize().await.is_fault(401, 6);
    send(bench.get_as(SENDER, "?resourceId=new")).await.is_fault(401, 6);
    get_as(&bench, OWNER, "/resource/new").await.is_fault(400, 25);
    put_as(&bench, OWNER, "ownerless", json!({})).await.is_fault(403, 5);
    put_as(&bench, SENDER, "new", json!({})).await.is_fault(401, 6);
    // It exists in the Resource Registry all the while.
    let registry = bench.url("/resourceregistry/api/v1/resource/new");
    assert_eq!(send(bench.http.get(registry)).await.status, 200);
    put_as(&bench, OWNER, "new", json!({ "maxFileTransferSize": 0 })).await.is_fault(400, 12);
    initialize().await.is_fault(401, 6);
    put_as(&bench, OWNER, "new", json!({})).await.is_bare(204);
    assert_eq!(initialize().await.status, 200);
    assert_eq!(send(bench.get_as(SENDER, "?resourceId=new")).await.status, 200);
}

#[tokio::test]
async fn a_service_owner_makes_itself_known_once() {
    let bench = Bench::start().await;
    let known = get_as(&bench, OWNER, "/serviceowner").await;
    assert_eq!(known.header("Content-Type"), Some("application/json; charset=utf-8"));
    let provider =
        |kind: &str| json!({ "type": kind, "deploymentStatus": "Ready", "deploymentEnvironment": "staging" });
    let providers = [provider("AltinnAzure"), provider("AltinnAzureWithoutVirusScan")];
    assert_eq!(known.json(), json!({ "name": "tjenesteeier", "storageProviders": providers }));
    bench.resource(|resource| resource.storage_ready = false);
    let deploying = get_as(&bench, OWNER, "/serviceowner").await.json();
    assert_eq!(deploying["storageProviders"][0]["deploymentStatus"], "DeployingResources");

    let post = |organization: &str, body: &Value| {
        let request = bench.request(Method::POST, &format!("{BROKER}/serviceowner"));
        // This endpoint does not look at Accept.
        let request = request.header("Accept", "text/html").bearer_auth(owner_token(&bench, organization));
        send(request.json(body))
    };
    post(OWNER, &json!({ "name": "again" })).await.is_fault(409, 7002);
    get_as(&bench, THIRD, "/serviceowner").await.is_fault(404, 7004);
    bench
        .sandbox
        .world(|world| {
            let owner = Some("313579246".to_owned());
            let resource = Resource { configured: false, service_owner: false, owner, ..Resource::default() };
            world.resources.insert("new".to_owned(), resource);
        })
        .unwrap();
    put_as(&bench, THIRD, "new", json!({})).await.is_fault(400, 24);
    post(THIRD, &json!({})).await.is_invalid("$", "The JSON value");
    post(THIRD, &json!({ "name": null })).await.is_invalid("Name", "The Name field is required.");
    post(THIRD, &json!({ "NAME": "Third" })).await.is_bare(200);
    assert_eq!(get_as(&bench, THIRD, "/serviceowner").await.json()["name"], "Third");
    put_as(&bench, THIRD, "new", json!({})).await.is_bare(204);

    let mut nobody = bench.claims(THIRD);
    nobody.insert("scope".to_owned(), "altinn:serviceowner".into());
    nobody.insert("authorization_details".to_owned(), json!([{ "type": "urn:altinn:systemuser" }]));
    let request = bench.request(Method::GET, &format!("{BROKER}/serviceowner"));
    send(request.bearer_auth(bench.sign(&nobody))).await.is_fault(400, 7001);
}

#[tokio::test]
async fn the_founded_service_owner_owns_the_founded_resource() {
    let bench = Bench::start().await;
    let party = bench.sandbox.service_owner().unwrap();
    assert_eq!(party.name, "tjenesteeier");
    let (number, owner) = (party.number.clone(), OWNER.strip_prefix("0192:").unwrap());
    assert_eq!(number, owner);
    // Modulus 11, as every organisation number.
    let weights = [3, 2, 7, 6, 5, 4, 3, 2, 1];
    let sum: u32 =
        number.chars().zip(weights).map(|(digit, weight)| digit.to_digit(10).unwrap() * weight).sum();
    assert_eq!(sum % 11, 0);
    let scopes: BTreeSet<String> = ["altinn:serviceowner".to_owned()].into();
    let client = bench
        .sandbox
        .world(|world| world.clients.iter().find(|it| it.id == party.client_id).unwrap().clone())
        .unwrap();
    assert_eq!((client.owner, client.scopes), (number.clone(), scopes));
    // It can do it all with its own key, from grant to PUT.
    let claims = json!({
        "aud": bench.url("/"), "iss": party.client_id, "iat": bench.now(), "exp": bench.now() + 100,
        "jti": "1", "scope": "altinn:serviceowner",
    });
    let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::RS256);
    header.kid = Some(party.key_id.clone());
    let pem = std::fs::read(&party.private_key).unwrap();
    let key = jsonwebtoken::EncodingKey::from_rsa_pem(&pem).unwrap();
    let raw = bench.post_grant(&jsonwebtoken::encode(&header, &claims, &key).unwrap()).await.json();
    let raw = raw["access_token"].as_str().unwrap().to_owned();
    let exchange = bench.request(Method::GET, "/authentication/api/v1/exchange/maskinporten");
    let altinn = send(exchange.bearer_auth(&raw)).await.text();
    for token in [raw, altinn] {
        let request = bench.request(Method::PUT, &format!("{BROKER}/resource/{RESOURCE}"));
        send(request.bearer_auth(token).json(&json!({}))).await.is_bare(204);
    }
}

#[tokio::test]
async fn statistics_count_a_month() {
    let bench = Bench::start().await;
    bench.permit_third();
    let id = bench.publish_with("hello", |body| body["recipients"] = json!([RECIPIENT, THIRD])).await;
    bench.initialize(|_| {}).await;
    bench.download(RECIPIENT, &id, None).await;
    bench.download(RECIPIENT, &id, None).await;
    bench.confirm(RECIPIENT, &id).await;
    bench.clock.advance(Duration::from_hours(14 * 24));
    bench.download(THIRD, &id, None).await;
    let head = "year,month,resourceId,senderVendor,recipientVendor,sender,recipient,totalFileTransfers,uploadCount,totalTransferDownloadAttempts,transfersWithDownloadConfirmed\n";
    let ask = |query: &'static str| get_as(&bench, OWNER, query);
    let august = ask("/statistics/monthly?year=2026&month=8").await;
    assert_eq!(august.header("Content-Type"), Some("text/csv"));
    let disposition = august.header("Content-Disposition").unwrap();
    assert!(disposition.contains("monthly_statistics_all-resources_2026-08.csv"), "{disposition}");
    let rows = format!(
        "2026,8,{RESOURCE},,,{SENDER},{THIRD},1,1,0,0\n2026,8,{RESOURCE},,,{SENDER},{RECIPIENT},2,1,2,1\n"
    );
    assert_eq!(august.text(), format!("{head}{rows}"));
    let september = ask("/statistics/monthly?Year=2026&Month=9&resourceId=sandbox-files").await;
    assert!(september.header("Content-Disposition").unwrap().contains("sandbox-files_2026-09"));
    assert_eq!(september.text(), format!("{head}2026,9,{RESOURCE},,,{SENDER},{THIRD},0,0,1,0\n"));
    let vendors = ask("/statistics/monthly?year=2026&month=8&includeEndUser=false&includeVendor=true").await;
    let row = |recipient: &str, counts: &str| format!("2026,8,{RESOURCE},{SENDER},{recipient},,,{counts}\n");
    assert_eq!(vendors.text(), format!("{head}{}{}", row("", "2,1,0,0"), row(RECIPIENT, "1,1,2,1")));
    assert_eq!(get_as(&bench, THIRD, "/statistics/monthly?year=2026&month=8").await.text(), head);
}

#[tokio::test]
async fn statistics_demand_a_month_and_somebody() {
    let bench = Bench::start().await;
    let ask = |query: &'static str| get_as(&bench, OWNER, query);
    for query in ["", "?year=2026", "?year=2026&month=13", "?year=10000&month=1", "?year=9999&month=12"] {
        let path = format!("/statistics/monthly{query}");
        get_as(&bench, OWNER, &path).await.is_fault(400, 6003);
    }
    ask("/statistics/monthly?year=2026&month=8&includeEndUser=false").await.is_fault(400, 6005);
    ask("/statistics/monthly?year=2026&month=8&resourceId=unknown").await.is_fault(400, 25);
    ask("/statistics/monthly?year=x&month=8").await.is_invalid("Year", "The value 'x' is not valid");
    let path = format!("/statistics/monthly?year=2026&month=8&resourceId={RESOURCE}");
    get_as(&bench, THIRD, &path).await.is_fault(401, 6);
    let request = bench.request(Method::GET, &format!("{BROKER}{path}")).header("Accept", "application/json");
    let reply = send(request.bearer_auth(owner_token(&bench, OWNER))).await;
    assert_eq!(reply.status, 406);
    assert!(reply.text().ends_with("Supported Accept headers are: text/csv, */*."), "{}", reply.text());
}
