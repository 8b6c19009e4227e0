//! `GET /events/api/v1/events`: what was registered, page by page (Events API, pull).

use std::collections::HashMap;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use url::form_urlencoded;
use uuid::Uuid;

use super::Denied;
use super::consumer::{Caller, may_subscribe};
use super::event::{self, RESOURCE_PREFIX};
use crate::sandbox::clock::earlier;
use crate::sandbox::media_type;
use crate::sandbox::problem::{Messages, Refusal, answer};
use crate::sandbox::site::Site;

const NEXT: HeaderName = HeaderName::from_static("next");
const USUAL: usize = 50;
const LARGEST: usize = 1000;

/// The parameters.
#[derive(Debug, Default)]
struct Query {
    resource: String,
    after: String,
    subject: Option<String>,
    kinds: Vec<String>,
    size: usize,
    /// All but `after`, as they were given.
    others: Vec<(String, String)>,
}

/// A page: read first, and only then are the events taken out that the caller may not see.
pub(super) fn pull(
    site: &Site,
    caller: &Caller,
    headers: &HeaderMap,
    query: &str,
) -> Result<Response<Body>, Denied> {
    caller.must_have_scope()?;
    if !media_type::may_be(headers, "application/json") {
        return Err(Refusal::Bare(StatusCode::UNSUPPORTED_MEDIA_TYPE).into());
    }
    let query = parse(query)?;
    let alternative = headers.get("Altinn-AlternativeSubject").filter(|value| !value.is_empty());
    check(&query, alternative.is_some())?;
    let limit = earlier(site.now(), site.scaled(site.settings.events_lag));
    let resource = query.resource.strip_prefix(RESOURCE_PREFIX);
    // A subject that is no organisation is nobody's.
    let organization =
        query.subject.as_deref().map(|subject| event::organization(subject).unwrap_or_default());
    let kinds: Vec<_> = query.kinds.iter().map(|pattern| pieces(pattern)).collect();
    let page: Vec<_> = {
        let log = site.events.log();
        let asked_for = log.after(bookmark(&query.after)).filter(|event| {
            event.time <= limit
                // No event of Formidling has an alternative subject.
                && alternative.is_none()
                && resource == Some(event.resource.as_str())
                && organization.is_none_or(|organization| organization == event.organization)
                && (kinds.is_empty()
                    || kinds.iter().any(|pattern| is_like(&event.kind_on_the_wire(), pattern)))
        });
        asked_for.take(query.size).cloned().collect()
    };
    let mut rights: HashMap<String, bool> = HashMap::new();
    let permitted = page.into_iter().filter(|event| {
        let subject = event.subject();
        *rights
            .entry(subject.clone())
            .or_insert_with(|| may_subscribe(site, &caller.consumer, &query.resource, Some(&subject)))
    });
    let permitted: Vec<_> = permitted.collect();
    let events: Vec<_> = permitted.iter().map(|event| event.pulled(site)).collect();
    let body = serde_json::to_string(&events).map_err(|_| Refusal::Unhandled)?;
    let mut response = answer(StatusCode::OK, "application/cloudevents+json; charset=utf-8", body);
    if let Some(last) = permitted.last()
        && let Some(next) = next(site, &query, &last.id.to_string())
    {
        response.headers_mut().insert(NEXT, next);
    }
    Ok(response)
}

/// The event that a bookmark names: ids are compared as texts, in the one form that they are told in.
fn bookmark(after: &str) -> Option<Uuid> {
    after.parse().ok().filter(|id: &Uuid| id.to_string() == after)
}

fn parse(text: &str) -> Result<Query, Refusal> {
    let mut query = Query { size: USUAL, ..Query::default() };
    let mut errors = Messages::new();
    for (name, value) in form_urlencoded::parse(text.as_bytes()) {
        let lower = name.to_ascii_lowercase();
        if lower != "after" {
            query.others.push((lower.clone(), value.clone().into_owned()));
        }
        if value.is_empty() {
            continue;
        }
        match lower.as_str() {
            "resource" => query.resource = value.into_owned(),
            "after" => query.after = value.into_owned(),
            "subject" => query.subject = Some(value.into_owned()),
            "type" => query.kinds.push(value.into_owned()),
            "size" => {
                if let Ok(size) = value.trim().parse::<i32>() {
                    let size = usize::try_from(size).ok().filter(|size| *size > 0);
                    query.size = size.unwrap_or(USUAL).min(LARGEST);
                } else {
                    let message = format!("The value '{value}' is not valid for size.");
                    errors.insert("size".to_owned(), vec![message]);
                }
            }
            _ => {}
        }
    }
    if query.resource.is_empty() {
        let message = "The resource field is required.".to_owned();
        errors.insert("resource".to_owned(), vec![message]);
    }
    if errors.is_empty() { Ok(query) } else { Err(Refusal::Invalid(errors)) }
}

fn check(query: &Query, alternative: bool) -> Result<(), Denied> {
    if !query.resource.starts_with(RESOURCE_PREFIX) {
        return Err(Denied::Problem("The 'resource' parameter must begin with `urn:altinn:resource:` "));
    }
    if query.after.is_empty() {
        return Err(Denied::Problem("The 'after' parameter must be defined."));
    }
    if alternative && query.subject.is_some() {
        return Err(Denied::Problem("Only one of 'subject' or 'alternativeSubject' can be defined."));
    }
    Ok(())
}

/// The address of the next page, nothing in it encoded.
fn next(site: &Site, query: &Query, last: &str) -> Option<HeaderValue> {
    let mut url = format!("{}/events/api/v1/events?after={last}", site.url);
    for (name, value) in &query.others {
        url.push('&');
        url.push_str(name);
        url.push('=');
        url.push_str(value);
    }
    HeaderValue::try_from(url.into_bytes()).ok()
}

/// A piece of a pattern of SQL's LIKE.
enum Piece {
    /// `%`
    Anything,
    /// `_`
    AnyOne,
    One(char),
}

/// A backslash takes the meaning away from what follows.
fn pieces(pattern: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        pieces.push(match character {
            '%' => Piece::Anything,
            '_' => Piece::AnyOne,
            '\\' => Piece::One(characters.next().unwrap_or(character)),
            _ => Piece::One(character),
        });
    }
    pieces
}

/// Whether the text is like the pattern. Only the last `%` is ever tried again, since what an
/// earlier one could take the last can take as well.
fn is_like(text: &str, pattern: &[Piece]) -> bool {
    let text: Vec<char> = text.chars().collect();
    let (mut read, mut used) = (0, 0);
    let mut last: Option<(usize, usize)> = None;
    while let Some(character) = text.get(read) {
        match pattern.get(used) {
            Some(Piece::Anything) => {
                used += 1;
                last = Some((used, read));
            }
            Some(Piece::AnyOne) => (read, used) = (read + 1, used + 1),
            Some(Piece::One(wanted)) if wanted == character => (read, used) = (read + 1, used + 1),
            _ => {
                let Some((after, taken)) = last else { return false };
                last = Some((after, taken + 1));
                (used, read) = (after, taken + 1);
            }
        }
    }
    pattern.get(used..).unwrap_or_default().iter().all(|piece| matches!(piece, Piece::Anything))
}
