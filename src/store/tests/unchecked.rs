//! From when on what Altinn has is to be held against the store.

use super::super::import::import;
use super::super::{SetBackNote, SetBackNotes};
use super::*;

const TIMES: [&str; 4] =
    ["2026-11-21T08:00:00Z", "2026-11-21T09:00:00Z", "2026-11-21T10:00:00Z", "2026-11-21T11:00:00Z"];

fn time(number: usize) -> Timestamp {
    TIMES[number].parse().unwrap()
}

async fn change(store: &Store, file: u64) {
    store.insert(claiming(store, "a", file)).await.unwrap();
}

#[tokio::test]
async fn a_time_from_which_nobody_has_looked_outlasts_starts_until_somebody_has() {
    let state = tempfile::tempdir().unwrap();
    let start = |number: usize| open_with(state.path(), &TestClock::at(TIMES[number])).unwrap().store;
    let (a, b) = (route("a"), route("b"));
    let store = start(0);
    assert_eq!(store.unchecked_since(&a), None, "a new store");
    change(&store, 0).await;
    store.close().await.unwrap();

    for number in 1..3 {
        let store = start(number);
        assert_eq!(store.unchecked_since(&a), Some(time(0)), "start {number}: nobody has looked");
        assert_eq!(store.unchecked_since(&b), Some(time(0)));
        change(&store, number as u64).await;
        if number == 2 {
            store.checked(&a).await.unwrap();
        }
        store.close().await.unwrap();
    }
    for _ in 0..2 {
        let store = start(3);
        assert_eq!(store.unchecked_since(&a), Some(time(2)));
        assert_eq!(store.unchecked_since(&b), Some(time(0)), "of this one nobody has");
        change(&store, store.page(None, None, 100).await.unwrap().len() as u64).await;
        store.close().await.unwrap();
    }
}

#[tokio::test]
async fn an_import_is_looked_at_from_its_export_on_and_its_receipts_are_read_again() {
    let (state, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open_with(state.path(), &TestClock::at(TIMES[0])).unwrap().store;
    change(&store, 0).await;
    store.checked(&route("a")).await.unwrap();
    store.known_folders().remember(&route("a"), Path::new("/srv/a")).unwrap();
    store.known_folders().remember_receipts_read(&route("a"), Path::new("/srv/a")).unwrap();
    let (file, anew) = (other.path().join("export.jsonl"), other.path().join("state"));
    store.export_to(&file, true).unwrap();
    drop(store);
    import(&anew, &file, time(1), false).unwrap();
    for number in [2, 3] {
        let store = open_with(&anew, &TestClock::at(TIMES[number])).unwrap().store;
        assert_eq!(store.unchecked_since(&route("a")), Some(time(0)));
        assert!(store.known_folders().has_used(&route("a"), Path::new("/srv/a")).unwrap());
        assert!(!store.known_folders().has_read_receipts(&route("a"), Path::new("/srv/a")).unwrap());
        change(&store, number as u64).await;
        store.close().await.unwrap();
    }
}

#[test]
fn what_was_released_can_be_held_again() {
    let state = tempfile::tempdir().unwrap();
    let (notes, a) = (SetBackNotes::of(state.path()), route("a"));
    let note = SetBackNote {
        since: time(0),
        noticed: time(1),
        complete: false,
        looked_until: None,
        released: None,
        transfers: Vec::new(),
    };
    notes.write(&a, &note, false).unwrap();
    assert_eq!(notes.release(None).unwrap(), std::slice::from_ref(&a));
    assert_eq!(notes.read(&a).unwrap(), Some((note.clone(), true)));
    notes.hold_again(&a, &note).unwrap();
    assert_eq!(notes.read(&a).unwrap(), Some((note.clone(), false)));
    notes.write(&a, &note, false).unwrap();
    assert_eq!(notes.read(&a).unwrap(), Some((note, false)));
    assert_eq!(notes.release(Some(&a)).unwrap(), std::slice::from_ref(&a));
    notes.remove(&a).unwrap();
    assert_eq!(notes.read(&a).unwrap(), None);
}
