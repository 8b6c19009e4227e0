//! Folders as they really are: more in them than can be taken, kernels that do not tell, names that nobody can carry,
//! folders that go away and come back.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::process::Signal;
use serde_json::json;

use crate::support::{Bench, Content, Fate, OUTBOX, Setup, noise, run};

/// Makes empty files of these names.
fn fill(folder: &Path, number: usize, name: impl Fn(usize) -> String) {
    for number in 0..number {
        std::fs::write(folder.join(name(number)), "").unwrap();
    }
}

#[test]
fn files_that_cannot_be_taken_keep_no_other_from_being_seen() {
    let mut bench = Bench::new(&Setup::default());
    bench.sender.set(OUTBOX, "sidecar", "\"required\"");
    // More than are observed at once, and none of them will ever have a sidecar.
    fill(&bench.sender.outbox(), 10_000, |number| format!("waits-{number}.txt"));
    bench.start();
    for number in 0..5 {
        let name = format!("goes-{number}.txt");
        bench.sidecar(&name, &json!({}));
        bench.drop_file(&name, &noise(number, 100));
    }
    bench.settle();
    let left = std::fs::read_dir(bench.sender.outbox()).unwrap().flatten();
    let waiting: Vec<_> = left.filter(|entry| entry.file_name().as_bytes().starts_with(b"waits-")).collect();
    assert_eq!(waiting.len(), 10_000);
    for entry in waiting {
        std::fs::remove_file(entry.path()).unwrap();
    }
    bench.assert_promises();
}

#[test]
fn nothing_is_lost_when_the_kernels_queue_overflows() {
    let mut bench = Bench::new(&Setup::default());
    // The folder would be listed again too late for this test: only the overflow can tell.
    bench.sender.set(OUTBOX, "poll_interval", "\"1h\"").set(OUTBOX, "exclude", "[\"*.skip\"]");
    bench.start();
    bench.wait_until("the folder is watched", || bench.sender.log().contains("watching"));
    let queue = std::fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let queue: usize = queue.trim().parse().unwrap();
    // 100 000 on demand, with FORMIDLINGD_SOAK=1: a debug build takes long to list them. Each is more than one event.
    let files = if std::env::var_os("FORMIDLINGD_SOAK").is_some() { 100_000 } else { 30_000 };
    assert!(queue < files, "the queue of this machine holds {queue} events");
    // Nobody reads the queue while they come.
    bench.sender.child.as_ref().unwrap().signal(Signal::STOP);
    let outbox = bench.sender.outbox();
    fill(&outbox, files, |number| format!("{number}.skip"));
    for number in 0..50 {
        bench.drop_file(&format!("{number}.txt"), &noise(number, 100));
    }
    bench.sender.go_on();
    bench.settle();
    bench.sender.stop();
    for number in 0..files {
        std::fs::remove_file(outbox.join(format!("{number}.skip"))).unwrap();
    }
    bench.assert_promises();
}

#[test]
fn where_no_more_folders_can_be_watched_they_are_listed() {
    let mut bench = Bench::new(&Setup::default());
    bench.sender.settings.unset(OUTBOX, "recipients");
    bench.sender.set(OUTBOX, "recipients_from", "\"directory\"");
    let folder = bench.sender.outbox().join("910753614");
    std::fs::create_dir(&folder).unwrap();
    bench.recipient.start();
    // ENOSPC is what inotify answers when the user has all the watches that he may have.
    bench.sender.start_with(&[("FORMIDLINGD_FAIL_AT", "watch:1:1000000:28")]);
    bench.wait_until("it is told", || bench.sender.log().contains("no_notifications"));
    assert!(bench.sender.log().contains("fs.inotify.max_user_watches"), "{}", bench.sender.log());
    for number in 0..5 {
        bench.drop_at(&folder.join(format!("{number}.txt")), &noise(number, 100));
    }
    bench.assert_promises();
}

#[test]
fn names_that_altinn_cannot_be_told_wait_and_are_explained() {
    let mut bench = Bench::new(&Setup::default());
    let outbox = bench.sender.outbox();
    let not_utf8 = outbox.join(OsStr::from_bytes(b"faktura_\xf8.pdf"));
    std::fs::write(&not_utf8, "latin-1").unwrap();
    for name in ["to\nlinjer.txt", "a\\b.txt", "piip\u{7}.txt"] {
        bench.drop_file(name, name.as_bytes()).fate = Fate::Waiting;
    }
    // A sidecar can give such a file a name that can be told.
    bench.sidecar("en\nto.txt", &json!({ "fileName": "en to.txt" }));
    bench.drop_file("en\nto.txt", b"named").shown = "en to.txt".to_owned();
    bench.start();
    bench.settle();
    bench.wait_until("they are told of", || {
        let log = bench.sender.log();
        log.matches("file_name_invalid").count() == 3 && log.contains("file_name_not_utf8")
    });
    let log = bench.sender.log();
    assert!(log.contains("faktura_") && log.contains("rename the file"), "{log}");
    assert!(!log.contains('\u{7}') && !log.contains("to\nlinjer"), "{log}");
    assert_eq!(std::fs::read(&not_utf8).unwrap(), b"latin-1");
    std::fs::remove_file(&not_utf8).unwrap();
    bench.assert_promises();
}

#[test]
fn a_file_that_cannot_be_read_waits_and_others_go() {
    let mut bench = Bench::new(&Setup::default());
    bench.drop_file("secret.txt", b"not yet");
    bench.recipient.start();
    // The first look at it is refused, as a file of mode 0600 of another user's is.
    bench.sender.start_with(&[("FORMIDLINGD_FAIL_AT", "open:1:1:13")]);
    bench.wait_until("it is told", || bench.sender.log().contains("file_not_readable"));
    bench.drop_file("open.txt", b"now");
    bench.assert_promises();
}

#[test]
fn a_file_that_cannot_be_moved_waits_and_keeps_no_place_from_others() {
    let mut bench = Bench::new(&Setup::default());
    bench.sender.set(OUTBOX, "max_concurrent", 1);
    for number in 0..4 {
        bench.drop_file(&format!("stays-{number}.txt"), &noise(number, 100));
    }
    bench.recipient.start();
    // What a sticky folder answers that is another's.
    bench.sender.start_with(&[("FORMIDLINGD_FAIL_AT", "move:1:4:1")]);
    bench.wait_until("it is told", || bench.sender.log().matches("file_not_movable").count() == 4);
    for number in 0..4 {
        assert!(bench.sender.outbox().join(format!("stays-{number}.txt")).exists());
    }
    bench.drop_file("goes.txt", b"goes");
    bench.wait_until("another is sent", || bench.receipts().len() == 1);
    // They are tried again after a while, or by a new start.
    assert_eq!(bench.sender.stop(), Some(0));
    bench.sender.start();
    bench.assert_promises();
}

#[test]
fn a_folder_that_nothing_can_be_moved_out_of_is_not_tried_for_every_file() {
    let mut bench = Bench::new(&Setup::default());
    for number in 0..20 {
        bench.drop_file(&format!("{number}.txt"), &noise(number, 100));
    }
    bench.recipient.start();
    // What a mount between the folders answers, to all that are tried at once.
    bench.sender.start_with(&[("FORMIDLINGD_FAIL_AT", "move:1:1000:18")]);
    bench.wait_until("it is told of all", || bench.sender.log().matches("file_not_movable").count() == 20);
    let claimed = bench.sender.log().matches(": claimed ").count();
    assert!(claimed <= 8, "claimed {claimed} times");
    assert_eq!(bench.sender.stop(), Some(0));
    bench.sender.start();
    bench.assert_promises();
}

#[test]
fn an_outbox_that_goes_away_is_waited_for_and_what_takes_its_place_is_left_alone() {
    let mut bench = Bench::running();
    bench.drop_file("before.txt", b"before");
    bench.settle();
    let (outbox, away) = (bench.sender.outbox(), bench.dir.path().join("away"));
    std::fs::rename(&outbox, &away).unwrap();
    bench.wait_until("it is told", || bench.sender.log().contains("the route's folder is not there"));
    // What stands there now is not the outbox: an empty mount point, say.
    std::fs::create_dir(&outbox).unwrap();
    std::fs::write(outbox.join("stray.txt"), "stray").unwrap();
    bench.wait_until("it is told apart", || bench.sender.log().contains("folder_not_recognised"));
    let names: Vec<_> =
        std::fs::read_dir(&outbox).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(names, ["stray.txt"], "nothing is made in it and nothing taken from it");
    // Also not by a service that is started now.
    assert_eq!(bench.sender.stop(), Some(0));
    bench.sender.start();
    bench.wait_until("it is told again", || bench.sender.said().contains("folder_not_recognised"));
    assert_eq!(std::fs::read_dir(&outbox).unwrap().count(), 1);

    std::fs::remove_dir_all(&outbox).unwrap();
    std::fs::write(away.join("meanwhile.txt"), "meanwhile").unwrap();
    std::fs::rename(&away, &outbox).unwrap();
    bench.promise(&outbox.join("meanwhile.txt"), Content::of(b"meanwhile"));
    bench.drop_file("after.txt", b"after");
    bench.assert_promises();
}

#[test]
fn an_inbox_that_goes_away_gets_nothing_in_its_place() {
    let mut bench = Bench::running();
    bench.drop_file("before.txt", b"before");
    bench.settle();
    let (inbox, away) = (bench.recipient.inbox(), bench.dir.path().join("away"));
    std::fs::rename(&inbox, &away).unwrap();
    std::fs::create_dir(&inbox).unwrap();
    bench.wait_until("it is told", || bench.recipient.log().contains("folder_not_recognised"));
    bench.drop_file("meanwhile.txt", b"meanwhile");
    bench.wait_until("it is published", || bench.receipts().len() == 2);
    bench.wait_until("it was heard of", || bench.requests("search", 200).len() > 3);
    assert_eq!(std::fs::read_dir(&inbox).unwrap().count(), 0, "nothing is delivered there");
    assert_eq!(bench.confirmations(), 1);
    std::fs::remove_dir(&inbox).unwrap();
    std::fs::rename(&away, &inbox).unwrap();
    bench.assert_promises();
}

#[test]
fn a_folder_that_is_not_there_at_the_start_keeps_no_other_route_from_working() {
    let mut bench = Bench::running();
    bench.drop_file("before.txt", b"before");
    bench.settle();
    assert_eq!(bench.sender.stop(), Some(0));
    let (outbox, away) = (bench.sender.outbox(), bench.dir.path().join("away"));
    std::fs::rename(&outbox, &away).unwrap();
    let configuration = bench.sender.configuration().to_owned();
    let checked = run(&["check", "--config", configuration.to_str().unwrap()], &[]);
    assert_eq!(checked.code, Some(0), "{}", checked.text);
    assert!(checked.text.contains("was there before"), "{}", checked.text);
    bench.sender.start();
    bench.wait_until("it waits", || bench.sender.said().contains("the route's folder is not there"));
    std::fs::rename(&away, &outbox).unwrap();
    bench.drop_file("after.txt", b"after");
    bench.assert_promises();
}

#[test]
fn sent_files_can_be_archived_elsewhere() {
    let mut bench = Bench::new(&Setup::default());
    // Another file system, where this machine has one that anybody may write to.
    let elsewhere = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    bench.sender.set(OUTBOX, "archive_path", format!("{:?}", elsewhere.path()));
    let content = noise(7, 3_000_000);
    bench.sidecar("a.bin", &json!({ "propertyList": { "sak": "1" } }));
    bench.drop_file("a.bin", &content).kept = false;
    bench.start();
    bench.wait_until("it is archived", || bench.sender.log().contains("archived"));
    bench.wait_until("it is confirmed", || bench.confirmations() == 1);
    let days: Vec<_> = std::fs::read_dir(elsewhere.path())
        .unwrap()
        .flatten()
        .filter(|entry| entry.file_name() != ".formidlingd")
        .collect();
    assert_eq!(days.len(), 1);
    let names = |folder: &Path| {
        let entries = std::fs::read_dir(folder).unwrap().flatten();
        let mut names: Vec<_> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    };
    assert_eq!(names(&days[0].path()), ["a.bin", "a.bin.meta.json", "a.bin.receipt.json"]);
    assert_eq!(std::fs::read(days[0].path().join("a.bin")).unwrap(), content);
    assert!(!bench.sender.outbox().join("sent").exists());
    assert_eq!(names(&bench.sender.outbox().join(".formidlingd/sending")), [""; 0]);
    assert_eq!(bench.sender.stop(), Some(0));

    // An empty folder where the archive was is not the archive.
    let away = elsewhere.path().with_extension("away");
    std::fs::rename(elsewhere.path(), &away).unwrap();
    std::fs::create_dir(elsewhere.path()).unwrap();
    bench.drop_file("b.bin", &content).kept = false;
    bench.sender.start();
    bench.wait_until("it is told apart", || bench.sender.said().contains("folder_not_recognised"));
    assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    assert!(bench.sender.outbox().join("b.bin").exists());
    std::fs::remove_dir(elsewhere.path()).unwrap();
    std::fs::rename(&away, elsewhere.path()).unwrap();
    bench.wait_until("it is archived", || bench.sender.said().contains("archived"));
    assert_eq!(bench.sender.stop(), Some(0));
}

#[test]
fn check_tells_what_the_folders_can_do_and_leaves_nothing_behind() {
    let mut bench = Bench::new(&Setup::default());
    for started in [false, true] {
        if started {
            bench.drop_file("a.txt", b"a");
            bench.start();
            bench.wait_for_completion();
        }
        let (outbox, inbox) = (bench.sender.outbox(), bench.recipient.inbox());
        let before = (crate::support::files_below(&outbox), crate::support::files_below(&inbox));
        for party in [&bench.sender, &bench.recipient] {
            let configuration = party.configuration().to_owned();
            let checked = run(&["check", "--config", configuration.to_str().unwrap()], &[]);
            assert_eq!(checked.code, Some(0), "{}", checked.text);
            assert!(checked.text.contains(" file system; "), "{}", checked.text);
            assert!(checked.text.contains("moves never overwrite"), "{}", checked.text);
            if party.name == "sender" {
                assert!(checked.text.contains("listed every 300ms"), "{}", checked.text);
                assert!(checked.text.contains("still for 200ms"), "{}", checked.text);
            }
        }
        assert_eq!(before.0, crate::support::files_below(&outbox));
        assert!(before.1.len() <= crate::support::files_below(&inbox).len());
    }
    bench.assert_promises();
}
