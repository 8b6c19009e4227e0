//! Exports are taken in whole or not at all, and whatever has become of a store, it is never taken for an empty one.

use std::path::PathBuf;

use proptest::prelude::*;

use crate::transfer::samples::place;

use super::super::import::{ImportError, import};
use super::super::{Finding, newest_export};
use super::*;

fn findings(store: &Store) -> Vec<Finding> {
    let mut found = Vec::new();
    store.verify(&mut |finding| found.push(finding)).unwrap();
    found
}

/// What of a database can be compared: all keys but those that count what was done to it.
fn contents(state: &Path) -> Vec<(String, Vec<u8>)> {
    let all = super::super::engine::Engine::scan(&raw(state), b"", None, usize::MAX).unwrap();
    let named = all.into_iter().map(|(key, value)| (String::from_utf8(key).unwrap(), value));
    named.filter(|(key, _)| key != "m/generation" && key != "m/indexed").collect()
}

/// A store with something of everything: active and finished in both directions, forgotten, with folders.
async fn filled(state: &Path) -> Store {
    let store = open(state).store;
    let mut gone = Vec::new();
    for file in 0..7_u8 {
        let transfer = claiming(&store, "a", u64::from(file));
        store.insert(transfer.clone()).await.unwrap();
        let adopted = after(&transfer, adopting(file));
        store.update(&transfer, adopted.clone()).await.unwrap();
        if file < 3 {
            let failed = in_state(&adopted, Outgoing::Failed { failure: failure(), place: place() });
            store.finish(&adopted, failed).await.unwrap();
            gone.push(transfer.id);
        }
    }
    store.insert(discovered(&store, "in", 9, "991825827")).await.unwrap();
    store.forget(gone[0]).await.unwrap();
    store.known_folders().remember(&route("a"), Path::new("/srv/a")).unwrap();
    store.known_folders().remember_archive(&route("a"), Path::new("/srv/archive")).unwrap();
    store
}

fn now() -> Timestamp {
    "2026-11-22T10:00:00Z".parse().unwrap()
}

#[tokio::test]
async fn an_export_makes_the_same_store_again() {
    let (state, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = filled(state.path()).await;
    assert_eq!(findings(&store), []);
    let file = other.path().join("export.jsonl");
    let exported = store.export_to(&file, true).unwrap();
    assert_eq!((exported.records, exported.finished, exported.left_out.len()), (5, Some(3), 0));
    store.close().await.unwrap();

    let anew = other.path().join("state");
    let imported = import(&anew, &file, now(), false).unwrap();
    assert_eq!((imported.records, imported.finished), (5, Some(3)));
    assert_eq!(contents(&anew), contents(state.path()));
    let journal = |state: &Path| std::fs::read(state.join("journal/2026-11.jsonl")).unwrap();
    assert_eq!(journal(&anew), journal(state.path()));
    let store = open(&anew).store;
    assert_eq!(findings(&store), []);
    assert!(store.known_folders().has_used(&route("a"), Path::new("/srv/a")).unwrap());
    assert!(store.known_folders().has_archived_in(&route("a"), Path::new("/srv/archive")).unwrap());
    assert!(store.new_id() > store.page(None, None, 100).await.unwrap().last().unwrap().id);
    assert!(store.has_made(store.new_id()));
    // An export of what was imported says the same.
    let again = other.path().join("again.jsonl");
    store.export_to(&again, true).unwrap();
    let lines = |path: &Path| {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines()
            .skip(1)
            .map(str::to_owned)
            .filter(|line| !line.starts_with("{\"end\""))
            .collect::<Vec<_>>()
    };
    assert_eq!(lines(&again), lines(&file));
    drop(store);
    // Into what is not empty nothing is taken in, and nothing changes.
    let refused = import(&anew, &file, now(), false).unwrap_err();
    assert!(matches!(refused, ImportError::NotEmpty { .. }), "{refused:?}");
    assert_eq!(contents(&anew), contents(state.path()));
}

#[tokio::test]
async fn without_the_journal_the_one_that_is_there_stays() {
    let state = tempfile::tempdir().unwrap();
    let store = filled(state.path()).await;
    let (file, exported) = store.export_by_itself(state.path(), 2).unwrap();
    assert_eq!(exported.finished, None);
    assert_eq!(
        newest_export(state.path()).unwrap(),
        (file.clone(), "2026-11-21T08:00:00.123Z".parse().unwrap())
    );
    drop(store);
    let journal = std::fs::read(state.path().join("journal/2026-11.jsonl")).unwrap();
    std::fs::write(state.path().join("sled/db"), b"").unwrap();
    let refused = import(state.path(), &file, now(), false).unwrap_err();
    assert!(matches!(&refused, ImportError::Store(Error::Damaged { .. })), "{refused:?}");
    assert!(refused.remedy().contains("--set-damaged-aside"));
    let imported = import(state.path(), &file, now(), true).unwrap();
    assert_eq!((imported.records, imported.finished), (5, None));
    assert_eq!(std::fs::read(state.path().join("journal/2026-11.jsonl")).unwrap(), journal);
    assert!(state.path().join("damaged-20261122T100000.000Z/db").exists());
    let opened = open(state.path());
    assert_eq!(opened.store.page(None, None, 100).await.unwrap().len(), 5);
    assert_eq!(findings(&opened.store), []);
}

#[tokio::test]
async fn old_exports_make_room_for_new_ones() {
    let state = tempfile::tempdir().unwrap();
    let clock = TestClock::at("2026-11-21T08:00:00Z");
    let store = open_with(state.path(), &clock).unwrap().store;
    let mut names: Vec<PathBuf> = Vec::new();
    // The clock goes back once: the one that was just made is kept all the same.
    for hour in ["08", "09", "10", "11", "07"] {
        clock.set(&format!("2026-11-21T{hour}:00:00Z"));
        names.push(store.export_by_itself(state.path(), 3).unwrap().0);
        assert!(names.last().unwrap().exists());
    }
    let kept: Vec<bool> = names.iter().map(|name| name.exists()).collect();
    assert_eq!(kept, [false, false, true, true, true]);
}

/// The lines of an export, and a state directory to import into.
async fn export() -> (tempfile::TempDir, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(&folder.path().join("state")).await;
    let mut bytes = Vec::new();
    store.export(&mut bytes, true).unwrap();
    store.close().await.unwrap();
    (folder, String::from_utf8(bytes).unwrap().lines().map(|line| format!("{line}\n")).collect())
}

fn refusal(folder: &Path, bytes: &[u8]) -> (u64, String) {
    let (file, state) = (folder.join("file"), folder.join("anew"));
    std::fs::write(&file, bytes).unwrap();
    let refused = import(&state, &file, now(), false).unwrap_err();
    let left: Vec<_> = std::fs::read_dir(&state).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| name == "lock" || name == "journal"), "{left:?} after {refused:?}");
    match refused {
        ImportError::Line { line, reason, .. } => (line, reason),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_is_wrong_with_an_export_is_named_by_its_line() {
    let (folder, lines) = export().await;
    let refused = |lines: &[String]| refusal(folder.path(), lines.concat().as_bytes());
    let last = lines.len() as u64;
    // One line less, one twice, in all places.
    for position in 0..lines.len() {
        let mut fewer = lines.clone();
        fewer.remove(position);
        assert!(refused(&fewer).0 >= 1, "without line {}", position + 1);
        let mut more = lines.clone();
        more.insert(position, lines[position].clone());
        let (line, reason) = refused(&more);
        assert!(line > position as u64, "line {} twice: {line}: {reason}", position + 1);
    }
    let changed = |from: &str, to: &str| -> Vec<String> {
        let changed: Vec<_> = lines.iter().map(|line| line.replacen(from, to, 1)).collect();
        assert_ne!(changed, lines, "{from}");
        changed
    };
    for (from, to, line, says) in [
        ("{\"header\":", "{\"heading\":", 1, "does not begin with the header"),
        ("\"format\":1", "\"format\":2", 1, "a newer formidlingd"),
        ("\"records\":1", "\"records\":2", 1, "a newer formidlingd"),
        ("\"journal\":true", "\"journal\":false", 9, "the header says is not in the file"),
        ("\"key\":\"a\"", "\"key\":\"../a\"", 2, "is not the name of a route"),
        ("\"path\":\"/srv/a\"", "\"bytes\":[1],\"path\":\"/srv/a\"", 2, "either a path or"),
        ("\"number\":1", "\"number\":7", 4, "cannot be"),
        ("\"month\":\"2026-11.jsonl\"", "\"month\":\"../2026-11.jsonl\"", 9, "is not a month"),
        ("årsoppgjør", "Årsoppgjør", last, "SHA-256"),
        ("\"finished\":3", "\"finished\":4", last, "missing, or some twice"),
    ] {
        let (found, reason) = refused(&changed(from, to));
        assert!(found == line && reason.contains(says), "{from}: {found}: {reason}");
    }
    // Two that hold one file.
    let mut lines = lines.clone();
    lines[4] = lines[4].replace("\"inode\":4", "\"inode\":3");
    let (line, reason) = refused(&lines);
    assert!(line == 5 && reason.contains("hold the same file"), "{line}: {reason}");
    // No line has an end.
    let (line, reason) = refusal(folder.path(), &vec![b'['; 5 * 1024 * 1024]);
    assert!(line == 1 && reason.contains("too long"), "{line}: {reason}");
    assert!(refusal(folder.path(), b"").0 == 1);
}

#[tokio::test]
async fn what_does_not_fit_is_found() {
    let state = tempfile::tempdir().unwrap();
    let store = filled(state.path()).await;
    let transfers = store.page(Some(&route("a")), None, 10).await.unwrap();
    store.close().await.unwrap();
    let (one, other) = (&transfers[0], &transfers[1]);
    let absent = "01a20052-d934-7c77-9c84-5e364830abb5";
    let before = contents(state.path());
    let change = |changes: &[(String, Option<&[u8]>)]| {
        let engine = raw(state.path());
        let changes =
            changes.iter().map(|(key, value)| (key.clone().into_bytes(), value.map(<[u8]>::to_vec)));
        super::super::engine::Engine::commit(&engine, changes.collect()).unwrap();
    };
    let due = String::from_utf8(super::super::keys::due(one)).unwrap();
    let broker = format!("b/out/{}", one.broker_id().unwrap());
    let other_id = other.id.to_string();
    for (changes, says) in [
        (vec![(format!("t/{}", one.id), Some(&b"{}"[..]))], "cannot be read"),
        (vec![("t/nonsense".to_owned(), Some(&b"{}"[..]))], "holds no transfer id"),
        (vec![(due, None)], "is missing"),
        (vec![(format!("r/a/{}", one.id), None)], "is missing"),
        (vec![(format!("w/a/{}", one.id), None)], "is missing"),
        (vec![(format!("w/b/{}", one.id), Some(&b""[..]))], "does not hold it"),
        (vec![(broker.clone(), None)], "which holds it"),
        (vec![(broker, Some(other_id.as_bytes()))], "hold the same"),
        (vec![(format!("r/b/{}", one.id), Some(&b""[..]))], "does not hold it"),
        (vec![(format!("r/a/{absent}"), Some(&b""[..]))], "is not there"),
        (vec![("f/1/77".to_string(), Some(other_id.as_bytes()))], "does not hold it"),
        (vec![(format!("h/{absent}/{:020}", 1), Some(&b"{}"[..]))], "is not there"),
        (vec![(format!("h/{}/{:020}", one.id, 0), None)], "steps"),
        (vec![(format!("h/{}/{:020}", one.id, 99), Some(&b"{}"[..]))], "does not hold it"),
        (vec![("x/what".to_owned(), Some(&b""[..]))], "nothing that formidlingd writes"),
        (vec![("m/last".to_owned(), None)], "a higher id"),
    ] {
        change(&changes);
        let store = open(state.path()).store;
        let found = findings(&store);
        store.close().await.unwrap();
        assert!(found.iter().any(|finding| finding.problem.contains(says)), "{changes:?}: {found:?}");
        let undo: Vec<_> = changes
            .iter()
            .map(|(key, _)| {
                let value = before.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_slice());
                (key.clone(), value)
            })
            .collect();
        change(&undo);
        let store = open(state.path()).store;
        assert_eq!(findings(&store), [], "after {changes:?}");
        store.close().await.unwrap();
    }
}

#[tokio::test]
async fn what_does_not_fit_in_the_journal_is_found() {
    let state = tempfile::tempdir().unwrap();
    filled(state.path()).await.close().await.unwrap();
    let absent = "01a20052-d934-7c77-9c84-5e364830abb5";
    let month = state.path().join("journal/2026-11.jsonl");
    let text = std::fs::read_to_string(&month).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let half = lines[1].get(..lines[1].len() / 2).unwrap();
    let id = |line: &str| line.split("\"id\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let erased = id(lines[0]);
    let kept = id(lines[1]);
    for (changed, says) in [
        (format!("{}\n{half}\n{}\n", lines[0], lines[2]), "and there is no other"),
        (format!("{text}{}\n", lines[1].replace(&kept, &erased)), "a line with its names is left"),
        (format!("{text}{}\n", lines[1].replacen("{\"v\":1", "{\"v\":2", 1)), "newer formidlingd"),
        (format!("{text}{}\n", lines[1].replacen(&kept, absent, 1)), "does not begin as one"),
        (format!("{text}{}\n", "x".repeat(300)), "cannot be read"),
    ] {
        std::fs::write(&month, changed).unwrap();
        let store = open(state.path()).store;
        let found = findings(&store);
        assert!(found.iter().any(|finding| finding.problem.contains(says)), "{says}: {found:?}");
        store.close().await.unwrap();
    }
    // What a death leaves is no finding.
    for torn in [format!("{text}{half}"), format!("{text}{half}\n"), format!("{text}{{\"v\":1,\"i")] {
        std::fs::write(&month, torn).unwrap();
        let store = open(state.path()).store;
        assert_eq!(findings(&store), []);
        assert_eq!(store.verify(&mut drop).unwrap().torn, 1);
        store.close().await.unwrap();
    }
}

/// Everything in a state directory, by path.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect();
    files.sort();
    files
}

#[tokio::test]
async fn a_database_that_was_cut_short_or_put_back_is_not_used() {
    let state = tempfile::tempdir().unwrap();
    let store = open(state.path()).store;
    for file in 0..20 {
        store.insert(claiming(&store, "a", file)).await.unwrap();
    }
    drop(store);
    let (sled, old) = (state.path().join("sled"), state.path().join("old"));
    super::super::disk::copy_dir(&sled, &old).unwrap();
    let store = open(state.path()).store;
    let transfer = claiming(&store, "a", 99);
    store.insert(transfer).await.unwrap();
    drop(store);
    std::fs::rename(&sled, state.path().join("new")).unwrap();
    std::fs::rename(&old, &sled).unwrap();
    let refused = open_with(state.path(), &TestClock::at("2026-01-01T00:00:00Z")).unwrap_err();
    let Error::Damaged { detail, .. } = &refused else { panic!("{refused:?}") };
    assert!(detail.contains("lost changes"), "{detail}");
    std::fs::remove_dir_all(&sled).unwrap();
    std::fs::rename(state.path().join("new"), &sled).unwrap();
    let store = open(state.path()).store;
    assert_eq!(store.count(&route("a")).await.unwrap(), 21);
    drop(store);
    // Cut in many places.
    let whole = tempfile::tempdir().unwrap();
    super::super::disk::copy_dir(state.path(), &whole.path().join("state")).unwrap();
    let length = sled.join("db").metadata().unwrap().len();
    for part in 0..12 {
        std::fs::remove_dir_all(state.path()).unwrap();
        super::super::disk::copy_dir(&whole.path().join("state"), state.path()).unwrap();
        let db = std::fs::OpenOptions::new().write(true).open(sled.join("db")).unwrap();
        db.set_len(length * part / 12).unwrap();
        match open_with(state.path(), &TestClock::at("2026-01-01T00:00:00Z")) {
            Err(Error::Damaged { .. }) => {}
            Err(other) => panic!("{part}: {other:?}"),
            Ok(opened) => assert_eq!(opened.store.count(&route("a")).await.unwrap(), 21, "{part}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damage_to_an_export_is_refused_and_never_a_panic(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 1..4),
    ) {
        static EXPORT: std::sync::LazyLock<Vec<u8>> = std::sync::LazyLock::new(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(export()).1.concat().into_bytes()
        });
        let mut bytes = EXPORT.clone();
        for (at, byte, is_cut) in edits {
            if is_cut {
                bytes.truncate(at.index(bytes.len().max(1)));
            } else if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
        }
        let folder = tempfile::tempdir().unwrap();
        if bytes != *EXPORT {
            refusal(folder.path(), &bytes);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damage_to_a_database_is_told_or_healed_and_never_a_reset(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let state = tempfile::tempdir().unwrap();
        let expected = runtime.block_on(async {
            let store = filled(state.path()).await;
            let all = store.page(None, None, 100).await.unwrap();
            store.close().await.unwrap();
            drop(open(state.path()));
            all
        });
        let files = files(&state.path().join("sled"));
        for (file, at, byte) in edits {
            let file = &files[file.index(files.len())];
            let mut bytes = std::fs::read(file).unwrap();
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] ^= byte.max(1);
                std::fs::write(file, bytes).unwrap();
            }
        }
        match open_with(state.path(), &TestClock::at("2026-11-22T00:00:00Z")) {
            Err(Error::Damaged { .. } | Error::Io { .. }) => {}
            Err(other) => panic!("{other:?}"),
            Ok(opened) => {
                let found = runtime.block_on(opened.store.page(None, None, 100));
                // What cannot be read is told; what can be read is what was written, all of it.
                if let Ok(found) = found {
                    let told = opened.unreadable.len();
                    prop_assert!(found.iter().all(|transfer| expected.contains(transfer)));
                    prop_assert!(found.len() + told >= expected.len(), "{} of {}", found.len(), expected.len());
                }
            }
        }
    }
}
