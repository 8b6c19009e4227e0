//! Room on file systems, claimed before it is used: of two files that fit one at a time, one is begun. Where a file
//! system reserves what a file will need, the claim shrinks to nothing; where it cannot, the claim is all there is.

use std::collections::HashMap;
use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError};

use super::stream::Writer;
use super::{Dir, Error};

/// Inodes that a file under way needs at most: its folder, itself, what stands beside it, and temporary files.
const INODES_EACH: u64 = 8;
/// Inodes that are left free, or a twentieth of all, if that is less.
const MIN_FREE_INODES: u64 = 1024;
/// What `st_blocks` counts in, whatever the file system's own blocks are (stat(2)).
const BLOCK: u64 = 512;

/// What is claimed, on all file systems. One for the whole process.
#[derive(Debug, Default)]
pub struct Room {
    claims: Mutex<Claims>,
}

#[derive(Debug, Default)]
struct Claims {
    next: u64,
    held: HashMap<u64, Claim>,
}

#[derive(Debug)]
struct Claim {
    device: u64,
    size: u64,
    file: File,
}

impl Claim {
    /// What the file will still take from the file system's free space.
    fn outstanding(&self) -> u64 {
        let had = rustix::fs::fstat(&self.file).map_or(0, |stat| allocated(stat.st_blocks));
        self.size.saturating_sub(had)
    }
}

fn allocated(blocks: i64) -> u64 {
    u64::try_from(blocks).unwrap_or_default().saturating_mul(BLOCK)
}

/// Why a file is not begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lack {
    /// So many bytes too few are free.
    Bytes(u64),
    /// So many inodes too few are free.
    Inodes(u64),
}

/// Room that is claimed, until it is dropped.
#[derive(Debug)]
pub struct Claimed {
    room: Arc<Room>,
    number: u64,
}

impl Drop for Claimed {
    fn drop(&mut self) {
        self.room.claims.lock().unwrap_or_else(PoisonError::into_inner).held.remove(&self.number);
    }
}

impl Room {
    /// Claims room for a file of `size` bytes, some of which may be there, and reserves it where that can be done.
    /// `min_free` says, for the size of the file system, how much is to stay free.
    pub fn claim(
        self: &Arc<Self>,
        folder: &Dir,
        writer: &Writer,
        size: u64,
        min_free: impl Fn(u64) -> u64,
    ) -> Result<Result<Claimed, Lack>, Error> {
        let device = folder.entry()?.identity.device;
        let claim = Claim { device, size, file: writer.file()? };
        // Held while the file system is asked, so that no two see the same free space.
        let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        let others: Vec<&Claim> = claims.held.values().filter(|claim| claim.device == device).collect();
        let (free, total) = folder.space()?;
        let claimed = others.iter().fold(0_u64, |sum, claim| sum.saturating_add(claim.outstanding()));
        let wanted = claim.outstanding().saturating_add(claimed).saturating_add(min_free(total));
        if free < wanted {
            return Ok(Err(Lack::Bytes(wanted - free)));
        }
        if let Some(lack) = lack_of_inodes(folder.inodes()?, others.len() as u64) {
            return Ok(Err(lack));
        }
        writer.reserve(size)?;
        let number = claims.next;
        claims.next += 1;
        claims.held.insert(number, claim);
        Ok(Ok(Claimed { room: Arc::clone(self), number }))
    }
}

/// Whether one file more can be begun where `begun` are under way, by the free inodes of all.
fn lack_of_inodes(inodes: Option<(u64, u64)>, begun: u64) -> Option<Lack> {
    let (free, total) = inodes?;
    let wanted = (begun + 1).saturating_mul(INODES_EACH).saturating_add(MIN_FREE_INODES.min(total / 20));
    (free < wanted).then(|| Lack::Inodes(wanted - free))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::Mode;

    fn writer(dir: &Dir, name: &str) -> Writer {
        let file = dir.open_or_create_file(name, Mode::PRIVATE_FILE).unwrap();
        Writer::resume(file, dir.path().join(name)).unwrap()
    }

    #[test]
    fn what_one_file_has_claimed_another_cannot_claim() {
        let temporary = tempfile::tempdir().unwrap();
        let dir = Dir::open(temporary.path()).unwrap();
        let room = Arc::new(Room::default());
        let (free, _) = dir.space().unwrap();
        // Larger than what any other process takes meanwhile, and never reserved: a hole in a file of its own.
        let (one, other) = (writer(&dir, "one"), writer(&dir, "other"));
        let leave = |_total: u64| free / 4;
        let held = hold(&room, &dir, "hole", free / 2);
        let lack = room.claim(&dir, &one, free / 2, leave).unwrap().unwrap_err();
        assert!(matches!(lack, Lack::Bytes(_)), "{lack:?}");
        assert_eq!(one.offset(), 0);
        drop(held);
        let claimed = room.claim(&dir, &one, 1 << 20, leave).unwrap().unwrap();
        // What is reserved, or written, is no longer claimed on top of it.
        let outstanding = room.claims.lock().unwrap().held.values().map(Claim::outstanding).sum::<u64>();
        assert!(outstanding <= 1 << 20, "{outstanding}");
        drop(claimed);
        room.claim(&dir, &other, 1 << 20, leave).unwrap().unwrap();
    }

    /// A claim on a file system that reserves nothing.
    fn hold(room: &Arc<Room>, dir: &Dir, name: &str, size: u64) -> Claimed {
        let file = dir.open_or_create_file(name, Mode::PRIVATE_FILE).unwrap();
        let device = dir.entry().unwrap().identity.device;
        let mut claims = room.claims.lock().unwrap();
        let number = claims.next;
        claims.next += 1;
        claims.held.insert(number, Claim { device, size, file });
        Claimed { room: Arc::clone(room), number }
    }

    #[test]
    fn written_bytes_are_no_longer_claimed() {
        let temporary = tempfile::tempdir().unwrap();
        let dir = Dir::open(temporary.path()).unwrap();
        let room = Arc::new(Room::default());
        let held = hold(&room, &dir, "file", 3 << 20);
        std::fs::write(temporary.path().join("file"), vec![1; 2 << 20]).unwrap();
        dir.open_file("file").unwrap().sync_all().unwrap();
        let outstanding = room.claims.lock().unwrap().held.values().map(Claim::outstanding).sum::<u64>();
        assert_eq!(outstanding, 1 << 20);
        drop(held);
        assert!(room.claims.lock().unwrap().held.is_empty());
    }

    #[test]
    fn the_last_inodes_are_left_alone() {
        assert_eq!(lack_of_inodes(None, 100), None);
        assert_eq!(lack_of_inodes(Some((1032, 1_000_000)), 0), None);
        assert_eq!(lack_of_inodes(Some((1031, 1_000_000)), 0), Some(Lack::Inodes(1)));
        assert_eq!(lack_of_inodes(Some((1032, 1_000_000)), 1), Some(Lack::Inodes(8)));
        assert_eq!(lack_of_inodes(Some((58, 1000)), 0), None);
        assert_eq!(lack_of_inodes(Some((0, 1000)), 0), Some(Lack::Inodes(58)));
    }
}
