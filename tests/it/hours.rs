//! Hours in seconds: a sandbox and two services by one clock, so that tokens expire, budgets run out and refill, and
//! transfers grow old, as they do in an office.

use std::cell::OnceCell;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use formidlingd::config;
use formidlingd::daemon::{Service, Shutdown, Surroundings};
use formidlingd::sandbox::{Entry, FaultRules, Options, RateLimits, Role, Sandbox};
use serde_json::json;

use crate::support::{
    AcceleratedClock, INBOX, OUTBOX, Settings, accelerated, files_below, in_process, noise,
};

/// How many times faster than the machine's the time runs.
const RATE: u32 = 1000;
/// A file is dropped this often.
const EVERY: Duration = Duration::from_mins(10);
const FILES: u64 = 6;
/// Bytes of a chunk of a resumable upload.
const CHUNK: usize = 64 * 1024;

/// A service that polls as seldom as a real one.
async fn service(sandbox: &Sandbox, role: Role, clock: &Arc<AcceleratedClock>) -> Service {
    let (section, folder) = if role == Role::Sender { (OUTBOX, "outbox") } else { (INBOX, "inbox") };
    std::fs::create_dir_all(sandbox.folder(role).join(folder)).unwrap();
    let mut settings = Settings::new(sandbox.configuration(role, None));
    settings.set(section, "poll_interval", "\"30s\"");
    if role == Role::Sender {
        settings.set(section, "chunk_size", format!("\"{CHUNK}B\""));
    }
    let path = sandbox.dir().join(format!("{folder}.toml"));
    std::fs::write(&path, settings.text()).unwrap();
    let surroundings = Surroundings { clock: Arc::clone(clock) as _, ..Surroundings::default() };
    let assemble = move || {
        let loaded = config::load(&path).unwrap_or_else(|problems| panic!("{problems:?}"));
        Service::assemble(loaded.config, &surroundings).unwrap()
    };
    tokio::task::spawn_blocking(assemble).await.unwrap()
}

/// Resolves when something holds, looking every few seconds of the fast clock.
async fn until(what: &str, clock: &AcceleratedClock, holds: impl Fn() -> bool) {
    let patience = clock.passed() + Duration::from_hours(36);
    while !holds() {
        assert!(clock.passed() < patience, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
}

/// Drops the files one after another, sees them arrive, and waits until Altinn has purged them.
async fn drop_files(sandbox: &Sandbox, clock: &AcceleratedClock) {
    let (outbox, inbox) =
        (sandbox.folder(Role::Sender).join("outbox"), sandbox.folder(Role::Recipient).join("inbox"));
    for number in 0..FILES {
        std::fs::write(outbox.join(format!("{number}.bin")), noise(number, 10_000)).unwrap();
        tokio::time::sleep(EVERY).await;
    }
    let arrived = |number: u64| std::fs::read(inbox.join(format!("{number}.bin"))).ok();
    until("every file has arrived", clock, || (0..FILES).all(|number| arrived(number).is_some())).await;
    for number in 0..FILES {
        assert_eq!(arrived(number).unwrap(), noise(number, 10_000), "{number}");
    }
    until("every receipt says that it is over", clock, || receipts_say(&outbox, "completed")).await;
    let purged = || sandbox.transfers().iter().all(|transfer| transfer.status().name() == "Purged");
    until("Altinn has purged all", clock, purged).await;
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
    let sandbox: Rc<OnceCell<Sandbox>> = Rc::default();
    let watched = Rc::clone(&sandbox);
    let is_busy = move || watched.get().is_some_and(|sandbox| sandbox.requests_in_flight() > 0);
    accelerated(RATE, is_busy, |clock| async move {
        let listen = "127.0.0.1:0".parse().unwrap();
        let rate_limits = RateLimits::altinn();
        let options = Options { listen, rate_limits, clock: Arc::clone(&clock) as _, ..Options::default() };
        let started = Sandbox::start(options).await.unwrap();
        let sandbox = sandbox.get_or_init(|| started);
        let shutdown = Shutdown::new();
        let sender = service(sandbox, Role::Sender, &clock).await.run(shutdown.clone());
        let recipient = service(sandbox, Role::Recipient, &clock).await.run(shutdown.clone());
        let work = async {
            drop_files(sandbox, &clock).await;
            shutdown.ask();
        };
        let (sender, recipient, ()) = tokio::join!(sender, recipient, work);
        sender.unwrap();
        recipient.unwrap();

        let ledger = sandbox.ledger();
        assert_eq!(ledger.count("confirm", 204) as u64, FILES);
        for transfer in sandbox.transfers() {
            assert_eq!((transfer.published(), transfer.delivered), (1, 1), "{transfer:?}");
        }
        // Altinn's tokens live for half an hour, Maskinporten's for two minutes: by the same clock on both sides, they
        // were renewed in time, and no oftener.
        let half_hours = clock.passed().as_secs() / 1800;
        let exchanges = ledger.count("exchange", 200) as u64;
        assert!((half_hours..6 * half_hours).contains(&exchanges), "{exchanges} in {half_hours} half hours");
        // No token was too old, and no call too many.
        let is_refused = |entry: &Entry| matches!(entry.status, Some(401 | 429));
        let refused = ledger.entries().into_iter().find(is_refused);
        assert!(refused.is_none(), "{refused:?}");
    });
}

/// Every second chunk has to wait. Of one the answer is lost, and Altinn stores it a minute later. One is cut, of which
/// Altinn accepts and never stores what came.
const BUSY: &str = r#"
[[fault]]
operation = "tus-patch"
effect = "answer"
status = 429
retry_after = "20m"
every = 2

[[fault]]
operation = "tus-patch"
effect = "lose"
when = "after"
nth = 3

[[fault]]
operation = "tus-patch"
effect = "request-cut"
at = 1000
nth = 5
"#;

#[test]
fn a_resumable_upload_outlives_its_tokens_and_is_given_up_only_when_nothing_moves_for_minutes() {
    let sandbox: Rc<OnceCell<Sandbox>> = Rc::default();
    let watched = Rc::clone(&sandbox);
    let is_busy = move || watched.get().is_some_and(|sandbox| sandbox.requests_in_flight() > 0);
    accelerated(RATE, is_busy, |clock| async move {
        let listen = "127.0.0.1:0".parse().unwrap();
        let faults = FaultRules::from_toml(BUSY).unwrap();
        let tus_storing_delay = Duration::from_mins(1);
        let clock_of_altinn = Arc::clone(&clock) as _;
        let options =
            Options { listen, faults, tus_storing_delay, clock: clock_of_altinn, ..Options::default() };
        let started = Sandbox::start(options).await.unwrap();
        let sandbox = sandbox.get_or_init(|| started);
        let shutdown = Shutdown::new();
        let sender = service(sandbox, Role::Sender, &clock).await.run(shutdown.clone());
        let outbox = sandbox.folder(Role::Sender).join("outbox");
        let work = async {
            std::fs::write(outbox.join("large.bin"), noise(1, 6 * CHUNK)).unwrap();
            let published = || sandbox.transfers().iter().any(|transfer| transfer.published() == 1);
            until("it is published", &clock, published).await;
            until("its receipt is there", &clock, || outbox.join("sent").exists()).await;
            shutdown.ask();
        };
        let (sender, ()) = tokio::join!(sender, work);
        sender.unwrap();

        let ledger = sandbox.ledger();
        assert!(ledger.entries().iter().all(|entry| entry.status != Some(401)), "a token was too old");
        assert!(clock.passed() > Duration::from_hours(1), "it took {:?}", clock.passed());
        // The one that was cut was looked at for five minutes, and then sent anew.
        assert_eq!(sandbox.transfers().len(), 2);
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
            settings.set(OUTBOX, "chunk_size", format!("\"{CHUNK}B\"")).set("retry", "max", "\"12h\"");
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
    });
}
