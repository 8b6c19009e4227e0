//! Desks as they lie on the disk: written behind the requests, in order, and only when they differ.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::Bytes;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::sandbox::blocking::blocking;
use crate::sandbox::draft;
use crate::sandbox::site::Site;

/// The end of the name of a record that is being written.
const DRAFT: &str = "new";

/// The records of all desks.
pub(super) struct Records {
    dir: PathBuf,
    /// What is to be written, or removed; of each transfer the newest alone.
    waiting: Mutex<BTreeMap<Uuid, Option<Bytes>>>,
    changed: Notify,
    /// One at a time, or an older state could replace a newer one.
    writing: Arc<tokio::sync::Mutex<()>>,
}

impl Records {
    /// The records in a directory.
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir, waiting: Mutex::default(), changed: Notify::new(), writing: Arc::default() }
    }

    /// Whether a file was left by a writing that did not come to its end.
    pub(super) fn is_draft(path: &Path) -> bool {
        path.extension().is_some_and(|extension| extension == DRAFT)
    }

    /// Reads a record, if there is one; blocking.
    pub(super) fn read(&self, id: Uuid) -> Option<Bytes> {
        fs::read(path(&self.dir, id)).ok().map(Bytes::from)
    }

    /// Removes a record at once; blocking, and only before anything was put.
    pub(super) fn remove(&self, id: Uuid) -> io::Result<()> {
        write(&self.dir, id, None)
    }

    /// Has a record replaced, or removed.
    pub(super) fn put(&self, id: Uuid, record: Option<Bytes>) {
        self.waiting().insert(id, record);
        self.changed.notify_one();
    }

    async fn flush(&self) {
        let writing = Arc::clone(&self.writing).lock_owned().await;
        let batch = mem::take(&mut *self.waiting());
        if batch.is_empty() {
            return;
        }
        let dir = self.dir.clone();
        let written = blocking(move || {
            // Given back by this thread, also when nobody waits for it any more.
            let _writing = writing;
            for (id, record) in batch {
                if let Err(error) = write(&dir, id, record) {
                    tracing::error!(transfer = %id, %error, "sandbox: a resumable upload could not be written down");
                }
            }
            Ok(())
        });
        if let Err(error) = written.await {
            tracing::error!(%error, "sandbox: resumable uploads could not be written down");
        }
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeMap<Uuid, Option<Bytes>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn path(dir: &Path, id: Uuid) -> PathBuf {
    dir.join(format!("{id}.json"))
}

fn write(dir: &Path, id: Uuid, record: Option<Bytes>) -> io::Result<()> {
    let path = path(dir, id);
    let Some(record) = record else {
        return match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
    };
    draft::replace(&path, |file| file.write_all(&record))
}

/// Writes what is new, until told to stop.
pub(in crate::sandbox) async fn run(site: Arc<Site>, stop: CancellationToken) {
    loop {
        flush(&site).await;
        tokio::select! {
            () = stop.cancelled() => return,
            () = site.tus.records().changed.notified() => {}
        }
    }
}

/// Writes what is not in the files yet.
pub(in crate::sandbox) async fn flush(site: &Site) {
    site.tus.records().flush().await;
}
