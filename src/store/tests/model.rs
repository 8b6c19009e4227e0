//! Random changes against a plain map, with the store reopened in between.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::transfer::samples::broker_id;
use crate::transfer::{BrokerTransferId, TransferId, Unpublished};

use super::super::record::phase;
use super::*;

const ROUTES: [&str; 2] = ["a", "a-b"];
const FILES: u64 = 4;
const NUMBERS: u8 = 4;

#[derive(Debug, Clone)]
enum Op {
    Insert { route: usize, file: u64 },
    Discover { number: u8 },
    Adopt { which: usize, number: u8 },
    Abandon { which: usize },
    Trouble { which: usize, until: i64 },
    Stale { which: usize },
    Finish { which: usize },
    Reopen,
}

fn op() -> impl Strategy<Value = Op> {
    let which = 0..6_usize;
    prop_oneof![
        4 => (0..ROUTES.len(), 0..FILES).prop_map(|(route, file)| Op::Insert { route, file }),
        1 => (0..NUMBERS).prop_map(|number| Op::Discover { number }),
        4 => (which.clone(), 0..NUMBERS).prop_map(|(which, number)| Op::Adopt { which, number }),
        2 => which.clone().prop_map(|which| Op::Abandon { which }),
        2 => (which.clone(), 0..100_i64).prop_map(|(which, until)| Op::Trouble { which, until }),
        1 => which.clone().prop_map(|which| Op::Stale { which }),
        2 => which.prop_map(|which| Op::Finish { which }),
        1 => Just(Op::Reopen),
    ]
}

/// What the store should hold.
#[derive(Default)]
struct Model {
    active: BTreeMap<TransferId, Transfer>,
    finished: BTreeMap<TransferId, Transfer>,
}

/// What a transfer holds at Altinn: told from its work alone.
fn held(transfer: &Transfer) -> (bool, Vec<BrokerTransferId>) {
    match &transfer.work {
        Work::Outgoing { abandoned, .. } => {
            (true, abandoned.iter().copied().chain(transfer.broker_id()).collect())
        }
        Work::Incoming { .. } => (false, transfer.broker_id().into_iter().collect()),
    }
}

impl Model {
    fn pick(&self, which: usize) -> Option<Transfer> {
        self.active.values().nth(which % self.active.len().max(1)).cloned()
    }

    fn conflicts(&self, transfer: &Transfer) -> bool {
        let (out, ids) = held(transfer);
        let others = self.active.values().filter(|other| other.id != transfer.id);
        others.into_iter().any(|other| {
            let (other_out, other_ids) = held(other);
            let same_file = transfer.file_identity().is_some()
                && transfer.file_identity().map(|file| file.inode)
                    == other.file_identity().map(|file| file.inode);
            same_file || (out == other_out && ids.iter().any(|id| other_ids.contains(id)))
        })
    }

    async fn insert(&mut self, store: &Store, transfer: Transfer) {
        let outcome = store.insert(transfer.clone()).await;
        assert_eq!(outcome.is_err(), self.conflicts(&transfer), "{outcome:?}");
        if outcome.is_ok() {
            self.active.insert(transfer.id, transfer);
        }
    }

    async fn update(&mut self, store: &Store, before: &Transfer, after: Transfer) {
        let outcome = store.update(before, after.clone()).await;
        assert_eq!(outcome.is_err(), self.conflicts(&after), "{outcome:?}");
        if outcome.is_ok() {
            self.active.insert(after.id, after);
        }
    }

    async fn change(&mut self, store: &Store, op: &Op) {
        match op {
            Op::Insert { route, file } => self.insert(store, claiming(store, ROUTES[*route], *file)).await,
            Op::Discover { number } => {
                self.insert(store, discovered(store, "in", *number, "991825827")).await;
            }
            Op::Adopt { which, number } => {
                let Some(before) = self.pick(*which) else { return };
                let events = adopting(*number).into_iter();
                // A transfer that was given up on goes on from `Claimed`.
                let skip = usize::from(phase(&before) == "claimed");
                let adopted = events
                    .skip(skip)
                    .try_fold(before.clone(), |transfer, event| transfer.after_outgoing(event, at(1)));
                if let Ok(adopted) = adopted {
                    self.update(store, &before, adopted).await;
                }
            }
            Op::Abandon { which } => {
                let Some(before) = self.pick(*which) else { return };
                let event = OutgoingEvent::Abandoned(Unpublished::Purged);
                if let Ok(after) = before.clone().after_outgoing(event, at(2)) {
                    self.update(store, &before, after).await;
                }
            }
            Op::Trouble { which, until } => {
                let Some(before) = self.pick(*which) else { return };
                let after = Transfer { next_attempt: at(*until), ..before.clone() };
                self.update(store, &before, after).await;
            }
            Op::Stale { which } => {
                let Some(stored) = self.pick(*which) else { return };
                let other = Transfer { updated: at(77), ..stored.clone() };
                assert!(matches!(store.update(&other, stored).await, Err(Error::Stale { .. })));
            }
            Op::Finish { which } => {
                let Some(before) = self.pick(*which) else { return };
                if !matches!(before.work, Work::Outgoing { .. }) {
                    return;
                }
                let gone = in_state(&before, Outgoing::Cancelled);
                store.finish(&before, gone.clone()).await.unwrap();
                self.active.remove(&gone.id);
                self.finished.insert(gone.id, gone);
            }
            Op::Reopen => {}
        }
    }

    async fn compare(&self, store: &Store) {
        let all: Vec<_> = self.active.values().cloned().collect();
        assert_eq!(store.page(None, None, 1_000).await.unwrap(), all);
        for name in ROUTES.into_iter().chain(["in"]) {
            let name = route(name);
            let mine: Vec<_> = all.iter().filter(|transfer| transfer.route == name).cloned().collect();
            let mut due: Vec<_> = mine.iter().map(|transfer| (transfer.next_attempt, transfer.id)).collect();
            due.sort_unstable();
            assert_eq!(store.count(&name).await.unwrap(), mine.len());
            assert_eq!(store.next_due(&name).await.unwrap(), due.first().map(|(time, _)| *time));
            assert_eq!(store.due(&name, at(9_999), 1_000).await.unwrap(), due);
            assert_eq!(store.page(Some(&name), None, 1_000).await.unwrap(), mine);
        }
        for number in 0..NUMBERS {
            let holder = |wanted: bool| {
                let holds = |transfer: &&Transfer| {
                    let (out, ids) = held(transfer);
                    out == wanted && ids.contains(&broker_id(number))
                };
                all.iter().find(holds).map(|transfer| transfer.id)
            };
            assert_eq!(store.by_broker_id(&sent(number)).await.unwrap(), holder(true));
            assert_eq!(store.by_broker_id(&received(number, "991825827")).await.unwrap(), holder(false));
        }
        for file in 0..FILES {
            let holder = all
                .iter()
                .find(|transfer| transfer.file_identity().is_some_and(|identity| identity.inode == file));
            assert_eq!(store.by_file(64_769, file).await.unwrap().as_ref(), holder);
        }
    }
}

async fn run(ops: Vec<Op>) {
    let state = tempfile::tempdir().unwrap();
    let mut store = open(state.path()).store;
    let mut model = Model::default();
    for op in ops {
        if matches!(op, Op::Reopen) {
            drop(store);
            let opened = open(state.path());
            assert!(opened.unreadable.is_empty() && opened.repaired.is_none());
            store = opened.store;
        }
        model.change(&store, &op).await;
        model.compare(&store).await;
    }
    let mut found = Vec::new();
    store.verify(&mut |finding| found.push(finding)).unwrap();
    assert_eq!(found, []);
    // Exported and taken in elsewhere, it is the same.
    let file = state.path().join("export.jsonl");
    store.export_to(&file, true).unwrap();
    let anew = tempfile::tempdir().unwrap();
    super::super::import::import(anew.path(), &file, at(9), false).unwrap();
    let copy = open(anew.path()).store;
    model.compare(&copy).await;
    for (id, transfer) in &model.finished {
        assert_eq!(copy.journal_find(*id).await.unwrap().as_ref(), Some(transfer));
    }
    for (id, transfer) in &model.finished {
        assert_eq!(store.journal_find(*id).await.unwrap().as_ref(), Some(transfer));
    }
}

proptest! {
    // Every case syncs the disk dozens of times.
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_changes_leaves_what_a_plain_map_would(
        ops in proptest::collection::vec(op(), 1..50),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(run(ops));
    }
}
