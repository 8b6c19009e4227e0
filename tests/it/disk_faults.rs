//! Every file operation of a transfer fails once, in both directions: full disks, broken ones, quotas, file systems that
//! have become read-only. When it has passed, everything has been published and delivered once.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::support::{Bench, INBOX, OUTBOX, Party, Setup, noise};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;
const EROFS: i32 = 30;
const EDQUOT: i32 = 122;
const ERRORS: [i32; 4] = [ENOSPC, EIO, EDQUOT, EROFS];
/// Operations of one transfer; more than there are.
const TOO_MANY: u32 = 400;
/// Operations of one name that a rare one among them is looked for in.
const OF_ONE_NAME: u32 = 12;
/// A transfer mostly waits, so that several go side by side.
const WORKERS: u32 = 4;

/// What is to fail at one end: docs of `seams::injected_fault`.
struct Plan {
    path: PathBuf,
}

impl Plan {
    fn of(bench: &Bench, end: &str) -> Self {
        Self { path: bench.dir.path().join(format!("fail-{end}")) }
    }

    /// Starts an end again that has ended, without a fault until the next plan: it counts from the beginning.
    ///
    /// A failing disk below the state ends the service on purpose, and systemd starts it again. Nothing else does.
    fn start_again(&self, party: &mut Party) {
        let said = party.said();
        assert_eq!(Bench::end_of(party), Some(1), "{said}");
        let is_state = said.contains("a part failed") && said.contains("code=state_");
        assert!(is_state && !said.contains("panicked"), "it ended, and not for its state\n{said}");
        if self.path.exists() {
            self.set(u32::MAX, 1, EIO);
        }
        self.start(party);
    }

    fn start(&self, party: &mut Party) {
        party.start_with(&[("FORMIDLINGD_FAIL_AT", &format!("@{}", self.path.display()))]);
    }

    /// From now on the operations are counted, and those from the `first` on fail.
    fn set(&self, first: u32, count: u32, errno: i32) {
        self.say(&format!("*:{first}:{count}:{errno}"));
    }

    fn say(&self, plan: &str) {
        let draft = self.path.with_extension("draft");
        std::fs::write(&draft, plan).unwrap();
        std::fs::rename(draft, &self.path).unwrap();
    }

    fn hits(&self) -> Vec<String> {
        let hits = std::fs::read_to_string(with_suffix(&self.path, ".hits")).unwrap_or_default();
        hits.lines().map(str::to_owned).collect()
    }

    /// What has failed so far, by operation and place in the source.
    fn kinds(&self) -> BTreeSet<String> {
        self.hits().iter().filter_map(|hit| Some(hit.split_once(' ')?.1.to_owned())).collect()
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

/// Two ends whose file operations are counted from when a plan is made.
struct Ends {
    bench: Bench,
    plans: [Plan; 2],
}

impl Ends {
    fn new() -> Self {
        // A file of one block whose bytes could not be read may have left: Altinn has to give up on it first.
        let mut bench = Bench::new(&Setup { arguments: vec!["--stuck-after", "1s"], ..Setup::default() });
        for party in [&mut bench.sender, &mut bench.recipient] {
            party.set("retry", "initial", "\"10ms\"").set("retry", "max", "\"100ms\"");
        }
        bench.sender.set("retry", "cut_upload_wait", "\"200ms\"").set(OUTBOX, "settle", "\"20ms\"");
        bench.recipient.set(INBOX, "poll_interval", "\"100ms\"");
        let plans = [Plan::of(&bench, "sender"), Plan::of(&bench, "recipient")];
        plans[0].start(&mut bench.sender);
        plans[1].start(&mut bench.recipient);
        let mut ends = Self { bench, plans };
        // Folders are made without a fault.
        ends.send("first.bin");
        ends
    }

    fn send(&mut self, name: &str) {
        let seed = self.bench.dropped.len() as u64;
        self.bench.drop_file(name, &noise(seed, 1000));
        self.settle(false);
    }

    /// Waits until everything has been done, with ends that start again where they end by design.
    fn settle(&mut self, completed: bool) {
        let [sender, recipient] = &self.plans;
        self.bench.settle_with(completed, |party| {
            let plan = if party.name == "sender" { sender } else { recipient };
            plan.start_again(party);
        });
    }

    fn plan(&self, first: u32, count: u32, errno: i32) {
        self.plans.iter().for_each(|plan| plan.set(first, count, errno));
    }

    fn hits(&self) -> usize {
        self.plans.iter().map(|plan| plan.hits().len()).sum()
    }

    fn kinds(&self) -> BTreeSet<String> {
        self.plans.iter().flat_map(Plan::kinds).collect()
    }

    /// Sends a file for each operation with a number of these, which fails in its transfer, until there are no more;
    /// the kinds of operation that have failed.
    fn fail_each(mut self, numbers: impl Iterator<Item = u32>) -> BTreeSet<String> {
        let mut past = 0;
        for (turn, number) in numbers.enumerate() {
            let (errno, count) = (ERRORS[turn % ERRORS.len()], if turn % 3 == 0 { 3 } else { 1 });
            let before = self.hits();
            self.plan(number, count, errno);
            self.send(&format!("{number}.bin"));
            // A transfer that ends without having come so far has no such operation.
            past = if self.hits() > before { 0 } else { past + 1 };
            if past > 2 {
                break;
            }
        }
        assert!(past > 2, "a transfer has no end of operations");
        let failed = self.kinds();
        self.end();
        failed
    }

    fn end(mut self) {
        for plan in &self.plans {
            std::fs::remove_file(&plan.path).unwrap();
        }
        self.settle(true);
        // A temporary file that could not be removed goes at the next start.
        for party in [&mut self.bench.sender, &mut self.bench.recipient] {
            assert_eq!(party.stop(), Some(0));
            party.start();
        }
        for party in [&self.bench.sender, &self.bench.recipient] {
            assert!(!party.log().contains("panicked"), "{}", party.log());
        }
        self.bench.assert_promises();
    }
}

#[test]
fn every_operation_of_a_transfer_may_fail() {
    // Noted, and not failed: what a transfer does that nothing happens to.
    let mut ends = Ends::new();
    ends.plan(1, u32::MAX, 0);
    ends.send("counted.bin");
    ends.settle(true);
    let (kinds, operations) = (ends.kinds(), ends.hits());
    ends.end();
    let mut failed = BTreeSet::new();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (1..=WORKERS)
            .map(|first| {
                scope.spawn(move || Ends::new().fail_each((first..TOO_MANY).step_by(WORKERS as usize)))
            })
            .collect();
        for worker in workers {
            failed.extend(worker.join().unwrap());
        }
    });
    eprintln!("{operations} operations of {} kinds at both ends", kinds.len());
    // What others do beside a transfer is counted, too, so that a kind that is rare may have been missed.
    let mut ends = Ends::new();
    for (turn, kind) in kinds.difference(&failed).enumerate() {
        let operation = kind.rsplit_once(' ').unwrap().0;
        // The first of that name may be another place's.
        for number in 1..=OF_ONE_NAME {
            if ends.kinds().contains(kind) {
                break;
            }
            for plan in &ends.plans {
                plan.say(&format!("{operation}:{number}:1:{}", ERRORS[turn % ERRORS.len()]));
            }
            ends.send(&format!("{turn}-{number}.bin"));
        }
    }
    failed.extend(ends.kinds());
    ends.plan(TOO_MANY, 1, EIO);
    ends.end();
    let missing: Vec<_> = kinds.difference(&failed).collect();
    assert!(missing.is_empty(), "never failed: {missing:?}");
}
