//! Which names are taken in the folders of an inbox: what lies there, whoever laid it there, and what deliveries
//! under way have chosen. Names that differ in case or composition alone are one, since on a share they would be.
//!
//! A folder may hold 100 000 files, so it is not listed for each delivery: hashes of its names are kept until the
//! folder's times show that somebody else has changed it. What this never does is make a delivery overwrite
//! anything: that is the rename's promise, and it does not rest on this memory.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::files::{Dir, Error};
use crate::transfer::{Companion, InboxPlace, SafeFileName, TransferId, folded};

/// Hashes that are kept, of all folders together: a few MiB. A folder with more names is listed each time.
const MAX_NAMES: usize = 300_000;
/// Folders that are remembered at once.
const MAX_FOLDERS: usize = 64;
/// How long a listing is believed. A file system's times are coarse, so that a name which somebody else adds in the
/// instant of one of ours would go unseen.
const BELIEVED: Duration = Duration::from_mins(1);

/// The names of one inbox.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// With a key of its own, so that nobody can choose names whose hashes meet.
    hasher: RandomState,
    /// What deliveries under way have chosen. Never held while a file system is asked: it is taken on async threads,
    /// too.
    reserved: Mutex<HashMap<TransferId, Vec<u64>>>,
    /// Held while folders are listed and changed, on blocking threads alone. Taken after the other, never before it.
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    folders: HashMap<FolderKey, Listing>,
    /// Counts uses, to forget what was used longest ago.
    uses: u64,
    #[cfg(test)]
    listings: usize,
}

/// Device and inode.
type FolderKey = (u64, u64);

/// Times of the last change, of names and of attributes.
type Stamp = (i64, i64);

#[derive(Debug)]
struct Listing {
    stamp: Stamp,
    listed: Instant,
    used: u64,
    names: HashSet<u64>,
}

/// What is laid down under one name: all of it is free, or none.
#[derive(Debug)]
struct Unit {
    folder: String,
    names: Vec<String>,
}

impl Unit {
    fn of(place: &InboxPlace, is_whole: bool) -> Self {
        match &place.folder {
            Some(folder) if is_whole => Self { folder: String::new(), names: vec![folded(folder.as_str())] },
            folder => Self {
                folder: folder.as_ref().map(|folder| folded(folder.as_str())).unwrap_or_default(),
                names: pair(&place.name),
            },
        }
    }
}

/// The names of a file and of its metadata, whether or not metadata is written.
fn pair(name: &SafeFileName) -> Vec<String> {
    vec![folded(name.as_str()), folded(&name.companion(Companion::Metadata))]
}

impl Names {
    /// The first of the places that is free in `into`, reserved for this transfer until [`Names::release`].
    /// `is_whole` says that the place's folder is what gets a name in `into`. Blocks.
    pub(super) fn choose(
        &self,
        into: &Dir,
        id: TransferId,
        places: impl IntoIterator<Item = InboxPlace>,
        is_whole: bool,
    ) -> Result<Option<InboxPlace>, Error> {
        let before = self.reserved_names().get(&id).cloned();
        let chosen = self.choose_free(into, id, places, is_whole);
        if !matches!(chosen, Ok(Some(_))) {
            let mut reserved = self.reserved_names();
            match before {
                Some(before) => reserved.insert(id, before),
                None => reserved.remove(&id),
            };
        }
        chosen
    }

    /// Each place is reserved before it is looked at, so that whoever looks at it later sees either what a delivery
    /// has reserved or what it has laid down.
    fn choose_free(
        &self,
        into: &Dir,
        id: TransferId,
        places: impl IntoIterator<Item = InboxPlace>,
        is_whole: bool,
    ) -> Result<Option<InboxPlace>, Error> {
        for place in places {
            let unit = Unit::of(&place, is_whole);
            if self.reserve_free(id, self.hashes(&unit)) && !self.is_any_in(into, &unit.names)? {
                return Ok(Some(place));
            }
        }
        Ok(None)
    }

    /// Reserves names unless another transfer has one of them.
    fn reserve_free(&self, id: TransferId, hashes: Vec<u64>) -> bool {
        let mut reserved = self.reserved_names();
        let mut others = reserved.iter().filter(|(other, _)| **other != id);
        let is_free = !others.any(|(_, reserved)| reserved.iter().any(|hash| hashes.contains(hash)));
        if is_free {
            reserved.insert(id, hashes);
        }
        is_free
    }

    /// Reserves a place that was chosen before this start.
    pub(super) fn reserve(&self, id: TransferId, place: &InboxPlace, is_whole: bool) {
        let hashes = self.hashes(&Unit::of(place, is_whole));
        self.reserved_names().insert(id, hashes);
    }

    /// Ends a reservation: the file lies there, or will not.
    pub(super) fn release(&self, id: TransferId) {
        self.reserved_names().remove(&id);
    }

    /// How many deliveries are under way.
    pub(super) fn reserved(&self) -> usize {
        self.reserved_names().len()
    }

    /// Whether a name that is the same to people lies in the folder. Blocks.
    pub(super) fn is_in(&self, into: &Dir, name: &str) -> Result<bool, Error> {
        self.is_any_in(into, &[folded(name)])
    }

    /// Adds a name to the folder by `add`, and remembers that this change was ours. Blocks.
    pub(super) fn add(
        &self,
        into: &Dir,
        name: &str,
        add: impl FnOnce() -> Result<(), Error>,
    ) -> Result<(), Error> {
        // Held while the name is added, so that the folder's times before and after frame this change alone.
        let mut known = self.known();
        let (key, before) = stamp(into)?;
        let added = add();
        let Ok((_, after)) = stamp(into) else { return added };
        if let Some(listing) = known.folders.get_mut(&key).filter(|listing| listing.stamp == before) {
            listing.stamp = after;
            if added.is_ok() {
                listing.names.insert(self.hash(&folded(name)));
            }
        }
        // It was taken, and the listing did not know.
        if added.as_ref().is_err_and(Error::is_taken) {
            known.folders.remove(&key);
        }
        added
    }

    fn is_any_in(&self, into: &Dir, names: &[String]) -> Result<bool, Error> {
        let hashes: Vec<u64> = names.iter().map(|name| self.hash(name)).collect();
        let mut known = self.known();
        let (key, stamp) = stamp(into)?;
        known.uses += 1;
        let uses = known.uses;
        if let Some(listing) = known.folders.get_mut(&key)
            && listing.stamp == stamp
            && listing.listed.elapsed() < BELIEVED
        {
            listing.used = uses;
            return Ok(hashes.iter().any(|hash| listing.names.contains(hash)));
        }
        known.folders.remove(&key);
        #[cfg(test)]
        {
            known.listings += 1;
        }
        let mut all = HashSet::new();
        let (mut found, mut is_kept) = (false, true);
        into.for_each_name(|name| {
            let hash = self.hash(&folded(&name.to_string_lossy()));
            found |= hashes.contains(&hash);
            if is_kept {
                all.insert(hash);
                is_kept = all.len() <= MAX_NAMES;
                if !is_kept {
                    all = HashSet::new();
                }
            }
            is_kept || !found
        })?;
        if is_kept {
            known.make_room_for(all.len());
            known.folders.insert(key, Listing { stamp, listed: Instant::now(), used: uses, names: all });
        }
        Ok(found)
    }

    fn hash(&self, folded: &str) -> u64 {
        self.hasher.hash_one(folded)
    }

    fn hashes(&self, unit: &Unit) -> Vec<u64> {
        unit.names.iter().map(|name| self.hasher.hash_one((&unit.folder, name))).collect()
    }

    fn reserved_names(&self) -> MutexGuard<'_, HashMap<TransferId, Vec<u64>>> {
        self.reserved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn make_room_for(&mut self, names: usize) {
        let kept = |folders: &HashMap<FolderKey, Listing>| -> usize {
            folders.values().map(|listing| listing.names.len()).sum()
        };
        while self.folders.len() >= MAX_FOLDERS || kept(&self.folders) + names > MAX_NAMES {
            let oldest = self.folders.iter().min_by_key(|(_, listing)| listing.used).map(|(key, _)| *key);
            let Some(oldest) = oldest else { return };
            self.folders.remove(&oldest);
        }
    }
}

fn stamp(folder: &Dir) -> Result<(FolderKey, Stamp), Error> {
    let entry = folder.entry()?;
    let identity = entry.identity;
    Ok(((identity.device, identity.inode), (identity.modified_ns, entry.changed_ns)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::Mode;

    struct Inbox {
        temporary: tempfile::TempDir,
        dir: Dir,
        names: Names,
    }

    impl Inbox {
        fn new() -> Self {
            let temporary = tempfile::tempdir().unwrap();
            let dir = Dir::open(temporary.path()).unwrap();
            Self { temporary, dir, names: Names::default() }
        }

        fn lay(&self, name: &str) {
            std::fs::write(self.temporary.path().join(name), name).unwrap();
        }

        /// The first free of a name and the one that is told apart.
        fn choose(&self, id: u8, name: &str) -> Option<String> {
            let name: SafeFileName = name.parse().unwrap();
            let names = [name.clone(), name.distinguished("0a1b2c3d")];
            let places = names.map(|name| InboxPlace { folder: None, name, metadata: true });
            let chosen = self.names.choose(&self.dir, transfer(id), places, false).unwrap();
            chosen.map(|place| place.name.as_str().to_owned())
        }

        /// As a delivery does.
        fn deliver(&self, name: &str) {
            let created = || self.dir.create(name, b"x", Mode::PRIVATE_FILE);
            self.names.add(&self.dir, name, created).unwrap();
        }

        fn listings(&self) -> usize {
            self.names.known().listings
        }
    }

    fn transfer(id: u8) -> TransferId {
        format!("01936f2a-0000-7000-8000-0000000000{id:02x}").parse().unwrap()
    }

    #[test]
    fn names_that_a_share_takes_for_one_do_not_meet() {
        let inbox = Inbox::new();
        for (there, new) in [
            ("Rapport.pdf", "rapport.PDF"),
            ("A\u{30A}rsak.txt", "årsak.txt"),
            ("STRASSE.txt", "straße.txt"),
            ("ΟΔΟΣ.txt", "οδος.txt"),
            ("brev.pdf.META.json", "Brev.pdf"),
        ] {
            inbox.lay(there);
            let told_apart = new.rsplit_once('.').map(|(stem, end)| format!("{stem}~0a1b2c3d.{end}"));
            assert_eq!(inbox.choose(1, new), told_apart, "{new} beside {there}");
        }
        assert_eq!(inbox.choose(1, "rapport2.pdf").as_deref(), Some("rapport2.pdf"));
    }

    #[test]
    fn what_others_add_and_take_is_seen_at_once() {
        let inbox = Inbox::new();
        assert_eq!(inbox.choose(1, "a.txt").as_deref(), Some("a.txt"));
        // The times of a folder are coarse: two changes within one tick look like one.
        let (_, before) = stamp(&inbox.dir).unwrap();
        while stamp(&inbox.dir).unwrap().1 == before {
            inbox.lay("A.TXT");
            std::fs::rename(inbox.temporary.path().join("A.TXT"), inbox.temporary.path().join("A.txt"))
                .unwrap();
        }
        assert_eq!(inbox.choose(1, "a.txt").as_deref(), Some("a~0a1b2c3d.txt"));
        let (_, before) = stamp(&inbox.dir).unwrap();
        std::fs::remove_file(inbox.temporary.path().join("A.txt")).unwrap();
        while stamp(&inbox.dir).unwrap().1 == before {
            inbox.lay("b");
            std::fs::remove_file(inbox.temporary.path().join("b")).unwrap();
        }
        assert_eq!(inbox.choose(1, "a.txt").as_deref(), Some("a.txt"));
    }

    #[test]
    fn deliveries_under_way_do_not_meet() {
        let inbox = Inbox::new();
        assert_eq!(inbox.choose(1, "a.txt").as_deref(), Some("a.txt"));
        assert_eq!(inbox.choose(2, "A.TXT").as_deref(), Some("A~0a1b2c3d.TXT"));
        assert_eq!(inbox.choose(3, "a.txt"), None, "both are taken");
        assert_eq!(inbox.choose(1, "a.txt").as_deref(), Some("a.txt"), "it is its own");
        inbox.names.release(transfer(1));
        assert_eq!(inbox.choose(3, "a.txt").as_deref(), Some("a.txt"));
        // One that was chosen before this start.
        let place = InboxPlace { folder: None, name: "B.txt".parse().unwrap(), metadata: false };
        inbox.names.reserve(transfer(4), &place, false);
        assert_eq!(inbox.choose(5, "b.txt").as_deref(), Some("b~0a1b2c3d.txt"));
        assert_eq!(inbox.names.reserved(), 4);
    }

    #[test]
    fn a_folder_that_hangs_keeps_no_reservation_waiting() {
        let inbox = Inbox::new();
        let place = InboxPlace { folder: None, name: "a.txt".parse().unwrap(), metadata: true };
        let added = inbox.names.add(&inbox.dir, "a.txt", || {
            // As a rename that hangs, or a listing.
            assert!(inbox.names.known.try_lock().is_err(), "changes of names are told apart");
            assert!(inbox.names.reserved.try_lock().is_ok(), "async threads would wait");
            inbox.names.reserve(transfer(1), &place, false);
            inbox.names.release(transfer(1));
            inbox.dir.create("a.txt", b"x", Mode::PRIVATE_FILE)
        });
        added.unwrap();
        assert_eq!(inbox.names.reserved(), 0);
    }

    #[test]
    fn a_choice_that_fails_leaves_what_was_reserved_before() {
        let inbox = Inbox::new();
        assert_eq!(inbox.choose(1, "a.txt").as_deref(), Some("a.txt"));
        for name in ["b.txt", "b~0a1b2c3d.txt"] {
            inbox.lay(name);
        }
        assert_eq!((inbox.choose(1, "b.txt"), inbox.choose(2, "b.txt")), (None, None));
        assert_eq!(inbox.names.reserved(), 1);
        assert_eq!(inbox.choose(2, "a.txt").as_deref(), Some("a~0a1b2c3d.txt"));
    }

    #[test]
    fn a_folder_is_not_listed_for_each_delivery() {
        let inbox = Inbox::new();
        for number in 0..500 {
            inbox.lay(&format!("there-{number}"));
        }
        for number in 0..50 {
            let name = format!("new-{number}.txt");
            assert_eq!(inbox.choose(1, &name).as_deref(), Some(name.as_str()));
            inbox.deliver(&name);
            let other = name.to_uppercase();
            assert_eq!(inbox.choose(2, &other), Some(other.replace(".TXT", "~0a1b2c3d.TXT")));
        }
        // It is believed for a minute; a slow machine may need a second one.
        assert!(inbox.listings() <= 2, "{}", inbox.listings());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut known = Known::default();
        for number in 0..1000 {
            known.make_room_for(MAX_NAMES / 10);
            let names = (0..MAX_NAMES as u64 / 10).collect();
            let listing = Listing { stamp: (0, 0), listed: Instant::now(), used: number, names };
            known.folders.insert((0, number), listing);
            assert!(known.folders.len() <= 10);
            if number > 30 {
                break;
            }
        }
        assert!(known.folders.contains_key(&(0, 31)) && !known.folders.contains_key(&(0, 1)));
        known.folders.clear();
        for number in 0..200 {
            known.make_room_for(0);
            let listing =
                Listing { stamp: (0, 0), listed: Instant::now(), used: number, names: HashSet::new() };
            known.folders.insert((0, number), listing);
        }
        assert_eq!(known.folders.len(), MAX_FOLDERS);
    }
}
