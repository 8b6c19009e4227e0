//! Overview and details of a transfer (Broker API, overview and details).

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::transfer::{RecipientStatus, Status, Transfer};

/// Whoever downloads with a delegated right shows up as a recipient that nobody named.
const STRANGER: &str = "0192:311111111";

/// A `DateTimeOffset` in UTC as .NET writes it: `+00:00`, and no trailing zeros in the fraction.
pub(in crate::sandbox) fn date(time: Timestamp) -> String {
    let civil = time.to_zoned(TimeZone::UTC).datetime();
    let whole = civil.strftime("%Y-%m-%dT%H:%M:%S").to_string();
    let micros = time.subsec_nanosecond().rem_euclid(1_000_000_000) / 1_000;
    let fraction = format!("{micros:06}");
    match fraction.trim_end_matches('0') {
        "" => format!("{whole}+00:00"),
        digits => format!("{whole}.{digits}+00:00"),
    }
}

/// The members that overview and details share.
fn common(transfer: &Transfer) -> Map<String, Value> {
    let last = transfer.history.last();
    let text = last.map_or_else(|| Status::Initialized.text().to_owned(), row_text);
    let mut recipients: Vec<Value> = Vec::new();
    for organization in shuffled(transfer.id, transfer.recipient_organizations()) {
        let highest = transfer.highest(organization);
        let changed = transfer.rows_of(organization).map(|row| row.time).max();
        recipients.push(json!({
            "recipient": organization,
            "currentRecipientFileTransferStatusCode": highest.map(super::transfer::RecipientStatus::name),
            "currentRecipientFileTransferStatusText": highest.map(super::transfer::RecipientStatus::text),
            "currentRecipientFileTransferStatusChanged": changed.map(date),
        }));
    }
    let members = json!({
        "fileTransferId": transfer.id,
        "resourceId": transfer.resource,
        "fileName": transfer.file_name,
        "sendersFileTransferReference": transfer.reference,
        "checksum": transfer.checksum,
        "useVirusScan": transfer.use_virus_scan,
        "fileTransferSize": transfer.size,
        "fileTransferStatus": transfer.status().name(),
        "fileTransferStatusText": text,
        "fileTransferStatusChanged": date(transfer.status_changed()),
        "created": date(transfer.created),
        "expirationTime": date(transfer.expiration),
        "sender": transfer.sender,
        "recipients": recipients,
        "propertyList": transfer.properties,
    });
    match members {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

fn row_text(row: &super::transfer::StatusRow) -> String {
    row.detail.clone().unwrap_or_else(|| row.status.text().to_owned())
}

/// `GET …/{id}`.
pub(in crate::sandbox) fn overview(transfer: &Transfer, extra_recipient: bool) -> Value {
    let mut members = common(transfer);
    if extra_recipient && let Some(recipients) = members.get_mut("recipients").and_then(Value::as_array_mut) {
        let status = RecipientStatus::DownloadStarted;
        recipients.push(json!({
            "recipient": STRANGER,
            "currentRecipientFileTransferStatusCode": status.name(),
            "currentRecipientFileTransferStatusText": status.text(),
            "currentRecipientFileTransferStatusChanged": date(transfer.status_changed()),
        }));
    }
    let published = transfer.entered(Status::Published).map(date);
    members.insert("published".to_owned(), published.into());
    members.into()
}

/// `GET …/{id}/details`: without `published`, with both histories, which nobody sorted.
pub(in crate::sandbox) fn details(transfer: &Transfer) -> Value {
    let mut members = common(transfer);
    let history = shuffled(transfer.id, transfer.history.iter().collect());
    let history: Vec<Value> = history
        .into_iter()
        .map(|row| {
            json!({
                "fileTransferStatus": row.status.name(),
                "fileTransferStatusText": row_text(row),
                "fileTransferStatusChanged": date(row.time),
            })
        })
        .collect();
    let rows = shuffled(transfer.id, transfer.recipients.iter().collect());
    let rows: Vec<Value> = rows
        .into_iter()
        .map(|row| {
            json!({
                "recipient": row.recipient,
                "recipientFileTransferStatusCode": row.status.name(),
                "recipientFileTransferStatusText": row.status.text(),
                "recipientFileTransferStatusChanged": date(row.time),
            })
        })
        .collect();
    members.insert("fileTransferStatusHistory".to_owned(), history.into());
    members.insert("recipientFileTransferStatusHistory".to_owned(), rows.into());
    members.into()
}

/// An order that is the same each time for one transfer, and no order at all: the Broker's queries
/// have no ORDER BY, so a client must not find these lists sorted.
fn shuffled<T>(id: Uuid, items: Vec<T>) -> Vec<T> {
    let mut items = items;
    let (seed, _) = id.as_u64_pair();
    fastrand::Rng::with_seed(seed).shuffle(&mut items);
    items
}
