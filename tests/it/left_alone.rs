//! Uploads that broke off when Altinn may have had all of them, and transfers that Altinn does nothing about: asked about
//! seldom, told of, nudged where that helps, and never sent again on a guess.

use std::time::Duration;

use formidlingd::sandbox::{Entry, Filter, Options, Role};
use serde_json::json;

use crate::support::{InProcess, OUTBOX, Settings, TestLog, files_below, in_process_at, noise};

const DAY: Duration = Duration::from_hours(24);
/// Bytes of a chunk of a resumable upload.
const CHUNK: usize = 64 * 1024;

fn settings(role: Role, settings: &mut Settings) {
    if role == Role::Sender {
        settings.set(OUTBOX, "processing_patience", "\"2h\"").set(
            OUTBOX,
            "chunk_size",
            format!("\"{CHUNK}B\""),
        );
    }
}

/// A sandbox that does not fail uploads that are stuck.
fn quiet() -> Options {
    Options { stuck_after: DAY * 30, ..Options::default() }
}

fn entries(site: &InProcess, operation: &str) -> Vec<Entry> {
    site.sandbox().ledger().find(&Filter { operation: Some(operation.into()), ..Filter::default() })
}

fn published(site: &InProcess) -> usize {
    site.sandbox().transfers().iter().map(formidlingd::sandbox::Transfer::published).sum()
}

#[test]
fn an_upload_that_is_left_alone_for_days_is_told_of_each_day_and_not_sent_again() {
    let (log, _guard) = TestLog::begin();
    in_process_at(20_000, quiet(), settings, async |site| {
        // Its one block has left, and Altinn has begun: nobody can say whether it will be published.
        site.faults(vec![json!({"operation": "upload", "effect": "request-cut", "at": 1000, "nth": 1})]);
        std::fs::write(site.outbox().join("a.bin"), noise(1, 2000)).unwrap();
        let told = |times: usize| log.lines("processing_overdue").len() >= times;
        assert!(site.until(DAY + DAY / 4, || told(1)).await, "nobody was told");
        let first = site.clock.passed();
        assert!(first >= DAY, "told before Altinn could have failed it");
        assert!(site.until(DAY + DAY / 4, || told(2)).await, "nobody was told again");
        assert!(
            site.clock.passed().checked_sub(first).unwrap() >= Duration::from_hours(23),
            "told too often"
        );
        for line in log.lines("processing_overdue") {
            assert_eq!(line["level"], "ERROR");
        }
        assert_eq!(entries(site, "upload").len(), 1, "it is not sent again");
        assert_eq!(site.sandbox().transfers().len(), 1);
        assert!(files_below(&site.outbox().join("failed")).is_empty());
    });
}

#[test]
fn a_status_that_is_new_to_us_is_told_of_and_asked_about_seldom() {
    let (log, _guard) = TestLog::begin();
    in_process_at(5000, quiet(), settings, async |site| {
        let overview = json!({
            "fileTransferId": "00000000-0000-0000-0000-000000000000",
            "fileTransferStatus": "Cancelled",
            "fileTransferStatusText": "",
            "fileName": "a.bin",
            "resourceId": "sandbox-files",
            "sender": "0192:991825827",
            "recipients": [],
            "propertyList": {},
        });
        site.faults(vec![
            json!({"operation": "upload", "effect": "lose", "when": "after", "nth": 1}),
            json!({"operation": "overview", "organization": site.organization(Role::Sender), "effect": "answer",
                "status": 200, "text": overview.to_string(), "headers": {"Content-Type": "application/json"}}),
        ]);
        std::fs::write(site.outbox().join("a.bin"), noise(1, 2000)).unwrap();
        let told = || !log.lines("unknown_status").is_empty();
        assert!(site.until(Duration::from_hours(1), told).await, "nobody was told");
        tokio::time::sleep(Duration::from_hours(4)).await;
        assert_eq!(log.lines("unknown_status").len(), 1, "told once");
        let asked = entries(site, "overview").len();
        assert!(asked < 100, "asked {asked} times in four hours");
        // And it goes on as soon as Altinn says something else.
        site.faults(Vec::new());
        assert!(site.until(Duration::from_hours(1), || published(site) == 1).await);
        let archived = || !files_below(&site.outbox().join("sent")).is_empty();
        assert!(site.until(Duration::from_hours(1), archived).await, "the file was not archived");
        assert_eq!(entries(site, "upload").len(), 1);
    });
}

#[test]
fn an_upload_that_was_accepted_and_is_never_finished_is_nudged_once() {
    let options = Options { stuck_after: Duration::from_hours(12), ..Options::default() };
    in_process_at(5000, options, settings, async |site| {
        site.faults(vec![json!({"effect": "tus-wedge", "nth": 3})]);
        let length = 2 * CHUNK + 100;
        std::fs::write(site.outbox().join("a.bin"), noise(1, length)).unwrap();
        let empty = |entry: &&Entry| entry.status == Some(204) && entry.received == 0;
        let nudges = || entries(site, "tus-patch").iter().filter(empty).count();
        assert!(
            site.until(Duration::from_hours(1), || nudges() == 1).await,
            "Altinn was not asked to finish"
        );
        assert!(entries(site, "tus-head").is_empty());
        // It cannot: Altinn fails the transfer, and the file goes in a new one.
        let arrived = || site.inbox().join("a.bin").exists();
        assert!(site.until(DAY * 2, arrived).await, "the file never arrived");
        assert_eq!(nudges(), 1, "one sign of life, and no more");
        assert_eq!(std::fs::read(site.inbox().join("a.bin")).unwrap(), noise(1, length));
        assert_eq!((site.sandbox().transfers().len(), published(site)), (2, 1));
    });
}

#[test]
fn a_file_that_is_written_after_nothing_of_it_had_arrived_is_sent_anew_as_it_is() {
    let patient = |role: Role, settings: &mut Settings| {
        if role == Role::Sender {
            settings.set("retry", "cut_upload_wait", "\"1h\"");
        }
    };
    in_process_at(5000, quiet(), patient, async |site| {
        // Its one block has left, and nothing of it comes to Altinn.
        site.faults(vec![json!({"operation": "upload", "effect": "lose", "when": "before", "nth": 1})]);
        std::fs::write(site.outbox().join("a.bin"), noise(1, 2000)).unwrap();
        assert!(site.until(Duration::from_hours(1), || !entries(site, "upload").is_empty()).await);
        let sending = files_below(&site.outbox().join(".formidlingd"));
        let claimed = sending.into_iter().find(|path| path.ends_with("file")).unwrap_or_else(|| {
            panic!("no claimed file in {:?}", files_below(&site.outbox()));
        });
        std::fs::write(claimed, noise(2, 3000)).unwrap();
        let arrived = || site.inbox().join("a.bin").exists();
        // The transfer at Altinn lives for weeks. After a day, nothing of it can come any more.
        assert!(site.until(DAY * 2, arrived).await, "the file waits for Altinn");
        assert_eq!(std::fs::read(site.inbox().join("a.bin")).unwrap(), noise(2, 3000));
        assert_eq!(published(site), 1);
    });
}
