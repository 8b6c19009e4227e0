//! What a restart keeps, and what is wrong with the settings.

use std::path::PathBuf;

use super::{SENDER, Stage};
use crate::sandbox::tests::support::Bench;
use crate::sandbox::{Error, Options, Sandbox};

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
    let dir: PathBuf = stage.bench.sandbox.dir().to_owned();
    stage.bench.sandbox.stop().await;
    assert!(dir.join("subscriptions.json").exists());
}
