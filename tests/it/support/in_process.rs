//! A sandbox and two services in this process, by the accelerated clock.

use std::cell::{Cell, OnceCell};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use formidlingd::daemon::{Service, Shutdown, Surroundings};
use formidlingd::sandbox::{FaultRules, Options, Role, Sandbox};
use formidlingd::{config, seams};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tempfile::TempDir;

use super::accelerated::{Clock as AcceleratedClock, accelerated};
use super::{INBOX, OUTBOX, Settings};

/// How many times faster than the machine's the time runs.
const RATE: u32 = 1000;

/// Where files are kept in memory.
const MEMORY: &str = "/dev/shm";
/// What a test may need of it.
const ROOM: u64 = 512 * 1024 * 1024;

/// A folder in memory, so that nothing here waits for a disk that others keep busy; where there is none, on the disk.
fn folder_in_memory() -> TempDir {
    let has_room = rustix::fs::statvfs(MEMORY).is_ok_and(|found| found.f_bavail * found.f_frsize >= ROOM);
    let mut named = tempfile::Builder::new();
    named.prefix("fd-");
    let in_memory = has_room.then(|| named.tempdir_in(MEMORY).ok()).flatten();
    in_memory.unwrap_or_else(|| named.tempdir().unwrap())
}

/// The clock of the services, which may be wrong.
#[derive(Debug)]
struct OffBy {
    right: Arc<AcceleratedClock>,
    seconds: Arc<AtomicI64>,
}

impl seams::Clock for OffBy {
    fn now(&self) -> Timestamp {
        seams::Clock::now(&*self.right) + SignedDuration::from_secs(self.seconds.load(Ordering::SeqCst))
    }
}

/// What works with a sandbox and its two services, which run.
pub(crate) struct InProcess {
    sandbox: Rc<OnceCell<Sandbox>>,
    pub(crate) clock: Arc<AcceleratedClock>,
    /// Requests that stand still on purpose, and do not slow the clock.
    pub(crate) stalled: Rc<Cell<usize>>,
    /// By how many seconds the clock of the services is wrong.
    off_by: Arc<AtomicI64>,
    _folder: TempDir,
}

impl InProcess {
    pub(crate) fn sandbox(&self) -> &Sandbox {
        self.sandbox.get().unwrap()
    }

    pub(crate) fn outbox(&self) -> PathBuf {
        self.sandbox().folder(Role::Sender).join("outbox")
    }

    pub(crate) fn inbox(&self) -> PathBuf {
        self.sandbox().folder(Role::Recipient).join("inbox")
    }

    /// The organisation of an end, nine digits.
    pub(crate) fn organization(&self, role: Role) -> String {
        let name = if role == Role::Sender { "avsender" } else { "mottaker" };
        let founded = self.sandbox().organizations().iter().find(|founded| founded.name == name);
        founded.unwrap().number.clone()
    }

    /// Puts fault rules in force, instead of all others.
    pub(crate) fn faults(&self, rules: Vec<Value>) {
        let text = format!("{rules:?}");
        let rules = FaultRules::from_json(Value::Array(rules));
        self.sandbox().set_faults(rules.unwrap_or_else(|error| panic!("{error}: {text}")));
    }

    /// Sets the clock of the services, and not the sandbox's, wrong by so many seconds.
    pub(crate) fn set_off_by(&self, seconds: i64) {
        self.off_by.store(seconds, Ordering::SeqCst);
    }

    /// Waits until something holds, looking every few seconds of the fast clock; whether it did within `patience`.
    pub(crate) async fn until(&self, patience: Duration, holds: impl Fn() -> bool) -> bool {
        let end = self.clock.passed() + patience;
        while !holds() {
            if self.clock.passed() > end {
                return false;
            }
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
        true
    }

    /// The same, and fails if it never does.
    pub(crate) async fn wait_until(&self, what: &str, patience: Duration, holds: impl Fn() -> bool) {
        assert!(self.until(patience, holds).await, "waited in vain until {what}");
    }

    /// A service with its settings changed.
    pub(crate) async fn service(&self, role: Role, change: impl FnOnce(&mut Settings)) -> Service {
        let sandbox = self.sandbox();
        let (section, folder) = if role == Role::Sender { (OUTBOX, "outbox") } else { (INBOX, "inbox") };
        std::fs::create_dir_all(sandbox.folder(role).join(folder)).unwrap();
        let mut settings = Settings::new(sandbox.configuration(role, None));
        settings.set(section, "poll_interval", "\"30s\"").set("state", "ballast", "\"1MiB\"");
        settings.set("state", "min_free_space", "\"1MiB\"");
        change(&mut settings);
        let path = sandbox.dir().join(format!("{folder}.toml"));
        std::fs::write(&path, settings.text()).unwrap();
        let clock = OffBy { right: Arc::clone(&self.clock), seconds: Arc::clone(&self.off_by) };
        let surroundings = Surroundings {
            clock: Arc::new(clock),
            random: Arc::new(seams::OsRandom),
            #[cfg(debug_assertions)]
            simulated: None,
        };
        let assemble = move || {
            let loaded = config::load(&path).unwrap_or_else(|problems| panic!("{problems:?}"));
            Service::assemble(loaded.config, &surroundings).unwrap()
        };
        tokio::task::spawn_blocking(assemble).await.unwrap()
    }
}

/// Does `work` with a sandbox made of `options`, a sender and a recipient whose settings are changed first, and then
/// ends the services in order.
pub(crate) fn in_process<T>(
    options: Options,
    change: impl Fn(Role, &mut Settings),
    work: impl AsyncFnOnce(&InProcess) -> T,
) -> T {
    run(RATE, 0, options, change, work)
}

/// The same with a clock that is so many times as fast as the machine's.
pub(crate) fn in_process_at<T>(
    rate: u32,
    options: Options,
    change: impl Fn(Role, &mut Settings),
    work: impl AsyncFnOnce(&InProcess) -> T,
) -> T {
    run(rate, 0, options, change, work)
}

/// The same with services whose clock is wrong by so many seconds at first.
pub(crate) fn in_process_off_by<T>(
    seconds: i64,
    change: impl Fn(Role, &mut Settings),
    work: impl AsyncFnOnce(&InProcess) -> T,
) -> T {
    run(RATE, seconds, Options::default(), change, work)
}

fn run<T>(
    rate: u32,
    off_by: i64,
    options: Options,
    change: impl Fn(Role, &mut Settings),
    work: impl AsyncFnOnce(&InProcess) -> T,
) -> T {
    super::log::listen_everywhere();
    let sandbox: Rc<OnceCell<Sandbox>> = Rc::default();
    let stalled: Rc<Cell<usize>> = Rc::default();
    let (watched, expected) = (Rc::clone(&sandbox), Rc::clone(&stalled));
    let is_busy = move || watched.get().is_some_and(|sandbox| sandbox.requests_in_flight() > expected.get());
    accelerated(rate, is_busy, |clock| async move {
        let listen = "127.0.0.1:0".parse().unwrap();
        let folder = folder_in_memory();
        let dir = Some(folder.path().join("a"));
        let options = Options { listen, dir, clock: Arc::clone(&clock) as _, ..options };
        let started = Sandbox::start(options).await.unwrap();
        let off_by = Arc::new(AtomicI64::new(off_by));
        let site = InProcess { sandbox, clock, stalled, off_by, _folder: folder };
        assert!(site.sandbox.set(started).is_ok());
        let shutdown = Shutdown::new();
        let sender = site.service(Role::Sender, |settings| change(Role::Sender, settings)).await;
        let recipient = site.service(Role::Recipient, |settings| change(Role::Recipient, settings)).await;
        let (sender, recipient) = (sender.run(shutdown.clone()), recipient.run(shutdown.clone()));
        let work = async {
            let done = work(&site).await;
            shutdown.ask();
            done
        };
        let (sender, recipient, done) = tokio::join!(sender, recipient, work);
        sender.unwrap();
        recipient.unwrap();
        done
    })
}
