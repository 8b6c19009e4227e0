//! A wall clock that does not jump: what the machine's clock does at once is believed when a server agrees with it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::Clock;

/// Less than this is no jump: clocks are slewed, and a thread may have to wait between two looks at them.
const JUMP: SignedDuration = SignedDuration::from_secs(2);

/// Another clock, without its jumps.
///
/// Somebody who sets the clock, a machine that wakes, or one whose battery is empty would otherwise age whatever
/// waits by the years in between: files would be deleted or given up, and what is to be waited for would seem to have
/// been. So the time goes on as it did, by the monotonic clock, until a server's time is nearer to what the other
/// clock shows now.
#[derive(Debug)]
pub struct SteadyClock {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// A moment of the monotonic clock, and what the other clock showed at it, but for jumps since.
    start: Instant,
    anchor: Timestamp,
    /// By how much the other clock has jumped since a server was last nearer to it.
    jumped: SignedDuration,
}

impl SteadyClock {
    /// Goes with `clock` from where it stands now.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let state = State { start: Instant::now(), anchor: clock.now(), jumped: SignedDuration::ZERO };
        Self { clock, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the other clock shows, with what it has jumped since it was last looked at taken note of.
    fn look(&self, state: &mut State) -> Timestamp {
        let shown = self.clock.now();
        // Where no runtime is, a test's paused time is not known; then what is known of jumps has to do.
        if tokio::runtime::Handle::try_current().is_ok() {
            let passed = SignedDuration::try_from(state.start.elapsed()).unwrap_or(SignedDuration::MAX);
            let expected = state.anchor.saturating_add(passed).unwrap_or(Timestamp::MAX);
            let ahead = shown.duration_since(expected);
            if ahead.abs() > JUMP {
                state.jumped = state.jumped.saturating_add(ahead);
                state.anchor = state.anchor.saturating_add(ahead).unwrap_or(Timestamp::MAX);
            }
        }
        shown
    }
}

impl Clock for SteadyClock {
    fn now(&self) -> Timestamp {
        let mut state = self.state();
        let shown = self.look(&mut state);
        shown.checked_sub(state.jumped).unwrap_or(shown)
    }

    fn observe(&self, server: Timestamp) {
        let mut state = self.state();
        let shown = self.look(&mut state);
        if state.jumped.is_zero() {
            return;
        }
        let kept = shown.checked_sub(state.jumped).unwrap_or(shown);
        if server.duration_since(shown).abs() < server.duration_since(kept).abs() {
            tracing::warn!(from = %kept, to = %shown, "this machine's clock was set, and a server agrees: it is gone by now");
            state.jumped = SignedDuration::ZERO;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[derive(Debug)]
    struct Set(Mutex<Timestamp>);

    impl Clock for Set {
        fn now(&self) -> Timestamp {
            *self.0.lock().unwrap()
        }
    }

    async fn pass(clock: &Set, seconds: u64) {
        let passed = Duration::from_secs(seconds);
        tokio::time::advance(passed).await;
        *clock.0.lock().unwrap() += passed;
    }

    #[tokio::test(start_paused = true)]
    async fn a_jump_is_believed_when_a_server_is_nearer_to_it() {
        let start: Timestamp = "2026-11-22T08:00:00Z".parse().unwrap();
        let set = Arc::new(Set(Mutex::new(start)));
        let steady = SteadyClock::new(Arc::clone(&set) as Arc<dyn Clock>);
        let at = |seconds: i64| start + SignedDuration::from_secs(seconds);
        pass(&set, 10).await;
        assert_eq!(steady.now(), at(10));
        for hours in [87_600, -87_600, 1, -1] {
            let jump = SignedDuration::from_hours(hours);
            *set.0.lock().unwrap() += jump;
            assert_eq!(steady.now(), at(10), "by {hours} hours");
            steady.observe(at(11));
            assert_eq!(steady.now(), at(10), "no server has seen {hours} hours pass");
            *set.0.lock().unwrap() += -jump;
            assert_eq!(steady.now(), at(10));
        }
        *set.0.lock().unwrap() += SignedDuration::from_hours(8);
        pass(&set, 5).await;
        assert_eq!(steady.now(), at(15));
        // The machine had slept.
        let hours = 8 * 3600;
        steady.observe(at(hours + 14));
        assert_eq!(steady.now(), at(hours + 15));
        pass(&set, 1).await;
        assert_eq!(steady.now(), at(hours + 16));
        // Slewed, and not set.
        *set.0.lock().unwrap() += SignedDuration::from_millis(-1500);
        assert_eq!(steady.now(), at(hours + 16) - SignedDuration::from_millis(1500));
    }
}
