//! Whether the state was set back in time, as when a machine is restored from a snapshot: then Altinn has transfers of
//! ours that the store does not know, and files that have been published long ago lie where they lay before.
//!
//! Before anything is asked for after a start, what Altinn has had from us since the store was last changed is held
//! against the store. Ours is what bears our installation's mark in its reference ([`crate::store::Store::has_made`]),
//! so that neither other software of the same organisation nor a second installation is mistaken for it. If there is
//! something that the store does not know, the outbox is held until somebody has said that the restore was meant
//! (`resume --after-restore`). Then each file that is about to be sent is compared with what is not remembered: one that
//! Altinn has had already, by name, content, recipients and properties, goes on with that transfer, and is not sent
//! again. A record whose own reference is found at Altinn goes on with that transfer in any case.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::Route;
use super::unremembered::{
    Broken, Patience, has_older, is_about_searching, is_equal, is_left, is_older, own_id,
};
use crate::broker::{self, Overview, Role, Search, Status};
use crate::config::Recipients;
use crate::route::{Kind, Trouble, earlier, later};
use crate::seams::{self, crash_point};
use crate::store::{SetBackNote, Unremembered};
use crate::transfer::{
    Booking, BrokerTransferId, Failure, Outgoing, OutgoingEvent, Transfer, TransferId, Unpublished, Work,
};

/// What one search answers with at most.
const PAGE: usize = 100;
/// Pages that are looked at, the newest first, before it is believed that nothing is missing.
const MAX_PAGES: usize = 3;
/// Transfers that are remembered of what is not remembered. Where there are more, nothing is sent.
const MAX_NOTED: usize = 10_000;
/// Clocks differ, and a change is stored before or after what it is about.
const MARGIN: Duration = Duration::from_mins(5);
/// How often a held outbox looks whether it has been released.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How often it is told that an outbox is held.
const TELL_EVERY: Duration = Duration::from_hours(24);
/// How often it is looked whether anything is left from before the release.
const LOOK_FOR_OLD_EVERY: Duration = Duration::from_mins(1);
/// The code of an outbox that is held for this.
const SET_BACK: &str = "state_set_back";

/// What is known of it.
#[derive(Debug, Default)]
pub(super) struct SetBack {
    state: Mutex<State>,
    is_held: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    known: Known,
    patience: Patience,
    broken: Broken,
    /// When it was last told that the outbox is held.
    told: Option<Instant>,
    /// When it was last looked for what is left from before the release.
    looked_for_old: Option<Instant>,
    /// Whether the store knows that this is settled.
    is_settled: bool,
}

#[derive(Debug, Default)]
enum Known {
    /// Nothing yet.
    #[default]
    Unasked,
    /// It was not.
    No,
    /// Altinn does not let us search: it is asked again after the next start.
    Untold,
    /// It was.
    Yes { note: SetBackNote, released: bool },
}

impl SetBack {
    /// Whether the outbox is held for it.
    pub(super) fn is_held(&self) -> bool {
        self.is_held.load(Ordering::SeqCst)
    }
}

/// What a page of a search has shown.
#[derive(Debug, Default)]
struct Looked {
    unremembered: Vec<Unremembered>,
    /// The first and the last by when they were made.
    oldest: Option<Timestamp>,
    newest: Option<Timestamp>,
    is_last: bool,
}

impl Route {
    /// Lets the transfer pass if the state was not set back, or if somebody has released the outbox; `true` where the
    /// transfer goes on with one that Altinn has already.
    pub(super) async fn pass_set_back(self: &Arc<Self>, transfer: &mut Transfer) -> Result<bool, Trouble> {
        let mut state = self.set_back.state.lock().await;
        let state = &mut *state;
        if matches!(state.known, Known::Unasked) {
            state.known = match self.ask_whether_set_back(&mut state.broken).await {
                Ok(known) => known,
                Err(NotTold::Altinn(error))
                    if is_about_searching(&error) && state.patience.ends(Instant::now()) =>
                {
                    warn!(
                        route = self.settings.name.as_str(),
                        code = error.code(),
                        "we cannot search, so that nobody can tell whether the state was set back in time: going on without"
                    );
                    Known::Untold
                }
                Err(error) => return Err(error.into_trouble(self)),
            };
        }
        let Known::Yes { note, released } = &mut state.known else {
            if matches!(state.known, Known::No) {
                self.settle_set_back(&mut state.is_settled).await?;
            }
            return Ok(false);
        };
        let looked = self.go_on_noting(note, released, &mut state.broken).await;
        let is_open = !(*released && note.complete);
        self.set_back.is_held.store(is_open, Ordering::SeqCst);
        if is_open && state.told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
            state.told = Some(Instant::now());
            let Failure { code, message, remedy, .. } = self.held(note).failure;
            error!(route = self.settings.name.as_str(), %code, reason = %message, %remedy, "outbox held: somebody must act");
        }
        looked?;
        if !is_open {
            self.settle_set_back(&mut state.is_settled).await?;
            if self.is_done_with(note, transfer, &mut state.looked_for_old).await? {
                let (notes, name) = (self.means.store.set_back_notes(), self.settings.name.clone());
                let removed = seams::blocking(move || notes.remove(&name)).await;
                removed.map_err(|error| Trouble::store(&error, self.means.now()))?;
                info!(
                    route = self.settings.name.as_str(),
                    "nothing is left from before the restore: what comes now is new"
                );
                state.known = Known::No;
                return Ok(false);
            }
        }
        if let Some(id) = self.take_over(transfer, note, !is_open).await? {
            warn!(transfer = %transfer.id, file_transfer = %id, "Altinn has had this file from us before the state was set back: it is not sent again");
            return Ok(true);
        }
        if is_open { Err(self.held(note)) } else { Ok(false) }
    }

    /// From now on, the next start need look only at what comes from now on.
    async fn settle_set_back(&self, is_settled: &mut bool) -> Result<(), Trouble> {
        if !*is_settled {
            let settled = self.means.store.checked(&self.settings.name).await;
            settled.map_err(|error| Trouble::store(&error, self.means.now()))?;
            *is_settled = true;
        }
        Ok(())
    }

    fn held(&self, note: &SetBackNote) -> Trouble {
        let now = self.means.now();
        let (number, since) = (note.transfers.len(), note.since);
        let is_full = !note.complete && number >= MAX_NOTED;
        let has = match (note.complete, number) {
            (true, _) => number.to_string(),
            (false, 0) => "some".to_owned(),
            (false, _) if is_full => format!("more than {number}"),
            (false, _) => format!("{number} so far"),
        };
        let remedy = if is_full {
            "that is more than can be kept apart, so that nothing is sent: put a newer copy of the state directory in its \
             place, or the newest export (formidlingd state import)"
        } else {
            "if the state or the machine was restored on purpose: formidlingd resume --after-restore. Files that \
             Altinn has had already, by name, content and recipients, are then archived and not sent again"
        };
        let message = format!(
            "the state was set back in time, to {since}: Altinn has {has} of our transfers that it does not know"
        );
        let remedy = remedy.to_owned();
        let failure = Failure { code: SET_BACK.to_owned(), message, remedy, at: now, altinn: None };
        Trouble { failure, kind: Kind::Held(later(now, LOOK_EVERY)) }
    }

    async fn ask_whether_set_back(self: &Arc<Self>, broken: &mut Broken) -> Result<Known, NotTold> {
        let (notes, name) = (self.means.store.set_back_notes(), self.settings.name.clone());
        let read = seams::blocking(move || notes.read(&name)).await;
        let read = read.map_err(|error| Trouble::store(&error, self.means.now()))?;
        let before = match read {
            Some((note, released)) if !released || !note.complete => {
                return Ok(Known::Yes { note, released });
            }
            read => read.map(|(note, _)| note),
        };
        // It may have been set back once more since it was released.
        let ignored: HashSet<_> =
            before.iter().flat_map(|note| &note.transfers).map(|found| found.id).collect();
        let since = self.means.store.unchecked_since(&self.settings.name);
        let is_back = match since {
            Some(since) => self.is_set_back_since(since, &ignored, broken).await?,
            None => false,
        };
        let Some(since) = since.filter(|_| is_back) else {
            return Ok(before.map_or(Known::No, |note| Known::Yes { note, released: true }));
        };
        let was_released = before.is_some();
        let note = SetBackNote {
            since,
            noticed: self.means.now(),
            complete: false,
            looked_until: None,
            released: None,
            // All are looked at once more, the oldest first.
            transfers: before.map_or_else(Vec::new, |note| note.transfers),
        };
        if was_released {
            let (notes, name, note) =
                (self.means.store.set_back_notes(), self.settings.name.clone(), note.clone());
            let held = seams::blocking(move || notes.hold_again(&name, &note)).await;
            held.map_err(|error| Trouble::store(&error, self.means.now()))?;
        } else {
            self.note_set_back(&note, false).await?;
        }
        Ok(Known::Yes { note, released: false })
    }

    /// Whether Altinn has something of ours that is not remembered, nor `noted`.
    async fn is_set_back_since(
        self: &Arc<Self>,
        since: Timestamp,
        noted: &HashSet<BrokerTransferId>,
        broken: &mut Broken,
    ) -> Result<bool, NotTold> {
        let mut before = None;
        for _ in 0..MAX_PAGES {
            let looked = self.look(earlier(since, MARGIN), before, false, broken).await?;
            if looked.unremembered.iter().any(|found| !noted.contains(&found.id)) {
                return Ok(true);
            }
            if looked.is_last || looked.oldest.is_none() || looked.oldest == before {
                return Ok(false);
            }
            before = looked.oldest;
        }
        info!(
            route = self.settings.name.as_str(),
            "only the newest transfers at Altinn were held against the state"
        );
        Ok(false)
    }

    /// Looks at the next page of what is not remembered, until all is noted; and whether the outbox was released.
    async fn go_on_noting(
        self: &Arc<Self>,
        note: &mut SetBackNote,
        released: &mut bool,
        broken: &mut Broken,
    ) -> Result<(), Trouble> {
        while !note.complete && note.transfers.len() < MAX_NOTED {
            let from = note.looked_until.unwrap_or_else(|| earlier(note.since, MARGIN));
            let looked = self.look_from(from, broken).await.map_err(|error| error.into_trouble(self))?;
            let known: HashSet<_> = note.transfers.iter().map(|noted| noted.id).collect();
            note.transfers.extend(looked.unremembered.into_iter().filter(|found| !known.contains(&found.id)));
            note.looked_until = looked.newest.or(note.looked_until);
            note.complete = looked.is_last;
            self.note_set_back(note, *released).await?;
            crash_point("set_back:noted");
        }
        if !*released {
            let (notes, name) = (self.means.store.set_back_notes(), self.settings.name.clone());
            let read = seams::blocking(move || notes.read(&name)).await;
            let read = read.map_err(|error| Trouble::store(&error, self.means.now()))?;
            *released = read.is_none_or(|(_, released)| released);
            if *released {
                info!(
                    route = self.settings.name.as_str(),
                    transfers = note.transfers.len(),
                    "released after a restore: files that Altinn has had already are not sent again"
                );
            }
        }
        if *released && note.released.is_none() {
            note.released = Some(self.means.now());
            self.note_set_back(note, true).await?;
        }
        Ok(())
    }

    /// Whether what was released can be forgotten: nothing waits any more that lay there at the release, so that a file
    /// which is equal to one that Altinn has had is meant to be sent again.
    async fn is_done_with(
        self: &Arc<Self>,
        note: &SetBackNote,
        transfer: &Transfer,
        looked: &mut Option<Instant>,
    ) -> Result<bool, Trouble> {
        let Some(released) = note.released.filter(|released| transfer.created > *released) else {
            return Ok(false);
        };
        // What is made in the margin before the last change is looked at after the next start, too.
        let newest = note.transfers.iter().filter_map(|found| found.created).max();
        let is_young = newest.is_some_and(|newest| later(newest, 2 * MARGIN) > self.means.server_now());
        if is_young || looked.is_some_and(|looked| looked.elapsed() < LOOK_FOR_OLD_EVERY) {
            return Ok(false);
        }
        *looked = Some(Instant::now());
        let mut seen = None;
        while let Some(transfers) = self.means.next_at_work(&self.settings.name, &mut seen).await? {
            if transfers.iter().any(|transfer| is_left(transfer, released)) {
                return Ok(false);
            }
        }
        let from_directory = self.settings.recipients == Recipients::FromDirectory;
        let has_older = self.on_files(move |folders| has_older(folders, from_directory, released)).await?;
        Ok(!has_older)
    }

    /// Everything of ours since a moment that is not remembered, over pages that hold none of it.
    async fn look_from(self: &Arc<Self>, from: Timestamp, broken: &mut Broken) -> Result<Looked, NotTold> {
        let mut from = from;
        loop {
            let to = later(self.means.server_now(), MARGIN);
            let looked = self.look(from, Some(to), true, broken).await?;
            let newest = looked.newest.filter(|newest| *newest > from);
            match newest {
                Some(newest) if looked.unremembered.is_empty() && !looked.is_last => from = newest,
                _ => return Ok(Looked { is_last: looked.is_last || newest.is_none(), ..looked }),
            }
        }
    }

    async fn note_set_back(&self, note: &SetBackNote, released: bool) -> Result<(), Trouble> {
        let (notes, name) = (self.means.store.set_back_notes(), self.settings.name.clone());
        let note = note.clone();
        let written = seams::blocking(move || notes.write(&name, &note, released)).await;
        written.map_err(|error| Trouble::store(&error, self.means.now()))
    }

    /// A page of what Altinn has had from us.
    async fn look(
        &self,
        from: Timestamp,
        to: Option<Timestamp>,
        ascending: bool,
        broken: &mut Broken,
    ) -> Result<Looked, NotTold> {
        let search = Search {
            resource_id: self.settings.resource_id.clone(),
            role: Role::Sender,
            status: None,
            recipient_status: None,
            from: Some(from),
            to,
            ascending,
        };
        let ids = self.means.broker.search(&search).await.map_err(NotTold::Altinn)?;
        let mut looked = Looked { is_last: ids.len() < PAGE, ..Looked::default() };
        let edge = |position: usize| position == 0 || position + 1 == ids.len();
        for (position, id) in ids.iter().enumerate() {
            // The edges are asked about in any case: they tell where the next page begins.
            if (looked.is_last || !edge(position)) && self.is_known(*id).await {
                continue;
            }
            let overview = match self.means.broker.overview(*id, Role::Sender).await {
                Ok(overview) => overview,
                Err(error) if error.trouble() == broker::Trouble::Gone => continue,
                Err(error) if error.status() == Some(500) && broken.is_given_up(*id) => continue,
                Err(error) => return Err(NotTold::Altinn(error)),
            };
            looked.oldest = looked.oldest.into_iter().chain(overview.created).min();
            looked.newest = looked.newest.into_iter().chain(overview.created).max();
            if !self.is_known(*id).await
                && let Some(found) = self.unremembered(&overview).await?
            {
                looked.unremembered.push(found);
            }
        }
        self.without_finished(&mut looked).await?;
        Ok(looked)
    }

    /// A transfer at Altinn that is ours and that no record has, unless it is one that nobody ever went on with.
    async fn unremembered(&self, overview: &Overview) -> Result<Option<Unremembered>, NotTold> {
        let Some(ours) = own_id(&overview.reference, |id| self.means.store.has_made(id)) else {
            return Ok(None);
        };
        let begun = has_begun(overview);
        match self.means.store.get(ours).await {
            // Answers get lost, and the transfers they were about stay without bytes, also when the file has long been
            // sent with another.
            Ok(_) if !begun => return Ok(None),
            Ok(_) => {}
            Err(crate::store::Error::Unreadable { .. }) => return Ok(None),
            Err(error) => return Err(Trouble::store(&error, self.means.now()).into()),
        }
        let mut recipients: Vec<_> =
            overview.recipients.iter().filter_map(|recipient| recipient.organization).collect();
        recipients.sort_unstable();
        recipients.dedup();
        Ok(Some(Unremembered {
            id: overview.id,
            reference: overview.reference.clone(),
            file_name: overview.file_name.clone(),
            md5: overview.checksum,
            recipients,
            properties: overview.properties.clone(),
            created: overview.created,
            begun,
            taken_by: None,
        }))
    }

    /// What the journal knows is remembered.
    async fn without_finished(&self, looked: &mut Looked) -> Result<(), NotTold> {
        let mut wanted: HashMap<TransferId, Vec<BrokerTransferId>> = HashMap::new();
        for found in &looked.unremembered {
            if let Some(ours) = own_id(&found.reference, |id| self.means.store.has_made(id)) {
                wanted.entry(ours).or_default().push(found.id);
            }
        }
        if wanted.is_empty() {
            return Ok(());
        }
        let store = self.means.store.clone();
        let finished = seams::blocking(move || store.finished_among(&wanted)).await;
        let finished = finished.map_err(|error| Trouble::store(&error, self.means.now()))?;
        looked.unremembered.retain(|found| !finished.contains(&found.id));
        Ok(())
    }

    /// Lets a transfer go on with one that Altinn has had from us: one that bears its own reference, or, where
    /// `any` may be taken, one that is equal in all that matters.
    async fn take_over(
        self: &Arc<Self>,
        transfer: &mut Transfer,
        note: &mut SetBackNote,
        any: bool,
    ) -> Result<Option<BrokerTransferId>, Trouble> {
        let Work::Outgoing { claim, abandoned, progress, .. } = &transfer.work else { return Ok(None) };
        let (dispatch, before) = match progress {
            Outgoing::Described { dispatch } => (dispatch, OutgoingEvent::DescriptionOutdated),
            // The claim of an older record: the transfer that it names has got no bytes.
            Outgoing::Initialized { dispatch, .. } => {
                (dispatch, OutgoingEvent::Abandoned(Unpublished::NothingBegun))
            }
            _ => return Ok(None),
        };
        let any = any && matches!(progress, Outgoing::Described { .. });
        let modified_ns = dispatch.file.unwrap_or(claim.file).modified_ns;
        let fits = |found: &Unremembered| {
            let is_free = found.taken_by.is_none_or(|by| by == transfer.id);
            let is_own = own_id(&found.reference, |id| id == transfer.id).is_some();
            is_free
                && found.begun
                && !abandoned.contains(&found.id)
                && is_equal(found, dispatch)
                && (is_own || any && is_older(modified_ns, found.created))
        };
        let mut place = None;
        for (position, found) in note.transfers.iter().enumerate() {
            if fits(found) && !self.is_known(found.id).await {
                place = Some(position);
                break;
            }
        }
        let Some(found) = place.and_then(|place| note.transfers.get_mut(place)) else { return Ok(None) };
        found.taken_by = Some(transfer.id);
        let found = found.clone();
        self.note_set_back(note, false).await?;
        crash_point("set_back:taken");
        let now = self.means.now();
        let mut dispatch = dispatch.clone();
        // What Altinn was told is what the receipt is to say.
        if let Ok(reference) = found.reference.parse() {
            dispatch.reference = reference;
        }
        let initialized = found.created.unwrap_or(now);
        let events = [
            before,
            OutgoingEvent::Described(dispatch),
            OutgoingEvent::InitializeIntended { at: initialized },
            OutgoingEvent::Adopted(Booking { id: found.id, initialized }),
            // How often bytes were sent is not known: its history is looked at before anything is sent anew.
            OutgoingEvent::UploadBegun { at: now },
            OutgoingEvent::UploadBegun { at: now },
            OutgoingEvent::LastByteLeaving,
        ];
        self.all_happened(transfer, events).await?;
        crash_point("set_back:adopted");
        Ok(Some(found.id))
    }
}

/// Why it could not be found out.
#[derive(Debug)]
enum NotTold {
    Altinn(broker::Error),
    Ours(Trouble),
}

impl NotTold {
    fn into_trouble(self, route: &Route) -> Trouble {
        match self {
            Self::Altinn(error) => {
                let trouble = Trouble::broker(&error, route.means.now());
                match trouble.kind {
                    // No file fails for it.
                    Kind::Permanent => Trouble { kind: Kind::Slow, ..trouble },
                    _ => trouble,
                }
            }
            Self::Ours(trouble) => trouble,
        }
    }
}

impl From<Trouble> for NotTold {
    fn from(trouble: Trouble) -> Self {
        Self::Ours(trouble)
    }
}

/// Whether bytes may have gone to a transfer at Altinn.
fn has_begun(overview: &Overview) -> bool {
    overview.published.is_some() || overview.status != Status::Initialized
}
