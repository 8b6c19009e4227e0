//! What the owner and all readers share.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};

use jiff::Timestamp;

use crate::transfer::{RouteName, Transfer, TransferId};

use super::disk::Lock;
use super::engine::Engine;
use super::journal::Journal;
use super::record::{self, Record};
use super::{BrokerKey, Error, keys};

/// How many records a scan takes in hand at a time.
pub(super) const PAGE: usize = 1_000;

#[derive(Debug)]
pub(super) struct Core {
    pub(super) engine: Box<dyn Engine>,
    pub(super) journal: Journal,
    /// Active transfers per route.
    pub(super) counts: Mutex<BTreeMap<RouteName, usize>>,
    /// Transfers whose records were seen to be unreadable.
    pub(super) unreadable: Mutex<HashSet<TransferId>>,
    /// Whether every record has been looked at since the store was opened.
    pub(super) is_read_through: AtomicBool,
    /// Held for writing while a group is made durable.
    pub(super) gate: RwLock<()>,
    /// The transfers of that group.
    pub(super) in_flight: Mutex<HashSet<TransferId>>,
    /// Whether a write has failed.
    pub(super) broken: AtomicBool,
    /// Last, so that the directory is let go of after the engine has closed its files. None in a simulation: a process
    /// that is started beside one has a copy of every lock for a moment.
    #[expect(dead_code, reason = "held, not used")]
    pub(super) lock: Option<Lock>,
}

impl Core {
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.broken.load(Ordering::SeqCst) { Err(Error::Broken) } else { Ok(()) }
    }

    /// Reads while no group is being made durable: a change is not acted on before it is sure to last.
    pub(super) fn settled<T>(&self, read: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        let _settled = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        self.check()?;
        read()
    }

    /// A record. Does not wait for a group that leaves this transfer alone: what was read before a look at the
    /// transfers in flight is durable if it is not among them.
    pub(super) fn get(&self, id: TransferId) -> Result<Option<Transfer>, Error> {
        let key = keys::record(id);
        let mut bytes = self.engine.get(&key)?;
        if self.in_flight.lock().unwrap_or_else(PoisonError::into_inner).contains(&id) {
            bytes = self.settled(|| self.engine.get(&key))?;
        }
        self.check()?;
        let Some(bytes) = bytes else { return Ok(None) };
        let decoded = record::decode_for(id, &bytes);
        if decoded.is_err() {
            self.set_apart(id);
        }
        decoded.map(|record| Some(record.transfer))
    }

    /// A transfer whose record cannot be read is due no more.
    pub(super) fn set_apart(&self, id: TransferId) {
        self.unreadable.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
    }

    fn is_set_apart(&self, id: TransferId) -> bool {
        self.unreadable.lock().unwrap_or_else(PoisonError::into_inner).contains(&id)
    }

    pub(super) fn due(
        &self,
        route: &RouteName,
        until: Option<Timestamp>,
        limit: usize,
    ) -> Result<Vec<(Timestamp, TransferId)>, Error> {
        let prefix = keys::due_prefix(route);
        let mut due = Vec::new();
        let mut after: Option<Vec<u8>> = None;
        while due.len() < limit {
            let wanted = (limit - due.len()).min(PAGE);
            let pairs = self.engine.scan(&prefix, after.as_deref(), wanted)?;
            let ended = pairs.len() < wanted;
            for (key, _) in &pairs {
                let Some((time, id)) = keys::parse_due(key) else { continue };
                if until.is_some_and(|until| time > until) {
                    return Ok(due);
                }
                if !self.is_set_apart(id) {
                    due.push((time, id));
                }
            }
            after = pairs.into_iter().last().map(|(key, _)| key);
            if ended {
                break;
            }
        }
        Ok(due)
    }

    pub(super) fn holder(&self, key: &[u8]) -> Result<Option<TransferId>, Error> {
        Ok(self.engine.get(key)?.as_deref().and_then(keys::parse_id))
    }

    pub(super) fn by_broker_id(&self, key: BrokerKey) -> Result<Option<TransferId>, Error> {
        self.holder(&key.to_bytes())
    }

    pub(super) fn by_file(&self, device: u64, inode: u64) -> Result<Option<Transfer>, Error> {
        let Some(id) = self.holder(&keys::file(device, inode))? else { return Ok(None) };
        let Some(bytes) = self.engine.get(&keys::record(id))? else { return Ok(None) };
        Ok(Some(record::decode_for(id, &bytes)?.transfer))
    }

    /// Records in the order of their ids. Those that cannot be read are passed over; they are told of by themselves.
    pub(super) fn page(
        &self,
        route: Option<&RouteName>,
        after: Option<TransferId>,
        limit: usize,
    ) -> Result<Vec<Transfer>, Error> {
        match route {
            Some(route) => self.page_of_route(route, after, limit),
            None => self.page_of_all(after, limit),
        }
    }

    /// Those of a route that are at work, in the order of their ids.
    pub(super) fn page_at_work(
        &self,
        route: &RouteName,
        after: Option<TransferId>,
        limit: usize,
    ) -> Result<Vec<Transfer>, Error> {
        let after = after.map(|id| keys::at_work(route, id));
        self.page_of_keys(&keys::at_work_prefix(route), after, limit)
    }

    fn page_of_all(&self, after: Option<TransferId>, limit: usize) -> Result<Vec<Transfer>, Error> {
        let mut page = Vec::new();
        let mut after = after.map(keys::record);
        while page.len() < limit {
            let wanted = (limit - page.len()).min(PAGE);
            let pairs = self.engine.scan(keys::RECORDS, after.as_deref(), wanted)?;
            let ended = pairs.len() < wanted;
            page.extend(
                pairs.iter().filter_map(|(_, bytes)| record::decode(bytes).ok()).map(Record::into_transfer),
            );
            after = pairs.into_iter().last().map(|(key, _)| key);
            if ended {
                break;
            }
        }
        Ok(page)
    }

    fn page_of_route(
        &self,
        route: &RouteName,
        after: Option<TransferId>,
        limit: usize,
    ) -> Result<Vec<Transfer>, Error> {
        self.page_of_keys(&keys::route_prefix(route), after.map(|id| keys::route(route, id)), limit)
    }

    /// The records of the ids at the ends of keys.
    fn page_of_keys(
        &self,
        prefix: &[u8],
        mut after: Option<Vec<u8>>,
        limit: usize,
    ) -> Result<Vec<Transfer>, Error> {
        let mut page = Vec::new();
        while page.len() < limit {
            let wanted = (limit - page.len()).min(PAGE);
            let pairs = self.engine.scan(prefix, after.as_deref(), wanted)?;
            let ended = pairs.len() < wanted;
            for (_, id) in pairs.iter().filter_map(|(key, _)| keys::parse_route(key)) {
                let bytes = self.engine.get(&keys::record(id))?;
                page.extend(bytes.and_then(|bytes| record::decode(&bytes).ok()).map(Record::into_transfer));
            }
            after = pairs.into_iter().last().map(|(key, _)| key);
            if ended {
                break;
            }
        }
        Ok(page)
    }
}
