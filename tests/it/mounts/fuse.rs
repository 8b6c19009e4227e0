//! Folders on FUSE, as clients of many network and cloud file systems are: nobody here is told of what others put
//! there, and a rename that must not overwrite is not offered.

use std::path::{Path, PathBuf};

use super::{SEVERAL_BLOCKS, folder, put_sidecar};
use crate::support::{Bench, Content, MOTTAKER, Mount, OUTBOX, Setup, noise, usual_points};

/// A sender whose outbox lies on FUSE, and the folder behind it.
fn with_outbox(arguments: Vec<&'static str>) -> (Bench, Mount, PathBuf) {
    let mut bench = Bench::new(&Setup { arguments, ..Setup::default() });
    // Writers cannot be seen there, so every file is waited for that long.
    bench.sender.set(OUTBOX, "settle_unverified", "\"300ms\"");
    let behind = folder(&bench, "behind");
    let mount = Mount::fuse(&behind, &bench.sender.outbox());
    (bench, mount, behind)
}

#[test]
#[ignore = "needs root: mounts"]
fn what_others_put_behind_an_outbox_is_listed_and_moves_go_by_hard_link() {
    let (mut bench, _mount, behind) = with_outbox(Vec::new());
    let check = bench.sender.run("check");
    assert_eq!(check.code, Some(0), "{check:?}");
    for words in ["since the kernel does not see what others put on fuse", "moves by hard link"] {
        assert!(check.text.contains(words), "{words}: {}", check.text);
    }
    bench.start();
    bench.wait_until("it says how it will notice files", || {
        bench.sender.said().contains("the kernel does not see what others put on this file system")
    });
    for name in ["a.pdf", "b.pdf"] {
        put_sidecar(&behind, name);
        bench.drop_at(&behind.join(name), name.as_bytes());
        bench.settle();
    }
    bench.wait_for_completion();
    bench.assert_promises();
    for (path, receipt) in bench.receipts() {
        let name = path.file_name().unwrap().to_str().unwrap();
        assert_eq!(receipt["propertyList"]["name"], name);
        assert!(path.with_file_name(format!("{name}.meta.json")).exists(), "the sidecar of {name} is kept");
    }
}

/// Lets the sender die at a point while it sends a file with a sidecar, and go on.
fn sender_dies(bench: &mut Bench, behind: &Path, point: &str, seed: u64) {
    let name = format!("{}.bin", point.replace(':', "-"));
    put_sidecar(behind, &name);
    bench.drop_at(&behind.join(&name), &noise(seed, SEVERAL_BLOCKS));
    bench.sender.die_at(point);
    assert!(bench.sender.has_died(), "the sender was not killed at {point}");
    assert!(bench.sender.said().contains("started"), "it was killed in its start at {point}");
    bench.sender.start();
    // It must have nothing left to do when it dies the next time.
    bench.wait_for_completion();
    assert_eq!(bench.sender.stop(), Some(0), "after {point}");
}

#[test]
#[ignore = "needs root: mounts"]
fn a_sender_that_dies_at_any_point_publishes_once() {
    let (mut bench, _mount, behind) = with_outbox(vec!["--stuck-after", "1s"]);
    bench.recipient.start();
    for (seed, point) in (0..).zip(&usual_points("outbox")) {
        sender_dies(&mut bench, &behind, point, seed);
    }
    bench.assert_promises();
}

#[test]
#[ignore = "needs root: mounts"]
fn a_sender_that_dies_between_a_link_and_its_unlink_publishes_once() {
    let (mut bench, _mount, behind) = with_outbox(Vec::new());
    bench.drop_at(&behind.join("first.txt"), b"first");
    bench.start();
    bench.wait_for_completion();
    assert_eq!(bench.sender.stop(), Some(0));
    // The sidecar and the file are taken, then receipt, file and sidecar are laid down.
    for time in 1..=5 {
        sender_dies(&mut bench, &behind, &format!("move:linked:{time}"), time);
    }
    bench.assert_promises();
}

#[test]
#[ignore = "needs root: mounts"]
fn a_recipient_that_dies_at_any_point_delivers_once() {
    let mut bench = Bench::new(&Setup::default());
    let behind = folder(&bench, "behind");
    let _mount = Mount::fuse(&behind, &bench.recipient.inbox());
    bench.drop_file("first.txt", b"first");
    bench.start();
    bench.settle();
    assert_eq!(bench.recipient.stop(), Some(0));
    let mut points: Vec<String> = usual_points("inbox").into_iter().collect();
    // Reached only where a folder is delivered whole, and where a program is run.
    points.retain(|point| !["deliver:whole", "notify:ran"].contains(&point.as_str()));
    // Metadata and file.
    points.extend(["move:linked:1".to_owned(), "move:linked:2".to_owned()]);
    for (seed, point) in (0..).zip(&points) {
        bench.drop_file(&format!("{}.bin", point.replace(':', "-")), &noise(seed, SEVERAL_BLOCKS));
        bench.recipient.die_at(point);
        assert!(bench.recipient.has_died(), "the recipient was not killed at {point}");
        assert!(bench.recipient.said().contains("started"), "it was killed in its start at {point}");
        bench.recipient.start();
        bench.settle();
        assert_eq!(bench.recipient.stop(), Some(0), "after {point}");
    }
    bench.recipient.start();
    bench.wait_for_completion();
    bench.assert_promises();
}

#[test]
#[ignore = "needs root: mounts"]
fn a_file_system_whose_server_dies_is_missed_and_waited_for() {
    let (mut bench, mut outbox, behind) = with_outbox(Vec::new());
    let behind_inbox = folder(&bench, "behind-inbox");
    let mut inbox = Mount::fuse(&behind_inbox, &bench.recipient.inbox());
    bench.start();
    bench.drop_at(&behind.join("first.txt"), b"first");
    bench.settle();
    outbox.end_server();
    inbox.end_server();
    bench.drop_at(&behind.join("second.txt"), b"second");
    bench.stranger().send("meanwhile.txt", MOTTAKER, b"meanwhile");
    bench.promise(Path::new("meanwhile.txt"), Content::of(b"meanwhile")).ours = false;
    for party in [&bench.sender, &bench.recipient] {
        bench.wait_until("it is missed", || party.said().contains("the route's folder is not there"));
    }
    for mount in [&mut outbox, &mut inbox] {
        mount.lift();
        mount.mount();
    }
    bench.assert_promises();
}
