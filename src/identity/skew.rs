//! How far this machine's clock is from the servers'.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// Within this the clock counts as right: enough for ageing files, which takes days.
const AGREEMENT: SignedDuration = SignedDuration::from_mins(5);

/// Maskinporten takes a grant that was made at most ten seconds ahead of its own clock
/// (docs.digdir.no, JWT grant).
const TOLERANCE: SignedDuration = SignedDuration::from_secs(10);

/// What the `Date` headers of answers say of our clock. One for the whole process, shared by handle.
#[derive(Debug, Default)]
pub struct Skew(Mutex<State>);

#[derive(Debug, Default, Clone, Copy)]
struct State {
    ahead: Option<SignedDuration>,
    confirmed: bool,
}

impl Skew {
    /// Nothing is known yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes note of a server's time, seen at `now` by our clock.
    pub fn observe(&self, server: Timestamp, now: Timestamp) {
        let ahead = now.duration_since(server);
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.ahead = Some(ahead);
        state.confirmed |= ahead.abs() <= AGREEMENT;
    }

    /// By how much our clock was ahead (or, negative, behind) when it was last measured.
    #[must_use]
    pub fn ahead(&self) -> Option<SignedDuration> {
        self.state().ahead
    }

    /// Whether a server has agreed with our clock, within five minutes, since the start. Until then nothing
    /// should be deleted or given up because of its age.
    #[must_use]
    pub fn is_confirmed(&self) -> bool {
        self.state().confirmed
    }

    /// The skew, where it is large enough for Maskinporten to refuse grants.
    #[must_use]
    pub fn harmful(&self) -> Option<SignedDuration> {
        self.ahead().filter(|ahead| ahead.abs() > TOLERANCE)
    }

    fn state(&self) -> State {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// "37s ahead", "2m behind".
#[must_use]
pub fn in_words(ahead: SignedDuration) -> String {
    let length = humantime::format_duration(Duration::from_secs(ahead.unsigned_abs().as_secs()));
    if ahead.is_negative() { format!("{length} behind") } else { format!("{length} ahead") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_confirmed_once_and_its_last_difference_is_kept() {
        let (skew, server) = (Skew::new(), Timestamp::from_second(1_800_000_000).unwrap());
        assert_eq!((skew.ahead(), skew.is_confirmed(), skew.harmful()), (None, false, None));
        skew.observe(server, server + SignedDuration::from_hours(80_000));
        assert!(!skew.is_confirmed());
        assert!(skew.harmful().is_some());
        skew.observe(server, server - SignedDuration::from_secs(9));
        assert!(skew.is_confirmed());
        assert_eq!(skew.harmful(), None);
        skew.observe(server, server - SignedDuration::from_secs(11));
        assert_eq!(skew.harmful().map(in_words).as_deref(), Some("11s behind"));
        assert!(skew.is_confirmed());
    }
}
