//! Everything that is remembered, held against itself and against what lies in the folders.

use crate::config::Config;
use crate::store::{Error, Finding, Store, Verified};
use crate::{inbox, outbox};

/// Reads all and tells each thing that does not fit; how much was read. Changes nothing. Blocks.
pub fn verify(config: &Config, store: &Store, tell: &mut dyn FnMut(Finding)) -> Result<Verified, Error> {
    let verified = store.verify(tell)?;
    for settings in config.outboxes.values() {
        outbox::verify(settings, store, tell)?;
    }
    for settings in config.inboxes.values() {
        inbox::verify(settings, store, tell)?;
    }
    let routes = config.outboxes.keys().chain(config.inboxes.keys()).collect::<Vec<_>>();
    for (route, transfers) in store.counts() {
        if transfers > 0 && !routes.contains(&&route) {
            tell(Finding {
                subject: format!("route {route}"),
                problem: format!(
                    "{transfers} transfers are under way on it, and the configuration does not have it"
                ),
                remedy: "put it back until they are done; or is this the state of another installation?",
            });
        }
    }
    Ok(verified)
}
