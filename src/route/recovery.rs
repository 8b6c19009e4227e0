//! What was in flight when the service was last stopped or killed: it is compared with Altinn before anything new of
//! its route is begun, and the log says of each what was found and decided.
//!
//! Bounded both ways: so many go first, and for so long. The others are compared in their turn, and a platform that is
//! down keeps nobody from taking in new files.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::{info, warn};

use super::{Next, Trouble};
use crate::transfer::{BrokerTransferId, RouteName, Transfer, TransferId};

/// Transfers that new work waits for.
const FIRST: usize = 256;
/// New work waits no longer than this, whatever Altinn says or does not say.
const PATIENCE: Duration = Duration::from_mins(1);
/// Transfers whose comparison is told of one by one.
const TOLD: usize = 10_000;

/// The transfers of a route that were in flight at the start.
#[derive(Debug)]
pub struct Recovery {
    route: RouteName,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Not compared yet.
    open: HashMap<TransferId, InFlight>,
    /// What Altinn has said of those.
    said: HashMap<BrokerTransferId, Option<String>>,
    /// Of those, the ones that go first.
    first: Vec<TransferId>,
    until: Option<Instant>,
    untold: usize,
}

#[derive(Debug, Clone, Copy)]
struct InFlight {
    was: &'static str,
    /// Altinn's id of it, then.
    id: Option<BrokerTransferId>,
}

/// What was decided of a transfer that was in flight, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// What is done, in two or three words.
    pub what: &'static str,
    /// Why that.
    pub why: &'static str,
}

impl Recovery {
    /// Nothing was in flight.
    #[must_use]
    pub fn new(route: RouteName) -> Self {
        Self { route, state: Mutex::default(), changed: Notify::new() }
    }

    /// Forgets what a start before this one found.
    pub fn begin(&self) {
        self.with(|state| *state = State { until: Some(Instant::now() + PATIENCE), ..State::default() });
    }

    /// A transfer was in flight, in the state that its record has.
    pub fn found(&self, transfer: &Transfer, was: &'static str) {
        self.with(|state| {
            if state.open.len() >= TOLD {
                state.untold += 1;
                return;
            }
            let id = transfer.broker_id();
            state.open.insert(transfer.id, InFlight { was, id });
            if let Some(id) = id {
                state.said.insert(id, None);
            }
            if state.first.len() < FIRST {
                state.first.push(transfer.id);
            }
        });
    }

    /// All have been found.
    pub fn all_found(&self) {
        let (open, untold) = self.with(|state| (state.open.len(), state.untold));
        if open + untold > 0 {
            info!(
                code = "recovery_begun",
                route = self.route.as_str(),
                in_flight = open + untold,
                told_of = open,
                "transfers were in flight: they are compared with Altinn first"
            );
        }
    }

    /// Those that are to be taken in hand before anything else.
    #[must_use]
    pub fn first(&self) -> Vec<TransferId> {
        self.with(|state| {
            if state.until.is_some_and(|until| until <= Instant::now()) {
                state.first.clear();
            }
            state.first.clone()
        })
    }

    /// Waits until new work may begin.
    pub async fn first_done(&self) {
        loop {
            let changed = self.changed.notified();
            let Some(until) = self.with(|state| state.until.filter(|_| !state.first.is_empty())) else {
                return;
            };
            if tokio::time::timeout_at(until, changed).await.is_err() {
                warn!(
                    code = "recovery_slow",
                    route = self.route.as_str(),
                    "not everything that was in flight could be compared with Altinn: new work begins meanwhile"
                );
                self.with(|state| state.first.clear());
                return;
            }
        }
    }

    /// Whether a transfer was in flight and has yet to be compared.
    #[must_use]
    pub fn is_open(&self, id: TransferId) -> bool {
        self.with(|state| state.open.contains_key(&id))
    }

    /// Altinn has said this of a transfer.
    pub fn said(&self, id: BrokerTransferId, words: &dyn std::fmt::Display) {
        self.with(|state| {
            if let Some(said) = state.said.get_mut(&id) {
                *said = Some(words.to_string());
            }
        });
    }

    /// A step of a transfer has ended: it goes first no more, and if Altinn has been heard, that is told. `decide`
    /// says what was decided; where Altinn was heard in another way than by [`Recovery::said`], it says what it said.
    pub fn stepped(
        &self,
        transfer: &Transfer,
        outcome: &Result<Next, Trouble>,
        decide: impl FnOnce(&'static str) -> (Option<&'static str>, Decision),
    ) {
        let Some(InFlight { was, id }) = self.with(|state| state.open.get(&transfer.id).copied()) else {
            return;
        };
        let heard = id.and_then(|id| self.with(|state| state.said.get(&id).cloned().flatten()));
        let (otherwise, Decision { what, why }) = decide(was);
        let heard = heard.or_else(|| otherwise.map(str::to_owned));
        if let Some(altinn) = &heard {
            let id = id.or_else(|| transfer.broker_id());
            let file_transfer = id.map(|id| id.to_string()).unwrap_or_default();
            info!(code = "recovered", %file_transfer, was, altinn, now = transfer.phase(), decision = what, reason = why, "was in flight: compared with Altinn");
        }
        // Who is in the middle of it goes on being the first.
        if heard.is_some() || !matches!(outcome, Ok(Next::Step)) {
            self.step_back(transfer.id, heard.is_some());
        }
    }

    /// A transfer that is gone.
    pub fn forget(&self, id: TransferId) {
        self.step_back(id, true);
    }

    fn step_back(&self, id: TransferId, is_over: bool) {
        let is_done = self.with(|state| {
            state.first.retain(|first| *first != id);
            if is_over {
                state.open.remove(&id);
                if state.open.is_empty() {
                    state.said = HashMap::new();
                }
            }
            state.first.is_empty()
        });
        if is_done {
            self.changed.notify_waiters();
        }
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::Kind;
    use crate::transfer::{Incoming, samples};

    fn in_flight(number: usize) -> Recovery {
        let recovery = Recovery::new("a".parse().unwrap());
        recovery.begin();
        for transfer in transfers(number) {
            recovery.found(&transfer, "uploading");
        }
        recovery
    }

    fn transfers(number: usize) -> Vec<Transfer> {
        let progress = Incoming::Discovered { offer: samples::offer(1, "910753614") };
        let id = |number: usize| TransferId::new(number as u64, [0; 16]);
        let sample = Transfer::incoming(id(0), "a".parse().unwrap(), progress, samples::at(0));
        (0..number).map(|number| Transfer { id: id(number), ..sample.clone() }).collect()
    }

    fn trouble() -> Trouble {
        Trouble::new(Kind::Temporary(None), "timeout", "m".into(), "r", jiff::Timestamp::UNIX_EPOCH)
    }

    fn decided(_: &'static str) -> (Option<&'static str>, Decision) {
        (None, Decision { what: "waited for", why: "w" })
    }

    #[tokio::test(start_paused = true)]
    async fn new_work_waits_for_what_was_in_flight_and_not_longer_than_a_minute() {
        let recovery = in_flight(2);
        let [one, other] = transfers(2).try_into().unwrap();
        let start = Instant::now();
        recovery.said(one.broker_id().unwrap(), &"Published");
        recovery.stepped(&one, &Ok(Next::Wait), decided);
        assert!(!recovery.is_open(one.id) && recovery.is_open(other.id));
        assert_eq!(recovery.first(), [other.id]);
        recovery.first_done().await;
        assert_eq!(start.elapsed(), PATIENCE);
        assert!(recovery.first().is_empty());
        assert!(recovery.is_open(other.id), "it is compared in its turn");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_cannot_be_compared_now_keeps_nobody_waiting() {
        let recovery = in_flight(1);
        let transfer = transfers(1).remove(0);
        let start = Instant::now();
        let step = async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            recovery.stepped(&transfer, &Err(trouble()), decided);
        };
        tokio::join!(recovery.first_done(), step);
        assert_eq!(start.elapsed(), Duration::from_secs(5));
        assert!(recovery.is_open(transfer.id), "Altinn has yet to be heard");
    }

    #[tokio::test(start_paused = true)]
    async fn however_many_there_are_few_go_first() {
        let recovery = in_flight(TOLD + 5);
        assert_eq!(recovery.first().len(), FIRST);
        assert_eq!(recovery.with(|state| (state.open.len(), state.untold)), (TOLD, 5));
        in_flight(0).first_done().await;
    }
}
