//! The one place that makes HTTP clients, so that every request goes by the same rules: no redirects (a token
//! follows nobody elsewhere), no cookies, no compression, https except to this machine, no proxy that was not
//! asked for, and a limit on every wait. Bodies have no limit on their whole time, only on standing still.
//!
//! What this room must never do: put a URL, whose query may say too much, into the text of an error.

mod clients;
mod error;
#[cfg(debug_assertions)]
mod network;
mod secret;
mod settings;
mod upload;

pub use clients::{Clients, Purpose, Reply, date, install_crypto_provider, is_loopback, retry_after};
pub use error::{Error, Sent};
#[cfg(debug_assertions)]
pub use network::{Answer, Lost, Network};
pub use secret::Secret;
pub use settings::{Credentials, Proxy, Settings};

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
