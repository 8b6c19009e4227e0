//! PATCH.

use std::time::Duration;

use bytes::Bytes;
use reqwest::Method;
use tokio::task::JoinSet;

use super::{STEP, held_body, path};
use crate::sandbox::tests::support::{Bench, RECIPIENT, SENDER, eventually, send};

const CHUNK: &str = "application/offset+octet-stream";

#[tokio::test]
async fn s103_a_chunk_at_the_right_offset_is_accepted() {
    let bench = Bench::start().await;
    let (_, path) = bench.begin(10, |_| {}).await;
    bench.clock.advance(Duration::from_mins(5));
    let reply = bench.patch(&path, 0, "hello").await;
    reply.is_accepted(5);
    assert_eq!(reply.header("Upload-Expires"), Some("Wed, 19 Aug 2026 11:45:01 GMT"));
    bench.patch(&path, 5, "").await.is_accepted(5);
    let entries = bench.sandbox.ledger().entries();
    let rows: Vec<_> = entries.iter().filter(|it| it.operation == "tus-patch").collect();
    assert_eq!((rows[0].effect, rows[0].received), (Some("tus accepted"), 5));
    assert_eq!((rows[1].effect, rows[1].received), (None, 0));
}

#[tokio::test]
async fn s104_a_wrong_offset_is_409_naming_both() {
    let bench = Bench::start().await;
    let (_, path) = bench.begin(10, |_| {}).await;
    bench.patch(&path, 0, "hello").await.is_accepted(5);
    for offset in [0, 4, 6, 9] {
        let text = format!("Offset does not match file. File offset: 5. Request offset: {offset}");
        bench.patch(&path, offset, "x").await.is_refused(409, &text);
    }
    assert_eq!(bench.durable(&path).await, Some(0), "the offset named is not the durable one");
}

#[tokio::test]
async fn s105_at_the_length_or_beyond_it_is_204_without_reading_the_body() {
    let bench = Bench::start().await;
    let (id, path) = bench.begin(5, |_| {}).await;
    for offset in [5, 6, 1_000_000] {
        bench.patch(&path, offset, "not read").await.is_accepted(5);
    }
    assert_eq!(bench.accepted(&path).await, Some(0));
    bench.patch(&path, 0, "hello").await.is_accepted(5);
    bench.patch(&path, 5, "").await.is_accepted(5);
    // Ahead of access control and of the protocol's version, but not of token and scope.
    let request =
        |token: String| bench.request(Method::PATCH, &path).header("Upload-Offset", 5).bearer_auth(token);
    send(request(bench.token(RECIPIENT))).await.is_accepted(5);
    send(request(bench.token_with_scope(SENDER, "altinn:broker.read"))).await.is_bare(403);
    send(bench.request(Method::PATCH, &path).header("Upload-Offset", 5)).await.is_bare(401);
    let received: u64 = bench.sandbox.ledger().entries().iter().map(|entry| entry.received).sum();
    assert_eq!(received, 5);
    bench.run_until(&id, "Published").await;
}

#[tokio::test]
async fn s106_a_chunk_needs_its_type_and_an_offset() {
    let bench = Bench::start().await;
    let (_, path) = bench.begin(10, |_| {}).await;
    let request = || bench.tus(Method::PATCH, &path).body("hello");
    for (kind, shown) in [("application/octet-stream", "application/octet-stream"), ("", "")] {
        let text = format!("Content-Type {shown} is invalid. Must be application/offset+octet-stream");
        let request = request().header("Upload-Offset", 0);
        let request = if kind.is_empty() { request } else { request.header("Content-Type", kind) };
        send(request).await.is_refused(415, &text);
    }
    let request = || request().header("Content-Type", CHUNK);
    send(request()).await.is_refused(400, "Missing Upload-Offset header");
    let unreadable = "Could not parse Upload-Offset header";
    send(request().header("Upload-Offset", "zero")).await.is_refused(400, unreadable);
    let negative = "Header Upload-Offset must be a positive number";
    send(request().header("Upload-Offset", "-1")).await.is_refused(400, negative);
    let again = request().header("Upload-Offset", 0).header("Upload-Length", 10);
    send(again).await.is_refused(400, "Upload-Length cannot be updated once set");
    assert_eq!(bench.accepted(&path).await, Some(0));
}

#[tokio::test]
async fn s107_shortcut_a_checksum_never_matches_and_the_chunk_counts() {
    let bench = Bench::start().await;
    let (_, path) = bench.begin(10, |_| {}).await;
    let text = "Header Upload-Checksum does not match the checksum of the file";
    // The first is right.
    for (offset, checksum) in [(0, "md5 XUFAKrxLKna5cZ2REBfFkg=="), (5, "md5 AAAA")] {
        let request = bench.chunk(&path, offset, if offset == 0 { "hello" } else { "wor" });
        send(request.header("Upload-Checksum", checksum)).await.is_refused(460, text);
    }
    assert_eq!(bench.accepted(&path).await, Some(8));
    bench.until_durable(&path, 8).await;
    for wrong in ["sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=", "md5"] {
        let request = bench.chunk(&path, 8, "ld").header("Upload-Checksum", wrong);
        assert_eq!(send(request).await.status, 400, "{wrong}");
    }
    assert_eq!(bench.accepted(&path).await, Some(8));
}

#[tokio::test]
async fn s108_more_bytes_than_fit_are_413_and_none_counts() {
    let bench = Bench::start().await;
    let (_, path) = bench.begin(10, |_| {}).await;
    bench.patch(&path, 0, "hello").await.is_accepted(5);
    let text = "Request contains more data than the file's upload length";
    bench.patch(&path, 5, "world!").await.is_refused(413, text);
    bench.patch(&path, 5, "x".repeat(3_000_000)).await.is_refused(413, text);
    assert_eq!(bench.accepted(&path).await, Some(5));
    bench.patch(&path, 5, "world").await.is_accepted(10);
}

#[tokio::test]
async fn s109_shortcut_after_204_the_bytes_are_not_yet_durable() {
    let bench = Bench::start().await;
    let (_, path) = bench.begin(20, |_| {}).await;
    bench.patch(&path, 0, "hello").await.is_accepted(5);
    bench.patch(&path, 5, "world").await.is_accepted(10);
    assert_eq!(bench.durable(&path).await, Some(0));
    bench.until_durable(&path, 10).await;
}

#[tokio::test]
async fn s110_a_cut_chunk_is_accepted_and_never_stored() {
    let bench = Bench::start().await;
    let (id, path) = bench.begin(20, |_| {}).await;
    bench.patch(&path, 0, "hello").await.is_accepted(5);
    bench.until_durable(&path, 5).await;
    bench.cut(&path, 5, 10, "wor").await;
    bench.until_accepted(&path, 8).await;
    let cut = || {
        bench.sandbox.ledger().entries().iter().any(|it| it.operation == "tus-patch" && it.status.is_none())
    };
    eventually(cut, || "the end of the cut request".to_owned()).await;
    bench.run(5).await;
    assert_eq!(bench.durable(&path).await, Some(5));
    let text = "Offset does not match file. File offset: 8. Request offset: 5";
    bench.patch(&path, 5, "world").await.is_refused(409, text);
    // Going on gets 204s and leads nowhere.
    bench.patch(&path, 8, "ld and more.").await.is_accepted(20);
    bench.run(5).await;
    bench.patch(&path, 20, "").await.is_accepted(20);
    bench.run(5).await;
    assert_eq!(bench.status(&id).await, "UploadStarted");
}

#[tokio::test]
async fn s109_a_chunk_that_is_cut_after_its_last_byte_is_accepted_and_stored_later() {
    let bench = Bench::start().await;
    for size in [5, 3_000_000] {
        let (id, path) = bench.begin(size as u64 + 1, |_| {}).await;
        let sent = "x".repeat(size);
        bench.cut(&path, 0, size, &sent).await;
        bench.until_accepted(&path, size as u64).await;
        assert_eq!(bench.durable(&path).await, Some(0), "what is durable lags");
        let text = format!("Offset does not match file. File offset: {size}. Request offset: 0");
        bench.patch(&path, 0, "x").await.is_refused(409, &text);
        bench.until_durable(&path, size as u64).await;
        bench.patch(&path, size as u64, "y").await.is_accepted(size as u64 + 1);
        bench.run_until(&id, "Published").await;
        assert_eq!(bench.download(RECIPIENT, &id, None).await.body, format!("{sent}y").as_bytes());
    }
}

#[tokio::test]
async fn a_chunk_of_which_nothing_comes_for_a_minute_is_cut() {
    let bench = Bench::start().await;
    let (_, path) = bench.begin(100_000, |_| {}).await;
    let (sender, body) = held_body();
    let request = bench.chunk(&path, 0, body);
    let mut first = JoinSet::new();
    first.spawn(async move { request.send().await.is_err() });
    // Enough for the minimum data rate, which is another matter.
    for total in [12_000, 24_000] {
        sender.send(Ok(Bytes::from(vec![0; 12_000]))).await.unwrap();
        until_arrived(&bench, total).await;
        bench.clock.advance(Duration::from_secs(59));
        assert_eq!(bench.head(&path).await.status, 423, "less than a minute");
    }
    bench.clock.advance(Duration::from_secs(2));
    bench.until_accepted(&path, 24_000).await;
    assert_eq!(first.join_all().await, [true], "there is no answer");
    bench.run(3).await;
    assert_eq!(bench.durable(&path).await, Some(0));
}

/// Waits until the chunk on the disk has so many bytes.
async fn until_arrived(bench: &Bench, length: u64) {
    let staged = bench.sandbox.dir().join("tus");
    let arrived = || {
        let dirs =
            std::fs::read_dir(&staged).unwrap().filter_map(|it| std::fs::read_dir(it.unwrap().path()).ok());
        dirs.flatten().any(|it| it.unwrap().metadata().is_ok_and(|it| it.len() == length))
    };
    eventually(arrived, || format!("{length} bytes")).await;
}

#[tokio::test]
async fn a_chunk_that_cannot_be_written_is_refused_and_read_to_its_end() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let bench = Bench::start().await;
    let (id, path) = bench.begin(100_000_000, |_| {}).await;
    // Where the directory of the blocks should be made, there is a file.
    let blocks = bench.sandbox.dir().join("tus").join(&id);
    std::fs::write(&blocks, "").unwrap();
    // A client that looks for no answer before it has written everything.
    let address = bench.sandbox.url().strip_prefix("http://").unwrap().to_owned();
    let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
    let mut request = format!(
        "PATCH {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {}\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\nContent-Type: {CHUNK}\r\nContent-Length: 20000000\r\nConnection: close\r\n\r\n",
        bench.token(SENDER)
    )
    .into_bytes();
    request.resize(request.len() + 20_000_000, 0);
    stream.write_all(&request).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
    std::fs::remove_file(&blocks).unwrap();
    bench.patch(&path, 0, "hello").await.is_accepted(5);
}

#[tokio::test]
async fn a_cut_chunk_may_be_stored_where_chance_says_so() {
    let bench = Bench::with(|options| (options.tus_wedge, options.seed) = (0.0, Some(7))).await;
    let (id, path) = bench.begin(10, |_| {}).await;
    bench.cut(&path, 0, 10, "hello").await;
    bench.until_accepted(&path, 5).await;
    bench.until_durable(&path, 5).await;
    bench.patch(&path, 5, "world").await.is_accepted(10);
    bench.run_until(&id, "Published").await;
    assert_eq!(bench.download(RECIPIENT, &id, None).await.body, b"helloworld");
}

#[tokio::test]
async fn a_second_request_to_an_upload_is_423_while_a_chunk_arrives() {
    let bench = Bench::start().await;
    let (_, path) = bench.begin(10, |_| {}).await;
    let (sender, body) = held_body();
    let request = bench.chunk(&path, 0, body);
    let mut first = JoinSet::new();
    first.spawn(async move { send(request).await.status });
    sender.send(Ok(Bytes::from_static(b"hel"))).await.unwrap();
    let text = "File is currently being updated. Please try again later";
    let patience = tokio::time::timeout(Duration::from_secs(30), async {
        while bench.head(&path).await.status != 423 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    assert!(patience.await.is_ok());
    bench.patch(&path, 0, "hello").await.is_refused(423, text);
    send(bench.tus(Method::DELETE, &path)).await.is_refused(423, text);
    // Another upload is not concerned, and a PATCH at the end is answered ahead of the lock.
    let (_, other) = bench.begin(10, |_| {}).await;
    bench.patch(&other, 0, "hello").await.is_accepted(5);
    bench.patch(&path, 10, "").await.is_accepted(10);
    sender.send(Ok(Bytes::from_static(b"lo"))).await.unwrap();
    drop(sender);
    assert_eq!(first.join_all().await, [204]);
    assert_eq!(bench.head(&path).await.status, 200);
}

#[tokio::test]
async fn where_nothing_was_created_there_is_no_upload() {
    let bench = Bench::start().await;
    let id = bench.initialize(|_| {}).await;
    let reply = bench.patch(&path(&id), 0, "hello").await;
    assert_eq!((reply.status, reply.text().as_str()), (404, ""));
}

#[tokio::test]
async fn a_block_that_cannot_be_stored_ends_the_upload() {
    let bench = Bench::start().await;
    let (id, path) = bench.begin(10, |_| {}).await;
    bench.resource(|resource| resource.storage_fails = true);
    bench.patch(&path, 0, "hello").await.is_accepted(5);
    bench.clock.advance(STEP);
    let dir = bench.sandbox.dir().join("tus").join(&id);
    eventually(|| std::fs::read_dir(&dir).unwrap().count() == 0, || "the chunk to go".to_owned()).await;
    bench.resource(|resource| resource.storage_fails = false);
    let reply = bench.patch(&path, 5, "wor").await;
    let text = format!("Buffered TUS upload failed for file id {id}. ");
    assert!(reply.status == 400 && reply.text().starts_with(&text), "{}", reply.text());
    assert_eq!(bench.accepted(&path).await, Some(8), "it was counted");
    assert_eq!(bench.durable(&path).await, Some(0));
}

#[tokio::test]
async fn a_large_chunk_arrives_whole() {
    let bench = Bench::start().await;
    let content: Vec<u8> = (0..3_000_001_u32).map(|n| n.to_le_bytes()[n as usize % 3]).collect();
    let (id, path) = bench.begin(3_000_001, |_| {}).await;
    bench.patch(&path, 0, content[..2_000_000].to_vec()).await.is_accepted(2_000_000);
    bench.patch(&path, 2_000_000, content[2_000_000..].to_vec()).await.is_accepted(3_000_001);
    bench.run_until(&id, "Published").await;
    assert!(bench.download(RECIPIENT, &id, None).await.body == content);
}
