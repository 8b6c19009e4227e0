//! What was asked and what came of it: one entry per request, for tests to read.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::http::Uri;
use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use super::world::bare_number;

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
    /// The Maskinporten client that the token names; nobody has verified that.
    pub client: Option<String>,
    /// The method.
    pub method: String,
    /// The path with those parameters of the query that are no secrets.
    pub path: String,
    /// The fault rules that struck.
    pub faults: Vec<String>,
    /// How long it took until the answer was ready.
    pub milliseconds: u64,
}

/// Which entries are wanted: those that fit everything that is given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// The operation.
    pub operation: Option<String>,
    /// Nine digits, with or without `0192:`.
    pub organization: Option<String>,
    /// The Maskinporten client.
    pub client: Option<String>,
    /// The file transfer.
    pub transfer: Option<Uuid>,
    /// The status; `Some(None)` for requests without an answer.
    pub status: Option<Option<u16>>,
    /// The effect; `Some(None)` for requests without one.
    pub effect: Option<Option<String>>,
    /// A fault rule that struck.
    pub fault: Option<String>,
    /// Only entries with a higher sequence number.
    pub after: Option<u64>,
    /// No more than so many, the oldest.
    pub limit: Option<usize>,
}

impl Filter {
    fn fits(&self, entry: &Entry) -> bool {
        let wants = |wanted: &Option<String>, is: Option<&str>| wanted.is_none() || wanted.as_deref() == is;
        let organization = self.organization.as_deref().map(bare_number);
        wants(&self.operation, Some(entry.operation))
            && (organization.is_none() || organization == entry.organization.as_deref())
            && wants(&self.client, entry.client.as_deref())
            && (self.transfer.is_none() || self.transfer == entry.transfer)
            && self.status.is_none_or(|status| status == entry.status)
            && self.effect.as_ref().is_none_or(|effect| effect.as_deref() == entry.effect)
            && self.fault.as_ref().is_none_or(|fault| entry.faults.contains(fault))
            && self.after.is_none_or(|after| entry.sequence > after)
    }
}

/// Paths are kept up to so many bytes.
const LONGEST_PATH: usize = 300;
/// Parameters whose values may be shown; the others may hold keys.
const SHOWN: [&str; 12] = [
    "resourceid",
    "status",
    "recipientstatus",
    "role",
    "from",
    "to",
    "orderascending",
    "after",
    "size",
    "type",
    "subject",
    "source",
];

/// A path and its query without secrets.
pub(super) fn shown_path(uri: &Uri) -> String {
    let mut text = uri.path().to_owned();
    for (place, parameter) in
        uri.query().unwrap_or_default().split('&').filter(|it| !it.is_empty()).enumerate()
    {
        text.push(if place == 0 { '?' } else { '&' });
        let name = parameter.split('=').next().unwrap_or_default();
        if SHOWN.contains(&name.to_ascii_lowercase().as_str()) {
            text.push_str(parameter);
        } else if parameter.contains('=') {
            text.push_str(name);
            text.push_str("=***");
        } else {
            text.push_str("***");
        }
    }
    if text.len() > LONGEST_PATH {
        let end = text.floor_char_boundary(LONGEST_PATH);
        text.truncate(end);
        text.push('…');
    }
    text
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

    /// Copies of the entries that fit, oldest first.
    #[must_use]
    pub fn find(&self, filter: &Filter) -> Vec<Entry> {
        let pages = self.lock();
        // The sequence numbers have no gaps.
        let first = pages.entries.front().map_or(1, |entry| entry.sequence);
        let skip = filter.after.map_or(0, |after| after.saturating_add(1).saturating_sub(first));
        let entries = pages.entries.iter().skip(usize::try_from(skip).unwrap_or(usize::MAX));
        let fitting = entries.filter(|entry| filter.fits(entry));
        fitting.take(filter.limit.unwrap_or(usize::MAX)).cloned().collect()
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
        self.amend(sequence, |entry| entry.sent = sent);
    }

    /// Corrects an entry.
    pub(super) fn amend(&self, sequence: u64, change: impl FnOnce(&mut Entry)) {
        let mut pages = self.lock();
        let Some(first) = pages.entries.front().map(|entry| entry.sequence) else { return };
        let Some(place) = sequence.checked_sub(first).and_then(|place| usize::try_from(place).ok()) else {
            return;
        };
        if let Some(entry) = pages.entries.get_mut(place) {
            change(entry);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
