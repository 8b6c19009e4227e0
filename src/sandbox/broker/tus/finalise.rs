//! What follows an accepted chunk by itself: its block is stored, and when all are there, they are
//! joined to the transfer's content (Broker API, TUS: finalisation).

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use md5::{Digest as _, Md5};
use uuid::Uuid;

use super::desk::{Block, Desk, MAX_BLOCKS, Pending, Target};
use super::store::is_over;
use crate::sandbox::Keep;
use crate::sandbox::agenda::Job;
use crate::sandbox::blocking::blocking;
use crate::sandbox::broker::depot::remove_blob;
use crate::sandbox::broker::intake::Attempt;
use crate::sandbox::broker::transfer::{Md5Check, Status, Transfer};
use crate::sandbox::broker::upload::{CHECKSUM_MISMATCH, announce_published, hex};
use crate::sandbox::faults::Quirk;
use crate::sandbox::site::Site;
use crate::sandbox::world::bare_number;

/// What an upload says after a block could not be stored.
const STORAGE_FAULT: &str = "The specified storage account could not be reached.";
/// Blocks of the joining.
const BLOCK: u64 = 256 * 1024;

/// Gets uploads that a former sandbox left complete going again.
pub(in crate::sandbox) fn resume(site: &Site) {
    for id in site.tus.ids() {
        schedule(site, id);
    }
}

/// Has the content joined some time from now, if all of it is there and nothing is under way.
pub(super) fn schedule(site: &Site, id: Uuid) {
    let time = site.due(site.now(), site.settings.finalising_delay);
    let scheduled = site.tus.steer(id, |desk| {
        let now_due = desk.is_complete() && desk.finalise_at.is_none() && !desk.finalising;
        if now_due {
            desk.finalise_at = Some(time);
        }
        now_due
    });
    if scheduled == Some(true) {
        site.agenda.add(time, Job::Tus(id));
    }
}

/// The transfer is over: what is left of its uploads goes.
pub(in crate::sandbox) fn abandon(site: &Site, id: Uuid) {
    site.agenda.add(site.now(), Job::Tus(id));
}

/// Does what is due for a transfer.
pub(in crate::sandbox) async fn advance(site: Arc<Site>, id: Uuid) {
    // As precise as the agenda: a moment cut to microseconds could lie before the job's own.
    let now = site.clock.now();
    let status = site.depot.read(id, Transfer::status);
    if status.is_none_or(is_over) {
        close(&site, id).await;
        return;
    }
    store(&site, id, now).await;
    let due = site.tus.steer(id, |desk| {
        let due = desk.finalise_at.is_some_and(|time| time <= now) && desk.is_complete();
        if due {
            desk.finalise_at = None;
            desk.finalising = true;
        }
        due
    });
    if due == Some(true) {
        finalise(&site, id).await;
    }
}

/// Removes what is left of the uploads of a transfer, but for who took part.
async fn close(site: &Arc<Site>, id: Uuid) {
    site.tus.change(id, site.now(), Desk::close);
    remove_blocks(site, id).await;
}

async fn remove_blocks(site: &Arc<Site>, id: Uuid) {
    let site = Arc::clone(site);
    if let Err(error) = blocking(move || site.tus.remove_blocks(id)).await {
        tracing::warn!(transfer = %id, %error, "sandbox: blocks could not be removed");
    }
}

/// Stores the chunks whose time has come.
async fn store(site: &Arc<Site>, id: Uuid, now: Timestamp) {
    // There is a job for each chunk, and of two chunks for one block the later stays.
    let _turn = site.tus.storing().await;
    let due = site.tus.steer(id, |desk| desk.take_due(now)).unwrap_or_default();
    if due.is_empty() {
        return;
    }
    let resource = site.depot.read(id, |transfer| transfer.resource.clone()).unwrap_or_default();
    let fails = site.look(|world| world.resources.get(&resource).is_some_and(|it| it.storage_fails));
    for pending in due {
        let Pending { target, block, length, file, .. } = pending;
        let path = site.tus.blocks(id).join(block.name());
        let stored = blocking(move || {
            if fails {
                remove_blob(&file);
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            fs::rename(file, path)
        });
        let stored = stored.await;
        let goes_on = site.tus.change(id, site.now(), |desk| {
            let goes_on = desk.end_storing(block);
            match stored {
                _ if !goes_on => {}
                Ok(()) => desk.store(&target, block, length),
                Err(error) => {
                    tracing::warn!(transfer = %id, %error, "sandbox: a block could not be stored");
                    if let Some(upload) = desk.upload_mut(&target) {
                        upload.fault = Some(STORAGE_FAULT);
                    }
                }
            }
            goes_on
        });
        if !goes_on {
            remove_blocks(site, id).await;
        }
    }
    site.tus.tell_stored();
    schedule(site, id);
}

/// Joins the blocks. When that fails, the transfer stays as it is.
async fn finalise(site: &Arc<Site>, id: Uuid) {
    match join(site, id).await {
        Ok(content) => complete(site, id, content).await,
        Err(error) => {
            tracing::warn!(transfer = %id, %error, "sandbox: a resumable upload could not be finalised");
            site.tus.steer(id, |desk| desk.finalising = false);
        }
    }
}

/// Why blocks were not joined.
#[derive(Debug, thiserror::Error)]
enum NotJoined {
    #[error("{staged} bytes are stored, {expected} expected")]
    Length { staged: u64, expected: u64 },
    #[error("there are {0} blocks, {MAX_BLOCKS} at most can be joined")]
    TooManyBlocks(usize),
    #[error("the blocks could not be read or written")]
    Io(#[from] io::Error),
}

/// Writes the blocks one after another to a blob.
async fn join(site: &Arc<Site>, id: Uuid) -> Result<Attempt, NotJoined> {
    let (expected, mut blocks, is_join) = site.tus.look(id, site.now(), |desk| {
        (desk.length(&Target::Whole).unwrap_or(0), desk.content(), desk.joined.is_some())
    });
    let staged = blocks.iter().map(|(_, length)| length).sum();
    if staged != expected {
        return Err(NotJoined::Length { staged, expected });
    }
    // Partial uploads count their own blocks alone, so only here it is noticed.
    if blocks.len() as u64 > MAX_BLOCKS {
        return Err(NotJoined::TooManyBlocks(blocks.len()));
    }
    let sender = site.depot.read(id, |transfer| transfer.sender.clone()).unwrap_or_default();
    if is_join && site.faults.strikes(Quirk::TusPermuted, Some(bare_number(&sender))).is_some() {
        blocks.sort_by_key(|(block, _)| (std::cmp::Reverse(block.part), block.index));
    }
    let mut content = Attempt::new(site, id);
    content.size = expected;
    if site.settings.keep == Keep::Size {
        return Ok(content);
    }
    let dir = site.tus.blocks(id);
    let joined = blocking(move || {
        content.md5 =
            Some(concatenate(&dir, blocks.iter().map(|(block, _)| *block), content.path.as_deref())?);
        Ok(content)
    });
    Ok(joined.await?)
}

fn concatenate(dir: &Path, blocks: impl Iterator<Item = Block>, blob: Option<&Path>) -> io::Result<String> {
    let mut out = blob.map(File::create_new).transpose()?;
    let mut hash = Md5::new();
    let mut buffer = Vec::new();
    for block in blocks {
        let mut file = File::open(dir.join(block.name()))?;
        loop {
            buffer.clear();
            if (&mut file).take(BLOCK).read_to_end(&mut buffer)? == 0 {
                break;
            }
            hash.update(&buffer);
            if let Some(out) = &mut out {
                out.write_all(&buffer)?;
            }
        }
    }
    Ok(hex(&hash.finalize()))
}

/// The content is there: without scan and checksum it is published, else it is processed. A file
/// that was joined is being processed already.
async fn complete(site: &Arc<Site>, id: Uuid, mut content: Attempt) {
    let now = site.now();
    site.depot.change(id, |transfer| {
        let before = transfer.status();
        // It may have failed meanwhile.
        if !matches!(before, Status::UploadStarted | Status::UploadProcessing) {
            return;
        }
        content.become_content(transfer);
        if transfer.demanded_checksum.is_some() {
            transfer.md5_check = Md5Check::Awaited;
        }
        if !transfer.use_virus_scan && transfer.demanded_checksum.is_none() {
            transfer.enter(Status::Published, None, now);
            announce_published(site, transfer);
        } else if before == Status::UploadStarted {
            transfer.enter(Status::UploadProcessing, None, now);
            site.tell_sender("uploadprocessing", transfer);
        }
        if transfer.use_virus_scan {
            site.agenda.add(site.due(now, site.settings.scan_delay), Job::Scan(id));
        }
        site.agenda.add(site.due(now, site.settings.finalising_delay), Job::Verify(id));
    });
    drop(content);
    close(site, id).await;
}

/// The MD5 of the stored content was computed: it is compared with the one that was given, or shown.
pub(in crate::sandbox) fn verify(site: &Site, id: Uuid) {
    let Some(transfer) = site.depot.read(id, Transfer::clone) else { return };
    let organization = Some(bare_number(&transfer.sender));
    let awaited = matches!(transfer.md5_check, Md5Check::Awaited | Md5Check::AwaitedAlone);
    let struck = awaited && site.faults.strikes(Quirk::ChecksumMismatch, organization).is_some();
    if awaited
        && !transfer.use_virus_scan
        && site.faults.strikes(Quirk::ProcessingForever, organization).is_some()
    {
        return;
    }
    let now = site.now();
    let mismatch = site.depot.change(id, |transfer| match verified(transfer, struck)? {
        Verdict::Published => {
            transfer.enter(Status::Published, None, now);
            announce_published(site, transfer);
            None
        }
        Verdict::Mismatch => {
            transfer.enter(Status::Failed, Some(CHECKSUM_MISMATCH.to_owned()), now);
            site.tell_sender("uploadfailed", transfer);
            Some(transfer.blob.take())
        }
    });
    if let Some(blob) = mismatch.flatten() {
        if let Some(blob) = blob {
            remove_blob(&site.depot.blob(&blob));
        }
        abandon(site, id);
    }
}

/// What the MD5 decides.
enum Verdict {
    Published,
    Mismatch,
}

fn verified(transfer: &mut Transfer, struck: bool) -> Option<Verdict> {
    let Some(demanded) = &transfer.demanded_checksum else {
        transfer.checksum.clone_from(&transfer.md5);
        return None;
    };
    if transfer.md5_check == Md5Check::Unneeded || transfer.status() != Status::UploadProcessing {
        return None;
    }
    let matches = transfer.md5.as_ref().is_some_and(|md5| md5.eq_ignore_ascii_case(demanded));
    if struck || !matches {
        return Some(Verdict::Mismatch);
    }
    let before = std::mem::take(&mut transfer.md5_check);
    // Under a scan, its result publishes.
    (!transfer.use_virus_scan || before != Md5Check::Awaited).then_some(Verdict::Published)
}
