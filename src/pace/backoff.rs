//! The wait before the next attempt. The only place that knows the `backoff` crate, which gives the durations
//! and nothing else: jitter comes from our own source of chance, and nothing here ever gives up.

use std::sync::Arc;
use std::time::Duration;

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff as _;

use super::Error;
use crate::seams::Random;

/// The longest wait that a server's `Retry-After` can ask for. One that asks for a day is broken or hostile.
pub const LONGEST_RETRY_AFTER: Duration = Duration::from_hours(1);

/// After this many doublings every wait is the longest, whatever the settings.
const MOST_STEPS: u32 = 64;

/// Waits that double from `initial` to `max`, each shortened at random by up to a half, so that those who
/// failed together do not come back together. Cannot hold an `initial` above its `max`.
#[derive(Debug, Clone)]
pub struct Backoff {
    initial: Duration,
    max: Duration,
    random: Arc<dyn Random>,
}

impl Backoff {
    /// Waits from `initial` to `max`.
    pub fn new(initial: Duration, max: Duration, random: Arc<dyn Random>) -> Result<Self, Error> {
        if initial.is_zero() {
            return Err(Error::ZeroInitial);
        }
        if initial > max {
            return Err(Error::InitialOverMax { initial, max });
        }
        Ok(Self { initial, max, random })
    }

    /// The longest wait.
    #[must_use]
    pub fn max(&self) -> Duration {
        self.max
    }

    /// The wait after the attempt of this number, the first being 0.
    #[must_use]
    pub fn delay(&self, attempt: u32) -> Duration {
        let whole = self.interval(attempt);
        whole.mul_f64(f64::midpoint(1.0, self.random.fraction())).min(whole)
    }

    /// As [`Backoff::delay`], and at least as long as the server asked for, within reason.
    #[must_use]
    pub fn delay_after(&self, attempt: u32, retry_after: Option<Duration>) -> Duration {
        let asked = retry_after.unwrap_or_default().min(LONGEST_RETRY_AFTER);
        self.delay(attempt).max(asked)
    }

    /// The wait before it is shortened.
    fn interval(&self, attempt: u32) -> Duration {
        let mut intervals = ExponentialBackoff {
            current_interval: self.initial,
            initial_interval: self.initial,
            randomization_factor: 0.0,
            multiplier: 2.0,
            max_interval: self.max,
            // Whether to give up is decided by who knows what is at stake.
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        };
        for _ in 0..attempt.min(MOST_STEPS) {
            if intervals.next_backoff().is_none() {
                return self.max;
            }
        }
        intervals.current_interval.min(self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seams::SeededRandom;

    fn backoff(initial_ms: u64, max_ms: u64) -> Result<Backoff, Error> {
        let random = Arc::new(SeededRandom::new(7));
        Backoff::new(Duration::from_millis(initial_ms), Duration::from_millis(max_ms), random)
    }

    #[test]
    fn an_initial_above_the_maximum_cannot_be_held() {
        assert_eq!(
            backoff(2, 1).unwrap_err(),
            Error::InitialOverMax { initial: Duration::from_millis(2), max: Duration::from_millis(1) }
        );
        assert_eq!(backoff(0, 1).unwrap_err(), Error::ZeroInitial);
        assert!(backoff(1, 1).is_ok());
    }

    #[test]
    fn waits_double_up_to_the_maximum() {
        let backoff = backoff(1_000, 300_000).unwrap();
        let whole: Vec<u64> = (0..12).map(|attempt| backoff.interval(attempt).as_secs()).collect();
        assert_eq!(whole, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
        assert_eq!(backoff.interval(u32::MAX), Duration::from_mins(5));
    }

    #[test]
    fn what_the_server_asks_for_is_honoured_within_reason() {
        let backoff = backoff(1_000, 2_000).unwrap();
        assert_eq!(backoff.delay_after(0, Some(Duration::from_secs(30))), Duration::from_secs(30));
        assert_eq!(backoff.delay_after(0, Some(Duration::from_hours(24))), LONGEST_RETRY_AFTER);
        assert!(backoff.delay_after(5, Some(Duration::ZERO)) >= Duration::from_secs(1));
    }

    proptest::proptest! {
        #[test]
        fn jitter_stays_between_a_half_and_the_whole(initial in 1u64..10_000, more in 0u64..1_000_000, attempt in 0u32..100) {
            let backoff = backoff(initial, initial + more).unwrap();
            let (whole, delay) = (backoff.interval(attempt), backoff.delay(attempt));
            proptest::prop_assert!(delay <= whole && delay >= whole / 2, "{delay:?} of {whole:?}");
        }
    }
}
