//! The folders of an inbox, held open.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::names::Names;
use crate::config;
use crate::files::{Access, Dir, EntryKind, Error, Mode};
use crate::route::Opening;
use crate::transfer::{BrokerTransferId, InboxPlace, Offer, Received, SafeFileName, TransferId};

/// The file that is being received, in its folder under `incoming/`.
pub(super) const FILE: &str = "file";
/// A folder that is to be delivered whole.
pub(super) const WHOLE: &str = "whole";
/// The folder of ours in every route's folder.
pub(super) const PRIVATE: &str = ".formidlingd";
/// In it: what is being received.
const INCOMING: &str = "incoming";
/// In it: what was delivered.
const DELIVERED: &str = "delivered";

/// More than this is no marker.
const MAX_MARKER_BYTES: u64 = 1024 * 1024;

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

/// `.formidlingd/delivered/<fileTransferId>`: from the moment before the file is laid down until Altinn has deleted the
/// transfer. With it, the absence of the private file proves delivery; without it, somebody has removed the file. So a
/// file is not delivered again if the state store is lost, or if a confirmation that seemed to succeed
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
        let incoming = private.ensure_subfolder(INCOMING, Mode::PRIVATE_FOLDER)?;
        let rejected = private.ensure_subfolder("rejected", Mode::PRIVATE_FOLDER)?;
        let markers = private.ensure_subfolder(DELIVERED, Mode::PRIVATE_FOLDER)?;
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

    /// Whether what is held open of the service's own is what stands in the inbox. In folders that somebody has put
    /// away or removed, the absence of a file or a marker says nothing.
    pub(super) fn are_in_place(&self) -> Result<bool, Error> {
        let stands = |name: &str, held: &Dir| {
            let folder = self.inbox.subfolder(PRIVATE).and_then(|private| private.subfolder(name));
            match folder {
                Ok(folder) => Ok(folder.entry()?.is_same_file(&held.entry()?)),
                Err(error) if error.is_missing() => Ok(false),
                Err(error) => Err(error),
            }
        };
        Ok(stands(INCOMING, &self.incoming)? && stands(DELIVERED, &self.markers)?)
    }

    /// Removes a transfer's folder under `incoming/` with what is in it.
    pub(super) fn remove_own(&self, id: TransferId) -> Result<(), Error> {
        match self.own(id) {
            Ok(own) => {
                for name in own.names()? {
                    match own.look(&name)?.map(|entry| entry.kind) {
                        Some(EntryKind::Folder) => remove_folder(&own, &name)?,
                        _ => own.remove_file(&name)?,
                    }
                }
                self.incoming.remove_folder(id.to_string())?;
                self.incoming.sync()
            }
            Err(error) if error.is_missing() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Removes a folder that was to be delivered whole, and what is in it.
    pub(super) fn remove_whole(&self, id: TransferId) -> Result<(), Error> {
        match self.own(id) {
            Ok(own) if own.look(WHOLE)?.is_some() => remove_folder(&own, WHOLE),
            Err(error) if !error.is_missing() => Err(error),
            _ => Ok(()),
        }
    }

    /// Makes the name of a transfer's private file durable, as its content is, before its absence means anything.
    pub(super) fn sync_own(&self, id: TransferId) -> Result<(), Error> {
        self.own(id)?.sync()
    }

    /// Writes the marker, right before the file is laid down. From then on the absence of the private file proves
    /// delivery.
    pub(super) fn write_marker(&self, marker: &Marker) -> Result<(), Error> {
        // A marker is texts and numbers: there is nothing in it that JSON cannot say.
        let content = serde_json::to_vec(marker).unwrap_or_default();
        self.markers.replace(marker.offer.id.to_string(), &content, Mode::PRIVATE_FILE)
    }

    /// The marker, if it is there and can be read.
    pub(super) fn marker(&self, id: BrokerTransferId) -> Result<Option<Marker>, Error> {
        match self.markers.read_json(id.to_string(), MAX_MARKER_BYTES) {
            Err(error) if error.is_too_large() => Ok(None),
            marker => marker,
        }
    }

    /// Whether there is a marker, be it damaged.
    pub(super) fn is_marked(&self, id: BrokerTransferId) -> Result<bool, Error> {
        Ok(self.markers.look(id.to_string())?.is_some())
    }

    /// Whether there is a marker that cannot be read.
    pub(super) fn has_damaged_marker(&self, id: BrokerTransferId) -> Result<bool, Error> {
        Ok(self.marker(id)?.is_none() && self.is_marked(id)?)
    }

    /// Removes the marker of a file that was not laid down, durably, before anything can happen to the file.
    pub(super) fn remove_marker(&self, id: BrokerTransferId) -> Result<(), Error> {
        if self.markers.look(id.to_string())?.is_some() {
            self.markers.remove_file(id.to_string())?;
            self.markers.sync()?;
        }
        Ok(())
    }

    /// The marker of a transfer whose file was delivered. One whose file lies here yet says nothing.
    pub(super) fn delivered_marker(&self, id: BrokerTransferId) -> Result<Option<Marker>, Error> {
        let Some(marker) = self.marker(id)? else { return Ok(None) };
        let is_undelivered = match self.own(marker.transfer_id) {
            Ok(own) => own.look(FILE)?.is_some() || own.look(WHOLE)?.is_some(),
            Err(error) if error.is_missing() => false,
            Err(error) => return Err(error),
        };
        Ok((!is_undelivered).then_some(marker))
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

/// Removes a folder of files.
fn remove_folder(own: &Dir, name: impl AsRef<std::ffi::OsStr>) -> Result<(), Error> {
    let inside = own.subfolder(&name)?;
    for name in inside.names()? {
        inside.remove_file(&name)?;
    }
    own.remove_folder(&name)
}
