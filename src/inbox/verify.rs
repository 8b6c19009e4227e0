//! What lies in `incoming/` and `delivered/`, held against what the store remembers.

use super::folders::{FILE, Marker, PRIVATE, WHOLE};
use crate::config;
use crate::files::{Dir, Error};
use crate::route::verifying;
use crate::store::{self, Finding, Store};
use crate::transfer::document::MAX_COMPANION_BYTES;
use crate::transfer::{BrokerTransferId, Incoming, Transfer, TransferId, Work};

/// Tells what of an inbox does not fit. Changes nothing. Blocks.
pub fn verify(
    settings: &config::Inbox,
    store: &Store,
    tell: &mut dyn FnMut(Finding),
) -> Result<(), store::Error> {
    let folders = Dir::open(&settings.path)
        .and_then(|inbox| inbox.subfolder(PRIVATE))
        .and_then(|private| Ok((private.subfolder("incoming")?, private.subfolder("delivered")?)));
    let (incoming, delivered) = match folders {
        Ok(folders) => folders,
        // Nothing has been received yet, or everything is away: the service waits for it.
        Err(error) => {
            let away = verifying::Away {
                route: &settings.name,
                path: &settings.path,
                error: &error,
                what: "files that are being received",
                remedy: "see that the folder is mounted, and is the one that the inbox has used",
            };
            return away.tell(store, &has_begun, tell);
        }
    };
    partial_downloads(&incoming, store, tell)?;
    markers(&delivered, tell);
    store.for_each_of(&settings.name, &mut |transfer| {
        if let Some(problem) = lacks(&incoming, &delivered, transfer) {
            tell(Finding {
                subject: format!("transfer {}", transfer.id),
                problem: problem.to_owned(),
                remedy: "see that the folder is the one that the inbox has used, and is mounted; if files were \
                         deleted from .formidlingd, put them back from a backup, or report it",
            });
        }
    })
}

/// Whether something of it may lie beside the inbox.
fn has_begun(transfer: &Transfer) -> bool {
    let Work::Incoming { progress, .. } = &transfer.work else { return false };
    !matches!(progress, Incoming::Discovered { .. })
}

fn partial_downloads(
    incoming: &Dir,
    store: &Store,
    tell: &mut dyn FnMut(Finding),
) -> Result<(), store::Error> {
    let names = match incoming.names() {
        Ok(names) => names,
        Err(error) => {
            tell(unreadable(incoming, &error));
            return Ok(());
        }
    };
    for name in names {
        let Some(id) = verifying::id_of::<TransferId>(incoming, &name, tell) else { continue };
        let subject = verifying::subject(incoming, &name);
        match store.look(id) {
            Ok(Some(_)) | Err(store::Error::Unreadable { .. }) => {}
            Ok(None) => tell(Finding {
                subject,
                problem: "a partial download has no record: the state was lost, or is older".to_owned(),
                remedy: "start the service: it is removed, and fetched anew if it was not delivered",
            }),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn unreadable(folder: &Dir, error: &Error) -> Finding {
    Finding {
        subject: folder.path().display().to_string(),
        problem: format!("it cannot be read: {}", error.full_message()),
        remedy: error.remedy(),
    }
}

/// Each keeps one file from being delivered again.
fn markers(delivered: &Dir, tell: &mut dyn FnMut(Finding)) {
    let names = match delivered.names() {
        Ok(names) => names,
        Err(error) => return tell(unreadable(delivered, &error)),
    };
    for name in names {
        let Some(id) = verifying::id_of::<BrokerTransferId>(delivered, &name, tell) else { continue };
        let subject = verifying::subject(delivered, &name);
        let is_whole = match delivered.read_json::<Marker>(&name, MAX_COMPANION_BYTES) {
            Ok(marker) => marker.is_some_and(|marker| marker.offer.id == id),
            Err(error) => {
                tell(Finding { subject, problem: error.full_message(), remedy: error.remedy() });
                continue;
            }
        };
        if !is_whole {
            tell(Finding {
                subject,
                problem: "it is not what was written: it does not keep its file from being delivered again"
                    .to_owned(),
                remedy: "put it back from a backup; if the file was confirmed, nothing need be done",
            });
        }
    }
}

/// What a transfer should have in the folders, and has not.
fn lacks(incoming: &Dir, delivered: &Dir, transfer: &Transfer) -> Option<&'static str> {
    let Work::Incoming { progress, .. } = &transfer.work else { return None };
    let has_own = || match incoming.subfolder(transfer.id.to_string()) {
        Ok(own) => own.look(FILE).ok().flatten().is_some() || own.look(WHOLE).ok().flatten().is_some(),
        Err(error) => !error.is_missing(),
    };
    match progress {
        Incoming::Downloaded { .. } if !has_own() => Some("what was downloaded is not there any more"),
        Incoming::Delivering { offer, .. }
            if !has_own() && delivered.look(offer.id.to_string()).ok().flatten().is_none() =>
        {
            Some("neither its file nor the marker of its delivery is there")
        }
        _ => None,
    }
}
