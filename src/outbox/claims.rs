//! What was claimed before this start: records that wait in the store, and files whose record was lost with it.

use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tracing::{error, warn};

use super::Route;
use super::folders::{CLAIM, FILE, Folders, SIDECAR};
use super::take;
use crate::files::{Error, PROBE_PREFIX};
use crate::route::{Kind, Trouble, passes_by_itself, text_for_people};
use crate::seams;
use crate::transfer::document::ClaimFile;
use crate::transfer::{Booking, BrokerTransferId, Outgoing, OutgoingEvent, Transfer, TransferId, Work};

/// A disk may fail for a moment: at a start, looks that fail are repeated so often in all, each after a pause.
const REPEATED: u32 = 10;
const PAUSE: Duration = Duration::from_millis(500);
/// A claim is small; more than this is something else.
const MAX_CLAIM_BYTES: u64 = 1024 * 1024;

/// Counts what the store has, and makes new records for files that it does not know.
pub(super) async fn recover(route: &Arc<Route>) -> Result<(), Trouble> {
    route.recovery.begin();
    let mut seen = None;
    while let Some(transfers) = route.means.next_at_work(&route.settings.name, &mut seen).await? {
        for transfer in &transfers {
            route.note(transfer);
            take_back(route, transfer).await;
            route.note_in_flight(transfer);
            describe_anew(route, transfer).await?;
        }
    }
    if let Err(trouble) = route.on_files(super::orphans::forget_taken_away).await {
        warn!(route = route.settings.name.as_str(), code = %trouble.failure.code, error = %trouble.failure.message, "cannot look at what is known of sidecars that were set aside");
    }
    let mut left = REPEATED;
    match patiently(route, &mut left, || |folders: &Folders| folders.sending.names()).await {
        Ok(names) => {
            for name in names {
                recover_folder(route, name, &mut left).await?;
            }
        }
        Err(trouble) => {
            error!(route = route.settings.name.as_str(), code = %trouble.failure.code, error = %trouble.failure.message, "cannot look for files that the state store does not know");
        }
    }
    route.recovery.all_found();
    Ok(())
}

/// A loss of power can undo renames that were not synced, so that a file which was taken, or laid down even, is back in
/// the drop folder. It is that transfer's file still, and is taken again before its transfer goes on without it and is
/// forgotten.
async fn take_back(route: &Arc<Route>, transfer: &Transfer) {
    let Work::Outgoing { claim, progress, .. } = &transfer.work else { return };
    let Some(beside) = super::initialize::claim_file(transfer).filter(|_| progress.holds_file()) else {
        return;
    };
    if *progress == Outgoing::Claiming {
        return;
    }
    let (id, claim) = (transfer.id, claim.clone());
    match route.on_files(move |folders| take::take_back(folders, id, &claim, &beside)).await {
        Ok(false) => {}
        Ok(true) => warn!(transfer = %id, "a claimed file was back in the drop folder: taken again"),
        Err(trouble) => {
            warn!(transfer = %id, code = %trouble.failure.code, error = %trouble.failure.message, "cannot see whether a claimed file is back in the drop folder");
        }
    }
}

/// Looks, and again where that fails, while anything is `left` of the patience of this start.
async fn patiently<T, L>(route: &Arc<Route>, left: &mut u32, look: impl Fn() -> L) -> Result<T, Trouble>
where
    T: Send + 'static,
    L: FnOnce(&Folders) -> Result<T, Error> + Send + 'static,
{
    loop {
        match route.on_files(look()).await {
            Err(trouble) if *left > 0 => {
                *left -= 1;
                warn!(route = route.settings.name.as_str(), code = %trouble.failure.code, error = %trouble.failure.message, "cannot look at files that were taken: looking again");
                tokio::time::sleep(PAUSE).await;
            }
            looked => return looked,
        }
    }
}

/// What lies in a transfer's folder. Trouble with one folder is told, and does not keep the service from running.
async fn found(route: &Arc<Route>, id: TransferId, is_known: bool, left: &mut u32) -> Found {
    match patiently(route, left, || move |folders: &Folders| claim_of(folders, id, is_known)).await {
        Ok(found) => found,
        Err(trouble) => {
            error!(transfer = %id, code = %trouble.failure.code, error = %trouble.failure.message, "cannot read the claim of a file that is being sent");
            Found::Nothing
        }
    }
}

/// A record that does not know of a transfer at Altinn, though the claim beside the file names one, is older than
/// the claim: the store has been set back. Bytes may have left, so Altinn is asked before anything is sent.
async fn catch_up(route: &Arc<Route>, transfer: Transfer, left: &mut u32) -> Result<(), Trouble> {
    let Found::Claim(claim_file) = found(route, transfer.id, true, left).await else { return Ok(()) };
    if claim_file.file_transfer_id.is_some_and(|id| knows(&transfer, id)) {
        return Ok(());
    }
    let now = route.means.now();
    let events = sent_events(&claim_file, now);
    if events.is_empty() {
        return Ok(());
    }
    warn!(transfer = %transfer.id, "the state store is older than the file's claim: going on from the claim");
    // Steps that the record has taken already are refused, and passed over.
    let after = events.into_iter().fold(transfer.clone(), |transfer, event| {
        transfer.clone().after_outgoing(event, now).unwrap_or(transfer)
    });
    route.note(&after);
    route.note_in_flight(&after);
    route.means.store.update(&transfer, after).await.map_err(|error| Trouble::store(&error, now))
}

/// Whether the record has given up on this transfer at Altinn.
fn knows(transfer: &Transfer, id: BrokerTransferId) -> bool {
    matches!(&transfer.work, Work::Outgoing { abandoned, .. } if abandoned.contains(&id))
}

/// What has happened by the claim, where it names a transfer at Altinn. How often bytes were sent is not known: it
/// counts as more than once, so that its history is looked at before anything is sent anew.
fn sent_events(claim_file: &ClaimFile, now: Timestamp) -> Vec<OutgoingEvent> {
    let (Some(dispatch), Some(id)) = (&claim_file.dispatch, claim_file.file_transfer_id) else {
        return Vec::new();
    };
    vec![
        OutgoingEvent::FileTaken,
        OutgoingEvent::Described(dispatch.clone()),
        OutgoingEvent::InitializeIntended { at: claim_file.created },
        OutgoingEvent::Adopted(Booking { id, initialized: claim_file.created }),
        OutgoingEvent::UploadBegun { at: now },
        OutgoingEvent::UploadBegun { at: now },
        OutgoingEvent::LastByteLeaving,
    ]
}

/// What Altinn has not been told yet follows the settings as they are now: a wrong resource or recipient that was
/// corrected since must not go on holding the route.
async fn describe_anew(route: &Arc<Route>, transfer: &Transfer) -> Result<(), Trouble> {
    match &transfer.work {
        Work::Outgoing { progress: Outgoing::Described { .. }, .. } => {
            let (mut transfer, now) = (transfer.clone(), route.means.now());
            // What other settings cannot end is not tried the sooner for a new start.
            let passing = transfer.problem.clone().filter(|problem| passes_by_itself(&problem.code));
            let (attempts, next_attempt) = (transfer.attempts, transfer.next_attempt);
            let change = |before: Transfer| {
                let after = before.after_outgoing(OutgoingEvent::DescriptionOutdated, now)?;
                Ok(match passing {
                    Some(problem) => Transfer { problem: Some(problem), attempts, next_attempt, ..after },
                    None => after,
                })
            };
            route.means.store_change(&mut transfer, change).await
        }
        _ => Ok(()),
    }
}

async fn recover_folder(route: &Arc<Route>, name: OsString, left: &mut u32) -> Result<(), Trouble> {
    let id = name.to_str().and_then(|name| name.parse::<TransferId>().ok());
    let Some(id) = id else {
        if name.as_encoded_bytes().starts_with(PROBE_PREFIX.as_bytes()) {
            // What the folder was tried out with before a death goes with a later trial.
            return Ok(());
        }
        warn!(folder = ?name, "there is something in the sending folder that formidlingd did not put there");
        return Ok(());
    };
    let known = route.means.store.get(id).await;
    match known {
        Ok(None) => {}
        Ok(Some(transfer)) if transfer.broker_id().is_some() => return Ok(()),
        Ok(Some(transfer)) => return catch_up(route, transfer, left).await,
        // An unreadable record is reported by the store; its file is left where it is.
        Err(error) => {
            warn!(transfer = %id, error = %text_for_people(&error), "the record of a file that is being sent cannot be read");
            return Ok(());
        }
    }
    match found(route, id, false, left).await {
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

fn claim_of(folders: &Folders, id: TransferId, is_known: bool) -> Result<Found, Error> {
    let own = match folders.own(id) {
        Ok(own) => own,
        Err(error) if error.is_missing() => return Ok(Found::Nothing),
        Err(error) => return Err(error),
    };
    let claim = own.read_json::<ClaimFile>(CLAIM, MAX_CLAIM_BYTES)?.filter(|claim| claim.transfer_id == id);
    let has_file = own.look(FILE)?.is_some() || own.look(SIDECAR)?.is_some();
    match claim {
        Some(claim) if has_file || claim.file_transfer_id.is_some() => Ok(Found::Claim(Box::new(claim))),
        None if has_file => Ok(Found::Unclaimed),
        // Its record says whether there has to be a file.
        _ if is_known => Ok(Found::Nothing),
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
    let events = sent_events(&claim_file, now);
    let ClaimFile { transfer_id, created, claim, .. } = claim_file;
    let transfer = Transfer::outgoing(transfer_id, route.settings.name.clone(), claim, created);
    let transfer =
        events.into_iter().try_fold(transfer, |transfer, event| transfer.after_outgoing(event, now));
    let transfer = transfer.map_err(|illegal| Trouble::illegal(illegal, now))?;
    route.note(&transfer);
    route.note_in_flight(&transfer);
    match route.means.store.insert(transfer).await {
        Ok(()) => {
            seams::crash_point("claims:adopted");
            Ok(())
        }
        Err(error) => Err(Trouble { kind: Kind::Fatal, ..Trouble::store(&error, now) }),
    }
}
