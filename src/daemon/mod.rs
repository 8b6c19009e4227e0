//! Puts the parts together, supervises them, and stops them in order.
//!
//! [`preflight()`] finds everything that would keep the service from running, without touching the network or
//! changing anything; [`Service::assemble`] builds the parts; [`Service::run`] runs them until it is told to stop.
//! A part that ends early, fails or panics stops the service loudly: systemd starts it again, and what was begun
//! is finished then.

mod assemble;
mod housekeeping;
mod preflight;
mod shutdown;
mod verify;

#[cfg(debug_assertions)]
pub use assemble::Simulated;
pub use assemble::{Service, Surroundings};
pub use preflight::{FolderFacts, Preflight, preflight};
pub use shutdown::{Shutdown, Signals};
pub use verify::verify;

use std::path::PathBuf;

use crate::transfer::IdentityName;
use crate::{http, identity, pace, store};

/// Why the service does not run, or not any more.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// HTTP clients cannot be made.
    #[error("cannot prepare HTTP")]
    Http(#[source] http::Error),
    /// An identity cannot be used.
    #[error("cannot use identity {name}")]
    Identity {
        /// The identity.
        name: String,
        /// Why.
        #[source]
        source: identity::Error,
    },
    /// A route names an identity that there is not.
    #[error("there is no identity {0}")]
    UnknownIdentity(IdentityName),
    /// The waits between attempts make no sense.
    #[error("cannot use [retry]")]
    Retry(#[source] pace::Error),
    /// The state store cannot be opened.
    #[error("cannot open the state in {path}", path = path.display())]
    Store {
        /// The state directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: store::Error,
    },
    /// Nobody could stop the service.
    #[error("cannot catch signals")]
    Signals(#[source] std::io::Error),
    /// Parts ended that never should.
    #[error("the service stopped because a part of it failed; the log says which and why")]
    PartFailed,
}

impl Error {
    /// Whether it is that the disk of the state is full, which passes.
    #[must_use]
    pub fn is_full_disk(&self) -> bool {
        matches!(self, Self::Store { source, .. } if source.is_full())
    }

    /// What to do.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::Http(error) => error.remedy(),
            Self::Identity { source, .. } => source.remedy(),
            Self::UnknownIdentity(name) => format!("add [identity.{name}] to the configuration"),
            Self::Retry(error) => error.remedy(),
            Self::Store { path, source } => store::remedy_in(path, source),
            Self::Signals(_) => "see what the system says".to_owned(),
            Self::PartFailed => "start it again; what was begun is finished then".to_owned(),
        }
    }
}
