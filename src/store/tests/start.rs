//! A start reads what it needs, and what it leaves for later is not lost.

use super::super::engine::{Engine, suspect_path};
use super::super::keys;
use super::*;

/// Changes raw values in a store that is not open.
fn put_raw(state: &Path, changes: impl IntoIterator<Item = (Vec<u8>, Option<Vec<u8>>)>) {
    raw(state).commit(changes.into_iter().collect()).unwrap();
}

async fn at_work(store: &Store) -> Vec<crate::transfer::TransferId> {
    let page = store.page_at_work(&route("a"), None, 100).await.unwrap();
    page.iter().map(|transfer| transfer.id).collect()
}

/// A transfer that waits for its recipients.
fn published(transfer: &Transfer) -> Transfer {
    let place = crate::transfer::Place { date: None, name: "a.pdf".parse().unwrap() };
    let rest = [
        OutgoingEvent::UploadBegun { at: at(1) },
        OutgoingEvent::LastByteLeaving,
        OutgoingEvent::UploadAccepted { at: at(1) },
        OutgoingEvent::PublishedSeen { published: at(1), expires: at(999), recipients: Vec::new() },
        OutgoingEvent::ArchiveIntended(place),
        OutgoingEvent::Archived,
    ];
    after(transfer, adopting(1).into_iter().chain(rest))
}

#[tokio::test]
async fn what_is_at_work_is_known_also_after_an_older_version_has_written() {
    let state = tempfile::tempdir().unwrap();
    let store = open(state.path()).store;
    let (waiting, quiet, left) =
        (claiming(&store, "a", 1), claiming(&store, "a", 2), claiming(&store, "a", 3));
    for transfer in [&waiting, &quiet, &left] {
        store.insert(transfer.clone()).await.unwrap();
    }
    assert_eq!(at_work(&store).await, [waiting.id, quiet.id, left.id]);
    store.update(&quiet, published(&quiet)).await.unwrap();
    store.finish(&left, withdrawn(&left)).await.unwrap();
    assert_eq!(at_work(&store).await, [waiting.id]);
    store.close().await.unwrap();
    // It does not know these keys: one is missing, two are left over.
    let (missing, left_over) = (keys::at_work(&route("a"), waiting.id), [quiet.id, left.id]);
    let left_over = left_over.map(|id| (keys::at_work(&route("a"), id), Some(Vec::new())));
    let older = [(missing, None), (keys::INDEXED.to_vec(), Some(b"1".to_vec()))];
    put_raw(state.path(), older.into_iter().chain(left_over));
    let store = open(state.path()).store;
    assert_eq!(at_work(&store).await, [waiting.id]);
    store.verify(&mut |finding| panic!("{finding:?}")).unwrap();
}

#[tokio::test]
async fn what_cannot_be_read_may_be_at_work_and_is_kept_among_it() {
    let state = tempfile::tempdir().unwrap();
    let store = open(state.path()).store;
    let transfer = claiming(&store, "a", 1);
    store.insert(transfer.clone()).await.unwrap();
    store.close().await.unwrap();
    let key = keys::at_work(&route("a"), transfer.id);
    let record = raw(state.path()).get(&keys::record(transfer.id)).unwrap();
    let broken = (keys::record(transfer.id), Some(b"{}".to_vec()));
    put_raw(state.path(), [broken, (key, None), (keys::INDEXED.to_vec(), None)]);
    assert_eq!(open(state.path()).unreadable.len(), 1);
    // A newer version can read it.
    put_raw(state.path(), [(keys::record(transfer.id), record)]);
    assert_eq!(at_work(&open(state.path()).store).await, [transfer.id]);
}

#[cfg(debug_assertions)]
#[tokio::test]
async fn among_many_a_record_that_cannot_be_read_is_told_of_when_it_is_met_and_when_all_are_read() {
    let state = tempfile::tempdir().unwrap();
    let memory = crate::store::Memory::default();
    let clock: Arc<dyn Clock> = TestClock::at("2026-11-21T08:00:00Z");
    let open = || {
        let random = Arc::new(SeededRandom::new(1));
        Store::open_in_memory(state.path(), &memory, Arc::clone(&clock), random).unwrap()
    };
    let store = open();
    let (good, bad) = (claiming(&store, "a", 1), claiming(&store, "a", 2));
    for transfer in [&good, &bad] {
        store.insert(transfer.clone()).await.unwrap();
    }
    let mut changes: crate::store::engine::Changes =
        (0..5_000).map(|_| (keys::route(&route("b"), store.new_id()), Some(Vec::new()))).collect();
    let highest = store.new_id();
    changes.insert(keys::route(&route("b"), highest), Some(Vec::new()));
    changes.insert(keys::record(bad.id), Some(b"{}".to_vec()));
    for key in [keys::GENERATION, keys::INDEXED] {
        changes.insert(key.to_vec(), Some(b"7".to_vec()));
    }
    store.close().await.unwrap();
    memory.commit(changes).unwrap();

    let store = open();
    assert!(!store.shared.core.is_read_through.load(std::sync::atomic::Ordering::SeqCst));
    assert_eq!(store.count(&route("b")).await.unwrap(), 5_001);
    assert!(store.new_id() > highest, "the keys alone say what was given");
    let due = |store: &Store| {
        let store = store.clone();
        async move { store.due(&route("a"), at(99), 10).await.unwrap().len() }
    };
    assert_eq!(due(&store).await, 2, "nobody has looked at it yet");
    assert!(matches!(store.get(bad.id).await, Err(Error::Unreadable { .. })));
    assert_eq!(due(&store).await, 1, "it is in nobody's way");
    store.close().await.unwrap();

    let (store, mut told) = (open(), Vec::new());
    store.read_through(&|| false, &mut |unreadable| told.push(unreadable.key)).unwrap();
    assert!(told.is_empty(), "it was told to stop");
    store.read_through(&|| true, &mut |unreadable| told.push(unreadable.key)).unwrap();
    assert_eq!(told, [format!("t/{}", bad.id)]);
    assert_eq!(due(&store).await, 1);
    store.read_through(&|| true, &mut |_| panic!("twice")).unwrap();
}

#[tokio::test]
async fn damage_that_is_met_is_noted_until_everything_was_read() {
    let state = tempfile::tempdir().unwrap();
    drop(open(state.path()));
    let engine = raw(state.path());
    let met = engine.guarded(|| -> sled::Result<()> { Err(sled::Error::Unsupported("damage".to_owned())) });
    assert!(matches!(met, Err(Error::Damaged { .. })));
    drop(engine);
    let note = suspect_path(&state.path().join("sled"));
    assert!(note.exists());
    drop(open(state.path()));
    assert!(!note.exists());
}
