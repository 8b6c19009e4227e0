//! Why the store could not do what it was asked.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::transfer::TransferId;

use super::record::DecodeError;

/// What the store reports. Every variant but [`Error::Io`] and [`Error::Damaged`] of a write means that
/// nothing was changed; those two mean that nothing was acknowledged.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Another process has the directory open.
    #[error("the state directory {} is in use{}", path.display(), by(*pid))]
    InUse {
        /// The state directory.
        path: PathBuf,
        /// The process that has it, where its lock file says so.
        pid: Option<u32>,
    },
    /// A transfer of this id is stored already.
    #[error("transfer {id} is stored already")]
    Exists {
        /// The transfer.
        id: TransferId,
    },
    /// Another transfer holds this transfer at Altinn.
    #[error("the transfer at Altinn belongs to transfer {by} already")]
    BrokerIdTaken {
        /// The transfer that holds it.
        by: TransferId,
    },
    /// Another transfer holds this very file.
    #[error("the file belongs to transfer {by} already")]
    FileTaken {
        /// The transfer that holds it.
        by: TransferId,
    },
    /// The stored record is not the one that the change was made from.
    #[error("transfer {id} was changed or removed by someone else in the meantime")]
    Stale {
        /// The transfer.
        id: TransferId,
    },
    /// A change would turn one transfer into another.
    #[error("a change of transfer {before} would make it transfer {after}")]
    Mixed {
        /// The transfer that was to change.
        before: TransferId,
        /// What it would have become.
        after: TransferId,
    },
    /// A transfer was to be removed that is not over.
    #[error("transfer {id} is {state} and cannot be finished")]
    Unfinished {
        /// The transfer.
        id: TransferId,
        /// Its state.
        state: &'static str,
    },
    /// A transfer was to be forgotten that is not over, or that Altinn still has something to tell of.
    #[error("transfer {id} is still under way: it is {state}")]
    UnderWay {
        /// The transfer.
        id: TransferId,
        /// Its state.
        state: &'static str,
    },
    /// A record is larger than the engine can make durable in one piece.
    #[error("the record of transfer {id} would be {bytes} bytes, and {limit} is the limit")]
    TooLarge {
        /// The transfer.
        id: TransferId,
        /// The size it would have.
        bytes: usize,
        /// The largest size.
        limit: usize,
    },
    /// A record could not be written as JSON.
    #[error("cannot encode the record of transfer {id}")]
    Encode {
        /// The transfer.
        id: TransferId,
        /// Why.
        #[source]
        source: Arc<serde_json::Error>,
    },
    /// What is stored under a key cannot be read. It is left as it is.
    #[error("cannot read the record {key}")]
    Unreadable {
        /// The key.
        key: String,
        /// Why.
        #[source]
        reason: DecodeError,
    },
    /// The whole store was written by a newer version.
    #[error("the store in {} has format {found}, and this version knows {known}", path.display())]
    Newer {
        /// The state directory.
        path: PathBuf,
        /// The format found.
        found: u64,
        /// The newest format this version reads.
        known: u64,
    },
    /// The file system refused. Of a write: nothing was acknowledged.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was being done, such as "append to".
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: Arc<io::Error>,
    },
    /// The database is not what was written. Of a write: nothing was acknowledged.
    #[error("the database in {} is damaged: {detail}", path.display())]
    Damaged {
        /// Where it is.
        path: PathBuf,
        /// What the database engine said.
        detail: String,
    },
    /// An earlier write failed, so that memory may be ahead of the disk. Only a restart helps.
    #[error("the store refuses to go on after a failed write")]
    Broken,
    /// The store has been closed.
    #[error("the store is closed")]
    Closed,
}

fn by(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" by process {pid}"))
}

impl Error {
    pub(super) fn io(doing: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::Io { doing, path: path.into(), source: Arc::new(source) }
    }

    /// Whether the disk, or our share of it, is full.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let kinds = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
        matches!(self, Self::Io { source, .. } if kinds.contains(&source.kind()))
    }

    /// Stable and short, for metrics and error files.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::InUse { .. } => "state_in_use",
            Self::Exists { .. } => "transfer_exists",
            Self::BrokerIdTaken { .. } => "broker_id_taken",
            Self::FileTaken { .. } => "file_taken",
            Self::Stale { .. } => "transfer_stale",
            Self::Mixed { .. } => "transfer_mixed",
            Self::Unfinished { .. } => "transfer_unfinished",
            Self::UnderWay { .. } => "transfer_under_way",
            Self::TooLarge { .. } => "record_too_large",
            Self::Encode { .. } => "record_encode",
            Self::Unreadable { .. } => "record_unreadable",
            Self::Newer { .. } => "state_newer",
            Self::Io { .. } => "state_io",
            Self::Damaged { .. } => "state_damaged",
            Self::Broken => "state_broken",
            Self::Closed => "state_closed",
        }
    }

    /// What a person can do about it.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::InUse { .. } => {
                "stop the other process first, or give each its own state.path: two must never share one"
            }
            Self::Exists { .. }
            | Self::BrokerIdTaken { .. }
            | Self::FileTaken { .. }
            | Self::Stale { .. }
            | Self::Mixed { .. }
            | Self::Unfinished { .. } => "read the transfer again and decide anew; nothing was changed",
            Self::UnderWay { .. } => {
                "wait until it is over: the file was sent and every recipient has confirmed or the time is up, or \
                 it was received and confirmed"
            }
            Self::TooLarge { .. } => "send to fewer recipients at a time, or with fewer properties",
            Self::Encode { .. } => "report this as a bug",
            Self::Unreadable { .. } => {
                "a record of a newer version needs that version; a broken one stays where it is: keep a copy of \
                 the state directory and report it"
            }
            Self::Newer { .. } => "run the version that wrote the store, or a later one",
            Self::Io { .. } => "look at the disk's space, health and permissions, then restart",
            Self::Damaged { .. } => {
                "keep the state directory as it is, look at the disk's health, and restore the store from the \
                 last export, or begin anew, in an empty directory"
            }
            Self::Broken => "restart; what was not acknowledged is done again",
            Self::Closed => "restart",
        }
    }
}
