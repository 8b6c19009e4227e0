//! The folders of an outbox, held open.

use crate::config;
use crate::files::{self, Access, Dir, Error, Mode};
use crate::transfer::{OrgNumber, Place, TransferId};

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
    /// Published files, a folder for each day.
    pub(super) sent: Dir,
    /// Files that were not sent.
    pub(super) failed: Dir,
    /// Who may read receipts and error files.
    pub(super) access: Access,
    /// Whether a sidecar beside a file is part of it.
    pub(super) reads_sidecars: bool,
}

impl Folders {
    /// Opens them, making those that are the service's own.
    pub(super) fn open(settings: &config::Outbox) -> Result<Self, Error> {
        let drop = Dir::open(&settings.path)?;
        let private = drop.ensure_subfolder(PRIVATE, Mode::PRIVATE_FOLDER)?;
        let drop = drop.with_scratch(private.ensure_subfolder("tmp", Mode::PRIVATE_FOLDER)?)?;
        let private = drop.subfolder(PRIVATE)?;
        let sending = private.ensure_subfolder("sending", Mode::PRIVATE_FOLDER)?;
        let group = settings.group.as_deref().map(files::group_number).transpose()?;
        let access = Access { mode: Mode(settings.file_mode), group };
        let folder = access.of_folder();
        let sent = drop.ensure_shared_subfolder(SENT, folder)?;
        let failed = drop.ensure_shared_subfolder(FAILED, folder)?;
        if settings.recipients == config::Recipients::FromDirectory {
            for recipient in &settings.allowed_recipients {
                drop.ensure_shared_subfolder(recipient.digits(), folder)?;
            }
        }
        let reads_sidecars = settings.sidecar != config::Sidecar::Off;
        Ok(Self { drop, sending, sent, failed, access, reads_sidecars })
    }

    /// The folder that a file was dropped in.
    pub(super) fn source(&self, recipient_folder: Option<OrgNumber>) -> Result<Dir, Error> {
        match recipient_folder {
            Some(recipient) => self.drop.subfolder(recipient.digits()),
            None => Ok(self.drop.clone()),
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
