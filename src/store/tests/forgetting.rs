//! What is forgotten is gone, and nothing else is.

use super::*;
use crate::store::engine::Engine;

/// Words that stand in a sample and must not stand in a tombstone.
const PERSONAL: [&str; 4] = ["årsoppgjør", "0199-ref", "910753614", "agency-accounts"];

async fn finished(store: &Store, file: u64, number: u8) -> Transfer {
    let claimed = claiming(store, "a", file);
    store.insert(claimed.clone()).await.unwrap();
    let adopted = after(&claimed, adopting(number));
    store.update(&claimed, adopted.clone()).await.unwrap();
    let (_, completed) = crate::transfer::samples::outgoing_states()
        .into_iter()
        .find(|(name, _)| *name == "completed")
        .unwrap();
    let completed = in_state(&adopted, completed);
    store.finish(&adopted, completed.clone()).await.unwrap();
    completed
}

fn month(state: &Path, name: &str) -> String {
    std::fs::read_to_string(state.join("journal").join(name)).unwrap()
}

#[tokio::test]
async fn a_forgotten_transfer_leaves_a_tombstone_and_no_name_and_others_stay_as_they_are() {
    let state = tempfile::tempdir().unwrap();
    let clock = TestClock::at("2026-11-21T08:00:00Z");
    let store = open_with(state.path(), &clock).unwrap().store;
    let (first, wanted, last) =
        (finished(&store, 1, 1).await, finished(&store, 2, 2).await, finished(&store, 3, 3).await);
    let before = month(state.path(), "2026-11.jsonl");
    clock.set("2027-01-02T03:04:05Z");

    let erased = store.forget(wanted.id).await.unwrap().unwrap();
    assert_eq!(erased.before, Some(wanted.clone()));
    let after = month(state.path(), "2026-11.jsonl");
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let (before, after) = (lines(&before), lines(&after));
    assert_eq!((&after[0], &after[2], after.len()), (&before[0], &before[2], 3), "the others, to the letter");
    let tombstone: serde_json::Value = serde_json::from_str(&after[1]).unwrap();
    for (member, value) in [
        ("id", wanted.id.to_string()),
        ("forgotten", "2027-01-02T03:04:05Z".to_owned()),
        ("fileTransferId", wanted.broker_id().unwrap().to_string()),
        ("route", "a".to_owned()),
        ("direction", "out".to_owned()),
        ("state", "completed".to_owned()),
        ("finished", "2026-11-21T08:00:00Z".to_owned()),
    ] {
        assert_eq!(tombstone[member], value, "{member}");
    }
    assert_eq!(tombstone["steps"][0]["phase"], "claiming");
    assert!(PERSONAL.iter().all(|word| before[1].contains(word)), "the sample has what is looked for");
    assert!(!PERSONAL.iter().any(|word| after[1].contains(word)), "{}", after[1]);

    assert_eq!(store.journal_find(wanted.id).await.unwrap(), None);
    assert_eq!(store.steps(wanted.id).await.unwrap(), []);
    for other in [first, last] {
        assert_eq!(store.journal_find(other.id).await.unwrap(), Some(other));
    }
    // Again, and after a restart: it is known that it was forgotten, and when.
    drop(store);
    let store = open(state.path()).store;
    let again = store.forget(wanted.id).await.unwrap().unwrap();
    assert_eq!((again.before, &again.tombstone), (None, &erased.tombstone));
    assert_eq!(lines(&month(state.path(), "2026-11.jsonl")), after);
}

#[tokio::test]
async fn every_line_of_it_goes_also_broken_ones_and_those_of_other_months() {
    let state = tempfile::tempdir().unwrap();
    let store = open(state.path()).store;
    let wanted = finished(&store, 1, 1).await;
    let line = month(state.path(), "2026-11.jsonl");
    let torn: String = line.chars().take(line.len() / 2).collect();
    let path = |name: &str| state.path().join("journal").join(name);
    std::fs::write(path("2026-10.jsonl"), &line).unwrap();
    std::fs::write(path("2026-11.jsonl"), format!("{torn}\n{line}{line}{{\"v\":1,\"id\":\"01")).unwrap();
    assert!(store.forget(wanted.id).await.unwrap().is_some());
    for name in ["2026-10.jsonl", "2026-11.jsonl"] {
        let text = month(state.path(), name);
        assert_eq!(text.matches("forgotten").count(), 1, "{text}");
        assert!(!PERSONAL.iter().any(|word| text.contains(word)), "{text}");
    }
    assert!(month(state.path(), "2026-11.jsonl").ends_with("\n{\"v\":1,\"id\":\"01"));
    let names: Vec<_> =
        std::fs::read_dir(path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
}

#[tokio::test]
async fn what_is_under_way_is_not_forgotten() {
    let state = tempfile::tempdir().unwrap();
    let store = open(state.path()).store;
    let active = claiming(&store, "a", 1);
    store.insert(active.clone()).await.unwrap();
    let refused = store.forget(active.id).await;
    assert!(matches!(refused, Err(Error::UnderWay { state: "claimed", .. })), "{refused:?}");
    assert_eq!(store.get(active.id).await.unwrap().as_ref(), Some(&active));
    assert_eq!(store.steps(active.id).await.unwrap().len(), 1);
    assert_eq!(store.forget(store.new_id()).await.unwrap(), None);
}

#[tokio::test]
async fn steps_that_were_left_behind_go_too() {
    let state = tempfile::tempdir().unwrap();
    let store = open(state.path()).store;
    let wanted = finished(&store, 1, 1).await;
    drop(store);
    let key = super::super::keys::step(wanted.id, 7);
    let step = format!("{{\"phase\":\"claimed\",\"at\":\"{}\"}}", at(0)).into_bytes();
    raw(state.path()).commit([(key.clone(), Some(step))].into()).unwrap();
    let store = open(state.path()).store;
    assert_eq!(store.steps(wanted.id).await.unwrap().len(), 1);
    assert!(store.forget(wanted.id).await.unwrap().is_some());
    drop(store);
    assert_eq!(raw(state.path()).get(&key).unwrap(), None);
}

#[tokio::test]
async fn ids_are_found_by_their_ends_in_database_and_journal() {
    let state = tempfile::tempdir().unwrap();
    let store = open(state.path()).store;
    let done = finished(&store, 1, 1).await;
    let active = claiming(&store, "a", 2);
    store.insert(active.clone()).await.unwrap();
    store.forget(finished(&store, 3, 3).await.id).await.unwrap();
    for id in [done.id, active.id] {
        for typed in [id.to_string(), id.short(), id.to_string().to_uppercase().replace('-', "")] {
            assert_eq!(store.matching(&typed.parse().unwrap(), 5).await.unwrap(), [id], "{typed}");
        }
    }
    assert_eq!(store.matching(&"ffffffff".parse().unwrap(), 5).await.unwrap(), []);
}

#[tokio::test]
async fn a_month_that_was_half_written_is_removed_at_the_start() {
    let state = tempfile::tempdir().unwrap();
    let store = open(state.path()).store;
    let wanted = finished(&store, 1, 1).await;
    drop(store);
    let half = state.path().join("journal").join("2026-11.jsonl.new");
    std::fs::write(&half, "{").unwrap();
    let store = open(state.path()).store;
    assert!(!half.exists());
    assert_eq!(store.journal_find(wanted.id).await.unwrap(), Some(wanted));
}
