//! What lies in the drop folders, and what of it may be taken.

use std::collections::{HashMap, HashSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;
use tracing::{info, warn};

use super::candidate::{Candidate, OpenFolder, Source};
use super::folders::Folders;
use super::ignore::is_ignored;
use super::observe::{self, Observation, Pair, Waiting, waits_from_outside};
use super::window::{Admission, Window};
use crate::config::{self, Recipients, Sidecar};
use crate::files::{self, Dir, EntryKind, PROBE_PREFIX};
use crate::route::earlier;
use crate::transfer::{Companion, folded};

/// Files observed at once. More than this wait for their turn in the folder, so that a backlog costs no memory.
const WINDOW: usize = 4096;
/// Names that were warned about; beyond this the warnings begin anew.
const MAX_TOLD: usize = 4096;
/// While more files wait for their turn than are observed, the folder is listed at least this often.
const NEXT_TURN: Duration = Duration::from_secs(1);
/// How often it is told what has been ignored for long; what has been ignored for this long counts.
const IGNORED_FOR: Duration = Duration::from_hours(1);

/// What is known of the drop folders.
#[derive(Debug)]
pub(super) struct Listing {
    settings: config::Outbox,
    /// Files that are watched until they may be taken.
    pub(super) observed: HashMap<Candidate, Observation>,
    /// Files that are still, the oldest first.
    pub(super) ready: VecDeque<Candidate>,
    /// The folders below the drop folder, where folders name recipients.
    pub(super) sources: Vec<Source>,
    /// How long nothing new can be seen, as far as is known.
    pub(super) next_look: Duration,
    window: Window,
    arrived: HashSet<PathBuf>,
    /// The files, with their names folded, that there are sidecars for.
    sidecars: HashSet<(Source, String)>,
    told: HashSet<(OsString, Waiting)>,
    number: u64,
    ignored_told: Option<Instant>,
}

impl Listing {
    pub(super) fn new(settings: config::Outbox) -> Self {
        Self {
            settings,
            observed: HashMap::new(),
            ready: VecDeque::new(),
            sources: Vec::new(),
            next_look: Duration::ZERO,
            window: Window::default(),
            arrived: HashSet::new(),
            sidecars: HashSet::new(),
            told: HashSet::new(),
            number: 0,
            ignored_told: None,
        }
    }

    /// Files that were renamed into the folders since the last listing.
    pub(super) fn arrived(&mut self, paths: HashSet<PathBuf>) {
        self.arrived = paths;
    }

    /// Whether a sidecar beside a file counts.
    pub(super) fn reads_sidecars(&self) -> bool {
        self.settings.sidecar != Sidecar::Off
    }

    /// Something is to be looked at again within this time.
    pub(super) fn look_within(&mut self, time: Duration) {
        self.next_look = self.next_look.min(time);
    }

    /// Lists the folders and decides which files are ready. Blocks.
    pub(super) fn list(
        &mut self,
        folders: &Folders,
        now: Instant,
        wall: Timestamp,
    ) -> Result<(), files::Error> {
        self.number += 1;
        self.next_look = self.settings.poll_interval;
        let mut sources = vec![Source::Drop];
        if self.settings.recipients == Recipients::FromDirectory {
            let mut strange = Vec::new();
            self.sources = Source::below(&folders.drop, |name| strange.push(name.to_owned()))?;
            for name in strange {
                self.tell(&Candidate { source: Source::Drop, name }, Waiting::NotUtf8, None);
            }
            sources.extend(self.sources.iter().cloned());
        }
        let room = WINDOW.saturating_sub(self.observed.len());
        let mut admission = self.window.admit(room);
        let mut known = Vec::new();
        self.sidecars.clear();
        for source in &sources {
            let names = self.names(folders, source, &mut admission, &mut known);
            match names {
                Ok(()) => {}
                // One recipient's folder does not keep the others' files.
                Err(error) if *source != Source::Drop => self.tell_folder(source, &error),
                Err(error) => return Err(error),
            }
        }
        let (admitted, left_out) = self.window.close(admission);
        let mut open = OpenFolder::default();
        for candidate in known.into_iter().chain(admitted) {
            // One file or folder that cannot be looked at does not keep the others.
            if let Err(error) = self.observe(folders, &mut open, candidate.clone(), now) {
                self.tell(&candidate, Waiting::Unreadable, Some(&error));
            }
        }
        let number = self.number;
        self.observed.retain(|_, observation| observation.seen_in == number);
        self.choose_ready(now);
        if left_out {
            // Those that cannot be taken make room; their turn comes again.
            self.observed.retain(|_, observation| observation.waiting.is_none());
            self.look_within(NEXT_TURN);
        }
        if self.ignored_told.is_none_or(|told| now.duration_since(told) >= IGNORED_FOR) {
            self.ignored_told = Some(now);
            self.tell_ignored(folders, wall)?;
        }
        Ok(())
    }

    fn names(
        &mut self,
        folders: &Folders,
        source: &Source,
        admission: &mut Admission,
        known: &mut Vec<Candidate>,
    ) -> Result<(), files::Error> {
        let folder = match folders.source(source) {
            Ok(folder) => folder,
            Err(error) if error.is_missing() && *source != Source::Drop => return Ok(()),
            Err(error) => return Err(error),
        };
        let (settings, observed, sidecars) = (&self.settings, &self.observed, &mut self.sidecars);
        folder.for_each_name(|name| {
            if let Some((Companion::Metadata, file)) = name.to_str().and_then(Companion::of)
                && sidecars.len() < WINDOW
            {
                sidecars.insert((source.clone(), folded(file)));
            }
            if is_ignored(name) || !settings.include.matches(name) || settings.exclude.matches(name) {
                return true;
            }
            let candidate = Candidate { source: source.clone(), name: name.to_owned() };
            if observed.contains_key(&candidate) {
                known.push(candidate);
            } else {
                admission.offer(candidate);
            }
            true
        })
    }

    fn observe(
        &mut self,
        folders: &Folders,
        open: &mut OpenFolder,
        candidate: Candidate,
        now: Instant,
    ) -> Result<(), files::Error> {
        let Some(folder) = open.get(folders, &candidate.source)? else { return Ok(()) };
        let Some(file) = folder.look(&candidate.name)?.filter(|entry| entry.kind == EntryKind::File) else {
            return Ok(());
        };
        let name = candidate.name.to_str();
        let sidecar = match name {
            Some(name) if self.reads_sidecars() => observe::sidecar(folder, name)?,
            _ => None,
        };
        let pair = Pair { file, sidecar };
        let arrived = name.is_some_and(|name| self.arrived.contains(&folder.path().join(name)));
        let number = self.number;
        let waiting = waits_from_outside(&self.settings, &candidate, &pair)
            .or_else(|| self.has_misnamed_sidecar(&candidate, &pair).then_some(Waiting::SidecarNameDiffers));
        if let Some(
            waiting @ (Waiting::SidecarNameDiffers
            | Waiting::NotUtf8
            | Waiting::NameNotCarried
            | Waiting::SidecarNotAFile),
        ) = waiting
        {
            self.tell(&candidate, waiting, None);
        }
        let named = candidate.clone();
        let observation =
            self.observed.entry(candidate).or_insert_with(|| Observation::new(pair, now, arrived, number));
        observation.see(pair, now, arrived, number);
        observation.waiting = waiting.or(observation.waiting.filter(|before| !before.is_from_outside()));
        let overdue = observation.waiting.filter(|_| observation.is_overdue(&self.settings, now));
        if let Some(waiting) = overdue {
            self.tell(&named, waiting, None);
        }
        Ok(())
    }

    fn choose_ready(&mut self, now: Instant) {
        let mut ready: Vec<_> = Vec::new();
        let mut next_look = self.next_look;
        for (candidate, observation) in &self.observed {
            if observation.waiting.is_some_and(Waiting::is_from_outside) {
                continue;
            }
            let missing = observation.missing(&self.settings, now);
            if missing.is_zero() {
                ready.push((observation.pair.file.identity.modified_ns, candidate.clone()));
            } else {
                next_look = next_look.min(missing);
            }
        }
        self.next_look = next_look;
        // The oldest first: nothing is promised about order, but nothing should wait for ever either.
        ready.sort_by(|one, other| (one.0, &one.1.name).cmp(&(other.0, &other.1.name)));
        self.ready = ready.into_iter().map(|(_, candidate)| candidate).collect();
    }

    /// Whether the file has no sidecar, but there is one for a name that is its own but for upper and lower case: on a
    /// share the two are a pair.
    fn has_misnamed_sidecar(&self, candidate: &Candidate, pair: &Pair) -> bool {
        let Some(name) = candidate.name.to_str() else { return false };
        self.reads_sidecars()
            && pair.sidecar.is_none()
            && self.sidecars.contains(&(candidate.source.clone(), folded(name)))
    }

    /// Tells once why a file is not taken.
    pub(super) fn tell(&mut self, candidate: &Candidate, waiting: Waiting, error: Option<&files::Error>) {
        if !self.is_news(candidate.name.clone(), waiting) {
            return;
        }
        let (route, name) = (self.settings.name.as_str(), candidate.name.as_os_str());
        let (code, reason, remedy) = (waiting.code(), waiting.reason(), waiting.remedy());
        let error = error.map_or_else(String::new, files::Error::full_message);
        warn!(route, code, name = ?name, reason, error = %error, remedy, "not sent: the file waits where it is");
    }

    fn tell_folder(&mut self, source: &Source, error: &files::Error) {
        let name = source.name().unwrap_or_default();
        if self.is_news(OsString::from(name), Waiting::Unreadable) {
            warn!(route = self.settings.name.as_str(), code = error.code(), error = %error.full_message(), remedy = error.remedy(), "cannot list a recipient's folder: its files wait");
        }
    }

    fn is_news(&mut self, name: OsString, waiting: Waiting) -> bool {
        if self.told.len() >= MAX_TOLD {
            self.told.clear();
        }
        self.told.insert((name, waiting))
    }

    /// What is on the list of names that are never sent and stays there is lost silently, too, unless it is told.
    fn tell_ignored(&self, folders: &Folders, wall: Timestamp) -> Result<(), files::Error> {
        let ignored = ignored_before(&folders.drop, &self.settings, earlier(wall, IGNORED_FOR))?;
        if let Some(example) = ignored.1 {
            info!(route = self.settings.name.as_str(), code = "files_ignored", files = ignored.0, name = ?example, "files in the drop folder have names that are never sent, for more than an hour");
        }
        Ok(())
    }
}

/// How many files have names that are never sent and have not changed since a moment, and one of them.
fn ignored_before(
    folder: &Dir,
    settings: &config::Outbox,
    limit: Timestamp,
) -> Result<(usize, Option<OsString>), files::Error> {
    let mut names = Vec::new();
    folder.for_each_name(|name| {
        let is_ours = name == OsStr::new(super::folders::PRIVATE)
            || name.to_string_lossy().starts_with(PROBE_PREFIX)
            // A sidecar waits for its file, and is told of if none comes.
            || name.to_string_lossy().ends_with(Companion::Metadata.suffix());
        let is_skipped = !settings.include.matches(name) || settings.exclude.matches(name);
        if is_ignored(name) && !is_ours && !is_skipped {
            names.push(name.to_owned());
        }
        names.len() < WINDOW
    })?;
    let (mut count, mut example) = (0, None);
    for name in names {
        let entry = folder.look(&name)?;
        if entry.is_some_and(|entry| entry.kind == EntryKind::File && !entry.has_changed_since(limit)) {
            count += 1;
            example.get_or_insert(name);
        }
    }
    Ok((count, example))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn settings(path: &Path) -> config::Outbox {
        let text = format!(
            "[altinn]\nenvironment = \"tt02\"\n[client.default]\nclient_id = \"a\"\nkey_id = \"b\"\n\
             private_key = {{ env = \"HOME\" }}\n[identity.default]\norganization = \"0192:991825827\"\n\
             [outbox.a]\npath = {path:?}\nidentity = \"default\"\nresource_id = \"agency-files\"\n\
             recipients = [\"0192:910753614\"]\nexclude = [\"*.bak\"]\n[state]\npath = \"/nowhere/state\"\n"
        );
        let file = path.with_extension("toml");
        std::fs::write(&file, text).unwrap();
        let loaded = config::load(&file).unwrap_or_else(|problems| panic!("{problems:?}"));
        loaded.config.outboxes.into_values().next().unwrap()
    }

    #[test]
    fn what_has_been_ignored_for_long_is_counted() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("outbox");
        std::fs::create_dir(&path).unwrap();
        for name in ["a.part", "~$b.docx", "Thumbs.db", "c.txt", "d.bak.tmp", "e.pdf.meta.json", "f.bak"] {
            std::fs::write(path.join(name), "x").unwrap();
        }
        std::fs::create_dir(path.join(super::super::folders::PRIVATE)).unwrap();
        std::fs::create_dir(path.join("sent")).unwrap();
        let (folder, settings) = (Dir::open(&path).unwrap(), settings(&path));
        let (count, example) = ignored_before(&folder, &settings, Timestamp::MAX).unwrap();
        assert_eq!((count, example.is_some()), (4, true));
        // What has just come may yet become something else.
        assert_eq!(ignored_before(&folder, &settings, Timestamp::UNIX_EPOCH).unwrap(), (0, None));
    }
}
