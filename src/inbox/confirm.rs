//! Telling Altinn that the file is safe on disk. A second confirmation is refused in the same words as one that
//! comes too late, so a refusal is settled by the overview.

use std::sync::Arc;

use tracing::{error, info};

use super::Route;
use crate::broker::{RecipientStatus, Role, Status, Trouble as Found};
use crate::route::{Next, Trouble};
use crate::seams::crash_point;
use crate::transfer::{BrokerTransferId, Failure, Incoming, IncomingEvent, Transfer, Work};

/// The code of a file whose confirmation Altinn takes no more.
const TOO_LATE: &str = "confirm_too_late";

impl Route {
    /// Confirms a delivered file.
    pub(super) async fn confirm(self: &Arc<Self>, transfer: &mut Transfer) -> Result<Next, Trouble> {
        let Work::Incoming { progress: Incoming::Delivered { offer, .. }, .. } = &transfer.work else {
            return Ok(Next::Step);
        };
        let (id, is_empty) = (offer.id, offer.size == 0);
        crash_point("confirm:before");
        let mut answer = self.means.broker.confirm(id).await;
        if answer.as_ref().is_err_and(|error| error.trouble() == Found::NotDownloaded) {
            // Altinn lost the note of our download; fetching a byte makes another.
            let touched = self.means.broker.touch(id, is_empty).await;
            touched.map_err(|error| Trouble::broker(&error, self.means.now()))?;
            answer = self.means.broker.confirm(id).await;
        }
        crash_point("confirm:answered");
        match answer {
            Ok(()) => {
                self.hold.release();
                self.confirmed(transfer, id).await
            }
            Err(error) if matches!(error.trouble(), Found::AskOverview | Found::NotReady | Found::Gone) => {
                self.settle_confirm(transfer, id, &error).await
            }
            Err(error) => Err(Trouble::broker(&error, self.means.now())),
        }
    }

    async fn settle_confirm(
        self: &Arc<Self>,
        transfer: &mut Transfer,
        id: BrokerTransferId,
        error: &crate::broker::Error,
    ) -> Result<Next, Trouble> {
        let overview = self.means.broker.overview(id, Role::Recipient).await;
        let overview = overview.map_err(|error| Trouble::broker(&error, self.means.now()))?;
        let own = overview.recipient(self.identity.organization);
        if own.is_some_and(|own| own.status == RecipientStatus::DownloadConfirmed) {
            return self.confirmed(transfer, id).await;
        }
        if matches!(overview.status, Status::Purged | Status::Failed | Status::AllConfirmedDownloaded) {
            return self.confirmation_too_late(transfer, id).await;
        }
        Err(Trouble::broker(error, self.means.now()))
    }

    /// The file stays delivered, and its record says why it was never confirmed.
    pub(super) async fn confirmation_too_late(
        self: &Arc<Self>,
        transfer: &mut Transfer,
        id: BrokerTransferId,
    ) -> Result<Next, Trouble> {
        let message = "the file was delivered, but Altinn takes its confirmation no more: its sender sees it as never fetched";
        let remedy = "tell the sender that the file has arrived";
        error!(file_transfer = %id, code = TOO_LATE, remedy, "{message}");
        let at = self.means.now();
        let failure = Failure {
            code: TOO_LATE.to_owned(),
            message: message.to_owned(),
            remedy: remedy.to_owned(),
            at,
            altinn: None,
        };
        let after = transfer.clone().after_incoming(IncomingEvent::ConfirmationTooLate, at);
        let after = after.map_err(|illegal| Trouble::illegal(illegal, at))?;
        let after = Transfer { problem: Some(failure), ..after };
        if after.is_finished() {
            return self.end(transfer, after).await;
        }
        self.means.store_change(transfer, |_before| Ok(after)).await?;
        self.note(transfer);
        Ok(Next::Step)
    }

    pub(super) async fn confirmed(
        self: &Arc<Self>,
        transfer: &mut Transfer,
        id: BrokerTransferId,
    ) -> Result<Next, Trouble> {
        let next = self.happened_last(transfer, IncomingEvent::Confirmed { at: self.means.now() }).await?;
        crash_point("confirm:noted");
        info!(file_transfer = %id, "confirmed");
        Ok(next)
    }
}
