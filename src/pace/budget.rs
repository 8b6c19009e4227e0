//! The calls a minute that Altinn gives each Maskinporten client
//! (docs.altinn.studio/broker/reference/rate-limits): 10 searches, 10 details, 120 of each other operation.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio::sync::Mutex;
use tokio::time::Instant;

/// One in eleven of a minute's calls may come at once. Over any minute a budget of `n` then lets through at
/// most `n + n / 11` calls: 9 and 1 make Altinn's 10, 110 and 10 make its 120.
const BURST_SHARE: u32 = 11;

/// What is counted apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Searching for transfers.
    Search,
    /// The details of one transfer.
    Details,
    /// Making a transfer.
    Initialize,
    /// Uploading content.
    Upload,
    /// Uploading content resumably: Altinn states no limit, so none is kept; a 429 is honoured by who gets it.
    Resumable,
    /// The overview of one transfer.
    Overview,
    /// Downloading content.
    Download,
    /// Confirming a download.
    Confirm,
}

/// How many calls a minute are used, a little under what Altinn allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Searches a minute.
    pub searches_per_minute: NonZeroU32,
    /// Details a minute.
    pub details_per_minute: NonZeroU32,
    /// Calls a minute of each other operation.
    pub calls_per_minute: NonZeroU32,
}

impl Default for Limits {
    fn default() -> Self {
        const fn at_least_one(number: u32) -> NonZeroU32 {
            match NonZeroU32::new(number) {
                Some(number) => number,
                None => NonZeroU32::MIN,
            }
        }
        Self {
            searches_per_minute: at_least_one(9),
            details_per_minute: at_least_one(9),
            calls_per_minute: at_least_one(110),
        }
    }
}

/// The budget of one Maskinporten client, shared by everything that uses that client.
#[derive(Debug)]
pub struct Budget {
    search: Meter,
    details: Meter,
    initialize: Meter,
    upload: Meter,
    overview: Meter,
    download: Meter,
    confirm: Meter,
}

impl Budget {
    /// A budget of so much.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let call = || Meter::new(limits.calls_per_minute);
        Self {
            search: Meter::new(limits.searches_per_minute),
            details: Meter::new(limits.details_per_minute),
            initialize: call(),
            upload: call(),
            overview: call(),
            download: call(),
            confirm: call(),
        }
    }

    /// Waits until one more call may go out, and counts it. Who came first goes first. May be dropped while it
    /// waits; then nothing is counted.
    pub async fn ready(&self, operation: Operation) {
        let meter = match operation {
            Operation::Search => &self.search,
            Operation::Details => &self.details,
            Operation::Initialize => &self.initialize,
            Operation::Upload => &self.upload,
            Operation::Resumable => return,
            Operation::Overview => &self.overview,
            Operation::Download => &self.download,
            Operation::Confirm => &self.confirm,
        };
        meter.ready().await;
    }
}

type Limiter = RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<Duration>>;

#[derive(Debug)]
struct Meter {
    limiter: Limiter,
    clock: TokioClock,
    /// Held by whoever is next, so that the rest wait in order and only one looks at the clock.
    queue: Mutex<()>,
}

impl Meter {
    fn new(per_minute: NonZeroU32) -> Self {
        let burst = NonZeroU32::new(per_minute.get() / BURST_SHARE).unwrap_or(NonZeroU32::MIN);
        let clock = TokioClock { start: Instant::now() };
        let quota = Quota::per_minute(per_minute).allow_burst(burst);
        Self { limiter: RateLimiter::direct_with_clock(quota, clock.clone()), clock, queue: Mutex::new(()) }
    }

    async fn ready(&self) {
        let _next = self.queue.lock().await;
        while let Err(not_yet) = self.limiter.check() {
            tokio::time::sleep(not_yet.wait_time_from(self.clock.now())).await;
        }
    }
}

/// Tokio's time, for the limiter.
#[derive(Debug, Clone)]
struct TokioClock {
    start: Instant,
}

impl Clock for TokioClock {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.start.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The most calls in any minute of those at `times`.
    fn busiest_minute(times: &[Duration]) -> usize {
        let within = |start: Duration| {
            times.iter().filter(|time| **time >= start && **time < start + Duration::from_mins(1)).count()
        };
        times.iter().map(|start| within(*start)).max().unwrap_or(0)
    }

    #[tokio::test(start_paused = true)]
    async fn no_minute_holds_more_than_altinn_allows() {
        let cases = [
            (Operation::Search, 10),
            (Operation::Details, 10),
            (Operation::Initialize, 120),
            (Operation::Upload, 120),
            (Operation::Overview, 120),
            (Operation::Download, 120),
            (Operation::Confirm, 120),
        ];
        for (operation, allowed) in cases {
            let (budget, start) = (Budget::new(Limits::default()), Instant::now());
            // Idle for long, so that every burst there is has gathered.
            tokio::time::advance(Duration::from_hours(1)).await;
            let mut times = Vec::new();
            for _ in 0..4 * allowed {
                budget.ready(operation).await;
                times.push(start.elapsed());
            }
            let busiest = busiest_minute(&times);
            assert!(busiest <= allowed, "{operation:?}: {busiest}");
            assert!(busiest * 10 >= allowed * 9, "{operation:?} wastes its budget: {busiest}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_operation_has_its_own_counter() {
        let (budget, start) = (Budget::new(Limits::default()), Instant::now());
        for operation in [Operation::Search, Operation::Details, Operation::Initialize, Operation::Confirm] {
            budget.ready(operation).await;
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        budget.ready(Operation::Search).await;
        assert!(start.elapsed() > Duration::from_secs(6));
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_waiting_takes_nothing() {
        let (budget, start) = (Budget::new(Limits::default()), Instant::now());
        budget.ready(Operation::Search).await;
        for _ in 0..5 {
            let waiting = budget.ready(Operation::Search);
            assert!(tokio::time::timeout(Duration::from_millis(10), waiting).await.is_err());
        }
        budget.ready(Operation::Search).await;
        assert!(start.elapsed() < Duration::from_secs(7));
    }
}
