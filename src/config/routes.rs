//! The checked configuration of the folders: outboxes and inboxes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use super::choice::choice;
use super::patterns::NamePatterns;
use super::reference::ReferenceTemplate;
use crate::transfer::{IdentityName, OrgNumber, ResourceId, RouteName};

/// `[outbox.NAME]`: a folder that is sent from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outbox {
    /// The name of its table.
    pub name: RouteName,
    /// The drop folder: an absolute path without `..`.
    pub path: PathBuf,
    /// Who sends.
    pub identity: IdentityName,
    /// The resource that is sent through.
    pub resource_id: ResourceId,
    /// Who receives, where no sidecar says otherwise.
    pub recipients: Recipients,
    /// What `sendersFileTransferReference` is made of. Default `{transferId}`.
    pub reference: ReferenceTemplate,
    /// `propertyList` of every file: at most 10, keys of 50 characters, values of 3000. Default: none.
    pub properties: BTreeMap<String, String>,
    /// Whether Altinn is asked to leave the malware scan out; it needs a right of its own. Default false.
    pub disable_virus_scan: bool,
    /// Names that are sent, on top of the built-in list of what is ignored. Default `*`.
    pub include: NamePatterns,
    /// Names that are not sent although `include` fits. Default: none.
    pub exclude: NamePatterns,
    /// How long size and modification time are still before a file is taken. Default 2 seconds.
    pub settle: Duration,
    /// The same for an empty file, which may be one that is only about to be written. Default 30 seconds.
    pub settle_empty: Duration,
    /// The same where the kernel cannot tell whether a writer has the file open, as on NFS. Default 30 seconds.
    pub settle_unverified: Duration,
    /// How new files are noticed. Default auto.
    pub watch: Watch,
    /// How often the folder is listed, whatever the kernel tells. Default 30 seconds.
    pub poll_interval: Duration,
    /// Whether a file comes with a `<name>.meta.json`. Default optional.
    pub sidecar: Sidecar,
    /// What a sidecar may say. Default: all but the resource and the malware scan.
    pub sidecar_may: BTreeSet<SidecarMember>,
    /// How long a sidecar may lie without its file before it is set aside. Default 5 minutes.
    pub sidecar_patience: Duration,
    /// Who may be chosen by sidecar or directory. Default: empty, which means anybody.
    pub allowed_recipients: Vec<OrgNumber>,
    /// Which resources a sidecar may choose, where `sidecar_may` has the resource. Default: empty, which means any.
    pub allowed_resources: Vec<ResourceId>,
    /// What becomes of a file that Altinn has published. Default archive.
    pub after_send: AfterSend,
    /// The folder that takes the place of `sent/` in `path`: an absolute path without `..`, perhaps on another file
    /// system. Default: none.
    pub archive_path: Option<PathBuf>,
    /// How long an archived file is kept. Default: for ever.
    pub keep_sent: Keep,
    /// How long a receipt is kept. Default: for ever.
    pub keep_receipts: Keep,
    /// Permission bits of receipts and error files. Default `0o640`.
    pub file_mode: u32,
    /// The group of receipts and error files, by name or number. Default: the folder's own.
    pub group: Option<String>,
    /// After how long there is an alarm when Altinn neither publishes nor fails a file. Default 24 hours.
    pub processing_patience: Duration,
    /// How content is sent.
    pub sending: Sending,
    /// After how long a file of this route that meets nothing but trouble has failed; as `[retry]` says when absent.
    pub give_up_after: Option<Duration>,
    /// Files of this route in work at once; at least 1. Default 4.
    pub max_concurrent: usize,
}

/// How an outbox sends content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sending {
    /// How content is sent. Default auto.
    pub upload: Upload,
    /// Bytes of a chunk of a resumable upload, from 1 KiB to 1 GiB. Raised where a file would have more blocks than
    /// Altinn takes. Default 16 MiB.
    pub chunk_size: u64,
    /// In how many parts a resumable upload is sent at once. Default auto.
    pub parallel_parts: ParallelParts,
}

/// In how many parts a file is sent at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParallelParts {
    /// One, or several where waiting for answers takes much of the time.
    Auto,
    /// So many, from 1 to 16; fewer where the file has fewer chunks.
    Number(u64),
}

/// How long something is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Nobody has said, so for ever.
    Unsaid,
    /// For ever, as somebody has said.
    Forever,
    /// For this long; never zero.
    For(Duration),
}

impl Keep {
    /// After how long it may go; `None` where never.
    #[must_use]
    pub fn limit(self) -> Option<Duration> {
        match self {
            Self::Unsaid | Self::Forever => None,
            Self::For(duration) => Some(duration),
        }
    }
}

/// Who receives the files of an outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recipients {
    /// These organisations; at least one.
    Listed(Vec<OrgNumber>),
    /// The organisation whose number is the name of the directory that the file lies in.
    FromDirectory,
    /// Only the sidecar says; then `sidecar` is [`Sidecar::Required`] and may say so.
    FromSidecar,
}

choice! {
    /// How new files are noticed.
    Watch {
        /// By the kernel where it can, else by listing the folder.
        Auto = "auto",
        /// By the kernel; it is an error where it cannot.
        Notify = "notify",
        /// By listing the folder alone.
        Poll = "poll",
    }
}

choice! {
    /// Whether a file comes with a sidecar.
    Sidecar {
        /// It may.
        Optional = "optional",
        /// It must; a file waits for its sidecar.
        Required = "required",
        /// It may not; `<name>.meta.json` is not read.
        Off = "off",
    }
}

choice! {
    /// A member of a sidecar, by the name that it has there.
    SidecarMember {
        /// The name that recipients see.
        FileName = "fileName",
        /// The resource that is sent through.
        ResourceId = "resourceId",
        /// Who receives.
        Recipients = "recipients",
        /// The sender's own reference.
        SendersFileTransferReference = "sendersFileTransferReference",
        /// The properties.
        PropertyList = "propertyList",
        /// Whether the malware scan is left out.
        DisableVirusScan = "disableVirusScan",
    }
}

choice! {
    /// How content is sent. An empty file is always sent as a stream.
    Upload {
        /// Resumably, where a file has more than one chunk; else as a stream.
        Auto = "auto",
        /// As a stream, which begins anew when it breaks.
        Stream = "stream",
        /// Resumably (TUS), whatever the size.
        Tus = "tus",
    }
}

choice! {
    /// What becomes of a file that Altinn has published.
    AfterSend {
        /// It is moved to `sent/`.
        Archive = "archive",
        /// It is deleted; its receipt stays.
        Delete = "delete",
    }
}

/// `[inbox.NAME]`: a folder that is received to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inbox {
    /// The name of its table.
    pub name: RouteName,
    /// The inbox folder: an absolute path without `..`.
    pub path: PathBuf,
    /// Who receives.
    pub identity: IdentityName,
    /// The resource that is received through.
    pub resource_id: ResourceId,
    /// How often Altinn is asked for new files. Default 1 minute; the rate budget may make it longer.
    pub poll_interval: Duration,
    /// Where in the folder a file is put. Default flat.
    pub layout: Layout,
    /// Whether a `<name>.meta.json` is laid beside each file. Default true.
    pub write_metadata: bool,
    /// Who confirms to Altinn that a file has been received. Default automatic.
    pub confirm: Confirm,
    /// Whose files are received. Default: empty, which means everybody that the resource lets in.
    pub senders: Vec<OrgNumber>,
    /// Room that is left free on the file system. Default: 1 GiB or 5 %, whichever is less.
    pub min_free_space: MinFreeSpace,
    /// The bytes of the largest file that is fetched; at least 1. Default: none, which means any size.
    pub max_file_size: Option<u64>,
    /// While so many delivered files still lie in the folder, nothing more is fetched; at least 1. Default: none.
    pub max_waiting: Option<usize>,
    /// A program that is run for each delivered file, with its arguments; never empty, and the program is an
    /// absolute path. Default: none.
    pub on_received: Option<Vec<String>>,
    /// How long that program may take. Default 5 minutes.
    pub on_received_timeout: Duration,
    /// Permission bits of delivered files. Default `0o640`.
    pub file_mode: u32,
    /// The group of delivered files, by name or number. Default: the folder's own.
    pub group: Option<String>,
    /// Files of this route in work at once; at least 1. Default 4.
    pub max_concurrent: usize,
}

choice! {
    /// Where in an inbox folder a file is put.
    Layout {
        /// In the folder itself.
        Flat = "flat",
        /// In a directory named by the sender's number.
        BySender = "by_sender",
        /// In a directory named by the `fileTransferId`.
        ByTransfer = "by_transfer",
    }
}

choice! {
    /// Who confirms that a file has been received.
    Confirm {
        /// The service, as soon as the file is safe on disk.
        Automatic = "automatic",
        /// A person or program, with `formidlingd confirm`.
        Manual = "manual",
    }
}

/// Room that is left free on a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MinFreeSpace {
    /// 1 GiB or 5 % of the file system, whichever is less.
    Usual,
    /// So many bytes.
    Bytes(u64),
}

impl MinFreeSpace {
    /// The bytes to leave free on a file system of `total` bytes.
    #[must_use]
    pub fn bytes(self, total: u64) -> u64 {
        match self {
            Self::Usual => (total / 20).min(1 << 30),
            Self::Bytes(bytes) => bytes,
        }
    }
}
