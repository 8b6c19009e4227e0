//! A sandbox, a sender and a recipient, in a folder of their own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::child::{Child, DEADLINE, until};
use super::content::write_noise;
use super::http::{ask, get_by_tls};
use super::promises::{Dropped, Fate};
use super::{Content, Party, Proxy, Stranger};

/// The section of the sender's outbox.
pub(crate) const OUTBOX: &str = "outbox.to-mottaker";
/// The section of the recipient's inbox.
pub(crate) const INBOX: &str = "inbox.from-avsender";
/// The organisation that receives.
pub(crate) const MOTTAKER: &str = "0192:910753614";
/// The resource under which everything is sent.
pub(crate) const RESOURCE: &str = "sandbox-files";

/// How much of ledger and logs a failure shows.
const TAIL: usize = 40;

/// How the sandbox is started.
#[derive(Debug, Default, Clone)]
pub(crate) struct Setup {
    /// Further arguments of `formidlingd sandbox`.
    pub(crate) arguments: Vec<&'static str>,
    /// Whether the two ends reach Altinn by a proxy.
    pub(crate) proxied: bool,
}

/// Everything a test needs.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) url: String,
    pub(crate) sender: Party,
    pub(crate) recipient: Party,
    /// Who acts for the customers of a sandbox with `--organisations`.
    pub(crate) vendor: Option<Party>,
    pub(crate) proxy: Option<Proxy>,
    pub(crate) dropped: Vec<Dropped>,
    /// The certificate authority of a sandbox with `--tls`.
    authority: Option<PathBuf>,
    // Children end before their folder goes.
    sandbox: Child,
    pub(crate) dir: TempDir,
}

impl Bench {
    /// A sandbox and two ends that are not started yet.
    pub(crate) fn new(setup: &Setup) -> Self {
        // Short, since the path of a Unix socket may have 107 bytes.
        let dir = tempfile::Builder::new().prefix("fd-").tempdir().unwrap();
        let altinn = dir.path().join("a");
        let mut arguments = vec!["sandbox", "--listen", "127.0.0.1:0", "--json", "--dir"];
        arguments.push(altinn.to_str().unwrap());
        if !setup.arguments.contains(&"--scan-delay") {
            arguments.extend(["--scan-delay", "20ms"]);
        }
        if !setup.arguments.contains(&"--rate-limits") {
            arguments.extend(["--rate-limits", "off"]);
        }
        arguments.extend(&setup.arguments);
        let log = dir.path().join("sandbox.log");
        let (sandbox, line) = Child::start_and_read_line(&arguments, &log);
        let said = || std::fs::read_to_string(&log).unwrap_or_default();
        let printed: Value = serde_json::from_str(&line)
            .unwrap_or_else(|error| panic!("the sandbox said {line:?}, {error}\n{}", said()));
        let url = printed["url"].as_str().unwrap().to_owned();
        let mut sender = Party::new(dir.path(), "sender", &printed["sender"]);
        let mut recipient = Party::new(dir.path(), "recipient", &printed["recipient"]);
        sender.set(OUTBOX, "settle", "\"200ms\"").set(OUTBOX, "settle_empty", "\"200ms\"").set(
            OUTBOX,
            "poll_interval",
            "\"300ms\"",
        );
        recipient.set(INBOX, "poll_interval", "\"300ms\"");
        let vendor = printed.get("vendor").map(|printed| Party::new(dir.path(), "vendor", printed));
        let authority = printed["certificateAuthority"].as_str().map(PathBuf::from);
        let proxy = setup.proxied.then(|| Proxy::start(&url));
        if let Some(proxy) = &proxy {
            for party in [&mut sender, &mut recipient] {
                party.set("altinn", "platform_url", format!("\"{}\"", proxy.url())).set(
                    "altinn",
                    "maskinporten_token_url",
                    format!("\"{}/token\"", proxy.url()),
                );
            }
        }
        Self { url, sender, recipient, vendor, proxy, dropped: Vec::new(), authority, sandbox, dir }
    }

    /// A sandbox and two ends that run.
    pub(crate) fn running() -> Self {
        let mut bench = Self::new(&Setup::default());
        bench.start();
        bench
    }

    /// Two ends, by a proxy; not started yet.
    pub(crate) fn proxied(arguments: &[&'static str]) -> Self {
        Self::new(&Setup { arguments: arguments.to_vec(), proxied: true })
    }

    /// Starts both ends.
    pub(crate) fn start(&mut self) {
        self.sender.start();
        self.recipient.start();
    }

    pub(crate) fn proxy(&self) -> &Proxy {
        self.proxy.as_ref().expect("this bench has a proxy")
    }

    /// Somebody who sends with other software.
    pub(crate) fn stranger(&self) -> Stranger {
        Stranger::with_client_of(&self.url, self.sender.settings.text())
    }

    /// Drops a file that is to be sent, and remembers what is promised of it.
    pub(crate) fn drop_file(&mut self, name: &str, bytes: &[u8]) -> &mut Dropped {
        let path = self.sender.outbox().join(name);
        self.drop_at(&path, bytes)
    }

    /// Drops a file in some folder.
    pub(crate) fn drop_at(&mut self, path: &Path, bytes: &[u8]) -> &mut Dropped {
        let draft = self.dir.path().join("draft");
        std::fs::write(&draft, bytes).unwrap();
        std::fs::rename(&draft, path).unwrap();
        self.promise(path, Content::of(bytes))
    }

    /// Drops a file of noise, of any size.
    pub(crate) fn drop_noise(&mut self, name: &str, seed: u64, size: u64) -> &mut Dropped {
        let draft = self.dir.path().join("draft");
        write_noise(&draft, seed, size);
        let content = Content::of_file(&draft).unwrap();
        let path = self.sender.outbox().join(name);
        std::fs::rename(&draft, &path).unwrap();
        self.promise(&path, content)
    }

    /// Remembers a file that was dropped in some other way.
    pub(crate) fn promise(&mut self, path: &Path, content: Content) -> &mut Dropped {
        self.dropped.push(Dropped::new(path, content));
        self.dropped.last_mut().unwrap()
    }

    /// Puts a sidecar where the file of that name is to be dropped afterwards.
    pub(crate) fn sidecar(&self, name: &str, sidecar: &Value) {
        let path = self.sender.outbox().join(format!("{name}.meta.json"));
        std::fs::write(path, sidecar.to_string()).unwrap();
    }

    /// Objects, one a line, from `/_sandbox/…`.
    pub(crate) fn look(&self, what: &str) -> Vec<Value> {
        let path = format!("/_sandbox/{what}");
        let answer = match &self.authority {
            Some(authority) => get_by_tls(&self.url, authority, &path),
            None => ask(&self.url, "GET", &path, &[], b""),
        };
        let text = answer.map(|answer| answer.text()).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Makes the sandbox have faults, these and no others (docs/sandbox-faults.md).
    pub(crate) fn set_faults(&self, rules: &Value) {
        let answer = ask(&self.url, "PUT", "/_sandbox/faults", &[], rules.to_string().as_bytes()).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    /// The requests of an operation that were answered with a status.
    pub(crate) fn requests(&self, operation: &str, status: u16) -> Vec<Value> {
        let is_it = |entry: &Value| entry["operation"] == operation && entry["status"] == status;
        self.look("ledger").into_iter().filter(is_it).collect()
    }

    /// How often Altinn has taken a confirmation.
    pub(crate) fn confirmations(&self) -> usize {
        self.requests("confirm", 204).len()
    }

    /// Waits until something holds, and fails with all that can be seen if it never does.
    pub(crate) fn wait_until(&self, what: &str, mut condition: impl FnMut() -> bool) {
        let held = until(DEADLINE, || {
            self.assert_running();
            condition()
        });
        assert!(held, "waited in vain until {what}");
    }

    /// Waits until both ends have done all that is expected of every file.
    pub(crate) fn settle(&self) {
        self.wait_within(DEADLINE);
    }

    pub(crate) fn wait_within(&self, deadline: Duration) {
        let mut missing = String::new();
        let settled = until(deadline, || {
            self.assert_running();
            match self.is_settled() {
                Ok(()) => true,
                Err(reason) => {
                    missing = reason;
                    false
                }
            }
        });
        assert!(settled, "waited in vain: {missing}");
    }

    /// Starts the sender after a death, sees everything done, and ends it in order.
    pub(crate) fn sender_goes_on(&mut self, after: &str) {
        self.sender.start();
        self.settle();
        assert_eq!(self.sender.stop(), Some(0), "after {after}");
    }

    /// The same with the recipient.
    pub(crate) fn recipient_goes_on(&mut self, after: &str) {
        self.recipient.start();
        self.settle();
        assert_eq!(self.recipient.stop(), Some(0), "after {after}");
    }

    /// Waits until both ends have done all that is expected of every file, and, where it is to be `completed`, every
    /// receipt says that every recipient has confirmed. An end that ends by itself meanwhile is handed to `ended`.
    pub(crate) fn settle_with(&mut self, completed: bool, mut ended: impl FnMut(&mut Party)) {
        let mut missing = String::new();
        let settled = until(DEADLINE, || {
            for party in [&mut self.sender, &mut self.recipient] {
                if party.child.as_ref().is_some_and(|child| !child.is_running()) {
                    ended(party);
                }
            }
            missing = self.is_settled().err().unwrap_or_default();
            missing.is_empty() && (!completed || self.is_completed())
        });
        assert!(settled, "waited in vain: {missing}");
    }

    /// How an end that has ended by itself did so.
    pub(crate) fn end_of(party: &mut Party) -> Option<i32> {
        party.child.take().and_then(|mut child| child.wait()).and_then(|status| status.code())
    }

    /// What was started and not stopped still runs.
    fn assert_running(&self) {
        assert!(self.sandbox.is_running(), "the sandbox has ended");
        for party in [&self.sender, &self.recipient] {
            let has_ended = party.child.as_ref().is_some_and(|child| !child.is_running());
            assert!(!has_ended, "the {} has ended", party.name);
        }
    }

    /// Ends both ends in order, and holds everything that can be seen against what is promised.
    pub(crate) fn assert_promises(&mut self) {
        if self.sender.child.is_some() {
            self.settle();
            self.wait_until("what is over is in the journal", || self.is_journalled());
        }
        self.assert_promises_but_journals();
        if !self.is_journalled() {
            // It was stopped between the last receipt and its line: the next start goes on with that.
            self.sender.start();
            self.wait_until("what is over is in the journal", || self.is_journalled());
            assert_eq!(self.sender.stop(), Some(0));
        }
        self.assert_journals();
    }

    /// The same where a journal has been lost on purpose.
    pub(crate) fn assert_promises_but_journals(&mut self) {
        self.settle();
        self.assert_caps();
        for party in [&mut self.sender, &mut self.recipient] {
            if party.child.is_some() {
                assert_eq!(party.stop(), Some(0), "the {} did not end in order", party.name);
            }
        }
        self.assert_settled_promises();
        for party in [&self.sender, &self.recipient] {
            // Where it never ran, there is nothing that could fit.
            if party.state().join("sled").exists() {
                party.assert_all_fits();
            }
        }
        self.assert_no_secrets();
    }

    /// Waits until every receipt says that every recipient has confirmed.
    pub(crate) fn wait_for_completion(&self) {
        self.settle();
        self.wait_until("every receipt says completed", || self.is_completed());
    }

    fn is_completed(&self) -> bool {
        let expected = self.dropped.iter().filter(|dropped| dropped.fate == Fate::Confirmed).count();
        self.receipts().iter().filter(|(_, receipt)| receipt["status"] == "completed").count() == expected
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let mut ledger = self.look("ledger");
        ledger.retain(|entry| entry["operation"] != "sandbox");
        let lines: Vec<String> = ledger.iter().rev().take(TAIL).rev().map(Value::to_string).collect();
        let content: Vec<String> =
            self.look("transfers").iter().rev().take(TAIL).map(Value::to_string).collect();
        eprintln!("--- ledger ({} requests)\n{}", ledger.len(), lines.join("\n"));
        eprintln!("--- transfers\n{}", content.join("\n"));
        for party in [&self.sender, &self.recipient] {
            let log = party.log();
            let lines: Vec<&str> = log.lines().rev().take(TAIL).collect();
            eprintln!("--- {}\n{}", party.name, lines.into_iter().rev().collect::<Vec<_>>().join("\n"));
            let files: Vec<String> =
                super::files_below(&party.folder).iter().map(|path| format!("{}", path.display())).collect();
            eprintln!("--- files of the {}\n{}", party.name, files.join("\n"));
        }
        self.sandbox.signal(Signal::TERM);
    }
}
