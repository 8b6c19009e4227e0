//! What is sent and what comes back.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;

use crate::identity::Scope;
use crate::transfer::{BrokerTransferId, Md5, OrgNumber, OutgoingFileName, ResourceId, SendersReference};

/// A transfer to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Initialize {
    /// The name that recipients see.
    pub file_name: OutgoingFileName,
    /// The resource.
    pub resource_id: ResourceId,
    /// What finds the transfer again.
    pub reference: SendersReference,
    /// Who sends.
    pub sender: OrgNumber,
    /// Who receives.
    pub recipients: Vec<OrgNumber>,
    /// Up to ten properties of the sender's own.
    pub properties: BTreeMap<String, String>,
    /// Of the content.
    pub checksum: Md5,
    /// Whether to leave out the malware scan, which Altinn has to approve.
    pub disable_virus_scan: bool,
}

/// A transfer that was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Initialized {
    /// Altinn's id of it.
    pub id: BrokerTransferId,
    /// Altinn's time at the answer.
    pub server_time: Option<Timestamp>,
}

/// As whom a transfer is looked at, which decides the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// As the one who sends it.
    Sender,
    /// As one who receives it.
    Recipient,
}

impl Role {
    /// The scope of the token.
    #[must_use]
    pub const fn scope(self) -> Scope {
        match self {
            Self::Sender => Scope::BrokerWrite,
            Self::Recipient => Scope::BrokerRead,
        }
    }

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Sender => "Sender",
            Self::Recipient => "Recipient",
        }
    }
}

macro_rules! statuses {
    ($(#[$doc:meta])* $type:ident { $($(#[$variant_doc:meta])* $name:ident),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        pub enum $type {
            $($(#[$variant_doc])* $name,)+
            /// One that is new to us, as Altinn calls it.
            Unknown(String),
        }

        impl $type {
            /// Altinn's name for it.
            #[must_use]
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$name => stringify!($name),)+
                    Self::Unknown(name) => name,
                }
            }

            pub(super) fn of(name: &str) -> Self {
                match name {
                    $(stringify!($name) => Self::$name,)+
                    other => Self::Unknown(other.chars().take(80).collect()),
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(self.as_str())
            }
        }
    };
}

statuses!(
    /// The status of a transfer.
    Status {
        /// Made, without content.
        Initialized,
        /// Content is on its way, or was.
        UploadStarted,
        /// The content is there, and is being scanned or checked.
        UploadProcessing,
        /// Recipients can have it.
        Published,
        /// Taken back. Altinn never does that.
        Cancelled,
        /// All recipients have confirmed.
        AllConfirmedDownloaded,
        /// The content is deleted.
        Purged,
        /// It will never be published.
        Failed,
    }
);

statuses!(
    /// How far a recipient has come.
    RecipientStatus {
        /// Has not begun.
        Initialized,
        /// Has begun a download.
        DownloadStarted,
        /// Has confirmed.
        DownloadConfirmed,
    }
);

/// A recipient of a transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient {
    /// The organisation, where it can be read as one.
    pub organization: Option<OrgNumber>,
    /// As Altinn has it.
    pub raw: String,
    /// How far it has come.
    pub status: RecipientStatus,
    /// Since when.
    pub changed: Option<Timestamp>,
}

/// A transfer, as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overview {
    /// Its id.
    pub id: BrokerTransferId,
    /// The resource, bare.
    pub resource_id: String,
    /// The name, as its sender gave it. It is not safe to use as one.
    pub file_name: String,
    /// The sender's reference.
    pub reference: String,
    /// The checksum of the content: given by the sender, or computed by Altinn some time after publication.
    pub checksum: Option<Md5>,
    /// Whether it is scanned for malware.
    pub use_virus_scan: bool,
    /// The size; 0 until the upload is complete.
    pub size: u64,
    /// The status.
    pub status: Status,
    /// The status in words; for a failure, its reason.
    pub status_text: String,
    /// Since when.
    pub status_changed: Option<Timestamp>,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// When it is purged, whatever its status.
    pub expiration: Option<Timestamp>,
    /// The sender, where it can be read as an organisation.
    pub sender: Option<OrgNumber>,
    /// The sender, as Altinn has it.
    pub sender_raw: String,
    /// The recipients, in no order.
    pub recipients: Vec<Recipient>,
    /// The sender's own properties.
    pub properties: BTreeMap<String, String>,
    /// When it was published, if it was. It stays when the transfer is purged. Never there in details.
    pub published: Option<Timestamp>,
    /// Altinn's time at the answer.
    pub server_time: Option<Timestamp>,
}

impl Overview {
    /// The entry of a recipient.
    #[must_use]
    pub fn recipient(&self, organization: OrgNumber) -> Option<&Recipient> {
        self.recipients.iter().find(|recipient| recipient.organization == Some(organization))
    }
}

/// A transfer and its history, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Details {
    /// As it stands.
    pub overview: Overview,
    /// What it went through.
    pub history: Vec<StatusMoment>,
    /// What its recipients did.
    pub recipient_history: Vec<RecipientMoment>,
}

/// A status that a transfer came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusMoment {
    /// The status.
    pub status: Status,
    /// In words.
    pub text: String,
    /// When.
    pub changed: Option<Timestamp>,
}

/// A status that a recipient came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecipientMoment {
    /// The organisation, where it can be read as one.
    pub organization: Option<OrgNumber>,
    /// As Altinn has it.
    pub raw: String,
    /// The status.
    pub status: RecipientStatus,
    /// When.
    pub changed: Option<Timestamp>,
}

/// What to look for. Altinn gives at most 100 ids, without saying whether there are more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Search {
    /// The resource.
    pub resource_id: ResourceId,
    /// As whom. Altinn does not look at it when `recipient_status` is given, but the token goes by it.
    pub role: Role,
    /// The status of the transfer.
    pub status: Option<Status>,
    /// Our own status as a recipient, by the latest thing we did.
    pub recipient_status: Option<RecipientStatus>,
    /// Since this moment: inclusive if `to` is given too, else strictly later.
    pub from: Option<Timestamp>,
    /// Until this moment: inclusive if `from` is given too, else strictly earlier.
    pub to: Option<Timestamp>,
    /// The 100 oldest, oldest first; else the 100 newest, newest first.
    pub ascending: bool,
}
