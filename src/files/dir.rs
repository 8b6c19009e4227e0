//! Folders, held open.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, OFlags, RenameFlags, Stat};
use rustix::io::Errno;
use serde::de::DeserializeOwned;

use super::Error;
use super::error::{RECOGNISE, TRUST};
use crate::seams::crash_point;
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

    fn raw(self) -> rustix::fs::Mode {
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
    fn of(stat: &Stat) -> Self {
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

    /// What is known of an open file.
    pub fn of_file(file: &File) -> std::io::Result<Self> {
        Ok(Self::of(&rustix::fs::fstat(file)?))
    }
}

fn nanoseconds(seconds: i64, nanoseconds: impl TryInto<i64>) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds.try_into().unwrap_or_default())
}

/// A folder that is held open. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Dir {
    fd: Arc<OwnedFd>,
    path: PathBuf,
    /// Where temporary files are written; in the folder itself if there is none.
    scratch: Option<Arc<Self>>,
}

const DIR_FLAGS: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

impl Dir {
    /// Opens a folder by the path that the configuration names; links in that path are the operator's own.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let fd = rustix::fs::open(path, DIR_FLAGS, rustix::fs::Mode::empty())
            .map_err(|error| Error::new("open folder", path, error))?;
        Ok(Self { fd: Arc::new(fd), path: path.to_owned(), scratch: None })
    }

    /// The same folder, whose temporary files, and those of every folder opened below it, are written in
    /// `scratch`: so what a crash leaves of them lies in one place, out of everybody's sight. Both must lie on one
    /// file system. What is left from before is removed.
    pub fn with_scratch(&self, scratch: Self) -> Result<Self, Error> {
        scratch.names()?.iter().try_for_each(|name| scratch.remove_file(name))?;
        Ok(Self { scratch: Some(Arc::new(scratch)), ..self.clone() })
    }

    pub(super) fn scratch(&self) -> &Self {
        self.scratch.as_deref().unwrap_or(self)
    }

    /// Where it was when it was opened, for messages.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder's own entry.
    pub fn entry(&self) -> Result<Entry, Error> {
        let stat =
            rustix::fs::fstat(&*self.fd).map_err(|error| self.error("look at", OsStr::new("."), error))?;
        Ok(Entry::of(&stat))
    }

    /// Opens a folder in this one; a link in its place is an error.
    pub fn subfolder(&self, name: impl AsRef<OsStr>) -> Result<Self, Error> {
        let name = component(&self.path, name.as_ref())?;
        let fd = rustix::fs::openat(&*self.fd, name, DIR_FLAGS | OFlags::NOFOLLOW, rustix::fs::Mode::empty())
            .map_err(|error| self.error("open folder", name, error))?;
        Ok(Self { fd: Arc::new(fd), path: self.path.join(name), scratch: self.scratch.clone() })
    }

    /// Opens a folder in this one, making it durably if it is not there.
    pub fn ensure_subfolder(&self, name: impl AsRef<OsStr>, mode: Mode) -> Result<Self, Error> {
        let name = component(&self.path, name.as_ref())?;
        Error::inject("make folder", &self.path)?;
        let is_new = match rustix::fs::mkdirat(&*self.fd, name, mode.raw()) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(error) => return Err(self.error("make folder", name, error)),
        };
        let folder = self.subfolder(name)?;
        if is_new {
            // Whatever the umask says: people of the group are meant to get in, or nobody is. What the folder
            // around it passes on (the group of a setgid folder) stays.
            let kept =
                rustix::fs::fstat(&*folder.fd).map_err(|error| self.error("look at", name, error))?.st_mode
                    & 0o7000;
            let mode = rustix::fs::Mode::from_raw_mode(mode.0 | kept);
            rustix::fs::fchmod(&*folder.fd, mode)
                .map_err(|error| self.error("set the mode of", name, error))?;
            self.sync()?;
        }
        Ok(folder)
    }

    /// Opens a folder that is the service's own and nobody else's, making it durably if it is not there; where it
    /// `must_exist`, its absence is an error, since this is then not the folder around it that it seems to be.
    pub fn own_subfolder(&self, name: impl AsRef<OsStr>, must_exist: bool) -> Result<Self, Error> {
        let name = name.as_ref();
        let untrusted = |reason: String| {
            let reason = std::io::Error::new(std::io::ErrorKind::PermissionDenied, reason);
            self.error(TRUST, name, reason)
        };
        match self.look(name)? {
            None if must_exist => {
                let reason = "it is not there, and was when this folder was last used";
                let reason = std::io::Error::new(std::io::ErrorKind::NotFound, reason);
                return Err(self.error(RECOGNISE, name, reason));
            }
            Some(entry) if entry.kind != EntryKind::Folder => {
                return Err(untrusted("it is not a folder".to_owned()));
            }
            _ => {}
        }
        let folder = self.ensure_subfolder(name, Mode::PRIVATE_FOLDER)?;
        let (entry, ours) = (folder.entry()?, rustix::process::geteuid().as_raw());
        if entry.owner != ours {
            return Err(untrusted(format!(
                "it belongs to user {}, and the service is user {ours}",
                entry.owner
            )));
        }
        if entry.mode & 0o022 != 0 {
            return Err(untrusted(format!("others may write in it (its mode is {:o})", entry.mode)));
        }
        Ok(folder)
    }

    /// What `name` stands for, without following a link; `None` if nothing is there.
    pub fn look(&self, name: impl AsRef<OsStr>) -> Result<Option<Entry>, Error> {
        let name = component(&self.path, name.as_ref())?;
        match rustix::fs::statat(&*self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(Entry::of(&stat))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(self.error("look at", name, error)),
        }
    }

    /// Opens a file for reading, without following a link and without waiting (a FIFO would block).
    pub fn open_file(&self, name: impl AsRef<OsStr>) -> Result<File, Error> {
        self.open_with(name.as_ref(), OFlags::RDONLY | OFlags::NONBLOCK, Mode(0))
    }

    /// Opens a file of ours for reading and writing, making it if it is not there.
    pub fn open_or_create_file(&self, name: impl AsRef<OsStr>, mode: Mode) -> Result<File, Error> {
        self.open_with(name.as_ref(), OFlags::RDWR | OFlags::CREATE, mode)
    }

    /// Makes a file of ours that is not there; an error that [`Error::is_taken`] if something is.
    pub fn create_new_file(&self, name: impl AsRef<OsStr>, mode: Mode) -> Result<File, Error> {
        self.open_with(name.as_ref(), OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL, mode)
    }

    /// The descriptor, for the system calls that other files of this room make.
    pub(super) fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    fn open_with(&self, name: &OsStr, flags: OFlags, mode: Mode) -> Result<File, Error> {
        let name = component(&self.path, name)?;
        Error::inject("open", &self.path)?;
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NOCTTY;
        let fd = rustix::fs::openat(&*self.fd, name, flags, mode.raw())
            .map_err(|error| self.error("open", name, error))?;
        Ok(File::from(fd))
    }

    /// Reads a small file whole; more than `limit` bytes are an error.
    pub fn read(&self, name: impl AsRef<OsStr>, limit: u64) -> Result<Vec<u8>, Error> {
        let name = name.as_ref();
        let file = self.open_file(name)?;
        let mut content = Vec::new();
        let read = file.take(limit + 1).read_to_end(&mut content);
        read.map_err(|error| self.error("read", name, error))?;
        if content.len() as u64 > limit {
            return Err(self.error(
                "read",
                name,
                std::io::Error::other(format!("it has more than {limit} bytes")),
            ));
        }
        Ok(content)
    }

    /// Reads a small JSON document; `None` if it is not there, or is something else.
    pub fn read_json<T: DeserializeOwned>(
        &self,
        name: impl AsRef<OsStr>,
        limit: u64,
    ) -> Result<Option<T>, Error> {
        let name = name.as_ref();
        if self.look(name)?.is_none_or(|entry| entry.kind != EntryKind::File) {
            return Ok(None);
        }
        match self.read(name, limit) {
            Ok(content) => Ok(serde_json::from_slice(&content).ok()),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Puts a small file in place durably, whether or not one was there: readers see the old content or the
    /// new, never a part.
    pub fn replace(&self, name: impl AsRef<OsStr>, content: &[u8], mode: Mode) -> Result<(), Error> {
        let name = component(&self.path, name.as_ref())?;
        let temporary = self.write_temporary(name, content, mode)?;
        rustix::fs::renameat(&*self.scratch().fd, &temporary, &*self.fd, name)
            .map_err(|error| self.error("replace", name, error))?;
        self.sync()
    }

    /// Puts a small file in place durably if the name is free; an error that [`Error::is_taken`] otherwise.
    pub fn create(&self, name: impl AsRef<OsStr>, content: &[u8], mode: Mode) -> Result<(), Error> {
        let name = component(&self.path, name.as_ref())?;
        let temporary = self.write_temporary(name, content, mode)?;
        self.put_in_place(&temporary, name)
    }

    /// The same for a file that people of a group are to read.
    pub fn create_for_group(
        &self,
        name: impl AsRef<OsStr>,
        content: &[u8],
        mode: Mode,
        group: u32,
    ) -> Result<(), Error> {
        let name = component(&self.path, name.as_ref())?;
        let temporary = self.write_temporary(name, content, mode)?;
        let file = self.scratch().open_file(&temporary)?;
        Self::give_to_group(&file, group)
            .map_err(|error| self.error("set the group of", &temporary, error))?;
        self.put_in_place(&temporary, name)
    }

    pub(super) fn put_in_place(&self, temporary: &OsStr, name: &OsStr) -> Result<(), Error> {
        let moved = self.scratch().move_to(temporary, self, name);
        if moved.is_err() {
            self.scratch().remove_file(temporary)?;
        }
        moved?;
        self.sync()
    }

    /// The name of a temporary file, made of the hash of what it will be, so that two writers never share one, a
    /// repeated step uses it again, and it fits where the final name fits.
    pub(super) fn temporary_name(&self, name: &OsStr, content: &[u8]) -> OsString {
        let mut digests = super::Digests::default();
        digests.update(self.path.as_os_str().as_bytes());
        digests.update(name.as_bytes());
        digests.update(content);
        OsString::from(format!(".{}.formidlingd-tmp", digests.finish().0))
    }

    /// A synced temporary file in the scratch folder.
    fn write_temporary(&self, name: &OsStr, content: &[u8], mode: Mode) -> Result<OsString, Error> {
        Error::inject("write", &self.path)?;
        let temporary = self.temporary_name(name, content);
        let scratch = self.scratch();
        let mut file =
            scratch.open_with(&temporary, OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC, mode)?;
        let written = rustix::fs::fchmod(&file, mode.raw())
            .map_err(std::io::Error::from)
            .and_then(|()| file.write_all(content))
            .and_then(|()| file.sync_all());
        if let Err(error) = written {
            scratch.remove_file(&temporary)?;
            return Err(scratch.error("write", &temporary, error));
        }
        Ok(temporary)
    }

    /// Moves a file, never over another: an error that [`Error::is_taken`] if the new name is. Not durable
    /// until both folders are synced.
    pub fn move_to(
        &self,
        name: impl AsRef<OsStr>,
        to: &Self,
        new_name: impl AsRef<OsStr>,
    ) -> Result<(), Error> {
        let name = component(&self.path, name.as_ref())?;
        let new_name = component(&to.path, new_name.as_ref())?;
        Error::inject("move", &self.path)?;
        match rustix::fs::renameat_with(&*self.fd, name, &*to.fd, new_name, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(()),
            // NFS and CIFS know no such flag; a hard link does not overwrite either.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => self.link_and_unlink(name, to, new_name),
            // The kernel itself refuses a name that is taken, whatever the file system can: also one that was taken by
            // our link, before a crash came between it and the unlink.
            Err(Errno::EXIST) if is_same_file(self.look(name)?, to.look(new_name)?) => self.remove_file(name),
            Err(error @ Errno::EXIST) => Err(to.error("move to", new_name, error)),
            Err(error) => Err(self.error("move", name, error)),
        }
    }

    fn link_and_unlink(&self, name: &OsStr, to: &Self, new_name: &OsStr) -> Result<(), Error> {
        let entry = self.look(name)?;
        if entry.is_some_and(|entry| entry.kind == EntryKind::Folder) {
            // A folder cannot be linked; only ours are moved, to names that nobody else uses.
            return match to.look(new_name)? {
                Some(_) => Err(to.error("move to", new_name, Errno::EXIST)),
                None => rustix::fs::renameat(&*self.fd, name, &*to.fd, new_name)
                    .map_err(|error| self.error("move", name, error)),
            };
        }
        match rustix::fs::linkat(&*self.fd, name, &*to.fd, new_name, AtFlags::empty()) {
            Ok(()) => {}
            // The link was made before, by us: a crash came between the two, or the answer was lost.
            Err(Errno::EXIST) if is_same_file(entry, to.look(new_name)?) => {}
            Err(error) => return Err(to.error("move to", new_name, error)),
        }
        crash_point("move:linked");
        self.remove_file(name)
    }

    /// Removes a file; one that is not there is as good as removed.
    pub fn remove_file(&self, name: impl AsRef<OsStr>) -> Result<(), Error> {
        self.unlink(name.as_ref(), AtFlags::empty(), "remove")
    }

    /// Removes an empty folder; one that is not there is as good as removed.
    pub fn remove_folder(&self, name: impl AsRef<OsStr>) -> Result<(), Error> {
        self.unlink(name.as_ref(), AtFlags::REMOVEDIR, "remove folder")
    }

    fn unlink(&self, name: &OsStr, flags: AtFlags, operation: &'static str) -> Result<(), Error> {
        let name = component(&self.path, name)?;
        Error::inject("remove", &self.path)?;
        match rustix::fs::unlinkat(&*self.fd, name, flags) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(self.error(operation, name, error)),
        }
    }

    /// Makes every change of names in this folder durable.
    pub fn sync(&self) -> Result<(), Error> {
        Error::inject("sync folder", &self.path)?;
        match rustix::fs::fsync(&*self.fd) {
            // CIFS cannot sync folders; its server decides what is durable.
            Ok(()) | Err(Errno::INVAL) => Ok(()),
            Err(error) => Err(Error::new("sync folder", &self.path, error)),
        }
    }

    /// Whether the file system can make changes of names durable.
    pub fn can_sync(&self) -> Result<bool, Error> {
        match rustix::fs::fsync(&*self.fd) {
            Ok(()) => Ok(true),
            Err(Errno::INVAL) => Ok(false),
            Err(error) => Err(Error::new("sync folder", &self.path, error)),
        }
    }

    /// Every name in the folder. For our own folders, whose size we know; what others fill is visited.
    pub fn names(&self) -> Result<Vec<OsString>, Error> {
        let mut names = Vec::new();
        self.for_each_name(|name| {
            names.push(name.to_owned());
            true
        })?;
        Ok(names)
    }

    /// Calls `visit` with each name in the folder until it returns `false`.
    pub fn for_each_name(&self, mut visit: impl FnMut(&OsStr) -> bool) -> Result<(), Error> {
        let wrong = |error: Errno| Error::new("list", &self.path, error);
        let entries = rustix::fs::Dir::read_from(&*self.fd).map_err(wrong)?;
        for entry in entries {
            let entry = entry.map_err(wrong)?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name != "." && name != ".." && !visit(name) {
                break;
            }
        }
        Ok(())
    }

    /// Gives an open file of ours to a group.
    pub fn give_to_group(file: &File, group: u32) -> std::io::Result<()> {
        Ok(rustix::fs::fchown(file, None, Some(rustix::fs::Gid::from_raw(group)))?)
    }

    /// Sets the permission bits of an open file of ours, whatever the umask says.
    pub fn set_mode(file: &File, mode: Mode) -> std::io::Result<()> {
        Ok(rustix::fs::fchmod(file, mode.raw())?)
    }

    /// Free and total bytes of the file system, as far as we may use them.
    pub fn space(&self) -> Result<(u64, u64), Error> {
        let space =
            rustix::fs::fstatvfs(&*self.fd).map_err(|error| Error::new("look at", &self.path, error))?;
        Ok((space.f_bavail.saturating_mul(space.f_frsize), space.f_blocks.saturating_mul(space.f_frsize)))
    }

    fn error(&self, operation: &'static str, name: &OsStr, source: impl Into<std::io::Error>) -> Error {
        Error::new(operation, self.path.join(name), source)
    }
}

/// Whether two names stand for one file.
fn is_same_file(one: Option<Entry>, other: Option<Entry>) -> bool {
    let inode = |entry: Entry| (entry.identity.device, entry.identity.inode);
    matches!((one, other), (Some(one), Some(other)) if inode(one) == inode(other))
}

/// A single path component, or an error: the promise on which every call above rests.
fn component<'name>(path: &Path, name: &'name OsStr) -> Result<&'name OsStr, Error> {
    let bytes = name.as_bytes();
    if bytes.is_empty() || bytes == b"." || bytes == b".." || bytes.contains(&b'/') || bytes.contains(&0) {
        let reason =
            std::io::Error::new(std::io::ErrorKind::InvalidInput, "it is not a single path component");
        return Err(Error::new("use", path.join(name), reason));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, Dir) {
        let temporary = tempfile::tempdir().unwrap();
        let dir = Dir::open(temporary.path()).unwrap();
        (temporary, dir)
    }

    #[test]
    fn a_move_never_overwrites() {
        let (temporary, dir) = folder();
        std::fs::write(temporary.path().join("a"), "a").unwrap();
        std::fs::write(temporary.path().join("b"), "b").unwrap();
        assert!(dir.move_to("a", &dir, "b").unwrap_err().is_taken());
        assert!(dir.link_and_unlink(OsStr::new("a"), &dir, OsStr::new("b")).unwrap_err().is_taken());
        assert_eq!(std::fs::read(temporary.path().join("b")).unwrap(), b"b");
        dir.link_and_unlink(OsStr::new("a"), &dir, OsStr::new("c")).unwrap();
        assert_eq!(std::fs::read(temporary.path().join("c")).unwrap(), b"a");
        assert!(dir.look("a").unwrap().is_none());
    }

    #[test]
    fn a_move_that_was_cut_after_its_link_is_finished() {
        let (temporary, dir) = folder();
        std::fs::write(temporary.path().join("a"), "a").unwrap();
        std::fs::hard_link(temporary.path().join("a"), temporary.path().join("b")).unwrap();
        dir.move_to("a", &dir, "b").unwrap();
        std::fs::hard_link(temporary.path().join("b"), temporary.path().join("c")).unwrap();
        dir.link_and_unlink(OsStr::new("b"), &dir, OsStr::new("c")).unwrap();
        assert_eq!(dir.names().unwrap(), ["c"]);
        assert_eq!(std::fs::read(temporary.path().join("c")).unwrap(), b"a");
    }

    #[test]
    fn a_created_file_is_whole_or_not_there() {
        let (temporary, dir) = folder();
        dir.create("x.json", b"one", Mode::GROUP_FILE).unwrap();
        assert!(dir.create("x.json", b"two", Mode::GROUP_FILE).unwrap_err().is_taken());
        assert_eq!(dir.read("x.json", 10).unwrap(), b"one");
        dir.replace("x.json", b"three", Mode::GROUP_FILE).unwrap();
        assert_eq!(dir.read("x.json", 10).unwrap(), b"three");
        assert!(dir.read("x.json", 4).is_err());
        // Nothing temporary is left behind.
        assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_a_crash_leaves_of_temporary_files_lies_in_one_place_and_is_removed() {
        let (temporary, dir) = folder();
        let scratch = || dir.ensure_subfolder("tmp", Mode::PRIVATE_FOLDER).unwrap();
        let dir = dir.with_scratch(scratch()).unwrap();
        let below = dir.ensure_subfolder("below", Mode::PRIVATE_FOLDER).unwrap();
        let left = below.write_temporary(OsStr::new("x"), b"half", Mode::PRIVATE_FILE).unwrap();
        assert!(temporary.path().join("tmp").join(&left).exists());
        assert_eq!(std::fs::read_dir(temporary.path().join("below")).unwrap().count(), 0);
        dir.with_scratch(scratch()).unwrap();
        assert!(!temporary.path().join("tmp").join(&left).exists());
        below.create("x", b"whole", Mode::PRIVATE_FILE).unwrap();
        assert_eq!(below.read("x", 10).unwrap(), b"whole");
    }

    #[test]
    fn two_writers_of_one_name_do_not_share_a_temporary_file() {
        let (_temporary, dir) = folder();
        let one = dir.write_temporary(OsStr::new("x"), b"one", Mode::PRIVATE_FILE).unwrap();
        let two = dir.write_temporary(OsStr::new("x"), b"two", Mode::PRIVATE_FILE).unwrap();
        assert_ne!(one, two);
        assert_eq!(dir.read(&one, 10).unwrap(), b"one");
    }

    #[test]
    fn links_and_paths_lead_nowhere() {
        let (temporary, dir) = folder();
        std::fs::write(temporary.path().join("file"), "x").unwrap();
        std::os::unix::fs::symlink("file", temporary.path().join("link")).unwrap();
        std::os::unix::fs::symlink("/tmp", temporary.path().join("folder")).unwrap();
        assert!(dir.open_file("link").is_err());
        assert!(dir.subfolder("folder").is_err());
        // Where a document is looked for, a link or a folder is somebody else's, and no document.
        std::fs::create_dir(temporary.path().join("below")).unwrap();
        for name in ["link", "folder", "below", "nothing"] {
            assert!(dir.read_json::<serde_json::Value>(name, 10).unwrap().is_none(), "{name}");
        }
        assert_eq!(dir.look("link").unwrap().unwrap().kind, EntryKind::Other);
        for name in ["", ".", "..", "a/b", "/etc/passwd"] {
            assert!(dir.open_file(name).is_err(), "{name}");
        }
    }
}
