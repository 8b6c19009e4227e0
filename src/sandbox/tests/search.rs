//! Search.

use std::time::Duration;

use super::support::{Bench, RECIPIENT, RESOURCE, SENDER, THIRD, send};

const NONE: [&str; 0] = [];
const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn s064_a_resource_must_be_named() {
    let bench = Bench::start().await;
    for query in ["", "?resourceId=", "?status=Published"] {
        send(bench.get_as(SENDER, query)).await.is_invalid("resourceId", "The resourceId field is required.");
    }
}

#[tokio::test]
async fn s065_search_knows_bare_resource_ids_only() {
    let bench = Bench::start().await;
    let query = format!("?resourceId=urn%3Aaltinn%3Aresource%3A{RESOURCE}");
    send(bench.get_as(SENDER, &query)).await.is_fault(401, 6);
    send(bench.get_as(SENDER, "?resourceId=unknown")).await.is_fault(401, 6);
    assert_eq!(send(bench.get_as(SENDER, &format!("?RESOURCEID={RESOURCE}"))).await.status, 200);
}

#[tokio::test]
async fn s066_no_hits_is_an_empty_list() {
    let bench = Bench::start().await;
    assert_eq!(bench.search(SENDER, "").await, NONE);
    bench.permit_third();
    assert_eq!(bench.search(THIRD, "").await, NONE);
}

#[tokio::test]
async fn s067_search_is_limited_to_100() {
    let bench = Bench::start().await;
    let mut ids = Vec::new();
    for _ in 0..150 {
        ids.push(bench.initialize(|_| {}).await);
        bench.clock.advance(SECOND);
    }
    assert_eq!(bench.search(SENDER, "&orderAscending=true").await, ids[..100]);
    ids.reverse();
    assert_eq!(bench.search(SENDER, "").await, ids[..100]);
    assert_eq!(bench.search(SENDER, "&orderAscending=false").await, ids[..100]);
}

#[tokio::test]
async fn s068_enums_bind_by_name_in_any_case_or_by_number() {
    let bench = Bench::start().await;
    let id = bench.publish("hello").await;
    for query in ["&status=Published", "&status=published", "&status=3", "&Status=PUBLISHED", "&status="] {
        assert_eq!(bench.search(SENDER, query).await, [id.as_str()], "{query}");
    }
    assert_eq!(bench.search(RECIPIENT, "&recipientStatus=0&status=3").await, [id.as_str()]);
    assert_eq!(bench.search(RECIPIENT, "&role=0").await, [id]);
    for (query, member) in [
        ("status=Foo", "status"),
        ("status=8", "status"),
        ("recipientStatus=3", "recipientStatus"),
        ("role=Owner", "role"),
        ("from=yesterday", "from"),
        ("to=2026-13-01", "to"),
        ("orderAscending=maybe", "orderAscending"),
    ] {
        let reply = send(bench.get_as(SENDER, &format!("?resourceId={RESOURCE}&{query}"))).await;
        reply.is_invalid(member, "The value '");
    }
}

#[tokio::test]
async fn s069_times_are_those_of_the_status_or_of_creation() {
    let bench = Bench::start().await;
    let late = bench.initialize(|_| {}).await;
    bench.clock.advance(SECOND);
    let early = bench.publish("hello").await;
    bench.clock.advance(SECOND);
    assert_eq!(bench.upload(&late, "hello").await.status, 200);
    // Created at :01.5 and :02.5, published at :03.5 and :02.5.
    assert_eq!(bench.search(SENDER, "&orderAscending=true").await, [late.clone(), early.clone()]);
    assert_eq!(
        bench.search(SENDER, "&orderAscending=true&status=Published").await,
        [early.clone(), late.clone()]
    );
    assert_eq!(bench.search(SENDER, "&from=2026-08-18T11:40:03").await, NONE);
    assert_eq!(bench.search(SENDER, "&from=2026-08-18T11:40:03&status=Published").await, [late]);
    assert_eq!(bench.search(SENDER, "&from=2026-08-18T11:40:02").await, [early]);
}

#[tokio::test]
async fn s070_one_bound_excludes_and_two_include() {
    let bench = Bench::start().await;
    let id = bench.initialize(|_| {}).await;
    let at = "2026-08-18T11:40:01.5%2B00:00";
    assert_eq!(bench.search(SENDER, &format!("&from={at}")).await, NONE);
    assert_eq!(bench.search(SENDER, &format!("&to={at}")).await, NONE);
    assert_eq!(bench.search(SENDER, &format!("&from={at}&to={at}")).await, [id.as_str()]);
    assert_eq!(bench.search(SENDER, "&from=2026-08-18T13:40:01.4%2B02:00").await, [id.as_str()]);
    assert_eq!(bench.search(SENDER, "&from=2026-08-18").await, [id]);
    // A plus sign that was not encoded is a space, and no date.
    let reply =
        send(bench.get_as(SENDER, &format!("?resourceId={RESOURCE}&from=2026-08-18T11:40:01.5+00:00"))).await;
    reply.is_invalid("from", "The value '2026-08-18T11:40:01.5 00:00' is not valid.");
}

#[tokio::test]
async fn s071_a_recipient_status_asks_as_recipient_alone() {
    let bench = Bench::start().await;
    let id = bench.publish("hello").await;
    assert_eq!(bench.search(RECIPIENT, "&recipientStatus=Initialized&role=Sender").await, [id]);
    assert_eq!(bench.search(SENDER, "&recipientStatus=Initialized&role=Sender").await, NONE);
}

#[tokio::test]
async fn s072_search_goes_by_the_last_row_and_the_overview_by_the_highest() {
    let bench = Bench::start().await;
    bench.permit_third();
    let id =
        bench.publish_with("hello", |body| body["recipients"] = serde_json::json!([RECIPIENT, THIRD])).await;
    bench.download(RECIPIENT, &id, None).await;
    assert_eq!(bench.search(RECIPIENT, "&recipientStatus=DownloadStarted").await, [id.as_str()]);
    assert_eq!(bench.confirm(RECIPIENT, &id).await.status, 204);
    assert_eq!(bench.search(RECIPIENT, "&recipientStatus=DownloadConfirmed").await, [id.as_str()]);
    bench.download(RECIPIENT, &id, None).await;
    assert_eq!(bench.search(RECIPIENT, "&recipientStatus=DownloadStarted").await, [id.as_str()]);
    let overview = bench.overview(&id).await;
    let entry =
        overview["recipients"].as_array().unwrap().iter().find(|it| it["recipient"] == RECIPIENT).unwrap();
    assert_eq!(entry["currentRecipientFileTransferStatusCode"], "DownloadConfirmed");
}

#[tokio::test]
async fn s073_roles_choose_between_own_and_received() {
    let bench = Bench::start().await;
    let own = bench.initialize(|body| body["recipients"] = serde_json::json!([SENDER])).await;
    bench.clock.advance(SECOND);
    let sent = bench.initialize(|_| {}).await;
    assert_eq!(bench.search(SENDER, "&role=Sender").await, [sent.clone(), own.clone()]);
    assert_eq!(bench.search(SENDER, "&role=Recipient").await, [own.as_str()]);
    assert_eq!(bench.search(SENDER, "").await, [sent.clone(), own]);
    assert_eq!(bench.search(RECIPIENT, "&role=Recipient").await, [sent]);
    assert_eq!(bench.search(RECIPIENT, "&role=Sender").await, NONE);
}

#[tokio::test]
async fn s074_published_does_not_list_what_all_have_confirmed() {
    let bench = Bench::start().await;
    let id = bench.publish("hello").await;
    bench.download(RECIPIENT, &id, None).await;
    bench.confirm(RECIPIENT, &id).await;
    assert_eq!(bench.search(RECIPIENT, "&status=Published").await, NONE);
    assert_eq!(bench.search(RECIPIENT, "&status=AllConfirmedDownloaded").await, [id]);
}

#[tokio::test]
async fn s075_a_recipient_finds_what_is_only_initialized() {
    let bench = Bench::start().await;
    let id = bench.initialize(|_| {}).await;
    assert_eq!(bench.search(RECIPIENT, "").await, [id]);
}
