//! What is done at start and now and then: transfers that nobody works on are told of, old months of the journal
//! deleted, what is active exported, and the ballast kept.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::config;
use crate::identity::Skew;
use crate::route::{Trouble, text_for_people};
use crate::seams::{self, Clock};
use crate::store::{Ballast, Store, newest_export};
use crate::transfer::RouteName;

/// How often it is looked whether a month has grown old.
const EVERY: Duration = Duration::from_hours(1);

/// How often it is looked how much room the disk has.
const LOOK_FOR_ROOM_EVERY: Duration = Duration::from_secs(5);
/// An export that failed is made anew after so long.
const EXPORT_AGAIN_AFTER: Duration = Duration::from_mins(5);

/// The part that tidies up.
#[derive(Debug)]
pub(super) struct Housekeeping {
    pub(super) store: Store,
    pub(super) skew: Arc<Skew>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) settings: config::State,
    pub(super) ballast: Ballast,
    pub(super) routes: BTreeSet<RouteName>,
}

impl Housekeeping {
    /// Tidies until `stop`. Nothing is deleted for its age before a server has agreed with our clock.
    pub(super) async fn run(self, stop: CancellationToken) -> Result<(), Trouble> {
        self.report_forgotten_routes();
        let work = async {
            // A simulated state lies in memory, on no disk.
            if seams::is_simulated() {
                return self.prune().await;
            }
            tokio::join!(self.prune(), self.watch_room(), self.export());
        };
        let read = async {
            match self.read_through(&stop).await {
                Ok(()) => std::future::pending().await,
                Err(trouble) => trouble,
            }
        };
        tokio::select! {
            () = stop.cancelled() => Ok(()),
            // Each may have nothing to do.
            () = async { work.await; stop.cancelled().await } => Ok(()),
            trouble = read => Err(trouble),
        }
    }

    /// Looks at all records, where there are too many to do so before the start. Damage stops the service: the next start
    /// reads all of it first, and repairs it if it can.
    async fn read_through(&self, stop: &CancellationToken) -> Result<(), Trouble> {
        let (store, stop) = (self.store.clone(), stop.clone());
        let read = seams::blocking(move || {
            store.read_through(&|| !stop.is_cancelled(), &mut |record| {
                error!(key = %record.key, reason = %record.reason, "a record in the state store cannot be read: it is kept, and its transfer waits");
            })
        });
        read.await.map_err(|error| Trouble::store(&error, self.clock.now()))
    }

    async fn prune(&self) {
        // Where history is kept for ever, there is nothing to do.
        let Some(keep) = self.settings.keep_history.limit() else { return };
        loop {
            tokio::time::sleep(EVERY).await;
            if !self.skew.is_confirmed() {
                continue;
            }
            let store = self.store.clone();
            match seams::blocking(move || store.prune_journal(keep)).await {
                Ok(0) => {}
                Ok(months) => info!(months, "old history deleted, as state.keep_history says"),
                Err(error) => warn!(error = %text_for_people(&error), "old history cannot be deleted"),
            }
        }
    }

    /// Keeps the ballast, and says when there is no room for new work.
    async fn watch_room(&self) {
        let mut before = true;
        loop {
            let ballast = self.ballast.clone();
            let has_room = match seams::blocking(move || ballast.look_after()).await {
                Ok(has_room) => has_room,
                Err(error) => {
                    warn!(error = %text_for_people(&error), "cannot see how much room the state has");
                    before
                }
            };
            self.store.set_has_room(has_room);
            let state = &self.settings.path;
            if before && !has_room {
                error!(
                    ?state,
                    code = "state_disk_full",
                    "the disk of the state is nearly full: nothing new is begun, and what was begun goes on. Make room: see state.min_free_space and state.ballast"
                );
            } else if has_room && !before {
                info!(?state, "the disk of the state has room again: going on");
            }
            before = has_room;
            tokio::select! {
                () = tokio::time::sleep(LOOK_FOR_ROOM_EVERY) => {}
                () = self.store.lacks_room() => {}
            }
        }
    }

    /// Exports what is active, now and then: also where the service is started anew more often than that.
    async fn export(&self) {
        let Some(every) = self.settings.export_every else { return };
        let keep = self.settings.keep_exports;
        let state = self.settings.path.clone();
        let newest = seams::blocking(move || newest_export(&state)).await;
        let age = newest.map(|(_, time)| self.clock.now().duration_since(time).unsigned_abs());
        let mut wait = every.saturating_sub(age.unwrap_or_default());
        loop {
            tokio::time::sleep(wait).await;
            let (store, state) = (self.store.clone(), self.settings.path.clone());
            wait = match seams::blocking(move || store.export_by_itself(&state, keep)).await {
                Ok((path, exported)) => {
                    debug!(?path, records = exported.records, "exported");
                    for left in exported.left_out {
                        warn!(key = %left.key, reason = %left.reason, "not in the export, since it cannot be read");
                    }
                    every
                }
                Err(error) => {
                    warn!(error = %text_for_people(&error), "cannot export the state: trying again");
                    every.min(EXPORT_AGAIN_AFTER)
                }
            };
        }
    }

    /// Tells of transfers whose route is no longer in the configuration: nobody works on them.
    fn report_forgotten_routes(&self) {
        let counts = self.store.counts().into_iter();
        let forgotten = counts.filter(|(route, count)| *count > 0 && !self.routes.contains(route));
        for (route, transfers) in forgotten {
            error!(
                route = route.as_str(),
                transfers,
                "transfers wait for a route that the configuration does not have: put it back until they are done"
            );
        }
    }
}
