//! Hearing that something happened in the drop folder. What is heard is a hint: the listing is the truth, so a
//! lost or overflowed event costs a delay and never a file.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use notify::event::{AccessKind, AccessMode, ModifyKind, RenameMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tracing::{info, warn};

use crate::config;

/// Files that were renamed into the folder and have not been looked at; more than this are simply let settle.
const MAX_ARRIVED: usize = 4096;

/// Hears of changes in a route's folders.
#[derive(Debug)]
pub(super) struct Watch {
    watcher: Option<RecommendedWatcher>,
    watched: HashSet<PathBuf>,
    heard: Arc<Heard>,
}

#[derive(Debug, Default)]
struct Heard {
    hint: Notify,
    arrived: Mutex<HashSet<PathBuf>>,
}

impl Watch {
    /// Begins to listen, where the settings and the kernel let us; otherwise the folder is only listed.
    pub(super) fn start(settings: &config::Outbox) -> Self {
        let heard = Arc::new(Heard::default());
        let mut watch = Self { watcher: None, watched: HashSet::new(), heard: Arc::clone(&heard) };
        if settings.watch == config::Watch::Poll {
            return watch;
        }
        match notify::recommended_watcher(move |event| heard.take(event)) {
            Ok(watcher) => {
                watch.watcher = Some(watcher);
                watch.also(&settings.path);
            }
            Err(error) => {
                warn!(route = settings.name.as_str(), error = %error, "the kernel will not tell of new files: listing the folder instead");
            }
        }
        watch
    }

    /// Listens to one more folder.
    pub(super) fn also(&mut self, path: &Path) {
        let Some(watcher) = &mut self.watcher else { return };
        if self.watched.contains(path) {
            return;
        }
        match watcher.watch(path, RecursiveMode::NonRecursive) {
            Ok(()) => {
                self.watched.insert(path.to_owned());
                info!(path = ?path, "watching");
            }
            Err(error) => {
                warn!(path = ?path, error = %error, "the kernel will not tell of new files here: listing the folder instead");
            }
        }
    }

    /// Returns when something has been heard.
    pub(super) async fn hint(&self) {
        self.heard.hint.notified().await;
    }

    /// The files that were renamed into a folder since the last call: such a file came whole.
    pub(super) fn take_arrived(&self) -> HashSet<PathBuf> {
        std::mem::take(&mut *self.heard.arrived.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Heard {
    /// Called on the watcher's own thread, which must not be kept: a slow callback overflows the kernel's queue.
    fn take(&self, event: notify::Result<Event>) {
        // An error, like an overflow, means that something may have been missed: the folder is listed.
        let Ok(event) = event else {
            self.hint.notify_one();
            return;
        };
        match event.kind {
            EventKind::Modify(ModifyKind::Name(RenameMode::To)) => {
                let mut arrived = self.arrived.lock().unwrap_or_else(PoisonError::into_inner);
                for path in event.paths {
                    if arrived.len() < MAX_ARRIVED {
                        arrived.insert(path);
                    }
                }
                drop(arrived);
                self.hint.notify_one();
            }
            EventKind::Access(AccessKind::Close(AccessMode::Write)) | EventKind::Create(_) => {
                self.hint.notify_one();
            }
            _ if event.need_rescan() => self.hint.notify_one(),
            _ => {}
        }
    }
}
