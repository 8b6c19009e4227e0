//! What of a transfer cannot be read yet, because an event was sent too early.

use std::collections::HashMap;

use jiff::Timestamp;
use uuid::Uuid;

use crate::sandbox::broker::transfer::Transfer;

/// Transfers that hide their newest row for a while.
#[derive(Debug, Default)]
pub(super) struct Veils {
    by_transfer: HashMap<Uuid, Veil>,
}

#[derive(Debug)]
struct Veil {
    history: usize,
    recipients: usize,
    until: Timestamp,
}

impl Veils {
    /// Hides what the event of that kind tells of, the newest row of one of both histories.
    pub(super) fn lay(&mut self, transfer: &Transfer, kind: &str, now: Timestamp, until: Timestamp) {
        self.by_transfer.retain(|_, veil| veil.until > now);
        let (history, recipients) = (transfer.history.len(), transfer.recipients.len());
        let veil = if kind == "downloadconfirmed" {
            Veil { history, recipients: recipients.saturating_sub(1), until }
        } else {
            // The first row is hidden by nothing: a transfer has some status.
            Veil { history: history.saturating_sub(1).max(1), recipients, until }
        };
        self.by_transfer.insert(transfer.id, veil);
    }

    /// Takes the hidden rows from a copy of the transfer.
    pub(super) fn hide(&self, transfer: &mut Transfer, now: Timestamp) {
        let Some(veil) = self.by_transfer.get(&transfer.id).filter(|veil| veil.until > now) else { return };
        transfer.history.truncate(veil.history);
        transfer.recipients.truncate(veil.recipients);
    }
}
