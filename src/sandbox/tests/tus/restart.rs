//! Uploads across a restart of the sandbox.

use std::fs;

use serde_json::Value;

use super::path;
use crate::sandbox::tests::support::{Bench, HELLO_MD5, RECIPIENT};

/// Changes what is written down about the uploads of a transfer, and restarts on it.
async fn restart_with(bench: Bench, id: &str, change: impl FnOnce(&mut Value)) -> Bench {
    let file = bench.sandbox.dir().join("tus").join(format!("{id}.json"));
    let mut record: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    change(&mut record);
    fs::write(&file, record.to_string()).unwrap();
    bench.restart().await
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
    let file = bench.sandbox.dir().join("tus").join(format!("{id}.json"));
    fs::write(&file, "{\"whole\":").unwrap();
    let bench = bench.restart().await;
    let head = bench.head(&path).await;
    assert_eq!((head.number("Upload-Length"), head.number("Upload-Offset")), (Some(5), Some(5)));
}
