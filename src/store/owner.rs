//! The thread that owns all writes.
//!
//! It takes every job that waits, checks each against the database and against the jobs before it in the same
//! group, makes one batch of them and one barrier, and only then answers them all. What one job costs in
//! waiting for the disk, a thousand cost together.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};

use crate::seams::Clock;
use crate::transfer::{RouteName, TransferId};

use super::core::Core;
use super::stage::{Stage, Task};
use super::{Error, keys};

/// How many jobs may wait to be taken; whoever comes then waits for room.
pub(super) const QUEUE: usize = 1_024;
/// How many jobs one group takes at most: beyond this a barrier is no longer what a job costs.
const GROUP: usize = 1_000;

/// Something to be done, and whom to tell.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) task: Task,
    pub(super) done: oneshot::Sender<Result<(), Error>>,
}

/// The owner of all writes; see the module's page.
#[derive(Debug)]
pub(super) struct Owner {
    pub(super) core: Arc<Core>,
    pub(super) clock: Arc<dyn Clock>,
}

impl Owner {
    /// Works until nobody can send jobs any more and all are done; then makes sure of everything once more.
    pub(super) fn run(self, mut jobs: mpsc::Receiver<Job>) -> Result<(), Error> {
        let mut group = Vec::new();
        while let Some(job) = jobs.blocking_recv() {
            group.push(job);
            while group.len() < GROUP
                && let Ok(job) = jobs.try_recv()
            {
                group.push(job);
            }
            if group.iter().any(|job| matches!(job.task, Task::Close)) {
                jobs.close();
            }
            self.carry_out(std::mem::take(&mut group));
        }
        self.core.check()?;
        self.core.engine.commit(BTreeMap::new())
    }

    fn carry_out(&self, group: Vec<Job>) {
        let (tasks, waiting): (Vec<Task>, Vec<_>) = group.into_iter().map(|job| (job.task, job.done)).unzip();
        let outcomes = self.outcomes(&tasks);
        for (done, outcome) in waiting.into_iter().zip(outcomes) {
            // Nobody waits any more: the caller was cancelled, and the outcome is in the store.
            drop(done.send(outcome));
        }
    }

    /// One outcome for each task, when all is durable that succeeded.
    pub(super) fn outcomes(&self, tasks: &[Task]) -> Vec<Result<(), Error>> {
        if let Err(broken) = self.core.check() {
            return tasks.iter().map(|_| Err(broken.clone())).collect();
        }
        let now = self.clock.now();
        let mut stage = Stage::of(&self.core, tasks, now, None);
        if !stage.lines.is_empty()
            && let Err(error) = self.core.journal.append(&stage.lines, now)
        {
            // Nothing leaves the database without its line; the others are not held up by that.
            stage = Stage::of(&self.core, tasks, now, Some(&error));
        }
        if let Err(error) = self.commit(&mut stage, now) {
            for outcome in &mut stage.outcomes {
                if outcome.is_ok() {
                    *outcome = Err(error.clone());
                }
            }
        }
        stage.outcomes
    }

    /// Nothing of what is being committed can be read before it is durable; see [`Core::settled`].
    fn commit(&self, stage: &mut Stage<'_>, now: Timestamp) -> Result<(), Error> {
        if stage.changes.is_empty() {
            return Ok(());
        }
        stage.changes.insert(keys::CHANGED.to_vec(), Some(now.to_string().into_bytes()));
        let core = &self.core;
        let _committing = core.gate.write().unwrap_or_else(PoisonError::into_inner);
        *core.in_flight.lock().unwrap_or_else(PoisonError::into_inner) = std::mem::take(&mut stage.touched);
        let outcome = core.engine.commit(std::mem::take(&mut stage.changes));
        match &outcome {
            Ok(()) => add(core, &stage.counts),
            Err(_) => core.broken.store(true, Ordering::SeqCst),
        }
        *core.in_flight.lock().unwrap_or_else(PoisonError::into_inner) = HashSet::<TransferId>::new();
        outcome
    }
}

fn add(core: &Core, changes: &BTreeMap<RouteName, isize>) {
    let mut counts = core.counts.lock().unwrap_or_else(PoisonError::into_inner);
    for (route, change) in changes {
        let count = counts.entry(route.clone()).or_default();
        *count = count.saturating_add_signed(*change);
    }
}
