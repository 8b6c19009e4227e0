//! What can be set about HTTP.

use std::time::Duration;

use url::Url;

use super::Secret;

/// How HTTP clients are made.
#[derive(Debug, Clone)]
pub struct Settings {
    /// By which proxy, if any. This machine itself is never reached by a proxy.
    pub proxy: Proxy,
    /// Hosts, domains and networks that are reached without the proxy of [`Proxy::Url`].
    pub no_proxy: Vec<String>,
    /// Certificates (PEM) to trust besides those of the operating system.
    pub ca_file: Option<Vec<u8>>,
    /// How long making a connection may take.
    pub connect_timeout: Duration,
    /// How long a body may stand still, in either direction.
    pub idle_timeout: Duration,
    /// How long a small call may take, all in all. Altinn's own gateways give up at about 100 seconds.
    pub call_timeout: Duration,
    /// How long the answer to an upload may take after its last byte.
    pub answer_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            proxy: Proxy::None,
            no_proxy: Vec::new(),
            ca_file: None,
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_mins(1),
            call_timeout: Duration::from_secs(100),
            // Altinn answers when the whole file is stored, and may have 96 MiB yet to store.
            answer_timeout: Duration::from_mins(5),
        }
    }
}

/// Which proxy requests go by.
#[derive(Debug, Clone, Default)]
pub enum Proxy {
    /// None, whatever the environment says.
    #[default]
    None,
    /// The one that `HTTPS_PROXY` and its kin name.
    Environment,
    /// This one.
    Url {
        /// Its address. A user and password in it are taken as credentials.
        url: Url,
        /// How to log in to it.
        credentials: Option<Credentials>,
    },
}

/// A user and a password, for a proxy.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The user.
    pub user: String,
    /// The password.
    pub password: Secret,
}
