//! Reading answers with patience: members that are missing, null, unknown, twice there or of another type than
//! expected do no harm, unless nothing can be done without them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde_json::{Map, Value};

use super::problem::printable;
use super::{Details, Kind, Overview, Recipient, RecipientMoment, RecipientStatus, Status, StatusMoment};
use crate::http::{self, Reply};
use crate::transfer::BrokerTransferId;

pub(super) type Members = Map<String, Value>;

/// A success that does not say what it should.
pub(super) fn garbled(reply: &Reply, lacks: &'static str) -> Kind {
    let summary = printable(&String::from_utf8_lossy(&reply.body), 200);
    Kind::Garbled { status: reply.status, lacks, summary }
}

pub(super) fn object(reply: &Reply) -> Result<Members, Kind> {
    match value(&reply.body) {
        Some(Value::Object(members)) => Ok(members),
        Some(_) | None => Err(garbled(reply, "a JSON object")),
    }
}

/// JSON, also with texts that Unicode does not know: what senders call their files must not make unreadable what
/// Altinn tells of them. Bytes that are not UTF-8, and halves of surrogate pairs, become U+FFFD.
pub(super) fn value(body: &[u8]) -> Option<Value> {
    serde_json::from_slice(body).ok().or_else(|| {
        let text = String::from_utf8_lossy(body);
        serde_json::from_str(&without_lone_surrogates(&text)).ok()
    })
}

/// Every `\uD800` to `\uDFFF` that is not half of a pair becomes `\uFFFD`.
fn without_lone_surrogates(json: &str) -> String {
    let mut clean = String::with_capacity(json.len());
    let mut rest = json;
    // In JSON a backslash stands in texts alone.
    while let Some((before, behind)) = rest.split_once('\\') {
        clean.push_str(before);
        let (escape, length) = match surrogate(behind) {
            Some(0xD800..=0xDBFF) => {
                let second = behind.get(5..).and_then(|behind| behind.strip_prefix('\\'));
                match second.and_then(surrogate) {
                    Some(0xDC00..=0xDFFF) => (behind.get(..11), 11),
                    _ => (Some("uFFFD"), 5),
                }
            }
            Some(_) => (Some("uFFFD"), 5),
            None => {
                let length = behind.chars().next().map_or(0, char::len_utf8);
                (behind.get(..length), length)
            }
        };
        clean.push('\\');
        clean.push_str(escape.unwrap_or_default());
        rest = behind.get(length..).unwrap_or_default();
    }
    clean.push_str(rest);
    clean
}

/// The number behind a backslash, if it is `u` and a surrogate's.
fn surrogate(behind: &str) -> Option<u32> {
    let number = u32::from_str_radix(behind.strip_prefix('u')?.get(..4)?, 16).ok()?;
    (0xD800..=0xDFFF).contains(&number).then_some(number)
}

/// `fileTransferId`, alone in the answer to initialize.
pub(super) fn transfer_id(members: &Members) -> Option<BrokerTransferId> {
    text(members, "fileTransferId").parse().ok()
}

pub(super) fn ids(reply: &Reply) -> Result<Vec<BrokerTransferId>, Kind> {
    let Some(Value::Array(items)) = value(&reply.body) else {
        return Err(garbled(reply, "a JSON array"));
    };
    // One that cannot be read must not look like one that is not there.
    items
        .iter()
        .map(|item| item.as_str().and_then(|text| text.parse().ok()))
        .collect::<Option<Vec<_>>>()
        .ok_or_else(|| garbled(reply, "transfer ids in its array"))
}

pub(super) fn overview(reply: &Reply) -> Result<Overview, Kind> {
    let members = object(reply)?;
    let id = transfer_id(&members).ok_or_else(|| garbled(reply, "fileTransferId"))?;
    let status = some_text(&members, "fileTransferStatus")
        .ok_or_else(|| garbled(reply, "fileTransferStatus"))
        .map(Status::of)?;
    let sender_raw = text(&members, "sender").to_owned();
    Ok(Overview {
        id,
        resource_id: text(&members, "resourceId").to_owned(),
        file_name: text(&members, "fileName").to_owned(),
        reference: text(&members, "sendersFileTransferReference").to_owned(),
        checksum: text(&members, "checksum").parse().ok(),
        use_virus_scan: members.get("useVirusScan").and_then(Value::as_bool).unwrap_or(true),
        size: number(&members, "fileTransferSize").unwrap_or(0),
        status,
        status_text: text(&members, "fileTransferStatusText").to_owned(),
        status_changed: time(&members, "fileTransferStatusChanged"),
        created: time(&members, "created"),
        expiration: time(&members, "expirationTime"),
        sender: sender_raw.parse().ok(),
        sender_raw,
        recipients: objects(&members, "recipients").map(recipient).collect(),
        properties: properties(&members),
        published: time(&members, "published"),
        server_time: http::date(&reply.headers),
    })
}

pub(super) fn details(reply: &Reply) -> Result<Details, Kind> {
    let overview = overview(reply)?;
    let members = object(reply)?;
    let mut history: Vec<StatusMoment> = objects(&members, "fileTransferStatusHistory")
        .map(|members| StatusMoment {
            status: Status::of(text(members, "fileTransferStatus")),
            text: text(members, "fileTransferStatusText").to_owned(),
            changed: time(members, "fileTransferStatusChanged"),
        })
        .collect();
    let mut recipient_history: Vec<RecipientMoment> = objects(&members, "recipientFileTransferStatusHistory")
        .map(|members| RecipientMoment {
            organization: text(members, "recipient").parse().ok(),
            raw: text(members, "recipient").to_owned(),
            status: RecipientStatus::of(text(members, "recipientFileTransferStatusCode")),
            changed: time(members, "recipientFileTransferStatusChanged"),
        })
        .collect();
    // Altinn gives them in no order.
    history.sort_by_key(|moment| moment.changed);
    recipient_history.sort_by_key(|moment| moment.changed);
    Ok(Details { overview, history, recipient_history })
}

fn recipient(members: &Members) -> Recipient {
    let raw = text(members, "recipient").to_owned();
    Recipient {
        organization: raw.parse().ok(),
        raw,
        status: RecipientStatus::of(text(members, "currentRecipientFileTransferStatusCode")),
        changed: time(members, "currentRecipientFileTransferStatusChanged"),
    }
}

fn properties(members: &Members) -> BTreeMap<String, String> {
    let Some(Value::Object(properties)) = members.get("propertyList") else { return BTreeMap::new() };
    let text = |value: &Value| value.as_str().map(str::to_owned);
    properties.iter().filter_map(|(key, value)| Some((key.clone(), text(value)?))).collect()
}

fn some_text<'a>(members: &'a Members, name: &str) -> Option<&'a str> {
    members.get(name).and_then(Value::as_str)
}

fn text<'a>(members: &'a Members, name: &str) -> &'a str {
    some_text(members, name).unwrap_or_default()
}

/// A number, or a text that is one.
fn number(members: &Members, name: &str) -> Option<u64> {
    match members.get(name)? {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.parse().ok(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// A time, which is UTC where it does not say otherwise.
fn time(members: &Members, name: &str) -> Option<Timestamp> {
    let text = some_text(members, name)?;
    text.parse().ok().or_else(|| {
        let local: DateTime = text.parse().ok()?;
        local.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
    })
}

fn objects<'a>(members: &'a Members, name: &str) -> impl Iterator<Item = &'a Members> {
    members.get(name).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object)
}
