//! `POST` and `GET /broker/api/v1/serviceowner`: a service owner makes itself known to the Broker
//! (Broker API, resource, service owner and the rest).

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, Response, StatusCode};
use serde_json::{Value, json};

use super::OwnerFault;
use super::members::{Members, must_be_json};
use crate::sandbox::auth::Caller;
use crate::sandbox::problem::{Refusal, bare, invalid, json_answer};
use crate::sandbox::site::{Note, Site};
use crate::sandbox::world::{Stage, World};

/// Makes the caller known, and its resources usable.
pub(super) async fn create(
    site: &Arc<Site>,
    caller: &Caller,
    headers: &HeaderMap,
    body: &[u8],
    note: &mut Note,
) -> Result<Response<Body>, Refusal> {
    must_be_json(headers)?;
    let members = Members::read(body, "serviceOwnerInitializeExt")?;
    if members.get("name").is_none() {
        return Err(members.misfit("$"));
    }
    let name = members.text("name")?.filter(|name| !name.trim().is_empty());
    let name = name.ok_or_else(|| invalid("Name", "The Name field is required."))?;
    let number = caller.organization().ok_or(OwnerFault::CallerUnknown)?.to_owned();
    site.change_world(move |world| register(world, number, name)).await.map_err(|_| Refusal::Unhandled)??;
    note.entry.effect = Some("service owner created");
    Ok(bare(StatusCode::OK))
}

fn register(world: &mut World, number: String, name: String) -> Result<(), OwnerFault> {
    if world.service_owners.contains_key(&number) {
        return Err(OwnerFault::OwnerExists);
    }
    for resource in world.resources.values_mut().filter(|it| it.owner.as_ref() == Some(&number)) {
        resource.service_owner = true;
    }
    world.service_owners.insert(number, name);
    Ok(())
}

/// Shows the caller with its storage.
pub(super) fn show(site: &Site, caller: &Caller) -> Result<Response<Body>, Refusal> {
    let number = caller.organization().ok_or(OwnerFault::CallerUnknown)?;
    site.look(|world| {
        let name = world.service_owners.get(number).ok_or(OwnerFault::OwnerNotFound)?;
        let mut own = world.resources.values().filter(|resource| resource.owner.as_deref() == Some(number));
        let status = if own.all(|resource| resource.storage_ready) { "Ready" } else { "DeployingResources" };
        let environment = match world.stage {
            Stage::Staging => "staging",
            Stage::Production => "production",
        };
        let provider = |kind: &str| json!({ "type": kind, "deploymentStatus": status, "deploymentEnvironment": environment });
        let providers: Vec<Value> = ["AltinnAzure", "AltinnAzureWithoutVirusScan"].map(provider).into();
        Ok(json_answer(&json!({ "name": name, "storageProviders": providers })))
    })
}
