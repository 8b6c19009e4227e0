//! Altinn Events against its statements, with a receiver on loopback that has a certificate.

mod announcing;
mod caching;
mod delivering;
mod faulting;
mod keeping;
mod owning;
mod pulling;
mod receiver;
mod subscribing;
mod validating;

use std::time::Duration;

use reqwest::Method;
use serde_json::{Map, Value, json};

use super::support::{Bench, RESOURCE, Reply, eventually, send};
use crate::sandbox::Options;
use crate::sandbox::events::Delivery;
use receiver::{Heard, Receiver};

const SUBSCRIPTIONS: &str = "/events/api/v1/subscriptions";
const VALIDATION: &str = "platform.events.validatesubscription";
/// Of the sender, of the recipient, and of an organisation that no key stands for.
const SENDER: &str = "991825827";
const RECIPIENT: &str = "910753614";
const THIRD: &str = "313579246";

/// A sandbox, and a receiver that it trusts.
struct Stage {
    bench: Bench,
    receiver: Receiver,
}

impl Stage {
    async fn start() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut Options)) -> Self {
        let receiver = Receiver::start().await;
        let bench = Bench::with(|options| {
            options.trust = vec![receiver.authority()];
            change(options);
        })
        .await;
        Self { bench, receiver }
    }

    /// A correct subscription of an organisation to its own events, with an endpoint of its own.
    fn wish(&self, organization: &str, path: &str) -> Value {
        json!({
            "endPoint": self.receiver.url(path),
            "resourceFilter": format!("urn:altinn:resource:{RESOURCE}"),
            "subjectFilter": format!("urn:altinn:organization:identifier-no:{organization}"),
        })
    }

    async fn try_subscribe(&self, organization: &str, path: &str, change: impl FnOnce(&mut Value)) -> Reply {
        let mut wish = self.wish(organization, path);
        change(&mut wish);
        subscribe(&self.bench, &token(&self.bench, organization), &wish).await
    }

    /// Subscribes, and waits until the endpoint has answered the first validation event.
    async fn subscribe(&self, organization: &str, path: &str, change: impl FnOnce(&mut Value)) -> i64 {
        let reply = self.try_subscribe(organization, path, change).await;
        assert_eq!(reply.status, 201, "{}", reply.text());
        let id = reply.json()["id"].as_i64().unwrap();
        self.until_attempts(|attempt| i64::from(attempt.subscription) == id, 1).await;
        id
    }

    fn attempts(&self, is_it: impl Fn(&Delivery) -> bool) -> Vec<Delivery> {
        self.bench.sandbox.site.events.deliveries().into_iter().filter(|attempt| is_it(attempt)).collect()
    }

    /// Waits for so many attempts.
    async fn until_attempts(&self, is_it: impl Fn(&Delivery) -> bool, count: usize) -> Vec<Delivery> {
        eventually(
            || self.attempts(&is_it).len() >= count,
            || format!("{count} attempts, but {:?}", self.attempts(|_| true)),
        )
        .await;
        self.attempts(is_it)
    }

    /// Waits for so many events, validations not counted, on a path.
    async fn until_heard(&self, path: &str, count: usize) -> Vec<Heard> {
        eventually(
            || self.receiver.events(path).len() >= count,
            || format!("{count} events on {path}, but {:?}", self.receiver.events(path)),
        )
        .await;
        self.receiver.events(path)
    }

    /// Waits until everything that is due was posted.
    async fn settle(&self) {
        let site = &self.bench.sandbox.site;
        eventually(|| site.events.is_idle(site.clock.now()), || "the end of all posts".to_owned()).await;
    }

    /// Publishes a transfer of the usual two, and waits until everything that follows from it was posted.
    async fn publish(&self) -> String {
        let id = self.bench.publish("hello").await;
        self.settle().await;
        id
    }

    async fn subscription(&self, organization: &str, id: i64) -> Value {
        let token = token(&self.bench, organization);
        let reply = as_token(&self.bench, Method::GET, &format!("{SUBSCRIPTIONS}/{id}"), &token).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.json()
    }

    /// The code of the service owner whose the resource is.
    fn owner_code(&self) -> String {
        let code = self.bench.sandbox.world(|world| {
            let owner = world.resources[RESOURCE].owner.clone().unwrap();
            world.owner_codes[&owner].clone()
        });
        code.unwrap()
    }

    fn permit(&self, organization: &str) {
        self.bench.permit_third();
        self.bench
            .sandbox
            .world(|world| world.permit(RESOURCE, organization, crate::sandbox::Action::Subscribe))
            .unwrap();
    }

    fn forbid(&self, organization: &str) {
        self.bench.resource(|resource| {
            resource.rights.get_mut(organization).unwrap().remove(&crate::sandbox::Action::Subscribe);
        });
    }

    fn advance(&self, by: Duration) {
        self.bench.clock.advance(by);
    }
}

/// The claims of an exchanged token of an organisation.
fn claims(bench: &Bench, organization: &str) -> Map<String, Value> {
    let mut claims = bench.claims(&format!("0192:{organization}"));
    claims.insert("urn:altinn:orgNumber".to_owned(), organization.into());
    claims.insert("scope".to_owned(), "altinn:broker.write altinn:events.subscribe".into());
    claims
}

fn token(bench: &Bench, organization: &str) -> String {
    bench.sign(&claims(bench, organization))
}

/// An exchanged token of the organisation's system user.
fn system_user_token(bench: &Bench, organization: &str) -> String {
    let user = bench.sandbox.world(|world| {
        let users = world.system_users.iter();
        users.clone().find(|user| user.organization == organization).unwrap().clone()
    });
    let user = user.unwrap();
    let mut claims = claims(bench, organization);
    let details = json!([{
        "type": "urn:altinn:systemuser", "systemuser_id": [user.id], "system_id": user.system_id,
        "systemuser_org": { "authority": "iso6523-actorid-upis", "ID": format!("0192:{organization}") },
    }]);
    claims.insert("authorization_details".to_owned(), details);
    bench.sign(&claims)
}

async fn subscribe(bench: &Bench, token: &str, wish: &Value) -> Reply {
    send(bench.request(Method::POST, SUBSCRIPTIONS).bearer_auth(token).json(wish)).await
}

async fn as_token(bench: &Bench, method: Method, path: &str, token: &str) -> Reply {
    send(bench.request(method, path).bearer_auth(token)).await
}

/// The body is this text as a JSON string.
#[track_caller]
fn is_text(reply: &Reply, status: u16, text: &str) {
    assert_eq!((reply.status, reply.text()), (status, Value::from(text).to_string()));
}
