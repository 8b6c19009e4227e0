//! Every file operation of a transfer fails once, in both directions: full disks, broken ones, quotas, file systems that
//! have become read-only. When it has passed, everything has been published and delivered once.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::support::{Bench, INBOX, OUTBOX, Party, Setup, noise};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;
const EROFS: i32 = 30;
const EDQUOT: i32 = 122;
/// Operations of one transfer; more than there are.
const TOO_MANY: u32 = 400;

/// What is to fail at one end: docs of `seams::injected_fault`.
struct Plan {
    path: PathBuf,
}

impl Plan {
    fn of(bench: &Bench, end: &str) -> Self {
        Self { path: bench.dir.path().join(format!("fail-{end}")) }
    }

    fn start(&self, party: &mut Party) {
        party.start_with(&[("FORMIDLINGD_FAIL_AT", &format!("@{}", self.path.display()))]);
    }

    /// From now on the operations are counted, and those from the `first` on fail.
    fn set(&self, first: u32, count: u32, errno: i32) {
        let draft = self.path.with_extension("draft");
        std::fs::write(&draft, format!("*:{first}:{count}:{errno}")).unwrap();
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

/// Sends a file for each operation that can fail, which does so in its transfer.
fn each_operation(errors: [i32; 2], size: usize) {
    let mut bench = Bench::new(&Setup::default());
    for party in [&mut bench.sender, &mut bench.recipient] {
        party.set("retry", "initial", "\"10ms\"").set("retry", "max", "\"100ms\"");
    }
    bench.sender.set(OUTBOX, "settle", "\"20ms\"").set(OUTBOX, "settle_empty", "\"20ms\"");
    bench.recipient.set(INBOX, "poll_interval", "\"100ms\"");
    let (out, inn) = (Plan::of(&bench, "sender"), Plan::of(&bench, "recipient"));
    out.start(&mut bench.sender);
    inn.start(&mut bench.recipient);
    // Noted, and not failed: what a transfer does that nothing happens to.
    bench.drop_file("first.bin", &noise(0, size));
    bench.settle();
    for plan in [&out, &inn] {
        plan.set(1, u32::MAX, 0);
    }
    bench.drop_file("counted.bin", &noise(1, size));
    bench.wait_for_completion();
    let counted = [&out, &inn].map(|plan| (plan.kinds(), plan.hits().len()));
    for plan in [&out, &inn] {
        std::fs::remove_file(&plan.path).unwrap();
        std::fs::remove_file(with_suffix(&plan.path, ".hits")).unwrap();
    }
    let mut past = 0;
    for number in 1..TOO_MANY {
        let errno = errors[usize::try_from(number).unwrap() % 2];
        let count = if number % 8 < 4 { 1 } else { 3 };
        let before = [out.hits().len(), inn.hits().len()];
        out.set(number, count, errno);
        inn.set(number, count, errno);
        bench.drop_file(&format!("{number}.bin"), &noise(u64::from(number) + 1, size));
        bench.settle();
        // When a transfer ends without having come so far, no operation of it is left.
        let has_failed = [out.hits().len(), inn.hits().len()] != before;
        past = if has_failed { 0 } else { past + 1 };
        if past > 3 {
            break;
        }
    }
    assert!(past > 3, "a transfer has no end of operations");
    for (plan, (kinds, operations)) in [&out, &inn].into_iter().zip(&counted) {
        let failed = plan.kinds();
        eprintln!("{} operations of {} kinds; {} failed", operations, kinds.len(), plan.hits().len());
        let missing: Vec<_> = kinds.difference(&failed).collect();
        assert!(missing.is_empty(), "never failed: {missing:?}");
        std::fs::remove_file(&plan.path).unwrap();
    }
    bench.wait_for_completion();
    for party in [&bench.sender, &bench.recipient] {
        assert!(!party.log().contains("panicked"), "{}", party.log());
    }
    bench.assert_promises();
}

#[test]
fn every_operation_of_a_transfer_may_find_the_disk_full_or_broken() {
    each_operation([ENOSPC, EIO], 1000);
}

#[test]
fn every_operation_of_a_transfer_may_find_a_quota_used_up_or_a_file_system_read_only() {
    each_operation([EDQUOT, EROFS], 1000);
}
