//! `/events/api/v1/subscriptions`: to subscribe, to look, and to end it (Events API, subscriptions).

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use serde_json::{Map, Value, json};
use url::Url;

use super::consumer::{Caller, may_subscribe};
use super::queue::{Job, Mail};
use super::subscriptions::{Held, Wish};
use super::{Denied, keeping};
use crate::sandbox::clock::later;
use crate::sandbox::faults::Quirk;
use crate::sandbox::media_type;
use crate::sandbox::problem::{Refusal, answer, bare, invalid, json_answer};
use crate::sandbox::server;
use crate::sandbox::site::{Note, Site};

const JSON: &str = "application/json; charset=utf-8";

/// The body, so far as its types are right.
struct Asked {
    end_point: Option<String>,
    resource: Option<String>,
    subject: Option<String>,
    kind: Option<String>,
    source: Option<String>,
    alternative_subject: Option<String>,
    include_subunits: bool,
}

/// `POST /subscriptions`: the checks in their order; an identical one is found and asked again
/// whether it is valid.
pub(super) async fn subscribe(
    site: &Arc<Site>,
    caller: &Caller,
    headers: &HeaderMap,
    body: Body,
    note: &mut Note,
) -> Result<Response<Body>, Denied> {
    if !media_type::is(headers, "application/json") {
        site.drain(body);
        return Err(Refusal::Bare(StatusCode::UNSUPPORTED_MEDIA_TYPE).into());
    }
    let body = server::read(site, body, note).await?;
    let wish = check(site, caller, read(&body)?)?;
    let now = site.now();
    let (held, new) = {
        let mut subscriptions = site.events.subscriptions();
        if let Some(held) = subscriptions.identical(&wish) {
            (Arc::clone(held), false)
        } else {
            let organization = note.entry.organization.as_deref();
            let silence = site.faults.strikes(Quirk::SubscriptionSilent, organization);
            let until = silence.map(|wait| later(now, Duration::from_millis(wait)));
            (subscriptions.add(wish, now, until), true)
        }
    };
    let created = created(&held)?;
    // Before the request can be abandoned: the subscription is there, whoever waits for the answer.
    site.events.queue(now, Job::Post(Mail { held, event: None, attempt: 1 }));
    if new {
        note.entry.effect = Some("subscribed");
        site.events.subscriptions_changed();
        save(site).await?;
    }
    Ok(created)
}

/// 201 with a `Location` that does not exist: it is singular.
fn created(held: &Held) -> Result<Response<Body>, Refusal> {
    let body = serde_json::to_string(&held.subscription).map_err(|_| Refusal::Unhandled)?;
    let location = format!("/events/api/v1/subscription/{}", held.subscription.id);
    let mut response = answer(StatusCode::CREATED, JSON, body);
    if let Ok(location) = HeaderValue::from_str(&location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// `GET /subscriptions`: all of this consumer.
pub(super) fn list(site: &Site, caller: &Caller) -> Response<Body> {
    let subscriptions: Vec<_> = {
        let subscriptions = site.events.subscriptions();
        subscriptions.all().filter(|it| it.wish.consumer == caller.consumer).cloned().collect()
    };
    json_answer(&json!({ "count": subscriptions.len(), "subscriptions": subscriptions }))
}

/// `GET /subscriptions/{id}`.
pub(super) fn show(site: &Site, caller: &Caller, id: &str) -> Result<Response<Body>, Denied> {
    let held = own(site, caller, id)?;
    let body = serde_json::to_string(&held.subscription).map_err(|_| Refusal::Unhandled)?;
    Ok(answer(StatusCode::OK, JSON, body))
}

/// `DELETE /subscriptions/{id}`: what is on its way goes on being posted.
pub(super) async fn remove(
    site: &Arc<Site>,
    caller: &Caller,
    id: &str,
    note: &mut Note,
) -> Result<Response<Body>, Denied> {
    let id = own(site, caller, id)?.subscription.id;
    let lingers = site.faults.strikes(Quirk::SubscriptionLingers, note.entry.organization.as_deref());
    let until = lingers.map(|wait| later(site.now(), Duration::from_millis(wait)));
    site.events.subscriptions().remove(id, until);
    note.entry.effect = Some("unsubscribed");
    site.events.subscriptions_changed();
    save(site).await?;
    Ok(bare(StatusCode::OK))
}

async fn save(site: &Arc<Site>) -> Result<(), Refusal> {
    keeping::save(site).await.map_err(|error| {
        tracing::error!(%error, "sandbox: the subscriptions could not be written");
        // Somebody has to try again.
        site.events.changed.notify_one();
        Refusal::Unhandled
    })
}

fn own(site: &Site, caller: &Caller, id: &str) -> Result<Arc<Held>, Refusal> {
    let Ok(number) = id.parse::<i32>() else {
        return Err(invalid("id", format!("The value '{id}' is not valid.")));
    };
    let held = site.events.subscriptions().get(number).cloned();
    let held = held.ok_or(Refusal::Bare(StatusCode::NOT_FOUND))?;
    if held.subscription.created_by == caller.consumer {
        Ok(held)
    } else {
        Err(Refusal::Bare(StatusCode::FORBIDDEN))
    }
}

/// Names in any case; of two that are the same the last counts.
fn read(body: &[u8]) -> Result<Asked, Refusal> {
    let members: Map<String, Value> = serde_json::from_slice(body)
        .map_err(|_| invalid("$", "The JSON value could not be converted to SubscriptionRequestModel."))?;
    let mut asked = Asked {
        end_point: None,
        resource: None,
        subject: None,
        kind: None,
        source: None,
        alternative_subject: None,
        include_subunits: false,
    };
    for (name, value) in members {
        let wrong = |kind: &str| {
            invalid(&format!("$.{name}"), format!("The JSON value could not be converted to {kind}."))
        };
        let place = match name.to_ascii_lowercase().as_str() {
            "endpoint" => &mut asked.end_point,
            "resourcefilter" => &mut asked.resource,
            "subjectfilter" => &mut asked.subject,
            "typefilter" => &mut asked.kind,
            "sourcefilter" => &mut asked.source,
            "alternativesubjectfilter" => &mut asked.alternative_subject,
            "includesubunits" => {
                asked.include_subunits = value.as_bool().ok_or_else(|| wrong("System.Boolean"))?;
                continue;
            }
            _ => continue,
        };
        *place = match value {
            Value::Null => None,
            Value::String(text) => Some(text),
            _ => return Err(wrong("System.String")),
        };
    }
    Ok(asked)
}

fn check(site: &Site, caller: &Caller, asked: Asked) -> Result<Wish, Denied> {
    let wrong = |text: &str| Denied::Text(StatusCode::BAD_REQUEST, text.to_owned());
    let Some(end_point) = asked.end_point.filter(|url| is_https(url)) else {
        return Err(wrong("Missing or invalid endpoint to push events towards"));
    };
    if asked.source.as_deref().is_some_and(|url| !is_https(url)) {
        return Err(wrong("SourceFilter must be an absolute URL with the https scheme."));
    }
    caller.must_have_scope()?;
    let resource = asked.resource.filter(|urn| !urn.is_empty());
    if resource.as_deref().is_some_and(|urn| !is_urn(urn)) {
        return Err(wrong("Resource filter must be a valid urn"));
    }
    let Some(resource_filter) = resource else { return Err(wrong("Resource filter is required.")) };
    if asked.source.is_some() {
        return Err(wrong("Source filter is not supported for subscriptions on this resource."));
    }
    if asked.alternative_subject.is_some_and(|subject| !subject.is_empty()) {
        return Err(wrong("AlternativeSubject filter is not supported for subscriptions on this resource."));
    }
    // An empty subject is none here, and matches nothing later.
    let subject = asked.subject.as_deref().filter(|subject| !subject.is_empty());
    if asked.include_subunits && subject.is_none() {
        return Err(wrong("IncludeSubunits requires a subject filter."));
    }
    if !may_subscribe(site, &caller.consumer, &resource_filter, subject) {
        let text = format!("Not authorized to create a subscription for resource {resource_filter}.");
        return Err(Denied::Text(StatusCode::FORBIDDEN, text));
    }
    Ok(Wish {
        end_point,
        resource_filter,
        subject_filter: asked.subject,
        type_filter: asked.kind,
        consumer: caller.consumer.clone(),
        include_subunits: asked.include_subunits,
    })
}

fn is_https(url: &str) -> bool {
    let absolute = url.split_once("://").is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case("https"));
    absolute && Url::parse(url).is_ok_and(|url| url.has_host())
}

/// `urn:`, a namespace of 1 to 30 characters, then 1 to 10 parts of 1 to 100; no capitals.
fn is_urn(text: &str) -> bool {
    let mut parts = text.split(':');
    let small = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let scheme = parts.next() == Some("urn");
    let namespace = parts.next().is_some_and(|it| (1..=30).contains(&it.len()) && it.bytes().all(small));
    let is_part = |part: &str| {
        (1..=100).contains(&part.len())
            && part.bytes().all(|byte| small(byte) || b"()+,.;$_!/".contains(&byte))
    };
    let rest: Vec<&str> = parts.collect();
    scheme && namespace && (1..=10).contains(&rest.len()) && rest.into_iter().all(is_part)
}
