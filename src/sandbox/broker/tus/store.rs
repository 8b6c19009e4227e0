//! All desks, and where their blocks lie: what the Broker keeps in Redis and in its storage account.
//!
//! A desk is written down when it has changed, and blocks are files, so that uploads go on after a
//! restart of the sandbox; chunks that were accepted and not stored are lost with it, as they are
//! when a replica of the Broker restarts.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use jiff::Timestamp;
use tokio::sync::Notify;
use uuid::Uuid;

use super::desk::{Block, Desk, Target};
use super::records::Records;
use crate::sandbox::broker::depot::Depot;
use crate::sandbox::broker::transfer::{Status, Transfer};
use crate::sandbox::site::Site;

/// A desk, and what was last written down of it.
#[derive(Default)]
struct Shelf {
    desk: Desk,
    record: Option<Bytes>,
}

/// The resumable uploads of all transfers.
pub(in crate::sandbox) struct Desks {
    dir: PathBuf,
    records: Records,
    of_transfers: Mutex<HashMap<Uuid, Shelf>>,
    locked: Mutex<HashSet<(Uuid, Target)>>,
    dice: Mutex<fastrand::Rng>,
    /// Told when blocks were stored.
    stored: Notify,
    /// Chunks are stored in the order in which they were accepted.
    storing: tokio::sync::Mutex<()>,
}

impl Desks {
    /// Reads what a former sandbox left, and removes what nobody needs any more.
    pub(in crate::sandbox) fn open(dir: &Path, depot: &Depot, seed: Option<u64>) -> io::Result<Self> {
        let dir = dir.join("tus");
        fs::create_dir_all(&dir)?;
        let dice = seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed);
        let store = Self {
            records: Records::new(dir.clone()),
            dir,
            of_transfers: Mutex::default(),
            locked: Mutex::default(),
            dice: Mutex::new(dice),
            stored: Notify::new(),
            storing: tokio::sync::Mutex::default(),
        };
        for entry in fs::read_dir(&store.dir)? {
            let entry = entry?;
            if Records::is_draft(&entry.path()) {
                fs::remove_file(entry.path())?;
                continue;
            }
            let name = entry.file_name();
            let Some(id) = name.to_str().and_then(|name| name.split('.').next()?.parse::<Uuid>().ok()) else {
                continue;
            };
            if store.lock().contains_key(&id) {
                continue;
            }
            let status = depot.read(id, Transfer::status);
            if status.is_none_or(is_over) {
                store.remove_blocks(id)?;
            }
            let mut shelf = store.read(id)?;
            if status.is_some_and(is_over) {
                shelf.desk.close();
            }
            if status.is_none() || shelf.desk.is_empty() {
                store.remove_blocks(id)?;
                store.records.remove(id)?;
            } else {
                store.lock().insert(id, shelf);
            }
        }
        Ok(store)
    }

    /// A desk as it lies on the disk.
    fn read(&self, id: Uuid) -> io::Result<Shelf> {
        let record = self.records.read(id);
        // What cannot be read was spoilt: the upload is forgotten.
        let read = record.as_ref().and_then(|record| serde_json::from_slice(record).ok());
        let mut desk: Desk = read.unwrap_or_default();
        let entries = match fs::read_dir(self.blocks(id)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Shelf { desk, record }),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            match entry.file_name().to_str().and_then(Block::parse) {
                Some(block) => {
                    desk.blocks.insert(block, entry.metadata()?.len());
                }
                None => fs::remove_file(entry.path())?,
            }
        }
        Ok(Shelf { desk, record })
    }

    /// Where the blocks and the arriving chunks of a transfer lie.
    pub(super) fn blocks(&self, id: Uuid) -> PathBuf {
        self.dir.join(id.to_string())
    }

    /// Removes the blocks of a transfer, and what arrives; blocking.
    pub(super) fn remove_blocks(&self, id: Uuid) -> io::Result<()> {
        match fs::remove_dir_all(self.blocks(id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Looks at a desk; one that does not exist looks empty.
    pub(super) fn look<R>(&self, id: Uuid, now: Timestamp, look: impl FnOnce(&Desk) -> R) -> R {
        let mut desks = self.lock();
        match desks.get_mut(&id) {
            Some(Shelf { desk, .. }) => {
                desk.forget_expired(now);
                look(desk)
            }
            None => look(&Desk::default()),
        }
    }

    /// Whether a client has shown signs of life in the time before `now`.
    pub(in crate::sandbox) fn is_active(&self, id: Uuid, now: Timestamp, within: Duration) -> bool {
        self.look(id, now, |desk| desk.was_active(now, within))
    }

    /// Changes a desk; what is decided inside is decided under the lock.
    pub(super) fn change<R>(&self, id: Uuid, now: Timestamp, act: impl FnOnce(&mut Desk) -> R) -> R {
        let mut desks = self.lock();
        let Shelf { desk, record } = desks.entry(id).or_default();
        desk.forget_expired(now);
        let result = act(desk);
        if desk.is_empty() {
            if record.is_some() {
                self.records.put(id, None);
            }
            desks.remove(&id);
            return result;
        }
        match serde_json::to_vec(desk) {
            Ok(changed) if record.as_deref() != Some(changed.as_slice()) => {
                let changed = Bytes::from(changed);
                *record = Some(changed.clone());
                self.records.put(id, Some(changed));
            }
            Ok(_) => {}
            Err(error) => {
                tracing::error!(transfer = %id, %error, "sandbox: a resumable upload could not be written down");
            }
        }
        result
    }

    /// Changes what is not written down: what waits, and what is under way. `None` without a desk.
    pub(super) fn steer<R>(&self, id: Uuid, act: impl FnOnce(&mut Desk) -> R) -> Option<R> {
        self.lock().get_mut(&id).map(|shelf| act(&mut shelf.desk))
    }

    /// Forgets who took part in uploads that are over, once they may not come back.
    pub(in crate::sandbox) fn prune(&self, now: Timestamp) {
        self.lock().retain(|id, Shelf { desk, record }| {
            desk.forget_expired(now);
            let empty = desk.is_empty();
            if empty && record.is_some() {
                self.records.put(*id, None);
            }
            !empty
        });
    }

    /// All transfers with a desk.
    pub(super) fn ids(&self) -> Vec<Uuid> {
        self.lock().keys().copied().collect()
    }

    /// The transfer that a partial upload belongs to; `likely` is looked at first.
    pub(super) fn owner(&self, likely: Uuid, partial: &str) -> Option<Uuid> {
        let desks = self.lock();
        let has_it = |shelf: &Shelf| shelf.desk.partials.contains_key(partial);
        if desks.get(&likely).is_some_and(has_it) {
            return Some(likely);
        }
        desks.iter().find(|(_, shelf)| has_it(shelf)).map(|(id, _)| *id)
    }

    /// What is written down.
    pub(super) fn records(&self) -> &Records {
        &self.records
    }

    /// Whether something with that probability happens.
    pub(super) fn roll(&self, probability: f64) -> bool {
        self.dice.lock().unwrap_or_else(PoisonError::into_inner).f64() < probability
    }

    /// Resolves when nobody else stores chunks, and keeps it so.
    pub(super) async fn storing(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.storing.lock().await
    }

    /// Resolves when blocks are stored after this call.
    pub(super) fn stored(&self) -> tokio::sync::futures::Notified<'_> {
        self.stored.notified()
    }

    /// Says that blocks were stored.
    pub(super) fn tell_stored(&self) {
        self.stored.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Shelf>> {
        self.of_transfers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn locked(&self) -> MutexGuard<'_, HashSet<(Uuid, Target)>> {
        self.locked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether nothing can be uploaded to the transfer any more.
pub(super) fn is_over(status: Status) -> bool {
    matches!(status, Status::Failed | Status::Purged)
}

/// The right to be the only request to an upload; given back when it is dropped.
pub(super) struct Lock {
    site: Arc<Site>,
    key: (Uuid, Target),
}

impl Lock {
    /// Takes the upload, unless another request has it.
    pub(super) fn take(site: &Arc<Site>, id: Uuid, target: &Target) -> Option<Self> {
        let key = (id, target.clone());
        site.tus.locked().insert(key.clone()).then(|| Self { site: Arc::clone(site), key })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.site.tus.locked().remove(&self.key);
    }
}
