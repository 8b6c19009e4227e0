//! Stream upload, and what happens to a transfer afterwards by itself.

use std::time::Duration;

use bytes::Bytes;
use reqwest::Body;
use serde_json::Value;
use tokio::sync::mpsc;

use super::support::{BASE, Bench, HELLO_MD5, MD5_OF_NOTHING, NOBODY, RECIPIENT, SENDER, eventually, send};

const EICAR: [&str; 2] = [r"X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR-", "STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"];
const STUCK: &str = "File transfer was stuck in UploadStarted as it failed upload mid-request.";
const DAY: Duration = Duration::from_hours(24);

fn scanned(body: &mut Value) {
    body["disableVirusScan"] = false.into();
}

/// A body whose blocks a test sends when it wants; dropping the sender ends it properly, an error
/// cuts it.
fn held_body() -> (mpsc::Sender<Result<Bytes, std::io::Error>>, Body) {
    let (sender, receiver) = mpsc::channel(1);
    let blocks = futures_util::stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|block| (block, receiver))
    });
    (sender, Body::wrap_stream(blocks))
}

/// Starts an upload that waits after its first bytes.
async fn begin(
    bench: &Bench,
    id: &str,
) -> (mpsc::Sender<Result<Bytes, std::io::Error>>, tokio::task::JoinSet<Option<u16>>) {
    let (sender, body) = held_body();
    let request = bench.post_as(SENDER, &format!("/{id}/upload")).body(body);
    let mut upload = tokio::task::JoinSet::new();
    upload.spawn(async move { request.send().await.ok().map(|response| response.status().as_u16()) });
    let blobs = bench.blobs();
    sender.send(Ok(Bytes::from_static(b"hel"))).await.unwrap();
    eventually(|| bench.blobs() > blobs, || "a partial blob".to_owned()).await;
    (sender, upload)
}

#[tokio::test]
async fn s039_without_a_scan_it_is_published_at_once() {
    let bench = Bench::start().await;
    let id = bench.initialize(|_| {}).await;
    bench.clock.advance(Duration::from_millis(1_250));
    let reply = bench.upload(&id, "hello").await;
    assert_eq!((reply.status, reply.json()), (200, serde_json::json!({ "fileTransferId": id })));
    let overview = bench.overview(&id).await;
    assert_eq!(overview["fileTransferStatus"], "Published");
    assert_eq!(overview["fileTransferStatusText"], "Ready for download");
    assert_eq!((&overview["fileTransferSize"], &overview["checksum"]), (&5.into(), &HELLO_MD5.into()));
    assert_eq!(overview["published"], "2026-08-18T11:40:02.75+00:00");
    assert_eq!(bench.count_events(&id, "published"), 2);
}

#[tokio::test]
async fn s040_with_a_scan_it_is_published_later() {
    let bench = Bench::start().await;
    let id = bench.initialize(scanned).await;
    assert_eq!(bench.upload(&id, "hello").await.status, 200);
    let overview = bench.overview(&id).await;
    assert_eq!(overview["fileTransferStatus"], "UploadProcessing");
    assert_eq!((&overview["fileTransferSize"], &overview["published"]), (&5.into(), &Value::Null));
    assert_eq!(bench.count_events(&id, "uploadprocessing"), 1);
    bench.clock.advance(Duration::from_millis(200));
    bench.until(&id, "Published").await;
}

#[tokio::test]
async fn s041_a_given_checksum_must_match() {
    let bench = Bench::start().await;
    let right = bench.initialize(|body| body["checksum"] = HELLO_MD5.into()).await;
    assert_eq!(bench.upload(&right, "hello").await.status, 200);
    assert_eq!(bench.status(&right).await, "Published");
    for wrong in [MD5_OF_NOTHING.to_owned(), "z".repeat(32)] {
        let id = bench.initialize(|body| body["checksum"] = wrong.clone().into()).await;
        bench.upload(&id, "hello").await.is_fault(400, 9);
        let overview = bench.overview(&id).await;
        assert_eq!(overview["fileTransferStatus"], "Failed");
        assert_eq!(overview["fileTransferStatusText"], "Checksum mismatch");
        assert_eq!(overview["fileTransferSize"], 5);
        assert_eq!(bench.count_events(&id, "uploadfailed"), 0);
        bench.confirm(RECIPIENT, &id).await.is_fault(400, 10);
    }
    eventually(|| bench.blobs() == 1, || "only the right blob".to_owned()).await;
}

#[tokio::test]
async fn s041_under_a_scan_the_checksum_of_what_is_stored_decides_after_it() {
    let bench = Bench::with(|options| options.finalising_delay = Duration::from_mins(1)).await;
    let right = bench
        .initialize(|body| {
            scanned(body);
            body["checksum"] = HELLO_MD5.into();
        })
        .await;
    assert_eq!(bench.upload(&right, "hello").await.status, 200);
    bench.clock.advance(Duration::from_millis(200));
    // A second one passes the scan after the first, and needs no checksum.
    let other = bench.initialize(scanned).await;
    assert_eq!(bench.upload(&other, "hello").await.status, 200);
    bench.clock.advance(Duration::from_millis(200));
    bench.until(&other, "Published").await;
    assert_eq!(bench.status(&right).await, "UploadProcessing");
    let published = || {
        bench.clock.advance(Duration::from_secs(30));
        bench.transfer(&right).published() == 1
    };
    eventually(published, || "the comparison".to_owned()).await;
    let overview = bench.overview(&right).await;
    assert_eq!(
        (&overview["fileTransferStatus"], &overview["checksum"]),
        (&"Published".into(), &HELLO_MD5.into())
    );
    eventually(|| bench.count_events(&right, "published") == 2, || "the events".to_owned()).await;
    let wrong = bench
        .initialize(|body| {
            scanned(body);
            body["checksum"] = MD5_OF_NOTHING.into();
        })
        .await;
    bench.upload(&wrong, "hello").await.is_fault(400, 9);
    assert_eq!(bench.status(&wrong).await, "Failed");
}

#[tokio::test]
async fn s042_an_unknown_id_is_404_and_a_non_guid_is_400() {
    let bench = Bench::start().await;
    bench.upload(NOBODY, "hello").await.is_fault(404, 1);
    bench.upload("x", "hello").await.is_invalid("fileTransferId", "The value 'x' is not valid.");
}

#[tokio::test]
async fn s043_an_upload_after_success_or_failure_is_409() {
    let bench = Bench::start().await;
    let published = bench.publish("hello").await;
    bench.upload(&published, "hello").await.is_fault(409, 4);
    let failed = bench.initialize(|body| body["checksum"] = MD5_OF_NOTHING.into()).await;
    bench.upload(&failed, "hello").await.is_fault(400, 9);
    bench.upload(&failed, "").await.is_fault(409, 4);
    assert_eq!(bench.status(&failed).await, "Failed");
}

#[tokio::test]
async fn s044_a_length_above_the_resources_limit_is_refused_before_anything_happens() {
    let bench = Bench::start().await;
    bench.resource(|resource| resource.max_file_transfer_size = Some(5));
    let id = bench.initialize(|_| {}).await;
    bench.upload(&id, "hello!").await.is_fault(400, 16);
    assert_eq!(bench.status(&id).await, "Initialized");
    assert_eq!(bench.upload(&id, "hello").await.status, 200);
}

#[tokio::test]
async fn s045_a_scanned_file_has_at_most_fifty_billion_bytes() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let bench = Bench::start().await;
    let id = bench.initialize(scanned).await;
    let address = bench.sandbox.url().strip_prefix("http://").unwrap().to_owned();
    let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
    let head = format!(
        "POST {BASE}/{id}/upload HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {}\r\nContent-Length: 50000000001\r\n\r\n",
        bench.token(SENDER)
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 4096];
    let length = stream.read(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("BRO-00016"), "{answer}");
    assert_eq!(bench.status(&id).await, "Initialized");
}

#[tokio::test]
async fn s046_a_chunked_body_passes_every_limit() {
    let bench = Bench::start().await;
    bench.resource(|resource| resource.max_file_transfer_size = Some(2));
    let id = bench.initialize(|_| {}).await;
    let (sender, upload) = begin(&bench, &id).await;
    drop(sender);
    assert_eq!(upload.join_all().await, [Some(200)]);
    assert_eq!(bench.overview(&id).await["fileTransferSize"], 3);
}

#[tokio::test]
async fn s047_a_cut_upload_stays_started_and_may_be_repeated() {
    let bench = Bench::start().await;
    let id = bench.initialize(|_| {}).await;
    let (sender, upload) = begin(&bench, &id).await;
    sender.send(Err(std::io::Error::other("cut"))).await.unwrap();
    upload.join_all().await;
    let cut =
        || bench.sandbox.ledger().entries().iter().any(|it| it.operation == "upload" && it.status.is_none());
    eventually(cut, || "the end of the cut upload".to_owned()).await;
    eventually(|| bench.blobs() == 0, || "the partial blob to go".to_owned()).await;
    assert_eq!(bench.status(&id).await, "UploadStarted");
    assert_eq!(bench.upload(&id, "hello").await.status, 200);
    let transfer = bench.transfer(&id);
    assert_eq!((transfer.size, transfer.md5.as_deref()), (5, Some(HELLO_MD5)));
    let history: Vec<_> = transfer.history.iter().map(|row| row.status.name()).collect();
    assert_eq!(history, ["Initialized", "UploadStarted", "UploadStarted", "Published"]);
}

#[tokio::test]
async fn s047_after_a_cut_beyond_a_thousand_blocks_no_upload_succeeds() {
    for (scan, status) in [(false, "Failed"), (true, "UploadProcessing")] {
        let bench = Bench::with(|options| options.interim_commit_after = 3).await;
        let id = bench.initialize(|body| body["disableVirusScan"] = (!scan).into()).await;
        let (sender, upload) = begin(&bench, &id).await;
        sender.send(Err(std::io::Error::other("cut"))).await.unwrap();
        upload.join_all().await;
        eventually(|| bench.blobs() == 0, || "the partial blob to go".to_owned()).await;
        eventually(|| scan || bench.transfer(&id).interim_commits, || "what was committed".to_owned()).await;
        assert_eq!(bench.status(&id).await, "UploadStarted");
        let bench = if scan { bench } else { bench.restart().await };
        let reply = bench.upload(&id, "hello").await;
        if scan {
            assert_eq!(reply.status, 200);
        } else {
            reply.is_fault(500, 8);
            assert_eq!(bench.count_events(&id, "uploadfailed"), 1);
        }
        assert_eq!(bench.status(&id).await, status);
    }
}

#[tokio::test]
async fn s047_a_body_shorter_than_its_length_is_no_success() {
    use tokio::io::AsyncWriteExt as _;
    let bench = Bench::start().await;
    let id = bench.initialize(|_| {}).await;
    let address = bench.sandbox.url().strip_prefix("http://").unwrap().to_owned();
    let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
    let head = format!(
        "POST {BASE}/{id}/upload HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {}\r\nContent-Length: 10\r\n\r\nhello",
        bench.token(SENDER)
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    drop(stream);
    let ended =
        || bench.sandbox.ledger().entries().iter().any(|it| it.operation == "upload" && it.status.is_none());
    eventually(ended, || "the end of the upload".to_owned()).await;
    assert_eq!(bench.status(&id).await, "UploadStarted");
    assert!(!bench.transfer(&id).stored);
    eventually(|| bench.blobs() == 0, || "the partial blob to go".to_owned()).await;
}

#[tokio::test]
async fn s048_an_upload_stuck_for_a_day_has_failed() {
    let bench = Bench::start().await;
    let id = bench.initialize(|_| {}).await;
    let (sender, upload) = begin(&bench, &id).await;
    sender.send(Err(std::io::Error::other("cut"))).await.unwrap();
    upload.join_all().await;
    bench.clock.advance(DAY);
    let still_waiting = bench.initialize(|_| {}).await;
    assert_eq!(bench.status(&id).await, "UploadStarted");
    bench.clock.advance(Duration::from_mins(31));
    bench.until(&id, "Failed").await;
    assert_eq!(bench.overview(&id).await["fileTransferStatusText"], STUCK);
    eventually(|| bench.count_events(&id, "uploadfailed") == 1, || "the event".to_owned()).await;
    assert_eq!(bench.status(&still_waiting).await, "Initialized");
}

#[tokio::test]
async fn s049_an_empty_file_is_a_file() {
    let bench = Bench::start().await;
    let id = bench.publish("").await;
    let overview = bench.overview(&id).await;
    assert_eq!((&overview["fileTransferSize"], &overview["checksum"]), (&0.into(), &MD5_OF_NOTHING.into()));
    let reply = bench.download(RECIPIENT, &id, None).await;
    assert_eq!((reply.status, reply.body.len()), (200, 0));
}

#[tokio::test]
async fn s050_a_wrong_content_type_is_415_and_none_is_fine() {
    let bench = Bench::start().await;
    let id = bench.initialize(|_| {}).await;
    let request = || bench.post_as(SENDER, &format!("/{id}/upload")).body("hello");
    send(request().header("Content-Type", "text/plain")).await.is_bare(415);
    assert_eq!(bench.status(&id).await, "Initialized");
    assert_eq!(send(request()).await.status, 200);
}

#[tokio::test]
async fn s051_during_the_upload_the_overview_says_started() {
    let bench = Bench::start().await;
    let id = bench.initialize(|_| {}).await;
    let (sender, upload) = begin(&bench, &id).await;
    let overview = bench.overview(&id).await;
    assert_eq!(overview["fileTransferStatus"], "UploadStarted");
    assert_eq!(overview["fileTransferSize"], 0);
    sender.send(Ok(Bytes::from_static(b"lo"))).await.unwrap();
    drop(sender);
    assert_eq!(upload.join_all().await, [Some(200)]);
    assert_eq!(bench.overview(&id).await["checksum"], HELLO_MD5);
}

#[tokio::test]
async fn s052_a_storage_error_is_500_and_the_end_of_the_transfer() {
    let bench = Bench::start().await;
    bench.resource(|resource| resource.storage_fails = true);
    let id = bench.initialize(|_| {}).await;
    bench.upload(&id, "hello").await.is_fault(500, 8);
    let overview = bench.overview(&id).await;
    assert_eq!(overview["fileTransferStatus"], "Failed");
    assert_eq!(overview["fileTransferStatusText"], "Error occurred while uploading fileTransfer");
    assert_eq!(bench.count_events(&id, "uploadfailed"), 1);
}

#[tokio::test]
async fn s053_of_two_uploads_at_once_the_loser_destroys_the_winner() {
    let bench = Bench::start().await;
    let id = bench.initialize(|_| {}).await;
    let (slow, first) = begin(&bench, &id).await;
    assert_eq!(bench.upload(&id, "hello").await.status, 200);
    assert_eq!(bench.status(&id).await, "Published");
    drop(slow);
    assert_eq!(first.join_all().await, [Some(500)]);
    let overview = bench.overview(&id).await;
    assert_eq!(overview["fileTransferStatus"], "Failed");
    assert_eq!(overview["fileTransferStatusText"], "Error occurred while uploading fileTransfer");
    eventually(|| bench.blobs() == 0, || "both blobs to go".to_owned()).await;
    bench.download(RECIPIENT, &id, None).await.is_fault(403, 7);
}

#[tokio::test]
async fn s053_an_upload_that_ends_after_its_transfer_was_over_changes_nothing() {
    let bench = Bench::with(|options| options.stuck_after = Duration::from_secs(2)).await;
    let id = bench.initialize(|_| {}).await;
    let (sender, upload) = begin(&bench, &id).await;
    let failed = || {
        bench.clock.advance(Duration::from_millis(100));
        bench.transfer(&id).status().name() == "Failed"
    };
    eventually(failed, || "the stuck upload to fail".to_owned()).await;
    eventually(|| bench.count_events(&id, "uploadfailed") == 1, || "the event".to_owned()).await;
    let history = bench.transfer(&id).history;
    drop(sender);
    assert_eq!(upload.join_all().await, [Some(200)]);
    assert_eq!(bench.transfer(&id).history, history);
    assert_eq!(bench.count_events(&id, "uploadfailed"), 1);
    eventually(|| bench.blobs() == 0, || "the blob to go".to_owned()).await;
}

#[tokio::test]
async fn s053_a_second_loser_tells_of_no_second_failure() {
    let bench = Bench::start().await;
    let id = bench.initialize(|_| {}).await;
    let (one, first) = begin(&bench, &id).await;
    let (two, second) = begin(&bench, &id).await;
    assert_eq!(bench.upload(&id, "hello").await.status, 200);
    drop(one);
    assert_eq!(first.join_all().await, [Some(500)]);
    assert_eq!(bench.count_events(&id, "uploadfailed"), 1);
    drop(two);
    assert_eq!(second.join_all().await, [Some(200)], "the winner's blob is gone: nothing collides");
    assert_eq!((bench.status(&id).await.as_str(), bench.count_events(&id, "uploadfailed")), ("Failed", 1));
}

#[tokio::test]
async fn s052_a_storage_error_in_the_midst_is_told_to_a_client_that_goes_on_writing() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let bench = Bench::start().await;
    let id = bench.initialize(|_| {}).await;
    std::fs::remove_dir(bench.sandbox.dir().join("blobs")).unwrap();
    let address = bench.sandbox.url().strip_prefix("http://").unwrap().to_owned();
    let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
    let token = bench.token(SENDER);
    let head = format!(
        "POST {BASE}/{id}/upload HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\nContent-Length: 4000000\r\n\r\n",
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&vec![b'x'; 2_000_000]).await.unwrap();
    let mut answer = vec![0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, b"HTTP/1.1 500");
    // The rest is read as well, and then the connection serves another request.
    stream.write_all(&vec![b'x'; 2_000_000]).await.unwrap();
    let next = format!("GET {BASE}/x HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(next.as_bytes()).await.unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.unwrap();
    assert!(rest.contains("BRO-00008") && rest.contains("HTTP/1.1 401"), "{rest}");
    assert_eq!(bench.status(&id).await, "Failed");
}

#[tokio::test]
async fn a_large_upload_arrives_whole() {
    let bench = Bench::start().await;
    let content: Vec<u8> = (0..3_000_001_u32).map(|n| n.to_le_bytes()[n as usize % 3]).collect();
    let id = bench.initialize(|_| {}).await;
    assert_eq!(bench.upload(&id, content.clone()).await.status, 200);
    assert!(bench.download(RECIPIENT, &id, None).await.body == content);
    let part = bench.download(RECIPIENT, &id, Some("bytes=1000000-")).await;
    assert!(part.status == 206 && part.body == content[1_000_000..]);
    let downloads =
        bench.sandbox.ledger().entries().into_iter().filter(|entry| entry.operation == "download");
    let downloads: Vec<_> = downloads.map(|entry| (entry.status, entry.sent)).collect();
    assert_eq!(downloads, [(Some(200), 3_000_001), (Some(206), 2_000_001)]);
    assert_eq!(bench.transfer(&id).delivered, 2);
}

#[tokio::test]
async fn s063_a_computed_checksum_appears_some_time_after_a_scan() {
    let bench = Bench::start().await;
    let id = bench.initialize(scanned).await;
    assert_eq!(bench.upload(&id, "hello").await.status, 200);
    bench.clock.advance(Duration::from_millis(200));
    bench.until(&id, "Published").await;
    assert_eq!(bench.overview(&id).await["checksum"], "");
    bench.clock.advance(Duration::from_millis(200));
    eventually(|| bench.transfer(&id).checksum.as_deref() == Some(HELLO_MD5), || "the checksum".to_owned())
        .await;
}

#[tokio::test]
async fn s121_malware_is_found_wherever_it_lies() {
    let bench = Bench::start().await;
    let eicar = EICAR.concat();
    // At the start, over the border of two blocks of the scan, after a false start, and at the end.
    let contents = [
        eicar.clone(),
        format!("{}{eicar}", "X".repeat(256 * 1024 - 30)),
        format!("X5O!P{eicar}tail"),
        format!("{}{eicar}", "z".repeat(600_000)),
    ];
    for content in contents {
        let id = bench.initialize(scanned).await;
        assert_eq!(bench.upload(&id, content).await.status, 200);
        bench.clock.advance(Duration::from_millis(200));
        bench.until(&id, "Failed").await;
        let text = bench.overview(&id).await["fileTransferStatusText"].as_str().unwrap().to_owned();
        assert!(text.starts_with("Malware scan failed: Malicious. Extra details: {"), "{text}");
        eventually(
            || bench.count_events(&id, "fileneverconfirmeddownloaded") == 2,
            || "the events".to_owned(),
        )
        .await;
        assert_eq!(bench.count_events(&id, "uploadfailed"), 1);
        assert_eq!(bench.blobs(), 0);
        bench.confirm(RECIPIENT, &id).await.is_fault(400, 10);
    }
    let clean = bench.initialize(scanned).await;
    assert_eq!(bench.upload(&clean, format!("{} {}", EICAR[0], EICAR[1])).await.status, 200);
    bench.clock.advance(Duration::from_millis(200));
    bench.until(&clean, "Published").await;
    assert_eq!(bench.publish(&eicar).await.len(), 36, "without a scan nobody looks");
}

#[tokio::test]
async fn a_scan_result_that_comes_too_late_is_ignored() {
    let bench = Bench::with(|options| options.scan_delay = DAY * 31).await;
    let id = bench.initialize(scanned).await;
    assert_eq!(bench.upload(&id, "hello").await.status, 200);
    bench.clock.advance(DAY * 30);
    bench.until(&id, "Purged").await;
    bench.clock.advance(DAY * 2);
    let marker = bench.initialize(scanned).await;
    assert_eq!(bench.upload(&marker, "hello").await.status, 200);
    bench.clock.advance(DAY * 29);
    assert_eq!(bench.status(&id).await, "Purged");
    assert_eq!(bench.transfer(&id).published(), 0);
}
