//! What a folder can do, found out by trying, since documentation of file systems, mounts and containers does not
//! say. A probe leaves nothing behind.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, OFlags, RenameFlags};
use rustix::io::Errno;

use super::{Dir, Entry, EntryKind, Error, FileSystem, Writers, writers};
use crate::seams::Random;

/// What everything begins with that a probe makes: hidden, so that nobody sends it or opens it.
pub const PROBE_PREFIX: &str = ".formidlingd-probe-";

/// A probe takes a moment; one of this age was left by a crash.
const OLD_NS: i64 = 10_000_000_000;
/// Old probes that are removed at once.
const MAX_LEFT: usize = 1000;

/// How the kernel tells whether somebody has a file open for writing (fcntl(2), "Leases").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leases {
    /// Of every file: `CAP_LEASE` is there.
    OfAll,
    /// Of files of the service's own user alone.
    OfOwn,
    /// Of none: the file system has no leases, or does not see writers.
    OfNone,
}

/// How a file is moved without ever overwriting another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoReplace {
    /// By `RENAME_NOREPLACE` (renameat2(2)).
    Rename,
    /// By a hard link and an unlink.
    Link,
    /// There is no way.
    Impossible,
}

/// What was found out about a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Probe {
    /// The file system that it lies on.
    pub file_system: FileSystem,
    /// Whether writers can be seen.
    pub leases: Leases,
    /// How files are moved.
    pub no_replace: NoReplace,
    /// Whether names can be made durable (fsync(2) of a folder).
    pub syncs_folders: bool,
    /// Whether `A` and `a` are two names.
    pub tells_case: bool,
    /// Whether a composed letter and its decomposed form are two names, as on most Linux file systems.
    pub tells_composition: bool,
    /// Whether others may rename or remove what lies in the folder and is not theirs: they may write to it, and it
    /// has no sticky bit.
    pub is_open_to_others: bool,
    /// Whether the folder is another user's, who may always rename what lies in it.
    pub is_anothers: bool,
}

impl Probe {
    /// Tries a folder out.
    pub fn of(folder: &Dir, random: &dyn Random) -> Result<Self, Error> {
        let name = Names::new(random);
        let found = Self::try_out(folder, &name);
        // Whatever was found, nothing stays.
        for left in name.all() {
            folder.remove_probe(left)?;
        }
        found
    }

    fn try_out(folder: &Dir, name: &Names) -> Result<Self, Error> {
        let entry = folder.entry()?;
        let euid = rustix::process::geteuid().as_raw();
        let others_write = entry.mode & 0o022 != 0;
        let file = folder.create_probe(&name.first)?;
        remove_old_probes(folder, &file)?;
        let (tells_case, tells_composition) = (folder.look(&name.first_in_capitals)?.is_none(), {
            drop(folder.create_probe(&name.composed)?);
            folder.look(&name.decomposed)?.is_none()
        });
        let file_system = FileSystem::of(folder)?;
        // Of who writes on another machine, or behind a FUSE file system, this kernel knows nothing.
        let leases = if file_system.is_shared() { Leases::OfNone } else { leases(folder, name, file)? };
        drop(folder.create_probe(&name.second)?);
        Ok(Self {
            file_system,
            leases,
            no_replace: no_replace(folder, name)?,
            syncs_folders: folder.can_sync()?,
            tells_case,
            tells_composition,
            is_open_to_others: others_write && entry.mode & 0o1000 == 0,
            is_anothers: euid != 0 && entry.owner != euid && entry.owner != 0,
        })
    }

    /// In a few words, for people.
    #[must_use]
    pub fn describe(&self) -> String {
        let mut text = format!("{} file system", self.file_system.name());
        let leases = match self.leases {
            Leases::OfAll => "writers are seen",
            Leases::OfOwn => "writers of the service's own files are seen, others' are waited for longer",
            Leases::OfNone => "writers cannot be seen, files are waited for longer",
        };
        let moves = match self.no_replace {
            NoReplace::Rename => "moves never overwrite",
            NoReplace::Link => "moves by hard link",
            NoReplace::Impossible => "moves might overwrite",
        };
        // Writing to a String cannot fail.
        let _infallible = write!(text, "; {leases}; {moves}");
        for (is_so, words) in [
            (!self.syncs_folders, "; names cannot be synced"),
            (!self.tells_case, "; upper and lower case are one"),
            (!self.tells_composition, "; composed and decomposed letters are one"),
        ] {
            if is_so {
                text.push_str(words);
            }
        }
        text
    }
}

/// Tries whether a file can be moved from one folder into another, which it cannot across mounts even of one file
/// system: an error that [`Error::is_cross_device`] then.
pub fn try_move(from: &Dir, to: &Dir, random: &dyn Random) -> Result<(), Error> {
    let name = Names::new(random).first;
    let file = from.create_probe(&name)?;
    remove_old_probes(to, &file)?;
    // Nothing else has this name, so that nothing can be overwritten.
    let moved = rustix::fs::renameat(&*from.fd, &name, &*to.fd, &name);
    from.remove_probe(&name)?;
    to.remove_probe(&name)?;
    moved.map_err(|error| Error::new("move a file to", to.path(), error))
}

/// Makes a file and removes it again, so that whoever watches the folder is told. The name begins with
/// [`PROBE_PREFIX`].
pub fn show_probe(folder: &Dir, random: &dyn Random) -> Result<(), Error> {
    let name = Names::new(random).first;
    drop(folder.create_probe(&name)?);
    folder.remove_probe(&name)
}

/// Names that nothing has, of a shape that nothing else has.
#[derive(Debug)]
struct Names {
    first: OsString,
    first_in_capitals: OsString,
    second: OsString,
    third: OsString,
    composed: OsString,
    decomposed: OsString,
}

impl Names {
    fn new(random: &dyn Random) -> Self {
        let number = u128::from_ne_bytes(random.bytes());
        let name = |rest: &str| OsString::from(format!("{PROBE_PREFIX}{number:032x}-{rest}"));
        Self {
            first: name("a"),
            first_in_capitals: name("A"),
            second: name("b"),
            third: name("c"),
            composed: name("\u{e5}"),
            decomposed: name("a\u{30a}"),
        }
    }

    fn all(&self) -> [&OsString; 6] {
        [&self.first, &self.first_in_capitals, &self.second, &self.third, &self.composed, &self.decomposed]
    }
}

/// Whether a lease is refused while there is a writer, and given when there is none.
fn leases(folder: &Dir, name: &Names, writer: File) -> Result<Leases, Error> {
    let reader = folder.open_probe(&name.first, OFlags::RDONLY)?;
    let with_writer = writers(&reader);
    drop(writer);
    let without = writers(&reader);
    if with_writer != Writers::Some || without != Writers::None {
        return Ok(Leases::OfNone);
    }
    let may = rustix::thread::capabilities(None)
        .is_ok_and(|sets| sets.effective.contains(rustix::thread::CapabilitySet::LEASE));
    Ok(if may { Leases::OfAll } else { Leases::OfOwn })
}

/// Whether a rename onto a taken name is refused, and one onto a free name is not. Both are tried: some file systems
/// refuse the flag only where the name is free, because the kernel itself looks at the other case.
fn no_replace(folder: &Dir, name: &Names) -> Result<NoReplace, Error> {
    let wrong = |operation, error: Errno| Error::new(operation, folder.path(), error);
    let rename = |to: &OsString| {
        rustix::fs::renameat_with(&*folder.fd, &name.first, &*folder.fd, to, RenameFlags::NOREPLACE)
    };
    let onto_taken = rename(&name.second);
    if onto_taken == Err(Errno::EXIST) && rename(&name.third).is_ok() {
        return Ok(NoReplace::Rename);
    }
    if onto_taken.is_ok() {
        return Ok(NoReplace::Impossible);
    }
    match rustix::fs::linkat(&*folder.fd, &name.first, &*folder.fd, &name.third, AtFlags::empty()) {
        Ok(()) => Ok(NoReplace::Link),
        Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::MLINK | Errno::INVAL) => {
            Ok(NoReplace::Impossible)
        }
        Err(error) => Err(wrong("link a file in", error)),
    }
}

/// Apart from the operations that tests let fail: a probe asks what the file system itself does.
impl Dir {
    fn create_probe(&self, name: &OsString) -> Result<File, Error> {
        self.open_probe(name, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL)
    }

    fn open_probe(&self, name: &OsString, flags: OFlags) -> Result<File, Error> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::openat(&*self.fd, name, flags, mode)
            .map(File::from)
            .map_err(|error| Error::new("make a file in", self.path(), error))
    }

    fn remove_probe(&self, name: &OsString) -> Result<(), Error> {
        match rustix::fs::unlinkat(&*self.fd, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(Error::new("remove a file from", self.path(), error)),
        }
    }
}

/// Removes what a crash left of probes in a folder: what is empty, named as a probe, and older by a while than the one
/// that has just been made. By the file system's own clock, which may be another machine's.
fn remove_old_probes(folder: &Dir, newest: &File) -> Result<(), Error> {
    let newest =
        Entry::of_file(newest).map_err(|error| Error::new("look at a file in", folder.path(), error))?;
    remove_probes_before(folder, newest.changed_ns.saturating_sub(OLD_NS))
}

fn remove_probes_before(folder: &Dir, before: i64) -> Result<(), Error> {
    let mut left = Vec::new();
    folder.for_each_name(|name| {
        if name.as_bytes().starts_with(PROBE_PREFIX.as_bytes()) {
            left.push(name.to_owned());
        }
        left.len() < MAX_LEFT
    })?;
    for name in left {
        let is_old = |entry: Entry| {
            entry.kind == EntryKind::File && entry.identity.size == 0 && entry.changed_ns < before
        };
        if folder.look(&name)?.is_some_and(is_old) {
            folder.remove_probe(&name)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Mode;
    use super::*;
    use crate::seams::OsRandom;

    #[test]
    fn a_folder_is_tried_out_and_nothing_stays() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = Dir::open(temporary.path()).unwrap();
        let probe = Probe::of(&folder, &OsRandom).unwrap();
        assert_ne!(probe.no_replace, NoReplace::Impossible);
        assert!(!probe.is_open_to_others && !probe.is_anothers);
        assert!(probe.describe().contains(probe.file_system.name()));
        assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_in_which_others_may_rename_ours_is_told() {
        use std::os::unix::fs::PermissionsExt;
        let temporary = tempfile::tempdir().unwrap();
        let folder = Dir::open(temporary.path()).unwrap();
        for (mode, is_open) in
            [(0o770, true), (0o1770, false), (0o3770, false), (0o750, false), (0o757, true)]
        {
            std::fs::set_permissions(temporary.path(), std::fs::Permissions::from_mode(mode)).unwrap();
            let probe = Probe::of(&folder, &OsRandom).unwrap();
            assert_eq!(probe.is_open_to_others, is_open, "{mode:o}");
        }
    }

    #[test]
    fn a_move_is_tried_both_ways_of_ending() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = Dir::open(temporary.path()).unwrap();
        let below = folder.ensure_subfolder("below", Mode::PRIVATE_FOLDER).unwrap();
        try_move(&folder, &below, &OsRandom).unwrap();
        assert_eq!(std::fs::read_dir(temporary.path().join("below")).unwrap().count(), 0);
        let Some(other) = ["/dev/shm", "/run", "/tmp", "/var/tmp"].into_iter().find_map(|path| {
            let other = tempfile::tempdir_in(path).ok()?;
            let is_other = Dir::open(other.path()).ok()?.entry().ok()?.identity.device
                != folder.entry().ok()?.identity.device;
            is_other.then_some(other)
        }) else {
            // Shown by the tests that mount file systems of their own.
            return;
        };
        let elsewhere = Dir::open(other.path()).unwrap();
        assert!(try_move(&folder, &elsewhere, &OsRandom).unwrap_err().is_cross_device());
        assert_eq!(std::fs::read_dir(other.path()).unwrap().count(), 0);
        assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 1);
    }

    #[test]
    fn old_probes_are_removed_and_nothing_else() {
        let temporary = tempfile::tempdir().unwrap();
        for (name, content) in [("1-a", ""), ("2-b", "content")] {
            std::fs::write(temporary.path().join(format!("{PROBE_PREFIX}{name}")), content).unwrap();
        }
        std::fs::write(temporary.path().join("file"), "").unwrap();
        let folder = Dir::open(temporary.path()).unwrap();
        let count = || std::fs::read_dir(temporary.path()).unwrap().count();
        show_probe(&folder, &OsRandom).unwrap();
        assert_eq!(count(), 3, "a probe that goes on");
        let newest = File::open(temporary.path().join("file")).unwrap();
        remove_probes_before(&folder, Entry::of_file(&newest).unwrap().changed_ns + 1).unwrap();
        assert_eq!(count(), 2);
    }
}
