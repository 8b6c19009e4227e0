//! The promises of the room, each by name. Helpers first.

mod api;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::seams::{Clock, SeededRandom};
use crate::transfer::{
    BrokerTransferId, Claim, FileIdentity, Incoming, Offer, Outgoing, OutgoingEvent, RouteName, Transfer,
    Work,
};

use super::{BrokerKey, Error, Opened, Store};

/// A clock that a test sets.
#[derive(Debug)]
pub(super) struct TestClock(Mutex<Timestamp>);

impl TestClock {
    pub(super) fn at(time: &str) -> Arc<Self> {
        Arc::new(Self(Mutex::new(time.parse().unwrap())))
    }

    pub(super) fn set(&self, time: &str) {
        *self.0.lock().unwrap() = time.parse().unwrap();
    }

    pub(super) fn advance(&self, by: SignedDuration) {
        *self.0.lock().unwrap() += by;
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

pub(super) fn now() -> Timestamp {
    "2026-11-21T08:00:00.123456789Z".parse().unwrap()
}

pub(super) fn open(path: &Path) -> Opened {
    try_open(path).unwrap()
}

pub(super) fn try_open(path: &Path) -> Result<Opened, Error> {
    let clock = TestClock::at("2026-11-21T08:00:00.123456789Z");
    Store::open(path, clock, Arc::new(SeededRandom::new(1)))
}

pub(super) fn route(name: &str) -> RouteName {
    name.parse().unwrap()
}

/// A claimed file; `file` is its inode.
pub(super) fn outgoing(store: &Store, route_name: &str, file: u64) -> Transfer {
    let claim = Claim {
        name: format!("file-{file}.pdf"),
        recipient_folder: None,
        sidecar: false,
        file: FileIdentity { device: 1, inode: file, size: 10, modified_ns: 1 },
    };
    Transfer::outgoing(store.new_id(), route(route_name), claim, now())
}

pub(super) fn broker_id(number: u128) -> BrokerTransferId {
    uuid::Uuid::from_u128(number).to_string().parse().unwrap()
}
