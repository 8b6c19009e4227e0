//! The folders of an outbox, held open.

use std::path::Path;

use super::candidate::Source;
use crate::config;
use crate::files::{Access, Dir, Error, FileSystem, Mode, Writers, group_number, writers};
use crate::route::Opening;
use crate::store::KnownFolders;
use crate::transfer::{Place, RouteName, TransferId};

/// The file that is being sent, in its folder under `sending/`.
pub(super) const FILE: &str = "file";
/// The sidecar that came with it.
pub(super) const SIDECAR: &str = "sidecar.json";
/// What is known of the claim, for the day the state store is lost.
pub(super) const CLAIM: &str = "claim.json";
/// The folder of ours in every route's folder.
pub(super) const PRIVATE: &str = ".formidlingd";
/// Published files, by date.
pub(super) const SENT: &str = "sent";
/// Files that were not sent.
pub(super) const FAILED: &str = "failed";

/// The folders of an outbox.
#[derive(Debug, Clone)]
pub(super) struct Folders {
    /// Where people drop files.
    pub(super) drop: Dir,
    /// Files being sent, a folder each.
    pub(super) sending: Dir,
    /// For each sidecar that was set aside, where it lies, by whose it would be.
    pub(super) aside: Dir,
    /// Published files, a folder for each day.
    pub(super) sent: Dir,
    /// Files that were not sent.
    pub(super) failed: Dir,
    /// Who may read receipts and error files.
    pub(super) access: Access,
    /// Whether a sidecar beside a file is part of it.
    pub(super) reads_sidecars: bool,
    /// Whether others may write in the drop folder without this machine's kernel knowing.
    pub(super) is_shared: bool,
    /// Whether the file system refuses read leases as if there was a writer, as NFS and CIFS do where they hold no
    /// delegation.
    pub(super) refuses_leases: bool,
}

impl Folders {
    /// Opens them, making those that are the service's own, but not in place of those that were used before.
    pub(super) fn open(
        settings: &config::Outbox,
        known: &KnownFolders,
        opening: Opening,
    ) -> Result<Self, Error> {
        let drop = Dir::open(&settings.path)?;
        let private = drop.own_subfolder(PRIVATE, opening.used_before)?;
        let drop = drop.with_scratch(opening.scratch(&private)?);
        let private = drop.subfolder(PRIVATE)?;
        let sending = private.ensure_subfolder("sending", Mode::PRIVATE_FOLDER)?;
        let aside = private.ensure_subfolder("aside", Mode::PRIVATE_FOLDER)?;
        let group = settings.group.as_deref().map(group_number).transpose()?;
        let access = Access { mode: Mode(settings.file_mode), group };
        let folder = access.of_folder();
        let sent = match &settings.archive_path {
            Some(path) => archive(path, &settings.name, known, opening)?,
            None => drop.ensure_shared_subfolder(SENT, folder)?,
        };
        let failed = drop.ensure_shared_subfolder(FAILED, folder)?;
        if settings.recipients == config::Recipients::FromDirectory {
            for recipient in &settings.allowed_recipients {
                drop.ensure_shared_subfolder(recipient.digits(), folder)?;
            }
        }
        let reads_sidecars = settings.sidecar != config::Sidecar::Off;
        let file_system = FileSystem::of(&drop)?;
        let (is_shared, refuses_leases) = (file_system.is_shared(), file_system.refuses_leases());
        Ok(Self { drop, sending, aside, sent, failed, access, reads_sidecars, is_shared, refuses_leases })
    }

    /// The folders of a test in an empty folder.
    #[cfg(test)]
    pub(super) fn of_test(path: &std::path::Path) -> Self {
        let drop = Dir::open(path).unwrap();
        let folder = |name| drop.ensure_subfolder(name, Mode::PRIVATE_FOLDER).unwrap();
        Self {
            sending: folder("sending"),
            aside: folder("aside"),
            sent: folder(SENT),
            failed: folder(FAILED),
            access: Access::FILE,
            reads_sidecars: true,
            is_shared: false,
            refuses_leases: false,
            drop: drop.clone(),
        }
    }

    /// The folder that a file was dropped in.
    pub(super) fn source(&self, source: &Source) -> Result<Dir, Error> {
        match source.name() {
            Some(name) => self.drop.subfolder(name),
            None => Ok(self.drop.clone()),
        }
    }

    /// Whether somebody has a file open for writing, as far as this machine's kernel can be believed.
    pub(super) fn writers(&self, file: &std::fs::File) -> Writers {
        match writers(file) {
            Writers::Some if self.refuses_leases => Writers::Unknown,
            Writers::None if self.is_shared => Writers::Unknown,
            writers => writers,
        }
    }

    /// A transfer's own folder under `sending/`.
    pub(super) fn own(&self, id: TransferId) -> Result<Dir, Error> {
        self.sending.subfolder(id.to_string())
    }

    /// The folder in which a file is laid down.
    pub(super) fn place(&self, place: &Place) -> Result<Dir, Error> {
        match &place.date {
            Some(date) => self.sent.ensure_shared_subfolder(date, self.access.of_folder()),
            None => Ok(self.failed.clone()),
        }
    }
}

/// The archive, where it lies elsewhere: it may be on another file system, so it has a place for temporary files of
/// its own, and is recognised like the drop folder.
fn archive(path: &Path, route: &RouteName, known: &KnownFolders, opening: Opening) -> Result<Dir, Error> {
    let archive = Dir::open(path)?;
    // Where nobody can tell, it is not taken for new.
    let private = archive.own_subfolder(PRIVATE, known.has_archived_in(route, path).unwrap_or(true))?;
    let archive = archive.with_scratch(opening.scratch(&private)?);
    let remembered = known.remember_archive(route, path);
    remembered.map_err(|error| Error::new("remember", path, std::io::Error::other(error)))?;
    Ok(archive)
}
