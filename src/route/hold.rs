//! A route in trouble that is nobody's file's fault: rights, scope, resource, keys. It is held: files stay where
//! they are, and one attempt at a time looks whether the trouble has passed.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tracing::{error, info, warn};

use super::later;
use crate::transfer::{Failure, RouteName};

/// Trouble that lasts this long is somebody's to act on; before that it may be a hiccup of Altinn's
/// authorization, which looks the same.
const ALARM_AFTER: Duration = Duration::from_mins(15);

/// Whether a route is held, and why.
#[derive(Debug)]
pub struct Hold {
    route: RouteName,
    probe_every: Duration,
    held: Mutex<Option<Held>>,
}

#[derive(Debug)]
struct Held {
    since: Timestamp,
    next_probe: Timestamp,
    failure: Failure,
    alarmed: bool,
}

impl Hold {
    /// A route that is not held. While it is, one attempt is made per `probe_every`.
    #[must_use]
    pub fn new(route: RouteName, probe_every: Duration) -> Self {
        Self { route, probe_every, held: Mutex::new(None) }
    }

    /// Lets the caller pass if the route is not held, or if it is time to look again: then the caller is the one
    /// that looks. Otherwise says why it is held, and when to come again.
    pub fn pass(&self, now: Timestamp) -> Result<(), (Failure, Timestamp)> {
        self.with(|held| match held {
            None => Ok(()),
            // One that is further away was named by a clock that has been set back since.
            Some(held) if now >= held.next_probe || held.next_probe > later(now, self.probe_every) => {
                held.next_probe = later(now, self.probe_every);
                Ok(())
            }
            Some(held) => Err((held.failure.clone(), held.next_probe)),
        })
    }

    /// Whether the route is held.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.with(|held| held.is_some())
    }

    /// Holds the route, or goes on holding it; returns when to look again.
    pub fn hold(&self, failure: &Failure, now: Timestamp) -> Timestamp {
        self.with(|slot| {
            let next_probe = later(now, self.probe_every);
            let is_new = slot.is_none();
            let held = slot.get_or_insert_with(|| Held {
                since: now,
                next_probe,
                failure: failure.clone(),
                alarmed: false,
            });
            held.failure = failure.clone();
            // Whoever looked has moved the time already; others that fail meanwhile do not push it out further.
            if now >= held.next_probe || held.next_probe > next_probe {
                held.next_probe = next_probe;
            }
            let route = self.route.as_str();
            if is_new {
                warn!(route, code = %failure.code, reason = %failure.message, remedy = %failure.remedy, "route held: files wait where they are");
            } else if !held.alarmed && later(held.since, ALARM_AFTER) <= now {
                held.alarmed = true;
                error!(route, code = %failure.code, reason = %failure.message, remedy = %failure.remedy, since = %held.since, "route is still held: somebody must act");
            }
            held.next_probe
        })
    }

    /// Altinn has taken something: the trouble is over.
    pub fn release(&self) {
        if let Some(held) = self.with(Option::take) {
            info!(route = self.route.as_str(), since = %held.since, code = %held.failure.code, "route works again");
        }
    }

    fn with<T>(&self, work: impl FnOnce(&mut Option<Held>) -> T) -> T {
        work(&mut self.held.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(at: Timestamp) -> Failure {
        Failure { code: "no_rights".into(), message: "m".into(), remedy: "r".into(), at, altinn: None }
    }

    #[test]
    fn one_attempt_looks_and_the_others_wait() {
        let hold = Hold::new("a".parse().unwrap(), Duration::from_mins(5));
        let start = Timestamp::UNIX_EPOCH;
        assert!(hold.pass(start).is_ok());
        let probe = hold.hold(&failure(start), start);
        assert_eq!(probe, later(start, Duration::from_mins(5)));
        assert_eq!(hold.pass(later(start, Duration::from_secs(299))).unwrap_err().1, probe);
        assert!(hold.pass(probe).is_ok(), "the probe");
        assert!(hold.pass(probe).is_err(), "only one");
        // The clock was wrong, and has been set back.
        assert!(hold.pass(later(start, Duration::from_secs(1))).is_ok(), "it looks, and not in years alone");
        assert!(hold.pass(later(start, Duration::from_secs(2))).is_err(), "only one");
        hold.release();
        assert!(hold.pass(probe).is_ok());
    }
}
