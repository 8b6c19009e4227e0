//! What is remembered for an hour, when the sandbox does as the real one.

use std::time::Duration;

use reqwest::Method;

use super::{SENDER, SUBSCRIPTIONS, Stage, as_token, token};

const HOUR: Duration = Duration::from_hours(1);

async fn as_really() -> Stage {
    Stage::with(|options| options.events_cache = HOUR).await
}

async fn delete(stage: &Stage, id: i64) {
    let path = format!("{SUBSCRIPTIONS}/{id}");
    as_token(&stage.bench, Method::DELETE, &path, &token(&stage.bench, SENDER)).await.is_bare(200);
}

#[tokio::test]
async fn a_new_subscription_is_silent_for_an_hour_when_there_was_none() {
    let stage = as_really().await;
    stage.publish().await;
    let id = stage.subscribe(SENDER, "/hook", |_| {}).await;
    assert_eq!(stage.subscription(SENDER, id).await["validated"], true);
    stage.advance(Duration::from_secs(3599));
    stage.publish().await;
    assert!(stage.receiver.events("/hook").is_empty());
    stage.advance(Duration::from_secs(1));
    let id = stage.publish().await;
    let heard = stage.receiver.events("/hook");
    assert_eq!(heard.len(), 2);
    assert!(heard.iter().all(|heard| heard.json()["resourceinstance"] == id.as_str()));
}

#[tokio::test]
async fn a_subscription_before_the_first_event_is_heard_at_once() {
    let stage = as_really().await;
    stage.subscribe(SENDER, "/hook", |_| {}).await;
    stage.publish().await;
    assert_eq!(stage.receiver.events("/hook").len(), 2);
}

#[tokio::test]
async fn a_deleted_subscription_is_delivered_to_for_an_hour() {
    let stage = as_really().await;
    let id = stage.subscribe(SENDER, "/hook", |_| {}).await;
    stage.publish().await;
    delete(&stage, id).await;
    stage.publish().await;
    assert_eq!(stage.receiver.events("/hook").len(), 4);
    stage.advance(HOUR);
    stage.publish().await;
    assert_eq!(stage.receiver.events("/hook").len(), 4);
}

#[tokio::test]
async fn rights_given_or_withdrawn_act_an_hour_late() {
    let stage = as_really().await;
    stage.subscribe(SENDER, "/hook", |_| {}).await;
    stage.forbid(SENDER);
    stage.publish().await;
    stage.permit(SENDER);
    stage.publish().await;
    assert!(stage.receiver.events("/hook").is_empty(), "the refusal is remembered");
    stage.advance(HOUR);
    stage.publish().await;
    stage.forbid(SENDER);
    stage.publish().await;
    assert_eq!(stage.receiver.events("/hook").len(), 4, "and so is the permission");
    stage.advance(HOUR);
    stage.publish().await;
    assert_eq!(stage.receiver.events("/hook").len(), 4);
}

#[tokio::test]
async fn the_right_is_remembered_whatever_the_subject() {
    let stage = as_really().await;
    let mut claims = super::claims(&stage.bench, SENDER);
    claims.insert("urn:altinn:org".to_owned(), stage.owner_code().into());
    let mut wish = stage.wish(SENDER, "/hook");
    wish.as_object_mut().unwrap().remove("subjectFilter");
    assert_eq!(super::subscribe(&stage.bench, &stage.bench.sign(&claims), &wish).await.status, 201);
    stage.settle().await;
    let id = stage.bench.initialize(|_| {}).await;
    stage.bench.resource(|resource| resource.owner = None);
    assert_eq!(stage.bench.upload(&id, "hello").await.status, 200);
    stage.settle().await;
    // Asked about the sender alone, known for the recipient, too.
    assert_eq!(stage.receiver.events("/hook").len(), 3);
}

#[tokio::test]
async fn nothing_is_remembered_unless_that_is_asked_for() {
    let stage = Stage::start().await;
    stage.publish().await;
    let id = stage.subscribe(SENDER, "/hook", |_| {}).await;
    stage.publish().await;
    assert_eq!(stage.receiver.events("/hook").len(), 2);
    stage.forbid(SENDER);
    stage.publish().await;
    assert_eq!(stage.receiver.events("/hook").len(), 2);
    stage.permit(SENDER);
    stage.publish().await;
    assert_eq!(stage.receiver.events("/hook").len(), 4);
    delete(&stage, id).await;
    stage.publish().await;
    assert_eq!(stage.receiver.events("/hook").len(), 4);
}
