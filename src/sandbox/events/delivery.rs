//! Posts what is due, and posts it again by the schedule (Events API, validation and delivery).

use std::sync::Arc;

use futures_util::future::{Either, pending};
use jiff::Timestamp;
use serde::Serialize;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::queue::{Job, Mail};
use super::webhook;
use crate::sandbox::clock::later;
use crate::sandbox::site::Site;

/// One POST to an endpoint, as `/_sandbox/deliveries` shows it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::sandbox) struct Delivery {
    /// When it ended.
    pub(in crate::sandbox) time: Timestamp,
    /// The id of the CloudEvent.
    pub(in crate::sandbox) event: Uuid,
    /// The type of the CloudEvent.
    #[serde(rename = "type")]
    pub(in crate::sandbox) kind: String,
    /// The subscription.
    pub(in crate::sandbox) subscription: i32,
    /// Counts from 1.
    pub(in crate::sandbox) attempt: u32,
    /// The last answer's status; `None` when there was none.
    pub(in crate::sandbox) status: Option<u16>,
    /// Why there was none.
    pub(in crate::sandbox) error: Option<String>,
    /// When it is posted again; `None` when it never is.
    pub(in crate::sandbox) next: Option<Timestamp>,
}

/// The event that asks an endpoint whether it is one: four members, and no more.
#[derive(Debug, Serialize)]
struct Question {
    specversion: &'static str,
    id: Uuid,
    source: String,
    #[serde(rename = "type")]
    kind: &'static str,
}

const VALIDATION: &str = "platform.events.validatesubscription";

/// Posts until told to stop; what is in flight then is cut off.
pub(super) async fn run(site: &Arc<Site>, stop: &CancellationToken) {
    let mut posts = JoinSet::new();
    loop {
        let (notices, started, next) = site.events.due(site.clock.now());
        for notice in notices {
            site.events.send(site, notice);
        }
        for mail in started {
            posts.spawn(post(Arc::clone(site), mail));
        }
        let next = match next {
            Some(time) => Either::Left(site.clock.sleep_until(time)),
            None => Either::Right(pending()),
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = site.events.queued() => {}
            () = next => {}
            Some(ended) = posts.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "sandbox: the delivery of an event broke off");
                }
            }
        }
    }
}

/// Its place is given back even when the task breaks off.
struct Flight<'a> {
    site: &'a Site,
    endpoint: &'a str,
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.site.events.landed(self.endpoint);
    }
}

async fn post(site: Arc<Site>, mail: Mail) {
    let flight = Flight { site: &site, endpoint: mail.endpoint() };
    let deadline = later(site.clock.now(), site.settings.delivery_timeout);
    let subscription = &mail.held.subscription;
    let (event, kind, body) = if let Some(event) = &mail.event {
        (event.id, event.kind_on_the_wire(), webhook::body(mail.endpoint(), &event.pushed(&site)))
    } else {
        let id = Uuid::new_v4();
        let source = format!("{}/events/api/v1/subscriptions/{}", site.url, subscription.id);
        let question = Question { specversion: "1.0", id, source, kind: VALIDATION };
        (id, VALIDATION.to_owned(), webhook::body(mail.endpoint(), &question))
    };
    let outcome = match body {
        Ok(body) => tokio::select! {
            outcome = site.events.webhook.post(mail.endpoint(), body) => outcome,
            () = site.clock.sleep_until(deadline) => Err("the answer did not come in time".to_owned()),
        },
        Err(error) => Err(error.to_string()),
    };
    let now = site.now();
    let done = outcome.as_ref().is_ok_and(|status| (200..300).contains(status));
    let wait = if done { None } else { mail.schedule().wait_after(mail.attempt) };
    let next = wait.map(|wait| site.due(now, wait));
    let (status, error) = match outcome {
        Ok(status) => (Some(status), None),
        Err(error) => (None, Some(error)),
    };
    let subscription = subscription.id;
    let delivery =
        Delivery { time: now, event, kind, subscription, attempt: mail.attempt, status, error, next };
    if done && mail.event.is_none() {
        site.events.validated(subscription);
    }
    if let Some(time) = next {
        site.events.queue(time, Job::Post(Mail { attempt: mail.attempt + 1, ..mail.clone() }));
    }
    site.events.note(delivery);
    drop(flight);
}
