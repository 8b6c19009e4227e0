//! `GET /broker/api/v1/filetransfer` (Broker API, search).

use std::str::FromStr;
use std::time::Duration;

use axum::body::Body;
use axum::http::Response;
use jiff::Timestamp;
use jiff::civil;
use jiff::tz::TimeZone;
use serde_json::Value;
use url::form_urlencoded;

use super::transfer::{RecipientStatus, Status, Transfer};
use crate::sandbox::auth::Caller;
use crate::sandbox::clock::earlier;
use crate::sandbox::faults::Quirk;
use crate::sandbox::problem::{Fault, Messages, Refusal, json_answer};
use crate::sandbox::site::Site;
use crate::sandbox::world::Action;

/// There is no cursor and no total.
const LIMIT: usize = 100;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Recipient,
    Sender,
}

#[derive(Debug, Default)]
struct Query {
    resource: String,
    status: Option<Status>,
    recipient_status: Option<RecipientStatus>,
    role: Option<Role>,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
    ascending: bool,
}

/// Ids of the caller's transfers on a resource.
pub(in crate::sandbox) fn search(
    site: &Site,
    caller: &Caller,
    query: &str,
) -> Result<Response<Body>, Refusal> {
    let query = parse(query)?;
    let party = caller.party().ok_or(Fault::NoAccess)?;
    let may = |action| caller.may(site, &query.resource, action, &party);
    if !may(Action::Read) && !may(Action::Write) {
        return Err(Fault::NoAccess.into());
    }
    let lag = site.faults.strikes(Quirk::SearchLag, caller.organization());
    let then = lag.map(|milliseconds| earlier(site.now(), Duration::from_millis(milliseconds)));
    let mut hits = site.depot.of_party(&query.resource, &party, |transfer| {
        let transfer = site.events.readable(transfer, site.now());
        let time = match then {
            Some(then) => query.matches(&transfer.as_of(then)?, &party)?,
            None => query.matches(&transfer, &party)?,
        };
        Some((time, transfer.id))
    });
    if query.ascending {
        hits.sort_by_key(|(time, _)| *time);
    } else {
        hits.sort_by_key(|(time, _)| std::cmp::Reverse(*time));
    }
    let ids: Vec<Value> = hits.into_iter().take(LIMIT).map(|(_, id)| id.to_string().into()).collect();
    Ok(json_answer(&ids.into()))
}

impl Query {
    /// The time that orders the transfer, when it is a hit.
    fn matches(&self, transfer: &Transfer, party: &str) -> Option<Timestamp> {
        let latest = transfer.latest(party);
        if let Some(wanted) = self.recipient_status {
            if latest != Some(wanted) {
                return None;
            }
        } else {
            let (sent, received) = (transfer.sender == party, latest.is_some());
            let wanted = match self.role {
                Some(Role::Sender) => sent,
                Some(Role::Recipient) => received,
                None => sent || received,
            };
            if !wanted {
                return None;
            }
        }
        let time = match self.status {
            // The latest time it entered that status; a half-made row never entered any.
            Some(status) if transfer.status() == status => {
                transfer.entered(status).unwrap_or(transfer.created)
            }
            Some(_) => return None,
            None => transfer.created,
        };
        let in_time = match (self.from, self.to) {
            (Some(from), Some(to)) => (from..=to).contains(&time),
            (Some(from), None) => time > from,
            (None, Some(to)) => time < to,
            (None, None) => true,
        };
        in_time.then_some(time)
    }
}

fn parse(text: &str) -> Result<Query, Refusal> {
    let mut query = Query::default();
    let mut errors = Messages::new();
    let mut seen: Vec<String> = Vec::new();
    for (name, value) in form_urlencoded::parse(text.as_bytes()) {
        let name = name.to_ascii_lowercase();
        // The first of several values is bound; an empty one is none.
        if seen.contains(&name) || value.is_empty() {
            continue;
        }
        let known = match name.as_str() {
            "resourceid" => {
                query.resource = value.clone().into_owned();
                Some(())
            }
            "status" => named(&value, &Status::ALL, Status::name).map(|it| query.status = Some(it)),
            "recipientstatus" => {
                let names = (&RecipientStatus::ALL, RecipientStatus::name);
                named(&value, names.0, names.1).map(|it| query.recipient_status = Some(it))
            }
            "role" => {
                named(&value, &[Role::Recipient, Role::Sender], role_name).map(|it| query.role = Some(it))
            }
            "from" => instant(&value).map(|it| query.from = Some(it)),
            "to" => instant(&value).map(|it| query.to = Some(it)),
            "orderascending" => boolean(&value).map(|it| query.ascending = it),
            _ => continue,
        };
        if known.is_none() {
            errors
                .entry(member_name(&name).to_owned())
                .or_default()
                .push(format!("The value '{value}' is not valid."));
        }
        seen.push(name);
    }
    if query.resource.trim().is_empty() {
        errors
            .entry("resourceId".to_owned())
            .or_default()
            .push("The resourceId field is required.".to_owned());
    }
    if errors.is_empty() { Ok(query) } else { Err(Refusal::Invalid(errors)) }
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::Recipient => "Recipient",
        Role::Sender => "Sender",
    }
}

fn member_name(name: &str) -> &str {
    match name {
        "recipientstatus" => "recipientStatus",
        "orderascending" => "orderAscending",
        other => other,
    }
}

/// An enum by name, in any case, or by number.
fn named<T: Copy>(text: &str, all: &[T], name: impl Fn(T) -> &'static str) -> Option<T> {
    let text = text.trim();
    if let Ok(number) = text.parse::<usize>() {
        return all.get(number).copied();
    }
    all.iter().copied().find(|value| name(*value).eq_ignore_ascii_case(text))
}

fn boolean(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

/// Any ISO 8601 date; without an offset it is UTC, the server's time.
fn instant(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    if let Ok(time) = Timestamp::from_str(text) {
        return Some(time);
    }
    let civil =
        civil::DateTime::from_str(text).or_else(|_| civil::Date::from_str(text).map(civil::DateTime::from));
    civil.ok()?.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
}
