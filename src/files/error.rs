//! What went wrong with a file, and with which.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::seams;

/// The operation of telling whether a folder is the one that was used before.
pub(super) const RECOGNISE: &str = "recognise";
/// The operation of telling whether a folder is ours alone.
pub(super) const TRUST: &str = "trust";

/// A file operation that failed.
#[derive(Debug, thiserror::Error)]
// In quotes, so that whoever masks the path knows where it ends.
#[error("cannot {operation} {path:?}")]
pub struct Error {
    /// What was being done, as a verb: "open", "move".
    pub operation: &'static str,
    /// To what.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

impl Error {
    pub(crate) fn new(operation: &'static str, path: impl AsRef<Path>, source: impl Into<io::Error>) -> Self {
        Self { operation, path: path.as_ref().to_owned(), source: source.into() }
    }

    /// Lets a test make an operation fail before it is carried out.
    #[track_caller]
    pub(crate) fn inject(operation: &'static str, path: &Path) -> Result<(), Self> {
        seams::injected_fault(operation).map_err(|source| Self::new(operation, path, source))
    }

    /// Whether the file or folder is not there.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }

    /// Whether the name is taken.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        self.source.kind() == io::ErrorKind::AlreadyExists
    }

    /// Whether we may not.
    #[must_use]
    pub fn is_forbidden(&self) -> bool {
        self.source.kind() == io::ErrorKind::PermissionDenied
    }

    /// Whether the disk, or our share of it, is full.
    #[must_use]
    pub fn is_full(&self) -> bool {
        [Errno::NOSPC, Errno::DQUOT]
            .iter()
            .any(|errno| self.source.raw_os_error() == Some(errno.raw_os_error()))
    }

    /// Whether a file was to be moved from one file system, or one mount, to another.
    #[must_use]
    pub fn is_cross_device(&self) -> bool {
        self.source.raw_os_error() == Some(Errno::XDEV.raw_os_error())
    }

    /// Whether a document has more bytes than it may have.
    #[must_use]
    pub fn is_too_large(&self) -> bool {
        self.source.kind() == io::ErrorKind::FileTooLarge
    }

    /// Whether the system has refused, so that nothing was done. Any other error may be that of an answer that was lost.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        self.is_full()
            || self.is_forbidden()
            || self.is_taken()
            || self.is_cross_device()
            || [Errno::ROFS, Errno::BUSY]
                .iter()
                .any(|errno| self.source.raw_os_error() == Some(errno.raw_os_error()))
    }

    /// Stable, for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        if self.is_full() {
            "disk_full"
        } else if self.operation == RECOGNISE {
            "folder_not_recognised"
        } else if self.operation == TRUST {
            "folder_not_trusted"
        } else if self.is_forbidden() {
            "folder_not_accessible"
        } else if self.is_missing() {
            "file_missing"
        } else if self.is_taken() {
            "name_taken"
        } else if self.is_cross_device() {
            "different_file_systems"
        } else {
            "file_error"
        }
    }

    /// What to do.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self.code() {
            "disk_full" => "make room on the file system; the service goes on by itself",
            "folder_not_accessible" => "give the service's user the right to read and write there",
            "file_missing" => "see whether the folder was moved or its file system is not mounted",
            "folder_not_recognised" => {
                "mount its file system; if it is a new folder on purpose, make an empty folder .formidlingd in it that belongs to the service's user"
            }
            "folder_not_trusted" => {
                "see who put it there; put back the folder that belongs to the service's user and to nobody else"
            }
            "different_file_systems" => {
                "keep the drop folder and the folders below it on one file system, without mounts between them"
            }
            _ => "see the system's own message; the step is tried again",
        }
    }

    /// The message with what the system said.
    #[must_use]
    pub fn full_message(&self) -> String {
        format!("{self}: {}", self.source)
    }
}
