//! `formidlingd state`: what an operator does with what is remembered.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::{Bench, Ended, OUTBOX, Party, Setup, files_below, run};

/// Forgets by these ids, which an operator may do while the service is stopped.
fn forget(party: &Party, ids: &[&str], environment: &[(&str, &str)]) -> Ended {
    let configuration = party.configuration().to_str().unwrap().to_owned();
    let arguments: Vec<&str> =
        ["state", "forget", "--config", &configuration].into_iter().chain(ids.iter().copied()).collect();
    run(&arguments, environment)
}

fn months(party: &Party) -> Vec<PathBuf> {
    files_below(&party.state().join("journal"))
}

fn journal(party: &Party) -> Vec<Value> {
    let texts = months(party).into_iter().map(|path| std::fs::read_to_string(path).unwrap());
    texts
        .flat_map(|text| text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>())
        .collect()
}

/// The id of the finished transfer whose line has this text.
fn id_of(party: &Party, text: &str) -> String {
    let lines = journal(party);
    let line = lines.iter().find(|line| line.to_string().contains(text)).unwrap();
    line["id"].as_str().unwrap().to_owned()
}

/// Both ends have sent and received two files, and were stopped to be looked at.
fn after_two_files() -> Bench {
    let mut bench = Bench::new(&Setup::default());
    bench.drop_file("Nordmann.pdf", b"a");
    bench.drop_file("Hansen.pdf", b"bc");
    bench.start();
    bench.wait_for_completion();
    bench.assert_promises();
    bench
}

fn is_in(folder: &Path, text: &str) -> bool {
    let holds = |path: &PathBuf| {
        let bytes = std::fs::read(path).unwrap();
        bytes.windows(text.len()).any(|part| part == text.as_bytes())
    };
    files_below(folder).iter().any(holds)
}

#[test]
fn a_forgotten_transfer_is_gone_from_the_journal_and_what_lies_in_the_folders_is_told() {
    let mut bench = after_two_files();
    for (party, folder, companion) in [
        (&bench.sender, bench.sender.outbox(), "Nordmann.pdf.receipt.json"),
        (&bench.recipient, bench.recipient.inbox(), "Nordmann.pdf.meta.json"),
    ] {
        let id = id_of(party, "Nordmann");
        let short = &id[id.len() - 8..];
        let forgotten = forget(party, &[short], &[]);
        assert_eq!(forgotten.code, Some(0), "{forgotten:?}");
        assert!(forgotten.text.contains(&format!("{id}: forgotten")), "{forgotten:?}");
        for name in ["Nordmann.pdf", companion] {
            let told = forgotten.text.lines().any(|line| {
                let path = Path::new(line.trim());
                path.is_file() && path.starts_with(&folder) && path.ends_with(name)
            });
            assert!(told, "{name} in {forgotten:?}");
        }
        assert!(!is_in(&party.state().join("journal"), "Nordmann"));
        let lines = journal(party);
        assert_eq!(lines.len(), 2);
        assert!(lines.iter().any(|line| line["id"] == id.as_str() && line["forgotten"].is_string()));
        let again = forget(party, &[&id], &[]);
        assert!(again.code == Some(0) && again.text.contains("forgotten already"), "{again:?}");
    }
    // Nothing is sent or delivered again for it.
    bench.start();
    bench.drop_file("Olsen.pdf", b"def");
    bench.assert_promises_but_journals();
}

#[test]
fn what_cannot_be_forgotten_is_told_of_and_nothing_is_changed() {
    let mut bench = after_two_files();
    let both = |party: &Party| (id_of(party, "Nordmann"), id_of(party, "Hansen"));
    let (one, other) = both(&bench.sender);
    let before = std::fs::read_to_string(&months(&bench.sender)[0]).unwrap();
    let refused = |party: &Party, ids: &[&str], words: &[&str]| {
        let ended = forget(party, ids, &[]);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        for words in words {
            assert!(ended.text.contains(words), "{words} in {ended:?}");
        }
        assert_eq!(std::fs::read_to_string(&months(party)[0]).unwrap(), before);
    };
    refused(&bench.sender, &["ffffffff"], &["no transfer has the id ffffffff"]);
    // One slip of the hand, and the other is not forgotten either.
    refused(
        &bench.sender,
        &[&one, "ffffffff"],
        &["no transfer has the id ffffffff", "nothing was forgotten"],
    );
    assert_eq!(forget(&bench.sender, &["abc"], &[]).code, Some(2));
    assert_eq!(forget(&bench.sender, &[], &[]).code, Some(2));
    // Two whose ids end alike.
    let path = months(&bench.sender)[0].clone();
    let digit = if &other[12..13] == "0" { "1" } else { "0" };
    let twin = format!("{}{digit}{}", &other[..12], &other[13..]);
    let text = before.replace(&one, &twin);
    std::fs::write(&path, &text).unwrap();
    let ended = forget(&bench.sender, &[&other[other.len() - 8..]], &[]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.text.contains(&twin) && ended.text.contains(&other), "{ended:?}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    std::fs::write(&path, &before).unwrap();
    // The service has the state.
    bench.sender.start();
    bench.wait_until("the service runs", || bench.sender.log().matches("started").count() > 1);
    refused(&bench.sender, &[&one], &["in use", "systemctl stop formidlingd"]);
    // Under way: nobody confirms.
    bench.drop_file("Olsen.pdf", b"def");
    bench.wait_until("it is archived", || {
        files_below(&bench.sender.outbox()).iter().any(|path| path.ends_with("Olsen.pdf.receipt.json"))
    });
    assert_eq!(bench.sender.stop(), Some(0));
    let receipt = files_below(&bench.sender.outbox())
        .into_iter()
        .find(|path| path.ends_with("Olsen.pdf.receipt.json"))
        .unwrap();
    let receipt: Value = serde_json::from_slice(&std::fs::read(receipt).unwrap()).unwrap();
    let active = receipt["transferId"].as_str().unwrap();
    refused(&bench.sender, &[&one, active], &["still under way", "it is published"]);
    let nowhere = bench.dir.path().join("nowhere");
    bench.sender.set("state", "path", format!("{nowhere:?}"));
    let ended = forget(&bench.sender, &[&one], &[]);
    assert!(ended.code == Some(1) && ended.text.contains("there is no state in"), "{ended:?}");
    assert!(!nowhere.exists());
}

#[test]
fn a_death_while_forgetting_leaves_the_old_journal_or_the_new_one() {
    let mut bench = after_two_files();
    let id = id_of(&bench.sender, "Nordmann");
    let before = std::fs::read_to_string(&months(&bench.sender)[0]).unwrap();
    let died = |ended: &Ended| ended.code.is_none();
    let ended = forget(&bench.sender, &[&id], &[("FORMIDLINGD_CRASH_AT", "journal:rewritten")]);
    assert!(died(&ended), "{ended:?}");
    assert_eq!(std::fs::read_to_string(&months(&bench.sender)[0]).unwrap(), before);
    let ended = forget(&bench.sender, &[&id], &[("FORMIDLINGD_CRASH_AT", "journal:replaced")]);
    assert!(died(&ended), "{ended:?}");
    assert_eq!(months(&bench.sender).len(), 1);
    assert!(!is_in(&bench.sender.state().join("journal"), "Nordmann"));
    let ended = forget(&bench.sender, &[&id], &[]);
    assert!(ended.code == Some(0) && ended.text.contains("forgotten already"), "{ended:?}");
    bench.sender.set(OUTBOX, "max_concurrent", 2);
    bench.start();
    bench.drop_file("Olsen.pdf", b"def");
    bench.assert_promises_but_journals();
}

#[test]
fn what_root_forgets_stays_the_services_own() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
    const SERVICE: u32 = 65_534;
    // Another user's files can be made by root alone; everybody else has nothing to mistake.
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let bench = after_two_files();
    let state = bench.sender.state();
    for folder in state.ancestors().skip(1).take_while(|folder| folder.starts_with(bench.dir.path())) {
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let all = || {
        let folders = [state.clone(), state.join("journal"), state.join("sled")];
        folders.into_iter().chain(files_below(&state)).collect::<Vec<PathBuf>>()
    };
    for path in all() {
        chown(path, Some(SERVICE), Some(SERVICE)).unwrap();
    }
    let forgotten = forget(&bench.sender, &[&id_of(&bench.sender, "Nordmann")], &[]);
    assert_eq!(forgotten.code, Some(0), "{forgotten:?}");
    for path in all() {
        let metadata = std::fs::metadata(&path).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (SERVICE, SERVICE), "{}", path.display());
    }
}
