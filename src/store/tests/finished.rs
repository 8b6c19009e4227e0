//! The journal: what leaves the database, how it is found again, and when it is deleted.

use std::time::Duration;

use crate::transfer::samples::place;

use super::*;

async fn finish(store: &Store, file: u64) -> Transfer {
    let transfer = claiming(store, "a", file);
    store.insert(transfer.clone()).await.unwrap();
    let gone = withdrawn(&transfer);
    store.finish(&transfer, gone.clone()).await.unwrap();
    gone
}

fn journal(state: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(state.join("journal")).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_finished_transfer_lets_go_of_everything_and_is_found_in_the_journal() {
    let state = tempfile::tempdir().unwrap();
    let store = open(state.path()).store;
    let transfer = claiming(&store, "a", 1);
    store.insert(transfer.clone()).await.unwrap();
    let adopted = after(&transfer, adopting(1));
    store.update(&transfer, adopted.clone()).await.unwrap();
    let refused = store.finish(&adopted, adopted.clone()).await;
    assert!(matches!(refused, Err(Error::Unfinished { state: "initialized", .. })));
    let failed = in_state(&adopted, Outgoing::Failed { failure: failure(), place: place() });
    store.finish(&adopted, failed.clone()).await.unwrap();

    assert_eq!(store.get(transfer.id).await.unwrap(), None);
    assert_eq!(store.count(&route("a")).await.unwrap(), 0);
    assert_eq!(store.next_due(&route("a")).await.unwrap(), None);
    assert_eq!(store.by_broker_id(&sent(1)).await.unwrap(), None);
    assert_eq!(store.by_file(64_769, 1).await.unwrap(), None);
    assert_eq!(store.journal_find(transfer.id).await.unwrap(), Some(failed));
    assert_eq!(store.journal_find(store.new_id()).await.unwrap(), None);
    let phases: Vec<_> = store.steps(transfer.id).await.unwrap().into_iter().map(|step| step.phase).collect();
    assert_eq!(phases, ["claiming", "initialized", "failed"]);
}

#[tokio::test]
async fn a_crash_between_journal_and_database_is_healed_by_finishing_again() {
    let state = tempfile::tempdir().unwrap();
    let store = open(state.path()).store;
    let transfer = claiming(&store, "a", 1);
    store.insert(transfer.clone()).await.unwrap();
    drop(store);
    copy(&state.path().join("sled"), &state.path().join("before"));
    let counted = std::fs::read(state.path().join("changes")).unwrap();
    let store = open(state.path()).store;
    store.finish(&transfer, withdrawn(&transfer)).await.unwrap();
    drop(store);
    // The database as it was when the line had been written.
    std::fs::remove_dir_all(state.path().join("sled")).unwrap();
    std::fs::rename(state.path().join("before"), state.path().join("sled")).unwrap();
    std::fs::write(state.path().join("changes"), counted).unwrap();

    let store = open(state.path()).store;
    assert_eq!(store.get(transfer.id).await.unwrap(), Some(transfer.clone()));
    let gone = Transfer { attempts: 7, ..withdrawn(&transfer) };
    store.finish(&transfer, gone.clone()).await.unwrap();
    assert_eq!(store.get(transfer.id).await.unwrap(), None);
    assert_eq!(store.journal_find(transfer.id).await.unwrap(), Some(gone), "the last line counts");
}

fn copy(from: &Path, to: &Path) {
    super::super::disk::copy_dir(from, to).unwrap();
}

#[tokio::test]
async fn a_torn_line_is_ended_and_passed_over() {
    let state = tempfile::tempdir().unwrap();
    let store = open(state.path()).store;
    let first = finish(&store, 1).await;
    let file = state.path().join("journal").join("2026-11.jsonl");
    let mut text = std::fs::read_to_string(&file).unwrap();
    let line = text.clone();
    text.extend(line.chars().take(line.len() / 2));
    std::fs::write(&file, text).unwrap();
    let second = finish(&store, 2).await;
    assert_eq!(store.journal_find(first.id).await.unwrap(), Some(first));
    assert_eq!(store.journal_find(second.id).await.unwrap(), Some(second));
    assert_eq!(std::fs::read_to_string(&file).unwrap().lines().count(), 3);
}

#[tokio::test]
async fn a_line_of_a_newer_version_is_an_error_and_not_nothing() {
    let state = tempfile::tempdir().unwrap();
    let store = open(state.path()).store;
    let first = finish(&store, 1).await;
    let file = state.path().join("journal").join("2026-11.jsonl");
    let text = std::fs::read_to_string(&file).unwrap().replace("{\"v\":1,", "{\"v\":2,");
    std::fs::write(&file, text).unwrap();
    let error = store.journal_find(first.id).await.unwrap_err();
    assert!(matches!(&error, Error::Unreadable { key, .. } if key.ends_with("2026-11.jsonl:1")), "{error:?}");
}

#[tokio::test]
async fn only_months_that_are_wholly_older_are_pruned() {
    let state = tempfile::tempdir().unwrap();
    let clock = TestClock::at("2026-01-31T23:59:59Z");
    let store = open_with(state.path(), &clock).unwrap().store;
    let january = finish(&store, 1).await;
    clock.set("2026-02-01T00:00:00Z");
    let february = finish(&store, 2).await;
    clock.set("2026-03-15T00:00:00Z");
    let march = finish(&store, 3).await;
    std::fs::write(state.path().join("journal").join("notes.txt"), "mine").unwrap();
    assert_eq!(journal(state.path()), ["2026-01.jsonl", "2026-02.jsonl", "2026-03.jsonl", "notes.txt"]);

    let days = |days: u64| Duration::from_secs(days * 24 * 3600);
    assert_eq!(store.prune_journal(days(43)).unwrap(), 0, "January ended 42 days ago");
    assert_eq!(store.prune_journal(days(42)).unwrap(), 1);
    assert_eq!(journal(state.path()), ["2026-02.jsonl", "2026-03.jsonl", "notes.txt"]);
    assert_eq!(store.prune_journal(Duration::MAX).unwrap(), 0);
    assert_eq!(store.prune_journal(Duration::ZERO).unwrap(), 1);
    assert_eq!(store.journal_find(january.id).await.unwrap(), None);
    assert_eq!(store.journal_find(february.id).await.unwrap(), None);
    assert_eq!(store.journal_find(march.id).await.unwrap(), Some(march));
}
