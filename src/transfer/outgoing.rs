//! The states of a file on its way out, and the only ways from one to the next.
//!
//! ```text
//!  Claiming ─► Claimed ◄► Described ◄─► Initializing ─► Initialized ─► Uploading ─► Uploaded ─► Processing
//!     │          ▲            (no effect)                   │              │            │            │
//!     │          └───────── Abandoned: proof that nothing was published ───┴────────────┴────────────┤
//!     ▼                                                                                              ▼
//!  Cancelled      Failing ─► Failed (from Claimed on; where                                      Published
//!                 bytes may have left, only with proof)                                        archive, track
//!                                                                                              │           │
//!                                                                                          Completed    Expired
//! ```
//!
//! Two rules are built into the machine. Bytes go to a second id at Altinn only after [`Unpublished`] has been
//! shown for the first: where Altinn knows of a file, there is no other way back to `Claimed`. And a file is put
//! in `failed/` only where nothing can have been published, for the same reason.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    BrokerTransferId, Dispatch, Failure, IllegalTransition, OrgNumber, OutgoingEvent, SafeFileName,
    UploadSession,
};

/// The transfer at Altinn that a file goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Booking {
    /// Altinn's id of it.
    pub id: BrokerTransferId,
    /// When we learnt the id.
    pub initialized: Timestamp,
}

/// Whether the last byte of the body may have left this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LastByte {
    /// It was provably never handed to the socket, so the upload cannot have succeeded.
    Kept,
    /// It may have been: only Altinn knows what became of the upload.
    MayHaveLeft,
}

/// What became of a recipient.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecipientProgress {
    /// The organisation.
    pub recipient: OrgNumber,
    /// Altinn's word for how far it has come: `Initialized`, `DownloadStarted` or `DownloadConfirmed`.
    pub status: String,
    /// When it came so far.
    pub changed: Option<Timestamp>,
}

impl RecipientProgress {
    /// Whether this recipient has confirmed the download.
    #[must_use]
    pub fn has_confirmed(&self) -> bool {
        self.status == "DownloadConfirmed"
    }
}

/// Where a file is laid down when its sending is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Place {
    /// Folder below `sent/`: the local date of publication. `None` for `failed/`, which has no dates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub date: Option<String>,
    /// The name there.
    pub name: SafeFileName,
}

/// How far the archiving of a published file has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Archive {
    /// Not begun.
    Due,
    /// The place is chosen and durable; the files may or may not be there yet.
    Intended(Place),
    /// File (unless it is to be deleted) and receipt are there.
    Done(Place),
}

/// A published file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Publication {
    /// When the last byte was accepted, as far as we know.
    pub uploaded: Timestamp,
    /// When Altinn published it.
    pub published: Timestamp,
    /// When Altinn deletes it.
    pub expires: Timestamp,
    /// How far each addressed recipient has come.
    pub recipients: Vec<RecipientProgress>,
    /// How far archiving has come.
    pub archive: Archive,
}

/// Proof that a transfer at Altinn has published nothing and never will: it is over, and its `published`
/// (which Altinn keeps for ever) is null.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Unpublished {
    /// Status `Failed`, which never revives.
    Failed,
    /// Status `Purged` without having been published.
    Purged,
    /// Altinn refused the bytes, or was never sent any, and still waits for them: the status is `Initialized`.
    NothingBegun,
    /// Every upload to it was broken off by us before its last byte left, and nobody else sends it any.
    NeverWhole,
}

/// A file on its way out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "state")]
#[expect(missing_docs, reason = "the fields are the documented types; the variants say what they mean")]
pub enum Outgoing {
    /// The claim is intended; the file is in the drop folder or already in ours.
    Claiming,
    /// The file is in our folder.
    Claimed,
    /// What Altinn is to be told is known and the content hashed.
    Described { dispatch: Box<Dispatch> },
    /// Altinn may have been asked for a transfer; the answer is not known.
    Initializing { dispatch: Box<Dispatch>, since: Timestamp },
    /// Altinn has given the file an id. No byte of it has been sent.
    Initialized { dispatch: Box<Dispatch>, booking: Booking },
    /// Bytes are on their way, or were when we last ran.
    Uploading {
        dispatch: Box<Dispatch>,
        booking: Booking,
        begun: Timestamp,
        uploads: u32,
        last_byte: LastByte,
        /// The last byte of no upload to this id was ever handed to the socket: Altinn cannot have it whole. Absent
        /// in records from before this was remembered.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        never_whole: bool,
        /// The resumable upload that the bytes go to. Without one they go as a stream; the way of a transfer at
        /// Altinn is never changed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        session: Option<Box<UploadSession>>,
    },
    /// Altinn has said that it has every byte.
    Uploaded {
        dispatch: Box<Dispatch>,
        booking: Booking,
        uploaded: Timestamp,
        uploads: u32,
        /// The resumable upload that the bytes went to, until Altinn was asked once more to finish it. Absent in records
        /// from before this was remembered.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        session: Option<Box<UploadSession>>,
    },
    /// Altinn scans it for malware.
    Processing { dispatch: Box<Dispatch>, booking: Booking, uploaded: Timestamp, uploads: u32 },
    /// Recipients can fetch it.
    Published { dispatch: Box<Dispatch>, booking: Booking, publication: Box<Publication> },
    /// Every recipient has confirmed it.
    Completed {
        dispatch: Box<Dispatch>,
        booking: Booking,
        publication: Box<Publication>,
        completed: Timestamp,
    },
    /// It was published, and Altinn deleted it before every recipient had confirmed.
    Expired { dispatch: Box<Dispatch>, booking: Booking, publication: Box<Publication>, expired: Timestamp },
    /// It will not be sent; the place in `failed/` is chosen and durable.
    Failing { failure: Failure, place: Place },
    /// It was not sent, and lies in `failed/`.
    Failed { failure: Failure, place: Place },
    /// It was taken back before it was ours.
    Cancelled,
}

/// The one thing to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutgoingStep {
    /// Move the file into our folder.
    Take,
    /// Read sidecar and route, hash the content.
    Describe,
    /// Ask Altinn for a transfer.
    Initialize,
    /// Find out whether Altinn made a transfer when it was last asked.
    SettleInitialize,
    /// Send the bytes, as a stream or in a session that is begun for them.
    Upload,
    /// Send what is missing of a resumable upload.
    Resume,
    /// Find out what became of bytes that were sent.
    SettleUpload,
    /// See whether Altinn has published it.
    Follow,
    /// Choose the place in `sent/`.
    IntendArchive,
    /// Lay file and receipt down there.
    Archive,
    /// See how far the recipients have come.
    Track,
    /// Lay file and error file down in `failed/`.
    FileFailure,
    /// Nothing: it is over.
    Nothing,
}

impl Outgoing {
    /// The state that follows when `event` happens, or why it cannot.
    #[expect(
        clippy::too_many_lines,
        clippy::match_same_arms,
        reason = "one table, read from top to bottom like the drawing above"
    )]
    pub fn apply(self, event: OutgoingEvent) -> Result<Self, IllegalTransition> {
        use Outgoing as S;
        use OutgoingEvent as E;
        match (self, event) {
            (S::Claiming, E::FileTaken) => Ok(S::Claimed),
            (S::Claiming, E::FileWithdrawn) => Ok(S::Cancelled),
            (S::Claimed, E::Described(dispatch)) => Ok(S::Described { dispatch }),
            (S::Described { .. }, E::DescriptionOutdated) => Ok(S::Claimed),
            (S::Described { dispatch }, E::InitializeIntended { at }) => {
                Ok(S::Initializing { dispatch, since: at })
            }
            (S::Initializing { dispatch, .. }, E::InitializeHadNoEffect) => Ok(S::Described { dispatch }),
            (S::Initializing { dispatch, .. }, E::Adopted(booking)) => {
                Ok(S::Initialized { dispatch, booking })
            }
            (S::Initialized { dispatch, booking }, E::UploadBegun { at }) => {
                Ok(begin(dispatch, booking, at, None))
            }
            (S::Initialized { dispatch, booking }, E::SessionBegun { at, session })
                if session.is_untouched() =>
            {
                Ok(begin(dispatch, booking, at, Some(session)))
            }
            // Bytes go to the same id again only where the upload before provably never ended.
            (
                S::Uploading {
                    dispatch,
                    booking,
                    uploads,
                    last_byte: LastByte::Kept,
                    never_whole,
                    session: None,
                    ..
                },
                E::UploadBegun { at },
            ) => Ok(S::Uploading {
                dispatch,
                booking,
                begun: at,
                uploads: uploads.saturating_add(1),
                last_byte: LastByte::Kept,
                never_whole,
                session: None,
            }),
            // In the order of the file, and each in one place for good: Altinn joins by the order of their making.
            (
                S::Uploading {
                    dispatch,
                    booking,
                    begun,
                    uploads,
                    last_byte: LastByte::Kept,
                    never_whole,
                    session: Some(mut session),
                },
                E::PartCreated { part, location },
            ) if session.next_to_create() == Some(part) => {
                session.create(part, location);
                let (last_byte, session) = (LastByte::Kept, Some(session));
                Ok(S::Uploading { dispatch, booking, begun, uploads, last_byte, never_whole, session })
            }
            (S::Uploading { dispatch, booking, begun, uploads, session, .. }, E::LastByteLeaving)
                if session.as_ref().is_none_or(|session| session.may_end()) =>
            {
                let last_byte = LastByte::MayHaveLeft;
                Ok(S::Uploading { dispatch, booking, begun, uploads, last_byte, never_whole: false, session })
            }
            (
                S::Uploading {
                    dispatch,
                    booking,
                    begun,
                    uploads,
                    last_byte: LastByte::MayHaveLeft,
                    session: Some(mut session),
                    ..
                },
                E::SessionGivenUp,
            ) => {
                session.given_up = true;
                let (last_byte, session) = (LastByte::MayHaveLeft, Some(session));
                Ok(S::Uploading { dispatch, booking, begun, uploads, last_byte, never_whole: false, session })
            }
            (
                S::Uploading {
                    dispatch, booking, uploads, last_byte: LastByte::MayHaveLeft, session, ..
                },
                E::UploadAccepted { at },
            ) if session.as_ref().is_none_or(|session| session.may_end()) => {
                Ok(S::Uploaded { dispatch, booking, uploaded: at, uploads, session })
            }
            (S::Uploading { dispatch, booking, uploads, .. }, E::ProcessingSeen { at }) => {
                Ok(S::Processing { dispatch, booking, uploaded: at, uploads })
            }
            (S::Uploaded { dispatch, booking, uploaded, uploads, .. }, E::ProcessingSeen { .. }) => {
                Ok(S::Processing { dispatch, booking, uploaded, uploads })
            }
            (S::Uploaded { dispatch, booking, uploaded, uploads, session: Some(_) }, E::Nudged) => {
                Ok(S::Uploaded { dispatch, booking, uploaded, uploads, session: None })
            }
            // A store that was set back in time may find its transfer published already.
            (S::Initialized { dispatch, booking }, E::ProcessingSeen { at }) => {
                Ok(S::Processing { dispatch, booking, uploaded: at, uploads: 1 })
            }
            (
                S::Initialized { dispatch, booking } | S::Uploading { dispatch, booking, .. },
                E::PublishedSeen { published, expires, recipients },
            ) => Ok(publish(dispatch, booking, published, published, expires, recipients)),
            (
                S::Uploaded { dispatch, booking, uploaded, .. }
                | S::Processing { dispatch, booking, uploaded, .. },
                E::PublishedSeen { published, expires, recipients },
            ) => Ok(publish(dispatch, booking, uploaded, published, expires, recipients)),
            (S::Initialized { .. }, E::Abandoned(_)) => Ok(S::Claimed),
            (S::Uploading { never_whole: true, .. }, E::Abandoned(Unpublished::NeverWhole)) => Ok(S::Claimed),
            // Of a stream that was left alone, and of which nothing had arrived even then.
            (
                S::Uploading { last_byte: LastByte::Kept, session: None, .. },
                E::Abandoned(Unpublished::NothingBegun),
            ) => Ok(S::Claimed),
            (
                S::Uploading { .. } | S::Uploaded { .. } | S::Processing { .. },
                E::Abandoned(Unpublished::Failed | Unpublished::Purged),
            ) => Ok(S::Claimed),
            // Of a stream alone: a session says itself how far it has come, and is never begun anew.
            (
                S::Uploading { dispatch, booking, begun, uploads, never_whole, session: None, .. },
                E::NothingArrived,
            ) => {
                let (last_byte, session) = (LastByte::Kept, None);
                Ok(S::Uploading { dispatch, booking, begun, uploads, last_byte, never_whole, session })
            }
            (S::Uploading { dispatch, booking, uploads: 1, session: None, .. }, E::UploadHadNoEffect) => {
                Ok(S::Initialized { dispatch, booking })
            }
            // There was an upload before this one, and what became of it is as open as it was.
            (
                S::Uploading { dispatch, booking, begun, uploads, never_whole, session: None, .. },
                E::UploadHadNoEffect,
            ) => {
                let (uploads, last_byte, session) = (uploads.saturating_sub(1), LastByte::Kept, None);
                Ok(S::Uploading { dispatch, booking, begun, uploads, last_byte, never_whole, session })
            }
            // Again from Intended: the name was taken in the meantime, and nothing has been laid down.
            (S::Published { dispatch, booking, mut publication }, E::ArchiveIntended(place))
                if !matches!(publication.archive, Archive::Done(_)) =>
            {
                publication.archive = Archive::Intended(place);
                Ok(S::Published { dispatch, booking, publication })
            }
            (S::Published { dispatch, booking, mut publication }, E::Archived)
                if matches!(publication.archive, Archive::Intended(_)) =>
            {
                if let Archive::Intended(place) = publication.archive {
                    publication.archive = Archive::Done(place);
                }
                Ok(S::Published { dispatch, booking, publication })
            }
            (S::Published { dispatch, booking, mut publication }, E::RecipientsSeen(recipients)) => {
                publication.recipients = recipients;
                Ok(S::Published { dispatch, booking, publication })
            }
            (S::Published { dispatch, booking, publication }, E::AllConfirmed { at })
                if matches!(publication.archive, Archive::Done(_)) =>
            {
                Ok(S::Completed { dispatch, booking, publication, completed: at })
            }
            (S::Published { dispatch, booking, publication }, E::Expired { at })
                if matches!(publication.archive, Archive::Done(_)) =>
            {
                Ok(S::Expired { dispatch, booking, publication, expired: at })
            }
            (
                S::Claimed | S::Described { .. } | S::Initialized { .. },
                E::FailureIntended { failure, place, .. },
            ) => Ok(S::Failing { failure, place }),
            // Without bytes a transfer publishes nothing, so a lost answer does not stand in the way.
            (S::Initializing { .. }, E::FailureIntended { failure, place, .. }) => {
                Ok(S::Failing { failure, place })
            }
            (S::Uploading { never_whole, .. }, E::FailureIntended { failure, place, proof: Some(proof) })
                if never_whole || proof != Unpublished::NeverWhole =>
            {
                Ok(S::Failing { failure, place })
            }
            // Altinn has had every byte here, so that "none ever began" would prove nothing.
            (
                S::Uploaded { .. } | S::Processing { .. },
                E::FailureIntended { failure, place, proof: Some(Unpublished::Failed | Unpublished::Purged) },
            ) => Ok(S::Failing { failure, place }),
            (
                S::Uploading { .. } | S::Uploaded { .. } | S::Processing { .. },
                E::DecisionNeeded { failure, place },
            ) => Ok(S::Failing { failure, place }),
            // The name was taken in the meantime, and nothing has been laid down.
            (S::Failing { .. }, E::FailureIntended { failure, place, .. }) => {
                Ok(S::Failing { failure, place })
            }
            (S::Failing { failure, place }, E::FailureFiled) => Ok(S::Failed { failure, place }),
            (state, event) => Err(IllegalTransition { state: state.phase(), event: event.name() }),
        }
    }

    /// What is to be done next.
    #[must_use]
    pub fn next_step(&self) -> OutgoingStep {
        match self {
            Self::Claiming => OutgoingStep::Take,
            Self::Claimed => OutgoingStep::Describe,
            Self::Described { .. } => OutgoingStep::Initialize,
            Self::Initializing { .. } => OutgoingStep::SettleInitialize,
            Self::Initialized { .. } => OutgoingStep::Upload,
            Self::Uploading { session: Some(session), .. } if !session.given_up => OutgoingStep::Resume,
            Self::Uploading { .. } => OutgoingStep::SettleUpload,
            Self::Uploaded { .. } | Self::Processing { .. } => OutgoingStep::Follow,
            Self::Published { publication, .. } => match publication.archive {
                Archive::Due => OutgoingStep::IntendArchive,
                Archive::Intended(_) => OutgoingStep::Archive,
                Archive::Done(_) => OutgoingStep::Track,
            },
            Self::Failing { .. } => OutgoingStep::FileFailure,
            Self::Completed { .. } | Self::Expired { .. } | Self::Failed { .. } | Self::Cancelled => {
                OutgoingStep::Nothing
            }
        }
    }

    /// The public name of the state, as receipts, lists and metrics have it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Claiming | Self::Claimed | Self::Described { .. } | Self::Initializing { .. } => "claimed",
            Self::Initialized { .. } => "initialized",
            Self::Uploading { .. } => "uploading",
            Self::Uploaded { .. } => "uploaded",
            Self::Processing { .. } => "processing",
            Self::Published { .. } => "published",
            Self::Completed { .. } => "completed",
            Self::Expired { .. } => "expired",
            Self::Failing { .. } | Self::Failed { .. } => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// The name of the state with nothing folded together.
    #[must_use]
    pub fn phase(&self) -> &'static str {
        match self {
            Self::Claiming => "claiming",
            Self::Described { .. } => "described",
            Self::Initializing { .. } => "initializing",
            Self::Failing { .. } => "failing",
            Self::Published { publication, .. } if !matches!(publication.archive, Archive::Done(_)) => {
                "archiving"
            }
            Self::Claimed
            | Self::Initialized { .. }
            | Self::Uploading { .. }
            | Self::Uploaded { .. }
            | Self::Processing { .. }
            | Self::Published { .. }
            | Self::Completed { .. }
            | Self::Expired { .. }
            | Self::Failed { .. }
            | Self::Cancelled => self.name(),
        }
    }

    /// Whether nothing more is to be done.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.next_step() == OutgoingStep::Nothing
    }

    /// Whether the file has yet to be laid down in `sent/` or `failed/`.
    #[must_use]
    pub fn holds_file(&self) -> bool {
        match self {
            Self::Published { publication, .. } => !matches!(publication.archive, Archive::Done(_)),
            Self::Completed { .. } | Self::Expired { .. } | Self::Failed { .. } | Self::Cancelled => false,
            Self::Claiming
            | Self::Claimed
            | Self::Described { .. }
            | Self::Initializing { .. }
            | Self::Initialized { .. }
            | Self::Uploading { .. }
            | Self::Uploaded { .. }
            | Self::Processing { .. }
            | Self::Failing { .. } => true,
        }
    }

    /// Whether the file is ours and no byte of it has been sent: it may fail without proof.
    #[must_use]
    pub fn is_unsent(&self) -> bool {
        matches!(
            self,
            Self::Claimed | Self::Described { .. } | Self::Initializing { .. } | Self::Initialized { .. }
        )
    }

    /// Altinn's id of the transfer, where it is known.
    #[must_use]
    pub fn booking(&self) -> Option<&Booking> {
        match self {
            Self::Initialized { booking, .. }
            | Self::Uploading { booking, .. }
            | Self::Uploaded { booking, .. }
            | Self::Processing { booking, .. }
            | Self::Published { booking, .. }
            | Self::Completed { booking, .. }
            | Self::Expired { booking, .. } => Some(booking),
            _ => None,
        }
    }

    /// What Altinn is told, where it is known.
    #[must_use]
    pub fn dispatch(&self) -> Option<&Dispatch> {
        match self {
            Self::Described { dispatch }
            | Self::Initializing { dispatch, .. }
            | Self::Initialized { dispatch, .. }
            | Self::Uploading { dispatch, .. }
            | Self::Uploaded { dispatch, .. }
            | Self::Processing { dispatch, .. }
            | Self::Published { dispatch, .. }
            | Self::Completed { dispatch, .. }
            | Self::Expired { dispatch, .. } => Some(dispatch),
            Self::Claiming | Self::Claimed | Self::Failing { .. } | Self::Failed { .. } | Self::Cancelled => {
                None
            }
        }
    }

    /// The resumable upload that is under way.
    #[must_use]
    pub fn session(&self) -> Option<&UploadSession> {
        match self {
            Self::Uploading { session, .. } => session.as_deref(),
            _ => None,
        }
    }

    /// How many times bytes were sent to the present transfer at Altinn.
    #[must_use]
    pub fn uploads(&self) -> u32 {
        match self {
            Self::Uploading { uploads, .. }
            | Self::Uploaded { uploads, .. }
            | Self::Processing { uploads, .. } => *uploads,
            _ => 0,
        }
    }
}

fn begin(
    dispatch: Box<Dispatch>,
    booking: Booking,
    begun: Timestamp,
    session: Option<Box<UploadSession>>,
) -> Outgoing {
    let last_byte = LastByte::Kept;
    Outgoing::Uploading { dispatch, booking, begun, uploads: 1, last_byte, never_whole: true, session }
}

fn publish(
    dispatch: Box<Dispatch>,
    booking: Booking,
    uploaded: Timestamp,
    published: Timestamp,
    expires: Timestamp,
    recipients: Vec<RecipientProgress>,
) -> Outgoing {
    let publication = Publication { uploaded, published, expires, recipients, archive: Archive::Due };
    Outgoing::Published { dispatch, booking, publication: Box::new(publication) }
}
