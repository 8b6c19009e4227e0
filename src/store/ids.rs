//! New ids, each above every earlier one, whatever the clock does.

use std::sync::{Arc, Mutex, PoisonError};

use crate::seams::{Clock, Random};
use crate::transfer::TransferId;

#[derive(Debug)]
pub(super) struct IdSource {
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    last: Mutex<Option<TransferId>>,
}

impl IdSource {
    /// A source whose ids come after `last`.
    pub(super) fn new(clock: Arc<dyn Clock>, random: Arc<dyn Random>, last: Option<TransferId>) -> Self {
        Self { clock, random, last: Mutex::new(last) }
    }

    pub(super) fn next(&self) -> TransferId {
        let unix_ms = u64::try_from(self.clock.now().as_millisecond()).unwrap_or(0);
        let fresh = TransferId::new(unix_ms, self.random.bytes());
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let id = match *last {
            Some(last) if fresh <= last => last.successor(),
            _ => fresh,
        };
        *last = Some(id);
        id
    }
}
