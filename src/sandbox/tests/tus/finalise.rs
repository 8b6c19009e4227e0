//! What follows the last byte.

use std::time::Duration;

use super::{DAY, STEP, scanned};
use crate::sandbox::Md5Check;
use crate::sandbox::tests::support::{Bench, HELLO_MD5, RECIPIENT, eventually};

const EICAR: [&str; 2] = [r"X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR-", "STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"];

fn with_checksum(body: &mut serde_json::Value) {
    body["checksum"] = HELLO_MD5.into();
}

#[tokio::test]
async fn s112_after_the_last_chunk_the_upload_is_still_started_and_ends_later() {
    let bench = Bench::start().await;
    let (id, path) = bench.begin(5, |_| {}).await;
    bench.patch(&path, 0, "hello").await.is_accepted(5);
    assert_eq!(bench.status(&id).await, "UploadStarted");
    bench.until_durable(&path, 5).await;
    assert_eq!(bench.status(&id).await, "UploadStarted", "stored is not finalised");
    bench.clock.advance(STEP);
    bench.until(&id, "Published").await;
    let overview = bench.overview(&id).await;
    assert_eq!((&overview["fileTransferSize"], &overview["checksum"]), (&5.into(), &"".into()));
    assert_eq!(bench.count_events(&id, "published"), 2);
    assert_eq!(bench.count_events(&id, "uploadprocessing"), 0);
    bench.clock.advance(STEP);
    eventually(|| bench.transfer(&id).checksum.as_deref() == Some(HELLO_MD5), || "the checksum".to_owned())
        .await;
    assert_eq!(bench.download(RECIPIENT, &id, None).await.body, b"hello");
    assert_eq!(bench.transfer(&id).published(), 1);
}

#[tokio::test]
async fn s112_with_a_checksum_it_is_processed_first() {
    let bench = Bench::start().await;
    let (id, path) = bench.begin(5, with_checksum).await;
    bench.patch(&path, 0, "hello").await.is_accepted(5);
    bench.until_finalised(&id, &path, 5, "UploadProcessing").await;
    eventually(|| bench.count_events(&id, "uploadprocessing") == 1, || "the event".to_owned()).await;
    bench.run_until(&id, "Published").await;
    assert_eq!(bench.overview(&id).await["checksum"], HELLO_MD5);
}

#[tokio::test]
async fn s112_with_a_scan_it_is_processed_first() {
    let bench = Bench::start().await;
    for with_md5 in [false, true] {
        let (id, path) = bench
            .begin(5, |body| {
                scanned(body);
                if with_md5 {
                    with_checksum(body);
                }
            })
            .await;
        bench.patch(&path, 0, "hello").await.is_accepted(5);
        bench.until_finalised(&id, &path, 5, "UploadProcessing").await;
        bench.run(2).await;
        assert_eq!(bench.status(&id).await, "UploadProcessing", "the checksum alone is not enough");
        bench.clock.advance(Duration::from_millis(200));
        bench.until(&id, "Published").await;
        assert_eq!(bench.transfer(&id).published(), 1);
    }
}

#[tokio::test]
async fn s112_a_scan_alone_is_not_enough_where_a_checksum_was_given() {
    let bench = Bench::with(|options| {
        options.scan_delay = Duration::from_millis(1);
        options.finalising_delay = Duration::from_mins(1);
    })
    .await;
    let (id, path) = bench
        .begin(5, |body| {
            scanned(body);
            with_checksum(body);
        })
        .await;
    bench.patch(&path, 0, "hello").await.is_accepted(5);
    bench.until_durable(&path, 5).await;
    bench.clock.advance(Duration::from_mins(1));
    bench.until(&id, "UploadProcessing").await;
    bench.clock.advance(Duration::from_secs(1));
    eventually(|| bench.transfer(&id).md5_check == Md5Check::AwaitedAlone, || "the scan".to_owned()).await;
    assert_eq!(bench.status(&id).await, "UploadProcessing");
    bench.clock.advance(Duration::from_mins(1));
    bench.until(&id, "Published").await;
}

#[tokio::test]
async fn s113_a_wrong_checksum_fails_later_with_the_event() {
    let bench = Bench::start().await;
    let (id, path) = bench.begin(5, |body| body["checksum"] = "0".repeat(32).into()).await;
    bench.patch(&path, 0, "hello").await.is_accepted(5);
    bench.run_until(&id, "Failed").await;
    assert_eq!(bench.overview(&id).await["fileTransferStatusText"], "Checksum mismatch");
    eventually(|| bench.count_events(&id, "uploadfailed") == 1, || "the event".to_owned()).await;
    assert_eq!(bench.count_events(&id, "published"), 0);
    eventually(|| bench.blobs() == 0, || "the content to go".to_owned()).await;
    bench.download(RECIPIENT, &id, None).await.is_fault(403, 7);
}

#[tokio::test]
async fn s121_malware_is_found_over_the_border_of_chunks() {
    let bench = Bench::start().await;
    let (id, path) = bench.begin(68, scanned).await;
    bench.patch(&path, 0, EICAR[0]).await.is_accepted(EICAR[0].len() as u64);
    bench.patch(&path, EICAR[0].len() as u64, EICAR[1]).await.is_accepted(68);
    bench.run_until(&id, "Failed").await;
    let text = bench.overview(&id).await["fileTransferStatusText"].as_str().unwrap().to_owned();
    assert!(text.starts_with("Malware scan failed: Malicious"), "{text}");
}

#[tokio::test]
async fn s120_an_empty_upload_never_ends_before_the_day_is_over() {
    let bench = Bench::start().await;
    let (id, path) = bench.begin(0, |_| {}).await;
    assert_eq!(bench.create(&path, 0).await.header("Upload-Expires"), None);
    for _ in 0..3 {
        assert_eq!(bench.head(&path).await.status, 200);
        assert_eq!(bench.patch(&path, 0, "").await.status, 400);
        bench.run(2).await;
    }
    assert_eq!(bench.status(&id).await, "UploadStarted");
    bench.clock.advance(DAY + Duration::from_mins(31));
    bench.until(&id, "Failed").await;
}

#[tokio::test]
async fn s048_an_upload_that_shows_signs_of_life_is_not_stuck() {
    let bench = Bench::start().await;
    let (id, path) = bench.begin(10, |_| {}).await;
    let (idle, _) = bench.begin(10, |_| {}).await;
    bench.clock.advance(Duration::from_mins(24 * 60 - 10));
    assert_eq!(bench.head(&path).await.status, 200);
    bench.clock.advance(Duration::from_mins(41));
    bench.until(&idle, "Failed").await;
    assert_eq!(bench.status(&id).await, "UploadStarted");
    bench.clock.advance(Duration::from_mins(61));
    bench.until(&id, "Failed").await;
    eventually(|| bench.count_events(&id, "uploadfailed") == 1, || "the event".to_owned()).await;
}

#[tokio::test]
async fn blocks_go_with_the_transfer() {
    let bench = Bench::start().await;
    let staged = || std::fs::read_dir(bench.sandbox.dir().join("tus")).unwrap().count();
    let (id, path) = bench.begin(5, |_| {}).await;
    bench.patch(&path, 0, "hello").await.is_accepted(5);
    bench.run_until(&id, "Published").await;
    let blocks = bench.sandbox.dir().join("tus").join(&id);
    eventually(|| !blocks.exists(), || "the blocks of what was published to go".to_owned()).await;
    eventually(|| staged() == 1, || "the sign of life alone to be remembered".to_owned()).await;
    let (id, path) = bench.begin(10, |_| {}).await;
    bench.patch(&path, 0, "hello").await.is_accepted(5);
    bench.until_durable(&path, 5).await;
    eventually(|| staged() == 3, || "a record and a directory more".to_owned()).await;
    bench.clock.advance(DAY + Duration::from_mins(31));
    bench.until(&id, "Failed").await;
    eventually(|| staged() == 0, || "everything to go".to_owned()).await;
}

#[tokio::test]
async fn content_that_is_not_kept_ends_as_other_content_does() {
    use crate::sandbox::Keep;
    for keep in [Keep::Hash, Keep::Size] {
        let bench = Bench::with(|options| options.keep = keep).await;
        let (id, path) = bench.begin(5, with_checksum).await;
        bench.patch(&path, 0, "hel").await.is_accepted(3);
        bench.patch(&path, 3, "lo").await.is_accepted(5);
        bench.run_until(&id, "Published").await;
        assert_eq!((bench.transfer(&id).size, bench.blobs()), (5, 0));
        assert_eq!(bench.head(&path).await.status, 200);
        assert_eq!(bench.download(RECIPIENT, &id, None).await.body, [0; 5]);
        // What is not hashed cannot be wrong.
        let (id, path) = bench.begin(5, |body| body["checksum"] = "0".repeat(32).into()).await;
        bench.patch(&path, 0, "hello").await.is_accepted(5);
        bench.run_until(&id, if keep == Keep::Hash { "Failed" } else { "Published" }).await;
    }
}

#[tokio::test]
async fn where_things_happen_faster_an_upload_is_forgotten_sooner() {
    let bench = Bench::with(|options| {
        options.speed = 24.0;
        options.stuck_after = DAY * 3;
    })
    .await;
    let (id, path) = bench.begin(10, |_| {}).await;
    let reply = bench.patch(&path, 0, "hello").await;
    assert_eq!(reply.header("Upload-Expires"), Some("Wed, 19 Aug 2026 11:40:01 GMT"), "as it really is");
    bench.until_durable(&path, 5).await;
    bench.clock.advance(Duration::from_mins(59));
    assert_eq!(bench.head(&path).await.number("Upload-Length"), Some(10));
    bench.clock.advance(Duration::from_hours(1));
    assert_eq!(bench.head(&path).await.number("Upload-Length"), Some(5), "what is left of it");
    bench.clock.advance(Duration::from_hours(2));
    bench.until(&id, "Failed").await;
}

#[tokio::test]
async fn where_things_happen_faster_nothing_is_left_undone_for_a_fraction_of_a_microsecond() {
    // What is due then does not fall on a whole microsecond.
    let speed = 3.0;
    let bench = Bench::with(|options| options.speed = speed).await;
    let step = crate::sandbox::clock::scale(STEP, speed);
    assert_ne!(step.subsec_nanos() % 1000, 0);
    let (id, path) = bench.begin(5, |_| {}).await;
    bench.patch(&path, 0, "hello").await.is_accepted(5);
    bench.clock.advance(step);
    let stored = bench.sandbox.dir().join("tus").join(&id).join("block-000000000000");
    eventually(|| stored.exists(), || "the block".to_owned()).await;
    bench.until_stored(&path, 5).await;
    bench.clock.advance(step);
    bench.until(&id, "Published").await;
}
