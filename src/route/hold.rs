//! A route in trouble that is nobody's file's fault: rights, scope, resource, keys. It is held: files stay where
//! they are, and one attempt at a time looks whether the trouble has passed.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tracing::{error, info, warn};

use super::later;
use crate::transfer::{Failure, RouteName, TransferId};

/// Trouble that lasts this long is somebody's to act on; before that it may be a hiccup of Altinn's
/// authorization, which looks the same.
const ALARM_AFTER: Duration = Duration::from_mins(15);

/// Files that were in trouble while others succeeded are remembered, as many as this.
const MAX_BLAMED: usize = 256;

/// Whether a route is held, and why.
///
/// Trouble that looks like the route's may be one file's: a name that a firewall does not like, a resource that its
/// sidecar chose. So the first file that meets it is put off alone, and the route is held when a second one, or the
/// same again before anything has succeeded, meets it too. While it is held, files that have not met it look first; and
/// when one succeeds, those that did not do not hold the route again.
#[derive(Debug)]
pub struct Hold {
    route: RouteName,
    probe_every: Duration,
    state: Mutex<State>,
}

/// Where the trouble shows, which is also where it shows that it is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// When Altinn is asked for something.
    Asking,
    /// When Altinn is given a file's content: asking may go well all the same.
    Sending,
}

#[derive(Debug, Default)]
struct State {
    held: Option<Held>,
    /// The one that has met such trouble since something last succeeded.
    suspect: Option<(TransferId, Stage)>,
    /// Those that met it while others succeeded.
    blamed: HashSet<TransferId>,
}

#[derive(Debug)]
struct Held {
    since: Timestamp,
    stage: Stage,
    next_probe: Timestamp,
    /// Who looks: where it is the sending that fails, that takes it more than one step.
    looks: Option<TransferId>,
    failure: Failure,
    alarmed: bool,
    /// Those that have met the trouble.
    failed: HashSet<TransferId>,
}

/// What follows from trouble that looks like the route's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The route is held; it is this file's turn again at that time.
    Held(Timestamp),
    /// The file alone is put off until that time.
    Alone(Timestamp),
}

impl Hold {
    /// A route that is not held. While it is, one attempt is made per `probe_every`.
    #[must_use]
    pub fn new(route: RouteName, probe_every: Duration) -> Self {
        Self { route, probe_every, state: Mutex::default() }
    }

    /// Lets the caller (`who`, where it is about a file) pass if the route is not held, or if it is time to look again:
    /// then the caller is the one that looks. Otherwise says why it is held, and when to come again.
    pub fn pass(&self, who: Option<TransferId>, now: Timestamp) -> Result<(), (Failure, Timestamp)> {
        self.with(|state| {
            let Some(held) = &mut state.held else { return Ok(()) };
            let turn = self.turn(held, who);
            // One that is further away was named by a clock that has been set back since.
            let is_believable = held.next_probe <= later(now, self.probe_every);
            if held.stage == Stage::Sending && who.is_some() && held.looks == who {
                return Ok(());
            }
            if now < turn && is_believable {
                return Err((held.failure.clone(), turn));
            }
            held.looks = who;
            held.next_probe = later(now, self.probe_every);
            Ok(())
        })
    }

    /// When somebody may look: who has met the trouble, a little later than the others.
    fn turn(&self, held: &Held, who: Option<TransferId>) -> Timestamp {
        let has_looked = who.is_some_and(|who| held.failed.contains(&who));
        if has_looked { later(held.next_probe, self.probe_every / 10) } else { held.next_probe }
    }

    /// A file has met trouble that looks like the route's.
    pub fn failed(&self, who: TransferId, failure: &Failure, now: Timestamp) -> Verdict {
        self.failed_at(Stage::Asking, who, failure, now)
    }

    /// A file has met such trouble when its content was sent. That Altinn answers what is asked does not show that it
    /// is over.
    pub fn failed_sending(&self, who: TransferId, failure: &Failure, now: Timestamp) -> Verdict {
        self.failed_at(Stage::Sending, who, failure, now)
    }

    fn failed_at(&self, stage: Stage, who: TransferId, failure: &Failure, now: Timestamp) -> Verdict {
        let alone = self.with(|state| {
            if state.blamed.contains(&who) {
                return true;
            }
            state.held.is_none() && state.suspect.replace((who, stage)).is_none()
        });
        if alone {
            return Verdict::Alone(later(now, self.probe_every));
        }
        Verdict::Held(self.hold_for(Some(who), stage, failure, now))
    }

    /// Whether the route is held.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.with(|state| state.held.is_some())
    }

    /// Holds the route, or goes on holding it, for trouble that is no file's; returns when to look again.
    pub fn hold(&self, failure: &Failure, now: Timestamp) -> Timestamp {
        self.hold_for(None, Stage::Asking, failure, now)
    }

    fn hold_for(
        &self,
        who: Option<TransferId>,
        stage: Stage,
        failure: &Failure,
        now: Timestamp,
    ) -> Timestamp {
        self.with(|state| {
            let next_probe = later(now, self.probe_every);
            let is_new = state.held.is_none();
            let suspect = state.suspect;
            let held = state.held.get_or_insert_with(|| Held {
                since: now,
                stage,
                next_probe,
                looks: None,
                failure: failure.clone(),
                alarmed: false,
                failed: suspect.into_iter().map(|(suspect, _)| suspect).collect(),
            });
            held.stage = stage;
            if held.looks == who {
                held.looks = None;
            }
            if held.failed.len() < MAX_BLAMED {
                held.failed.extend(who);
            }
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
            self.turn(held, who)
        })
    }

    /// Altinn has done what it was asked: trouble that shows when it is asked is over, or was that of those that met it.
    pub fn release_asking(&self) {
        let is_asking = self.with(|state| {
            let stage = state.held.as_ref().map(|held| held.stage);
            stage.or(state.suspect.map(|(_, stage)| stage)) == Some(Stage::Asking)
        });
        if is_asking {
            self.release();
        }
    }

    /// Altinn has taken something: the trouble is over, or was that of those that met it.
    pub fn release(&self) {
        let released = self.with(|state| {
            state.suspect = None;
            let held = state.held.take()?;
            if state.blamed.len() + held.failed.len() > MAX_BLAMED {
                state.blamed.clear();
            }
            state.blamed.extend(&held.failed);
            Some(held)
        });
        if let Some(held) = released {
            info!(route = self.route.as_str(), since = %held.since, code = %held.failure.code, "route works again");
        }
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::UNIX_EPOCH;
    const FIVE: Duration = Duration::from_mins(5);

    fn failure(at: Timestamp) -> Failure {
        Failure { code: "no_rights".into(), message: "m".into(), remedy: "r".into(), at, altinn: None }
    }

    fn id(number: u64) -> TransferId {
        TransferId::new(number, [0; 16])
    }

    fn hold() -> Hold {
        Hold::new("a".parse().unwrap(), FIVE)
    }

    fn fails(hold: &Hold, who: u64, now: Timestamp) -> Verdict {
        hold.failed(id(who), &failure(now), now)
    }

    #[test]
    fn one_attempt_looks_and_the_others_wait() {
        let hold = hold();
        assert!(hold.pass(None, START).is_ok());
        let probe = hold.hold(&failure(START), START);
        assert_eq!(probe, later(START, FIVE));
        assert_eq!(hold.pass(Some(id(1)), later(START, Duration::from_secs(299))).unwrap_err().1, probe);
        assert!(hold.pass(Some(id(1)), probe).is_ok(), "the probe");
        assert!(hold.pass(Some(id(2)), probe).is_err(), "only one");
        // The clock was wrong, and has been set back.
        assert!(
            hold.pass(None, later(START, Duration::from_secs(1))).is_ok(),
            "it looks, and not in years alone"
        );
        assert!(hold.pass(None, later(START, Duration::from_secs(2))).is_err(), "only one");
        hold.release();
        assert!(hold.pass(Some(id(2)), probe).is_ok());
    }

    #[test]
    fn two_files_in_trouble_hold_the_route_and_one_does_when_it_is_alone() {
        let hold = hold();
        assert_eq!(fails(&hold, 1, START), Verdict::Alone(later(START, FIVE)));
        assert!(!hold.is_held());
        assert!(matches!(fails(&hold, 2, START), Verdict::Held(_)));
        assert!(hold.is_held());

        let hold = self::hold();
        fails(&hold, 1, START);
        assert!(matches!(fails(&hold, 1, later(START, FIVE)), Verdict::Held(_)));
        assert!(hold.is_held());
    }

    #[test]
    fn a_file_that_is_alone_in_its_trouble_keeps_nobody_waiting() {
        let hold = hold();
        // Others succeed in between.
        for _ in 0..10 {
            assert!(matches!(fails(&hold, 1, START), Verdict::Alone(_)));
            hold.release();
        }
        // It comes twice before another one does.
        fails(&hold, 1, START);
        let Verdict::Held(turn) = fails(&hold, 1, START) else { panic!("not held") };
        let probe = later(START, FIVE);
        assert!(turn > probe, "another one looks first");
        assert!(hold.pass(Some(id(1)), probe).is_err());
        assert!(hold.pass(Some(id(2)), probe).is_ok());
        hold.release();
        for _ in 0..10 {
            assert!(matches!(fails(&hold, 1, probe), Verdict::Alone(_)));
            assert!(!hold.is_held());
        }
        // Trouble that all are in holds the route all the same.
        fails(&hold, 2, probe);
        assert!(matches!(fails(&hold, 3, probe), Verdict::Held(_)));
        hold.release();
        for who in [1, 2, 3] {
            assert!(matches!(fails(&hold, who, probe), Verdict::Alone(_)), "another one has succeeded");
        }
    }

    #[test]
    fn trouble_with_sending_is_over_when_something_was_sent() {
        let hold = hold();
        let fails = |who, now| hold.failed_sending(id(who), &failure(now), now);
        assert!(matches!(fails(1, START), Verdict::Alone(_)));
        hold.release_asking();
        assert!(matches!(fails(2, START), Verdict::Held(_)), "asking has shown nothing");
        let probe = later(START, FIVE);
        assert!(hold.pass(Some(id(3)), probe).is_ok());
        hold.release_asking();
        assert!(hold.is_held());
        assert!(hold.pass(Some(id(3)), probe).is_ok(), "the same looks on");
        assert!(hold.pass(Some(id(4)), probe).is_err(), "only one");
        assert!(matches!(fails(3, probe), Verdict::Held(_)));
        assert!(hold.pass(Some(id(3)), probe).is_err(), "it has looked");
        let probe = later(probe, FIVE);
        assert!(hold.pass(Some(id(4)), probe).is_ok());
        hold.release();
        assert!(!hold.is_held());
    }
}
