//! Room that is kept for the day the disk is full: a file that can be given up, so that what was begun can be finished
//! and remembered while nothing new is begun.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::FallocateFlags;

use super::{Error, disk};
use crate::seams::{self, crash_point};

/// How large it is, and how much is left free beside it, where nobody says otherwise: this, or a part of the file system,
/// whichever is less.
const USUAL: u64 = 64 * 1024 * 1024;
const PART: u64 = 16;

/// The ballast of a state directory. Every method blocks.
#[derive(Debug, Clone)]
pub struct Ballast {
    path: PathBuf,
    size: Option<u64>,
    min_free: Option<u64>,
}

/// How things stand with the disk, in bytes.
#[derive(Debug, Clone, Copy)]
struct Space {
    free: u64,
    size: u64,
    min_free: u64,
}

impl Ballast {
    /// That of the state directory `state`: so large, with so much left free beside it; `None` means the usual.
    #[must_use]
    pub fn of(state: &Path, size: Option<u64>, min_free: Option<u64>) -> Self {
        Self { path: state.join("ballast"), size, min_free }
    }

    fn space(&self) -> Result<Space, Error> {
        let state = self.path.parent().unwrap_or(&self.path);
        let space = rustix::fs::statvfs(state)
            .map_err(|errno| Error::io("look at the room in", state, errno.into()))?;
        let total = space.f_blocks.saturating_mul(space.f_frsize);
        let usual = USUAL.min(total / PART);
        Ok(Space {
            free: seams::injected_space().unwrap_or_else(|| space.f_bavail.saturating_mul(space.f_frsize)),
            size: self.size.unwrap_or(usual),
            min_free: self.min_free.unwrap_or(usual),
        })
    }

    fn is_there(&self, size: u64) -> bool {
        size == 0 || std::fs::metadata(&self.path).is_ok_and(|file| file.len() >= size)
    }

    /// Sees to it: it is made where there is room for it and more, and given up where hardly any is left. Whether there
    /// is room for new work: not before it is there again, so that nobody lives on it for long.
    pub fn look_after(&self) -> Result<bool, Error> {
        let space = self.space()?;
        if !self.is_there(space.size) {
            if space.free < space.size.saturating_add(space.min_free) {
                return Ok(false);
            }
            match self.make(space.size) {
                Err(error) if error.is_full() => return Ok(false),
                made => made?,
            }
        } else if space.size > 0 && space.free < space.size.min(space.min_free) / 4 {
            self.give_up()?;
            return Ok(false);
        }
        Ok(self.space()?.free >= space.min_free)
    }

    /// Whether as much is free now as is to be left. Changes nothing.
    pub(super) fn leaves_enough(&self) -> Result<bool, Error> {
        let space = self.space()?;
        Ok(space.free >= space.min_free)
    }

    fn make(&self, size: u64) -> Result<(), Error> {
        let failed = |source: io::Error| Error::io("make", &self.path, source);
        let file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&self.path);
        let file: File = file.map_err(failed)?;
        crash_point("ballast:made");
        let filled = match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, size) {
            // Room that is only promised is no ballast.
            Err(rustix::io::Errno::OPNOTSUPP) => fill(&file, size),
            filled => filled.map_err(io::Error::from),
        };
        let made = filled.and_then(|()| file.sync_all()).map_err(failed);
        if made.is_err() {
            self.give_up()?;
        }
        made
    }

    /// Gives it up; whether there was one.
    pub fn give_up(&self) -> Result<bool, Error> {
        match std::fs::remove_file(&self.path) {
            Ok(()) => {
                crash_point("ballast:given_up");
                if let Some(state) = self.path.parent() {
                    disk::sync_dir(state)?;
                }
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(Error::io("delete", &self.path, source)),
        }
    }
}

/// File systems that cannot reserve are written to. Not zeros: they may be kept as nothing.
fn fill(mut file: &File, size: u64) -> io::Result<()> {
    use std::io::Write;
    let block = vec![0xa5; 64 * 1024];
    let mut left = size;
    while left > 0 {
        let part =
            block.get(..usize::try_from(left).unwrap_or(usize::MAX).min(block.len())).unwrap_or(&block);
        file.write_all(part)?;
        left = left.saturating_sub(part.len() as u64);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_made_where_there_is_room_and_given_up_where_there_is_none() {
        let state = tempfile::tempdir().unwrap();
        let file = state.path().join("ballast");
        let ballast = |size, min_free| Ballast::of(state.path(), Some(size), Some(min_free));
        let too_much = u64::MAX / 2;
        assert!(ballast(100_000, 1).look_after().unwrap());
        assert_eq!(file.metadata().unwrap().len(), 100_000);
        // No disk has so much room: nothing new is begun, and what was begun has enough.
        assert!(!ballast(100_000, too_much).look_after().unwrap());
        assert!(file.exists());
        assert!(ballast(100_000, 1).give_up().unwrap() && !ballast(100_000, 1).give_up().unwrap());
        // It is not made where that would leave too little.
        assert!(!ballast(100_000, too_much).look_after().unwrap());
        assert!(!file.exists());
        // So large that hardly anything can be left: it is given up.
        File::create(&file).unwrap().set_len(too_much / 4).unwrap_or_default();
        if file.metadata().unwrap().len() > 0 {
            assert!(!ballast(too_much / 4, too_much).look_after().unwrap());
            assert!(!file.exists());
        }
        // None is wanted.
        assert!(ballast(0, 0).look_after().unwrap());
        assert!(!ballast(0, too_much).look_after().unwrap());
    }
}
