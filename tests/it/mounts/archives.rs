//! An archive on another file system: files are copied there whole, and once.

use super::{SEVERAL_BLOCKS, folder, put_sidecar};
use crate::support::{Bench, Mount, Setup, noise, points};

/// A sender whose archive is a file system of its own.
fn with_archive() -> (Bench, Mount) {
    let mut bench = Bench::new(&Setup::default());
    let archive = folder(&bench, "archive");
    let mount = Mount::memory(32 * 1024, &archive);
    bench.sender.archive_in(&archive);
    (bench, mount)
}

#[test]
#[ignore = "needs root: mounts"]
fn files_are_copied_to_an_archive_on_another_file_system() {
    let (mut bench, _mount) = with_archive();
    bench.start();
    put_sidecar(&bench.sender.outbox(), "a.pdf");
    bench.drop_file("a.pdf", &noise(1, SEVERAL_BLOCKS));
    bench.drop_file("empty.pdf", b"");
    bench.wait_for_completion();
    let check = bench.sender.run("check");
    assert_eq!(check.code, Some(0), "{check:?}");
    assert!(check.text.contains("which is another file system"), "{check:?}");
    bench.assert_promises();
    assert!(!bench.sender.outbox().join("sent").exists(), "nothing is sent there any more");
    let receipts = bench.receipts();
    let (path, receipt) = receipts.iter().find(|(path, _)| path.ends_with("a.pdf")).unwrap();
    assert_eq!(receipt["propertyList"]["name"], "a.pdf");
    assert!(path.with_file_name("a.pdf.meta.json").exists(), "the sidecar is kept");
}

#[test]
#[ignore = "needs root: mounts"]
fn a_sender_that_dies_while_it_copies_archives_once() {
    let (mut bench, _mount) = with_archive();
    bench.recipient.start();
    let copied = points("files").into_iter().filter(|point| point.starts_with("copy:"));
    let mut points: Vec<String> = points("outbox")
        .into_iter()
        .filter(|point| point.starts_with("lay_down:") || point.starts_with("archive:"))
        .collect();
    assert!(points.len() >= 5, "{points:?}");
    // The file, then its sidecar.
    points.extend(copied.flat_map(|point| [1, 2].map(|time| format!("{point}:{time}"))));
    for (seed, point) in (0..).zip(&points) {
        let name = format!("{}.bin", point.replace(':', "-"));
        put_sidecar(&bench.sender.outbox(), &name);
        bench.drop_file(&name, &noise(seed, SEVERAL_BLOCKS));
        bench.sender.die_at(point);
        assert!(bench.sender.has_died(), "the sender was not killed at {point}");
        bench.sender.start();
        // It must have nothing left to do when it dies the next time.
        bench.wait_for_completion();
        assert_eq!(bench.sender.stop(), Some(0), "after {point}");
    }
    bench.assert_promises();
    let receipts = bench.receipts();
    assert_eq!(receipts.len(), points.len());
    for (path, _) in receipts {
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(path.with_file_name(format!("{name}.meta.json")).exists(), "the sidecar of {name} is kept");
    }
}
