//! What was under way before this start: records that wait in the store, and partial downloads whose record was
//! lost with it.

use std::sync::Arc;

use tracing::warn;

use super::Route;
use super::download::{FULL, TOO_LARGE};
use super::folders::{FILE, Folders, WHOLE};
use super::hear::as_delivered;
use crate::broker::{RecipientStatus, Role, Status, Trouble as Found};
use crate::files::{Error, PROBE_PREFIX};
use crate::route::{Decision, Next, Trouble};
use crate::transfer::{Confirmation, Incoming, Transfer, TransferId, Work};

/// Codes of trouble that other settings would end.
const WAIT_FOR_SETTINGS: [&str; 3] = [TOO_LARGE, FULL, "not_enough_room"];

/// Counts what the store has, and removes partial downloads that it does not know: Altinn still has those files,
/// and they are fetched anew.
pub(super) async fn recover(route: &Arc<Route>) -> Result<(), Trouble> {
    route.recovery.begin();
    let mut seen = None;
    while let Some(transfers) = route.means.next_at_work(&route.settings.name, &mut seen).await? {
        for transfer in transfers {
            route.note(&transfer);
            route.note_in_flight(&transfer);
            look_again(route, transfer).await?;
        }
    }
    let listed = route.on_files(|folders| folders.incoming.names()).await;
    for name in listed.unwrap_or_default() {
        let Some(id) = name.to_str().and_then(|name| name.parse::<TransferId>().ok()) else {
            if name.as_encoded_bytes().starts_with(PROBE_PREFIX.as_bytes()) {
                // What the folder was tried out with before a death goes with a later trial.
                continue;
            }
            warn!(folder = ?name, "there is something in the incoming folder that formidlingd did not put there");
            continue;
        };
        // A record that cannot be read is reported by the store; what belongs to it is left where it is.
        if !matches!(route.means.store.get(id).await, Ok(None)) {
            continue;
        }
        if let Err(trouble) = route.on_files(move |folders| discard(folders, id)).await {
            warn!(transfer = %id, code = %trouble.failure.code, error = %trouble.failure.message, "a partial download that the state store does not know cannot be removed");
        }
    }
    route.recovery.all_found();
    Ok(())
}

impl Route {
    /// Notes a transfer that Altinn may know more of than its record does: whose download was begun, or whose
    /// confirmation may have been sent.
    fn note_in_flight(&self, transfer: &Transfer) {
        let Work::Incoming { progress, .. } = &transfer.work else { return };
        let is_in_flight = matches!(
            progress,
            Incoming::Downloading { .. }
                | Incoming::Downloaded { .. }
                | Incoming::Delivering { .. }
                | Incoming::Delivered { confirmation: Confirmation::Due, .. }
        );
        if is_in_flight {
            self.recovery.found(transfer, progress.phase());
        }
    }

    /// Whether a file that is to be fetched was delivered before: then its record is older than the delivery, as after
    /// the import of an export, and goes on from its marker.
    pub(super) async fn was_delivered(self: &Arc<Self>, transfer: &mut Transfer) -> Result<bool, Trouble> {
        let (Some(id), own) = (transfer.broker_id(), transfer.id) else { return Ok(false) };
        let delivered = self.on_files(move |folders| {
            let delivered = folders.delivered_marker(id)?;
            if delivered.is_none() {
                // What was not laid down is fetched anew; its marker must not speak for what becomes of that.
                folders.remove_marker(id)?;
                folders.remove_whole(own)?;
            }
            Ok(delivered)
        });
        let Some(marker) = delivered.await? else { return Ok(false) };
        warn!(file_transfer = %id, "the state store knows this file as one to be fetched, but it was delivered: going on with its confirmation");
        self.all_happened(transfer, as_delivered(self, marker)).await?;
        Ok(true)
    }

    /// Sees what Altinn knows of a transfer, before its download goes on or it is confirmed.
    pub(super) async fn compare(self: &Arc<Self>, transfer: &mut Transfer) -> Result<Next, Trouble> {
        let Some(id) = transfer.broker_id() else { return Ok(Next::Step) };
        let overview = self.means.broker.overview(id, Role::Recipient).await;
        let overview = match overview {
            Ok(overview) => overview,
            // What there is not cannot be compared: the call that follows is answered in the same way, and settled.
            Err(error) if error.trouble() == Found::Gone => {
                self.recovery.said(id, &"does not know it");
                return Ok(Next::Step);
            }
            Err(error) => return Err(Trouble::broker(&error, self.means.now())),
        };
        let own = overview.recipient(self.identity.organization);
        let is_confirmed = own.is_some_and(|own| own.status == RecipientStatus::DownloadConfirmed);
        let own = own.map(|own| own.status.to_string()).unwrap_or_default();
        self.recovery.said(id, &format_args!("{}, {own}", overview.status));
        match &transfer.work {
            Work::Incoming { progress: Incoming::Delivered { .. }, .. } if is_confirmed => {
                self.confirmed(transfer, id).await
            }
            Work::Incoming { progress: Incoming::Downloading { .. }, .. }
                if matches!(overview.status, Status::Purged | Status::Failed) =>
            {
                self.expire(transfer, id, &overview.status).await
            }
            _ => Ok(Next::Step),
        }
    }
}

/// What a step made of a transfer that was in flight as `was`.
pub(super) fn decided(_was: &'static str, transfer: &Transfer) -> (Option<&'static str>, Decision) {
    let (what, why) = match transfer.phase() {
        "downloading" => ("resumed", "what has come is kept, and the rest fetched"),
        "delivered" => ("confirmed", "it is safe here, and Altinn has no confirmation"),
        "confirmed" => ("closed", "Altinn has the confirmation"),
        "expired" => ("given up", "Altinn has deleted the file"),
        _ => ("goes on", "nothing Altinn says is against it"),
    };
    (None, Decision { what, why })
}

/// What waited for the settings is tried at once: they may have been changed.
async fn look_again(route: &Arc<Route>, mut transfer: Transfer) -> Result<(), Trouble> {
    let now = route.means.now();
    let waits =
        transfer.problem.as_ref().is_some_and(|problem| WAIT_FOR_SETTINGS.contains(&problem.code.as_str()));
    if !waits || transfer.next_attempt <= now {
        return Ok(());
    }
    route.means.store_change(&mut transfer, |before| Ok(Transfer { next_attempt: now, ..before })).await
}

/// Removes a partial download. Its marker goes first: without the download it would say that the file was
/// delivered.
fn discard(folders: &Folders, id: TransferId) -> Result<(), Error> {
    let own = folders.own(id)?;
    if own.look(WHOLE)?.is_some() || own.look(FILE)?.is_some() {
        folders.remove_markers_of(id)?;
    }
    folders.remove_own(id)
}
