//! A chunk on its way to the disk.
//!
//! Bytes go through a bounded channel to a thread that writes them, so that memory does not grow
//! with the chunk. The thread also does what is left to be done when the client, and with it the
//! request, is gone.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use futures_util::StreamExt as _;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::Stop;
use super::desk::Target;
use super::patch::{self, Fate};
use super::refusal::Refused;
use super::store::Lock;
use crate::sandbox::Keep;
use crate::sandbox::blocking::start_blocking;
use crate::sandbox::broker::depot::remove_blob;
use crate::sandbox::site::{Note, Site};

/// Blocks on their way to the disk; the fourth makes the client wait.
const IN_FLIGHT: usize = 4;

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
    End,
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
}

/// How the writing ended.
struct Written {
    chunk: Option<Chunk>,
    lock: Lock,
    counted: bool,
}

/// Takes the body; `None` for an empty one. The lock comes back with it.
pub(super) async fn receive(
    order: Order,
    body: Body,
    note: &mut Note,
) -> Result<(Option<Chunk>, Lock), Stop> {
    let (site, room) = (Arc::clone(&order.site), order.room);
    let (sender, receiver) = mpsc::channel(IN_FLIGHT);
    let writer = start_blocking(move || write(order, receiver));
    let mut blocks = body.into_data_stream();
    let mut length = 0_u64;
    let mut end = Piece::End;
    while let Some(block) = blocks.next().await {
        let Ok(block) = block else {
            drop(sender);
            if let Ok(Ok(Written { counted: true, .. })) = writer.await {
                note.entry.effect = Some("tus accepted");
            }
            return Err(Stop::Vanished);
        };
        length += block.len() as u64;
        note.entry.received += block.len() as u64;
        if length > room {
            end = Piece::Drop;
            break;
        }
        if sender.send(Piece::Data(block)).await.is_err() {
            break;
        }
    }
    let too_much = matches!(end, Piece::Drop);
    // When the writer is gone, its own result says why.
    drop(sender.send(end).await);
    let written = match writer.await {
        Ok(Ok(written)) => written,
        Ok(Err(error)) => {
            tracing::error!(%error, "sandbox: a chunk could not be written");
            return Err(Refused::Unhandled.into());
        }
        Err(_) => return Err(Refused::Unhandled.into()),
    };
    if too_much {
        site.drain(Body::from_stream(blocks));
        return Err(Refused::TooMuch.into());
    }
    Ok((written.chunk, written.lock))
}

/// Writes until the end. What arrived of a chunk that was cut is accepted all the same.
fn write(order: Order, mut pieces: mpsc::Receiver<Piece>) -> io::Result<Written> {
    let mut open: Option<(Chunk, File)> = None;
    loop {
        match pieces.blocking_recv() {
            Some(Piece::Data(data)) => {
                let (chunk, file) = match &mut open {
                    Some(open) => open,
                    None => open.insert(begin(&order)?),
                };
                if order.site.settings.keep == Keep::Size {
                    file.set_len(chunk.length + data.len() as u64)?;
                } else {
                    file.write_all(&data)?;
                }
                chunk.length += data.len() as u64;
            }
            Some(Piece::End) => {
                let chunk = open.map(|(chunk, _)| chunk).filter(|chunk| chunk.length > 0);
                return Ok(Written { chunk, lock: order.lock, counted: false });
            }
            Some(Piece::Drop) => return Ok(Written { chunk: None, lock: order.lock, counted: false }),
            None => {
                let chunk = open.map(|(chunk, _)| chunk).filter(|chunk| chunk.length > 0);
                let counted = chunk.is_some_and(|chunk| {
                    let is_lost = order.site.tus.roll(order.site.settings.tus_wedge);
                    let fate = if is_lost { Fate::Never } else { Fate::Store { behind: 0 } };
                    patch::accept(&order.site, order.id, &order.target, chunk, fate).is_ok()
                });
                return Ok(Written { chunk: None, lock: order.lock, counted });
            }
        }
    }
}

fn begin(order: &Order) -> io::Result<(Chunk, File)> {
    let dir = order.site.tus.blocks(order.id);
    fs::create_dir_all(&dir)?;
    let file = dir.join(format!("chunk-{}", Uuid::new_v4().simple()));
    let chunk = Chunk { file, length: 0, kept: false };
    let file = File::create_new(&chunk.file)?;
    Ok((chunk, file))
}
