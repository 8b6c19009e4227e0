//! What can happen to a file on its way out; [`Outgoing::apply`](super::Outgoing::apply) says what follows from it.

use jiff::Timestamp;

use super::{Booking, Dispatch, Failure, Place, RecipientProgress, Unpublished, UploadSession};

/// What happened to a file on its way out.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are the documented types; the variants say what they mean")]
pub enum OutgoingEvent {
    /// The file has been moved to our folder and the move is durable.
    FileTaken,
    /// The file is neither in the drop folder nor in ours: somebody took it back before the claim.
    FileWithdrawn,
    /// What Altinn is to be told is known.
    Described(Box<Dispatch>),
    /// Altinn was told nothing yet, and the settings may have changed since: it is described anew.
    DescriptionOutdated,
    /// Altinn is about to be asked for a transfer.
    InitializeIntended { at: Timestamp },
    /// Altinn provably made no transfer.
    InitializeHadNoEffect,
    /// Altinn's id for the file is known.
    Adopted(Booking),
    /// The first byte of a stream is about to leave.
    UploadBegun { at: Timestamp },
    /// A resumable upload is about to be begun in this way.
    SessionBegun { at: Timestamp, session: Box<UploadSession> },
    /// Altinn has begun the part of this number; it lies there.
    PartCreated { part: usize, location: String },
    /// The session is dead, and its last byte may have left: nothing more is sent to it, and Altinn is watched.
    SessionGivenUp,
    /// The last byte is about to leave.
    LastByteLeaving,
    /// The last byte may have left, but Altinn has received none: some time after the upload broke off, the
    /// status is still `Initialized`.
    NothingArrived,
    /// The upload that was just begun provably had no effect: it never reached Altinn, or not a byte of the content
    /// left.
    UploadHadNoEffect,
    /// Altinn has answered that it has every byte.
    UploadAccepted { at: Timestamp },
    /// Altinn was asked once more to finish the resumable upload of which it has every byte.
    Nudged,
    /// Altinn has every byte and is processing it.
    ProcessingSeen { at: Timestamp },
    /// Altinn has published it.
    PublishedSeen { published: Timestamp, expires: Timestamp, recipients: Vec<RecipientProgress> },
    /// The transfer at Altinn is given up on, with proof.
    Abandoned(Unpublished),
    /// The place of the archived file is chosen.
    ArchiveIntended(Place),
    /// File and receipt are at their place.
    Archived,
    /// Recipients have come this far.
    RecipientsSeen(Vec<RecipientProgress>),
    /// All have confirmed.
    AllConfirmed { at: Timestamp },
    /// Altinn has deleted it.
    Expired { at: Timestamp },
    /// It cannot be sent. `proof` is needed where bytes may have left.
    FailureIntended { failure: Failure, place: Place, proof: Option<Unpublished> },
    /// Nobody can say whether it was published: a person has to decide, and nothing more is sent.
    DecisionNeeded { failure: Failure, place: Place },
    /// The file lies in `failed/` with its error file.
    FailureFiled,
}

impl OutgoingEvent {
    /// The event's name, for messages.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::FileTaken => "file taken",
            Self::FileWithdrawn => "file withdrawn",
            Self::Described(_) => "described",
            Self::DescriptionOutdated => "description outdated",
            Self::InitializeIntended { .. } => "initialize intended",
            Self::InitializeHadNoEffect => "initialize had no effect",
            Self::Adopted(_) => "adopted",
            Self::UploadBegun { .. } => "upload begun",
            Self::SessionBegun { .. } => "session begun",
            Self::PartCreated { .. } => "part created",
            Self::SessionGivenUp => "session given up",
            Self::LastByteLeaving => "last byte leaving",
            Self::NothingArrived => "nothing arrived",
            Self::UploadHadNoEffect => "upload had no effect",
            Self::UploadAccepted { .. } => "upload accepted",
            Self::Nudged => "nudged",
            Self::ProcessingSeen { .. } => "processing seen",
            Self::PublishedSeen { .. } => "published seen",
            Self::Abandoned(_) => "abandoned",
            Self::ArchiveIntended(_) => "archive intended",
            Self::Archived => "archived",
            Self::RecipientsSeen(_) => "recipients seen",
            Self::AllConfirmed { .. } => "all confirmed",
            Self::Expired { .. } => "expired",
            Self::FailureIntended { .. } => "failure intended",
            Self::DecisionNeeded { .. } => "decision needed",
            Self::FailureFiled => "failure filed",
        }
    }
}
