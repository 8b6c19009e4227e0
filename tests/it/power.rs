//! Loss of power: what was renamed and not synced has its old name again, while store and Altinn have gone on.

use std::path::{Path, PathBuf};

use crate::support::{Bench, Setup, files_below, noise};

/// Bytes of a file that is uploaded in several blocks.
const SEVERAL_BLOCKS: usize = 600 * 1024;

/// Undoes the renames of a claim: file and sidecar lie in the drop folder again.
fn undo_claim(bench: &Bench, name: &str) {
    let outbox = bench.sender.outbox();
    for path in files_below(&outbox.join(".formidlingd/sending")) {
        let back = match path.file_name().unwrap().to_str().unwrap() {
            "file" => outbox.join(name),
            "sidecar.json" => outbox.join(format!("{name}.meta.json")),
            _ => continue,
        };
        std::fs::rename(path, back).unwrap();
    }
}

/// The day of the archive in which a name lies.
fn archived(bench: &Bench, name: &str) -> PathBuf {
    let is_it = |path: &PathBuf| path.file_name().is_some_and(|found| found == name);
    files_below(&bench.sender.outbox().join("sent")).into_iter().find(is_it).unwrap()
}

/// Kills the sender at each point, undoes renames, and sees the file published once in all.
fn renames_are_undone(points: &[&str], has_sidecar: bool, undo: fn(&Bench, &str)) {
    // Bytes whose end may have left are not sent to another transfer until Altinn has given up on the first.
    let mut bench = Bench::new(&Setup { arguments: vec!["--stuck-after", "3s"], ..Setup::default() });
    bench.recipient.start();
    for (seed, point) in (0..).zip(points) {
        let name = format!("{}.bin", point.replace(':', "-"));
        if has_sidecar {
            bench.sidecar(&name, &serde_json::json!({ "propertyList": { "point": point } }));
        }
        bench.drop_file(&name, &noise(seed, SEVERAL_BLOCKS));
        bench.sender.is_killed_at(point);
        undo(&bench, &name);
        eprintln!("undone after {point}");
        bench.sender_goes_on(point);
    }
    bench.sender.start();
    bench.wait_for_completion();
    bench.assert_promises();
}

#[test]
fn a_claim_that_is_undone_is_made_again() {
    for has_sidecar in [false, true] {
        let points = if has_sidecar {
            &["claim:sidecar_moved", "claim:renamed", "claim:synced"][..]
        } else {
            &["claim:renamed", "claim:synced"]
        };
        renames_are_undone(points, has_sidecar, undo_claim);
    }
}

#[test]
fn a_claim_that_is_undone_before_the_bytes_have_left_publishes_once() {
    for has_sidecar in [false, true] {
        let points = ["initialize:intended", "initialize:answered", "initialize:adopted", "upload:begun"];
        renames_are_undone(&points, has_sidecar, undo_claim);
    }
}

#[test]
fn a_claim_that_is_undone_when_the_bytes_have_left_publishes_once() {
    renames_are_undone(&["upload:answered", "archive:intended", "lay_down:companion"], false, undo_claim);
}

#[test]
fn a_file_that_is_back_from_the_archive_is_laid_down_again() {
    fn undo(bench: &Bench, name: &str) {
        let sending = files_below(&bench.sender.outbox().join(".formidlingd/sending"));
        let own = sending.first().and_then(|claim| claim.parent()).map(Path::to_owned).unwrap();
        std::fs::rename(archived(bench, name), own.join("file")).unwrap();
    }
    renames_are_undone(&["lay_down:moved", "lay_down:synced"], false, undo);
}

#[test]
fn a_file_that_is_back_in_the_drop_folder_from_the_archive_publishes_once() {
    fn undo(bench: &Bench, name: &str) {
        std::fs::rename(archived(bench, name), bench.sender.outbox().join(name)).unwrap();
    }
    renames_are_undone(&["lay_down:moved", "lay_down:synced", "archive:laid_down"], false, undo);
}

#[test]
fn a_delivery_that_is_undone_is_made_again() {
    let mut bench = Bench::new(&Setup::default());
    bench.sender.start();
    for (seed, point) in (0..).zip(["deliver:metadata", "deliver:renamed", "deliver:synced"]) {
        let name = format!("{}.bin", point.replace(':', "-"));
        bench.drop_file(&name, &noise(seed, SEVERAL_BLOCKS));
        bench.recipient.is_killed_at(point);
        let inbox = bench.recipient.inbox();
        // Neither metadata nor file is under its name any more; the folder of the download is back.
        std::fs::remove_file(inbox.join(format!("{name}.meta.json"))).unwrap();
        if inbox.join(&name).exists() {
            let incoming = inbox.join(".formidlingd/incoming");
            let own = std::fs::read_dir(&incoming).unwrap().flatten().map(|own| own.path()).next();
            let own = own.unwrap_or_else(|| {
                let own = incoming.join(transfer_of_newest_marker(&inbox));
                std::fs::create_dir(&own).unwrap();
                own
            });
            std::fs::rename(inbox.join(&name), own.join("file")).unwrap();
        }
        bench.recipient_goes_on(point);
    }
    bench.assert_promises();
}

/// Our id of the transfer that was delivered last.
fn transfer_of_newest_marker(inbox: &Path) -> String {
    let markers = files_below(&inbox.join(".formidlingd/delivered"));
    let newest = markers.into_iter().max_by_key(|path| path.metadata().unwrap().modified().unwrap()).unwrap();
    let marker: serde_json::Value = serde_json::from_slice(&std::fs::read(newest).unwrap()).unwrap();
    marker["transferId"].as_str().unwrap().to_owned()
}
