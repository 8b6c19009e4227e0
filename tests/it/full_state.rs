//! The disk of the state fills up, or fails: nothing is lost, and everything goes on by itself when there is room.

use crate::downloads::set_free;
use crate::support::{Bench, Child, Content, DEADLINE, MOTTAKER, Party, Setup, noise, until};

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

#[test]
fn what_comes_when_the_disk_has_filled_up_since_the_last_look_is_not_begun() {
    let mut bench = Bench::new(&Setup::default());
    let free = set_free(&bench, 1 << 40);
    for party in [&mut bench.sender, &mut bench.recipient] {
        party.start_with(&[("FORMIDLINGD_FREE_SPACE", &free)]);
    }
    bench.drop_file("a.txt", b"a");
    bench.wait_for_completion();
    set_free(&bench, 0);
    bench.drop_file("b.txt", b"b");
    bench.stranger().send("c.txt", MOTTAKER, b"c");
    bench.promise(&bench.recipient.inbox().join("c.txt"), Content::of(b"c")).ours = false;
    for party in [&bench.sender, &bench.recipient] {
        bench.wait_until("it is told", || party.said().contains("state_disk_full"));
        assert!(!party.state().join("ballast").exists(), "what was begun has no room");
    }
    assert!(bench.sender.outbox().join("b.txt").exists(), "it was taken");
    assert!(!bench.recipient.said().contains("name=c.txt"), "{}", bench.recipient.said());
    set_free(&bench, 1 << 40);
    bench.assert_promises();
}

#[test]
fn a_death_while_the_ballast_is_given_up_keeps_nothing_from_going_on() {
    let mut bench = Bench::new(&Setup { arguments: vec!["--stuck-after", "3s"], ..Setup::default() });
    bench.recipient.start();
    bench.drop_file("a.bin", &noise(1, 400_000));
    bench.sender.die_at("initialize:intended");
    assert!(bench.sender.has_died());
    assert!(bench.sender.state().join("ballast").exists());
    let free = set_free(&bench, 0);
    let point = ("FORMIDLINGD_CRASH_AT", "ballast:given_up");
    bench.sender.start_with(&[("FORMIDLINGD_FREE_SPACE", &free), point]);
    assert!(bench.sender.has_died(), "the sender was not killed at {}", point.1);
    assert!(!bench.sender.state().join("ballast").exists());
    bench.sender.assert_all_fits();
    bench.drop_file("b.txt", b"b");
    bench.sender.start_with(&[("FORMIDLINGD_FREE_SPACE", &free)]);
    bench.wait_until("what was begun is sent", || bench.receipts().len() == 1);
    assert!(bench.sender.outbox().join("b.txt").exists(), "something new was begun");
    set_free(&bench, 1 << 40);
    bench.assert_promises();
}
