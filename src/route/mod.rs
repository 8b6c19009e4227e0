//! What both directions share: the loop that takes due transfers in hand, the hold on a route in trouble, and
//! how trouble becomes the next attempt.

mod hold;
mod mount;
mod probing;
mod recovery;
mod trouble;
pub mod verifying;
mod work;

pub use hold::{Hold, Verdict};
pub use mount::{Mount, Opening};
pub use probing::{Finding, Report};
pub use recovery::{Decision, Recovery};
pub use trouble::{Kind, Trouble, passes_by_itself, text_for_people};
pub use work::{Drive, Next, work_off};

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::Semaphore;

use crate::broker;
use crate::config;
use crate::files;
use crate::identity::Skew;
use crate::pace::Backoff;
use crate::seams::{self, Clock};
use crate::store::Store;
use crate::transfer::{IllegalTransition, RouteName, Transfer, TransferId};

/// Records looked at in one go.
const PAGE: usize = 256;

/// What every route works with. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Means {
    /// Where transfers are remembered.
    pub store: Store,
    /// Formidling, as the route's identity sees it.
    pub broker: broker::Client,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// How far that clock is from the servers'.
    pub skew: Arc<Skew>,
    /// How long to wait after the n-th failure.
    pub backoff: Backoff,
    /// How trouble that passes is waited out.
    pub retry: config::Retry,
    /// Bodies in flight at once, over all routes of a direction.
    pub slots: Arc<Semaphore>,
    /// Room for files, over all routes.
    pub room: Arc<files::Room>,
}

impl Means {
    /// The present moment.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The present moment by Altinn's clock, as far as it is known.
    #[must_use]
    pub fn server_now(&self) -> Timestamp {
        let now = self.now();
        self.skew.ahead().and_then(|ahead| now.checked_sub(ahead).ok()).unwrap_or(now)
    }

    /// A moment from now.
    #[must_use]
    pub fn after(&self, wait: Duration) -> Timestamp {
        later(self.now(), wait)
    }

    /// Whether a transfer is so old that it is to be given up if it is in trouble. Never before a server has
    /// agreed with our clock: a wrong clock must not age anything.
    #[must_use]
    pub fn is_hopeless(&self, transfer: &Transfer) -> bool {
        self.is_over(transfer.created)
    }

    /// Whether a transfer has been in trouble without a break for so long that it is to be given up. Time in which
    /// nobody tried does not count, as when the service was stopped.
    #[must_use]
    pub fn is_stuck(&self, transfer: &Transfer) -> bool {
        transfer.troubled_since(self.now()).is_some_and(|since| self.is_over(since.max(transfer.created)))
    }

    /// Whether a transfer has been in trouble for `patience`, be it with breaks in which a step went well.
    #[must_use]
    pub fn has_struggled(&self, transfer: &Transfer, patience: Duration) -> bool {
        let since = transfer.struggling_since(self.now());
        since.is_some_and(|since| self.skew.is_confirmed() && later(since, patience) <= self.now())
    }

    fn is_over(&self, since: Timestamp) -> bool {
        self.skew.is_confirmed() && later(since, self.retry.give_up_after) <= self.now()
    }

    /// The folders of a route at `path`, opened with `open`, or waited for. Blocks.
    pub fn mount<F: Clone + Send + 'static>(
        &self,
        route: &RouteName,
        path: &Path,
        open: impl Fn(Opening) -> Result<F, files::Error> + Send + Sync + 'static,
        probe: impl Fn() -> Report + Send + Sync + 'static,
    ) -> Arc<Mount<F>> {
        let known = self.store.known_folders().clone();
        let clock = Arc::clone(&self.clock);
        Arc::new(Mount::new(route.clone(), path.to_owned(), known, clock, open, probe))
    }

    /// The next transfers of a route that are at work and come after `seen`, which is moved on; `None` when all have been
    /// given.
    pub async fn next_at_work(
        &self,
        route: &RouteName,
        seen: &mut Option<TransferId>,
    ) -> Result<Option<Vec<Transfer>>, Trouble> {
        let page = self.store.page_at_work(route, *seen, PAGE).await;
        let page = page.map_err(|error| Trouble::store(&error, self.now()))?;
        let last = page.last().map(|transfer| transfer.id);
        *seen = last.or(*seen);
        Ok(last.map(|_| page))
    }

    /// Runs work on a route's folders off the async threads.
    pub async fn on_files<F: Clone + Send + 'static, T: Send + 'static>(
        &self,
        folders: &Mount<F>,
        work: impl FnOnce(&F) -> Result<T, files::Error> + Send + 'static,
    ) -> Result<T, Trouble> {
        let folders = folders.folders()?;
        let outcome = seams::blocking(move || work(&folders)).await;
        outcome.map_err(|error| Trouble::files(&error, self.now()))
    }

    /// Remembers what several events made of a transfer, between which nothing outside was touched; `transfer` is
    /// then what the store has.
    pub async fn store_events<E>(
        &self,
        transfer: &mut Transfer,
        events: impl IntoIterator<Item = E>,
        after: fn(Transfer, E, Timestamp) -> Result<Transfer, IllegalTransition>,
    ) -> Result<(), Trouble> {
        let now = self.now();
        let change =
            |before| events.into_iter().try_fold(before, |transfer, event| after(transfer, event, now));
        self.store_change(transfer, change).await
    }

    /// Moves a transfer that is over, as `ended`, from the store to the journal.
    pub async fn store_end(&self, transfer: &mut Transfer, ended: Transfer) -> Result<(), Trouble> {
        let finished = self.store.finish(transfer, ended.clone()).await;
        finished.map_err(|error| Trouble::store(&error, self.now()))?;
        *transfer = ended;
        Ok(())
    }

    /// Remembers what a change made of a transfer; `transfer` is then what the store has.
    pub async fn store_change(
        &self,
        transfer: &mut Transfer,
        change: impl FnOnce(Transfer) -> Result<Transfer, IllegalTransition>,
    ) -> Result<(), Trouble> {
        let after = change(transfer.clone()).map_err(|illegal| Trouble::illegal(illegal, self.now()))?;
        self.store
            .update(transfer, after.clone())
            .await
            .map_err(|error| Trouble::store(&error, self.now()))?;
        *transfer = after;
        Ok(())
    }
}

/// `time` and a duration earlier; the beginning of time where there is no such moment.
#[must_use]
pub fn earlier(time: Timestamp, age: Duration) -> Timestamp {
    SignedDuration::try_from(age).ok().and_then(|age| time.checked_sub(age).ok()).unwrap_or(Timestamp::MIN)
}

/// `time` and a duration later; the end of time where there is no such moment.
#[must_use]
pub fn later(time: Timestamp, wait: Duration) -> Timestamp {
    SignedDuration::try_from(wait).ok().and_then(|wait| time.checked_add(wait).ok()).unwrap_or(Timestamp::MAX)
}
