//! Partial uploads, and joining them.

use reqwest::Method;
use serde_json::Value;
use tokio::task::JoinSet;

use super::{ALREADY, STEP, path, scanned};
use crate::sandbox::tests::support::{Bench, HELLO_MD5, RECIPIENT, eventually, send};

async fn start(bench: &Bench, change: impl FnOnce(&mut Value)) -> (String, String) {
    let id = bench.initialize(change).await;
    let path = path(&id);
    (id, path)
}

/// What the sandbox has written down about the uploads of a transfer; nothing before it has.
fn record(bench: &Bench, id: &str) -> Value {
    let text = std::fs::read(bench.sandbox.dir().join("tus").join(format!("{id}.json")));
    text.map_or(Value::Null, |text| serde_json::from_slice(&text).unwrap())
}

#[tokio::test]
async fn s114_a_partial_create_has_a_location_of_its_own() {
    let bench = Bench::start().await;
    let (id, path) = start(&bench, |_| {}).await;
    let request = || bench.tus(Method::POST, &path).header("Upload-Concat", "partial");
    send(request()).await.is_refused(400, "Missing Upload-Length header");
    let reply = send(request().header("Upload-Length", 5)).await;
    assert_eq!(reply.status, 201);
    assert!(reply.header("Upload-Expires").is_some());
    let part = reply.header("Location").unwrap();
    let hex = part.strip_prefix(&format!("{path}/partial/")).unwrap();
    assert!(hex.len() == 32 && hex.chars().all(|c| c.is_ascii_hexdigit() && !c.is_ascii_uppercase()));
    assert_eq!(bench.status(&id).await, "UploadStarted");
    let head = bench.head(part).await;
    assert_eq!((head.status, head.header("Upload-Concat")), (200, Some("partial")));
    assert_eq!((head.number("Upload-Offset"), head.number("Upload-Length")), (Some(0), Some(5)));
    assert_eq!(bench.head(&path).await.status, 500, "there is no upload of the whole");
}

#[tokio::test]
async fn the_last_chunk_of_a_partial_waits_until_all_is_stored() {
    let bench = Bench::start().await;
    let (id, path) = start(&bench, |_| {}).await;
    let part = bench.begin_partial(&path, 5).await;
    bench.patch(&part, 0, "hel").await.is_accepted(3);
    let request = bench.chunk(&part, 3, "lo");
    let mut last = JoinSet::new();
    last.spawn(async move { send(request).await });
    let key = part.rsplit('/').next().unwrap().to_owned();
    eventually(|| record(&bench, &id)["partials"][&key]["accepted"] == 5, || "the last chunk".to_owned())
        .await;
    assert_eq!(bench.head(&part).await.status, 423, "it is still under way");
    assert!(last.try_join_next().is_none());
    bench.clock.advance(STEP);
    last.join_all().await[0].is_accepted(5);
    assert_eq!(bench.durable(&part).await, Some(5));
}

#[tokio::test]
async fn s115_a_final_needs_finished_partials_of_this_transfer() {
    let bench = Bench::start().await;
    let (id, path) = start(&bench, |_| {}).await;
    let (_, other) = start(&bench, |_| {}).await;
    let first = bench.partial(&path, "hello").await;
    let unfinished = bench.begin_partial(&path, 5).await;
    let key = |part: &str| part.rsplit('/').next().unwrap().to_owned();
    let name = format!("partial/{}", key(&unfinished));
    let text = format!(
        "Some of the files supplied for concatenation are not finished and can not be concatenated: {name}"
    );
    bench.join(&path, &[&first, &unfinished]).await.is_refused(400, &text);
    // Of another transfer: by its own path, and as if it were of this one.
    let foreign = bench.partial(&other, "hello").await;
    let invalid = r#"Header Upload-Concat: Header is invalid. Valid values are "partial" and "final" followed by a list of file urls to concatenate"#;
    bench.join(&path, &[&foreign]).await.is_refused(400, invalid);
    let borrowed = format!("{path}/partial/{}", key(&foreign));
    let text = format!("Partial upload {} does not belong to file transfer {id}.", key(&foreign));
    bench.join(&path, &[&borrowed]).await.is_refused(400, &text);
    let nobody = format!("{path}/partial/{}", "0".repeat(32));
    let text =
        format!("Could not find some of the files supplied for concatenation: partial/{}", "0".repeat(32));
    bench.join(&path, &[&nobody]).await.is_refused(400, &text);
    for wrong in ["final", "final;", "FINAL;x", "parts"] {
        let request = bench.tus(Method::POST, &path).header("Upload-Concat", wrong);
        send(request).await.is_refused(400, invalid);
    }
    assert_eq!(bench.status(&id).await, "UploadStarted");
}

#[tokio::test]
async fn a_final_needs_what_is_stored_not_what_is_accepted() {
    let bench = Bench::start().await;
    let (id, path) = start(&bench, |_| {}).await;
    let part = bench.begin_partial(&path, 5).await;
    let request = bench.chunk(&part, 0, "hello");
    let mut chunk = JoinSet::new();
    chunk.spawn(async move { send(request).await.status });
    let key = part.rsplit('/').next().unwrap();
    eventually(|| record(&bench, &id)["partials"][key]["accepted"] == 5, || "the chunk".to_owned()).await;
    let text = format!("Partial upload {key} is not ready for concatenation. Expected 5 bytes, committed 0.");
    bench.join(&path, &[&part]).await.is_refused(400, &text);
    bench.clock.advance(STEP);
    assert_eq!(chunk.join_all().await, [204]);
    assert_eq!(bench.join(&path, &[&part]).await.status, 201);
}

#[tokio::test]
async fn references_are_compared_with_the_path_as_it_was_sent() {
    let bench = Bench::start().await;
    let (id, path) = start(&bench, |_| {}).await;
    let part = bench.partial(&path, "hello").await;
    let upper = super::path(&id.to_uppercase());
    assert_eq!(bench.join(&upper, &[&part]).await.status, 400);
    let url = format!("https://platform.tt02.altinn.no{part}");
    assert_eq!(bench.join(&path, &[&url]).await.status, 201);
}

#[tokio::test]
async fn s116_shortcut_a_final_is_joined_in_order_of_creation() {
    let bench = Bench::start().await;
    let (id, path) = start(&bench, |_| {}).await;
    let first = bench.partial(&path, "first, ").await;
    let second = bench.partial(&path, "second").await;
    let reply = bench.join(&path, &[&second, &first]).await;
    reply.is_bare(201);
    assert_eq!(reply.header("Location"), Some(path.as_str()));
    assert_eq!(reply.header("Upload-Expires"), None);
    assert_eq!(bench.status(&id).await, "UploadProcessing");
    let head = bench.head(&path).await;
    assert_eq!((head.number("Upload-Offset"), head.number("Upload-Length")), (Some(13), Some(13)));
    assert_eq!(head.header("Upload-Concat"), Some(format!("final;{second} {first}").as_str()));
    bench.confirm(RECIPIENT, &id).await.is_fault(400, 3);
    bench.run_until(&id, "Published").await;
    assert_eq!(bench.count_events(&id, "uploadprocessing"), 0);
    assert_eq!(bench.download(RECIPIENT, &id, None).await.body, b"first, second");
    let entries = bench.sandbox.ledger().entries();
    assert!(entries.iter().any(|it| it.operation == "tus-create" && it.effect == Some("tus joined")));
}

#[tokio::test]
async fn s116_a_permutation_fails_by_its_checksum() {
    let bench = Bench::start().await;
    let (id, path) = start(&bench, |body| body["checksum"] = HELLO_MD5.into()).await;
    // The second part of the file is created first.
    let second = bench.partial(&path, "lo").await;
    let first = bench.partial(&path, "hel").await;
    assert_eq!(bench.join(&path, &[&first, &second]).await.status, 201);
    bench.run_until(&id, "Failed").await;
    assert_eq!(bench.overview(&id).await["fileTransferStatusText"], "Checksum mismatch");
    eventually(|| bench.count_events(&id, "uploadfailed") == 1, || "the event".to_owned()).await;
    assert_eq!(bench.transfer(&id).published(), 0);
}

#[tokio::test]
async fn s116_with_scan_and_checksum_it_ends_as_others_do() {
    let bench = Bench::start().await;
    let (id, path) = start(&bench, |body| {
        scanned(body);
        body["checksum"] = HELLO_MD5.into();
    })
    .await;
    let parts = [bench.partial(&path, "hel").await, bench.partial(&path, "lo").await];
    assert_eq!(bench.join(&path, &[&parts[0], &parts[1]]).await.status, 201);
    bench.run_until(&id, "Published").await;
    let history: Vec<_> = bench.transfer(&id).history.iter().map(|row| row.status.name()).collect();
    assert_eq!(history, ["Initialized", "UploadStarted", "UploadProcessing", "Published"]);
}

#[tokio::test]
async fn s116_deleted_and_abandoned_partials_are_joined_too() {
    let bench = Bench::start().await;
    for delete in [true, false] {
        let (id, path) = start(&bench, |_| {}).await;
        let stray = bench.begin_partial(&path, 9).await;
        bench.patch(&stray, 0, "stray").await.is_accepted(5);
        bench.until_durable(&stray, 5).await;
        if delete {
            send(bench.tus(Method::DELETE, &stray)).await.is_bare(204);
            assert_eq!(bench.head(&stray).await.status, 500);
        }
        let part = bench.partial(&path, "hello").await;
        assert_eq!(bench.join(&path, &[&part]).await.status, 201);
        bench.run(6).await;
        // Ten bytes are stored, five are expected.
        assert_eq!(bench.status(&id).await, "UploadProcessing");
        assert_eq!(bench.head(&path).await.status, 200);
        bench.run(4).await;
        assert_eq!(bench.status(&id).await, "UploadProcessing", "it hangs");
    }
}

#[tokio::test]
async fn a_partial_without_blocks_does_no_harm() {
    let bench = Bench::start().await;
    let (id, path) = start(&bench, |_| {}).await;
    bench.begin_partial(&path, 9).await;
    let part = bench.partial(&path, "hello").await;
    assert_eq!(bench.join(&path, &[&part]).await.status, 201);
    bench.run_until(&id, "Published").await;
    assert_eq!(bench.transfer(&id).md5.as_deref(), Some(HELLO_MD5));
}

#[tokio::test]
async fn s117_a_final_again_is_409_and_a_chunk_to_it_403() {
    let bench = Bench::start().await;
    let (id, path) = start(&bench, |_| {}).await;
    let part = bench.partial(&path, "hello").await;
    assert_eq!(bench.join(&path, &[&part]).await.status, 201);
    bench.join(&path, &[&part]).await.is_forbidden(409, ALREADY);
    let text = r#"File with "Upload-Concat: final" cannot be patched"#;
    bench.patch(&path, 2, "x").await.is_refused(403, text);
    bench.patch(&path, 5, "").await.is_accepted(5);
    send(bench.tus(Method::DELETE, &path)).await.is_forbidden(409, ALREADY);
    bench.run_until(&id, "Published").await;
    bench.join(&path, &[&part]).await.is_forbidden(409, ALREADY);
    assert_eq!(bench.transfer(&id).published(), 1);
}

#[tokio::test]
async fn chunks_of_different_partials_may_overlap() {
    let bench = Bench::start().await;
    let (id, path) = start(&bench, |_| {}).await;
    let (first, second) = (bench.begin_partial(&path, 6).await, bench.begin_partial(&path, 6).await);
    let (a, b) = tokio::join!(bench.patch(&second, 0, "DEF"), bench.patch(&first, 0, "abc"));
    a.is_accepted(3);
    b.is_accepted(3);
    bench.patch_meanwhile(&second, 3, "GHI").await.is_accepted(6);
    bench.patch_meanwhile(&first, 3, "def").await.is_accepted(6);
    assert_eq!(bench.join(&path, &[&first, &second]).await.status, 201);
    bench.run_until(&id, "Published").await;
    assert_eq!(bench.download(RECIPIENT, &id, None).await.body, b"abcdefDEFGHI");
}

#[tokio::test]
async fn more_than_fifty_thousand_blocks_of_all_partials_are_never_joined() {
    let bench = Bench::start().await;
    let id = bench.initialize(|_| {}).await;
    let path = path(&id);
    let (first, second) = (bench.partial(&path, "a").await, bench.partial(&path, "b").await);
    let blocks = bench.sandbox.dir().join("tus").join(&id);
    for index in 1..50_000 {
        std::fs::File::create(blocks.join(format!("block-000000-{index:06}"))).unwrap();
    }
    let bench = bench.restart().await;
    assert_eq!(bench.join(&path, &[&first, &second]).await.status, 201);
    bench.run(5).await;
    assert_eq!(bench.status(&id).await, "UploadProcessing", "one block too many");
    assert_eq!(bench.blobs(), 0, "nor is it being joined");
    std::fs::remove_file(blocks.join("block-000000-049999")).unwrap();
    let bench = bench.restart().await;
    bench.run_until(&id, "Published").await;
    assert_eq!(bench.download(RECIPIENT, &id, None).await.body, b"ab");
}
