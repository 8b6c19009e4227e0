//! Laying a received file down under its final name: metadata first, then a rename that never overwrites, both
//! folders synced. The intent with the name is durable before, and so is the marker, which is written right before the
//! file is moved: afterwards the absence of the private file proves delivery, whatever an importer has done with it
//! meanwhile. A file that is absent without a marker was removed by somebody else (a virus scanner), and is fetched again.

use std::sync::Arc;

use tracing::{error, info};

use super::Route;
use super::folders::{FILE, Folders, Marker, WHOLE};
use super::hear::{confirmation, notification};
use crate::config::Layout;
use crate::files::{Dir, Entry, Error, Mode, Prepared};
use crate::route::{Kind, Next, Trouble};
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
        let (Incoming::Downloaded { offer, .. } | Incoming::Delivering { offer, .. }) = progress else {
            return Ok(Next::Step);
        };
        let offer = offer.clone();
        let place = self.choose_place(transfer.id, &offer).await?;
        let own = transfer.id;
        self.on_files(move |folders| match folders.sync_own(own) {
            // Laying it down finds out whether it was delivered.
            Err(error) if error.is_missing() => Ok(()),
            synced => synced,
        })
        .await?;
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
        match self.on_files(move |folders| lay_down(folders, layout, &marker)).await? {
            Laid::Down => {}
            Laid::NameTaken => return self.intend_delivery(transfer).await,
            Laid::Vanished => return self.settle_vanished(transfer).await,
            Laid::Unknown => return Err(self.cannot_tell(transfer)),
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

impl Route {
    /// Has a file fetched again that somebody has removed before it was laid down.
    async fn settle_vanished(self: &Arc<Self>, transfer: &mut Transfer) -> Result<Next, Trouble> {
        let message = "the file was received, and somebody has removed it from the service's own folder before it was laid down";
        let remedy =
            "find out who did (a virus scanner?); it is not confirmed, and is fetched again until it expires";
        error!(file_transfer = ?transfer.broker_id(), code = VANISHED, remedy, "{message}");
        self.happened(transfer, IncomingEvent::Vanished).await?;
        Err(Trouble::new(Kind::Slow, VANISHED, message.to_owned(), remedy, self.means.now()))
    }
}

impl Route {
    /// Whether the file was delivered cannot be seen: it is not delivered again before that is known.
    fn cannot_tell(&self, transfer: &Transfer) -> Trouble {
        let message = "the service's own folder was put away or removed while it was in use, with a file in it that was about to be laid down";
        let remedy = "put .formidlingd back as it was, or start the service anew: what was not laid down is then fetched again, unless Altinn has deleted it";
        error!(file_transfer = ?transfer.broker_id(), code = NOT_RECOGNISED, remedy, "{message}");
        Trouble::new(Kind::Slow, NOT_RECOGNISED, message.to_owned(), remedy, self.means.now())
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

/// The code of a file that somebody has removed.
const VANISHED: &str = "file_vanished";
/// The code of folders that are not those that were used.
const NOT_RECOGNISED: &str = "folder_not_recognised";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Laid {
    Down,
    NameTaken,
    /// Somebody has removed it.
    Vanished,
    /// What is held open does not stand in the inbox any more.
    Unknown,
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
    let delivered = folders.delivered_marker(marker.offer.id)?;
    let is_damaged = folders.has_damaged_marker(marker.offer.id)?;
    let own = match folders.own(marker.transfer_id) {
        Ok(own) => own,
        // It was moved, and only the store did not hear of it.
        Err(error) if error.is_missing() && (delivered.is_some() || is_damaged) => return Ok(Laid::Down),
        // Nothing was about to be moved, so that somebody has removed the folder, file and all. An empty mount point in
        // the inbox's place is never opened.
        Err(error) if error.is_missing() && folders.are_in_place()? => {
            return vanished(folders, layout, marker);
        }
        Err(error) if error.is_missing() => return Ok(Laid::Unknown),
        Err(error) => return Err(error),
    };
    let is_here = own.look(FILE)?.is_some() || own.look(WHOLE)?.is_some();
    match delivered {
        // By another record, before this one was taken from an export.
        Some(_) if is_here => {
            folders.remove_own(marker.transfer_id)?;
            return Ok(Laid::Down);
        }
        // Of an attempt that came to nothing: what happens to the file until the next is no delivery.
        None if is_here => folders.remove_marker(marker.offer.id)?,
        // One that is damaged speaks for its file, too.
        None if !is_damaged => return vanished(folders, layout, marker),
        _ => {}
    }
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

/// Takes our metadata away from where the file is not to come.
fn vanished(folders: &Folders, layout: Layout, marker: &Marker) -> Result<Laid, Error> {
    let into = match &marker.place.folder {
        _ if layout == Layout::ByTransfer => return Ok(Laid::Vanished),
        Some(folder) => folders.of_sender(folder)?,
        None => folders.inbox.clone(),
    };
    withdraw(&into, &marker.place.name.companion(Companion::Metadata), marker)?;
    Ok(Laid::Vanished)
}

/// Metadata, then the file.
fn lay_down_file(folders: &Folders, own: &Dir, into: &Dir, marker: &Marker) -> Result<Laid, Error> {
    if own.look(FILE)?.is_none() {
        if !folders.is_marked(marker.offer.id)? {
            return vanished(folders, Layout::Flat, marker);
        }
        into.sync()?;
        return Ok(Laid::Down);
    }
    if prepare(folders, own, into, marker)? == Laid::NameTaken {
        return Ok(Laid::NameTaken);
    }
    let name = marker.place.name.as_str();
    let companion = marker.place.name.companion(Companion::Metadata);
    match move_marked(folders, own, FILE, marker, || {
        folders.names.add(into, name, || own.move_to(FILE, into, name))
    }) {
        Ok(true) => {}
        Ok(false) => return vanished(folders, Layout::Flat, marker),
        Err(error) if error.is_taken() => return withdraw(into, &companion, marker),
        Err(error) => return Err(error),
    }
    crash_point("deliver:renamed");
    into.sync()?;
    Ok(Laid::Down)
}

/// Moves what is to be delivered, with a marker that is durable before; `false` where it is not there any more. Where
/// the system refuses to, the marker goes again: that may last, and what happens meanwhile is no delivery.
pub(super) fn move_marked(
    folders: &Folders,
    own: &Dir,
    what: &str,
    marker: &Marker,
    move_it: impl FnOnce() -> Result<(), Error>,
) -> Result<bool, Error> {
    folders.write_marker(marker)?;
    crash_point("deliver:marked");
    // Nothing but a delivery is to take place between marker and move, so that the look is as late as it can be.
    if own.look(what)?.is_none() {
        folders.remove_marker(marker.offer.id)?;
        return Ok(false);
    }
    match move_it() {
        Err(error) if error.is_refusal() && own.look(what)?.is_some() => {
            folders.remove_marker(marker.offer.id)?;
            Err(error)
        }
        moved => moved.map(|()| true),
    }
}

/// Lays the metadata down, and lets those read the file who are to.
fn prepare(folders: &Folders, own: &Dir, into: &Dir, marker: &Marker) -> Result<Laid, Error> {
    let (names, name) = (&folders.names, marker.place.name.as_str());
    let companion = marker.place.name.companion(Companion::Metadata);
    let file = own.look(FILE)?;
    // Since the name was chosen somebody may have laid down another that a share takes for the same.
    let is_same = |found: Entry| file.is_some_and(|file| found.is_same_file(&file));
    if names.is_in(into, name)? && !into.look(name)?.is_some_and(is_same) {
        return withdraw(into, &companion, marker);
    }
    let is_there = names.is_in(into, &companion)?;
    if is_there && !is_ours(into, &companion, marker)? {
        return Ok(Laid::NameTaken);
    }
    if marker.place.metadata && !is_there {
        let prepared = prepare_metadata(folders, into, &companion, marker)?;
        match names.add(into, &companion, || prepared.put_in_place()) {
            // It was put there before, and the answer was lost.
            Err(error) if error.is_taken() && is_ours(into, &companion, marker)? => {}
            Err(error) if error.is_taken() => return Ok(Laid::NameTaken),
            added => added?,
        }
    }
    into.sync()?;
    share(own, into, folders)?;
    crash_point("deliver:metadata");
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
    let name = marker.place.name.as_str();
    if own.look(FILE)?.is_some() {
        let whole = own.ensure_subfolder(WHOLE, Mode::PRIVATE_FOLDER)?;
        folders.inbox.share_folder(&whole, folders.folder_access()?)?;
        if prepare(folders, own, &whole, marker)? == Laid::NameTaken {
            return Ok(Laid::NameTaken);
        }
        // Nobody takes anything from here, so that nothing has to be marked.
        match folders.names.add(&whole, name, || own.move_to(FILE, &whole, name)) {
            Err(error) if error.is_taken() => {
                return withdraw(&whole, &marker.place.name.companion(Companion::Metadata), marker);
            }
            moved => moved?,
        }
        crash_point("deliver:renamed");
        whole.sync()?;
    }
    if own.look(WHOLE)?.is_some() {
        if own.subfolder(WHOLE)?.look(name)?.is_none() {
            return Ok(Laid::Vanished);
        }
        let (names, inbox, folder) = (&folders.names, &folders.inbox, folder.as_str());
        if names.is_in(inbox, folder)? {
            return Ok(Laid::NameTaken);
        }
        let moved = move_marked(folders, own, WHOLE, marker, || {
            names.add(inbox, folder, || own.move_to(WHOLE, inbox, folder))
        });
        match moved {
            Ok(true) => {}
            Ok(false) => return Ok(Laid::Vanished),
            Err(error) if error.is_taken() => return Ok(Laid::NameTaken),
            Err(error) => return Err(error),
        }
        crash_point("deliver:whole");
    } else if !folders.is_marked(marker.offer.id)? {
        return Ok(Laid::Vanished);
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
