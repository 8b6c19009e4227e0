//! How much lies in the inbox: while as many files as `max_waiting` allows wait there for whoever imports them,
//! Altinn keeps the others.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use super::folders::Folders;
use super::names::Names;
use crate::config::Layout;
use crate::files::{Dir, EntryKind, Error};
use crate::transfer::{Companion, RouteName};

/// A folder that is full is counted again at most this often.
const COUNT_EVERY: Duration = Duration::from_secs(1);

/// Names that desktops, and file systems, give to what is none of ours; compared without case.
const LITTER: [&str; 5] = ["thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "lost+found"];

/// The files of one inbox, counted now and then, and kept in mind meanwhile.
#[derive(Debug)]
pub(super) struct Quota {
    route: RouteName,
    layout: Layout,
    max_waiting: Option<usize>,
    /// Held while the inbox is counted, by those that would enter, on blocking threads alone.
    entrance: Mutex<()>,
    /// Never held while a file system is asked: it is taken on async threads, too.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Files in the inbox: those of the last count, and those delivered since.
    lying: usize,
    counted: Option<Instant>,
    /// Files on their way.
    fetching: usize,
    is_full: bool,
}

/// A file that may be fetched, until this is dropped.
#[derive(Debug)]
pub(super) struct Fetching(Arc<Quota>);

impl Drop for Fetching {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.fetching = state.fetching.saturating_sub(1);
    }
}

impl Quota {
    pub(super) fn new(route: RouteName, layout: Layout, max_waiting: Option<usize>) -> Self {
        Self { route, layout, max_waiting, entrance: Mutex::default(), state: Mutex::default() }
    }

    /// Lets one more file be fetched if the inbox has place for it. May list the inbox, so it blocks.
    pub(super) fn enter(self: &Arc<Self>, folders: &Folders) -> Result<Option<Fetching>, Error> {
        self.enter_counted(&folders.names, |enough| count(&folders.inbox, self.layout, enough))
    }

    fn enter_counted(
        self: &Arc<Self>,
        names: &Names,
        count: impl FnOnce(usize) -> Result<usize, Error>,
    ) -> Result<Option<Fetching>, Error> {
        let Some(max) = self.max_waiting else {
            self.state().fetching += 1;
            return Ok(Some(Fetching(Arc::clone(self))));
        };
        let _entrance = self.entrance.lock().unwrap_or_else(PoisonError::into_inner);
        let before = {
            let state = self.state();
            let is_due = state.counted.is_none_or(|counted| counted.elapsed() >= COUNT_EVERY);
            let is_full = state.lying + state.fetching + names.reserved() >= max;
            (is_due && (state.counted.is_none() || is_full)).then_some(state.lying)
        };
        if let Some(before) = before {
            let found = count(max)?;
            let mut state = self.state();
            // What was delivered meanwhile may have been found or not; too many is corrected by the next count.
            state.lying = found + state.lying.saturating_sub(before);
            state.counted = Some(Instant::now());
        }
        let (is_full, was_full) = {
            let mut state = self.state();
            // While the state is held: what is no longer fetched or reserved lies in the inbox.
            let is_full = state.lying + state.fetching + names.reserved() >= max;
            let was_full = std::mem::replace(&mut state.is_full, is_full);
            state.fetching += usize::from(!is_full);
            (is_full, was_full)
        };
        if is_full != was_full {
            self.tell(is_full, max);
        }
        Ok((!is_full).then(|| Fetching(Arc::clone(self))))
    }

    /// One more file lies in the inbox.
    pub(super) fn delivered(&self) {
        self.state().lying += 1;
    }

    /// When it begins and when it ends.
    fn tell(&self, is_full: bool, max: usize) {
        if is_full {
            warn!(
                route = self.route.as_str(),
                code = "inbox_full",
                max_waiting = max,
                "as many files as max_waiting allows lie in the inbox: nothing more is fetched until some are taken away; Altinn keeps what waits until it expires"
            );
        } else {
            info!(route = self.route.as_str(), "the inbox has place again: fetching goes on");
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The files of an inbox with those of its folders, no more than `enough` of them. Metadata is not counted, nor what
/// nobody would import.
fn count(inbox: &Dir, layout: Layout, enough: usize) -> Result<usize, Error> {
    let (mut files, mut folders) = (0, Vec::new());
    inbox.for_each(|name, kind| {
        match (layout, kind) {
            _ if is_litter(name) => {}
            (Layout::ByTransfer, EntryKind::Folder) => files += 1,
            (Layout::BySender, EntryKind::Folder) => folders.push(name.to_owned()),
            // A folder that somebody else has made.
            (Layout::Flat, EntryKind::Folder) => {}
            _ => files += usize::from(!is_metadata(name)),
        }
        files < enough
    })?;
    for folder in folders {
        if files >= enough {
            break;
        }
        let counted = inbox.subfolder(&folder).and_then(|folder| {
            folder.for_each(|name, kind| {
                let is_file = kind != EntryKind::Folder && !is_litter(name) && !is_metadata(name);
                files += usize::from(is_file);
                files < enough
            })
        });
        match counted {
            // What we may not open we have not delivered into.
            Err(error) if !error.is_missing() && !error.is_forbidden() => return Err(error),
            _ => {}
        }
    }
    Ok(files)
}

/// Whether a name is what desktops and file systems leave in folders. What is delivered never begins with a dot.
fn is_litter(name: &OsStr) -> bool {
    name.as_bytes().starts_with(b".") || LITTER.iter().any(|litter| name.eq_ignore_ascii_case(litter))
}

fn is_metadata(name: &OsStr) -> bool {
    name.to_str().and_then(Companion::of).is_some_and(|(companion, _)| companion == Companion::Metadata)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_counted_as_they_are_laid_down() {
        let temporary = tempfile::tempdir().unwrap();
        let inbox = Dir::open(temporary.path()).unwrap();
        for folder in [".formidlingd", "991825827", "other"] {
            std::fs::create_dir(temporary.path().join(folder)).unwrap();
        }
        for name in ["a", "a.meta.json", ".formidlingd/x", "991825827/b", "991825827/b.meta.json", "other/c"]
        {
            std::fs::write(temporary.path().join(name), name).unwrap();
        }
        assert_eq!(count(&inbox, Layout::Flat, 100).unwrap(), 1);
        assert_eq!(count(&inbox, Layout::BySender, 100).unwrap(), 3);
        assert_eq!(count(&inbox, Layout::ByTransfer, 100).unwrap(), 3);
        assert_eq!(count(&inbox, Layout::BySender, 2).unwrap(), 2);
    }

    #[test]
    fn litter_is_not_counted() {
        let temporary = tempfile::tempdir().unwrap();
        let inbox = Dir::open(temporary.path()).unwrap();
        for folder in ["991825827", "991825827/folder", ".Trash-1000", "lost+found", "$RECYCLE.BIN"] {
            std::fs::create_dir(temporary.path().join(folder)).unwrap();
        }
        let litter =
            [".DS_Store", ".smbdelete1", "Thumbs.db", "desktop.ini", ".Trash-1000/x", "lost+found/y"];
        for name in litter {
            std::fs::write(temporary.path().join(name), name).unwrap();
        }
        for name in ["991825827/.DS_Store", "991825827/Thumbs.db", "991825827/b"] {
            std::fs::write(temporary.path().join(name), name).unwrap();
        }
        assert_eq!(count(&inbox, Layout::Flat, 100).unwrap(), 0);
        assert_eq!(count(&inbox, Layout::BySender, 100).unwrap(), 1);
        assert_eq!(count(&inbox, Layout::ByTransfer, 100).unwrap(), 1);
    }

    #[test]
    fn a_folder_that_may_not_be_opened_is_taken_for_empty() {
        use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

        let temporary = tempfile::tempdir().unwrap();
        for folder in ["991825827", "closed"] {
            std::fs::create_dir(temporary.path().join(folder)).unwrap();
            std::fs::write(temporary.path().join(folder).join("b"), "b").unwrap();
        }
        let mode = |mode| {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
            std::fs::set_permissions(temporary.path().join("closed"), mode).unwrap();
        };
        mode(0);
        let inbox = Dir::open(temporary.path()).unwrap();
        // Of this thread alone, if it is root's: it is to be refused like others.
        let mut sets = capabilities(None).unwrap();
        sets.effective -= CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH;
        set_capabilities(None, sets).unwrap();
        assert!(inbox.subfolder("closed").unwrap_err().is_forbidden());
        assert_eq!(count(&inbox, Layout::BySender, 100).unwrap(), 1);
        mode(0o700);
    }

    #[test]
    fn while_an_inbox_is_counted_nobody_else_waits() {
        let quota = Arc::new(Quota::new("in".parse().unwrap(), Layout::Flat, Some(4)));
        let names = Names::default();
        let fetching = quota.enter_counted(&names, |_| Ok(0)).unwrap().unwrap();
        quota.state().counted = None;
        let mut fetching = Some(fetching);
        let counted = quota.enter_counted(&names, |_| {
            assert!(quota.state.try_lock().is_ok(), "a file system that hangs would hold async threads");
            assert!(quota.entrance.try_lock().is_err(), "it is counted once");
            // One file is delivered, and was not found.
            drop(fetching.take());
            quota.delivered();
            Ok(2)
        });
        let _second = counted.unwrap().unwrap();
        let seen = |state: MutexGuard<'_, State>| (state.lying, state.fetching);
        assert_eq!(seen(quota.state()), (3, 1));
        assert!(quota.enter_counted(&names, |_| Ok(3)).unwrap().is_none(), "it is full");
    }
}
