//! Telling Altinn that the file is safe on disk. A second confirmation is refused in the same words as one that
//! comes too late, so a refusal is settled by the overview.

use std::sync::Arc;

use tracing::{error, info};

use super::Route;
use crate::broker::{RecipientStatus, Role, Status, Trouble as Found};
use crate::route::{Next, Trouble};
use crate::seams::crash_point;
use crate::transfer::{BrokerTransferId, Incoming, IncomingEvent, Transfer, Work};

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
            Ok(()) => self.confirmed(transfer, id).await,
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
            error!(file_transfer = %id, code = "confirm_too_late", "the file was delivered, but Altinn takes its confirmation no more: its sender sees it as never fetched");
            self.happened(transfer, IncomingEvent::ConfirmationTooLate).await?;
            return Ok(Next::Step);
        }
        Err(Trouble::broker(error, self.means.now()))
    }

    async fn confirmed(
        self: &Arc<Self>,
        transfer: &mut Transfer,
        id: BrokerTransferId,
    ) -> Result<Next, Trouble> {
        let next = self.happened_last(transfer, IncomingEvent::Confirmed { at: self.means.now() }).await?;
        info!(file_transfer = %id, "confirmed");
        Ok(next)
    }
}
