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

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Mutex;
use tracing::{error, info, warn};

use super::Route;
use crate::broker::{self, Overview, Role, Search, Status};
use crate::route::{Kind, Trouble, earlier, later};
use crate::seams::{self, crash_point};
use crate::store::{SetBackNote, Unremembered};
use crate::transfer::{
    Booking, BrokerTransferId, Dispatch, Failure, Outgoing, OutgoingEvent, Transfer, TransferId, Work,
};

/// What one search answers with at most.
const PAGE: usize = 100;
/// Pages that are looked at, the newest first, before it is believed that nothing is missing.
const MAX_PAGES: usize = 3;
/// Transfers that are remembered of what is not remembered.
const MAX_NOTED: usize = 10_000;
/// Clocks differ, and a change is stored before or after what it is about.
const MARGIN: Duration = Duration::from_mins(5);
/// How often a held outbox looks whether it has been released.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Searches that Altinn answers with an error of its own, after which it is not asked any more.
const MAX_FAILURES: u32 = 10;
/// The code of an outbox that is held for this.
const SET_BACK: &str = "state_set_back";

/// What is known of it.
#[derive(Debug, Default)]
pub(super) struct SetBack {
    known: Mutex<Known>,
    is_held: AtomicBool,
}

#[derive(Debug, Default)]
enum Known {
    /// Nothing yet.
    #[default]
    Unasked,
    /// So many searches have failed.
    Failed(u32),
    /// It was not, or nobody can tell.
    No,
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
        let mut known = self.set_back.known.lock().await;
        if matches!(&*known, Known::Unasked | Known::Failed(_)) {
            let failures = if let Known::Failed(failures) = *known { failures } else { 0 };
            *known = match self.ask_whether_set_back().await {
                Ok(found) => found,
                Err(error) => {
                    if is_about_searching(&error) {
                        *known = Known::Failed(failures + 1);
                    }
                    if failures + 1 < MAX_FAILURES {
                        return Err(error.into_trouble(self));
                    }
                    warn!(
                        route = self.settings.name.as_str(),
                        "Altinn cannot tell whether the state was set back in time: going on without"
                    );
                    Known::No
                }
            };
        }
        let Known::Yes { note, released } = &mut *known else { return Ok(false) };
        self.go_on_noting(note, released).await?;
        self.set_back.is_held.store(!(*released && note.complete), Ordering::SeqCst);
        if let Some(id) = self.take_over(transfer, note, *released && note.complete).await? {
            warn!(transfer = %transfer.id, file_transfer = %id, "Altinn has had this file from us before the state was set back: it is not sent again");
            return Ok(true);
        }
        if *released && note.complete { Ok(false) } else { Err(self.held(note)) }
    }

    fn held(&self, note: &SetBackNote) -> Trouble {
        let now = self.means.now();
        let more = if note.complete { "" } else { " so far" };
        let failure = Failure {
            code: SET_BACK.to_owned(),
            message: format!(
                "the state was set back in time, to {}: Altinn has {}{more} of our transfers that it does not know",
                note.since,
                note.transfers.len()
            ),
            remedy: "if the state or the machine was restored on purpose: formidlingd resume --after-restore. Files that \
                     Altinn has had already, by name, content and recipients, are then archived and not sent again"
                .to_owned(),
            at: now,
            altinn: None,
        };
        Trouble { failure, kind: Kind::Held(later(now, LOOK_EVERY)) }
    }

    async fn ask_whether_set_back(self: &Arc<Self>) -> Result<Known, NotTold> {
        let (notes, name) = (self.means.store.set_back_notes(), self.settings.name.clone());
        let read = seams::blocking(move || notes.read(&name)).await;
        let read = read.map_err(|error| Trouble::store(&error, self.means.now()))?;
        if let Some((note, released)) = read {
            return Ok(Known::Yes { note, released });
        }
        let Some(since) = self.means.store.changed_before() else { return Ok(Known::No) };
        let mut before = None;
        for _ in 0..MAX_PAGES {
            let looked = match self.look(earlier(since, MARGIN), before, false).await {
                Err(NotTold::Altinn(error)) if error.trouble() == broker::Trouble::Rights => {
                    warn!(
                        route = self.settings.name.as_str(),
                        code = error.code(),
                        "we may not search, so that nobody can tell whether the state was set back in time"
                    );
                    return Ok(Known::No);
                }
                looked => looked?,
            };
            if !looked.unremembered.is_empty() {
                let note = SetBackNote {
                    since,
                    noticed: self.means.now(),
                    complete: false,
                    // All are looked at once more, the oldest first.
                    transfers: Vec::new(),
                };
                self.note_set_back(&note, false).await?;
                let failure =
                    self.held(&SetBackNote { transfers: looked.unremembered, ..note.clone() }).failure;
                error!(route = self.settings.name.as_str(), code = %failure.code, reason = %failure.message, remedy = %failure.remedy, "outbox held: somebody must act");
                return Ok(Known::Yes { note, released: false });
            }
            if looked.is_last || looked.oldest.is_none() || looked.oldest == before {
                return Ok(Known::No);
            }
            before = looked.oldest;
        }
        info!(
            route = self.settings.name.as_str(),
            "only the newest transfers at Altinn were held against the state"
        );
        Ok(Known::No)
    }

    /// Looks at the next page of what is not remembered, until all is noted; and whether the outbox was released.
    async fn go_on_noting(
        self: &Arc<Self>,
        note: &mut SetBackNote,
        released: &mut bool,
    ) -> Result<(), Trouble> {
        while !note.complete {
            let from = note.transfers.last().and_then(|last| last.created);
            let from = from.unwrap_or_else(|| earlier(note.since, MARGIN));
            let looked = self.look_from(from).await.map_err(|error| error.into_trouble(self))?;
            let before = note.transfers.len();
            for found in looked.unremembered {
                if !note.transfers.iter().any(|noted| noted.id == found.id) {
                    note.transfers.push(found);
                }
            }
            note.complete =
                looked.is_last || note.transfers.len() >= MAX_NOTED || note.transfers.len() == before;
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
        Ok(())
    }

    /// Everything of ours since a moment that is not remembered, over pages that hold none of it.
    async fn look_from(self: &Arc<Self>, from: Timestamp) -> Result<Looked, NotTold> {
        let mut from = from;
        loop {
            let looked = self.look(from, Some(later(self.means.server_now(), MARGIN)), true).await?;
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
    async fn look(&self, from: Timestamp, to: Option<Timestamp>, ascending: bool) -> Result<Looked, NotTold> {
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
                Err(error) if super::initialize::is_about_one(error.trouble()) => continue,
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
        let begun = overview.published.is_some() || overview.status != Status::Initialized;
        match self.means.store.get(ours).await {
            // Answers get lost, and the transfers they were about stay without bytes.
            Ok(Some(_)) if !begun => return Ok(None),
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
        let Work::Outgoing { claim, abandoned, progress: Outgoing::Described { dispatch }, .. } =
            &transfer.work
        else {
            return Ok(None);
        };
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
            OutgoingEvent::DescriptionOutdated,
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

/// Whether Altinn has answered, and made no sense: an outage says nothing about searching.
fn is_about_searching(error: &NotTold) -> bool {
    matches!(error, NotTold::Altinn(error) if matches!(error.trouble(), broker::Trouble::Server | broker::Trouble::Protocol))
}

/// The id of ours in a reference, which may stand in the midst of other text.
fn own_id(reference: &str, is_own: impl Fn(TransferId) -> bool) -> Option<TransferId> {
    const LENGTH: usize = 36;
    let ids =
        reference.as_bytes().windows(LENGTH).filter_map(|part| std::str::from_utf8(part).ok()?.parse().ok());
    ids.into_iter().find(|id| is_own(*id))
}

/// Whether Altinn was told the same of a file, but for the reference.
fn is_equal(found: &Unremembered, dispatch: &Dispatch) -> bool {
    found.file_name == dispatch.file_name.as_str()
        && found.md5 == Some(dispatch.md5)
        && found.recipients == dispatch.recipients
        && found.properties == dispatch.properties
}

/// Whether a file was there, as it is, before the transfer was made: one that was written since is another.
fn is_older(modified_ns: i64, created: Option<Timestamp>) -> bool {
    let modified = Timestamp::from_nanosecond(i128::from(modified_ns));
    matches!((modified, created), (Ok(modified), Some(created)) if modified <= created)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transfer::samples::{at, broker_id, dispatch};

    #[test]
    fn ours_is_found_within_a_reference() {
        let id: TransferId = "01a20052-d934-7c77-9c84-5e364830abb5".parse().unwrap();
        for reference in [format!("{id}"), format!("{id}.2"), format!("øre-{id}"), format!("{id}{id}")] {
            assert_eq!(own_id(&reference, |found| found == id), Some(id), "{reference}");
        }
        for reference in ["", "2026/17", &id.to_string().split_off(1), "øøøøøøøøøøøøøøøøøøøøøøøø"]
        {
            assert_eq!(own_id(reference, |_| true), None, "{reference}");
        }
        assert_eq!(own_id(&id.to_string(), |_| false), None);
    }

    #[test]
    fn only_a_file_that_is_equal_and_older_goes_on_with_what_altinn_has() {
        let dispatch = dispatch();
        let found = Unremembered {
            id: broker_id(1),
            reference: "other".to_owned(),
            file_name: dispatch.file_name.as_str().to_owned(),
            md5: Some(dispatch.md5),
            recipients: dispatch.recipients.clone(),
            properties: dispatch.properties.clone(),
            created: Some(at(0)),
            begun: true,
            taken_by: None,
        };
        assert!(is_equal(&found, &dispatch));
        let others = [
            Unremembered { file_name: "b.pdf".to_owned(), ..found.clone() },
            Unremembered { md5: None, ..found.clone() },
            Unremembered { recipients: vec![dispatch.sender], ..found.clone() },
            Unremembered { properties: [].into(), ..found.clone() },
        ];
        assert!(others.iter().all(|other| !is_equal(other, &dispatch)));
        let ns = |time: Timestamp| i64::try_from(time.as_nanosecond()).unwrap();
        assert!(is_older(ns(at(-1)), Some(at(0))) && is_older(ns(at(0)), Some(at(0))));
        assert!(!is_older(ns(at(1)), Some(at(0))) && !is_older(ns(at(-1)), None));
    }
}
