//! Death at every point between two steps, found by reading the source, so that a new point is tried by itself.

use crate::support::{Bench, INBOX, OUTBOX, Setup, ask, noise, usual_points};

/// Bytes of a file that is uploaded in several blocks, so that its last byte has a moment of its own.
const SEVERAL_BLOCKS: usize = 2 * 1024 * 1024 + 17;
/// Bytes of a chunk: up to here a file is streamed.
const CHUNK: usize = 512 * 1024;

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
        bench.sender.is_killed_at(point);
        bench.sender_goes_on(point);
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
                bench.sender.is_killed_at(point);
            }
            bench.sender_goes_on(point);
        }
    }
    bench.assert_promises();
}

/// Dies where a file of any size has something to lose, at either end.
fn dies_with_a_file_of(size: usize) {
    let sent_by = if size > CHUNK { "upload:chunk_answered" } else { "upload:answered" };
    let sender = [
        "describe:hashed",
        "initialize:intended",
        "initialize:answered",
        sent_by,
        "archive:intended",
        "lay_down:moved",
    ];
    let mut bench = Bench::new(&Setup { arguments: vec!["--stuck-after", "3s"], ..Setup::default() });
    bench.sender.set(OUTBOX, "chunk_size", format!("\"{CHUNK}B\""));
    bench.recipient.start();
    for (seed, point) in (0..).zip(sender) {
        bench.drop_file(&format!("{}.bin", point.replace(':', "-")), &noise(seed, size));
        bench.sender.is_killed_at(point);
        bench.sender_goes_on(point);
    }
    assert_eq!(bench.recipient.stop(), Some(0));
    bench.sender.start();
    for (seed, point) in (10..).zip(["download:fetched", "deliver:renamed"]) {
        bench.drop_file(&format!("{}.bin", point.replace(':', "-")), &noise(seed, size));
        bench.recipient.is_killed_at(point);
        bench.recipient_goes_on(point);
    }
    bench.assert_promises();
}

#[test]
fn at_eight_points_files_of_other_sizes_are_published_and_delivered_once() {
    std::thread::scope(|scope| {
        for size in [0, CHUNK, CHUNK + 1] {
            scope.spawn(move || dies_with_a_file_of(size));
        }
    });
}

/// Dies at each point of a resumable upload in one or several parts, of which a chunk may be cut.
fn dies_in_a_resumable_upload(points: &[String], parts: u64, cut: bool) {
    let mut bench = Bench::new(&Setup { arguments: vec!["--stuck-after", "3s"], ..Setup::default() });
    bench.sender.set(OUTBOX, "chunk_size", format!("\"{CHUNK}B\"")).set(OUTBOX, "parallel_parts", parts);
    bench.recipient.start();
    for (seed, point) in (0..).zip(points) {
        let name = format!("{}.bin", point.replace(':', "-"));
        if cut {
            let rule = r#"{"operation":"tus-patch","effect":"request-cut","at":1000,"nth":2}"#;
            ask(&bench.url, "PUT", "/_sandbox/faults", &[], rule.as_bytes()).unwrap();
        }
        bench.drop_file(&name, &noise(seed, SEVERAL_BLOCKS));
        bench.sender.is_killed_at(point);
        bench.sender_goes_on(point);
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
            bench.recipient.is_killed_at(point);
            bench.recipient_goes_on(point);
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
        bench.recipient.is_killed_at(point);
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
        bench.sender.is_killed_at(point);
        std::fs::remove_dir_all(bench.sender.state()).unwrap();
        bench.sender.is_killed_at("claims:adopted");
        bench.sender_goes_on(point);
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
        bench.recipient.is_killed_at(point);
        std::fs::remove_dir_all(bench.recipient.state()).unwrap();
        bench.recipient_goes_on(point);
    }
    bench.assert_promises();
}

#[test]
fn what_was_half_written_at_a_death_is_removed() {
    let mut bench = Bench::new(&Setup::default());
    bench.drop_file("a.txt", b"a");
    bench.sender.is_killed_at("lay_down:companion");
    bench.recipient.is_killed_at("deliver:metadata");
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
            bench.sender.is_killed_at(&point);
            bench.sender.start();
            if time == 1 {
                bench.recipient.is_killed_at(&point);
            }
            bench.recipient.start();
            bench.settle();
            assert_eq!((bench.sender.stop(), bench.recipient.stop()), (Some(0), Some(0)), "after {point}");
        }
    }
    bench.start();
    bench.assert_promises();
}
