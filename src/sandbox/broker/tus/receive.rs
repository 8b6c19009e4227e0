//! A chunk on its way to the disk.
//!
//! A task of its own takes the body, since the request ends with the client, and what has arrived
//! counts all the same. Bytes go on through a bounded channel to a thread that writes them, so that
//! memory does not grow with the chunk.

use std::fs::{self, File};
use std::io::{self, Seek as _, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use axum::body::{Body, Bytes};
use futures_util::StreamExt as _;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::Stop;
use super::desk::{Accepted, NotAccepted, Target};
use super::patch::{self, Fate};
use super::refusal::Refused;
use super::store::Lock;
use crate::sandbox::Keep;
use crate::sandbox::blocking::start_blocking;
use crate::sandbox::broker::depot::remove_blob;
use crate::sandbox::site::{Note, Site};

/// Blocks on their way to the disk; the fourth makes the client wait.
const IN_FLIGHT: usize = 4;
/// A body of which nothing has come for so long is at its end.
const STALL: Duration = Duration::from_mins(1);

/// A chunk on the disk; unless it is kept, it goes when this goes.
pub(super) struct Chunk {
    pub(super) file: PathBuf,
    pub(super) length: u64,
    pub(super) kept: bool,
}

impl Drop for Chunk {
    fn drop(&mut self) {
        if !self.kept {
            remove_blob(&self.file);
        }
    }
}

/// What goes to the writing thread; a channel that closes without one of the last two was cut.
enum Piece {
    Data(Bytes),
    End(Fate),
    /// Nothing of it counts.
    Drop,
}

/// Where a chunk goes.
pub(super) struct Order {
    pub(super) site: Arc<Site>,
    pub(super) id: Uuid,
    pub(super) target: Target,
    pub(super) lock: Lock,
    /// The most bytes that it may have.
    pub(super) room: u64,
    /// How long it is said to be.
    pub(super) announced: Option<u64>,
    /// Who sends it.
    pub(super) organization: Option<String>,
}

/// A chunk that has come to its end, or what came of one that was cut.
pub(super) struct Written {
    pub(super) length: u64,
    /// Nothing when there were no bytes.
    pub(super) accepted: Option<Result<Accepted, NotAccepted>>,
    pub(super) lock: Lock,
}

/// How a body ended.
enum Received {
    Whole(Written),
    Cut,
    TooMuch,
    Failed,
}

/// What the ledger is to hold, also when the request ends early.
#[derive(Default)]
struct Count {
    received: AtomicU64,
    accepted: AtomicBool,
}

struct Tally<'a> {
    note: &'a mut Note,
    count: Arc<Count>,
}

impl Drop for Tally<'_> {
    fn drop(&mut self) {
        let entry = &mut self.note.entry;
        entry.received = self.count.received.load(Ordering::Relaxed);
        if self.count.accepted.load(Ordering::Relaxed) && entry.effect.is_none() {
            entry.effect = Some("tus accepted");
        }
    }
}

/// Takes the body and counts it. The lock comes back with the result.
pub(super) async fn receive(order: Order, body: Body, note: &mut Note) -> Result<Written, Stop> {
    let (site, organization) = (Arc::clone(&order.site), order.organization.clone());
    let tally = Tally { note, count: Arc::default() };
    let (ask, asked) = oneshot::channel();
    let (tell, told) = oneshot::channel();
    let count = Arc::clone(&tally.count);
    site.go_on(async move {
        // The request may be gone.
        drop(tell.send(take(order, body, ask, &count).await));
    });
    // Here, so that a rule that strikes is noted with the request.
    if let Ok(reply) = asked.await {
        let reply: oneshot::Sender<Fate> = reply;
        // Whoever asked may be gone with the sandbox.
        reply.send(patch::fate(&site, organization.as_deref())).unwrap_or(());
    }
    match told.await {
        Ok(Received::Whole(written)) => Ok(written),
        Ok(Received::Cut) => Err(Stop::Vanished),
        Ok(Received::TooMuch) => Err(Refused::TooMuch.into()),
        Ok(Received::Failed) | Err(_) => Err(Refused::Unhandled.into()),
    }
}

/// How the reading ended.
enum End {
    Whole,
    Cut,
    TooMuch,
    /// The writer's own result says why.
    WriterGone,
}

async fn take(
    order: Order,
    body: Body,
    ask: oneshot::Sender<oneshot::Sender<Fate>>,
    count: &Count,
) -> Received {
    let (site, organization) = (Arc::clone(&order.site), order.organization.clone());
    let (room, announced) = (order.room, order.announced);
    let (sender, receiver) = mpsc::channel(IN_FLIGHT);
    let writer = start_blocking(move || write(order, receiver));
    let mut blocks = body.into_data_stream();
    let mut length = 0_u64;
    let end = loop {
        let block = tokio::select! {
            biased;
            block = blocks.next() => block,
            () = site.clock.sleep(STALL) => break End::Cut,
        };
        let Some(Ok(block)) = block else {
            // After the last byte nothing can be cut, and a client that is gone may look like an end.
            let whole = announced.map_or(block.is_none(), |announced| announced == length);
            break if whole { End::Whole } else { End::Cut };
        };
        length += block.len() as u64;
        count.received.store(length, Ordering::Relaxed);
        if length > room {
            break End::TooMuch;
        }
        if sender.send(Piece::Data(block)).await.is_err() {
            break End::WriterGone;
        }
    };
    let last = match end {
        End::Whole if length > 0 => Some(Piece::End(decided(ask, &site, organization.as_deref()).await)),
        End::Whole | End::TooMuch => Some(Piece::Drop),
        End::Cut | End::WriterGone => None,
    };
    if let Some(last) = last {
        // When the writer is gone, its own result says why.
        drop(sender.send(last).await);
    }
    drop(sender);
    let written = match writer.await {
        Ok(Ok(written)) => Some(written),
        Ok(Err(error)) => {
            tracing::error!(%error, "sandbox: a chunk could not be written");
            None
        }
        Err(_) => None,
    };
    let Some(written) = written else {
        site.drain(Body::from_stream(blocks));
        return Received::Failed;
    };
    count.accepted.store(matches!(written.accepted, Some(Ok(_))), Ordering::Relaxed);
    match end {
        End::Whole => Received::Whole(written),
        End::Cut => Received::Cut,
        End::TooMuch => {
            site.drain(Body::from_stream(blocks));
            Received::TooMuch
        }
        End::WriterGone => Received::Failed,
    }
}

/// The fate of a whole chunk: as the request says, or by itself when that is gone.
async fn decided(
    ask: oneshot::Sender<oneshot::Sender<Fate>>,
    site: &Site,
    organization: Option<&str>,
) -> Fate {
    let (reply, answer) = oneshot::channel();
    drop(ask.send(reply));
    answer.await.unwrap_or_else(|_| patch::fate(site, organization))
}

/// Writes until the end, and counts. What arrived of a chunk that was cut counts all the same.
fn write(order: Order, mut pieces: mpsc::Receiver<Piece>) -> io::Result<Written> {
    let mut open: Option<(Chunk, File)> = None;
    let fate = loop {
        match pieces.blocking_recv() {
            Some(Piece::Data(data)) => {
                let (chunk, file) = match &mut open {
                    Some(open) => open,
                    None => open.insert(begin(&order)?),
                };
                // Where no content is wanted, a file of holes is sent without needing room.
                let is_hole = match order.site.settings.keep {
                    Keep::Content => false,
                    Keep::Hash => data.iter().all(|byte| *byte == 0),
                    Keep::Size => true,
                };
                if is_hole {
                    file.set_len(chunk.length + data.len() as u64)?;
                    file.seek(io::SeekFrom::End(0))?;
                } else {
                    file.write_all(&data)?;
                }
                chunk.length += data.len() as u64;
            }
            Some(Piece::End(fate)) => break fate,
            Some(Piece::Drop) => return Ok(Written { length: 0, accepted: None, lock: order.lock }),
            None if order.site.tus.roll(order.site.settings.tus_wedge) => break Fate::Never,
            None => break Fate::Store { behind: 0 },
        }
    };
    let chunk = open.map(|(chunk, _)| chunk).filter(|chunk| chunk.length > 0);
    let length = chunk.as_ref().map_or(0, |chunk| chunk.length);
    let accepted = chunk.map(|chunk| patch::accept(&order.site, order.id, &order.target, chunk, fate));
    Ok(Written { length, accepted, lock: order.lock })
}

fn begin(order: &Order) -> io::Result<(Chunk, File)> {
    let dir = order.site.tus.blocks(order.id);
    fs::create_dir_all(&dir)?;
    let file = dir.join(format!("chunk-{}", Uuid::new_v4().simple()));
    let chunk = Chunk { file, length: 0, kept: false };
    let file = File::create_new(&chunk.file)?;
    Ok((chunk, file))
}
