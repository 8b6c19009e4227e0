//! Initialize, and how its values come back.

use std::time::Duration;

use serde_json::{Value, json};

use super::support::{BASE, Bench, RECIPIENT, RESOURCE, Reply, SENDER, THIRD, eventually, send};
use crate::sandbox::Stage;

const NOT_AN_ORGANIZATION: &str = "should be on the form countrycode:organizationnumber (e.g. 0192:910753614) or urn:altinn:organization:identifier-no:organizationnumber";

#[tokio::test]
async fn s016_a_valid_body_gives_an_id_and_an_initialized_transfer() {
    let bench = Bench::start().await;
    let reply = bench.try_initialize(|_| {}).await;
    assert_eq!((reply.status, reply.header("Content-Type")), (200, Some("application/json; charset=utf-8")));
    let answer = reply.json();
    assert_eq!(answer.as_object().unwrap().len(), 1);
    let overview = bench.overview(answer["fileTransferId"].as_str().unwrap()).await;
    assert_eq!(overview["fileTransferStatus"], "Initialized");
    assert_eq!(overview["fileTransferStatusText"], "Ready for upload");
    assert_eq!(overview["fileTransferSize"], 0);
    assert_eq!(overview.get("published"), Some(&Value::Null));
    assert_eq!(overview["useVirusScan"], false);
    assert_eq!(overview["sendersFileTransferReference"], "case-77");
    assert_eq!(overview["propertyList"], json!({}));
    assert_eq!(overview["recipients"][0]["currentRecipientFileTransferStatusCode"], "Initialized");
}

#[tokio::test]
async fn s017_two_identical_initializes_give_two_ids() {
    let bench = Bench::start().await;
    assert_ne!(bench.initialize(|_| {}).await, bench.initialize(|_| {}).await);
}

#[tokio::test]
async fn s018_a_missing_member_is_named() {
    let bench = Bench::start().await;
    for (member, name) in [("fileName", "FileName"), ("resourceId", "ResourceId"), ("sender", "Sender")] {
        let reply = bench.try_initialize(|body| drop(body.as_object_mut().unwrap().remove(member))).await;
        reply.is_invalid(name, &format!("The {name} field is required."));
        assert_eq!(reply.json()["title"], "One or more validation errors occurred.");
        assert_eq!(reply.header("Content-Type"), Some("application/json; charset=utf-8"));
    }
}

#[tokio::test]
async fn s019_a_file_name_has_a_length_and_no_other_rule() {
    let bench = Bench::start().await;
    bench
        .try_initialize(|body| body["fileName"] = "x".repeat(256).into())
        .await
        .is_invalid("FileName", "The field");
    // 128 characters outside the basic plane are 256 UTF-16 units.
    bench
        .try_initialize(|body| body["fileName"] = "🦆".repeat(128).into())
        .await
        .is_invalid("FileName", "The field");
    for name in ["../../x".to_owned(), "a\\b\0\n".to_owned(), "x".repeat(255), " æ ".to_owned()] {
        let id = bench.initialize(|body| body["fileName"] = name.clone().into()).await;
        assert_eq!(bench.overview(&id).await["fileName"], name);
    }
}

#[tokio::test]
async fn s020_a_reference_is_in_effect_required() {
    let bench = Bench::start().await;
    let missing =
        |body: &mut Value| drop(body.as_object_mut().unwrap().remove("sendersFileTransferReference"));
    bench.try_initialize(missing).await.is_invalid("SendersFileTransferReference", "The field");
    let empty = |body: &mut Value| body["sendersFileTransferReference"] = "".into();
    bench.try_initialize(empty).await.is_invalid("SendersFileTransferReference", "The field");
}

#[tokio::test]
async fn s021_a_reference_too_long_for_the_column_is_500() {
    let bench = Bench::start().await;
    let of = |length: usize| {
        bench.try_initialize(move |body| {
            body["sendersFileTransferReference"] = "r".repeat(length).into();
        })
    };
    assert_eq!(of(500).await.status, 200);
    for length in [501, 4096] {
        let reply = of(length).await;
        assert_eq!(reply.status, 500);
        assert_eq!(reply.header("Content-Type"), Some("application/problem+json"));
        assert!(reply.json().get("code").is_none());
    }
    of(4097).await.is_invalid("SendersFileTransferReference", "The field");
    assert_eq!(bench.sandbox.transfers().len(), 1);
}

#[tokio::test]
async fn s022_a_sender_needs_its_prefix() {
    let bench = Bench::start().await;
    for sender in ["991825827", "0192:99182582", "0192:9918258277", "019:991825827", " 0192:991825827"] {
        let reply = bench.try_initialize(|body| body["sender"] = sender.into()).await;
        reply.is_invalid("Sender", &format!("Organization numbers {NOT_AN_ORGANIZATION}"));
    }
}

#[tokio::test]
async fn s023_there_must_be_a_recipient() {
    let bench = Bench::start().await;
    let reply = bench.try_initialize(|body| body["recipients"] = json!([])).await;
    reply.is_invalid("Recipients", "One or more recipients are required");
}

#[tokio::test]
async fn s024_a_malformed_recipient_is_refused() {
    let bench = Bench::start().await;
    let reply = bench.try_initialize(|body| body["recipients"] = json!([RECIPIENT, "910753614"])).await;
    reply.is_invalid("Recipients", &format!("Each recipient {NOT_AN_ORGANIZATION}"));
    assert_eq!(bench.try_initialize(|body| body["recipients"] = json!([RECIPIENT, ""])).await.status, 200);
    assert_eq!(bench.try_initialize(|body| body["recipients"] = json!([RECIPIENT, null])).await.status, 500);
}

#[tokio::test]
async fn s025_recipients_are_normalised() {
    let bench = Bench::start().await;
    for form in ["urn:altinn:organization:identifier-no:910753614", "9999:910753614"] {
        let id = bench.initialize(|body| body["recipients"] = json!([form])).await;
        assert_eq!(bench.overview(&id).await["recipients"][0]["recipient"], RECIPIENT);
    }
}

#[tokio::test]
async fn s026_a_sender_in_urn_form_is_kept_and_not_found_by_its_own_search() {
    let bench = Bench::start().await;
    let urn = "urn:altinn:organization:identifier-no:991825827";
    let id = bench.initialize(|body| body["sender"] = urn.into()).await;
    assert_eq!(bench.overview(&id).await["sender"], urn);
    assert_eq!(bench.search(SENDER, "").await, Vec::<String>::new());
    assert_eq!(bench.search(RECIPIENT, "").await, [id]);
}

#[tokio::test]
async fn s027_the_resource_prefix_is_stripped() {
    let bench = Bench::start().await;
    let id =
        bench.initialize(|body| body["resourceId"] = format!("urn:altinn:resource:{RESOURCE}").into()).await;
    assert_eq!(bench.overview(&id).await["resourceId"], RESOURCE);
}

#[tokio::test]
async fn s028_another_colon_in_the_resource_is_refused() {
    let bench = Bench::start().await;
    for resource in ["a:b", "urn:altinn:resource:a:b", "urn:altinn:resource:"] {
        let reply = bench.try_initialize(|body| body["resourceId"] = resource.into()).await;
        reply.is_invalid("ResourceId", "Invalid Resource identifier format");
    }
}

#[tokio::test]
async fn s029_properties_have_limits() {
    let bench = Bench::start().await;
    let many = |count: usize| (0..count).map(|n| (n.to_string(), Value::from("v"))).collect::<Value>();
    let with = |list: Value| bench.try_initialize(move |body| body["propertyList"] = list);
    with(many(11)).await.is_invalid("PropertyList", "PropertyList can contain at most 10 properties");
    with(json!({ "k".repeat(51): "v" }))
        .await
        .is_invalid("PropertyList", "PropertyList Key can not be longer than 50. Length:51, KeyValue:kkk");
    with(json!({ "k": "v".repeat(3001) }))
        .await
        .is_invalid("PropertyList", "PropertyList Value can not be longer than 3000. Length:3001, Value:vvv");
    with(Value::Null).await.is_invalid("PropertyList", "The PropertyList field is required.");
    assert_eq!(with(many(10)).await.status, 200);
    let kept = json!({ "K".repeat(50): "v".repeat(3000) });
    let id = bench.initialize(|body| body["propertyList"] = kept.clone()).await;
    assert_eq!(bench.overview(&id).await["propertyList"], kept);
}

#[tokio::test]
async fn a_null_property_leaves_a_half_made_transfer_behind() {
    let bench = Bench::start().await;
    let reply = bench.try_initialize(|body| body["propertyList"] = json!({ "k": null })).await;
    assert_eq!(reply.status, 500);
    let found = bench.search(SENDER, "&status=Initialized&role=Sender").await;
    assert_eq!(found.len(), 1);
    assert_eq!(send(bench.get_as(SENDER, &format!("/{}", found[0]))).await.status, 500);
    // It has no expiry job, not even after a restart.
    let bench = bench.restart().await;
    let other = bench.initialize(|_| {}).await;
    bench.clock.advance(Duration::from_hours(24 * 30));
    bench.until(&other, "Purged").await;
    assert_eq!(bench.transfer(&found[0]).history.len(), 0);
}

#[tokio::test]
async fn a_body_that_is_cut_is_noted_as_no_answer() {
    use tokio::io::AsyncWriteExt as _;
    let bench = Bench::start().await;
    let address = bench.sandbox.url().strip_prefix("http://").unwrap().to_owned();
    let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
    let head = format!(
        "POST {BASE} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\nhalf",
        bench.token(SENDER)
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    drop(stream);
    eventually(|| !bench.sandbox.ledger().entries().is_empty(), || "the entry".to_owned()).await;
    let entry = bench.sandbox.ledger().entries().remove(0);
    assert_eq!((entry.operation, entry.status), ("initialize", None));
}

#[tokio::test]
async fn a_body_beyond_the_sandboxs_own_limit_is_told_so() {
    let bench = Bench::start().await;
    let reply = bench.try_initialize(|body| body["fileName"] = "x".repeat(17 * 1024 * 1024).into()).await;
    assert_eq!(reply.status, 413);
    assert!(reply.text().contains("sandbox"), "{}", reply.text());
}

#[tokio::test]
async fn s030_a_checksum_has_32_characters_and_no_upper_case() {
    let bench = Bench::start().await;
    let with = |checksum: Value| bench.try_initialize(move |body| body["checksum"] = checksum);
    with("a".repeat(31).into())
        .await
        .is_invalid("Checksum", "The checksum, if used, must be a MD5 hash with a length of 32");
    with("A".repeat(32).into())
        .await
        .is_invalid("Checksum", "The checksum, if used, must be a MD5 hash in lower case");
    for (given, shown) in [
        (json!(""), json!("")),
        (json!("  "), json!("  ")),
        (Value::Null, Value::Null),
        (json!("z".repeat(32)), json!("z".repeat(32))),
    ] {
        let id = bench.initialize(|body| body["checksum"] = given).await;
        assert_eq!(bench.overview(&id).await["checksum"], shown);
    }
    let id = bench.initialize(|_| {}).await;
    assert_eq!(bench.overview(&id).await["checksum"], "");
}

#[tokio::test]
async fn i049_an_unknown_resource_is_not_told_apart_from_a_lack_of_rights() {
    let bench = Bench::start().await;
    let unknown = bench.try_initialize(|body| body["resourceId"] = "unknown".into()).await;
    bench.resource(|resource| resource.rights.clear());
    let forbidden = bench.try_initialize(|_| {}).await;
    for reply in [&unknown, &forbidden] {
        reply.is_fault(401, 6);
    }
    let without_trace = |reply: &Reply| {
        let mut body = reply.json();
        body.as_object_mut().unwrap().remove("traceId");
        body
    };
    assert_eq!(without_trace(&unknown), without_trace(&forbidden));
    send(bench.get_as(SENDER, "?resourceId=unknown")).await.is_fault(401, 6);
}

#[tokio::test]
async fn s031_an_unknown_resource_looks_like_a_lack_of_rights() {
    let bench = Bench::start().await;
    bench.try_initialize(|body| body["resourceId"] = "unknown".into()).await.is_fault(401, 6);
}

#[tokio::test]
async fn i048_a_valid_token_without_the_right_is_401_with_a_problem() {
    let bench = Bench::start().await;
    bench.resource(|resource| drop(resource.rights.remove("991825827")));
    let reply = bench.try_initialize(|_| {}).await;
    reply.is_fault(401, 6);
    assert_eq!(reply.header("WWW-Authenticate"), None);
    assert_eq!(
        reply.json()["detail"],
        "You must use a bearer token that represents a system user with access to the resource in the Resource Rights Registry"
    );
}

#[tokio::test]
async fn s032_without_write_on_the_senders_party_it_is_401() {
    let bench = Bench::start().await;
    bench.try_initialize(|body| body["sender"] = THIRD.into()).await.is_fault(401, 6);
    // The right must be used by its owner, unless it was delegated.
    bench.permit_third();
    bench.try_initialize(|body| body["sender"] = THIRD.into()).await.is_fault(401, 6);
    bench.resource(|resource| drop(resource.rights.remove("991825827")));
    bench.try_initialize(|_| {}).await.is_fault(401, 6);
}

#[tokio::test]
async fn s033_storage_not_ready_is_503() {
    let bench = Bench::start().await;
    let id = bench.initialize(|_| {}).await;
    bench.resource(|resource| resource.storage_ready = false);
    bench.try_initialize(|_| {}).await.is_fault(503, 21);
    bench.upload(&id, "hello").await.is_fault(503, 21);
    assert_eq!(bench.status(&id).await, "Initialized");
}

#[tokio::test]
async fn s034_production_demands_a_waiver_for_unscanned_files() {
    let bench = Bench::start().await;
    assert_eq!(bench.try_initialize(|_| {}).await.status, 200);
    bench.sandbox.world(|world| world.stage = Stage::Production).unwrap();
    bench.try_initialize(|_| {}).await.is_fault(400, 20);
    assert_eq!(bench.try_initialize(|body| body["disableVirusScan"] = false.into()).await.status, 200);
    bench.resource(|resource| resource.virus_scan_waiver = true);
    assert_eq!(bench.try_initialize(|_| {}).await.status, 200);
}

#[tokio::test]
async fn s035_recipients_must_be_in_the_access_list() {
    let bench = Bench::start().await;
    bench.resource(|resource| resource.access_list = Some(["910753614".to_owned()].into()));
    assert_eq!(bench.try_initialize(|_| {}).await.status, 200);
    bench.try_initialize(|body| body["recipients"] = json!([RECIPIENT, THIRD])).await.is_fault(400, 28);
    // The list comes before the required party, and concerns recipients alone.
    bench.resource(|resource| resource.required_party = Some(SENDER.to_owned()));
    bench.try_initialize(|body| body["recipients"] = json!([THIRD])).await.is_fault(400, 28);
    bench.resource(|resource| resource.access_list = Some([].into()));
    bench.try_initialize(|_| {}).await.is_fault(400, 28);
}

#[tokio::test]
async fn s036_a_required_party_must_take_part() {
    let bench = Bench::start().await;
    bench.resource(|resource| resource.required_party = Some("0192:313579246".to_owned()));
    let to = |recipients: Value| bench.try_initialize(move |body| body["recipients"] = recipients);
    to(json!([THIRD, RECIPIENT])).await.is_fault(400, 27);
    to(json!([RECIPIENT])).await.is_fault(400, 26);
    assert_eq!(to(json!([THIRD])).await.status, 200);
    bench.resource(|resource| resource.required_party = Some("991825827".to_owned()));
    assert_eq!(to(json!([THIRD, RECIPIENT])).await.status, 200);
}

#[tokio::test]
async fn setup_faults_come_in_the_handlers_order() {
    let bench = Bench::start().await;
    bench.sandbox.world(|world| world.stage = Stage::Production).unwrap();
    bench.resource(|resource| {
        (resource.service_owner, resource.storage_ready, resource.registered) = (false, false, false);
    });
    bench.try_initialize(|_| {}).await.is_fault(400, 2);
    bench.resource(|resource| resource.service_owner = true);
    bench.try_initialize(|_| {}).await.is_fault(400, 20);
    bench.resource(|resource| resource.virus_scan_waiver = true);
    bench.try_initialize(|_| {}).await.is_fault(503, 21);
    bench.resource(|resource| resource.storage_ready = true);
    bench.try_initialize(|_| {}).await.is_fault(403, 5);
}

#[tokio::test]
async fn s037_a_transfer_expires_after_the_time_to_live_of_its_resource() {
    let bench = Bench::start().await;
    let usual = bench.initialize(|_| {}).await;
    assert_eq!(bench.overview(&usual).await["expirationTime"], "2026-09-17T11:40:01.5+00:00");
    bench.resource(|resource| resource.time_to_live = Some(Duration::from_mins(1)));
    let short = bench.initialize(|_| {}).await;
    assert_eq!(bench.overview(&short).await["expirationTime"], "2026-08-18T11:41:01.5+00:00");
    assert_eq!(bench.overview(&usual).await["expirationTime"], "2026-09-17T11:40:01.5+00:00");
}

#[tokio::test]
async fn s038_unknown_members_are_ignored_and_case_does_not_matter() {
    let bench = Bench::start().await;
    let id = bench
        .initialize(|body| {
            body["somethingElse"] = json!({ "deep": [1] });
            let name = body.as_object_mut().unwrap().remove("fileName").unwrap();
            body["FILENAME"] = name;
        })
        .await;
    assert_eq!(bench.overview(&id).await["fileName"], "a.txt");
}

#[tokio::test]
async fn broken_json_and_wrong_types_name_their_place() {
    let bench = Bench::start().await;
    for (text, place) in [
        (r#"{"fileName": "a","#, "$"),
        (r#"{"fileName": "a",}"#, "$"),
        ("[]", "$"),
        (r#"{"fileName": 5}"#, "$.fileName"),
        (r#"{"fileName": "a", "recipients": "x"}"#, "$.recipients"),
    ] {
        let request = bench.post_as(SENDER, "").header("Content-Type", "application/json").body(text);
        let reply = send(request).await;
        reply.is_invalid(place, "The JSON value");
        reply.is_invalid("initializeExt", "The initializeExt field is required.");
    }
    let empty = bench.post_as(SENDER, "").header("Content-Type", "application/json");
    send(empty).await.is_invalid("", "A non-empty request body is required.");
    let request = bench.http.post(bench.url(BASE)).bearer_auth(bench.token(SENDER)).json(&json!({}));
    send(request).await.is_invalid("Sender", "The Sender field is required.");
}
