//! When a resumable upload is dead, and what follows. One 401, 403, 429 or 5xx proves nothing: without proof the upload
//! is kept, since giving it up sends everything again.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tracing::warn;

use super::Upload;
use crate::outbox::Route;
use crate::outbox::follow::{Seen, abandoned, seen};
use crate::outbox::sending::last_byte;
use crate::route::{Kind, Next, Trouble};
use crate::seams::crash_point;
use crate::transfer::{BrokerTransferId, Failure, LastByte, OutgoingEvent, Transfer, Unpublished, Work};

/// A file that is old enough to be given up has so many tries all the same: it may have gone well for most of the time.
const MANY: u32 = 5;

/// Why an upload is dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Death {
    /// Altinn does not know it: 404.
    NotFound,
    /// Altinn takes it for one of another length, or of none: it has forgotten ours, and looks at what was left of it.
    Foreign { length: Option<u64> },
    /// Altinn took a chunk, and named another offset than its end.
    WrongOffset { sent: u64, answered: u64 },
    /// Altinn has failed to say anything of it for long, though it answers about the transfer: it has forgotten it.
    Lost,
    /// What was accepted is ahead of what is stored, and nothing moves: a chunk that was accepted will never be stored.
    Wedged { stored: u64, accepted: u64 },
    /// What was accepted is behind what is stored: somebody has begun the upload again.
    Restarted { stored: u64, accepted: u64 },
    /// Altinn says that the transfer is past its upload.
    Past,
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => f.write_str("Altinn does not know it any more"),
            Self::Foreign { length: Some(length) } => write!(f, "Altinn takes it for one of {length} bytes"),
            Self::Foreign { length: None } => f.write_str("Altinn has forgotten its length"),
            Self::WrongOffset { sent, answered } => {
                write!(f, "the answer to what ended at {sent} was {answered}")
            }
            Self::Lost => f.write_str("Altinn fails whenever it is asked for it"),
            Self::Wedged { stored, accepted } => {
                write!(f, "Altinn has accepted {accepted} bytes, and stores no more than {stored}")
            }
            Self::Restarted { stored, accepted } => {
                write!(f, "Altinn has stored {stored} bytes, and begins again at {accepted}")
            }
            Self::Past => f.write_str("Altinn says that the upload is over"),
        }
    }
}

impl Route {
    /// An upload of this process is dead.
    pub(super) async fn is_dead(
        self: &Arc<Self>,
        transfer: &mut Transfer,
        upload: &Upload,
        death: &Death,
    ) -> Result<Next, Trouble> {
        self.settle_death(transfer, upload.id, death, upload.resent.load(Ordering::Relaxed)).await
    }

    /// Gives a dead upload up, unless the overview shows that it has come to its end.
    pub(super) async fn settle_death(
        self: &Arc<Self>,
        transfer: &mut Transfer,
        id: BrokerTransferId,
        death: &Death,
        resent_bytes: u64,
    ) -> Result<Next, Trouble> {
        let overview = self.overview(id).await?;
        if !matches!(seen(&overview), Seen::Begun | Seen::NothingArrived) {
            return self.take_in(transfer, &overview).await;
        }
        if *death == Death::Past {
            // It is not: one of the two answers is out of date.
            return Err(
                self.unclear("Altinn says of the upload that it is over, and of the transfer that it is not")
            );
        }
        let wedged = matches!(death, Death::Wedged { .. });
        warn!(file_transfer = %id, reason = %death, wedged, resent_bytes, "the resumable upload is dead");
        if last_byte(transfer) == Some(LastByte::MayHaveLeft) {
            return self.give_up_session(transfer, "its last byte may have left").await;
        }
        if self.means.is_hopeless(transfer) && deaths(transfer) >= MANY {
            let failure = Failure {
                code: "gave_up".to_owned(),
                message: format!(
                    "the file could not be sent in the time that retry.give_up_after allows; last: {death}"
                ),
                remedy: "see whether something on the way to Altinn cuts connections; drop the file again"
                    .to_owned(),
                at: self.means.now(),
                altinn: None,
            };
            return self.intend_failure(transfer, failure, Some(Unpublished::NeverWhole)).await;
        }
        crash_point("upload:dead");
        self.happened(transfer, OutgoingEvent::Abandoned(Unpublished::NeverWhole)).await?;
        crash_point("upload:abandoned");
        let attempts = u32::try_from(abandoned(transfer)).unwrap_or(u32::MAX);
        self.wait(transfer, self.means.backoff.delay(attempts), None).await
    }

    /// What Altinn says of an upload does not go together.
    pub(super) fn unclear(&self, message: &str) -> Trouble {
        let remedy = "nothing: Altinn is asked again";
        let kind = Kind::Temporary(None);
        Trouble::new(kind, "upload_unclear", message.to_owned(), remedy, self.means.now())
    }

    /// Sends nothing more, and leaves it to Altinn to publish or fail what it has. Not even looking at the upload is
    /// allowed from here on: it would keep it alive, and a transfer that is stuck fails after a day without a sign of
    /// life.
    pub(super) async fn give_up_session(
        &self,
        transfer: &mut Transfer,
        reason: &str,
    ) -> Result<Next, Trouble> {
        warn!(reason, "nothing more is sent: the file is sent anew when Altinn has failed the transfer");
        self.happened(transfer, OutgoingEvent::SessionGivenUp).await?;
        Ok(Next::Step)
    }
}

/// How many uploads of the file have been given up on before.
fn deaths(transfer: &Transfer) -> u32 {
    match &transfer.work {
        Work::Outgoing { never_whole, .. } => *never_whole,
        Work::Incoming { .. } => 0,
    }
}
