//! What the rules do to one request.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody as _};
use axum::extract::ConnectInfo;
use axum::http::request::Parts;
use axum::http::{HeaderValue, Response, StatusCode, header};
use futures_util::StreamExt as _;
use serde_json::Value;
use url::form_urlencoded;
use uuid::Uuid;

use super::canned::Canned;
use super::effect::{Effect, Ending, When};
use super::rule::Question;
use super::shape::{Twist, Way, shape};
use super::{Faults, STRUCK};
use crate::sandbox::auth;
use crate::sandbox::broker::Delivery;
use crate::sandbox::identity::maskinporten;
use crate::sandbox::line::{End, Line};
use crate::sandbox::problem::bare;
use crate::sandbox::route::{Events, Operation, Question as Registry};
use crate::sandbox::server;
use crate::sandbox::site::{Note, Site};

/// What goes wrong with a request.
#[derive(Default)]
pub(in crate::sandbox) struct Plan {
    names: Vec<String>,
    transfer: Option<Uuid>,
    delay_before: Duration,
    delay_after: Duration,
    ending: Option<(When, Ending)>,
    request: Vec<Twist>,
    response: Vec<Twist>,
}

impl Faults {
    /// What the rules have in store for a request, if there are any.
    /// `told` is the body where it is small and says whom or what the request is about.
    pub(in crate::sandbox) fn plan(
        &self,
        site: &Site,
        operation: &Operation,
        parts: &Parts,
        told: Option<&[u8]>,
    ) -> Option<Plan> {
        if !self.any() || operation.is_the_sandboxs_own() {
            return None;
        }
        let question = question(site, operation, parts, told.unwrap_or_default());
        let now = self.clock.now();
        let mut plan = Plan { transfer: question.transfer, ..Plan::default() };
        for live in &mut self.lock().live {
            if !live.strikes(&question, now) {
                continue;
            }
            plan.names.push(live.name.clone());
            match &live.rule.effect {
                // Whoever gives the answer, or keeps it, has the last word.
                Effect::Ending(when, ending) => {
                    plan.ending = Some((*when, ending.clone()));
                    break;
                }
                Effect::Delay(When::Before, pause) => {
                    plan.delay_before = plan.delay_before.saturating_add(*pause);
                }
                Effect::Delay(When::After, pause) => {
                    plan.delay_after = plan.delay_after.saturating_add(*pause);
                }
                Effect::Request(twist) => plan.request.push(*twist),
                Effect::Response(twist) => plan.response.push(*twist),
                Effect::Quirk(..) => {}
            }
        }
        Some(plan)
    }
}

/// What is known of a request before it is let in. The token is not verified yet.
fn question(site: &Site, operation: &Operation, parts: &Parts, told: &[u8]) -> Question {
    let transfer = operation.transfer().and_then(|id| Uuid::try_parse(id).ok());
    let asked = |name: &str| {
        let query = parts.uri.query().unwrap_or_default().as_bytes();
        let is_it = |(given, _): &(std::borrow::Cow<'_, str>, _)| given.eq_ignore_ascii_case(name);
        form_urlencoded::parse(query).find(is_it).map(|(_, value)| value.into_owned())
    };
    let resource = match operation {
        Operation::Search => asked("resourceId"),
        Operation::Events(Events::Pull) => asked("resource"),
        Operation::Initialize => member(told, "resourceId"),
        Operation::Events(Events::Subscribe) => member(told, "resourceFilter"),
        Operation::Resource { id, .. }
        | Operation::Registry(Registry::Resource(id) | Registry::Policy(id) | Registry::Rights(id)) => {
            Some(id.clone())
        }
        _ => transfer.and_then(|id| site.depot.read(id, |transfer| transfer.resource.clone())),
    };
    let organization = match operation {
        Operation::Token => maskinporten::presented(site, told),
        _ => auth::presented(&parts.headers).and_then(|token| token.organization),
    };
    let resource = resource.map(|id| id.rsplit(':').next().unwrap_or_default().to_owned());
    Question { operation: operation.name(), organization, resource, transfer }
}

/// A text of a JSON object, by its name in any case.
fn member(body: &[u8], name: &str) -> Option<String> {
    let object: serde_json::Map<String, Value> = serde_json::from_slice(body).ok()?;
    let value = object.iter().find(|(given, _)| given.eq_ignore_ascii_case(name))?.1;
    value.as_str().map(str::to_owned)
}

/// Reads the body of a request that says in it, and not in its head, whom or what it is about. What cannot be read is
/// handed on as far as it came, and then breaks off.
pub(in crate::sandbox) async fn told(operation: &Operation, body: Body) -> (Body, Option<Bytes>) {
    if !matches!(operation, Operation::Token | Operation::Initialize | Operation::Events(Events::Subscribe)) {
        return (body, None);
    }
    let mut blocks = body.into_data_stream();
    let mut read = Vec::new();
    loop {
        match blocks.next().await {
            Some(Ok(block)) if read.len() + block.len() <= server::LARGEST_FORM => {
                read.extend_from_slice(&block);
            }
            Some(block) => {
                let begun = futures_util::stream::iter([Ok(Bytes::from(read)), block]);
                return (Body::from_stream(begun.chain(blocks)), None);
            }
            None => {
                let read = Bytes::from(read);
                return (Body::from(read.clone()), Some(read));
            }
        }
    }
}

impl Plan {
    /// Answers the request, with what goes wrong on the way.
    pub(in crate::sandbox) async fn carry_out(
        self,
        site: &Arc<Site>,
        operation: &Operation,
        parts: &Parts,
        body: Body,
        note: &mut Note,
    ) -> Response<Body> {
        let struck = !self.names.is_empty();
        note.entry.faults = self.names;
        note.entry.transfer = self.transfer;
        let line = parts.extensions.get::<ConnectInfo<Line>>().map(|info| info.0.clone());
        if !self.delay_before.is_zero() {
            site.clock.sleep(self.delay_before).await;
        }
        if let Some((When::Before, ending)) = &self.ending {
            match ending {
                Ending::Answer(canned) => {
                    site.drain(body);
                    return answered(canned, operation, note);
                }
                // With bytes unread, closing would be a reset.
                Ending::Lost(End::Close) | Ending::Raw(_) => discard(body).await,
                Ending::Lost(End::Reset) => {}
            }
            return ended(ending, line.as_ref(), operation, note);
        }
        let twist = |body, twist: &Twist| shape(body, Way::In, *twist, &site.clock, line.as_ref());
        let body = self.request.iter().fold(body, twist);
        note.watched = struck;
        let watched = async {
            let response = Box::pin(server::respond(site, operation, parts, body, note)).await;
            (response, STRUCK.with(RefCell::take))
        };
        let (response, quirks) = STRUCK.scope(RefCell::default(), watched).await;
        note.entry.faults.extend(quirks);
        if let Some((_, ending)) = &self.ending {
            drop(response);
            note.entry.sent = 0;
            note.settle(match ending {
                Ending::Answer(canned) => Some(canned.status.as_u16()),
                Ending::Lost(_) | Ending::Raw(_) => None,
            });
            if !self.delay_after.is_zero() {
                site.clock.sleep(self.delay_after).await;
            }
            return ended(ending, line.as_ref(), operation, note);
        }
        note.settle(Some(response.status().as_u16()));
        if !self.delay_after.is_zero() {
            site.clock.sleep(self.delay_after).await;
            note.settle(Some(response.status().as_u16()));
        }
        if !struck {
            return response;
        }
        let counts = matches!(operation, Operation::Download { .. }) && response.status().is_success();
        let tail = counts.then(|| (Arc::clone(site), note.entry.sequence));
        twisted(response, &self.response, site, line.as_ref(), tail)
    }
}

/// Gives the answer of a rule, or none.
fn ended(ending: &Ending, line: Option<&Line>, operation: &Operation, note: &mut Note) -> Response<Body> {
    match (ending, line) {
        (Ending::Answer(canned), _) => return answered(canned, operation, note),
        (Ending::Lost(end), Some(line)) => {
            note.settle(None);
            line.cut(*end);
        }
        (Ending::Raw(words), Some(line)) => {
            note.settle(None);
            line.say_instead(words.clone());
        }
        (_, None) => note.settle(None),
    }
    // Nobody sees this: the connection is over.
    bare(StatusCode::INTERNAL_SERVER_ERROR)
}

fn answered(canned: &Canned, operation: &Operation, note: &mut Note) -> Response<Body> {
    let response = canned.response(operation.produces());
    note.settle(Some(response.status().as_u16()));
    response
}

/// Reads a body for nothing.
async fn discard(body: Body) {
    let mut blocks = body.into_data_stream();
    while let Some(Ok(_)) = blocks.next().await {}
}

/// The answer with its body twisted, and what is left of it counted.
fn twisted(
    mut response: Response<Body>,
    twists: &[Twist],
    site: &Arc<Site>,
    line: Option<&Line>,
    counted: Option<(Arc<Site>, u64)>,
) -> Response<Body> {
    let delivery = response.extensions_mut().remove::<Delivery>();
    let Some(length) = response.body().size_hint().exact().or_else(|| declared(&response)) else {
        return response;
    };
    if length == 0 {
        if let Some(delivery) = delivery {
            delivery.count();
        }
        return response;
    }
    let mut said = Some(length);
    let mut intact = true;
    let mut body = std::mem::take(response.body_mut());
    for twist in twists {
        match twist {
            Twist::Truncate { .. } => said = None,
            Twist::Length { length } => said = Some(*length),
            Twist::Corrupt { at } => intact &= *at >= length,
            _ => {}
        }
        body = shape(body, Way::Out, *twist, &site.clock, line);
    }
    match said {
        Some(length) => response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length)),
        None => response.headers_mut().remove(header::CONTENT_LENGTH),
    };
    // Of an answer that is said to be shorter, no more than that arrives.
    intact &= said.is_none_or(|said| said >= length);
    let tail = Tail {
        blocks: body.into_data_stream(),
        counted,
        delivery: delivery.filter(|_| intact),
        sent: 0,
        length,
    };
    *response.body_mut() = Body::from_stream(futures_util::stream::unfold(tail, |mut tail| async move {
        let block = tail.blocks.next().await?;
        if let Ok(block) = &block {
            tail.add(block.len() as u64);
        }
        Some((block, tail))
    }));
    response
}

fn declared(response: &Response<Body>) -> Option<u64> {
    response.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Counts what is really handed over of an answer that something goes wrong with.
struct Tail {
    blocks: axum::body::BodyDataStream,
    /// The ledger's entry, when it is content.
    counted: Option<(Arc<Site>, u64)>,
    delivery: Option<Delivery>,
    sent: u64,
    length: u64,
}

impl Tail {
    fn add(&mut self, bytes: u64) {
        self.sent += bytes;
        if self.sent == self.length
            && let Some(delivery) = self.delivery.take()
        {
            delivery.count();
        }
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        if let Some((site, sequence)) = &self.counted {
            site.ledger.amend(*sequence, |entry| entry.sent = self.sent);
        }
    }
}
