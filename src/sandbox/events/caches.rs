//! What Altinn Events remembers about subscriptions and rights, so that new ones are ignored and
//! old ones go on for a while (Events API, caches that surprise).

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::subscriptions::Held;
use crate::sandbox::clock::later;

/// Entries per cache; a full one is emptied.
const LARGEST: usize = 10_000;

/// Answers that are good until their time is over, "none" and "no" included.
#[derive(Debug)]
pub(super) struct Cache<K, V> {
    entries: HashMap<K, (Timestamp, V)>,
}

impl<K: Eq + Hash, V: Clone> Cache<K, V> {
    fn get(&mut self, lifetime: Duration, now: Timestamp, key: K, ask: impl FnOnce() -> V) -> V {
        if lifetime.is_zero() {
            return ask();
        }
        if let Some((until, value)) = self.entries.get(&key)
            && *until > now
        {
            return value.clone();
        }
        let value = ask();
        if self.entries.len() >= LARGEST {
            self.entries.retain(|_, (until, _)| *until > now);
            if self.entries.len() >= LARGEST {
                self.entries.clear();
            }
        }
        self.entries.insert(key, (later(now, lifetime), value.clone()));
        value
    }
}

impl<K, V> Default for Cache<K, V> {
    fn default() -> Self {
        Self { entries: HashMap::new() }
    }
}

/// Resource, subject and type.
type Combination = (String, String, &'static str);

/// Both of them.
#[derive(Debug, Default)]
pub(super) struct Caches {
    subscriptions: Cache<Combination, Arc<[Arc<Held>]>>,
    /// By resource and consumer, whatever the subject.
    rights: Cache<(String, String), bool>,
}

impl Caches {
    /// The subscriptions found for a resource, a subject and a kind.
    pub(super) fn subscriptions(
        &mut self,
        lifetime: Duration,
        now: Timestamp,
        key: (&str, &str, &'static str),
        ask: impl FnOnce() -> Vec<Arc<Held>>,
    ) -> Arc<[Arc<Held>]> {
        let key = (key.0.to_owned(), key.1.to_owned(), key.2);
        self.subscriptions.get(lifetime, now, key, || ask().into())
    }

    /// Whether a consumer may subscribe to a resource.
    pub(super) fn right(
        &mut self,
        lifetime: Duration,
        now: Timestamp,
        key: (&str, &str),
        ask: impl FnOnce() -> bool,
    ) -> bool {
        self.rights.get(lifetime, now, (key.0.to_owned(), key.1.to_owned()), ask)
    }
}
