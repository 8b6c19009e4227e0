//! What lies in `sending/`, held against what the store remembers.

use super::folders::{CLAIM, FILE, PRIVATE};
use crate::config;
use crate::files::{Dir, Error};
use crate::route::verifying;
use crate::store::{self, Finding, Store};
use crate::transfer::document::{ClaimFile, MAX_COMPANION_BYTES};
use crate::transfer::{Archive, Outgoing, Transfer, TransferId, Work};

/// Tells what of an outbox does not fit. Changes nothing. Blocks.
pub fn verify(
    settings: &config::Outbox,
    store: &Store,
    tell: &mut dyn FnMut(Finding),
) -> Result<(), store::Error> {
    let sending = Dir::open(&settings.path)
        .and_then(|drop| drop.subfolder(PRIVATE))
        .and_then(|private| private.subfolder("sending"));
    let (sending, names) = match sending.and_then(|sending| Ok((sending.names()?, sending))) {
        Ok((names, sending)) => (sending, names),
        Err(error) => {
            let away = verifying::Away {
                route: &settings.name,
                path: &settings.path,
                error: &error,
                what: "files that are being sent",
                remedy: "see that the folder is mounted, and is the one that the outbox has used",
            };
            return away.tell(store, &must_lie_there, tell);
        }
    };
    for name in names {
        let Some(id) = verifying::id_of::<TransferId>(&sending, &name, tell) else { continue };
        let subject = verifying::subject(&sending, &name);
        let mut tell = |problem: &str, remedy| {
            tell(Finding { subject: subject.clone(), problem: problem.to_owned(), remedy });
        };
        match claim_of(&sending, id) {
            Ok((claim, has_file)) => match store.look(id) {
                Ok(record) => compare(record.as_ref(), claim.as_ref(), has_file, settings, &mut tell),
                // What cannot be read is told of already.
                Err(store::Error::Unreadable { .. }) => {}
                Err(error) => return Err(error),
            },
            Err(error) if error.is_missing() => {}
            Err(error) => tell(&error.full_message(), error.remedy()),
        }
    }
    store.for_each_of(&settings.name, &mut |transfer| {
        if must_lie_there(transfer)
            && let Ok(false) = has_file(&sending, transfer.id)
        {
            tell(Finding {
                subject: format!("transfer {}", transfer.id),
                problem: format!("its file is not in {}", sending.path().display()),
                remedy: "the service takes it again if it is back where it was dropped; otherwise put it back under \
                         the name file in the folder of that id",
            });
        }
    })
}

fn claim_of(sending: &Dir, id: TransferId) -> Result<(Option<ClaimFile>, bool), Error> {
    let own = sending.subfolder(id.to_string())?;
    let claim = own.read_json::<ClaimFile>(CLAIM, MAX_COMPANION_BYTES)?;
    Ok((claim.filter(|claim| claim.transfer_id == id), own.look(FILE)?.is_some()))
}

fn has_file(sending: &Dir, id: TransferId) -> Result<bool, Error> {
    match sending.subfolder(id.to_string()) {
        Ok(own) => Ok(own.look(FILE)?.is_some()),
        Err(error) if error.is_missing() => Ok(false),
        Err(error) => Err(error),
    }
}

fn compare(
    record: Option<&Transfer>,
    claim: Option<&ClaimFile>,
    has_file: bool,
    settings: &config::Outbox,
    tell: &mut dyn FnMut(&str, &'static str),
) {
    let Some(record) = record else {
        match (claim, has_file) {
            (Some(_), true) => tell(
                "a file that is being sent has no record: the state was lost, or is older than the file's claim",
                "start the service: it goes on from the claim, and asks Altinn before it sends anything",
            ),
            (None, true) => tell(
                "a file has neither a record nor a readable claim",
                "move it to the drop folder if it is to be sent, or away if not",
            ),
            // What is left of a claim that was never carried out, or of a folder that was being removed.
            (_, false) => {}
        }
        return;
    };
    if record.route != settings.name {
        tell("its record is of another route", "report it; nothing is sent meanwhile");
    }
    let Work::Outgoing { abandoned, .. } = &record.work else {
        return tell("its record is of a file that is received", "report it");
    };
    if let Some(id) = claim.and_then(|claim| claim.file_transfer_id)
        && record.broker_id() != Some(id)
        && !abandoned.contains(&id)
    {
        tell(
            "its claim names a transfer at Altinn that its record does not know: the state is older than the claim",
            "start the service: it goes on from the claim, and asks Altinn before it sends anything",
        );
    }
}

/// Whether the file can be nowhere but in `sending/`.
fn must_lie_there(transfer: &Transfer) -> bool {
    let Work::Outgoing { progress, .. } = &transfer.work else { return false };
    match progress {
        // Here it may still be where it was dropped, or lie where it is going already.
        Outgoing::Claiming | Outgoing::Failing { .. } => false,
        Outgoing::Published { publication, .. } => publication.archive == Archive::Due,
        progress => progress.holds_file(),
    }
}
