//! Death at every point between two steps, found by reading the source, so that a new point is tried by itself.

use std::collections::BTreeSet;
use std::path::Path;

use crate::support::{Bench, INBOX, OUTBOX, RARE, Setup, ask, noise, points, usual_points};

/// Bytes of a file that is uploaded in several blocks, so that its last byte has a moment of its own.
const SEVERAL_BLOCKS: usize = 2 * 1024 * 1024 + 17;

/// The rooms whose usual points are died at one after another: here, and for the store in `copies`.
const WALKED: [&str; 4] = ["outbox", "outbox/resumable", "inbox", "store"];

#[test]
fn at_every_crash_point_a_test_dies() {
    let rooms = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap().flatten();
    // Where crash points are made, they have none but in tests of that.
    let rooms = rooms.map(|room| room.file_name().into_string().unwrap()).filter(|room| room != "seams");
    let all: BTreeSet<String> = rooms.chain([WALKED[1].to_owned()]).flat_map(|room| points(&room)).collect();
    assert!(all.len() >= 60, "{all:?}");
    let mut tried: BTreeSet<String> = WALKED.into_iter().flat_map(usual_points).collect();
    for (point, file, test) in RARE {
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it").join(file))
            .unwrap();
        let body =
            text.split_once(&format!("fn {test}(")).map(|(_, rest)| rest.split("\n}\n").next().unwrap());
        let group = point.split_once(':').unwrap().0;
        // By its name, at a time of several, or with all that begin alike.
        let names = [format!("\"{point}\""), format!("\"{point}:"), format!("\"{group}:\"")];
        let is_named = body.is_some_and(|body| names.iter().any(|name| body.contains(name)));
        assert!(is_named, "{point} is not named in {test} of {file}");
        tried.insert(point.to_owned());
    }
    let missing: Vec<_> = all.difference(&tried).collect();
    assert!(missing.is_empty(), "no test dies at {missing:?}: see support::RARE");
    let gone: Vec<_> = tried.difference(&all).collect();
    assert!(gone.is_empty(), "there are no such points any more: {gone:?}");
}

#[test]
fn a_sender_that_dies_at_any_point_publishes_once() {
    // Bytes whose end may have left are not sent to another transfer until Altinn has given up on the first.
    let mut bench = Bench::new(&Setup { arguments: vec!["--stuck-after", "3s"], ..Setup::default() });
    bench.recipient.start();
    let points = usual_points("outbox");
    assert!(points.len() >= 15, "{points:?}");
    for (seed, point) in (0..).zip(&points) {
        let name = format!("{}.bin", point.replace(':', "-"));
        bench.sidecar(&name, &serde_json::json!({ "propertyList": { "point": point } }));
        bench.drop_file(&name, &noise(seed, SEVERAL_BLOCKS));
        bench.sender.die_at(point);
        assert!(bench.sender.has_died(), "the sender was not killed at {point}");
        bench.sender.start();
        bench.settle();
        assert_eq!(bench.sender.stop(), Some(0), "after {point}");
    }
    bench.sender.start();
    bench.wait_for_completion();
    bench.assert_promises();
}

#[test]
fn a_sender_that_dies_at_any_point_of_a_small_file_publishes_once() {
    let mut bench = Bench::new(&Setup { arguments: vec!["--stuck-after", "3s"], ..Setup::default() });
    bench.recipient.start();
    // Where a file that fits one block goes another way than a larger one.
    for (seed, point) in (0..).zip(["upload:begun", "upload:last_byte", "upload:answered"]) {
        for size in [0, 1000] {
            let name = format!("{}-{size}.bin", point.replace(':', "-"));
            bench.drop_file(&name, &noise(seed, size));
            // The end of an empty file has no moment of its own.
            let dies = size > 0 || point != "upload:last_byte";
            if dies {
                bench.sender.die_at(point);
                assert!(bench.sender.has_died(), "the sender was not killed at {point}");
            }
            bench.sender.start();
            bench.settle();
            assert_eq!(bench.sender.stop(), Some(0), "after {point}");
        }
    }
    bench.assert_promises();
}

/// Dies at each point of a resumable upload in one or several parts, of which a chunk may be cut.
fn dies_in_a_resumable_upload(points: &[String], parts: u64, cut: bool) {
    let mut bench = Bench::new(&Setup { arguments: vec!["--stuck-after", "3s"], ..Setup::default() });
    bench.sender.set(OUTBOX, "chunk_size", "\"512KiB\"").set(OUTBOX, "parallel_parts", parts);
    bench.recipient.start();
    for (seed, point) in (0..).zip(points) {
        let name = format!("{}.bin", point.replace(':', "-"));
        if cut {
            let rule = r#"{"operation":"tus-patch","effect":"request-cut","at":1000,"nth":2}"#;
            ask(&bench.url, "PUT", "/_sandbox/faults", &[], rule.as_bytes()).unwrap();
        }
        bench.drop_file(&name, &noise(seed, SEVERAL_BLOCKS));
        bench.sender.die_at(point);
        assert!(bench.sender.has_died(), "the sender was not killed at {point}");
        bench.sender.start();
        bench.settle();
        assert_eq!(bench.sender.stop(), Some(0), "after {point}");
    }
    bench.assert_promises();
}

#[test]
fn a_sender_that_dies_at_any_point_of_a_resumable_upload_publishes_once() {
    let mut points = usual_points("outbox/resumable");
    let dead: Vec<String> = points.iter().filter(|point| is_of_a_dead_upload(point)).cloned().collect();
    points.retain(|point| !is_of_a_dead_upload(point));
    assert!(points.len() >= 7 && dead.len() == 2, "{points:?} {dead:?}");
    let joined: Vec<String> = points.iter().cloned().collect();
    // Where the answer to the last chunk is the end, nothing is ended by a call of its own.
    points.retain(|point| !["upload:end_intended", "upload:ended"].contains(&point.as_str()));
    let mut single: Vec<String> = points.into_iter().collect();
    single.extend(
        ["upload:last_byte", "upload:chunk_answered:3", "upload:chunk_answered:5"].map(str::to_owned),
    );
    std::thread::scope(|scope| {
        scope.spawn(|| dies_in_a_resumable_upload(&joined, 3, false));
        scope.spawn(|| dies_in_a_resumable_upload(&dead, 1, true));
        dies_in_a_resumable_upload(&single, 1, false);
    });
}

fn is_of_a_dead_upload(point: &str) -> bool {
    ["upload:dead", "upload:abandoned"].contains(&point)
}

#[test]
fn a_recipient_that_dies_at_any_point_delivers_and_confirms_once() {
    for layout in ["flat", "by_transfer"] {
        let mut bench = Bench::new(&Setup::default());
        bench.recipient.set(INBOX, "layout", format!("\"{layout}\""));
        bench.recipient.set(INBOX, "on_received", "[\"/bin/sh\", \"-c\", \":\"]");
        bench.sender.start();
        let mut points = usual_points("inbox");
        // Reached only where a folder is delivered whole.
        if layout != "by_transfer" {
            assert!(points.remove("deliver:whole"));
        }
        assert!(points.len() >= 11, "{points:?}");
        for (seed, point) in (0..).zip(&points) {
            bench.drop_file(&format!("{}.bin", point.replace(':', "-")), &noise(seed, SEVERAL_BLOCKS));
            bench.recipient.die_at(point);
            assert!(bench.recipient.has_died(), "the recipient was not killed at {point}");
            bench.recipient.start();
            bench.settle();
            assert_eq!(bench.recipient.stop(), Some(0), "after {point}");
        }
        bench.assert_promises();
    }
}

#[test]
fn an_importer_that_is_quicker_than_the_store_gets_each_file_once() {
    let mut bench = Bench::new(&Setup::default());
    bench.sender.start();
    for (seed, point) in (0..).zip(["deliver:renamed", "deliver:synced", "deliver:delivered"]) {
        bench.drop_file("import.bin", &noise(seed, 1000));
        bench.recipient.die_at(point);
        assert!(bench.recipient.has_died(), "the recipient was not killed at {point}");
        let imported = bench.dir.path().join(format!("imported-{seed}"));
        std::fs::create_dir(&imported).unwrap();
        for name in ["import.bin", "import.bin.meta.json"] {
            std::fs::rename(bench.recipient.inbox().join(name), imported.join(name)).unwrap();
        }
        bench.recipient.start();
        let confirmed = |bench: &Bench| bench.confirmations() == usize::try_from(seed).unwrap() + 1;
        bench.wait_until("it is confirmed", || confirmed(&bench));
        assert_eq!(bench.recipient.stop(), Some(0));
        assert!(!bench.recipient.inbox().join("import.bin").exists(), "delivered again after {point}");
        // Back, for the promises.
        let back = bench.recipient.inbox().join(format!("import-{seed}.bin"));
        std::fs::rename(imported.join("import.bin"), &back).unwrap();
        let metadata = bench.recipient.inbox().join(format!("import-{seed}.bin.meta.json"));
        std::fs::rename(imported.join("import.bin.meta.json"), metadata).unwrap();
    }
    bench.assert_promises();
}

#[test]
fn a_sender_that_has_lost_its_store_goes_on_from_its_claims() {
    let mut bench = Bench::new(&Setup { arguments: vec!["--stuck-after", "3s"], ..Setup::default() });
    bench.recipient.start();
    let points = [
        "claim:synced",
        "initialize:intended",
        "initialize:adopted",
        "upload:begun",
        "upload:answered",
        "archive:intended",
        "lay_down:moved",
        "lay_down:synced",
    ];
    for ((seed, point), receipts) in (0..).zip(points).zip(1..) {
        bench.drop_file(&format!("{}.bin", point.replace(':', "-")), &noise(seed, SEVERAL_BLOCKS));
        bench.sender.die_at(point);
        assert!(bench.sender.has_died(), "the sender was not killed at {point}");
        std::fs::remove_dir_all(bench.sender.state()).unwrap();
        bench.sender.die_at("claims:adopted");
        assert!(bench.sender.has_died(), "the sender was not killed at claims:adopted after {point}");
        bench.sender.start();
        bench.settle();
        assert_eq!(bench.sender.stop(), Some(0), "after {point}");
        assert_eq!(bench.receipts().len(), receipts, "one receipt for each file, after {point}");
    }
    // Who has confirmed what was archived before is not known any more, nor the journal.
    bench.assert_promises_but_journals();
}

#[test]
fn a_recipient_that_has_lost_its_store_delivers_nothing_again() {
    let mut bench = Bench::new(&Setup::default());
    bench.sender.start();
    let points =
        ["download:begun", "deliver:intended", "deliver:renamed", "deliver:delivered", "confirm:answered"];
    for (seed, point) in (0..).zip(points) {
        bench.drop_file(&format!("{}.bin", point.replace(':', "-")), &noise(seed, SEVERAL_BLOCKS));
        bench.recipient.die_at(point);
        assert!(bench.recipient.has_died(), "the recipient was not killed at {point}");
        std::fs::remove_dir_all(bench.recipient.state()).unwrap();
        bench.recipient.start();
        bench.settle();
        assert_eq!(bench.recipient.stop(), Some(0), "after {point}");
    }
    bench.assert_promises();
}

#[test]
fn what_was_half_written_at_a_death_is_removed() {
    let mut bench = Bench::new(&Setup::default());
    bench.drop_file("a.txt", b"a");
    bench.sender.die_at("lay_down:companion");
    assert!(bench.sender.has_died());
    bench.recipient.die_at("deliver:metadata");
    assert!(bench.recipient.has_died());
    for folder in [bench.sender.outbox(), bench.recipient.inbox()] {
        let scratch = folder.join(".formidlingd/tmp");
        assert!(scratch.is_dir());
        std::fs::write(scratch.join(".0123456789.formidlingd-tmp"), "{").unwrap();
    }
    bench.start();
    bench.assert_promises();
}

#[test]
fn a_death_while_a_document_gets_its_name_loses_and_doubles_nothing() {
    let mut bench = Bench::new(&Setup { arguments: vec!["--stuck-after", "3s"], ..Setup::default() });
    let mut seed = 0;
    // A sender writes the claim, and writes it again with Altinn's id; a recipient writes the marker.
    for point in ["replace:written", "replace:renamed"] {
        for time in 1..=2 {
            let point = format!("{point}:{time}");
            seed += 1;
            bench.drop_file(&format!("{}.bin", point.replace(':', "-")), &noise(seed, 1000));
            bench.sender.die_at(&point);
            assert!(bench.sender.has_died(), "the sender was not killed at {point}");
            bench.sender.start();
            if time == 1 {
                bench.recipient.die_at(&point);
                assert!(bench.recipient.has_died(), "the recipient was not killed at {point}");
            }
            bench.recipient.start();
            bench.settle();
            assert_eq!((bench.sender.stop(), bench.recipient.stop()), (Some(0), Some(0)), "after {point}");
        }
    }
    bench.start();
    bench.assert_promises();
}
