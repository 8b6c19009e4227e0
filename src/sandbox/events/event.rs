//! An event of Formidling, and the CloudEvent that it is on the wire (Events API, Broker's events).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::sandbox::broker::transfer::Transfer;
use crate::sandbox::site::Site;
use crate::sandbox::world::bare_number;

/// What comes before the kind in a CloudEvent's type.
const TYPE_PREFIX: &str = "no.altinn.broker.";
/// What comes before the number in a CloudEvent's subject.
const SUBJECT_PREFIX: &str = "urn:altinn:organization:identifier-no:";
/// What comes before the bare id in a CloudEvent's resource.
pub(super) const RESOURCE_PREFIX: &str = "urn:altinn:resource:";

/// Everything that Formidling announces.
pub(in crate::sandbox) const KINDS: [&str; 8] = [
    "filetransferinitialized",
    "uploadprocessing",
    PUBLISHED,
    "uploadfailed",
    "downloadconfirmed",
    "allconfirmeddownloaded",
    "filepurged",
    "fileneverconfirmeddownloaded",
];
/// The one kind whose ids are derived, so that a repetition can be known.
const PUBLISHED: &str = "published";

/// What an organisation is in a file transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Part {
    /// It sent the file.
    Sender,
    /// The file is for it.
    Recipient,
}

impl Part {
    /// The name in `data.Role`.
    fn name(self) -> &'static str {
        match self {
            Self::Sender => "Sender",
            Self::Recipient => "Recipient",
        }
    }
}

/// An event that Formidling has sent to Altinn Events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Event {
    /// The CloudEvent's id.
    pub id: Uuid,
    /// The type without its prefix, such as `published`.
    pub kind: &'static str,
    /// In which part the organisation gets it.
    pub part: Part,
    /// The file transfer.
    pub transfer: Uuid,
    /// The bare resource id.
    pub resource: String,
    /// Nine digits of the organisation that it is addressed to.
    pub organization: String,
    /// When it was sent, which is when Altinn Events registered it.
    pub time: Timestamp,
}

/// An event in the file, whose kind may be any text.
#[derive(Deserialize)]
pub(super) struct Stored {
    id: Uuid,
    kind: String,
    part: Part,
    transfer: Uuid,
    resource: String,
    organization: String,
    time: Timestamp,
}

impl Stored {
    /// The event, if its kind is known.
    pub(super) fn event(self) -> Option<Event> {
        let kind = KINDS.into_iter().find(|kind| *kind == self.kind)?;
        let Self { id, part, transfer, resource, organization, time, kind: _ } = self;
        Some(Event { id, kind, part, transfer, resource, organization, time })
    }
}

/// What Formidling is about to announce.
#[derive(Debug, Clone)]
pub(super) struct Notice {
    pub(super) kind: &'static str,
    pub(super) part: Part,
    pub(super) transfer: Uuid,
    pub(super) resource: String,
    /// The organisation in the form in which the Broker's database has it.
    pub(super) party: String,
}

impl Notice {
    pub(super) fn new(kind: &'static str, part: Part, transfer: &Transfer, party: &str) -> Self {
        Self {
            kind,
            part,
            transfer: transfer.id,
            resource: transfer.resource.clone(),
            party: party.to_owned(),
        }
    }

    /// Nine digits.
    pub(super) fn organization(&self) -> &str {
        bare_number(&self.party)
    }

    /// The event, sent now.
    pub(super) fn send(self, now: Timestamp) -> Event {
        Event {
            id: if self.kind == PUBLISHED { self.derived_id() } else { Uuid::new_v4() },
            kind: self.kind,
            part: self.part,
            transfer: self.transfer,
            resource: self.resource,
            organization: bare_number(&self.party).to_owned(),
            time: now,
        }
    }

    /// The first 16 bytes of a SHA-256 as a .NET GUID, whose first three fields are little-endian.
    fn derived_id(&self) -> Uuid {
        let text = format!("{PUBLISHED}:{}:{}:{}", self.transfer, self.part.name(), self.party);
        let hash: [u8; 32] = Sha256::digest(text.as_bytes()).into();
        let mut first = [0; 16];
        first.iter_mut().zip(hash).for_each(|(byte, hashed)| *byte = hashed);
        Uuid::from_bytes_le(first)
    }
}

impl Event {
    /// The CloudEvent's `type`.
    pub(super) fn kind_on_the_wire(&self) -> String {
        format!("{TYPE_PREFIX}{}", self.kind)
    }

    /// The CloudEvent's `subject`.
    pub(super) fn subject(&self) -> String {
        subject(&self.organization)
    }

    /// The CloudEvent's `resource`.
    pub(super) fn resource_on_the_wire(&self) -> String {
        format!("{RESOURCE_PREFIX}{}", self.resource)
    }

    /// The CloudEvent as it is pushed.
    pub(super) fn pushed(&self, site: &Site) -> Pushed {
        Pushed {
            specversion: "1.0",
            id: self.id,
            kind: self.kind_on_the_wire(),
            time: self.time,
            resource: self.resource_on_the_wire(),
            resourceinstance: self.transfer,
            subject: self.subject(),
            source: source(site),
            datacontenttype: "application/json",
            data: Data { role: self.part.name() },
        }
    }

    /// The CloudEvent as it is pulled: from a `jsonb` column, which orders members in its own way.
    pub(super) fn pulled(&self, site: &Site) -> Pulled {
        Pulled {
            id: self.id,
            data: Data { role: self.part.name() },
            time: self.time,
            kind: self.kind_on_the_wire(),
            source: source(site),
            subject: self.subject(),
            resource: self.resource_on_the_wire(),
            specversion: "1.0",
            datacontenttype: "application/json",
            resourceinstance: self.transfer,
        }
    }

    /// A line of `/_sandbox/events`.
    pub(super) fn shown(&self) -> impl Serialize + use<> {
        Shown {
            id: self.id,
            kind: self.kind_on_the_wire(),
            subject: self.subject(),
            role: self.part.name(),
            transfer: self.transfer,
            resource: self.resource_on_the_wire(),
            time: self.time,
        }
    }
}

/// The subject that stands for an organisation (nine digits).
pub(super) fn subject(organization: &str) -> String {
    format!("{SUBJECT_PREFIX}{organization}")
}

/// The organisation, nine digits, that a subject stands for.
pub(super) fn organization(subject: &str) -> Option<&str> {
    subject.strip_prefix(SUBJECT_PREFIX)
}

fn source(site: &Site) -> String {
    format!("{}/broker/api/v1/filetransfer", site.url)
}

/// Only its key has a capital, because only its name was not made lower-case by Formidling.
#[derive(Debug, Serialize)]
struct Data {
    #[serde(rename = "Role")]
    role: &'static str,
}

/// A pushed CloudEvent.
#[derive(Debug, Serialize)]
pub(super) struct Pushed {
    specversion: &'static str,
    id: Uuid,
    #[serde(rename = "type")]
    kind: String,
    time: Timestamp,
    resource: String,
    resourceinstance: Uuid,
    subject: String,
    source: String,
    datacontenttype: &'static str,
    data: Data,
}

/// A pulled CloudEvent.
#[derive(Debug, Serialize)]
pub(super) struct Pulled {
    id: Uuid,
    data: Data,
    time: Timestamp,
    #[serde(rename = "type")]
    kind: String,
    source: String,
    subject: String,
    resource: String,
    specversion: &'static str,
    datacontenttype: &'static str,
    resourceinstance: Uuid,
}

#[derive(Debug, Serialize)]
struct Shown {
    id: Uuid,
    #[serde(rename = "type")]
    kind: String,
    subject: String,
    role: &'static str,
    transfer: Uuid,
    resource: String,
    time: Timestamp,
}
