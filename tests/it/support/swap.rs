//! Somebody who may write to a folder, moves things away while the service stands still, and leaves links in their
//! place that lead elsewhere.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use super::files_below;

/// A folder that the service has no business in, with what somebody put in its way.
#[derive(Debug)]
pub(crate) struct Elsewhere {
    folder: PathBuf,
    away: PathBuf,
    moved: Vec<Moved>,
    links: u32,
    seen: BTreeMap<PathBuf, Seen>,
}

/// Something that lies elsewhere now, and the place it was taken from.
#[derive(Debug)]
struct Moved {
    from: PathBuf,
    to: PathBuf,
}

/// All that would change if somebody wrote, renamed, linked or touched it.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    inode: u64,
    mode: u32,
    links: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    content: Option<Vec<u8>>,
}

impl Elsewhere {
    /// Two folders in `dir`: one that links lead to, and one where the real things go.
    pub(crate) fn new(dir: &Path) -> Self {
        let (folder, away) = (dir.join("elsewhere"), dir.join("away"));
        std::fs::create_dir(&folder).unwrap();
        std::fs::create_dir(&away).unwrap();
        std::fs::write(folder.join("sentinel"), "not yours").unwrap();
        Self { folder, away, moved: Vec::new(), links: 0, seen: BTreeMap::new() }
    }

    /// Moves what is there away, and puts a link in its place, to something that looks just like it.
    pub(crate) fn swap(&mut self, path: &Path) {
        self.links += 1;
        let (away, lure) = (self.away.join(self.links.to_string()), self.folder.join(self.links.to_string()));
        mirror(path, &lure);
        std::fs::rename(path, &away).unwrap();
        symlink(&lure, path).unwrap();
        self.moved.push(Moved { from: path.to_owned(), to: away });
        self.seen = look(&self.folder);
    }

    /// Puts a link where nothing is yet, to a name in the other folder that is free.
    pub(crate) fn plant(&mut self, path: &Path) {
        self.links += 1;
        symlink(self.folder.join(format!("new-{}", self.links)), path).unwrap();
        self.seen = look(&self.folder);
    }

    /// Where something is that was at `path` before it was moved away, or a folder above it.
    pub(crate) fn place_of(&self, path: &Path) -> PathBuf {
        let within = |moved: &Moved| Some(moved.to.join(path.strip_prefix(&moved.from).ok()?));
        self.moved.iter().find_map(within).unwrap_or_else(|| path.to_owned())
    }

    /// Asserts that nobody has touched anything here, and puts everything back.
    pub(crate) fn put_back(&mut self, case: &str) {
        let now = look(&self.folder);
        assert_eq!(now.keys().collect::<Vec<_>>(), self.seen.keys().collect::<Vec<_>>(), "{case}");
        for (path, seen) in &self.seen {
            assert_eq!(now.get(path), Some(seen), "{}: {case}", path.display());
        }
        for Moved { from, to } in std::mem::take(&mut self.moved).into_iter().rev() {
            if from.is_symlink() {
                std::fs::remove_file(&from).unwrap();
            }
            assert!(!from.exists(), "{}: {case}", from.display());
            std::fs::rename(to, from).unwrap();
        }
    }
}

/// Folders as they are, and in place of each file another one.
fn mirror(from: &Path, to: &Path) {
    if !from.is_dir() {
        std::fs::write(to, "elsewhere").unwrap();
        return;
    }
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        mirror(&entry.path(), &to.join(entry.file_name()));
    }
}

fn look(folder: &Path) -> BTreeMap<PathBuf, Seen> {
    let mut folders = vec![folder.to_owned()];
    let mut all = files_below(folder);
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder).unwrap().flatten().map(|entry| entry.path());
        folders.extend(entries.filter(|path| path.is_dir()));
        all.push(folder);
    }
    let seen = |path: PathBuf| {
        let metadata = path.symlink_metadata().unwrap();
        let seen = Seen {
            inode: metadata.ino(),
            mode: metadata.mode(),
            links: metadata.nlink(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            content: std::fs::read(&path).ok(),
        };
        (path, seen)
    };
    all.into_iter().map(seen).collect()
}
