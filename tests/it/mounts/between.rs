//! Mounts between the folders of one route, across which nothing can be renamed, though everything may lie on one
//! disk. They are found before the service runs, and by `check` as by `run`.

use super::folder;
use crate::support::{Bench, Mount, OUTBOX};

/// A bench whose sender has made its folders, and has stopped.
fn used() -> Bench {
    let mut bench = Bench::running();
    bench.drop_file("first.txt", b"first");
    bench.wait_for_completion();
    assert_eq!(bench.sender.stop(), Some(0));
    bench
}

/// Neither `check` nor `run` goes on while something is mounted on a folder below the outbox.
fn assert_refused(bench: &Bench, below: &str, words: &[&str]) {
    let other = bench.dir.path().join("other");
    std::fs::create_dir_all(&other).unwrap();
    let mut mount = Mount::bind(&other, &bench.sender.outbox().join(below));
    for command in ["check", "run"] {
        let ended = bench.sender.run(command);
        assert_eq!(ended.code, Some(78), "{command} with a mount on {below}: {ended:?}");
        for words in words {
            assert!(ended.text.contains(words), "{command} does not say {words:?}: {}", ended.text);
        }
    }
    mount.lift();
    let left = super::names(&other);
    assert!(left.is_empty(), "left in what is mounted on {below}: {left:?}");
}

#[test]
#[ignore = "needs root: mounts"]
fn a_mount_on_the_folder_of_sent_files_is_refused_and_the_archive_named() {
    let mut bench = used();
    assert_refused(&bench, "sent", &["outbox.to-mottaker.path", "a mount lies between", "archive_path"]);
    bench.sender.start();
    bench.drop_file("second.txt", b"second");
    bench.assert_promises();
}

#[test]
#[ignore = "needs root: mounts"]
fn mounts_on_the_folders_of_the_service_are_refused() {
    let mut bench = used();
    for below in [".formidlingd/sending", "failed"] {
        assert_refused(&bench, below, &["outbox.to-mottaker.path"]);
    }
    bench.sender.start();
    bench.drop_file("second.txt", b"second");
    bench.assert_promises();
}

#[test]
#[ignore = "needs root: mounts"]
fn a_mount_on_a_recipients_folder_is_refused() {
    let mut bench = used();
    bench.sender.settings.unset(OUTBOX, "recipients");
    bench.sender.set(OUTBOX, "recipients_from", "\"directory\"");
    let recipient = bench.sender.outbox().join("910753614");
    std::fs::create_dir(&recipient).unwrap();
    assert_refused(&bench, "910753614", &["outbox.to-mottaker.path", "910753614", "a mount lies between"]);
    bench.sender.start();
    bench.drop_at(&recipient.join("second.txt"), b"second");
    bench.assert_promises();
}

#[test]
#[ignore = "needs root: mounts"]
fn a_mount_on_the_private_folder_of_an_inbox_is_refused() {
    let mut bench = used();
    assert_eq!(bench.recipient.stop(), Some(0));
    let other = folder(&bench, "other");
    let mut mount = Mount::bind(&other, &bench.recipient.inbox().join(".formidlingd/incoming"));
    for command in ["check", "run"] {
        let ended = bench.recipient.run(command);
        assert_eq!(ended.code, Some(78), "{command}: {ended:?}");
        assert!(ended.text.contains("inbox.from-avsender.path"), "{command}: {ended:?}");
    }
    mount.lift();
    bench.start();
    bench.drop_file("second.txt", b"second");
    bench.assert_promises();
}
