//! What the store does when things are not as they should be.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;

use super::super::disk::Lock;
use super::super::engine::{Changes, Engine, Pair, SledEngine};
use super::super::journal::Journal;
use super::super::load::{self, Ready};
use super::*;

#[tokio::test]
async fn a_second_opening_is_refused_and_told_by_whom() {
    let state = tempfile::tempdir().unwrap();
    let path = state.path().join("state");
    let store = open(&path).store;
    let refused = open_with(&path, &TestClock::at("2026-01-01T00:00:00Z")).unwrap_err();
    assert!(
        matches!(&refused, Error::InUse { path: at, pid } if *at == path && *pid == Some(std::process::id())),
        "{refused:?}"
    );
    assert!(refused.to_string().contains(&std::process::id().to_string()), "{refused}");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    drop(store);
    drop(open(&path));
}

/// Changes one raw value in a store that is not open.
fn put_raw(state: &Path, key: &str, value: &[u8]) {
    raw(state).commit([(key.into(), Some(value.to_vec()))].into()).unwrap();
}

fn get_raw(state: &Path, key: &str) -> Option<Vec<u8>> {
    raw(state).get(key.as_bytes()).unwrap()
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_named_left_alone_and_in_nobodys_way() {
    let state = tempfile::tempdir().unwrap();
    let store = open(state.path()).store;
    let (good, bad, newer) = (claiming(&store, "a", 1), claiming(&store, "a", 2), claiming(&store, "a", 3));
    for transfer in [&good, &bad, &newer] {
        store.insert(transfer.clone()).await.unwrap();
    }
    drop(store);
    put_raw(state.path(), &format!("t/{}", bad.id), b"\x00\xff{");
    put_raw(state.path(), &format!("t/{}", newer.id), br#"{"v":2,"transfer":"of another kind"}"#);
    put_raw(state.path(), "t/nonsense", b"");

    let opened = open(state.path());
    let mut reported: Vec<_> = opened.unreadable.iter().map(|record| record.key.clone()).collect();
    reported.sort();
    let mut expected = [format!("t/{}", bad.id), format!("t/{}", newer.id), "t/nonsense".to_owned()];
    expected.sort();
    assert_eq!(reported, expected);
    let reason = opened.unreadable.iter().find(|record| record.key.contains(&newer.id.to_string())).unwrap();
    assert!(reason.reason.contains("newer formidlingd"), "{reason:?}");

    let store = opened.store;
    assert_eq!(store.page(None, None, 10).await.unwrap(), std::slice::from_ref(&good));
    assert_eq!(store.page(Some(&route("a")), None, 10).await.unwrap(), std::slice::from_ref(&good));
    assert_eq!(store.due(&route("a"), at(99), 10).await.unwrap(), [(good.next_attempt, good.id)]);
    assert_eq!(store.count(&route("a")).await.unwrap(), 3);
    let error = store.get(bad.id).await.unwrap_err();
    assert!(matches!(&error, Error::Unreadable { key, .. } if *key == format!("t/{}", bad.id)), "{error:?}");
    assert!(matches!(store.update(&bad, withdrawn(&bad)).await, Err(Error::Unreadable { .. })));
    assert!(matches!(store.insert(bad.clone()).await, Err(Error::Exists { .. })));
    let same_file = claiming(&store, "a", 2);
    assert!(matches!(store.insert(same_file).await, Err(Error::FileTaken { by }) if by == bad.id));
    store.close().await.unwrap();
    assert_eq!(get_raw(state.path(), &format!("t/{}", bad.id)).as_deref(), Some(&b"\x00\xff{"[..]));
}

#[tokio::test]
async fn a_store_of_a_newer_format_is_refused_and_left_alone() {
    let state = tempfile::tempdir().unwrap();
    drop(open(state.path()));
    put_raw(state.path(), "m/schema", b"2");
    let refused = open_with(state.path(), &TestClock::at("2026-01-01T00:00:00Z")).unwrap_err();
    assert!(matches!(refused, Error::Newer { found: 2, known: 1, .. }), "{refused:?}");
    assert_eq!(get_raw(state.path(), "m/schema").as_deref(), Some(&b"2"[..]));
}

/// The snapshot of a store: sled writes one when it opens a log that has grown.
fn snapshot(state: &Path) -> std::path::PathBuf {
    let entries = std::fs::read_dir(state.join("sled")).unwrap().map(|entry| entry.unwrap().path());
    let mut snapshots =
        entries.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("snap."));
    snapshots.next().expect("a snapshot")
}

/// Damages a snapshot; what it is then.
fn damage_snapshot(snapshot: &Path, damage: &str) -> Vec<u8> {
    let mut bytes = std::fs::read(snapshot).unwrap();
    match damage {
        "truncated" => bytes.truncate(bytes.len() / 2),
        "empty" => bytes.clear(),
        "gone" => {
            std::fs::remove_file(snapshot).unwrap();
            return bytes;
        }
        _ => bytes.iter_mut().for_each(|byte| *byte ^= 0x5a),
    }
    std::fs::write(snapshot, &bytes).unwrap();
    bytes
}

#[tokio::test]
async fn a_damaged_snapshot_is_set_aside_and_nothing_is_lost() {
    let state = tempfile::tempdir().unwrap();
    let transfers = long_used(state.path()).await;
    for damage in ["truncated", "empty", "garbled"] {
        let snapshot = snapshot(state.path());
        let bytes = damage_snapshot(&snapshot, damage);
        let opened = open(state.path());
        let copy = opened.repaired.expect(damage);
        assert_eq!(std::fs::read(copy.join(snapshot.file_name().unwrap())).unwrap(), bytes, "{damage}");
        assert_eq!(opened.store.page(None, None, 100).await.unwrap(), transfers, "{damage}");
        drop(opened.store);
        assert!(open(state.path()).repaired.is_none(), "{damage}");
        assert!(!state.path().join("repairing").exists() && !state.path().join("repaired").exists());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]

    /// sled uses parts of its log anew, so that the log alone is not always enough.
    #[test]
    fn a_damaged_snapshot_costs_nothing_however_long_the_log_was_used(
        sessions in proptest::collection::vec(proptest::collection::vec(0_u8..20, 1..60), 4..9),
        damage in prop_oneof![Just("truncated"), Just("gone")],
    ) {
        let state = tempfile::tempdir().unwrap();
        drop(open(state.path()));
        let mut expected = BTreeMap::new();
        for (session, keys) in (0_u8..).zip(sessions) {
            let engine = raw(state.path());
            for key in keys {
                let (key, value) = (vec![b'x', key], vec![session; 6_000]);
                engine.commit([(key.clone(), Some(value.clone()))].into()).unwrap();
                expected.insert(key, value);
            }
            drop(engine);
            // Each opening of a log that has grown makes one.
            drop(open(state.path()));
            damage_snapshot(&snapshot(state.path()), damage);
            let opened = open(state.path());
            // One that is gone is replaced before anything is damaged.
            prop_assert_eq!(opened.repaired.is_some(), damage != "gone");
            drop(opened);
            let engine = raw(state.path());
            for (key, value) in &expected {
                let stored = engine.get(key).unwrap();
                prop_assert_eq!(stored.as_ref(), Some(value));
            }
        }
    }
}

/// A store that has been used for so long that its log goes round: what was written first is overwritten.
async fn long_used(state: &Path) -> Vec<Transfer> {
    let store = open(state).store;
    let transfers: Vec<_> = (0..50).map(|file| claiming(&store, "a", file)).collect();
    for transfer in &transfers {
        store.insert(transfer.clone()).await.unwrap();
    }
    drop(store);
    for _ in 0..3 {
        let engine = raw(state);
        for round in 0..120 {
            engine.commit([("x/large".into(), Some(vec![round; 20_000]))].into()).unwrap();
        }
        drop(engine);
        drop(open(state));
    }
    transfers
}

#[tokio::test]
async fn a_death_while_a_snapshot_is_written_costs_nothing() {
    let state = tempfile::tempdir().unwrap();
    let transfers = long_used(state.path()).await;
    let torn = state.path().join("sled/snap.00000000FFFFFFFF.generating");
    for content in [&b""[..], b"half of", &[0; 4096]] {
        std::fs::write(&torn, content).unwrap();
        let opened = open(state.path());
        assert_eq!(opened.repaired, None, "nothing was damaged");
        assert_eq!(opened.store.page(None, None, 100).await.unwrap(), transfers);
        assert!(!torn.exists());
    }
}

#[tokio::test]
async fn of_a_damaged_database_that_cannot_be_copied_no_half_is_left() {
    let state = tempfile::tempdir().unwrap();
    let store = open(state.path()).store;
    let transfer = claiming(&store, "a", 1);
    store.insert(transfer.clone()).await.unwrap();
    drop(store);
    drop(open(state.path()));
    std::fs::write(snapshot(state.path()), b"").unwrap();
    // As on a full disk: some of it can be copied, and this cannot.
    let stray = state.path().join("sled/stray");
    std::os::unix::fs::symlink("/nowhere", &stray).unwrap();
    let copies = |prefixes: &[&str]| {
        let names = std::fs::read_dir(state.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let is_one = |name: &String| prefixes.iter().any(|prefix| name.starts_with(prefix));
        names.map(|name| name.into_string().unwrap()).filter(is_one).count()
    };
    for _ in 0..2 {
        let refused = open_with(state.path(), &TestClock::at("2026-01-01T00:00:00Z")).unwrap_err();
        assert!(matches!(refused, Error::Io { doing: "copy", .. }), "{refused:?}");
        assert_eq!(copies(&["damaged", "repair"]), 0, "half a copy is left");
    }
    std::fs::remove_file(stray).unwrap();
    let opened = open(state.path());
    assert!(opened.repaired.is_some());
    assert_eq!((copies(&["damaged"]), copies(&["repair"])), (1, 0));
    assert_eq!(opened.store.page(None, None, 10).await.unwrap(), [transfer]);
}

#[tokio::test]
async fn what_cannot_be_repaired_is_reported_and_left_as_it_is() {
    for damage in ["zeroed", "garbled", "gone"] {
        let state = tempfile::tempdir().unwrap();
        let store = open(state.path()).store;
        store.insert(claiming(&store, "a", 1)).await.unwrap();
        drop(store);
        drop(open(state.path()));
        let data = state.path().join("sled").join("db");
        let mut bytes = std::fs::read(&data).unwrap();
        match damage {
            "zeroed" => bytes.fill(0),
            "garbled" => bytes.iter_mut().for_each(|byte| *byte ^= 0x5a),
            _ => bytes.clear(),
        }
        std::fs::write(&data, bytes).unwrap();
        for attempt in 0..3 {
            let refused = open_with(state.path(), &TestClock::at("2026-01-01T00:00:00Z"));
            assert!(matches!(refused, Err(Error::Damaged { .. })), "{damage}, {attempt}: {refused:?}");
        }
        let entries = std::fs::read_dir(state.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let left: Vec<_> = entries.filter(|name| name.to_str().unwrap().contains("repair")).collect();
        assert_eq!(left, [""; 0], "{damage}");
    }
}

/// An engine whose commits can be made to fail after they have been made in memory.
#[derive(Debug)]
struct Failing {
    engine: SledEngine,
    fail: Arc<AtomicBool>,
}

impl Engine for Failing {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.engine.get(key)
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Pair>, Error> {
        self.engine.scan(prefix, after, limit)
    }

    fn commit(&self, changes: Changes) -> Result<(), Error> {
        self.engine.commit(changes)?;
        if self.fail.load(Ordering::SeqCst) {
            let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
            return Err(Error::io("sync", "db", full));
        }
        Ok(())
    }
}

fn open_failing(state: &Path) -> (Store, Arc<AtomicBool>) {
    let lock = Lock::take(state).unwrap();
    let journal = Journal::open(&state.join("journal")).unwrap();
    let Ready { engine, loaded, .. } = load::open(state, at(0)).unwrap();
    let fail = Arc::new(AtomicBool::new(false));
    let engine = Box::new(Failing { engine, fail: Arc::clone(&fail) });
    let clock = TestClock::at("2026-11-21T08:00:00Z");
    let random = Arc::new(SeededRandom::new(1));
    let known_folders = crate::store::KnownFolders::open(state).unwrap();
    (Store::start(engine, journal, Some(lock), loaded, known_folders, clock, random).unwrap().0, fail)
}

#[tokio::test]
async fn after_a_failed_write_nothing_is_acknowledged_or_read_any_more() {
    let state = tempfile::tempdir().unwrap();
    let (store, fail) = open_failing(state.path());
    let transfer = claiming(&store, "a", 1);
    store.insert(transfer.clone()).await.unwrap();
    fail.store(true, Ordering::SeqCst);
    let taken = after(&transfer, [OutgoingEvent::FileTaken]);
    let failed = store.update(&transfer, taken.clone()).await.unwrap_err();
    assert!(matches!(failed, Error::Io { .. }), "{failed:?}");
    fail.store(false, Ordering::SeqCst);
    // The engine would tell what the disk perhaps does not have.
    assert!(matches!(store.get(transfer.id).await, Err(Error::Broken)));
    assert!(matches!(store.due(&route("a"), at(99), 1).await, Err(Error::Broken)));
    assert!(matches!(store.update(&transfer, taken).await, Err(Error::Broken)));
    assert!(matches!(store.probe().await, Err(Error::Broken)));
    assert!(matches!(store.close().await, Err(Error::Broken)));
}

#[tokio::test]
async fn a_journal_that_cannot_be_written_holds_up_only_what_is_finished() {
    let state = tempfile::tempdir().unwrap();
    let store = open(state.path()).store;
    let (a, b) = (claiming(&store, "a", 1), claiming(&store, "a", 2));
    store.insert(a.clone()).await.unwrap();
    store.insert(b.clone()).await.unwrap();
    let month = state.path().join("journal").join("2026-11.jsonl");
    std::fs::create_dir(&month).unwrap();
    let taken = after(&b, [OutgoingEvent::FileTaken]);
    let (finished, updated) = tokio::join!(store.finish(&a, withdrawn(&a)), store.update(&b, taken.clone()));
    assert!(matches!(finished, Err(Error::Io { .. })), "{finished:?}");
    updated.unwrap();
    assert_eq!(store.get(a.id).await.unwrap(), Some(a.clone()));
    std::fs::remove_dir(&month).unwrap();
    store.finish(&a, withdrawn(&a)).await.unwrap();
    assert_eq!(store.get(b.id).await.unwrap(), Some(taken));
}

#[tokio::test]
async fn a_record_that_the_engine_cannot_keep_in_one_piece_is_refused() {
    let state = tempfile::tempdir().unwrap();
    let store = open(state.path()).store;
    let transfer = claiming(&store, "a", 1);
    store.insert(transfer.clone()).await.unwrap();
    let mut problem = failure();
    problem.message = "x".repeat(100_000);
    let large = transfer.clone().after_trouble(problem, at(5));
    assert!(matches!(store.update(&transfer, large).await, Err(Error::TooLarge { .. })));
    assert_eq!(store.get(transfer.id).await.unwrap(), Some(transfer));
}
