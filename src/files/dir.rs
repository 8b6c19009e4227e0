//! Folders, held open.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rustix::fs::{AtFlags, FileType, OFlags};
use rustix::io::Errno;
use serde::de::DeserializeOwned;

use super::access::Warned;
use super::error::{RECOGNISE, TRUST};
use super::{Entry, EntryKind, Error, Mode};
use crate::seams;

/// A folder that is held open. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Dir {
    pub(super) fd: Arc<OwnedFd>,
    pub(super) path: PathBuf,
    /// Where temporary files are written; in the folder itself if there is none.
    pub(super) scratch: Option<Arc<Self>>,
    /// What could not be given to what is made for people, which is told once.
    pub(super) warned: Arc<Mutex<Warned>>,
}

const DIR_FLAGS: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

impl Dir {
    /// Opens a folder by the path that the configuration names; links in that path are the operator's own.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Error::inject("open folder", path)?;
        let fd = rustix::fs::open(path, DIR_FLAGS, rustix::fs::Mode::empty())
            .map_err(|error| Error::new("open folder", path, error))?;
        Ok(Self { fd: Arc::new(fd), path: path.to_owned(), scratch: None, warned: Arc::default() })
    }

    /// The same folder, whose temporary files, and those of every folder opened below it, are written in
    /// `scratch`: so what a crash leaves of them lies in one place, out of everybody's sight. Both must lie on one
    /// file system.
    #[must_use]
    pub fn with_scratch(&self, scratch: Self) -> Self {
        Self { scratch: Some(Arc::new(scratch)), ..self.clone() }
    }

    /// Removes every file in this folder. Anything else is not the service's, and stays.
    pub fn remove_files(&self) -> Result<(), Error> {
        for name in self.names()? {
            if self.look(&name)?.is_some_and(|entry| entry.kind == EntryKind::File) {
                self.remove_file(&name)?;
            }
        }
        Ok(())
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
        Error::inject("look at", &self.path)?;
        let stat =
            rustix::fs::fstat(&*self.fd).map_err(|error| self.error("look at", OsStr::new("."), error))?;
        Ok(Entry::of(&stat))
    }

    /// Opens a folder in this one; a link in its place is an error.
    pub fn subfolder(&self, name: impl AsRef<OsStr>) -> Result<Self, Error> {
        let name = component(&self.path, name.as_ref())?;
        Error::inject("open folder", &self.path)?;
        let fd = rustix::fs::openat(&*self.fd, name, DIR_FLAGS | OFlags::NOFOLLOW, rustix::fs::Mode::empty())
            .map_err(|error| self.error("open folder", name, error))?;
        let (path, scratch) = (self.path.join(name), self.scratch.clone());
        Ok(Self { fd: Arc::new(fd), path, scratch, warned: Arc::clone(&self.warned) })
    }

    /// Opens a folder of our own in this one, making it durably if it is not there. For one that people use there
    /// is [`Dir::ensure_shared_subfolder`].
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
            self.give_mode(folder.fd.as_fd(), mode)?;
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
        Error::inject("look at", &self.path)?;
        match rustix::fs::statat(&*self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(Entry::of(&stat))),
            // A name that is too long to be there is not there.
            Err(Errno::NOENT | Errno::NAMETOOLONG) => Ok(None),
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

    pub(super) fn open_with(&self, name: &OsStr, flags: OFlags, mode: Mode) -> Result<File, Error> {
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
        Error::inject("read", &self.path)?;
        let mut content = Vec::new();
        let read = file.take(limit + 1).read_to_end(&mut content);
        read.map_err(|error| self.error("read", name, error))?;
        if content.len() as u64 > limit {
            return Err(self.error(
                "read",
                name,
                std::io::Error::new(
                    std::io::ErrorKind::FileTooLarge,
                    format!("it has more than {limit} bytes"),
                ),
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

    /// Makes the content of an open file durable; `name` is what it is called here.
    pub fn sync_file(&self, file: &File, name: impl AsRef<OsStr>) -> Result<(), Error> {
        Error::inject("sync file", &self.path)?;
        seams::sync_file(file).map_err(|error| self.error("sync", name.as_ref(), error))
    }

    /// What is known of an open file; `name` is what it is called here.
    pub fn entry_of(&self, file: &File, name: impl AsRef<OsStr>) -> Result<Entry, Error> {
        Entry::of_file(file).map_err(|error| self.error("look at", name.as_ref(), error))
    }

    /// Makes every change of names in this folder durable.
    pub fn sync(&self) -> Result<(), Error> {
        Error::inject("sync folder", &self.path)?;
        match rustix::fs::fsync(&*self.fd) {
            // CIFS cannot sync folders; its server decides what is durable.
            Ok(()) | Err(Errno::INVAL) => {
                seams::synced(self.fd.as_fd());
                Ok(())
            }
            Err(error) => Err(Error::new("sync folder", &self.path, error)),
        }
    }

    /// Whether the file system can make changes of names durable.
    pub fn can_sync(&self) -> Result<bool, Error> {
        Error::inject("try to sync folder", &self.path)?;
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
        self.list(|name, _| visit(name))
    }

    /// Calls `visit` with each name in the folder, and what it stands for, until it returns `false`. Where the file
    /// system does not tell, it is looked at; what cannot be looked at is taken for a file.
    pub fn for_each(&self, mut visit: impl FnMut(&OsStr, EntryKind) -> bool) -> Result<(), Error> {
        self.list(|name, file_type| visit(name, self.kind_of(name, file_type)))
    }

    fn kind_of(&self, name: &OsStr, told: FileType) -> EntryKind {
        match told {
            FileType::Directory => EntryKind::Folder,
            FileType::RegularFile => EntryKind::File,
            FileType::Unknown => match self.look(name) {
                Ok(Some(entry)) => entry.kind,
                _ => EntryKind::File,
            },
            _ => EntryKind::Other,
        }
    }

    fn list(&self, mut visit: impl FnMut(&OsStr, FileType) -> bool) -> Result<(), Error> {
        Error::inject("list", &self.path)?;
        let wrong = |error: Errno| Error::new("list", &self.path, error);
        let entries = rustix::fs::Dir::read_from(&*self.fd).map_err(wrong)?;
        for entry in entries {
            let entry = entry.map_err(wrong)?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name != "." && name != ".." && !visit(name, entry.file_type()) {
                break;
            }
        }
        Ok(())
    }

    /// Free and total bytes of the file system, as far as we may use them.
    pub fn space(&self) -> Result<(u64, u64), Error> {
        Error::inject("measure", &self.path)?;
        let space =
            rustix::fs::fstatvfs(&*self.fd).map_err(|error| Error::new("measure", &self.path, error))?;
        let free = seams::injected_space();
        let free = free.unwrap_or_else(|| space.f_bavail.saturating_mul(space.f_frsize));
        Ok((free, space.f_blocks.saturating_mul(space.f_frsize)))
    }

    /// Free and total inodes of the file system, as far as we may use them; `None` where it has no such limit.
    pub fn inodes(&self) -> Result<Option<(u64, u64)>, Error> {
        Error::inject("measure", &self.path)?;
        let space =
            rustix::fs::fstatvfs(&*self.fd).map_err(|error| Error::new("measure", &self.path, error))?;
        Ok((space.f_files > 0).then_some((space.f_favail, space.f_files)))
    }

    pub(super) fn error(
        &self,
        operation: &'static str,
        name: &OsStr,
        source: impl Into<std::io::Error>,
    ) -> Error {
        Error::new(operation, self.path.join(name), source)
    }
}

/// A single path component, or an error: the promise on which every call above rests.
pub(super) fn component<'name>(path: &Path, name: &'name OsStr) -> Result<&'name OsStr, Error> {
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
    use super::super::testing::folder;
    use super::*;

    #[test]
    fn what_a_file_system_does_not_tell_of_its_entries_is_looked_at() {
        let (temporary, dir) = folder();
        std::fs::create_dir(temporary.path().join("folder")).unwrap();
        std::fs::write(temporary.path().join("file"), "x").unwrap();
        std::os::unix::fs::symlink("folder", temporary.path().join("link")).unwrap();
        for (name, kind) in
            [("folder", EntryKind::Folder), ("file", EntryKind::File), ("link", EntryKind::Other)]
        {
            assert_eq!(dir.kind_of(OsStr::new(name), FileType::Unknown), kind, "{name}");
        }
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
