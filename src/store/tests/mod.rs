//! The promises of the room, each by name. Helpers first.

mod api;
mod copies;
mod faults;
mod finished;
mod forgetting;
mod model;
mod records;
mod start;

use std::path::Path;
use std::sync::{Arc, Mutex};

use jiff::Timestamp;

use crate::seams::{Clock, SeededRandom};
use crate::transfer::samples::{at, booking, claim, dispatch, failure, offer};
use crate::transfer::{Incoming, Outgoing, OutgoingEvent, RouteName, Transfer, Work};

use super::{BrokerKey, Error, Opened, Store};

/// A clock that a test sets.
#[derive(Debug)]
struct TestClock(Mutex<Timestamp>);

impl TestClock {
    fn at(time: &str) -> Arc<Self> {
        Arc::new(Self(Mutex::new(time.parse().unwrap())))
    }

    fn set(&self, time: &str) {
        *self.0.lock().unwrap() = time.parse().unwrap();
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

fn open(path: &Path) -> Opened {
    open_with(path, &TestClock::at("2026-11-21T08:00:00.123456Z")).unwrap()
}

fn open_with(path: &Path, clock: &Arc<TestClock>) -> Result<Opened, Error> {
    let clock: Arc<dyn Clock> = Arc::<TestClock>::clone(clock);
    Store::open(path, clock, Arc::new(SeededRandom::new(1)))
}

fn route(name: &str) -> RouteName {
    name.parse().unwrap()
}

/// A file that is being claimed; `file` is its inode.
fn claiming(store: &Store, route_name: &str, file: u64) -> Transfer {
    Transfer::outgoing(store.new_id(), route(route_name), claim(file), at(0))
}

/// A file that waits for us at Altinn.
fn discovered(store: &Store, route_name: &str, number: u8, recipient: &str) -> Transfer {
    let progress = Incoming::Discovered { offer: offer(number, recipient) };
    Transfer::incoming(store.new_id(), route(route_name), progress, at(0))
}

/// The transfer after these events, which must be legal.
fn after(transfer: &Transfer, events: impl IntoIterator<Item = OutgoingEvent>) -> Transfer {
    events
        .into_iter()
        .fold(transfer.clone(), |transfer, event| transfer.after_outgoing(event, at(1)).unwrap())
}

/// What leads a claim to Altinn's id of this number.
fn adopting(number: u8) -> Vec<OutgoingEvent> {
    vec![
        OutgoingEvent::FileTaken,
        OutgoingEvent::Described(dispatch()),
        OutgoingEvent::InitializeIntended { at: at(1) },
        OutgoingEvent::Adopted(booking(number)),
    ]
}

/// The transfer in a state of one's choice.
fn in_state(transfer: &Transfer, state: Outgoing) -> Transfer {
    let Work::Outgoing { claim, abandoned, .. } = transfer.work.clone() else { panic!("incoming") };
    Transfer {
        work: Work::Outgoing { claim, abandoned, never_whole: 0, progress: state },
        ..transfer.clone()
    }
}

/// The transfer after it was taken back.
fn withdrawn(transfer: &Transfer) -> Transfer {
    after(transfer, [OutgoingEvent::FileWithdrawn])
}

fn sent(number: u8) -> BrokerKey {
    BrokerKey::Outgoing(crate::transfer::samples::broker_id(number))
}

fn received(number: u8, recipient: &str) -> BrokerKey {
    let id = crate::transfer::samples::broker_id(number);
    BrokerKey::Incoming { recipient: recipient.parse().unwrap(), id }
}

/// The database without the store, which must not be open.
fn raw(state: &Path) -> super::engine::SledEngine {
    super::engine::SledEngine::open(&state.join("sled")).unwrap()
}
