//! HEAD, DELETE and expiry.

use std::time::Duration;

use reqwest::Method;

use super::{ALREADY, DAY, path};
use crate::sandbox::tests::support::{Bench, HELLO_MD5, NOBODY, RECIPIENT, SENDER, send};

#[tokio::test]
async fn s102_head_after_create_shows_offset_and_length_alone() {
    let bench = Bench::start().await;
    let (_, path) = bench.begin(5, |_| {}).await;
    let reply = bench.head(&path).await;
    assert_eq!(reply.status, 200);
    assert_eq!((reply.number("Upload-Offset"), reply.number("Upload-Length")), (Some(0), Some(5)));
    assert_eq!(reply.header("Tus-Resumable"), Some("1.0.0"));
    assert_eq!(reply.header("Cache-Control"), Some("no-store"));
    for absent in ["Upload-Metadata", "Upload-Concat", "Upload-Expires"] {
        assert_eq!(reply.header(absent), None, "{absent}");
    }
}

#[tokio::test]
async fn head_without_an_upload_is_404_at_first_and_500_later() {
    let bench = Bench::start().await;
    assert_eq!(bench.head(&path(NOBODY)).await.status, 404);
    let id = bench.initialize(|_| {}).await;
    assert_eq!(bench.head(&path(&id)).await.status, 404);
    assert_eq!(send(bench.tus(Method::DELETE, &path(&id))).await.status, 404);
    let (_, started) = bench.begin(5, |_| {}).await;
    assert_eq!(bench.head(&format!("{started}/partial/{}", "0".repeat(32))).await.status, 500);
}

#[tokio::test]
async fn head_after_the_end_is_200_without_a_length_or_409_with_a_session() {
    let bench = Bench::start().await;
    let (id, path) = bench.begin(5, |body| body["checksum"] = HELLO_MD5.into()).await;
    bench.patch(&path, 0, "hello").await.is_accepted(5);
    bench.until_finalised(&id, &path, 5, "UploadProcessing").await;
    let reply = bench.head(&path).await;
    assert_eq!((reply.status, reply.number("Upload-Length")), (200, None));
    assert_eq!(reply.number("Upload-Offset"), Some(5));
    assert_eq!(bench.patch(&path, 5, "").await.status, 500, "the length is not known any more");
    bench.run_until(&id, "Published").await;
    assert_eq!(bench.head(&path).await.status, 200);
    bench.patch(&path, 5, "").await.is_forbidden(409, ALREADY);
}

#[tokio::test]
async fn s118_a_delete_leaves_status_and_blocks() {
    let bench = Bench::start().await;
    let (id, path) = bench.begin(10, |_| {}).await;
    let delete = || send(bench.tus(Method::DELETE, &path));
    let reply = delete().await;
    reply.is_bare(204);
    assert_eq!(reply.header("Tus-Resumable"), Some("1.0.0"));
    assert_eq!(bench.status(&id).await, "UploadStarted");
    assert_eq!(bench.head(&path).await.status, 500);
    assert_eq!(delete().await.status, 404);
    assert_eq!(bench.create(&path, 10).await.status, 201);
    bench.patch(&path, 0, "hello").await.is_accepted(5);
    bench.until_durable(&path, 5).await;
    assert_eq!(delete().await.status, 204);
    let left = bench.head(&path).await;
    assert_eq!(
        (left.status, left.number("Upload-Length"), left.number("Upload-Offset")),
        (200, Some(5), Some(5))
    );
    let published = super::path(&bench.publish("hello").await);
    send(bench.tus(Method::DELETE, &published)).await.is_forbidden(409, ALREADY);
}

#[tokio::test]
async fn after_a_delete_the_same_chunks_make_the_file() {
    let bench = Bench::start().await;
    let (id, path) = bench.begin(10, |_| {}).await;
    bench.patch(&path, 0, "hello").await.is_accepted(5);
    bench.until_durable(&path, 5).await;
    send(bench.tus(Method::DELETE, &path)).await.is_bare(204);
    assert_eq!(bench.create(&path, 10).await.status, 201);
    bench.patch(&path, 0, "HELLO").await.is_accepted(5);
    bench.patch(&path, 5, "WORLD").await.is_accepted(10);
    bench.run_until(&id, "Published").await;
    assert_eq!(bench.download(RECIPIENT, &id, None).await.body, b"HELLOWORLD");
}

#[tokio::test]
async fn after_a_delete_other_chunks_never_make_a_file() {
    let bench = Bench::start().await;
    let (id, path) = bench.begin(10, |_| {}).await;
    for (offset, content) in [(0, "abc"), (3, "def"), (6, "ghi")] {
        bench.patch(&path, offset, content).await.is_accepted(offset + 3);
    }
    bench.until_durable(&path, 9).await;
    send(bench.tus(Method::DELETE, &path)).await.is_bare(204);
    assert_eq!(bench.create(&path, 10).await.status, 201);
    bench.patch(&path, 0, "HELLO").await.is_accepted(5);
    bench.patch(&path, 5, "WORLD").await.is_accepted(10);
    bench.run(6).await;
    assert_eq!(bench.status(&id).await, "UploadStarted", "the third block is still there");
    assert_eq!(bench.durable(&path).await, Some(13));
}

#[tokio::test]
async fn s119_after_a_day_without_requests_an_upload_is_forgotten() {
    let bench = Bench::with(|options| options.stuck_after = DAY * 100).await;
    let (_, empty) = bench.begin(20, |_| {}).await;
    let (_, path) = bench.begin(20, |_| {}).await;
    bench.patch(&path, 0, "hello").await.is_accepted(5);
    bench.until_durable(&path, 5).await;
    // Each request is a sign of life.
    bench.clock.advance(Duration::from_mins(24 * 60 - 1));
    assert_eq!(bench.head(&empty).await.status, 200);
    assert_eq!(bench.head(&path).await.number("Upload-Length"), Some(20));
    bench.clock.advance(DAY);
    assert_eq!(bench.head(&empty).await.status, 500);
    let reply = bench.head(&path).await;
    assert_eq!((reply.number("Upload-Length"), reply.number("Upload-Offset")), (Some(5), Some(5)));
    // A client that goes on gets an offset that does not advance.
    bench.patch(&path, 5, "world").await.is_accepted(5);
    let text = "Upload offset conflict for file id";
    assert!(bench.patch(&path, 0, "HELLO").await.text().starts_with(text));
}

#[tokio::test]
async fn head_is_for_those_who_may_write() {
    let bench = Bench::start().await;
    let (_, path) = bench.begin(5, |_| {}).await;
    for organization in [RECIPIENT, SENDER] {
        let request = bench.request(Method::HEAD, &path).bearer_auth(bench.token(organization));
        let status = send(request.header("Tus-Resumable", "1.0.0")).await.status;
        assert_eq!(status, if organization == SENDER { 200 } else { 401 });
    }
}
