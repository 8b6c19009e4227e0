//! The system calls that no safe crate offers: read leases, the signal they bring, and writeback hints.
//!
//! This is the one file with `unsafe`. Each call takes integers and a descriptor that is borrowed from a live
//! owner; none takes or gives a pointer to our memory (a test maps a file, and uses no pointer into it).
#![expect(
    unsafe_code,
    reason = "F_SETLEASE, SIGIO and sync_file_range have no safe wrapper in the crates we use"
)]

use std::fs::File;
use std::os::fd::AsRawFd;

/// Whether somebody has a file open for writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writers {
    /// Nobody.
    None,
    /// Somebody.
    Some,
    /// The kernel does not tell: the file is another user's and we lack `CAP_LEASE`, or the file system has no
    /// leases.
    Unknown,
}

/// Asks the kernel whether somebody has `file` (open for reading) open for writing, by taking a read lease and
/// giving it back at once (fcntl(2), "Leases"): the kernel grants none while a writer exists.
#[must_use]
pub fn writers(file: &File) -> Writers {
    let fd = file.as_raw_fd();
    // SAFETY: `fd` is open for as long as `file` is borrowed; the arguments are plain integers.
    let taken = unsafe { libc::fcntl(fd, libc::F_SETLEASE, libc::F_RDLCK) };
    if taken == 0 {
        // SAFETY: as above. Failing to give it back is harmless: closing the file gives it back.
        let _given_back = unsafe { libc::fcntl(fd, libc::F_SETLEASE, libc::F_UNLCK) };
        return Writers::None;
    }
    match std::io::Error::last_os_error().raw_os_error() {
        Some(libc::EAGAIN) => Writers::Some,
        _ => Writers::Unknown,
    }
}

/// Ignores SIGIO, whose default action ends the process: the kernel sends it when somebody opens a file for
/// writing in the instant in which we hold a lease on it. Called once, before the first lease.
pub fn ignore_lease_signals() {
    // SAFETY: installs SIG_IGN, no handler of ours; no other part of the program uses SIGIO.
    let _previous = unsafe { libc::signal(libc::SIGIO, libc::SIG_IGN) };
}

/// Asks the kernel to begin writing a range of the file to the disk. A hint: it makes nothing durable, and a
/// file system that does not take it is no worse off.
pub(super) fn start_writeback(file: &File, from: u64, bytes: u64) {
    let (Ok(from), Ok(bytes)) = (from.try_into(), bytes.try_into()) else { return };
    // SAFETY: `file` is borrowed and open; the other arguments are plain integers.
    let _hint = unsafe { libc::sync_file_range(file.as_raw_fd(), from, bytes, libc::SYNC_FILE_RANGE_WRITE) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writer_is_seen_and_its_end_too() {
        ignore_lease_signals();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let writer = File::create(&path).unwrap();
        let reader = File::open(&path).unwrap();
        let seen = writers(&reader);
        // A file system without leases answers Unknown, never None.
        assert_ne!(seen, Writers::None);
        drop(writer);
        if seen == Writers::Some {
            assert_eq!(writers(&reader), Writers::None);
        }
    }
    #[test]
    fn a_mapping_is_a_writer_also_when_its_descriptor_is_closed() {
        ignore_lease_signals();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let writer = File::options().create_new(true).read(true).write(true).open(&path).unwrap();
        writer.set_len(4096).unwrap();
        let flags = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice; nothing reads or writes it.
        let mapping =
            unsafe { libc::mmap(std::ptr::null_mut(), 4096, flags, libc::MAP_SHARED, writer.as_raw_fd(), 0) };
        assert_ne!(mapping, libc::MAP_FAILED);
        drop(writer);
        let reader = File::open(&path).unwrap();
        let seen = writers(&reader);
        assert_ne!(seen, Writers::None);
        // SAFETY: the mapping above, which nobody refers to.
        assert_eq!(unsafe { libc::munmap(mapping, 4096) }, 0);
        if seen == Writers::Some {
            assert_eq!(writers(&reader), Writers::None);
        }
    }
}
