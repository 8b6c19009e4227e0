//! What was claimed before this start: records that wait in the store, and files whose record was lost with it.

use std::ffi::OsString;
use std::sync::Arc;

use tracing::{error, warn};

use super::Route;
use super::folders::{CLAIM, FILE, Folders, SIDECAR};
use crate::files::Error;
use crate::route::{Kind, Trouble, text_for_people};
use crate::seams;
use crate::transfer::document::ClaimFile;
use crate::transfer::{Booking, OutgoingEvent, Transfer, TransferId};

/// Records looked at in one go.
const PAGE: usize = 256;
/// A claim is small; more than this is something else.
const MAX_CLAIM_BYTES: u64 = 1024 * 1024;

/// Counts what the store has, and makes new records for files that it does not know.
pub(super) async fn recover(route: &Arc<Route>) -> Result<(), Trouble> {
    let mut after = None;
    loop {
        let page = route.means.store.page(Some(&route.settings.name), after, PAGE).await;
        let page = page.map_err(|error| Trouble::store(&error, route.means.now()))?;
        for transfer in &page {
            route.note(transfer);
        }
        match page.last() {
            Some(last) => after = Some(last.id),
            None => break,
        }
    }
    for name in route.on_files(names).await? {
        recover_folder(route, name).await?;
    }
    Ok(())
}

fn names(folders: &Folders) -> Result<Vec<OsString>, Error> {
    let mut names = Vec::new();
    folders.sending.for_each_name(|name| {
        names.push(name.to_owned());
        true
    })?;
    Ok(names)
}

async fn recover_folder(route: &Arc<Route>, name: OsString) -> Result<(), Trouble> {
    let id = name.to_str().and_then(|name| name.parse::<TransferId>().ok());
    let Some(id) = id else {
        warn!(folder = ?name, "there is something in the sending folder that formidlingd did not put there");
        return Ok(());
    };
    let known = route.means.store.get(id).await;
    match known {
        Ok(None) => {}
        Ok(Some(_)) => return Ok(()),
        // An unreadable record is reported by the store; its file is left where it is.
        Err(error) => {
            warn!(transfer = %id, error = ?text_for_people(&error), "the record of a file that is being sent cannot be read");
            return Ok(());
        }
    }
    match route.on_files(move |folders| claim_of(folders, id)).await? {
        Found::Claim(claim_file) => adopt(route, *claim_file).await,
        Found::Nothing => Ok(()),
        Found::Unclaimed => {
            error!(transfer = %id, "a file in the sending folder has neither a record nor a readable claim: move it to the drop folder if it is to be sent");
            Ok(())
        }
    }
}

#[derive(Debug)]
enum Found {
    Claim(Box<ClaimFile>),
    /// No file; the folder is gone, too.
    Nothing,
    /// A file of which nothing is known.
    Unclaimed,
}

fn claim_of(folders: &Folders, id: TransferId) -> Result<Found, Error> {
    let own = match folders.own(id) {
        Ok(own) => own,
        Err(error) if error.is_missing() => return Ok(Found::Nothing),
        Err(error) => return Err(error),
    };
    let claim = match own.read(CLAIM, MAX_CLAIM_BYTES) {
        Ok(content) => {
            serde_json::from_slice::<ClaimFile>(&content).ok().filter(|claim| claim.transfer_id == id)
        }
        Err(error) if error.is_missing() => None,
        Err(error) => return Err(error),
    };
    let has_file = own.look(FILE)?.is_some() || own.look(SIDECAR)?.is_some();
    match claim {
        Some(claim) if has_file || claim.file_transfer_id.is_some() => Ok(Found::Claim(Box::new(claim))),
        None if has_file => Ok(Found::Unclaimed),
        // The claim was never carried out: the file is still in the drop folder.
        _ => {
            super::take::remove_own(folders, &own, id)?;
            Ok(Found::Nothing)
        }
    }
}

/// Makes a record of what the claim says. Where Altinn had given an id, bytes may have left: Altinn is asked.
async fn adopt(route: &Arc<Route>, claim_file: ClaimFile) -> Result<(), Trouble> {
    let now = route.means.now();
    warn!(transfer = %claim_file.transfer_id, "the state store does not know this file: going on from its claim");
    let ClaimFile { transfer_id, route: _, created, claim, dispatch, file_transfer_id } = claim_file;
    let mut events = Vec::new();
    if let (Some(dispatch), Some(id)) = (dispatch, file_transfer_id) {
        let booking = Booking { id, initialized: created };
        events = vec![
            OutgoingEvent::FileTaken,
            OutgoingEvent::Described(dispatch),
            OutgoingEvent::InitializeIntended { at: created },
            OutgoingEvent::Adopted(booking),
            OutgoingEvent::UploadBegun { at: now },
            OutgoingEvent::LastByteLeaving,
        ];
    }
    let transfer = Transfer::outgoing(transfer_id, route.settings.name.clone(), claim, created);
    let transfer =
        events.into_iter().try_fold(transfer, |transfer, event| transfer.after_outgoing(event, now));
    let transfer = transfer.map_err(|illegal| Trouble::illegal(illegal, now))?;
    route.note(&transfer);
    match route.means.store.insert(transfer).await {
        Ok(()) => {
            seams::crash_point("claims:adopted");
            Ok(())
        }
        Err(error) => Err(Trouble { kind: Kind::Fatal, ..Trouble::store(&error, now) }),
    }
}
