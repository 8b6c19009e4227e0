//! Durable and safe file operations: the one way in which this program touches folders that others write to.
//!
//! Folders are held open as descriptors ([`Dir`]) and everything in them is named by a single path component,
//! without following links, so that nobody who may write beside us can point us elsewhere. What must survive
//! a loss of power is synced here and nowhere else. Every function blocks: call through
//! [`seams::blocking`](crate::seams::blocking).

mod access;
mod copy;
mod digest;
mod dir;
mod entry;
mod error;
mod file_system;
mod group;
mod moving;
mod probe;
mod room;
mod stream;
mod sys;
mod writing;

pub use access::{Access, Permissions};
pub use digest::{Digests, digest_file};
pub use dir::Dir;
pub use entry::{Entry, EntryKind, Mode};
pub use error::Error;
pub use file_system::FileSystem;
pub use group::group_number;
pub use probe::{Leases, NoReplace, PROBE_PREFIX, Probe, show_probe, try_move};
pub use room::{Claimed, Lack, Room};
pub use stream::{BLOCK_BYTES, Writer, send_blocks};
pub use sys::{Writers, ignore_lease_signals, writers};
pub use writing::Prepared;

#[cfg(test)]
mod testing {
    use super::Dir;

    /// An empty folder, held open, that is gone after the test.
    pub(super) fn folder() -> (tempfile::TempDir, Dir) {
        let temporary = tempfile::tempdir().unwrap();
        let dir = Dir::open(temporary.path()).unwrap();
        (temporary, dir)
    }
}
