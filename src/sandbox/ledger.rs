//! What was asked and what came of it: one entry per request, for tests to read.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

/// One request.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Counts from 1, in the order in which requests ended.
    pub sequence: u64,
    /// When the request ended.
    pub time: Timestamp,
    /// What was asked for, such as `initialize` or `download`.
    pub operation: &'static str,
    /// The organisation that the token stands for, nine digits.
    pub organization: Option<String>,
    /// The organisation that owns the Maskinporten client.
    pub vendor: Option<String>,
    /// The file transfer that it was about.
    pub transfer: Option<Uuid>,
    /// The answer's status; `None` when the client vanished before there was one.
    pub status: Option<u16>,
    /// What it changed; `None` when nothing.
    pub effect: Option<&'static str>,
    /// Bytes of content that came in.
    pub received: u64,
    /// Bytes of content that were handed over.
    pub sent: u64,
}

/// The newest entries are kept, so that a sandbox that runs for weeks does not fill the memory.
const KEPT: usize = 500_000;

/// Every request since the start (the newest half million).
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    pages: Arc<Mutex<Pages>>,
}

#[derive(Debug, Default)]
struct Pages {
    written: u64,
    entries: VecDeque<Entry>,
}

impl Ledger {
    /// A copy of the entries, oldest first.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        self.lock().entries.iter().cloned().collect()
    }

    /// How many requests of that operation ended with that status.
    #[must_use]
    pub fn count(&self, operation: &str, status: u16) -> usize {
        let is_it = |entry: &&Entry| entry.operation == operation && entry.status == Some(status);
        self.lock().entries.iter().filter(is_it).count()
    }

    /// Adds an entry and returns its sequence number.
    pub(super) fn write(&self, mut entry: Entry) -> u64 {
        let mut pages = self.lock();
        pages.written += 1;
        entry.sequence = pages.written;
        if pages.entries.len() >= KEPT {
            pages.entries.pop_front();
        }
        pages.entries.push_back(entry);
        pages.written
    }

    /// Sets the bytes that a response handed over, which is known only after it was written down.
    pub(super) fn set_sent(&self, sequence: u64, sent: u64) {
        let mut pages = self.lock();
        let Some(first) = pages.entries.front().map(|entry| entry.sequence) else { return };
        let Some(place) = sequence.checked_sub(first).and_then(|place| usize::try_from(place).ok()) else {
            return;
        };
        if let Some(entry) = pages.entries.get_mut(place) {
            entry.sent = sent;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
