//! Where a path lies in its file system, whatever it is mounted under: a bind mount gives one folder two names. Of file
//! systems whose table does not tell what of them is mounted, nothing may be concluded.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxFlags};

/// The mounts that this process sees.
#[derive(Debug, Default)]
pub(super) struct Mounts(Vec<Mount>);

#[derive(Debug)]
struct Mount {
    id: u64,
    /// Major and minor number of the device.
    device: String,
    /// What of the file system is mounted, where the kernel can tell.
    root: Option<PathBuf>,
    /// Where.
    point: PathBuf,
}

/// A place in a file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    device: String,
    path: PathBuf,
}

impl Place {
    /// Whether it lies in `other`, or is the same.
    pub(super) fn is_in(&self, other: &Self) -> bool {
        self.device == other.device && self.path.starts_with(&other.path)
    }
}

impl Mounts {
    /// None where they cannot be read, as without `/proc`; then bind mounts are not seen through.
    pub(super) fn of_this_process() -> Self {
        std::fs::read("/proc/self/mountinfo").map_or_else(|_| Self::default(), |text| Self::parse(&text))
    }

    /// Reads `/proc/self/mountinfo` (`proc_pid_mountinfo(5)`), passing over what is not understood.
    fn parse(text: &[u8]) -> Self {
        let mount = |line: &[u8]| {
            let mut fields = line.split(|byte| *byte == b' ');
            let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
            let device = String::from_utf8(fields.nth(1)?.to_vec()).ok()?;
            let (root, point) = (unescaped(fields.next()?), unescaped(fields.next()?));
            // Any number of optional fields stands before the dash.
            fields.find(|field| *field == b"-")?;
            let root = if has_false_root(fields.next()?) { None } else { Some(root) };
            Some(Mount { id, device, root, point })
        };
        Self(text.split(|byte| *byte == b'\n').filter_map(mount).collect())
    }

    /// The place of a path without links that is there.
    pub(super) fn place(&self, canonical: &Path) -> Option<Place> {
        let stat = rustix::fs::statx(CWD, canonical, AtFlags::empty(), StatxFlags::MNT_ID).ok()?;
        // Kernels before 5.8 do not tell.
        let told = StatxFlags::from_bits_retain(stat.stx_mask).contains(StatxFlags::MNT_ID);
        if told { self.place_on(stat.stx_mnt_id, canonical) } else { None }
    }

    fn place_on(&self, id: u64, canonical: &Path) -> Option<Place> {
        let mount = self.0.iter().find(|mount| mount.id == id)?;
        let below = canonical.strip_prefix(&mount.point).ok()?;
        Some(Place { device: mount.device.clone(), path: mount.root.as_ref()?.join(below) })
    }
}

/// Whether `/` is written as the root of each mount of such a file system, though one may be of a folder that another
/// is not: NFS gives two exports of one server's file system one device number.
fn has_false_root(kind: &[u8]) -> bool {
    const NAMES: [&[u8]; 6] = [b"nfs", b"nfs4", b"cifs", b"smb3", b"ceph", b"9p"];
    NAMES.contains(&kind) || kind == b"fuse" || kind.starts_with(b"fuse.") || kind == b"fuseblk"
}

/// A path of the table, in which the kernel writes blanks and backslashes as `\040` and the like.
fn unescaped(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|_| *first == b'\\');
        let octal = octal.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        bytes.push(octal.unwrap_or(*first));
        rest = if octal.is_some() { after.get(3..).unwrap_or_default() } else { after };
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"29 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
        40 29 8:17 / /srv rw - xfs /dev/sdb1 rw\n\
        41 29 8:17 /ut\\040boks /mnt/a\\134b rw master:2 - xfs /dev/sdb1 rw\n\
        nonsense\n42 29 0:50 / /proc rw - proc proc rw";

    #[test]
    fn a_bind_mount_shows_the_place_behind_it() {
        let mounts = Mounts::parse(TABLE);
        assert_eq!(mounts.0.len(), 4);
        let place = |id, path| mounts.place_on(id, Path::new(path)).unwrap();
        let (direct, bound) = (place(40, "/srv/ut boks/x"), place(41, "/mnt/a\\b/x"));
        assert_eq!(direct, bound);
        assert!(place(41, "/mnt/a\\b/x/y").is_in(&direct) && !direct.is_in(&place(41, "/mnt/a\\b/x/y")));
        assert!(!place(29, "/ut boks/x").is_in(&direct), "another device");
        assert_eq!(mounts.place_on(7, Path::new("/srv")), None);
    }

    #[test]
    fn two_mounts_of_one_server_are_not_taken_for_one_place() {
        for kind in ["nfs", "nfs4", "cifs", "smb3", "ceph", "9p", "fuse", "fuse.sshfs", "fuseblk"] {
            let table = format!(
                "50 29 0:60 / /srv/out rw shared:1 master:2 - {kind} server:/out rw\n\
                 51 29 0:60 / /srv/in rw - {kind} server:/in rw"
            );
            let mounts = Mounts::parse(table.as_bytes());
            assert_eq!(mounts.0.len(), 2, "{kind}");
            for (id, path) in [(50, "/srv/out"), (51, "/srv/in"), (51, "/srv/in/below")] {
                assert_eq!(mounts.place_on(id, Path::new(path)), None, "{kind}: {path}");
            }
        }
        assert!(!has_false_root(b"fusectl") && !has_false_root(b"ext4"));
    }

    #[test]
    fn this_process_has_mounts() {
        let temporary = tempfile::tempdir().unwrap();
        let canonical = temporary.path().canonicalize().unwrap();
        let mounts = Mounts::of_this_process();
        if let (Some(outer), Some(inner)) =
            (mounts.place(canonical.parent().unwrap()), mounts.place(&canonical))
        {
            assert!(inner.is_in(&outer) && !outer.is_in(&inner));
        }
    }
}
