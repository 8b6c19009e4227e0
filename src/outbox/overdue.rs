//! When Altinn is asked again, and what is told of a file that it does nothing about. What is looked after quickly at
//! first is looked after seldom later; what never comes to an end is told of, and never sent again on a guess.

use std::time::Duration;

use jiff::Timestamp;
use tracing::{error, info, warn};

use super::Route;
use super::upload::CUT;
use crate::broker::Overview;
use crate::route::{Kind, Next, Trouble, later, text_for_people};
use crate::transfer::{Effect, Failure, LastByte, Outgoing, OutgoingEvent, Transfer, Work};

/// The code of a file that Altinn has and does nothing about.
const OVERDUE: &str = "processing_overdue";
/// The alarm about it is raised again this often.
const ALARM_EVERY: Duration = Duration::from_hours(24);
/// The code of a transfer whose status is a word that this program does not know.
const UNKNOWN_STATUS: &str = "unknown_status";
/// Altinn fails by itself an upload that has not shown a sign of life for so long (Broker API, expiry of uploads):
/// only then does the patience with one that was left alone begin.
pub(super) const STUCK: Duration = Duration::from_hours(24);
/// A resumable upload of which Altinn has taken every byte, and that it still has not finished, is asked for once.
const NUDGE_AFTER: Duration = Duration::from_mins(15);

impl Route {
    /// Looks again after a wait that grows with the age of what is waited for, so that a quick answer is seen
    /// quickly and a slow one costs little of the rate budget. `problem` is shown until it is overdue.
    pub(super) async fn look_again(
        &self,
        transfer: &mut Transfer,
        problem: Option<Failure>,
    ) -> Result<Next, Trouble> {
        let now = self.means.now();
        let Work::Outgoing { progress, .. } = &transfer.work else { return Ok(Next::Wait) };
        let (since, shortest, longest) = match progress {
            Outgoing::Published { publication, .. } => {
                (publication.published, Duration::from_secs(2), Duration::from_hours(6))
            }
            Outgoing::Uploaded { uploaded, .. } | Outgoing::Processing { uploaded, .. } => {
                (*uploaded, Duration::from_millis(500), Duration::from_mins(5))
            }
            Outgoing::Uploading { begun, .. } => (*begun, Duration::from_secs(1), Duration::from_mins(5)),
            _ => (transfer.created, Duration::from_secs(1), Duration::from_mins(5)),
        };
        let age = now.duration_since(since).unsigned_abs();
        let problem = self.overdue(transfer, now).or(problem);
        self.wait(transfer, (age / 3).clamp(shortest, longest), problem).await
    }

    /// Altinn has every byte, or may have, and neither publishes nor fails the file: an alarm, and one more each day.
    /// The file is not sent again, since the first may be published at any time.
    fn overdue(&self, transfer: &Transfer, now: Timestamp) -> Option<Failure> {
        let Work::Outgoing { progress, .. } = &transfer.work else { return None };
        let patience = self.settings.processing_patience;
        let (since, due, has) = match progress {
            Outgoing::Uploaded { uploaded, .. } | Outgoing::Processing { uploaded, .. } => {
                (*uploaded, later(*uploaded, patience), "has had the file")
            }
            Outgoing::Uploading { begun, .. } => {
                // It may have been sent again and again.
                let since = transfer.struggling_since(now).map_or(*begun, |since| since.min(*begun));
                (
                    since,
                    later(later(since, STUCK), patience),
                    "may have had the file, whose upload broke off,",
                )
            }
            _ => return None,
        };
        if !self.means.skew.is_confirmed() || now < due {
            return None;
        }
        let told = transfer.problem.as_ref().filter(|problem| problem.code == OVERDUE);
        if let Some(told) = told.filter(|told| told.at <= now && now < later(told.at, ALARM_EVERY)) {
            return Some(told.clone());
        }
        let failure = Failure {
            code: OVERDUE.to_owned(),
            message: format!("Altinn {has} since {since:.0}, and has neither published nor failed it"),
            remedy: "ask Altinn's support, and name the fileTransferId; do not send the file again: it may be published yet".to_owned(),
            at: now,
            altinn: None,
        };
        let file_transfer = file_transfer(transfer);
        error!(code = OVERDUE, %file_transfer, %since, reason = %failure.message, remedy = %failure.remedy, "somebody must act");
        Some(failure)
    }

    /// Whatever goes wrong with a file of which Altinn may have every byte: that it is overdue is told all the same.
    pub(super) fn told_if_overdue(&self, transfer: &Transfer, trouble: Trouble) -> Trouble {
        let Work::Outgoing { progress, .. } = &transfer.work else { return trouble };
        let may_be_whole = matches!(
            progress,
            Outgoing::Uploading { last_byte: LastByte::MayHaveLeft, .. }
                | Outgoing::Uploading { never_whole: false, .. }
                | Outgoing::Uploaded { .. }
                | Outgoing::Processing { .. }
        );
        let passes = !matches!(trouble.kind, Kind::Permanent | Kind::Fatal);
        let overdue = (may_be_whole && passes).then(|| self.overdue(transfer, self.means.now())).flatten();
        match overdue {
            Some(failure) => Trouble { failure, ..trouble },
            None => trouble,
        }
    }

    /// Altinn says a word of a transfer that this program does not know. Told once.
    pub(super) fn unknown_status(&self, transfer: &Transfer, overview: &Overview) -> Failure {
        let message = format!(
            "Altinn says {:?} of the transfer, which means nothing to this program",
            overview.status.as_str()
        );
        let known = [UNKNOWN_STATUS, OVERDUE];
        let told = transfer.problem.as_ref().filter(|told| known.contains(&told.code.as_str()));
        if let Some(told) = told {
            return told.clone();
        }
        let failure = Failure {
            code: UNKNOWN_STATUS.to_owned(),
            message,
            remedy: "see whether there is a newer formidlingd; Altinn is asked again, and nothing is sent meanwhile"
                .to_owned(),
            at: self.means.now(),
            altinn: None,
        };
        warn!(code = UNKNOWN_STATUS, file_transfer = %overview.id, reason = %failure.message, remedy = %failure.remedy, "Altinn is asked again");
        failure
    }

    /// An upload broke off: it is left alone for a while, since Altinn may still be writing.
    pub(super) async fn leave_alone(&self, transfer: &mut Transfer) -> Result<Next, Trouble> {
        if is_left_alone(transfer) {
            // Watched to the end: Altinn fails an upload that is stuck after a day.
            return self.look_again_at_cut(transfer).await;
        }
        let failure = Failure {
            code: CUT.to_owned(),
            message: "the upload broke off, or its answer was lost".to_owned(),
            remedy: "nothing: Altinn is asked what became of it".to_owned(),
            at: self.means.now(),
            altinn: None,
        };
        let next = self.means.after(self.means.retry.cut_upload_wait);
        self.means.store_change(transfer, |before| Ok(before.after_trouble(failure, next))).await?;
        Ok(Next::Wait)
    }

    async fn look_again_at_cut(&self, transfer: &mut Transfer) -> Result<Next, Trouble> {
        let now = self.means.now();
        let age = now.duration_since(transfer.updated).unsigned_abs();
        let wait = (age / 3).clamp(self.means.retry.initial, self.means.retry.max);
        let waited = later(transfer.updated, self.means.retry.cut_upload_wait);
        let next = self.means.after(wait);
        let next = if waited > now { next.min(waited) } else { next };
        let overdue = self.overdue(transfer, now);
        // `updated` stays: it says since when the upload has been left alone.
        self.means
            .store_change(transfer, |before| {
                let problem = overdue.or_else(|| before.problem.clone());
                Ok(Transfer { next_attempt: next, problem, ..before })
            })
            .await?;
        Ok(Next::Wait)
    }

    /// Altinn has said that it has every byte, and does not finish: its finishing can be lost over there, and an empty
    /// chunk at the end begins it anew. Once: each request is a sign of life, and an upload that is dead is failed only
    /// after a day without any.
    pub(super) async fn nudge(&self, transfer: &mut Transfer) -> Result<(), Trouble> {
        let Some((location, size, id)) = self.to_be_nudged(transfer) else { return Ok(()) };
        match self.means.broker.tus_finish(id, &location, size).await {
            Ok(_) => info!(file_transfer = %id, "Altinn has had every byte for long: it was asked to finish"),
            // It was not asked.
            Err(error) if error.effect() == Effect::None => return Ok(()),
            Err(error) => {
                warn!(file_transfer = %id, error = %text_for_people(&error), "Altinn was asked to finish the upload, and did not say that it would");
            }
        }
        self.happened(transfer, OutgoingEvent::Nudged).await
    }

    fn to_be_nudged(&self, transfer: &Transfer) -> Option<(String, u64, crate::transfer::BrokerTransferId)> {
        let Work::Outgoing { progress, .. } = &transfer.work else { return None };
        let Outgoing::Uploaded { dispatch, booking, uploaded, session: Some(session), .. } = progress else {
            return None;
        };
        // What was joined is past its upload when the joining is answered.
        let [part] = session.parts.as_slice() else { return None };
        (self.means.now() >= later(*uploaded, NUDGE_AFTER))
            .then(|| Some((part.location.clone()?, dispatch.size, booking.id)))
            .flatten()
    }
}

/// Whether an upload that broke off is left alone.
pub(super) fn is_left_alone(transfer: &Transfer) -> bool {
    transfer.problem.as_ref().is_some_and(|problem| [CUT, OVERDUE].contains(&problem.code.as_str()))
}

fn file_transfer(transfer: &Transfer) -> String {
    transfer.broker_id().map(|id| id.to_string()).unwrap_or_default()
}
