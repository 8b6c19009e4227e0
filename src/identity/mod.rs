//! Who we are: Maskinporten grants, Altinn's exchange of tokens, and a cache that makes one request however
//! many wait.
//!
//! A grant is signed for one scope (the least privilege) and, for a system user, for one organisation;
//! Maskinporten gives a token for it, and Altinn another for that one
//! (docs.altinn.studio: authentication, exchange of tokens). The second is what Formidling sees.
//!
//! What this room must never do: let a key, a grant or a token into a log, an error or a debug print; send a
//! grant twice; ask again and again after a refusal.

mod error;
mod grant;
mod key;
mod refusal;
mod skew;
mod source;
mod token;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use url::Url;

pub use error::{Error, Stage};
pub use key::{KeyNaming, SigningKey, generate_key};
pub use refusal::Refusal;
pub use skew::{Skew, in_words};
pub use token::{AccessToken, Scope};

use crate::http::{Clients, Secret};
use crate::pace::{Backoff, Breaker};
use crate::seams::Clock;
use crate::transfer::{IdentityName, OrgNumber};
use source::Source;
pub(crate) use source::{SUBSCRIPTION_KEY_HEADER, bearer, is_key_gate, sensitive};

/// How long a refusal is believed before one more grant is tried.
pub const SLOW_PROBE: Duration = Duration::from_mins(5);

/// Who to be.
#[derive(Debug, Clone)]
pub struct Parameters {
    /// The name of the identity in the configuration, for messages.
    pub name: IdentityName,
    /// The organisation we act for.
    pub organization: OrgNumber,
    /// The Maskinporten client.
    pub client_id: String,
    /// The key that signs grants.
    pub key: SigningKey,
    /// How the key is named.
    pub naming: KeyNaming,
    /// Whether to ask for a system-user token for `organization`.
    pub system_user: bool,
    /// `externalRef`, where there are several system users.
    pub system_user_reference: Option<String>,
    /// Maskinporten's token endpoint.
    pub token_url: Url,
    /// Maskinporten's issuer, with its closing slash.
    pub audience: String,
    /// Altinn's platform.
    pub platform_url: Url,
    /// Sent to the platform, and to nobody else.
    pub subscription_key: Option<Secret>,
    /// How long a refusal is believed, see [`SLOW_PROBE`].
    pub slow_probe: Duration,
}

/// What an identity works with.
#[derive(Debug, Clone)]
pub struct Means {
    /// The HTTP clients.
    pub clients: Clients,
    /// The wall clock, which a grant is dated by.
    pub clock: Arc<dyn Clock>,
    /// How far that clock is off, as measured.
    pub skew: Arc<Skew>,
    /// The waits while Maskinporten or the exchange is down.
    pub backoff: Backoff,
    /// One for Maskinporten, whoever we are.
    pub issuer: Arc<Breaker>,
    /// One for Altinn's platform, whoever we are: it exchanges tokens, too.
    pub platform: Arc<Breaker>,
}

/// An organisation that we act for, and its tokens.
#[derive(Debug)]
pub struct Identity {
    source: Source,
    backoff: Backoff,
    slow_probe: Duration,
    write: Slot,
    read: Slot,
}

/// The token of one scope.
#[derive(Debug, Default)]
struct Slot {
    /// Held by the one who asks for a token. If it is dropped on the way, the next in line asks.
    asking: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    token: Option<AccessToken>,
    /// How many times somebody has asked and got an answer, good or bad.
    answers: u64,
    /// The latest bad answer, and how long it is believed.
    failure: Option<(Error, Instant)>,
    failures_in_a_row: u32,
    /// When a token was last given back as not taken.
    refused: Option<Instant>,
}

impl Identity {
    /// An identity without a token yet. Nothing is sent.
    pub fn new(parameters: Parameters, means: Means) -> Result<Self, Error> {
        let (backoff, slow_probe) = (means.backoff.clone(), parameters.slow_probe);
        let source = Source::new(parameters, means)?;
        Ok(Self { source, backoff, slow_probe, write: Slot::default(), read: Slot::default() })
    }

    /// Its name in the configuration.
    #[must_use]
    pub fn name(&self) -> &IdentityName {
        self.source.name()
    }

    /// The organisation we act for.
    #[must_use]
    pub fn organization(&self) -> OrgNumber {
        self.source.organization()
    }

    /// What is known of our clock.
    #[must_use]
    pub fn skew(&self) -> &Arc<Skew> {
        self.source.skew()
    }

    /// A token for `scope`, from the cache or new.
    ///
    /// However many ask at once, one request goes out and all get what comes of it. After a refusal the same
    /// error is given without asking, until the slow probe is due; after an outage, until the backoff is over.
    /// May be dropped at any time.
    pub async fn token(&self, scope: Scope) -> Result<AccessToken, Error> {
        let slot = self.slot(scope);
        let came = slot.with(|state| state.answers);
        if let Some(known) = slot.with(|state| state.known()) {
            return known;
        }
        let _asking = slot.asking.lock().await;
        // Whoever asked before us may have an answer by now, and then it is ours too, even if it is a token that
        // is nearly over: it is used once rather than asked for in a loop.
        if let Some(known) =
            slot.with(|state| if state.answers > came { state.latest() } else { state.known() })
        {
            return known;
        }
        let answer = self.source.fetch(scope).await;
        slot.with(|state| state.note(&answer, &self.backoff, self.slow_probe));
        answer
    }

    /// Forgets `token`, which Altinn did not take as a token at all (an empty 401), if it is still the one in
    /// use. The next call of [`Identity::token`] gets a new one. When the new one is not taken either, it is kept
    /// until the slow probe is due: then new tokens do not help, and thousands of transfers would ask for one each.
    pub fn refuse(&self, scope: Scope, token: &AccessToken) {
        self.slot(scope).with(|state| {
            let in_use = state.token.as_ref().is_some_and(|current| current.is(token));
            let just_renewed = state.refused.is_some_and(|at| at.elapsed() < self.slow_probe);
            if in_use && !just_renewed {
                state.token = None;
                state.refused = Some(Instant::now());
            }
        });
    }

    /// Forgets what is remembered of refusals and outages, so that the next call asks at once.
    pub fn forget_failures(&self) {
        for slot in [&self.write, &self.read] {
            slot.with(|state| state.failure = None);
        }
    }

    fn slot(&self, scope: Scope) -> &Slot {
        match scope {
            Scope::BrokerWrite => &self.write,
            Scope::BrokerRead => &self.read,
        }
    }
}

impl Slot {
    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    /// What can be answered without asking.
    fn known(&self) -> Option<Result<AccessToken, Error>> {
        if let Some(token) = self.token.as_ref().filter(|token| token.is_fresh()) {
            return Some(Ok(token.clone()));
        }
        let (error, until) = self.failure.as_ref()?;
        (Instant::now() < *until).then(|| Err(error.clone()))
    }

    /// What the latest question gave.
    fn latest(&self) -> Option<Result<AccessToken, Error>> {
        match &self.failure {
            Some((error, _until)) => Some(Err(error.clone())),
            None => self.token.clone().map(Ok),
        }
    }

    fn note(&mut self, answer: &Result<AccessToken, Error>, backoff: &Backoff, slow_probe: Duration) {
        self.answers += 1;
        match answer {
            Ok(token) => {
                self.token = Some(token.clone());
                self.failure = None;
                self.failures_in_a_row = 0;
            }
            Err(error) => {
                let wait = if error.is_passing() {
                    backoff.delay_after(self.failures_in_a_row, error.retry_after())
                } else {
                    slow_probe
                };
                self.failure = Some((error.clone(), Instant::now() + wait));
                self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
            }
        }
    }
}

#[cfg(test)]
mod tests;
