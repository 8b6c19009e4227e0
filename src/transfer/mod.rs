//! The domain: ids, organisations, file names, and the states a transfer goes through. No I/O, no clock, no
//! randomness: what happens is handed in as an event, and what to do next is read from the state.

mod checksum;
mod dispatch;
pub mod document;
mod effect;
mod failure;
mod file_name;
mod id;
pub mod incoming;
mod organization;
pub mod outgoing;
mod outgoing_event;
mod record;
mod session;
mod visible;

#[cfg(test)]
mod incoming_tests;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod outgoing_tests;
#[cfg(test)]
pub(crate) mod samples;

pub use checksum::{Md5, Sha256};
pub use dispatch::{Claim, Dispatch, FileIdentity};
pub use effect::Effect;
pub use failure::{AltinnAnswer, Failure, IllegalTransition};
pub use file_name::{Companion, OutgoingFileName, SafeFileName, folded};
pub use id::{
    BrokerTransferId, ClientName, IdSuffix, IdentityName, InstallationMark, ResourceId, RouteName,
    SendersReference, TransferId,
};
pub use incoming::{
    Confirmation, Delivery, InboxPlace, Incoming, IncomingEvent, IncomingStep, Notification, Offer, Received,
};
pub use organization::OrgNumber;
pub use outgoing::{
    Archive, Booking, LastByte, Outgoing, OutgoingStep, Place, Publication, RecipientProgress, Unpublished,
};
pub use outgoing_event::OutgoingEvent;
pub use record::{Spell, Transfer, Work};
pub use session::{MAX_BLOCKS, UploadPart, UploadSession};
pub use visible::{is_invisible, visible};

/// Why a text is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not {expected}: {reason}")]
pub struct ParseError {
    /// What was given, cut to a readable length.
    pub value: String,
    /// What it should have been, such as "an organisation number".
    pub expected: &'static str,
    /// The rule that it breaks.
    pub reason: &'static str,
}

impl ParseError {
    pub(crate) fn new(value: &str, expected: &'static str, reason: &'static str) -> Self {
        Self { value: value.chars().take(80).collect(), expected, reason }
    }
}

/// Lets a newtype that has `FromStr` and `Display` be read and written by serde as its text.
macro_rules! serde_as_text {
    ($($type:ty),+) => {$(
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str> as serde::Deserialize>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )+};
}
pub(crate) use serde_as_text;
