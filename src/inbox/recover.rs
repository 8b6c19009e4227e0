//! What was under way before this start: records that wait in the store, and partial downloads whose record was
//! lost with it.

use std::sync::Arc;

use tracing::warn;

use super::Route;
use super::download::{FULL, TOO_LARGE};
use super::folders::{FILE, Folders, WHOLE};
use crate::files::Error;
use crate::route::Trouble;
use crate::transfer::{Transfer, TransferId};

/// Codes of trouble that other settings would end.
const WAIT_FOR_SETTINGS: [&str; 3] = [TOO_LARGE, FULL, "not_enough_room"];

/// Counts what the store has, and removes partial downloads that it does not know: Altinn still has those files,
/// and they are fetched anew.
pub(super) async fn recover(route: &Arc<Route>) -> Result<(), Trouble> {
    let mut seen = None;
    while let Some(transfers) = route.means.next_active(&route.settings.name, &mut seen).await? {
        for transfer in transfers {
            route.note(&transfer);
            look_again(route, transfer).await?;
        }
    }
    let listed = route.on_files(|folders| folders.incoming.names()).await;
    for name in listed.unwrap_or_default() {
        let Some(id) = name.to_str().and_then(|name| name.parse::<TransferId>().ok()) else {
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
    Ok(())
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
    let whole = own.look(WHOLE)?.is_some();
    if whole || own.look(FILE)?.is_some() {
        folders.remove_markers_of(id)?;
    }
    if whole {
        let inside = own.subfolder(WHOLE)?;
        for name in inside.names()? {
            inside.remove_file(&name)?;
        }
        own.remove_folder(WHOLE)?;
    }
    folders.remove_own(id)
}
