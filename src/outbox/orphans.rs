//! Sidecars without their files: those that came too late, and those whose file never came. Left where they are, they
//! would be applied to the next file of that name, and send it to whomever the last one was for.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::error;

use super::Route;
use super::candidate::{Candidate, Source};
use super::folders::Folders;
use super::ignore::unfinished_name;
use super::take::sidecar_name;
use crate::files::{Dir, EntryKind, Error};
use crate::route::Trouble;
use crate::seams::crash_point;
use crate::transfer::document::{ErrorFile, to_json};
use crate::transfer::{Companion, SafeFileName, TransferId};

/// Names that are remembered; beyond this the oldest wait for the next pass.
const MAX_REMEMBERED: usize = 4096;
/// Folders are searched this many times in the time that a sidecar is waited with.
const PASSES: u32 = 5;
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
    next_pass: Option<Instant>,
}

impl Orphans {
    pub(super) fn new(patience: Duration) -> Self {
        Self { patience, alone: HashMap::new(), taken: HashMap::new(), next_pass: None }
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
        let sources = sources.to_vec();
        let Ok(found) = route.on_files(move |folders| search(folders, &sources)).await else {
            // The listing has the same trouble, and tells of it.
            return;
        };
        self.alone.retain(|candidate, _| found.contains(candidate));
        for candidate in found {
            let orphan = if self.taken.contains_key(&candidate) {
                Orphan::Late
            } else if now.duration_since(*self.alone.entry(candidate.clone()).or_insert(now)) >= self.patience
            {
                Orphan::Alone
            } else {
                continue;
            };
            self.alone.remove(&candidate);
            if let Err(trouble) = set_aside(route, &candidate, orphan, self.patience).await {
                error!(route = route.settings.name.as_str(), code = %trouble.failure.code, error = %trouble.failure.message, "a sidecar without its file cannot be set aside: trying again");
            }
        }
    }
}

/// The files of which there is the sidecar alone, and nothing that looks as if it was going to be the file.
fn search(folders: &Folders, sources: &[Source]) -> Result<Vec<Candidate>, Error> {
    let mut found = Vec::new();
    for source in std::iter::once(&Source::Drop).chain(sources) {
        let folder = match folders.source(source) {
            Ok(folder) => folder,
            Err(error) if error.is_missing() => continue,
            Err(error) => return Err(error),
        };
        for name in sidecars_alone(&folder)? {
            found.push(Candidate { source: source.clone(), name: name.into() });
        }
    }
    Ok(found)
}

fn sidecars_alone(folder: &Dir) -> Result<Vec<String>, Error> {
    let (mut sidecars, mut unfinished) = (Vec::new(), Vec::new());
    folder.for_each_name(|name| {
        if let Some(file) = file_of(name) {
            sidecars.push(file.to_owned());
        } else if let Some(begun) = unfinished_name(name) {
            unfinished.push(begun.to_owned());
        }
        sidecars.len() < MAX_REMEMBERED && unfinished.len() < MAX_REMEMBERED
    })?;
    let mut alone = Vec::new();
    for file in sidecars {
        let is_coming = unfinished.iter().any(|begun| file.starts_with(begun) || begun.starts_with(&file));
        let is_file = |name: &str| Ok(folder.look(name)?.is_some_and(|entry| entry.kind == EntryKind::File));
        if !is_coming && folder.look(&file)?.is_none() && is_file(&sidecar_name(&file))? {
            alone.push(file);
        }
    }
    Ok(alone)
}

/// The file that a name is the sidecar of.
fn file_of(name: &OsStr) -> Option<&str> {
    match Companion::of(name.to_str()?) {
        Some((Companion::Metadata, file)) if !file.starts_with(['.', '~']) => Some(file),
        _ => None,
    }
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
    let source = candidate.source.clone();
    let name = sidecar_name(&file);
    route.on_files(move |folders| lay_aside(folders, &source, &file, id, &document)).await?;
    error!(route = route.settings.name.as_str(), name = %name, code = orphan.code(), reason = %orphan.message(patience), remedy = orphan.remedy(), "a sidecar without its file is in failed/");
    Ok(())
}

/// May be repeated: a crash in the middle leaves an error file too many, and the sidecar in one place.
fn lay_aside(
    folders: &Folders,
    source: &Source,
    file: &str,
    id: TransferId,
    document: &[u8],
) -> Result<(), Error> {
    let from = folders.source(source)?;
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
