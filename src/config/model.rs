//! The checked configuration: what is here has been read, parsed and found to fit together. Nothing is optional
//! that has a default, and nothing has to be parsed again.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::choice::choice;
use super::routes::{Inbox, Keep, Outbox};
use super::secret::Secret;
use crate::transfer::{ClientName, IdentityName, OrgNumber, RouteName};

/// The whole configuration of one installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `[altinn]`: which Altinn is spoken to.
    pub altinn: Altinn,
    /// `[client.NAME]`: the Maskinporten clients; Altinn's rate limits hang on them.
    pub clients: BTreeMap<ClientName, Client>,
    /// `[identity.NAME]`: the organisations that are acted for.
    pub identities: BTreeMap<IdentityName, Identity>,
    /// `[outbox.NAME]`: the folders that are sent from.
    pub outboxes: BTreeMap<RouteName, Outbox>,
    /// `[inbox.NAME]`: the folders that are received to.
    pub inboxes: BTreeMap<RouteName, Inbox>,
    /// `[state]`: where the service keeps what it knows.
    pub state: State,
    /// `[http]`: how the network is reached.
    pub http: Http,
    /// `[retry]`: how trouble that passes is waited out.
    pub retry: Retry,
    /// `[limits]`: how much is done at once.
    pub limits: Limits,
    /// `[hooks]`: where the programs of `on_received` run.
    pub hooks: Hooks,
    /// `[telemetry]`: what is logged.
    pub telemetry: Telemetry,
}

choice! {
    /// An environment of Altinn.
    Environment {
        /// Altinn's test environment, with Maskinporten's test environment.
        Tt02 = "tt02",
        /// The real thing.
        Production = "production",
        /// A local Altinn; its addresses are given one by one.
        Sandbox = "sandbox",
    }
}

/// `[altinn]`: which Altinn is spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Altinn {
    /// The environment. No default: nobody should send to production by forgetting a line.
    pub environment: Environment,
    /// Where Altinn's platform answers. Default: as the environment implies.
    pub platform_url: Url,
    /// Where Maskinporten hands out tokens. Default: as the environment implies.
    pub maskinporten_token_url: Url,
    /// The `aud` of a grant; Maskinporten compares it to the letter, with the last slash. Default: as the
    /// environment implies.
    pub maskinporten_audience: String,
    /// Sent as `Ocp-Apim-Subscription-Key` when set. Altinn does not demand one any more.
    pub subscription_key: Option<Secret<String>>,
}

/// `[client.NAME]`: a client that is registered with Maskinporten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// The name of its table.
    pub name: ClientName,
    /// The id that Maskinporten gave it.
    pub client_id: String,
    /// What it proves itself with.
    pub credential: ClientCredential,
    /// Searches a minute, for all routes of this client together; at least 1. Default 9: a little under Altinn's 10.
    pub searches_per_minute: u32,
    /// Look-ups of details a minute; at least 1. Default 9: a little under Altinn's 10.
    pub details_per_minute: u32,
    /// All other calls a minute; at least 1. Default 110: a little under Altinn's 120.
    pub calls_per_minute: u32,
}

/// The key of a Maskinporten client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCredential {
    /// The private key: PEM (PKCS#1 or PKCS#8) or a private JWK, as text. Not parsed yet.
    pub private_key: Secret<String>,
    /// How a grant tells Maskinporten which key has signed it.
    pub naming: KeyNaming,
}

/// How a grant tells which key has signed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyNaming {
    /// The key is registered on the client; the grant's header carries its `kid`.
    KeyId(String),
    /// The key belongs to a business certificate; the grant's header carries the chain (`x5c`), here as PEM text.
    CertificateChain(Secret<String>),
}

/// `[identity.NAME]`: an organisation that is acted for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The name of its table.
    pub name: IdentityName,
    /// The organisation.
    pub organization: OrgNumber,
    /// The Maskinporten client that acts for it. Default `default`.
    pub client: ClientName,
    /// Whether a system-user token of the organisation is asked for. Default true; false where the client
    /// belongs to the organisation itself and uses no system user.
    pub system_user: bool,
    /// `externalRef` of the system user, where a system has several for one organisation.
    pub system_user_reference: Option<String>,
}

/// `[state]`: where the service keeps what it knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// An absolute path. Default `/var/lib/formidlingd`.
    pub path: PathBuf,
    /// How long what is finished can be looked up; never [`Keep::Unsaid`]. Default 400 days.
    pub keep_history: Keep,
    /// How often what is active is exported to `export/` in the state directory; `None` where never. Default: 1 hour.
    pub export_every: Option<Duration>,
    /// How many of those exports are kept; at least 1. Default 5.
    pub keep_exports: usize,
    /// The bytes of the file that is given up when the disk is full. Default: 64 MiB, or a sixteenth of the file system,
    /// whichever is less.
    pub ballast: Option<u64>,
    /// Below so many free bytes no new work is begun. Default: as for the ballast.
    pub min_free_space: Option<u64>,
}

/// `[http]`: how the network is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    /// The proxy. Default: none. Loopback addresses are never reached through one.
    pub proxy: Proxy,
    /// `user:password` for the proxy.
    pub proxy_credentials: Option<Secret<String>>,
    /// Hosts that are reached without the proxy. Default: none.
    pub no_proxy: Vec<String>,
    /// A PEM file of further certificate authorities to trust. An absolute path; it existed when it was read.
    pub ca_file: Option<PathBuf>,
    /// How long a connection may take to be made. Default 10 seconds.
    pub connect_timeout: Duration,
    /// How long a connection may be silent before it counts as broken. Default 60 seconds.
    pub idle_timeout: Duration,
}

/// Which proxy is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proxy {
    /// None, whatever the environment says.
    None,
    /// The one that `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` name.
    Environment,
    /// This one. The address carries no user and no password.
    Url(Url),
}

/// `[retry]`: how trouble that passes is waited out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// The first wait. Default 1 second.
    pub initial: Duration,
    /// The longest wait; never shorter than `initial`. Default 5 minutes.
    pub max: Duration,
    /// After how long a file that meets nothing but trouble has failed. Default 7 days.
    pub give_up_after: Duration,
    /// How long an upload whose connection broke is left alone before Altinn is asked what became of it and
    /// bytes are sent again. Default 2 minutes.
    pub cut_upload_wait: Duration,
    /// How long a lost answer to *initialize* is searched for before it may be repeated. Default 1 minute.
    pub settle_initialize: Duration,
    /// How long what Altinn has stored of a resumable upload may stand still behind what it has accepted, before the
    /// upload is given up. Default 5 minutes.
    pub wedged_after: Duration,
    /// How often one call looks whether a host that does not answer is there again. Default 1 minute.
    pub probe_every: Duration,
}

/// `[limits]`: how much is done at once, over all routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Uploads at once; at least 1. Default 8.
    pub uploads: usize,
    /// Downloads at once; at least 1. Default 8.
    pub downloads: usize,
}

/// `[hooks]`: where the programs of `on_received` run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hooks {
    /// The socket of the hook service: an absolute path that fits the address of a Unix socket. Default: none,
    /// which means that programs run as children of the service.
    pub socket: Option<PathBuf>,
}

/// `[telemetry]`: what is logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Telemetry {
    /// The form of a log line. Default text.
    pub log_format: LogFormat,
    /// What is logged: a level such as `info`, or directives such as `info,formidlingd::outbox=debug`. It has been
    /// parsed once and is known to be good. Default `info`.
    pub log_level: String,
    /// How names of files and paths show in the log. Default full.
    pub log_file_names: LogFileNames,
}

choice! {
    /// How names of files and paths show in the log.
    LogFileNames {
        /// As they are, but for national identity numbers.
        Full = "full",
        /// Not at all.
        Masked = "masked",
    }
}

choice! {
    /// The form of a log line.
    LogFormat {
        /// For people: time, level, message and fields.
        Text = "text",
        /// One JSON object a line.
        Json = "json",
        /// For the journal: a priority prefix and no time, since the journal has its own.
        Journald = "journald",
    }
}
