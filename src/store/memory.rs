//! A database in memory, for simulations: a commit is atomic and lasts at once, and what there is can be copied, so
//! that a test goes on from any moment. Debug builds alone have it.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::engine::{Changes, Engine, Pair};
use super::{DecodeError, Error, keys, record};
use crate::seams::crash_point;
use crate::transfer::Transfer;

type Content = BTreeMap<Vec<u8>, Vec<u8>>;

/// What a simulated store holds. Clones are the same; for a copy there is [`Memory::copy`].
#[derive(Debug, Clone, Default)]
pub struct Memory(Arc<Mutex<Content>>);

impl Memory {
    /// Another store with the same content.
    #[must_use]
    pub fn copy(&self) -> Self {
        Self(Arc::new(Mutex::new(self.content().clone())))
    }

    /// Another store with the same content, but for a piece of text in its documents.
    #[must_use]
    pub fn replaced(&self, text: &str, other: &str) -> Self {
        let replaced = |value: &Vec<u8>| match std::str::from_utf8(value) {
            Ok(document) if document.contains(text) => document.replace(text, other).into_bytes(),
            _ => value.clone(),
        };
        let content = self.content().iter().map(|(key, value)| (key.clone(), replaced(value))).collect();
        Self(Arc::new(Mutex::new(content)))
    }

    /// Every active transfer.
    pub fn transfers(&self) -> Result<Vec<Transfer>, DecodeError> {
        let content = self.content();
        let records =
            content.range(keys::RECORDS.to_vec()..).take_while(|(key, _)| key.starts_with(keys::RECORDS));
        records.map(|(_, bytes)| record::decode(bytes).map(record::Record::into_transfer)).collect()
    }

    /// How many transfers are active.
    #[must_use]
    pub fn count(&self) -> usize {
        let content = self.content();
        content.range(keys::RECORDS.to_vec()..).take_while(|(key, _)| key.starts_with(keys::RECORDS)).count()
    }

    /// Every key with its value.
    #[must_use]
    pub fn pairs(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.content().iter().map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine for Memory {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.content().get(key).cloned())
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Pair>, Error> {
        let start = after.map_or(Included(prefix), Excluded);
        let content = self.content();
        let pairs =
            content.range::<[u8], _>((start, Unbounded)).take_while(|(key, _)| key.starts_with(prefix));
        Ok(pairs.take(limit).map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    fn commit(&self, changes: Changes) -> Result<(), Error> {
        crash_point("store:committing");
        let mut content = self.content();
        for (key, value) in changes {
            match value {
                Some(value) => content.insert(key, value),
                None => content.remove(&key),
            };
        }
        drop(content);
        crash_point("store:committed");
        Ok(())
    }
}
