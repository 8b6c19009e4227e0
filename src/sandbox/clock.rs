//! The sandbox's own clock: everything that has a time takes it from here.
//!
//! Nothing in the sandbox may read the system's time elsewhere, or a test could not move it.

use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

/// What time it is in the sandbox, and how to wait for a later one.
pub trait Clock: Send + Sync + 'static {
    /// The present moment.
    fn now(&self) -> Timestamp;

    /// Resolves when [`Clock::now`] has reached `deadline`.
    fn sleep_until(&self, deadline: Timestamp) -> BoxFuture<'_, ()>;

    /// Resolves when `duration` has passed.
    fn sleep(&self, duration: Duration) -> BoxFuture<'_, ()> {
        self.sleep_until(later(self.now(), duration))
    }
}

/// The time of the machine.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemClock;

/// The longest single nap: a machine that slept, or a corrected clock, is noticed after it.
const NAP: Duration = Duration::from_mins(1);

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the sandbox shares no clock with the client it is to test"
    )]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn sleep_until(&self, deadline: Timestamp) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            loop {
                let left = deadline.duration_since(self.now());
                match Duration::try_from(left) {
                    Ok(left) if !left.is_zero() => tokio::time::sleep(left.min(NAP)).await,
                    _ => return,
                }
            }
        })
    }
}

/// A clock that stands still until a test moves it.
#[derive(Debug)]
pub struct ManualClock {
    now: watch::Sender<Timestamp>,
}

impl ManualClock {
    /// A clock that shows `start`.
    #[must_use]
    pub fn new(start: Timestamp) -> Self {
        Self { now: watch::Sender::new(start) }
    }

    /// Moves the time forward; whoever waited for a moment on the way wakes up.
    pub fn advance(&self, by: Duration) {
        self.now.send_modify(|now| *now = later(*now, by));
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.now.borrow()
    }

    fn sleep_until(&self, deadline: Timestamp) -> BoxFuture<'_, ()> {
        let mut now = self.now.subscribe();
        Box::pin(async move {
            // The sender lives as long as `self`, so waiting cannot fail.
            if now.wait_for(|now| *now >= deadline).await.is_err() {
                futures_util::future::pending::<()>().await;
            }
        })
    }
}

/// How long something takes that really takes `duration`, where things go `speed` times faster.
pub(super) fn scale(duration: Duration, speed: f64) -> Duration {
    // Exact where nothing is to be scaled, which nanoseconds in a float are not.
    if (speed - 1.0).abs() < f64::EPSILON {
        return duration;
    }
    Duration::try_from_secs_f64(duration.as_secs_f64() / speed).unwrap_or(Duration::MAX)
}

/// `time` plus `duration`, at most the end of time.
pub(super) fn later(time: Timestamp, duration: Duration) -> Timestamp {
    let duration = SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX);
    time.saturating_add(duration).unwrap_or(Timestamp::MAX)
}

/// `time` minus `duration`, at least the beginning of time.
pub(super) fn earlier(time: Timestamp, duration: Duration) -> Timestamp {
    let duration = SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX);
    time.saturating_sub(duration).unwrap_or(Timestamp::MIN)
}
