//! When what could not be posted is posted again (Events API, retry schedule).

use std::time::Duration;

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const fn minutes(minutes: u64) -> Duration {
    Duration::from_mins(minutes)
}

const fn hours(hours: u64) -> Duration {
    Duration::from_hours(hours)
}

/// The waits after the first, second, … failure of a validation; then it is dead.
const VALIDATION: [Duration; 8] =
    [seconds(1), seconds(5), seconds(10), seconds(30), seconds(60), seconds(120), seconds(120), seconds(120)];

/// The waits after the first, second, … failure of a delivery; then the event is dropped.
const DELIVERY: [Duration; 11] = [
    seconds(10),
    seconds(30),
    minutes(1),
    minutes(5),
    minutes(10),
    minutes(30),
    hours(1),
    hours(3),
    hours(6),
    hours(12),
    hours(12),
];

/// Which schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Schedule {
    /// That of the validation of a subscription.
    Validation,
    /// That of the delivery of an event.
    Delivery,
}

impl Schedule {
    /// The wait after the given attempt, counted from 1, has failed; `None` after the last.
    pub(super) fn wait_after(self, attempt: u32) -> Option<Duration> {
        let waits: &[Duration] = match self {
            Self::Validation => &VALIDATION,
            Self::Delivery => &DELIVERY,
        };
        waits.get(usize::try_from(attempt).ok()?.checked_sub(1)?).copied()
    }
}
