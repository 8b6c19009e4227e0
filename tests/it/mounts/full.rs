//! Disks that are really full. Nothing is lost and nothing partial shows, the log says what is the matter, and
//! everything goes on by itself when there is room.

use std::path::{Path, PathBuf};

use super::{folder, names, put, put_sidecar};
use crate::support::{Ballast, Bench, INBOX, Mount, Setup, files_below, noise};

/// What is sent, in bytes.
const FILE: usize = 1024 * 1024;
/// The size of a small disk, in KiB: it has room for three such files.
const DISK: u32 = 4 * 1024;

/// A small disk, of which a folder is shown at `point`.
fn small_disk(bench: &Bench, point: &Path) -> (PathBuf, [Mount; 2]) {
    let disk = folder(bench, "disk");
    let memory = Mount::memory(DISK, &disk);
    let shown = folder(bench, "disk/shown");
    (disk, [Mount::bind(&shown, point), memory])
}

/// Waits until a party says a word that it has not said since it was started, or since `said` letters.
fn wait_for(bench: &Bench, who: fn(&Bench) -> &crate::support::Party, since: usize, words: &str) {
    bench.wait_until(words, || who(bench).log().get(since..).is_some_and(|log| log.contains(words)));
}

#[test]
#[ignore = "needs root: mounts"]
fn an_inbox_that_fills_up_on_the_way_delivers_once_when_there_is_room() {
    let mut bench = Bench::new(&Setup::default());
    bench.recipient.set(INBOX, "min_free_space", "\"0B\"");
    let inbox = bench.recipient.inbox();
    let (disk, _mounts) = small_disk(&bench, &inbox);
    bench.start();
    bench.drop_file("first.txt", b"first");
    bench.settle();
    // Before the first byte; when every byte is there; when nothing but the last steps is left.
    for (seed, (point, code)) in (0..).zip([
        ("download:begun", "not_enough_room"),
        ("download:fetched", "disk_full"),
        ("deliver:intended", "disk_full"),
    ]) {
        assert_eq!(bench.recipient.stop(), Some(0));
        bench.drop_file(&format!("{code}-{seed}.bin"), &noise(seed, FILE / 2));
        bench.recipient.stop_at(point);
        let (before, confirmed) = (names(&inbox), bench.confirmations());
        let ballast = Ballast::but(0, &disk);
        bench.recipient.go_on();
        let since = bench.recipient.log().len() - bench.recipient.said().len();
        wait_for(&bench, |bench| &bench.recipient, since, code);
        assert_eq!(names(&inbox), before, "something shows of a file that is not whole, after {point}");
        assert_eq!(bench.confirmations(), confirmed, "after {point}");
        drop(ballast);
        bench.settle();
    }
    bench.assert_promises();
}

#[test]
#[ignore = "needs root: mounts"]
fn an_archive_that_is_full_keeps_the_file_where_it_is_until_there_is_room() {
    let mut bench = Bench::new(&Setup::default());
    let disk = folder(&bench, "disk");
    let _memory = Mount::memory(DISK, &disk);
    let archive = folder(&bench, "disk/archive");
    bench.sender.archive_in(&archive);
    bench.start();
    bench.drop_file("first.txt", b"first");
    // A receipt that becomes complete is written anew, for which there would be no room either.
    bench.wait_for_completion();
    let sending = bench.sender.outbox().join(".formidlingd/sending");
    // No room at all; and room for the receipt alone.
    for (seed, room) in (1..).zip([0, 64]) {
        let ballast = Ballast::but(room, &disk);
        let since = bench.sender.log().len();
        let name = format!("{room}.bin");
        put_sidecar(&bench.sender.outbox(), &name);
        bench.drop_file(&name, &noise(seed, FILE));
        wait_for(&bench, |bench| &bench.sender, since, "disk_full");
        let kept = files_below(&sending);
        let is_whole = |path: &PathBuf| path.metadata().is_ok_and(|file| file.len() == FILE as u64);
        assert!(kept.iter().any(is_whole), "the file is not where it was: {kept:?}");
        let shown = files_below(&archive);
        assert!(!shown.iter().any(|path| path.ends_with(&name)), "a part of it shows: {shown:?}");
        drop(ballast);
        bench.wait_for_completion();
    }
    bench.assert_promises();
}

#[test]
#[ignore = "needs root: mounts"]
fn a_drop_folder_without_room_keeps_what_is_dropped_until_there_is_room() {
    let mut bench = Bench::new(&Setup::default());
    let outbox = bench.sender.outbox();
    let (disk, _mounts) = small_disk(&bench, &outbox);
    bench.start();
    put(&mut bench, &outbox.join("first.txt"), b"first");
    bench.settle();
    assert_eq!(bench.sender.stop(), Some(0));
    put_sidecar(&outbox, "second.bin");
    put(&mut bench, &outbox.join("second.bin"), &noise(2, FILE));
    let ballast = Ballast::but(0, &disk);
    bench.sender.start();
    bench.wait_until("the disk is full", || bench.sender.said().contains("disk_full"));
    for name in ["second.bin", "second.bin.meta.json"] {
        assert!(outbox.join(name).exists(), "{name} was taken, and cannot be remembered");
    }
    drop(ballast);
    bench.settle();
    let (_, receipt) = bench.receipts().into_iter().find(|(path, _)| path.ends_with("second.bin")).unwrap();
    assert_eq!(receipt["propertyList"]["name"], "second.bin");
    bench.wait_for_completion();
    bench.assert_promises();
}

#[test]
#[ignore = "needs root: mounts"]
fn a_download_stops_where_others_fill_the_disk_and_goes_on_when_there_is_room() {
    const MIB: usize = 1024 * 1024;
    let mut bench = Bench::new(&Setup::default());
    bench.recipient.set(INBOX, "min_free_space", "\"4MiB\"");
    let inbox = bench.recipient.inbox();
    let disk = folder(&bench, "disk");
    let _memory = Mount::memory(64 * 1024, &disk);
    let shown = folder(&bench, "disk/shown");
    let _shown = Mount::bind(&shown, &inbox);
    bench.set_faults(&serde_json::json!([
        { "operation": "download", "effect": "response-slow", "bytes_per_second": 15 * MIB, "nth": 1 },
    ]));
    bench.start();
    bench.drop_file("large.bin", &noise(1, 40 * MIB));
    let incoming = inbox.join(".formidlingd/incoming");
    bench.wait_until("some of it has come", || {
        files_below(&incoming).iter().any(|path| path.metadata().is_ok_and(|file| file.len() > MIB as u64))
    });
    let ballast = Ballast::but(0, &disk);
    wait_for(&bench, |bench| &bench.recipient, 0, "not_enough_room");
    assert_eq!(bench.confirmations(), 0);
    drop(ballast);
    bench.assert_promises();
    assert_eq!(bench.requests("download", 200).len(), 1, "it went on where it had stopped");
}
