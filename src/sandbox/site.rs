//! What every part of the sandbox shares, and the notes a request leaves in the ledger.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use jiff::{Timestamp, Unit};
use tokio::task::JoinSet;

use super::Keep;
use super::agenda::Agenda;
use super::blocking::blocking;
use super::broker::depot::Depot;
use super::broker::transfer::Transfer;
use super::broker::tus::store::Desks;
use super::clock::{Clock, later, scale};
use super::events::{Events, Part};
use super::faults::{FaultRules, Faults};
use super::founding;
use super::keys::Key;
use super::ledger::{Entry, Ledger};
use super::limits::{Limits, RateLimits};
use super::world::World;

/// Times and switches that hold for the whole sandbox.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) scan_delay: Duration,
    pub(super) stuck_after: Duration,
    pub(super) interim_commit_after: u64,
    pub(super) time_to_live: Duration,
    pub(super) grace: Duration,
    pub(super) use_virus_scan: bool,
    pub(super) tus_storing_delay: Duration,
    pub(super) finalising_delay: Duration,
    pub(super) tus_expiry: Duration,
    pub(super) tus_wedge: f64,
    pub(super) key_gate: Option<String>,
    pub(super) events_lag: Duration,
    pub(super) events_cache: Duration,
    pub(super) delivery_timeout: Duration,
    pub(super) keep: Keep,
    pub(super) speed: f64,
}

/// The shared state.
pub(super) struct Site {
    pub(super) url: String,
    pub(super) dir: PathBuf,
    pub(super) settings: Settings,
    pub(super) clock: Arc<dyn Clock>,
    world: RwLock<World>,
    /// Held by whoever changes the world, until the change is written down.
    changing: Mutex<()>,
    pub(super) depot: Depot,
    pub(super) tus: Desks,
    pub(super) ledger: Ledger,
    pub(super) agenda: Agenda,
    pub(super) maskinporten: Key,
    pub(super) altinn: Key,
    /// Grants and `jti`s that were used, until they would have expired anyway.
    pub(super) used_grants: Mutex<HashMap<String, i64>>,
    pub(super) events: Events,
    pub(super) faults: Faults,
    pub(super) limits: Limits,
    /// Requests that have come in and are not answered.
    in_flight: AtomicUsize,
    /// What goes on when its request has ended.
    behind: Mutex<JoinSet<()>>,
}

/// What a site is made of.
pub(super) struct Parts {
    pub(super) url: String,
    pub(super) dir: PathBuf,
    pub(super) settings: Settings,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) world: World,
    pub(super) depot: Depot,
    pub(super) events: Events,
    pub(super) tus: Desks,
    pub(super) maskinporten: Key,
    pub(super) altinn: Key,
    pub(super) faults: FaultRules,
    pub(super) rate_limits: RateLimits,
}

impl Site {
    pub(super) fn new(parts: Parts) -> Self {
        Self {
            url: parts.url,
            dir: parts.dir,
            settings: parts.settings,
            faults: Faults::new(Arc::clone(&parts.clock), parts.faults),
            limits: Limits::new(parts.rate_limits),
            clock: parts.clock,
            world: RwLock::new(parts.world),
            changing: Mutex::default(),
            depot: parts.depot,
            tus: parts.tus,
            ledger: Ledger::default(),
            agenda: Agenda::default(),
            maskinporten: parts.maskinporten,
            altinn: parts.altinn,
            used_grants: Mutex::default(),
            events: parts.events,
            in_flight: AtomicUsize::default(),
            behind: Mutex::default(),
        }
    }

    /// The present moment with the precision of the Broker's database, microseconds.
    pub(super) fn now(&self) -> Timestamp {
        let now = self.clock.now();
        let cut = jiff::TimestampRound::new().smallest(Unit::Microsecond).mode(jiff::RoundMode::Trunc);
        now.round(cut).unwrap_or(now)
    }

    /// How many requests are being answered.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// How long something takes that happens by itself and really takes `delay`.
    pub(super) fn scaled(&self, delay: Duration) -> Duration {
        scale(delay, self.settings.speed)
    }

    /// When something happens by itself that really would a `delay` after `moment`.
    pub(super) fn due(&self, moment: Timestamp, delay: Duration) -> Timestamp {
        later(moment, self.scaled(delay))
    }

    /// Maskinporten's issuer; the slash belongs to it.
    pub(super) fn maskinporten_issuer(&self) -> String {
        format!("{}/", self.url)
    }

    /// The issuer of exchanged tokens.
    pub(super) fn altinn_issuer(&self) -> String {
        format!("{}/authentication/api/v1/openid/", self.url)
    }

    /// Looks at the world.
    pub(super) fn look<R>(&self, look: impl FnOnce(&World) -> R) -> R {
        look(&self.world.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the world, and keeps the change for the next start.
    pub(super) async fn change_world<R: Send + 'static>(
        self: &Arc<Self>,
        change: impl FnOnce(&mut World) -> R + Send + 'static,
    ) -> io::Result<R> {
        let site = Arc::clone(self);
        blocking(move || site.change_world_here(change)).await
    }

    /// The same on this thread, which is blocked by it. Who only looks at the world does not wait for the disk.
    pub(super) fn change_world_here<R>(&self, change: impl FnOnce(&mut World) -> R) -> io::Result<R> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let (result, world) = {
            let mut world = self.world.write().unwrap_or_else(PoisonError::into_inner);
            (change(&mut world), world.clone())
        };
        founding::save(&world, &self.dir)?;
        Ok(result)
    }

    /// Sends an event to the sender, while the transfer is changed.
    pub(super) fn tell_sender(&self, kind: &'static str, transfer: &Transfer) {
        self.events.announce(self, kind, Part::Sender, transfer, &transfer.sender);
    }

    /// The same to a recipient (in the form in which it is stored).
    pub(super) fn tell_recipient(&self, kind: &'static str, transfer: &Transfer, recipient: &str) {
        self.events.announce(self, kind, Part::Recipient, transfer, recipient);
    }

    /// Reads the rest of a refused request's body for a while, as Kestrel does after it has
    /// answered: a client that is still writing then gets to see the answer.
    pub(super) fn drain(&self, body: axum::body::Body) {
        self.go_on(async move {
            let reading = async {
                let mut blocks = body.into_data_stream();
                while let Some(Ok(_)) = futures_util::StreamExt::next(&mut blocks).await {}
            };
            // Five seconds: Kestrel's own limit. Running out of time is one of the two good ends.
            tokio::time::timeout(Duration::from_secs(5), reading).await.unwrap_or_default();
        });
    }

    /// Does something that does not end with its request, but with the connection or before.
    pub(super) fn go_on(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut behind = self.behind.lock().unwrap_or_else(PoisonError::into_inner);
        while behind.try_join_next().is_some() {}
        behind.spawn(work);
    }

    /// Resolves when all of that is done.
    pub(super) async fn rest(&self) {
        let behind = std::mem::take(&mut *self.behind.lock().unwrap_or_else(PoisonError::into_inner));
        behind.join_all().await;
    }
}

/// What a request leaves in the ledger; when it is dropped without an answer, the client vanished.
pub(super) struct Note {
    site: Arc<Site>,
    pub(super) entry: Entry,
    /// Whether a rule has struck, so that what is handed over is counted where it leaves.
    pub(super) watched: bool,
    begun: Timestamp,
    written: bool,
}

impl Note {
    pub(super) fn new(site: Arc<Site>, operation: &'static str) -> Self {
        let entry = Entry {
            sequence: 0,
            time: site.now(),
            operation,
            organization: None,
            vendor: None,
            transfer: None,
            status: None,
            effect: None,
            received: 0,
            sent: 0,
            client: None,
            method: String::new(),
            path: String::new(),
            faults: Vec::new(),
            milliseconds: 0,
        };
        site.in_flight.fetch_add(1, Ordering::Relaxed);
        Self { begun: site.clock.now(), site, entry, written: false, watched: false }
    }

    /// Notes what is asked, and by whom; nothing of it is verified.
    pub(super) fn introduce(&mut self, parts: &axum::http::request::Parts) {
        self.entry.method = parts.method.to_string();
        self.entry.path = super::ledger::shown_path(&parts.uri);
        self.entry.client = super::auth::presented(&parts.headers).and_then(|token| token.client);
    }

    /// Writes the entry with what the client gets to see after all, or corrects it; `None` when it
    /// gets no answer.
    pub(super) fn settle(&mut self, status: Option<u16>) {
        self.entry.status = status;
        if !self.written {
            self.write();
            return;
        }
        let milliseconds = self.milliseconds();
        self.site.ledger.amend(self.entry.sequence, |entry| {
            entry.faults.clone_from(&self.entry.faults);
            entry.status = status;
            entry.milliseconds = milliseconds;
        });
    }

    fn milliseconds(&self) -> u64 {
        let taken = self.site.clock.now().duration_since(self.begun).as_millis();
        u64::try_from(taken).unwrap_or_default()
    }

    /// Writes the entry with the answer's status, before the answer goes out; the first call counts.
    pub(super) fn close(&mut self, status: u16) -> u64 {
        if !self.written {
            self.entry.status = Some(status);
            self.write();
        }
        self.entry.sequence
    }

    /// Writes the entry without a status: the client vanished before there was an answer.
    pub(super) fn vanish(&mut self) {
        if !self.written {
            self.write();
        }
    }

    fn write(&mut self) {
        self.written = true;
        self.entry.time = self.site.now();
        self.entry.milliseconds = self.milliseconds();
        self.entry.sequence = self.site.ledger.write(self.entry.clone());
    }
}

impl Drop for Note {
    fn drop(&mut self) {
        self.vanish();
        self.site.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
