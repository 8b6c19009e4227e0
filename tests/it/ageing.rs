//! Nothing is deleted for its age unless the settings say so, and not before a server has agreed with the clock.

use std::path::Path;

use crate::support::{Bench, Content, Fault, MOTTAKER, OUTBOX, RESOURCE, Rule, Setup, files_below};

/// Files of a day that any clock calls long ago.
fn archive_of_2001(folder: &Path) -> Vec<std::path::PathBuf> {
    let day = folder.join("2001-01-01");
    std::fs::create_dir_all(&day).unwrap();
    let paths = ["a.txt", "a.txt.receipt.json", "a.txt.meta.json"].map(|name| day.join(name));
    for path in &paths {
        std::fs::write(path, "{}").unwrap();
    }
    paths.to_vec()
}

#[test]
fn nothing_is_deleted_for_its_age_before_a_server_has_agreed_with_the_clock() {
    let mut bench = Bench::proxied(&[]);
    bench.sender.set(OUTBOX, "keep_sent", "\"1d\"").set(OUTBOX, "keep_receipts", "\"1d\"");
    let old = archive_of_2001(&bench.sender.outbox().join("sent"));
    let is_there = || old.iter().all(|path| path.exists());
    bench.drop_file("today.txt", b"today");
    bench.recipient.start();

    bench.proxy().set_down(true);
    bench.sender.start();
    let attempts = |bench: &Bench| bench.sender.said().matches("connect").count();
    bench.wait_until("no server can be reached", || attempts(&bench) >= 4);
    assert!(is_there(), "deleted, though nobody has told the time");

    // One that lives in another time is no better. The proxy answers the sender's first calls.
    let another_time =
        Fault::Say { status: 503, headers: "Date: Mon, 01 Jan 2001 12:00:00 GMT\r\n", body: "" };
    bench.proxy().rule(Rule::first("POST", "/token", another_time).times(usize::MAX / 2));
    bench.proxy().set_down(false);
    let tries = |bench: &Bench| bench.sender.said().matches("will try again").count();
    let before = tries(&bench);
    // With the waits between them, these take several times as long as the looks at the clock.
    bench.wait_until("servers of another time have answered", || tries(&bench) >= before + 8);
    assert!(is_there(), "deleted, though clocks differ by years");

    bench.proxy().clear();
    bench.wait_until("what is old is deleted", || old.iter().all(|path| !path.exists()));
    bench.assert_promises();
}

#[test]
fn nothing_is_deleted_where_nothing_says_so() {
    let mut bench = Bench::new(&Setup::default());
    let mut kept = archive_of_2001(&bench.sender.outbox().join("sent"));
    kept.extend(archive_of_2001(&bench.sender.outbox().join("failed")));
    kept.extend(archive_of_2001(&bench.recipient.inbox().join("read")));
    let looks = |paths: &[std::path::PathBuf]| -> Vec<_> {
        paths.iter().map(|path| Content::of_file(path)).collect()
    };
    let before = looks(&kept);
    // Another outbox, whose settings do say so, shows when the old is looked for.
    let other = bench.dir.path().join("other");
    std::fs::create_dir(&other).unwrap();
    bench
        .sender
        .set("outbox.other", "path", format!("\"{}\"", other.display()))
        .set("outbox.other", "identity", "\"default\"")
        .set("outbox.other", "resource_id", format!("\"{RESOURCE}\""))
        .set("outbox.other", "recipients", format!("[\"{MOTTAKER}\"]"))
        .set("outbox.other", "keep_sent", "\"1d\"")
        .set("outbox.other", "keep_receipts", "\"1d\"");
    for number in 0..2 {
        bench.drop_file(&format!("{number}.txt"), b"x");
        let old = archive_of_2001(&other.join("sent"));
        bench.start();
        bench.wait_for_completion();
        bench
            .wait_until("the other outbox has deleted what is old", || !old.iter().any(|path| path.exists()));
        assert_eq!(bench.sender.stop(), Some(0));
        assert_eq!(bench.recipient.stop(), Some(0));
    }
    assert_eq!(looks(&kept), before);
    for folder in ["sent/2001-01-01", "failed/2001-01-01"] {
        std::fs::remove_dir_all(bench.sender.outbox().join(folder)).unwrap();
    }
    std::fs::remove_dir_all(bench.recipient.inbox().join("read")).unwrap();
    assert!(!files_below(&bench.sender.outbox()).is_empty());
    bench.assert_promises();
}
