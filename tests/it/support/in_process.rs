//! A sandbox and two services in this process, by the accelerated clock.

use std::cell::{Cell, OnceCell};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use formidlingd::daemon::{Service, Shutdown, Surroundings};
use formidlingd::sandbox::{FaultRules, Options, Role, Sandbox};
use formidlingd::{config, seams};
use serde_json::Value;

use super::{AcceleratedClock, INBOX, OUTBOX, Settings, accelerated};

/// How many times faster than the machine's the time runs.
const RATE: u32 = 1000;

/// What works with a sandbox and its two services, which run.
pub(crate) struct InProcess {
    sandbox: Rc<OnceCell<Sandbox>>,
    pub(crate) clock: Arc<AcceleratedClock>,
    /// Requests that stand still on purpose, and do not slow the clock.
    pub(crate) stalled: Rc<Cell<usize>>,
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

    /// A service with its settings changed.
    pub(crate) async fn service(&self, role: Role, change: impl FnOnce(&mut Settings)) -> Service {
        let sandbox = self.sandbox();
        let (section, folder) = if role == Role::Sender { (OUTBOX, "outbox") } else { (INBOX, "inbox") };
        std::fs::create_dir_all(sandbox.folder(role).join(folder)).unwrap();
        let mut settings = Settings::new(sandbox.configuration(role, None));
        settings.set(section, "poll_interval", "\"30s\"");
        change(&mut settings);
        let path = sandbox.dir().join(format!("{folder}.toml"));
        std::fs::write(&path, settings.text()).unwrap();
        let clock = Arc::clone(&self.clock) as Arc<dyn seams::Clock>;
        let surroundings = Surroundings {
            clock,
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
    in_process_at(RATE, options, change, work)
}

/// The same with a clock that is so many times as fast as the machine's.
pub(crate) fn in_process_at<T>(
    rate: u32,
    options: Options,
    change: impl Fn(Role, &mut Settings),
    work: impl AsyncFnOnce(&InProcess) -> T,
) -> T {
    let sandbox: Rc<OnceCell<Sandbox>> = Rc::default();
    let stalled: Rc<Cell<usize>> = Rc::default();
    let (watched, expected) = (Rc::clone(&sandbox), Rc::clone(&stalled));
    let is_busy = move || watched.get().is_some_and(|sandbox| sandbox.requests_in_flight() > expected.get());
    accelerated(rate, is_busy, |clock| async move {
        let listen = "127.0.0.1:0".parse().unwrap();
        let options = Options { listen, clock: Arc::clone(&clock) as _, ..options };
        let started = Sandbox::start(options).await.unwrap();
        let site = InProcess { sandbox, clock, stalled };
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
