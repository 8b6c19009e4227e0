//! Making a file ours: sidecar and file are moved, without overwriting, into a folder of their own, and both
//! folders are synced, so that neither a crash nor a loss of power leaves it in doubt whose the file is.

use super::candidate::Source;
use super::folders::{CLAIM, FILE, Folders, SIDECAR};
use super::observe::sidecar;
use crate::files::{Dir, EntryKind, Error, Mode};
use crate::seams::crash_point;
use crate::transfer::document::{ClaimFile, to_json};
use crate::transfer::{Claim, Companion, TransferId};

/// Whether the file became ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// It lies in our folder, durably.
    Ours,
    /// It is not there any more, or is being changed: it stays whoever's it is.
    Withdrawn,
    /// The system does not let it be moved out of its folder.
    Immovable,
    /// Nothing can be moved out of its folder, which is another mount.
    ImmovableFolder,
}

/// The sidecar's name in the drop folder.
pub(super) fn sidecar_name(file_name: &str) -> String {
    format!("{file_name}{}", Companion::Metadata.suffix())
}

/// Takes a file whose claim is durable in the store. May be repeated after a crash at any point.
pub(super) fn take(
    folders: &Folders,
    id: TransferId,
    claim: &Claim,
    claim_file: &ClaimFile,
) -> Result<Taken, Error> {
    let source = match folders.source(&Source::of(claim)) {
        Ok(source) => source,
        Err(error) if error.is_missing() => return withdraw(folders, None, id, claim),
        Err(error) => return Err(error),
    };
    let own = folders.sending.ensure_subfolder(id.to_string(), Mode::PRIVATE_FOLDER)?;
    if own.look(FILE)?.is_none() {
        write_claim(&own, claim_file)?;
        crash_point("claim:written");
        if !is_still_there(&source, claim)? {
            return withdraw(folders, Some(&source), id, claim);
        }
        if claim.sidecar && own.look(SIDECAR)?.is_none() {
            sync_content(&source, &sidecar_name(&claim.name))?;
            match source.move_to(sidecar_name(&claim.name), &own, SIDECAR) {
                Ok(()) => {}
                Err(error) => return not_moved(folders, &source, id, claim, error),
            }
        }
        if !claim.sidecar && folders.reads_sidecars && sidecar(&source, &claim.name)?.is_some() {
            // It came after the file was looked at, and may say who the file is for.
            return withdraw(folders, Some(&source), id, claim);
        }
        crash_point("claim:sidecar_moved");
        // A network file system may answer a repeated rename with an error though it was carried out.
        if let Err(error) = source.move_to(&claim.name, &own, FILE)
            && own.look(FILE)?.is_none()
        {
            return not_moved(folders, &source, id, claim, error);
        }
    }
    if !is_what_was_seen(&own, claim)? {
        // Something else was put under the name in the last moment: it is not what was claimed.
        give_back(&own, &source, id, claim)?;
        return withdraw(folders, Some(&source), id, claim);
    }
    crash_point("claim:renamed");
    unlink_twin(&source, &claim.name, &own, FILE)?;
    if claim.sidecar {
        fetch_sidecar(&source, &own, claim)?;
        // One that stayed would be the sidecar of the next file of this name.
        unlink_twin(&source, &sidecar_name(&claim.name), &own, SIDECAR)?;
    }
    own.sync()?;
    source.sync()?;
    crash_point("claim:synced");
    Ok(Taken::Ours)
}

/// Takes a file again that was taken before, if it is back where it was dropped and nowhere else; whether it was.
pub(super) fn take_back(
    folders: &Folders,
    id: TransferId,
    claim: &Claim,
    claim_file: &ClaimFile,
) -> Result<bool, Error> {
    match folders.own(id) {
        Ok(own) if own.look(FILE)?.is_some() => return Ok(false),
        Err(error) if !error.is_missing() => return Err(error),
        _ => {}
    }
    let source = match folders.source(&Source::of(claim)) {
        Ok(source) => source,
        Err(error) if error.is_missing() => return Ok(false),
        Err(error) => return Err(error),
    };
    let is_it = source.look(&claim.name)?.is_some_and(|entry| entry.identity.is_same_file(&claim.file));
    Ok(is_it && take(folders, id, claim, claim_file)? == Taken::Ours)
}

/// A file that could not be moved stays where it is. Where that is for good (the folder is not writable, or lies on
/// another mount), it is said.
fn not_moved(
    folders: &Folders,
    source: &Dir,
    id: TransferId,
    claim: &Claim,
    error: Error,
) -> Result<Taken, Error> {
    if error.is_missing() {
        return withdraw(folders, Some(source), id, claim);
    }
    let immovable = if error.is_cross_device() {
        Taken::ImmovableFolder
    } else if error.is_forbidden() {
        Taken::Immovable
    } else {
        return Err(error);
    };
    withdraw(folders, Some(source), id, claim)?;
    Ok(immovable)
}

/// Moves the sidecar of a file that is ours already, if a loss of power has undone that move alone.
pub(super) fn fetch_sidecar(source: &Dir, own: &Dir, claim: &Claim) -> Result<(), Error> {
    if own.look(SIDECAR)?.is_some() {
        return Ok(());
    }
    match source.move_to(sidecar_name(&claim.name), own, SIDECAR) {
        Err(error) if error.is_missing() => Ok(()),
        moved => moved,
    }
}

/// Whether what was moved is the file that was seen, however much it has been written since.
fn is_what_was_seen(own: &Dir, claim: &Claim) -> Result<bool, Error> {
    let taken = own.look(FILE)?.filter(|entry| entry.kind == EntryKind::File);
    Ok(taken.is_some_and(|entry| entry.identity.inode == claim.file.inode))
}

/// Puts what was moved by mistake back under its name, or beside it if the name is taken.
fn give_back(own: &Dir, source: &Dir, id: TransferId, claim: &Claim) -> Result<(), Error> {
    let moved = match own.move_to(FILE, source, &claim.name) {
        Err(error) if error.is_taken() => own.move_to(FILE, source, format!("{}~{}", claim.name, id.short())),
        moved => moved,
    };
    match moved {
        Err(error) if error.is_missing() => Ok(()),
        moved => moved.and_then(|()| source.sync()),
    }
}

/// Where a move is a link and an unlink (NFS, CIFS), a crash between the two leaves the file under both names.
fn unlink_twin(source: &Dir, name: &str, own: &Dir, own_name: &str) -> Result<(), Error> {
    let inode = |entry: crate::files::Entry| (entry.identity.device, entry.identity.inode);
    match (source.look(name)?.map(inode), own.look(own_name)?.map(inode)) {
        (Some(left), Some(taken)) if left == taken => source.remove_file(name),
        _ => Ok(()),
    }
}

/// Writes what is known of the claim beside the file.
pub(super) fn write_claim(own: &Dir, claim_file: &ClaimFile) -> Result<(), Error> {
    own.replace(CLAIM, &to_json(claim_file), Mode::PRIVATE_FILE)
}

/// Whether the file is still the one that was seen; its content is then made durable.
fn is_still_there(source: &Dir, claim: &Claim) -> Result<bool, Error> {
    let file = match source.open_file(&claim.name) {
        Ok(file) => file,
        Err(error) if error.is_missing() => return Ok(false),
        Err(error) => return Err(error),
    };
    let entry = source.entry_of(&file, &claim.name)?;
    if entry.kind != EntryKind::File || !entry.identity.is_same_file(&claim.file) {
        return Ok(false);
    }
    source.sync_file(&file, &claim.name)?;
    Ok(true)
}

/// Makes the content of a sidecar durable, as that of its file was: torn, it would put the file aside.
fn sync_content(source: &Dir, name: &str) -> Result<(), Error> {
    match source.open_file(name) {
        Ok(file) => source.sync_file(&file, name),
        // The move says so.
        Err(error) if error.is_missing() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Leaves the file where it is, and puts a sidecar that was moved already back beside it.
fn withdraw(folders: &Folders, source: Option<&Dir>, id: TransferId, claim: &Claim) -> Result<Taken, Error> {
    let own = match folders.own(id) {
        Ok(own) => own,
        Err(error) if error.is_missing() => {
            // It may have gone a moment ago, and only its sync have failed: with the claim it would be back.
            folders.sending.sync()?;
            return Ok(Taken::Withdrawn);
        }
        Err(error) => return Err(error),
    };
    if own.look(SIDECAR)?.is_some() {
        let Some(source) = source else { return Ok(Taken::Withdrawn) };
        match own.move_to(SIDECAR, source, sidecar_name(&claim.name)) {
            // A newer sidecar stands there: it is the one that counts.
            Err(error) if error.is_taken() => own.remove_file(SIDECAR)?,
            moved => moved?,
        }
        source.sync()?;
    }
    remove_own(folders, &own, id)?;
    Ok(Taken::Withdrawn)
}

/// Removes a transfer's folder under `sending/` when everything has been moved out of it.
pub(super) fn remove_own(folders: &Folders, own: &Dir, id: TransferId) -> Result<(), Error> {
    own.remove_file(CLAIM)?;
    folders.sending.remove_folder(id.to_string())?;
    folders.sending.sync()
}
