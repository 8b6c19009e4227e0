//! The wall around the database: ordered keys and values, changed in durable batches. Nothing outside this
//! file knows that it is sled.
//!
//! Three properties of sled 0.34 shape this file. `flush` ends in `sync_file_range`, which is no barrier, so
//! every commit also syncs the data file through a handle of our own. `flush_async` can hang, so there is one
//! thread that flushes, blocking. And damaged files can make it panic, so every call into it is guarded.
//!
//! A fourth is that it takes a log that was cut short for one that ended there. So commits are counted, in the
//! database and, afterwards and without a barrier, in a file beside it: a database that counts fewer than the file has
//! lost some, and is not used as if it had not.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{Error, disk, keys, repair};
use crate::seams::crash_point;

/// Keys with their new values; `None` removes.
pub(super) type Changes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// A key and its value.
pub(super) type Pair = (Vec<u8>, Vec<u8>);

/// sled's cache. Live records are few and small, so that it holds them all.
const CACHE_BYTES: u64 = 8 * 1024 * 1024;

/// How often, and how far apart, sled's own lock is tried: two seconds in all, where a few milliseconds were
/// seen to be needed.
const LOCK_ATTEMPTS: u32 = 400;
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// What the store needs of a database.
pub(super) trait Engine: fmt::Debug + Send + Sync {
    /// The value of a key.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error>;

    /// The first `limit` pairs whose keys begin with `prefix` and come after `after`.
    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Pair>, Error>;

    /// Makes all of the changes or none, and returns when they would survive a loss of power. After an error
    /// it is not known what the disk has.
    fn commit(&self, changes: Changes) -> Result<(), Error>;
}

/// sled in a directory of its own.
pub(super) struct SledEngine {
    db: sled::Db,
    /// Our own handle to the file that sled writes.
    data: File,
    /// How many commits there were, and the file that says so, too.
    generation: AtomicU64,
    counter: File,
    path: PathBuf,
}

/// Where commits are counted, beside the database.
pub(super) fn counter_path(database: &Path) -> PathBuf {
    database.with_file_name("changes")
}

/// The note that damage was met, beside the database.
pub(super) fn suspect_path(database: &Path) -> PathBuf {
    database.with_file_name("suspect")
}

impl fmt::Debug for SledEngine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SledEngine").field("path", &self.path).finish_non_exhaustive()
    }
}

impl SledEngine {
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        disk::create_dir(path)?;
        repair::remove_unfinished(path)?;
        repair::replace_missing(path)?;
        let config = sled::Config::new().path(path).cache_capacity(CACHE_BYTES).flush_every_ms(None);
        let db = open_db(path, &config)?;
        let data_path = path.join("db");
        let data = File::open(&data_path).map_err(|source| Error::io("open", data_path, source))?;
        data.sync_all().map_err(|source| Error::io("sync", path.join("db"), source))?;
        // sled writes its settings at the first opening, and trusts that they are on the disk.
        let settings = path.join("conf");
        let synced = File::open(&settings).and_then(|file| file.sync_all());
        synced.map_err(|source| Error::io("sync", settings, source))?;
        disk::sync_dir(path)?;
        let (generation, counter) = (AtomicU64::new(0), open_counter(path)?);
        let engine = Self { db, data, generation, counter, path: path.to_owned() };
        engine.count()?;
        repair::keep_snapshot(path)?;
        Ok(engine)
    }

    /// Calls into sled. Damage that is met is noted beside the database, so that the next start reads all of it, and
    /// repairs it if it can.
    pub(super) fn guarded<T>(&self, call: impl FnOnce() -> sled::Result<T>) -> Result<T, Error> {
        let outcome = guarded(&self.path, call);
        if matches!(outcome, Err(Error::Damaged { .. }))
            && let Err(error) = File::create(suspect_path(&self.path)).and_then(|file| file.sync_all())
        {
            tracing::warn!(%error, "cannot note that the database is damaged");
        }
        outcome
    }

    /// Compares the two counts.
    fn count(&self) -> Result<(), Error> {
        let stored = self.get(keys::GENERATION)?;
        let stored = stored.as_deref().and_then(parse_count).unwrap_or(0);
        let mut counted = [0; COUNT_DIGITS];
        // What is shorter was never written whole.
        let counted = self.counter.read_exact_at(&mut counted, 0).ok().and_then(|()| parse_count(&counted));
        if let Some(counted) = counted.filter(|counted| *counted > stored) {
            let detail = format!(
                "it has lost changes that were made durable: it holds {stored} of {counted}, so it was cut short, or an \
                 older copy was put in its place"
            );
            return Err(Error::Damaged { path: self.path.clone(), detail });
        }
        self.generation.store(stored, Ordering::SeqCst);
        Ok(())
    }

    /// Counts in the file, too. That only helps to find damage, so it may fail.
    fn write_count(&self, generation: u64) {
        let text = format!("{generation:0COUNT_DIGITS$}\n");
        if let Err(error) = self.counter.write_all_at(text.as_bytes(), 0) {
            tracing::debug!(%error, "commits cannot be counted beside the database");
        }
    }
}

/// As many as the largest number has.
const COUNT_DIGITS: usize = 20;

fn parse_count(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn open_counter(database: &Path) -> Result<File, Error> {
    let path = counter_path(database);
    File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(|source| Error::io("open", path, source))
}

/// Opens sled. Its threads let go of the file a moment after a handle was dropped, so one that was open in this
/// process just now is waited for; other processes are kept out by the directory's lock already.
fn open_db(path: &Path, config: &sled::Config) -> Result<sled::Db, Error> {
    let mut attempts = 0;
    loop {
        match guarded(path, || config.open()) {
            Err(Error::Io { source, .. }) if source.to_string().starts_with("could not acquire lock") => {
                if attempts == LOCK_ATTEMPTS {
                    return Err(Error::InUse { path: path.to_owned(), pid: None });
                }
                attempts += 1;
                std::thread::sleep(LOCK_PAUSE);
            }
            outcome => return outcome,
        }
    }
}

impl Engine for SledEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.guarded(|| Ok(self.db.get(key)?.map(|value| value.to_vec())))
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Pair>, Error> {
        use std::ops::Bound::{Excluded, Included, Unbounded};
        let start = after.map_or(Included(prefix), Excluded);
        self.guarded(|| {
            self.db
                .range::<&[u8], _>((start, Unbounded))
                .take_while(|pair| !matches!(pair, Ok((key, _)) if !key.starts_with(prefix)))
                .take(limit)
                .map(|pair| pair.map(|(key, value)| (key.to_vec(), value.to_vec())))
                .collect()
        })
    }

    fn commit(&self, changes: Changes) -> Result<(), Error> {
        let mut batch = sled::Batch::default();
        let generation = self.generation.load(Ordering::SeqCst).saturating_add(1);
        let count = generation.to_string().into_bytes();
        batch.insert(keys::GENERATION, count.clone());
        // Whoever makes changes here writes the keys of what is at work among them; an older version does not.
        batch.insert(keys::INDEXED, count);
        for (key, value) in changes {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        injected("apply", &self.path)?;
        self.guarded(|| self.db.apply_batch(batch))?;
        crash_point("store:applied");
        injected("flush", &self.path)?;
        self.guarded(|| self.db.flush().map(drop))?;
        crash_point("store:flushed");
        injected("sync", &self.path)?;
        self.data.sync_data().map_err(|source| Error::io("sync", self.path.join("db"), source))?;
        crash_point("store:synced");
        self.generation.store(generation, Ordering::SeqCst);
        self.write_count(generation);
        crash_point("store:counted");
        Ok(())
    }
}

/// Fails where a test wants it to.
fn injected(step: &str, path: &Path) -> Result<(), Error> {
    crate::seams::injected_fault(&format!("store {step}"))
        .map_err(|source| Error::io("use the database in", path, source))
}

/// Calls into sled, and makes what goes wrong there an error of ours.
fn guarded<T>(path: &Path, call: impl FnOnce() -> sled::Result<T>) -> Result<T, Error> {
    let damaged = |detail| Error::Damaged { path: path.to_owned(), detail };
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(sled::Error::Io(source))) => Err(Error::io("use the database in", path, source)),
        Ok(Err(error)) => Err(damaged(error.to_string())),
        Err(panic) => Err(damaged(message_of(panic.as_ref()).to_owned())),
    }
}

/// What a panic said.
pub(super) fn message_of(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("it panicked without a message")
}
