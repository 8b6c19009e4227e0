//! The bytes of an upload on their way into a file.
//!
//! Blocks are gathered while those before them are hashed and written on a thread that may block, up
//! to a bound, so that memory does not grow with the file. Nobody waits on such a thread for a client:
//! there is a limited number of them, and a client may take as long as it likes.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::Arc;

use axum::body::Bytes;
use futures_util::{Stream, StreamExt as _};
use md5::{Digest as _, Md5};
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::depot::remove_blob;
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
}

impl Intake {
    fn new(site: &Arc<Site>, id: Uuid) -> Self {
        let keep = site.settings.keep;
        let name = format!("{id}-{}", Uuid::new_v4().simple());
        let path = (keep == Keep::Content).then(|| site.depot.blob(&name));
        let attempt = Attempt { name, path, size: 0, md5: None, kept: false };
        let hash = (keep != Keep::Size).then(Md5::new);
        Self { site: Arc::clone(site), id, attempt: Some(attempt), file: None, hash }
    }

    fn count(&mut self, bytes: usize) {
        if let Some(attempt) = &mut self.attempt {
            attempt.size += bytes as u64;
        }
    }

    /// Hashes and writes blocks; the first time it makes the file.
    fn write(mut self, blocks: &[Bytes]) -> io::Result<Self> {
        let written = self.store(blocks);
        if written.is_err() {
            // It was not cut.
            self.attempt = None;
        }
        written.map(|()| self)
    }

    fn store(&mut self, blocks: &[Bytes]) -> io::Result<()> {
        let path = self.attempt.as_ref().and_then(|attempt| attempt.path.as_ref());
        if let (None, Some(path)) = (&self.file, path) {
            self.file = Some(File::create(path)?);
        }
        for block in blocks {
            if let Some(hash) = &mut self.hash {
                hash.update(block);
            }
            if let Some(file) = &mut self.file {
                file.write_all(block)?;
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
    let mut writing = start(intake, Vec::new());
    let (mut blocks, mut gathered) = (Vec::new(), 0);
    let mut error = None;
    while let Some(block) = body.next().await {
        let block = match block {
            Ok(block) => block,
            Err(broken) => {
                error = Some(broken);
                break;
            }
        };
        note.entry.received += block.len() as u64;
        gathered += block.len();
        blocks.push(block);
        if gathered >= BATCH || writing.is_finished() {
            let intake = writing.await.map_err(io::Error::other)??;
            writing = start(intake, std::mem::take(&mut blocks));
            gathered = 0;
        }
    }
    let intake = writing.await.map_err(io::Error::other)??;
    let intake = start(intake, blocks).await.map_err(io::Error::other)??;
    match error {
        Some(error) => Ok(Received::Cut(error)),
        None => whole(intake),
    }
}

fn start(intake: Intake, blocks: Vec<Bytes>) -> JoinHandle<io::Result<Intake>> {
    start_blocking(move || intake.write(&blocks))
}

fn whole<E>(mut intake: Intake) -> io::Result<Received<E>> {
    intake.finish().map(Received::Whole).ok_or_else(|| io::ErrorKind::Unsupported.into())
}
