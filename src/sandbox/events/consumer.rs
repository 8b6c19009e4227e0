//! Whom a token stands for at Altinn Events, and what that consumer may hear of.

use axum::http::{HeaderMap, StatusCode};
use serde_json::{Map, Value};

use super::event;
use crate::sandbox::auth;
use crate::sandbox::faults::Quirk;
use crate::sandbox::problem::Refusal;
use crate::sandbox::site::Site;
use crate::sandbox::world::{Action, Subject, World, bare_number};

const SCOPE: &str = "altinn:events.subscribe";

/// The caller of Altinn Events: an exchanged token was accepted.
pub(super) struct Caller {
    claims: Map<String, Value>,
    /// The consumer, such as `/organisation/991825827`; two are the same only when they are equal.
    pub(super) consumer: String,
}

impl Caller {
    /// Only Altinn's own tokens are accepted, which those of Maskinporten are not.
    pub(super) fn of(site: &Site, headers: &HeaderMap) -> Result<Self, Refusal> {
        let claims = auth::altinn_claims(site, headers)?;
        let consumer = consumer(&claims).ok_or(Refusal::Bare(StatusCode::UNAUTHORIZED))?;
        Ok(Self { claims, consumer })
    }

    /// Demands the scope, without a word.
    pub(super) fn must_have_scope(&self) -> Result<(), Refusal> {
        if auth::scopes(&self.claims).iter().any(|scope| scope == SCOPE) {
            Ok(())
        } else {
            Err(Refusal::Bare(StatusCode::FORBIDDEN))
        }
    }

    /// Nine digits of the organisation that the token stands for, for the ledger.
    pub(super) fn organization(&self, site: &Site) -> Option<String> {
        site.look(|world| asker(world, &self.consumer)?.organization(world))
    }

    /// Nine digits of the owner of the Maskinporten client, for the ledger.
    pub(super) fn vendor(&self) -> Option<String> {
        let id = self.claims.get("consumer")?.get("ID")?.as_str()?;
        Some(bare_number(id).to_owned())
    }
}

/// First match wins: service owner, user, system user, organisation.
fn consumer(claims: &Map<String, Value>) -> Option<String> {
    let text = |name: &str| match claims.get(name)? {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    text("urn:altinn:org")
        .map(|code| format!("/org/{code}"))
        .or_else(|| text("urn:altinn:userid").map(|id| format!("/user/{id}")))
        .or_else(|| system_user(claims).map(|id| format!("/systemuser/{id}")))
        .or_else(|| text("urn:altinn:orgNumber").map(|number| format!("/organisation/{number}")))
}

fn system_user(claims: &Map<String, Value>) -> Option<&str> {
    let entry = match claims.get("authorization_details")? {
        Value::Array(entries) => entries.first()?,
        other => other,
    };
    entry.get("systemuser_id")?.as_array()?.first()?.as_str()
}

/// Whom Altinn Authorization sees in a consumer.
enum Asker {
    Party(Subject),
    /// By its code.
    ServiceOwner(String),
}

impl Asker {
    /// Its nine digits.
    fn organization(&self, world: &World) -> Option<String> {
        match self {
            Self::Party(Subject::SystemUser(number) | Subject::Organization(number)) => Some(number.clone()),
            Self::ServiceOwner(code) => {
                world.owner_codes.iter().find(|(_, it)| *it == code).map(|(number, _)| number.clone())
            }
        }
    }
}

/// Nobody, when the system user is gone or the consumer is a person, of whom there are none here.
fn asker(world: &World, consumer: &str) -> Option<Asker> {
    if let Some(number) = consumer.strip_prefix("/organisation/") {
        return Some(Asker::Party(Subject::Organization(number.to_owned())));
    }
    if let Some(id) = consumer.strip_prefix("/systemuser/") {
        let user = world.system_users.iter().find(|user| user.id == id && user.approved)?;
        return Some(Asker::Party(Subject::SystemUser(user.organization.clone())));
    }
    consumer.strip_prefix("/org/").map(|code| Asker::ServiceOwner(code.to_owned()))
}

/// Asks Altinn Authorization: does the policy of the resource (a URN) let the consumer subscribe
/// to events about the subject? Without a subject the question is about all of them, which is
/// permitted to the resource's own service owner alone.
pub(super) fn may_subscribe(site: &Site, consumer: &str, resource: &str, subject: Option<&str>) -> bool {
    let Some(resource) = resource.strip_prefix(event::RESOURCE_PREFIX) else { return false };
    let Some(asker) = site.look(|world| asker(world, consumer)) else { return false };
    let number = site.look(|world| asker.organization(world));
    if site.faults.strikes(Quirk::AuthorizationDown, number.as_deref()).is_some() {
        return false;
    }
    site.look(|world| match asker {
        Asker::ServiceOwner(code) => world.owner_has(resource, &code),
        Asker::Party(party) => {
            let Some(number) = subject.and_then(event::organization) else { return false };
            // What the main unit may is good for its sub-units.
            let main = world.organization(number).and_then(|unit| unit.parent.as_deref());
            [Some(number), main]
                .into_iter()
                .flatten()
                .any(|number| world.permits(&party, resource, Action::Subscribe, number))
        }
    })
}
