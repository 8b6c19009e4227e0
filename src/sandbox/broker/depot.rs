//! Transfers and blobs: the Broker's database and its storage account.
//!
//! Transfers live in memory; each change is appended to a journal of JSON lines before the lock is
//! given back, so whatever a client was told is found again after a restart. There is no fsync:
//! the sandbox need not survive a power cut.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

use super::intake::Attempt;
use super::transfer::Transfer;
use crate::sandbox::draft;

/// All transfers, and where their content lies.
pub(in crate::sandbox) struct Depot {
    blobs: PathBuf,
    shelves: Mutex<Shelves>,
    /// Uploads that were cut and are committed later, oldest first.
    aside: Mutex<Vec<(Uuid, Attempt)>>,
}

struct Shelves {
    journal: File,
    transfers: HashMap<Uuid, Transfer>,
    /// In order of creation; keyed by the sender *as sent*, so that a sender in URN form is not
    /// found by its number, as in the Broker.
    by_party: HashMap<(String, String), Vec<Uuid>>,
}

impl Depot {
    /// Reads what a former sandbox left in `dir`, drops the history of the journal, and forgets
    /// partial blobs.
    pub(in crate::sandbox) fn open(dir: &Path) -> io::Result<Self> {
        let blobs = dir.join("blobs");
        fs::create_dir_all(&blobs)?;
        let path = dir.join("transfers.jsonl");
        let (transfers, order) = read_journal(&path)?;
        let mut by_party = HashMap::new();
        draft::replace(&path, |out| {
            for transfer in order.iter().filter_map(|id| transfers.get(id)) {
                serde_json::to_writer(&mut *out, transfer)?;
                out.write_all(b"\n")?;
                index(&mut by_party, transfer);
            }
            Ok(())
        })?;
        let journal = OpenOptions::new().append(true).open(&path)?;
        remove_orphans(&blobs, &transfers)?;
        let shelves = Mutex::new(Shelves { journal, transfers, by_party });
        Ok(Self { blobs, shelves, aside: Mutex::default() })
    }

    /// The file of a blob.
    pub(in crate::sandbox) fn blob(&self, name: &str) -> PathBuf {
        self.blobs.join(name)
    }

    /// Adds a transfer.
    pub(in crate::sandbox) fn insert(&self, transfer: Transfer) {
        let mut shelves = self.lock();
        write_line(&mut shelves.journal, &transfer);
        index(&mut shelves.by_party, &transfer);
        shelves.transfers.insert(transfer.id, transfer);
    }

    /// Looks at a transfer.
    pub(in crate::sandbox) fn read<R>(&self, id: Uuid, look: impl FnOnce(&Transfer) -> R) -> Option<R> {
        self.lock().transfers.get(&id).map(look)
    }

    /// Changes a transfer; what is decided inside is decided under the lock.
    ///
    /// The line is handed to the kernel before the lock is given back, and so before the client is told: a queue
    /// would break that for a sandbox that is killed. It is a write of some hundred bytes to the page cache.
    pub(in crate::sandbox) fn change<R>(&self, id: Uuid, act: impl FnOnce(&mut Transfer) -> R) -> Option<R> {
        let mut shelves = self.lock();
        let Shelves { journal, transfers, by_party } = &mut *shelves;
        let transfer = transfers.get_mut(&id)?;
        let before = transfer.clone();
        let result = act(transfer);
        if *transfer != before {
            if transfer.recipients != before.recipients {
                index(by_party, transfer);
            }
            write_line(journal, transfer);
        }
        Some(result)
    }

    /// Collects from the transfers of a party (`0192:…`) on a resource, in order of creation.
    pub(in crate::sandbox) fn of_party<R>(
        &self,
        resource: &str,
        party: &str,
        pick: impl FnMut(&Transfer) -> Option<R>,
    ) -> Vec<R> {
        let shelves = self.lock();
        let key = (resource.to_owned(), party.to_owned());
        let ids = shelves.by_party.get(&key).map(Vec::as_slice).unwrap_or_default();
        ids.iter().filter_map(|id| shelves.transfers.get(id)).filter_map(pick).collect()
    }

    /// Collects from all transfers, in order of creation.
    pub(in crate::sandbox) fn all<R>(&self, pick: impl FnMut(&Transfer) -> Option<R>) -> Vec<R> {
        let shelves = self.lock();
        let mut transfers: Vec<&Transfer> = shelves.transfers.values().collect();
        transfers.sort_by_key(|transfer| (transfer.created, transfer.id));
        transfers.into_iter().filter_map(pick).collect()
    }

    /// Keeps what came of an upload that was cut.
    pub(super) fn set_aside(&self, id: Uuid, attempt: Attempt) {
        self.aside.lock().unwrap_or_else(PoisonError::into_inner).push((id, attempt));
    }

    /// Takes the oldest of a transfer again.
    pub(super) fn take_aside(&self, id: Uuid) -> Option<Attempt> {
        let mut aside = self.aside.lock().unwrap_or_else(PoisonError::into_inner);
        let place = aside.iter().position(|(other, _)| *other == id)?;
        Some(aside.remove(place).1)
    }

    fn lock(&self) -> MutexGuard<'_, Shelves> {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes a blob; one that is gone already is as good.
pub(in crate::sandbox) fn remove_blob(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "sandbox: a blob could not be removed");
    }
}

fn index(by_party: &mut HashMap<(String, String), Vec<Uuid>>, transfer: &Transfer) {
    let parties = transfer.recipient_organizations().into_iter().chain([transfer.sender.as_str()]);
    for party in parties {
        let ids = by_party.entry((transfer.resource.clone(), party.to_owned())).or_default();
        if !ids.iter().rev().any(|id| *id == transfer.id) {
            ids.push(transfer.id);
        }
    }
}

fn write_line(journal: &mut File, transfer: &Transfer) {
    let written = serde_json::to_vec(transfer).map_err(io::Error::other).and_then(|mut line| {
        line.push(b'\n');
        journal.write_all(&line)
    });
    if let Err(error) = written {
        tracing::error!(transfer = %transfer.id, %error, "sandbox: a change could not be written to the journal");
    }
}

/// The last line of each transfer, and the order in which they first appear.
fn read_journal(path: &Path) -> io::Result<(HashMap<Uuid, Transfer>, Vec<Uuid>)> {
    let mut transfers = HashMap::new();
    let mut order = Vec::new();
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((transfers, order)),
        Err(error) => return Err(error),
    };
    for line in BufReader::new(file).split(b'\n') {
        // A line that a kill cut short is the last one, and nobody was told of it.
        let Ok(transfer) = serde_json::from_slice::<Transfer>(&line?) else { continue };
        let id = transfer.id;
        if transfers.insert(id, transfer).is_none() {
            order.push(id);
        }
    }
    Ok((transfers, order))
}

fn remove_orphans(blobs: &Path, transfers: &HashMap<Uuid, Transfer>) -> io::Result<()> {
    let known: std::collections::HashSet<&str> =
        transfers.values().filter_map(|transfer| transfer.blob.as_deref()).collect();
    for entry in fs::read_dir(blobs)? {
        let entry = entry?;
        if !entry.file_name().to_str().is_some_and(|name| known.contains(name)) {
            remove_blob(&entry.path());
        }
    }
    Ok(())
}
