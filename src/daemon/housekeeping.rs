//! What is done at start and now and then: transfers that nobody works on are told of, and old months of the
//! journal deleted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::identity::Skew;
use crate::route::{Trouble, text_for_people};
use crate::seams;
use crate::store::Store;
use crate::transfer::RouteName;

/// Records looked at in one go.
const PAGE: usize = 256;
/// How often it is looked whether a month has grown old.
const EVERY: Duration = Duration::from_hours(1);

/// The part that tidies up.
#[derive(Debug)]
pub(super) struct Housekeeping {
    pub(super) store: Store,
    pub(super) skew: Arc<Skew>,
    /// `None` where history is kept for ever.
    pub(super) keep_history: Option<Duration>,
    pub(super) routes: BTreeSet<RouteName>,
}

impl Housekeeping {
    /// Tidies until `stop`. Nothing is deleted for its age before a server has agreed with our clock.
    pub(super) async fn run(self, stop: CancellationToken) -> Result<(), Trouble> {
        self.report_forgotten_routes().await;
        while !stop.is_cancelled() {
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(EVERY) => {}
            }
            if let Some(keep) = self.keep_history
                && self.skew.is_confirmed()
            {
                let store = self.store.clone();
                match seams::blocking(move || store.prune_journal(keep)).await {
                    Ok(0) => {}
                    Ok(months) => info!(months, "old history deleted, as state.keep_history says"),
                    Err(error) => warn!(error = %text_for_people(&error), "old history cannot be deleted"),
                }
            }
        }
        Ok(())
    }

    /// Tells of transfers whose route is no longer in the configuration: nobody works on them.
    async fn report_forgotten_routes(&self) {
        let mut forgotten: BTreeMap<RouteName, usize> = BTreeMap::new();
        let mut after = None;
        loop {
            let page = match self.store.page(None, after, PAGE).await {
                Ok(page) => page,
                Err(error) => {
                    warn!(error = %text_for_people(&error), "cannot look for transfers without a route");
                    return;
                }
            };
            let Some(last) = page.last() else { break };
            after = Some(last.id);
            for transfer in page.into_iter().filter(|transfer| !self.routes.contains(&transfer.route)) {
                *forgotten.entry(transfer.route).or_default() += 1;
            }
        }
        for (route, transfers) in forgotten {
            error!(
                route = route.as_str(),
                transfers,
                "transfers wait for a route that the configuration does not have: put it back until they are done"
            );
        }
    }
}
