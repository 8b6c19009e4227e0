//! The folders of an inbox, held open.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::names::Names;
use crate::config;
use crate::files::{Access, DURABLE, Dir, Error, Mode};
use crate::route::Opening;
use crate::transfer::{BrokerTransferId, InboxPlace, Offer, Received, SafeFileName, TransferId};

/// The file that is being received, in its folder under `incoming/`.
pub(super) const FILE: &str = "file";
/// A folder that is to be delivered whole.
pub(super) const WHOLE: &str = "whole";
/// The folder of ours in every route's folder.
pub(super) const PRIVATE: &str = ".formidlingd";

/// The folders of an inbox.
#[derive(Debug, Clone)]
pub(super) struct Folders {
    /// Where files are delivered.
    pub(super) inbox: Dir,
    /// Partial downloads, a folder each.
    pub(super) incoming: Dir,
    /// What could not be received, kept for inspection.
    pub(super) rejected: Dir,
    markers: Dir,
    /// Which names are taken in the inbox.
    pub(super) names: Arc<Names>,
    /// Who may read what is delivered.
    pub(super) access: Access,
}

/// `.formidlingd/delivered/<fileTransferId>`: from the intent to deliver until Altinn has deleted the transfer, so
/// that a file is not delivered again if the state store is lost, or if a confirmation that seemed to succeed
/// never reached Altinn.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Marker {
    pub(super) transfer_id: TransferId,
    pub(super) offer: Offer,
    pub(super) received: Received,
    pub(super) place: InboxPlace,
}

impl Folders {
    /// Opens them, making those that are the service's own, but not in place of those that were used before.
    pub(super) fn open(settings: &config::Inbox, names: Arc<Names>, opening: Opening) -> Result<Self, Error> {
        let inbox = Dir::open(&settings.path)?;
        let private = inbox.own_subfolder(PRIVATE, opening.used_before)?;
        let inbox = inbox.with_scratch(opening.scratch(&private)?);
        let private = inbox.subfolder(PRIVATE)?;
        let incoming = private.ensure_subfolder("incoming", Mode::PRIVATE_FOLDER)?;
        let rejected = private.ensure_subfolder("rejected", Mode::PRIVATE_FOLDER)?;
        let markers = private.ensure_subfolder("delivered", Mode::PRIVATE_FOLDER)?;
        let group = match &settings.group {
            Some(group) => Some(crate::files::group_number(group)?),
            None => None,
        };
        let access = Access { mode: Mode(settings.file_mode), group };
        Ok(Self { inbox, incoming, rejected, markers, names, access })
    }

    /// Who may use a folder that is made in the inbox: the group may look into it, and take files from it where it
    /// may take them from the inbox itself.
    pub(super) fn folder_access(&self) -> Result<Access, Error> {
        // In a sticky folder the group may not.
        let mode = self.inbox.entry()?.mode;
        let writable = if mode & 0o1000 == 0 { mode & 0o020 } else { 0 };
        Ok(Access { mode: Mode(0o750 | writable), group: self.access.group })
    }

    /// The folder of a sender, made if it is not there.
    pub(super) fn of_sender(&self, name: &SafeFileName) -> Result<Dir, Error> {
        self.inbox.ensure_shared_subfolder(name.as_str(), self.folder_access()?)
    }

    /// A transfer's own folder under `incoming/`.
    pub(super) fn own(&self, id: TransferId) -> Result<Dir, Error> {
        self.incoming.subfolder(id.to_string())
    }

    /// Removes a transfer's folder under `incoming/` with what is in it.
    pub(super) fn remove_own(&self, id: TransferId) -> Result<(), Error> {
        match self.own(id) {
            Ok(own) => {
                own.remove_file(FILE)?;
                own.remove_file(DURABLE)?;
                self.incoming.remove_folder(id.to_string())?;
                self.incoming.sync()
            }
            Err(error) if error.is_missing() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Writes the marker, before the store says that the file is to be delivered. From then on the absence of the
    /// private file proves delivery, so that the name of that file must last as its content does.
    pub(super) fn write_marker(&self, marker: &Marker) -> Result<(), Error> {
        self.own(marker.transfer_id)?.sync()?;
        // A marker is texts and numbers: there is nothing in it that JSON cannot say.
        let content = serde_json::to_vec(marker).unwrap_or_default();
        self.markers.replace(marker.offer.id.to_string(), &content, Mode::PRIVATE_FILE)
    }

    pub(super) fn marker(&self, id: BrokerTransferId) -> Result<Option<Marker>, Error> {
        self.markers.read_json(id.to_string(), 1024 * 1024)
    }

    /// Removes the markers of a transfer of ours, whatever its id at Altinn.
    pub(super) fn remove_markers_of(&self, id: TransferId) -> Result<(), Error> {
        self.remove_markers(|marker| marker.transfer_id == id)?;
        self.markers.sync()
    }

    /// Removes the markers of transfers that Altinn has deleted before `deadline`, and tells how many.
    pub(super) fn prune_markers(&self, deadline: Timestamp) -> Result<usize, Error> {
        self.remove_markers(|marker| marker.offer.expires < deadline)
    }

    fn remove_markers(&self, is_over: impl Fn(&Marker) -> bool) -> Result<usize, Error> {
        let mut removed = 0;
        for name in self.markers.names()? {
            let Some(id) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
            if self.marker(id)?.is_some_and(|marker| is_over(&marker)) {
                self.markers.remove_file(&name)?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}
