//! `GET /broker/api/v1/filetransfer/{id}/download` and confirmation (Broker API, download, confirm).
//!
//! A thread reads blocks from the disk into a bounded channel, so that memory does not grow with
//! the file.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use bytes::BytesMut;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::range::{self, Range};
use super::transfer::{RecipientStatus, Status, Transfer};
use crate::sandbox::agenda::Job;
use crate::sandbox::auth::Caller;
use crate::sandbox::blocking::{blocking, start_blocking};
use crate::sandbox::clock::earlier;
use crate::sandbox::faults::Quirk;
use crate::sandbox::problem::{Fault, Refusal, bare};
use crate::sandbox::site::{Note, Site};

/// Blocks of a download.
const BLOCK: usize = 256 * 1024;
/// Blocks on their way to the client.
const IN_FLIGHT: usize = 4;
/// Ranged downloads of one transfer by one organisation leave one row in this time.
const DEBOUNCE: Duration = Duration::from_mins(5);

/// Checks, records `DownloadStarted`, and only then lets bytes flow.
pub(in crate::sandbox) async fn download(
    site: &Arc<Site>,
    caller: &Caller,
    transfer: Transfer,
    headers: &HeaderMap,
    note: &mut Note,
) -> Result<Response<Body>, Refusal> {
    caller.must_be_recipient(site, &transfer)?;
    if !matches!(transfer.status(), Status::Published | Status::AllConfirmedDownloaded) {
        return Err(Fault::NotReadyForDownload.into());
    }
    if !transfer.stored {
        return Err(Fault::NothingUploaded.into());
    }
    site.look(|world| {
        let resource = world.resources.get(&transfer.resource).filter(|resource| resource.registered);
        let resource = resource.ok_or(Fault::NotInRegistry)?;
        if resource.service_owner { Ok(()) } else { Err(Fault::NoServiceOwner) }
    })?;
    let asked = headers
        .get(header::RANGE)
        .filter(|_| site.faults.strikes(Quirk::RangeIgnored, caller.organization()).is_none())
        .and_then(|value| value.to_str().ok());
    let range = range::parse(asked, transfer.size);
    let (first, length) = match range {
        Range::Whole => (0, transfer.size),
        Range::Part { first, last } => (first, last - first + 1),
        Range::NotSatisfiable => return Err(Fault::RangeNotSatisfiable.into()),
    };
    let path = transfer.blob.as_deref().map(|blob| site.depot.blob(blob));
    let mut content = match path {
        Some(path) => blocking(move || Content::open(&path, first)).await.map_err(|_| Refusal::Unhandled)?,
        None if transfer.discarded => Content::Zeros,
        None => return Err(Refusal::Unhandled),
    };
    record(site, caller, transfer.id, range, note);
    let wrong = site.faults.strikes(Quirk::WrongByte, caller.organization());
    // The place in what is asked for, when the byte is there.
    let wrong = wrong.and_then(|place| place.checked_sub(first)).filter(|place| *place < length);
    let delivery = (first + length == transfer.size && wrong.is_none()).then(|| Delivery {
        site: Arc::clone(site),
        id: transfer.id,
        party: caller.party(),
    });
    let (now, watcher) = if note.watched { (None, delivery) } else { (delivery, None) };
    let body = if length <= BLOCK as u64 {
        let block = blocking(move || Ok(spoilt(content.read(length)?, wrong)));
        let content = block.await.map_err(|_| Refusal::Unhandled)?;
        note.entry.sent = length;
        if let Some(delivery) = now {
            delivery.count();
        }
        Body::from(content)
    } else {
        // The entry is written before the answer goes out, so the bytes are added to it afterwards.
        let sequence = note.close(if range == Range::Whole { 200 } else { 206 });
        let entry = (!note.watched).then_some(sequence);
        stream(Counter { site: Arc::clone(site), entry, sent: 0, length, delivery: now }, content, wrong)
    };
    let mut response = response(body, &transfer, range, length);
    if let Some(delivery) = watcher {
        response.extensions_mut().insert(delivery);
    }
    Ok(response)
}

/// Adds a row for the *caller's* organisation, listed as a recipient or not.
fn record(site: &Site, caller: &Caller, id: Uuid, range: Range, note: &mut Note) {
    let Some(party) = caller.party() else { return };
    let now = site.now();
    let recorded = site.depot.change(id, |transfer| {
        if range != Range::Whole {
            let since = earlier(now, site.scaled(DEBOUNCE));
            if transfer.ranged.get(&party).is_some_and(|time| *time > since) {
                return false;
            }
            transfer.ranged.insert(party.clone(), now);
        }
        transfer.enter_recipient(&party, RecipientStatus::DownloadStarted, caller.vendor.as_deref(), now);
        true
    });
    if recorded == Some(true) {
        note.entry.effect = Some("download started");
    }
}

/// A download that hands over the file's last byte, to be counted when it has. In an answer's
/// extensions it is left to whoever twists the answer.
#[derive(Clone)]
pub(in crate::sandbox) struct Delivery {
    site: Arc<Site>,
    id: Uuid,
    party: Option<String>,
}

impl Delivery {
    /// Counts it.
    pub(in crate::sandbox) fn count(self) {
        let Self { site, id, party } = self;
        let counted = site.depot.change(id, |transfer| {
            transfer.delivered += 1;
            if let Some(party) = party {
                *transfer.delivered_to.entry(party).or_default() += 1;
            }
        });
        if counted.is_none() {
            tracing::error!(transfer = %id, "sandbox: a delivered transfer is not there any more");
        }
    }
}

/// The block with another byte at that place.
fn spoilt(block: Bytes, place: Option<u64>) -> Bytes {
    let Some(place) = place.and_then(|place| usize::try_from(place).ok()) else { return block };
    let mut block = BytesMut::from(block);
    if let Some(byte) = block.get_mut(place) {
        *byte = !*byte;
    }
    block.freeze()
}

/// What a download consists of.
enum Content {
    File(File),
    /// The content was not kept.
    Zeros,
}

impl Content {
    fn open(path: &Path, first: u64) -> io::Result<Self> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(first))?;
        Ok(Self::File(file))
    }

    /// The next bytes, a block at most.
    fn read(&mut self, length: u64) -> io::Result<Bytes> {
        const ZEROS: &[u8] = &[0; BLOCK];
        let size = usize::try_from(length).map_err(io::Error::other)?;
        let Self::File(file) = self else {
            return Ok(Bytes::from_static(ZEROS.get(..size).unwrap_or(ZEROS)));
        };
        let mut block = Vec::with_capacity(size);
        file.take(length).read_to_end(&mut block)?;
        if block.len() == size { Ok(block.into()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

fn stream(counter: Counter, mut content: Content, mut wrong: Option<u64>) -> Body {
    let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(IN_FLIGHT);
    let mut left = counter.length;
    let reader = start_blocking(move || {
        while left > 0 {
            let block = content.read(left.min(BLOCK as u64)).map(|block| spoilt(block, wrong));
            wrong = wrong.and_then(|place| place.checked_sub(BLOCK as u64));
            left = if block.is_ok() { left.saturating_sub(BLOCK as u64) } else { 0 };
            // The client vanished: nobody wants the rest.
            if sender.blocking_send(block).is_err() {
                return;
            }
        }
    });
    // The thread ends with its channel; there is nothing to wait for.
    drop(reader);
    let blocks =
        futures_util::stream::unfold((receiver, counter), |(mut receiver, mut counter)| async move {
            let block = receiver.recv().await?;
            if let Ok(block) = &block {
                counter.add(block.len() as u64);
            }
            Some((block, (receiver, counter)))
        });
    Body::from_stream(blocks)
}

/// Counts what was handed over, also when the client leaves in the midst of it.
struct Counter {
    site: Arc<Site>,
    /// The ledger's entry, unless somebody else counts.
    entry: Option<u64>,
    sent: u64,
    length: u64,
    delivery: Option<Delivery>,
}

impl Counter {
    /// Counts before the last block goes out, so that whoever has the whole file finds it counted.
    fn add(&mut self, bytes: u64) {
        self.sent += bytes;
        if self.sent == self.length {
            self.note();
            if let Some(delivery) = self.delivery.take() {
                delivery.count();
            }
        }
    }

    fn note(&self) {
        if let Some(sequence) = self.entry {
            self.site.ledger.set_sent(sequence, self.sent);
        }
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        self.note();
    }
}

fn response(body: Body, transfer: &Transfer, range: Range, length: u64) -> Response<Body> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if let Ok(disposition) = HeaderValue::from_str(&disposition(&transfer.file_name)) {
        headers.insert(header::CONTENT_DISPOSITION, disposition);
    }
    if let Range::Part { first, last } = range {
        if let Ok(value) = HeaderValue::from_str(&format!("bytes {first}-{last}/{}", transfer.size)) {
            headers.insert(header::CONTENT_RANGE, value);
        }
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    response
}

/// `attachment` with a plain name and one in UTF-8 (RFC 6266, RFC 8187).
pub(super) fn disposition(name: &str) -> String {
    let plain: String = name
        .chars()
        .map(|c| if (' '..='~').contains(&c) && c != '"' && c != '\\' { c } else { '_' })
        .collect();
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$&+-.^_`|~".contains(c);
    let plain = if plain.chars().all(is_token) { plain } else { format!("\"{plain}\"") };
    let mut extended = String::new();
    for byte in name.bytes() {
        let c = char::from(byte);
        if byte.is_ascii() && is_token(c) {
            extended.push(c);
        } else {
            extended.push('%');
            extended.push_str(&super::upload::hex(&[byte]).to_ascii_uppercase());
        }
    }
    format!("attachment; filename={plain}; filename*=UTF-8''{extended}")
}

/// What a confirmation comes to.
enum Confirmed {
    Refused(Refusal),
    /// It was confirmed before: nothing is written.
    Before,
    One,
    All,
}

/// `POST …/confirmdownload`.
pub(in crate::sandbox) fn confirm(
    site: &Site,
    caller: &Caller,
    transfer: &Transfer,
    note: &mut Note,
) -> Result<Response<Body>, Refusal> {
    caller.must_be_recipient(site, transfer)?;
    let party = caller.party().ok_or(Fault::NoAccess)?;
    let now = site.now();
    let outcome = site.depot.change(transfer.id, |transfer| {
        if !transfer.stored {
            return Confirmed::Refused(Fault::NothingUploaded.into());
        }
        if transfer.status() != Status::Published {
            return Confirmed::Refused(Fault::NotPublished.into());
        }
        match transfer.highest(&party) {
            None => Confirmed::Refused(Refusal::Unhandled),
            Some(RecipientStatus::DownloadConfirmed) => Confirmed::Before,
            Some(RecipientStatus::Initialized) => Confirmed::Refused(Fault::NotDownloaded.into()),
            Some(RecipientStatus::DownloadStarted) => {
                let vendor = caller.vendor.as_deref();
                transfer.enter_recipient(&party, RecipientStatus::DownloadConfirmed, vendor, now);
                site.tell_recipient("downloadconfirmed", transfer, &party);
                site.tell_sender("downloadconfirmed", transfer);
                let all = transfer
                    .recipient_organizations()
                    .into_iter()
                    .all(|recipient| transfer.highest(recipient) == Some(RecipientStatus::DownloadConfirmed));
                if all && site.faults.strikes(Quirk::AllConfirmedMissed, caller.organization()).is_none() {
                    transfer.enter(Status::AllConfirmedDownloaded, None, now);
                    site.tell_sender("allconfirmeddownloaded", transfer);
                    if let Some(grace) = grace(site, transfer) {
                        site.agenda.add(site.due(now, grace), Job::Grace(transfer.id));
                    }
                    return Confirmed::All;
                }
                Confirmed::One
            }
        }
    });
    note.entry.effect = match outcome {
        None => return Err(Fault::NotFound.into()),
        Some(Confirmed::Refused(refusal)) => return Err(refusal),
        Some(Confirmed::Before) => None,
        Some(Confirmed::One) => Some("confirmed"),
        Some(Confirmed::All) => Some("all confirmed"),
    };
    Ok(bare(StatusCode::NO_CONTENT))
}

/// The grace period, where the resource purges after the last confirmation.
pub(in crate::sandbox) fn grace(site: &Site, transfer: &Transfer) -> Option<Duration> {
    site.look(|world| {
        let Some(resource) = world.resources.get(&transfer.resource) else {
            return Some(site.settings.grace);
        };
        resource.purge_after_all_confirmed.then(|| resource.grace.unwrap_or(site.settings.grace))
    })
}
