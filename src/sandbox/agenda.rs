//! What will happen by itself, and when.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tokio::sync::Notify;
use uuid::Uuid;

/// Something that happens by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Job {
    /// The malware scan of a transfer ends.
    Scan(Uuid),
    /// The checksum of a scanned transfer, which nobody gave, is computed.
    Checksum(Uuid),
    /// A resumable upload of a transfer goes on: blocks are stored, content is joined.
    Tus(Uuid),
    /// The MD5 of the content of a resumable upload is computed.
    Verify(Uuid),
    /// The time to live of a transfer is over.
    Expire(Uuid),
    /// The grace period after the last confirmation is over.
    Grace(Uuid),
    /// The content of a transfer is purged before its time.
    Purge(Uuid),
    /// An upload that was cut is committed after all.
    LateCommit(Uuid),
    /// Uploads that got stuck are looked for.
    Stuck,
}

/// Jobs in the order of their times.
#[derive(Default)]
pub(super) struct Agenda {
    jobs: Mutex<Jobs>,
    changed: Notify,
}

#[derive(Default)]
struct Jobs {
    added: u64,
    by_time: BTreeMap<(Timestamp, u64), Job>,
}

impl Agenda {
    /// Puts a job on the agenda.
    pub(super) fn add(&self, time: Timestamp, job: Job) {
        {
            let mut jobs = self.lock();
            jobs.added += 1;
            let key = (time, jobs.added);
            jobs.by_time.insert(key, job);
        }
        self.changed.notify_one();
    }

    /// Takes the jobs whose time has come.
    pub(super) fn due(&self, now: Timestamp) -> Vec<Job> {
        let mut jobs = self.lock();
        let later = jobs.by_time.split_off(&(now, u64::MAX));
        std::mem::replace(&mut jobs.by_time, later).into_values().collect()
    }

    /// The time of the next job.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.lock().by_time.keys().next().map(|(time, _)| *time)
    }

    /// Resolves when a job was added since the last call.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
