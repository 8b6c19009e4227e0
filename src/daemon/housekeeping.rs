//! What is done now and then: old months of the journal are deleted.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::identity::Skew;
use crate::route::{Trouble, text_for_people};
use crate::seams;
use crate::store::Store;

/// How often it is looked whether a month has grown old.
const EVERY: Duration = Duration::from_hours(1);

/// The part that tidies up.
#[derive(Debug)]
pub(super) struct Housekeeping {
    pub(super) store: Store,
    pub(super) skew: Arc<Skew>,
    pub(super) keep_history: Duration,
}

impl Housekeeping {
    /// Tidies until `stop`. Nothing is deleted for its age before a server has agreed with our clock.
    pub(super) async fn run(self, stop: CancellationToken) -> Result<(), Trouble> {
        while !stop.is_cancelled() {
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(EVERY) => {}
            }
            if self.skew.is_confirmed() {
                let (store, keep) = (self.store.clone(), self.keep_history);
                match seams::blocking(move || store.prune_journal(keep)).await {
                    Ok(0) => {}
                    Ok(months) => info!(months, "old history deleted, as state.keep_history says"),
                    Err(error) => warn!(error = ?text_for_people(&error), "old history cannot be deleted"),
                }
            }
        }
        Ok(())
    }
}
