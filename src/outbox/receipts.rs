//! Receipts that say `published`, when the store was lost: their recipients are asked about again, and the receipts kept
//! up to date, until all have confirmed or Altinn has deleted the transfer.
//!
//! A record that is older than its receipt goes on from it, too.
//!
//! It is remembered in the state that this was done, so that receipts are read when there is a new or imported state and
//! never again.

use std::sync::Arc;

use jiff::Timestamp;
use tracing::{info, warn};

use super::Route;
use super::folders::Folders;
use crate::files::Error;
use crate::route::{Kind, Trouble, text_for_people};
use crate::seams::{self, crash_point};
use crate::store::{self, BrokerKey};
use crate::transfer::document::{MAX_COMPANION_BYTES, Receipt};
use crate::transfer::{
    Booking, Claim, Companion, Dispatch, FileIdentity, IllegalTransition, OutgoingEvent, Place,
    RecipientProgress, SafeFileName, Transfer, TransferId, Work,
};

/// Reads the receipts of a route whose state is new. Trouble with them is told, and tried again at the next start.
pub(super) async fn recover(route: Arc<Route>) -> Result<(), Trouble> {
    match read(&route).await {
        Err(trouble) if trouble.kind != Kind::Fatal => {
            warn!(route = route.settings.name.as_str(), code = %trouble.failure.code, error = %trouble.failure.message, "cannot read the receipts of what was sent before: trying again at the next start");
            Ok(())
        }
        read => read,
    }
}

async fn read(route: &Arc<Route>) -> Result<(), Trouble> {
    let known = route.means.store.known_folders().clone();
    let (name, folder) = (route.settings.name.clone(), route.settings.path.clone());
    let is_known = {
        let (known, name, folder) = (known.clone(), name.clone(), folder.clone());
        seams::blocking(move || known.has_read_receipts(&name, &folder)).await
    };
    if is_known.map_err(|error| Trouble::store(&error, route.means.now()))? {
        return Ok(());
    }
    let mut recovered = 0_u64;
    for date in route.on_files(|folders| folders.sent.names()).await? {
        // Only folders of ours are days; whatever else lies there is not looked at.
        let Some(date) = date.to_str().filter(|date| date.parse::<jiff::civil::Date>().is_ok()) else {
            continue;
        };
        let date = date.to_owned();
        let places = {
            let date = date.clone();
            route.on_files(move |folders| folders.sent.subfolder(&date)?.names()).await?
        };
        for name in places {
            let place = name.to_str().and_then(|name| name.strip_suffix(Companion::Receipt.suffix()));
            let Some(Ok(place)) = place.map(str::parse::<SafeFileName>) else { continue };
            let day = date.clone();
            let receipt = route
                .on_files(move |folders| {
                    folders.sent.subfolder(&day)?.read_json::<Receipt>(&name, MAX_COMPANION_BYTES)
                })
                .await?;
            let Some(receipt) = receipt.filter(|receipt| is_of(route, receipt)) else { continue };
            let place = Place { date: Some(date.clone()), name: place };
            if go_on_behind(route, &receipt, &place).await? {
                recovered += 1;
            } else if receipt.status == "published" {
                recovered += u64::from(track(route, receipt, place).await?);
            }
        }
    }
    if recovered > 0 {
        warn!(
            route = name.as_str(),
            transfers = recovered,
            "the state store does not know these published files: their receipts are kept up to date again"
        );
        route.wake.notify_one();
    }
    let remembered = seams::blocking(move || known.remember_receipts_read(&name, &folder)).await;
    remembered.map_err(|error| Trouble::store(&error, route.means.now()))
}

/// Whether the receipt is this outbox's.
fn is_of(route: &Route, receipt: &Receipt) -> bool {
    receipt.route == route.settings.name && receipt.sender == route.identity.organization
}

/// A record that is older than the receipt of its file, as after the import of an export, would wait for ever for the
/// file, which was laid down since: it goes on from the receipt. Whether it did.
async fn go_on_behind(route: &Arc<Route>, receipt: &Receipt, place: &Place) -> Result<bool, Trouble> {
    let now = route.means.now();
    let failed = |error: &store::Error| Trouble::store(error, now);
    let id = receipt.transfer_id;
    let stored = match route.means.store.get(id).await {
        Ok(Some(stored)) => stored,
        Ok(None) | Err(store::Error::Unreadable { .. }) => return Ok(false),
        Err(error) => return Err(failed(&error)),
    };
    let is_behind = matches!(&stored.work, Work::Outgoing { progress, .. } if progress.is_unsent());
    if !is_behind || !route.on_files(move |folders| is_gone(folders, id)).await? {
        return Ok(false);
    }
    let after = of_receipt(route, receipt.clone(), place.clone(), now)
        .map_err(|illegal| Trouble::illegal(illegal, now))?;
    // Where a step has moved it on meanwhile, it is looked at again after the next start.
    route.means.store.update(&stored, after.clone()).await.map_err(|error| failed(&error))?;
    route.note(&after);
    warn!(transfer = %id, file_transfer = %receipt.file_transfer_id, "the record is older than its receipt: going on from that");
    Ok(true)
}

/// Whether a transfer has no folder of its own any more.
fn is_gone(folders: &Folders, id: TransferId) -> Result<bool, Error> {
    match folders.own(id) {
        Ok(_) => Ok(false),
        Err(error) if error.is_missing() => Ok(true),
        Err(error) => Err(error),
    }
}

/// Makes a record of what the receipt says, unless there is one; whether it was made.
async fn track(route: &Arc<Route>, receipt: Receipt, place: Place) -> Result<bool, Trouble> {
    let now = route.means.now();
    let failed = |error: &store::Error| Trouble::store(error, now);
    let (id, broker_id) = (receipt.transfer_id, receipt.file_transfer_id);
    let holder = route.means.store.by_broker_id(&BrokerKey::Outgoing(broker_id)).await;
    if holder.map_err(|error| failed(&error))?.is_some() {
        return Ok(false);
    }
    let transfer =
        of_receipt(route, receipt, place, now).map_err(|illegal| Trouble::illegal(illegal, now))?;
    match route.means.store.insert(transfer).await {
        Ok(()) => {
            crash_point("receipts:adopted");
            info!(transfer = %id, file_transfer = %broker_id, "going on from its receipt");
            Ok(true)
        }
        Err(store::Error::Exists { .. } | store::Error::BrokerIdTaken { .. }) => Ok(false),
        Err(error) => {
            let trouble = failed(&error);
            if trouble.kind == Kind::Fatal {
                return Err(trouble);
            }
            warn!(transfer = %id, error = %text_for_people(&error), "the record of a receipt cannot be made");
            Ok(false)
        }
    }
}

fn of_receipt(
    route: &Route,
    receipt: Receipt,
    place: Place,
    now: Timestamp,
) -> Result<Transfer, IllegalTransition> {
    // Where it was dropped is not known any more, and not needed: it has been laid down.
    let file =
        FileIdentity { device: route.number, inode: 0, size: receipt.file_transfer_size, modified_ns: 0 };
    let claim = Claim {
        name: place.name.as_str().to_owned(),
        recipient_folder: None,
        other_folder: None,
        sidecar: false,
        file,
    };
    let dispatch = Dispatch {
        file_name: receipt.file_name,
        resource_id: receipt.resource_id,
        sender: receipt.sender,
        recipients: receipt.recipients.iter().map(|recipient| recipient.recipient).collect(),
        reference: receipt.senders_file_transfer_reference,
        properties: receipt.property_list,
        // Not in the receipt, and only told when a transfer is asked for.
        disable_virus_scan: false,
        md5: receipt.checksum,
        sha256: receipt.sha256,
        size: receipt.file_transfer_size,
        file: None,
    };
    let recipients = receipt.recipients.into_iter().map(|recipient| RecipientProgress {
        recipient: recipient.recipient,
        status: recipient.status,
        changed: recipient.changed,
    });
    let booking = Booking { id: receipt.file_transfer_id, initialized: receipt.initialized };
    let events = [
        OutgoingEvent::FileTaken,
        OutgoingEvent::Described(Box::new(dispatch)),
        OutgoingEvent::InitializeIntended { at: receipt.initialized },
        OutgoingEvent::Adopted(booking),
        OutgoingEvent::UploadBegun { at: receipt.uploaded },
        OutgoingEvent::LastByteLeaving,
        OutgoingEvent::UploadAccepted { at: receipt.uploaded },
        OutgoingEvent::PublishedSeen {
            published: receipt.published,
            // Altinn says when it has deleted it; the time only stands in the record.
            expires: Timestamp::MAX,
            recipients: recipients.collect(),
        },
        OutgoingEvent::ArchiveIntended(place),
        OutgoingEvent::Archived,
    ];
    let transfer =
        Transfer::outgoing(receipt.transfer_id, route.settings.name.clone(), claim, receipt.claimed);
    events.into_iter().try_fold(transfer, |transfer, event| transfer.after_outgoing(event, now))
}
