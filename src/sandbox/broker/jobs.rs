//! What happens by itself: scan, checksum, expiry, grace and stuck uploads, by the sandbox's clock.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, pending};
use jiff::Timestamp;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::depot::remove_blob;
use super::download::grace;
use super::transfer::{Md5Check, RecipientStatus, Status, Transfer};
use super::tus::finalise;
use super::upload::{announce_published, commit_late};
use crate::sandbox::agenda::Job;
use crate::sandbox::blocking::blocking;
use crate::sandbox::clock::{earlier, later};
use crate::sandbox::faults::Quirk;
use crate::sandbox::site::Site;
use crate::sandbox::world::bare_number;

/// The test file of the European Institute for Computer Antivirus Research, in two halves so that
/// no scanner takes the program for it.
const EICAR: [&[u8]; 2] = [br"X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR-", b"STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"];
/// Blocks of a scan.
const BLOCK: usize = 256 * 1024;
/// Text of `Failed` when malware was found.
const MALWARE: &str =
    "Malware scan failed: Malicious. Extra details: {\"MalwareNames\":[\"DOS/EICAR_Test_File\"]}";
/// Text of `Failed` when an upload got stuck.
const STUCK: &str = "File transfer was stuck in UploadStarted as it failed upload mid-request.";
/// The longest time between two looks for stuck uploads.
const STUCK_INTERVAL: Duration = Duration::from_mins(30);

/// Puts everything on the agenda that a former sandbox left undone.
pub(in crate::sandbox) fn resume(site: &Site) {
    let now = site.now();
    // Nobody was told of a half-made one, and it has no jobs.
    let lives = |transfer: &Transfer| transfer.status() != Status::Purged && !transfer.half_made;
    for transfer in site.depot.all(|transfer| lives(transfer).then(|| transfer.clone())) {
        let id = transfer.id;
        site.agenda.add(expires(site, &transfer), Job::Expire(id));
        match transfer.status() {
            Status::UploadProcessing => {
                if transfer.use_virus_scan && transfer.md5_check != Md5Check::AwaitedAlone {
                    site.agenda.add(site.due(now, site.settings.scan_delay), Job::Scan(id));
                }
                if matches!(transfer.md5_check, Md5Check::Awaited | Md5Check::AwaitedAlone) {
                    site.agenda.add(site.due(now, site.settings.finalising_delay), Job::Verify(id));
                }
            }
            Status::Published if transfer.checksum.as_deref().is_none_or(str::is_empty) => {
                site.agenda.add(site.due(now, site.settings.scan_delay), Job::Checksum(id));
            }
            Status::AllConfirmedDownloaded => {
                if let Some(grace) = grace(site, &transfer) {
                    site.agenda.add(site.due(transfer.status_changed(), grace), Job::Grace(id));
                }
            }
            _ => {}
        }
    }
    finalise::resume(site);
    site.agenda.add(now, Job::Stuck);
}

/// When the time to live of a transfer is over: what it says, but for the sandbox's speed.
pub(in crate::sandbox) fn expires(site: &Site, transfer: &Transfer) -> Timestamp {
    let lives = transfer.expiration.duration_since(transfer.created).unsigned_abs();
    site.due(transfer.created, lives)
}

/// Does the jobs when their time comes, until told to stop.
pub(in crate::sandbox) async fn run(site: Arc<Site>, stop: CancellationToken) {
    let mut scans = JoinSet::new();
    loop {
        for job in site.agenda.due(site.clock.now()) {
            match job {
                Job::Scan(id) => {
                    scans.spawn(scan(Arc::clone(&site), id));
                }
                Job::Tus(id) => {
                    scans.spawn(finalise::advance(Arc::clone(&site), id));
                }
                Job::Verify(id) => finalise::verify(&site, id),
                Job::Checksum(id) => show_checksum(&site, id),
                Job::Expire(id) => expire(&site, id),
                Job::Grace(id) | Job::Purge(id) => purge(&site, id),
                Job::LateCommit(id) => commit_late(&site, id),
                Job::Stuck => fail_stuck(&site),
            }
        }
        let next = match site.agenda.next() {
            Some(time) => Either::Left(site.clock.sleep_until(time)),
            None => Either::Right(pending()),
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = site.agenda.changed() => {}
            () = next => {}
            Some(ended) = scans.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "sandbox: a job broke off");
                }
            }
        }
    }
}

/// Reads the stored blob and publishes the transfer, or fails it.
async fn scan(site: Arc<Site>, id: Uuid) {
    let Some(transfer) = site.depot.read(id, Transfer::clone) else { return };
    let sender = Some(bare_number(&transfer.sender));
    if site.faults.strikes(Quirk::ProcessingForever, sender).is_some() {
        return;
    }
    let infected = site.faults.strikes(Quirk::Malware, sender).is_some();
    let path = transfer.blob.map(|blob| site.depot.blob(&blob));
    let found = match path.clone() {
        Some(path) => blocking(move || contains_malware(&path)).await,
        None if transfer.discarded => Ok(false),
        None => return,
    };
    let verdict = match found.map(|found| found || infected) {
        Ok(false) => None,
        Ok(true) => Some(MALWARE.to_owned()),
        Err(error) => Some(format!(
            "Malware scan failed: Not Scanned. Extra details: {{\"error\":\"{}\"}}",
            error.kind()
        )),
    };
    let now = site.now();
    let failed = site.depot.change(id, |transfer| {
        // A result in any other status is ignored.
        if transfer.status() != Status::UploadProcessing {
            return false;
        }
        let failed = verdict.is_some();
        if failed {
            transfer.enter(Status::Failed, verdict, now);
            transfer.blob = None;
            site.tell_sender("uploadfailed", transfer);
            never_confirmed(&site, transfer, Everyone::Yes);
        } else if transfer.md5_check == Md5Check::AfterScan {
            site.agenda.add(site.due(now, site.settings.finalising_delay), Job::Verify(id));
        } else if transfer.md5_check != Md5Check::Unneeded {
            transfer.md5_check = Md5Check::AwaitedAlone;
        } else {
            transfer.enter(Status::Published, None, now);
            announce_published(&site, transfer);
            if transfer.demanded_checksum.is_none() {
                site.agenda.add(site.due(now, site.settings.scan_delay), Job::Checksum(id));
            }
        }
        failed
    });
    if let (Some(true), Some(path)) = (failed, path) {
        remove_blob(&path);
    }
}

/// Looks for the EICAR test file anywhere in the content, across the borders of blocks too.
fn contains_malware(path: &Path) -> io::Result<bool> {
    let pattern = EICAR.concat();
    let keep = pattern.len() - 1;
    let mut file = File::open(path)?;
    let mut window = Vec::with_capacity(BLOCK + keep);
    loop {
        let before = window.len();
        (&mut file).take(BLOCK as u64).read_to_end(&mut window)?;
        if window.len() == before {
            return Ok(false);
        }
        if contains(&window, &pattern) {
            return Ok(true);
        }
        window.drain(..window.len().saturating_sub(keep));
    }
}

/// Whether `text` contains `pattern`, by Horspool's method: each look jumps as far as the last byte
/// it saw allows, which for most content is the whole length of the pattern.
fn contains(text: &[u8], pattern: &[u8]) -> bool {
    let mut jumps = [pattern.len(); 256];
    for (place, byte) in pattern.iter().enumerate().take(pattern.len().saturating_sub(1)) {
        if let Some(jump) = jumps.get_mut(usize::from(*byte)) {
            *jump = pattern.len() - 1 - place;
        }
    }
    let mut left = text;
    while let Some(window) = left.get(..pattern.len()) {
        if window == pattern {
            return true;
        }
        let jump = window.last().and_then(|byte| jumps.get(usize::from(*byte))).copied().unwrap_or(1);
        left = left.get(jump..).unwrap_or_default();
    }
    false
}

/// The computed checksum appears some time after `Published`, when none was given.
fn show_checksum(site: &Site, id: Uuid) {
    if site.depot.change(id, |transfer| transfer.checksum.clone_from(&transfer.md5)).is_none() {
        tracing::error!(transfer = %id, "sandbox: a transfer with a job is not there any more");
    }
}

/// The time to live is over. Where the grace job will purge a confirmed transfer, it is left to it.
fn expire(site: &Site, id: Uuid) {
    let Some(transfer) = site.depot.read(id, Transfer::clone) else { return };
    let grace_does_it =
        transfer.status() == Status::AllConfirmedDownloaded && grace(site, &transfer).is_some();
    if !grace_does_it {
        purge(site, id);
    }
}

fn purge(site: &Site, id: Uuid) {
    let now = site.now();
    let purged = site.depot.change(id, |transfer| {
        if transfer.status() == Status::Purged {
            return None;
        }
        transfer.enter(Status::Purged, None, now);
        site.tell_sender("filepurged", transfer);
        never_confirmed(site, transfer, Everyone::No);
        Some(transfer.blob.take())
    });
    let Some(blob) = purged.flatten() else { return };
    if let Some(blob) = blob {
        remove_blob(&site.depot.blob(&blob));
    }
    finalise::abandon(site, id);
}

/// Who hears of a transfer that was never confirmed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Everyone {
    Yes,
    No,
}

/// `fileneverconfirmeddownloaded` to each recipient that has not confirmed, and to the sender if
/// there is one such.
fn never_confirmed(site: &Site, transfer: &Transfer, everyone: Everyone) {
    let mut any = false;
    for recipient in transfer.recipient_organizations() {
        if transfer.highest(recipient) != Some(RecipientStatus::DownloadConfirmed)
            || everyone == Everyone::Yes
        {
            any = true;
            site.tell_recipient("fileneverconfirmeddownloaded", transfer, recipient);
        }
    }
    if any {
        site.tell_sender("fileneverconfirmeddownloaded", transfer);
    }
}

/// Fails the uploads that began too long ago, and comes back later.
fn fail_stuck(site: &Site) {
    let now = site.now();
    let stuck_after = site.scaled(site.settings.stuck_after);
    let limit = earlier(now, stuck_after);
    let is_stuck =
        |transfer: &Transfer| transfer.status() == Status::UploadStarted && transfer.status_changed() < limit;
    // An hour, by the Broker's own times.
    let lately = stuck_after / 24;
    for id in site.depot.all(|transfer| is_stuck(transfer).then_some(transfer.id)) {
        if site.tus.is_active(id, now, lately) {
            continue;
        }
        let failed = site.depot.change(id, |transfer| {
            let stuck = is_stuck(transfer);
            if stuck {
                transfer.enter(Status::Failed, Some(STUCK.to_owned()), now);
                site.tell_sender("uploadfailed", transfer);
            }
            stuck
        });
        if failed == Some(true) {
            finalise::abandon(site, id);
        }
    }
    site.tus.prune(now);
    let interval = (stuck_after / 4).min(site.scaled(STUCK_INTERVAL)).max(Duration::from_millis(10));
    site.agenda.add(later(now, interval), Job::Stuck);
}
