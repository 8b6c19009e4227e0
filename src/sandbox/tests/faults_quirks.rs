//! Peculiar turns of single steps, by rule.

use std::time::Duration;

use serde_json::{Value, json};

use super::faults::put;
use super::support::{Bench, RECIPIENT, SENDER, THIRD, eventually, send};
use crate::sandbox::{Role, Status};

async fn quirk(bench: &Bench, name: &str, amount: u64) {
    put(bench, json!({ "effect": name, "amount": amount })).await;
}

fn scanned(body: &mut Value) {
    body["disableVirusScan"] = false.into();
}

#[tokio::test]
async fn authorization_down_is_a_no_to_everything() {
    let bench = Bench::start().await;
    let id = bench.publish("hello").await;
    put(&bench, json!({ "effect": "authorization-down", "organization": SENDER })).await;
    bench.try_initialize(|_| {}).await.is_fault(401, 6);
    send(bench.get_as(SENDER, &format!("/{id}"))).await.is_fault(401, 6);
    assert_eq!(bench.download(RECIPIENT, &id, None).await.status, 200);
}

#[tokio::test]
async fn authorization_is_down_for_all_questions_of_a_request_at_once() {
    let bench = Bench::start().await;
    put(&bench, json!({ "effect": "authorization-down", "times": 1 })).await;
    let search = || send(bench.get_as(SENDER, "?resourceId=sandbox-files"));
    search().await.is_fault(401, 6);
    search().await.status_is(200);
}

#[tokio::test]
async fn storage_that_is_not_ready_is_503_at_initialize_and_upload() {
    let bench = Bench::start().await;
    let id = bench.initialize(|_| {}).await;
    quirk(&bench, "storage-not-ready", 1).await;
    bench.try_initialize(|_| {}).await.is_fault(503, 21);
    bench.upload(&id, "hello").await.is_fault(503, 21);
    assert_eq!(bench.status(&id).await, "Initialized");
}

/// A cut after three bytes of a stream upload, together with that rule.
async fn cut_with(bench: &Bench, id: &str, rule: Value) {
    let cut = json!({ "operation": "upload", "effect": "request-cut", "at": 3, "times": 1 });
    put(bench, json!([cut, rule])).await;
    let request = bench.post_as(SENDER, &format!("/{id}/upload")).body("hello");
    assert!(request.send().await.is_err());
}

#[tokio::test]
async fn a_cut_upload_can_leave_failed() {
    let bench = Bench::start().await;
    let id = bench.initialize(|_| {}).await;
    cut_with(&bench, &id, json!({ "effect": "cut-upload-fails" })).await;
    bench.until(&id, "Failed").await;
    assert_eq!(bench.count_events(&id, "uploadfailed"), 1);
    bench.upload(&id, "hello").await.is_fault(409, 4);
}

#[tokio::test]
async fn a_cut_upload_can_be_committed_late_as_if_it_were_whole() {
    let bench = Bench::start().await;
    let id = bench.initialize(|_| {}).await;
    cut_with(&bench, &id, json!({ "effect": "late-commit", "amount": 5000 })).await;
    eventually(|| bench.blobs() == 1, || "what was uploaded".to_owned()).await;
    assert_eq!(bench.status(&id).await, "UploadStarted");
    let advance = || {
        bench.clock.advance(Duration::from_secs(5));
        bench.transfer(&id).status() == Status::Published
    };
    eventually(advance, || "the late commit".to_owned()).await;
    assert_eq!(bench.download(RECIPIENT, &id, None).await.body, b"hel");
}

#[tokio::test]
async fn s053_a_late_commit_that_loses_destroys_the_winner() {
    let bench = Bench::start().await;
    let id = bench.initialize(|_| {}).await;
    cut_with(&bench, &id, json!({ "name": "late", "effect": "late-commit", "amount": 5000 })).await;
    eventually(|| bench.blobs() == 1, || "what was uploaded".to_owned()).await;
    assert_eq!(bench.upload(&id, "hello").await.status, 200);
    assert_eq!(bench.status(&id).await, "Published");
    let advance = || {
        bench.clock.advance(Duration::from_secs(5));
        bench.transfer(&id).status() == Status::Failed
    };
    eventually(advance, || "the late commit".to_owned()).await;
    assert_eq!(bench.blobs(), 0);
}

#[tokio::test]
async fn processing_can_last_for_ever() {
    let bench = Bench::start().await;
    let id = bench.initialize(scanned).await;
    quirk(&bench, "processing-forever", 1).await;
    assert_eq!(bench.upload(&id, "hello").await.status, 200);
    bench.clock.advance(Duration::from_hours(1));
    let mut struck = false;
    for _ in 0..5000 {
        let rules = send(bench.request(reqwest::Method::GET, "/_sandbox/faults")).await.json();
        struck = rules[0]["struck"] == 1;
        if struck {
            break;
        }
    }
    assert!(struck);
    assert_eq!(bench.status(&id).await, "UploadProcessing");
}

#[tokio::test]
async fn a_scan_can_find_malware() {
    let bench = Bench::start().await;
    let id = bench.initialize(scanned).await;
    quirk(&bench, "malware", 1).await;
    bench.upload(&id, "hello").await;
    bench.clock.advance(Duration::from_secs(1));
    bench.until(&id, "Failed").await;
    assert!(
        bench.overview(&id).await["fileTransferStatusText"]
            .as_str()
            .unwrap()
            .starts_with("Malware scan failed")
    );
}

#[tokio::test]
async fn content_can_miss_the_checksum_that_was_given() {
    let bench = Bench::start().await;
    let checked = |body: &mut Value| body["checksum"] = super::support::HELLO_MD5.into();
    let id = bench.initialize(checked).await;
    quirk(&bench, "checksum-mismatch", 1).await;
    bench.upload(&id, "hello").await.is_fault(400, 9);
    assert_eq!(bench.status(&id).await, "Failed");
    let unchecked = bench.initialize(|_| {}).await;
    assert_eq!(bench.upload(&unchecked, "hello").await.status, 200);
}

#[tokio::test]
async fn content_can_be_purged_early() {
    let bench = Bench::start().await;
    quirk(&bench, "purge-early", 60_000).await;
    let id = bench.publish("hello").await;
    bench.clock.advance(Duration::from_secs(59));
    assert_eq!(bench.download(RECIPIENT, &id, None).await.status, 200);
    bench.clock.advance(Duration::from_secs(1));
    bench.until(&id, "Purged").await;
    assert_eq!(bench.count_events(&id, "filepurged"), 1);
}

#[tokio::test]
async fn the_overview_can_show_a_recipient_more() {
    let bench = Bench::start().await;
    let id = bench.initialize(|_| {}).await;
    put(&bench, json!({ "effect": "extra-recipient", "nth": 1 })).await;
    assert_eq!(bench.overview(&id).await["recipients"].as_array().unwrap().len(), 2);
    assert_eq!(bench.overview(&id).await["recipients"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn last_confirmations_can_miss_each_other() {
    let bench = Bench::start().await;
    bench.permit_third();
    let id = bench.publish_with("hello", |body| body["recipients"] = json!([RECIPIENT, THIRD])).await;
    quirk(&bench, "all-confirmed-missed", 1).await;
    for party in [RECIPIENT, THIRD] {
        bench.download(party, &id, None).await;
        assert_eq!(bench.confirm(party, &id).await.status, 204);
    }
    assert_eq!(bench.status(&id).await, "Published");
    assert_eq!(bench.count_events(&id, "allconfirmeddownloaded"), 0);
    assert_eq!(bench.confirm(THIRD, &id).await.status, 204);
}

#[tokio::test]
async fn search_can_be_behind() {
    let bench = Bench::start().await;
    let id = bench.initialize(|_| {}).await;
    bench.clock.advance(Duration::from_secs(10));
    assert_eq!(bench.upload(&id, "hello").await.status, 200);
    bench.clock.advance(Duration::from_secs(4));
    quirk(&bench, "search-lag", 5000).await;
    assert!(bench.search(RECIPIENT, "&status=Published").await.is_empty());
    assert_eq!(bench.search(RECIPIENT, "&status=Initialized").await, [id.as_str()]);
    bench.clock.advance(Duration::from_secs(1));
    assert_eq!(bench.search(RECIPIENT, "&status=Published").await, [id.as_str()]);
    let new = bench.initialize(|_| {}).await;
    assert!(!bench.search(RECIPIENT, "").await.contains(&new));
}

#[tokio::test]
async fn a_range_can_be_ignored() {
    let bench = Bench::start().await;
    let id = bench.publish("0123456789").await;
    quirk(&bench, "range-ignored", 1).await;
    let reply = bench.download(RECIPIENT, &id, Some("bytes=4-")).await;
    assert_eq!((reply.status, reply.body.as_slice()), (200, &b"0123456789"[..]));
    assert_eq!(reply.header("Content-Range"), None);
    let entries = bench.sandbox.ledger().entries();
    let entry = entries.iter().find(|entry| entry.operation == "download").unwrap();
    assert_eq!((entry.faults.len(), entry.sent), (1, 10));
}

#[tokio::test]
async fn a_byte_of_a_file_can_be_wrong() {
    let bench = Bench::start().await;
    let id = bench.publish("0123456789").await;
    quirk(&bench, "wrong-byte", 4).await;
    let mut wrong = b"0123456789".to_vec();
    wrong[4] = !wrong[4];
    assert_eq!(bench.download(RECIPIENT, &id, None).await.body, wrong);
    assert_eq!(bench.download(RECIPIENT, &id, Some("bytes=3-")).await.body, wrong[3..]);
    assert_eq!(bench.transfer(&id).delivered, 0);
    assert_eq!(bench.download(RECIPIENT, &id, Some("bytes=5-")).await.body, b"56789");
    let large = vec![7; 600_000];
    let id = bench.initialize(|_| {}).await;
    bench.upload(&id, large.clone()).await;
    quirk(&bench, "wrong-byte", 599_999).await;
    let body = bench.download(RECIPIENT, &id, None).await.body;
    assert_eq!((&body[..599_999], body[599_999]), (&large[..599_999], !7));
}

#[tokio::test]
async fn maskinportens_clock_can_be_ahead_or_behind() {
    let bench = Bench::start().await;
    quirk(&bench, "maskinporten-ahead", 101).await;
    let reply = bench.post_grant(&bench.grant(Role::Sender, |_| {})).await;
    assert!(reply.json()["error_description"].as_str().unwrap().contains("Expired"), "{}", reply.text());
    quirk(&bench, "maskinporten-behind", 11).await;
    let reply = bench.post_grant(&bench.grant(Role::Sender, |_| {})).await;
    assert!(reply.json()["error_description"].as_str().unwrap().contains("issue time"), "{}", reply.text());
    quirk(&bench, "maskinporten-behind", 10).await;
    bench.raw_token(Role::Sender).await;
}
