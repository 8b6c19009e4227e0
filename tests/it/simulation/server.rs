//! A small Altinn in memory that can be copied at any moment, as far as a client uses it: tokens, initialize, upload,
//! overview, details, search, download and confirm, and resumable uploads (`tus`). It answers as the sandbox does, which a test compares
//! (`honest`); what the sandbox does by itself it does when it is next asked.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use jiff::Timestamp;
use md5::{Digest, Md5};
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::tus::{self, Desk};

/// How long the malware scan takes.
pub(crate) const SCAN: Duration = Duration::from_secs(2);
/// An upload that was begun longer ago has failed.
pub(crate) const STUCK: Duration = Duration::from_mins(6);
/// Recipients that are not simulated confirm this long after publication.
const CONFIRMS: Duration = Duration::from_secs(5);
/// Content is kept this long after the last confirmation.
const GRACE: Duration = Duration::from_hours(2);
const TIME_TO_LIVE: Duration = Duration::from_hours(30 * 24);
const EXTENDS: Duration = Duration::from_mins(30);

/// A request, as far as it matters.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: BTreeMap<String, String>,
    pub(crate) range: Option<String>,
    /// What the headers of resumable uploads say.
    pub(crate) tus: BTreeMap<&'static str, String>,
    /// Which organisation calls, by its token.
    pub(crate) caller: String,
}

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Operation {
    Token,
    Exchange,
    Initialize,
    Upload,
    Overview,
    Details,
    Search,
    Download,
    Confirm,
    TusCreate,
    TusHead,
    TusPatch,
    TusJoin,
}

impl Operation {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Exchange => "exchange",
            Self::Initialize => "initialize",
            Self::Upload => "upload",
            Self::Overview => "overview",
            Self::Details => "details",
            Self::Search => "search",
            Self::Download => "download",
            Self::Confirm => "confirm",
            Self::TusCreate => "tus_create",
            Self::TusHead => "tus_head",
            Self::TusPatch => "tus_patch",
            Self::TusJoin => "tus_join",
        }
    }
}

const BASE: &str = "/broker/api/v1/filetransfer";

impl Call {
    /// A header of resumable uploads.
    pub(crate) fn tus(&self, name: &str) -> Option<&str> {
        self.tus.get(name).map(String::as_str)
    }

    pub(crate) fn operation(&self) -> Operation {
        if self.path.starts_with(tus::BASE) {
            let is_join = self.tus("upload-concat").is_some_and(|parts| parts.starts_with("final"));
            return match self.method {
                Method::HEAD => Operation::TusHead,
                Method::PATCH => Operation::TusPatch,
                _ if is_join => Operation::TusJoin,
                _ => Operation::TusCreate,
            };
        }
        let rest = match self.path.strip_prefix(BASE) {
            Some(rest) => rest.trim_start_matches('/'),
            None if self.path == "/token" => return Operation::Token,
            None => return Operation::Exchange,
        };
        match (self.method == Method::POST, rest.split_once('/'), rest) {
            (true, None, "") => Operation::Initialize,
            (false, None, "") => Operation::Search,
            (false, None, _) => Operation::Overview,
            (true, Some((_, "upload")), _) => Operation::Upload,
            (true, Some((_, "confirmdownload")), _) => Operation::Confirm,
            (false, Some((_, "details")), _) => Operation::Details,
            (false, Some((_, "download")), _) => Operation::Download,
            _ => panic!("no such operation: {self:?}"),
        }
    }

    pub(crate) fn id(&self) -> &str {
        let rest = self.path.strip_prefix(tus::BASE).or_else(|| self.path.strip_prefix(BASE));
        let rest = rest.unwrap_or_default().trim_start_matches('/');
        rest.split('/').next().unwrap_or_default()
    }
}

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Bytes,
}

impl Reply {
    fn json(status: u16, body: &Value) -> Self {
        Self {
            status,
            headers: vec![("content-type", "application/json".to_owned())],
            body: body.to_string().into(),
        }
    }

    pub(crate) fn problem(status: u16, number: u16) -> Self {
        Self::json(
            status,
            &json!({ "status": status, "code": format!("BRO-{number:05}"), "detail": "by the simulation" }),
        )
    }

    pub(crate) fn bare(status: u16, body: &'static str) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Recipient {
    pub(crate) number: String,
    /// Statuses and their times.
    rows: Vec<(&'static str, Timestamp)>,
}

const RECIPIENT_STATUSES: [&str; 3] = ["Initialized", "DownloadStarted", "DownloadConfirmed"];

impl Recipient {
    /// The furthest that it came.
    pub(crate) fn status(&self) -> &'static str {
        let rank = |status: &str| RECIPIENT_STATUSES.iter().position(|known| *known == status);
        self.rows.iter().map(|row| row.0).max_by_key(|status| rank(status)).unwrap_or("Initialized")
    }

    fn latest(&self) -> (&'static str, Timestamp) {
        *self.rows.last().unwrap()
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Transfer {
    pub(crate) id: String,
    pub(crate) request: Map<String, Value>,
    /// Statuses with texts and times.
    history: Vec<(&'static str, String, Timestamp)>,
    pub(crate) recipients: Vec<Recipient>,
    expires: Timestamp,
    pub(crate) content: Option<Arc<Vec<u8>>>,
    checksum: String,
    pub(crate) size: usize,
    pub(crate) published: Option<Timestamp>,
    /// Content that has arrived and is stored at this time, whoever has died meanwhile.
    late: Option<(Timestamp, Arc<Vec<u8>>)>,
    purge: Option<Timestamp>,
    /// When it is known whether the content is what was announced, and whether it is.
    pub(crate) processed: Option<(Timestamp, bool)>,
    pub(crate) tus: Desk,
}

impl Transfer {
    /// Whether an upload may still be stored.
    pub(crate) fn is_being_stored(&self) -> bool {
        self.late.is_some()
    }

    pub(crate) fn status(&self) -> &'static str {
        self.history.last().unwrap().0
    }

    fn changed(&self) -> Timestamp {
        self.history.last().unwrap().2
    }

    pub(crate) fn set(&mut self, status: &'static str, text: &str, at: Timestamp) {
        self.history.push((status, text.to_owned(), at));
    }

    pub(crate) fn name(&self) -> &str {
        self.request["fileName"].as_str().unwrap_or_default()
    }

    pub(crate) fn reference(&self) -> &str {
        self.request["sendersFileTransferReference"].as_str().unwrap_or_default()
    }

    fn sender(&self) -> &str {
        self.request["sender"].as_str().unwrap_or_default()
    }

    /// Whether the content may have this checksum.
    pub(crate) fn is_announced(&self, md5: &str) -> bool {
        let wanted = self.request["checksum"].as_str().unwrap_or_default();
        wanted.is_empty() || wanted == md5
    }

    pub(crate) fn is_scanned(&self) -> bool {
        self.request.get("disableVirusScan").and_then(Value::as_bool) != Some(true)
    }

    /// All of the content has arrived.
    fn store(&mut self, content: Arc<Vec<u8>>, at: Timestamp) -> bool {
        let md5 = hex(&Md5::digest(&**content));
        self.size = content.len();
        if !self.is_announced(&md5) {
            self.set("Failed", "Checksum mismatch", at);
            return false;
        }
        self.checksum = md5;
        self.content = Some(content);
        if self.is_scanned() {
            self.set("UploadProcessing", "", at);
            self.processed = Some((at + SCAN, true));
        } else {
            self.set("Published", "", at);
            self.published = Some(at);
        }
        true
    }

    /// Does what has become due.
    fn pass(&mut self, now: Timestamp, confirms: bool) {
        if self.late.as_ref().is_some_and(|(at, _)| *at <= now)
            && let Some((at, content)) = self.late.take()
        {
            if self.status() == "UploadStarted" {
                self.store(content, at);
            } else {
                // Another upload was quicker: the loser takes the content of both away.
                self.set("Failed", "Error occurred while uploading fileTransfer", at);
                self.content = None;
            }
        }
        self.pass_tus(now);
        let alive = self.changed().max(self.tus.active.unwrap_or(Timestamp::MIN));
        if self.status() == "UploadStarted" && alive + STUCK <= now && self.late.is_none() {
            let text = "File transfer was stuck in UploadStarted as it failed upload mid-request.";
            self.set("Failed", text, alive + STUCK);
            self.tus.close();
        }
        if self.status() == "UploadProcessing"
            && let Some((at, is_right)) = self.processed.filter(|(at, _)| *at <= now)
        {
            self.processed = None;
            if is_right {
                self.set("Published", "", at);
                self.published = Some(at);
            } else {
                self.set("Failed", "Checksum mismatch", at);
                self.content = None;
            }
        }
        if confirms && self.status() == "Published" && self.changed() + CONFIRMS <= now {
            let at = self.changed() + CONFIRMS;
            for recipient in &mut self.recipients {
                recipient.rows.extend([("DownloadStarted", at), ("DownloadConfirmed", at)]);
            }
            self.complete(at);
        }
        if self.status() != "Purged" && (self.purge.is_some_and(|at| at <= now) || self.expires <= now) {
            self.set("Purged", "", now);
            self.content = None;
        }
    }

    fn complete(&mut self, at: Timestamp) {
        self.set("AllConfirmedDownloaded", "", at);
        self.purge = Some(at + GRACE);
    }

    fn overview(&self) -> Value {
        let recipients: Vec<Value> = self
            .recipients
            .iter()
            .map(|recipient| {
                json!({
                    "recipient": recipient.number,
                    "currentRecipientFileTransferStatusCode": recipient.status(),
                    "currentRecipientFileTransferStatusText": recipient.status(),
                    "currentRecipientFileTransferStatusChanged": time(recipient.latest().1),
                })
            })
            .collect();
        let (status, text, changed) = self.history.last().unwrap();
        json!({
            "fileTransferId": self.id,
            "resourceId": self.request["resourceId"],
            "fileName": self.request["fileName"],
            "sendersFileTransferReference": self.request["sendersFileTransferReference"],
            "checksum": self.checksum,
            "useVirusScan": self.is_scanned(),
            "fileTransferSize": self.size,
            "fileTransferStatus": status,
            "fileTransferStatusText": text,
            "fileTransferStatusChanged": time(*changed),
            "created": time(self.history[0].2),
            "expirationTime": time(self.expires),
            "sender": self.request["sender"],
            "recipients": recipients,
            "propertyList": self.request.get("propertyList").cloned().unwrap_or_else(|| json!({})),
            "published": self.published.map(time),
        })
    }

    fn details(&self) -> Value {
        let mut details = self.overview();
        let history: Vec<Value> = self
            .history
            .iter()
            .map(|(status, text, at)| {
                json!({ "fileTransferStatus": status, "fileTransferStatusText": text, "fileTransferStatusChanged": time(*at) })
            })
            .collect();
        let rows = self.recipients.iter().flat_map(|recipient| {
            recipient.rows.iter().map(|(status, at)| {
                json!({
                    "recipient": recipient.number,
                    "recipientFileTransferStatusCode": status,
                    "recipientFileTransferStatusText": status,
                    "recipientFileTransferStatusChanged": time(*at),
                })
            })
        });
        details["recipientFileTransferStatusHistory"] = rows.collect();
        details["fileTransferStatusHistory"] = history.into();
        details.as_object_mut().unwrap().remove("published");
        details
    }
}

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
        let recipients = request.get("recipients").and_then(Value::as_array).cloned().unwrap_or_default();
        let lacks = ["fileName", "resourceId", "sendersFileTransferReference", "sender"];
        if lacks.iter().any(|name| text(name).is_empty()) || recipients.is_empty() {
            return Reply::json(400, &json!({ "status": 400, "errors": { "FileName": ["is required"] } }));
        }
        let id = format!("00000000-0000-4000-8000-{:012}", self.transfers.len() + 1);
        let recipient = |value: &Value| {
            let number = value.as_str().unwrap_or_default().rsplit(':').next().unwrap_or_default();
            Recipient { number: format!("0192:{number}"), rows: vec![("Initialized", now)] }
        };
        self.transfers.push(Transfer {
            id: id.clone(),
            checksum: text("checksum").to_owned(),
            recipients: recipients.iter().map(recipient).collect(),
            request: request.clone(),
            history: vec![("Initialized", String::new(), now)],
            expires: now + TIME_TO_LIVE,
            content: None,
            size: 0,
            published: None,
            late: None,
            purge: None,
            processed: None,
            tus: Desk::default(),
        });
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
                None => transfer.history[0].2,
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
        let of = |transfer: &Transfer| {
            let rows: usize = transfer.recipients.iter().map(|recipient| recipient.rows.len()).sum();
            transfer.history.len() + rows + usize::from(transfer.late.is_some())
        };
        self.transfers.iter().map(|transfer| 1 + of(transfer) as u64 + transfer.tus.changes).sum()
    }

    /// What tells two servers apart, but for times.
    pub(crate) fn hash(&self, hasher: &mut DefaultHasher) {
        for transfer in &self.transfers {
            (&transfer.id, transfer.status(), transfer.content.is_some(), transfer.published.is_some())
                .hash(hasher);
            (transfer.late.is_some(), transfer.name(), transfer.reference()).hash(hasher);
            transfer.processed.map(|(_, is_right)| is_right).hash(hasher);
            transfer.tus.hash(hasher);
            let statuses = |recipient: &Recipient| (recipient.status(), recipient.latest().0);
            transfer.recipients.iter().map(statuses).collect::<Vec<_>>().hash(hasher);
        }
    }
}

/// The claims of a grant, and a token that remembers them.
fn granted(body: &[u8]) -> Reply {
    let grant = url::form_urlencoded::parse(body).find(|(name, _)| name == "assertion");
    let Some((_, grant)) = grant else { return Reply::json(400, &json!({ "error": "invalid_grant" })) };
    let organization = organization(&grant).unwrap_or_default();
    let token = token(&json!({ "org": organization }));
    Reply::json(200, &json!({ "access_token": token, "token_type": "Bearer", "expires_in": 120 }))
}

fn exchanged(call: &Call, now: Timestamp) -> Reply {
    let expires = (now + EXTENDS).as_second();
    let text = token(&json!({ "org": call.caller, "exp": expires }));
    Reply { status: 200, headers: vec![("content-type", "text/plain".to_owned())], body: text.into() }
}

fn token(claims: &Value) -> String {
    format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()))
}

/// What a token or grant says.
fn claims(token: &str) -> Option<Value> {
    let payload = token.split('.').nth(1)?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}

fn organization(grant: &str) -> Option<String> {
    let details = claims(grant)?;
    Some(details["authorization_details"][0]["systemuser_org"]["ID"].as_str()?.to_owned())
}

/// For whom a token is.
pub(crate) fn caller(authorization: &str) -> String {
    let token = authorization.strip_prefix("Bearer ").unwrap_or_default();
    let org = claims(token).and_then(|claims| Some(claims["org"].as_str()?.to_owned()));
    org.unwrap_or_default()
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

fn time(at: Timestamp) -> String {
    at.to_string()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// A transfer that somebody else has sent.
pub(crate) fn published(server: &mut Server, request: &Value, content: &[u8], now: Timestamp) {
    let mut request = request.clone();
    request["checksum"] = hex(&Md5::digest(content)).into();
    request["disableVirusScan"] = true.into();
    server.initialize(request.to_string().as_bytes(), now);
    let id = server.transfers.last().unwrap().id.clone();
    assert!(server.begin_upload(&id, now).is_none());
    assert_eq!(
        server.end_upload(&id, Rc::unwrap_or_clone(Rc::new(Arc::new(content.to_vec()))), now).status,
        200
    );
}
