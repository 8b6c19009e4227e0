//! Hours in seconds: a sandbox and two services by one clock, so that tokens expire, budgets run out and refill, and
//! transfers grow old, as they do in an office.

use std::path::Path;
use std::time::Duration;

use formidlingd::sandbox::{Entry, Options, RateLimits, Role};
use serde_json::{Value, json};

use crate::support::{InProcess, OUTBOX, Settings, files_below, in_process, noise};

/// A file is dropped this often.
const EVERY: Duration = Duration::from_mins(10);
const FILES: u64 = 6;
/// How long anything may take by the fast clock.
const PATIENCE: Duration = Duration::from_hours(36);
/// Bytes of a chunk of a resumable upload.
const CHUNK: usize = 64 * 1024;

/// Drops the files one after another, sees them arrive, and waits until Altinn has purged them.
async fn drop_files(site: &InProcess) {
    let (outbox, inbox) = (site.outbox(), site.inbox());
    for number in 0..FILES {
        std::fs::write(outbox.join(format!("{number}.bin")), noise(number, 10_000)).unwrap();
        tokio::time::sleep(EVERY).await;
    }
    let arrived = |number: u64| std::fs::read(inbox.join(format!("{number}.bin"))).ok();
    let all = || (0..FILES).all(|number| arrived(number).is_some());
    site.wait_until("every file has arrived", PATIENCE, all).await;
    for number in 0..FILES {
        assert_eq!(arrived(number).unwrap(), noise(number, 10_000), "{number}");
    }
    let is_over = || receipts_say(&outbox, "completed");
    site.wait_until("every receipt says that it is over", PATIENCE, is_over).await;
    let purged = || site.sandbox().transfers().iter().all(|transfer| transfer.status().name() == "Purged");
    site.wait_until("Altinn has purged all", PATIENCE, purged).await;
}

fn receipts_say(outbox: &Path, status: &str) -> bool {
    let says = |path: &Path| {
        std::fs::read_to_string(path).is_ok_and(|text| text.contains(&format!("\"status\": \"{status}\"")))
    };
    let receipts = files_below(&outbox.join("sent"));
    let mut receipts = receipts.iter().filter(|path| path.to_string_lossy().ends_with(".receipt.json"));
    receipts.clone().count() as u64 == FILES && receipts.all(|path| says(path))
}

#[test]
fn hours_pass_in_seconds_for_sandbox_and_service_alike() {
    let options = Options { rate_limits: RateLimits::altinn(), ..Options::default() };
    in_process(
        options,
        |_, _| {},
        async |site| {
            drop_files(site).await;
            let ledger = site.sandbox().ledger();
            assert_eq!(ledger.count("confirm", 204) as u64, FILES);
            for transfer in site.sandbox().transfers() {
                assert_eq!((transfer.published(), transfer.delivered), (1, 1), "{transfer:?}");
            }
            // Altinn's tokens live for half an hour, Maskinporten's for two minutes: by the same clock on both sides, they
            // were renewed in time, and no oftener.
            let half_hours = site.clock.passed().as_secs() / 1800;
            let exchanges = ledger.count("exchange", 200) as u64;
            assert!(
                (half_hours..6 * half_hours).contains(&exchanges),
                "{exchanges} in {half_hours} half hours"
            );
            // No token was too old, and no call too many.
            let is_refused = |entry: &Entry| matches!(entry.status, Some(401 | 429));
            let refused = ledger.entries().into_iter().find(is_refused);
            assert!(refused.is_none(), "{refused:?}");
        },
    );
}

/// Every second chunk has to wait.
fn busy() -> Value {
    json!({"operation": "tus-patch", "effect": "answer", "status": 429, "retry_after": "20m", "every": 2})
}

#[test]
fn a_resumable_upload_outlives_its_tokens_and_is_given_up_only_when_nothing_moves_for_minutes() {
    let options = Options { tus_storing_delay: Duration::from_mins(1), ..Options::default() };
    let chunks = |role: Role, settings: &mut Settings| {
        if role == Role::Sender {
            settings.set(OUTBOX, "chunk_size", format!("\"{CHUNK}B\""));
        }
    };
    in_process(options, chunks, async |site| {
        // Of one the answer is lost, and Altinn stores it a minute later.
        let lost = json!({"operation": "tus-patch", "effect": "lose", "when": "after", "nth": 3});
        site.faults(vec![busy(), lost]);
        std::fs::write(site.outbox().join("large.bin"), noise(1, 6 * CHUNK)).unwrap();
        let ledger = || site.sandbox().ledger();
        site.wait_until("half of it is there", PATIENCE, || ledger().count("tus-patch", 204) >= 3).await;
        // One is cut, of which Altinn accepts and never stores what came. One that comes from the wrong place is
        // refused before that.
        site.faults(vec![json!({"operation": "tus-patch", "effect": "request-cut", "at": 1000})]);
        let is_cut =
            |entry: &Entry| entry.operation == "tus-patch" && (1000..CHUNK as u64).contains(&entry.received);
        site.wait_until("one is cut", PATIENCE, || ledger().entries().iter().any(is_cut)).await;
        site.faults(vec![busy()]);
        let published = || site.sandbox().transfers().iter().any(|transfer| transfer.published() == 1);
        site.wait_until("it is published", PATIENCE, published).await;
        site.wait_until("its receipt is there", PATIENCE, || site.outbox().join("sent").exists()).await;

        let ledger = site.sandbox().ledger();
        assert!(ledger.entries().iter().all(|entry| entry.status != Some(401)), "a token was too old");
        assert!(site.clock.passed() > Duration::from_hours(1), "it took {:?}", site.clock.passed());
        // The one that was cut was looked at for five minutes, and then sent anew.
        assert_eq!(site.sandbox().transfers().len(), 2);
        let created = ledger.count("tus-create", 201);
        assert_eq!(created, 2);
        let heads: Vec<_> =
            ledger.entries().into_iter().filter(|entry| entry.operation == "tus-head").collect();
        assert!(heads.len() >= 10, "{} looks", heads.len());
    });
}

#[test]
fn a_resumable_upload_goes_on_while_the_route_is_held() {
    let settings = |role: Role, settings: &mut Settings| {
        if role == Role::Sender {
            settings.set(OUTBOX, "chunk_size", format!("\"{CHUNK}B\"")).set("retry", "max", "\"2h\"");
        }
    };
    in_process(Options::default(), settings, async |site| {
        let count = |operation: &str, status: u16| site.sandbox().ledger().count(operation, status);
        let wait = json!({"operation": "tus-patch", "effect": "answer", "status": 429, "retry_after": "1h", "nth": 3});
        site.faults(vec![wait]);
        std::fs::write(site.outbox().join("large.bin"), noise(1, 6 * CHUNK)).unwrap();
        assert!(site.until(Duration::from_hours(1), || count("tus-patch", 429) == 1).await, "it never began");
        let rights =
            json!({"operation": "initialize", "effect": "answer", "status": 403, "body": "bro-00006"});
        site.faults(vec![rights]);
        for name in ["b.bin", "c.bin"] {
            std::fs::write(site.outbox().join(name), noise(2, 100)).unwrap();
        }
        assert!(
            site.until(Duration::from_mins(50), || count("initialize", 403) >= 2).await,
            "it is not held"
        );
        let arrived = || site.inbox().join("large.bin").exists();
        assert!(site.until(Duration::from_hours(3), arrived).await, "it waited with those that lack rights");
        assert_eq!(count("initialize", 403), 2, "that says nothing of rights");
        site.faults(Vec::new());
        let arrived = || ["b.bin", "c.bin"].iter().all(|name| site.inbox().join(name).exists());
        assert!(site.until(Duration::from_hours(12), arrived).await, "the others never went");
    });
}
