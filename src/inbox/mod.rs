//! The way in: a file that is sent to us appears in a folder, whole, verified and once, and is then confirmed.
//!
//! [`hear`] asks Altinn what waits, [`download`] fetches it into a private folder and verifies
//! it, [`deliver`] lays it down under its final name, [`confirm`] tells Altinn, and
//! [`notify`] runs the operator's program, or has the service of [`hook`] run it. The [`driver`] takes these steps,
//! one at a time, as the state machine says.

pub mod driver;
pub mod hook;

mod backlog;
mod confirm;
mod damage;
mod deliver;
mod download;
mod fetch;
mod folders;
mod hear;
mod names;
mod notify;
mod probe;
mod quota;
mod recover;
mod verify;

#[cfg(test)]
mod tests;

pub use probe::probe;
pub use verify::verify;

use std::sync::Arc;

use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::config::Layout;
use crate::route::{Hold, Means, Mount, Recovery, Trouble, work_off};
use crate::seams::OsRandom;
use crate::transfer::{Incoming, IncomingEvent, Transfer, Work};
use crate::{config, files};
use backlog::Backlog;
use folders::Folders;
use names::Names;
use quota::Quota;

/// One `[inbox.NAME]`.
#[derive(Debug)]
pub struct Inbox {
    route: Arc<Route>,
}

/// What every step of an inbox works with.
#[derive(Debug)]
struct Route {
    settings: config::Inbox,
    identity: config::Identity,
    hooks: config::Hooks,
    means: Means,
    /// For trouble with fetching and confirming.
    hold: Hold,
    /// For trouble with asking what waits: who may ask need not be allowed to fetch.
    hearing: Hold,
    recovery: Recovery,
    folders: Arc<Mount<Folders>>,
    /// Which names are taken in the inbox.
    names: Arc<Names>,
    /// How much lies in the inbox.
    quota: Arc<Quota>,
    /// Downloads at once, in this route.
    slots: Semaphore,
    /// Transfers that are known and not delivered.
    backlog: Backlog,
    /// Transfers have become due.
    wake: Arc<Notify>,
}

impl Inbox {
    /// Opens the route's folders, making those that are the service's own; where they cannot be opened, the route
    /// waits for them. Blocks.
    #[must_use]
    pub fn open(
        settings: config::Inbox,
        identity: config::Identity,
        hooks: config::Hooks,
        means: Means,
    ) -> Self {
        let names = Arc::new(Names::default());
        let opener = {
            let (settings, names) = (settings.clone(), Arc::clone(&names));
            move |opening| Folders::open(&settings, Arc::clone(&names), opening)
        };
        let prober = {
            let settings = settings.clone();
            move || probe(&settings, &OsRandom)
        };
        let folders = means.mount(&settings.name, &settings.path, opener, prober);
        let hold = Hold::new(settings.name.clone(), means.retry.max);
        let hearing = Hold::new(settings.name.clone(), means.retry.max);
        let recovery = Recovery::new(settings.name.clone());
        let quota = Quota::new(settings.name.clone(), settings.layout, settings.max_waiting);
        let quota = Arc::new(quota);
        let slots = Semaphore::new(settings.max_concurrent);
        let route = Route {
            settings,
            identity,
            hooks,
            means,
            hold,
            hearing,
            recovery,
            folders,
            names,
            quota,
            slots,
            backlog: Backlog::default(),
            wake: Arc::new(Notify::new()),
        };
        Self { route: Arc::new(route) }
    }

    /// Receives what is sent, until `stop`.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Trouble> {
        let (route, folders) = (Arc::clone(&self.route), Arc::clone(&self.route.folders));
        folders.serve(stop.clone(), Box::pin(Self::serve(route, stop))).await
    }

    async fn serve(route: Arc<Route>, stop: CancellationToken) -> Result<(), Trouble> {
        recover::recover(&route).await?;
        let hear = async {
            tokio::select! {
                () = stop.cancelled() => {}
                () = route.recovery.first_done() => {}
            }
            hear::run(Arc::clone(&route), stop.clone()).await
        };
        let wake = Arc::clone(&route.wake);
        let work = work_off(Arc::new(driver::Driver(Arc::clone(&route))), wake, stop.clone());
        tokio::try_join!(hear, work).map(|((), ())| ())
    }
}

impl Route {
    /// Stores what an event makes of the transfer.
    async fn happened(&self, transfer: &mut Transfer, event: IncomingEvent) -> Result<(), Trouble> {
        self.all_happened(transfer, [event]).await
    }

    /// Stores what several events make of the transfer, between which nothing outside was touched.
    async fn all_happened(
        &self,
        transfer: &mut Transfer,
        events: impl IntoIterator<Item = IncomingEvent>,
    ) -> Result<(), Trouble> {
        let stored = self.means.store_events(transfer, events, Transfer::after_incoming).await;
        self.note(transfer);
        stored
    }

    /// Keeps count of transfers that have not been delivered, and of the names that are chosen for them.
    fn note(&self, transfer: &Transfer) {
        let Work::Incoming { progress, .. } = &transfer.work else { return };
        match progress {
            Incoming::Delivering { place, .. } => {
                self.names.reserve(transfer.id, place, self.settings.layout == Layout::ByTransfer);
            }
            _ => self.names.release(transfer.id),
        }
        let is_undelivered = matches!(
            progress,
            Incoming::Discovered { .. }
                | Incoming::Downloading { .. }
                | Incoming::Downloaded { .. }
                | Incoming::Delivering { .. }
        );
        if is_undelivered {
            self.backlog.count(transfer.id);
        } else {
            self.backlog.remove(transfer.id);
        }
    }

    /// Runs file work of this route off the async threads.
    async fn on_files<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Folders) -> Result<T, files::Error> + Send + 'static,
    ) -> Result<T, Trouble> {
        self.means.on_files(&self.folders, work).await
    }
}
