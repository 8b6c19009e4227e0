//! A machine whose clock is set while files are on their way, in both directions and by up to ten years. The sandbox
//! keeps the right time, and what waits waits by the monotonic clock, as it does on a real machine.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use formidlingd::daemon::{Service, Shutdown, Surroundings};
use formidlingd::sandbox::{Options, Role, Sandbox};
use formidlingd::{config, seams};
use jiff::{SignedDuration, Timestamp};

use crate::support::{AcceleratedClock, Content, INBOX, OUTBOX, Settings, accelerated, files_below, noise};

/// How many times faster than the machine's the time runs.
const RATE: u32 = 1000;
const SECOND: i64 = 1;
const HOUR: i64 = 3600;
const YEARS: i64 = 10 * 365 * 24 * HOUR;
/// By how much the clock is off, one after the other; the differences are jumps, too.
const WRONG: [i64; 7] = [10 * SECOND, -10 * SECOND, HOUR, -HOUR, YEARS, -YEARS, 0];

/// A clock that is wrong.
#[derive(Debug)]
struct Wrong {
    right: Arc<AcceleratedClock>,
    seconds: AtomicI64,
}

impl seams::Clock for Wrong {
    fn now(&self) -> Timestamp {
        let right = seams::Clock::now(&*self.right);
        right + SignedDuration::from_secs(self.seconds.load(Ordering::SeqCst))
    }
}

/// A service by a clock that may be wrong, which deletes and gives up what is old.
async fn service(sandbox: &Sandbox, role: Role, clock: &Arc<Wrong>) -> Service {
    let (section, folder) = if role == Role::Sender { (OUTBOX, "outbox") } else { (INBOX, "inbox") };
    std::fs::create_dir_all(sandbox.folder(role).join(folder)).unwrap();
    let mut settings = Settings::new(sandbox.configuration(role, None));
    settings.set(section, "poll_interval", "\"30s\"");
    if role == Role::Sender {
        settings.set(section, "keep_sent", "\"30d\"").set(section, "keep_receipts", "\"30d\"");
    }
    let path = sandbox.dir().join(format!("{folder}.toml"));
    std::fs::write(&path, settings.text()).unwrap();
    let surroundings =
        Surroundings { clock: Arc::clone(clock) as Arc<dyn seams::Clock>, ..Surroundings::default() };
    let assemble = move || {
        let loaded = config::load(&path).unwrap_or_else(|problems| panic!("{problems:?}"));
        Service::assemble(loaded.config, &surroundings).unwrap()
    };
    tokio::task::spawn_blocking(assemble).await.unwrap()
}

/// Resolves when something holds, looking every few seconds of the fast clock.
async fn until(what: &str, clock: &AcceleratedClock, holds: impl Fn() -> bool) {
    let patience = clock.passed() + Duration::from_hours(4);
    while !holds() {
        assert!(clock.passed() < patience, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}

/// What a test looks at.
struct Bench<'a> {
    sandbox: &'a Sandbox,
    clock: Arc<AcceleratedClock>,
    wrong: Arc<Wrong>,
    outbox: PathBuf,
    inbox: PathBuf,
}

impl Bench<'_> {
    fn set_clock(&self, seconds: i64) {
        self.wrong.seconds.store(seconds, Ordering::SeqCst);
    }

    fn drop_file(&self, number: u64) {
        std::fs::write(self.outbox.join(format!("{number}.bin")), noise(number, 10_000)).unwrap();
    }

    fn has_arrived(&self, number: u64) -> bool {
        let bytes = std::fs::read(self.inbox.join(format!("{number}.bin")));
        bytes.is_ok_and(|bytes| bytes == noise(number, 10_000))
    }

    async fn until_all_have_arrived(&self, files: u64) {
        let arrived = || (0..files).all(|number| self.has_arrived(number));
        until("every file has arrived", &self.clock, arrived).await;
    }

    /// Nothing lost, nothing twice, nothing aged or given up on.
    async fn assert_promises(&self, files: u64) {
        let receipts = || files_below(&self.outbox.join("sent"));
        let is_receipt = |path: &Path| path.to_string_lossy().ends_with(".receipt.json");
        let completed = || {
            let says = |path: &PathBuf| {
                std::fs::read_to_string(path).is_ok_and(|text| text.contains("\"status\": \"completed\""))
            };
            receipts().iter().filter(|path| is_receipt(path) && says(path)).count() as u64 == files
        };
        until("every receipt says that it is over", &self.clock, completed).await;
        let kept = receipts().into_iter().filter(|path| !is_receipt(path)).count() as u64;
        assert_eq!(kept, files, "an archived file was deleted");
        assert!(files_below(&self.outbox.join("failed")).is_empty(), "a file was given up");
        let delivered = std::fs::read_dir(&self.inbox).unwrap().flatten();
        let delivered = delivered.filter(|entry| entry.path().extension().is_some_and(|end| end == "bin"));
        assert_eq!(delivered.count() as u64, files);
        let transfers = self.sandbox.transfers();
        let published = transfers.iter().map(formidlingd::sandbox::Transfer::published).sum::<usize>() as u64;
        assert_eq!(published, files, "{transfers:?}");
        assert_eq!(self.sandbox.ledger().count("confirm", 204) as u64, files);
        for number in 0..files {
            let content = Content::of_file(&self.inbox.join(format!("{number}.bin")));
            assert_eq!(content, Some(Content::of(&noise(number, 10_000))));
        }
    }
}

/// Runs both ends by a wrong clock, and holds the promises for the number of files that `work` gives.
fn by_wrong_clock(wrong_at_first: i64, work: impl AsyncFnOnce(&Bench<'_>) -> u64) {
    let sandbox: Rc<OnceCell<Sandbox>> = Rc::default();
    let watched = Rc::clone(&sandbox);
    let is_busy = move || watched.get().is_some_and(|sandbox| sandbox.requests_in_flight() > 0);
    accelerated(RATE, is_busy, |clock| async move {
        let listen = "127.0.0.1:0".parse().unwrap();
        let options = Options { listen, clock: Arc::clone(&clock) as _, ..Options::default() };
        let started = Sandbox::start(options).await.unwrap();
        let sandbox = sandbox.get_or_init(|| started);
        let wrong = Arc::new(Wrong { right: Arc::clone(&clock), seconds: AtomicI64::new(wrong_at_first) });
        let shutdown = Shutdown::new();
        let sender = service(sandbox, Role::Sender, &wrong).await.run(shutdown.clone());
        let recipient = service(sandbox, Role::Recipient, &wrong).await.run(shutdown.clone());
        let outbox = sandbox.folder(Role::Sender).join("outbox");
        let inbox = sandbox.folder(Role::Recipient).join("inbox");
        let bench = Bench { sandbox, clock, wrong, outbox, inbox };
        let work = async {
            let files = work(&bench).await;
            bench.assert_promises(files).await;
            shutdown.ask();
        };
        let (sender, recipient, ()) = tokio::join!(sender, recipient, work);
        sender.unwrap();
        recipient.unwrap();
    });
}

#[test]
fn a_clock_that_is_set_while_files_are_on_their_way_loses_doubles_and_ages_nothing() {
    by_wrong_clock(0, async |bench| {
        let mut files = 0;
        for (round, wrong) in (0..).zip(WRONG) {
            // In the middle of whatever each of them is at.
            for _ in 0..3 {
                bench.drop_file(files);
                files += 1;
                tokio::time::sleep(Duration::from_secs(7 + round)).await;
            }
            bench.set_clock(wrong);
            bench.until_all_have_arrived(files).await;
            if wrong.abs() == YEARS {
                // What is old is looked for every hour.
                tokio::time::sleep(Duration::from_mins(70)).await;
            }
        }
        files
    });
}

#[test]
fn a_clock_that_is_wrong_at_the_start_costs_a_delay() {
    for wrong in [YEARS, -YEARS] {
        by_wrong_clock(wrong, async |bench| {
            bench.drop_file(0);
            tokio::time::sleep(Duration::from_mins(20)).await;
            let before = bench.clock.passed();
            bench.set_clock(0);
            bench.drop_file(1);
            bench.until_all_have_arrived(2).await;
            let took = bench.clock.passed().checked_sub(before).unwrap();
            assert!(took < Duration::from_hours(1), "the wait was not bounded: {took:?}");
            2
        });
    }
}
