//! Uploads across a restart of the sandbox.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::Method;
use serde_json::Value;

use super::{DAY, path};
use crate::sandbox::tests::support::{Bench, HELLO_MD5, RECIPIENT, SENDER, eventually, send};

/// Restarts on what is written down about the uploads of a transfer, changed.
async fn restart_with(bench: Bench, id: &str, change: impl FnOnce(&mut Value)) -> Bench {
    let file = record(&bench, id);
    // What is still to be written is written by then.
    let bench = bench.stop().await;
    let mut record: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    change(&mut record);
    fs::write(&file, record.to_string()).unwrap();
    bench.start_again().await
}

fn record(bench: &Bench, id: &str) -> PathBuf {
    bench.sandbox.dir().join("tus").join(format!("{id}.json"))
}

#[tokio::test]
async fn what_is_stored_survives_and_what_is_only_accepted_does_not() {
    let bench = Bench::start().await;
    let (_, path) = bench.begin(10, |_| {}).await;
    bench.patch(&path, 0, "hello").await.is_accepted(5);
    bench.until_durable(&path, 5).await;
    bench.patch(&path, 5, "wor").await.is_accepted(8);
    let bench = bench.restart().await;
    bench.run(3).await;
    assert_eq!(bench.durable(&path).await, Some(5));
    let text = "Offset does not match file. File offset: 8. Request offset: 5";
    bench.patch(&path, 5, "world").await.is_refused(409, text);
}

#[tokio::test]
async fn an_upload_goes_on_where_it_was() {
    let bench = Bench::start().await;
    let (id, path) = bench.begin(10, |_| {}).await;
    bench.patch(&path, 0, "hello").await.is_accepted(5);
    bench.until_durable(&path, 5).await;
    let bench = bench.restart().await;
    bench.patch(&path, 5, "world").await.is_accepted(10);
    bench.run_until(&id, "Published").await;
    assert_eq!(bench.download(RECIPIENT, &id, None).await.body, b"helloworld");
}

#[tokio::test]
async fn every_step_of_finalising_is_taken_up_again() {
    let bench = Bench::start().await;
    let checksum = |body: &mut Value| body["checksum"] = HELLO_MD5.into();
    let (stored, stored_path) = bench.begin(5, |_| {}).await;
    bench.patch(&stored_path, 0, "hello").await.is_accepted(5);
    bench.until_durable(&stored_path, 5).await;
    let joined = bench.initialize(checksum).await;
    let part = bench.partial(&path(&joined), "hello").await;
    bench.until(&stored, "Published").await;
    let (complete, complete_path) = bench.begin(5, |_| {}).await;
    bench.patch(&complete_path, 0, "hello").await.is_accepted(5);
    bench.until_durable(&complete_path, 5).await;
    assert_eq!(bench.join(&path(&joined), &[&part]).await.status, 201);
    let (processing, processing_path) = bench.begin(5, checksum).await;
    bench.patch(&processing_path, 0, "hello").await.is_accepted(5);
    let bench = bench.restart().await;
    for id in [&complete, &joined] {
        bench.run_until(id, "Published").await;
        assert_eq!(bench.download(RECIPIENT, id, None).await.body, b"hello");
        assert_eq!(bench.transfer(id).published(), 1);
    }
    assert_eq!(bench.status(&processing).await, "UploadStarted", "its bytes were not stored");
    let (checked, checked_path) = bench.begin(5, checksum).await;
    bench.patch(&checked_path, 0, "hello").await.is_accepted(5);
    bench.until_finalised(&checked, &checked_path, 5, "UploadProcessing").await;
    let bench = bench.restart().await;
    bench.run_until(&checked, "Published").await;
}

#[tokio::test]
async fn the_chunk_after_fifty_thousand_is_counted_and_refused() {
    let bench = Bench::start().await;
    let (id, path) = bench.begin(1_000_000, |_| {}).await;
    bench.patch(&path, 0, "a").await.is_accepted(1);
    let bench = restart_with(bench, &id, |record| record["whole"]["chunks"] = 49_999.into()).await;
    bench.patch(&path, 1, "b").await.is_accepted(2);
    let text = format!(
        "Upload exceeds maximum block count (50000) for file id {id}. Increase TUS chunk size to at least 20 bytes."
    );
    bench.patch(&path, 2, "c").await.is_refused(400, &text);
    assert_eq!(bench.accepted(&path).await, Some(3));
}

#[tokio::test]
async fn uploads_of_what_is_over_are_swept_away() {
    let bench = Bench::start().await;
    let (id, path) = bench.begin(10, |_| {}).await;
    bench.patch(&path, 0, "hello").await.is_accepted(5);
    bench.until_durable(&path, 5).await;
    let staged = bench.sandbox.dir().join("tus");
    fs::create_dir(staged.join(super::super::support::NOBODY)).unwrap();
    fs::write(staged.join(&id).join("chunk-0"), "half").unwrap();
    let bench = bench.restart().await;
    assert!(!staged.join(super::super::support::NOBODY).exists());
    let left: Vec<_> = fs::read_dir(staged.join(&id)).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!(left, ["block-000000000000"]);
    drop(bench);
}

#[tokio::test]
async fn a_record_that_was_cut_short_forgets_the_upload() {
    let bench = Bench::start().await;
    let (id, path) = bench.begin(10, |_| {}).await;
    bench.patch(&path, 0, "hello").await.is_accepted(5);
    bench.until_durable(&path, 5).await;
    let file = record(&bench, &id);
    let bench = bench.stop().await;
    fs::write(&file, "{\"whole\":").unwrap();
    let bench = bench.start_again().await;
    let head = bench.head(&path).await;
    assert_eq!((head.number("Upload-Length"), head.number("Upload-Offset")), (Some(5), Some(5)));
}

#[tokio::test]
async fn a_session_with_an_upload_that_is_over_is_remembered() {
    let bench = Bench::start().await;
    let wrong = |body: &mut Value| body["checksum"] = "0".repeat(32).into();
    let (published, published_path) = bench.begin(5, |_| {}).await;
    let (failed, failed_path) = bench.begin(5, wrong).await;
    // The issuer's address is another after the restart.
    let head = |bench: &Bench, path: &str| {
        let token = super::access::token(bench, SENDER);
        send(super::access::with(bench, Method::HEAD, path, &token))
    };
    for (id, path, status) in [(&published, &published_path, "Published"), (&failed, &failed_path, "Failed")]
    {
        assert_eq!(head(&bench, path).await.status, 200);
        bench.patch(path, 0, "hello").await.is_accepted(5);
        bench.run_until(id, status).await;
        assert_eq!(head(&bench, path).await.status, 409);
        let blocks = bench.sandbox.dir().join("tus").join(id);
        eventually(|| !blocks.exists(), || "the blocks to go".to_owned()).await;
    }
    let bench = bench.restart().await;
    for path in [&published_path, &failed_path] {
        assert_eq!(head(&bench, path).await.status, 409, "{path}");
    }
    // The record goes when the session does.
    let files = [record(&bench, &published), record(&bench, &failed)];
    assert!(files.iter().all(|file| file.exists()));
    bench.clock.advance(DAY + Duration::from_mins(31));
    eventually(|| !files.iter().any(|file| file.exists()), || "the records to go".to_owned()).await;
}

#[tokio::test]
async fn what_does_not_change_is_not_written_again() {
    let bench = Bench::start().await;
    let (id, path) = bench.begin(10, |_| {}).await;
    let file = record(&bench, &id);
    eventually(|| file.exists(), || "the record".to_owned()).await;
    bench.patch(&path, 0, "hello").await.is_accepted(5);
    bench.until_durable(&path, 5).await;
    // After a stop, nothing waits to be written.
    let bench = bench.restart().await;
    assert!(fs::read_to_string(&file).unwrap().contains(r#""stored":5"#));
    fs::remove_file(&file).unwrap();
    for _ in 0..3 {
        assert_eq!(bench.head(&path).await.status, 200);
    }
    let bench = bench.stop().await;
    assert!(!file.exists(), "a look is no change");
    drop(bench);
}
