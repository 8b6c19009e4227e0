//! The one table from what Altinn answered to what may be done next (docs.altinn.studio/broker, error codes,
//! and Altinn's own source, which is public). Pure, and tested whole.
//!
//! What is about rights or set-up is never held against a file: one hiccup of Altinn's authorization would
//! otherwise empty a folder into `failed/`. An answer of a form that Altinn does not give is somebody else's (a
//! gateway, a firewall) and is not held against a file either.

use super::Call;
use crate::transfer::Effect;

/// What an answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// What the call has done.
    pub effect: Effect,
    /// What is the matter, and so who waits and who acts.
    pub trouble: Trouble,
}

/// What is the matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Trouble {
    /// The token was not had, or was not taken. Holds the identity.
    Token,
    /// The subscription key is missing or wrong. Holds everything.
    Key,
    /// A right or a scope is missing, or the resource is unknown; also when Altinn's authorization is down.
    /// Holds the route.
    Rights,
    /// The resource, its owner or its storage are not ready, or the address is wrong. Holds the route.
    Route,
    /// A recipient is not let in by the resource's access list. Holds files to those recipients.
    Recipients,
    /// This file cannot be sent as it is.
    File,
    /// The content that arrived is not the content that was announced.
    Checksum,
    /// Altinn has failed this transfer. It stays failed.
    Failed,
    /// The transfer does not exist.
    Gone,
    /// The content is not there (yet, or any more): the overview tells.
    NotReady,
    /// The state is another than the call is for, perhaps because it was done before: the overview tells.
    AskOverview,
    /// Altinn has not noted that the download was begun: touch, then confirm again.
    NotDownloaded,
    /// There are no such bytes.
    Range,
    /// The next chunk is not the one that was sent: what Altinn has stored tells which is.
    Offset,
    /// Something went wrong with this call, over there or on the way. Try again later.
    Server,
    /// The platform as a whole: nobody need try until one has.
    Platform,
    /// An answer that does not fit the question. Holds the route, and somebody should look.
    Protocol,
    /// What was to be sent could not be read. It is about us, not about Altinn.
    Source,
}

/// What an answer that is no success says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// The HTTP status.
    pub status: u16,
    /// `code` of the problem document.
    pub code: Option<Code>,
    /// Whether it has the member `errors`, as validation errors do.
    pub has_errors: bool,
    /// Whether it is the API gateway's, about the subscription key.
    pub is_key_gate: bool,
    /// What a refusal of a resumable upload says in words.
    pub tus: Option<TusRefusal>,
}

/// What refusals of resumable uploads say in plain text, where that is more than their status says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TusRefusal {
    /// A chunk was sent for another offset than the next.
    Offset {
        /// Up to where Altinn has accepted bytes, which may be ahead of what it has stored.
        accepted: u64,
    },
    /// The parts cannot be joined yet.
    NotJoined,
    /// Parts that were to be joined are not there.
    PartsLost,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal),+ $(,)?) => {
        /// Formidling's numbered errors: `BRO-00006` is number 6.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code {
            $($(#[$doc])* $name,)+
            /// Another number: new, or of an interface that we do not use.
            Other(u32),
        }

        impl Code {
            /// All that are known.
            pub const KNOWN: &[Self] = &[$(Self::$name),+];

            /// The error of this number.
            #[must_use]
            pub const fn of(number: u32) -> Self {
                match number {
                    $($number => Self::$name,)+
                    other => Self::Other(other),
                }
            }

            /// The error that a resumable upload tells in these words alone (Broker API, TUS: errors).
            #[must_use]
            pub fn of_text(text: &str) -> Option<Self> {
                TEXTS.iter().find(|(said, _)| *said == text.trim()).map(|(_, code)| *code)
            }

            /// Its number.
            #[must_use]
            pub const fn number(self) -> u32 {
                match self {
                    $(Self::$name => $number,)+
                    Self::Other(number) => number,
                }
            }
        }
    };
}

codes! {
    /// The requested file transfer was not found.
    TransferNotFound = 1,
    /// The service owner is not configured.
    OwnerNotConfigured = 2,
    /// No file uploaded yet.
    NothingUploaded = 3,
    /// The upload has happened or has been begun.
    UploadAlreadyDone = 4,
    /// The resource is not in the resource registry.
    ResourceNotRegistered = 5,
    /// No access to the resource.
    NoAccess = 6,
    /// The file is not ready for download.
    NotReadyForDownload = 7,
    /// The upload failed inside.
    UploadFailed = 8,
    /// The checksum did not match.
    ChecksumMismatch = 9,
    /// Only a published transfer can be confirmed.
    ConfirmNotPublished = 10,
    /// The file is too large.
    TooLarge = 16,
    /// Confirmed before it was downloaded.
    ConfirmBeforeDownload = 19,
    /// Sending without a malware scan needs Altinn's approval.
    ScanRequired = 20,
    /// The storage is not ready yet.
    StorageNotReady = 21,
    /// The resource's owner is not configured.
    ResourceOwnerNotConfigured = 24,
    /// The resource is not configured.
    ResourceNotConfigured = 25,
    /// The required party takes no part.
    RequiredPartyMissing = 26,
    /// The required party must be the one recipient.
    RequiredPartyNotAlone = 27,
    /// A recipient is not in the access list.
    RecipientNotInAccessList = 28,
    /// No such range of bytes.
    RangeNotSatisfiable = 29,
    /// Not in the state for it yet, please come back.
    NotYetProcessing = 30,
}

/// Errors as the endpoints of resumable uploads tell them: the message alone, without its number.
const TEXTS: [(&str, Code); 9] = [
    ("The requested file transfer was not found", Code::TransferNotFound),
    ("Service owner needs to be configured to use the broker API", Code::OwnerNotConfigured),
    (
        "A file transfer has already been, or attempted to be, created. Create a new file transfer resource to try again.",
        Code::UploadAlreadyDone,
    ),
    (
        "The resource needs to be registered as an Altinn 3 resource and it has to be associated with a service owner",
        Code::ResourceNotRegistered,
    ),
    (
        "You must use a bearer token that represents a system user with access to the resource in the Resource Rights Registry",
        Code::NoAccess,
    ),
    ("File size exceeds maximum", Code::TooLarge),
    ("Storage provider is not ready yet. Please try again later.", Code::StorageNotReady),
    (
        "The service owner associated with the resource has not been configured.",
        Code::ResourceOwnerNotConfigured,
    ),
    ("The resource has not been configured.", Code::ResourceNotConfigured),
];

impl std::fmt::Display for Code {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "BRO-{:05}", self.number())
    }
}

/// What an answer to `call` means.
#[must_use]
pub fn judge(call: Call, facts: Facts) -> Answer {
    match facts.code {
        Some(code) => by_code(call, code, facts.status),
        None => by_status(call, facts),
    }
}

/// What a call that got no answer has done, when its request may have been sent.
#[must_use]
pub fn unanswered(call: Call) -> Effect {
    if call.changes_something() { Effect::Unknown } else { Effect::None }
}

fn answer(effect: Effect, trouble: Trouble) -> Answer {
    Answer { effect, trouble }
}

fn by_code(call: Call, code: Code, status: u16) -> Answer {
    match code {
        Code::NoAccess => answer(Effect::None, Trouble::Rights),
        Code::OwnerNotConfigured
        | Code::ResourceNotRegistered
        | Code::StorageNotReady
        | Code::ResourceOwnerNotConfigured
        | Code::ResourceNotConfigured => answer(Effect::None, Trouble::Route),
        Code::RecipientNotInAccessList => answer(Effect::None, Trouble::Recipients),
        Code::TransferNotFound => answer(Effect::Refused, Trouble::Gone),
        Code::NothingUploaded | Code::NotReadyForDownload => answer(Effect::None, Trouble::NotReady),
        Code::UploadAlreadyDone | Code::ConfirmNotPublished => answer(Effect::Unknown, Trouble::AskOverview),
        Code::UploadFailed => answer(Effect::Refused, Trouble::Failed),
        Code::ChecksumMismatch => answer(Effect::Refused, Trouble::Checksum),
        Code::TooLarge | Code::ScanRequired | Code::RequiredPartyMissing | Code::RequiredPartyNotAlone => {
            answer(Effect::Refused, Trouble::File)
        }
        Code::ConfirmBeforeDownload => answer(Effect::None, Trouble::NotDownloaded),
        Code::RangeNotSatisfiable => answer(Effect::Refused, Trouble::Range),
        Code::NotYetProcessing => answer(Effect::None, Trouble::Server),
        // A number that is new to us: its status says what kind of thing it is, and an error inside may have
        // done something before.
        Code::Other(_) => match status {
            500.. => answer(unanswered(call), Trouble::Server),
            0..500 => answer(Effect::None, Trouble::Protocol),
        },
    }
}

fn by_status(call: Call, facts: Facts) -> Answer {
    let carries_a_file = match call {
        Call::Initialize | Call::Upload | Call::TusCreate => true,
        Call::TusHead
        | Call::TusPatch
        | Call::TusJoin
        | Call::Overview
        | Call::Details
        | Call::Search
        | Call::Download
        | Call::Touch
        | Call::Confirm => false,
    };
    match (call, facts.tus, facts.status) {
        (Call::TusPatch, Some(TusRefusal::Offset { .. }), 409) => {
            return answer(Effect::None, Trouble::Offset);
        }
        (Call::TusJoin, Some(TusRefusal::NotJoined), 400) => return answer(Effect::None, Trouble::NotReady),
        (Call::TusJoin, Some(TusRefusal::PartsLost), 400) => return answer(Effect::None, Trouble::Gone),
        // Altinn's storage is in trouble, and may have counted the chunk.
        (Call::TusPatch, _, 400) => return answer(Effect::Unknown, Trouble::Server),
        // The transfer is known, so it is the upload that is not: the overview has the last word.
        (Call::TusHead | Call::TusPatch | Call::TusJoin, _, 404) => {
            return answer(Effect::None, Trouble::Gone);
        }
        _ => {}
    }
    match facts.status {
        // A success that could not be read: it has happened. So has a chunk whose checksum is refused (460): it counts.
        0..300 | 460 => answer(unanswered(call), Trouble::Protocol),
        300..400 | 404 => answer(Effect::None, Trouble::Route),
        400 if facts.has_errors && carries_a_file => answer(Effect::Refused, Trouble::File),
        400 if facts.has_errors => answer(Effect::Refused, Trouble::Protocol),
        401 if facts.is_key_gate => answer(Effect::None, Trouble::Key),
        401 => answer(Effect::None, Trouble::Token),
        403 => answer(Effect::None, Trouble::Rights),
        408 => answer(unanswered(call), Trouble::Server),
        409 => answer(unanswered(call), Trouble::AskOverview),
        413 | 414 if carries_a_file => answer(Effect::Refused, Trouble::File),
        416 => answer(Effect::Refused, Trouble::Range),
        // 429 is one client's limit and not the platform's: others go on.
        423 | 425 | 429 => answer(Effect::None, Trouble::Server),
        400..500 => answer(Effect::None, Trouble::Protocol),
        // A gateway that got no answer: what stands behind it may have done the work all the same.
        502..=504 => answer(unanswered(call), Trouble::Platform),
        500.. => answer(unanswered(call), Trouble::Server),
    }
}
