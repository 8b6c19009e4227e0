//! The validation of an endpoint.

use std::time::Duration;

use super::receiver::{Answer, Receiver};
use super::{SENDER, Stage, VALIDATION};
use crate::sandbox::events::Delivery;
use crate::sandbox::tests::support::eventually;

/// The waits between the nine attempts.
const WAITS: [u64; 8] = [1, 5, 10, 30, 60, 120, 120, 120];

#[tokio::test]
async fn e021_the_validation_event_has_four_members() {
    let stage = Stage::start().await;
    let id = stage.subscribe(SENDER, "/hook", |_| {}).await;
    let heard = stage.receiver.heard("/hook").remove(0);
    assert_eq!(heard.method, "POST");
    assert_eq!(heard.headers["content-type"], "application/json; charset=utf-8");
    let event = heard.json();
    let members: Vec<&String> = event.as_object().unwrap().keys().collect();
    assert_eq!(members, ["id", "source", "specversion", "type"]);
    assert_eq!((event["specversion"].as_str(), event["type"].as_str()), (Some("1.0"), Some(VALIDATION)));
    assert_eq!(event["source"], stage.bench.url(&format!("/events/api/v1/subscriptions/{id}")));
    assert!(event["id"].as_str().unwrap().parse::<uuid::Uuid>().is_ok());
}

#[tokio::test]
async fn e022_any_2xx_validates() {
    let stage = Stage::start().await;
    for status in [200, 202, 204] {
        let path = format!("/{status}");
        stage.receiver.answer(&path, Answer::Status(status));
        let id = stage.subscribe(SENDER, &path, |_| {}).await;
        assert_eq!(stage.subscription(SENDER, id).await["validated"], true, "{status}");
    }
}

#[tokio::test]
async fn e022_everything_else_is_tried_again_by_the_schedule() {
    let stage = Stage::start().await;
    for status in [302, 400, 404, 410, 500, 503] {
        let path = format!("/{status}");
        stage.receiver.answer(&path, Answer::Status(status));
        let id = stage.subscribe(SENDER, &path, |_| {}).await;
        assert_eq!(stage.subscription(SENDER, id).await["validated"], false, "{status}");
    }
    let of_500 = |attempt: &Delivery| attempt.status == Some(500);
    for (failures, wait) in WAITS.into_iter().enumerate() {
        // Everybody has failed so often, and now waits.
        stage.until_attempts(|_| true, 6 * (failures + 1)).await;
        stage.advance(Duration::from_secs(wait - 1));
        stage.settle().await;
        assert_eq!(stage.attempts(|_| true).len(), 6 * (failures + 1), "none comes too early");
        stage.advance(Duration::from_secs(1));
    }
    let attempts = stage.until_attempts(of_500, 9).await;
    let times: Vec<_> = attempts.iter().map(|attempt| attempt.time).collect();
    let gaps: Vec<_> = times.windows(2).map(|pair| pair[1].duration_since(pair[0]).as_secs()).collect();
    assert_eq!(gaps, WAITS.map(u64::cast_signed));
}

#[tokio::test]
async fn e022_a_later_2xx_validates() {
    let stage = Stage::start().await;
    stage.receiver.answer("/hook", Answer::Status(503));
    let id = stage.subscribe(SENDER, "/hook", |_| {}).await;
    stage.receiver.answer("/hook", Answer::Status(200));
    stage.advance(Duration::from_secs(1));
    stage.until_attempts(|_| true, 2).await;
    assert_eq!(stage.subscription(SENDER, id).await["validated"], true);
    stage.advance(Duration::from_hours(1));
    stage.settle().await;
    assert_eq!(stage.receiver.heard("/hook").len(), 2);
}

#[tokio::test]
async fn e022_an_answer_that_does_not_come_is_a_failure() {
    let stage = Stage::start().await;
    stage.receiver.answer("/hook", Answer::Silence);
    assert_eq!(stage.try_subscribe(SENDER, "/hook", |_| {}).await.status, 201);
    eventually(|| stage.receiver.heard("/hook").len() == 1, || "a validation".to_owned()).await;
    stage.advance(Duration::from_secs(44));
    // A whole round of another endpoint takes longer than noticing that time is over.
    let other = stage.subscribe(SENDER, "/other", |_| {}).await;
    let is_slow = |attempt: &Delivery| i64::from(attempt.subscription) != other;
    assert!(stage.attempts(is_slow).is_empty());
    stage.advance(Duration::from_secs(1));
    let attempt = stage.until_attempts(is_slow, 1).await.remove(0);
    assert_eq!((attempt.status, attempt.attempt), (None, 1));
    assert_eq!(attempt.next.unwrap().duration_since(attempt.time).as_secs(), 1);
}

#[tokio::test]
async fn e022_a_certificate_that_is_not_trusted_is_a_failure() {
    let stage = Stage::start().await;
    let stranger = Receiver::start().await;
    let id = stage.subscribe(SENDER, "/x", |wish| wish["endPoint"] = stranger.url("/x").into()).await;
    let attempt = stage.attempts(|_| true).remove(0);
    assert_eq!(attempt.status, None);
    assert!(attempt.error.as_ref().unwrap().contains("certificate"), "{attempt:?}");
    assert_eq!(stage.subscription(SENDER, id).await["validated"], false);
    assert!(stranger.heard("/x").is_empty());
}

#[tokio::test]
async fn e022_redirects_are_followed_as_dotnet_does() {
    let stage = Stage::start().await;
    let receiver = &stage.receiver;
    for (status, method) in [(301, "GET"), (302, "GET"), (303, "GET"), (307, "POST"), (308, "POST")] {
        let (from, to) = (format!("/from/{status}"), format!("/to/{status}"));
        receiver.answer(&from, Answer::Redirect(status, receiver.url(&to)));
        let id = stage.subscribe(SENDER, &from, |_| {}).await;
        let heard = receiver.heard(&to).remove(0);
        assert_eq!(heard.method, method, "{status}");
        assert_eq!(heard.body.is_empty(), method == "GET", "{status}");
        assert_eq!(stage.subscription(SENDER, id).await["validated"], true, "{status}");
    }
    receiver.answer("/down", Answer::Redirect(307, stage.bench.url("/_sandbox/elsewhere")));
    let id = stage.subscribe(SENDER, "/down", |_| {}).await;
    assert_eq!(stage.subscription(SENDER, id).await["validated"], false);
    assert_eq!(stage.attempts(|attempt| i64::from(attempt.subscription) == id)[0].status, Some(307));
    assert_eq!(stage.bench.sandbox.ledger().count("unknown", 404), 0, "https does not lead to http");
}

#[tokio::test]
async fn e023_until_it_is_validated_nothing_is_delivered() {
    let stage = Stage::start().await;
    stage.receiver.answer("/hook", Answer::Status(503));
    stage.subscribe(SENDER, "/hook", |_| {}).await;
    let early = stage.publish().await;
    stage.receiver.answer("/hook", Answer::Status(200));
    stage.advance(Duration::from_secs(1));
    stage.until_attempts(|attempt| attempt.attempt == 2, 1).await;
    let late = stage.publish().await;
    let heard = stage.receiver.events("/hook");
    assert_eq!(heard.len(), 2, "initialised and published");
    assert!(heard.iter().all(|heard| heard.json()["resourceinstance"] == late.as_str()), "and not {early}");
}

#[tokio::test]
async fn e024_after_nine_attempts_it_is_dead_until_an_identical_post() {
    let stage = Stage::start().await;
    stage.receiver.answer("/hook", Answer::Status(500));
    let id = stage.subscribe(SENDER, "/hook", |_| {}).await;
    for (failures, wait) in WAITS.into_iter().enumerate() {
        stage.until_attempts(|_| true, failures + 1).await;
        stage.advance(Duration::from_secs(wait));
    }
    let last = stage.until_attempts(|_| true, 9).await.pop().unwrap();
    assert_eq!((last.attempt, last.next), (9, None));
    stage.receiver.answer("/hook", Answer::Status(200));
    stage.advance(Duration::from_hours(100));
    stage.settle().await;
    assert_eq!(stage.receiver.heard("/hook").len(), 9);
    assert_eq!(stage.subscription(SENDER, id).await["validated"], false);
    assert_eq!(stage.try_subscribe(SENDER, "/hook", |_| {}).await.json()["id"], id);
    stage.until_attempts(|attempt| i64::from(attempt.subscription) == id, 10).await;
    assert_eq!(stage.subscription(SENDER, id).await["validated"], true);
}
