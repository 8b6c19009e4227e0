//! What is pushed, to whom, and how often.

use std::time::Duration;

use reqwest::Method;
use serde_json::Value;

use super::receiver::{Answer, Heard};
use super::{RECIPIENT, SENDER, SUBSCRIPTIONS, Stage, THIRD, as_token, system_user_token, token};
use crate::sandbox::events::Delivery;
use crate::sandbox::tests::support::{self, eventually};

const PUBLISHED: &str = "no.altinn.broker.published";
/// The waits between the twelve attempts, in seconds.
const WAITS: [u64; 11] = [10, 30, 60, 300, 600, 1800, 3600, 10_800, 21_600, 43_200, 43_200];

fn published_only(wish: &mut Value) {
    wish["typeFilter"] = PUBLISHED.into();
}

fn is_of(id: i64) -> impl Fn(&Delivery) -> bool {
    move |attempt| i64::from(attempt.subscription) == id && attempt.kind == PUBLISHED
}

#[tokio::test]
async fn e028_s122_published_goes_to_the_sender_and_each_recipient() {
    let stage = Stage::start().await;
    stage.permit(THIRD);
    for organization in [SENDER, RECIPIENT, THIRD] {
        stage.subscribe(organization, "/hook", published_only).await;
    }
    let both = [support::RECIPIENT, support::THIRD];
    let id = stage.bench.publish_with("hello", |body| body["recipients"] = both.as_slice().into()).await;
    let heard = stage.until_heard("/hook", 3).await;
    let mut rows: Vec<(String, String)> = heard
        .iter()
        .map(Heard::json)
        .inspect(|event| {
            assert_eq!(
                (&event["type"], &event["resourceinstance"]),
                (&PUBLISHED.into(), &id.as_str().into())
            );
        })
        .map(|event| {
            (
                event["subject"].as_str().unwrap().to_owned(),
                event["data"]["Role"].as_str().unwrap().to_owned(),
            )
        })
        .collect();
    rows.sort_unstable();
    let row = |number: &str, role: &str| {
        (format!("urn:altinn:organization:identifier-no:{number}"), role.to_owned())
    };
    assert_eq!(rows, [row(THIRD, "Recipient"), row(RECIPIENT, "Recipient"), row(SENDER, "Sender")]);
}

#[tokio::test]
async fn e028_the_event_is_a_cloud_event_with_all_its_members() {
    let stage = Stage::start().await;
    stage.subscribe(RECIPIENT, "/hook", |_| {}).await;
    let transfer = stage.bench.publish("hello").await;
    let heard = stage.until_heard("/hook", 1).await.remove(0);
    assert_eq!(heard.headers["content-type"], "application/json; charset=utf-8");
    let event = heard.json();
    assert!(event["id"].as_str().unwrap().parse::<uuid::Uuid>().is_ok());
    let expected = serde_json::json!({
        "specversion": "1.0", "id": event["id"], "type": PUBLISHED, "time": "2026-08-18T11:40:01.5Z",
        "resource": "urn:altinn:resource:sandbox-files", "resourceinstance": transfer,
        "subject": "urn:altinn:organization:identifier-no:910753614",
        "source": stage.bench.url("/broker/api/v1/filetransfer"),
        "datacontenttype": "application/json", "data": { "Role": "Recipient" },
    });
    assert_eq!(event, expected);
}

#[tokio::test]
async fn e029_a_type_in_the_wrong_case_matches_nothing() {
    let stage = Stage::start().await;
    for wrong in
        ["no.altinn.broker.Published", "published", "no.altinn.broker.%", "", "no.altinn.broker.published "]
    {
        stage.subscribe(SENDER, "/hook", |wish| wish["typeFilter"] = wrong.into()).await;
    }
    stage.publish().await;
    assert!(stage.receiver.events("/hook").is_empty());
}

#[tokio::test]
async fn e030_two_matching_subscriptions_deliver_the_same_id_twice() {
    let stage = Stage::start().await;
    let one = stage.subscribe(SENDER, "/hook", |wish| wish["typeFilter"] = PUBLISHED.into()).await;
    let other = stage.subscribe(SENDER, "/hook", |_| {}).await;
    assert_ne!(one, other);
    stage.bench.publish("hello").await;
    // Initialised once, published twice.
    let heard = stage.until_heard("/hook", 3).await;
    let ids: Vec<Value> = heard
        .iter()
        .filter(|heard| heard.kind() == PUBLISHED)
        .map(|heard| heard.json()["id"].clone())
        .collect();
    assert!(ids.len() == 2 && ids[0] == ids[1], "{ids:?}");
}

#[tokio::test]
async fn e031_a_failed_delivery_is_tried_twelve_times() {
    let stage = Stage::start().await;
    let mut ids = Vec::new();
    for status in [301, 404, 410, 429, 500] {
        let path = format!("/{status}");
        ids.push(stage.subscribe(SENDER, &path, published_only).await);
        stage.receiver.answer(&path, Answer::Status(status));
    }
    stage.bench.publish("hello").await;
    for (failures, wait) in WAITS.into_iter().enumerate() {
        stage.until_attempts(|attempt| attempt.kind == PUBLISHED, ids.len() * (failures + 1)).await;
        stage.advance(Duration::from_secs(wait - 1));
        stage.settle().await;
        let waiting = stage.attempts(|attempt| attempt.kind == PUBLISHED).len();
        assert_eq!(waiting, ids.len() * (failures + 1), "none comes too early");
        stage.advance(Duration::from_secs(1));
    }
    for id in ids {
        let attempts = stage.until_attempts(is_of(id), 12).await;
        let numbers: Vec<_> = attempts.iter().map(|attempt| attempt.attempt).collect();
        assert_eq!(numbers, (1..=12).collect::<Vec<_>>());
        let gaps = attempts.windows(2).map(|pair| pair[1].time.duration_since(pair[0].time).as_secs());
        assert_eq!(gaps.collect::<Vec<_>>(), WAITS.map(u64::cast_signed));
        assert_eq!(attempts[11].next, None);
    }
    // Dropped: time brings no more of it, and it is not sent to an endpoint that is well again.
    stage.receiver.answer("/500", Answer::Status(200));
    stage.advance(Duration::from_hours(100));
    stage.publish().await;
    assert_eq!(stage.receiver.events("/500").len(), 13);
}

#[tokio::test]
async fn e031_it_is_delivered_as_soon_as_the_endpoint_is_well_again() {
    let stage = Stage::start().await;
    let id = stage.subscribe(SENDER, "/hook", published_only).await;
    stage.receiver.answer("/hook", Answer::Status(503));
    stage.bench.publish("hello").await;
    stage.until_attempts(is_of(id), 1).await;
    stage.receiver.answer("/hook", Answer::Status(202));
    stage.advance(Duration::from_secs(10));
    let attempts = stage.until_attempts(is_of(id), 2).await;
    assert_eq!((attempts[1].status, attempts[1].next), (Some(202), None));
    assert_eq!(attempts[0].event, attempts[1].event, "a repetition has the same id");
}

#[tokio::test]
async fn e031_a_time_out_is_a_failure_and_holds_up_nobody_else() {
    let stage = Stage::start().await;
    let slow = stage.subscribe(SENDER, "/slow", published_only).await;
    stage.receiver.answer("/slow", Answer::Silence);
    stage.subscribe(SENDER, "/quick", published_only).await;
    for _ in 0..3 {
        stage.bench.publish("hello").await;
    }
    stage.until_heard("/quick", 3).await;
    eventually(|| stage.receiver.events("/slow").len() == 3, || "the slow ones".to_owned()).await;
    assert!(stage.attempts(is_of(slow)).is_empty());
    stage.advance(Duration::from_secs(45));
    let attempts = stage.until_attempts(is_of(slow), 3).await;
    assert!(
        attempts.iter().all(|attempt| attempt.status.is_none() && attempt.next.is_some()),
        "{attempts:?}"
    );
}

#[tokio::test]
async fn e031_a_slow_endpoint_does_not_hold_up_others_even_when_it_is_full() {
    let stage = Stage::start().await;
    stage.subscribe(SENDER, "/slow", |_| {}).await;
    stage.receiver.answer("/slow", Answer::Silence);
    stage.subscribe(SENDER, "/quick", published_only).await;
    // Two events each: more than are in flight to one endpoint.
    for _ in 0..12 {
        stage.bench.publish("hello").await;
    }
    stage.until_heard("/quick", 12).await;
    assert_eq!(stage.until_heard("/slow", 16).await.len(), 16);
    stage.advance(Duration::from_secs(45));
    stage.until_heard("/slow", 24).await;
}

#[tokio::test]
async fn e032_nothing_proves_where_a_delivery_comes_from() {
    let stage = Stage::start().await;
    stage.subscribe(SENDER, "/hook", |_| {}).await;
    stage.publish().await;
    for heard in stage.receiver.heard("/hook") {
        let mut names: Vec<&str> = heard.headers.keys().map(reqwest::header::HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["accept", "content-length", "content-type", "host"]);
    }
}

#[tokio::test]
async fn e034_slack_gets_its_own_form() {
    let stage = Stage::start().await;
    stage.subscribe(SENDER, "/hooks.slack.com/services/x", published_only).await;
    stage.bench.publish("hello").await;
    let all = || stage.receiver.heard("/hooks.slack.com/services/x");
    eventually(|| all().len() == 2, || "a validation and an event".to_owned()).await;
    for (heard, kind) in all().iter().zip([super::VALIDATION, PUBLISHED]) {
        let body = heard.json();
        assert_eq!(body.as_object().unwrap().len(), 1, "{body}");
        let event: Value = serde_json::from_str(body["text"].as_str().unwrap()).unwrap();
        assert_eq!(event["type"], kind);
    }
}

#[tokio::test]
async fn a_refused_event_is_dropped_for_that_subscriber() {
    let stage = Stage::start().await;
    let token = system_user_token(&stage.bench, SENDER);
    let mut wish = stage.wish(SENDER, "/hook");
    published_only(&mut wish);
    assert_eq!(super::subscribe(&stage.bench, &token, &wish).await.status, 201);
    stage.until_attempts(|_| true, 1).await;
    stage.publish().await;
    stage.bench.sandbox.world(|world| world.system_users[0].approved = false).unwrap();
    stage.publish().await;
    stage.bench.sandbox.world(|world| world.system_users[0].approved = true).unwrap();
    stage.advance(Duration::from_hours(50));
    let third = stage.publish().await;
    let heard = stage.receiver.events("/hook");
    assert_eq!(heard.len(), 2, "the second is not made up for");
    assert_eq!(heard[1].json()["resourceinstance"], third.as_str());
}

#[tokio::test]
async fn a_deleted_subscription_gets_what_is_on_its_way_and_nothing_new() {
    let stage = Stage::start().await;
    let id = stage.subscribe(SENDER, "/hook", published_only).await;
    stage.receiver.answer("/hook", Answer::Status(500));
    stage.publish().await;
    stage.until_attempts(is_of(id), 1).await;
    let path = format!("{SUBSCRIPTIONS}/{id}");
    as_token(&stage.bench, Method::DELETE, &path, &token(&stage.bench, SENDER)).await.is_bare(200);
    stage.publish().await;
    stage.advance(Duration::from_secs(10));
    stage.until_attempts(is_of(id), 2).await;
    stage.publish().await;
    assert_eq!(stage.receiver.events("/hook").len(), 2);
}

#[tokio::test]
async fn sub_units_are_heard_of_when_they_are_asked_for() {
    let stage = Stage::start().await;
    stage.bench.permit_third();
    stage
        .bench
        .sandbox
        .world(|world| {
            let mut unit = world.organizations[1].clone();
            (unit.number, unit.name, unit.parent) =
                (THIRD.to_owned(), "avdeling".to_owned(), Some(RECIPIENT.to_owned()));
            world.organizations.push(unit);
        })
        .unwrap();
    stage.subscribe(RECIPIENT, "/main", |_| {}).await;
    stage.subscribe(RECIPIENT, "/all", |wish| wish["includeSubunits"] = true.into()).await;
    let id = stage
        .bench
        .publish_with("hello", |body| body["recipients"] = [support::THIRD].as_slice().into())
        .await;
    let heard = stage.until_heard("/all", 1).await.remove(0).json();
    assert_eq!(heard["resourceinstance"], id.as_str());
    assert_eq!(heard["subject"], format!("urn:altinn:organization:identifier-no:{THIRD}"));
    stage.publish().await;
    assert_eq!(stage.receiver.events("/main").len(), 1, "that of the main unit alone");
}

#[tokio::test]
async fn deliveries_events_and_subscriptions_can_be_looked_at() {
    let stage = Stage::start().await;
    let id = stage.subscribe(SENDER, "/hook", published_only).await;
    stage.receiver.answer("/hook", Answer::Status(500));
    let transfer = stage.bench.publish("hello").await;
    stage.until_attempts(is_of(id), 1).await;
    let lines = async |page: &str| -> Vec<Value> {
        let reply = support::send(stage.bench.request(Method::GET, &format!("/_sandbox/{page}"))).await;
        assert_eq!(reply.status, 200);
        reply.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let events = lines("events").await;
    let kinds: Vec<_> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["no.altinn.broker.filetransferinitialized", PUBLISHED, PUBLISHED]);
    let (event, subject) = (&events[1], "urn:altinn:organization:identifier-no:991825827");
    assert_eq!((&event["subject"], &event["role"]), (&subject.into(), &"Sender".into()));
    assert_eq!(
        (&event["transfer"], &event["time"]),
        (&transfer.as_str().into(), &"2026-08-18T11:40:01.5Z".into())
    );
    let subscriptions = lines("subscriptions").await;
    assert_eq!((subscriptions.len(), &subscriptions[0]["id"]), (1, &id.into()));
    let deliveries = lines("deliveries").await;
    assert_eq!(deliveries.len(), 2);
    let wanted = serde_json::json!({
        "time": "2026-08-18T11:40:01.5Z", "event": event["id"], "type": PUBLISHED, "subscription": id,
        "attempt": 1, "status": 500, "error": null, "next": "2026-08-18T11:40:11.5Z",
    });
    assert_eq!(deliveries[1], wanted);
}
