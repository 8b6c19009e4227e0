//! Uploads that go on where they broke off (TUS, as Altinn speaks it).
//!
//! Division, chunk size and places at Altinn are durable before the first byte leaves, and are never changed: an upload
//! is begun once for each transfer at Altinn. How far it has come is asked of Altinn ([`offset`]), since only what is
//! stored over there counts; so after a break, a restart or a loss of power at most one chunk is sent again.
//!
//! As with a stream, it is durable that the last byte may leave before it does. With several parts nothing can be
//! published before they are joined, so there it is the joining that is intended first. An upload is given up on
//! proof alone ([`death`]): where its last byte never left, the file gets a new transfer; elsewhere nothing more is
//! sent, and Altinn is watched until it has published or failed what it has.

mod death;
mod offset;
mod part;
mod tempo;

pub(super) use tempo::Tempo;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures_util::future::join_all;
use tokio::sync::{AcquireError, SemaphorePermit};
use tracing::info;

use self::death::Death;
use self::offset::Found;
use self::part::{Ended, Part, Place};
use super::Route;
use super::follow::{Seen, seen};
use super::overdue::STUCK;
use super::sending::{Sending, has_changed, last_byte};
use super::upload::{cut, target};
use crate::broker::{self, Role};
use crate::route::{Kind, Next, Trouble};
use crate::seams::crash_point;
use crate::transfer::{
    BrokerTransferId, LastByte, OutgoingEvent, Transfer, Unpublished, UploadSession, Work,
};

/// So many times it is looked and sent again without getting on, before that counts as trouble.
const FRUITLESS_ROUNDS: u32 = 8;

/// Leave to send, as one of `max_concurrent`. Never an error: nobody closes what it is had from.
type Turn<'a> = Result<SemaphorePermit<'a>, AcquireError>;

/// An upload under way in this process.
struct Upload {
    id: BrokerTransferId,
    size: u64,
    session: UploadSession,
    sending: Arc<Sending>,
    /// It was begun in this run, and so with a look at rights, without which Altinn serves what is begun.
    shows_rights: bool,
    /// A part cannot go on, so the others end after their chunk.
    halted: AtomicBool,
    /// Bytes that were sent although they had been sent before.
    resent: AtomicU64,
}

impl Route {
    /// Decides how a file is sent resumably, and makes that durable.
    pub(super) async fn begin_session(self: &Arc<Self>, transfer: &mut Transfer) -> Result<Next, Trouble> {
        self.pass(transfer)?;
        let Some((_, size)) = target(transfer) else { return Ok(Next::Step) };
        let (_file, found) = self.open_claimed(transfer.id).await?;
        if has_changed(transfer, found.identity) {
            return self.describe_anew(transfer).await;
        }
        self.write_claim_file(transfer).await?;
        let chunk_bytes = self.settings.sending.chunk_size;
        let parts = self.tempo.parts(self.settings.sending.parallel_parts, size, chunk_bytes);
        let session = Box::new(UploadSession::plan(size, chunk_bytes, parts, found.changed_ns));
        self.happened(transfer, OutgoingEvent::SessionBegun { at: self.means.now(), session }).await?;
        crash_point("upload:session_intended");
        Ok(Next::Step)
    }

    /// Sends what Altinn does not have.
    pub(super) async fn resume(self: &Arc<Self>, transfer: &mut Transfer) -> Result<Next, Trouble> {
        let Some((id, size)) = target(transfer) else { return Ok(Next::Step) };
        if last_byte(transfer) == Some(LastByte::MayHaveLeft) {
            let overview = self.overview(id).await?;
            if !matches!(seen(&overview), Seen::Begun | Seen::NothingArrived) {
                return self.take_in(transfer, &overview).await;
            }
        }
        // Altinn fails a session that stands for a day, so that it is begun when the bytes can follow. What is begun
        // goes on while the route is held: it is served without a look at rights, and the day goes by.
        let mut turn = None;
        if next_part(transfer).is_some() {
            // Who waits for a token keeps no slot meanwhile: others may have theirs.
            let ready = self.means.broker.ready(id, Role::Sender).await;
            ready.map_err(|error| Trouble::broker(&error, self.means.now()))?;
            turn = Some(self.slots.acquire().await);
            if self.stopping.is_cancelled() {
                return Ok(Next::Step);
            }
            self.pass(transfer)?;
        }
        let (file, found) = self.open_claimed(transfer.id).await?;
        let is_changed = session(transfer).is_none_or(|session| session.file_changed_ns != found.changed_ns);
        if is_changed || has_changed(transfer, found.identity) {
            return self.file_changed(transfer).await;
        }
        let known = session(transfer).and_then(UploadSession::next_to_create).unwrap_or(usize::MAX);
        if let Some(next) = self.create_parts(transfer, id).await? {
            return Ok(next);
        }
        let Some(session) = session(transfer).cloned() else { return Ok(Next::Step) };
        let parts = Part::all(&session, known);
        let sending = Arc::new(Sending::new(transfer.clone(), file, found));
        let (halted, resent) = (AtomicBool::new(false), AtomicU64::new(0));
        let shows_rights = known < session.parts.len();
        let upload = Upload { id, size, session, sending, shows_rights, halted, resent };
        self.send_parts(transfer, &upload, parts, turn).await
    }

    /// Begins the parts that were not begun, one after another: Altinn joins them in the order of their making. One
    /// whose answer was lost is begun once more, since none of its bytes has been sent.
    async fn create_parts(
        self: &Arc<Self>,
        transfer: &mut Transfer,
        id: BrokerTransferId,
    ) -> Result<Option<Next>, Trouble> {
        while let Some((part, length, is_joined)) = next_part(transfer) {
            let location = match self.means.broker.tus_create(id, length, is_joined).await {
                Ok(location) => location,
                Err(error) => return self.not_created(transfer, id, &error).await.map(Some),
            };
            crash_point("upload:part_created");
            self.happened(transfer, OutgoingEvent::PartCreated { part, location }).await?;
            crash_point("upload:part_known");
        }
        Ok(None)
    }

    async fn not_created(
        self: &Arc<Self>,
        transfer: &mut Transfer,
        id: BrokerTransferId,
        error: &broker::Error,
    ) -> Result<Next, Trouble> {
        use broker::Trouble as Found;
        let trouble = Trouble::broker(error, self.means.now());
        match error.trouble() {
            Found::File => {
                self.intend_failure(transfer, trouble.failure, Some(Unpublished::NeverWhole)).await
            }
            Found::AskOverview | Found::Failed => self.settle_death(transfer, id, &Death::Past, 0).await,
            _ => Err(trouble),
        }
    }

    /// Sends, looks where Altinn has to be asked how far it is, and sends on, until everything is there.
    async fn send_parts(
        self: &Arc<Self>,
        transfer: &mut Transfer,
        upload: &Upload,
        mut parts: Vec<Part>,
        mut turn: Option<Turn<'_>>,
    ) -> Result<Next, Trouble> {
        let (mut farthest, mut rounds) = (0, 0);
        loop {
            let unsure = parts.iter().filter(|part| matches!(part.place, Place::Unsure { .. }));
            let found = join_all(unsure.map(|part| self.find_offset(upload, part))).await;
            let unsure = parts.iter_mut().filter(|part| matches!(part.place, Place::Unsure { .. }));
            for (part, found) in unsure.zip(found) {
                match found? {
                    Found::At(offset) => part.place = Place::At { offset, is_stored: true },
                    Found::Dead(death) => return self.is_dead(transfer, upload, &death).await,
                    Found::Stopped => return Ok(Next::Step),
                }
            }
            if parts.iter().all(Part::is_whole) {
                return self.end_upload(transfer, upload).await;
            }
            // Where it never gets on, the waits grow, and it is told.
            let come = parts.iter().map(Part::come).sum();
            rounds = if come > farthest { 0 } else { rounds + 1 };
            farthest = farthest.max(come);
            if rounds > FRUITLESS_ROUNDS {
                return Err(
                    self.unclear("Altinn has stored a part of the file, and does not take what follows")
                );
            }
            // While nothing is sent, the turn is another file's.
            let turn = match turn.take() {
                Some(turn) => turn,
                None => self.slots.acquire().await,
            };
            upload.halted.store(false, Ordering::Release);
            let missing = parts.iter_mut().filter(|part| !part.is_whole());
            let ended = join_all(missing.map(|part| self.send_part(upload, part))).await;
            drop(turn);
            *transfer = upload.sending.transfer();
            if upload.sending.has_changed() {
                return self.file_changed(transfer).await;
            }
            let mut stopped = false;
            let mut trouble = None;
            for ended in ended {
                match ended {
                    Ended::Accepted => return self.accepted(transfer, upload).await,
                    Ended::Dead(death) => return self.is_dead(transfer, upload, &death).await,
                    Ended::Failed(error) => trouble = trouble.or(Some(error)),
                    Ended::Stopped => stopped = true,
                    Ended::Unsure => {}
                }
            }
            if let Some(trouble) = trouble {
                return self.broke(transfer, &parts, *trouble).await;
            }
            if stopped && self.stopping.is_cancelled() {
                return Ok(Next::Step);
            }
        }
    }

    /// The sending broke off. Where it had come on, what went wrong before does not count any more.
    async fn broke(
        &self,
        transfer: &mut Transfer,
        parts: &[Part],
        trouble: Trouble,
    ) -> Result<Next, Trouble> {
        let has_struggled = transfer.attempts > 0 || transfer.trouble.is_some();
        if has_struggled && parts.iter().any(|part| part.has_advanced) {
            self.means
                .store_change(transfer, |before| Ok(Transfer { attempts: 0, trouble: None, ..before }))
                .await?;
        }
        Err(trouble)
    }

    /// Altinn has stored every byte. Where it is one part, its answer to the last chunk was lost: an empty one gets the
    /// finishing going again.
    async fn end_upload(self: &Arc<Self>, transfer: &mut Transfer, upload: &Upload) -> Result<Next, Trouble> {
        if upload.sending.check().await.is_err() {
            return self.file_changed(transfer).await;
        }
        let leaving = self.last_byte_leaves(&upload.sending).await;
        *transfer = upload.sending.transfer();
        if leaving.is_err() {
            // What was the matter with the store comes out where it is used next.
            return Ok(Next::Step);
        }
        crash_point("upload:end_intended");
        let locations: Vec<String> =
            upload.session.parts.iter().filter_map(|part| part.location.clone()).collect();
        let ended = match locations.as_slice() {
            [location] => self.means.broker.tus_finish(upload.id, location, upload.size).await,
            parts => self.means.broker.tus_join(upload.id, parts).await.map(|()| upload.size),
        };
        crash_point("upload:ended");
        match ended {
            Ok(size) if size == upload.size => self.accepted(transfer, upload).await,
            Ok(offset) => {
                let death = Death::WrongOffset { sent: upload.size, answered: offset };
                self.is_dead(transfer, upload, &death).await
            }
            Err(error) => {
                let trouble = Trouble::broker(&error, self.means.now());
                match error.trouble() {
                    broker::Trouble::Gone => self.is_dead(transfer, upload, &Death::NotFound).await,
                    broker::Trouble::AskOverview | broker::Trouble::Failed => {
                        self.is_dead(transfer, upload, &Death::Past).await
                    }
                    _ if trouble.kind == Kind::Permanent => Err(cut(trouble.failure)),
                    // Asking on would be a sign of life, and Altinn fails what is stuck after a day without any.
                    broker::Trouble::NotReady | broker::Trouble::Server
                        if self.means.has_struggled(transfer, STUCK) =>
                    {
                        self.give_up_session(
                            transfer,
                            "Altinn has every byte, and has not finished it for a day",
                        )
                        .await
                    }
                    _ => Err(trouble),
                }
            }
        }
    }

    async fn accepted(&self, transfer: &mut Transfer, upload: &Upload) -> Result<Next, Trouble> {
        crash_point("upload:accepted");
        if upload.shows_rights {
            self.hold.release();
        }
        let resent_bytes = upload.resent.load(Ordering::Relaxed);
        let parts = upload.session.parts.len();
        info!(file_transfer = %upload.id, bytes = upload.size, parts, resent_bytes, "every byte is at Altinn");
        self.happened(transfer, OutgoingEvent::UploadAccepted { at: self.means.now() }).await?;
        Ok(Next::Step)
    }

    /// The file is not what Altinn was told.
    async fn file_changed(self: &Arc<Self>, transfer: &mut Transfer) -> Result<Next, Trouble> {
        if last_byte(transfer) == Some(LastByte::MayHaveLeft) {
            return self.give_up_session(transfer, "the file was written after it had been taken").await;
        }
        self.describe_anew(transfer).await
    }
}

fn session(transfer: &Transfer) -> Option<&UploadSession> {
    match &transfer.work {
        Work::Outgoing { progress, .. } => progress.session(),
        Work::Incoming { .. } => None,
    }
}

/// The part that is to be begun next: its number, its length, and whether it is one of several.
fn next_part(transfer: &Transfer) -> Option<(usize, u64, bool)> {
    let session = session(transfer)?;
    let number = session.next_to_create()?;
    Some((number, session.parts.get(number)?.length, session.is_joined()))
}
