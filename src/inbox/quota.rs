//! How much lies in the inbox: while as many files as `max_waiting` allows wait there for whoever imports them,
//! Altinn keeps the others.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use super::folders::{Folders, PRIVATE};
use crate::config::Layout;
use crate::files::{Dir, EntryKind, Error};
use crate::transfer::{Companion, RouteName};

/// A folder that is full is counted again at most this often.
const COUNT_EVERY: Duration = Duration::from_secs(1);

/// The files of one inbox, counted now and then, and kept in mind meanwhile.
#[derive(Debug)]
pub(super) struct Quota {
    route: RouteName,
    layout: Layout,
    max_waiting: Option<usize>,
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
        Self { route, layout, max_waiting, state: Mutex::default() }
    }

    /// Lets one more file be fetched if the inbox has place for it. May list the inbox, so it blocks.
    pub(super) fn enter(self: &Arc<Self>, folders: &Folders) -> Result<Option<Fetching>, Error> {
        let mut state = self.state();
        if let Some(max) = self.max_waiting {
            let under_way = state.fetching + folders.names.reserved();
            let is_due = state.counted.is_none_or(|counted| counted.elapsed() >= COUNT_EVERY);
            if is_due && (state.counted.is_none() || state.lying + under_way >= max) {
                state.lying = count(&folders.inbox, self.layout, max)?;
                state.counted = Some(Instant::now());
            }
            let is_full = state.lying + under_way >= max;
            self.tell(&mut state, is_full, max);
            if is_full {
                return Ok(None);
            }
        }
        state.fetching += 1;
        Ok(Some(Fetching(Arc::clone(self))))
    }

    /// One more file lies in the inbox.
    pub(super) fn delivered(&self) {
        self.state().lying += 1;
    }

    /// When it begins and when it ends.
    fn tell(&self, state: &mut State, is_full: bool, max: usize) {
        if is_full && !state.is_full {
            warn!(
                route = self.route.as_str(),
                code = "inbox_full",
                max_waiting = max,
                "as many files as max_waiting allows lie in the inbox: nothing more is fetched until some are taken away; Altinn keeps what waits until it expires"
            );
        } else if !is_full && state.is_full {
            info!(route = self.route.as_str(), "the inbox has place again: fetching goes on");
        }
        state.is_full = is_full;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The files of an inbox with those of its folders, metadata not counted; no more than `enough` of them.
fn count(inbox: &Dir, layout: Layout, enough: usize) -> Result<usize, Error> {
    let (mut files, mut folders) = (0, Vec::new());
    inbox.for_each(|name, kind| {
        if name == PRIVATE {
            return true;
        }
        match (layout, kind) {
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
        let folder = match inbox.subfolder(&folder) {
            Ok(folder) => folder,
            Err(error) if error.is_missing() => continue,
            Err(error) => return Err(error),
        };
        folder.for_each(|name, _| {
            files += usize::from(!is_metadata(name));
            files < enough
        })?;
    }
    Ok(files)
}

fn is_metadata(name: &std::ffi::OsStr) -> bool {
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
}
