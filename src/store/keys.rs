//! The keys of the one tree that holds everything.
//!
//! | key | value |
//! |---|---|
//! | `t/<id>` | the record |
//! | `r/<route>/<id>` | nothing: the active transfers of a route, in order of their ids |
//! | `w/<route>/<id>` | nothing: those of them that are at work ([`Transfer::is_at_work`]) |
//! | `n/<route>/<next attempt, ns, 21 digits>/<id>` | nothing: the order in which they are due |
//! | `b/out/<broker id>`, `b/in/<organisation>/<broker id>` | the id of the transfer that holds it |
//! | `f/<device>/<inode>` | the id of the transfer that holds the file |
//! | `h/<id>/<number>` | a step: when which phase was reached |
//! | `m/schema`, `m/last` | the format; the highest id ever stored |
//! | `m/changed` | when it was last changed |
//! | `m/installation` | what the ids that are made here bear |
//! | `m/generation` | how many changes were ever committed; the engine's own |
//! | `m/indexed` | up to which of those the keys `w/` are right: an older version does not write them |
//!
//! One tree, so that one batch changes a record and everything that points to it. Keys are text, so that a
//! damaged store can be read by a person.

use jiff::Timestamp;

use crate::transfer::{BrokerTransferId, OrgNumber, RouteName, Transfer, TransferId, Work};

/// Key of the format's number.
pub(super) const SCHEMA: &[u8] = b"m/schema";
/// Key of the highest id ever stored.
pub(super) const LAST_ID: &[u8] = b"m/last";
/// Key of the time of the last change.
pub(super) const CHANGED: &[u8] = b"m/changed";
/// Key of the installation's mark.
pub(super) const INSTALLATION: &[u8] = b"m/installation";
/// Key of the number of commits.
pub(super) const GENERATION: &[u8] = b"m/generation";
/// Key of the number of commits that the keys of what is at work go with.
pub(super) const INDEXED: &[u8] = b"m/indexed";
/// What the keys of all that is at work begin with.
pub(super) const AT_WORK: &[u8] = b"w/";
/// What the keys of all records begin with.
pub(super) const RECORDS: &[u8] = b"t/";
/// What the keys of all routes' memberships begin with.
pub(super) const ROUTES: &[u8] = b"r/";

/// A transfer at Altinn, as one transfer of ours can hold it.
///
/// What is sent and what is received are told apart, because an organisation may send to itself; and so are
/// the recipients, because two organisations of ours may receive the same transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BrokerKey {
    /// One that we send.
    Outgoing(BrokerTransferId),
    /// One that an organisation of ours receives.
    Incoming {
        /// The organisation of ours.
        recipient: OrgNumber,
        /// Altinn's id.
        id: BrokerTransferId,
    },
}

impl BrokerKey {
    pub(super) fn to_bytes(self) -> Vec<u8> {
        match self {
            Self::Outgoing(id) => format!("b/out/{id}").into_bytes(),
            Self::Incoming { recipient, id } => format!("b/in/{}/{id}", recipient.digits()).into_bytes(),
        }
    }
}

pub(super) fn record(id: TransferId) -> Vec<u8> {
    format!("t/{id}").into_bytes()
}

pub(super) fn route_prefix(route: &RouteName) -> Vec<u8> {
    format!("r/{route}/").into_bytes()
}

pub(super) fn route(route: &RouteName, id: TransferId) -> Vec<u8> {
    format!("r/{route}/{id}").into_bytes()
}

pub(super) fn at_work_prefix(route: &RouteName) -> Vec<u8> {
    format!("w/{route}/").into_bytes()
}

pub(super) fn at_work(route: &RouteName, id: TransferId) -> Vec<u8> {
    format!("w/{route}/{id}").into_bytes()
}

pub(super) fn due_prefix(route: &RouteName) -> Vec<u8> {
    format!("n/{route}/").into_bytes()
}

pub(super) fn due(transfer: &Transfer) -> Vec<u8> {
    let time = transfer.next_attempt.as_nanosecond().max(0);
    format!("n/{}/{time:021}/{}", transfer.route, transfer.id).into_bytes()
}

pub(super) fn file(device: u64, inode: u64) -> Vec<u8> {
    format!("f/{device}/{inode}").into_bytes()
}

pub(super) fn step(id: TransferId, number: u64) -> Vec<u8> {
    format!("h/{id}/{number:020}").into_bytes()
}

pub(super) fn step_prefix(id: TransferId) -> Vec<u8> {
    format!("h/{id}/").into_bytes()
}

/// The id and the number that a key made by [`step`] holds.
pub(super) fn parse_step(key: &[u8]) -> Option<(TransferId, u64)> {
    let mut parts = std::str::from_utf8(key).ok()?.splitn(3, '/').skip(1);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// The time and the id that a key made by [`due`] holds.
pub(super) fn parse_due(key: &[u8]) -> Option<(Timestamp, TransferId)> {
    let mut parts = std::str::from_utf8(key).ok()?.rsplit('/');
    let id = parts.next()?.parse().ok()?;
    let time = parts.next()?.parse().ok()?;
    Some((Timestamp::from_nanosecond(time).ok()?, id))
}

/// The route and the id that a key made by [`route`] or [`at_work`] holds.
pub(super) fn parse_route(key: &[u8]) -> Option<(RouteName, TransferId)> {
    let mut parts = std::str::from_utf8(key).ok()?.splitn(3, '/').skip(1);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// The id that a value or the end of a key holds.
pub(super) fn parse_id(text: &[u8]) -> Option<TransferId> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The transfers at Altinn that `transfer` holds: the present one, and every one it has given up on, so that
/// no other transfer adopts it.
pub(super) fn broker_keys(transfer: &Transfer) -> Vec<BrokerKey> {
    match &transfer.work {
        Work::Outgoing { abandoned, progress, .. } => {
            let present = progress.booking().map(|booking| booking.id);
            abandoned.iter().copied().chain(present).map(BrokerKey::Outgoing).collect()
        }
        Work::Incoming { progress, .. } => {
            let offer = progress.offer();
            vec![BrokerKey::Incoming { recipient: offer.recipient, id: offer.id }]
        }
    }
}

/// The keys that no other transfer may hold at the same time.
pub(super) struct Unique {
    /// Of transfers at Altinn.
    pub(super) broker: Vec<Vec<u8>>,
    /// Of the file.
    pub(super) file: Option<Vec<u8>>,
}

impl Unique {
    pub(super) fn of(transfer: &Transfer) -> Self {
        Self {
            broker: broker_keys(transfer).into_iter().map(BrokerKey::to_bytes).collect(),
            file: transfer.file_identity().map(|identity| file(identity.device, identity.inode)),
        }
    }

    pub(super) fn into_all(self) -> impl Iterator<Item = Vec<u8>> {
        self.broker.into_iter().chain(self.file)
    }
}
