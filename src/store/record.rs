//! Records as bytes: JSON with a version in front.
//!
//! A record is `{"v":1,"steps":3,"transfer":{…}}`. Members may be added with a default; anything else needs
//! version 2, an arm in [`decode`] that still reads version 1, and a fixture of its own under `tests/store`.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::transfer::{Transfer, TransferId};

use super::{Error, Tombstone};

/// The version this code writes, of records, steps, journal lines and the store as a whole.
pub(super) const VERSION: u64 = 1;

/// How many steps of one transfer are kept; the oldest go first.
pub(super) const MAX_STEPS: u64 = 64;

/// The engine keeps larger values in files of their own, which it does not sync (128 KiB, with some overhead).
pub(super) const MAX_RECORD_BYTES: usize = 96 * 1024;

/// Why bytes are not a record.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DecodeError {
    /// They are not JSON, or not of the form that their version has.
    #[error("it is not a record of ours: {0}")]
    Malformed(Arc<serde_json::Error>),
    /// A newer version wrote them.
    #[error("it was written by a newer formidlingd: format {found}, and this version knows {VERSION}")]
    Newer {
        /// The version found.
        found: u64,
    },
    /// No version ever wrote this number.
    #[error("format {found} has never existed")]
    UnknownVersion {
        /// The version found.
        found: u64,
    },
    /// The record says it is another transfer than its key says.
    #[error("it is the record of transfer {found}")]
    Misplaced {
        /// The id in the record.
        found: TransferId,
    },
}

/// A transfer as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    /// How many steps were ever written.
    pub(super) steps: u64,
    pub(super) transfer: Transfer,
}

/// When a transfer reached a phase.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// The phase: a state's name with nothing folded together.
    pub phase: String,
    /// When it was reached.
    pub at: Timestamp,
}

impl Step {
    pub(super) fn of(transfer: &Transfer) -> Self {
        Self { phase: phase(transfer).to_owned(), at: transfer.updated }
    }
}

/// What a finished transfer leaves behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finished {
    pub(super) at: Timestamp,
    pub(super) steps: Vec<Step>,
    pub(super) transfer: Transfer,
}

#[derive(Deserialize)]
struct Version {
    v: u64,
}

#[derive(Serialize)]
struct RecordOut<'a> {
    v: u64,
    steps: u64,
    transfer: &'a Transfer,
}

#[derive(Deserialize)]
struct RecordIn {
    #[serde(default)]
    steps: u64,
    transfer: Transfer,
}

/// The id stands first, so that a reader of the journal can pass over a line without parsing it.
#[derive(Serialize)]
struct FinishedOut<'a> {
    v: u64,
    id: TransferId,
    finished: Timestamp,
    steps: &'a [Step],
    transfer: &'a Transfer,
}

/// A line of the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Line {
    /// Of a finished transfer.
    Finished(Box<Finished>),
    /// Of one that was forgotten.
    Forgotten(Box<Tombstone>),
}

#[derive(Serialize)]
struct TombstoneOut<'a> {
    v: u64,
    #[serde(flatten)]
    tombstone: &'a Tombstone,
}

/// Tells the two kinds of lines apart.
#[derive(Deserialize)]
struct Kind {
    #[serde(default)]
    forgotten: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct FinishedIn {
    finished: Timestamp,
    #[serde(default)]
    steps: Vec<Step>,
    transfer: Transfer,
}

/// The name of the phase that a transfer is in.
pub(super) fn phase(transfer: &Transfer) -> &'static str {
    match &transfer.work {
        crate::transfer::Work::Outgoing { progress, .. } => progress.phase(),
        crate::transfer::Work::Incoming { progress, .. } => progress.phase(),
    }
}

pub(super) fn encode(record: &Record) -> Result<Vec<u8>, Error> {
    let Record { steps, transfer } = record;
    let id = transfer.id;
    let bytes = serde_json::to_vec(&RecordOut { v: VERSION, steps: *steps, transfer })
        .map_err(|source| Error::Encode { id, source: Arc::new(source) })?;
    if bytes.len() > MAX_RECORD_BYTES {
        return Err(Error::TooLarge { id, bytes: bytes.len(), limit: MAX_RECORD_BYTES });
    }
    Ok(bytes)
}

pub(super) fn decode(bytes: &[u8]) -> Result<Record, DecodeError> {
    known_version(bytes)?;
    let RecordIn { steps, transfer } = from_json(bytes)?;
    Ok(Record { steps, transfer })
}

/// Reads the record stored for `id`.
pub(super) fn decode_for(id: TransferId, bytes: &[u8]) -> Result<Record, Error> {
    let unreadable = |reason| Error::Unreadable { key: format!("t/{id}"), reason };
    let record = decode(bytes).map_err(unreadable)?;
    if record.transfer.id == id {
        Ok(record)
    } else {
        Err(unreadable(DecodeError::Misplaced { found: record.transfer.id }))
    }
}

pub(super) fn encode_step(id: TransferId, step: &Step) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(step).map_err(|source| Error::Encode { id, source: Arc::new(source) })
}

pub(super) fn decode_step(bytes: &[u8]) -> Option<Step> {
    serde_json::from_slice(bytes).ok()
}

/// A journal line, with its line feed.
pub(super) fn encode_finished(finished: &Finished) -> Result<Vec<u8>, Error> {
    let Finished { at, steps, transfer } = finished;
    let id = transfer.id;
    let line = FinishedOut { v: VERSION, id, finished: *at, steps, transfer };
    let mut bytes =
        serde_json::to_vec(&line).map_err(|source| Error::Encode { id, source: Arc::new(source) })?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// A journal line, with its line feed.
pub(super) fn encode_tombstone(tombstone: &Tombstone) -> Result<Vec<u8>, Error> {
    let id = tombstone.id;
    let mut bytes = serde_json::to_vec(&TombstoneOut { v: VERSION, tombstone })
        .map_err(|source| Error::Encode { id, source: Arc::new(source) })?;
    bytes.push(b'\n');
    Ok(bytes)
}

pub(super) fn decode_line(line: &[u8]) -> Result<Line, DecodeError> {
    known_version(line)?;
    if from_json::<Kind>(line)?.forgotten.is_some() {
        return Ok(Line::Forgotten(from_json(line)?));
    }
    let FinishedIn { finished, steps, transfer } = from_json(line)?;
    Ok(Line::Finished(Box::new(Finished { at: finished, steps, transfer })))
}

fn known_version(bytes: &[u8]) -> Result<(), DecodeError> {
    match from_json::<Version>(bytes)?.v {
        VERSION => Ok(()),
        found if found > VERSION => Err(DecodeError::Newer { found }),
        found => Err(DecodeError::UnknownVersion { found }),
    }
}

fn from_json<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, DecodeError> {
    serde_json::from_slice(bytes).map_err(|error| DecodeError::Malformed(Arc::new(error)))
}

impl Record {
    pub(super) fn into_transfer(self) -> Transfer {
        self.transfer
    }
}
