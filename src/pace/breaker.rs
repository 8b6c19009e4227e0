//! One probe instead of many: when a host is down, one caller tries and the others wait for what it finds.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, warn};

use super::doubt::Doubt;
use super::{LONGEST_RETRY_AFTER, Stopping, Subject};
use crate::seams::Random;

/// Calls in a row that get no answer, after which nobody but the probe calls. One alone is a hiccup, such as a gateway
/// that is being replaced, and must not make everybody wait.
const OPENS_AFTER: u32 = 3;
/// By how much of its length a wait is drawn out at random, so that those who lost the host together do not come back
/// together.
const JITTER: f64 = 0.25;
/// By how much of the time between two probes those that have met errors come after those that have not.
const LATER: u32 = 10;

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
///
/// A host that answers with errors ([`Permit::erred`]) may be down, or may be in trouble with what it was asked for
/// alone. So errors open the breaker when several in a row are about different things; then who has met none goes on
/// at once, one after another, and closes it by succeeding, unless many have met them. Those that have met errors probe
/// after the others.
#[derive(Debug)]
pub struct Breaker {
    host: String,
    probe_every: Duration,
    random: Arc<dyn Random>,
    state: watch::Sender<State>,
    /// The service stops.
    is_ending: watch::Sender<bool>,
}

/// `doubt` of an open one: it answers, with errors.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Closed { failures: u32, doubt: Doubt },
    Open { since: Instant, until: Instant, doubt: Option<Doubt> },
    Probing { since: Instant, doubt: Option<Doubt> },
}

impl State {
    fn closed() -> Self {
        Self::Closed { failures: 0, doubt: Doubt::default() }
    }

    /// Ends the probing.
    fn reopen(&mut self, since: Instant, until: Instant, doubt: Option<Doubt>) {
        *self = Self::Open { since, until, doubt };
    }

    fn take_doubt(&mut self) -> Option<Doubt> {
        match self {
            Self::Closed { .. } => None,
            Self::Open { doubt, .. } | Self::Probing { doubt, .. } => doubt.take(),
        }
    }
}

/// Leave to make one call. What came of it is to be reported; a permit that is dropped says nothing.
#[derive(Debug)]
pub struct Permit<'a> {
    breaker: &'a Breaker,
    subject: Subject,
    /// Since when the host is down, when this is the probe.
    probe: Option<Instant>,
}

impl Breaker {
    /// A breaker that lets everything through until enough failures are reported; then a probe follows the one before
    /// after `probe_every` at the earliest. `host` is for messages.
    #[must_use]
    pub fn new(host: impl Into<String>, probe_every: Duration, random: Arc<dyn Random>) -> Self {
        let state = watch::Sender::new(State::closed());
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

    /// Waits until a call about `subject` may be made: at once while all is well, else when a probe has succeeded or it
    /// is this caller's turn to probe. May be dropped while it waits. Fails where it would have to wait while the
    /// service stops.
    pub async fn permit(&self, subject: Subject) -> Result<Permit<'_>, Stopping> {
        let mut state = self.state.subscribe();
        loop {
            let seen = state.borrow_and_update().clone();
            match &seen {
                State::Closed { .. } => return Ok(Permit { breaker: self, subject, probe: None }),
                _ if *self.is_ending.borrow() => return Err(Stopping),
                State::Open { since, until, doubt } => {
                    let (since, turn) = (*since, self.turn(*until, doubt.as_ref(), subject));
                    if turn.is_none_or(|turn| Instant::now() >= turn) {
                        let won = self.state.send_if_modified(|now| {
                            let won = *now == seen;
                            if won {
                                *now = State::Probing { since, doubt: now.take_doubt() };
                            }
                            won
                        });
                        if won {
                            return Ok(Permit { breaker: self, subject, probe: Some(since) });
                        }
                    } else if let Some(turn) = turn {
                        // Whichever comes first, the state is looked at anew; the sender lives as long as `self`.
                        tokio::select! {
                            _ = tokio::time::timeout_at(turn, state.changed()) => {}
                            () = self.ended() => {}
                        }
                    }
                }
                State::Probing { .. } => tokio::select! {
                    _ = state.changed() => {}
                    () = self.ended() => {}
                },
            }
        }
    }

    /// When a call about `subject` may probe, where that is not at once.
    fn turn(&self, until: Instant, doubt: Option<&Doubt>, subject: Subject) -> Option<Instant> {
        match doubt {
            Some(doubt) if doubt.spares(subject) => None,
            Some(doubt) if doubt.has_met(subject) => Some(until + self.probe_every / LATER),
            Some(_) | None => Some(until),
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
            self.breaker.state.send_replace(State::closed());
        } else {
            self.breaker.state.send_if_modified(|state| {
                // Nobody waits for this.
                if let State::Closed { .. } = state {
                    *state = State::closed();
                }
                false
            });
        }
    }

    /// The host as a whole does not answer, or asks us all to wait.
    pub fn failed(mut self, retry_after: Option<Duration>) {
        let until = self.breaker.next_probe(retry_after);
        if let Some(since) = self.probe.take() {
            self.breaker.state.send_modify(|state| state.reopen(since, until, None));
            return;
        }
        let opened = self.breaker.state.send_if_modified(|state| match state {
            State::Closed { failures, .. } if *failures + 1 < OPENS_AFTER => {
                *failures += 1;
                false
            }
            State::Closed { .. } => {
                state.reopen(Instant::now(), until, None);
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

    /// The host answered with an error of its own, which may be about what it was asked for alone.
    pub fn erred(mut self, retry_after: Option<Duration>) {
        let until = self.breaker.next_probe(retry_after);
        let subject = self.subject;
        if let Some(since) = self.probe.take() {
            self.breaker.state.send_modify(|state| {
                let mut doubt = state.take_doubt().unwrap_or_default();
                doubt.add(subject);
                state.reopen(since, until, Some(doubt));
            });
            return;
        }
        let opened = self.breaker.state.send_if_modified(|state| match state {
            State::Closed { doubt, .. } => {
                doubt.add(subject);
                let is_open = doubt.is_about_the_host();
                if is_open {
                    let doubt = std::mem::take(doubt);
                    state.reopen(Instant::now(), until, Some(doubt));
                }
                is_open
            }
            State::Open { doubt, .. } | State::Probing { doubt, .. } => {
                // It set out before the breaker opened, and need not find out again at once.
                if let Some(doubt) = doubt {
                    doubt.add(subject);
                }
                false
            }
        });
        if opened {
            let every = humantime::format_duration(self.breaker.probe_every);
            warn!(host = %self.breaker.host, %every, "answers with errors alone: what has met them waits, and one call at a time looks whether that is over");
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if let Some(since) = self.probe {
            self.breaker.state.send_modify(|state| {
                let doubt = state.take_doubt();
                state.reopen(since, Instant::now(), doubt);
            });
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

    static ONE: std::sync::LazyLock<Subject> = std::sync::LazyLock::new(|| Subject::of("one"));

    fn breaker() -> Breaker {
        Breaker::new("altinn", MINUTE, Arc::new(SeededRandom::new(1)))
    }

    async fn open(breaker: &Breaker) {
        for _ in 0..OPENS_AFTER {
            breaker.permit(*ONE).await.unwrap().failed(None);
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
                let permit = breaker.permit(*ONE).await.unwrap();
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
                breaker.permit(*ONE).await.unwrap().failed(None);
            }
            breaker.permit(*ONE).await.unwrap().succeeded();
        }
        assert!(breaker.is_closed());
        open(&breaker).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_is_dropped_hands_over() {
        let breaker = breaker();
        open(&breaker).await;
        let probe = breaker.permit(*ONE).await.unwrap();
        assert!(probe.is_probe());
        assert!(tokio::time::timeout(Duration::from_mins(10), breaker.permit(*ONE)).await.is_err());
        drop(probe);
        let start = Instant::now();
        let next = breaker.permit(*ONE).await.unwrap();
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
        let (waited, ()) = tokio::join!(breaker.permit(*ONE), async { breaker.end() });
        assert!(waited.is_err());
        assert!(breaker.permit(*ONE).await.is_err());
        assert_eq!(start.elapsed(), Duration::ZERO);
        // Not even a probe sets out.
        tokio::time::advance(MINUTE * 2).await;
        assert!(breaker.permit(*ONE).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn calls_go_through_while_the_service_stops_and_the_host_answers() {
        let breaker = breaker();
        breaker.end();
        breaker.permit(*ONE).await.unwrap().succeeded();
        open(&breaker).await;
        assert!(breaker.permit(*ONE).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn the_server_may_ask_for_a_longer_wait_within_reason() {
        for (asked, waited) in
            [(Duration::from_mins(3), Duration::from_mins(3)), (Duration::MAX, LONGEST_RETRY_AFTER)]
        {
            let (breaker, start) = (breaker(), Instant::now());
            let late = breaker.permit(*ONE).await.unwrap();
            for _ in 1..OPENS_AFTER {
                breaker.permit(*ONE).await.unwrap().failed(None);
            }
            breaker.permit(*ONE).await.unwrap().failed(Some(asked));
            late.failed(None);
            breaker.permit(*ONE).await.unwrap().succeeded();
            assert_eq!(start.elapsed(), waited);
        }
    }

    /// Makes calls about these, which are answered with errors.
    async fn err(breaker: &Breaker, subjects: impl IntoIterator<Item = u32>) {
        for subject in subjects {
            breaker.permit(Subject::of(&subject)).await.unwrap().erred(None);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn errors_about_one_thing_or_between_successes_do_not_open_it() {
        let breaker = breaker();
        for _ in 0..10 {
            err(&breaker, [7; 20]).await;
            breaker.permit(*ONE).await.unwrap().succeeded();
            err(&breaker, [1, 2]).await;
            breaker.permit(*ONE).await.unwrap().succeeded();
        }
        assert!(breaker.is_closed());
        err(&breaker, [1, 2, 1]).await;
        assert!(!breaker.is_closed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_neighbour_of_what_meets_errors_goes_on_at_once_and_closes_it() {
        let breaker = breaker();
        err(&breaker, [1, 2, 3]).await;
        assert!(!breaker.is_closed());
        let start = Instant::now();
        let neighbour = breaker.permit(*ONE).await.unwrap();
        assert!(neighbour.is_probe());
        neighbour.succeeded();
        assert!(breaker.is_closed());
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_met_errors_probes_after_the_others_and_what_is_shared_when_it_is_time() {
        let breaker = breaker();
        err(&breaker, [1, 2, 3]).await;
        let start = Instant::now();
        let shared = async {
            let permit = breaker.permit(Subject::shared("token")).await.unwrap();
            let waited = start.elapsed();
            permit.erred(None);
            waited
        };
        let met = async {
            let permit = breaker.permit(Subject::of(&1_u32)).await.unwrap();
            let waited = start.elapsed();
            permit.succeeded();
            waited
        };
        let (met, shared) = tokio::join!(met, shared);
        assert!(shared >= MINUTE && shared <= MINUTE * 5 / 4, "{shared:?}");
        assert!(met >= shared + MINUTE, "{met:?}");
        assert!(breaker.is_closed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_that_errs_for_hours_costs_a_call_a_minute_however_many_there_are() {
        let (breaker, start) = (breaker(), Instant::now());
        let calls = AtomicUsize::new(0);
        let caller = async |number: u32| {
            loop {
                let permit = breaker.permit(Subject::of(&number)).await.unwrap();
                calls.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(50)).await;
                if start.elapsed() > Duration::from_hours(6) {
                    return permit.succeeded();
                }
                permit.erred(None);
            }
        };
        // One after another, so that not all set out before it is clear.
        let callers = (0..1_000_u32).map(|number| {
            let caller = &caller;
            async move {
                tokio::time::sleep(Duration::from_secs(1) * number).await;
                caller(number).await;
            }
        });
        join_all(callers).await;
        let calls = calls.into_inner() - 1_000;
        assert!((200..=360 + 16).contains(&calls), "{calls}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_answer_keeps_everybody_waiting_also_after_errors() {
        let breaker = breaker();
        err(&breaker, [1, 2, 3]).await;
        breaker.permit(*ONE).await.unwrap().failed(None);
        let start = Instant::now();
        let other = breaker.permit(Subject::of("other")).await.unwrap();
        assert!(start.elapsed() >= MINUTE);
        // It answers again, if not this.
        other.erred(None);
        let start = Instant::now();
        breaker.permit(*ONE).await.unwrap().succeeded();
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}
