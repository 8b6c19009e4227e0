//! One probe instead of many: when the platform is down, one caller tries and the others wait for what it finds.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::Backoff;

/// Guards one platform.
///
/// ```text
///            failed                    wait is over: one caller
///   Closed ─────────► Open(until) ──────────────────────────────► Probing
///      ▲                  ▲                                          │
///      │                  └───────────── failed (longer wait) ───────┤
///      └──────────────────────────────── succeeded ──────────────────┘
/// ```
///
/// A probe that is dropped without a report lets the next caller probe at once.
#[derive(Debug)]
pub struct Breaker {
    state: watch::Sender<State>,
    backoff: Backoff,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed,
    Open { failures: u32, until: Instant },
    Probing { failures: u32 },
}

/// Leave to make one call. What came of it is to be reported; a permit that is dropped says nothing.
#[derive(Debug)]
pub struct Permit<'a> {
    breaker: &'a Breaker,
    /// How many failures went before, when this is the probe.
    probe: Option<u32>,
}

impl Breaker {
    /// A breaker that lets everything through until a failure is reported.
    #[must_use]
    pub fn new(backoff: Backoff) -> Self {
        Self { state: watch::Sender::new(State::Closed), backoff }
    }

    /// Whether calls go through without waiting.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(*self.state.borrow(), State::Closed)
    }

    /// Waits until calls no longer go through, for those who wait for something else meanwhile.
    pub async fn opened(&self) {
        // The sender lives as long as `self`, so that this ends for the one reason.
        drop(self.state.subscribe().wait_for(|state| *state != State::Closed).await);
    }

    /// Waits until a call may be made: at once while all is well, else when a probe has succeeded or it is this
    /// caller's turn to probe. May be dropped while it waits.
    pub async fn permit(&self) -> Permit<'_> {
        let mut state = self.state.subscribe();
        loop {
            let seen = *state.borrow_and_update();
            match seen {
                State::Closed => return Permit { breaker: self, probe: None },
                State::Open { failures, until } if Instant::now() >= until => {
                    let won = self.state.send_if_modified(|now| {
                        let won = *now == seen;
                        if won {
                            *now = State::Probing { failures };
                        }
                        won
                    });
                    if won {
                        return Permit { breaker: self, probe: Some(failures) };
                    }
                }
                State::Open { until, .. } => {
                    // Whichever comes first, the state is looked at anew; the sender lives as long as `self`.
                    drop(tokio::time::timeout_at(until, state.changed()).await);
                }
                State::Probing { .. } => drop(state.changed().await),
            }
        }
    }
}

impl Permit<'_> {
    /// Whether the others wait for what comes of this call, so that it should be a short one.
    #[must_use]
    pub fn is_probe(&self) -> bool {
        self.probe.is_some()
    }

    /// The platform answered, be it with a refusal.
    pub fn succeeded(mut self) {
        if self.probe.take().is_some() {
            self.breaker.state.send_replace(State::Closed);
        }
    }

    /// The platform as a whole does not answer, or asks us all to wait.
    pub fn failed(mut self, retry_after: Option<Duration>) {
        let probe = self.probe.take();
        let attempt = probe.unwrap_or(0);
        let until = Instant::now() + self.breaker.backoff.delay_after(attempt, retry_after);
        self.breaker.state.send_if_modified(|state| {
            // A late failure of a call that set out before the breaker opened says nothing new.
            let news = probe.is_some() || *state == State::Closed;
            if news {
                *state = State::Open { failures: attempt.saturating_add(1), until };
            }
            news
        });
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if let Some(failures) = self.probe {
            self.breaker.state.send_replace(State::Open { failures, until: Instant::now() });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::join_all;

    use super::*;
    use crate::seams::SeededRandom;

    fn breaker() -> Breaker {
        let random = Arc::new(SeededRandom::new(1));
        Breaker::new(Backoff::new(Duration::from_secs(1), Duration::from_mins(1), random).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn one_probe_tries_while_the_others_wait() {
        let (breaker, start) = (breaker(), Instant::now());
        breaker.permit().await.failed(None);
        assert!(!breaker.is_closed());
        let (tries, probes) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let caller = async || {
            loop {
                let permit = breaker.permit().await;
                tries.fetch_add(1, Ordering::SeqCst);
                if permit.is_probe() {
                    probes.fetch_add(1, Ordering::SeqCst);
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
                if start.elapsed() > Duration::from_secs(30) {
                    return permit.succeeded();
                }
                permit.failed(None);
            }
        };
        join_all((0..1_000).map(|_| caller())).await;
        let probes = probes.into_inner();
        assert!((5..12).contains(&probes), "{probes}");
        assert_eq!(
            tries.into_inner(),
            1_000 + probes - 1,
            "the rest go once, after the probe that succeeded"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_is_dropped_hands_over() {
        let breaker = breaker();
        breaker.permit().await.failed(None);
        let probe = breaker.permit().await;
        assert!(probe.is_probe());
        assert!(tokio::time::timeout(Duration::from_mins(10), breaker.permit()).await.is_err());
        drop(probe);
        let start = Instant::now();
        let next = breaker.permit().await;
        assert!(next.is_probe());
        assert_eq!(start.elapsed(), Duration::ZERO);
        next.succeeded();
        assert!(breaker.is_closed());
    }

    #[tokio::test(start_paused = true)]
    async fn the_server_may_ask_for_a_longer_wait() {
        let (breaker, start) = (breaker(), Instant::now());
        let late = breaker.permit().await;
        breaker.permit().await.failed(Some(Duration::from_secs(45)));
        late.failed(None);
        breaker.permit().await.succeeded();
        assert_eq!(start.elapsed(), Duration::from_secs(45));
    }
}
