//! What of a transfer lies in the folders of its route, by what its record says. Looks, and changes nothing.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::config::Config;
use crate::transfer::{Archive, Companion, Incoming, Outgoing, Place, Transfer, Work};

/// More than any companion of ours has.
const MAX_COMPANION_BYTES: u64 = 1 << 20;

/// The files of a finished transfer that are still where they were laid down; `None` where its route is not in the
/// configuration any more.
pub(super) fn remains(config: &Config, transfer: &Transfer) -> Option<Vec<PathBuf>> {
    let id = transfer.id.to_string();
    match &transfer.work {
        Work::Outgoing { progress, .. } => {
            let outbox = config.outboxes.get(&transfer.route)?;
            let sent = outbox.archive_path.clone().unwrap_or_else(|| outbox.path.join("sent"));
            Some(match progress {
                Outgoing::Completed { publication, .. }
                | Outgoing::Expired { publication, .. }
                | Outgoing::Published { publication, .. } => match &publication.archive {
                    Archive::Due => Vec::new(),
                    Archive::Intended(place) | Archive::Done(place) => {
                        laid_down(&sent, place, Companion::Receipt, &id)
                    }
                },
                Outgoing::Failing { place, .. } | Outgoing::Failed { place, .. } => {
                    laid_down(&outbox.path.join("failed"), place, Companion::Error, &id)
                }
                _ => Vec::new(),
            })
        }
        Work::Incoming { progress, .. } => {
            let inbox = config.inboxes.get(&transfer.route)?;
            let (private, offer) = (inbox.path.join(".formidlingd"), progress.offer().id.to_string());
            let mut paths = match progress {
                Incoming::Delivered { delivery, .. } | Incoming::Confirmed { delivery, .. } => {
                    let place = &delivery.place;
                    let folder = place.folder.as_ref().map(|folder| inbox.path.join(folder.as_str()));
                    let file = folder.unwrap_or_else(|| inbox.path.clone()).join(place.name.as_str());
                    with_companions(&file, Companion::Metadata, "fileTransferId", &offer)
                }
                _ => Vec::new(),
            };
            // What keeps it from being delivered again, and what was put aside.
            paths.extend(there(private.join("delivered").join(offer)));
            paths.extend(there(private.join("rejected").join(id)));
            Some(paths)
        }
    }
}

fn laid_down(folder: &Path, place: &Place, companion: Companion, id: &str) -> Vec<PathBuf> {
    let folder = place.date.as_ref().map_or_else(|| folder.to_owned(), |date| folder.join(date));
    with_companions(&folder.join(place.name.as_str()), companion, "transferId", id)
}

/// The file and what stands beside it, unless the companion says that the name has been given to another transfer
/// since.
fn with_companions(file: &Path, telling: Companion, member: &str, id: &str) -> Vec<PathBuf> {
    let beside = |companion: Companion| {
        let mut path = file.as_os_str().to_owned();
        path.push(companion.suffix());
        PathBuf::from(path)
    };
    if told(&beside(telling), member).is_some_and(|told| told != id) {
        return Vec::new();
    }
    let companions = Companion::ALL.map(beside);
    std::iter::once(file.to_owned()).chain(companions).filter_map(there).collect()
}

fn told(companion: &Path, member: &str) -> Option<String> {
    let metadata = std::fs::symlink_metadata(companion).ok()?;
    if !metadata.is_file() || metadata.len() > MAX_COMPANION_BYTES {
        return None;
    }
    let told: Value = serde_json::from_slice(&std::fs::read(companion).ok()?).ok()?;
    told.get(member)?.as_str().map(str::to_owned)
}

/// The path, unless nothing is there. What cannot be looked at counts as there.
fn there(path: PathBuf) -> Option<PathBuf> {
    match std::fs::symlink_metadata(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        _ => Some(path),
    }
}
