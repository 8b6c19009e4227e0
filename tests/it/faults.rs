//! File operations that fail for a while: a full disk, a folder that cannot be written. Nothing is lost or doubled,
//! the log says what is wrong, and the service goes on by itself when it has passed.

use crate::support::{Bench, Party, noise};

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

/// Steps at which a disk can be full: whose, which operation, which of its calls to try, and how the folder's name
/// ends that is told for one of them.
const FULL: [(&str, &str, std::ops::RangeInclusive<u32>, &str); 7] = [
    ("sender", "write", 1..=1, "/sending/"),
    ("sender", "write", 2..=6, "/sent/"),
    ("recipient", "reserve room for", 1..=1, "/incoming/"),
    ("recipient", "write", 1..=1, "/incoming/"),
    ("recipient", "sync", 1..=1, "/incoming/"),
    ("recipient", "write", 2..=4, "/delivered:"),
    ("recipient", "write", 2..=5, "/inbox:"),
];

#[test]
fn a_full_disk_is_named_at_each_step_and_costs_a_delay() {
    let mut bench = Bench::new(&crate::support::Setup::default());
    bench.start();
    bench.drop_file("first.bin", &noise(0, 10_000));
    bench.settle();
    for (step, (end, operation, mut calls, folder)) in (1..).zip(FULL) {
        let found = calls.any(|call| {
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
