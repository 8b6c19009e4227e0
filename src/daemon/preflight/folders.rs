//! Whether the folders of the routes and of the state are there and can be used.

use std::path::{Path, PathBuf};

use rustix::fs::Access;
use rustix::io::Errno;

use super::Found;
use super::mounts::Mounts;
use super::nesting;
use crate::config::Config;
use crate::store::KnownFolders;
use crate::transfer::RouteName;

/// A folder that the configuration names, and the key that does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named<'a> {
    pub(super) key: String,
    pub(super) path: &'a Path,
    /// The route, where it is the folder that a route has been remembered to use.
    pub(super) route: Option<&'a RouteName>,
}

/// Looks at every folder by itself, and at whether any two are one or lie in one another; those of the routes that can
/// be used.
pub(super) fn check<'a>(config: &'a Config, found: &mut Found) -> Vec<&'a Path> {
    let known = KnownFolders::of(&config.state.path);
    let usable: Vec<Named<'_>> =
        of_routes(config).filter(|folder| can_be_used(folder, &known, found)).collect();
    let state = Named { key: "state.path".to_owned(), path: &config.state.path, route: None };
    state_can_be_made(&state, found);
    let paths = usable.iter().map(|folder| folder.path).collect();
    nesting::check(&[usable, vec![state]].concat(), &Mounts::of_this_process(), found);
    paths
}

/// The folders that somebody else makes, so that they must be there.
fn of_routes(config: &Config) -> impl Iterator<Item = Named<'_>> {
    let outboxes = config.outboxes.values().flat_map(|outbox| {
        let key = |key| format!("outbox.{}.{key}", outbox.name);
        let archive = outbox.archive_path.as_deref();
        std::iter::once(Named { key: key("path"), path: &outbox.path, route: Some(&outbox.name) })
            .chain(archive.map(|path| Named { key: key("archive_path"), path, route: None }))
    });
    let inboxes = config.inboxes.values().map(|inbox| Named {
        key: format!("inbox.{}.path", inbox.name),
        path: &inbox.path,
        route: Some(&inbox.name),
    });
    outboxes.chain(inboxes)
}

fn can_be_used(folder: &Named<'_>, known: &KnownFolders, found: &mut Found) -> bool {
    let Named { key, path, route } = folder;
    let Some((reason, remedy)) = trouble(path) else { return true };
    if route.is_some_and(|route| matches!(known.has_used(route, path), Ok(true))) {
        // Its file system may be away, which is no reason to keep the other routes from working.
        let reason = format!("{reason}; it was there before");
        found.warn(key, reason, format!("mount its file system, or {remedy}; the route waits for it"));
    } else {
        found.add(key, reason, remedy);
    }
    false
}

/// Why a folder cannot be used, and what to do about it.
fn trouble(path: &Path) -> Option<(String, String)> {
    match std::fs::metadata(path) {
        Err(error) => {
            let reason = format!("{} cannot be opened: {error}", path.display());
            Some((reason, "make the folder, and let the service's user into it".to_owned()))
        }
        Ok(metadata) if !metadata.is_dir() => {
            Some((format!("{} is not a folder", path.display()), "name a folder".to_owned()))
        }
        Ok(_) => {
            let access = rustix::fs::access(path, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK);
            access.err().map(|errno| not_writable(path, errno))
        }
    }
}

/// The state folder is made by the service, so what is there of its path must let it.
fn state_can_be_made(state: &Named<'_>, found: &mut Found) {
    let Some(existing) = nearest_existing(state.path) else { return };
    if !existing.is_dir() {
        found.add(&state.key, format!("{} is not a folder", existing.display()), "name a folder");
    } else if let Err(errno) = rustix::fs::access(&existing, Access::WRITE_OK | Access::EXEC_OK) {
        let (reason, remedy) = not_writable(&existing, errno);
        found.add(&state.key, reason, remedy);
    }
}

pub(super) fn nearest_existing(path: &Path) -> Option<PathBuf> {
    path.ancestors().find(|ancestor| ancestor.exists()).map(Path::to_owned)
}

/// Why a folder cannot be written, and what to do about it.
fn not_writable(path: &Path, errno: Errno) -> (String, String) {
    let shown = path.display();
    if errno == Errno::ROFS {
        let reason = format!("{shown} is read-only for this process");
        let remedy = format!(
            "under systemd, whose ProtectSystem=strict makes it so, run: systemctl edit formidlingd, write the \
             two lines [Service] and ReadWritePaths={}, and restart; else mount the file system for writing",
            unit_path(path)
        );
        (reason, remedy)
    } else {
        let reason = format!("the user that runs this may not read and write {shown}: {errno}");
        (reason, "give the service's user (or its group) the right to read and write it".to_owned())
    }
}

/// A path as a unit file takes it: `%` begins a specifier, and quotes hold what has blanks (systemd.unit(5),
/// systemd.syntax(7)).
fn unit_path(path: &Path) -> String {
    let text = path.to_string_lossy().replace('%', "%%");
    if text.contains(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '\\')) {
        format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_only_folder_comes_with_the_drop_in_that_opens_it() {
        let (reason, remedy) = not_writable(Path::new("/data/in"), Errno::ROFS);
        assert!(reason.contains("/data/in is read-only"), "{reason}");
        for words in ["systemctl edit formidlingd", "[Service]", "ReadWritePaths=/data/in,"] {
            assert!(remedy.contains(words), "{remedy}");
        }
        let (reason, remedy) = not_writable(Path::new("/data/in"), Errno::ACCESS);
        assert!(reason.contains("may not read and write /data/in"), "{reason}");
        assert!(!remedy.contains("systemctl"), "{remedy}");
    }

    #[test]
    fn paths_are_written_as_a_unit_file_takes_them() {
        assert_eq!(unit_path(Path::new("/data/100%")), "/data/100%%");
        assert_eq!(unit_path(Path::new("/data/inn boks/\"a\"")), "\"/data/inn boks/\\\"a\\\"\"");
    }
}
