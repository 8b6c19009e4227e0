//! Laying a file down with its companion: in `sent/` with a receipt, in `failed/` with an error file. The
//! companion comes first, so that whoever sees the file sees what became of it.

use super::folders::{FILE, Folders, SIDECAR};
use super::take::remove_own;
use crate::files::{Access, Dir, Error};
use crate::seams::crash_point;
use crate::transfer::document::MAX_COMPANION_BYTES;
use crate::transfer::{Companion, Place, SafeFileName, Sha256, TransferId};

/// What is laid down.
#[derive(Debug)]
pub(super) struct Laying<'a> {
    /// Whose file it is.
    pub(super) id: TransferId,
    /// Where it goes.
    pub(super) place: &'a Place,
    /// What stands beside it.
    pub(super) companion: Companion,
    /// The companion's content.
    pub(super) document: &'a [u8],
    /// Whether the file itself is kept.
    pub(super) keep_file: bool,
    /// The content that was sent, where it is known: a copy is compared with it.
    pub(super) content: Option<Sha256>,
}

/// Whether it could be laid down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Laid {
    /// File and companion are there, durably, and our own folder is gone.
    Down,
    /// Somebody else's file has taken the name; nothing was laid down, and another name is to be chosen.
    NameTaken,
}

/// Chooses a name that is free in the folder, for the file and all its companions: the file's own name, or one
/// told apart by the transfer's id. The same question gets the same answer, unless the folder has changed.
pub(super) fn choose(
    folders: &Folders,
    date: Option<String>,
    name: &SafeFileName,
    id: TransferId,
) -> Result<Place, Error> {
    let own_name = Place { date: date.clone(), name: name.clone() };
    let into = folders.place(&own_name)?;
    let distinguished = name.distinguished(&id.short());
    for candidate in [name, &distinguished] {
        if is_free(&into, candidate, id)? {
            return Ok(Place { date, name: candidate.clone() });
        }
    }
    // Eight digits that collide, too: the whole id does not.
    Ok(Place { date, name: name.distinguished(&id.to_string()) })
}

/// Whether nothing of that name is there but what this transfer has laid down, as far as it came before a crash after
/// which the store does not know of it.
fn is_free(into: &Dir, name: &SafeFileName, id: TransferId) -> Result<bool, Error> {
    for companion in [Companion::Receipt, Companion::Error] {
        let companion = name.companion(companion);
        if into.look(&companion)?.is_some() && is_ours(into, &companion, id)? {
            return Ok(true);
        }
    }
    if into.look(name.as_str())?.is_some() {
        return Ok(false);
    }
    for companion in Companion::ALL {
        let companion = name.companion(companion);
        if into.look(&companion)?.is_some() && !is_ours(into, &companion, id)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether a companion that is there already is this transfer's, from before a crash.
fn is_ours(into: &Dir, companion: &str, id: TransferId) -> Result<bool, Error> {
    let document = match into.read_json::<serde_json::Value>(companion, MAX_COMPANION_BYTES) {
        Ok(document) => document.unwrap_or_default(),
        // We can read what is ours.
        Err(error) if error.is_forbidden() || error.source.raw_os_error().is_none() => return Ok(false),
        Err(error) => return Err(error),
    };
    Ok(document.get("transferId").and_then(serde_json::Value::as_str) == Some(&id.to_string()))
}

/// Lays file and companion down where the store says they are to be. May be repeated after a crash at any
/// point.
pub(super) fn lay_down(folders: &Folders, laying: &Laying<'_>) -> Result<Laid, Error> {
    let name = &laying.place.name;
    let into = folders.place(laying.place)?;
    let companion = name.companion(laying.companion);
    let is_first = match into.create(&companion, laying.document, folders.access) {
        Ok(()) => true,
        Err(error) if error.is_taken() && is_ours(&into, &companion, laying.id)? => false,
        Err(error) if error.is_taken() => return Ok(Laid::NameTaken),
        Err(error) => return Err(error),
    };
    crash_point("lay_down:companion");
    let own = match folders.own(laying.id) {
        Ok(own) => own,
        // This is not the folder that it was taken into.
        Err(error) if error.is_missing() && is_first && laying.keep_file => {
            into.remove_file(&companion)?;
            return Err(error);
        }
        // Everything was moved, and only the store did not hear of it. The folder must not be back after a loss of
        // power: its claim would be taken for that of a file that is still to be sent.
        Err(error) if error.is_missing() => {
            folders.sending.sync()?;
            return Ok(Laid::Down);
        }
        Err(error) => return Err(error),
    };
    if own.look(FILE)?.is_some() {
        if laying.keep_file {
            match move_or_copy(&own, FILE, &into, name.as_str(), laying.content, folders.access) {
                Err(error) if error.is_taken() => {
                    into.remove_file(&companion)?;
                    return Ok(Laid::NameTaken);
                }
                moved => moved?,
            }
        } else {
            own.remove_file(FILE)?;
        }
    }
    crash_point("lay_down:moved");
    if own.look(SIDECAR)?.is_some() {
        match move_or_copy(&own, SIDECAR, &into, &name.companion(Companion::Metadata), None, folders.access) {
            Err(error) if error.is_taken() => {
                let other = name.distinguished(&laying.id.to_string()).companion(Companion::Metadata);
                move_or_copy(&own, SIDECAR, &into, &other, None, folders.access)?;
            }
            moved => moved?,
        }
    }
    into.sync()?;
    own.sync()?;
    crash_point("lay_down:synced");
    remove_own(folders, &own, laying.id)?;
    Ok(Laid::Down)
}

/// The archive may lie on another file system.
fn move_or_copy(
    own: &Dir,
    name: &str,
    into: &Dir,
    new_name: &str,
    content: Option<Sha256>,
    access: Access,
) -> Result<(), Error> {
    match own.move_to(name, into, new_name) {
        // Others' files may not be linked, where a move is a link and an unlink.
        Err(error) if error.is_cross_device() || error.is_forbidden() => {
            own.copy_to(name, into, new_name, content, access)
        }
        moved => moved,
    }
}

/// Brings a companion that is still where it was laid down up to date. One that somebody has moved away is
/// theirs, and stays as it is.
pub(super) fn refresh(
    folders: &Folders,
    place: &Place,
    companion: Companion,
    document: &[u8],
) -> Result<(), Error> {
    let into = folders.place(place)?;
    let companion = place.name.companion(companion);
    if into.look(&companion)?.is_some() { into.replace(companion, document, folders.access) } else { Ok(()) }
}
