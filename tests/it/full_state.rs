//! The disk of the state fills up, or fails: nothing is lost, and everything goes on by itself when there is room.

use crate::support::{Bench, Child, DEADLINE, Party, Setup, noise, until};

const ENOSPC: i32 = 28;
const EIO: i32 = 5;

#[test]
fn a_write_of_the_store_that_fails_stops_the_service_and_a_start_goes_on() {
    let mut bench = Bench::new(&Setup { arguments: vec!["--stuck-after", "3s"], ..Setup::default() });
    bench.recipient.start();
    bench.drop_file("first.bin", &noise(99, 1000));
    bench.sender.start();
    bench.wait_for_completion();
    assert_eq!(bench.sender.stop(), Some(0));
    let mut faults = Vec::new();
    for (step, errno) in [("store apply", ENOSPC), ("store flush", ENOSPC), ("store sync", EIO)] {
        faults.extend((1..=10).step_by(3).map(|first| format!("{step}:{first}:1:{errno}")));
    }
    faults.push(format!("journal append:1:1:{ENOSPC}"));
    for (seed, fault) in (0..).zip(&faults) {
        bench.drop_file(&format!("{seed}.bin"), &noise(seed, 400_000));
        bench.sender.start_with(&[("FORMIDLINGD_FAIL_AT", fault)]);
        let gave_up = |sender: &Party| sender.said().contains("the ballast was given up");
        let runs = |sender: &Party| sender.child.as_ref().is_some_and(Child::is_running);
        until(DEADLINE, || !runs(&bench.sender) || gave_up(&bench.sender));
        // While the state is opened, the ballast is what makes room, and it goes on.
        if !gave_up(&bench.sender) {
            let ended = bench.sender.child.as_mut().and_then(Child::wait);
            bench.sender.child = None;
            let said = bench.sender.said();
            assert_eq!(ended.and_then(|status| status.code()), Some(1), "{fault}\n{said}");
            assert!(said.contains("state_io") || said.contains("cannot use the database"), "{fault}: {said}");
            bench.sender.assert_all_fits();
            bench.sender.start();
        }
        bench.settle();
        assert_eq!(bench.sender.stop(), Some(0), "after {fault}");
    }
    bench.sender.start();
    bench.wait_for_completion();
    bench.assert_promises();
}

#[test]
fn a_death_when_the_ballast_was_given_up_loses_nothing() {
    let mut bench = Bench::new(&Setup { arguments: vec!["--stuck-after", "3s"], ..Setup::default() });
    bench.recipient.start();
    bench.drop_file("a.bin", &noise(1, 400_000));
    bench.sender.is_killed_at("upload:begun");
    let full = format!("store apply:1:1:{ENOSPC}");
    let point = "ballast:given_up";
    bench.sender.start_with(&[("FORMIDLINGD_FAIL_AT", &full), ("FORMIDLINGD_CRASH_AT", point)]);
    assert!(bench.sender.has_died(), "the sender was not killed at {point}");
    let ballast = bench.sender.state().join("ballast");
    assert!(!ballast.exists());
    bench.sender.assert_all_fits();
    bench.sender_goes_on(point);
    assert!(ballast.exists(), "there is room, and none was made anew");
    bench.assert_promises();
}

#[test]
fn nothing_new_is_begun_while_there_is_little_room() {
    let mut bench = Bench::new(&Setup::default());
    bench.drop_file("a.txt", b"a");
    bench.start();
    bench.wait_for_completion();
    for party in [&mut bench.sender, &mut bench.recipient] {
        assert_eq!(party.stop(), Some(0));
    }
    let usual = bench.sender.settings.clone();
    // More than any disk has.
    bench.sender.set("state", "min_free_space", "\"1PiB\"");
    bench.drop_file("b.txt", b"b");
    bench.sender.start();
    bench.wait_until("it is told", || bench.sender.said().contains("state_disk_full"));
    assert!(bench.sender.outbox().join("b.txt").exists(), "it was taken");
    assert_eq!(bench.sender.stop(), Some(0));
    bench.sender.settings = usual;
    bench.sender.start();
    bench.wait_until("it is published", || bench.receipts().len() == 2);
    // The recipient leaves at Altinn what it could not remember.
    let usual = bench.recipient.settings.clone();
    bench.recipient.set("state", "min_free_space", "\"1PiB\"");
    bench.recipient.start();
    bench.wait_until("it is told", || bench.recipient.said().contains("state_disk_full"));
    assert_eq!(bench.recipient.stop(), Some(0));
    assert!(!bench.recipient.said().contains(": found"), "{}", bench.recipient.said());
    bench.recipient.settings = usual;
    bench.recipient.start();
    bench.assert_promises();
}
