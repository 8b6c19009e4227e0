//! A file transfer as the Broker's database keeps it: one row, and two histories.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The status of a file transfer, in the Broker's own order (queries may name the number).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    /// Metadata is there, no bytes.
    Initialized,
    /// An upload has begun.
    UploadStarted,
    /// All bytes are there, the malware scan is not over.
    UploadProcessing,
    /// Recipients can download.
    Published,
    /// Reserved by the Broker, never written.
    Cancelled,
    /// Every recipient has confirmed.
    AllConfirmedDownloaded,
    /// The content is gone.
    Purged,
    /// It never became available, and never will.
    Failed,
}

impl Status {
    /// All of them, each at its number.
    pub(in crate::sandbox) const ALL: [Status; 8] = [
        Status::Initialized,
        Status::UploadStarted,
        Status::UploadProcessing,
        Status::Published,
        Status::Cancelled,
        Status::AllConfirmedDownloaded,
        Status::Purged,
        Status::Failed,
    ];

    /// The name in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Status::Initialized => "Initialized",
            Status::UploadStarted => "UploadStarted",
            Status::UploadProcessing => "UploadProcessing",
            Status::Published => "Published",
            Status::Cancelled => "Cancelled",
            Status::AllConfirmedDownloaded => "AllConfirmedDownloaded",
            Status::Purged => "Purged",
            Status::Failed => "Failed",
        }
    }

    /// The text shown when no detail was stored.
    pub(in crate::sandbox) fn text(self) -> &'static str {
        match self {
            Status::Initialized => "Ready for upload",
            Status::UploadStarted => "Upload started",
            Status::UploadProcessing => "Processing upload",
            Status::Published => "Ready for download",
            Status::Cancelled => "FileTransfer cancelled",
            Status::AllConfirmedDownloaded => "All downloaded",
            Status::Purged => "FileTransfer has been purged",
            Status::Failed => "Upload failed",
        }
    }
}

/// How far a recipient has come with a file transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum RecipientStatus {
    /// Nothing yet.
    Initialized,
    /// A download has been attempted.
    DownloadStarted,
    /// The recipient has confirmed.
    DownloadConfirmed,
}

impl RecipientStatus {
    /// All of them, each at its number.
    pub(in crate::sandbox) const ALL: [RecipientStatus; 3] =
        [RecipientStatus::Initialized, RecipientStatus::DownloadStarted, RecipientStatus::DownloadConfirmed];

    /// The name in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            RecipientStatus::Initialized => "Initialized",
            RecipientStatus::DownloadStarted => "DownloadStarted",
            RecipientStatus::DownloadConfirmed => "DownloadConfirmed",
        }
    }

    /// The text that goes with it.
    pub(in crate::sandbox) fn text(self) -> &'static str {
        match self {
            RecipientStatus::Initialized => "Initialized",
            RecipientStatus::DownloadStarted => "Recipient has attempted to download fileTransfer",
            RecipientStatus::DownloadConfirmed => "Recipient has downloaded fileTransfer",
        }
    }
}

/// Whether publishing waits for the MD5 of the stored content to be compared with the one that was given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Md5Check {
    /// It does not, or not any more.
    #[default]
    Unneeded,
    /// It does, and for the malware scan too, where there is one.
    Awaited,
    /// It does, and for nothing else: the scan has found nothing.
    AwaitedAlone,
    /// It is computed once the scan has found nothing, and that publishes: the content came as a stream, and its
    /// checksum was compared on the way already.
    AfterScan,
}

/// One row of the transfer's history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusRow {
    /// The status that was entered.
    pub status: Status,
    /// A stored detail, which replaces the default text.
    pub detail: Option<String>,
    /// When.
    pub time: Timestamp,
}

/// One row of the recipients' history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecipientRow {
    /// The organisation, `0192:…`.
    pub recipient: String,
    /// The status that was entered.
    pub status: RecipientStatus,
    /// The organisation that owns the Maskinporten client, nine digits.
    #[serde(default)]
    pub vendor: Option<String>,
    /// When.
    pub time: Timestamp,
}

/// A file transfer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of the row that stands by itself")]
pub struct Transfer {
    /// The id that initialize answered with.
    pub id: Uuid,
    /// The bare resource id.
    pub resource: String,
    /// The name as the sender gave it, unsanitised.
    pub file_name: String,
    /// `sendersFileTransferReference`.
    pub reference: String,
    /// The sender, in the form it was sent.
    pub sender: String,
    /// The organisation that owns the Maskinporten client, which may act for the sender.
    pub vendor: Option<String>,
    /// `checksum` as it is shown: as given, later as computed.
    pub checksum: Option<String>,
    /// The checksum that the content must have, when one was given.
    pub demanded_checksum: Option<String>,
    /// Whether the malware scan applies.
    pub use_virus_scan: bool,
    /// Size, 0 until the upload is complete.
    pub size: u64,
    /// When it was initialized.
    pub created: Timestamp,
    /// When it will be purged.
    pub expiration: Timestamp,
    /// `propertyList`.
    pub properties: BTreeMap<String, String>,
    /// Every status it entered, oldest first.
    pub history: Vec<StatusRow>,
    /// Every status a recipient entered, oldest first.
    pub recipients: Vec<RecipientRow>,
    /// When a ranged download last left a row, for each organisation (`0192:…`).
    #[serde(default)]
    pub ranged: BTreeMap<String, Timestamp>,
    /// The blob's file name while the content is there.
    pub blob: Option<String>,
    /// The content was not kept, by the sandbox's own settings: downloads consist of zeros.
    #[serde(default)]
    pub discarded: bool,
    /// Whether bytes were ever stored completely (the Broker's "file location").
    pub stored: bool,
    /// An upload was cut after some of its blocks had been committed: the first commit of another one fails.
    #[serde(default)]
    pub interim_commits: bool,
    /// MD5 of the stored content.
    pub md5: Option<String>,
    /// Whether publishing waits for the content's MD5.
    #[serde(default)]
    pub md5_check: Md5Check,
    /// How many downloads handed over the last byte of the file.
    pub delivered: u64,
    /// The same for each organisation (`0192:…`) that downloaded.
    #[serde(default)]
    pub delivered_to: BTreeMap<String, u64>,
    /// Initialize failed after the row was written: an id that nobody was told.
    pub half_made: bool,
}

impl Transfer {
    /// The current status.
    #[must_use]
    pub fn status(&self) -> Status {
        self.history.last().map_or(Status::Initialized, |row| row.status)
    }

    /// What it was at that time, if it was there.
    pub(in crate::sandbox) fn as_of(&self, time: Timestamp) -> Option<Self> {
        if self.created > time {
            return None;
        }
        let mut then = self.clone();
        then.history.retain(|row| row.time <= time);
        then.recipients.retain(|row| row.time <= time);
        Some(then)
    }

    /// When the current status was entered.
    pub(in crate::sandbox) fn status_changed(&self) -> Timestamp {
        self.history.last().map_or(self.created, |row| row.time)
    }

    /// The latest time at which `status` was entered.
    pub(in crate::sandbox) fn entered(&self, status: Status) -> Option<Timestamp> {
        self.history.iter().rev().find(|row| row.status == status).map(|row| row.time)
    }

    /// Adds a row to the history.
    pub(in crate::sandbox) fn enter(&mut self, status: Status, detail: Option<String>, time: Timestamp) {
        self.history.push(StatusRow { status, detail, time });
    }

    /// Adds a row to a recipient's history.
    pub(in crate::sandbox) fn enter_recipient(
        &mut self,
        recipient: &str,
        status: RecipientStatus,
        vendor: Option<&str>,
        time: Timestamp,
    ) {
        let (recipient, vendor) = (recipient.to_owned(), vendor.map(str::to_owned));
        self.recipients.push(RecipientRow { recipient, status, vendor, time });
    }

    /// The organisations that have at least one recipient row, each once.
    #[must_use]
    pub fn recipient_organizations(&self) -> Vec<&str> {
        let mut seen: Vec<&str> = Vec::new();
        for row in &self.recipients {
            if !seen.contains(&row.recipient.as_str()) {
                seen.push(&row.recipient);
            }
        }
        seen
    }

    /// The rows of one recipient, oldest first.
    pub(in crate::sandbox) fn rows_of<'a>(
        &'a self,
        recipient: &'a str,
    ) -> impl DoubleEndedIterator<Item = &'a RecipientRow> {
        self.recipients.iter().filter(move |row| row.recipient == recipient)
    }

    /// The highest status the recipient ever reached; `None` for an organisation without a row.
    #[must_use]
    pub fn highest(&self, recipient: &str) -> Option<RecipientStatus> {
        self.rows_of(recipient).map(|row| row.status).max()
    }

    /// The status of the recipient's most recent row, which is what search looks at.
    pub(in crate::sandbox) fn latest(&self, recipient: &str) -> Option<RecipientStatus> {
        self.rows_of(recipient).next_back().map(|row| row.status)
    }

    /// How often it was published; more than once would be a fault of the sandbox.
    #[must_use]
    pub fn published(&self) -> usize {
        self.history.iter().filter(|row| row.status == Status::Published).count()
    }
}
