//! `/_sandbox/…`, paths that no real Altinn has: what tests in other processes look at.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use axum::body::Body;
use axum::http::{Response, StatusCode};
use serde::Serialize;
use serde_json::json;

use super::broker::transfer::RecipientStatus;
use super::problem::answer;
use super::site::Site;

/// Objects, one a line.
pub(super) fn lines<T: Serialize>(rows: impl IntoIterator<Item = T>) -> Response<Body> {
    let mut text = String::new();
    for row in rows {
        let Ok(line) = serde_json::to_string(&row) else { continue };
        // Writing to a String cannot fail.
        if writeln!(text, "{line}").is_err() {
            break;
        }
    }
    answer(StatusCode::OK, "application/jsonl; charset=utf-8", text)
}

/// Every request.
pub(super) fn ledger(site: &Site) -> Response<Body> {
    lines(site.ledger.entries())
}

/// Every transfer, with what came of it.
pub(super) fn transfers(site: &Site) -> Response<Body> {
    lines(site.depot.all(|transfer| {
        let recipients: BTreeMap<&str, Option<&str>> = transfer
            .recipient_organizations()
            .into_iter()
            .map(|recipient| (recipient, transfer.highest(recipient).map(RecipientStatus::name)))
            .collect();
        Some(json!({
            "id": transfer.id,
            "resourceId": transfer.resource,
            "sender": transfer.sender,
            "vendor": transfer.vendor,
            "recipients": recipients,
            "fileName": transfer.file_name,
            "reference": transfer.reference,
            "status": transfer.status().name(),
            "md5": transfer.md5,
            "size": transfer.size,
            "published": transfer.published(),
            "delivered": transfer.delivered,
        }))
    }))
}

/// One content for one recipient.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Content {
    md5: String,
    file_name: String,
    recipient: String,
    published: usize,
    confirmed: usize,
}

/// How often each content was published to a recipient, and how often it was confirmed.
pub(super) fn content(site: &Site) -> Response<Body> {
    let mut counts: BTreeMap<(String, String, String), (usize, usize)> = BTreeMap::new();
    let rows: Vec<Vec<_>> = site.depot.all(|transfer| {
        let md5 = transfer.md5.as_ref()?;
        let of_recipient = |recipient: &str| {
            let confirmed =
                transfer.rows_of(recipient).filter(|row| row.status == RecipientStatus::DownloadConfirmed);
            let key = (md5.clone(), transfer.file_name.clone(), recipient.to_owned());
            (key, transfer.published(), confirmed.count())
        };
        Some(transfer.recipient_organizations().into_iter().map(of_recipient).collect())
    });
    for (key, published, confirmed) in rows.into_iter().flatten() {
        let count = counts.entry(key).or_default();
        count.0 += published;
        count.1 += confirmed;
    }
    lines(counts.into_iter().map(|((md5, file_name, recipient), (published, confirmed))| Content {
        md5,
        file_name,
        recipient,
        published,
        confirmed,
    }))
}
