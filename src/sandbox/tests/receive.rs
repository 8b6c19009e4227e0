//! Overview, details, download, confirmation, purge.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::support::{BASE, Bench, NOBODY, RECIPIENT, SENDER, THIRD, eventually, send};
use crate::sandbox::{Action, Delegation, Status};

const HOUR: Duration = Duration::from_hours(1);

fn to_two(body: &mut Value) {
    body["recipients"] = json!([RECIPIENT, THIRD]);
}

fn recipient_status(overview: &Value, recipient: &str) -> Value {
    let recipients = overview["recipients"].as_array().unwrap();
    let entry = recipients.iter().find(|entry| entry["recipient"] == recipient).unwrap();
    entry["currentRecipientFileTransferStatusCode"].clone()
}

#[tokio::test]
async fn s057_the_parties_may_look_and_others_not() {
    let bench = Bench::start().await;
    bench.permit_third();
    let alone = bench.initialize(|_| {}).await;
    let id = bench.initialize(to_two).await;
    for rest in ["", "/details"] {
        for party in [SENDER, RECIPIENT, THIRD] {
            assert_eq!(send(bench.get_as(party, &format!("/{id}{rest}"))).await.status, 200);
        }
        send(bench.get_as(THIRD, &format!("/{alone}{rest}"))).await.is_fault(401, 6);
        send(bench.get_as(THIRD, &format!("/{NOBODY}{rest}"))).await.is_fault(404, 1);
    }
}

#[tokio::test]
async fn s058_details_have_histories_and_no_published() {
    let bench = Bench::start().await;
    let id = bench.publish("hello").await;
    bench.download(RECIPIENT, &id, None).await;
    let details = send(bench.get_as(SENDER, &format!("/{id}/details"))).await.json();
    assert!(details.get("published").is_none());
    let names = |list: &str, member: &str| {
        let rows = details[list].as_array().unwrap();
        let mut names: Vec<_> = rows.iter().map(|row| row[member].as_str().unwrap().to_owned()).collect();
        names.sort();
        names
    };
    assert_eq!(
        names("fileTransferStatusHistory", "fileTransferStatus"),
        ["Initialized", "Published", "UploadStarted"]
    );
    assert_eq!(
        names("recipientFileTransferStatusHistory", "recipientFileTransferStatusCode"),
        ["DownloadStarted", "Initialized"]
    );
    assert_eq!(details["fileTransferStatus"], "Published");
}

#[tokio::test]
async fn shortcut_histories_and_recipients_are_not_sorted() {
    let bench = Bench::start().await;
    let (mut histories, mut rows, mut recipients) = (0, 0, 0);
    for _ in 0..16 {
        let id = bench.publish_with("hello", to_two).await;
        bench.clock.advance(Duration::from_secs(1));
        bench.download(RECIPIENT, &id, None).await;
        let details = send(bench.get_as(SENDER, &format!("/{id}/details"))).await.json();
        let names = |list: &str, member: &str| -> Vec<String> {
            let rows = details[list].as_array().unwrap();
            rows.iter().map(|row| row[member].as_str().unwrap().to_owned()).collect()
        };
        let history = names("fileTransferStatusHistory", "fileTransferStatus");
        histories += usize::from(history != ["Initialized", "UploadStarted", "Published"]);
        let dates = names("recipientFileTransferStatusHistory", "recipientFileTransferStatusChanged");
        rows += usize::from(!dates.is_sorted());
        recipients += usize::from(names("recipients", "recipient") != [RECIPIENT, THIRD]);
    }
    assert!(histories > 0 && rows > 0 && recipients > 0, "{histories} {rows} {recipients}");
    assert!(recipients < 16, "no order at all, not another one");
}

#[tokio::test]
async fn s059_after_the_purge_the_overview_is_still_there() {
    let bench = Bench::start().await;
    let id = bench.publish("hello").await;
    let before = bench.overview(&id).await;
    bench.clock.advance(HOUR * 24 * 30);
    bench.until(&id, "Purged").await;
    let overview = bench.overview(&id).await;
    assert_eq!(overview["fileTransferStatus"], "Purged");
    assert_eq!(overview["fileTransferStatusText"], "FileTransfer has been purged");
    for member in ["fileName", "checksum", "fileTransferSize", "published", "created", "recipients"] {
        assert_eq!(overview[member], before[member], "{member}");
    }
}

/// One transfer in each status that is not `Purged`, by name.
async fn one_of_each(bench: &Bench) -> Vec<(&'static str, String)> {
    let initialized = bench.initialize(to_two).await;
    let failed = bench.initialize(|body| body["checksum"] = "z".repeat(32).into()).await;
    bench.upload(&failed, "hello").await.is_fault(400, 9);
    let published = bench.publish_with("hello", to_two).await;
    bench.download(RECIPIENT, &published, None).await;
    bench.confirm(RECIPIENT, &published).await.is_bare(204);
    let processing = bench.publish_with("hello", |body| body["disableVirusScan"] = false.into()).await;
    let confirmed = bench.publish("hello").await;
    bench.download(RECIPIENT, &confirmed, None).await;
    bench.confirm(RECIPIENT, &confirmed).await.is_bare(204);
    let started = bench.initialize(|_| {}).await;
    let address = bench.sandbox.url().strip_prefix("http://").unwrap().to_owned();
    let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
    let token = bench.token(SENDER);
    let head = format!(
        "POST {BASE}/{started}/upload HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\nContent-Length: 9\r\n\r\nhel"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    bench.until(&started, "UploadStarted").await;
    drop(stream);
    eventually(|| bench.sandbox.requests_in_flight() == 0, || "the end of the cut upload".to_owned()).await;
    vec![
        ("Initialized", initialized),
        ("Failed", failed),
        ("Published", published),
        ("UploadProcessing", processing),
        ("AllConfirmedDownloaded", confirmed),
        ("UploadStarted", started),
    ]
}

#[tokio::test]
async fn s095_the_time_to_live_ends_every_status() {
    let bench = Bench::with(|options| {
        (options.scan_delay, options.stuck_after) = (HOUR * 24 * 365, HOUR * 24 * 365);
    })
    .await;
    bench.resource(|resource| resource.purge_after_all_confirmed = false);
    let transfers = one_of_each(&bench).await;
    let last_second = Duration::from_secs(30 * 24 * 3600 - 1);
    bench.clock.advance(last_second);
    for (status, id) in &transfers {
        assert_eq!(bench.status(id).await, *status);
    }
    bench.clock.advance(Duration::from_secs(1));
    for (status, id) in &transfers {
        bench.until(id, "Purged").await;
        // Of two recipients, one had confirmed; with the sender, who hears of it too.
        let told = match *status {
            "AllConfirmedDownloaded" => vec![],
            "Initialized" => vec!["910753614", "313579246", "991825827"],
            "Published" => vec!["313579246", "991825827"],
            _ => vec!["910753614", "991825827"],
        };
        let of_kind = |kind: &str| -> Vec<String> {
            bench.events(id).into_iter().filter(|it| it.0 == kind).map(|it| it.1).collect()
        };
        eventually(|| of_kind("filepurged") == ["991825827"], || format!("the purge of {status}")).await;
        let never = "fileneverconfirmeddownloaded";
        eventually(|| of_kind(never) == told, || format!("{told:?} of {status}, not {:?}", of_kind(never)))
            .await;
    }
    eventually(|| bench.blobs() == 0, || "the content to go".to_owned()).await;
}

#[tokio::test]
async fn s060_a_confirmed_recipient_stays_confirmed_in_the_overview() {
    let bench = Bench::start().await;
    let id = bench.publish_with("hello", to_two).await;
    bench.download(RECIPIENT, &id, None).await;
    bench.download(RECIPIENT, &id, None).await;
    assert_eq!(bench.confirm(RECIPIENT, &id).await.status, 204);
    bench.clock.advance(HOUR);
    bench.download(RECIPIENT, &id, None).await;
    let overview = bench.overview(&id).await;
    assert_eq!(recipient_status(&overview, RECIPIENT), "DownloadConfirmed");
    let recipients = overview["recipients"].as_array().unwrap();
    let entry = recipients.iter().find(|entry| entry["recipient"] == RECIPIENT).unwrap();
    assert_eq!(entry["currentRecipientFileTransferStatusText"], "Recipient has downloaded fileTransfer");
    // The latest date, not that of the highest status.
    assert_eq!(entry["currentRecipientFileTransferStatusChanged"], "2026-08-18T12:40:01.5+00:00");
}

#[tokio::test]
async fn s061_dates_end_in_an_offset_and_never_in_z() {
    let bench = Bench::start().await;
    let id = bench.publish("hello").await;
    bench.clock.advance(Duration::from_nanos(123_456_789));
    let later = bench.initialize(|_| {}).await;
    bench.clock.advance(Duration::from_nanos(376_543_211));
    let whole = bench.initialize(|_| {}).await;
    assert_eq!(bench.overview(&id).await["created"], "2026-08-18T11:40:01.5+00:00");
    assert_eq!(bench.overview(&later).await["created"], "2026-08-18T11:40:01.623456+00:00");
    assert_eq!(bench.overview(&whole).await["created"], "2026-08-18T11:40:02+00:00");
    for rest in ["", "/details"] {
        let text = send(bench.get_as(SENDER, &format!("/{id}{rest}"))).await.text();
        assert!(text.contains("+00:00\"") && !text.contains("Z\""), "{text}");
    }
}

#[tokio::test]
async fn s062_enums_are_pascal_case_texts() {
    let bench = Bench::start().await;
    let id = bench.publish("hello").await;
    bench.download(RECIPIENT, &id, None).await;
    let details = send(bench.get_as(SENDER, &format!("/{id}/details"))).await.json();
    assert_eq!(details["fileTransferStatus"], "Published");
    assert_eq!(recipient_status(&details, RECIPIENT), "DownloadStarted");
    for (list, member) in [
        ("fileTransferStatusHistory", "fileTransferStatus"),
        ("recipientFileTransferStatusHistory", "recipientFileTransferStatusCode"),
    ] {
        for row in details[list].as_array().unwrap() {
            let name = row[member].as_str().unwrap();
            let letters = name.chars().all(char::is_alphabetic) && name.starts_with(char::is_uppercase);
            assert!(letters, "{name}");
        }
    }
}

#[tokio::test]
async fn s076_a_plain_download_is_the_whole_file() {
    let bench = Bench::start().await;
    let id = bench.publish_with("hello", |body| body["fileName"] = "år \"1\".txt".into()).await;
    let reply = bench.download(RECIPIENT, &id, None).await;
    assert_eq!((reply.status, reply.body.as_slice()), (200, b"hello".as_slice()));
    assert_eq!(reply.header("Accept-Ranges"), Some("bytes"));
    assert_eq!(reply.header("Content-Length"), Some("5"));
    assert_eq!(reply.header("Content-Type"), Some("application/octet-stream"));
    assert_eq!(
        reply.header("Content-Disposition"),
        Some("attachment; filename=\"_r _1_.txt\"; filename*=UTF-8''%C3%A5r%20%221%22.txt")
    );
    assert_eq!(reply.header("ETag"), None);
}

#[tokio::test]
async fn s077_a_range_is_206() {
    let bench = Bench::start().await;
    let id = bench.publish("0123456789abcdef").await;
    let reply = bench.download(RECIPIENT, &id, Some("bytes=0-9")).await;
    assert_eq!((reply.status, reply.text().as_str()), (206, "0123456789"));
    assert_eq!(reply.header("Content-Range"), Some("bytes 0-9/16"));
    assert_eq!(reply.header("Content-Length"), Some("10"));
    assert_eq!(reply.header("Accept-Ranges"), Some("bytes"));
}

#[tokio::test]
async fn s078_open_ranges_are_206_and_ends_are_clamped() {
    let bench = Bench::start().await;
    let id = bench.publish("0123456789abcdef").await;
    for (range, content, place) in [
        ("BYTES=5-", "56789abcdef", "bytes 5-15/16"),
        ("bytes=-5", "bcdef", "bytes 11-15/16"),
        ("bytes=-99", "0123456789abcdef", "bytes 0-15/16"),
        ("bytes=10-99", "abcdef", "bytes 10-15/16"),
        ("bytes=0-15", "0123456789abcdef", "bytes 0-15/16"),
    ] {
        let reply = bench.download(RECIPIENT, &id, Some(range)).await;
        assert_eq!((reply.status, reply.text().as_str()), (206, content), "{range}");
        assert_eq!(reply.header("Content-Range"), Some(place));
        assert_eq!(reply.header("Content-Length"), Some(content.len().to_string().as_str()));
    }
}

#[tokio::test]
async fn s081_any_range_of_an_empty_file_is_416() {
    let bench = Bench::start().await;
    let id = bench.publish("").await;
    for range in ["bytes=0-0", "bytes=0-", "bytes=-1", "bytes=5-9"] {
        bench.download(RECIPIENT, &id, Some(range)).await.is_fault(416, 29);
    }
    assert_eq!(bench.download(RECIPIENT, &id, Some("items=0-0")).await.status, 200);
}

#[tokio::test]
async fn s079_an_unsatisfiable_range_is_416_without_content_range() {
    let bench = Bench::start().await;
    let id = bench.publish("hello").await;
    for range in ["bytes=5-", "bytes=9-12", "bytes=-0"] {
        let reply = bench.download(RECIPIENT, &id, Some(range)).await;
        reply.is_fault(416, 29);
        assert_eq!(reply.header("Content-Range"), None);
    }
    assert_eq!(recipient_status(&bench.overview(&id).await, RECIPIENT), "Initialized");
}

#[tokio::test]
async fn s080_a_range_that_is_not_understood_is_the_whole_file() {
    let bench = Bench::start().await;
    let id = bench.publish("0123456789").await;
    for range in [
        "bytes=0-1,3-4",
        "bytes=9-2",
        "items=0-1",
        "bytes=a-b",
        "bytes=-",
        "bytes",
        "bytes=0-99999999999999999999",
    ] {
        let reply = bench.download(RECIPIENT, &id, Some(range)).await;
        assert_eq!((reply.status, reply.body.len()), (200, 10), "{range}");
        assert_eq!(reply.header("Content-Range"), None);
    }
}

#[tokio::test]
async fn s082_a_download_before_or_after_its_time_is_403() {
    let bench = Bench::start().await;
    let id = bench.initialize(|body| body["disableVirusScan"] = false.into()).await;
    bench.download(RECIPIENT, &id, None).await.is_fault(403, 7);
    bench.upload(&id, "hello").await;
    bench.download(RECIPIENT, &id, None).await.is_fault(403, 7);
    bench.clock.advance(HOUR * 24 * 30);
    bench.until(&id, "Purged").await;
    bench.download(RECIPIENT, &id, None).await.is_fault(403, 7);
}

#[tokio::test]
async fn s083_what_all_have_confirmed_can_be_downloaded_within_the_grace_period() {
    let bench = Bench::start().await;
    let id = bench.publish("hello").await;
    bench.download(RECIPIENT, &id, None).await;
    bench.confirm(RECIPIENT, &id).await;
    assert_eq!(bench.status(&id).await, "AllConfirmedDownloaded");
    for range in [None, Some("bytes=0-1")] {
        let reply = bench.download(RECIPIENT, &id, range).await;
        assert_eq!(reply.status, if range.is_some() { 206 } else { 200 });
    }
}

#[tokio::test]
async fn s094_content_is_purged_after_the_grace_period() {
    let bench = Bench::start().await;
    let id = bench.publish("hello").await;
    bench.download(RECIPIENT, &id, None).await;
    bench.confirm(RECIPIENT, &id).await;
    bench.clock.advance(Duration::from_secs(2 * 3600 - 1));
    assert_eq!(bench.download(RECIPIENT, &id, None).await.status, 200);
    bench.clock.advance(Duration::from_secs(1));
    bench.until(&id, "Purged").await;
    assert_eq!(bench.count_events(&id, "fileneverconfirmeddownloaded"), 0);
}

#[tokio::test]
async fn s094_without_purge_after_confirmation_content_stays_until_the_time_to_live() {
    let bench = Bench::start().await;
    bench.resource(|resource| resource.purge_after_all_confirmed = false);
    let id = bench.publish("hello").await;
    bench.download(RECIPIENT, &id, None).await;
    bench.confirm(RECIPIENT, &id).await;
    bench.clock.advance(HOUR * 24 * 29);
    assert_eq!(bench.download(RECIPIENT, &id, None).await.status, 200);
    bench.clock.advance(HOUR * 24);
    bench.until(&id, "Purged").await;
}

#[tokio::test]
async fn s084_a_non_recipient_cannot_download() {
    let bench = Bench::start().await;
    bench.permit_third();
    let id = bench.publish("hello").await;
    for party in [SENDER, THIRD] {
        bench.download(party, &id, None).await.is_fault(401, 6);
        bench.confirm(party, &id).await.is_fault(401, 6);
    }
}

#[tokio::test]
async fn s085_ranged_downloads_leave_one_row_in_five_minutes() {
    let bench = Bench::start().await;
    let id = bench.publish("hello").await;
    let started = || bench.transfer(&id).recipients.len() - 1;
    for _ in 0..3 {
        bench.download(RECIPIENT, &id, None).await;
    }
    assert_eq!(started(), 3);
    for _ in 0..3 {
        bench.download(RECIPIENT, &id, Some("bytes=0-0")).await;
    }
    assert_eq!(started(), 4, "only ranged downloads silence ranged ones");
    bench.download(RECIPIENT, &id, None).await;
    assert_eq!(started(), 5);
    bench.clock.advance(Duration::from_mins(5));
    bench.download(RECIPIENT, &id, Some("bytes=0-0")).await;
    assert_eq!(started(), 6);
}

#[tokio::test]
async fn s072_a_ranged_download_after_a_whole_one_is_seen_by_search() {
    let bench = Bench::start().await;
    bench.permit_third();
    let id = bench.publish_with("hello", to_two).await;
    bench.download(RECIPIENT, &id, None).await;
    bench.confirm(RECIPIENT, &id).await.is_bare(204);
    bench.download(RECIPIENT, &id, Some("bytes=0-0")).await;
    assert_eq!(bench.search(RECIPIENT, "&recipientStatus=DownloadStarted").await, [id.as_str()]);
    assert_eq!(recipient_status(&bench.overview(&id).await, RECIPIENT), "DownloadConfirmed");
}

#[tokio::test]
async fn what_changes_nothing_is_not_written_down() {
    let bench = Bench::start().await;
    bench.permit_third();
    let id = bench.publish_with("hello", to_two).await;
    bench.download(RECIPIENT, &id, Some("bytes=0-0")).await;
    bench.confirm(RECIPIENT, &id).await.is_bare(204);
    let journal = || std::fs::metadata(bench.sandbox.dir().join("transfers.jsonl")).unwrap().len();
    let before = journal();
    bench.confirm(RECIPIENT, &id).await.is_bare(204);
    bench.confirm(THIRD, &id).await.is_fault(400, 19);
    bench.upload(&id, "hello").await.is_fault(409, 4);
    assert_eq!(journal(), before);
    bench.download(THIRD, &id, None).await;
    assert!(journal() > before);
}

#[tokio::test]
async fn s086_a_cut_download_counts_as_started() {
    let bench = Bench::start().await;
    let id = bench.publish(&"x".repeat(20_000_000)).await;
    let address = bench.sandbox.url().strip_prefix("http://").unwrap().to_owned();
    let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
    let token = bench.token(RECIPIENT);
    let head = format!(
        "GET {BASE}/{id}/download HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // The head, and some of the content.
    stream.read_exact(&mut [0; 10_000]).await.unwrap();
    drop(stream);
    assert_eq!(recipient_status(&bench.overview(&id).await, RECIPIENT), "DownloadStarted");
    let sent = || {
        bench.sandbox.ledger().entries().iter().find(|it| it.operation == "download").map_or(0, |it| it.sent)
    };
    eventually(|| sent() > 0, || "the end of the cut download".to_owned()).await;
    assert!(sent() < 20_000_000);
    assert_eq!(bench.transfer(&id).delivered, 0);
}

#[tokio::test]
async fn s087_a_confirmation_is_204_and_ends_the_transfer() {
    let bench = Bench::start().await;
    let id = bench.publish("hello").await;
    bench.download(RECIPIENT, &id, None).await;
    bench.confirm(RECIPIENT, &id).await.is_bare(204);
    assert_eq!(bench.status(&id).await, "AllConfirmedDownloaded");
    let mut told = bench.events(&id);
    told.retain(|(kind, _)| kind.ends_with("confirmed") || kind.ends_with("confirmeddownloaded"));
    // No order is promised.
    told.sort();
    let (sender, recipient) = ("991825827".to_owned(), "910753614".to_owned());
    let all = ("allconfirmeddownloaded", sender.clone());
    assert_eq!(told, [all, ("downloadconfirmed", recipient), ("downloadconfirmed", sender)]);
}

#[tokio::test]
async fn s088_the_second_confirmation_of_a_single_recipient_is_400() {
    let bench = Bench::start().await;
    let id = bench.publish("hello").await;
    bench.download(RECIPIENT, &id, None).await;
    bench.confirm(RECIPIENT, &id).await.is_bare(204);
    bench.confirm(RECIPIENT, &id).await.is_fault(400, 10);
    assert_eq!(bench.count_events(&id, "downloadconfirmed"), 2);
    assert_eq!(bench.count_events(&id, "allconfirmeddownloaded"), 1);
}

#[tokio::test]
async fn s089_a_confirmation_needs_the_recipients_own_download() {
    let bench = Bench::start().await;
    bench.permit_third();
    let id = bench.publish_with("hello", to_two).await;
    bench.confirm(RECIPIENT, &id).await.is_fault(400, 19);
    bench.download(THIRD, &id, None).await;
    bench.confirm(RECIPIENT, &id).await.is_fault(400, 19);
}

#[tokio::test]
async fn s090_with_two_recipients_confirming_is_idempotent_until_the_last() {
    let bench = Bench::start().await;
    bench.permit_third();
    let id = bench.publish_with("hello", to_two).await;
    bench.download(RECIPIENT, &id, None).await;
    bench.download(THIRD, &id, None).await;
    assert_eq!(bench.confirm(RECIPIENT, &id).await.status, 204);
    assert_eq!(bench.status(&id).await, "Published");
    let events = bench.events(&id).len();
    assert_eq!(bench.confirm(RECIPIENT, &id).await.status, 204);
    assert_eq!(bench.events(&id).len(), events);
    assert_eq!(bench.confirm(THIRD, &id).await.status, 204);
    assert_eq!(bench.status(&id).await, "AllConfirmedDownloaded");
}

#[tokio::test]
async fn s091_a_confirmation_before_any_bytes_is_400() {
    let bench = Bench::start().await;
    let id = bench.initialize(|body| body["disableVirusScan"] = false.into()).await;
    bench.confirm(RECIPIENT, &id).await.is_fault(400, 3);
    bench.upload(&id, "hello").await;
    bench.confirm(RECIPIENT, &id).await.is_fault(400, 10);
}

#[tokio::test]
async fn s092_a_confirmation_after_the_purge_is_400() {
    let bench = Bench::start().await;
    let id = bench.publish("hello").await;
    bench.download(RECIPIENT, &id, None).await;
    bench.clock.advance(HOUR * 24 * 30);
    bench.until(&id, "Purged").await;
    bench.confirm(RECIPIENT, &id).await.is_fault(400, 10);
}

#[tokio::test]
async fn s093_someone_with_a_delegated_right_becomes_a_recipient_by_downloading() {
    let bench = Bench::start().await;
    bench.permit_third();
    bench.resource(|resource| {
        let (from, to) = ("910753614".to_owned(), "313579246".to_owned());
        resource.delegations.push(Delegation { from, to, action: Action::Read });
    });
    let id = bench.publish("hello").await;
    assert_eq!(bench.confirm(THIRD, &id).await.status, 500);
    bench.download(THIRD, &id, None).await;
    assert_eq!(bench.overview(&id).await["recipients"].as_array().unwrap().len(), 2);
    assert_eq!(bench.search(THIRD, "&recipientStatus=DownloadStarted").await, [id.as_str()]);
    bench.download(RECIPIENT, &id, None).await;
    bench.confirm(RECIPIENT, &id).await;
    assert_eq!(bench.transfer(&id).status(), Status::Published);
    bench.confirm(THIRD, &id).await;
    assert_eq!(bench.transfer(&id).status(), Status::AllConfirmedDownloaded);
}
