//! A transfer at the small Altinn: its statuses, its recipients, and what happens to it by itself.

use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use md5::{Digest, Md5};
use serde_json::{Map, Value, json};

use super::tus::Desk;

/// How long the malware scan takes.
pub(crate) const SCAN: Duration = Duration::from_secs(2);
/// An upload that was begun longer ago has failed.
pub(crate) const STUCK: Duration = Duration::from_mins(6);
/// Recipients that are not simulated confirm this long after publication.
const CONFIRMS: Duration = Duration::from_secs(5);
/// Content is kept this long after the last confirmation.
const GRACE: Duration = Duration::from_hours(2);
const TIME_TO_LIVE: Duration = Duration::from_hours(30 * 24);

#[derive(Debug, Clone)]
pub(crate) struct Recipient {
    pub(crate) number: String,
    /// Statuses and their times.
    pub(crate) rows: Vec<(&'static str, Timestamp)>,
}

const RECIPIENT_STATUSES: [&str; 3] = ["Initialized", "DownloadStarted", "DownloadConfirmed"];

impl Recipient {
    /// The furthest that it came.
    pub(crate) fn status(&self) -> &'static str {
        let rank = |status: &str| RECIPIENT_STATUSES.iter().position(|known| *known == status);
        self.rows.iter().map(|row| row.0).max_by_key(|status| rank(status)).unwrap_or("Initialized")
    }

    pub(crate) fn latest(&self) -> (&'static str, Timestamp) {
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
    pub(crate) late: Option<(Timestamp, Arc<Vec<u8>>)>,
    purge: Option<Timestamp>,
    /// When it is known whether the content is what was announced, and whether it is.
    pub(crate) processed: Option<(Timestamp, bool)>,
    pub(crate) tus: Desk,
}

impl Transfer {
    /// What a request to initialize makes.
    pub(crate) fn new(id: &str, request: Map<String, Value>, now: Timestamp) -> Self {
        let text = |name: &str| request.get(name).and_then(Value::as_str).unwrap_or_default();
        let recipient = |value: &Value| {
            let number = value.as_str().unwrap_or_default().rsplit(':').next().unwrap_or_default();
            Recipient { number: format!("0192:{number}"), rows: vec![("Initialized", now)] }
        };
        let recipients = request.get("recipients").and_then(Value::as_array);
        Self {
            id: id.to_owned(),
            checksum: text("checksum").to_owned(),
            recipients: recipients.into_iter().flatten().map(recipient).collect(),
            history: vec![("Initialized", String::new(), now)],
            expires: now + TIME_TO_LIVE,
            content: None,
            size: 0,
            published: None,
            late: None,
            purge: None,
            processed: None,
            tus: Desk::default(),
            request,
        }
    }

    /// Whether an upload may still be stored.
    pub(crate) fn is_being_stored(&self) -> bool {
        self.late.is_some()
    }

    pub(crate) fn status(&self) -> &'static str {
        self.history.last().unwrap().0
    }

    pub(crate) fn created(&self) -> Timestamp {
        self.history[0].2
    }

    pub(crate) fn changed(&self) -> Timestamp {
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

    pub(crate) fn sender(&self) -> &str {
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
    pub(crate) fn store(&mut self, content: Arc<Vec<u8>>, at: Timestamp) -> bool {
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
    pub(crate) fn pass(&mut self, now: Timestamp, confirms: bool) {
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

    pub(crate) fn complete(&mut self, at: Timestamp) {
        self.set("AllConfirmedDownloaded", "", at);
        self.purge = Some(at + GRACE);
    }

    pub(crate) fn overview(&self) -> Value {
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
            "created": time(self.created()),
            "expirationTime": time(self.expires),
            "sender": self.request["sender"],
            "recipients": recipients,
            "propertyList": self.request.get("propertyList").cloned().unwrap_or_else(|| json!({})),
            "published": self.published.map(time),
        })
    }

    pub(crate) fn details(&self) -> Value {
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

    /// Another number after each change.
    pub(crate) fn revision(&self) -> u64 {
        let rows: usize = self.recipients.iter().map(|recipient| recipient.rows.len()).sum();
        let changes = self.history.len() + rows + usize::from(self.late.is_some());
        1 + changes as u64 + self.tus.changes
    }

    /// What tells two transfers apart, but for times.
    pub(crate) fn hash(&self, hasher: &mut DefaultHasher) {
        (&self.id, self.status(), self.content.is_some(), self.published.is_some()).hash(hasher);
        (self.late.is_some(), self.name(), self.reference()).hash(hasher);
        self.processed.map(|(_, is_right)| is_right).hash(hasher);
        self.tus.hash(hasher);
        let statuses = |recipient: &Recipient| (recipient.status(), recipient.latest().0);
        self.recipients.iter().map(statuses).collect::<Vec<_>>().hash(hasher);
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
