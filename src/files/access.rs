//! Who may use what is made for people. It is written in private folders and then moved, so that nothing of what a
//! folder passes on to what is made in it (its group, its default ACL) comes by itself: here it is given, for every
//! file and folder alike.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::PoisonError;

use rustix::fs::{Gid, Stat, XattrFlags};
use rustix::io::Errno;
use tracing::warn;

use super::dir::component;
use super::error::Error;
use super::{Dir, Mode};

/// The permission bits and group of something that is made for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// The permission bits. Where the folder has a default ACL, those of the group bound what its entries allow.
    pub mode: Mode,
    /// The group; that of the folder around it if there is none.
    pub group: Option<u32>,
}

impl Access {
    /// A file that the folder's group may read.
    pub const FILE: Self = Self { mode: Mode::GROUP_FILE, group: None };

    /// A folder that the same group may use.
    #[must_use]
    pub const fn of_folder(self) -> Self {
        Self { mode: Mode::GROUP_FOLDER, group: self.group }
    }
}

/// Whose a file is that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permissions {
    /// The service's own, with these permission bits.
    Own(Mode),
    /// Made for people.
    Shared(Access),
}

impl From<Mode> for Permissions {
    fn from(mode: Mode) -> Self {
        Self::Own(mode)
    }
}

impl From<Access> for Permissions {
    fn from(access: Access) -> Self {
        Self::Shared(access)
    }
}

/// What was warned of, by code, device and inode.
pub(super) type Warned = HashSet<(&'static str, u64, u64)>;

/// How many warnings are remembered.
const MAX_WARNED: usize = 1000;
/// A folder for people that is not finished: nobody gives a folder these bits, and nobody can use it.
const UNFINISHED: Mode = Mode(0o500);
/// The ACL that a folder passes on, and the one that holds; acl(5), "as two extended attributes".
const DEFAULT_ACL: &str = "system.posix_acl_default";
const ACCESS_ACL: &str = "system.posix_acl_access";

impl Dir {
    /// Gives an open file of ours what it would have if it had been made in this folder. Whether that changed
    /// anything, which is durable when the file is synced.
    pub fn share_file(&self, file: &File, access: Access) -> Result<bool, Error> {
        self.share(file.as_fd(), Kind::File, access)
    }

    /// Gives a folder of ours, which was made elsewhere, what it would have if it had been made in this one.
    pub fn share_folder(&self, folder: &Self, access: Access) -> Result<(), Error> {
        self.share(folder.fd.as_fd(), Kind::Folder, access)?;
        folder.sync()
    }

    /// Opens a folder in this one that people use, making it durably if it is not there. One that is there stays
    /// as people have made it.
    pub fn ensure_shared_subfolder(&self, name: impl AsRef<OsStr>, access: Access) -> Result<Self, Error> {
        let name = component(&self.path, name.as_ref())?;
        Error::inject("make folder", &self.path)?;
        let is_new = match rustix::fs::mkdirat(&*self.fd, name, UNFINISHED.raw()) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(error) => return Err(self.error("make folder", name, error)),
        };
        let folder = self.subfolder(name)?;
        if is_new || folder.is_unfinished()? {
            self.share(folder.fd.as_fd(), Kind::Folder, access)?;
            folder.sync()?;
            self.sync()?;
        }
        Ok(folder)
    }

    /// Whether we made it, and died or failed before it was given to people.
    fn is_unfinished(&self) -> Result<bool, Error> {
        let stat = self.stat(self.fd.as_fd())?;
        let is_ours = stat.st_uid == rustix::process::geteuid().as_raw();
        Ok(is_ours && stat.st_mode & 0o777 == UNFINISHED.0)
    }

    /// Group, ACLs and permission bits, in this order: each of the first two touches the last.
    fn share(&self, to: BorrowedFd<'_>, kind: Kind, access: Access) -> Result<bool, Error> {
        let (around, before) = (self.stat(self.fd.as_fd())?, self.stat(to)?);
        let mut changed = self.share_group(to, &around, &before, access.group)?;
        let passed_on = self.acl(self.fd.as_fd(), DEFAULT_ACL)?;
        if kind == Kind::Folder {
            changed |= self.share_acl(to, DEFAULT_ACL, passed_on.as_deref())?;
        }
        let holds = passed_on.and_then(|acl| bounded(acl, access.mode));
        changed |= self.share_acl(to, ACCESS_ACL, holds.as_deref())?;
        let kept = match kind {
            Kind::Folder => around.st_mode & 0o2000,
            Kind::File => 0,
        };
        let mode = Mode(access.mode.0 | kept);
        if changed || before.st_mode & 0o7777 != mode.0 {
            changed |= self.give_mode(to, mode)?;
        }
        Ok(changed)
    }

    /// Sets the permission bits of something of ours, whatever the umask says, and tells whether it could. Where
    /// the file system has none, or none of ours to set, what it has decided has to do.
    pub(super) fn give_mode(&self, to: BorrowedFd<'_>, mode: Mode) -> Result<bool, Error> {
        let given = Error::inject("set the mode for", &self.path).and_then(|()| {
            rustix::fs::fchmod(to, mode.raw())
                .map_err(|error| Error::new("set the mode for", &self.path, error))
        });
        match given {
            Ok(()) => Ok(true),
            Err(error) if is_refusal(&error) => {
                // Of a file system, not of a folder: where each transfer has its own, there are many.
                if self.is_first_warning("mode_not_given", self.stat(to)?.st_dev, 0) {
                    warn!(folder = ?self.path, mode = format!("{:o}", mode.0), code = "mode_not_given", error = %error.source, "the file system does not take the permissions that files and folders are to have: see with its mount options who may read them");
                }
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn share_group(
        &self,
        to: BorrowedFd<'_>,
        around: &Stat,
        before: &Stat,
        group: Option<u32>,
    ) -> Result<bool, Error> {
        let wanted = group.unwrap_or(around.st_gid);
        if wanted == before.st_gid {
            return Ok(false);
        }
        let given = Error::inject("set the group for", &self.path).and_then(|()| {
            rustix::fs::fchown(to, None, Some(Gid::from_raw(wanted)))
                .map_err(|error| Error::new("set the group for", &self.path, error))
        });
        match given {
            Ok(()) => Ok(true),
            // Nobody has asked for this group: what has another can still be used by some.
            Err(error) if group.is_none() && is_refusal(&error) => {
                if self.is_first_warning("group_not_given", around.st_dev, around.st_ino) {
                    warn!(folder = ?self.path, group = wanted, code = "group_not_given", error = %error.source, "what is laid down here does not get the folder's group: the service's user is not in it, or the file system gives files no groups; put the user in that group, or set `group`");
                }
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn is_first_warning(&self, code: &'static str, device: u64, inode: u64) -> bool {
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        warned.len() < MAX_WARNED && warned.insert((code, device, inode))
    }

    fn stat(&self, fd: BorrowedFd<'_>) -> Result<Stat, Error> {
        Error::inject("look at", &self.path)?;
        rustix::fs::fstat(fd).map_err(|error| Error::new("look at", &self.path, error))
    }

    fn share_acl(&self, to: BorrowedFd<'_>, name: &str, acl: Option<&[u8]>) -> Result<bool, Error> {
        let before = self.acl(to, name)?;
        if before.as_deref() == acl {
            return Ok(false);
        }
        Error::inject("set the access list for", &self.path)?;
        let set = match acl {
            Some(acl) => rustix::fs::fsetxattr(to, name, acl, XattrFlags::empty()),
            None => rustix::fs::fremovexattr(to, name),
        };
        match set {
            Ok(()) => Ok(true),
            Err(Errno::OPNOTSUPP | Errno::NODATA) => Ok(false),
            Err(error) => Err(Error::new("set the access list for", &self.path, error)),
        }
    }

    /// An ACL in the form of its attribute; `None` where there is none, or the file system has none.
    fn acl(&self, of: BorrowedFd<'_>, name: &str) -> Result<Option<Vec<u8>>, Error> {
        Error::inject("read the access list of", &self.path)?;
        let mut acl = Vec::new();
        let read = rustix::fs::fgetxattr_query(of, name).and_then(|size| {
            acl.resize(size, 0);
            rustix::fs::fgetxattr(of, name, &mut *acl)
        });
        match read {
            Ok(read) => {
                acl.truncate(read);
                Ok((!acl.is_empty()).then_some(acl))
            }
            Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(None),
            Err(error) => Err(Error::new("read the access list of", &self.path, error)),
        }
    }
}

/// Whether the system will not do it, today or tomorrow: we may not (EPERM, and EACCES on network file systems), the
/// number means nothing there (EINVAL), or the file system has no such thing.
fn is_refusal(error: &Error) -> bool {
    [Errno::PERM, Errno::ACCESS, Errno::INVAL, Errno::OPNOTSUPP, Errno::NOSYS]
        .iter()
        .any(|errno| error.source.raw_os_error() == Some(errno.raw_os_error()))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    Folder,
}

/// What holds for something with these permission bits that is made where `acl` is passed on: owner, mask and
/// others are set by the bits, as chmod(2) does. `None` where it says no more than the bits.
///
/// The attribute is a version of four bytes and entries of eight: tag, permissions, id (Linux,
/// `posix_acl_xattr.h`).
fn bounded(mut acl: Vec<u8>, mode: Mode) -> Option<Vec<u8>> {
    const OWNER: u8 = 0x01;
    const MASK: u8 = 0x10;
    const OTHERS: u8 = 0x20;
    let entries = acl.get_mut(4..)?;
    if !entries.chunks_exact(8).any(|entry| entry.first() == Some(&MASK)) {
        return None;
    }
    for entry in entries.chunks_exact_mut(8) {
        let [tag, _, permissions, ..] = entry else { continue };
        let shift = match *tag {
            OWNER => 6,
            MASK => 3,
            OTHERS => 0,
            _ => continue,
        };
        *permissions = u8::try_from(mode.0 >> shift & 7).unwrap_or_default();
    }
    Some(acl)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
    use std::path::{Path, PathBuf};

    use super::*;

    /// Owner and a group of its own everything, the folder's group less, others nothing.
    fn default_acl() -> Vec<u8> {
        let entry = |tag: u16, permissions: u16, id: u32| {
            [&tag.to_le_bytes()[..], &permissions.to_le_bytes(), &id.to_le_bytes()].concat()
        };
        let entries = [
            entry(0x01, 7, u32::MAX),
            entry(0x04, 5, u32::MAX),
            entry(0x08, 7, 54_321),
            entry(0x10, 7, u32::MAX),
            entry(0x20, 0, u32::MAX),
        ];
        [&2_u32.to_le_bytes()[..], &entries.concat()].concat()
    }

    /// A group that we may give files to and that is not the one they get.
    fn another_group() -> Option<u32> {
        if rustix::process::geteuid().is_root() {
            return Some(12_345);
        }
        let own = rustix::process::getegid();
        let groups = rustix::process::getgroups().unwrap_or_default();
        groups.into_iter().find(|group| *group != own).map(Gid::as_raw)
    }

    #[expect(clippy::print_stderr, reason = "a part of a test that cannot run here says so")]
    fn skipped(what: &str) {
        eprintln!("NOT TESTED: {what}");
    }

    /// What others may do with it: group, permission bits, both ACLs.
    fn seen(path: &Path) -> (u32, u32, [Option<Vec<u8>>; 2]) {
        let file = File::open(path).unwrap();
        let dir = Dir::open(path.parent().unwrap()).unwrap();
        let acls = [ACCESS_ACL, DEFAULT_ACL].map(|name| dir.acl(file.as_fd(), name).unwrap());
        let metadata = file.metadata().unwrap();
        (metadata.gid(), metadata.mode() & 0o7777, acls)
    }

    struct Folders {
        _temporary: tempfile::TempDir,
        target: PathBuf,
        private: Dir,
        dir: Dir,
    }

    /// A folder for people, and a private one beside it.
    fn folders(group: Option<u32>, acl: Option<&[u8]>) -> Folders {
        let temporary = tempfile::tempdir().unwrap();
        let dir = Dir::open(temporary.path()).unwrap();
        let private = dir.ensure_subfolder("private", Mode::PRIVATE_FOLDER).unwrap();
        let target = temporary.path().join("target");
        std::fs::create_dir(&target).unwrap();
        let open = File::open(&target).unwrap();
        if group.is_some() {
            fchown(&open, None, group).unwrap();
        }
        std::fs::set_permissions(&target, PermissionsExt::from_mode(0o2770)).unwrap();
        if let Some(acl) = acl
            && let Err(error) = rustix::fs::fsetxattr(&open, DEFAULT_ACL, acl, XattrFlags::empty())
        {
            assert_eq!(error, Errno::OPNOTSUPP);
            skipped("default ACLs, which the temporary folder's file system has not");
        }
        let dir = Dir::open(&target).unwrap();
        Folders { _temporary: temporary, target, private, dir }
    }

    #[test]
    fn what_is_made_in_private_is_as_if_it_had_been_made_in_the_folder() {
        let group = another_group();
        if group.is_none() {
            skipped("groups, since this user is in no other");
        }
        for acl in [Some(default_acl()), None] {
            let folders = folders(group, acl.as_deref());
            // What the system itself gives what is made there; a default ACL takes the umask's place.
            let path = |name: &str| folders.target.join(name);
            std::fs::OpenOptions::new().write(true).create_new(true).mode(0o640).open(path("file")).unwrap();
            std::fs::DirBuilder::new().mode(0o750).create(path("folder")).unwrap();
            if acl.is_none() {
                for (name, mode) in [("file", 0o640), ("folder", 0o2750)] {
                    std::fs::set_permissions(path(name), PermissionsExt::from_mode(mode)).unwrap();
                }
            }

            let access = Access { mode: Mode(0o640), group: None };
            let file = folders.private.open_or_create_file("file", Mode::PRIVATE_FILE).unwrap();
            assert!(folders.dir.share_file(&file, access).unwrap());
            assert!(!folders.dir.share_file(&file, access).unwrap(), "once is enough");
            folders.private.move_to("file", &folders.dir, "moved").unwrap();
            folders.dir.create("created", b"x", access).unwrap();
            folders.dir.replace("replaced", b"x", access).unwrap();
            for name in ["moved", "created", "replaced"] {
                assert_eq!(seen(&path(name)), seen(&path("file")), "{name}");
            }

            let access = Access { mode: Mode(0o750), group: None };
            folders.dir.ensure_shared_subfolder("made", access).unwrap();
            let whole = folders.private.ensure_subfolder("whole", Mode::PRIVATE_FOLDER).unwrap();
            folders.dir.share_folder(&whole, access).unwrap();
            folders.private.move_to("whole", &folders.dir, "whole").unwrap();
            for name in ["made", "whole"] {
                assert_eq!(seen(&path(name)), seen(&path("folder")), "{name}");
            }
        }
    }

    #[test]
    fn what_a_private_folder_passes_on_does_not_stay() {
        let folders = folders(None, None);
        let acl = default_acl();
        if rustix::fs::fsetxattr(&*folders.private.fd, DEFAULT_ACL, &acl, XattrFlags::empty()).is_err() {
            return skipped("ACLs, which the temporary folder's file system has not");
        }
        let file = folders.private.open_or_create_file("file", Mode(0o660)).unwrap();
        assert!(folders.private.acl(file.as_fd(), ACCESS_ACL).unwrap().is_some());
        folders.dir.share_file(&file, Access::FILE).unwrap();
        assert_eq!(folders.private.acl(file.as_fd(), ACCESS_ACL).unwrap(), None);
        assert_eq!(file.metadata().unwrap().mode() & 0o777, 0o640);
    }

    #[test]
    fn what_a_file_system_refuses_is_told_from_what_goes_wrong() {
        let error = |errno: Errno| Error::new("set the group for", "x", errno);
        for errno in [Errno::PERM, Errno::ACCESS, Errno::INVAL, Errno::OPNOTSUPP, Errno::NOSYS] {
            assert!(is_refusal(&error(errno)), "{errno}");
        }
        for errno in [Errno::IO, Errno::NOSPC, Errno::ROFS, Errno::STALE] {
            assert!(!is_refusal(&error(errno)), "{errno}");
        }
    }

    #[test]
    fn a_folder_whose_making_was_interrupted_is_finished_and_others_are_left_alone() {
        let folders = folders(None, None);
        let mode = |name: &str| folders.target.join(name).metadata().unwrap().mode() & 0o777;
        rustix::fs::mkdirat(&*folders.dir.fd, "half", UNFINISHED.raw()).unwrap();
        folders.dir.ensure_shared_subfolder("half", Access::FILE.of_folder()).unwrap();
        assert_eq!(mode("half"), 0o770);
        std::fs::set_permissions(folders.target.join("half"), PermissionsExt::from_mode(0o711)).unwrap();
        folders.dir.ensure_shared_subfolder("half", Access::FILE.of_folder()).unwrap();
        assert_eq!(mode("half"), 0o711, "people have changed it");
    }
}
