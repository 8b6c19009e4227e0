//! Room on file systems, claimed before it is used: of two files that fit one at a time, one is begun. Where a file
//! system reserves what a file will need, the claim shrinks to nothing; where it cannot, the claim is all there is.

use std::collections::HashMap;
use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

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
    /// Never held while a file system is asked: it is taken on async threads, too.
    claims: Mutex<Claims>,
    /// Of each device: held while it is asked, so that no two see the same free space. One that hangs keeps only
    /// those waiting who want room on it.
    turns: Mutex<HashMap<u64, Arc<Mutex<()>>>>,
}

#[derive(Debug, Default)]
struct Claims {
    next: u64,
    held: HashMap<u64, Claim>,
}

#[derive(Debug, Clone)]
struct Claim {
    device: u64,
    size: u64,
    /// Not a handle of its own: closing one can wait for a server, and claims end on async threads.
    file: Weak<File>,
}

impl Claim {
    /// What the file will still take from the file system's free space; nothing once it is closed.
    fn outstanding(&self) -> u64 {
        let Some(file) = self.file.upgrade() else { return 0 };
        let had = rustix::fs::fstat(&file).map_or(0, |stat| allocated(stat.st_blocks));
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

impl Claimed {
    /// Whether what is claimed still fits: what it lacks otherwise, and then it is claimed no more. Blocks.
    pub fn look(&self, folder: &Dir, min_free: impl Fn(u64) -> u64) -> Result<Option<Lack>, Error> {
        self.room.look(self.number, folder, min_free)
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        self.room.claims().held.remove(&self.number);
    }
}

impl Room {
    /// Claims room for a file of `size` bytes, some of which may be there, and reserves it where that can be done.
    /// `min_free` says, for the size of the file system, how much is to stay free. Blocks.
    pub fn claim(
        self: &Arc<Self>,
        folder: &Dir,
        writer: &Writer,
        size: u64,
        min_free: impl Fn(u64) -> u64,
    ) -> Result<Result<Claimed, Lack>, Error> {
        let device = folder.entry()?.identity.device;
        let claim = Claim { device, size, file: writer.file() };
        let turn = self.turn(device);
        let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        let others = self.on_device(device);
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
        Ok(Ok(self.hold(claim)))
    }

    /// Whether a claim still fits: others may have filled the file system since it was made. One that does not is
    /// given up at once, so that of several that fill it together no more stop than have to.
    fn look(&self, number: u64, folder: &Dir, min_free: impl Fn(u64) -> u64) -> Result<Option<Lack>, Error> {
        let Some(device) = self.claims().held.get(&number).map(|claim| claim.device) else { return Ok(None) };
        let turn = self.turn(device);
        let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        let all = self.on_device(device);
        let (free, total) = folder.space()?;
        let claimed = all.iter().fold(0_u64, |sum, claim| sum.saturating_add(claim.outstanding()));
        let wanted = claimed.saturating_add(min_free(total));
        if free >= wanted {
            return Ok(None);
        }
        self.claims().held.remove(&number);
        Ok(Some(Lack::Bytes(wanted - free)))
    }

    fn hold(self: &Arc<Self>, claim: Claim) -> Claimed {
        let mut claims = self.claims();
        let number = claims.next;
        claims.next += 1;
        claims.held.insert(number, claim);
        Claimed { room: Arc::clone(self), number }
    }

    fn on_device(&self, device: u64) -> Vec<Claim> {
        self.claims().held.values().filter(|claim| claim.device == device).cloned().collect()
    }

    /// The turn on a device. Those that nobody waits for are forgotten: devices come and go.
    fn turn(&self, device: u64) -> Arc<Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        Arc::clone(turns.entry(device).or_default())
    }

    fn claims(&self) -> MutexGuard<'_, Claims> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
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
        Writer::open(dir, name).unwrap()
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
        let (held, _hole) = hold(&room, &dir, "hole", free / 2);
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
    fn hold(room: &Arc<Room>, dir: &Dir, name: &str, size: u64) -> (Claimed, Arc<File>) {
        let file = Arc::new(dir.open_or_create_file(name, Mode::PRIVATE_FILE).unwrap());
        let device = dir.entry().unwrap().identity.device;
        (room.hold(Claim { device, size, file: Arc::downgrade(&file) }), file)
    }

    #[test]
    fn a_file_system_that_hangs_keeps_nobody_else_waiting() {
        let temporary = tempfile::tempdir().unwrap();
        let dir = Dir::open(temporary.path()).unwrap();
        let device = dir.entry().unwrap().identity.device;
        let room = Arc::new(Room::default());
        let (held, file) = hold(&room, &dir, "held", 1);
        let one = writer(&dir, "one");
        // Called where the file system is asked.
        let leave = |_total: u64| {
            assert!(room.turn(device).try_lock().is_err(), "two would see the same free space");
            assert!(room.turn(device + 1).try_lock().is_ok(), "another file system waits for this one");
            assert!(room.claims.try_lock().is_ok(), "the end of a claim waits for the file system");
            1
        };
        room.claim(&dir, &one, 1, leave).unwrap().unwrap();
        drop(held);
        assert!(room.turns.lock().unwrap().len() <= 2);
        assert_eq!(Arc::strong_count(&file), 1, "a claim keeps no file open");
    }

    #[test]
    fn written_bytes_are_no_longer_claimed() {
        let temporary = tempfile::tempdir().unwrap();
        let dir = Dir::open(temporary.path()).unwrap();
        let room = Arc::new(Room::default());
        let (held, file) = hold(&room, &dir, "file", 3 << 20);
        std::fs::write(temporary.path().join("file"), vec![1; 2 << 20]).unwrap();
        dir.open_file("file").unwrap().sync_all().unwrap();
        let outstanding = room.claims.lock().unwrap().held.values().map(Claim::outstanding).sum::<u64>();
        assert_eq!(outstanding, 1 << 20);
        drop(file);
        assert_eq!(room.on_device(dir.entry().unwrap().identity.device)[0].outstanding(), 0, "it is closed");
        drop(held);
        assert!(room.claims.lock().unwrap().held.is_empty());
    }

    #[test]
    fn where_others_fill_the_file_system_one_claim_is_given_up_and_no_more() {
        let temporary = tempfile::tempdir().unwrap();
        let dir = Dir::open(temporary.path()).unwrap();
        let room = Arc::new(Room::default());
        let (free, _) = dir.space().unwrap();
        let (one, _hole) = hold(&room, &dir, "one", free / 4);
        let (other, _other_hole) = hold(&room, &dir, "other", free / 4);
        assert_eq!(one.look(&dir, |_| free / 4).unwrap(), None);
        // Somebody has taken a third of it.
        let leave = |_total: u64| free / 3 * 2;
        assert!(matches!(one.look(&dir, leave).unwrap(), Some(Lack::Bytes(_))));
        assert_eq!(other.look(&dir, leave).unwrap(), None, "there is room for this one alone");
        assert_eq!(one.look(&dir, leave).unwrap(), None, "it claims nothing any more");
        drop(one);
        assert_eq!(room.claims().held.len(), 1);
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
