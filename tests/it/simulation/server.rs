//! A small Altinn in memory that can be copied at any moment, as far as a client uses it: tokens, initialize, upload,
//! overview, details, search, download and confirm, and resumable uploads (`tus`). It answers as the sandbox does, which a test compares
//! (`honest`); what the sandbox does by itself it does when it is next asked.

use std::collections::BTreeMap;
use std::hash::DefaultHasher;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use md5::{Digest, Md5};
use serde_json::{Value, json};

use super::call::{Call, Operation, Reply};
use super::tokens::{exchanged, granted};
use super::transfer::{Transfer, hex};

/// All that Altinn knows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Server {
    pub(crate) transfers: Vec<Transfer>,
    /// Whether recipients that are not simulated confirm by themselves.
    pub(crate) confirms: bool,
    /// Effects that may happen once.
    pub(crate) confirmations: BTreeMap<String, u32>,
    pub(crate) calls: BTreeMap<Operation, u32>,
}

impl Server {
    pub(crate) fn find(&self, id: &str) -> Option<&Transfer> {
        self.transfers.iter().find(|transfer| transfer.id == id)
    }

    /// Does what has become due.
    pub(crate) fn pass(&mut self, now: Timestamp) {
        for transfer in &mut self.transfers {
            transfer.pass(now, self.confirms);
        }
    }

    /// Answers a call whose body, if it has one, is small.
    pub(crate) fn answer(&mut self, call: &Call, body: &[u8], now: Timestamp) -> Reply {
        self.pass(now);
        *self.calls.entry(call.operation()).or_default() += 1;
        match call.operation() {
            Operation::Token => granted(body),
            Operation::Exchange => exchanged(call, now),
            Operation::Initialize => self.initialize(body, now),
            Operation::Search => self.search(call),
            Operation::Overview => self.shown(call, Transfer::overview),
            Operation::Details => self.shown(call, Transfer::details),
            Operation::Download => self.download(call, now),
            Operation::Confirm => self.confirm(call, now),
            Operation::TusCreate | Operation::TusHead | Operation::TusJoin => self.tus(call, now),
            Operation::Upload | Operation::TusPatch => panic!("an upload has a body of its own"),
        }
    }

    fn initialize(&mut self, body: &[u8], now: Timestamp) -> Reply {
        let Ok(Value::Object(request)) = serde_json::from_slice(body) else { return Reply::bare(400, "{}") };
        let text = |name: &str| request.get(name).and_then(Value::as_str).unwrap_or_default();
        let has_recipients = request
            .get("recipients")
            .and_then(Value::as_array)
            .is_some_and(|recipients| !recipients.is_empty());
        let lacks = ["fileName", "resourceId", "sendersFileTransferReference", "sender"];
        if lacks.iter().any(|name| text(name).is_empty()) || !has_recipients {
            return Reply::json(400, &json!({ "status": 400, "errors": { "FileName": ["is required"] } }));
        }
        let id = format!("00000000-0000-4000-8000-{:012}", self.transfers.len() + 1);
        self.transfers.push(Transfer::new(&id, request.clone(), now));
        Reply::json(200, &json!({ "fileTransferId": id }))
    }

    /// The checks before an upload; it has begun where they pass.
    pub(crate) fn begin_upload(&mut self, id: &str, now: Timestamp) -> Option<Reply> {
        self.pass(now);
        *self.calls.entry(Operation::Upload).or_default() += 1;
        let Some(transfer) = self.transfers.iter_mut().find(|transfer| transfer.id == id) else {
            return Some(Reply::problem(404, 1));
        };
        if !["Initialized", "UploadStarted"].contains(&transfer.status()) {
            return Some(Reply::problem(409, 4));
        }
        transfer.set("UploadStarted", "", now);
        None
    }

    /// The whole body of an upload is there.
    pub(crate) fn end_upload(&mut self, id: &str, content: Arc<Vec<u8>>, now: Timestamp) -> Reply {
        self.pass(now);
        let transfer = self.transfers.iter_mut().find(|transfer| transfer.id == id).unwrap();
        if transfer.status() != "UploadStarted" {
            // Another upload was quicker: the loser takes the content of both away.
            transfer.set("Failed", "Error occurred while uploading fileTransfer", now);
            transfer.content = None;
            return Reply::problem(500, 8);
        }
        if transfer.store(content, now) {
            Reply::json(200, &json!({ "fileTransferId": id }))
        } else {
            Reply::problem(400, 9)
        }
    }

    /// The whole body of an upload is there, and is stored some time later, whether or not anybody waits for it.
    pub(crate) fn end_upload_late(&mut self, id: &str, content: Arc<Vec<u8>>, at: Timestamp) {
        let transfer = self.transfers.iter_mut().find(|transfer| transfer.id == id).unwrap();
        transfer.late = Some((at, content));
    }

    fn shown(&self, call: &Call, show: fn(&Transfer) -> Value) -> Reply {
        match self.find(call.id()) {
            Some(transfer) => Reply::json(200, &show(transfer)),
            None => Reply::problem(404, 1),
        }
    }

    fn search(&self, call: &Call) -> Reply {
        let text = |name: &str| call.query.get(name).map(String::as_str);
        let moment = |name: &str| text(name).map(|text| text.parse::<Timestamp>().unwrap());
        let mut found = Vec::new();
        for transfer in &self.transfers {
            let own = transfer.recipients.iter().find(|recipient| recipient.number == call.caller);
            let is_sender = transfer.sender() == call.caller;
            let takes_part = match (text("recipientStatus"), text("role")) {
                (Some(wanted), _) => own.is_some_and(|own| own.latest().0 == wanted),
                (None, Some("Sender")) => is_sender,
                (None, Some("Recipient")) => own.is_some(),
                (None, _) => is_sender || own.is_some(),
            };
            let entered = match text("status") {
                Some(wanted) if wanted == transfer.status() => transfer.changed(),
                Some(_) => continue,
                None => transfer.created(),
            };
            let fits = match (moment("from"), moment("to")) {
                (Some(from), Some(to)) => (from..=to).contains(&entered),
                (Some(from), None) => entered > from,
                (None, Some(to)) => entered < to,
                (None, None) => true,
            };
            let is_of = transfer.request["resourceId"].as_str() == text("resourceId");
            if takes_part && fits && is_of {
                found.push((entered, transfer.id.clone()));
            }
        }
        found.sort();
        if text("orderAscending") != Some("true") {
            found.reverse();
        }
        found.truncate(100);
        Reply::json(200, &found.into_iter().map(|(_, id)| Value::from(id)).collect())
    }

    fn download(&mut self, call: &Call, now: Timestamp) -> Reply {
        let Some(transfer) = self.transfers.iter_mut().find(|transfer| transfer.id == call.id()) else {
            return Reply::problem(404, 1);
        };
        let content = match &transfer.content {
            Some(content) if ["Published", "AllConfirmedDownloaded"].contains(&transfer.status()) => {
                Arc::clone(content)
            }
            _ => return Reply::problem(403, 7),
        };
        let size = content.len();
        let range = match call.range.as_deref().map(|range| range_of(range, size)) {
            None | Some(Asked::Ignored) => None,
            Some(Asked::Never) => return Reply::problem(416, 29),
            Some(Asked::Part(first, last)) => Some((first, last)),
        };
        if let Some(own) = transfer.recipients.iter_mut().find(|own| own.number == call.caller) {
            own.rows.push(("DownloadStarted", now));
        }
        let (status, (first, end)) = match range {
            Some((first, last)) => (206, (first, last + 1)),
            None => (200, (0, size)),
        };
        let mut headers = vec![
            ("content-type", "application/octet-stream".to_owned()),
            ("content-length", (end - first).to_string()),
        ];
        if status == 206 {
            headers.push(("content-range", format!("bytes {first}-{}/{size}", end - 1)));
        }
        Reply { status, headers, body: Bytes::copy_from_slice(&content[first..end]) }
    }

    fn confirm(&mut self, call: &Call, now: Timestamp) -> Reply {
        let Some(transfer) = self.transfers.iter_mut().find(|transfer| transfer.id == call.id()) else {
            return Reply::problem(404, 1);
        };
        if transfer.published.is_none() && transfer.content.is_none() {
            return Reply::problem(400, 3);
        }
        if transfer.status() != "Published" {
            return Reply::problem(400, 10);
        }
        let Some(own) = transfer.recipients.iter_mut().find(|own| own.number == call.caller) else {
            return Reply::bare(500, "");
        };
        match own.status() {
            "DownloadConfirmed" => return Reply::bare(204, ""),
            "Initialized" => return Reply::problem(400, 19),
            _ => own.rows.push(("DownloadConfirmed", now)),
        }
        *self.confirmations.entry(transfer.id.clone()).or_default() += 1;
        if transfer.recipients.iter().all(|recipient| recipient.status() == "DownloadConfirmed") {
            transfer.complete(now);
        }
        Reply::bare(204, "")
    }

    /// Another number after each change.
    pub(crate) fn revision(&self) -> u64 {
        self.transfers.iter().map(Transfer::revision).sum()
    }

    /// What tells two servers apart, but for times.
    pub(crate) fn hash(&self, hasher: &mut DefaultHasher) {
        for transfer in &self.transfers {
            transfer.hash(hasher);
        }
    }
}

enum Asked {
    Part(usize, usize),
    Ignored,
    Never,
}

fn range_of(range: &str, size: usize) -> Asked {
    let Some((first, last)) = range.strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
        return Asked::Ignored;
    };
    let Ok(first) = first.parse::<usize>() else { return Asked::Ignored };
    let last = if last.is_empty() { usize::MAX } else { last.parse().unwrap_or(usize::MAX) };
    if last < first {
        Asked::Ignored
    } else if first >= size {
        Asked::Never
    } else {
        Asked::Part(first, last.min(size - 1))
    }
}

/// A transfer that somebody else has sent.
pub(crate) fn published(server: &mut Server, request: &Value, content: &[u8], now: Timestamp) {
    let mut request = request.clone();
    request["checksum"] = hex(&Md5::digest(content)).into();
    request["disableVirusScan"] = true.into();
    server.initialize(request.to_string().as_bytes(), now);
    let id = server.transfers.last().unwrap().id.clone();
    assert!(server.begin_upload(&id, now).is_none());
    assert_eq!(server.end_upload(&id, Arc::new(content.to_vec()), now).status, 200);
}
