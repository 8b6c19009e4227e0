//! Directories that survive a loss of power, and the lock that keeps a second process out.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use super::Error;
use crate::seams;

/// Creates a private directory where there is none, and makes its entry durable.
pub(super) fn create_dir(path: &Path) -> Result<(), Error> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| Error::io("create the directory", path, source))?;
    match path.parent() {
        Some(parent) if parent != Path::new("") => sync_dir(parent),
        _ => Ok(()),
    }
}

/// Makes the entries of a directory durable.
pub(super) fn sync_dir(path: &Path) -> Result<(), Error> {
    File::open(path)
        .and_then(|directory| seams::sync_file(&directory))
        .map_err(|source| Error::io("sync the directory", path, source))
}

/// Removes a file that may not be there.
pub(super) fn remove_file(path: &Path) -> Result<(), Error> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("delete", path, error)),
        _ => Ok(()),
    }
}

/// Removes a directory that may not be there, with everything in it.
pub(super) fn remove_dir(path: &Path) -> Result<(), Error> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("delete", path, error)),
        _ => Ok(()),
    }
}

/// Copies a file. Its content is durable afterwards, its name is not.
pub(super) fn copy_file(from: &Path, to: &Path) -> Result<(), Error> {
    let copied = std::fs::copy(from, to).and_then(|_| seams::sync_file(&File::open(to)?));
    copied.map_err(|source| Error::io("copy", from, source))
}

/// Copies a directory with everything in it, durably.
pub(super) fn copy_dir(from: &Path, to: &Path) -> Result<(), Error> {
    create_dir(to)?;
    for entry in read_dir(from)? {
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type().map_err(|error| Error::io("copy", &source, error))?.is_dir() {
            copy_dir(&source, &target)?;
        } else {
            copy_file(&source, &target)?;
        }
    }
    sync_dir(to)
}

/// The entries of a directory.
pub(super) fn read_dir(path: &Path) -> Result<Vec<std::fs::DirEntry>, Error> {
    std::fs::read_dir(path)
        .and_then(Iterator::collect)
        .map_err(|source| Error::io("list the directory", path, source))
}

/// Exclusive possession of a state directory, until dropped or the process ends in whatever way.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "the lock lasts as long as the file is open")] File);

impl Lock {
    pub(super) fn take(directory: &Path) -> Result<Self, Error> {
        let path = directory.join("lock");
        let failed = |source| Error::io("lock", &path, source);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(Error::InUse { path: directory.to_owned(), pid: read_pid(&mut file) });
            }
            Err(errno) => return Err(failed(errno.into())),
        }
        write_pid(&mut file).map_err(failed)?;
        Ok(Self(file))
    }
}

fn write_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    writeln!(file, "{}", std::process::id())
}

/// The pid in a lock file; `None` where its owner has not come so far as to write it.
fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}
