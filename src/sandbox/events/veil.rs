//! What of a transfer cannot be read yet, because an event was sent too early.

use std::borrow::Cow;
use std::collections::HashMap;

use jiff::Timestamp;
use uuid::Uuid;

use crate::sandbox::broker::transfer::{Status, Transfer};

/// Transfers that hide their newest row for a while.
#[derive(Debug, Default)]
pub(super) struct Veils {
    by_transfer: HashMap<Uuid, Veil>,
}

#[derive(Debug)]
struct Veil {
    /// So many rows are shown.
    history: usize,
    /// So many rows are shown.
    recipients: usize,
    until: Timestamp,
}

/// Whether an event of that kind tells of a row that can be hidden. A transfer has some status from its beginning, and
/// that it was never confirmed stands in no row.
pub(super) fn can_hide(kind: &str) -> bool {
    !matches!(kind, "filetransferinitialized" | "fileneverconfirmeddownloaded")
}

impl Veils {
    /// Hides what the event of that kind tells of, the newest row of one of both histories.
    pub(super) fn lay(&mut self, transfer: &Transfer, kind: &str, now: Timestamp, until: Timestamp) {
        self.by_transfer.retain(|_, veil| veil.until > now);
        let nothing = Veil { history: usize::MAX, recipients: usize::MAX, until };
        let veil = self.by_transfer.entry(transfer.id).or_insert(nothing);
        veil.until = veil.until.max(until);
        if kind == "downloadconfirmed" {
            veil.recipients = veil.recipients.min(transfer.recipients.len().saturating_sub(1));
        } else {
            // The first row is hidden by nothing: a transfer has some status.
            veil.history = veil.history.min(transfer.history.len().saturating_sub(1)).max(1);
        }
    }

    /// The transfer without the rows that are hidden, and without what it got with them.
    pub(super) fn through<'a>(&self, transfer: &'a Transfer, now: Timestamp) -> Cow<'a, Transfer> {
        let Some(veil) = self.by_transfer.get(&transfer.id).filter(|veil| veil.until > now) else {
            return Cow::Borrowed(transfer);
        };
        let mut transfer = transfer.clone();
        transfer.history.truncate(veil.history);
        transfer.recipients.truncate(veil.recipients);
        let begun = matches!(transfer.status(), Status::Initialized | Status::UploadStarted);
        if begun {
            (transfer.size, transfer.md5, transfer.stored) = (0, None, false);
        }
        if begun || transfer.status() == Status::UploadProcessing {
            transfer.checksum.clone_from(&transfer.demanded_checksum);
        }
        Cow::Owned(transfer)
    }
}
