//! Files that Altinn never takes, whatever the reason looks like, do not keep their neighbours waiting; and a file that
//! Altinn has and does nothing about is told of.

use std::time::Duration;

use formidlingd::sandbox::{Filter, Options, RateLimits, Role};
use serde_json::{Value, json};

use crate::support::{InProcess, OUTBOX, Settings, TestLog, files_below, in_process, in_process_at, noise};

/// More than are claimed at once.
const POISON: usize = 12;
/// How long a neighbour may take by the fast clock: long on a busy machine, and far less than what is given to poison.
const SOON: Duration = Duration::from_hours(1);

fn options() -> Options {
    Options { rate_limits: RateLimits::altinn(), ..Options::default() }
}

fn settings(role: Role, settings: &mut Settings) {
    if role == Role::Sender {
        settings
            .set(OUTBOX, "sidecar_may", "[\"resourceId\"]")
            .set(OUTBOX, "give_up_after", "\"6h\"")
            .set(OUTBOX, "settle", "\"2s\"");
    }
}

fn drop_poison(site: &InProcess) {
    for number in 0..POISON {
        let sidecar = site.outbox().join(format!("poison-{number}.bin.meta.json"));
        std::fs::write(sidecar, json!({"resourceId": "poison"}).to_string()).unwrap();
        std::fs::write(site.outbox().join(format!("poison-{number}.bin")), noise(number as u64, 100))
            .unwrap();
    }
}

async fn send_neighbour(site: &InProcess, number: u64) {
    let name = format!("neighbour-{number}.bin");
    std::fs::write(site.outbox().join(&name), noise(1000 + number, 2000)).unwrap();
    let arrived =
        || std::fs::read(site.inbox().join(&name)).is_ok_and(|bytes| bytes == noise(1000 + number, 2000));
    let is_through = site.until(SOON, arrived).await;
    assert!(is_through, "neighbour {number} was kept waiting");
}

fn failed(site: &InProcess) -> Vec<Value> {
    let files = files_below(&site.outbox().join("failed"));
    let errors = files.iter().filter(|path| path.to_string_lossy().ends_with(".error.json"));
    errors.map(|path| serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()).collect()
}

/// Sends neighbours of files that are answered in this way, and sees those given up when their time has come.
fn poison(answer: &Value, code: &str) {
    in_process(options(), settings, async |site| {
        let mut rule = answer.clone();
        rule["operation"] = json!("initialize");
        rule["resource"] = json!("poison");
        rule["effect"] = json!("answer");
        site.faults(vec![rule]);
        drop_poison(site);
        // Where nothing but such files was ever sent, they look like a route in trouble.
        tokio::time::sleep(Duration::from_mins(90)).await;
        for number in 0..4 {
            send_neighbour(site, number).await;
        }
        let given_up = || failed(site).len() == POISON;
        assert!(site.until(Duration::from_hours(12), given_up).await, "{} were given up", failed(site).len());
        assert!(failed(site).iter().all(|error| error["code"] == code), "{:?}", failed(site).first());
        send_neighbour(site, 4).await;
        for transfer in site.sandbox().transfers() {
            assert_eq!(transfer.published(), usize::from(transfer.file_name.starts_with("neighbour")));
        }
        let too_many = Filter { status: Some(Some(429)), ..Filter::default() };
        assert!(site.sandbox().ledger().find(&too_many).is_empty(), "no call was one too many");
    });
}

#[test]
fn files_that_are_always_500_keep_nobody_waiting() {
    poison(&json!({"status": 500, "body": "empty"}), "gave_up");
}

#[test]
fn files_that_are_always_400_in_words_of_nobody_keep_nobody_waiting() {
    poison(&json!({"status": 400, "body": "html"}), "gave_up");
}

#[test]
fn files_that_a_firewall_does_not_like_keep_nobody_waiting() {
    poison(&json!({"status": 403, "body": "html"}), "gave_up");
}

#[test]
fn files_that_altinn_says_are_wrong_fail_at_once() {
    poison(&json!({"status": 400, "body": "bro-00020"}), "file_refused");
}

#[test]
fn a_file_that_is_never_done_with_is_told_of_each_day_and_not_sent_again() {
    let (log, _guard) = TestLog::begin();
    let patience = |role: Role, settings: &mut Settings| {
        if role == Role::Sender {
            settings.set(OUTBOX, "processing_patience", "\"2h\"");
        }
    };
    let quiet = Options { stuck_after: Duration::from_hours(24 * 30), ..options() };
    // A day and more.
    in_process_at(10_000, quiet, patience, async |site| {
        site.faults(vec![json!({"effect": "processing-forever", "nth": 1})]);
        std::fs::write(site.outbox().join("a.bin"), noise(1, 2000)).unwrap();
        let told = |times: usize| log.lines("processing_overdue").len() >= times;
        assert!(site.until(Duration::from_hours(4), || told(1)).await, "nobody was told");
        let first = site.clock.passed();
        assert!(first >= Duration::from_hours(2), "told too soon");
        assert!(site.until(Duration::from_hours(30), || told(2)).await, "nobody was told again");
        assert!(
            site.clock.passed().checked_sub(first).unwrap() >= Duration::from_hours(23),
            "told too often"
        );
        for line in log.lines("processing_overdue") {
            assert_eq!(line["level"], "ERROR");
            assert!(line["fields"]["remedy"].as_str().is_some_and(|remedy| !remedy.is_empty()), "{line}");
        }
        assert_eq!(site.sandbox().transfers().len(), 1, "it is not sent again");
        assert_eq!(site.sandbox().ledger().count("upload", 200), 1);
        assert!(failed(site).is_empty());
    });
}
