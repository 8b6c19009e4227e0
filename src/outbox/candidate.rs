//! Which file in which folder of an outbox.

use std::ffi::{OsStr, OsString};
use std::hash::{DefaultHasher, Hash, Hasher};

use super::folders::Folders;
use super::ignore::is_ignored;
use crate::files::{Dir, EntryKind, Error};
use crate::transfer::{Claim, OrgNumber};

/// A folder that files are dropped in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Source {
    /// The drop folder itself.
    Drop,
    /// The folder of a recipient, below it.
    Recipient(OrgNumber),
    /// A folder below it that should name a recipient and does not.
    Other(String),
}

impl Source {
    /// The folder that a claimed file came from.
    pub(super) fn of(claim: &Claim) -> Self {
        match (claim.recipient_folder, &claim.other_folder) {
            (Some(recipient), _) => Self::Recipient(recipient),
            (None, Some(name)) => Self::Other(name.clone()),
            (None, None) => Self::Drop,
        }
    }

    /// Its name below the drop folder.
    pub(super) fn name(&self) -> Option<String> {
        match self {
            Self::Drop => None,
            Self::Recipient(recipient) => Some(recipient.digits()),
            Self::Other(name) => Some(name.clone()),
        }
    }

    /// The folders below the drop folder. One whose name is not UTF-8 is handed to `strange`.
    pub(super) fn below(drop: &Dir, mut strange: impl FnMut(&OsStr)) -> Result<Vec<Self>, Error> {
        let mut names = Vec::new();
        drop.for_each_name(|name| {
            if !is_ignored(name) {
                names.push(name.to_owned());
            }
            true
        })?;
        let mut sources = Vec::new();
        for name in names {
            // What cannot be looked at is no folder that anything could be taken from.
            if !matches!(drop.look(&name), Ok(Some(entry)) if entry.kind == EntryKind::Folder) {
                continue;
            }
            let Some(text) = name.to_str() else {
                strange(&name);
                continue;
            };
            let recipient = if text.len() == 9 { text.parse().ok() } else { None };
            sources.push(recipient.map_or_else(|| Self::Other(text.to_owned()), Self::Recipient));
        }
        Ok(sources)
    }
}

/// A file in a drop folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Candidate {
    /// The folder.
    pub(super) source: Source,
    /// The file's name there.
    pub(super) name: OsString,
}

impl Candidate {
    /// A number that puts all candidates in an order which has nothing to do with their names.
    pub(super) fn rank(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }

    /// The folder that it lies in.
    pub(super) fn folder(&self, folders: &Folders) -> Result<Dir, Error> {
        folders.source(&self.source)
    }
}

/// The folder that was used last, since candidates come folder by folder.
#[derive(Debug, Default)]
pub(super) struct OpenFolder(Option<(Source, Dir)>);

impl OpenFolder {
    /// The folder; `None` where there is none.
    pub(super) fn get(&mut self, folders: &Folders, source: &Source) -> Result<Option<&Dir>, Error> {
        if self.0.as_ref().is_none_or(|(open, _)| open != source) {
            self.0 = match folders.source(source) {
                Ok(folder) => Some((source.clone(), folder)),
                Err(error) if error.is_missing() => None,
                Err(error) => return Err(error),
            };
        }
        Ok(self.0.as_ref().map(|(_, folder)| folder))
    }
}
