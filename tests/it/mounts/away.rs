//! File systems that go and come back. While they are away, nothing is done in the empty folders below them.

use std::path::{Path, PathBuf};

use super::{OtherOutbox, folder, names};
use crate::support::{Bench, Content, MOTTAKER, Mount, Setup};

/// A bench whose two folders are file systems that can be taken away.
struct Disks {
    // Taken away before the bench's folder is removed.
    outbox: Mount,
    inbox: Mount,
    bench: Bench,
    /// What the outbox's file system holds, under a name that stays.
    behind: PathBuf,
    /// Another outbox of the sender, whose folder stays.
    other: OtherOutbox,
}

impl Disks {
    fn new() -> Self {
        let mut bench = Bench::new(&Setup::default());
        let other = OtherOutbox::of(&mut bench);
        let behind = folder(&bench, "behind-outbox");
        let outbox = Mount::bind(&behind, &bench.sender.outbox());
        let inbox = Mount::bind(&folder(&bench, "behind-inbox"), &bench.recipient.inbox());
        Self { outbox, inbox, bench, behind, other }
    }

    fn drop_file(&mut self, name: &str) {
        self.bench.drop_at(&self.behind.join(name), name.as_bytes());
    }

    /// Sees that both are missed, while somebody sends a file to the inbox, and another outbox works.
    fn assert_missed(&mut self, code: &str, name: &str) {
        let words = format!("code={code}");
        for party in [&self.bench.sender, &self.bench.recipient] {
            self.bench.wait_until("it is missed", || party.said().contains(&words));
        }
        self.bench.stranger().send(name, MOTTAKER, name.as_bytes());
        self.bench.promise(Path::new(name), Content::of(name.as_bytes())).ours = false;
        self.other.sends(&mut self.bench);
    }

    fn stop(&mut self) {
        for party in [&mut self.bench.sender, &mut self.bench.recipient] {
            assert_eq!(party.stop(), Some(0), "the {} did not end in order", party.name);
        }
    }

    /// Ends with both file systems in place, and everything done.
    fn assert_promises(&mut self) {
        self.bench.assert_promises();
    }
}

#[test]
#[ignore = "needs root: mounts"]
fn file_systems_that_go_and_come_back_while_the_service_runs_are_waited_for() {
    let mut disks = Disks::new();
    disks.bench.start();
    disks.drop_file("first.txt");
    disks.bench.settle();
    disks.outbox.lift();
    disks.inbox.lift();
    let (outbox, inbox) = (disks.bench.sender.outbox(), disks.bench.recipient.inbox());
    std::fs::write(outbox.join("below.txt"), "below").unwrap();
    disks.assert_missed("folder_not_recognised", "meanwhile.txt");
    let bench = &disks.bench;
    bench.wait_until("the recipient was told of a file, and cannot take it", || {
        let said = bench.recipient.said();
        said.lines().filter(|line| line.contains("cannot ask about an incoming file")).count() > 1
    });
    assert_eq!(names(&outbox), ["below.txt"], "nothing is taken from below, and nothing made there");
    assert_eq!(names(&inbox), Vec::<String>::new());

    disks.outbox.mount();
    disks.inbox.mount();
    disks.drop_file("second.txt");
    disks.assert_promises();
    assert!(disks.bench.recipient.inbox().join("meanwhile.txt").exists());
    disks.outbox.lift();
    assert_eq!(names(&outbox), ["below.txt"]);
    assert_eq!(std::fs::read_to_string(outbox.join("below.txt")).unwrap(), "below");
}

#[test]
#[ignore = "needs root: mounts"]
fn a_start_without_the_file_systems_waits_for_them_and_serves_the_other_routes() {
    let mut disks = Disks::new();
    disks.bench.start();
    disks.drop_file("first.txt");
    disks.bench.settle();
    let (outbox, inbox) = (disks.bench.sender.outbox(), disks.bench.recipient.inbox());

    // The empty folders below them are there.
    disks.stop();
    disks.outbox.lift();
    disks.inbox.lift();
    std::fs::write(outbox.join("below.txt"), "below").unwrap();
    disks.bench.start();
    disks.assert_missed("folder_not_recognised", "meanwhile-1.txt");
    assert_eq!(names(&outbox), ["below.txt"], "nothing is taken from below, and nothing made there");
    assert_eq!(names(&inbox), Vec::<String>::new());
    disks.outbox.mount();
    disks.inbox.mount();
    disks.drop_file("second.txt");
    disks.bench.settle();

    // Not even they.
    disks.stop();
    disks.outbox.lift();
    disks.inbox.lift();
    std::fs::remove_file(outbox.join("below.txt")).unwrap();
    std::fs::remove_dir(&outbox).unwrap();
    std::fs::remove_dir(&inbox).unwrap();
    for party in [&disks.bench.sender, &disks.bench.recipient] {
        let check = party.run("check");
        assert_eq!(check.code, Some(0), "{check:?}");
        for words in ["cannot be opened", "it was there before", "mount its file system, or"] {
            assert!(check.text.contains(words), "{words}: {check:?}");
        }
    }
    disks.bench.start();
    disks.assert_missed("file_missing", "meanwhile-2.txt");
    assert!(!outbox.exists() && !inbox.exists(), "they were made anew");
    std::fs::create_dir(&outbox).unwrap();
    std::fs::create_dir(&inbox).unwrap();
    disks.outbox.mount();
    disks.inbox.mount();
    disks.drop_file("third.txt");
    disks.assert_promises();
}
