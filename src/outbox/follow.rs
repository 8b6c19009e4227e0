//! What became of a file at Altinn: after an upload, until it is published, and until its recipients have
//! fetched it. The overview is the judge; whether something was published is read from `published`, which Altinn
//! keeps for ever, and not from the status, which moves on.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tracing::{error, info, warn};

use super::Route;
use super::driver::gave_up;
use super::overdue::is_left_alone;
use super::upload::cut;
use crate::broker::{self, Overview, RecipientStatus, Role, Status};
use crate::route::{Kind, Next, Trouble, Verdict, later};
use crate::seams::crash_point;
use crate::transfer::{
    BrokerTransferId, Failure, LastByte, OrgNumber, Outgoing, OutgoingEvent, RecipientProgress, Transfer,
    Unpublished, Work,
};

/// How Altinn's explanation of a `Failed` begins when its scan did not let the file pass; what the scan said follows
/// (Broker API, failure texts).
const SCAN_FAILED: &str = "Malware scan failed: ";
/// What the scan says of malware. Anything else, such as that nothing was scanned, may pass the next time.
const MALICIOUS: &str = "malicious";
/// How the explanation begins when Altinn could not store the content.
const NOT_STORED: &str = "Error occurred while uploading";
/// Characters of Altinn's explanation that are kept.
const MAX_TEXT: usize = 500;
/// New transfers for one file, after Altinn failed the ones before, that follow quickly. Those after them follow more
/// and more slowly, as each sends the file again.
const QUICK: usize = 5;
/// The longest wait before another.
const SLOWEST: Duration = Duration::from_hours(6);
/// The code of a file that Altinn's scan refused.
const MALWARE_FOUND: &str = "malware_found";
/// The code of a file whose transfers Altinn fails.
pub(super) const ALTINN_FAILED: &str = "altinn_failed";

/// What an overview says of the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    /// Altinn waits for bytes.
    NothingArrived,
    /// An upload was begun; whether it goes on cannot be seen.
    Begun,
    /// Altinn has every byte.
    Processing,
    /// It was published, whatever the status is now.
    Published(Option<Timestamp>),
    /// It is over, and was never published.
    Over(Unpublished),
    /// A word that this program does not know.
    Unknown,
}

/// Reads an overview.
pub(super) fn seen(overview: &Overview) -> Seen {
    if let Some(published) = overview.published {
        return Seen::Published(Some(published));
    }
    match overview.status {
        Status::Initialized => Seen::NothingArrived,
        Status::UploadStarted => Seen::Begun,
        Status::UploadProcessing => Seen::Processing,
        Status::Published | Status::AllConfirmedDownloaded => Seen::Published(overview.status_changed),
        Status::Failed => Seen::Over(Unpublished::Failed),
        Status::Purged => Seen::Over(Unpublished::Purged),
        _ => Seen::Unknown,
    }
}

impl Route {
    /// Finds out what became of bytes that were sent when the answer was lost or the service killed.
    pub(super) async fn settle_upload(self: &Arc<Self>, transfer: &mut Transfer) -> Result<Next, Trouble> {
        let Some((id, last_byte)) = uploading(transfer) else { return Ok(Next::Step) };
        let overview = self.overview(id).await?;
        if is_session(transfer) {
            // Given up, and its last byte may have left: Altinn is watched until it has published or failed it.
            return match seen(&overview) {
                Seen::NothingArrived | Seen::Begun => self.leave_alone(transfer).await,
                _ => self.take_in(transfer, &overview).await,
            };
        }
        let has_waited = is_left_alone(transfer)
            && later(transfer.updated, self.means.retry.cut_upload_wait) <= self.means.now();
        match (seen(&overview), last_byte) {
            (Seen::NothingArrived | Seen::Begun, LastByte::Kept) if has_waited => self.stream(transfer).await,
            (Seen::NothingArrived, LastByte::MayHaveLeft) if has_waited => {
                self.happened(transfer, OutgoingEvent::NothingArrived).await?;
                self.stream(transfer).await
            }
            (Seen::NothingArrived | Seen::Begun, _) => self.leave_alone(transfer).await,
            _ => self.take_in(transfer, &overview).await,
        }
    }

    /// Altinn has answered an upload with a refusal, so nothing of it goes on over there. Where the transfer
    /// still waits for bytes, the refusal says whether the file will never go; otherwise the overview says what
    /// happened.
    pub(super) async fn settle_refusal(
        self: &Arc<Self>,
        transfer: &mut Transfer,
        Trouble { failure, kind }: Trouble,
    ) -> Result<Next, Trouble> {
        let Some(id) = transfer.broker_id() else { return Ok(Next::Step) };
        let overview = self.overview(id).await?;
        match seen(&overview) {
            Seen::NothingArrived if kind == Kind::Permanent => {
                self.intend_failure(transfer, failure, Some(Unpublished::NothingBegun)).await
            }
            Seen::NothingArrived if self.means.has_struggled(transfer, self.means.retry.give_up_after) => {
                let failure = gave_up(Some(&failure), self.means.now());
                self.intend_failure(transfer, failure, Some(Unpublished::NothingBegun)).await
            }
            Seen::NothingArrived | Seen::Begun => Err(cut(failure)),
            _ => self.take_in(transfer, &overview).await,
        }
    }

    /// Sees whether a file that Altinn has is published.
    pub(super) async fn follow(self: &Arc<Self>, transfer: &mut Transfer) -> Result<Next, Trouble> {
        let Some(id) = transfer.broker_id() else { return Ok(Next::Step) };
        let overview = self.overview(id).await?;
        self.take_in(transfer, &overview).await
    }

    pub(super) async fn take_in(
        self: &Arc<Self>,
        transfer: &mut Transfer,
        overview: &Overview,
    ) -> Result<Next, Trouble> {
        let now = self.means.now();
        match seen(overview) {
            Seen::Published(published) => {
                let published = published.unwrap_or(now);
                info!(file_transfer = %overview.id, "published");
                let recipients = addressed(transfer, overview);
                let event = OutgoingEvent::PublishedSeen {
                    published,
                    expires: overview.expiration.unwrap_or(Timestamp::MAX),
                    recipients,
                };
                crash_point("follow:seen");
                self.happened(transfer, event).await?;
                crash_point("follow:published");
                Ok(Next::Step)
            }
            Seen::Processing if is_before_processing(transfer) => {
                self.happened(transfer, OutgoingEvent::ProcessingSeen { at: now }).await?;
                self.look_again(transfer, None).await
            }
            Seen::Over(proof) => self.settle_failure(transfer, overview, proof).await,
            Seen::Begun => {
                self.nudge(transfer).await?;
                self.look_again(transfer, None).await
            }
            Seen::NothingArrived | Seen::Processing => self.look_again(transfer, None).await,
            Seen::Unknown => {
                let problem = self.unknown_status(transfer, overview);
                self.look_again(transfer, Some(problem)).await
            }
        }
    }

    /// Altinn will never publish this transfer: a new one is made, unless it would fare the same.
    async fn settle_failure(
        self: &Arc<Self>,
        transfer: &mut Transfer,
        overview: &Overview,
        proof: Unpublished,
    ) -> Result<Next, Trouble> {
        if uploads(transfer) > 1 && self.was_published_once(overview.id).await? {
            return self.ask_for_decision(transfer).await;
        }
        let now = self.means.now();
        let text: String = overview.status_text.chars().take(MAX_TEXT).collect();
        let altinn = crate::transfer::AltinnAnswer { detail: Some(text.clone()), ..Default::default() };
        let failure = Failure {
            code: ALTINN_FAILED.to_owned(),
            message: format!("Altinn failed the transfer without publishing it: {text}"),
            remedy: "nothing: a new one is made; if it goes on, send the detail to Altinn's support"
                .to_owned(),
            at: now,
            altinn: Some(altinn),
        };
        if is_malware(&text) {
            let failure = Failure {
                code: MALWARE_FOUND.to_owned(),
                message: format!("Altinn's malware scan refused the file: {text}"),
                remedy: "see what is in the file; send a clean one".to_owned(),
                ..failure
            };
            return self.intend_failure(transfer, failure, Some(proof)).await;
        }
        warn!(code = ALTINN_FAILED, file_transfer = %overview.id, reason = %failure.message, "a new transfer is made");
        self.happened(transfer, OutgoingEvent::Abandoned(proof)).await?;
        self.try_anew(transfer, failure, text.starts_with(NOT_STORED)).await
    }

    /// Puts off a file whose transfer Altinn has failed. Where it could not store it, the others fare the same, unless
    /// it is the only one.
    async fn try_anew(
        &self,
        transfer: &mut Transfer,
        failure: Failure,
        not_stored: bool,
    ) -> Result<Next, Trouble> {
        let now = self.means.now();
        let times = failed_by_altinn(transfer);
        let quick = self.means.backoff.delay(u32::try_from(times).unwrap_or(u32::MAX));
        let slower = u32::try_from(times.saturating_sub(QUICK)).unwrap_or(u32::MAX);
        let wait = quick.max(self.means.retry.max.saturating_mul(slower)).min(SLOWEST);
        let mut next = later(now, wait);
        if slower > 0 {
            self.set_apart(transfer.id);
        }
        if not_stored && let Verdict::Held(turn) = self.hold.failed_sending(transfer.id, &failure, now) {
            self.set_apart(transfer.id);
            next = next.max(turn);
        }
        self.means.store_change(transfer, |before| Ok(before.after_trouble(failure, next))).await?;
        Ok(Next::Wait)
    }

    /// Whether the history of a failed transfer shows that it was published, or that somebody fetched it: with
    /// two uploads to one transfer, the second can fail what the first had published.
    async fn was_published_once(&self, id: BrokerTransferId) -> Result<bool, Trouble> {
        let details = self.means.broker.details(id, Role::Sender).await;
        let details = details.map_err(|error| self.asking_failed(&error))?;
        let published = details
            .history
            .iter()
            .any(|moment| matches!(moment.status, Status::Published | Status::AllConfirmedDownloaded));
        let fetched =
            details.recipient_history.iter().any(|moment| moment.status != RecipientStatus::Initialized);
        Ok(published || fetched)
    }

    async fn ask_for_decision(self: &Arc<Self>, transfer: &mut Transfer) -> Result<Next, Trouble> {
        let failure = Failure {
            code: "needs_decision".to_owned(),
            message: "Altinn says that the transfer failed, but its history shows that it was published"
                .to_owned(),
            remedy: "ask the recipients whether they have the file; drop it again only if they do not"
                .to_owned(),
            at: self.means.now(),
            altinn: None,
        };
        error!(code = %failure.code, reason = %failure.message, remedy = %failure.remedy, "somebody must act");
        let place = self.choose_failed(transfer).await?;
        self.happened(transfer, OutgoingEvent::DecisionNeeded { failure, place }).await?;
        Ok(Next::Step)
    }

    /// Sees how far the recipients have come, until all have confirmed or Altinn has deleted the transfer.
    pub(super) async fn track(self: &Arc<Self>, transfer: &mut Transfer) -> Result<Next, Trouble> {
        let Some(id) = transfer.broker_id() else { return Ok(Next::Step) };
        crash_point("track:before");
        let overview = self.overview(id).await?;
        crash_point("track:answered");
        let now = self.means.now();
        let recipients = addressed(transfer, &overview);
        let changed = publication_recipients(transfer) != Some(recipients.as_slice());
        let all_confirmed = recipients.iter().all(RecipientProgress::has_confirmed);
        if changed {
            let seen = OutgoingEvent::RecipientsSeen(recipients);
            let after = transfer.clone().after_outgoing(seen.clone(), now);
            let after = after.map_err(|illegal| Trouble::illegal(illegal, now))?;
            // First the receipt, or a receipt that could not be written would be out of date for good.
            self.refresh_receipt(&after).await?;
            self.happened(transfer, seen).await?;
        }
        if all_confirmed {
            info!(file_transfer = %id, "every recipient has confirmed");
            return self.close(transfer, OutgoingEvent::AllConfirmed { at: now }).await;
        }
        if overview.status == Status::Purged {
            warn!(file_transfer = %id, "Altinn deleted the file before every recipient had confirmed");
            return self.close(transfer, OutgoingEvent::Expired { at: now }).await;
        }
        self.look_again(transfer, None).await
    }

    /// Puts the next look off; `problem` is what is to be shown meanwhile.
    pub(super) async fn wait(
        &self,
        transfer: &mut Transfer,
        wait: Duration,
        problem: Option<Failure>,
    ) -> Result<Next, Trouble> {
        let (now, next) = (self.means.now(), self.means.after(wait));
        self.means
            .store_change(transfer, |before| {
                Ok(Transfer { next_attempt: next, updated: now, problem, ..before })
            })
            .await?;
        Ok(Next::Wait)
    }

    pub(super) async fn overview(&self, id: BrokerTransferId) -> Result<Overview, Trouble> {
        let overview = self.means.broker.overview(id, Role::Sender).await;
        let overview = overview.map_err(|error| self.asking_failed(&error))?;
        self.recovery.said(id, &overview.status);
        Ok(overview)
    }

    /// Asking about a transfer that is under way neither puts its file aside nor holds the route: only sending
    /// does, since only sending shows that the trouble is over.
    fn asking_failed(&self, error: &broker::Error) -> Trouble {
        let trouble = Trouble::broker(error, self.means.now());
        match trouble.kind {
            Kind::Permanent | Kind::Route => Trouble { kind: Kind::Slow, ..trouble },
            _ => trouble,
        }
    }
}

/// Whether the scan has found malware: `Malware scan failed: Malicious. Extra details: …`.
fn is_malware(text: &str) -> bool {
    let found = text.strip_prefix(SCAN_FAILED).map(|rest| rest.split('.').next().unwrap_or(rest).trim());
    found.is_some_and(|found| found.eq_ignore_ascii_case(MALICIOUS))
}

fn uploading(transfer: &Transfer) -> Option<(BrokerTransferId, LastByte)> {
    match &transfer.work {
        Work::Outgoing { progress: Outgoing::Uploading { booking, last_byte, .. }, .. } => {
            Some((booking.id, *last_byte))
        }
        _ => None,
    }
}

fn is_session(transfer: &Transfer) -> bool {
    matches!(&transfer.work, Work::Outgoing { progress, .. } if progress.session().is_some())
}

fn is_before_processing(transfer: &Transfer) -> bool {
    matches!(
        &transfer.work,
        Work::Outgoing { progress: Outgoing::Uploading { .. } | Outgoing::Uploaded { .. }, .. }
    )
}

fn uploads(transfer: &Transfer) -> u32 {
    match &transfer.work {
        Work::Outgoing { progress, .. } => progress.uploads(),
        Work::Incoming { .. } => 0,
    }
}

pub(super) fn abandoned(transfer: &Transfer) -> usize {
    match &transfer.work {
        Work::Outgoing { abandoned, .. } => abandoned.len(),
        Work::Incoming { .. } => 0,
    }
}

/// The transfers that Altinn failed, and not we.
fn failed_by_altinn(transfer: &Transfer) -> usize {
    match &transfer.work {
        Work::Outgoing { abandoned, never_whole, .. } => {
            abandoned.len().saturating_sub(usize::try_from(*never_whole).unwrap_or(usize::MAX))
        }
        Work::Incoming { .. } => 0,
    }
}

fn publication_recipients(transfer: &Transfer) -> Option<&[RecipientProgress]> {
    match &transfer.work {
        Work::Outgoing { progress: Outgoing::Published { publication, .. }, .. } => {
            Some(&publication.recipients)
        }
        _ => None,
    }
}

/// How far each organisation that the file was addressed to has come. Others who fetched it by delegated rights
/// are not ours to wait for.
fn addressed(transfer: &Transfer, overview: &Overview) -> Vec<RecipientProgress> {
    let recipients: &[OrgNumber] =
        super::initialize::dispatch(transfer).map_or(&[], |dispatch| &dispatch.recipients);
    let progress = recipients.iter().map(|recipient| {
        let entry = overview.recipients.iter().find(|entry| entry.organization == Some(*recipient));
        RecipientProgress {
            recipient: *recipient,
            status: entry.map_or_else(|| "Initialized".to_owned(), |entry| entry.status.to_string()),
            changed: entry.and_then(|entry| entry.changed),
        }
    });
    progress.collect()
}

#[cfg(test)]
mod tests {
    use super::is_malware;

    #[test]
    fn what_was_not_scanned_is_not_taken_for_malware() {
        assert!(is_malware("Malware scan failed: Malicious. Extra details: {}"));
        assert!(is_malware("Malware scan failed: malicious"));
        for text in [
            "Not scanned. Extra details: {}",
            "Error",
            "Scan timed out. Extra details: {\"a\": \"Malicious\"}",
        ] {
            assert!(!is_malware(&format!("Malware scan failed: {text}")), "{text}");
        }
        assert!(!is_malware("Checksum mismatch"));
    }
}
