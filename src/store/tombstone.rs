//! What the journal keeps of a transfer that was forgotten: that it was, and when. No name, no reference, no
//! property, no recipient.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::transfer::{BrokerTransferId, RouteName, Transfer, TransferId, Work};

use super::Step;
use super::record::Finished;

/// What is left of a transfer that was forgotten.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tombstone {
    /// Its id.
    pub id: TransferId,
    /// When it was forgotten.
    pub forgotten: Timestamp,
    /// Altinn's id of it, where it had one; the last, where it had several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_transfer_id: Option<BrokerTransferId>,
    /// The outbox or inbox it belonged to.
    pub route: RouteName,
    /// `out` or `in`.
    pub direction: String,
    /// The public name of the state that it ended in.
    pub state: String,
    /// When it was first seen.
    pub created: Timestamp,
    /// When it last changed.
    pub updated: Timestamp,
    /// When it left the database.
    pub finished: Timestamp,
    /// When it reached which phase.
    #[serde(default)]
    pub steps: Vec<Step>,
}

impl Tombstone {
    pub(super) fn of(finished: &Finished, forgotten: Timestamp) -> Self {
        let transfer = &finished.transfer;
        Self {
            id: transfer.id,
            forgotten,
            file_transfer_id: transfer.broker_id().or_else(|| last_abandoned(transfer)),
            route: transfer.route.clone(),
            direction: transfer.direction().to_owned(),
            state: transfer.state_name().to_owned(),
            created: transfer.created,
            updated: transfer.updated,
            finished: finished.at,
            steps: finished.steps.clone(),
        }
    }
}

fn last_abandoned(transfer: &Transfer) -> Option<BrokerTransferId> {
    match &transfer.work {
        Work::Outgoing { abandoned, .. } => abandoned.last().copied(),
        Work::Incoming { .. } => None,
    }
}
