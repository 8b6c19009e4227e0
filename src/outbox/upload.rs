//! Sending the bytes.
//!
//! Altinn's stream upload cannot be resumed, and a second one beside a first that is still alive can destroy it.
//! So the moment at which the last byte may leave is made durable before it does: an upload that broke before
//! that moment provably did not succeed and may be repeated; after it, only Altinn knows.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::{Stream, stream};
use tokio::sync::mpsc;
use tracing::warn;

use super::Route;
use super::folders::{FILE, Folders};
use crate::broker;
use crate::files::{self, BLOCK_BYTES, Entry};
use crate::route::{Kind, Next, Trouble};
use crate::seams::{self, crash_point};
use crate::transfer::{
    BrokerTransferId, Effect, Failure, FileIdentity, LastByte, Outgoing, OutgoingEvent, Transfer, TransferId,
    Unpublished, Work,
};

/// Blocks that wait for the network; with the one being read and the one being sent, a file takes a megabyte.
const BLOCKS_WAITING: usize = 2;
/// The code of an upload that broke off, which [`Route::settle_upload`] finds in the record.
pub(super) const CUT: &str = "upload_cut";

impl Route {
    /// Sends the bytes, for the first time or, after an upload that provably did not end, again.
    pub(super) async fn upload(self: &Arc<Self>, transfer: &mut Transfer) -> Result<Next, Trouble> {
        self.pass(transfer)?;
        let _route_slot = self.slots.acquire().await;
        let _slot = self.means.slots.acquire().await;
        let Some((id, size)) = target(transfer) else { return Ok(Next::Step) };
        let transfer_id = transfer.id;
        let (file, found) = self.on_files(move |folders| open(folders, transfer_id)).await?;
        if has_changed(transfer, found.identity) {
            return self.describe_anew(transfer).await;
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

        let sending = Arc::new(Sending::new(transfer.clone(), found, &file, self.means.now())?);
        let outcome = self.send(id, size, file, &sending).await;
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
            Effect::Refused => self.settle_refusal(transfer, trouble.failure).await,
            Effect::Unknown => Err(cut(trouble.failure)),
        }
    }

    /// The file is not what Altinn was told: somebody has written it since. Where Altinn cannot have it whole, the
    /// transfer there is given up, and the file described anew when it has come to rest. Otherwise it is left to
    /// Altinn, which compares checksums, to fail the transfer.
    async fn describe_anew(self: &Arc<Self>, transfer: &mut Transfer) -> Result<Next, Trouble> {
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

    /// Reads and sends at once.
    async fn send(
        self: &Arc<Self>,
        id: BrokerTransferId,
        size: u64,
        file: File,
        sending: &Arc<Sending>,
    ) -> Result<(), broker::Error> {
        let (sender, receiver) = mpsc::channel(BLOCKS_WAITING);
        let body = self.body(size, receiver, Arc::clone(sending));
        let reading = async {
            files::send_blocks(file, size, sender).await;
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
        sending: Arc<Sending>,
    ) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        let route = Arc::clone(self);
        stream::try_unfold((receiver, 0), move |(mut receiver, sent)| {
            let (route, sending) = (Arc::clone(&route), Arc::clone(&sending));
            async move {
                let Some(block) = receiver.recv().await else { return Ok(None) };
                let block = block?;
                let sent = sent + block.len() as u64;
                if sent >= size {
                    sending.check().await?;
                    route.last_byte_leaves(&sending.stored).await?;
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

/// An upload under way.
#[derive(Debug)]
struct Sending {
    /// What the store has.
    stored: Mutex<Transfer>,
    /// The file, as it was when its first byte was read.
    file: Arc<File>,
    found: Entry,
    changed: AtomicBool,
}

impl Sending {
    fn new(transfer: Transfer, found: Entry, file: &File, now: jiff::Timestamp) -> Result<Self, Trouble> {
        let path = std::path::Path::new(FILE);
        let file = file.try_clone();
        let file = file.map_err(|error| Trouble::files(&files::Error::new("open", path, error), now))?;
        Ok(Self {
            stored: Mutex::new(transfer),
            file: Arc::new(file),
            found,
            changed: AtomicBool::new(false),
        })
    }

    fn transfer(&self) -> Transfer {
        self.stored.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn has_changed(&self) -> bool {
        self.changed.load(Ordering::Acquire)
    }

    /// Fails if the file has been written since its first byte was read: what was sent of it is of two kinds then,
    /// and its last byte must not leave.
    async fn check(&self) -> io::Result<()> {
        let file = Arc::clone(&self.file);
        let now = seams::blocking(move || Entry::of_file(&file)).await?;
        if (now.identity, now.changed_ns) == (self.found.identity, self.found.changed_ns) {
            return Ok(());
        }
        self.changed.store(true, Ordering::Release);
        Err(io::Error::other("the file was written while it was sent"))
    }
}

/// Whether a claimed file is something else than what was described.
fn has_changed(transfer: &Transfer, found: FileIdentity) -> bool {
    let Work::Outgoing { progress, .. } = &transfer.work else { return false };
    progress.dispatch().is_some_and(|dispatch| match dispatch.file {
        Some(described) => !described.is_same_file(&found),
        None => dispatch.size != found.size,
    })
}

/// The trouble of an upload that broke off.
pub(super) fn cut(failure: Failure) -> Trouble {
    Trouble { failure: Failure { code: CUT.to_owned(), ..failure }, kind: Kind::Temporary(None) }
}

/// The claimed file, and what it is.
fn open(folders: &Folders, id: TransferId) -> Result<(File, Entry), files::Error> {
    let own = folders.own(id)?;
    let file = own.open_file(FILE)?;
    let entry = Entry::of_file(&file);
    let entry = entry.map_err(|error| files::Error::new("look at", own.path().join(FILE), error))?;
    Ok((file, entry))
}

/// Where the bytes go, and how many they are.
fn target(transfer: &Transfer) -> Option<(BrokerTransferId, u64)> {
    let Work::Outgoing { progress, .. } = &transfer.work else { return None };
    Some((progress.booking()?.id, progress.dispatch()?.size))
}
