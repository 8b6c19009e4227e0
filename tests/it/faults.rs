//! File operations that fail for a while: a full disk, a folder that cannot be written. Nothing is lost or doubled,
//! the log says what is wrong, and the service goes on by itself when it has passed.

use crate::support::{Bench, INBOX, Party, noise};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// Operation, the first call that fails after those that every start makes, error number, code in the log.
const FAULTS: [(&str, u32, i32, &str); 7] = [
    ("write", 1, ENOSPC, "disk_full"),
    ("write", 2, ENOSPC, "disk_full"),
    ("make folder", 6, ENOSPC, "disk_full"),
    ("open", 2, EIO, "file_error"),
    ("move", 1, EIO, "file_error"),
    ("move", 2, EIO, "file_error"),
    ("sync folder", 1, EIO, "file_error"),
];

/// Sends a file while one end's operations fail, four times in a row each.
fn each_fault(end: fn(&mut Bench) -> &mut Party, other: fn(&mut Bench) -> &mut Party) {
    let mut bench = Bench::new(&crate::support::Setup::default());
    // Folders are made once, without a fault.
    bench.start();
    bench.drop_file("first.bin", &noise(0, 10_000));
    bench.settle();
    assert_eq!(other(&mut bench).stop(), Some(0));
    for (seed, (operation, first, errno, code)) in (1..).zip(FAULTS) {
        assert_eq!(end(&mut bench).stop(), Some(0));
        let fault = format!("{operation}:{first}:4:{errno}");
        let said = end(&mut bench).log().len();
        end(&mut bench).start_with(&[("FORMIDLINGD_FAIL_AT", &fault)]);
        other(&mut bench).start();
        bench.drop_file(&format!("{seed}.bin"), &noise(seed, 400_000));
        bench.settle();
        let log = end(&mut bench).log();
        assert!(log.get(said..).unwrap().contains(code), "{fault} was not told of:\n{log}");
        assert_eq!(other(&mut bench).stop(), Some(0));
    }
    other(&mut bench).start();
    bench.wait_for_completion();
    bench.assert_promises();
}

#[test]
fn a_sender_goes_on_when_its_file_system_works_again() {
    each_fault(|bench| &mut bench.sender, |bench| &mut bench.recipient);
}

#[test]
fn a_recipient_goes_on_when_its_file_system_works_again() {
    each_fault(|bench| &mut bench.recipient, |bench| &mut bench.sender);
}

#[test]
fn a_rename_whose_answer_is_lost_is_not_done_twice_or_undone() {
    for layout in ["flat", "by_transfer"] {
        let mut bench = Bench::new(&crate::support::Setup::default());
        bench.recipient.set(INBOX, "layout", format!("\"{layout}\""));
        // Every rename happens, and says that nothing is there: NFS, when its answers are lost.
        let fault = [("FORMIDLINGD_FAIL_AT", "move and hear of:1:100000:2")];
        bench.sender.start_with(&fault);
        bench.recipient.start_with(&fault);
        for seed in 0..4 {
            bench.drop_file("a.bin", &noise(seed, 10_000));
            bench.settle();
        }
        for party in [&bench.sender, &bench.recipient] {
            assert!(!party.log().contains("file_missing"), "{}", party.log());
        }
        bench.assert_promises();
    }
}

/// Renames that cannot refuse to overwrite, as on NFS and CIFS.
const NO_SUCH_RENAME: (&str, &str) = ("FORMIDLINGD_FAIL_AT", "rename:1:100000:22");

#[test]
fn file_systems_that_rename_in_their_own_way_lose_and_overwrite_nothing() {
    for layout in ["flat", "by_transfer"] {
        let mut bench = Bench::new(&crate::support::Setup::default());
        bench.recipient.set(INBOX, "layout", format!("\"{layout}\""));
        bench.sender.start_with(&[NO_SUCH_RENAME]);
        bench.recipient.start_with(&[NO_SUCH_RENAME]);
        for seed in 0..4 {
            bench.drop_file("a.bin", &noise(seed, 10_000));
            bench.settle();
        }
        bench.assert_promises();
    }
}

#[test]
fn a_death_between_the_new_name_and_the_end_of_the_old_one_doubles_nothing() {
    let mut bench = Bench::new(&crate::support::Setup::default());
    // A sender moves the file in and out and lays down a receipt; a recipient lays down metadata and the file.
    for (seed, time) in (0..).zip(1..=3) {
        let point = format!("move:linked:{time}");
        let death = [NO_SUCH_RENAME, ("FORMIDLINGD_CRASH_AT", point.as_str())];
        bench.drop_file("a.bin", &noise(seed, 10_000));
        bench.sender.start_with(&death);
        assert!(bench.sender.has_died(), "the sender was not killed at {point}");
        bench.sender.start_with(&[NO_SUCH_RENAME]);
        bench.recipient.start_with(if time <= 2 { &death } else { &death[..1] });
        if time <= 2 {
            assert!(bench.recipient.has_died(), "the recipient was not killed at {point}");
            bench.recipient.start_with(&[NO_SUCH_RENAME]);
        }
        bench.settle();
        assert_eq!((bench.sender.stop(), bench.recipient.stop()), (Some(0), Some(0)), "after {point}");
    }
    bench.start();
    bench.assert_promises();
}

#[test]
fn a_death_while_a_file_is_copied_to_its_archive_archives_it_once() {
    let mut bench = Bench::new(&crate::support::Setup::default());
    bench.recipient.start();
    let plan = bench.dir.path().join("fail");
    let failing = format!("@{}", plan.display());
    let points = ["copy:written", "copy:renamed", "copy:placed"];
    for (seed, point) in (0..).zip(points) {
        bench.drop_file(&format!("{seed}.bin"), &noise(seed, 600_000));
        for death in [&[("FORMIDLINGD_CRASH_AT", point)][..], &[]] {
            let environment = [&[("FORMIDLINGD_FAIL_AT", failing.as_str())], death].concat();
            bench.sender.stop_at_with("lay_down:companion", &environment);
            // The next rename, which is that of the file, finds that the archive is another file system.
            std::fs::write(&plan, "rename:1:1:18").unwrap();
            bench.sender.go_on();
            if death.is_empty() {
                bench.wait_for_completion();
                assert_eq!(bench.sender.stop(), Some(0), "after {point}");
            } else {
                assert!(bench.sender.has_died(), "the sender was not killed at {point}");
            }
            std::fs::remove_file(&plan).unwrap();
        }
    }
    bench.assert_promises();
    assert_eq!(bench.receipts().len(), points.len());
}

/// Steps at which a disk can be full: whose, which operation, which of its calls to try, and how the folder's name
/// ends that is told for one of them.
const FULL: [(&str, &str, std::ops::RangeInclusive<u32>, &str); 7] = [
    ("sender", "write", 1..=1, "/sending/"),
    ("sender", "write", 2..=6, "/sent/"),
    ("recipient", "reserve room for", 1..=1, "/incoming/"),
    ("recipient", "write", 1..=1, "/incoming/"),
    ("recipient", "sync", 1..=1, "/incoming/"),
    ("recipient", "write", 2..=4, "/delivered\":"),
    ("recipient", "write", 2..=5, "/inbox\":"),
];

#[test]
fn a_full_disk_is_named_at_each_step_and_costs_a_delay() {
    let mut bench = Bench::new(&crate::support::Setup::default());
    bench.start();
    bench.drop_file("first.bin", &noise(0, 10_000));
    for (step, (end, operation, mut calls, folder)) in (1..).zip(FULL) {
        let found = calls.any(|call| {
            // Otherwise the receipts of files before would be the first that cannot be written.
            bench.wait_for_completion();
            let party = if end == "sender" { &mut bench.sender } else { &mut bench.recipient };
            assert_eq!(party.stop(), Some(0));
            party.start_with(&[("FORMIDLINGD_FAIL_AT", &format!("{operation}:{call}:3:{ENOSPC}"))]);
            bench.drop_file(&format!("{step}-{call}.bin"), &noise(step * 100 + u64::from(call), 1000));
            bench.settle();
            let said = if end == "sender" { bench.sender.said() } else { bench.recipient.said() };
            said.lines().any(|line| line.contains("code=disk_full") && line.contains(folder))
        });
        assert!(found, "the {end} never names {folder} when it cannot {operation}");
        let party = if end == "sender" { &mut bench.sender } else { &mut bench.recipient };
        assert_eq!(party.stop(), Some(0));
        party.start();
    }
    bench.wait_for_completion();
    bench.assert_promises();
}
