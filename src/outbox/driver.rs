//! One step at a time: a driver loads a record, asks the state machine for the next step, does that one step and
//! stores the outcome. Nothing else moves a transfer.

use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};

use super::Route;
use super::describe::{self, Ingredients, ReadOutcome};
use super::follow::ALTINN_FAILED;
use super::initialize::claim_file;
use super::lay_down::{self, Laid, Laying};
use super::receipt;
use super::take::{self, Taken};
use super::vanished;
use crate::config::AfterSend;
use crate::files::Entry;
use crate::route::{Decision, Drive, Hold, Kind, Means, Next, Recovery, Trouble};
use crate::seams::crash_point;
use crate::transfer::document::to_json;
use crate::transfer::{
    Archive, Companion, Failure, FileIdentity, Outgoing, OutgoingEvent, OutgoingStep, Place, RouteName,
    SafeFileName, Transfer, Unpublished, Work,
};

/// Drives the transfers of one outbox.
#[derive(Debug)]
pub struct Driver(pub(super) Arc<Route>);

impl Drive for Driver {
    fn route(&self) -> &RouteName {
        &self.0.settings.name
    }

    fn means(&self) -> &Means {
        &self.0.means
    }

    fn hold(&self) -> &Hold {
        &self.0.hold
    }

    fn recovery(&self) -> &Recovery {
        &self.0.recovery
    }

    fn decided(&self, was: &'static str, transfer: &Transfer) -> (Option<&'static str>, Decision) {
        super::recovery::decided(was, transfer)
    }

    async fn step(&self, transfer: &mut Transfer) -> Result<Next, Trouble> {
        let Work::Outgoing { progress, .. } = &transfer.work else { return Ok(Next::Wait) };
        let route = &self.0;
        // Where the folders are away, no call is spent on what could not be finished.
        route.folders.folders()?;
        let can_give_up =
            progress.is_unsent() || matches!(progress, Outgoing::Uploading { never_whole: true, .. });
        if can_give_up && transfer.problem.is_some() && route.means.is_stuck(transfer) {
            // Where the state was set back, Altinn may have had the file.
            if progress.is_unsent() && route.pass_set_back(transfer).await? {
                return Ok(Next::Step);
            }
            let failure = gave_up(transfer.problem.as_ref(), route.means.now());
            return Err(Trouble { failure, kind: Kind::Permanent });
        }
        let step = progress.next_step();
        let done = match step {
            OutgoingStep::Take => route.take(transfer).await,
            OutgoingStep::Describe => route.describe(transfer).await,
            OutgoingStep::Initialize => route.initialize(transfer).await,
            OutgoingStep::SettleInitialize => route.settle_initialize(transfer).await,
            OutgoingStep::Upload | OutgoingStep::Resume if route.recovery.is_open(transfer.id) => {
                route.compare(transfer).await
            }
            OutgoingStep::Upload => route.upload(transfer).await,
            OutgoingStep::Resume => route.resume(transfer).await,
            OutgoingStep::SettleUpload => route.settle_upload(transfer).await,
            OutgoingStep::Follow => route.follow(transfer).await,
            OutgoingStep::IntendArchive => route.intend_archive(transfer).await,
            OutgoingStep::Archive => route.archive(transfer).await,
            OutgoingStep::Track => route.track(transfer).await,
            OutgoingStep::FileFailure => route.file_failure(transfer).await,
            OutgoingStep::Nothing => route.end(transfer, transfer.clone()).await,
        };
        match done {
            Err(trouble) if trouble.failure.code == vanished::MISSING && needs_file(step) => {
                route.settle_missing(transfer, trouble).await
            }
            Err(trouble) => Err(route.told_if_overdue(transfer, trouble)),
            done => done,
        }
    }

    fn waits_for_people(&self, transfer: &Transfer) {
        self.0.set_apart(transfer.id);
    }

    async fn give_up(&self, transfer: &mut Transfer, failure: Failure) -> Result<Next, Trouble> {
        self.0.put_aside(transfer, failure).await
    }
}

/// Whether a step is about the claimed file, and not about where it is laid down.
fn needs_file(step: OutgoingStep) -> bool {
    use OutgoingStep as S;
    !matches!(
        step,
        S::Take | S::Follow | S::IntendArchive | S::Archive | S::Track | S::FileFailure | S::Nothing
    )
}

/// Why a file that has met nothing but trouble for long is not tried any more.
pub(super) fn gave_up(last: Option<&Failure>, at: jiff::Timestamp) -> Failure {
    let message = last.map_or_else(String::new, |problem| format!("{}: {}", problem.code, problem.message));
    let remedy = last.map_or("", |problem| &problem.remedy);
    let (code, remedy) = match last {
        Some(problem) if problem.code == ALTINN_FAILED => {
            (ALTINN_FAILED, "send the detail to Altinn's support")
        }
        _ => ("gave_up", remedy),
    };
    Failure {
        code: code.to_owned(),
        message: format!("the file could not be sent in the time that give_up_after allows; last: {message}"),
        remedy: remedy.to_owned(),
        at,
        altinn: last.and_then(|problem| problem.altinn.clone()),
    }
}

impl Route {
    async fn take(self: &Arc<Self>, transfer: &mut Transfer) -> Result<Next, Trouble> {
        let (Work::Outgoing { claim, .. }, Some(beside)) = (&transfer.work, claim_file(transfer)) else {
            return Ok(Next::Wait);
        };
        let (id, claim) = (transfer.id, claim.clone());
        match self.on_files(move |folders| take::take(folders, id, &claim, &beside)).await? {
            Taken::Ours => self.happened(transfer, OutgoingEvent::FileTaken).await?,
            Taken::Withdrawn => {
                info!("withdrawn: the file was taken away or changed before it was the service's");
                self.happened(transfer, OutgoingEvent::FileWithdrawn).await?;
            }
            immovable @ (Taken::Immovable | Taken::ImmovableFolder) => {
                self.cannot_move(transfer, immovable == Taken::ImmovableFolder);
                self.happened(transfer, OutgoingEvent::FileWithdrawn).await?;
            }
        }
        Ok(Next::Step)
    }

    async fn describe(self: &Arc<Self>, transfer: &mut Transfer) -> Result<Next, Trouble> {
        let Work::Outgoing { claim, abandoned, .. } = &transfer.work else { return Ok(Next::Wait) };
        let (id, claim, abandoned) = (transfer.id, claim.clone(), abandoned.len());
        let found = self.wait_until_still(transfer, claim.file).await?;
        let taken = claim.clone();
        let sidecar = self.on_files(move |folders| describe::sidecar(folders, id, &taken)).await?;
        let now = self.means.now();
        let date = local_date(now);
        let ingredients = Ingredients {
            settings: &self.settings,
            sender: self.identity.organization,
            id,
            claim: &claim,
            abandoned,
            date: &date,
            now,
        };
        // What cannot be sent anyhow is not read first: it may be large.
        let outline = ingredients.outline(&sidecar, found.identity.size)?;
        let slot = self.slots.acquire().await;
        let read = self.on_files(move |folders| describe::read(folders, id)).await?;
        drop(slot);
        let ReadOutcome::Still(content) = read else { return Err(changing(now)) };
        let dispatch = outline.complete(*content).ok_or_else(|| changing(now))?;
        crash_point("describe:hashed");
        self.happened(transfer, OutgoingEvent::Described(Box::new(dispatch))).await?;
        Ok(Next::Step)
    }

    /// A file that is not what was seen in the drop folder has been written since: it is let come to rest again.
    async fn wait_until_still(
        self: &Arc<Self>,
        transfer: &Transfer,
        seen: FileIdentity,
    ) -> Result<Entry, Trouble> {
        let id = transfer.id;
        let look = move |folders: &super::Folders| describe::look(folders, id);
        let (before, is_verified) = self.on_files(look).await?;
        self.is_claimed_one(&before, seen)?;
        if before.identity.is_same_file(&seen) {
            return Ok(before);
        }
        let settle =
            if before.identity.size == 0 { self.settings.settle_empty } else { self.settings.settle };
        let settle = if is_verified { settle } else { settle.max(self.settings.settle_unverified) };
        tokio::time::sleep(settle.max(Duration::from_millis(1))).await;
        let (after, _) = self.on_files(look).await?;
        if after == before { Ok(before) } else { Err(changing(self.means.now())) }
    }

    async fn intend_archive(self: &Arc<Self>, transfer: &mut Transfer) -> Result<Next, Trouble> {
        let Work::Outgoing { claim, progress: Outgoing::Published { publication, .. }, .. } = &transfer.work
        else {
            return Ok(Next::Step);
        };
        let date = local_date(publication.published);
        let place = self.choose(transfer, claim.name.clone(), Some(date)).await?;
        crash_point("archive:chosen");
        self.happened(transfer, OutgoingEvent::ArchiveIntended(place)).await?;
        Ok(Next::Step)
    }

    async fn choose(
        self: &Arc<Self>,
        transfer: &Transfer,
        name: String,
        date: Option<String>,
    ) -> Result<Place, Trouble> {
        let id = transfer.id;
        let name = SafeFileName::for_local(&name, &id.short());
        // A claimed name was a directory entry, so it is one path component.
        let name = name.unwrap_or_else(|_| SafeFileName::for_received("", &id.short()));
        self.on_files(move |folders| lay_down::choose(folders, date, &name, id)).await
    }

    /// The place in `failed/`.
    pub(super) async fn choose_failed(self: &Arc<Self>, transfer: &Transfer) -> Result<Place, Trouble> {
        let name = match &transfer.work {
            Work::Outgoing { claim, .. } => claim.name.clone(),
            Work::Incoming { .. } => String::new(),
        };
        self.choose(transfer, name, None).await
    }

    async fn archive(self: &Arc<Self>, transfer: &mut Transfer) -> Result<Next, Trouble> {
        let Some((Archive::Intended(place), document)) = receipt::of(transfer) else {
            return Ok(Next::Step);
        };
        crash_point("archive:intended");
        let keep_file = self.settings.after_send == AfterSend::Archive;
        match self.lay_down(transfer, place, Companion::Receipt, document, keep_file).await? {
            Laid::Down => {
                crash_point("archive:laid_down");
                info!("archived");
                self.happened(transfer, OutgoingEvent::Archived).await?;
                crash_point("archive:done");
                Ok(Next::Step)
            }
            Laid::NameTaken => {
                self.intend_archive(transfer).await?;
                Err(self.name_taken())
            }
        }
    }

    async fn lay_down(
        self: &Arc<Self>,
        transfer: &Transfer,
        place: Place,
        companion: Companion,
        document: Vec<u8>,
        keep_file: bool,
    ) -> Result<Laid, Trouble> {
        let Some(beside) = claim_file(transfer) else { return Ok(Laid::Down) };
        let id = transfer.id;
        let content = super::initialize::dispatch(transfer).map(|dispatch| dispatch.sha256);
        self.on_files(move |folders| {
            // A loss of power may have put it back where it was dropped.
            take::take_back(folders, id, &beside.claim, &beside)?;
            lay_down::lay_down(
                folders,
                &Laying { id, place: &place, companion, document: &document, keep_file, content },
            )
        })
        .await
    }

    /// Brings the receipt up to date.
    pub(super) async fn refresh_receipt(self: &Arc<Self>, transfer: &Transfer) -> Result<(), Trouble> {
        let Some((Archive::Done(place), document)) = receipt::of(transfer) else { return Ok(()) };
        self.on_files(move |folders| lay_down::refresh(folders, &place, Companion::Receipt, &document)).await
    }

    /// Ends a published transfer: the receipt says so before the store forgets it.
    pub(super) async fn close(
        self: &Arc<Self>,
        transfer: &mut Transfer,
        event: OutgoingEvent,
    ) -> Result<Next, Trouble> {
        let now = self.means.now();
        let ended =
            transfer.clone().after_outgoing(event, now).map_err(|illegal| Trouble::illegal(illegal, now))?;
        crash_point("close:decided");
        self.refresh_receipt(&ended).await?;
        crash_point("close:receipt");
        self.end(transfer, ended).await
    }

    /// Chooses the place in `failed/` for a file that will not be sent.
    pub(super) async fn intend_failure(
        self: &Arc<Self>,
        transfer: &mut Transfer,
        failure: Failure,
        proof: Option<Unpublished>,
    ) -> Result<Next, Trouble> {
        let place = self.choose_failed(transfer).await?;
        self.happened(transfer, OutgoingEvent::FailureIntended { failure, place, proof }).await?;
        Ok(Next::Step)
    }

    /// A file that cannot be sent: where bytes may have left, Altinn is asked first whether it has begun
    /// anything.
    async fn put_aside(self: &Arc<Self>, transfer: &mut Transfer, failure: Failure) -> Result<Next, Trouble> {
        let Work::Outgoing { progress, .. } = &transfer.work else { return Ok(Next::Wait) };
        match progress {
            progress if progress.is_unsent() => self.intend_failure(transfer, failure, None).await,
            // Nobody sends the rest of it any more.
            Outgoing::Uploading { never_whole: true, .. } => {
                self.intend_failure(transfer, failure, Some(Unpublished::NeverWhole)).await
            }
            _ => Err(Trouble { failure, kind: Kind::Slow }),
        }
    }

    async fn file_failure(self: &Arc<Self>, transfer: &mut Transfer) -> Result<Next, Trouble> {
        let Work::Outgoing { progress: Outgoing::Failing { failure, place }, .. } = &transfer.work else {
            return Ok(Next::Step);
        };
        let (failure, place) = (failure.clone(), place.clone());
        let document = to_json(&receipt::error_file(transfer, &failure));
        match self.lay_down(transfer, place, Companion::Error, document, true).await? {
            Laid::Down => {
                warn!(code = %failure.code, reason = %failure.message, remedy = %failure.remedy, "not sent: the file is in failed/");
                self.happened(transfer, OutgoingEvent::FailureFiled).await?;
                Ok(Next::Step)
            }
            Laid::NameTaken => {
                let place = self.choose_failed(transfer).await?;
                self.happened(transfer, OutgoingEvent::FailureIntended { failure, place, proof: None })
                    .await?;
                Err(self.name_taken())
            }
        }
    }

    /// Another name has been chosen; it is tried after a breath, so that nobody can keep us busy by taking names.
    fn name_taken(&self) -> Trouble {
        let message = "the name was taken while the file was laid down".to_owned();
        let remedy = "nothing: another name is used";
        Trouble::new(Kind::Temporary(None), "name_taken", message, remedy, self.means.now())
    }

    /// Moves a transfer that is over from the store to the journal.
    async fn end(&self, transfer: &mut Transfer, ended: Transfer) -> Result<Next, Trouble> {
        self.means.store_end(transfer, ended).await?;
        crash_point("end:journalled");
        self.note(transfer);
        Ok(Next::Wait)
    }
}

fn changing(now: jiff::Timestamp) -> Trouble {
    let message = "somebody is writing the file".to_owned();
    Trouble::new(Kind::Temporary(None), "file_changing", message, "nothing: it is sent when it is still", now)
}

/// The date of a moment where this machine stands, as folder names have it.
fn local_date(time: jiff::Timestamp) -> String {
    time.to_zoned(jiff::tz::TimeZone::system()).date().to_string()
}
