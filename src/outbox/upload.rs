//! Sending the bytes.
//!
//! Altinn's stream upload cannot be resumed, and a second one beside a first that is still alive can destroy it.
//! So the moment at which the last byte may leave is made durable before it does: an upload that broke before
//! that moment provably did not succeed and may be repeated; after it, only Altinn knows. Larger files go resumably:
//! [`super::resumable`].

use std::sync::Arc;

use tracing::warn;

use super::Route;
use super::follow::{Seen, seen};
use super::overdue::STUCK;
use super::sending::{Sending, Stretch, has_changed, while_reading};
use crate::broker::{self, Role};
use crate::config;
use crate::files::BLOCK_BYTES;
use crate::route::{Kind, Next, Trouble, later};
use crate::seams::crash_point;
use crate::transfer::{
    BrokerTransferId, Effect, Failure, LastByte, Outgoing, OutgoingEvent, Transfer, Unpublished, Work,
};

/// The code of an upload that broke off, which [`Route::settle_upload`] finds in the record.
pub(super) const CUT: &str = "upload_cut";

impl Route {
    /// Begins to send the bytes, in the way that is configured and fits the file. What was begun in one way goes on in
    /// that way.
    pub(super) async fn upload(self: &Arc<Self>, transfer: &mut Transfer) -> Result<Next, Trouble> {
        let Some((_, size)) = target(transfer) else { return Ok(Next::Step) };
        let is_resumable = size > 0
            && match self.settings.sending.upload {
                config::Upload::Auto => size > self.settings.sending.chunk_size,
                config::Upload::Stream => false,
                config::Upload::Tus => true,
            };
        if is_resumable { self.begin_session(transfer).await } else { self.stream(transfer).await }
    }

    /// Sends the bytes as a stream, for the first time or, after an upload that provably did not end, again.
    pub(super) async fn stream(self: &Arc<Self>, transfer: &mut Transfer) -> Result<Next, Trouble> {
        self.pass(transfer)?;
        let Some((id, size)) = target(transfer) else { return Ok(Next::Step) };
        // Who waits for a token keeps no slot meanwhile: others may have theirs.
        let ready = self.means.broker.ready(id, Role::Sender).await;
        ready.map_err(|error| Trouble::broker(&error, self.means.now()))?;
        let _route_slot = self.slots.acquire().await;
        let _slot = self.means.slots.acquire().await;
        let (file, found) = self.open_claimed(transfer.id).await?;
        if has_changed(transfer, found.identity) {
            return self.changed_before_stream(transfer, id).await;
        }
        self.write_claim_file(transfer).await?;

        let begun = OutgoingEvent::UploadBegun { at: self.means.now() };
        // What fits one block may have left as soon as anything has.
        if size <= BLOCK_BYTES as u64 {
            self.all_happened(transfer, [begun, OutgoingEvent::LastByteLeaving]).await?;
        } else {
            self.happened(transfer, begun).await?;
        }
        crash_point("upload:begun");

        let sending = Arc::new(Sending::new(transfer.clone(), file, found));
        let stretch = Stretch { from: 0, size, ends_file: true };
        let (body, reading) = self.stretch(&sending, stretch, &Arc::default());
        let outcome = while_reading(reading, self.means.broker.upload(id, size, body)).await;
        *transfer = sending.transfer();
        crash_point("upload:answered");
        if sending.has_changed() {
            if size <= BLOCK_BYTES as u64 {
                // Its one block was held back.
                self.happened(transfer, OutgoingEvent::UploadHadNoEffect).await?;
            }
            return self.describe_anew(transfer).await;
        }
        let now = self.means.now();
        match outcome {
            Ok(()) => {
                self.hold.release();
                self.happened(transfer, OutgoingEvent::UploadAccepted { at: now }).await?;
                Ok(Next::Step)
            }
            Err(error) => self.settle_upload_error(transfer, &error).await,
        }
    }

    /// An upload that was not accepted. What had no effect is tried again; what was refused is settled at once,
    /// since Altinn has ended its part; of everything else Altinn is asked what became of it.
    async fn settle_upload_error(
        self: &Arc<Self>,
        transfer: &mut Transfer,
        error: &broker::Error,
    ) -> Result<Next, Trouble> {
        let trouble = Trouble::broker(error, self.means.now());
        match error.effect() {
            Effect::None => {
                self.happened(transfer, OutgoingEvent::UploadHadNoEffect).await?;
                Err(trouble)
            }
            Effect::Refused => self.settle_refusal(transfer, trouble).await,
            Effect::Unknown => Err(cut(trouble.failure)),
        }
    }

    /// The same, before anything is sent. Where an earlier upload broke off, its last byte may have left; if Altinn says
    /// after a day that none ever began, nothing of it arrived.
    async fn changed_before_stream(
        self: &Arc<Self>,
        transfer: &mut Transfer,
        id: BrokerTransferId,
    ) -> Result<Next, Trouble> {
        let is_open = match &transfer.work {
            Work::Outgoing {
                progress: Outgoing::Uploading { last_byte: LastByte::Kept, never_whole: false, begun, .. },
                ..
            } => self.means.skew.is_confirmed() && later(*begun, STUCK) <= self.means.now(),
            _ => false,
        };
        if is_open && seen(&self.overview(id).await?) == Seen::NothingArrived {
            warn!(
                "the file was written after it had been taken, and nothing of it has arrived: it is described anew"
            );
            self.happened(transfer, OutgoingEvent::Abandoned(Unpublished::NothingBegun)).await?;
            return Ok(Next::Step);
        }
        self.describe_anew(transfer).await
    }

    /// The file is not what Altinn was told: somebody has written it since. Where Altinn cannot have it whole, the
    /// transfer there is given up, and the file described anew when it has come to rest. Otherwise it is left to
    /// Altinn, which compares checksums, to fail the transfer.
    pub(super) async fn describe_anew(self: &Arc<Self>, transfer: &mut Transfer) -> Result<Next, Trouble> {
        let proof = match &transfer.work {
            Work::Outgoing { progress: Outgoing::Initialized { .. }, .. } => Unpublished::NothingBegun,
            Work::Outgoing { progress: Outgoing::Uploading { never_whole: true, .. }, .. } => {
                Unpublished::NeverWhole
            }
            _ => {
                let message =
                    "the file was written after it had been taken, and a part of it has left".to_owned();
                let remedy = "nothing: when Altinn has failed the transfer, the file is sent as it is then";
                return Err(Trouble::new(Kind::Slow, "file_changed", message, remedy, self.means.now()));
            }
        };
        warn!("the file was written after it had been taken: it is described anew");
        self.happened(transfer, OutgoingEvent::Abandoned(proof)).await?;
        Ok(Next::Step)
    }
}

/// The trouble of an upload that broke off.
pub(super) fn cut(failure: Failure) -> Trouble {
    Trouble { failure: Failure { code: CUT.to_owned(), ..failure }, kind: Kind::Temporary(None) }
}

/// Where the bytes go, and how many they are.
pub(super) fn target(transfer: &Transfer) -> Option<(BrokerTransferId, u64)> {
    let Work::Outgoing { progress, .. } = &transfer.work else { return None };
    Some((progress.booking()?.id, progress.dispatch()?.size))
}
