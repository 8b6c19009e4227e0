//! Which file system a folder lies on, and what follows from it.

use super::{Dir, Error};

/// A file system, as `statfs(2)` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileSystem {
    name: &'static str,
    is_shared: bool,
}

/// Magic numbers of `statfs(2)` and of `linux/magic.h`; the last column says whether others change it without this
/// machine's kernel seeing it.
const KNOWN: [(u64, &str, bool); 28] = [
    (0xEF53, "ext4", false),
    (0x5846_5342, "xfs", false),
    (0x9123_683E, "btrfs", false),
    (0xCA45_1A4E, "bcachefs", false),
    (0x2FC1_2FC1, "zfs", false),
    (0xF2F5_2010, "f2fs", false),
    (0x0102_1994, "tmpfs", false),
    (0x8584_58F6, "ramfs", false),
    (0x794C_7630, "overlay", false),
    (0x4D44, "vfat", false),
    (0x2011_BAB0, "exfat", false),
    (0x7366_746E, "ntfs3", false),
    (0x5346_544E, "ntfs", false),
    (0xF15F, "ecryptfs", false),
    (0x3153_464A, "jfs", false),
    (0x5265_4973, "reiserfs", false),
    (0x6969, "nfs", true),
    (0xFF53_4D42, "cifs", true),
    (0xFE53_4D42, "smb2", true),
    (0x517B, "smb", true),
    (0x6573_5546, "fuse", true),
    (0x0102_1997, "9p", true),
    (0x786F_4256, "vboxsf", true),
    (0x00C3_6400, "ceph", true),
    (0x0116_1970, "gfs2", true),
    (0x7461_636F, "ocfs2", true),
    (0x0BD0_0BD0, "lustre", true),
    (0x5346_414F, "afs", true),
];

impl FileSystem {
    /// The file system that a folder lies on.
    pub fn of(folder: &Dir) -> Result<Self, Error> {
        Error::inject("look at the file system of", folder.path())?;
        let found = rustix::fs::fstatfs(&*folder.fd)
            .map_err(|error| Error::new("look at the file system of", folder.path(), error))?;
        // The type of the field differs between architectures; the numbers have 32 bits.
        #[expect(clippy::cast_sign_loss, reason = "a bit pattern, not a number")]
        let magic = found.f_type as u64 & 0xFFFF_FFFF;
        Ok(Self::of_magic(magic))
    }

    fn of_magic(magic: u64) -> Self {
        let known = KNOWN.iter().find(|(number, ..)| *number == magic);
        // One that nobody here knows may be shared: listing it costs little, waiting for its events may be in vain.
        known.map_or(Self { name: "unknown", is_shared: true }, |(_, name, is_shared)| Self {
            name,
            is_shared: *is_shared,
        })
    }

    /// Its usual name.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.name
    }

    /// Whether it may refuse a read lease though nobody writes: network file systems give one only where their server
    /// has given them a delegation.
    #[must_use]
    pub fn refuses_leases(self) -> bool {
        ["nfs", "cifs", "smb2", "smb"].contains(&self.name)
    }

    /// Whether others may change it without this machine's kernel seeing it, so that no event tells of a file that
    /// they put there (inotify(7), "Limitations").
    #[must_use]
    pub fn is_shared(self) -> bool {
        self.is_shared
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_stands_twice_and_strangers_count_as_shared() {
        let mut numbers: Vec<u64> = KNOWN.iter().map(|(number, ..)| *number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), KNOWN.len());
        assert!(FileSystem::of_magic(0x1234).is_shared());
        assert!(FileSystem::of_magic(0x6969).is_shared());
        assert!(!FileSystem::of_magic(0xEF53).is_shared());
    }

    #[test]
    fn a_folder_lies_on_some_file_system() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!FileSystem::of(&Dir::open(folder.path()).unwrap()).unwrap().name().is_empty());
    }
}
