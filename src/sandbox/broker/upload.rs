//! `POST /broker/api/v1/filetransfer/{id}/upload` (Broker API, stream upload).
//!
//! Each attempt has its own file; the first that ends becomes the blob.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, Response, StatusCode, header};
use jiff::Timestamp;
use serde_json::json;
use uuid::Uuid;

use super::depot::remove_blob;
use super::intake::{Attempt, Received, receive};
use super::transfer::{Md5Check, Status, Transfer};
use crate::sandbox::agenda::Job;
use crate::sandbox::auth::Caller;
use crate::sandbox::clock::later;
use crate::sandbox::faults::Quirk;
use crate::sandbox::media_type;
use crate::sandbox::pace;
use crate::sandbox::problem::{Fault, Refusal, json_answer};
use crate::sandbox::site::{Note, Site};
use crate::sandbox::world::{Action, Resource, bare_number};

/// The largest file that is scanned for malware.
pub(super) const LARGEST_SCANNED: u64 = 50_000_000_000;

/// Text of `Failed` when the content does not have the checksum that was given.
pub(in crate::sandbox) const CHECKSUM_MISMATCH: &str = "Checksum mismatch";
const UPLOAD_ERROR: &str = "Error occurred while uploading fileTransfer";

/// Checks, then takes the bytes. A refused request's body is read to its end behind the answer.
pub(in crate::sandbox) async fn upload(
    site: &Arc<Site>,
    caller: &Caller,
    transfer: Transfer,
    headers: &HeaderMap,
    body: Body,
    note: &mut Note,
) -> Result<Response<Body>, Refusal> {
    let id = transfer.id;
    if let Err(fault) = start(site, caller, &transfer, length(headers), note) {
        site.drain(body);
        return Err(fault.into());
    }
    let mut blocks = body.into_data_stream();
    match receive(site, id, &mut blocks, note).await {
        Received::Whole(attempt) => commit(site, id, attempt, note),
        // The server was the first to notice.
        Received::Cut(error) if pace::is_too_slow(&error) => Err(fail(site, id, UPLOAD_ERROR, note).into()),
        // The bookkeeping is cancelled together with the request: the status stays.
        Received::Cut(_) => {
            note.vanish();
            Err(Refusal::Bare(StatusCode::BAD_REQUEST))
        }
        Received::StorageFailed => {
            site.drain(Body::from_stream(blocks));
            Err(fail(site, id, UPLOAD_ERROR, note).into())
        }
    }
}

/// How long the body is; a chunked one does not say.
pub(super) fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The checks, and `UploadStarted`.
pub(super) fn start(
    site: &Site,
    caller: &Caller,
    transfer: &Transfer,
    length: Option<u64>,
    note: &mut Note,
) -> Result<(), Fault> {
    check(site, caller, transfer)?;
    // No limit is applied to a length that is not known.
    if length.is_some_and(|length| is_too_large(site, transfer, length)) {
        return Err(Fault::TooLarge);
    }
    // Decided again under the lock: another upload may have ended meanwhile.
    let started = site.depot.change(transfer.id, |transfer| {
        let open = matches!(transfer.status(), Status::Initialized | Status::UploadStarted);
        if open {
            transfer.enter(Status::UploadStarted, None, site.now());
        }
        open
    });
    if started != Some(true) {
        return Err(Fault::AlreadyUploaded);
    }
    note.entry.effect = Some("upload started");
    if site.look(|world| world.resources.get(&transfer.resource).is_some_and(|it| it.storage_fails)) {
        return Err(fail(site, transfer.id, UPLOAD_ERROR, note));
    }
    Ok(())
}

/// A missing `Content-Type` passes, a wrong one does not.
pub(in crate::sandbox) fn is_octets(headers: &HeaderMap) -> bool {
    media_type::may_be(headers, "application/octet-stream")
}

/// Whether the caller may upload to the transfer now.
pub(in crate::sandbox) fn check(site: &Site, caller: &Caller, transfer: &Transfer) -> Result<(), Fault> {
    if !caller.may(site, &transfer.resource, Action::Write, &transfer.sender) {
        return Err(Fault::NoAccess);
    }
    if !matches!(transfer.status(), Status::Initialized | Status::UploadStarted) {
        return Err(Fault::AlreadyUploaded);
    }
    site.look(|world| {
        let resource = world.resources.get(&transfer.resource).ok_or(Fault::NotInRegistry)?;
        if !resource.registered {
            return Err(Fault::NotInRegistry);
        }
        if !resource.service_owner {
            return Err(Fault::NoServiceOwner);
        }
        let not_ready = !resource.storage_ready
            || site.faults.strikes(Quirk::StorageNotReady, caller.organization()).is_some();
        if not_ready { Err(Fault::StorageNotReady) } else { Ok(()) }
    })
}

/// Whether the malware scan or the resource does not allow so many bytes.
pub(in crate::sandbox) fn is_too_large(site: &Site, transfer: &Transfer, length: u64) -> bool {
    let limit = |resource: &Resource| resource.max_file_transfer_size;
    let limit = site.look(|world| world.resources.get(&transfer.resource).and_then(limit));
    (transfer.use_virus_scan && length > LARGEST_SCANNED) || limit.is_some_and(|limit| length > limit)
}

/// The client vanished: nothing more happens, unless a rule says so or blocks were committed on the way.
pub(super) fn cut(site: &Site, id: Uuid, attempt: Attempt) {
    let known = site.depot.read(id, |transfer| (transfer.sender.clone(), transfer.use_virus_scan));
    let Some((sender, scanned)) = known else { return };
    let sender = Some(bare_number(&sender));
    // Under a scan nothing is committed before the end.
    let interim_commits = !scanned && attempt.size >= site.settings.interim_commit_after;
    if let Some(milliseconds) = site.faults.strikes(Quirk::LateCommit, sender) {
        site.depot.set_aside(id, attempt);
        let time = later(site.now(), Duration::from_millis(milliseconds));
        site.agenda.add(time, Job::LateCommit(id));
    } else if site.faults.strikes(Quirk::CutUploadFails, sender).is_some() {
        mark_failed(site, id, UPLOAD_ERROR);
    } else if interim_commits {
        site.depot.change(id, |transfer| transfer.interim_commits = true);
    }
}

/// Commits an upload that was cut as if what came had been all of it.
pub(super) fn commit_late(site: &Site, id: Uuid) {
    if let Some(attempt) = site.depot.take_aside(id) {
        let (effect, refused) = settle(site, id, attempt);
        tracing::info!(transfer = %id, effect, refused = refused.is_err(), "sandbox: a late commit");
    }
}

/// Lower-case hexadecimal digits.
pub(in crate::sandbox) fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(u32::from(value), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// How an upload that stored all its bytes ended.
enum Outcome {
    Published,
    Processing,
    Mismatch,
    /// Another upload was first.
    Lost {
        winners_blob: Option<String>,
    },
    /// The transfer was over before, and there is nothing that the commit collides with: nothing changes.
    TooLate {
        mismatch: bool,
    },
}

/// Ends an upload whose bytes are all there.
pub(super) fn commit(
    site: &Site,
    id: Uuid,
    attempt: Attempt,
    note: &mut Note,
) -> Result<Response<Body>, Refusal> {
    let (effect, settled) = settle(site, id, attempt);
    note.entry.effect = effect.or(note.entry.effect);
    settled?;
    Ok(json_answer(&json!({ "fileTransferId": id })))
}

/// The first commit wins; the loser deletes the winner's blob and marks the transfer failed.
fn settle(site: &Site, id: Uuid, mut attempt: Attempt) -> (Option<&'static str>, Result<(), Fault>) {
    let now = site.now();
    let outcome = site.depot.change(id, |transfer| complete(site, transfer, &mut attempt, now));
    match outcome {
        Some(Outcome::Published) => (Some("published"), Ok(())),
        Some(Outcome::Processing) => (Some("upload processing"), Ok(())),
        Some(Outcome::Mismatch) => (Some("failed"), Err(Fault::ChecksumMismatch)),
        Some(Outcome::Lost { winners_blob }) => {
            if let Some(blob) = winners_blob {
                remove_blob(&site.depot.blob(&blob));
            }
            mark_failed(site, id, UPLOAD_ERROR);
            (Some("failed"), Err(Fault::UploadFailed))
        }
        Some(Outcome::TooLate { mismatch: true }) => (None, Err(Fault::ChecksumMismatch)),
        Some(Outcome::TooLate { mismatch: false }) => (None, Ok(())),
        None => (None, Err(Fault::NotFound)),
    }
}

fn complete(site: &Site, transfer: &mut Transfer, attempt: &mut Attempt, now: Timestamp) -> Outcome {
    let over = matches!(transfer.status(), Status::Failed | Status::Purged);
    if transfer.blob.is_some() || (transfer.discarded && !over) || transfer.interim_commits {
        return Outcome::Lost { winners_blob: transfer.blob.take() };
    }
    let md5 = attempt.md5_for(transfer);
    if transfer.status() != Status::UploadStarted {
        let demanded = transfer.demanded_checksum.as_ref();
        return Outcome::TooLate {
            mismatch: demanded.is_some_and(|demanded| md5.as_ref() != Some(demanded)),
        };
    }
    let mismatch = |demanded: &String| {
        let sender = Some(bare_number(&transfer.sender));
        md5.as_ref() != Some(demanded) || site.faults.strikes(Quirk::ChecksumMismatch, sender).is_some()
    };
    let mismatch = transfer.demanded_checksum.as_ref().is_some_and(mismatch);
    // What was stored is written down before it is compared.
    transfer.stored = true;
    transfer.size = attempt.size;
    if mismatch {
        transfer.enter(Status::Failed, Some(CHECKSUM_MISMATCH.to_owned()), now);
        return Outcome::Mismatch;
    }
    attempt.become_content(transfer);
    if transfer.use_virus_scan {
        if transfer.demanded_checksum.is_some() {
            transfer.md5_check = Md5Check::AfterScan;
        }
        transfer.enter(Status::UploadProcessing, None, now);
        site.tell_sender("uploadprocessing", transfer);
        site.agenda.add(site.due(now, site.settings.scan_delay), Job::Scan(transfer.id));
        return Outcome::Processing;
    }
    transfer.checksum = md5;
    transfer.enter(Status::Published, None, now);
    announce_published(site, transfer);
    Outcome::Published
}

/// The events that go with `Published`.
pub(in crate::sandbox) fn announce_published(site: &Site, transfer: &Transfer) {
    let sender = Some(bare_number(&transfer.sender));
    if let Some(milliseconds) = site.faults.strikes(Quirk::PurgeEarly, sender) {
        let time = later(site.now(), Duration::from_millis(milliseconds));
        site.agenda.add(time, Job::Purge(transfer.id));
    }
    site.tell_sender("published", transfer);
    for recipient in transfer.recipient_organizations() {
        site.tell_recipient("published", transfer, recipient);
    }
}

/// Marks a transfer failed, with the event, and gives the error that the uploader gets.
fn fail(site: &Site, id: Uuid, text: &str, note: &mut Note) -> Fault {
    mark_failed(site, id, text);
    note.entry.effect = Some("failed");
    Fault::UploadFailed
}

fn mark_failed(site: &Site, id: Uuid, text: &str) {
    let now = site.now();
    site.depot.change(id, |transfer| {
        if !matches!(transfer.status(), Status::Failed | Status::Purged) {
            transfer.enter(Status::Failed, Some(text.to_owned()), now);
            site.tell_sender("uploadfailed", transfer);
        }
    });
}
