//! Laying a received file down under its final name: metadata first, then a rename that never overwrites, both
//! folders synced. The intent with the name is durable before, so that afterwards the absence of the private file
//! proves delivery, whatever an importer has done with it meanwhile.

use std::sync::Arc;

use tracing::info;

use super::Route;
use super::folders::{FILE, Folders, Marker, WHOLE};
use super::hear::{confirmation, notification};
use crate::config::Layout;
use crate::files::{Dir, Error, Mode, Prepared};
use crate::route::{Next, Trouble};
use crate::seams::crash_point;
use crate::transfer::document::{MAX_COMPANION_BYTES, Metadata, to_json};
use crate::transfer::{
    Companion, InboxPlace, Incoming, IncomingEvent, Offer, OrgNumber, Received, SafeFileName, Transfer,
    TransferId, Work, folded,
};

impl Route {
    /// Chooses the name that the file gets, one that is free.
    pub(super) async fn choose_place(
        self: &Arc<Self>,
        id: TransferId,
        offer: &Offer,
    ) -> Result<InboxPlace, Trouble> {
        let folder = match self.settings.layout {
            Layout::Flat => None,
            Layout::BySender => Some(sender_folder(offer, id)),
            Layout::ByTransfer => Some(SafeFileName::for_received(&offer.id.to_string(), &id.short())),
        };
        let name = SafeFileName::for_received(&offer.file_name, &id.short());
        let (metadata, layout) = (self.settings.write_metadata, self.settings.layout);
        let place = InboxPlace { folder, name, metadata };
        self.on_files(move |folders| choose(folders, layout, &place, id)).await
    }

    /// Chooses a name for a file that is verified.
    pub(super) async fn intend_delivery(self: &Arc<Self>, transfer: &mut Transfer) -> Result<Next, Trouble> {
        let Work::Incoming { progress, .. } = &transfer.work else { return Ok(Next::Wait) };
        let (Incoming::Downloaded { offer, received } | Incoming::Delivering { offer, received, .. }) =
            progress
        else {
            return Ok(Next::Step);
        };
        let (offer, received) = (offer.clone(), received.clone());
        let place = self.choose_place(transfer.id, &offer).await?;
        let marker = marker(transfer.id, &offer, &received, &place);
        self.on_files(move |folders| folders.write_marker(&marker)).await?;
        self.happened(transfer, IncomingEvent::DeliveryIntended(place)).await?;
        Ok(Next::Step)
    }

    /// Lays the file down.
    pub(super) async fn deliver(self: &Arc<Self>, transfer: &mut Transfer) -> Result<Next, Trouble> {
        let Work::Incoming { progress: Incoming::Delivering { offer, received, place }, .. } = &transfer.work
        else {
            return Ok(Next::Step);
        };
        let marker = marker(transfer.id, offer, received, place);
        let layout = self.settings.layout;
        let place = place.clone();
        if self.on_files(move |folders| lay_down(folders, layout, &marker)).await? == Laid::NameTaken {
            return self.intend_delivery(transfer).await;
        }
        crash_point("deliver:synced");
        let at = self.means.now();
        let event = IncomingEvent::Delivered {
            at,
            confirmation: confirmation(self),
            notification: notification(self),
        };
        self.quota.delivered();
        self.happened(transfer, event).await?;
        let folder = place.folder.as_ref().map(SafeFileName::as_str);
        info!(name = place.name.as_str(), folder, "delivered");
        crash_point("deliver:delivered");
        Ok(Next::Step)
    }
}

/// What is left beside the inbox until Altinn has our confirmation.
pub(super) fn marker(id: TransferId, offer: &Offer, received: &Received, place: &InboxPlace) -> Marker {
    Marker { transfer_id: id, offer: offer.clone(), received: received.clone(), place: place.clone() }
}

fn sender_folder(offer: &Offer, id: TransferId) -> SafeFileName {
    let name =
        offer.sender.parse::<OrgNumber>().map_or_else(|_| folded(&offer.sender), |sender| sender.digits());
    SafeFileName::for_received(&name, &id.short())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Laid {
    Down,
    NameTaken,
}

/// The wished place or one told apart from it by the transfer's id, whichever is free.
fn choose(
    folders: &Folders,
    layout: Layout,
    place: &InboxPlace,
    id: TransferId,
) -> Result<InboxPlace, Error> {
    let is_whole = layout == Layout::ByTransfer && place.folder.is_some();
    let into = match &place.folder {
        Some(folder) if !is_whole => folders.of_sender(folder)?,
        _ => folders.inbox.clone(),
    };
    let apart = |distinct: &str| match &place.folder {
        Some(folder) if is_whole => {
            InboxPlace { folder: Some(folder.distinguished(distinct)), ..place.clone() }
        }
        _ => InboxPlace { name: place.name.distinguished(distinct), ..place.clone() },
    };
    let places = [place.clone(), apart(&id.short()), apart(&id.to_string())];
    let chosen = folders.names.choose(&into, id, places, is_whole)?;
    chosen.ok_or_else(|| {
        let taken = std::io::ErrorKind::AlreadyExists;
        Error::new("choose a name in", into.path(), std::io::Error::from(taken))
    })
}

/// Lays the file down where the store says it is to be. May be repeated after a crash at any point.
fn lay_down(folders: &Folders, layout: Layout, marker: &Marker) -> Result<Laid, Error> {
    let own = match folders.own(marker.transfer_id) {
        Ok(own) => own,
        // It was moved, and only the store did not hear of it: if this is the folder that it was received in, and
        // not an empty mount point in its place.
        Err(error) if error.is_missing() => {
            let is_marked = folders.marker(marker.offer.id)?;
            return match is_marked.filter(|found| found.transfer_id == marker.transfer_id) {
                Some(_) => Ok(Laid::Down),
                None => Err(error),
            };
        }
        Err(error) => return Err(error),
    };
    let laid = match (&marker.place.folder, layout) {
        (Some(folder), Layout::ByTransfer) => lay_down_whole(folders, &own, folder, marker)?,
        (Some(folder), _) => lay_down_file(folders, &own, &folders.of_sender(folder)?, marker)?,
        (None, _) => lay_down_file(folders, &own, &folders.inbox, marker)?,
    };
    if laid == Laid::Down {
        own.sync()?;
        folders.remove_own(marker.transfer_id)?;
    }
    Ok(laid)
}

/// Metadata, then the file.
fn lay_down_file(folders: &Folders, own: &Dir, into: &Dir, marker: &Marker) -> Result<Laid, Error> {
    let Some(file) = own.look(FILE)? else {
        into.sync()?;
        return Ok(Laid::Down);
    };
    let (names, name) = (&folders.names, marker.place.name.as_str());
    let companion = marker.place.name.companion(Companion::Metadata);
    // Since the name was chosen somebody may have laid down another that a share takes for the same.
    if names.is_in(into, name)? && !into.look(name)?.is_some_and(|found| found.is_same_file(&file)) {
        return withdraw(into, &companion, marker);
    }
    let is_there = names.is_in(into, &companion)?;
    if is_there && !is_ours(into, &companion, marker)? {
        return Ok(Laid::NameTaken);
    }
    if marker.place.metadata && !is_there {
        let prepared = prepare_metadata(folders, into, &companion, marker)?;
        match names.add(into, &companion, || prepared.put_in_place()) {
            Err(error) if error.is_taken() => return Ok(Laid::NameTaken),
            added => added?,
        }
    }
    into.sync()?;
    share(own, into, folders)?;
    crash_point("deliver:metadata");
    match names.add(into, name, || own.move_to(FILE, into, name)) {
        Err(error) if error.is_taken() => return withdraw(into, &companion, marker),
        moved => moved?,
    }
    crash_point("deliver:renamed");
    into.sync()?;
    Ok(Laid::Down)
}

/// Takes our metadata away from beside somebody else's file.
fn withdraw(into: &Dir, companion: &str, marker: &Marker) -> Result<Laid, Error> {
    if marker.place.metadata && is_ours(into, companion, marker)? {
        into.remove_file(companion)?;
    }
    Ok(Laid::NameTaken)
}

/// Lets those read the file who are to read what lies in `into`, where that was not known before.
fn share(own: &Dir, into: &Dir, folders: &Folders) -> Result<(), Error> {
    let file = own.open_file(FILE)?;
    if into.share_file(&file, folders.access)? {
        own.sync_file(&file, FILE)?;
    }
    Ok(())
}

/// A folder with file and metadata, built in private and renamed whole.
fn lay_down_whole(
    folders: &Folders,
    own: &Dir,
    folder: &SafeFileName,
    marker: &Marker,
) -> Result<Laid, Error> {
    if own.look(FILE)?.is_some() {
        let whole = own.ensure_subfolder(WHOLE, Mode::PRIVATE_FOLDER)?;
        folders.inbox.share_folder(&whole, folders.folder_access()?)?;
        if lay_down_file(folders, own, &whole, marker)? == Laid::NameTaken {
            return Ok(Laid::NameTaken);
        }
    }
    if own.look(WHOLE)?.is_some() {
        let (names, inbox, folder) = (&folders.names, &folders.inbox, folder.as_str());
        if names.is_in(inbox, folder)? {
            return Ok(Laid::NameTaken);
        }
        match names.add(inbox, folder, || own.move_to(WHOLE, inbox, folder)) {
            Err(error) if error.is_taken() => return Ok(Laid::NameTaken),
            moved => moved?,
        }
        crash_point("deliver:whole");
    }
    folders.inbox.sync()?;
    Ok(Laid::Down)
}

fn prepare_metadata(
    folders: &Folders,
    into: &Dir,
    companion: &str,
    marker: &Marker,
) -> Result<Prepared, Error> {
    let Marker { offer, received, .. } = marker;
    let metadata = Metadata {
        file_transfer_id: offer.id,
        resource_id: offer.resource_id.clone(),
        file_name: offer.file_name.clone(),
        sender: offer.sender.clone(),
        recipient: offer.recipient,
        senders_file_transfer_reference: offer.reference.clone(),
        property_list: offer.properties.clone(),
        checksum: received.md5,
        checksum_verified: received.checksum_verified,
        sha256: received.sha256,
        file_transfer_size: received.size,
        published: offer.published,
        received: received.received,
    };
    into.prepare(companion, &to_json(&metadata), folders.access)
}

/// Whether metadata that is there already is this transfer's, from before a crash.
fn is_ours(into: &Dir, companion: &str, marker: &Marker) -> Result<bool, Error> {
    let metadata = into.read_json::<Metadata>(companion, MAX_COMPANION_BYTES)?;
    Ok(metadata.is_some_and(|metadata| metadata.file_transfer_id == marker.offer.id))
}
