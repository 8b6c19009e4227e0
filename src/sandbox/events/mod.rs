//! Altinn Events: subscriptions, delivery and pull.
//!
//! Formidling sends an event (`event.rs`), which is registered (`log.rs`), matched with the
//! subscriptions through the caches, and queued for each (`queue.rs`, `delivery.rs`). Posts that
//! were waiting when the sandbox stopped are lost; subscriptions and events are kept, those that
//! were to be sent late, too.

mod caches;
mod consumer;
mod delivery;
mod event;
mod keeping;
mod log;
mod pull;
mod queue;
mod schedule;
mod subscribe;
mod subscriptions;
mod veil;
mod webhook;

use std::borrow::Cow;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{Response, StatusCode};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::broker::transfer::Transfer;
use super::clock::later;
use super::faults::Quirk;
use super::problem::{Produces, Refusal, answer, platform_problem};
use super::route::Events as Operation;
use super::site::{Note, Site};
use caches::Caches;
use consumer::Caller;
pub(in crate::sandbox) use delivery::Delivery;
pub(super) use event::KINDS;
use event::Notice;
pub use event::{Event, Part};
pub(super) use keeping::flush;
#[cfg(test)]
pub(super) use keeping::save;
use log::Log;
use queue::{Job, Mail, Queue};
use subscriptions::Subscriptions;
use veil::Veils;
use webhook::Webhook;

/// The newest are kept.
const DELIVERIES_KEPT: usize = 100_000;

/// The state of Altinn Events.
pub(super) struct Events {
    log_file: PathBuf,
    list_file: PathBuf,
    log: Mutex<Log>,
    subscriptions: Mutex<Subscriptions>,
    caches: Mutex<Caches>,
    queue: Mutex<Queue>,
    deliveries: Mutex<VecDeque<Delivery>>,
    veils: Mutex<Veils>,
    /// The subscriptions have changed since they were written.
    dirty: Mutex<bool>,
    /// Held by whoever writes a file.
    writing: Arc<tokio::sync::Mutex<()>>,
    webhook: Webhook,
    /// Something was queued.
    queued: Notify,
    /// Something is to be written.
    changed: Notify,
}

impl Events {
    /// Reads what a former sandbox left in `dir`, and the authorities to trust.
    pub(super) fn open(dir: &Path, trust: &[PathBuf]) -> Result<Self, super::Error> {
        let (log_file, list_file) = (dir.join("events.jsonl"), dir.join("subscriptions.json"));
        let failed = |source| super::Error::Directory { path: dir.to_owned(), source };
        Ok(Self {
            log: Mutex::new(Log::read(&log_file).map_err(failed)?),
            subscriptions: Mutex::new(Subscriptions::read(&list_file).map_err(failed)?),
            caches: Mutex::default(),
            queue: Mutex::default(),
            deliveries: Mutex::default(),
            veils: Mutex::default(),
            dirty: Mutex::default(),
            writing: Arc::default(),
            webhook: Webhook::new(trust)?,
            queued: Notify::new(),
            changed: Notify::new(),
            log_file,
            list_file,
        })
    }

    /// Formidling announces something to a party (in the form of its database), while the transfer is
    /// changed: an event implies that the state can be read.
    pub(super) fn announce(
        &self,
        site: &Site,
        kind: &'static str,
        part: Part,
        transfer: &Transfer,
        party: &str,
    ) {
        let notice = Notice::new(kind, part, transfer, party);
        let strikes = |quirk| site.faults.strikes_event(quirk, notice.organization(), kind, transfer.id);
        let now = site.now();
        let after = |wait| later(now, Duration::from_millis(wait));
        if veil::can_hide(kind)
            && let Some(until) = strikes(Quirk::EventEarly).map(after)
        {
            lock(&self.veils).lay(transfer, kind, now, until);
        }
        if strikes(Quirk::EventLost).is_some() {
            return;
        }
        let times = if strikes(Quirk::EventDoubled).is_some() { 2 } else { 1 };
        let late = strikes(Quirk::EventLate).map(after);
        for _ in 0..times {
            match late {
                Some(time) => self.queue(time, Job::Send(notice.clone())),
                None => self.send(site, notice.clone()),
            }
        }
    }

    /// Registers an event, and queues it for whoever has subscribed.
    fn send(&self, site: &Site, notice: Notice) {
        let event = self.register(site, notice);
        let now = site.now();
        let lifetime = site.scaled(site.settings.events_cache);
        let found = lock(&self.caches).subscriptions(
            lifetime,
            now,
            (&event.resource, &event.organization, event.kind),
            || self.subscriptions().matching(site, &event),
        );
        for held in found.iter() {
            if held.is_deaf(now) {
                continue;
            }
            let consumer = &held.subscription.wish.consumer;
            let permitted = lock(&self.caches).right(lifetime, now, (&event.resource, consumer), || {
                let resource = event.resource_on_the_wire();
                consumer::may_subscribe(site, consumer, &resource, Some(&event.subject()))
            });
            let strikes = |quirk| {
                let struck =
                    site.faults.strikes_event(quirk, &event.organization, event.kind, event.transfer);
                struck.is_some()
            };
            if !permitted || strikes(Quirk::DeliveryLost) {
                continue;
            }
            let mail = Mail { held: Arc::clone(held), event: Some(Arc::clone(&event)), attempt: 1 };
            if strikes(Quirk::DeliveryDoubled) {
                self.queue(now, Job::Post(mail.clone()));
            }
            self.queue(now, Job::Post(mail));
        }
    }

    fn register(&self, site: &Site, notice: Notice) -> Arc<Event> {
        let mut log = self.log();
        // What has a higher sequence number must not have an earlier time.
        let event = Arc::new(notice.send(site.now()));
        log.register(&event);
        drop(log);
        self.changed.notify_one();
        event
    }

    /// Registers the events that are still to be sent late: nobody will send them after this.
    pub(super) fn register_late(&self, site: &Site) {
        let late = lock(&self.queue).late();
        for notice in late {
            self.register(site, notice);
        }
    }

    /// A transfer as it can be read: without what an event has told too early.
    pub(super) fn readable<'a>(&self, transfer: &'a Transfer, now: Timestamp) -> Cow<'a, Transfer> {
        lock(&self.veils).through(transfer, now)
    }

    /// The events that were registered, oldest first.
    pub(super) fn registered(&self) -> Vec<Event> {
        self.log().all().map(|event| Event::clone(event)).collect()
    }

    /// The lines of `/_sandbox/events`.
    pub(super) fn shown(&self) -> Vec<impl Serialize + use<>> {
        self.log().all().map(|event| event.shown()).collect()
    }

    /// The lines of `/_sandbox/subscriptions`.
    pub(super) fn shown_subscriptions(&self) -> Vec<impl Serialize + use<>> {
        self.subscriptions().all().cloned().collect()
    }

    /// The lines of `/_sandbox/deliveries`.
    pub(super) fn deliveries(&self) -> Vec<Delivery> {
        lock(&self.deliveries).iter().cloned().collect()
    }

    fn note(&self, delivery: Delivery) {
        let mut deliveries = lock(&self.deliveries);
        if deliveries.len() >= DELIVERIES_KEPT {
            deliveries.pop_front();
        }
        deliveries.push_back(delivery);
    }

    fn validated(&self, subscription: i32) {
        if self.subscriptions().validate(subscription) {
            self.subscriptions_changed();
        }
    }

    fn subscriptions_changed(&self) {
        *self.dirty() = true;
        self.changed.notify_one();
    }

    fn queue(&self, time: Timestamp, job: Job) {
        lock(&self.queue).add(time, job);
        self.queued.notify_one();
    }

    fn due(&self, now: Timestamp) -> (Vec<Notice>, Vec<Mail>, Option<Timestamp>) {
        let mut queue = lock(&self.queue);
        (queue.due(now), queue.startable(), queue.next())
    }

    fn landed(&self, endpoint: &str) {
        lock(&self.queue).landed(endpoint);
    }

    /// Whether everything that is due has been done.
    #[cfg(test)]
    pub(super) fn is_idle(&self, now: Timestamp) -> bool {
        lock(&self.queue).is_idle(now)
    }

    /// The turn of whoever writes a file.
    #[cfg(test)]
    pub(super) fn writing(&self) -> Arc<tokio::sync::Mutex<()>> {
        Arc::clone(&self.writing)
    }

    /// Does something while nobody can look at the subscriptions, which have changed.
    #[cfg(test)]
    pub(super) fn with_subscriptions_held(&self, act: impl FnOnce()) {
        let _held = self.subscriptions();
        *self.dirty() = true;
        act();
    }

    async fn queued(&self) {
        self.queued.notified().await;
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        lock(&self.log)
    }

    fn subscriptions(&self) -> MutexGuard<'_, Subscriptions> {
        lock(&self.subscriptions)
    }

    fn dirty(&self) -> MutexGuard<'_, bool> {
        lock(&self.dirty)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Delivers and keeps, until told to stop.
pub(super) async fn run(site: Arc<Site>, stop: CancellationToken) {
    tokio::join!(delivery::run(&site, &stop), keeping::run(&site, &stop));
}

/// Why a request was not done.
#[derive(Debug)]
enum Denied {
    /// In the way of every endpoint.
    Refused(Refusal),
    /// A JSON string.
    Text(StatusCode, String),
    /// A problem document, 400, with this detail.
    Problem(&'static str),
}

impl From<Refusal> for Denied {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl Denied {
    fn into_response(self, path: &str) -> Response<Body> {
        match self {
            Self::Refused(refusal) => refusal.into_response(Produces::Anything, path),
            Self::Text(status, text) => {
                answer(status, "application/json; charset=utf-8", Value::from(text).to_string())
            }
            Self::Problem(detail) => platform_problem(StatusCode::BAD_REQUEST, Some(detail)),
        }
    }
}

/// Answers a request to Altinn Events.
pub(super) async fn serve(
    site: &Arc<Site>,
    operation: &Operation,
    parts: &Parts,
    body: Body,
    note: &mut Note,
) -> Response<Body> {
    let answered = respond(site, operation, parts, body, note).await;
    answered.unwrap_or_else(|denied| denied.into_response(parts.uri.path()))
}

async fn respond(
    site: &Arc<Site>,
    operation: &Operation,
    parts: &Parts,
    body: Body,
    note: &mut Note,
) -> Result<Response<Body>, Denied> {
    let caller = match Caller::of(site, &parts.headers) {
        Ok(caller) => caller,
        Err(refusal) => {
            site.drain(body);
            return Err(refusal.into());
        }
    };
    note.entry.organization = caller.organization(site);
    note.entry.vendor = caller.vendor();
    if *operation == Operation::Subscribe {
        return subscribe::subscribe(site, &caller, &parts.headers, body, note).await;
    }
    site.drain(body);
    match operation {
        Operation::Subscribe | Operation::Validate => Err(Refusal::Bare(StatusCode::FORBIDDEN).into()),
        Operation::Subscriptions => Ok(subscribe::list(site, &caller)),
        Operation::Subscription(id) => subscribe::show(site, &caller, id),
        Operation::Unsubscribe(id) => subscribe::remove(site, &caller, id, note).await,
        Operation::Pull => pull::pull(site, &caller, &parts.headers, parts.uri.query().unwrap_or_default()),
    }
}
