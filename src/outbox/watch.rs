//! Hearing that something happened in the drop folder. What is heard is a hint: the listing is the truth, so a
//! lost or overflowed event costs a delay and never a file.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, ModifyKind, RenameMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tracing::{info, warn};

use super::Route;
use super::candidate::Source;
use crate::config;
use crate::files::{self, FileSystem, PROBE_PREFIX, show_probe};
use crate::seams::{self, OsRandom, Random};

/// Files that were renamed into the folder and have not been looked at; more than this are simply let settle.
const MAX_ARRIVED: usize = 4096;
/// How long the kernel is given to tell of a file of our own making, before it counts as silent.
const PATIENCE: Duration = Duration::from_secs(2);

/// Hears of changes in a route's folders.
#[derive(Debug)]
pub(super) struct Watch {
    path: PathBuf,
    watcher: Option<RecommendedWatcher>,
    watched: HashSet<PathBuf>,
    heard: Arc<Heard>,
}

#[derive(Debug, Default)]
struct Heard {
    hint: Notify,
    probe: Notify,
    arrived: Mutex<HashSet<PathBuf>>,
}

/// Whether the kernel tells of every file that comes into a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// It does, as far as can be known.
    Yes,
    /// Nobody wants to know.
    Off,
    /// Not of files that others put there over the network or behind a FUSE file system.
    NotOfOthers(FileSystem),
    /// It should, but a file of our own making was not told of.
    NotAtAll,
}

impl Watch {
    /// Begins to listen, where the settings and the kernel let us; otherwise the folder is only listed.
    pub(super) async fn start(route: &Route) -> Self {
        let settings = &route.settings;
        let mut watch = Self::deaf(&settings.path);
        let file_system = route.on_files(|folders| FileSystem::of(&folders.drop)).await;
        match not_asked(settings.watch, file_system.ok()) {
            Some(Told::NotOfOthers(file_system)) => {
                info!(route = settings.name.as_str(), file_system = file_system.name(), poll_interval = ?settings.poll_interval, "the kernel does not see what others put on this file system: listing the folder instead");
                return watch;
            }
            Some(_) => return watch,
            None => {}
        }
        watch.listen(&settings.path.clone());
        if watch.watcher.is_some() && !watch.hears(route).await {
            warn!(route = settings.name.as_str(), code = "no_notifications", poll_interval = ?settings.poll_interval, "the kernel does not tell of new files here: listing the folder instead");
            watch.watcher = None;
        }
        watch
    }

    fn deaf(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            watcher: None,
            watched: HashSet::new(),
            heard: Arc::new(Heard::default()),
        }
    }

    /// Begins to listen to the drop folder.
    fn listen(&mut self, path: &Path) {
        let heard = Arc::clone(&self.heard);
        match notify::recommended_watcher(move |event| heard.take(event)) {
            Ok(watcher) => {
                self.watcher = Some(watcher);
                if !self.add(path) {
                    self.watcher = None;
                }
            }
            Err(error) => {
                warn!(path = ?path, code = "no_notifications", error = %explain(&error), "the kernel will not tell of new files: listing the folder instead");
            }
        }
    }

    /// Listens to a folder below the drop folder, too.
    pub(super) fn also(&mut self, source: &Source) {
        if let Some(name) = source.name() {
            self.add(&self.path.join(name));
        }
    }

    fn add(&mut self, path: &Path) -> bool {
        let Some(watcher) = &mut self.watcher else { return false };
        if !self.watched.insert(path.to_owned()) {
            return true;
        }
        let watching = seams::injected_fault("watch")
            .map_err(notify::Error::from)
            .and_then(|()| watcher.watch(path, RecursiveMode::NonRecursive));
        match watching {
            Ok(()) => info!(path = ?path, "watching"),
            // It stays among the watched: the listing finds its files, and one warning is enough.
            Err(ref error) => {
                warn!(path = ?path, code = "no_notifications", error = %explain(error), "the kernel will not tell of new files here: listing the folder instead");
            }
        }
        watching.is_ok()
    }

    /// Whether a file that we make is told of.
    async fn hears(&self, route: &Route) -> bool {
        let made = route.on_files(|folders| show_probe(&folders.drop, &OsRandom)).await;
        // A folder that we cannot write to has other trouble, which is told of elsewhere.
        made.is_err() || tokio::time::timeout(PATIENCE, self.heard.probe.notified()).await.is_ok()
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

/// Why the kernel is not asked to tell of new files, if it is not.
fn not_asked(watch: config::Watch, file_system: Option<FileSystem>) -> Option<Told> {
    match watch {
        config::Watch::Poll => Some(Told::Off),
        config::Watch::Auto => file_system.filter(|it| it.is_shared()).map(Told::NotOfOthers),
        config::Watch::Notify => None,
    }
}

/// Whether the kernel would tell of new files in a folder, for people who ask before the service runs. Blocks.
pub(super) fn would_tell(
    watch: config::Watch,
    folder: &files::Dir,
    file_system: FileSystem,
    random: &dyn Random,
) -> Result<Told, files::Error> {
    if let Some(told) = not_asked(watch, Some(file_system)) {
        return Ok(told);
    }
    let (sender, heard) = std::sync::mpsc::channel();
    let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        // The receiver goes when it has heard enough.
        let _unheard = sender.send(is_probe(&event));
    });
    let Ok(mut watcher) = watcher else { return Ok(Told::NotAtAll) };
    if watcher.watch(folder.path(), RecursiveMode::NonRecursive).is_err() {
        return Ok(Told::NotAtAll);
    }
    show_probe(folder, random)?;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let left = deadline.saturating_duration_since(tokio::time::Instant::now());
        match heard.recv_timeout(left) {
            Ok(true) if file_system.is_shared() => return Ok(Told::NotOfOthers(file_system)),
            Ok(true) => return Ok(Told::Yes),
            Ok(false) => {}
            Err(_) => return Ok(Told::NotAtAll),
        }
    }
}

fn is_probe(event: &notify::Result<Event>) -> bool {
    let is_named = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PROBE_PREFIX))
    };
    event.as_ref().is_ok_and(|event| event.paths.iter().any(is_named))
}

/// The limit that an error speaks of, by its name.
fn explain(error: &notify::Error) -> String {
    let is_full = match &error.kind {
        notify::ErrorKind::MaxFilesWatch => true,
        notify::ErrorKind::Io(error) => [rustix::io::Errno::NOSPC, rustix::io::Errno::MFILE]
            .iter()
            .any(|errno| error.raw_os_error() == Some(errno.raw_os_error())),
        _ => false,
    };
    if is_full {
        format!("{error}: raise fs.inotify.max_user_watches and fs.inotify.max_user_instances (sysctl)")
    } else {
        error.to_string()
    }
}

impl Heard {
    /// Called on the watcher's own thread, which must not be kept: a slow callback overflows the kernel's queue.
    fn take(&self, event: notify::Result<Event>) {
        if is_probe(&event) {
            self.probe.notify_one();
            return;
        }
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
