//! From the configuration to the parts that run, and their life.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tracing::{error, info, warn};

use super::{Error, Shutdown, housekeeping};
use crate::broker;
use crate::config::{self, Config};
use crate::files;
use crate::http::{self, Clients, Secret};
use crate::identity::{self, Identity, SigningKey, Skew};
use crate::inbox::Inbox;
use crate::outbox::Outbox;
use crate::pace::{Backoff, Breaker, Budget, Limits};
use crate::route::{Means, Trouble, text_for_people};
use crate::seams::{Clock, OsRandom, Random, SteadyClock, SystemClock};
use crate::store::{Ballast, Store};
use crate::transfer::{ClientName, IdentityName};

/// How long parts are given to end what they are doing. systemd's patience (`TimeoutStopSec=`) is longer.
const STOP_DEADLINE: Duration = Duration::from_secs(25);

/// What a service takes from its surroundings, and a test may give it.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Randomness, for ids and jitter.
    pub random: Arc<dyn Random>,
    /// What a simulation has in the place of network and database.
    #[cfg(debug_assertions)]
    pub simulated: Option<Simulated>,
}

impl Surroundings {
    /// The same, with a clock that does not jump. A simulation moves all its clocks itself.
    fn with_steady_clock(&self) -> Self {
        #[cfg(debug_assertions)]
        if self.simulated.is_some() {
            return self.clone();
        }
        Self { clock: Arc::new(SteadyClock::new(Arc::clone(&self.clock))), ..self.clone() }
    }
}

/// What a simulation has in the place of network and database.
#[cfg(debug_assertions)]
#[derive(Debug, Clone)]
pub struct Simulated {
    /// The HTTP clients, which are costly to make.
    pub clients: Clients,
    /// The content of the store.
    pub memory: crate::store::Memory,
}

impl Default for Surroundings {
    fn default() -> Self {
        Self {
            clock: Arc::new(SystemClock),
            random: Arc::new(OsRandom),
            #[cfg(debug_assertions)]
            simulated: None,
        }
    }
}

/// A service that is ready to run.
#[derive(Debug)]
pub struct Service {
    store: Store,
    outboxes: Vec<(String, Outbox)>,
    inboxes: Vec<(String, Inbox)>,
    housekeeping: housekeeping::Housekeeping,
    /// Where calls wait while a host is down.
    breakers: [Arc<Breaker>; 2],
}

impl Service {
    /// Opens the store and the folders, and makes the clients. Touches no network. Blocks.
    pub fn assemble(config: Config, surroundings: &Surroundings) -> Result<Self, Error> {
        let surroundings = &surroundings.with_steady_clock();
        let store = open_store(&config.state, surroundings)?;
        let routes = config.outboxes.keys().chain(config.inboxes.keys()).cloned().collect();
        let shared = Shared::new(&config, store.clone(), surroundings)?;
        let uploads = Arc::new(Semaphore::new(config.limits.uploads));
        let downloads = Arc::new(Semaphore::new(config.limits.downloads));
        let mut outboxes = Vec::new();
        for settings in config.outboxes.into_values() {
            let name = format!("outbox {}", settings.name);
            let (identity, means) = shared.for_route(&settings.identity, &uploads)?;
            outboxes.push((name, Outbox::open(settings, identity, means)));
        }
        let mut inboxes = Vec::new();
        for settings in config.inboxes.into_values() {
            let name = format!("inbox {}", settings.name);
            let (identity, means) = shared.for_route(&settings.identity, &downloads)?;
            inboxes.push((name, Inbox::open(settings, identity, config.hooks.clone(), means)));
        }
        let housekeeping = housekeeping::Housekeeping {
            store: store.clone(),
            skew: Arc::clone(&shared.skew),
            clock: Arc::clone(&surroundings.clock),
            ballast: ballast(&config.state),
            settings: config.state,
            routes,
        };
        Ok(Self { store, outboxes, inboxes, housekeeping, breakers: shared.breakers })
    }

    /// Runs until `shutdown`, or until a part fails.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), Error> {
        let stop = shutdown.soon();
        let mut parts: JoinSet<(String, Result<(), Trouble>)> = JoinSet::new();
        info!(outboxes = self.outboxes.len(), inboxes = self.inboxes.len(), "started");
        for (name, outbox) in self.outboxes {
            let part = outbox.run(stop.clone());
            parts.spawn(async move { (name, part.await) });
        }
        for (name, inbox) in self.inboxes {
            let part = inbox.run(stop.clone());
            parts.spawn(async move { (name, part.await) });
        }
        let part = self.housekeeping.run(stop.clone());
        parts.spawn(async move { ("housekeeping".to_owned(), part.await) });

        let mut outcome = Ok(());
        let deadline = async {
            stop.cancelled().await;
            self.breakers.iter().for_each(|breaker| breaker.end());
            tokio::time::sleep(STOP_DEADLINE).await;
        };
        tokio::pin!(deadline);
        loop {
            let ended = tokio::select! {
                ended = parts.join_next() => ended,
                () = shutdown.now().cancelled() => break,
                () = &mut deadline => {
                    warn!(parts = parts.len(), "some parts did not end in time: what they were doing resumes at the next start");
                    break;
                }
            };
            let Some(ended) = ended else { break };
            if !has_ended_well(ended, stop.is_cancelled()) {
                outcome = Err(Error::PartFailed);
                stop.cancel();
            }
        }
        parts.shutdown().await;
        if let Err(error) = self.store.close().await {
            error!(error = %text_for_people(&error), "the state store did not close in order");
            outcome = Err(Error::PartFailed);
        }
        info!("stopped");
        outcome
    }
}

/// Tells how a part ended; whether that is how it should.
fn has_ended_well(
    ended: Result<(String, Result<(), Trouble>), tokio::task::JoinError>,
    is_stopping: bool,
) -> bool {
    match ended {
        Ok((_, Ok(()))) if is_stopping => return true,
        Ok((part, Ok(()))) => error!(part, "a part ended early"),
        Ok((part, Err(trouble))) => {
            error!(part, code = %trouble.failure.code, error = %trouble.failure.message, remedy = %trouble.failure.remedy, "a part failed");
        }
        Err(panicked) => error!(error = %panicked, "a part panicked"),
    }
    false
}

fn ballast(state: &config::State) -> Ballast {
    Ballast::of(&state.path, state.ballast, state.min_free_space)
}

fn open_store(state: &config::State, surroundings: &Surroundings) -> Result<Store, Error> {
    let failed = |source| Error::Store { path: state.path.clone(), source };
    let (clock, random) = (Arc::clone(&surroundings.clock), Arc::clone(&surroundings.random));
    #[cfg(debug_assertions)]
    if let Some(simulated) = &surroundings.simulated {
        return Store::open_in_memory(&state.path, &simulated.memory, clock, random).map_err(failed);
    }
    let open = || Store::open(&state.path, Arc::clone(&clock), Arc::clone(&random));
    let opened = match open() {
        Err(error) if error.is_full() && ballast(state).give_up().map_err(failed)? => {
            warn!(state = ?state.path, "the disk is full: the ballast was given up, to finish what was begun");
            open().map_err(failed)?
        }
        opened => opened.map_err(failed)?,
    };
    // Before anything is begun.
    let has_room = ballast(state).look_after().map_err(failed)?;
    opened.store.set_has_room(has_room);
    opened.store.keep_floor(ballast(state));
    if let Some(copy) = &opened.repaired {
        warn!(copy = ?copy, "the state store was damaged and has been repaired; the damaged files were kept");
    }
    for record in &opened.unreadable {
        error!(key = %record.key, reason = %record.reason, "a record in the state store cannot be read: it is kept, and its transfer waits");
    }
    Ok(opened.store)
}

/// What routes share.
struct Shared {
    identities: BTreeMap<IdentityName, (config::Identity, broker::Client)>,
    store: Store,
    skew: Arc<Skew>,
    clock: Arc<dyn Clock>,
    backoff: Backoff,
    retry: config::Retry,
    room: Arc<files::Room>,
    breakers: [Arc<Breaker>; 2],
}

impl Shared {
    fn new(config: &Config, store: Store, surroundings: &Surroundings) -> Result<Self, Error> {
        let clients = clients(config, surroundings)?;
        let random = Arc::clone(&surroundings.random);
        let backoff = Backoff::new(config.retry.initial, config.retry.max, random).map_err(Error::Retry)?;
        let skew = Arc::new(Skew::new());
        let budgets: BTreeMap<&ClientName, Arc<Budget>> = config
            .clients
            .iter()
            .map(|(name, client)| (name, Arc::new(Budget::new(limits(client)))))
            .collect();
        let subscription_key = config.altinn.subscription_key.as_ref().map(|key| Secret::new(key.expose()));
        let breaker = |url: &url::Url| {
            let host = url.host_str().unwrap_or_default();
            Arc::new(Breaker::new(host, config.retry.probe_every, Arc::clone(&surroundings.random)))
        };
        let platform = breaker(&config.altinn.platform_url);
        let issuer = breaker(&config.altinn.maskinporten_token_url);
        let mut identities = BTreeMap::new();
        for (name, settings) in &config.identities {
            let (Some(client), Some(budget)) =
                (config.clients.get(&settings.client), budgets.get(&settings.client))
            else {
                // Loading has checked that every identity names a client that there is.
                continue;
            };
            let means = identity::Means {
                clients: clients.clone(),
                clock: Arc::clone(&surroundings.clock),
                skew: Arc::clone(&skew),
                backoff: backoff.clone(),
                issuer: Arc::clone(&issuer),
                platform: Arc::clone(&platform),
            };
            let identity = parameters(config, settings, client)
                .and_then(|parameters| Identity::new(parameters, means))
                .map_err(|source| Error::Identity { name: name.to_string(), source })?;
            let broker = broker::Client::new(broker::Parts {
                platform_url: config.altinn.platform_url.clone(),
                clients: clients.clone(),
                identity: Arc::new(identity),
                budget: Arc::clone(budget),
                breaker: Arc::clone(&platform),
                subscription_key: subscription_key.clone(),
                clock: Arc::clone(&surroundings.clock),
            });
            identities.insert(name.clone(), (settings.clone(), broker));
        }
        let clock = Arc::clone(&surroundings.clock);
        let (retry, room) = (config.retry.clone(), Arc::default());
        Ok(Self { identities, store, skew, clock, backoff, retry, room, breakers: [platform, issuer] })
    }
}

impl Shared {
    /// The identity of a route, and what the route works with.
    fn for_route(
        &self,
        identity: &IdentityName,
        slots: &Arc<Semaphore>,
    ) -> Result<(config::Identity, Means), Error> {
        let (settings, broker) =
            self.identities.get(identity).ok_or_else(|| Error::UnknownIdentity(identity.clone()))?;
        let means = Means {
            store: self.store.clone(),
            broker: broker.clone(),
            clock: Arc::clone(&self.clock),
            skew: Arc::clone(&self.skew),
            backoff: self.backoff.clone(),
            retry: self.retry.clone(),
            slots: Arc::clone(slots),
            room: Arc::clone(&self.room),
        };
        Ok((settings.clone(), means))
    }
}

#[cfg_attr(not(debug_assertions), expect(unused_variables, reason = "a release build simulates nothing"))]
fn clients(config: &Config, surroundings: &Surroundings) -> Result<Clients, Error> {
    #[cfg(debug_assertions)]
    if let Some(simulated) = &surroundings.simulated {
        return Ok(simulated.clients.clone());
    }
    Clients::new(&http_settings(&config.http)).map_err(Error::Http)
}

/// What HTTP clients are made with.
pub(super) fn http_settings(settings: &config::Http) -> http::Settings {
    // Loading has found the file; one that has gone since is one without certificates.
    let ca_file = settings.ca_file.as_deref().map(|path| std::fs::read(path).unwrap_or_default());
    let proxy = match &settings.proxy {
        config::Proxy::None => http::Proxy::None,
        config::Proxy::Environment => http::Proxy::Environment,
        config::Proxy::Url(url) => http::Proxy::Url {
            url: url.clone(),
            credentials: settings.proxy_credentials.as_ref().map(|credentials| {
                let (user, password) =
                    credentials.expose().split_once(':').unwrap_or((credentials.expose(), ""));
                http::Credentials { user: user.to_owned(), password: Secret::new(password) }
            }),
        },
    };
    http::Settings {
        proxy,
        no_proxy: settings.no_proxy.clone(),
        ca_file,
        connect_timeout: settings.connect_timeout,
        idle_timeout: settings.idle_timeout,
        ..http::Settings::default()
    }
}

/// How a client names its key in a grant.
pub(super) fn naming(naming: &config::KeyNaming) -> identity::KeyNaming {
    match naming {
        config::KeyNaming::KeyId(key_id) => identity::KeyNaming::KeyId(key_id.clone()),
        config::KeyNaming::CertificateChain(pem) => {
            identity::KeyNaming::CertificateChain(pem.expose().clone())
        }
    }
}

fn parameters(
    config: &Config,
    identity: &config::Identity,
    client: &config::Client,
) -> Result<identity::Parameters, identity::Error> {
    Ok(identity::Parameters {
        name: identity.name.clone(),
        organization: identity.organization,
        client_id: client.client_id.clone(),
        key: SigningKey::parse(client.credential.private_key.expose())?,
        naming: naming(&client.credential.naming),
        system_user: identity.system_user,
        system_user_reference: identity.system_user_reference.clone(),
        token_url: config.altinn.maskinporten_token_url.clone(),
        audience: config.altinn.maskinporten_audience.clone(),
        platform_url: config.altinn.platform_url.clone(),
        subscription_key: config.altinn.subscription_key.as_ref().map(|key| Secret::new(key.expose())),
        slow_probe: identity::SLOW_PROBE.min(config.retry.max),
    })
}

/// What of Altinn's limits a client may use. Loading has checked that every number is at least one.
fn limits(client: &config::Client) -> Limits {
    let number = |number| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
    Limits {
        searches_per_minute: number(client.searches_per_minute),
        details_per_minute: number(client.details_per_minute),
        calls_per_minute: number(client.calls_per_minute),
    }
}
