//! Faults on demand: what goes wrong, by rule.
//!
//! Rules are asked in their order; where there are none, a request is not looked at.

mod canned;
mod control;
mod effect;
mod operations;
mod plan;
mod quirk;
mod read;
mod rule;
mod shape;

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use uuid::Uuid;

use super::clock::Clock;
#[cfg(test)]
pub(super) use canned::BODIES;
pub(super) use control::control;
#[cfg(test)]
pub(super) use effect::EFFECTS;
#[cfg(test)]
pub(super) use operations::{GROUPS, NAMES};
pub(super) use plan::told;
pub(super) use quirk::Quirk;
pub use read::RuleError;
pub use rule::FaultRules;
use rule::Live;

tokio::task_local! {
    /// The rules whose quirks have struck in the course of a request.
    static STRUCK: RefCell<Vec<String>>;
}

/// The rules in force.
pub(super) struct Faults {
    clock: Arc<dyn Clock>,
    /// Whether there are any.
    any: AtomicBool,
    rules: Mutex<Rules>,
}

#[derive(Default)]
struct Rules {
    /// How many rules there have ever been, for the names of those that have none.
    made: u64,
    live: Vec<Live>,
}

/// Rules that cannot be put in force together.
#[derive(Debug, thiserror::Error)]
#[error("there is a rule with the `name` \"{0}\" already")]
pub(super) struct NameTaken(String);

impl Faults {
    pub(super) fn new(clock: Arc<dyn Clock>, rules: FaultRules) -> Self {
        let faults = Self { clock, any: AtomicBool::new(false), rules: Mutex::default() };
        faults.replace(rules);
        faults
    }

    /// Whether a peculiarity strikes here and now, and how much of it; each call counts as one
    /// occurrence. `organization` is nine digits.
    pub(super) fn strikes(&self, quirk: Quirk, organization: Option<&str>) -> Option<u64> {
        self.strikes_as(quirk, organization, None)
    }

    /// The same for a step of an event of that kind, about a transfer, to an organisation.
    pub(super) fn strikes_event(
        &self,
        quirk: Quirk,
        organization: &str,
        kind: &str,
        transfer: Uuid,
    ) -> Option<u64> {
        self.strikes_as(quirk, Some(organization), Some((kind, transfer)))
    }

    fn strikes_as(
        &self,
        quirk: Quirk,
        organization: Option<&str>,
        event: Option<(&str, Uuid)>,
    ) -> Option<u64> {
        if !self.any() {
            return None;
        }
        let now = self.clock.now();
        self.lock().live.iter_mut().find_map(|live| {
            let amount = live.strikes_as(quirk, organization, event, now)?;
            // Outside a request there is no entry for its name.
            STRUCK.try_with(|struck| struck.borrow_mut().push(live.name.clone())).unwrap_or_default();
            Some(amount)
        })
    }

    /// Puts these rules in the place of all others.
    pub(super) fn replace(&self, rules: FaultRules) {
        let mut all = self.lock();
        all.live.clear();
        // Nothing is there whose name could be taken.
        self.append(&mut all, rules);
    }

    /// Adds rules below the others.
    fn add(&self, rules: FaultRules) -> Result<(), NameTaken> {
        let mut all = self.lock();
        let taken = |name: &&String| all.live.iter().any(|live| live.name == **name);
        if let Some(name) = rules.0.iter().filter_map(|rule| rule.name.as_ref()).find(taken) {
            return Err(NameTaken(name.clone()));
        }
        self.append(&mut all, rules);
        Ok(())
    }

    fn append(&self, all: &mut Rules, rules: FaultRules) {
        let now = self.clock.now();
        let given: Vec<String> = rules.0.iter().filter_map(|rule| rule.name.clone()).collect();
        for rule in rules.0 {
            let name = rule.name.clone().unwrap_or_else(|| {
                loop {
                    all.made += 1;
                    let name = format!("fault-{}", all.made);
                    if !given.contains(&name) && all.live.iter().all(|live| live.name != name) {
                        break name;
                    }
                }
            });
            all.live.push(Live::new(name, rule, now));
        }
        self.any.store(!all.live.is_empty(), Ordering::Release);
    }

    /// Removes the rule of that name; whether there was one.
    fn remove(&self, name: &str) -> bool {
        let mut all = self.lock();
        let before = all.live.len();
        all.live.retain(|live| live.name != name);
        self.any.store(!all.live.is_empty(), Ordering::Release);
        all.live.len() < before
    }

    /// The rules with what came of them.
    fn show(&self) -> Vec<Value> {
        self.lock().live.iter().map(Live::show).collect()
    }

    pub(super) fn any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    fn lock(&self) -> MutexGuard<'_, Rules> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
