//! A state on a disk that is really full.

use super::{folder, names};
use crate::support::{Ballast, Bench, Mount, Setup, noise};

/// KiB of the disk of the state.
const DISK: u32 = 24 * 1024;
/// KiB that are left and below which the ballast is given up, a quarter of it.
const KEPT_ABOVE: u64 = 256;

#[test]
#[ignore = "needs root: mounts"]
fn a_sender_whose_state_has_no_room_goes_on_when_there_is_some() {
    let mut bench = Bench::new(&Setup { arguments: vec!["--stuck-after", "3s"], ..Setup::default() });
    let disk = folder(&bench, "disk");
    let _memory = Mount::memory(DISK, &disk);
    let state = disk.join("state");
    bench.sender.set("state", "path", format!("\"{}\"", state.display()));
    bench.sender.set("state", "export_every", "\"200ms\"").set("state", "ballast", "\"1MiB\"");
    bench.start();
    bench.drop_file("first.bin", &noise(1, 400_000));
    bench.wait_for_completion();
    for (seed, room) in (2..).zip([0, KEPT_ABOVE - 64, KEPT_ABOVE + 64]) {
        // In the midst of the work the disk fills up.
        assert_eq!(bench.sender.stop(), Some(0));
        bench.drop_file(&format!("{room}.bin"), &noise(seed, 400_000));
        bench.sender.stop_at("initialize:intended");
        let ballast = Ballast::but(room, &disk);
        let since = bench.sender.log().len();
        bench.sender.go_on();
        // Either it dies of it, and is started anew as systemd does, or it has told; what was begun is finished with
        // the room that was kept for it.
        bench.drop_file(&format!("{room}-new.bin"), &noise(seed + 10, 1000));
        let waiting = bench.sender.outbox().join(format!("{room}-new.bin"));
        let mut restarts = 0;
        crate::support::until(crate::support::DEADLINE, || {
            if bench.sender.child.as_ref().is_some_and(|child| !child.is_running()) {
                bench.sender.child = None;
                bench.sender.start();
                restarts += 1;
            }
            let is_told = bench.sender.log()[since..].contains("state_disk_full");
            is_told && bench.receipts().iter().any(|(path, _)| path.ends_with(format!("{room}.bin")))
        });
        let log = bench.sender.log()[since..].to_owned();
        assert!(log.contains("state_disk_full"), "it was not told");
        assert!(
            bench.receipts().iter().any(|(path, _)| path.ends_with(format!("{room}.bin"))),
            "{restarts} restarts"
        );
        assert!(waiting.exists(), "something new was begun");
        // With more than a quarter of it left, what was begun goes on without.
        assert!(room >= KEPT_ABOVE || !state.join("ballast").exists(), "it was not given up");
        drop(ballast);
        bench.wait_for_completion();
        assert!(crate::support::until(crate::support::DEADLINE, || state.join("ballast").exists()));
    }
    // Its journal lies elsewhere.
    bench.assert_promises_but_journals();
}

#[test]
#[ignore = "needs root: mounts"]
fn a_start_that_has_no_room_to_repair_its_database_takes_none_and_waits_for_it() {
    let mut bench = Bench::new(&Setup { arguments: vec!["--stuck-after", "3s"], ..Setup::default() });
    let disk = folder(&bench, "disk");
    let _memory = Mount::memory(DISK, &disk);
    let state = disk.join("state");
    bench.sender.set("state", "path", format!("\"{}\"", state.display()));
    bench.sender.set("state", "export_every", "\"never\"").set("state", "ballast", "\"0B\"");
    bench.start();
    bench.drop_file("first.bin", &noise(1, 400_000));
    bench.settle();
    bench.drop_file("second.bin", &noise(2, 400_000));
    assert_eq!(bench.sender.stop(), Some(0));
    bench.sender.die_at("upload:begun");
    assert!(bench.sender.has_died());
    // As sled leaves it where the disk is full.
    let snapshots = names(&state.join("sled")).into_iter().filter(|name| name.starts_with("snap."));
    let emptied = snapshots.map(|name| std::fs::write(state.join("sled").join(name), "").unwrap()).count();
    assert!(emptied > 0);
    let ballast = Ballast::but(64, &disk);
    bench.sender.start();
    let waits = |bench: &Bench| bench.sender.said().matches("there is no room for the state").count();
    bench.wait_until("it waits for room", || waits(&bench) > 0);
    let left = names(&state);
    assert!(!left.iter().any(|name| name.starts_with("repair")), "{left:?}");
    assert_eq!(bench.receipts().len(), 1, "something was sent from a database that was not read");
    drop(ballast);
    bench.wait_for_completion();
    assert!(bench.sender.said().contains("has been repaired"), "{}", bench.sender.said());
    bench.assert_promises_but_journals();
}
