//! What the Broker knows about the resumable uploads of one transfer: its cache (lengths, offsets,
//! sessions) and the blocks in its storage account. No I/O.
//!
//! Accepted and stored are two numbers: a chunk counts as accepted when its request ends, and as
//! stored when its block lies in the storage account. Blocks do not belong to the cache, so they
//! outlive the upload they came with.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::sandbox::clock::earlier;

/// The most blocks a blob of the storage account can have.
pub(super) const MAX_BLOCKS: u64 = 50_000;

/// An upload of a transfer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Target {
    /// The file as a whole (also: what partial uploads are joined to).
    Whole,
    /// A part of it, by its id.
    Partial(String),
}

/// A block in the storage account. The order is that in which blocks are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Block {
    /// The number of the partial upload; `None` for the file as a whole.
    pub(super) part: Option<u32>,
    pub(super) index: u64,
}

impl Block {
    /// The file's name.
    pub(super) fn name(self) -> String {
        match self.part {
            None => format!("block-{:012}", self.index),
            Some(part) => format!("block-{part:06}-{:06}", self.index),
        }
    }

    /// Reads [`Block::name`].
    pub(super) fn parse(name: &str) -> Option<Self> {
        let rest = name.strip_prefix("block-")?;
        match rest.split_once('-') {
            None => Some(Self { part: None, index: rest.parse().ok()? }),
            Some((part, index)) => Some(Self { part: Some(part.parse().ok()?), index: index.parse().ok()? }),
        }
    }
}

/// How far an upload has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Upload {
    pub(super) length: u64,
    pub(super) accepted: u64,
    pub(super) stored: u64,
    /// The number of the next chunk.
    pub(super) chunks: u64,
    /// When it will be forgotten.
    pub(super) expires: Timestamp,
    /// The number of a partial upload.
    pub(super) part: Option<u32>,
    /// Why a block could not be stored; nothing is stored after that.
    #[serde(skip)]
    pub(super) fault: Option<&'static str>,
}

/// A chunk that was accepted and is not stored yet.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) target: Target,
    pub(super) block: Block,
    pub(super) length: u64,
    /// Where its bytes lie.
    pub(super) file: PathBuf,
    /// So many more chunks must be accepted first.
    pub(super) behind: u64,
    /// When it will be stored, once nothing more must be accepted first.
    pub(super) due: Timestamp,
}

/// A chunk that was counted.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Accepted {
    pub(super) block: Block,
    /// Nothing more can be accepted.
    pub(super) last: bool,
}

/// Why a chunk that had arrived was not taken.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotAccepted {
    /// The upload had been forgotten.
    #[error("offset conflict: expected {expected}, current {current}")]
    Conflict { expected: u64, current: u64 },
    /// Another request has changed the upload meanwhile.
    #[error("the chunk exceeds the length at {offset}")]
    Overflow { offset: u64 },
    /// It was counted all the same.
    #[error("more than {MAX_BLOCKS} chunks for {length} bytes")]
    TooManyChunks { length: u64 },
    /// It was counted all the same.
    #[error("a block could not be stored: {0}")]
    Fault(&'static str),
}

/// The resumable uploads of one transfer.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Desk {
    pub(super) whole: Option<Upload>,
    pub(super) partials: HashMap<String, Upload>,
    /// How many partial uploads there ever were.
    parts: u32,
    /// The partial uploads that the client has listed for joining.
    pub(super) joined: Option<Vec<String>>,
    /// Who may go on without being asked for their rights again, and until when.
    pub(super) sessions: BTreeMap<String, Timestamp>,
    /// The last sign of life, and until when it is remembered.
    pub(super) active: Option<(Timestamp, Timestamp)>,
    /// What lies in the storage account, uncommitted; found again by looking at the disk.
    #[serde(skip)]
    pub(super) blocks: BTreeMap<Block, u64>,
    #[serde(skip)]
    pub(super) pending: Vec<Pending>,
    /// Blocks on their way from there to the storage account.
    #[serde(skip)]
    storing: Vec<Block>,
    /// When the finalising job is due.
    #[serde(skip)]
    pub(super) finalise_at: Option<Timestamp>,
    /// The job is at work.
    #[serde(skip)]
    pub(super) finalising: bool,
}

impl Desk {
    /// Begins the upload of the whole file, or begins it again from nothing: blocks stay, and so
    /// does the reason why nothing can be stored.
    pub(super) fn create(&mut self, length: u64, expires: Timestamp) {
        let fault = self.whole.take().and_then(|upload| upload.fault);
        self.joined = None;
        self.whole = Some(Upload { length, accepted: 0, stored: 0, chunks: 0, expires, part: None, fault });
    }

    /// Begins a partial upload.
    pub(super) fn create_partial(&mut self, id: &str, length: u64, expires: Timestamp) {
        let part = Some(self.parts);
        self.parts += 1;
        let upload = Upload { length, accepted: 0, stored: 0, chunks: 0, expires, part, fault: None };
        self.partials.insert(id.to_owned(), upload);
    }

    /// Has the partial uploads joined: the whole counts as accepted and stored.
    pub(super) fn join(&mut self, ids: Vec<String>, length: u64, expires: Timestamp) {
        let whole =
            Upload { length, accepted: length, stored: length, chunks: 0, expires, part: None, fault: None };
        self.whole = Some(whole);
        self.joined = Some(ids);
    }

    pub(super) fn upload(&self, target: &Target) -> Option<&Upload> {
        match target {
            Target::Whole => self.whole.as_ref(),
            Target::Partial(id) => self.partials.get(id),
        }
    }

    pub(super) fn upload_mut(&mut self, target: &Target) -> Option<&mut Upload> {
        match target {
            Target::Whole => self.whole.as_mut(),
            Target::Partial(id) => self.partials.get_mut(id),
        }
    }

    /// Forgets an upload, but not its blocks.
    pub(super) fn forget(&mut self, target: &Target) {
        match target {
            Target::Whole => {
                self.whole = None;
                self.joined = None;
            }
            Target::Partial(id) => drop(self.partials.remove(id)),
        }
    }

    /// Forgets what nobody has touched for too long.
    pub(super) fn forget_expired(&mut self, now: Timestamp) {
        if self.whole.as_ref().is_some_and(|upload| upload.expires <= now) {
            self.forget(&Target::Whole);
        }
        self.partials.retain(|_, upload| upload.expires > now);
        self.sessions.retain(|_, expires| *expires > now);
        self.active = self.active.filter(|(_, remembered)| *remembered > now);
    }

    /// A sign of life: the upload lives on.
    pub(super) fn touch(&mut self, target: &Target, now: Timestamp, expires: Timestamp) {
        if let Some(upload) = self.upload_mut(target) {
            upload.expires = expires;
            self.active = Some((now, expires));
        }
    }

    /// Whether there was a sign of life in the time before `now`.
    pub(super) fn was_active(&self, now: Timestamp, within: Duration) -> bool {
        self.active.is_some_and(|(active, _)| active >= earlier(now, within))
    }

    /// Bytes of blocks that lie in the storage account for the whole file.
    fn leftovers(&self) -> u64 {
        self.blocks.iter().filter(|(block, _)| block.part.is_none()).map(|(_, length)| length).sum()
    }

    /// The length of an upload. Where it was forgotten, the blocks that are left are taken for it.
    pub(super) fn length(&self, target: &Target) -> Option<u64> {
        if let Some(upload) = self.upload(target) {
            return Some(upload.length);
        }
        (*target == Target::Whole).then(|| self.leftovers()).filter(|length| *length > 0)
    }

    /// What HEAD shows: for the whole file the sum of the blocks, wherever they came from.
    pub(super) fn durable(&self, target: &Target) -> u64 {
        let stored = self.upload(target).map_or(0, |upload| upload.stored);
        match target {
            Target::Whole => Some(self.leftovers()).filter(|length| *length > 0).unwrap_or(stored),
            Target::Partial(_) => stored,
        }
    }

    /// What the offset of a PATCH is compared with.
    pub(super) fn accepted(&self, target: &Target) -> u64 {
        self.upload(target).map_or(0, |upload| upload.accepted)
    }

    /// Counts a chunk, at whatever offset the upload is by now.
    pub(super) fn accept(
        &mut self,
        target: &Target,
        length: u64,
        expires: Timestamp,
    ) -> Result<Accepted, NotAccepted> {
        let Some(upload) = self.upload_mut(target) else {
            // The Broker begins anew with what is left, and then finds the offset wrong.
            let expected = self.length(target).unwrap_or(0);
            self.create(expected, expires);
            return Err(NotAccepted::Conflict { expected, current: 0 });
        };
        if length > upload.length.saturating_sub(upload.accepted) {
            return Err(NotAccepted::Overflow { offset: upload.accepted });
        }
        let block = Block { part: upload.part, index: upload.chunks };
        upload.accepted += length;
        upload.chunks += 1;
        if block.index >= MAX_BLOCKS {
            return Err(NotAccepted::TooManyChunks { length: upload.length });
        }
        match upload.fault {
            Some(fault) => Err(NotAccepted::Fault(fault)),
            None => Ok(Accepted { block, last: upload.accepted >= upload.length }),
        }
    }

    /// Another chunk was accepted: those that waited for it are a step nearer, and after the last
    /// one nothing waits any more.
    pub(super) fn advance(&mut self, target: &Target, last: bool, due: Timestamp) {
        for pending in self.pending.iter_mut().filter(|it| it.target == *target && it.behind > 0) {
            pending.behind = if last { 0 } else { pending.behind - 1 };
            if pending.behind == 0 {
                pending.due = due;
            }
        }
    }

    /// Takes the chunks whose time has come.
    pub(super) fn take_due(&mut self, now: Timestamp) -> Vec<Pending> {
        let due: Vec<_> = self.pending.extract_if(.., |it| it.behind == 0 && it.due <= now).collect();
        self.storing.extend(due.iter().map(|pending| pending.block));
        due
    }

    /// The storing of a chunk that was taken has ended; false when the desk was closed meanwhile.
    pub(super) fn end_storing(&mut self, block: Block) -> bool {
        let place = self.storing.iter().position(|it| *it == block);
        place.map(|place| self.storing.swap_remove(place)).is_some()
    }

    /// A block lies in the storage account.
    pub(super) fn store(&mut self, target: &Target, block: Block, length: u64) {
        self.blocks.insert(block, length);
        if let Some(upload) = self.upload_mut(target) {
            upload.stored += length;
        }
    }

    /// Whether the finalising job can do its work. An empty upload is never complete.
    pub(super) fn is_complete(&self) -> bool {
        self.whole.as_ref().is_some_and(|upload| {
            upload.length > 0 && upload.accepted >= upload.length && upload.stored >= upload.length
        })
    }

    /// The blocks that make the file, in order: partial uploads in the order of their creation,
    /// whatever the client has listed.
    pub(super) fn content(&self) -> Vec<(Block, u64)> {
        let joined = self.joined.is_some();
        let blocks = self.blocks.iter().filter(|(block, _)| block.part.is_some() == joined);
        blocks.map(|(block, length)| (*block, *length)).collect()
    }

    /// Nothing is left of the uploads but who took part.
    pub(super) fn close(&mut self) {
        let sessions = std::mem::take(&mut self.sessions);
        *self = Self { sessions, active: self.active, ..Self::default() };
    }

    /// Whether there is anything to remember.
    pub(super) fn is_empty(&self) -> bool {
        self.whole.is_none()
            && self.partials.is_empty()
            && self.sessions.is_empty()
            && self.active.is_none()
            && self.blocks.is_empty()
            && self.pending.is_empty()
            && self.storing.is_empty()
            && !self.finalising
    }
}
