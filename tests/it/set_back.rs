//! The state is set back in time, as when a machine is restored from a snapshot; and what only looks like it.

use std::path::{Path, PathBuf};

use crate::copies::copy;
use crate::support::{Bench, Content, Fault, MOTTAKER, OUTBOX, Rule, Setup, store_points_of};

/// The sender of a bench as it was: its state and its folders.
struct Snapshot(PathBuf);

impl Snapshot {
    fn of(bench: &Bench, name: &str) -> Self {
        let folder = bench.dir.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        copy(&bench.sender.state(), &folder.join("state"));
        copy(&bench.sender.outbox(), &folder.join("outbox"));
        Self(folder)
    }

    fn put_back(&self, bench: &Bench) {
        for (name, path) in [("state", bench.sender.state()), ("outbox", bench.sender.outbox())] {
            std::fs::remove_dir_all(&path).unwrap();
            copy(&self.0.join(name), &path);
        }
    }
}

/// How many transfers Altinn has of a name.
fn at_altinn(bench: &Bench, name: &str) -> usize {
    bench.look("transfers").iter().filter(|transfer| transfer["fileName"] == name).count()
}

/// A sender that has sent two files after the moment it is put back to, one of which it had claimed then.
fn set_back(bench: &mut Bench) {
    bench.recipient.start();
    bench.sender.set(OUTBOX, "max_concurrent", 1);
    bench.drop_file("before.txt", b"before");
    bench.sender.start();
    bench.wait_for_completion();
    assert_eq!(bench.sender.stop(), Some(0));
    bench.drop_file("dropped.txt", b"dropped");
    bench.drop_file("claimed.txt", b"claimed");
    bench.sidecar("claimed.txt", &serde_json::json!({ "propertyList": { "a": "b" } }));
    bench.sender.is_killed_at("claim:synced");
    let snapshot = Snapshot::of(bench, "snapshot");
    bench.sender.start();
    bench.wait_for_completion();
    assert_eq!(bench.sender.stop(), Some(0));
    snapshot.put_back(bench);
}

#[test]
fn a_state_that_was_set_back_holds_its_outbox_and_sends_nothing_twice() {
    let mut bench = Bench::new(&Setup::default());
    set_back(&mut bench);
    bench.sender.start();
    bench.wait_until("it is held", || bench.sender.said().contains("outbox held"));
    bench.drop_file("new.txt", b"new");
    // Also after a start, and with what has come since.
    assert_eq!(bench.sender.stop(), Some(0));
    bench.sender.start();
    let held = |bench: &Bench| {
        let records = bench.sender.command(&["state", "verify"], &[]);
        records.text.contains("in use") && bench.sender.state().join("set-back/to-mottaker.json").exists()
    };
    bench.wait_until("it is told again", || bench.sender.said().contains("outbox held"));
    bench.wait_until("it runs and is held", || bench.sender.said().contains("started") && held(&bench));
    for name in ["dropped.txt", "claimed.txt"] {
        assert_eq!(at_altinn(&bench, name), 1, "{name} was sent again");
    }
    assert_eq!(at_altinn(&bench, "new.txt"), 0);
    let released = bench.sender.command(&["resume", "--after-restore"], &[]);
    assert!(released.code == Some(0) && released.text.contains("to-mottaker: released"), "{released:?}");
    bench.wait_for_completion();
    for name in ["dropped.txt", "claimed.txt", "new.txt"] {
        assert_eq!(at_altinn(&bench, name), 1, "{name}");
    }
    let again = bench.sender.command(&["resume", "--after-restore"], &[]);
    assert!(again.code == Some(0) && again.text.contains("nothing is held"), "{again:?}");
    // What is dropped once more is meant to be sent once more.
    bench.drop_file("dropped.txt", b"dropped");
    bench.wait_for_completion();
    assert_eq!(at_altinn(&bench, "dropped.txt"), 2);
    bench.assert_promises_but_journals();
}

#[test]
fn a_death_at_any_point_of_it_sends_nothing_twice() {
    let mut bench = Bench::new(&Setup::default());
    set_back(&mut bench);
    let mut all = store_points_of("set_back:");
    all.push("set_back:noted".to_owned());
    for point in &all {
        bench.sender.is_killed_at(point);
    }
    bench.sender.start();
    let held = |bench: &Bench| bench.sender.state().join("set-back/to-mottaker.json").exists();
    bench.wait_until("it is held", || held(&bench));
    assert_eq!(bench.sender.stop(), Some(0));
    assert_eq!(bench.sender.command(&["resume", "--after-restore"], &[]).code, Some(0));
    for point in ["set_back:taken", "set_back:adopted", "set_back:taken"] {
        bench.sender.is_killed_at(point);
    }
    bench.sender.start();
    bench.wait_for_completion();
    for name in ["dropped.txt", "claimed.txt"] {
        assert_eq!(at_altinn(&bench, name), 1, "{name}");
    }
    bench.assert_promises_but_journals();
}

#[test]
fn what_others_send_for_the_same_organisation_holds_nothing() {
    let mut bench = Bench::new(&Setup::default());
    bench.recipient.start();
    bench.drop_file("one.txt", b"one");
    bench.sender.start();
    bench.wait_for_completion();
    assert_eq!(bench.sender.stop(), Some(0));
    // Another installation, with a state of its own, and other software.
    let (own, aside) = (bench.sender.state(), bench.dir.path().join("aside"));
    std::fs::rename(&own, &aside).unwrap();
    bench.drop_file("two.txt", b"two");
    bench.sender.start();
    bench.wait_for_completion();
    assert_eq!(bench.sender.stop(), Some(0));
    std::fs::remove_dir_all(&own).unwrap();
    std::fs::rename(&aside, &own).unwrap();
    bench.stranger().send("fremmed.txt", MOTTAKER, b"fremmed");
    bench.drop_file("three.txt", b"three");
    bench.sender.start();
    bench.wait_for_completion();
    assert!(!bench.sender.said().contains("outbox held"));
    let asked = bench.look("ledger").into_iter().filter(|entry| {
        entry["operation"] == "search"
            && entry["path"].as_str().is_some_and(|path| path.contains("role=Sender"))
    });
    assert_eq!(
        asked.count(),
        1,
        "one question at the second start of the one, and none where the state is new"
    );
    // Only now: other software leaves no receipt.
    bench.promise(Path::new("fremmed.txt"), Content::of(b"fremmed")).ours = false;
    bench.assert_promises_but_journals();
}

#[test]
fn what_is_sent_waits_while_searching_fails_and_a_hiccup_passes_nothing() {
    let mut bench = Bench::proxied(&[]);
    bench.drop_file("one.txt", b"one");
    bench.start();
    bench.wait_for_completion();
    assert_eq!(bench.sender.stop(), Some(0));
    let body =
        r#"{"title":"Unauthorized","status":401,"code":"BRO-00006","detail":"no access to the resource"}"#;
    let refused = Fault::Say { status: 401, headers: "Content-Type: application/problem+json\r\n", body };
    // The recipient asks, too; it goes on when it may.
    assert_eq!(bench.recipient.stop(), Some(0));
    bench.proxy().rule(Rule::first("GET", "/broker/api/v1/filetransfer", refused).times(3));
    bench.drop_file("two.txt", b"two");
    bench.sender.start();
    bench.wait_until("it is refused", || bench.proxy().broken() > 0);
    bench.wait_until("it is sent", || bench.receipts().len() == 2);
    assert!(
        !bench.sender.said().contains("nobody can tell"),
        "three refusals are no reason to go on without"
    );
    bench.proxy().clear();
    bench.recipient.start();
    bench.assert_promises();
}

#[test]
fn a_state_that_is_set_back_once_more_is_held_once_more() {
    let mut bench = Bench::new(&Setup::default());
    set_back(&mut bench);
    bench.sender.start();
    bench.wait_until("it is held", || bench.sender.said().contains("outbox held"));
    assert_eq!(bench.sender.stop(), Some(0));
    assert_eq!(bench.sender.command(&["resume", "--after-restore"], &[]).code, Some(0));
    bench.sender.start();
    bench.wait_for_completion();
    assert_eq!(bench.sender.stop(), Some(0));
    // What was released is known of this copy, and what is sent after it is not.
    bench.drop_file("later.txt", b"later");
    let snapshot = Snapshot::of(&bench, "second");
    bench.sender.start();
    bench.wait_for_completion();
    assert_eq!(bench.sender.stop(), Some(0));
    snapshot.put_back(&bench);
    bench.sender.start();
    bench.wait_until("it is held again", || bench.sender.said().contains("outbox held"));
    assert_eq!(at_altinn(&bench, "later.txt"), 1, "it was sent again");
    assert_eq!(bench.sender.stop(), Some(0));
    assert_eq!(bench.sender.command(&["resume", "--after-restore"], &[]).code, Some(0));
    bench.sender.start();
    bench.wait_for_completion();
    for name in ["dropped.txt", "claimed.txt", "later.txt"] {
        assert_eq!(at_altinn(&bench, name), 1, "{name}");
    }
    bench.assert_promises_but_journals();
}
