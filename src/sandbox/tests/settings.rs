//! Settings that no real Altinn has: less kept, and things happening faster.

use std::time::Duration;

use super::support::{Bench, HELLO_MD5, MD5_OF_NOTHING, RECIPIENT};
use crate::sandbox::Keep;

#[tokio::test]
async fn sizes_alone_are_kept_and_a_given_checksum_is_believed() {
    let bench = Bench::with(|options| options.keep = Keep::Size).await;
    let id = bench.publish_with("hello", |body| body["checksum"] = MD5_OF_NOTHING.into()).await;
    let overview = bench.overview(&id).await;
    assert_eq!((&overview["fileTransferSize"], &overview["checksum"]), (&5.into(), &MD5_OF_NOTHING.into()));
    assert_eq!(bench.blobs(), 0);
    assert_eq!(bench.download(RECIPIENT, &id, None).await.body, [0; 5]);
    assert_eq!(bench.download(RECIPIENT, &id, Some("bytes=3-")).await.body, [0; 2]);
    assert_eq!(bench.confirm(RECIPIENT, &id).await.status, 204);
    let unknown = bench.publish("hello").await;
    assert_eq!(bench.transfer(&unknown).md5, None);
}

#[tokio::test]
async fn hashes_are_kept_and_a_wrong_checksum_is_refused() {
    let bench = Bench::with(|options| options.keep = Keep::Hash).await;
    let id = bench.publish("hello").await;
    assert_eq!(bench.overview(&id).await["checksum"], HELLO_MD5);
    let wrong = bench.initialize(|body| body["checksum"] = MD5_OF_NOTHING.into()).await;
    bench.upload(&wrong, "hello").await.is_fault(400, 9);
    assert_eq!(bench.blobs(), 0);
}

#[tokio::test]
async fn discarded_content_is_scanned_purged_and_survives_a_restart_like_any() {
    let bench = Bench::with(|options| options.keep = Keep::Hash).await;
    let id = bench.publish_with(&"x".repeat(600_000), |body| body["disableVirusScan"] = false.into()).await;
    assert_eq!(bench.status(&id).await, "UploadProcessing");
    bench.clock.advance(Duration::from_secs(1));
    bench.until(&id, "Published").await;
    let bench = bench.restart().await;
    assert_eq!(bench.download(RECIPIENT, &id, None).await.body, vec![0; 600_000]);
    bench.confirm(RECIPIENT, &id).await;
    bench.clock.advance(Duration::from_hours(3));
    bench.until(&id, "Purged").await;
    bench.download(RECIPIENT, &id, None).await.is_fault(403, 7);
}

#[tokio::test]
async fn a_faster_sandbox_scales_delays_and_no_moments() {
    let bench = Bench::with(|options| options.speed = 60.0).await;
    let id = bench.publish("hello").await;
    let before = bench.overview(&id).await;
    let days = |overview: &serde_json::Value| {
        let moment = |name: &str| overview[name].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        moment("expirationTime").duration_since(moment("created")).as_hours() / 24
    };
    assert_eq!(days(&before), 30);
    bench.download(RECIPIENT, &id, None).await;
    bench.confirm(RECIPIENT, &id).await;
    let still = bench.initialize(|_| {}).await;
    // Two hours of grace, sixty times faster.
    bench.clock.advance(Duration::from_secs(119));
    assert_eq!(bench.status(&id).await, "AllConfirmedDownloaded");
    bench.clock.advance(Duration::from_secs(2));
    bench.until(&id, "Purged").await;
    // Thirty days, sixty times faster.
    bench.clock.advance(Duration::from_hours(11));
    assert_eq!(bench.status(&still).await, "Initialized");
    bench.clock.advance(Duration::from_hours(2));
    bench.until(&still, "Purged").await;
}
