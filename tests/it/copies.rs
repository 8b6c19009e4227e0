//! The state is exported, taken in, lost and damaged.

use std::path::{Path, PathBuf};

use crate::support::{
    Bench, DEADLINE, Party, Setup, files_below, noise, run, store_points_of, until, usual_points,
};

/// Bytes of a file that is uploaded in several blocks, so that its last byte has a moment of its own.
const SEVERAL_BLOCKS: usize = 2 * 1024 * 1024 + 17;

/// A copy of a folder with everything in it, times and all.
pub(crate) fn copy(from: &Path, to: &Path) {
    let copied = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(copied.success());
}

#[test]
fn an_export_in_the_midst_of_everything_is_gone_on_with() {
    let mut bench = Bench::new(&Setup { arguments: vec!["--stuck-after", "3s"], ..Setup::default() });
    bench.recipient.start();
    let file = bench.dir.path().join("export.jsonl");
    let path = file.to_str().unwrap().to_owned();
    for (seed, point) in
        (0..).zip(["claim:synced", "initialize:answered", "upload:answered", "archive:laid_down"])
    {
        let name = format!("{}.bin", point.replace(':', "-"));
        bench.drop_file(&name, &noise(seed, SEVERAL_BLOCKS));
        bench.sender.is_killed_at(point);
        bench.sender.assert_all_fits();
        let exported = bench.sender.command(&["state", "export", &path], &[]);
        assert!(exported.code == Some(0) && exported.text.contains("active transfers"), "{exported:?}");
        std::fs::remove_dir_all(bench.sender.state()).unwrap();
        std::fs::create_dir(bench.sender.state()).unwrap();
        let imported = bench.sender.command(&["state", "import", &path], &[]);
        assert!(imported.code == Some(0) && imported.text.contains("imported: "), "{imported:?}");
        let again = bench.sender.command(&["state", "import", &path], &[]);
        assert!(again.code == Some(1) && again.text.contains("is not empty"), "{again:?}");
        bench.sender.assert_all_fits();
        bench.sender_goes_on(point);
    }
    bench.sender.start();
    bench.wait_for_completion();
    bench.assert_promises();
}

#[test]
fn while_the_service_runs_its_state_is_its_own() {
    let mut bench = Bench::running();
    bench.wait_until("it runs", || bench.sender.said().contains("started"));
    for arguments in [&["state", "export"][..], &["state", "verify"], &["state", "import", "/dev/null"]] {
        let refused = bench.sender.command(arguments, &[]);
        assert!(refused.code == Some(1) && refused.text.contains("stop the service"), "{refused:?}");
    }
    bench.drop_file("a.txt", b"a");
    bench.assert_promises();
}

#[test]
fn a_death_at_any_point_of_the_store_leaves_what_was_acknowledged() {
    let mut bench = Bench::new(&Setup { arguments: vec!["--stuck-after", "3s"], ..Setup::default() });
    bench.recipient.start();
    bench.sender.set("state", "export_every", "\"200ms\"");
    let points = usual_points("store");
    assert!(points.len() >= 11, "{points:?}");
    for (seed, point) in (0..).zip(&points) {
        let name = format!("{}.bin", point.replace(':', "-"));
        bench.drop_file(&name, &noise(seed, SEVERAL_BLOCKS));
        // Once at the first commit of a start, and once in the midst of the work.
        let times = if point.starts_with("store:") { &[1, 7][..] } else { &[1] };
        for time in times {
            if point == "ballast:made" {
                // There is none before the first start.
                drop(std::fs::remove_file(bench.sender.state().join("ballast")));
            }
            bench.sender.is_killed_at(&format!("{point}:{time}"));
            bench.sender.assert_all_fits();
        }
        bench.sender_goes_on(point);
    }
    bench.sender.start();
    bench.wait_for_completion();
    bench.assert_promises();
}

#[test]
fn a_death_at_any_point_of_an_import_leaves_all_or_nothing() {
    let mut bench = Bench::new(&Setup::default());
    bench.recipient.start();
    bench.drop_file("a.bin", &noise(1, SEVERAL_BLOCKS));
    bench.sender.is_killed_at("archive:intended");
    let file = bench.dir.path().join("export.jsonl");
    let path = file.to_str().unwrap();
    assert_eq!(bench.sender.command(&["state", "export", path], &[]).code, Some(0));
    let imports = store_points_of("import:");
    assert!(imports.len() >= 4, "{imports:?}");
    for point in imports.iter().map(String::as_str).chain(["import:placed:2", "store:synced"]) {
        std::fs::remove_dir_all(bench.sender.state()).unwrap();
        std::fs::create_dir(bench.sender.state()).unwrap();
        let died = bench.sender.command(&["state", "import", path], &[("FORMIDLINGD_CRASH_AT", point)]);
        assert_eq!(died.code, None, "{point}: {died:?}");
        let verified = bench.sender.command(&["state", "verify"], &[]);
        // Before the one rename there is nothing, and the file that is being sent has no record.
        if ["import:built", "store:synced"].contains(&point) {
            assert!(verified.text.contains("has no record"), "{point}: {verified:?}");
        } else {
            assert!(verified.text.contains("1 active transfers"), "{point}: {verified:?}");
            assert_eq!(verified.code, Some(0), "{point}: {verified:?}");
        }
        assert!(!bench.sender.state().join("importing").exists(), "{point}");
        assert!(!bench.sender.state().join("imported").exists(), "{point}");
    }
    std::fs::remove_dir_all(bench.sender.state()).unwrap();
    std::fs::create_dir(bench.sender.state()).unwrap();
    assert_eq!(bench.sender.command(&["state", "import", path], &[]).code, Some(0));
    bench.sender.start();
    bench.wait_for_completion();
    bench.assert_promises();
}

fn do_damage(damage: &str, sled: &Path, older: &Path) {
    let db = sled.join("db");
    let length = db.metadata().unwrap().len();
    match damage {
        "half" => std::fs::OpenOptions::new().write(true).open(&db).unwrap().set_len(length / 2).unwrap(),
        "zeroed" => std::fs::write(&db, vec![0; usize::try_from(length).unwrap()]).unwrap(),
        "gone" => std::fs::remove_file(&db).unwrap(),
        _ => {
            std::fs::remove_dir_all(sled).unwrap();
            copy(older, sled);
        }
    }
}

/// The exports in a folder, oldest first; a death may have left one behind that is not finished.
fn whole_exports(folder: &Path) -> Vec<PathBuf> {
    let mut exports = files_below(folder);
    exports.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    exports
}

/// It says what is the matter, and how to go on with the last export.
fn assert_refused_as_damaged(sender: &Party, exports: &Path, damage: &str) {
    let refused = sender.run("run");
    assert!(refused.code == Some(1) && refused.text.contains("is damaged"), "{damage}: {refused:?}");
    assert!(refused.text.contains("nothing was reset"), "{damage}: {refused:?}");
    match whole_exports(exports).pop() {
        Some(newest) => {
            let says = format!("state import --set-damaged-aside {}", newest.display());
            assert!(refused.text.contains(&says), "{damage}: {says} in {refused:?}");
        }
        None => assert!(refused.text.contains("There is no export"), "{damage}: {refused:?}"),
    }
}

#[test]
fn a_damaged_store_is_told_with_what_to_do_and_nothing_is_lost() {
    let mut bench = Bench::new(&Setup { arguments: vec!["--stuck-after", "3s"], ..Setup::default() });
    bench.recipient.start();
    bench.sender.set("state", "export_every", "\"never\"");
    for (seed, damage) in (0..).zip(["half", "zeroed", "gone", "older"]) {
        let name = format!("{damage}.bin");
        bench.drop_file(&name, &noise(seed, SEVERAL_BLOCKS));
        let exports = bench.sender.state().join("export");
        let older = bench.dir.path().join("older");
        bench.sender.is_killed_at("upload:begun");
        if damage == "older" {
            copy(&bench.sender.state().join("sled"), &older);
            bench.sender.is_killed_at("store:synced:3");
            bench.sender.start();
            bench.wait_until("more was committed", || bench.receipts().len() as u64 > seed);
            bench.sender.kill();
        }
        assert_eq!(whole_exports(&exports).is_empty(), seed == 0);
        let sled = bench.sender.state().join("sled");
        do_damage(damage, &sled, &older);
        let published = bench.look("transfers").len();
        for _ in 0..2 {
            assert_refused_as_damaged(&bench.sender, &exports, damage);
        }
        assert_eq!(bench.look("transfers").len(), published, "something was sent from a damaged store");
        match whole_exports(&exports).pop() {
            Some(newest) => {
                let arguments = ["state", "import", "--set-damaged-aside", newest.to_str().unwrap()];
                let imported = bench.sender.command(&arguments, &[]);
                assert_eq!(imported.code, Some(0), "{damage}: {imported:?}");
            }
            None => {
                for name in ["sled", "format"] {
                    let (from, to) = (bench.sender.state().join(name), format!("{name}.away"));
                    std::fs::rename(from, bench.sender.state().join(to)).unwrap();
                }
            }
        }
        bench.sender.set("state", "export_every", "\"100ms\"");
        bench.sender.start();
        // What was sent after the export was written may hold the outbox: the restore was meant.
        bench.wait_until("it runs", || bench.sender.said().contains("started"));
        bench.wait_until("it is settled, or held", || {
            bench.sender.said().contains("outbox held") || bench.receipts().len() as u64 > seed
        });
        let released = bench.sender.command(&["resume", "--after-restore"], &[]);
        assert_eq!(released.code, Some(0), "{released:?}");
        bench.settle();
        let exported = || !whole_exports(&bench.sender.state().join("export")).is_empty();
        assert!(until(DEADLINE, exported), "no export after {damage}");
        assert_eq!(bench.sender.stop(), Some(0), "after {damage}");
    }
    bench.assert_promises_but_journals();
}

#[test]
fn a_newer_store_is_refused_as_a_wrong_configuration() {
    let mut bench = Bench::new(&Setup::default());
    bench.drop_file("a.txt", b"a");
    bench.start();
    bench.wait_for_completion();
    bench.assert_promises();
    {
        let db = sled::open(bench.sender.state().join("sled")).unwrap();
        db.insert("m/schema", "2").unwrap();
        db.flush().unwrap();
    }
    let configuration = bench.sender.configuration().to_str().unwrap().to_owned();
    for arguments in [&["run"][..], &["state", "verify"], &["state", "export"]] {
        let mut arguments = arguments.to_vec();
        arguments.extend(["--config", &configuration]);
        let refused = run(&arguments, &[]);
        assert_eq!(refused.code, Some(78), "{refused:?}");
        assert!(refused.text.contains("run the version that wrote the store"), "{refused:?}");
    }
}

#[test]
fn a_state_of_another_installation_is_told() {
    let mut bench = Bench::new(&Setup::default());
    bench.drop_file("a.txt", b"a");
    bench.sender.is_killed_at("upload:answered");
    let own = bench.sender.state();
    let other = bench.recipient.state();
    std::fs::create_dir_all(&other).unwrap();
    std::fs::remove_dir_all(&other).unwrap();
    copy(&own, &other);
    bench.recipient.start();
    bench.wait_until("it is told", || bench.recipient.said().contains("transfers wait for a route"));
    assert_eq!(bench.recipient.stop(), Some(0));
    let verified = bench.recipient.command(&["state", "verify"], &[]);
    assert!(verified.code == Some(1) && verified.text.contains("another installation"), "{verified:?}");
    std::fs::remove_dir_all(&other).unwrap();
    bench.start();
    bench.assert_promises();
}

#[test]
fn receipts_are_kept_up_to_date_when_the_store_was_lost() {
    let mut bench = Bench::new(&Setup::default());
    for number in 0..3 {
        bench.drop_file(&format!("{number}.bin"), &noise(number, 1000));
    }
    bench.sender.start();
    bench.wait_until("all are archived", || bench.receipts().len() == 3);
    assert_eq!(bench.sender.stop(), Some(0));
    std::fs::remove_dir_all(bench.sender.state()).unwrap();
    // Not ours, or not a receipt: left alone.
    let day = bench.receipts()[0].0.parent().unwrap().to_owned();
    std::fs::write(day.join("x.receipt.json"), "{}").unwrap();
    bench.sender.is_killed_at("receipts:adopted:2");
    bench.sender.start();
    bench.wait_until("the rest is known", || bench.sender.said().contains("kept up to date again"));
    std::fs::remove_file(day.join("x.receipt.json")).unwrap();
    bench.recipient.start();
    bench.wait_for_completion();
    assert_eq!(bench.sender.stop(), Some(0));
    // They are read when the state is new and never again.
    bench.sender.start();
    bench.wait_until("it runs", || bench.sender.said().contains("started"));
    bench.drop_file("last.bin", b"last");
    bench.wait_for_completion();
    assert!(!bench.sender.said().contains("kept up to date again"));
    bench.assert_promises();
}

#[test]
fn an_export_that_holds_what_is_forgotten_is_told() {
    let mut bench = Bench::new(&Setup::default());
    bench.sender.set("state", "export_every", "\"50ms\"").set("state", "keep_exports", 1_000);
    bench.drop_file("Nordmann.pdf", b"a");
    bench.sender.start();
    let exports = bench.sender.state().join("export");
    bench.wait_until("it is exported", || {
        let all = files_below(&exports);
        all.iter().any(|path| std::fs::read_to_string(path).is_ok_and(|text| text.contains("Nordmann")))
    });
    bench.recipient.start();
    bench.wait_for_completion();
    bench.assert_promises();
    let receipt = &bench.receipts()[0].1;
    let id = receipt["transferId"].as_str().unwrap();
    let forgotten = bench.sender.command(&["state", "forget", id], &[]);
    assert_eq!(forgotten.code, Some(0), "{forgotten:?}");
    let holds = |path: &&std::path::PathBuf| {
        path.extension().is_some() && std::fs::read_to_string(path).is_ok_and(|text| text.contains(id))
    };
    let all = files_below(&exports);
    assert!(all.iter().any(|path| holds(&path)));
    for path in all.iter().filter(holds) {
        assert!(forgotten.text.contains(path.to_str().unwrap()), "{path:?} in {forgotten:?}");
    }
}
