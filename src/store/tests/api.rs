//! What each method promises while nothing goes wrong.

use futures_util::future::join_all;

use crate::transfer::Unpublished;

use super::super::engine::Engine;
use super::super::owner::Owner;
use super::super::stage::Task;
use super::*;

const OURS: &str = "991825827";
const OURS_TOO: &str = "910753614";

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_drop_without_close() {
    let state = tempfile::tempdir().unwrap();
    let store = open(state.path()).store;
    let mut transfers = Vec::new();
    for file in 0..20 {
        let transfer = claiming(&store, "a", file);
        store.insert(transfer.clone()).await.unwrap();
        transfers.push(transfer);
    }
    let moved = after(&transfers[0], adopting(1));
    store.update(&transfers[0], moved.clone()).await.unwrap();
    transfers[0] = moved;
    drop(store);

    let opened = open(state.path());
    let store = opened.store;
    assert!(opened.unreadable.is_empty() && opened.repaired.is_none());
    assert_eq!(store.page(None, None, 100).await.unwrap(), transfers);
    assert_eq!(store.count(&route("a")).await.unwrap(), 20);
    assert_eq!(store.by_broker_id(&sent(1)).await.unwrap(), Some(transfers[0].id));
    assert_eq!(store.by_file(64_769, 7).await.unwrap(), Some(transfers[7].clone()));
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_second_transfer_of_the_same_id_or_file_is_refused() {
    let state = tempfile::tempdir().unwrap();
    let store = open(state.path()).store;
    let first = claiming(&store, "a", 1);
    store.insert(first.clone()).await.unwrap();
    assert!(matches!(store.insert(first.clone()).await, Err(Error::Exists { id }) if id == first.id));
    let second = claiming(&store, "b", 1);
    assert!(matches!(store.insert(second.clone()).await, Err(Error::FileTaken { by }) if by == first.id));
    store.update(&first, withdrawn(&first)).await.unwrap();
    store.insert(second.clone()).await.unwrap();
    assert_eq!(store.by_file(64_769, 1).await.unwrap(), Some(second));
}

#[tokio::test]
async fn a_change_made_from_an_old_record_is_refused() {
    let state = tempfile::tempdir().unwrap();
    let store = open(state.path()).store;
    let old = claiming(&store, "a", 1);
    assert!(matches!(store.update(&old, old.clone()).await, Err(Error::Stale { .. })));
    store.insert(old.clone()).await.unwrap();
    let new = after(&old, [OutgoingEvent::FileTaken]);
    store.update(&old, new.clone()).await.unwrap();
    assert!(matches!(store.update(&old, new.clone()).await, Err(Error::Stale { .. })));
    assert!(matches!(store.finish(&old, withdrawn(&old)).await, Err(Error::Stale { .. })));
    let other = claiming(&store, "a", 2);
    assert!(matches!(store.update(&new, other).await, Err(Error::Mixed { .. })));
    assert_eq!(store.get(new.id).await.unwrap(), Some(new));
}

#[tokio::test]
async fn the_earliest_are_due_first_and_none_before_its_time() {
    let state = tempfile::tempdir().unwrap();
    let store = open(state.path()).store;
    let mut expected = Vec::new();
    for (file, second) in [(1, 30), (2, 10), (3, 20), (4, 10)] {
        let transfer = Transfer { next_attempt: at(second), ..claiming(&store, "a", file) };
        expected.push((at(second), transfer.id));
        store.insert(transfer).await.unwrap();
    }
    let elsewhere = Transfer { next_attempt: at(1), ..claiming(&store, "a-b", 5) };
    store.insert(elsewhere).await.unwrap();
    expected.sort_unstable();
    assert_eq!(store.next_due(&route("a")).await.unwrap(), Some(at(10)));
    assert_eq!(store.next_due(&route("none")).await.unwrap(), None);
    assert_eq!(store.due(&route("a"), at(99), 10).await.unwrap(), expected);
    assert_eq!(store.due(&route("a"), at(20), 10).await.unwrap(), expected[..3]);
    assert_eq!(store.due(&route("a"), at(99), 2).await.unwrap(), expected[..2]);
    assert_eq!(store.due(&route("a"), at(9), 10).await.unwrap(), []);

    let first = store.get(expected[0].1).await.unwrap().unwrap();
    let later = first.clone().after_trouble(failure(), at(50));
    store.update(&first, later).await.unwrap();
    assert_eq!(store.next_due(&route("a")).await.unwrap(), Some(expected[1].0));
    assert_eq!(store.due(&route("a"), at(99), 10).await.unwrap().last(), Some(&(at(50), first.id)));
}

#[tokio::test]
async fn pages_go_through_all_records_of_a_route_in_order() {
    let state = tempfile::tempdir().unwrap();
    let store = open(state.path()).store;
    let mut ids = Vec::new();
    for file in 0..10 {
        let transfer = claiming(&store, if file % 2 == 0 { "even" } else { "odd" }, file);
        ids.push(transfer.id);
        store.insert(transfer).await.unwrap();
    }
    let even = route("even");
    let mut seen = Vec::new();
    loop {
        let page = store.page(Some(&even), seen.last().copied(), 2).await.unwrap();
        assert!(page.len() <= 2);
        if page.is_empty() {
            break;
        }
        seen.extend(page.iter().map(|transfer| transfer.id));
    }
    assert_eq!(seen, ids.iter().copied().step_by(2).collect::<Vec<_>>());
    let rest = store.page(None, Some(ids[6]), 100).await.unwrap();
    assert_eq!(rest.iter().map(|transfer| transfer.id).collect::<Vec<_>>(), ids[7..]);
}

#[tokio::test]
async fn a_transfer_at_altinn_may_be_sent_and_received_but_each_only_once() {
    let state = tempfile::tempdir().unwrap();
    let store = open(state.path()).store;
    let out = claiming(&store, "out", 1);
    store.insert(out.clone()).await.unwrap();
    let out_adopted = after(&out, adopting(1));
    store.update(&out, out_adopted.clone()).await.unwrap();
    let first = discovered(&store, "in", 1, OURS);
    let second = discovered(&store, "in-too", 1, OURS_TOO);
    store.insert(first.clone()).await.unwrap();
    store.insert(second.clone()).await.unwrap();
    let again = discovered(&store, "in", 1, OURS);
    assert!(matches!(store.insert(again).await, Err(Error::BrokerIdTaken { by }) if by == first.id));
    assert_eq!(store.by_broker_id(&sent(1)).await.unwrap(), Some(out.id));
    assert_eq!(store.by_broker_id(&received(1, OURS)).await.unwrap(), Some(first.id));
    assert_eq!(store.by_broker_id(&received(1, OURS_TOO)).await.unwrap(), Some(second.id));
    assert_eq!(store.by_broker_id(&received(2, OURS)).await.unwrap(), None);
}

#[tokio::test]
async fn of_two_that_adopt_one_transfer_exactly_one_wins() {
    let state = tempfile::tempdir().unwrap();
    let store = open(state.path()).store;
    for number in 1..=20 {
        let (a, b) = (claiming(&store, "a", 1), claiming(&store, "a", 2));
        let inserted = join_all([store.insert(a.clone()), store.insert(b.clone())]).await;
        assert!(inserted.iter().all(Result::is_ok), "{inserted:?}");
        // Both wait in the queue when the owner takes the first, so that they come in one group or in two.
        let adopted = join_all([
            store.update(&a, after(&a, adopting(number))),
            store.update(&b, after(&b, adopting(number))),
        ])
        .await;
        let winner = store.by_broker_id(&sent(number)).await.unwrap().unwrap();
        assert_eq!(adopted.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{adopted:?}");
        assert!(
            matches!(adopted.iter().find_map(|outcome| outcome.as_ref().err()), Some(Error::BrokerIdTaken { by }) if *by == winner)
        );
        for id in [a.id, b.id] {
            let left = store.get(id).await.unwrap().unwrap();
            assert_eq!(left.broker_id().is_some(), id == winner);
            let gone = in_state(&left, Outgoing::Cancelled);
            store.finish(&left, gone).await.unwrap();
        }
        assert_eq!(store.by_broker_id(&sent(number)).await.unwrap(), None);
    }
}

#[tokio::test]
async fn jobs_of_one_group_see_those_before_them() {
    let state = tempfile::tempdir().unwrap();
    let store = open(state.path()).store;
    let clock = TestClock::at("2026-11-21T08:00:00Z");
    let owner = Owner { core: Arc::clone(&store.shared.core), clock };
    let (a, b, c) = (claiming(&store, "a", 1), claiming(&store, "a", 2), claiming(&store, "a", 1));
    let (a_adopted, b_adopted) = (after(&a, adopting(1)), after(&b, adopting(1)));
    let gone = in_state(&a_adopted, Outgoing::Cancelled);
    let insert = |transfer: &Transfer| Task::Insert(Box::new(transfer.clone()));
    let update = |before: &Transfer, after: &Transfer| Task::Update {
        before: Box::new(before.clone()),
        after: Box::new(after.clone()),
    };
    let outcomes = owner.outcomes(&[
        insert(&a),
        insert(&a),
        insert(&b),
        insert(&c),
        update(&a, &a_adopted),
        update(&a, &a_adopted),
        update(&b, &b_adopted),
        Task::Finish { before: Box::new(a_adopted.clone()), after: Box::new(gone.clone()) },
        update(&b, &b_adopted),
        insert(&c),
    ]);
    let codes: Vec<_> =
        outcomes.iter().map(|outcome| outcome.as_ref().err().map_or("ok", Error::code)).collect();
    assert_eq!(
        codes,
        [
            "ok",
            "transfer_exists",
            "ok",
            "file_taken",
            "ok",
            "transfer_stale",
            "broker_id_taken",
            "ok",
            "ok",
            "ok"
        ]
    );
    drop(owner);
    drop(store);
    let store = open(state.path()).store;
    assert_eq!(store.page(None, None, 10).await.unwrap(), [b_adopted, c]);
    assert_eq!(store.count(&route("a")).await.unwrap(), 2);
    assert_eq!(store.journal_find(a.id).await.unwrap(), Some(gone));
}

#[tokio::test]
async fn a_transfer_that_was_given_up_on_is_adopted_by_nobody_else() {
    let state = tempfile::tempdir().unwrap();
    let store = open(state.path()).store;
    let (a, b) = (claiming(&store, "a", 1), claiming(&store, "a", 2));
    store.insert(a.clone()).await.unwrap();
    store.insert(b.clone()).await.unwrap();
    let adopted = after(&a, adopting(1));
    store.update(&a, adopted.clone()).await.unwrap();
    let given_up = after(&adopted, [OutgoingEvent::Abandoned(Unpublished::Purged)]);
    store.update(&adopted, given_up.clone()).await.unwrap();
    let taken = store.update(&b, after(&b, adopting(1))).await;
    assert!(matches!(taken, Err(Error::BrokerIdTaken { by }) if by == a.id));
    let second = after(&given_up, adopting(2).into_iter().skip(1));
    store.update(&given_up, second).await.unwrap();
    assert_eq!(store.by_broker_id(&sent(1)).await.unwrap(), Some(a.id));
    assert_eq!(store.by_broker_id(&sent(2)).await.unwrap(), Some(a.id));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_changes_at_once_are_all_made() {
    let state = tempfile::tempdir().unwrap();
    let store = open(state.path()).store;
    let transfers: Vec<Transfer> = (0..1_000).map(|file| claiming(&store, "a", file)).collect();
    for outcome in join_all(transfers.iter().map(|transfer| store.insert(transfer.clone()))).await {
        outcome.unwrap();
    }
    let taken: Vec<Transfer> =
        transfers.iter().map(|transfer| after(transfer, [OutgoingEvent::FileTaken])).collect();
    let updates = transfers.iter().zip(&taken).map(|(before, after)| store.update(before, after.clone()));
    for outcome in join_all(updates).await {
        outcome.unwrap();
    }
    drop(store);
    let store = open(state.path()).store;
    assert_eq!(store.page(None, None, 2_000).await.unwrap(), taken);
    assert_eq!(store.count(&route("a")).await.unwrap(), 1_000);
}

#[tokio::test]
async fn steps_tell_each_phase_and_are_capped() {
    let state = tempfile::tempdir().unwrap();
    let store = open(state.path()).store;
    let mut transfer = claiming(&store, "a", 1);
    store.insert(transfer.clone()).await.unwrap();
    let troubled = transfer.clone().after_trouble(failure(), at(5));
    store.update(&transfer, troubled.clone()).await.unwrap();
    transfer = after(&troubled, [OutgoingEvent::FileTaken]);
    store.update(&troubled, transfer.clone()).await.unwrap();
    let phases =
        |steps: Vec<crate::store::Step>| steps.into_iter().map(|step| step.phase).collect::<Vec<_>>();
    assert_eq!(phases(store.steps(transfer.id).await.unwrap()), ["claiming", "claimed"]);
    for round in 0..100 {
        let phase = if round % 2 == 0 { Outgoing::Claiming } else { Outgoing::Claimed };
        let next = in_state(&transfer, phase);
        store.update(&transfer, next.clone()).await.unwrap();
        transfer = next;
    }
    assert_eq!(store.steps(transfer.id).await.unwrap().len(), 64);
    let gone = in_state(&transfer, Outgoing::Cancelled);
    store.finish(&transfer, gone).await.unwrap();
    let steps = phases(store.steps(transfer.id).await.unwrap());
    assert_eq!((steps.len(), steps.last().map(String::as_str)), (65, Some("cancelled")));
    drop(store);
    let left = raw_keys(state.path());
    assert_eq!(left, ["m/changed", "m/generation", "m/indexed", "m/installation", "m/last", "m/schema"]);
}

/// The keys in the database, read without the store.
fn raw_keys(state: &Path) -> Vec<String> {
    let pairs = raw(state).scan(b"", None, 1_000).unwrap();
    pairs.into_iter().map(|(key, _)| String::from_utf8(key).unwrap()).collect()
}

#[tokio::test]
async fn ids_rise_across_restarts_and_when_the_clock_goes_back() {
    let state = tempfile::tempdir().unwrap();
    let clock = TestClock::at("2036-01-01T00:00:00Z");
    let store = open_with(state.path(), &clock).unwrap().store;
    let mut ids = vec![store.new_id(), store.new_id()];
    clock.set("2026-01-01T00:00:00Z");
    ids.push(store.new_id());
    let transfer = claiming(&store, "a", 1);
    ids.push(transfer.id);
    store.insert(transfer.clone()).await.unwrap();
    store.finish(&transfer, withdrawn(&transfer)).await.unwrap();
    drop(store);
    let store = open_with(state.path(), &clock).unwrap().store;
    ids.push(store.new_id());
    ids.push(store.new_id());
    assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
    // Finished in 2026, though its id says 2036.
    assert_eq!(store.journal_find(transfer.id).await.unwrap(), Some(withdrawn(&transfer)));
}

#[tokio::test]
async fn a_closed_store_takes_nothing_more() {
    let state = tempfile::tempdir().unwrap();
    let store = open(state.path()).store;
    let clone = store.clone();
    let transfer = claiming(&store, "a", 1);
    store.insert(transfer.clone()).await.unwrap();
    store.probe().await.unwrap();
    store.close().await.unwrap();
    assert!(matches!(clone.update(&transfer, withdrawn(&transfer)).await, Err(Error::Closed)));
    assert!(matches!(clone.probe().await, Err(Error::Closed)));
    clone.close().await.unwrap();
    assert_eq!(open(state.path()).store.get(transfer.id).await.unwrap(), Some(transfer));
}
