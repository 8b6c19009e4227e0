//! Names that change: files are moved, never over another, and removed.

use std::ffi::OsStr;

use rustix::fs::{AtFlags, RenameFlags};
use rustix::io::Errno;

use super::dir::component;
use super::{Dir, Entry, EntryKind, Error};
use crate::seams::{self, crash_point};

impl Dir {
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
        let entry = self.look(name)?;
        let moved = match self.rename(name, to, new_name) {
            Ok(()) => Error::inject("move and hear of", &self.path),
            // NFS and CIFS know no such flag; a hard link does not overwrite either.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                self.link_and_unlink(entry, name, to, new_name)
            }
            // The kernel itself refuses a name that is taken, whatever the file system can: also one that was taken by
            // our link, before a crash came between it and the unlink.
            Err(Errno::EXIST) if is_same_file(entry, to.look(new_name)?) => self.remove_file(name),
            Err(error @ Errno::EXIST) => Err(to.error("move to", new_name, error)),
            Err(error) => Err(self.error("move", name, error)),
        };
        match moved {
            // A network file system may have moved it and lost the answer, and then say that it is not there.
            Err(_) if self.has_moved(entry, name, to, new_name) => Ok(()),
            moved => moved,
        }
    }

    /// A rename that does not overwrite, where the file system has one.
    fn rename(&self, name: &OsStr, to: &Self, new_name: &OsStr) -> Result<(), Errno> {
        if let Err(error) = seams::injected_fault("rename") {
            return Err(Errno::from_io_error(&error).unwrap_or(Errno::IO));
        }
        rustix::fs::renameat_with(&*self.fd, name, &*to.fd, new_name, RenameFlags::NOREPLACE)
    }

    /// Whether `entry` lies under its new name alone.
    fn has_moved(&self, entry: Option<Entry>, name: &OsStr, to: &Self, new_name: &OsStr) -> bool {
        matches!(self.look(name), Ok(None)) && to.look(new_name).is_ok_and(|found| is_same_file(entry, found))
    }

    /// Whether nobody but the service can change what lies in the folder.
    fn is_private(&self) -> Result<bool, Error> {
        let entry = self.entry()?;
        Ok(entry.mode & 0o022 == 0 && entry.owner == rustix::process::geteuid().as_raw())
    }

    fn link_and_unlink(
        &self,
        entry: Option<Entry>,
        name: &OsStr,
        to: &Self,
        new_name: &OsStr,
    ) -> Result<(), Error> {
        if entry.is_some_and(|entry| entry.kind == EntryKind::Folder) {
            // A folder cannot be linked; only ours are moved, to names that nobody else uses.
            return match to.look(new_name)? {
                Some(_) => Err(to.error("move to", new_name, Errno::EXIST)),
                None => rustix::fs::renameat(&*self.fd, name, &*to.fd, new_name)
                    .map_err(|error| self.error("move", name, error)),
            };
        }
        Error::inject("link", &self.path)?;
        match rustix::fs::linkat(&*self.fd, name, &*to.fd, new_name, AtFlags::empty()) {
            Ok(()) => {}
            // The link was made before, by us: a crash came between the two, or the answer was lost.
            Err(Errno::EXIST) if is_same_file(entry, to.look(new_name)?) => {}
            // Others' files may not be linked (fs.protected_hardlinks, proc(5)). In a folder that nobody else can write
            // to, nothing can take the name between the look and the rename.
            Err(Errno::PERM) if to.is_private()? && to.look(new_name)?.is_none() => {
                return rustix::fs::renameat(&*self.fd, name, &*to.fd, new_name)
                    .map_err(|error| self.error("move", name, error));
            }
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
}

/// Whether two names stand for one file that is there.
fn is_same_file(one: Option<Entry>, other: Option<Entry>) -> bool {
    one.zip(other).is_some_and(|(one, other)| one.is_same_file(&other))
}

#[cfg(test)]
mod tests {
    use super::super::testing::folder;
    use super::*;

    #[test]
    fn a_move_never_overwrites() {
        let (temporary, dir) = folder();
        std::fs::write(temporary.path().join("a"), "a").unwrap();
        std::fs::write(temporary.path().join("b"), "b").unwrap();
        assert!(dir.move_to("a", &dir, "b").unwrap_err().is_taken());
        let link =
            |to: &str| dir.link_and_unlink(dir.look("a").unwrap(), OsStr::new("a"), &dir, OsStr::new(to));
        assert!(link("b").unwrap_err().is_taken());
        assert_eq!(std::fs::read(temporary.path().join("b")).unwrap(), b"b");
        link("c").unwrap();
        assert_eq!(std::fs::read(temporary.path().join("c")).unwrap(), b"a");
        assert!(dir.look("a").unwrap().is_none());
    }

    #[test]
    fn a_move_whose_answer_was_lost_is_seen_to_have_happened() {
        let (temporary, dir) = folder();
        let path = |name: &str| temporary.path().join(name);
        for name in ["a", "b"] {
            std::fs::write(path(name), name).unwrap();
        }
        let before = dir.look("a").unwrap();
        let moved = |new: &str| dir.has_moved(before, OsStr::new("a"), &dir, OsStr::new(new));
        assert!(!moved("c"), "it lies where it was");
        std::fs::rename(path("a"), path("c")).unwrap();
        assert!(moved("c"));
        assert!(!moved("b"), "that is another file");
        assert!(!dir.has_moved(None, OsStr::new("a"), &dir, OsStr::new("d")), "nothing was there");
        assert!(dir.move_to("a", &dir, "c").unwrap_err().is_missing());
        std::fs::hard_link(path("c"), path("a")).unwrap();
        assert!(!moved("c"), "it still has its old name");
        // As where a link was made, and the process died before the old name went.
        dir.link_and_unlink(before, OsStr::new("a"), &dir, OsStr::new("c")).unwrap();
        assert!(moved("c"));
    }

    #[test]
    fn a_move_that_was_cut_after_its_link_is_finished() {
        let (temporary, dir) = folder();
        std::fs::write(temporary.path().join("a"), "a").unwrap();
        std::fs::hard_link(temporary.path().join("a"), temporary.path().join("b")).unwrap();
        dir.move_to("a", &dir, "b").unwrap();
        assert_eq!(dir.names().unwrap(), ["b"]);
        assert_eq!(std::fs::read(temporary.path().join("b")).unwrap(), b"a");
    }
}
