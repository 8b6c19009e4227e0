//! `/_sandbox/…`, paths that no real Altinn has: what tests in other processes look at.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use axum::body::Body;
use axum::http::{Response, StatusCode};
use serde::Serialize;
use serde_json::json;
use url::form_urlencoded;
use uuid::Uuid;

use super::broker::transfer::{RecipientStatus, Transfer};
use super::ledger::Filter;
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

/// What a page does not understand.
fn refuse(error: &str) -> Response<Body> {
    let body = json!({ "error": error }).to_string();
    answer(StatusCode::BAD_REQUEST, "application/json; charset=utf-8", body)
}

/// The requests that fit the query.
pub(super) fn ledger(site: &Site, query: &str) -> Response<Body> {
    match filter(query) {
        Ok(filter) => lines(site.ledger.find(&filter)),
        Err(error) => refuse(&error),
    }
}

fn filter(query: &str) -> Result<Filter, String> {
    let mut filter = Filter::default();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let wrong = |allowed: &str| format!("`{name}` must be {allowed}, not \"{value}\"");
        let text = || Some(value.clone().into_owned());
        match name.as_ref() {
            "operation" => filter.operation = text(),
            "organization" => filter.organization = text(),
            "client" => filter.client = text(),
            "fault" => filter.fault = text(),
            "transfer" => {
                filter.transfer = Some(Uuid::try_parse(&value).map_err(|_| wrong("a UUID"))?);
            }
            "status" if value == "none" => filter.status = Some(None),
            "status" => {
                let status = value.parse().map_err(|_| wrong("a number or \"none\""))?;
                filter.status = Some(Some(status));
            }
            "effect" if value == "none" => filter.effect = Some(None),
            "effect" => filter.effect = Some(text()),
            "after" => filter.after = Some(value.parse().map_err(|_| wrong("a number"))?),
            "limit" => filter.limit = Some(value.parse().map_err(|_| wrong("a number"))?),
            _ => {
                return Err(format!(
                    "`{name}` is not known; allowed are operation, organization, client, transfer, status, effect, fault, after, limit"
                ));
            }
        }
    }
    Ok(filter)
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

/// What came of a content.
#[derive(Debug, Default, Clone, Copy, Serialize)]
struct Counts {
    published: u64,
    /// Whole downloads that were handed over.
    delivered: u64,
    confirmed: u64,
}

impl Counts {
    fn add(&mut self, other: Self) {
        self.published += other.published;
        self.delivered += other.delivered;
        self.confirmed += other.confirmed;
    }
}

/// One content for one recipient.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
struct Content {
    md5: String,
    file_name: String,
    recipient: String,
}

/// How often each content was published to a recipient, handed over and confirmed; with `by=hash`
/// how often to all recipients together.
pub(super) fn content(site: &Site, query: &str) -> Response<Body> {
    let (mut wanted, mut by_hash) = (None, false);
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match (name.as_ref(), value.as_ref()) {
            ("md5", md5) => wanted = Some(md5.to_ascii_lowercase()),
            ("by", "hash") => by_hash = true,
            ("by", "recipient") => by_hash = false,
            ("by", _) => return refuse("`by` must be \"recipient\" or \"hash\""),
            _ => return refuse(&format!("`{name}` is not known; allowed are md5, by")),
        }
    }
    let mut contents: BTreeMap<Content, Counts> = BTreeMap::new();
    for (content, counts) in
        site.depot.all(|transfer| rows(transfer, wanted.as_deref())).into_iter().flatten()
    {
        contents.entry(content).or_default().add(counts);
    }
    if !by_hash {
        return lines(contents.into_iter().map(|(content, counts)| Row { content, counts }));
    }
    let mut hashes: BTreeMap<String, (Counts, BTreeSet<String>)> = BTreeMap::new();
    for (content, counts) in contents {
        let (sum, recipients) = hashes.entry(content.md5).or_default();
        sum.add(counts);
        recipients.insert(content.recipient);
    }
    lines(hashes.into_iter().map(|(md5, (counts, recipients))| Hash { md5, recipients, counts }))
}

#[derive(Serialize)]
struct Row {
    #[serde(flatten)]
    content: Content,
    #[serde(flatten)]
    counts: Counts,
}

#[derive(Serialize)]
struct Hash {
    md5: String,
    recipients: BTreeSet<String>,
    #[serde(flatten)]
    counts: Counts,
}

/// A transfer's content for each of its recipients.
fn rows(transfer: &Transfer, wanted: Option<&str>) -> Option<Vec<(Content, Counts)>> {
    let md5 = transfer.md5.as_ref().filter(|md5| wanted.is_none_or(|wanted| wanted == **md5))?;
    let of = |recipient: &str| {
        let rows = transfer.rows_of(recipient);
        let confirmed = rows.filter(|row| row.status == RecipientStatus::DownloadConfirmed).count();
        let counts = Counts {
            published: transfer.published() as u64,
            delivered: transfer.delivered_to.get(recipient).copied().unwrap_or_default(),
            confirmed: confirmed as u64,
        };
        let (md5, file_name) = (md5.clone(), transfer.file_name.clone());
        (Content { md5, file_name, recipient: recipient.to_owned() }, counts)
    };
    Some(transfer.recipient_organizations().into_iter().map(of).collect())
}
