//! A file on its way to Altinn, whole or in chunks: read in blocks while it is sent, so that memory does not grow with
//! it, and compared with what it was, so that nothing is sent of two kinds. Where the end of the file is sent, its last
//! block is held back until it is durable that it may leave.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, stream};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Route;
use super::folders::{FILE, Folders};
use crate::files::{self, Entry};
use crate::route::Trouble;
use crate::seams::{self, crash_point};
use crate::transfer::{FileIdentity, LastByte, Outgoing, OutgoingEvent, Transfer, TransferId, Work};

/// Blocks that wait for the network; with the one being read and the one being sent, a file takes a megabyte.
const BLOCKS_WAITING: usize = 2;

/// A stretch of a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stretch {
    /// Its first byte.
    pub(super) from: u64,
    /// Its bytes.
    pub(super) size: u64,
    /// Whether its last byte is the one after which Altinn may have the file whole.
    pub(super) ends_file: bool,
}

/// What of a stretch was given away, and when.
#[derive(Debug)]
pub(super) struct Handed {
    bytes: AtomicU64,
    begun: Instant,
    last: Mutex<Instant>,
}

impl Default for Handed {
    fn default() -> Self {
        let now = Instant::now();
        Self { bytes: AtomicU64::new(0), begun: now, last: Mutex::new(now) }
    }
}

impl Handed {
    /// Bytes that were given away.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// How long it took to give them away, and how long ago the last was.
    pub(super) fn times(&self) -> (Duration, Duration) {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        (last.duration_since(self.begun), last.elapsed())
    }

    fn add(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

/// A file that is being sent.
#[derive(Debug)]
pub(super) struct Sending {
    /// What the store has.
    stored: Mutex<Transfer>,
    file: Arc<File>,
    /// What the file was when its first byte was read.
    found: Entry,
    changed: AtomicBool,
}

impl Sending {
    pub(super) fn new(transfer: Transfer, file: File, found: Entry) -> Self {
        Self { stored: Mutex::new(transfer), file: Arc::new(file), found, changed: AtomicBool::new(false) }
    }

    /// What the store has of the transfer.
    pub(super) fn transfer(&self) -> Transfer {
        self.stored.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn has_changed(&self) -> bool {
        self.changed.load(Ordering::Acquire)
    }

    /// Fails if the file has been written since its first byte was read: what was sent of it is of two kinds then,
    /// and its last byte must not leave.
    pub(super) async fn check(&self) -> io::Result<()> {
        let file = Arc::clone(&self.file);
        let now = seams::blocking(move || Entry::of_file(&file)).await?;
        if (now.identity, now.changed_ns) == (self.found.identity, self.found.changed_ns) {
            return Ok(());
        }
        self.changed.store(true, Ordering::Release);
        Err(io::Error::other("the file was written while it was sent"))
    }
}

impl Route {
    /// The body of a stretch, and the reading of it, which has to go on while the body is sent ([`while_reading`]).
    /// `handed` counts the bytes that were given away.
    pub(super) fn stretch(
        self: &Arc<Self>,
        sending: &Arc<Sending>,
        stretch: Stretch,
        handed: &Arc<Handed>,
    ) -> (Body, impl Future<Output = ()> + Send + use<>) {
        let (sender, receiver) = mpsc::channel(BLOCKS_WAITING);
        let body = self.body(stretch, receiver, Arc::clone(sending), Arc::clone(handed));
        let file = Arc::clone(&sending.file);
        let reading = files::send_blocks(file, stretch.from, stretch.size, sender);
        (body, reading)
    }

    /// The body: blocks as they are read, with the last one held back until the file has been found unchanged and,
    /// where it ends the file, until it is durable that it may leave.
    fn body(
        self: &Arc<Self>,
        stretch: Stretch,
        receiver: mpsc::Receiver<io::Result<Bytes>>,
        sending: Arc<Sending>,
        handed: Arc<Handed>,
    ) -> Body {
        let route = Arc::clone(self);
        Box::pin(stream::try_unfold((receiver, 0), move |(mut receiver, sent)| {
            let (route, sending, handed) = (Arc::clone(&route), Arc::clone(&sending), Arc::clone(&handed));
            async move {
                let Some(block) = receiver.recv().await else { return Ok(None) };
                let block = block?;
                let length = block.len() as u64;
                let sent = sent + length;
                if sent >= stretch.size {
                    sending.check().await?;
                    if stretch.ends_file {
                        route.last_byte_leaves(&sending).await?;
                        crash_point("upload:last_byte");
                    }
                }
                handed.add(length);
                Ok(Some((block, (receiver, sent))))
            }
        }))
    }

    /// Makes durable that the last byte may leave.
    pub(super) async fn last_byte_leaves(&self, sending: &Sending) -> io::Result<()> {
        let mut transfer = sending.transfer();
        if last_byte(&transfer) != Some(LastByte::MayHaveLeft) {
            self.happened(&mut transfer, OutgoingEvent::LastByteLeaving).await.map_err(io::Error::other)?;
            *sending.stored.lock().unwrap_or_else(PoisonError::into_inner) = transfer;
        }
        Ok(())
    }

    /// The claimed file, and what it is.
    pub(super) async fn open_claimed(self: &Arc<Self>, id: TransferId) -> Result<(File, Entry), Trouble> {
        self.on_files(move |folders| open(folders, id)).await
    }
}

/// Sends what is being read. The reading ends with the sending.
pub(super) async fn while_reading<T>(
    reading: impl Future<Output = ()> + Send,
    sending: impl Future<Output = T> + Send,
) -> T {
    let reading = async {
        reading.await;
        std::future::pending().await
    };
    tokio::select! {
        sent = sending => sent,
        never = reading => never,
    }
}

/// Content, as it is sent.
pub(super) type Body = std::pin::Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// Whether the last byte of the upload under way may have left.
pub(super) fn last_byte(transfer: &Transfer) -> Option<LastByte> {
    match &transfer.work {
        Work::Outgoing { progress: Outgoing::Uploading { last_byte, .. }, .. } => Some(*last_byte),
        _ => None,
    }
}

/// Whether a claimed file is something else than what was described.
pub(super) fn has_changed(transfer: &Transfer, found: FileIdentity) -> bool {
    let Work::Outgoing { progress, .. } = &transfer.work else { return false };
    progress.dispatch().is_some_and(|dispatch| match dispatch.file {
        Some(described) => !described.is_same_file(&found),
        None => dispatch.size != found.size,
    })
}

fn open(folders: &Folders, id: TransferId) -> Result<(File, Entry), files::Error> {
    let own = folders.own(id)?;
    let file = own.open_file(FILE)?;
    let entry = Entry::of_file(&file);
    let entry = entry.map_err(|error| files::Error::new("look at", own.path().join(FILE), error))?;
    Ok((file, entry))
}
