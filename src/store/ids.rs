//! New ids, each above every earlier one, whatever the clock does.

use std::sync::{Arc, Mutex, PoisonError};

use crate::seams::{Clock, Random};
use crate::transfer::{InstallationMark, TransferId};

#[derive(Debug)]
pub(super) struct IdSource {
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    mark: InstallationMark,
    last: Mutex<Option<TransferId>>,
}

impl IdSource {
    /// A source whose ids come after `last` and bear `mark`.
    pub(super) fn new(
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        mark: InstallationMark,
        last: Option<TransferId>,
    ) -> Self {
        Self { clock, random, mark, last: Mutex::new(last) }
    }

    pub(super) fn next(&self) -> TransferId {
        let unix_ms = u64::try_from(self.clock.now().as_millisecond()).unwrap_or(0);
        let fresh = TransferId::marked(unix_ms, self.random.bytes(), self.mark);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let id = match *last {
            Some(last) if fresh <= last => last.successor(),
            _ => fresh,
        };
        *last = Some(id);
        id
    }
}
