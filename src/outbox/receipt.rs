//! The JSON that is laid down beside files.

use crate::transfer::document::{ErrorFile, Receipt, ReceiptRecipient, to_json};
use crate::transfer::{Archive, Failure, Outgoing, Transfer, Work};

/// The receipt of a published file as it stands, and how far archiving has come.
pub(super) fn of(transfer: &Transfer) -> Option<(Archive, Vec<u8>)> {
    let Work::Outgoing { progress, .. } = &transfer.work else { return None };
    let (dispatch, booking, publication, completed) = match progress {
        Outgoing::Published { dispatch, booking, publication }
        | Outgoing::Expired { dispatch, booking, publication, .. } => (dispatch, booking, publication, None),
        Outgoing::Completed { dispatch, booking, publication, completed } => {
            (dispatch, booking, publication, Some(*completed))
        }
        _ => return None,
    };
    let recipients = publication.recipients.iter().map(|progress| ReceiptRecipient {
        recipient: progress.recipient,
        status: progress.status.clone(),
        changed: progress.changed,
    });
    let receipt = Receipt {
        transfer_id: transfer.id,
        file_transfer_id: booking.id,
        route: transfer.route.clone(),
        resource_id: dispatch.resource_id.clone(),
        file_name: dispatch.file_name.clone(),
        sender: dispatch.sender,
        recipients: recipients.collect(),
        senders_file_transfer_reference: dispatch.reference.clone(),
        property_list: dispatch.properties.clone(),
        checksum: dispatch.md5,
        sha256: dispatch.sha256,
        file_transfer_size: dispatch.size,
        status: progress.name().to_owned(),
        claimed: transfer.created,
        initialized: booking.initialized,
        uploaded: publication.uploaded,
        published: publication.published,
        completed,
    };
    Some((publication.archive.clone(), to_json(&receipt)))
}

/// The error file of a file that was not sent.
pub(super) fn error_file(transfer: &Transfer, failure: &Failure) -> ErrorFile {
    let (file_name, abandoned) = match &transfer.work {
        Work::Outgoing { claim, abandoned, .. } => (claim.name.clone(), abandoned.last().copied()),
        Work::Incoming { progress, .. } => (progress.offer().file_name.clone(), None),
    };
    ErrorFile {
        code: failure.code.clone(),
        message: failure.message.clone(),
        remedy: failure.remedy.clone(),
        transfer_id: Some(transfer.id),
        file_transfer_id: transfer.broker_id().or(abandoned),
        route: transfer.route.clone(),
        file_name,
        failed: failure.at,
        attempts: transfer.attempts.saturating_add(1),
        altinn: failure.altinn.clone(),
    }
}
