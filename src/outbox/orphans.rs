//! Sidecars without their files: those that came too late, and those whose file never came. Left where they are, they
//! would be applied to the next file of that name, and send it to whomever the last one was for.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;
use tracing::error;

use super::Route;
use super::candidate::{Candidate, OpenFolder, Source};
use super::folders::Folders;
use super::ignore::unfinished_name;
use super::take::sidecar_name;
use super::window::Window;
use crate::files::{Digests, Entry, EntryKind, Error, Mode};
use crate::route::{Trouble, earlier};
use crate::seams::crash_point;
use crate::transfer::document::{ErrorFile, to_json};
use crate::transfer::{Companion, SafeFileName, TransferId};

/// Names that are remembered; beyond this the oldest wait for the next pass.
const MAX_REMEMBERED: usize = 4096;
/// Folders are searched this many times in the time that a sidecar is waited with.
const PASSES: u32 = 5;
/// A file that a program has yet to finish is waited for as long as it changes now and then.
const UNFINISHED_FOR: Duration = Duration::from_hours(1);
/// A marker is a name; more than this is something else.
const MAX_MARKER_BYTES: u64 = 4096;
/// And not more often than this, nor more seldom than a minute.
const SHORTEST: Duration = Duration::from_millis(200);

/// Why a sidecar is set aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Orphan {
    /// Its file was taken without it.
    Late,
    /// Its file has not come.
    Alone,
}

impl Orphan {
    fn code(self) -> &'static str {
        match self {
            Self::Late => "sidecar_late",
            Self::Alone => "sidecar_orphaned",
        }
    }

    fn message(self, patience: Duration) -> String {
        match self {
            Self::Late => {
                "the sidecar came after its file had been taken, so the file went without it".to_owned()
            }
            Self::Alone => {
                format!("the sidecar has lain for {} without its file", humantime::format_duration(patience))
            }
        }
    }

    fn remedy(self) -> &'static str {
        match self {
            Self::Late => {
                "see the file's receipt for whom it went to; drop sidecars before their files, or set sidecar = \"required\""
            }
            Self::Alone => {
                "drop the sidecar again just before its file, or delete it: until then a file of this name is not sent without a sidecar"
            }
        }
    }
}

/// Sidecars that were seen without their files.
#[derive(Debug)]
pub(super) struct Orphans {
    patience: Duration,
    /// Files whose sidecars lie alone, and since when.
    alone: HashMap<Candidate, Instant>,
    /// Files that were taken without a sidecar, and when.
    taken: HashMap<Candidate, Instant>,
    window: Window,
    next_pass: Option<Instant>,
}

impl Orphans {
    pub(super) fn new(patience: Duration) -> Self {
        let (alone, taken) = (HashMap::new(), HashMap::new());
        Self { patience, alone, taken, window: Window::default(), next_pass: None }
    }

    /// A file was claimed without a sidecar: one that comes now comes too late.
    pub(super) fn taken_without(&mut self, candidate: Candidate, now: Instant) {
        if self.taken.len() < MAX_REMEMBERED {
            self.taken.insert(candidate, now);
        }
    }

    /// When folders are to be searched next.
    pub(super) fn next_pass(&self) -> Option<Instant> {
        self.next_pass
    }

    /// Searches the folders if it is time, and sets aside what nobody should wait for. Trouble is told, and what it
    /// was about is tried again.
    pub(super) async fn pass(&mut self, route: &Arc<Route>, sources: &[Source], now: Instant) {
        self.taken.retain(|_, taken| now.duration_since(*taken) < self.patience);
        // A late one must not wait for the next pass: the next file of its name may come before.
        if self.taken.is_empty() && self.next_pass.is_some_and(|next| now < next) {
            return;
        }
        self.next_pass = Some(now + (self.patience / PASSES).clamp(SHORTEST, Duration::from_mins(1)));
        let search = Search {
            sources: std::iter::once(Source::Drop).chain(sources.iter().cloned()).collect(),
            known: self.alone.keys().cloned().collect(),
            taken: self.taken.keys().cloned().collect(),
            window: std::mem::take(&mut self.window),
            recent: earlier(route.means.now(), UNFINISHED_FOR),
        };
        // Where the folders are away, that has been told.
        let Ok(found) = route.on_files(move |folders| Ok(search.run(folders))).await else { return };
        self.window = found.window;
        self.alone.retain(|candidate, _| found.alone.contains(candidate));
        for candidate in found.alone {
            let orphan = if self.taken.contains_key(&candidate) {
                Orphan::Late
            } else if let Some(since) = self.alone.get(&candidate) {
                if now.duration_since(*since) < self.patience {
                    continue;
                }
                Orphan::Alone
            } else {
                if self.alone.len() < MAX_REMEMBERED {
                    self.alone.insert(candidate, now);
                }
                continue;
            };
            self.alone.remove(&candidate);
            if let Err(trouble) = set_aside(route, &candidate, orphan, self.patience).await {
                error!(route = route.settings.name.as_str(), code = %trouble.failure.code, error = %trouble.failure.message, "a sidecar without its file cannot be set aside: trying again");
            }
        }
    }
}

/// A look for sidecars without files: at all that are known, and at the next in turn of the others.
#[derive(Debug)]
struct Search {
    sources: Vec<Source>,
    known: HashSet<Candidate>,
    taken: HashSet<Candidate>,
    window: Window,
    /// An unfinished file that has not changed since then is nobody's any more.
    recent: Timestamp,
}

#[derive(Debug)]
struct SearchOutcome {
    alone: HashSet<Candidate>,
    window: Window,
}

impl Search {
    fn run(mut self, folders: &Folders) -> SearchOutcome {
        let mut admission = self.window.admit(MAX_REMEMBERED);
        let mut unfinished: HashMap<Source, Vec<String>> = HashMap::new();
        for source in &self.sources {
            // One folder that cannot be opened or listed does not keep the others' sidecars.
            let Ok(folder) = folders.source(source) else { continue };
            let mut begun = Vec::new();
            let _told_by_the_listing = folder.for_each_name(|name| {
                if let Some(file) = file_of(name) {
                    admission.offer(Candidate { source: source.clone(), name: file.into() });
                } else if begun.len() < MAX_REMEMBERED && unfinished_name(name).is_some() {
                    begun.push(name.to_owned());
                }
                true
            });
            let recent = begun.into_iter().filter(
                |name| matches!(folder.look(name), Ok(Some(entry)) if entry.has_changed_since(self.recent)),
            );
            let names = recent.filter_map(|name| unfinished_name(&name).map(str::to_owned)).collect();
            unfinished.insert(source.clone(), names);
        }
        let (admitted, _) = self.window.close(admission);
        let all = admitted.into_iter().chain(self.known).collect::<HashSet<_>>();
        let mut open = OpenFolder::default();
        let alone = all.into_iter().filter(|candidate| {
            let is_late = self.taken.contains(candidate);
            let begun = unfinished.get(&candidate.source).map_or(&[][..], Vec::as_slice);
            is_alone(folders, &mut open, candidate) && (is_late || !is_coming(candidate, begun))
        });
        SearchOutcome { alone: alone.collect(), window: self.window }
    }
}

/// Whether there is the sidecar, and not its file.
fn is_alone(folders: &Folders, open: &mut OpenFolder, candidate: &Candidate) -> bool {
    let Ok(Some(folder)) = open.get(folders, &candidate.source) else { return false };
    let Some(name) = candidate.name.to_str() else { return false };
    let is_file = |entry: Option<Entry>| entry.is_some_and(|entry| entry.kind == EntryKind::File);
    folder.look(sidecar_name(name)).is_ok_and(is_file) && matches!(folder.look(name), Ok(None))
}

/// Whether something lies there that looks as if it was going to be the file.
fn is_coming(candidate: &Candidate, unfinished: &[String]) -> bool {
    let name = candidate.name.to_string_lossy();
    unfinished.iter().any(|begun| name.starts_with(begun.as_str()) || begun.starts_with(name.as_ref()))
}

/// The file that a name is the sidecar of.
fn file_of(name: &OsStr) -> Option<&str> {
    match Companion::of(name.to_str()?) {
        Some((Companion::Metadata, file)) if !file.starts_with(['.', '~']) => Some(file),
        _ => None,
    }
}

/// Whether a sidecar for this file was set aside and still lies in `failed/`: without it, the file might go to somebody
/// that it is not for.
pub(super) fn is_set_aside(folders: &Folders, candidate: &Candidate) -> Result<bool, Error> {
    let marker = marker_of(candidate);
    let Some(place) = folders.aside.read_json::<String>(&marker, MAX_MARKER_BYTES)? else { return Ok(false) };
    if folders.failed.look(&place)?.is_some() {
        return Ok(true);
    }
    folders.aside.remove_file(&marker)?;
    Ok(false)
}

/// Forgets sidecars that were set aside and that somebody has taken away since.
pub(super) fn forget_taken_away(folders: &Folders) -> Result<(), Error> {
    for marker in folders.aside.names()? {
        let place = folders.aside.read_json::<String>(&marker, MAX_MARKER_BYTES)?;
        if place.is_none_or(|place| matches!(folders.failed.look(place), Ok(None))) {
            folders.aside.remove_file(&marker)?;
        }
    }
    Ok(())
}

/// A name for what is known of a file's sidecar, whatever characters the file's name has.
fn marker_of(candidate: &Candidate) -> String {
    let mut digests = Digests::default();
    digests.update(candidate.source.name().unwrap_or_default().as_bytes());
    digests.update(b"/");
    digests.update(candidate.name.as_bytes());
    digests.finish().1.to_string()
}

/// Moves a sidecar to `failed/`, with an error file that says why.
async fn set_aside(
    route: &Arc<Route>,
    candidate: &Candidate,
    orphan: Orphan,
    patience: Duration,
) -> Result<(), Trouble> {
    let Some(file) = candidate.name.to_str().map(str::to_owned) else { return Ok(()) };
    let id = route.means.store.new_id();
    let document = to_json(&ErrorFile {
        code: orphan.code().to_owned(),
        message: orphan.message(patience),
        remedy: orphan.remedy().to_owned(),
        transfer_id: None,
        file_transfer_id: None,
        route: route.settings.name.clone(),
        file_name: sidecar_name(&file),
        failed: route.means.now(),
        attempts: 1,
        altinn: None,
    });
    let name = sidecar_name(&file);
    let orphaned = candidate.clone();
    route.on_files(move |folders| lay_aside(folders, &orphaned, &file, id, &document)).await?;
    error!(route = route.settings.name.as_str(), name = %name, code = orphan.code(), reason = %orphan.message(patience), remedy = orphan.remedy(), "a sidecar without its file is in failed/");
    Ok(())
}

/// May be repeated: a crash in the middle leaves an error file too many, and the sidecar in one place.
fn lay_aside(
    folders: &Folders,
    candidate: &Candidate,
    file: &str,
    id: TransferId,
    document: &[u8],
) -> Result<(), Error> {
    let from = folders.source(&candidate.source)?;
    // The name was a directory entry with a suffix that is gone now.
    let Ok(name) = SafeFileName::for_local(file, &id.short()) else { return Ok(()) };
    for name in [name.clone(), name.distinguished(&id.short()), name.distinguished(&id.to_string())] {
        let sidecar = name.companion(Companion::Metadata);
        if folders.failed.look(&sidecar)?.is_some() || folders.failed.look(name.as_str())?.is_some() {
            continue;
        }
        let explanation = name.companion(Companion::Error);
        match folders.failed.create(&explanation, document, folders.access) {
            Err(error) if error.is_taken() => continue,
            written => written?,
        }
        let place = serde_json::Value::from(sidecar.as_str()).to_string();
        folders.aside.replace(marker_of(candidate), place.as_bytes(), Mode::PRIVATE_FILE)?;
        crash_point("orphan:explained");
        match from.move_to(sidecar_name(file), &folders.failed, &sidecar) {
            Ok(()) => {}
            // Somebody has taken it away, or its place: nothing is to be explained there.
            Err(error) if error.is_missing() || error.is_taken() => {
                folders.failed.remove_file(&explanation)?;
                if error.is_taken() {
                    continue;
                }
            }
            Err(error) => return Err(error),
        }
        folders.failed.sync()?;
        return from.sync();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alone(folders: &Folders, recent: Timestamp, taken: &[&str]) -> Vec<String> {
        let candidate = |name: &&str| Candidate { source: Source::Drop, name: (*name).into() };
        let search = Search {
            // A folder that is not there, or cannot be opened, keeps no other's sidecars.
            sources: vec![Source::Other("nowhere".to_owned()), Source::Drop],
            known: HashSet::new(),
            taken: taken.iter().map(candidate).collect(),
            window: Window::default(),
            recent,
        };
        let mut names: Vec<String> = search
            .run(folders)
            .alone
            .into_iter()
            .map(|candidate| candidate.name.to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_sidecar_is_shielded_by_what_is_still_being_written_and_by_nothing_else() {
        let temporary = tempfile::tempdir().unwrap();
        let folders = Folders::of_test(temporary.path());
        for name in ["a.pdf.meta.json", "a.pdf.part", "b.pdf.meta.json", "c.pdf.meta.json", "c.pdf"] {
            std::fs::write(temporary.path().join(name), "x").unwrap();
        }
        assert_eq!(alone(&folders, Timestamp::MIN, &[]), ["b.pdf"]);
        assert_eq!(alone(&folders, Timestamp::MAX, &[]), ["a.pdf", "b.pdf"], "nobody writes it any more");
        assert_eq!(
            alone(&folders, Timestamp::MIN, &["a.pdf"]),
            ["a.pdf", "b.pdf"],
            "its file was taken already"
        );
    }

    #[test]
    fn of_many_sidecars_every_one_has_its_turn() {
        let temporary = tempfile::tempdir().unwrap();
        let folders = Folders::of_test(temporary.path());
        for number in 0..MAX_REMEMBERED + 500 {
            std::fs::write(temporary.path().join(format!("{number}.txt.meta.json")), "").unwrap();
        }
        let (mut window, mut seen) = (Window::default(), HashSet::new());
        for _ in 0..2 {
            let search = Search {
                sources: vec![Source::Drop],
                known: HashSet::new(),
                taken: HashSet::new(),
                window,
                recent: Timestamp::MIN,
            };
            let found = search.run(&folders);
            window = found.window;
            seen.extend(found.alone);
        }
        assert_eq!(seen.len(), MAX_REMEMBERED + 500);
    }
}
