//! What can go wrong on the way to a server and back.

use std::sync::Arc;
use std::time::Duration;

use crate::transfer::Effect;

/// How much of a request may have left this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Sent {
    /// Nothing: no connection was made.
    Nothing,
    /// Some of it, but provably not the last byte of its body.
    Part,
    /// Perhaps all of it.
    Whole,
}

/// A request that got no answer, or a client that could not be made.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The client could not be made.
    #[error("could not make an HTTP client")]
    Client {
        /// The reason.
        #[source]
        source: Arc<reqwest::Error>,
    },
    /// The file with certificates could not be read as such.
    #[error("the certificates to trust are not in PEM form")]
    Certificates {
        /// The reason, where there is one besides that there are none in it.
        #[source]
        source: Option<Arc<reqwest::Error>>,
    },
    /// The address of the proxy is unusable.
    #[error("the proxy {host:?} cannot be used")]
    Proxy {
        /// The proxy's host.
        host: String,
        /// The reason.
        #[source]
        source: Arc<reqwest::Error>,
    },
    /// An address without https that is not this machine's own.
    #[error("{host:?} is to be reached without https, which is for this machine itself alone")]
    Insecure {
        /// The host.
        host: String,
    },
    /// The request could not be put together.
    #[error("the request to {host} could not be put together")]
    Request {
        /// The host.
        host: String,
        /// The reason.
        #[source]
        source: Arc<reqwest::Error>,
    },
    /// No connection was made, so nothing was sent.
    #[error("no connection to {host}")]
    Connect {
        /// The host.
        host: String,
        /// The reason.
        #[source]
        source: Arc<reqwest::Error>,
    },
    /// The answer took too long.
    #[error("{host} did not answer in time")]
    Timeout {
        /// The host.
        host: String,
        /// How much of the request was sent.
        sent: Sent,
    },
    /// A body stood still for too long.
    #[error("the transfer to {host} stood still for {}", humantime::format_duration(*idle))]
    Stalled {
        /// The host.
        host: String,
        /// For how long.
        idle: Duration,
        /// How much of the request was sent.
        sent: Sent,
    },
    /// The connection broke, or what came over it was not HTTP.
    #[error("the connection to {host} broke")]
    Cut {
        /// The host.
        host: String,
        /// How much of the request was sent.
        sent: Sent,
        /// The reason.
        #[source]
        source: Arc<reqwest::Error>,
    },
    /// What was to be sent could not be read.
    #[error("what was to be sent to {host} could not be read")]
    Source {
        /// The host.
        host: String,
        /// How much of the request was sent.
        sent: Sent,
        /// The reason.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// The answer is larger than any answer of its kind.
    #[error("the answer of {host} is larger than {limit} bytes")]
    TooLarge {
        /// The host.
        host: String,
        /// The limit.
        limit: usize,
    },
}

impl Error {
    /// How much of the request may have left this machine.
    #[must_use]
    pub fn sent(&self) -> Sent {
        match self {
            Self::Client { .. }
            | Self::Certificates { .. }
            | Self::Proxy { .. }
            | Self::Insecure { .. }
            | Self::Request { .. }
            | Self::Connect { .. } => Sent::Nothing,
            Self::Timeout { sent, .. }
            | Self::Stalled { sent, .. }
            | Self::Cut { sent, .. }
            | Self::Source { sent, .. } => *sent,
            Self::TooLarge { .. } => Sent::Whole,
        }
    }

    /// What it has done on the other side, for a request of which nothing else is known.
    #[must_use]
    pub fn effect(&self) -> Effect {
        match self.sent() {
            Sent::Nothing => Effect::None,
            Sent::Part | Sent::Whole => Effect::Unknown,
        }
    }

    /// A short, stable name.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Client { .. } => "http_client",
            Self::Certificates { .. } => "http_certificates",
            Self::Proxy { .. } => "http_proxy",
            Self::Insecure { .. } => "http_insecure",
            Self::Request { .. } => "http_request",
            Self::Connect { .. } => "connect_failed",
            Self::Timeout { .. } => "timeout",
            Self::Stalled { .. } => "stalled",
            Self::Cut { .. } => "connection_broke",
            Self::Source { .. } => "body_unreadable",
            Self::TooLarge { .. } => "answer_too_large",
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::Client { .. } => {
                "check that the system's certificates (package ca-certificates) are installed".into()
            }
            Self::Certificates { .. } => {
                "let http.ca_file name a file with BEGIN CERTIFICATE in it, one block for each certificate".into()
            }
            Self::Proxy { .. } => "write http.proxy as http://host:port".into(),
            Self::Insecure { host } => format!("use https:// for {host}"),
            Self::Request { .. } => "this is a fault in formidlingd: please report it".into(),
            Self::Connect { host, .. } => {
                format!("check the network, DNS, firewall, proxy and trusted certificates on the way to {host}; it is tried again")
            }
            Self::Timeout { .. } | Self::Stalled { .. } | Self::Cut { .. } => {
                "nothing, if it passes; else look for a proxy or firewall that ends connections. It is tried again".into()
            }
            Self::Source { .. } => "see the reason; the file may have been cut short or its disk may be failing".into(),
            Self::TooLarge { host, .. } => format!("check that {host} is Altinn and not another page"),
        }
    }
}
