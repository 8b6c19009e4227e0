//! Sending the bytes.
//!
//! Altinn's stream upload cannot be resumed, and a second one beside a first that is still alive can destroy it.
//! So the moment at which the last byte may leave is made durable before it does: an upload that broke before
//! that moment provably did not succeed and may be repeated; after it, only Altinn knows.

use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::{Stream, stream};
use tokio::sync::mpsc;

use super::Route;
use super::folders::{FILE, Folders};
use crate::broker;
use crate::files::{self, BLOCK_BYTES};
use crate::route::{Kind, Next, Trouble};
use crate::seams::{self, crash_point};
use crate::transfer::{
    BrokerTransferId, Effect, Failure, LastByte, Outgoing, OutgoingEvent, Transfer, TransferId, Unpublished,
    Work,
};

/// Blocks that wait for the network; with the one being read and the one being sent, a file takes a megabyte.
const BLOCKS_WAITING: usize = 2;
/// The code of an upload that broke off, which [`Route::settle_upload`] finds in the record.
pub(super) const CUT: &str = "upload_cut";

impl Route {
    /// Sends the bytes, for the first time or, after an upload that provably did not end, again.
    pub(super) async fn upload(self: &Arc<Self>, transfer: &mut Transfer) -> Result<Next, Trouble> {
        self.pass()?;
        let _route_slot = self.slots.acquire().await;
        let _slot = self.means.slots.acquire().await;
        let Some((id, size)) = target(transfer) else { return Ok(Next::Step) };
        let transfer_id = transfer.id;
        let (file, found) = self.on_files(move |folders| open(folders, transfer_id)).await?;
        if found != size
            && matches!(&transfer.work, Work::Outgoing { progress: Outgoing::Initialized { .. }, .. })
        {
            // It has been written since it was described: nothing has been sent, so it is described anew.
            self.happened(transfer, OutgoingEvent::Abandoned(Unpublished::NothingBegun)).await?;
            return Ok(Next::Step);
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

        let stored = Arc::new(Mutex::new(transfer.clone()));
        let outcome = self.send(id, size, file, &stored).await;
        *transfer = stored.lock().unwrap_or_else(PoisonError::into_inner).clone();
        crash_point("upload:answered");
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
            Effect::Refused => self.settle_refusal(transfer, trouble.failure).await,
            Effect::Unknown => Err(cut(trouble.failure)),
        }
    }

    /// Reads and sends at once; `stored` is then what the store has.
    async fn send(
        self: &Arc<Self>,
        id: BrokerTransferId,
        size: u64,
        file: File,
        stored: &Arc<Mutex<Transfer>>,
    ) -> Result<(), broker::Error> {
        let (sender, receiver) = mpsc::channel(BLOCKS_WAITING);
        let body = self.body(size, receiver, Arc::clone(stored));
        let reading = async {
            seams::blocking(move || files::read_blocks(file, size, &sender)).await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            sent = self.means.broker.upload(id, size, body) => sent,
            () = reading => Ok(()),
        }
    }

    /// The body: blocks as they are read, with the last one held back until it is durable that it may leave.
    fn body(
        self: &Arc<Self>,
        size: u64,
        receiver: mpsc::Receiver<io::Result<Bytes>>,
        stored: Arc<Mutex<Transfer>>,
    ) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        let route = Arc::clone(self);
        stream::try_unfold((receiver, 0), move |(mut receiver, sent)| {
            let (route, stored) = (Arc::clone(&route), Arc::clone(&stored));
            async move {
                let Some(block) = receiver.recv().await else { return Ok(None) };
                let block = block?;
                let sent = sent + block.len() as u64;
                if sent >= size {
                    route.last_byte_leaves(&stored).await?;
                    crash_point("upload:last_byte");
                }
                Ok(Some((block, (receiver, sent))))
            }
        })
    }

    async fn last_byte_leaves(&self, stored: &Mutex<Transfer>) -> io::Result<()> {
        let mut transfer = stored.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let may_leave = matches!(
            &transfer.work,
            Work::Outgoing { progress: Outgoing::Uploading { last_byte: LastByte::MayHaveLeft, .. }, .. }
        );
        if !may_leave {
            self.happened(&mut transfer, OutgoingEvent::LastByteLeaving).await.map_err(io::Error::other)?;
            *stored.lock().unwrap_or_else(PoisonError::into_inner) = transfer;
        }
        Ok(())
    }
}

/// The trouble of an upload that broke off.
pub(super) fn cut(failure: Failure) -> Trouble {
    Trouble { failure: Failure { code: CUT.to_owned(), ..failure }, kind: Kind::Temporary(None) }
}

/// The claimed file, and how many bytes it has.
fn open(folders: &Folders, id: TransferId) -> Result<(File, u64), files::Error> {
    let own = folders.own(id)?;
    let file = own.open_file(FILE)?;
    let entry = files::Entry::of_file(&file);
    let entry = entry.map_err(|error| files::Error::new("look at", own.path().join(FILE), error))?;
    Ok((file, entry.identity.size))
}

/// Where the bytes go, and how many they are.
fn target(transfer: &Transfer) -> Option<(BrokerTransferId, u64)> {
    let Work::Outgoing { progress, .. } = &transfer.work else { return None };
    Some((progress.booking()?.id, progress.dispatch()?.size))
}
