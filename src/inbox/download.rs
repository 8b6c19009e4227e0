//! Fetching a file into a private folder, with resume after any break, and verifying it.

use std::sync::Arc;
use std::time::Duration;

use tracing::{error, warn};

use super::Route;
use super::damage::Found;
use super::fetch::Stop;
use super::folders::{FILE, Folders};
use super::quota::Fetching;
use crate::broker::{Role, Status};
use crate::files::{Access, Claimed, Dir, Error, Lack, Mode, Writer};
use crate::route::{Kind, Next, Trouble, later};
use crate::seams::{self, crash_point};
use crate::transfer::{
    BrokerTransferId, Incoming, IncomingEvent, Offer, Received, Transfer, TransferId, Work,
};

/// Altinn computes the checksum of a scanned file some time after it is published; it is waited for this long.
const CHECKSUM_PATIENCE: Duration = Duration::from_mins(30);
/// Files of this size and more are worth remembering that their download was begun.
const WORTH_REMEMBERING: u64 = 8 * 1024 * 1024;
/// A full inbox is looked at again after this at the latest.
const LOOK_AT_FULL: Duration = Duration::from_mins(1);
/// The code of a file that is larger than the settings allow.
pub(super) const TOO_LARGE: &str = "file_larger_than_allowed";
/// The code of waiting for others to take files from the inbox.
pub(super) const FULL: &str = "inbox_full";

impl Route {
    /// Fetches the bytes and verifies them.
    pub(super) async fn download(self: &Arc<Self>, transfer: &mut Transfer) -> Result<Next, Trouble> {
        let Work::Incoming { progress, .. } = &transfer.work else { return Ok(Next::Wait) };
        let offer = progress.offer().clone();
        let is_begun = matches!(progress, Incoming::Downloading { .. });
        if offer.expires <= self.means.server_now() {
            return self.settle_refused(transfer, expired(&offer, self.means.now())).await;
        }
        self.allow_size(transfer, &offer)?;
        if self.must_wait_for_checksum(&offer) {
            return self.renew_offer(transfer).await;
        }
        let held = self.hold.pass(Some(transfer.id), self.means.now());
        held.map_err(|(failure, next)| Trouble { failure, kind: Kind::Held(next) })?;
        // Who waits for a token keeps no slot meanwhile: others may have theirs.
        let ready = self.means.broker.ready(offer.id, Role::Recipient).await;
        ready.map_err(|error| Trouble::broker(&error, self.means.now()))?;
        let _route_slot = self.slots.acquire().await;
        let _slot = self.means.slots.acquire().await;
        let _fetching = self.enter_quota(transfer).await?;
        if !is_begun && offer.size >= WORTH_REMEMBERING {
            self.happened(transfer, IncomingEvent::DownloadBegun).await?;
        }
        crash_point("download:begun");
        let (writer, claimed) = self.open_partial(transfer.id, &offer).await?;
        let room = Arc::new(claimed);
        let writer = match self.fetch(&offer, writer, &room).await {
            Ok(writer) => writer,
            Err(Stop::Trouble(trouble)) => return Err(trouble),
            Err(Stop::AskOverview(trouble)) => return self.settle_refused(transfer, trouble).await,
            Err(Stop::NoRoom(lack)) => return Err(self.no_room(transfer.id, &offer, lack)),
            Err(Stop::TooMuch(writer)) => {
                let found = self.finish(*writer).await?;
                return self.settle_damage(transfer, &offer, Found { more_came: true, ..found }).await;
            }
        };
        self.hold.release();
        crash_point("download:fetched");
        self.verify(transfer, &offer, writer).await
    }

    /// Whether the settings keep it from being fetched.
    pub(super) fn is_too_large(&self, offer: &Offer) -> bool {
        self.settings.max_file_size.is_some_and(|max| offer.size > max)
    }

    /// What is larger than the settings allow waits at Altinn.
    fn allow_size(&self, transfer: &Transfer, offer: &Offer) -> Result<(), Trouble> {
        let Some(max) = self.settings.max_file_size.filter(|_| self.is_too_large(offer)) else {
            return Ok(());
        };
        let message = format!("the file has {} bytes, and max_file_size allows {max}", offer.size);
        let remedy = "raise max_file_size, and the file is fetched; Altinn keeps it until it expires";
        if transfer.problem.as_ref().is_none_or(|problem| problem.code != TOO_LARGE) {
            error!(file_transfer = %offer.id, sender = %offer.sender, code = TOO_LARGE, reason = %message, remedy, expires = %offer.expires, "not fetched: somebody must act");
        }
        Err(Trouble::new(Kind::Slow, TOO_LARGE, message, remedy, self.means.now()))
    }

    /// Waits at Altinn while the inbox holds as many files as it may.
    async fn enter_quota(&self, transfer: &Transfer) -> Result<Fetching, Trouble> {
        let quota = Arc::clone(&self.quota);
        if let Some(fetching) = self.on_files(move |folders| quota.enter(folders)).await? {
            return Ok(fetching);
        }
        let now = self.means.now();
        let wait = self.means.backoff.delay(transfer.attempts).min(LOOK_AT_FULL);
        let message = "as many files as max_waiting allows lie in the inbox".to_owned();
        let remedy = "see whether what imports them still runs, or raise max_waiting; Altinn keeps what waits until it expires";
        Err(Trouble::new(Kind::Held(later(now, wait)), FULL, message, remedy, now))
    }

    /// Opens what there is of the file, and makes sure that there is room for the rest.
    async fn open_partial(
        self: &Arc<Self>,
        id: TransferId,
        offer: &Offer,
    ) -> Result<(Writer, Claimed), Trouble> {
        let (size, min_free) = (offer.size, self.settings.min_free_space);
        let room = Arc::clone(&self.means.room);
        let opened = self
            .on_files(move |folders| {
                let own = folders.incoming.ensure_subfolder(id.to_string(), Mode::PRIVATE_FOLDER)?;
                let mut writer = open(folders, &own)?;
                let claimed = match room.claim(&own, &writer, size, |total| min_free.bytes(total))? {
                    Ok(claimed) => claimed,
                    Err(lack) => return Ok(Err(lack)),
                };
                // Only now, since a large file takes long to read.
                writer.load()?;
                if writer.offset() > size {
                    writer.restart()?;
                }
                Ok(Ok((writer, claimed)))
            })
            .await?;
        opened.map_err(|lack| self.no_room(id, offer, lack))
    }

    /// A file for which there is no room, before its first byte or in its middle. It goes on by itself.
    fn no_room(&self, id: TransferId, offer: &Offer, lack: Lack) -> Trouble {
        // There may be room for others, which are smaller.
        self.backlog.set_apart(id);
        let lack = match lack {
            Lack::Bytes(bytes) => format!("{bytes} bytes"),
            Lack::Inodes(inodes) => format!("{inodes} inodes"),
        };
        let message =
            format!("the inbox's file system lacks {lack} to receive a file of {} bytes", offer.size);
        let remedy = "make room, or set min_free_space lower; nothing is lost meanwhile: Altinn keeps the file until it expires";
        Trouble::new(Kind::Temporary(None), "not_enough_room", message, remedy, self.means.now())
    }

    /// Altinn does not hand the file out: the overview says whether it ever will.
    async fn settle_refused(
        self: &Arc<Self>,
        transfer: &mut Transfer,
        trouble: Trouble,
    ) -> Result<Next, Trouble> {
        let Some(id) = transfer.broker_id() else { return Err(trouble) };
        let overview = self.means.broker.overview(id, Role::Recipient).await;
        let overview = overview.map_err(|error| Trouble::broker(&error, self.means.now()))?;
        if matches!(overview.status, Status::Purged | Status::Failed) {
            return self.expire(transfer, id, &overview.status).await;
        }
        Err(Trouble { kind: Kind::Temporary(None), ..trouble })
    }

    /// Altinn has deleted the file before it was received.
    pub(super) async fn expire(
        self: &Arc<Self>,
        transfer: &mut Transfer,
        id: BrokerTransferId,
        status: &Status,
    ) -> Result<Next, Trouble> {
        error!(file_transfer = %id, %status, "the file was deleted at Altinn before it was received: ask its sender to send it again");
        let own = transfer.id;
        self.on_files(move |folders| folders.remove_own(own)).await?;
        self.happened(transfer, IncomingEvent::Expired { at: self.means.now() }).await?;
        Ok(Next::Step)
    }

    fn must_wait_for_checksum(&self, offer: &Offer) -> bool {
        offer.checksum.is_none() && self.means.server_now() < later(offer.published, CHECKSUM_PATIENCE)
    }

    /// Asks again for what Altinn did not know yet.
    async fn renew_offer(self: &Arc<Self>, transfer: &mut Transfer) -> Result<Next, Trouble> {
        let Some(id) = transfer.broker_id() else { return Ok(Next::Wait) };
        let overview = self.means.broker.overview(id, Role::Recipient).await;
        let overview = overview.map_err(|error| Trouble::broker(&error, self.means.now()))?;
        match super::hear::offer(&overview, self.identity.organization, &[]) {
            Ok(offer) if offer.checksum.is_some() => {
                self.happened(transfer, IncomingEvent::OfferRenewed(Box::new(offer))).await?;
                Ok(Next::Step)
            }
            _ => {
                let message = "Altinn has yet to compute the file's checksum".to_owned();
                let remedy = "nothing: it is asked for again";
                Err(Trouble::new(
                    Kind::Temporary(None),
                    "checksum_pending",
                    message,
                    remedy,
                    self.means.now(),
                ))
            }
        }
    }

    /// Makes the bytes durable, and tells what they are.
    async fn finish(&self, writer: Writer) -> Result<Found, Trouble> {
        let digests = seams::blocking(move || writer.finish()).await;
        let digests = digests.map_err(|error| Trouble::files(&error, self.means.now()))?;
        let size = digests.bytes();
        let (md5, sha256) = digests.finish();
        Ok(Found { md5, sha256, size, more_came: false })
    }

    /// Makes the bytes durable and compares them with what Altinn says they are.
    async fn verify(
        self: &Arc<Self>,
        transfer: &mut Transfer,
        offer: &Offer,
        writer: Writer,
    ) -> Result<Next, Trouble> {
        let found = self.finish(writer).await?;
        let Found { md5, sha256, size, .. } = found;
        crash_point("verify:synced");
        if size != offer.size || offer.checksum.is_some_and(|checksum| checksum != md5) {
            return self.settle_damage(transfer, offer, found).await;
        }
        if offer.checksum.is_none() {
            warn!(file_transfer = %offer.id, "Altinn has no checksum of the file: only its size is verified");
        }
        let received = Received {
            md5,
            sha256,
            size,
            received: self.means.now(),
            checksum_verified: offer.checksum.is_some(),
        };
        let place = self.choose_place(transfer.id, offer).await?;
        let own = transfer.id;
        self.on_files(move |folders| folders.sync_own(own)).await?;
        crash_point("verify:named");
        let events = [
            IncomingEvent::DownloadBegun,
            IncomingEvent::DownloadVerified(received),
            IncomingEvent::DeliveryIntended(place),
        ];
        self.all_happened(transfer, events).await?;
        crash_point("deliver:intended");
        Ok(Next::Step)
    }
}

fn open(folders: &Folders, own: &Dir) -> Result<Writer, Error> {
    let writer = Writer::open(own, FILE)?;
    // Here already, so that at the end nothing has to be synced again for it.
    let ours = Access { mode: Mode(folders.access.mode.0 | Mode::PRIVATE_FILE.0), ..folders.access };
    folders.inbox.share_file(writer.as_file(), ours)?;
    Ok(writer)
}

fn expired(offer: &Offer, now: jiff::Timestamp) -> Trouble {
    let message = format!("Altinn was to delete the file at {:.0}", offer.expires);
    Trouble::new(Kind::Temporary(None), "expired", message, "ask the sender to send the file again", now)
}
