//! Peculiarities of resumable upload that rules can ask for.

use reqwest::Method;
use serde_json::json;

use super::path;
use crate::sandbox::tests::faults::put;
use crate::sandbox::tests::support::{Bench, RECIPIENT, SENDER, send};

#[tokio::test]
async fn an_intact_chunk_can_be_lost_after_204() {
    let bench = Bench::start().await;
    let (id, path) = bench.begin(10, |_| {}).await;
    put(&bench, json!([{ "effect": "tus-wedge", "nth": 2 }])).await;
    bench.patch(&path, 0, "hello").await.is_accepted(5);
    bench.patch(&path, 5, "wor").await.is_accepted(8);
    bench.patch(&path, 8, "ld").await.is_accepted(10);
    bench.until_durable(&path, 7).await;
    bench.run(5).await;
    assert_eq!(bench.status(&id).await, "UploadStarted");
}

#[tokio::test]
async fn what_is_durable_can_lag_by_chunks() {
    let bench = Bench::start().await;
    let (_, path) = bench.begin(20, |_| {}).await;
    put(&bench, json!([{ "effect": "tus-lag", "amount": 2, "times": 1 }])).await;
    bench.patch(&path, 0, "ab").await.is_accepted(2);
    bench.run(2).await;
    assert_eq!(bench.durable(&path).await, Some(0));
    bench.patch(&path, 2, "cd").await.is_accepted(4);
    bench.until_durable(&path, 2).await;
    bench.run(2).await;
    assert_eq!(bench.durable(&path).await, Some(2), "only the second is stored");
    bench.patch(&path, 4, "ef").await.is_accepted(6);
    bench.until_durable(&path, 6).await;
    // After the last chunk nothing more can come to wait for.
    let (id, path) = bench.begin(4, |_| {}).await;
    put(&bench, json!([{ "effect": "tus-lag", "amount": 100, "times": 1 }])).await;
    bench.patch(&path, 0, "ab").await.is_accepted(2);
    bench.run(2).await;
    assert_eq!(bench.durable(&path).await, Some(0));
    bench.patch(&path, 2, "cd").await.is_accepted(4);
    bench.run_until(&id, "Published").await;
    assert_eq!(bench.download(RECIPIENT, &id, None).await.body, b"abcd");
}

#[tokio::test]
async fn an_upload_can_be_held_by_another_request() {
    let bench = Bench::start().await;
    let (_, path) = bench.begin(10, |_| {}).await;
    put(&bench, json!([{ "effect": "tus-locked", "times": 2, "organization": SENDER }])).await;
    let text = "File is currently being updated. Please try again later";
    bench.patch(&path, 0, "hello").await.is_refused(423, text);
    assert_eq!(bench.head(&path).await.status, 423);
    bench.patch(&path, 0, "hello").await.is_accepted(5);
}

#[tokio::test]
async fn an_upload_can_be_forgotten_at_any_request() {
    let bench = Bench::start().await;
    let (_, empty) = bench.begin(10, |_| {}).await;
    let (_, path) = bench.begin(10, |_| {}).await;
    bench.patch(&path, 0, "hello").await.is_accepted(5);
    bench.until_durable(&path, 5).await;
    put(&bench, json!([{ "effect": "tus-expired", "times": 2 }])).await;
    assert_eq!(bench.head(&empty).await.status, 500);
    let left = bench.head(&path).await;
    assert_eq!((left.number("Upload-Length"), left.number("Upload-Offset")), (Some(5), Some(5)));
    // Nor is there activity for which an expired token would do.
    let token = bench.token(SENDER);
    bench.clock.advance(std::time::Duration::from_hours(1));
    let request = bench.request(Method::HEAD, &empty).bearer_auth(token);
    send(request.header("Tus-Resumable", "1.0.0")).await.is_bare(401);
}

#[tokio::test]
async fn partials_can_be_permuted() {
    let bench = Bench::start().await;
    let id = bench.initialize(|_| {}).await;
    let path = path(&id);
    put(&bench, json!([{ "effect": "tus-permuted" }])).await;
    let (first, second) = (bench.partial(&path, "first, ").await, bench.partial(&path, "second").await);
    assert_eq!(bench.join(&path, &[&first, &second]).await.status, 201);
    bench.run_until(&id, "Published").await;
    assert_eq!(bench.download(RECIPIENT, &id, None).await.body, b"secondfirst, ");
}

#[tokio::test]
async fn a_right_checksum_can_be_found_wrong() {
    let bench = Bench::start().await;
    let checksum = |body: &mut serde_json::Value| {
        body["checksum"] = crate::sandbox::tests::support::HELLO_MD5.into();
    };
    put(&bench, json!([{ "effect": "checksum-mismatch", "times": 1 }])).await;
    let (wrong, path) = bench.begin(5, checksum).await;
    bench.patch(&path, 0, "hello").await.is_accepted(5);
    bench.run_until(&wrong, "Failed").await;
    put(&bench, json!([{ "effect": "processing-forever" }])).await;
    let (endless, path) = bench.begin(5, checksum).await;
    bench.patch(&path, 0, "hello").await.is_accepted(5);
    bench.until_finalised(&endless, &path, 5, "UploadProcessing").await;
    bench.run(5).await;
    assert_eq!(bench.status(&endless).await, "UploadProcessing");
}
