//! When a dropped file has come to rest: what has been seen of it, and since when.

use std::time::Duration;

use tokio::time::Instant;

use super::folders::Folders;
use super::orphans;
use super::take::sidecar_name;
use crate::config::{self, Sidecar};
use crate::files::{self, Dir, Entry, EntryKind, Writers};
use crate::transfer::OutgoingFileName;

use super::candidate::Candidate;

/// A file and the sidecar beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pair {
    /// The file.
    pub(super) file: Entry,
    /// Its sidecar, where there is one and it counts.
    pub(super) sidecar: Option<Entry>,
}

/// Why a file is not taken though it is still.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Waiting {
    /// Its name is not UTF-8, so Altinn cannot be told it.
    NotUtf8,
    /// Altinn does not take its name, and no sidecar gives it another.
    NameNotCarried,
    /// A sidecar is required and has not come.
    SidecarMissing,
    /// What stands where its sidecar would be is no file.
    SidecarNotAFile,
    /// Its sidecar was set aside in `failed/`: without it the file might go to somebody else.
    SidecarSetAside,
    /// The service may not read it.
    Unreadable,
    /// Somebody has it open for writing.
    BeingWritten,
    /// It cannot be moved out of its folder.
    Immovable,
    /// There is a sidecar for it, whose name is another in case.
    SidecarNameDiffers,
}

impl Waiting {
    /// Stable, for programs.
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::NotUtf8 => "file_name_not_utf8",
            Self::NameNotCarried => "file_name_invalid",
            Self::SidecarMissing => "sidecar_missing",
            Self::SidecarNotAFile => "sidecar_not_a_file",
            Self::SidecarSetAside => "sidecar_set_aside",
            Self::Unreadable => "file_not_readable",
            Self::BeingWritten => "file_changing",
            Self::Immovable => "file_not_movable",
            Self::SidecarNameDiffers => "sidecar_name_differs",
        }
    }

    /// Whether it can be told without opening the file, by [`waits_from_outside`] or from the other names in the folder:
    /// then every look tells it anew.
    pub(super) fn is_from_outside(self) -> bool {
        match self {
            Self::NotUtf8
            | Self::NameNotCarried
            | Self::SidecarMissing
            | Self::SidecarNotAFile
            | Self::SidecarNameDiffers => true,
            Self::SidecarSetAside | Self::Unreadable | Self::BeingWritten | Self::Immovable => false,
        }
    }

    /// For people: what is the matter.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::NotUtf8 => "its name is not UTF-8, so Altinn cannot be told it",
            Self::NameNotCarried => {
                "Altinn does not take its name: it has control characters or backslashes, or is too long"
            }
            Self::SidecarMissing => "this outbox requires a sidecar, and there is none",
            Self::SidecarNotAFile => "what stands where its sidecar would be is a link or a folder",
            Self::SidecarSetAside => {
                "a sidecar for a file of this name was set aside in failed/, and may say who the file is for"
            }
            Self::Unreadable => "the service may not read it",
            Self::BeingWritten => "somebody has it open for writing",
            Self::Immovable => {
                "it cannot be moved out of its folder, which the service may not write to, or which is another mount"
            }
            Self::SidecarNameDiffers => {
                "there is a sidecar whose name differs from the file's in upper and lower case alone"
            }
        }
    }

    /// For people: what to do.
    pub(super) fn remedy(self) -> &'static str {
        match self {
            Self::NotUtf8 => "rename the file",
            Self::NameNotCarried => "rename the file, or give it another name with fileName in a sidecar",
            Self::SidecarMissing => "put its sidecar beside it",
            Self::SidecarNotAFile => "put the sidecar itself there, or nothing",
            Self::SidecarSetAside => "put that sidecar back beside the file, or delete it from failed/",
            Self::Unreadable => "let the service's user read the file",
            Self::Immovable => {
                "let the service's user write to the folder and own it, and keep it on the drop folder's file system"
            }
            Self::SidecarNameDiffers => "give the sidecar the file's own name with .meta.json behind it",
            Self::BeingWritten => "nothing, if it is still being written; otherwise see what has it open",
        }
    }
}

/// What has been seen of a file, and since when.
#[derive(Debug)]
pub(super) struct Observation {
    /// What was seen last.
    pub(super) pair: Pair,
    /// Since when it has looked like this. Monotonic: clocks of file servers and of this machine are set.
    pub(super) still_since: Instant,
    /// It was renamed into the folder, so it came whole.
    pub(super) arrived: bool,
    /// Why it was not taken when it was looked at last.
    pub(super) waiting: Option<Waiting>,
    /// The listing that saw it last.
    pub(super) seen_in: u64,
}

impl Observation {
    /// Something that is seen for the first time.
    pub(super) fn new(pair: Pair, now: Instant, arrived: bool, listing: u64) -> Self {
        Self { pair, still_since: now, arrived, waiting: None, seen_in: listing }
    }

    /// Sees it again; whatever has changed begins to be still now.
    pub(super) fn see(&mut self, pair: Pair, now: Instant, arrived: bool, listing: u64) {
        if self.pair == pair {
            self.seen_in = listing;
        } else {
            *self = Self::new(pair, now, arrived, listing);
        }
    }

    /// It was found to be in use: it has to come to rest anew.
    pub(super) fn disturb(&mut self, now: Instant) {
        (self.still_since, self.arrived, self.waiting) = (now, false, Some(Waiting::BeingWritten));
    }

    /// Whether it has waited for so long that somebody should be told.
    pub(super) fn is_overdue(&self, settings: &config::Outbox, now: Instant) -> bool {
        self.waiting.is_some() && now.duration_since(self.still_since) >= settings.sidecar_patience
    }

    /// How much longer it has to be still; zero when it may be taken.
    pub(super) fn missing(&self, settings: &config::Outbox, now: Instant) -> Duration {
        settle(settings, self).saturating_sub(now.duration_since(self.still_since))
    }

    /// The same where nobody can tell whether a writer has it open.
    pub(super) fn missing_unverified(&self, settings: &config::Outbox, now: Instant) -> Duration {
        let settle = settle(settings, self).max(settings.settle).max(settings.settle_unverified);
        settle.saturating_sub(now.duration_since(self.still_since))
    }
}

/// How long a file has to be still.
fn settle(settings: &config::Outbox, observation: &Observation) -> Duration {
    // Where a sidecar may follow its file, arriving whole is not enough: the sidecar may say who the file is for.
    let no_sidecar_follows = settings.sidecar == Sidecar::Off || observation.pair.sidecar.is_some();
    if observation.arrived && no_sidecar_follows {
        Duration::ZERO
    } else if observation.pair.file.identity.size == 0 {
        settings.settle_empty
    } else {
        settings.settle
    }
}

/// Why a file with this name and sidecar cannot be taken, as far as that can be told from outside.
pub(super) fn waits_from_outside(
    settings: &config::Outbox,
    candidate: &Candidate,
    pair: &Pair,
) -> Option<Waiting> {
    let Some(name) = candidate.name.to_str() else { return Some(Waiting::NotUtf8) };
    if let Some(sidecar) = pair.sidecar {
        return (sidecar.kind != EntryKind::File).then_some(Waiting::SidecarNotAFile);
    }
    if settings.sidecar == Sidecar::Required {
        Some(Waiting::SidecarMissing)
    } else if name.parse::<OutgoingFileName>().is_err() {
        Some(Waiting::NameNotCarried)
    } else {
        None
    }
}

/// What stands where the sidecar of a file would be.
pub(super) fn sidecar(folder: &Dir, name: &str) -> Result<Option<Entry>, files::Error> {
    // A name too long for a companion's suffix has no companion: nothing is found under it.
    folder.look(sidecar_name(name))
}

/// What opening a file showed that was still.
#[derive(Debug)]
pub(super) enum Examined {
    /// Nobody writes it.
    Free(Pair),
    /// Nobody can tell whether somebody writes it.
    Unverified(Pair),
    /// It is not to be taken.
    Waits(Waiting, Option<files::Error>),
    /// It is not there, or is no regular file.
    Gone,
}

/// Opens a file that was still and looks at it and its sidecar once more. Blocks.
pub(super) fn examine(folders: &Folders, candidate: &Candidate) -> Result<Examined, files::Error> {
    let Some(name) = candidate.name.to_str() else { return Ok(Examined::Waits(Waiting::NotUtf8, None)) };
    let folder = candidate.folder(folders)?;
    let file = match folder.open_file(name) {
        Ok(file) => file,
        Err(error) if error.is_missing() => return Ok(Examined::Gone),
        Err(error) if error.is_forbidden() => {
            return Ok(Examined::Waits(Waiting::Unreadable, Some(error)));
        }
        Err(error) => return Err(error),
    };
    let path = folder.path().join(name);
    let entry = Entry::of_file(&file).map_err(|error| files::Error::new("look at", &path, error))?;
    if entry.kind != EntryKind::File {
        return Ok(Examined::Gone);
    }
    let sidecar = if folders.reads_sidecars { sidecar(&folder, name)? } else { None };
    if sidecar.is_some()
        && let Err(error) = folder.open_file(sidecar_name(name))
    {
        return match error {
            error if error.is_missing() => Ok(Examined::Gone),
            error if error.is_forbidden() => Ok(Examined::Waits(Waiting::Unreadable, Some(error))),
            error => Err(error),
        };
    }
    if folders.reads_sidecars && orphans::is_set_aside(folders, candidate)? && sidecar.is_none() {
        return Ok(Examined::Waits(Waiting::SidecarSetAside, None));
    }
    let pair = Pair { file: entry, sidecar };
    Ok(match folders.writers(&file) {
        Writers::None => Examined::Free(pair),
        Writers::Unknown => Examined::Unverified(pair),
        Writers::Some => Examined::Waits(Waiting::BeingWritten, None),
    })
}
