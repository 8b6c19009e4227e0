//! A route's folders, held open for as long as they are what stands at the configured path.
//!
//! File systems are unmounted and folders replaced while the service runs. Work goes on in what is held open, never
//! in what merely stands at the path now: a file that is delivered into an empty mount point is hidden as soon as its
//! file system comes back. So the folders are looked at now and then; if they are gone, the route waits, and when
//! they come back, they are opened anew.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{Kind, Report, Trouble, later};
use crate::files::{self, Dir, Mode};
use crate::seams::{self, Clock};
use crate::store::KnownFolders;
use crate::transfer::{Failure, RouteName};

/// How often it is looked whether the folders are still there.
const EVERY: Duration = Duration::from_secs(2);

/// How a route's folders are to be opened.
#[derive(Debug, Clone, Copy)]
pub struct Opening {
    /// The folder was used before, so that it must be recognised: one without what the service has made in it is not
    /// it.
    pub used_before: bool,
    /// This process has not worked in the folders yet.
    pub is_first: bool,
}

impl Opening {
    /// The place for temporary files in the folder that is the service's own. It is emptied at the first opening
    /// alone: what was begun in the folders before they went away may still be writing there.
    pub fn scratch(self, private: &Dir) -> Result<Dir, files::Error> {
        let scratch = private.ensure_subfolder("tmp", Mode::PRIVATE_FOLDER)?;
        if self.is_first {
            scratch.remove_files()?;
        }
        Ok(scratch)
    }
}

/// A transfer asks for folders that have long been away this often.
const LONGEST_WAIT: Duration = Duration::from_mins(5);

/// Opens a route's folders.
type Open<F> = Box<dyn Fn(Opening) -> Result<F, files::Error> + Send + Sync>;
/// Tries the folders out.
type Probe = Box<dyn Fn() -> Report + Send + Sync>;

/// The folders of a route, as long as they are there.
pub struct Mount<F> {
    route: RouteName,
    path: PathBuf,
    open: Open<F>,
    probe: Probe,
    known: KnownFolders,
    clock: Arc<dyn Clock>,
    state: Mutex<State<F>>,
    /// How often the folders have been opened.
    openings: watch::Sender<u64>,
}

enum State<F> {
    /// The folder itself is held beside what was made of it.
    Here {
        folders: F,
        root: Dir,
    },
    Away(Trouble),
}

impl<F> std::fmt::Debug for Mount<F> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Mount")
            .field("route", &self.route)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl<F: Clone + Send + 'static> Mount<F> {
    /// Opens the folders at `path` with `open`. Where they cannot be opened, the route waits for them; when they are
    /// there at last or again, they are tried out with `probe`, as they were before the service began to run. Blocks.
    pub fn new(
        route: RouteName,
        path: PathBuf,
        known: KnownFolders,
        clock: Arc<dyn Clock>,
        open: impl Fn(Opening) -> Result<F, files::Error> + Send + Sync + 'static,
        probe: impl Fn() -> Report + Send + Sync + 'static,
    ) -> Self {
        let nothing = Trouble::new(Kind::Temporary(None), "file_missing", String::new(), "", clock.now());
        let (openings, _) = watch::channel(0);
        let state = Mutex::new(State::Away(nothing));
        let (open, probe) = (Box::new(open), Box::new(probe));
        let mount = Self { route, path, open, probe, known, clock, state, openings };
        mount.look(false);
        mount
    }

    /// The folders, or why the route waits for them.
    pub fn folders(&self) -> Result<F, Trouble> {
        match &*self.state.lock().unwrap_or_else(PoisonError::into_inner) {
            State::Here { folders, .. } => Ok(folders.clone()),
            State::Away(trouble) => {
                // The longer it has been away, the more seldom each of its transfers asks for it.
                let now = self.clock.now();
                let away = now.duration_since(trouble.failure.at).unsigned_abs();
                let wait = (away / 2).clamp(EVERY, LONGEST_WAIT);
                Err(Trouble { kind: Kind::Held(later(now, wait)), ..trouble.clone() })
            }
        }
    }

    /// A receiver of how often the folders have been opened: what hangs on them is made anew when it changes.
    #[must_use]
    pub fn openings(&self) -> watch::Receiver<u64> {
        self.openings.subscribe()
    }

    /// Looks after the folders until `stop`, and does `work` from when they are there.
    pub async fn serve(
        self: Arc<Self>,
        stop: CancellationToken,
        work: impl Future<Output = Result<(), Trouble>>,
    ) -> Result<(), Trouble> {
        let work = async {
            self.here(&stop).await;
            if stop.is_cancelled() { Ok(()) } else { work.await }
        };
        tokio::try_join!(Arc::clone(&self).keep(stop.clone()), work).map(|((), ())| ())
    }

    /// Returns when the folders are there, or at `stop`.
    async fn here(&self, stop: &CancellationToken) {
        let mut openings = self.openings();
        tokio::select! {
            () = stop.cancelled() => {}
            // Never an error: the sender lives as long as `self`.
            _ = openings.wait_for(|openings| *openings > 0) => {}
        }
    }

    /// Looks now and then whether the folders are there, until `stop`.
    async fn keep(self: Arc<Self>, stop: CancellationToken) -> Result<(), Trouble> {
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(EVERY) => {}
            }
            let mount = Arc::clone(&self);
            seams::blocking(move || mount.look(true)).await;
        }
    }

    /// Sees whether what is held open is what stands at the path, and opens what stands there where nothing is held.
    fn look(&self, probes: bool) {
        let found = Dir::open(&self.path).and_then(|folder| Ok((folder.entry()?, folder)));
        let held = match &*self.state.lock().unwrap_or_else(PoisonError::into_inner) {
            State::Here { root, .. } => Some(root.clone()),
            State::Away(_) => None,
        };
        // As it is now: some file systems number their inodes anew while they are mounted.
        let held = held.and_then(|root| root.entry().ok());
        match (held, found) {
            (Some(held), Ok((found, _))) if held.is_same_file(&found) => {}
            (_, Ok((_, found))) => match self.open_anew(probes) {
                Ok(folders) => self.is_here(folders, found),
                Err(trouble) => self.is_away(trouble),
            },
            (_, Err(error)) => self.is_away(Trouble::files(&error, self.clock.now())),
        }
    }

    fn open_anew(&self, probes: bool) -> Result<F, Trouble> {
        let now = self.clock.now();
        let store = |error: &crate::store::Error| Trouble::store(error, now);
        let used_before = self.known.has_used(&self.route, &self.path).map_err(|error| store(&error))?;
        let opening = Opening { used_before, is_first: *self.openings.borrow() == 0 };
        let folders = (self.open)(opening).map_err(|error| Trouble::files(&error, now))?;
        if probes {
            self.try_out()?;
        }
        self.known.remember(&self.route, &self.path).map_err(|error| store(&error))?;
        Ok(folders)
    }

    /// What is mounted now may be another file system than before.
    fn try_out(&self) -> Result<(), Trouble> {
        let Report { facts, warnings, problems } = (self.probe)();
        let route = self.route.as_str();
        for fact in facts {
            info!(route, fact, "folder tried out");
        }
        for warning in warnings {
            warn!(route, reason = %warning.reason, remedy = %warning.remedy, "folder tried out");
        }
        let Some(problem) = problems.into_iter().next() else { return Ok(()) };
        let kind = Kind::Temporary(None);
        Err(Trouble::new(kind, "folder_unfit", problem.reason, &problem.remedy, self.clock.now()))
    }

    fn is_here(&self, folders: F, root: Dir) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = State::Here { folders, root };
        let before = *self.openings.borrow();
        self.openings.send_replace(before + 1);
        info!(route = self.route.as_str(), path = ?self.path, "folder opened");
    }

    fn is_away(&self, trouble: Trouble) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let before = match &*state {
            State::Here { .. } => None,
            State::Away(before) => Some(before.failure.clone()),
        };
        if before.as_ref().is_none_or(|before| before.message != trouble.failure.message) {
            let failure = &trouble.failure;
            error!(route = self.route.as_str(), code = %failure.code, reason = %failure.message, remedy = %failure.remedy, "the route's folder is not there: its files wait");
        }
        // Since when it has been away, whatever is the matter with it now.
        let since = before.map_or(trouble.failure.at, |before| before.at);
        let failure = Failure { at: since, ..trouble.failure };
        *state = State::Away(Trouble { failure, ..trouble });
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::seams::{OsRandom, SystemClock};
    use crate::store::Store;

    fn mount(path: &Path, state: &Path) -> Mount<Dir> {
        let opened = Store::open(state, Arc::new(SystemClock), Arc::new(OsRandom)).unwrap();
        let known = opened.store.known_folders().clone();
        let at = path.to_owned();
        let open = move |opening: Opening| {
            let folder = Dir::open(&at)?;
            let private = folder.own_subfolder(".formidlingd", opening.used_before)?;
            Ok(folder.with_scratch(opening.scratch(&private)?))
        };
        let probe = Report::default;
        Mount::new("a".parse().unwrap(), path.to_owned(), known, Arc::new(SystemClock), open, probe)
    }

    #[test]
    fn a_folder_that_goes_is_waited_for_and_an_empty_one_in_its_place_is_not_it() {
        let temporary = tempfile::tempdir().unwrap();
        let (path, away) = (temporary.path().join("inbox"), temporary.path().join("away"));
        std::fs::create_dir(&path).unwrap();
        let mount = mount(&path, &temporary.path().join("state"));
        let openings = mount.openings();
        assert_eq!(*openings.borrow(), 1);
        let held = mount.folders().unwrap();

        std::fs::rename(&path, &away).unwrap();
        mount.look(true);
        assert!(mount.folders().is_err());
        std::fs::create_dir(&path).unwrap();
        mount.look(true);
        let trouble = mount.folders().unwrap_err();
        assert_eq!(trouble.failure.code, "folder_not_recognised", "{trouble}");
        assert_eq!(std::fs::read_dir(&path).unwrap().count(), 0, "nothing is made in what is not ours");
        // What is still being done goes on in the folder that it was begun in.
        held.create("late", b"", Mode::PRIVATE_FILE).unwrap();
        assert!(away.join("late").exists());

        std::fs::remove_dir(&path).unwrap();
        std::fs::rename(&away, &path).unwrap();
        mount.look(true);
        assert!(mount.folders().is_ok());
        assert_eq!(*openings.borrow(), 2);
    }

    #[test]
    fn what_comes_back_is_tried_out_and_waited_for_if_it_is_unfit() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("inbox");
        let unfit = Arc::new(std::sync::atomic::AtomicBool::new(true));
        let (at, is_unfit) = (path.clone(), Arc::clone(&unfit));
        let state = temporary.path().join("state");
        let store = Store::open(&state, Arc::new(SystemClock), Arc::new(OsRandom)).unwrap().store;
        let mount = Mount::new(
            "a".parse().unwrap(),
            path.clone(),
            store.known_folders().clone(),
            Arc::new(SystemClock),
            move |_| Dir::open(&at),
            move || {
                let mut report = Report::default();
                if is_unfit.load(std::sync::atomic::Ordering::SeqCst) {
                    report.problem("path", "it lies on two file systems", "use one");
                }
                report
            },
        );
        assert!(mount.folders().is_err(), "it is not there");
        std::fs::create_dir(&path).unwrap();
        mount.look(true);
        assert_eq!(mount.folders().unwrap_err().failure.code, "folder_unfit");
        unfit.store(false, std::sync::atomic::Ordering::SeqCst);
        mount.look(true);
        assert!(mount.folders().is_ok());
    }

    #[test]
    fn what_is_being_written_when_the_folder_goes_is_there_when_it_is_back() {
        let temporary = tempfile::tempdir().unwrap();
        let (path, away) = (temporary.path().join("inbox"), temporary.path().join("away"));
        let scratch = path.join(".formidlingd/tmp");
        std::fs::create_dir_all(scratch.join("not-ours")).unwrap();
        std::fs::write(scratch.join("left"), "by a crash").unwrap();
        let mount = mount(&path, &temporary.path().join("state"));
        assert!(!scratch.join("left").exists());
        let begun = mount.folders().unwrap().prepare("begun", b"whole", Mode::PRIVATE_FILE).unwrap();

        std::fs::rename(&path, &away).unwrap();
        mount.look(true);
        assert!(mount.folders().is_err());
        std::fs::rename(&away, &path).unwrap();
        mount.look(true);
        assert!(mount.folders().is_ok());
        begun.put_in_place().unwrap();
        assert_eq!(std::fs::read(path.join("begun")).unwrap(), b"whole");
    }

    #[test]
    fn a_link_in_place_of_our_own_folder_is_not_followed() {
        let temporary = tempfile::tempdir().unwrap();
        let (path, elsewhere) = (temporary.path().join("inbox"), temporary.path().join("elsewhere"));
        std::fs::create_dir(&path).unwrap();
        std::fs::create_dir(&elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, path.join(".formidlingd")).unwrap();
        let mount = mount(&path, &temporary.path().join("state"));
        assert_eq!(mount.folders().unwrap_err().failure.code, "folder_not_trusted");
        std::fs::remove_file(path.join(".formidlingd")).unwrap();
        mount.look(true);
        assert!(mount.folders().is_ok());
    }
}
