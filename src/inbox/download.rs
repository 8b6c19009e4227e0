//! Fetching a file into a private folder, with resume after any break, and verifying it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::mpsc;
use tracing::{debug, error, warn};

use super::Route;
use super::deliver;
use super::folders::{FILE, Folders};
use super::quota::Fetching;
use crate::broker::{self, Role, Status};
use crate::files::{Access, Claimed, Dir, Error, Lack, Mode, Writer};
use crate::route::{Kind, Next, Trouble, later};
use crate::seams::{self, crash_point};
use crate::transfer::{
    BrokerTransferId, Effect, Incoming, IncomingEvent, Offer, Received, Transfer, TransferId, Work,
};

/// Blocks that wait for the disk.
const BLOCKS_WAITING: usize = 2;
/// Breaks in one download after which it is put off; each that brought something new begins the count again.
const MAX_BREAKS: u32 = 5;
/// Complete downloads that were not what Altinn has, after which a person has to look.
const MAX_DAMAGED: u32 = 3;
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
        let _route_slot = self.slots.acquire().await;
        let _slot = self.means.slots.acquire().await;
        let _fetching = self.enter_quota(transfer).await?;
        if !is_begun && offer.size >= WORTH_REMEMBERING {
            self.happened(transfer, IncomingEvent::DownloadBegun).await?;
        }
        crash_point("download:begun");
        let (writer, _claimed) = self.open_partial(transfer.id, &offer).await?;
        let writer = match self.fetch(&offer, writer).await {
            Ok(writer) => writer,
            Err(Stop::Trouble(trouble)) => return Err(trouble),
            Err(Stop::AskOverview(trouble)) => return self.settle_refused(transfer, trouble).await,
            Err(Stop::TooMuch) => return self.settle_damage(transfer, &offer).await,
        };
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
                if writer.offset() > size {
                    writer.restart()?;
                }
                let claimed = room.claim(&own, &writer, size, |total| min_free.bytes(total))?;
                Ok(claimed.map(|claimed| (writer, claimed)))
            })
            .await?;
        opened.map_err(|lack| {
            // There may be room for others, which are smaller.
            self.backlog.set_apart(id);
            let lack = match lack {
                Lack::Bytes(bytes) => format!("{bytes} bytes"),
                Lack::Inodes(inodes) => format!("{inodes} inodes"),
            };
            let message = format!("the inbox's file system lacks {lack} to receive a file of {size} bytes");
            let remedy = "make room, or set min_free_space lower; nothing is lost meanwhile: Altinn keeps the file until it expires";
            Trouble::new(Kind::Temporary(None), "not_enough_room", message, remedy, self.means.now())
        })
    }

    /// Fetches what is missing, and goes on after breaks.
    async fn fetch(self: &Arc<Self>, offer: &Offer, mut writer: Writer) -> Result<Writer, Stop> {
        let mut breaks = 0;
        // An empty file is asked for, too: Altinn takes a confirmation only after a download.
        let mut is_asked_for = writer.offset() > 0;
        while !is_asked_for || writer.offset() < offer.size {
            is_asked_for = true;
            let from = writer.offset();
            let (returned, broken) = self.fetch_once(offer, writer).await?;
            writer = returned;
            let Some(trouble) = broken else { continue };
            breaks = if writer.offset() > from { 1 } else { breaks + 1 };
            // Who is asked to wait keeps no slot meanwhile.
            if breaks > MAX_BREAKS || matches!(trouble.kind, Kind::Temporary(Some(_))) {
                return Err(Stop::Trouble(trouble));
            }
            debug!(code = %trouble.failure.code, at = writer.offset(), "download broke off: going on");
            tokio::time::sleep(self.means.backoff.delay(breaks - 1)).await;
        }
        Ok(writer)
    }

    /// One request, from where the file ends; with the trouble that ended it early, if any did.
    async fn fetch_once(&self, offer: &Offer, mut writer: Writer) -> Result<(Writer, Option<Trouble>), Stop> {
        let download = match self.means.broker.download(offer.id, writer.offset()).await {
            Ok(download) => download,
            Err(error) => return self.refused(writer, &error),
        };
        let now = self.means.now();
        if download.offset != writer.offset() {
            let restarted = seams::blocking(move || writer.restart().map(|()| writer)).await;
            writer = restarted.map_err(|error| Stop::Trouble(Trouble::files(&error, now)))?;
        }
        let room = offer.size.saturating_sub(writer.offset());
        let (sender, receiver) = mpsc::channel(BLOCKS_WAITING);
        let writing = writer.receive(receiver);
        let mut body = Box::pin(download.body);
        let pumping = async move {
            let mut left = room;
            while let Some(block) = body.next().await {
                let block = block?;
                left = match left.checked_sub(block.len() as u64) {
                    Some(left) => left,
                    None => return Ok(Pumped::TooMuch),
                };
                if sender.send(block).await.is_err() {
                    break;
                }
            }
            Ok::<_, broker::Error>(Pumped::Ended)
        };
        let ((writer, written), pumped) = tokio::join!(writing, pumping);
        written.map_err(|error| Stop::Trouble(Trouble::files(&error, now)))?;
        match pumped {
            Ok(Pumped::Ended) if writer.offset() >= offer.size => Ok((writer, None)),
            Ok(Pumped::Ended) => Ok((writer, Some(cut(now)))),
            Ok(Pumped::TooMuch) => Err(Stop::TooMuch),
            Err(error) => Ok((writer, Some(Trouble::broker(&error, now)))),
        }
    }

    /// A request for bytes that was answered with something else.
    fn refused(&self, writer: Writer, error: &broker::Error) -> Result<(Writer, Option<Trouble>), Stop> {
        use broker::Trouble as Found;
        let trouble = Trouble::broker(error, self.means.now());
        match error.trouble() {
            Found::NotReady | Found::Gone | Found::Range | Found::AskOverview => {
                Err(Stop::AskOverview(trouble))
            }
            Found::Server | Found::Platform if error.effect() != Effect::Refused => {
                Ok((writer, Some(trouble)))
            }
            _ => Err(Stop::Trouble(trouble)),
        }
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

    /// Makes the bytes durable and compares them with what Altinn says they are.
    async fn verify(
        self: &Arc<Self>,
        transfer: &mut Transfer,
        offer: &Offer,
        writer: Writer,
    ) -> Result<Next, Trouble> {
        let digests = seams::blocking(move || writer.finish()).await;
        let digests = digests.map_err(|error| Trouble::files(&error, self.means.now()))?;
        let size = digests.bytes();
        let (md5, sha256) = digests.finish();
        if offer.checksum.is_some_and(|checksum| checksum != md5) {
            return self.settle_damage(transfer, offer).await;
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
        let marker = deliver::marker(transfer.id, offer, &received, &place);
        self.on_files(move |folders| folders.write_marker(&marker)).await?;
        let events = [
            IncomingEvent::DownloadBegun,
            IncomingEvent::DownloadVerified(received),
            IncomingEvent::DeliveryIntended(place),
        ];
        self.all_happened(transfer, events).await?;
        crash_point("deliver:intended");
        Ok(Next::Step)
    }

    async fn settle_damage(
        self: &Arc<Self>,
        transfer: &mut Transfer,
        offer: &Offer,
    ) -> Result<Next, Trouble> {
        let Work::Incoming { damaged, .. } = &transfer.work else { return Ok(Next::Wait) };
        let (id, damaged, now) = (transfer.id, *damaged, self.means.now());
        let message = format!(
            "the bytes that came are not the {} bytes of checksum {:?} that Altinn has",
            offer.size, offer.checksum
        );
        if damaged + 1 >= MAX_DAMAGED {
            let remedy =
                "ask the sender to send the file again; what came is kept under .formidlingd/rejected";
            return Err(Trouble::new(Kind::Permanent, "checksum_mismatch", message, remedy, now));
        }
        self.on_files(move |folders| folders.remove_own(id)).await?;
        self.all_happened(transfer, [IncomingEvent::DownloadBegun, IncomingEvent::DownloadDamaged]).await?;
        Err(Trouble::new(
            Kind::Temporary(None),
            "download_damaged",
            message,
            "nothing: it is fetched again",
            now,
        ))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pumped {
    Ended,
    TooMuch,
}

/// Why fetching ended without the file.
#[derive(Debug)]
enum Stop {
    Trouble(Trouble),
    AskOverview(Trouble),
    /// More bytes came than the file has.
    TooMuch,
}

fn open(folders: &Folders, own: &Dir) -> Result<Writer, Error> {
    let path = own.path().join(FILE);
    let file = own.open_or_create_file(FILE, Mode::PRIVATE_FILE)?;
    // Here already, so that at the end nothing has to be synced again for it.
    let ours = Access { mode: Mode(folders.access.mode.0 | Mode::PRIVATE_FILE.0), ..folders.access };
    folders.inbox.share_file(&file, ours)?;
    Writer::resume(file, path)
}

fn cut(now: jiff::Timestamp) -> Trouble {
    let message = "the download ended before the end of the file".to_owned();
    Trouble::new(Kind::Temporary(None), "download_cut", message, "nothing: it is resumed", now)
}

fn expired(offer: &Offer, now: jiff::Timestamp) -> Trouble {
    let message = format!("Altinn was to delete the file at {:.0}", offer.expires);
    Trouble::new(Kind::Temporary(None), "expired", message, "ask the sender to send the file again", now)
}
