//! All desks, and where their blocks lie: what the Broker keeps in Redis and in its storage account.
//!
//! A desk is written down at each change, and blocks are files, so that uploads go on after a
//! restart of the sandbox; chunks that were accepted and not stored are lost with it, as they are
//! when a replica of the Broker restarts.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;
use uuid::Uuid;

use super::desk::{Block, Desk, Target};
use crate::sandbox::broker::depot::Depot;
use crate::sandbox::broker::transfer::Status;
use crate::sandbox::site::Site;

/// The resumable uploads of all transfers.
pub(in crate::sandbox) struct Desks {
    dir: PathBuf,
    of_transfers: Mutex<HashMap<Uuid, Desk>>,
    locked: Mutex<HashSet<(Uuid, Target)>>,
    dice: Mutex<fastrand::Rng>,
    /// Told when blocks were stored.
    stored: Notify,
}

impl Desks {
    /// Reads what a former sandbox left, and removes what nobody needs any more.
    pub(in crate::sandbox) fn open(dir: &Path, depot: &Depot, seed: Option<u64>) -> io::Result<Self> {
        let dir = dir.join("tus");
        fs::create_dir_all(&dir)?;
        let dice = seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed);
        let store = Self {
            dir,
            of_transfers: Mutex::default(),
            locked: Mutex::default(),
            dice: Mutex::new(dice),
            stored: Notify::new(),
        };
        for entry in fs::read_dir(&store.dir)? {
            let name = entry?.file_name();
            let Some(id) = name.to_str().and_then(|name| name.split('.').next()?.parse::<Uuid>().ok()) else {
                continue;
            };
            let over = depot.read(id, |transfer| is_over(transfer.status())).unwrap_or(true);
            if over {
                store.remove_files(id)?;
            } else if !store.lock().contains_key(&id) {
                let desk = store.read(id)?;
                if desk.is_empty() {
                    store.remove_files(id)?;
                } else {
                    store.lock().insert(id, desk);
                }
            }
        }
        Ok(store)
    }

    /// A desk as it lies on the disk.
    fn read(&self, id: Uuid) -> io::Result<Desk> {
        // What cannot be read was cut short by a kill: the upload is forgotten.
        let written = fs::read(self.record(id)).ok();
        let mut desk: Desk = written.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        let entries = match fs::read_dir(self.blocks(id)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(desk),
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
        Ok(desk)
    }

    fn record(&self, id: Uuid) -> PathBuf {
        self.dir.join(format!("{id}.json"))
    }

    /// Where the blocks and the arriving chunks of a transfer lie.
    pub(super) fn blocks(&self, id: Uuid) -> PathBuf {
        self.dir.join(id.to_string())
    }

    /// Removes all files of a transfer's uploads; blocking.
    pub(super) fn remove_files(&self, id: Uuid) -> io::Result<()> {
        gone(fs::remove_dir_all(self.blocks(id)))?;
        self.forget(id)
    }

    fn forget(&self, id: Uuid) -> io::Result<()> {
        gone(fs::remove_file(self.record(id)))
    }

    /// Looks at a desk; one that does not exist looks empty.
    pub(super) fn look<R>(&self, id: Uuid, now: Timestamp, look: impl FnOnce(&Desk) -> R) -> R {
        let mut desks = self.lock();
        match desks.get_mut(&id) {
            Some(desk) => {
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
        let desk = desks.entry(id).or_default();
        desk.forget_expired(now);
        let result = act(desk);
        let written = if desk.is_empty() {
            desks.remove(&id);
            self.forget(id)
        } else {
            self.write(id, desk)
        };
        if let Err(error) = written {
            tracing::error!(transfer = %id, %error, "sandbox: a resumable upload could not be written down");
        }
        result
    }

    /// Changes what is not written down: what waits, and what is under way. `None` without a desk.
    pub(super) fn steer<R>(&self, id: Uuid, act: impl FnOnce(&mut Desk) -> R) -> Option<R> {
        self.lock().get_mut(&id).map(act)
    }

    fn write(&self, id: Uuid, desk: &Desk) -> io::Result<()> {
        let draft = self.dir.join(format!("{id}.new"));
        fs::write(&draft, serde_json::to_vec(desk)?)?;
        fs::rename(&draft, self.record(id))
    }

    /// Forgets who took part in uploads that are over, once they may not come back.
    pub(in crate::sandbox) fn prune(&self, now: Timestamp) {
        let mut desks = self.lock();
        desks.retain(|id, desk| {
            desk.forget_expired(now);
            let empty = desk.is_empty();
            if empty && let Err(error) = self.forget(*id) {
                tracing::warn!(transfer = %id, %error, "sandbox: the record of an upload could not be removed");
            }
            !empty
        });
    }

    /// Whether a transfer has a desk.
    pub(super) fn knows(&self, id: Uuid) -> bool {
        self.lock().contains_key(&id)
    }

    /// All transfers with a desk.
    pub(super) fn ids(&self) -> Vec<Uuid> {
        self.lock().keys().copied().collect()
    }

    /// The transfer that a partial upload belongs to.
    pub(super) fn owner(&self, partial: &str) -> Option<Uuid> {
        let desks = self.lock();
        desks.iter().find(|(_, desk)| desk.partials.contains_key(partial)).map(|(id, _)| *id)
    }

    /// Whether something with that probability happens.
    pub(super) fn roll(&self, probability: f64) -> bool {
        self.dice.lock().unwrap_or_else(PoisonError::into_inner).f64() < probability
    }

    /// Resolves when blocks are stored after this call.
    pub(super) fn stored(&self) -> tokio::sync::futures::Notified<'_> {
        self.stored.notified()
    }

    /// Says that blocks were stored.
    pub(super) fn tell_stored(&self) {
        self.stored.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Desk>> {
        self.of_transfers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn locked(&self) -> MutexGuard<'_, HashSet<(Uuid, Target)>> {
        self.locked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is gone already is as good as removed.
fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
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
