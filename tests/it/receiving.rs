//! From Altinn to the inbox.

use std::os::unix::fs::PermissionsExt;

use crate::support::{Bench, Content, Fate, Fault, INBOX, MOTTAKER, Rule, Setup, noise};

fn mode(path: &std::path::Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o7777
}

#[test]
fn metadata_has_the_documented_members() {
    let mut bench = Bench::running();
    bench.drop_file("a.txt", b"hei");
    bench.assert_promises();
    let (path, metadata) = bench.received().pop().unwrap();
    let mut members: Vec<&str> = metadata.as_object().unwrap().keys().map(String::as_str).collect();
    members.sort_unstable();
    let documented = [
        "checksum",
        "checksumVerified",
        "fileName",
        "fileTransferId",
        "fileTransferSize",
        "propertyList",
        "published",
        "received",
        "recipient",
        "resourceId",
        "sender",
        "sendersFileTransferReference",
        "sha256",
    ];
    assert_eq!(members, documented);
    assert_eq!(metadata["sender"], "0192:991825827");
    assert_eq!(mode(&path), 0o640);
    assert_eq!(mode(&path.with_file_name("a.txt.meta.json")), 0o640);
}

#[test]
fn folders_by_sender_and_by_transfer() {
    for layout in ["by_sender", "by_transfer"] {
        let mut bench = Bench::new(&Setup::default());
        bench.recipient.set(INBOX, "layout", format!("\"{layout}\""));
        bench.drop_file("a.txt", b"one");
        bench.start();
        bench.settle();
        bench.drop_file("a.txt", b"two");
        bench.assert_promises();
        for (path, metadata) in bench.received() {
            let folder = path.parent().unwrap();
            assert_eq!(folder.parent().unwrap(), bench.recipient.inbox(), "{layout}");
            let folder = folder.file_name().unwrap().to_str().unwrap();
            match layout {
                "by_sender" => assert_eq!(folder, "991825827"),
                _ => assert_eq!(folder, metadata["fileTransferId"].as_str().unwrap()),
            }
        }
    }
}

#[test]
fn metadata_can_be_left_out() {
    let mut bench = Bench::new(&Setup::default());
    bench.recipient.set(INBOX, "write_metadata", false).set(INBOX, "file_mode", "\"0600\"");
    bench.drop_file("a.txt", b"one");
    bench.start();
    bench.assert_promises();
    assert_eq!(mode(&bench.recipient.inbox().join("a.txt")), 0o600);
}

#[test]
fn only_listed_senders_are_received() {
    let mut bench = Bench::new(&Setup::default());
    bench.recipient.set(INBOX, "senders", "[\"0192:987654325\"]");
    bench.drop_file("a.txt", b"one").fate = Fate::Published;
    bench.start();
    bench.settle();
    bench.wait_until("the recipient has looked at it", || bench.recipient.log().contains("not received"));
    assert_eq!(bench.recipient.stop(), Some(0));
    bench.recipient.set(INBOX, "senders", "[\"0192:991825827\"]");
    bench.recipient.start();
    bench.dropped[0].fate = Fate::Confirmed;
    bench.assert_promises();
}

#[test]
fn manual_confirmation_is_left_to_people() {
    let mut bench = Bench::new(&Setup::default());
    bench.recipient.set(INBOX, "confirm", "\"manual\"");
    bench.drop_file("a.txt", b"one").fate = Fate::Delivered;
    bench.start();
    bench.settle();
    // Asked again and again, Altinn offers it again and again.
    let searches = bench.requests("search", 200).len();
    bench.wait_until("the inbox was polled", || bench.requests("search", 200).len() > searches + 4);
    bench.recipient.kill();
    bench.recipient.start();
    let searches = bench.requests("search", 200).len();
    bench.wait_until("the inbox was polled", || bench.requests("search", 200).len() > searches + 4);
    assert!(!bench.look("ledger").iter().any(|entry| entry["operation"] == "confirm"));
    assert_eq!(bench.requests("download", 200).len(), 1);
    bench.assert_promises();
}

#[test]
fn on_received_runs_once_for_each_file() {
    let mut bench = Bench::new(&Setup::default());
    let ran = bench.dir.path().join("ran");
    let script = bench.dir.path().join("import");
    std::fs::write(&script, format!("#!/bin/sh\nprintf '%s|%s\\n' \"$1\" \"$2\" >> {}\n", ran.display()))
        .unwrap();
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
    bench.recipient.set(INBOX, "on_received", format!("[\"{}\", \"{{path}}\", \"$(id)\"]", script.display()));
    for name in ["a.txt", "to ord.txt", "$(touch x).txt"] {
        bench.drop_file(name, name.as_bytes());
    }
    bench.start();
    bench.settle();
    let lines = || std::fs::read_to_string(&ran).unwrap_or_default().lines().count();
    bench.wait_until("the program has run for each", || lines() == 3);
    bench.assert_promises();
    let mut lines: Vec<String> = std::fs::read_to_string(&ran).unwrap().lines().map(str::to_owned).collect();
    lines.sort();
    let inbox = bench.recipient.inbox();
    let expected =
        ["$(touch x).txt", "a.txt", "to ord.txt"].map(|name| format!("{}|$(id)", inbox.join(name).display()));
    assert_eq!(lines, expected);
}

#[test]
fn a_program_that_fails_is_run_again_and_loses_nothing() {
    let mut bench = Bench::new(&Setup::default());
    let ran = bench.dir.path().join("ran");
    let script = bench.dir.path().join("import");
    let text = format!("#!/bin/sh\necho x >> {ran}\n[ $(wc -l < {ran}) -ge 3 ]\n", ran = ran.display());
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
    bench.recipient.set(INBOX, "on_received", format!("[\"{}\", \"{{path}}\"]", script.display()));
    bench.drop_file("a.txt", b"a");
    bench.start();
    bench.settle();
    let lines = || std::fs::read_to_string(&ran).unwrap_or_default().lines().count();
    bench.wait_until("the program has run three times", || lines() == 3);
    bench.assert_promises();
    assert_eq!(lines(), 3);
}

/// A program that adds a line with the id in its environment to the file that is returned.
fn importer(bench: &mut Bench) -> std::path::PathBuf {
    let (ran, script) = (bench.dir.path().join("ran"), bench.dir.path().join("import"));
    let text = format!("#!/bin/sh\necho \"$FORMIDLINGD_FILE_TRANSFER_ID $1\" >> {}\n", ran.display());
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
    bench.recipient.set(INBOX, "on_received", format!("[\"{}\", \"{{path}}\"]", script.display()));
    ran
}

#[test]
fn on_received_does_not_wait_for_the_confirmation() {
    let mut bench = Bench::proxied(&[]);
    let ran = importer(&mut bench);
    let down = Fault::Answer { status: 500, headers: "" };
    bench.proxy().rule(Rule::first("POST", "/confirmdownload", down).times(6));
    bench.drop_file("a.txt", b"a");
    bench.start();
    let lines = || std::fs::read_to_string(&ran).unwrap_or_default();
    bench.wait_until("the program has run", || !lines().is_empty());
    assert_eq!(bench.confirmations(), 0, "it ran before the confirmation");
    bench.assert_promises();
    let (path, metadata) = bench.received().pop().unwrap();
    let expected = format!("{} {}\n", metadata["fileTransferId"].as_str().unwrap(), path.display());
    assert_eq!(lines(), expected, "once, and with the id in its environment");
}

#[test]
fn on_received_runs_again_where_its_end_was_not_remembered() {
    let mut bench = Bench::new(&Setup::default());
    let ran = importer(&mut bench);
    bench.drop_file("a.txt", b"a");
    bench.sender.start();
    bench.recipient.is_killed_at("notify:ran");
    bench.recipient.start();
    let lines = || std::fs::read_to_string(&ran).unwrap_or_default().lines().count();
    bench.wait_until("the program has run again", || lines() == 2);
    bench.assert_promises();
    assert_eq!(lines(), 2);
    assert_eq!(bench.requests("download", 200).len(), 1, "the file was not fetched again");
}

#[test]
fn more_than_a_page_of_waiting_files_all_arrive() {
    let mut bench = Bench::new(&Setup::default());
    let stranger = bench.stranger();
    for number in 0..230 {
        let bytes = noise(number, 10);
        let name = format!("{number}.bin");
        stranger.send(&name, MOTTAKER, &bytes);
        bench.promise(&bench.recipient.inbox().join(name), Content::of(&bytes)).ours = false;
    }
    bench.recipient.start();
    bench.assert_promises();
}
