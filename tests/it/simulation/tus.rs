//! Resumable uploads at the small Altinn: what is *accepted* and what is *stored* are two numbers, and a chunk that was
//! cut may be counted and never be stored.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use md5::{Digest, Md5};
use reqwest::Method;

use super::call::{Call, Operation, Reply};
use super::server::Server;
use super::transfer::{SCAN, Transfer, hex};

/// How long a chunk that was accepted takes to be stored, and an upload that is whole to be put together.
pub(crate) const STORES: Duration = Duration::from_millis(20);
/// Where uploads lie.
pub(crate) const BASE: &str = "/broker/api/v1/filetransfer/upload/tus/";
const NOT_FOUND: &str = "The requested file transfer was not found";
const PAST: &str = "A file transfer has already been, or attempted to be, created. Create a new file transfer resource to try again.";

/// What became of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Stored,
    /// It counts as accepted, and is stored this long afterwards.
    Late(Duration),
    /// It counts as accepted, and is never stored.
    Wedged,
}

/// An upload of the whole file, or of a part of it.
#[derive(Debug, Clone)]
struct Upload {
    length: u64,
    accepted: u64,
    stored: u64,
    chunks: u64,
    part: Option<usize>,
    /// Nothing is known of it any more but its blocks.
    is_forgotten: bool,
}

/// The number of the part, and of the chunk in it. Blocks are joined in this order.
type Block = (Option<usize>, u64);

#[derive(Debug, Clone)]
struct Pending {
    block: Block,
    bytes: Arc<Vec<u8>>,
    at: Timestamp,
}

/// The resumable uploads of a transfer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Desk {
    whole: Option<Upload>,
    parts: Vec<Upload>,
    is_joined: bool,
    blocks: BTreeMap<Block, Arc<Vec<u8>>>,
    pending: Vec<Pending>,
    /// When what is whole is put together.
    finalises: Option<Timestamp>,
    /// The sender is known, and its rights are not looked at again.
    session: bool,
    /// The last sign of life.
    pub(crate) active: Option<Timestamp>,
    pub(crate) changes: u64,
    /// Bytes that came in chunks, whatever became of them.
    pub(crate) received: u64,
}

/// Which upload is meant: the whole, or a part by its number.
type Target = Option<usize>;

impl Desk {
    fn upload(&self, target: Target) -> Option<&Upload> {
        let upload = match target {
            None => self.whole.as_ref(),
            Some(part) => self.parts.get(part),
        };
        upload.filter(|upload| !upload.is_forgotten)
    }

    fn upload_mut(&mut self, target: Target) -> Option<&mut Upload> {
        let upload = match target {
            None => self.whole.as_mut(),
            Some(part) => self.parts.get_mut(part),
        };
        upload.filter(|upload| !upload.is_forgotten)
    }

    fn leftovers(&self) -> u64 {
        self.blocks.iter().filter(|(block, _)| block.0.is_none()).map(|(_, bytes)| bytes.len() as u64).sum()
    }

    fn length(&self, target: Target) -> Option<u64> {
        let left = || target.is_none().then(|| self.leftovers()).filter(|left| *left > 0);
        self.upload(target).map(|upload| upload.length).or_else(left)
    }

    fn durable(&self, target: Target) -> u64 {
        let stored = self.upload(target).map_or(0, |upload| upload.stored);
        let left = Some(self.leftovers()).filter(|left| *left > 0);
        if target.is_none() { left.unwrap_or(stored) } else { stored }
    }

    fn is_whole(&self) -> bool {
        self.upload(None).is_some_and(|upload| {
            upload.length > 0 && upload.accepted >= upload.length && upload.stored >= upload.length
        })
    }

    fn finalise_soon(&mut self, now: Timestamp) {
        if self.is_whole() && self.finalises.is_none() {
            self.finalises = Some(now + STORES);
            self.changes += 1;
        }
    }

    /// Stores what has become due; the content, where it is whole and due.
    pub(crate) fn pass(&mut self, now: Timestamp) -> Option<(Timestamp, Arc<Vec<u8>>)> {
        while let Some(place) = self.pending.iter().position(|pending| pending.at <= now) {
            let Pending { block, bytes, at } = self.pending.remove(place);
            if let Some(upload) = self.upload_mut(block.0) {
                upload.stored += bytes.len() as u64;
            }
            self.blocks.insert(block, bytes);
            self.changes += 1;
            self.finalise_soon(at);
        }
        let at = self.finalises.filter(|at| *at <= now)?;
        self.finalises = None;
        let blocks = self.blocks.iter().filter(|(block, _)| block.0.is_some() == self.is_joined);
        let content: Vec<u8> = blocks.flat_map(|(_, bytes)| bytes.iter().copied()).collect();
        let is_fitting = self.is_whole() && self.length(None) == Some(content.len() as u64);
        self.changes += 1;
        is_fitting.then(|| (at, Arc::new(content)))
    }

    /// Nothing is left but who took part.
    pub(crate) fn close(&mut self) {
        let (session, active, received) = (self.session, self.active, self.received);
        *self = Self { session, active, received, changes: self.changes + 1, ..Self::default() };
    }

    pub(crate) fn hash(&self, hasher: &mut DefaultHasher) {
        for upload in self.whole.iter().chain(&self.parts) {
            (upload.length, upload.accepted, upload.stored, upload.chunks, upload.is_forgotten).hash(hasher);
        }
        (self.whole.is_some(), self.is_joined, self.session, self.finalises.is_some()).hash(hasher);
        self.blocks.hash(hasher);
        self.pending.iter().map(|pending| (pending.block, &pending.bytes)).collect::<Vec<_>>().hash(hasher);
    }
}

fn target(call: &Call) -> Option<Target> {
    let rest = call.path.strip_prefix(BASE)?;
    match rest.split_once("/partial/") {
        None => Some(None),
        Some((_, part)) => Some(Some(usize::from_str_radix(part, 16).unwrap_or(usize::MAX))),
    }
}

/// The path of an upload.
fn location(id: &str, target: Target) -> String {
    target.map_or_else(|| format!("{BASE}{id}"), |part| format!("{BASE}{id}/partial/{part:032x}"))
}

fn told(status: u16, headers: &[(&'static str, u64)]) -> Reply {
    let mut reply = Reply::bare(status, "");
    reply.headers.push(("tus-resumable", "1.0.0".to_owned()));
    reply.headers.extend(headers.iter().map(|(name, value)| (*name, value.to_string())));
    reply
}

fn text(status: u16, text: &str) -> Reply {
    let headers = vec![("content-type", "text/plain".to_owned())];
    Reply { status, headers, body: text.to_owned().into() }
}

fn is_open(transfer: &Transfer) -> bool {
    ["Initialized", "UploadStarted"].contains(&transfer.status())
}

fn goes_on(transfer: &Transfer) -> bool {
    ["UploadStarted", "UploadProcessing"].contains(&transfer.status())
}

impl Server {
    fn tus_transfer(&mut self, call: &Call) -> Option<&mut Transfer> {
        self.transfers.iter_mut().find(|transfer| transfer.id == call.id())
    }

    /// Forgets the upload that a call is about, and who sends it, as after a day without a sign of life.
    pub(crate) fn forget(&mut self, call: &Call) {
        let (target, Some(transfer)) = (target(call), self.tus_transfer(call)) else { return };
        let desk = &mut transfer.tus;
        if let Some(upload) = target.and_then(|target| desk.upload_mut(target)) {
            upload.is_forgotten = true;
            (desk.session, desk.changes) = (false, desk.changes + 1);
        }
    }

    /// Answers a call about a resumable upload that has no body.
    pub(crate) fn tus(&mut self, call: &Call, now: Timestamp) -> Reply {
        let operation = call.operation();
        let reply = match self.tus_transfer(call) {
            None => text(404, NOT_FOUND),
            Some(transfer) => match operation {
                Operation::TusCreate => create(transfer, call, now),
                Operation::TusJoin => join(transfer, call, now),
                _ => look(transfer, call, now),
            },
        };
        if operation == Operation::TusHead {
            // The reason of a refusal has no place.
            return Reply { body: Bytes::new(), ..reply };
        }
        reply
    }

    /// The checks before a chunk: the refusal, or how many bytes there is room for.
    pub(crate) fn begin_chunk(&mut self, call: &Call, now: Timestamp) -> Result<u64, Reply> {
        self.pass(now);
        *self.calls.entry(Operation::TusPatch).or_default() += 1;
        let unknown = text(404, NOT_FOUND);
        let (Some(target), Some(transfer)) = (target(call), self.tus_transfer(call)) else {
            return Err(unknown);
        };
        let Some(offset) = call.tus("upload-offset").and_then(|offset| offset.parse::<u64>().ok()) else {
            return Err(text(400, "Missing Upload-Offset header"));
        };
        let length = transfer.tus.length(target);
        if let Some(length) = length.filter(|length| *length > 0 && offset >= *length)
            && recover(transfer, target, now).is_ok()
        {
            transfer.tus.active = Some(now);
            return Err(told(204, &[("upload-offset", length)]));
        }
        let is_refused = if transfer.tus.session { !goes_on(transfer) } else { !is_open(transfer) };
        if is_refused {
            return Err(text(409, PAST));
        }
        recover(transfer, target, now)?;
        let Some(length) = transfer.tus.length(target) else {
            return Err(told(if transfer.content.is_some() { 500 } else { 404 }, &[]));
        };
        if target.is_none() && transfer.tus.is_joined {
            return Err(text(403, "File with \"Upload-Concat: final\" cannot be patched"));
        }
        transfer.tus.session = true;
        transfer.tus.active = Some(now);
        let accepted = transfer.tus.upload(target).map_or(0, |upload| upload.accepted);
        if offset != accepted {
            let wrong =
                format!("Offset does not match file. File offset: {accepted}. Request offset: {offset}");
            return Err(text(409, &wrong));
        }
        Ok(length - offset)
    }

    /// Counts the bytes of a chunk that have come; how long its answer waits until they are stored.
    pub(crate) fn end_chunk(
        &mut self,
        call: &Call,
        bytes: Vec<u8>,
        fate: Fate,
        now: Timestamp,
    ) -> (Reply, Option<Duration>) {
        self.pass(now);
        let Some(target) = target(call) else { return (text(404, NOT_FOUND), None) };
        let transfer = self.tus_transfer(call).unwrap();
        let desk = &mut transfer.tus;
        desk.received += bytes.len() as u64;
        let Some(upload) = desk.upload_mut(target) else {
            return (text(400, "Upload offset conflict"), None);
        };
        let (size, room) = (bytes.len() as u64, upload.length - upload.accepted);
        if size > room {
            return (text(413, "Request contains more data than the file's upload length"), None);
        }
        let block = (upload.part, upload.chunks);
        if size > 0 {
            upload.accepted += size;
            upload.chunks += 1;
        }
        let (offset, is_last) = (upload.accepted, upload.accepted == upload.length);
        let stores = match fate {
            Fate::Late(late) => late,
            Fate::Stored | Fate::Wedged => STORES,
        };
        if size > 0 && fate != Fate::Wedged {
            desk.pending.push(Pending { block, bytes: Arc::new(bytes), at: now + stores });
        }
        desk.active = Some(now);
        desk.changes += 1;
        (told(204, &[("upload-offset", offset)]), (is_last && target.is_some()).then_some(2 * stores))
    }
}

/// Looking and sending get the putting together going again. Where nothing is known, this throws.
fn recover(transfer: &mut Transfer, target: Target, now: Timestamp) -> Result<(), Reply> {
    if !goes_on(transfer) || transfer.content.is_some() {
        return Ok(());
    }
    if transfer.tus.length(target).is_none() {
        return Err(Reply::bare(500, ""));
    }
    if target.is_none() {
        transfer.tus.finalise_soon(now);
    }
    Ok(())
}

fn look(transfer: &mut Transfer, call: &Call, now: Timestamp) -> Reply {
    let Some(target) = target(call) else { return told(404, &[]) };
    if transfer.tus.session && !goes_on(transfer) {
        return text(409, PAST);
    }
    if let Err(thrown) = recover(transfer, target, now) {
        return thrown;
    }
    let length = transfer.tus.length(target);
    if length.is_none() && transfer.content.is_none() {
        return told(404, &[]);
    }
    transfer.tus.active = Some(now);
    match length {
        Some(length) => {
            told(200, &[("upload-offset", transfer.tus.durable(target)), ("upload-length", length)])
        }
        None => told(200, &[("upload-offset", transfer.content.as_ref().map_or(0, |it| it.len() as u64))]),
    }
}

fn create(transfer: &mut Transfer, call: &Call, now: Timestamp) -> Reply {
    if !is_open(transfer) {
        return text(409, PAST);
    }
    let Some(length) = call.tus("upload-length").and_then(|length| length.parse().ok()) else {
        return text(400, "Missing Upload-Length header");
    };
    if transfer.status() == "Initialized" {
        transfer.set("UploadStarted", "", now);
    }
    let desk = &mut transfer.tus;
    let is_part = call.tus("upload-concat") == Some("partial");
    let part = is_part.then_some(desk.parts.len());
    let upload = Upload { length, accepted: 0, stored: 0, chunks: 0, part, is_forgotten: false };
    if is_part {
        desk.parts.push(upload);
    } else {
        (desk.whole, desk.is_joined) = (Some(upload), false);
    }
    desk.session = true;
    desk.active = Some(now);
    desk.changes += 1;
    let mut reply = told(201, &[]);
    reply.headers.push(("location", location(call.id(), part)));
    reply
}

fn join(transfer: &mut Transfer, call: &Call, now: Timestamp) -> Reply {
    if !is_open(transfer) {
        return text(409, PAST);
    }
    transfer.tus.session = true;
    let list = call.tus("upload-concat").and_then(|list| list.strip_prefix("final;")).unwrap_or_default();
    let mut uploads = Vec::new();
    for path in list.split(' ') {
        let part = Call { method: Method::HEAD, path: path.to_owned(), ..call.clone() };
        let Some(upload) = target(&part).flatten().and_then(|part| transfer.tus.upload(Some(part))) else {
            return text(400, "Could not find some of the files supplied for concatenation");
        };
        uploads.push((upload.accepted, upload.stored, upload.length));
    }
    let mut length = 0;
    for (accepted, stored, of_part) in uploads {
        if accepted < of_part {
            return text(400, "Some of the files supplied for concatenation are not finished");
        }
        if stored < of_part {
            return text(400, "Partial upload is not ready for concatenation.");
        }
        length += of_part;
    }
    if transfer.status() != "UploadStarted" {
        return text(409, PAST);
    }
    transfer.set("UploadProcessing", "", now);
    let desk = &mut transfer.tus;
    desk.whole =
        Some(Upload { length, accepted: length, stored: length, chunks: 0, part: None, is_forgotten: false });
    desk.is_joined = true;
    desk.active = Some(now);
    desk.changes += 1;
    desk.finalise_soon(now);
    let mut reply = told(201, &[]);
    reply.headers.push(("location", location(call.id(), None)));
    reply
}

impl Transfer {
    /// Does what has become due for its resumable uploads.
    pub(crate) fn pass_tus(&mut self, now: Timestamp) {
        let Some((at, content)) = self.tus.pass(now) else { return };
        if !goes_on(self) {
            return;
        }
        let is_right = self.is_announced(&hex(&Md5::digest(&**content)));
        self.size = content.len();
        self.content = Some(content);
        if self.status() == "UploadStarted" {
            self.set("UploadProcessing", "", at);
        }
        self.processed = Some((at + if is_right && self.is_scanned() { SCAN } else { STORES }, is_right));
        self.tus.close();
    }
}
