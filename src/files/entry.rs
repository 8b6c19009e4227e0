//! What a name in a folder stands for.

use std::fs::File;

use jiff::Timestamp;
use rustix::fs::{FileType, Stat};

use crate::transfer::FileIdentity;

/// Permission bits of something that is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mode(pub u32);

impl Mode {
    /// A private file: `0600`.
    pub const PRIVATE_FILE: Self = Self(0o600);
    /// A private folder: `0700`.
    pub const PRIVATE_FOLDER: Self = Self(0o700);
    /// What people of the folder's group may read: `0640`.
    pub const GROUP_FILE: Self = Self(0o640);
    /// A folder that people of the group may use: `0770`.
    pub const GROUP_FOLDER: Self = Self(0o770);
    pub(super) fn raw(self) -> rustix::fs::Mode {
        rustix::fs::Mode::from_raw_mode(self.0)
    }
}

/// What kind of thing a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A link, device, socket or FIFO: never sent, never followed.
    Other,
}

/// What is known of a name in a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub kind: EntryKind,
    /// Device, inode, size, modification time.
    pub identity: FileIdentity,
    /// Time of the last change of content or attributes, nanoseconds since 1970.
    pub changed_ns: i64,
    /// User that owns it.
    pub owner: u32,
    /// Group that owns it.
    pub group: u32,
    /// Permission bits, with set-group-id and sticky: `0o7777` and below.
    pub mode: u32,
}

impl Entry {
    pub(super) fn of(stat: &Stat) -> Self {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => EntryKind::File,
            FileType::Directory => EntryKind::Folder,
            _ => EntryKind::Other,
        };
        let identity = FileIdentity {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: u64::try_from(stat.st_size).unwrap_or_default(),
            modified_ns: nanoseconds(stat.st_mtime, stat.st_mtime_nsec),
        };
        Self {
            kind,
            identity,
            changed_ns: nanoseconds(stat.st_ctime, stat.st_ctime_nsec),
            owner: stat.st_uid,
            group: stat.st_gid,
            mode: stat.st_mode & 0o7777,
        }
    }

    /// Whether both are the same file, perhaps under two names.
    #[must_use]
    pub fn is_same_file(&self, other: &Self) -> bool {
        let inode = |entry: &Self| (entry.identity.device, entry.identity.inode);
        inode(self) == inode(other)
    }

    /// Whether content or attributes have changed since a moment.
    #[must_use]
    pub fn has_changed_since(&self, moment: Timestamp) -> bool {
        i128::from(self.changed_ns) >= moment.as_nanosecond()
    }

    /// What is known of an open file.
    pub fn of_file(file: &File) -> std::io::Result<Self> {
        crate::seams::injected_fault("look at")?;
        Ok(Self::of(&rustix::fs::fstat(file)?))
    }
}

fn nanoseconds(seconds: i64, nanoseconds: impl TryInto<i64>) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds.try_into().unwrap_or_default())
}
