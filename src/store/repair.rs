//! The repair of a damaged database, as far as one is safe.
//!
//! sled writes what it has found in its log to `snap.*` whenever it opens, and begins there the next time. Without it,
//! everything is found by reading the whole log. But not always: sled uses a part of the log anew once a snapshot
//! makes it superfluous, and then it may take what is left for an empty log (at 15 of 480 openings that were tried). So
//! the newest snapshot is kept once more, under a name that sled does not read.
//!
//! Remedies are tried with a copy, beside the database. Only one that helps takes its place.

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::{Error, disk};
use crate::seams::crash_point;

/// What sled calls its snapshots.
const SNAPSHOT: &str = "snap.";
/// How the name of one ends that is not written whole. sled 0.34 takes it for one that is.
const UNFINISHED: &str = ".generating";
/// The second copy of the newest snapshot: this, and the name of the snapshot.
const KEPT: &str = "kept-";
/// The second copy before it is whole.
const KEPT_UNFINISHED: &str = "new-kept-snapshot";

/// How a database can be opened after damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remedy {
    /// With the second copy of the snapshot.
    KeptSnapshot,
    /// From the log alone.
    LogAlone,
}

/// Removes what a death left of a snapshot that was being written. The one before it is still there.
pub(super) fn remove_unfinished(database: &Path) -> Result<(), Error> {
    for name in names(database)? {
        if (name.starts_with(SNAPSHOT) && name.ends_with(UNFINISHED)) || name == KEPT_UNFINISHED {
            disk::remove_file(&database.join(name))?;
        }
    }
    Ok(())
}

/// Puts the second copy in the place of a snapshot that is gone. sled would take the log alone, which may look empty to
/// it, and then it writes over what there is.
pub(super) fn replace_missing(database: &Path) -> Result<(), Error> {
    let names = names(database)?;
    if names.iter().any(|name| name.starts_with(SNAPSHOT)) {
        return Ok(());
    }
    let kept = names.iter().filter_map(|name| Some((name, name.strip_prefix(KEPT)?))).max();
    let Some((kept, snapshot)) = kept else { return Ok(()) };
    tracing::warn!(?database, snapshot, "the database's snapshot is gone: its second copy takes its place");
    let unfinished = database.join(format!("{snapshot}{UNFINISHED}"));
    disk::copy_file(&database.join(kept), &unfinished)?;
    rename(&unfinished, &database.join(snapshot))
}

/// Keeps the newest snapshot of a database that was just opened once more. Has to be done before the database is
/// changed: from then on, sled may write over what only an older snapshot needs.
pub(super) fn keep_snapshot(database: &Path) -> Result<(), Error> {
    let names = names(database)?;
    let newest = names.iter().filter(|name| name.starts_with(SNAPSHOT)).max();
    let kept_name = newest.map(|name| format!("{KEPT}{name}"));
    let is_kept = |name: &String| Some(name) == kept_name.as_ref();
    if let Some((newest, kept)) = newest.zip(kept_name.as_ref())
        && !names.iter().any(is_kept)
    {
        let unfinished = database.join(KEPT_UNFINISHED);
        disk::copy_file(&database.join(newest), &unfinished)?;
        crash_point("snapshot:copied");
        rename(&unfinished, &database.join(kept))?;
    }
    for name in names.iter().filter(|name| name.starts_with(KEPT) && !is_kept(name)) {
        disk::remove_file(&database.join(name))?;
    }
    Ok(())
}

/// What can be tried with a database, the best first.
pub(super) fn remedies(database: &Path) -> Result<Vec<Remedy>, Error> {
    let names = names(database)?;
    let has_kept = names.iter().any(|name| name.starts_with(KEPT));
    let has_snapshots = names.iter().any(|name| name.starts_with(SNAPSHOT));
    let kept = has_kept.then_some(Remedy::KeptSnapshot);
    Ok(kept.into_iter().chain((has_kept || has_snapshots).then_some(Remedy::LogAlone)).collect())
}

/// Where a remedy is tried, so that nothing is changed where it does not help.
pub(super) fn trial(state: &Path) -> PathBuf {
    state.join("repairing")
}

/// What helped, until it is in its place.
fn repaired(state: &Path) -> PathBuf {
    state.join("repaired")
}

/// Makes a copy of the database to try `remedy` with.
pub(super) fn prepare(remedy: Remedy, state: &Path, database: &Path) -> Result<PathBuf, Error> {
    let trial = trial(state);
    disk::remove_dir(&trial)?;
    disk::copy_dir(database, &trial)?;
    let names = names(&trial)?;
    for name in names.iter().filter(|name| name.starts_with(SNAPSHOT)) {
        disk::remove_file(&trial.join(name))?;
    }
    for name in names.iter().filter(|name| name.starts_with(KEPT)) {
        match (remedy, name.strip_prefix(KEPT)) {
            (Remedy::KeptSnapshot, Some(snapshot)) => {
                disk::copy_file(&trial.join(name), &trial.join(snapshot))?;
            }
            // Else it would be taken for one that is missing.
            _ => disk::remove_file(&trial.join(name))?,
        }
    }
    disk::sync_dir(&trial)?;
    crash_point("repair:prepared");
    Ok(trial)
}

/// Puts what was tried with success in the place of the damaged database, which is kept; says where.
pub(super) fn adopt(state: &Path, database: &Path, now: Timestamp) -> Result<PathBuf, Error> {
    let (repaired, damaged) = (repaired(state), damaged_path(state, now));
    rename(&trial(state), &repaired)?;
    crash_point("repair:found");
    rename(database, &damaged)?;
    crash_point("repair:set_aside");
    rename(&repaired, database)?;
    crash_point("repair:placed");
    Ok(damaged)
}

/// Ends what a death has left of a repair.
pub(super) fn finish(state: &Path, database: &Path) -> Result<(), Error> {
    disk::remove_dir(&trial(state))?;
    let repaired = repaired(state);
    let is_there = |path: &Path| path.try_exists().map_err(|source| Error::io("look at", path, source));
    if is_there(&repaired)? && !is_there(database)? {
        rename(&repaired, database)?;
    }
    disk::remove_dir(&repaired)
}

/// Renames within a directory, durably.
fn rename(from: &Path, to: &Path) -> Result<(), Error> {
    std::fs::rename(from, to).map_err(|source| Error::io("rename", from, source))?;
    to.parent().map_or(Ok(()), disk::sync_dir)
}

/// Where a damaged database is kept.
pub(super) fn damaged_path(state: &Path, now: Timestamp) -> PathBuf {
    let mut path = state.join(format!("damaged-{}", now.strftime("%Y%m%dT%H%M%S%.3fZ")));
    while path.exists() {
        path.as_mut_os_string().push("-again");
    }
    path
}

/// The names of everything in a database's directory, if there is one.
fn names(database: &Path) -> Result<Vec<String>, Error> {
    if !database.try_exists().map_err(|source| Error::io("look at", database, source))? {
        return Ok(Vec::new());
    }
    let entries = disk::read_dir(database)?.into_iter();
    Ok(entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
}
