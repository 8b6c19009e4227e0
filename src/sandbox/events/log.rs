//! The events that were registered, in their sequence, for ninety days.
//!
//! They live in memory, the newest of them at least, and are appended to a file of JSON lines by
//! `keeping.rs`.

use std::collections::{HashMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use super::event::{Event, Stored};
use crate::sandbox::draft;

/// How long an event can be pulled, until the next nightly job.
pub(super) const KEPT_FOR: Duration = Duration::from_hours(90 * 24);
/// The newest events are kept, so that a sandbox that runs for weeks does not fill the memory.
const KEPT: usize = 500_000;

/// Registered events, oldest first.
#[derive(Debug, Default)]
pub(super) struct Log {
    events: VecDeque<Arc<Event>>,
    /// The sequence number of the first event in `events`; the others follow without a gap.
    first: u64,
    sequence_of: HashMap<Uuid, u64>,
    /// Everything below it is in the file.
    written: u64,
}

impl Log {
    /// Reads what a former sandbox registered.
    pub(super) fn read(path: &Path) -> io::Result<Self> {
        // 0 is what an unknown event counts as, so the first one has 1.
        let mut log = Self { first: 1, ..Self::default() };
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(log),
            Err(error) => return Err(error),
        };
        for line in BufReader::new(file).split(b'\n') {
            // A line that a kill cut short is not complete.
            let Ok(stored) = serde_json::from_slice::<Stored>(&line?) else { continue };
            if let Some(event) = stored.event() {
                log.register(&Arc::new(event));
            }
        }
        log.written = log.next();
        Ok(log)
    }

    /// Registers an event; one with a known id is not registered again.
    pub(super) fn register(&mut self, event: &Arc<Event>) {
        let sequence = self.next();
        if self.sequence_of.contains_key(&event.id) {
            return;
        }
        self.sequence_of.insert(event.id, sequence);
        self.events.push_back(Arc::clone(event));
        if self.events.len() > KEPT {
            self.forget_first();
        }
    }

    /// All events, oldest first.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Event>> {
        self.events.iter()
    }

    /// The events after the one with that id, or all when there is none such, oldest first.
    pub(super) fn after(&self, id: Option<Uuid>) -> impl Iterator<Item = &Arc<Event>> {
        let sequence = id.and_then(|id| self.sequence_of.get(&id)).copied().unwrap_or(0);
        let skipped = (sequence + 1).saturating_sub(self.first);
        self.events.iter().skip(usize::try_from(skipped).unwrap_or(usize::MAX))
    }

    /// Forgets what was registered before `limit`, and tells whether there was any.
    pub(super) fn forget_old(&mut self, limit: Timestamp) -> bool {
        let before = self.events.len();
        while self.events.front().is_some_and(|event| event.time < limit) {
            self.forget_first();
        }
        self.events.len() < before
    }

    /// Takes the events that are not in the file yet, with what to tell if they cannot be written.
    pub(super) fn unwritten(&mut self) -> (Vec<Arc<Event>>, u64) {
        let before = self.written;
        let skipped = usize::try_from(before.saturating_sub(self.first)).unwrap_or(usize::MAX);
        self.written = self.next();
        (self.events.iter().skip(skipped).cloned().collect(), before)
    }

    /// Takes all events, to write the file anew, with what to tell if that cannot be.
    pub(super) fn everything(&mut self) -> (Vec<Arc<Event>>, u64) {
        let before = self.written;
        self.written = self.next();
        (self.events.iter().cloned().collect(), before)
    }

    /// What was taken could not be written.
    pub(super) fn not_written(&mut self, before: u64) {
        self.written = self.written.min(before);
    }

    fn next(&self) -> u64 {
        self.first + self.events.len() as u64
    }

    fn forget_first(&mut self) {
        if let Some(event) = self.events.pop_front() {
            self.sequence_of.remove(&event.id);
            self.first += 1;
        }
    }
}

/// Appends events to the file.
pub(super) fn append(path: &Path, events: &[Arc<Event>]) -> io::Result<()> {
    // The line before it may have been cut short.
    let mut text = vec![b'\n'];
    write_lines(&mut text, events)?;
    OpenOptions::new().create(true).append(true).open(path)?.write_all(&text)
}

/// Replaces the file.
pub(super) fn rewrite(path: &Path, events: &[Arc<Event>]) -> io::Result<()> {
    draft::replace(path, |file| write_lines(file, events))
}

fn write_lines(out: &mut impl io::Write, events: &[Arc<Event>]) -> io::Result<()> {
    for event in events {
        serde_json::to_writer(&mut *out, &**event)?;
        out.write_all(b"\n")?;
    }
    Ok(())
}
