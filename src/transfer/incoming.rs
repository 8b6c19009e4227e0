//! The states of a file that is sent to us, and the only ways from one to the next.
//!
//! ```text
//!  Discovered ─► Downloading ─► Downloaded ─► Delivering ─► Delivered ─► Confirmed
//!      │ ▲          │               │             (intent)       │
//!      │ └──── damaged, vanished ────┴─────────────┘             └─ too late to confirm: stays Delivered
//!      ▼            ▼
//!    Failed / Expired
//! ```
//!
//! The rule built into the machine: there is one way to `Confirmed`, and it leads through `Delivered`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{BrokerTransferId, Failure, IllegalTransition, Md5, OrgNumber, ResourceId, SafeFileName, Sha256};

/// What Altinn says of a transfer that waits for us.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Offer {
    /// Altinn's id of it.
    pub id: BrokerTransferId,
    /// The resource it was sent under.
    pub resource_id: ResourceId,
    /// The name the sender gave it, verbatim: never to be used as a path.
    pub file_name: String,
    /// The sender, in the form the sender used.
    pub sender: String,
    /// The organisation of ours that it is for.
    pub recipient: OrgNumber,
    /// `sendersFileTransferReference`.
    pub reference: String,
    /// `propertyList`.
    pub properties: BTreeMap<String, String>,
    /// MD5 as Altinn knows it; absent for a while where the sender gave none.
    pub checksum: Option<Md5>,
    /// Size in bytes.
    pub size: u64,
    /// When it was published.
    pub published: Timestamp,
    /// When Altinn deletes it: the deadline.
    pub expires: Timestamp,
}

/// What was downloaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Received {
    /// MD5 of what is on disk.
    pub md5: Md5,
    /// SHA-256 of what is on disk.
    pub sha256: Sha256,
    /// Its size in bytes.
    pub size: u64,
    /// When the last byte was on disk.
    pub received: Timestamp,
    /// Whether Altinn had a checksum to compare with.
    pub checksum_verified: bool,
}

/// Where a received file is laid down, below the inbox folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InboxPlace {
    /// The folder below the inbox, where the layout has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<SafeFileName>,
    /// The file's name.
    pub name: SafeFileName,
    /// Whether metadata is laid down with it.
    pub metadata: bool,
}

/// Who confirms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Confirmation {
    /// The service, as soon as it can.
    Due,
    /// A person or program, by command.
    Manual,
    /// Nobody: Altinn no longer takes it.
    TooLate,
}

/// Whether the program of `on_received` has run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Notification {
    /// None is configured, or it has ended well.
    Done,
    /// It has yet to end well.
    Due,
}

/// A file that is safe on disk under its final name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Delivery {
    /// What was downloaded.
    pub received: Received,
    /// Where it lies.
    pub place: InboxPlace,
    /// When it was laid down.
    pub delivered: Timestamp,
    /// Whether the program has run.
    pub notification: Notification,
}

/// A file that is sent to us.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "state")]
#[expect(missing_docs, reason = "the fields are the documented types; the variants say what they mean")]
pub enum Incoming {
    /// It waits at Altinn.
    Discovered { offer: Box<Offer> },
    /// Its bytes are on their way, or were when we last ran.
    Downloading { offer: Box<Offer> },
    /// Every byte is on disk in a private folder, verified.
    Downloaded { offer: Box<Offer>, received: Received },
    /// Its final name is chosen and durable. Where the marker is there too, absence of the private file proves delivery.
    Delivering { offer: Box<Offer>, received: Received, place: InboxPlace },
    /// It is safe on disk under its final name.
    Delivered { offer: Box<Offer>, delivery: Box<Delivery>, confirmation: Confirmation },
    /// Altinn has our confirmation.
    Confirmed { offer: Box<Offer>, delivery: Box<Delivery>, confirmed: Timestamp },
    /// It cannot be received. Not confirmed; what was downloaded is kept for inspection.
    Failed { offer: Box<Offer>, failure: Failure },
    /// Altinn deleted it before we had it.
    Expired { offer: Box<Offer>, expired: Timestamp },
}

/// What happened to a file that is sent to us.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are the documented types; the variants say what they mean")]
pub enum IncomingEvent {
    /// The first byte is about to be asked for.
    DownloadBegun,
    /// Every byte is on disk and verified.
    DownloadVerified(Received),
    /// What is on disk is not what Altinn has; it is to be downloaded again.
    DownloadDamaged,
    /// Somebody has removed it from the service's own folder before it was laid down; it is to be downloaded again.
    Vanished,
    /// Altinn has told something new of it, such as its checksum.
    OfferRenewed(Box<Offer>),
    /// The final name is chosen.
    DeliveryIntended(InboxPlace),
    /// The file is under its final name, and that is durable.
    Delivered { at: Timestamp, confirmation: Confirmation, notification: Notification },
    /// A person asked for the confirmation.
    ConfirmationAsked,
    /// Altinn has our confirmation.
    Confirmed { at: Timestamp },
    /// Altinn no longer takes a confirmation.
    ConfirmationTooLate,
    /// The program of `on_received` has ended well.
    Notified,
    /// It cannot be received.
    Failed(Failure),
    /// Altinn has deleted it.
    Expired { at: Timestamp },
}

impl IncomingEvent {
    /// The event's name, for messages.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::DownloadBegun => "download begun",
            Self::DownloadVerified(_) => "download verified",
            Self::DownloadDamaged => "download damaged",
            Self::Vanished => "vanished",
            Self::OfferRenewed(_) => "offer renewed",
            Self::DeliveryIntended(_) => "delivery intended",
            Self::Delivered { .. } => "delivered",
            Self::ConfirmationAsked => "confirmation asked",
            Self::Confirmed { .. } => "confirmed",
            Self::ConfirmationTooLate => "confirmation too late",
            Self::Notified => "notified",
            Self::Failed(_) => "failed",
            Self::Expired { .. } => "expired",
        }
    }
}

/// The one thing to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IncomingStep {
    /// Fetch the bytes.
    Download,
    /// Choose the final name.
    IntendDelivery,
    /// Lay the file down under it.
    Deliver,
    /// Tell Altinn.
    Confirm,
    /// Run the program of `on_received`.
    Notify,
    /// Keep the record until Altinn has deleted the transfer, so that it is not taken for a new one.
    Remember,
    /// Nothing: it is over.
    Nothing,
}

impl Incoming {
    /// The state that follows when `event` happens, or why it cannot.
    pub fn apply(self, event: IncomingEvent) -> Result<Self, IllegalTransition> {
        use Incoming as S;
        use IncomingEvent as E;
        match (self, event) {
            (S::Discovered { offer } | S::Downloading { offer }, E::DownloadBegun) => {
                Ok(S::Downloading { offer })
            }
            (S::Downloading { offer }, E::DownloadVerified(received)) => {
                Ok(S::Downloaded { offer, received })
            }
            (S::Downloading { offer } | S::Downloaded { offer, .. }, E::DownloadDamaged)
            | (S::Downloaded { offer, .. } | S::Delivering { offer, .. }, E::Vanished) => {
                Ok(S::Discovered { offer })
            }
            (S::Discovered { .. }, E::OfferRenewed(offer)) => Ok(S::Discovered { offer }),
            (S::Downloading { .. }, E::OfferRenewed(offer)) => Ok(S::Downloading { offer }),
            // From Delivering: the name was taken in the meantime, and nothing has been laid down.
            (
                S::Downloaded { offer, received } | S::Delivering { offer, received, .. },
                E::DeliveryIntended(place),
            ) => Ok(S::Delivering { offer, received, place }),
            (S::Delivering { offer, received, place }, E::Delivered { at, confirmation, notification }) => {
                let delivery = Box::new(Delivery { received, place, delivered: at, notification });
                Ok(S::Delivered { offer, delivery, confirmation })
            }
            (S::Delivered { offer, delivery, confirmation: Confirmation::Manual }, E::ConfirmationAsked) => {
                Ok(S::Delivered { offer, delivery, confirmation: Confirmation::Due })
            }
            (S::Delivered { offer, delivery, .. }, E::Confirmed { at }) => {
                Ok(S::Confirmed { offer, delivery, confirmed: at })
            }
            (S::Delivered { offer, delivery, .. }, E::ConfirmationTooLate) => {
                Ok(S::Delivered { offer, delivery, confirmation: Confirmation::TooLate })
            }
            (S::Delivered { offer, mut delivery, confirmation }, E::Notified) => {
                delivery.notification = Notification::Done;
                Ok(S::Delivered { offer, delivery, confirmation })
            }
            (S::Confirmed { offer, mut delivery, confirmed }, E::Notified) => {
                delivery.notification = Notification::Done;
                Ok(S::Confirmed { offer, delivery, confirmed })
            }
            (
                S::Discovered { offer } | S::Downloading { offer } | S::Downloaded { offer, .. },
                E::Failed(failure),
            ) => Ok(S::Failed { offer, failure }),
            (
                S::Discovered { offer } | S::Downloading { offer } | S::Failed { offer, .. },
                E::Expired { at },
            ) => Ok(S::Expired { offer, expired: at }),
            (state, event) => Err(IllegalTransition { state: state.phase(), event: event.name() }),
        }
    }

    /// What is to be done next.
    #[must_use]
    pub fn next_step(&self) -> IncomingStep {
        match self {
            Self::Discovered { .. } | Self::Downloading { .. } => IncomingStep::Download,
            Self::Downloaded { .. } => IncomingStep::IntendDelivery,
            Self::Delivering { .. } => IncomingStep::Deliver,
            Self::Delivered { confirmation: Confirmation::Due, .. } => IncomingStep::Confirm,
            Self::Delivered { delivery, .. } | Self::Confirmed { delivery, .. }
                if delivery.notification == Notification::Due =>
            {
                IncomingStep::Notify
            }
            Self::Delivered { confirmation: Confirmation::Manual, .. } | Self::Failed { .. } => {
                IncomingStep::Remember
            }
            Self::Delivered { .. } | Self::Confirmed { .. } | Self::Expired { .. } => IncomingStep::Nothing,
        }
    }

    /// The public name of the state.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Discovered { .. } => "discovered",
            Self::Downloading { .. } => "downloading",
            Self::Downloaded { .. } | Self::Delivering { .. } => "downloaded",
            Self::Delivered { .. } => "delivered",
            Self::Confirmed { .. } => "confirmed",
            Self::Failed { .. } => "failed",
            Self::Expired { .. } => "expired",
        }
    }

    /// The name of the state with nothing folded together.
    #[must_use]
    pub fn phase(&self) -> &'static str {
        match self {
            Self::Delivering { .. } => "delivering",
            Self::Discovered { .. }
            | Self::Downloading { .. }
            | Self::Downloaded { .. }
            | Self::Delivered { .. }
            | Self::Confirmed { .. }
            | Self::Failed { .. }
            | Self::Expired { .. } => self.name(),
        }
    }

    /// Whether nothing more is to be done.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.next_step() == IncomingStep::Nothing
    }

    /// What Altinn says of the transfer.
    #[must_use]
    pub fn offer(&self) -> &Offer {
        match self {
            Self::Discovered { offer }
            | Self::Downloading { offer }
            | Self::Downloaded { offer, .. }
            | Self::Delivering { offer, .. }
            | Self::Delivered { offer, .. }
            | Self::Confirmed { offer, .. }
            | Self::Failed { offer, .. }
            | Self::Expired { offer, .. } => offer,
        }
    }
}
