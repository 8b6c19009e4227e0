//! What a restart keeps, and what is wrong with the settings.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use reqwest::Method;
use serde_json::json;
use tokio::task::JoinSet;

use super::{RECIPIENT, SENDER, SUBSCRIPTIONS, Stage, as_token, token};
use crate::sandbox::events::save;
use crate::sandbox::tests::faults::put;
use crate::sandbox::tests::support::{Bench, PATIENCE, eventually};
use crate::sandbox::{Clock, Error, Options, Sandbox};

#[tokio::test]
async fn events_are_kept_over_restarts_even_with_a_line_cut_short() {
    let bench = Bench::start().await;
    bench.publish("hello").await;
    let before = bench.sandbox.events();
    assert_eq!(before.len(), 3);
    let bench = bench.restart().await;
    assert_eq!(bench.sandbox.events(), before);
    let path = bench.sandbox.dir().join("events.jsonl");
    let mut text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().filter(|line| !line.is_empty()).count(), 3);
    text.truncate(text.len() - 10);
    std::fs::write(&path, text).unwrap();
    let bench = bench.restart().await;
    assert_eq!(bench.sandbox.events(), before[..2]);
    bench.publish("hello").await;
    let after = bench.sandbox.events();
    let bench = bench.restart().await;
    assert_eq!(bench.sandbox.events(), after);
}

#[tokio::test]
async fn old_events_are_gone_from_the_file_as_well() {
    let bench = Bench::start().await;
    bench.publish("hello").await;
    bench.clock.advance(std::time::Duration::from_hours(92 * 24));
    let old = |bench: &Bench| bench.sandbox.events().iter().filter(|event| event.kind == "published").count();
    super::eventually(|| old(&bench) == 0, || "the night".to_owned()).await;
    let bench = bench.restart().await;
    assert_eq!(old(&bench), 0);
}

#[tokio::test]
async fn authorities_that_cannot_be_read_are_told_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let (empty, none) = (dir.path().join("empty.pem"), dir.path().join("none.pem"));
    std::fs::write(&empty, "no certificate").unwrap();
    for path in [empty, none] {
        let options = Options {
            listen: "127.0.0.1:0".parse().unwrap(),
            trust: vec![path.clone()],
            ..Options::default()
        };
        let error = Sandbox::start(options).await.unwrap_err();
        assert!(matches!(&error, Error::Trust { path: named, .. } if *named == path), "{error:?}");
    }
}

#[tokio::test]
async fn a_stop_cuts_a_delivery_off() {
    let stage = Stage::start().await;
    stage.subscribe(SENDER, "/hook", |_| {}).await;
    stage.receiver.answer("/hook", super::receiver::Answer::Silence);
    stage.bench.publish("hello").await;
    stage.until_heard("/hook", 2).await;
    let sandbox = &stage.bench.sandbox;
    sandbox.stop.cancel();
    // Time stands still, so a delivery that is waited for would never end.
    let ended = async {
        let mut parts = sandbox.parts.lock().await;
        while parts.join_next().await.is_some_and(|part| part.unwrap() != "events") {}
    };
    tokio::time::timeout(PATIENCE, ended).await.expect("Altinn Events ends");
    eventually(|| stage.receiver.cut("/hook") == 2, || "the end of both".to_owned()).await;
    stage.bench.sandbox.stop().await;
}

#[tokio::test]
async fn a_subscription_that_nobody_waits_for_is_validated_and_kept() {
    let stage = Stage::start().await;
    let site = Arc::clone(&stage.bench.sandbox.site);
    let writing = site.events.writing().lock_owned().await;
    let wish = stage.wish(SENDER, "/hook");
    let request = stage.bench.request(Method::POST, SUBSCRIPTIONS).bearer_auth(token(&stage.bench, SENDER));
    let mut requests = JoinSet::new();
    requests.spawn(request.json(&wish).send());
    eventually(|| stage.attempts(|_| true).len() == 1, || "the validation".to_owned()).await;
    requests.shutdown().await;
    eventually(|| stage.bench.sandbox.requests_in_flight() == 0, || "the end of the request".to_owned())
        .await;
    drop(writing);
    let kept = || fs::read_to_string(site.dir.join("subscriptions.json")).unwrap_or_default();
    eventually(|| kept().contains("\"validated\": true"), || format!("a subscription in {}", kept())).await;
}

#[tokio::test]
async fn whoever_writes_keeps_its_turn_when_it_is_abandoned() {
    let bench = Bench::start().await;
    let site = &bench.sandbox.site;
    let writing = site.events.writing();
    site.events.with_subscriptions_held(|| {
        assert!(save(site).now_or_never().is_none(), "the snapshot cannot be taken yet");
        assert!(Arc::clone(&writing).try_lock_owned().is_err(), "the thread goes on, and has the turn");
    });
    eventually(|| Arc::clone(&writing).try_lock_owned().is_ok(), || "the end of the writing".to_owned())
        .await;
}

#[tokio::test]
async fn what_could_not_be_written_is_written_later() {
    let stage = Stage::start().await;
    let dir = stage.bench.sandbox.dir().to_owned();
    let (list, log) = (dir.join("subscriptions.json"), dir.join("events.jsonl"));
    // Where there is a directory there can be no file.
    for path in [&list, &log] {
        fs::create_dir_all(path.join("in the way")).unwrap();
    }
    assert_eq!(stage.try_subscribe(SENDER, "/hook", |_| {}).await.status, 500);
    stage.publish().await;
    for path in [&list, &log] {
        fs::remove_dir_all(path).unwrap();
    }
    // A writing that fails now is tried again a second from now, whenever that is.
    let later = |path: &Path| {
        stage.advance(Duration::from_secs(1));
        fs::read_to_string(path).unwrap_or_default()
    };
    eventually(|| later(&list).contains("/hook"), || "the subscription".to_owned()).await;
    eventually(|| later(&log).matches("\"id\"").count() == 3, || "the events".to_owned()).await;
}

#[tokio::test]
async fn endpoints_are_for_the_owner_alone_to_read() {
    let stage = Stage::start().await;
    let path = stage.bench.sandbox.dir().join("subscriptions.json");
    fs::write(&path, "open to everybody").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    stage.subscribe(SENDER, "/hook", |_| {}).await;
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn e033_silence_and_lingering_outlive_a_restart() {
    let stage = Stage::start().await;
    put(
        &stage.bench,
        json!([
            { "effect": "subscription-silent", "amount": 3_600_000, "organization": RECIPIENT },
            { "effect": "subscription-lingers", "amount": 3_600_000, "organization": SENDER },
        ]),
    )
    .await;
    stage.subscribe(RECIPIENT, "/silent", |_| {}).await;
    let id = stage.subscribe(SENDER, "/lingers", |_| {}).await;
    let (path, token) = (format!("{SUBSCRIPTIONS}/{id}"), token(&stage.bench, SENDER));
    as_token(&stage.bench, Method::DELETE, &path, &token).await.is_bare(200);
    let Stage { bench, receiver } = stage;
    let trust = receiver.authority();
    let bench = bench.restart_with(|options| options.trust = vec![trust]).await;
    let stage = Stage { bench, receiver };
    stage.advance(Duration::from_secs(3599));
    stage.publish().await;
    let counts = |stage: &Stage| ["/silent", "/lingers"].map(|path| stage.receiver.events(path).len());
    assert_eq!(counts(&stage), [0, 2]);
    stage.advance(Duration::from_secs(1));
    stage.publish().await;
    assert_eq!(counts(&stage), [1, 2]);
}

#[tokio::test]
async fn an_event_that_was_to_be_sent_late_is_registered_at_the_stop() {
    let bench = Bench::start().await;
    put(&bench, json!({ "effect": "event-late", "amount": 60_000, "organization": RECIPIENT })).await;
    let id = bench.publish("hello").await;
    assert_eq!(bench.count_events(&id, "published"), 1);
    let bench = bench.restart().await;
    assert_eq!(bench.count_events(&id, "published"), 2);
}

/// Shows a later time whenever it is asked.
struct Counting(AtomicI64);

impl Clock for Counting {
    fn now(&self) -> Timestamp {
        Timestamp::from_millisecond(self.0.fetch_add(1, Ordering::Relaxed)).unwrap()
    }

    fn sleep_until(&self, _: Timestamp) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }
}

#[tokio::test]
async fn a_later_event_has_no_earlier_time() {
    let start: Timestamp = "2026-08-18T11:40:01.5Z".parse().unwrap();
    let clock = Arc::new(Counting(AtomicI64::new(start.as_millisecond())));
    let bench = Bench::with(|options| options.clock = clock).await;
    let id = bench.initialize(|_| {}).await;
    let (site, transfer) = (&bench.sandbox.site, bench.transfer(&id));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..2000 {
                    site.tell_sender("filepurged", &transfer);
                }
            });
        }
    });
    let events = bench.sandbox.events();
    assert_eq!(events.len(), 8001);
    assert!(events.is_sorted_by_key(|event| event.time));
}

#[tokio::test]
async fn in_a_faster_sandbox_the_ninety_days_are_over_sooner() {
    let bench = Bench::with(|options| options.speed = 86_400.0).await;
    let id = bench.publish("hello").await;
    // Days are seconds, so that this is before the ninetieth and after the next night.
    bench.clock.advance(Duration::from_secs(89));
    bench.until(&id, "Purged").await;
    assert_eq!(bench.count_events(&id, "published"), 2);
    bench.clock.advance(Duration::from_secs(3));
    eventually(|| bench.count_events(&id, "published") == 0, || "the night".to_owned()).await;
}
