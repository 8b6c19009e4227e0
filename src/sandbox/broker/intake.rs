//! The bytes of an upload on their way into a file.
//!
//! Blocks are gathered while those before them are hashed and written on a thread that may block, up
//! to a bound, so that memory does not grow with the file. Nobody waits on such a thread for a client:
//! there is a limited number of them, and a client may take as long as it likes.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::Bytes;
use futures_util::{FutureExt, Stream, StreamExt as _};
use md5::{Digest as _, Md5};
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::depot::remove_blob;
use super::transfer::Transfer;
use super::upload::{cut, hex};
use crate::sandbox::Keep;
use crate::sandbox::blocking::start_blocking;
use crate::sandbox::site::{Note, Site};

/// So many bytes are gathered while others are written; then the client waits.
const BATCH: usize = 1024 * 1024;

/// What has come in of one attempt. Its file, if there is one, goes with it unless it is kept.
pub(super) struct Attempt {
    /// The name of the blob that it becomes.
    pub(super) name: String,
    /// Nothing when content is not kept.
    pub(super) path: Option<PathBuf>,
    /// How many bytes it has.
    pub(super) size: u64,
    /// Nothing when it is not computed.
    pub(super) md5: Option<String>,
    /// Whether the file stays.
    pub(super) kept: bool,
}

impl Attempt {
    /// Of nothing yet; `id` is part of its name.
    pub(super) fn new(site: &Site, id: Uuid) -> Self {
        let name = format!("{id}-{}", Uuid::new_v4().simple());
        let path = (site.settings.keep == Keep::Content).then(|| site.depot.blob(&name));
        Self { name, path, size: 0, md5: None, kept: false }
    }

    /// The MD5, which is taken as true where it was given and nobody computes it.
    pub(super) fn md5_for(&self, transfer: &Transfer) -> Option<String> {
        self.md5.clone().or_else(|| transfer.demanded_checksum.clone())
    }

    /// Becomes the content of a transfer.
    pub(super) fn become_content(&mut self, transfer: &mut Transfer) {
        self.kept = true;
        transfer.blob = self.path.is_some().then(|| self.name.clone());
        transfer.discarded = self.path.is_none();
        transfer.stored = true;
        transfer.size = self.size;
        transfer.md5 = self.md5_for(transfer);
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if let Some(path) = self.path.as_ref().filter(|_| !self.kept) {
            remove_blob(path);
        }
    }
}

/// How the taking of bytes ended.
pub(super) enum Received<E> {
    /// With the stream.
    Whole(Attempt),
    /// The stream broke off with this error.
    Cut(E),
    /// The bytes could not be written.
    StorageFailed,
}

/// An attempt under way. Dropped before its end it was cut, wherever that happens: the request may be
/// gone already.
struct Intake {
    site: Arc<Site>,
    id: Uuid,
    attempt: Option<Attempt>,
    file: Option<File>,
    /// Nothing when no hash is wanted.
    hash: Option<Md5>,
    gathered: Gathered,
}

/// Blocks that have come in and are not written.
type Gathered = Arc<Mutex<Vec<Bytes>>>;

impl Intake {
    fn new(site: &Arc<Site>, id: Uuid) -> Self {
        let hash = (site.settings.keep != Keep::Size).then(Md5::new);
        Self {
            site: Arc::clone(site),
            id,
            attempt: Some(Attempt::new(site, id)),
            file: None,
            hash,
            gathered: Gathered::default(),
        }
    }

    fn count(&mut self, bytes: usize) {
        if let Some(attempt) = &mut self.attempt {
            attempt.size += bytes as u64;
        }
    }

    /// Hashes and writes what was gathered; the first time it makes the file.
    fn write(mut self) -> io::Result<Self> {
        let written = self.store();
        if written.is_err() {
            // It was not cut.
            self.attempt = None;
        }
        written.map(|()| self)
    }

    fn store(&mut self) -> io::Result<()> {
        let path = self.attempt.as_ref().and_then(|attempt| attempt.path.as_ref());
        if let (None, Some(path)) = (&self.file, path) {
            self.file = Some(File::create(path)?);
        }
        let gathered = std::mem::take(&mut *lock(&self.gathered));
        for block in gathered {
            if let Some(hash) = &mut self.hash {
                hash.update(&block);
            }
            if let Some(file) = &mut self.file {
                file.write_all(&block)?;
            }
            self.count(block.len());
        }
        Ok(())
    }

    /// All of it is there.
    fn finish(&mut self) -> Option<Attempt> {
        let mut attempt = self.attempt.take()?;
        attempt.md5 = self.hash.take().map(|hash| hex(&hash.finalize()));
        Some(attempt)
    }
}

impl Drop for Intake {
    fn drop(&mut self) {
        if self.attempt.is_some()
            && let Err(error) = self.store()
        {
            tracing::warn!(transfer = %self.id, %error, "sandbox: the end of a cut upload could not be stored");
        }
        if let Some(attempt) = self.finish() {
            cut(&self.site, self.id, attempt);
        }
    }
}

/// Takes bytes into a file of their own; `id` is part of its name.
pub(super) async fn receive<E>(
    site: &Arc<Site>,
    id: Uuid,
    body: impl Stream<Item = Result<Bytes, E>> + Unpin,
    note: &mut Note,
) -> Received<E> {
    let intake = Intake::new(site, id);
    let received = if site.settings.keep == Keep::Size {
        count(intake, body, note).await
    } else {
        write(intake, body, note).await
    };
    received.unwrap_or_else(|error| {
        tracing::error!(transfer = %id, %error, "sandbox: an upload could not be stored");
        Received::StorageFailed
    })
}

async fn count<E>(
    mut intake: Intake,
    mut body: impl Stream<Item = Result<Bytes, E>> + Unpin,
    note: &mut Note,
) -> io::Result<Received<E>> {
    while let Some(block) = body.next().await {
        match block {
            Ok(block) => {
                note.entry.received += block.len() as u64;
                intake.count(block.len());
            }
            Err(error) => return Ok(Received::Cut(error)),
        }
    }
    whole(intake)
}

async fn write<E>(
    intake: Intake,
    mut body: impl Stream<Item = Result<Bytes, E>> + Unpin,
    note: &mut Note,
) -> io::Result<Received<E>> {
    let gathered = Arc::clone(&intake.gathered);
    let mut writing = Writing::start(intake);
    let mut unwritten = 0;
    let error = loop {
        let block = tokio::select! {
            biased;
            block = body.next() => block,
            intake = writing.end(), if unwritten > 0 => {
                writing = Writing::start(intake?);
                unwritten = 0;
                continue;
            }
        };
        let block = match block {
            Some(Ok(block)) => block,
            Some(Err(error)) => break Some(error),
            None => break None,
        };
        note.entry.received += block.len() as u64;
        unwritten += block.len();
        lock(&gathered).push(block);
        if unwritten >= BATCH {
            writing = Writing::start(writing.end().await?);
            unwritten = 0;
        }
    };
    let intake = Writing::start(writing.end().await?).end().await?;
    match error {
        Some(error) => {
            start_blocking(move || drop(intake)).await.map_err(io::Error::other)?;
            Ok(Received::Cut(error))
        }
        None => whole(intake),
    }
}

fn lock(gathered: &Gathered) -> MutexGuard<'_, Vec<Bytes>> {
    gathered.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An intake on a thread that may block.
struct Writing(Option<JoinHandle<io::Result<Intake>>>);

impl Writing {
    fn start(intake: Intake) -> Self {
        Self(Some(start_blocking(move || intake.write())))
    }

    /// Resolves when what was gathered is written. It is awaited to its end once.
    async fn end(&mut self) -> io::Result<Intake> {
        let Some(handle) = &mut self.0 else { return Err(io::ErrorKind::Unsupported.into()) };
        let ended = handle.await;
        self.0 = None;
        ended.map_err(io::Error::other)?
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        // The request is gone, and nobody can wait: the file must not be removed on this thread.
        let ended = self.0.take().and_then(FutureExt::now_or_never);
        if let Some(Ok(Ok(intake))) = ended
            && tokio::runtime::Handle::try_current().is_ok()
        {
            start_blocking(move || drop(intake));
        }
    }
}

fn whole<E>(mut intake: Intake) -> io::Result<Received<E>> {
    intake.finish().map(Received::Whole).ok_or_else(|| io::ErrorKind::Unsupported.into())
}
