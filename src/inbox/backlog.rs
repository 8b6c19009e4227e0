//! Transfers that are known and not delivered: while there are many, Altinn keeps the rest. Those that wait for
//! something that does not come by working do not count, so that they do not keep others from being heard of.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::transfer::TransferId;

/// Transfers that are set apart, beyond which they count: each is a record, and is looked at again and again.
const MAX_APART: usize = 2000;

/// The transfers of one inbox that are not delivered.
#[derive(Debug, Default)]
pub(super) struct Backlog(Mutex<Undelivered>);

#[derive(Debug, Default)]
struct Undelivered {
    counted: HashSet<TransferId>,
    apart: HashSet<TransferId>,
}

impl Backlog {
    /// Something has happened to a transfer that is not delivered: it counts.
    pub(super) fn count(&self, id: TransferId) {
        let mut all = self.all();
        all.apart.remove(&id);
        all.counted.insert(id);
    }

    /// It is delivered, or never will be.
    pub(super) fn remove(&self, id: TransferId) {
        let mut all = self.all();
        all.apart.remove(&id);
        all.counted.remove(&id);
    }

    /// It waits for people, or for room, and does not count until something happens to it; but not too many.
    pub(super) fn set_apart(&self, id: TransferId) {
        let mut all = self.all();
        if all.apart.len() < MAX_APART && all.counted.remove(&id) {
            all.apart.insert(id);
        }
    }

    /// How many count.
    pub(super) fn counted(&self) -> usize {
        self.all().counted.len()
    }

    /// Whether no more can be set apart.
    pub(super) fn is_full(&self) -> bool {
        self.all().apart.len() >= MAX_APART
    }

    fn all(&self) -> MutexGuard<'_, Undelivered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transfer(id: usize) -> TransferId {
        format!("01936f2a-0000-7000-8000-{id:012x}").parse().unwrap()
    }

    #[test]
    fn what_waits_for_people_does_not_count_within_bounds() {
        let backlog = Backlog::default();
        for id in 0..MAX_APART + 10 {
            assert_eq!(backlog.is_full(), id >= MAX_APART);
            backlog.count(transfer(id));
            backlog.set_apart(transfer(id));
        }
        assert_eq!(backlog.counted(), 10);
        // What goes on counts again, and leaves its place to another.
        backlog.count(transfer(0));
        assert_eq!(backlog.counted(), 11);
        backlog.set_apart(transfer(MAX_APART));
        assert_eq!(backlog.counted(), 10);
        for id in 0..MAX_APART + 10 {
            backlog.remove(transfer(id));
            backlog.set_apart(transfer(id));
        }
        assert_eq!((backlog.counted(), backlog.is_full()), (0, false));
    }
}
