//! Whether two folders are one, or lie in one another, under names that do not show it: through links and mounts.
//! A file would be sent from where it was received, or twice.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::Found;
use super::folders::{Named, nearest_existing};
use super::mounts::{Mounts, Place};

/// Device and inode.
type Identity = (u64, u64);

/// What a folder is, apart from its name.
#[derive(Debug)]
struct Seen {
    /// Its own, if it is there.
    own: Option<Identity>,
    /// Those of the folders that it lies in.
    parents: Vec<Identity>,
    /// Where it lies in its file system, if that can be told.
    place: Option<Place>,
}

/// How two folders meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meeting {
    Same,
    Inside,
    Around,
}

/// Reports folders that are equal or nested.
pub(super) fn check(folders: &[Named<'_>], mounts: &Mounts, found: &mut Found) {
    let seen: Vec<(&Named<'_>, Seen)> =
        folders.iter().filter_map(|folder| Some((folder, Seen::look(folder.path, mounts)?))).collect();
    for (position, (folder, one)) in seen.iter().enumerate() {
        for (other_folder, other) in seen.iter().take(position) {
            let Some(meeting) = one.meets(other) else { continue };
            let other = format!("{} ({})", other_folder.key, other_folder.path.display());
            let reason = match meeting {
                Meeting::Same => format!("it is the same folder as {other}, by a link or a mount"),
                Meeting::Inside => format!("it lies inside {other}, by a link or a mount"),
                Meeting::Around => format!("{other} lies inside it, by a link or a mount"),
            };
            found.add(&folder.key, reason, "give each a folder of its own, none inside another");
        }
    }
}

impl Seen {
    fn look(path: &Path, mounts: &Mounts) -> Option<Self> {
        let existing = nearest_existing(path)?;
        let canonical = existing.canonicalize().ok()?;
        let identity =
            |path: &Path| std::fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()));
        let mut chain: Vec<PathBuf> = canonical.ancestors().map(Path::to_owned).collect();
        let is_there = existing == path;
        let own = if is_there { Some(identity(&chain.remove(0))?) } else { None };
        let place = if is_there { mounts.place(&canonical) } else { None };
        Some(Self { own, parents: chain.iter().filter_map(|path| identity(path)).collect(), place })
    }

    fn meets(&self, other: &Self) -> Option<Meeting> {
        let is_in = |inner: &Self, outer: &Self| {
            outer.own.is_some_and(|own| inner.parents.contains(&own))
                || matches!((&inner.place, &outer.place), (Some(inner), Some(outer)) if inner.is_in(outer))
        };
        if self.own.is_some() && self.own == other.own {
            Some(Meeting::Same)
        } else if is_in(self, other) {
            Some(Meeting::Inside)
        } else if is_in(other, self) {
            Some(Meeting::Around)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Origin;
    use std::fs::create_dir_all;
    use std::os::unix::fs::symlink;

    /// What is said of folders by these names below a folder of the test.
    fn said(folder: &Path, names: &[&str]) -> Vec<String> {
        let paths: Vec<PathBuf> = names.iter().map(|name| folder.join(name)).collect();
        let folders: Vec<Named<'_>> =
            names.iter().zip(&paths).map(|(name, path)| Named { key: (*name).to_owned(), path }).collect();
        let mut found = Found { file: Origin::File("c".into()), problems: Vec::new() };
        check(&folders, &Mounts::of_this_process(), &mut found);
        found
            .problems
            .iter()
            .map(|problem| {
                let words: Vec<&str> = problem.reason.split(" (").next().unwrap().split(' ').collect();
                format!("{}: {}", problem.key, words.join(" "))
            })
            .collect()
    }

    #[test]
    fn folders_that_meet_through_links_are_found_and_others_are_not() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = temporary.path();
        create_dir_all(folder.join("a/deep/er")).unwrap();
        create_dir_all(folder.join("b")).unwrap();
        create_dir_all(folder.join("ab")).unwrap();
        symlink("a/deep", folder.join("in-a")).unwrap();
        symlink("../a", folder.join("b/to-a")).unwrap();
        assert_eq!(said(folder, &["a", "b", "ab"]), Vec::<String>::new());
        assert_eq!(said(folder, &["a", "b/to-a"]), ["b/to-a: it is the same folder as a"]);
        assert_eq!(said(folder, &["a", "in-a/er"]), ["in-a/er: it lies inside a"]);
        assert_eq!(said(folder, &["in-a/er", "a"]), ["a: in-a/er"]);
        assert_eq!(said(folder, &["b", "b/to-a"]), Vec::<String>::new(), "a lies elsewhere");
        // A state folder that is not there yet.
        assert_eq!(said(folder, &["a", "in-a/state/new"]), ["in-a/state/new: it lies inside a"]);
        assert_eq!(said(folder, &["b", "in-a/state/new"]), Vec::<String>::new());
    }
}
