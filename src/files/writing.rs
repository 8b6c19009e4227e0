//! Small files that are put in place whole, and durably.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::OFlags;

use super::access::Permissions;
use super::dir::component;
use super::{Dir, Error, Mode};
use crate::seams::crash_point;

impl Dir {
    /// Puts a small file in place durably, whether or not one was there: readers see the old content or the
    /// new, never a part.
    pub fn replace(
        &self,
        name: impl AsRef<OsStr>,
        content: &[u8],
        permissions: impl Into<Permissions>,
    ) -> Result<(), Error> {
        let name = component(&self.path, name.as_ref())?;
        let temporary = self.write_temporary(name, content, permissions.into())?;
        crash_point("replace:written");
        Error::inject("replace", &self.path)?;
        rustix::fs::renameat(&*self.scratch().fd, &temporary, &*self.fd, name)
            .map_err(|error| self.error("replace", name, error))?;
        crash_point("replace:renamed");
        self.sync()
    }

    /// Puts a small file in place durably if the name is free; an error that [`Error::is_taken`] otherwise.
    pub fn create(
        &self,
        name: impl AsRef<OsStr>,
        content: &[u8],
        permissions: impl Into<Permissions>,
    ) -> Result<(), Error> {
        self.prepare(name, content, permissions)?.put_in_place()?;
        self.sync()
    }

    /// The first half of [`Dir::create`]: the file is written and durable, and has yet to get its name.
    pub fn prepare(
        &self,
        name: impl AsRef<OsStr>,
        content: &[u8],
        permissions: impl Into<Permissions>,
    ) -> Result<Prepared, Error> {
        let name = component(&self.path, name.as_ref())?;
        let temporary = self.write_temporary(name, content, permissions.into())?;
        Ok(self.prepared(temporary, name))
    }

    /// A file that lies in the scratch folder, durably, and has yet to get its name.
    pub(super) fn prepared(&self, temporary: OsString, name: &OsStr) -> Prepared {
        Prepared { into: self.clone(), temporary, name: name.to_owned() }
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
    fn write_temporary(
        &self,
        name: &OsStr,
        content: &[u8],
        permissions: Permissions,
    ) -> Result<OsString, Error> {
        Error::inject("write", &self.path)?;
        let temporary = self.temporary_name(name, content);
        let scratch = self.scratch();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
        let mut file = scratch.open_with(&temporary, flags, Mode::PRIVATE_FILE)?;
        let wrong = |error| scratch.error("write", &temporary, error);
        let written = match permissions {
            Permissions::Own(mode) => self.give_mode(file.as_fd(), mode).map(|_given| ()),
            Permissions::Shared(access) => self.share_file(&file, access).map(|_changed| ()),
        };
        let written = written
            .and_then(|()| file.write_all(content).map_err(wrong))
            .and_then(|()| scratch.sync_file(&file, &temporary));
        if let Err(error) = written {
            scratch.remove_file(&temporary)?;
            return Err(error);
        }
        Ok(temporary)
    }
}

/// A small file that is durable and has yet to get its name.
#[derive(Debug)]
pub struct Prepared {
    into: Dir,
    temporary: OsString,
    name: OsString,
}

impl Prepared {
    /// Gives it its name if that is free; an error that [`Error::is_taken`] otherwise. Not durable until the
    /// folder is synced.
    pub fn put_in_place(self) -> Result<(), Error> {
        let moved = self.into.scratch().move_to(&self.temporary, &self.into, &self.name);
        if moved.is_err() {
            self.into.scratch().remove_file(&self.temporary)?;
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::folder;
    use super::*;

    #[test]
    fn a_created_file_is_whole_or_not_there() {
        let (temporary, dir) = folder();
        dir.create("x.json", b"one", Mode::PRIVATE_FILE).unwrap();
        assert!(dir.create("x.json", b"two", Mode::PRIVATE_FILE).unwrap_err().is_taken());
        assert_eq!(dir.read("x.json", 10).unwrap(), b"one");
        dir.replace("x.json", b"three", Mode::PRIVATE_FILE).unwrap();
        assert_eq!(dir.read("x.json", 10).unwrap(), b"three");
        assert!(dir.read("x.json", 4).is_err());
        // Nothing temporary is left behind.
        assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_a_crash_leaves_of_temporary_files_lies_in_one_place_and_is_removed() {
        let (temporary, dir) = folder();
        let scratch = dir.ensure_subfolder("tmp", Mode::PRIVATE_FOLDER).unwrap();
        let dir = dir.with_scratch(scratch.clone());
        let below = dir.ensure_subfolder("below", Mode::PRIVATE_FOLDER).unwrap();
        let left = below.write_temporary(OsStr::new("x"), b"half", Mode::PRIVATE_FILE.into()).unwrap();
        assert!(temporary.path().join("tmp").join(&left).exists());
        assert_eq!(std::fs::read_dir(temporary.path().join("below")).unwrap().count(), 0);
        scratch.ensure_subfolder("not-ours", Mode::PRIVATE_FOLDER).unwrap();
        scratch.remove_files().unwrap();
        assert_eq!(scratch.names().unwrap(), ["not-ours"]);
        below.create("x", b"whole", Mode::PRIVATE_FILE).unwrap();
        assert_eq!(below.read("x", 10).unwrap(), b"whole");
    }

    #[test]
    fn two_writers_of_one_name_do_not_share_a_temporary_file() {
        let (_temporary, dir) = folder();
        let one = dir.write_temporary(OsStr::new("x"), b"one", Mode::PRIVATE_FILE.into()).unwrap();
        let two = dir.write_temporary(OsStr::new("x"), b"two", Mode::PRIVATE_FILE.into()).unwrap();
        assert_ne!(one, two);
        assert_eq!(dir.read(&one, 10).unwrap(), b"one");
    }
}
