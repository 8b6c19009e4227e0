//! A group of changes being checked and gathered. Each sees those before it in the group; none is half in.

use std::collections::{BTreeMap, HashSet};

use jiff::Timestamp;

use crate::transfer::{Incoming, IncomingStep, RouteName, Transfer, TransferId, Work};

use super::Error;
use super::core::Core;
use super::engine::Changes;
use super::keys::{self, Unique};
use super::record::{self, Finished, MAX_STEPS, Record, Step};

/// What can be asked of the owner.
#[derive(Debug)]
pub(super) enum Task {
    /// Store a new transfer.
    Insert(Box<Transfer>),
    /// Put one record in another's place.
    Update { before: Box<Transfer>, after: Box<Transfer> },
    /// Move a transfer to the journal.
    Finish { before: Box<Transfer>, after: Box<Transfer> },
    /// Remove what is left of a transfer that is finished.
    Forget(TransferId),
    /// Answer.
    Probe,
    /// Take no more jobs.
    Close,
}

/// What a group comes to.
pub(super) struct Stage<'a> {
    core: &'a Core,
    now: Timestamp,
    pub(super) changes: Changes,
    /// Journal lines, to be durable before the changes are made.
    pub(super) lines: Vec<u8>,
    /// How the number of active transfers changes.
    pub(super) counts: BTreeMap<RouteName, isize>,
    /// The transfers that change.
    pub(super) touched: HashSet<TransferId>,
    /// Of each task, in order, so far.
    pub(super) outcomes: Vec<Result<(), Error>>,
}

impl<'a> Stage<'a> {
    /// Stages all tasks. Where the journal cannot be written, nothing is finished.
    pub(super) fn of(core: &'a Core, tasks: &[Task], now: Timestamp, journal: Option<&Error>) -> Self {
        let mut stage = Self {
            core,
            now,
            changes: BTreeMap::new(),
            lines: Vec::new(),
            counts: BTreeMap::new(),
            touched: HashSet::new(),
            outcomes: Vec::with_capacity(tasks.len()),
        };
        for task in tasks {
            let outcome = match (task, journal) {
                (Task::Insert(transfer), _) => stage.insert(transfer),
                (Task::Update { before, after }, _) => stage.update(before, after),
                (Task::Finish { .. }, Some(error)) => Err(error.clone()),
                (Task::Finish { before, after }, None) => stage.finish(before, after),
                (Task::Forget(id), _) => stage.forget(*id),
                (Task::Probe | Task::Close, _) => Ok(()),
            };
            stage.outcomes.push(outcome);
        }
        stage
    }

    fn insert(&mut self, transfer: &Transfer) -> Result<(), Error> {
        let id = transfer.id;
        if self.get(&keys::record(id))?.is_some() {
            return Err(Error::Exists { id });
        }
        let unique = Unique::of(transfer);
        self.check_free(&unique, id)?;
        let last = self.get(keys::LAST_ID)?.as_deref().and_then(keys::parse_id);
        self.put_record(&Record { steps: 0, transfer: transfer.clone() }, true)?;
        self.put_index(transfer, unique);
        self.put(keys::route(&transfer.route, id), Vec::new());
        if last.is_none_or(|last| last < id) {
            self.put(keys::LAST_ID.to_vec(), id.to_string().into_bytes());
        }
        self.count(&transfer.route, 1);
        Ok(())
    }

    fn update(&mut self, before: &Transfer, after: &Transfer) -> Result<(), Error> {
        let stored = self.stored(before, after)?;
        let unique = Unique::of(after);
        self.check_free(&unique, after.id)?;
        let moved = record::phase(before) != record::phase(after);
        self.put_record(&Record { steps: stored.steps, transfer: after.clone() }, moved)?;
        self.remove_index(before);
        self.put_index(after, unique);
        if before.route != after.route {
            self.remove(keys::route(&before.route, before.id));
            self.put(keys::route(&after.route, after.id), Vec::new());
            self.count(&before.route, -1);
            self.count(&after.route, 1);
        }
        Ok(())
    }

    fn finish(&mut self, before: &Transfer, after: &Transfer) -> Result<(), Error> {
        let stored = self.stored(before, after)?;
        if !may_leave(after) {
            return Err(Error::Unfinished { id: after.id, state: after.state_name() });
        }
        let numbers = stored.steps.saturating_sub(MAX_STEPS)..stored.steps;
        let mut steps = Vec::new();
        for number in numbers.clone() {
            let bytes = self.get(&keys::step(after.id, number))?;
            steps.extend(bytes.as_deref().and_then(record::decode_step));
        }
        if record::phase(before) != record::phase(after) {
            steps.push(Step::of(after));
        }
        let line = record::encode_finished(&Finished { at: self.now, steps, transfer: after.clone() })?;
        self.lines.extend(line);
        self.remove(keys::record(before.id));
        self.remove(keys::route(&before.route, before.id));
        self.remove_index(before);
        for number in numbers {
            self.remove(keys::step(before.id, number));
        }
        self.touched.insert(before.id);
        self.count(&before.route, -1);
        Ok(())
    }

    /// Steps went with the record; some are left only where somebody has mended the database by hand.
    fn forget(&mut self, id: TransferId) -> Result<(), Error> {
        if let Some(bytes) = self.get(&keys::record(id))? {
            let state = record::decode_for(id, &bytes)?.transfer.state_name();
            return Err(Error::UnderWay { id, state });
        }
        for (key, _) in self.core.engine.scan(&keys::step_prefix(id), None, usize::MAX)? {
            self.remove(key);
        }
        self.touched.insert(id);
        Ok(())
    }

    /// The stored record, if it is still the one that the change was made from.
    fn stored(&self, before: &Transfer, after: &Transfer) -> Result<Record, Error> {
        let id = before.id;
        if after.id != id {
            return Err(Error::Mixed { before: id, after: after.id });
        }
        let bytes = self.get(&keys::record(id))?.ok_or(Error::Stale { id })?;
        let stored = record::decode_for(id, &bytes)?;
        if stored.transfer == *before { Ok(stored) } else { Err(Error::Stale { id }) }
    }

    fn check_free(&self, unique: &Unique, id: TransferId) -> Result<(), Error> {
        for key in &unique.broker {
            if let Some(by) = self.holder(key)?.filter(|by| *by != id) {
                return Err(Error::BrokerIdTaken { by });
            }
        }
        if let Some(key) = &unique.file
            && let Some(by) = self.holder(key)?.filter(|by| *by != id)
        {
            return Err(Error::FileTaken { by });
        }
        Ok(())
    }

    fn holder(&self, key: &[u8]) -> Result<Option<TransferId>, Error> {
        Ok(self.get(key)?.as_deref().and_then(keys::parse_id))
    }

    /// The record, and a step where it is one.
    fn put_record(&mut self, record: &Record, is_step: bool) -> Result<(), Error> {
        let (id, number) = (record.transfer.id, record.steps);
        let bytes = record::encode(&Record {
            steps: number.saturating_add(u64::from(is_step)),
            transfer: record.transfer.clone(),
        })?;
        if is_step {
            let step = record::encode_step(id, &Step::of(&record.transfer))?;
            self.put(keys::step(id, number), step);
            if let Some(oldest) = number.checked_sub(MAX_STEPS) {
                self.remove(keys::step(id, oldest));
            }
        }
        self.put(keys::record(id), bytes);
        self.touched.insert(id);
        Ok(())
    }

    fn put_index(&mut self, transfer: &Transfer, unique: Unique) {
        self.put(keys::due(transfer), Vec::new());
        if transfer.is_at_work() {
            self.put(keys::at_work(&transfer.route, transfer.id), Vec::new());
        }
        for key in unique.into_all() {
            self.put(key, transfer.id.to_string().into_bytes());
        }
    }

    fn remove_index(&mut self, transfer: &Transfer) {
        self.remove(keys::due(transfer));
        if transfer.is_at_work() {
            self.remove(keys::at_work(&transfer.route, transfer.id));
        }
        for key in Unique::of(transfer).into_all() {
            self.remove(key);
        }
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        match self.changes.get(key) {
            Some(staged) => Ok(staged.clone()),
            None => self.core.engine.get(key),
        }
    }

    fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.changes.insert(key, Some(value));
    }

    fn remove(&mut self, key: Vec<u8>) {
        self.changes.insert(key, None);
    }

    fn count(&mut self, route: &RouteName, change: isize) {
        *self.counts.entry(route.clone()).or_default() += change;
    }
}

/// Whether a transfer may leave the database: it is over, or it is one of those that are only remembered until
/// Altinn has deleted them.
fn may_leave(transfer: &Transfer) -> bool {
    match &transfer.work {
        Work::Outgoing { progress, .. } => progress.is_finished(),
        Work::Incoming { progress, .. } => {
            matches!(Incoming::next_step(progress), IncomingStep::Nothing | IncomingStep::Remember)
        }
    }
}
