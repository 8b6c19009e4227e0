//! A local Altinn to build and test against: Maskinporten, the token exchange and Formidling.
//!
//! It is a reference server, not a mock: strict where the real one is strict, with its status
//! machine, its texts and its peculiarities. It shares no code with the client rooms, so that one
//! cannot flatter the other. It listens on loopback alone and says on every answer that it is not
//! Altinn. One request's way through it is `server.rs`; what happens by itself is `jobs.rs`.

mod agenda;
mod auth;
mod blocking;
mod broker;
mod clock;
mod configuration;
mod draft;
mod events;
mod faults;
mod founding;
mod identity;
mod inspect;
mod keys;
mod ledger;
mod limits;
mod line;
mod listen;
mod media_type;
mod pace;
mod problem;
mod registry;
mod route;
mod server;
mod site;
#[cfg(test)]
mod tests;
mod tls;
mod world;

use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::{CancellationToken, DropGuard};

pub use broker::transfer::{Md5Check, RecipientRow, RecipientStatus, Status, StatusRow, Transfer};
pub use clock::{Clock, ManualClock, SystemClock};
pub use configuration::Role;
pub use events::{Event, Part};
pub use faults::{FaultRules, RuleError};
pub use founding::{Customer, Founded, Vendor};
pub use ledger::{Entry, Filter, Ledger};
pub use limits::RateLimits;
pub use world::{
    Action, Authorization, Client, Delegation, Organization, RegisteredKey, Resource, ScopeDelegation, Stage,
    SystemUser, World,
};

use blocking::start_blocking;
use broker::depot::Depot;
use broker::jobs;
use broker::tus::records;
use broker::tus::store::Desks;
use site::{Parts, Settings, Site};

/// How long requests in flight may take when the sandbox stops.
const STOP_DEADLINE: Duration = Duration::from_secs(5);

/// What a sandbox keeps of the content that it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Keep {
    /// All of it.
    #[default]
    Content,
    /// Size and hash: downloads consist of zeros.
    Hash,
    /// The size alone: a checksum that is given is taken as true, and downloads consist of zeros.
    Size,
}

/// How a sandbox is set up.
#[derive(Clone)]
pub struct Options {
    /// Where to listen; must be loopback.
    pub listen: SocketAddr,
    /// Where keys, transfers and content lie; a temporary directory when absent.
    pub dir: Option<PathBuf>,
    /// How long the malware scan takes.
    pub scan_delay: Duration,
    /// An upload that began longer ago has failed.
    pub stuck_after: Duration,
    /// Blocks of a stream upload that is not scanned are committed for the first time when there are so many bytes.
    ///
    /// After a cut beyond that, no other upload to the transfer succeeds.
    pub interim_commit_after: u64,
    /// How long transfers live, where the resource does not say.
    pub time_to_live: Duration,
    /// How long content is kept after the last confirmation, where the resource does not say.
    pub grace: Duration,
    /// Whether transfers are scanned, unless they say no.
    pub use_virus_scan: bool,
    /// How long after a chunk of a resumable upload was accepted it is stored.
    pub tus_storing_delay: Duration,
    /// How long the content of a resumable upload takes to be joined, and again to be hashed.
    pub finalising_delay: Duration,
    /// How long a resumable upload is remembered after the last request to it.
    pub tus_expiry: Duration,
    /// How probably the bytes of a chunk that was cut are accepted and never stored.
    pub tus_wedge: f64,
    /// Where chance begins; anywhere when absent.
    pub seed: Option<u64>,
    /// The subscription key that is demanded, if one is.
    pub key_gate: Option<String>,
    /// How many customers the system vendor "leverandor" has at least; it is there when there are some.
    pub customers: usize,
    /// Whether to speak TLS, by a certificate authority of the sandbox's own.
    pub tls: bool,
    /// What goes wrong, until other rules are set.
    pub faults: FaultRules,
    /// How many calls a client may make.
    pub rate_limits: RateLimits,
    /// Authorities to trust in pushed events, besides those of the system: PEM files.
    pub trust: Vec<PathBuf>,
    /// How long after its registration an event can be pulled.
    pub events_lag: Duration,
    /// How long Altinn Events remembers which subscriptions and rights there are, and which there are not.
    ///
    /// The real one does for an hour, in which a new subscription can stay silent, a deleted one can be
    /// delivered to, and new or lost rights have no effect. Zero, the default, remembers nothing.
    pub events_cache: Duration,
    /// How long an endpoint may take to answer a pushed event.
    pub delivery_timeout: Duration,
    /// What is kept of the content that comes in.
    pub keep: Keep,
    /// How many times faster than really things happen by themselves (scan, expiry, retries, the forgetting of events …). What is shown as a
    /// moment, and how long tokens live, are not touched by it.
    pub speed: f64,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8090)),
            dir: None,
            scan_delay: Duration::from_millis(200),
            stuck_after: Duration::from_hours(24),
            // A thousand blocks.
            interim_commit_after: 1000 * 32 * 1024 * 1024,
            time_to_live: Duration::from_hours(30 * 24),
            grace: Duration::from_hours(2),
            use_virus_scan: true,
            tus_storing_delay: Duration::from_millis(20),
            finalising_delay: Duration::from_millis(20),
            tus_expiry: Duration::from_hours(24),
            tus_wedge: 1.0,
            seed: None,
            key_gate: None,
            customers: 0,
            tls: false,
            faults: FaultRules::default(),
            rate_limits: RateLimits::default(),
            trust: Vec::new(),
            events_lag: Duration::from_secs(30),
            events_cache: Duration::ZERO,
            delivery_timeout: Duration::from_secs(45),
            keep: Keep::Content,
            speed: 1.0,
            clock: Arc::new(SystemClock),
        }
    }
}

impl Options {
    fn settings(&self) -> Settings {
        Settings {
            scan_delay: self.scan_delay,
            stuck_after: self.stuck_after,
            interim_commit_after: self.interim_commit_after,
            time_to_live: self.time_to_live,
            grace: self.grace,
            use_virus_scan: self.use_virus_scan,
            tus_storing_delay: self.tus_storing_delay,
            finalising_delay: self.finalising_delay,
            tus_expiry: self.tus_expiry,
            tus_wedge: self.tus_wedge,
            key_gate: self.key_gate.clone(),
            events_lag: self.events_lag,
            events_cache: self.events_cache,
            delivery_timeout: self.delivery_timeout,
            keep: self.keep,
            speed: self.speed,
        }
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("listen", &self.listen)
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}

/// Why a sandbox did not start, or does not run any more.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The address would let others in.
    #[error("the sandbox listens on loopback only, not on {0}")]
    NotLoopback(SocketAddr),
    /// The address cannot be had.
    #[error("failed to listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The directory cannot be made, read or written.
    #[error("failed to set up the sandbox's directory {}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file with authorities to trust cannot be read.
    #[error("failed to read certificates from {}", path.display())]
    Trust {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Another sandbox has the directory.
    #[error("the directory {} is in use by another sandbox", .0.display())]
    InUse(PathBuf),
    /// A part ended by itself.
    #[error("the sandbox's {0} ended early")]
    Ended(&'static str),
    /// A part panicked.
    #[error("a part of the sandbox broke off")]
    Broken(#[source] JoinError),
}

/// A running sandbox; when it is dropped, it ends at once.
pub struct Sandbox {
    site: Arc<Site>,
    parties: Vec<Founded>,
    service_owner: Option<Founded>,
    vendor: Option<Vendor>,
    certificate_authority: Option<PathBuf>,
    parts: Mutex<JoinSet<&'static str>>,
    stop: CancellationToken,
    // Dropped in this order: connections end, then the directory goes.
    cut: DropGuard,
    _place: Place,
}

/// The directory of a sandbox.
struct Place {
    dir: PathBuf,
    // Dropped in this order.
    _lock: File,
    _temporary: Option<tempfile::TempDir>,
}

/// What the files in it hold, and where more is written.
struct Stores {
    depot: Depot,
    events: events::Events,
    tus: Desks,
}

/// All that is read or made before a sandbox can listen.
struct Opened {
    place: Place,
    founded: founding::Foundation,
    tls: Option<Arc<rustls::ServerConfig>>,
    stores: Stores,
}

impl std::fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sandbox")
            .field("url", &self.site.url)
            .field("dir", &self.site.dir)
            .finish_non_exhaustive()
    }
}

impl Sandbox {
    /// Listens, reads or makes keys and world, and starts.
    pub async fn start(options: Options) -> Result<Sandbox, Error> {
        if !options.listen.ip().is_loopback() {
            return Err(Error::NotLoopback(options.listen));
        }
        // Whoever was first has decided.
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let Opened { place, founded, tls, stores } = open(&options).await?;
        let Stores { depot, events, tus } = stores;
        let listen = |source| Error::Listen { address: options.listen, source };
        let listener = TcpListener::bind(options.listen).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let site = Arc::new(Site::new(Parts {
            url: format!("{}://{address}", if tls.is_some() { "https" } else { "http" }),
            dir: place.dir.clone(),
            settings: options.settings(),
            clock: options.clock,
            world: founded.world,
            depot,
            events,
            tus,
            maskinporten: founded.maskinporten,
            altinn: founded.altinn,
            faults: options.faults,
            rate_limits: options.rate_limits,
        }));
        jobs::resume(&site);
        let (stop, cut) = (CancellationToken::new(), CancellationToken::new());
        let door = listen::Door::new(listener, tls, cut.clone(), Arc::clone(&site.clock));
        let parts = Mutex::new(parts(&site, door, &stop));
        let cut = cut.drop_guard();
        Ok(Sandbox {
            site,
            parties: founded.parties,
            service_owner: founded.service_owner,
            vendor: founded.vendor,
            certificate_authority: options.tls.then(|| tls::Papers::of(&place.dir).authority()),
            parts,
            stop,
            cut,
            _place: place,
        })
    }

    /// The base address, `http://127.0.0.1:PORT`; `https://…` with TLS.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.site.url
    }

    /// Where keys, transfers and content lie.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.site.dir
    }

    /// Every request.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.site.ledger
    }

    /// Puts these rules in the place of all others.
    pub fn set_faults(&self, rules: FaultRules) {
        self.site.faults.replace(rules);
    }

    /// How many requests are being answered: a test that moves the time does not while there are any.
    #[must_use]
    pub fn requests_in_flight(&self) -> usize {
        self.site.in_flight()
    }

    /// The organisations that act by a client of their own.
    #[must_use]
    pub fn organizations(&self) -> &[Founded] {
        &self.parties
    }

    /// The service owner, to whom the resource belongs.
    #[must_use]
    pub fn service_owner(&self) -> Option<&Founded> {
        self.service_owner.as_ref()
    }

    /// The system vendor with its customers, when there are some.
    #[must_use]
    pub fn vendor(&self) -> Option<&Vendor> {
        self.vendor.as_ref()
    }

    /// The certificate of the authority that a client has to trust, PEM, when the sandbox speaks TLS.
    #[must_use]
    pub fn certificate_authority(&self) -> Option<&Path> {
        self.certificate_authority.as_deref()
    }

    /// The one resource that every sandbox begins with.
    #[must_use]
    pub fn resource(&self) -> &'static str {
        founding::RESOURCE
    }

    /// What is served, by name, with the address of each.
    #[must_use]
    pub fn endpoints(&self) -> Vec<(&'static str, String)> {
        configuration::endpoints(&self.site)
    }

    /// The events that Altinn Events has registered, oldest first.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.site.events.registered()
    }

    /// All transfers, in order of creation.
    #[must_use]
    pub fn transfers(&self) -> Vec<Transfer> {
        self.site.depot.all(|transfer| Some(transfer.clone()))
    }

    /// Looks at the world, or changes it; a change is kept for the next start.
    pub fn world<R>(&self, change: impl FnOnce(&mut World) -> R) -> Result<R, Error> {
        let failed = |source| Error::Directory { path: self.site.dir.clone(), source };
        self.site.change_world_here(change).map_err(failed)
    }

    /// A ready-made formidlingd configuration, with its folders under `base`
    /// ([`Sandbox::folder`] when absent). The folders are not made. Empty for a vendor that is not there.
    #[must_use]
    pub fn configuration(&self, role: Role, base: Option<&Path>) -> String {
        let base = base.map_or_else(|| self.folder(role), Path::to_owned);
        let ends = configuration::Ends {
            site: &self.site,
            parties: &self.parties,
            vendor: self.vendor.as_ref(),
            certificate_authority: self.certificate_authority(),
        };
        configuration::text(&ends, role, &base).unwrap_or_default()
    }

    /// Where a role's folders lie unless another place is asked for.
    #[must_use]
    pub fn folder(&self, role: Role) -> PathBuf {
        role.folder(&self.site.dir)
    }

    /// Resolves when a part has died, which it never should: the owner then stops and says why.
    pub async fn ended(&self) -> Error {
        match self.parts.lock().await.join_next().await {
            Some(Ok(part)) => Error::Ended(part),
            Some(Err(error)) => Error::Broken(error),
            None => Error::Ended("every part"),
        }
    }

    /// Takes no new requests, gives those in flight some seconds, and ends.
    pub async fn stop(self) {
        self.stop.cancel();
        let mut parts = self.parts.into_inner();
        let all = async { while parts.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_DEADLINE, all).await.is_err() {
            tracing::warn!("sandbox: requests in flight were cut off");
        }
        self.site.events.register_late(&self.site);
        events::flush(&self.site).await;
        drop(self.cut);
        if tokio::time::timeout(STOP_DEADLINE, self.site.rest()).await.is_err() {
            tracing::warn!("sandbox: bodies of requests were not read to their end");
        }
        records::flush(&self.site).await;
        // The tasks of cut connections hold the site until they notice.
        tokio::task::yield_now().await;
    }
}

async fn open(options: &Options) -> Result<Opened, Error> {
    let asked = options.dir.clone();
    let place = start_blocking(move || {
        let (dir, temporary) = directory(asked.as_deref())?;
        Ok(Place { _lock: lock(&dir)?, dir, _temporary: temporary })
    });
    let place: Place = place.await.map_err(Error::Broken)??;
    let failed = |source| Error::Directory { path: place.dir.clone(), source };
    let now = options.clock.now();
    let founded = founding::found(&place.dir, now, options.key_gate.as_deref(), options.customers);
    let founded = founded.await.map_err(failed)?;
    let papers = tls::Papers::of(&place.dir);
    let tls = if options.tls { Some(papers.clone().open(now).await.map_err(failed)?) } else { None };
    let mut trust = options.trust.clone();
    // Whoever receives events at a sandbox with TLS may use a certificate by the same authority.
    trust.extend(tls.is_some().then(|| papers.authority()));
    let (dir, seed) = (place.dir.clone(), options.seed);
    let stores = start_blocking(move || {
        let failed = |source| Error::Directory { path: dir.clone(), source };
        let depot = Depot::open(&dir).map_err(failed)?;
        let events = events::Events::open(&dir, &trust)?;
        let tus = Desks::open(&dir, &depot, seed).map_err(failed)?;
        Ok(Stores { depot, events, tus })
    });
    let stores = stores.await.map_err(Error::Broken)??;
    Ok(Opened { place, founded, tls, stores })
}

fn directory(asked: Option<&Path>) -> Result<(PathBuf, Option<tempfile::TempDir>), Error> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Directory { path, source }
    };
    if let Some(dir) = asked {
        fs::create_dir_all(dir).map_err(failed(dir))?;
        let dir = std::path::absolute(dir).map_err(failed(dir))?;
        return Ok((dir, None));
    }
    let made = tempfile::Builder::new().prefix("formidlingd-sandbox-").tempdir();
    let made = made.map_err(failed(&std::env::temp_dir()))?;
    Ok((made.path().to_owned(), Some(made)))
}

/// Two sandboxes with one journal would destroy it.
fn lock(dir: &Path) -> Result<File, Error> {
    let failed = |source| Error::Directory { path: dir.to_owned(), source };
    let file = File::create(dir.join("lock")).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(Error::InUse(dir.to_owned())),
        Err(fs::TryLockError::Error(source)) => Err(failed(source)),
    }
}

fn parts(site: &Arc<Site>, door: listen::Door, stop: &CancellationToken) -> JoinSet<&'static str> {
    let router = Router::new().fallback(server::serve).with_state(Arc::clone(site));
    let mut parts = JoinSet::new();
    let stopped = stop.clone().cancelled_owned();
    parts.spawn(async move {
        let service = router.into_make_service_with_connect_info::<line::Line>();
        if let Err(error) = axum::serve(door, service).with_graceful_shutdown(stopped).await {
            tracing::error!(%error, "sandbox: the server failed");
        }
        "server"
    });
    let jobs = jobs::run(Arc::clone(site), stop.clone());
    parts.spawn(async move {
        jobs.await;
        "jobs"
    });
    let events = events::run(Arc::clone(site), stop.clone());
    parts.spawn(async move {
        events.await;
        "events"
    });
    let records = records::run(Arc::clone(site), stop.clone());
    parts.spawn(async move {
        records.await;
        "records of uploads"
    });
    parts
}
