//! Events that go wrong, by rule.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::receiver::Heard;
use super::{RECIPIENT, SENDER, SUBSCRIPTIONS, Stage, as_token, token};
use crate::sandbox::tests::faults::put;
use crate::sandbox::tests::support::{self, Bench};

const PUBLISHED: &str = "no.altinn.broker.published";

async fn with_rule(effect: &str, amount: u64, organization: &str) -> Stage {
    let stage = Stage::start().await;
    let rule = json!({ "effect": effect, "amount": amount, "organization": organization });
    put(&stage.bench, rule).await;
    stage
}

/// Type and transfer of what was delivered to a path.
fn rows(heard: &[Heard]) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    heard
        .iter()
        .map(Heard::json)
        .map(|event| (text(&event["type"]), text(&event["resourceinstance"])))
        .collect()
}

#[tokio::test]
async fn s126_a_lost_event_is_nowhere() {
    let stage = with_rule("event-lost", 1, RECIPIENT).await;
    stage.subscribe(RECIPIENT, "/lost", |_| {}).await;
    stage.subscribe(SENDER, "/kept", |_| {}).await;
    let id = stage.publish().await;
    assert!(stage.receiver.events("/lost").is_empty());
    assert_eq!(stage.receiver.events("/kept").len(), 2);
    assert_eq!(stage.bench.count_events(&id, "published"), 1, "that of the sender");
    assert_eq!(stage.bench.search(support::RECIPIENT, "&status=Published").await, [id], "polling finds it");
}

#[tokio::test]
async fn e010_s125_when_authorization_is_down_it_is_down_for_events() {
    let stage = Stage::start().await;
    stage.subscribe(SENDER, "/hook", |_| {}).await;
    stage.subscribe(RECIPIENT, "/other", |_| {}).await;
    let id = stage.bench.initialize(|_| {}).await;
    stage.settle().await;
    assert_eq!(stage.receiver.events("/hook").len(), 1);
    let transfer = stage.bench.transfer(&id);
    put(&stage.bench, json!({ "effect": "authorization-down", "organization": SENDER })).await;
    assert_eq!(stage.try_subscribe(SENDER, "/more", |_| {}).await.status, 403);
    assert_eq!(stage.try_subscribe(RECIPIENT, "/more", |_| {}).await.status, 201);
    stage.bench.sandbox.site.tell_sender("uploadfailed", &transfer);
    stage.bench.sandbox.site.tell_recipient("published", &transfer, support::RECIPIENT);
    stage.settle().await;
    let counts = ["/hook", "/other"].map(|path| stage.receiver.events(path).len());
    assert_eq!(counts, [1, 1], "only the sender's is not delivered");
    stage.advance(Duration::from_secs(30));
    let pulled = async |organization: &str| {
        let path = "/events/api/v1/events?resource=urn:altinn:resource:sandbox-files&after=0";
        let reply = as_token(&stage.bench, Method::GET, path, &token(&stage.bench, organization)).await;
        reply.json().as_array().unwrap().len()
    };
    assert_eq!((pulled(SENDER).await, pulled(RECIPIENT).await), (0, 1));
}

#[tokio::test]
async fn s126_a_doubled_publication_has_one_id_and_other_events_have_two() {
    let stage = with_rule("event-doubled", 1, SENDER).await;
    stage.subscribe(SENDER, "/hook", |_| {}).await;
    let id = stage.publish().await;
    let heard = stage.receiver.events("/hook");
    let ids = |published: bool| -> Vec<Value> {
        let of_kind = heard.iter().filter(|heard| (heard.kind() == PUBLISHED) == published);
        of_kind.map(|heard| heard.json()["id"].clone()).collect()
    };
    let (published, initialized) = (ids(true), ids(false));
    assert!(published.len() == 2 && published[0] == published[1], "{published:?}");
    assert!(initialized.len() == 2 && initialized[0] != initialized[1], "{initialized:?}");
    let stored = stage.bench.sandbox.events().iter().filter(|it| it.organization == SENDER).count();
    assert_eq!((stored, stage.bench.count_events(&id, "filetransferinitialized")), (3, 2));
}

#[tokio::test]
async fn s126_a_lost_delivery_is_pushed_to_nobody_and_can_be_pulled() {
    let stage = with_rule("delivery-lost", 1, RECIPIENT).await;
    stage.subscribe(RECIPIENT, "/lost", |_| {}).await;
    stage.subscribe(SENDER, "/kept", |_| {}).await;
    let id = stage.publish().await;
    assert_eq!(["/lost", "/kept"].map(|path| stage.receiver.events(path).len()), [0, 2]);
    stage.advance(Duration::from_secs(30));
    let path = "/events/api/v1/events?resource=urn:altinn:resource:sandbox-files&after=0";
    let pulled = as_token(&stage.bench, Method::GET, path, &token(&stage.bench, RECIPIENT)).await.json();
    assert_eq!((pulled.as_array().unwrap().len(), &pulled[0]["resourceinstance"]), (1, &id.as_str().into()));
}

#[tokio::test]
async fn a_rule_can_name_the_kind_and_the_transfer_of_an_event() {
    let stage = Stage::start().await;
    stage.subscribe(SENDER, "/hook", |_| {}).await;
    let id = stage.bench.initialize(|_| {}).await;
    put(
        &stage.bench,
        json!([
            { "effect": "delivery-lost", "event": "published", "transfer": id },
            { "effect": "event-doubled", "event": "downloadconfirmed", "organization": SENDER },
        ]),
    )
    .await;
    stage.bench.upload(&id, "hello").await;
    stage.bench.download(support::RECIPIENT, &id, None).await;
    stage.bench.confirm(support::RECIPIENT, &id).await;
    let other = stage.publish().await;
    let mut heard = rows(&stage.receiver.events("/hook"));
    heard.sort_unstable();
    let row = |kind: &str, id: &str| (format!("no.altinn.broker.{kind}"), id.to_owned());
    let mut wanted =
        ["allconfirmeddownloaded", "downloadconfirmed", "downloadconfirmed", "filetransferinitialized"]
            .map(|kind| row(kind, &id))
            .to_vec();
    wanted.extend(["filetransferinitialized", "published"].map(|kind| row(kind, &other)));
    wanted.sort_unstable();
    assert_eq!(heard, wanted);
    let wrong = json!({ "effect": "event-lost", "event": "Published" });
    let error = crate::sandbox::FaultRules::from_json(wrong).unwrap_err().to_string();
    assert!(error.contains("`event` must be") && error.contains("published"), "{error}");
}

#[tokio::test]
async fn s126_a_doubled_delivery_is_the_same_event_of_whatever_kind() {
    let stage = with_rule("delivery-doubled", 1, SENDER).await;
    stage.subscribe(SENDER, "/hook", |_| {}).await;
    let id = stage.publish().await;
    let heard: Vec<Value> = stage.receiver.events("/hook").iter().map(Heard::json).collect();
    let kinds = ["no.altinn.broker.filetransferinitialized", PUBLISHED];
    for kind in kinds {
        let of_kind: Vec<&Value> = heard.iter().filter(|event| event["type"] == kind).collect();
        assert!(of_kind.len() == 2 && of_kind[0] == of_kind[1], "{heard:?}");
    }
    assert_eq!((heard.len(), stage.bench.events(&id).len()), (4, 3), "it is registered once");
}

#[tokio::test]
async fn s126_a_late_event_comes_out_of_order() {
    let stage = Stage::start().await;
    stage.subscribe(SENDER, "/hook", |_| {}).await;
    let id = stage.bench.initialize(|_| {}).await;
    put(
        &stage.bench,
        json!({ "effect": "event-late", "amount": 60_000, "organization": SENDER, "times": 1 }),
    )
    .await;
    stage.bench.upload(&id, "hello").await;
    stage.bench.download(support::RECIPIENT, &id, None).await;
    stage.bench.confirm(support::RECIPIENT, &id).await;
    stage.settle().await;
    assert_eq!(stage.receiver.events("/hook").len(), 3);
    stage.advance(Duration::from_mins(1));
    let heard = stage.until_heard("/hook", 4).await;
    assert_eq!(rows(&heard)[3], (PUBLISHED.to_owned(), id));
    assert_eq!(heard[3].json()["time"], "2026-08-18T11:41:01.5Z", "it was sent only then");
}

#[tokio::test]
async fn e033_an_event_can_come_before_its_state_can_be_read() {
    let stage = Stage::start().await;
    stage.subscribe(RECIPIENT, "/hook", |_| {}).await;
    put(&stage.bench, json!({ "effect": "event-early", "amount": 5000, "organization": RECIPIENT })).await;
    let id = stage.publish().await;
    assert_eq!(rows(&stage.receiver.events("/hook")), [(PUBLISHED.to_owned(), id.clone())]);
    let bench: &Bench = &stage.bench;
    let overview = bench.overview(&id).await;
    assert_eq!(overview["fileTransferStatus"], "UploadStarted");
    assert_eq!((&overview["fileTransferSize"], &overview["checksum"]), (&0.into(), &Value::Null));
    assert!(bench.search(support::RECIPIENT, "&status=Published").await.is_empty());
    bench.download(support::RECIPIENT, &id, None).await.is_fault(403, 7);
    stage.advance(Duration::from_secs(5));
    assert_eq!(bench.status(&id).await, "Published");
    assert_eq!(bench.search(support::RECIPIENT, "&status=Published").await, [id.as_str()]);
    bench.download(support::RECIPIENT, &id, None).await;
    bench.confirm(support::RECIPIENT, &id).await;
    let recipient =
        async || bench.overview(&id).await["recipients"][0]["currentRecipientFileTransferStatusCode"].clone();
    assert_eq!(recipient().await, "DownloadStarted");
    stage.advance(Duration::from_secs(5));
    assert_eq!(recipient().await, "DownloadConfirmed");
}

#[tokio::test]
async fn e033_a_new_subscription_can_be_silent() {
    let stage = with_rule("subscription-silent", 3_600_000, SENDER).await;
    let id = stage.subscribe(SENDER, "/hook", |_| {}).await;
    assert_eq!(stage.subscription(SENDER, id).await["validated"], true);
    stage.publish().await;
    stage.advance(Duration::from_secs(3599));
    stage.publish().await;
    assert!(stage.receiver.events("/hook").is_empty());
    stage.advance(Duration::from_secs(1));
    stage.publish().await;
    assert_eq!(stage.receiver.events("/hook").len(), 2);
}

#[tokio::test]
async fn e033_a_deleted_subscription_can_linger() {
    let stage = with_rule("subscription-lingers", 3_600_000, SENDER).await;
    let id = stage.subscribe(SENDER, "/hook", |_| {}).await;
    let (path, token) = (format!("{SUBSCRIPTIONS}/{id}"), token(&stage.bench, SENDER));
    as_token(&stage.bench, Method::DELETE, &path, &token).await.is_bare(200);
    as_token(&stage.bench, Method::GET, &path, &token).await.is_bare(404);
    stage.advance(Duration::from_secs(3599));
    stage.publish().await;
    assert_eq!(stage.receiver.events("/hook").len(), 2);
    stage.advance(Duration::from_secs(1));
    stage.publish().await;
    assert_eq!(stage.receiver.events("/hook").len(), 2);
}
