//! One probe instead of many: when a host is down, one caller tries and the others wait for what it finds.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, warn};

use super::{LONGEST_RETRY_AFTER, Stopping};
use crate::seams::Random;

/// Calls in a row that get no answer, after which nobody but the probe calls. One alone is a hiccup, such as a gateway
/// that is being replaced, and must not make everybody wait.
const OPENS_AFTER: u32 = 3;
/// By how much of its length a wait is drawn out at random, so that those who lost the host together do not come back
/// together.
const JITTER: f64 = 0.25;

/// Guards one host.
///
/// ```text
///         failed three times in a row             wait is over: one caller
///   Closed ─────────────────────────► Open(until) ───────────────────────► Probing
///      ▲                                  ▲                                   │
///      │                                  └───────────── failed ──────────────┤
///      └──────────────────────────────────────────────── succeeded ───────────┘
/// ```
///
/// A probe that is dropped without a report has not called, and lets the next caller probe at once.
#[derive(Debug)]
pub struct Breaker {
    host: String,
    probe_every: Duration,
    random: Arc<dyn Random>,
    state: watch::Sender<State>,
    /// The service stops.
    is_ending: watch::Sender<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed { failures: u32 },
    Open { since: Instant, until: Instant },
    Probing { since: Instant },
}

/// Leave to make one call. What came of it is to be reported; a permit that is dropped says nothing.
#[derive(Debug)]
pub struct Permit<'a> {
    breaker: &'a Breaker,
    /// Since when the host is down, when this is the probe.
    probe: Option<Instant>,
}

impl Breaker {
    /// A breaker that lets everything through until enough failures are reported; then a probe follows the one before
    /// after `probe_every` at the earliest. `host` is for messages.
    #[must_use]
    pub fn new(host: impl Into<String>, probe_every: Duration, random: Arc<dyn Random>) -> Self {
        let state = watch::Sender::new(State::Closed { failures: 0 });
        Self { host: host.into(), probe_every, random, state, is_ending: watch::Sender::new(false) }
    }

    /// Whether calls go through without waiting.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(*self.state.borrow(), State::Closed { .. })
    }

    /// Waits until calls no longer go through, for those who wait for something else meanwhile.
    pub async fn opened(&self) {
        let is_open = |state: &State| !matches!(state, State::Closed { .. });
        // The sender lives as long as `self`, so that this ends for the one reason.
        drop(self.state.subscribe().wait_for(is_open).await);
    }

    /// The service stops: who waits is turned away, and nobody waits from here on. What goes through without waiting,
    /// and what is under way, is left as it is.
    pub fn end(&self) {
        self.is_ending.send_replace(true);
    }

    /// Waits until [`Self::end`].
    pub async fn ended(&self) {
        drop(self.is_ending.subscribe().wait_for(|is_ending| *is_ending).await);
    }

    /// Waits until a call may be made: at once while all is well, else when a probe has succeeded or it is this
    /// caller's turn to probe. May be dropped while it waits. Fails where it would have to wait while the service
    /// stops.
    pub async fn permit(&self) -> Result<Permit<'_>, Stopping> {
        let mut state = self.state.subscribe();
        loop {
            let seen = *state.borrow_and_update();
            match seen {
                State::Closed { .. } => return Ok(Permit { breaker: self, probe: None }),
                _ if *self.is_ending.borrow() => return Err(Stopping),
                State::Open { since, until } if Instant::now() >= until => {
                    let won = self.state.send_if_modified(|now| {
                        let won = *now == seen;
                        if won {
                            *now = State::Probing { since };
                        }
                        won
                    });
                    if won {
                        return Ok(Permit { breaker: self, probe: Some(since) });
                    }
                }
                State::Open { until, .. } => {
                    // Whichever comes first, the state is looked at anew; the sender lives as long as `self`.
                    tokio::select! {
                        _ = tokio::time::timeout_at(until, state.changed()) => {}
                        () = self.ended() => {}
                    }
                }
                State::Probing { .. } => tokio::select! {
                    _ = state.changed() => {}
                    () = self.ended() => {}
                },
            }
        }
    }

    /// When the next probe may be made.
    fn next_probe(&self, retry_after: Option<Duration>) -> Instant {
        let wait = self.probe_every.mul_f64(self.random.fraction().mul_add(JITTER, 1.0));
        Instant::now() + wait.max(retry_after.unwrap_or_default().min(LONGEST_RETRY_AFTER))
    }
}

impl Permit<'_> {
    /// Whether the others wait for what comes of this call, so that it should be a short one.
    #[must_use]
    pub fn is_probe(&self) -> bool {
        self.probe.is_some()
    }

    /// The host answered, be it with a refusal.
    pub fn succeeded(mut self) {
        if let Some(since) = self.probe.take() {
            let down = SignedDuration::try_from(since.elapsed()).unwrap_or_default();
            info!(host = %self.breaker.host, down = %format_args!("{down:#}"), "answers again");
            self.breaker.state.send_replace(State::Closed { failures: 0 });
        } else {
            self.breaker.state.send_if_modified(|state| {
                // Nobody waits for this.
                if let State::Closed { failures } = state {
                    *failures = 0;
                }
                false
            });
        }
    }

    /// The host as a whole does not answer, or asks us all to wait.
    pub fn failed(mut self, retry_after: Option<Duration>) {
        let until = self.breaker.next_probe(retry_after);
        if let Some(since) = self.probe.take() {
            self.breaker.state.send_replace(State::Open { since, until });
            return;
        }
        let opened = self.breaker.state.send_if_modified(|state| match state {
            State::Closed { failures } if *failures + 1 < OPENS_AFTER => {
                *failures += 1;
                false
            }
            State::Closed { .. } => {
                *state = State::Open { since: Instant::now(), until };
                true
            }
            // A late failure of a call that set out before the breaker opened says nothing new.
            State::Open { .. } | State::Probing { .. } => false,
        });
        if opened {
            let every = humantime::format_duration(self.breaker.probe_every);
            warn!(host = %self.breaker.host, %every, "does not answer: one call at a time looks whether it does again, the others wait");
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if let Some(since) = self.probe {
            self.breaker.state.send_replace(State::Open { since, until: Instant::now() });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Mutex, PoisonError};

    use futures_util::future::join_all;

    use super::*;
    use crate::seams::SeededRandom;

    const MINUTE: Duration = Duration::from_mins(1);

    fn breaker() -> Breaker {
        Breaker::new("altinn", MINUTE, Arc::new(SeededRandom::new(1)))
    }

    async fn open(breaker: &Breaker) {
        for _ in 0..OPENS_AFTER {
            breaker.permit().await.unwrap().failed(None);
        }
        assert!(!breaker.is_closed());
    }

    #[tokio::test(start_paused = true)]
    async fn one_probe_a_minute_tries_while_the_others_wait() {
        let (breaker, start) = (breaker(), Instant::now());
        open(&breaker).await;
        let (tries, probes) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        let caller = async || {
            loop {
                let permit = breaker.permit().await.unwrap();
                tries.fetch_add(1, Ordering::SeqCst);
                if permit.is_probe() {
                    probes.lock().unwrap_or_else(PoisonError::into_inner).push(start.elapsed());
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
                if start.elapsed() > Duration::from_hours(6) {
                    return permit.succeeded();
                }
                permit.failed(None);
            }
        };
        join_all((0..1_000).map(|_| caller())).await;
        let probes = probes.into_inner().unwrap();
        assert!((280..=360).contains(&probes.len()), "{}", probes.len());
        assert!(probes.windows(2).all(|pair| pair[1].checked_sub(pair[0]).unwrap() >= MINUTE), "{probes:?}");
        assert_eq!(
            tries.into_inner(),
            1_000 + probes.len() - 1,
            "the rest go once, after the probe that succeeded"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn only_failures_in_a_row_open_it() {
        let breaker = breaker();
        for _ in 0..10 {
            for _ in 1..OPENS_AFTER {
                breaker.permit().await.unwrap().failed(None);
            }
            breaker.permit().await.unwrap().succeeded();
        }
        assert!(breaker.is_closed());
        open(&breaker).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_is_dropped_hands_over() {
        let breaker = breaker();
        open(&breaker).await;
        let probe = breaker.permit().await.unwrap();
        assert!(probe.is_probe());
        assert!(tokio::time::timeout(Duration::from_mins(10), breaker.permit()).await.is_err());
        drop(probe);
        let start = Instant::now();
        let next = breaker.permit().await.unwrap();
        assert!(next.is_probe());
        assert_eq!(start.elapsed(), Duration::ZERO);
        next.succeeded();
        assert!(breaker.is_closed());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_when_the_service_stops_is_turned_away_and_nobody_waits_from_then_on() {
        let breaker = breaker();
        open(&breaker).await;
        let start = Instant::now();
        let (waited, ()) = tokio::join!(breaker.permit(), async { breaker.end() });
        assert!(waited.is_err());
        assert!(breaker.permit().await.is_err());
        assert_eq!(start.elapsed(), Duration::ZERO);
        // Not even a probe sets out.
        tokio::time::advance(MINUTE * 2).await;
        assert!(breaker.permit().await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn calls_go_through_while_the_service_stops_and_the_host_answers() {
        let breaker = breaker();
        breaker.end();
        breaker.permit().await.unwrap().succeeded();
        open(&breaker).await;
        assert!(breaker.permit().await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn the_server_may_ask_for_a_longer_wait_within_reason() {
        for (asked, waited) in
            [(Duration::from_mins(3), Duration::from_mins(3)), (Duration::MAX, LONGEST_RETRY_AFTER)]
        {
            let (breaker, start) = (breaker(), Instant::now());
            let late = breaker.permit().await.unwrap();
            for _ in 1..OPENS_AFTER {
                breaker.permit().await.unwrap().failed(None);
            }
            breaker.permit().await.unwrap().failed(Some(asked));
            late.failed(None);
            breaker.permit().await.unwrap().succeeded();
            assert_eq!(start.elapsed(), waited);
        }
    }
}
