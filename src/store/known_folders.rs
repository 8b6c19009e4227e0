//! Which folders the routes have used, so that a folder that has been used before is told from an empty one in its
//! place: a mount point without its file system, for one.

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::{Error, SetBackNotes, disk};
use crate::seams;
use crate::transfer::RouteName;

/// `<state>/folders/`: a file for each route, with the path of its folder. Every function blocks.
#[derive(Debug, Clone)]
pub struct KnownFolders {
    dir: PathBuf,
}

impl KnownFolders {
    /// What the state directory knows, whether or not there is one.
    #[must_use]
    pub fn of(state: &Path) -> Self {
        Self { dir: state.join("folders") }
    }

    /// What is noted of a state that was set back, in the same state directory.
    pub(super) fn set_back_notes(&self) -> SetBackNotes {
        SetBackNotes::of(self.dir.parent().unwrap_or(&self.dir))
    }

    pub(super) fn open(state: &Path) -> Result<Self, Error> {
        let known = Self::of(state);
        disk::create_dir(&known.dir)?;
        Ok(known)
    }

    /// Whether the route has used this folder before.
    pub fn has_used(&self, route: &RouteName, folder: &Path) -> Result<bool, Error> {
        self.has(route.as_str(), folder)
    }

    /// The same of the folder of its archive, where that lies elsewhere.
    pub fn has_archived_in(&self, route: &RouteName, folder: &Path) -> Result<bool, Error> {
        self.has(&archive_of(route), folder)
    }

    fn has(&self, key: &str, folder: &Path) -> Result<bool, Error> {
        let path = self.dir.join(key);
        match std::fs::read(&path) {
            Ok(known) => Ok(Path::new(OsStr::from_bytes(&known)) == folder),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(Error::io("read", path, source)),
        }
    }

    /// Everything that is known, as it is stored.
    pub(super) fn all(&self) -> Result<Vec<(String, Vec<u8>)>, Error> {
        let mut all = Vec::new();
        for entry in disk::read_dir(&self.dir)? {
            let key = entry.file_name().into_string().unwrap_or_default();
            if is_key(&key) {
                let path = entry.path();
                let folder = std::fs::read(&path).map_err(|source| Error::io("read", path, source))?;
                all.push((key, folder));
            }
        }
        all.sort();
        Ok(all)
    }

    /// Remembers that the route uses this folder, durably.
    pub fn remember(&self, route: &RouteName, folder: &Path) -> Result<(), Error> {
        self.put(route.as_str(), folder)
    }

    /// Remembers that the route archives in this folder, durably.
    pub fn remember_archive(&self, route: &RouteName, folder: &Path) -> Result<(), Error> {
        self.put(&archive_of(route), folder)
    }

    /// Whether the receipts of what was sent from this folder have been read in this state.
    pub fn has_read_receipts(&self, route: &RouteName, folder: &Path) -> Result<bool, Error> {
        self.has(&format!("{route}.receipts"), folder)
    }

    /// Remembers that they have, durably.
    pub fn remember_receipts_read(&self, route: &RouteName, folder: &Path) -> Result<(), Error> {
        self.put(&format!("{route}.receipts"), folder)
    }

    fn put(&self, key: &str, folder: &Path) -> Result<(), Error> {
        if self.has(key, folder)? {
            return Ok(());
        }
        let (path, new) = (self.dir.join(key), self.dir.join(format!("{key}.new")));
        let written = std::fs::File::create(&new).and_then(|mut file| {
            file.write_all(folder.as_os_str().as_bytes())?;
            seams::sync_file(&file)
        });
        written
            .and_then(|()| std::fs::rename(&new, &path))
            .map_err(|source| Error::io("write", path, source))?;
        disk::sync_dir(&self.dir)
    }
}

/// Whether something is kept under this name.
pub(super) fn is_key(key: &str) -> bool {
    let route = ["archive", "receipts"]
        .into_iter()
        .find_map(|what| key.strip_suffix(what)?.strip_suffix('.'))
        .unwrap_or(key);
    route.parse::<RouteName>().is_ok()
}

/// Whether what is kept under this name says that receipts were read.
pub(super) fn is_of_receipts(key: &str) -> bool {
    key.ends_with(".receipts")
}

/// No route's name has a dot.
fn archive_of(route: &RouteName) -> String {
    format!("{route}.archive")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_known_once_it_was_used() {
        let state = tempfile::tempdir().unwrap();
        let route: RouteName = "invoices".parse().unwrap();
        let known = || KnownFolders::open(state.path()).unwrap();
        assert!(!known().has_used(&route, Path::new("/a")).unwrap());
        known().remember(&route, Path::new("/a")).unwrap();
        known().remember(&route, Path::new("/a")).unwrap();
        assert!(known().has_used(&route, Path::new("/a")).unwrap());
        known().remember(&route, Path::new("/b")).unwrap();
        assert!(!known().has_used(&route, Path::new("/a")).unwrap());
        assert!(known().has_used(&route, Path::new("/b")).unwrap());
        assert!(!known().has_archived_in(&route, Path::new("/b")).unwrap());
        known().remember_archive(&route, Path::new("/c")).unwrap();
        assert!(known().has_archived_in(&route, Path::new("/c")).unwrap());
        assert!(known().has_used(&route, Path::new("/b")).unwrap());
    }
}
