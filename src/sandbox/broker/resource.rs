//! `PUT` and `GET /broker/api/v1/resource/{id}`: how a service owner sets a resource up (Broker API,
//! resource, service owner and the rest).
//!
//! The first PUT makes the resource known to the Broker. Until then nobody can use it.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, Response, StatusCode, header};
use serde_json::json;

use super::OwnerFault;
use super::members::{Members, must_be_json};
use super::time_span;
use super::upload::LARGEST_SCANNED;
use crate::sandbox::auth::Caller;
use crate::sandbox::problem::{Fault, Refusal, bare, json_answer};
use crate::sandbox::site::{Note, Site};
use crate::sandbox::world::{Resource, Stage, World, bare_number};

/// 50 000 blocks of 32 MiB, all that the storage can hold.
const LARGEST: i64 = 1_677_721_600_000;
const LONGEST_LIFE: Duration = Duration::from_hours(365 * 24);
const LONGEST_GRACE: Duration = Duration::from_hours(24);

/// What a PUT says; what it does not say stays as it is.
struct Settings {
    limit: Option<i64>,
    time_to_live: Option<String>,
    purge: Option<bool>,
    grace: Option<String>,
    shim: Option<bool>,
    code: Option<String>,
    edition: Option<i32>,
    required_party: Option<String>,
}

/// Writes a resource's settings.
pub(super) async fn configure(
    site: &Arc<Site>,
    caller: &Caller,
    id: &str,
    headers: &HeaderMap,
    body: &[u8],
    note: &mut Note,
) -> Result<Response<Body>, Refusal> {
    must_be_json(headers)?;
    let settings = Settings::read(body)?;
    let caller = caller.organization().map(str::to_owned);
    let id = id.to_owned();
    site.change_world(move |world| settings.apply(world, &id, caller.as_deref()))
        .await
        .map_err(|_| Refusal::Unhandled)??;
    note.entry.effect = Some("resource configured");
    Ok(bare(StatusCode::NO_CONTENT))
}

impl Settings {
    fn read(body: &[u8]) -> Result<Self, Refusal> {
        let members = Members::read(body, "resourceExt")?;
        let edition = members.number("externalServiceEditionCodeLegacy")?.map(i32::try_from).transpose();
        let settings = Self {
            limit: members.number("maxFileTransferSize")?,
            time_to_live: members.text("fileTransferTimeToLive")?,
            purge: members.flag("purgeFileTransferAfterAllRecipientsConfirmed")?,
            grace: members.text("purgeFileTransferGracePeriod")?,
            shim: members.flag("useManifestFileShim")?,
            code: members.text("externalServiceCodeLegacy")?,
            edition: edition.map_err(|_| members.misfit("$.externalServiceEditionCodeLegacy"))?,
            required_party: members.text("requiredParty")?,
        };
        Ok(settings)
    }

    /// Checks, in the handler's order, and writes.
    fn apply(self, world: &mut World, id: &str, caller: Option<&str>) -> Result<(), Fault> {
        let production = world.stage == Stage::Production;
        let resource = world.resources.get_mut(id);
        let resource = resource.filter(|it| it.configured || it.registered).ok_or(Fault::NotInRegistry)?;
        let owner = resource.owner.as_deref();
        if !resource.configured && owner.is_none() {
            return Err(Fault::NotInRegistry);
        }
        if owner.is_none() || owner != caller {
            return Err(Fault::NoAccess);
        }
        let is_known = owner.is_some_and(|owner| world.service_owners.contains_key(owner));
        let may_be_configured = resource.configured || (is_known && resource.service_owner);
        if !may_be_configured {
            return Err(OwnerFault::OwnerNotConfigured.into());
        }
        let limit = self.limit.map(|limit| check_limit(limit, resource, production)).transpose()?;
        let time_to_live = self.time_to_live.as_deref().map(check_time_to_live).transpose()?;
        let grace = self.grace.as_deref().map(check_grace).transpose()?;
        let codes = (
            resource.external_service_code.as_ref().or(self.code.as_ref()),
            resource.external_service_edition_code.or(self.edition),
        );
        if self.shim == Some(true) && !matches!(codes, (Some(_), Some(_))) {
            return Err(OwnerFault::ShimWithoutCodes.into());
        }
        resource.configured = true;
        resource.max_file_transfer_size = limit.or(resource.max_file_transfer_size);
        resource.time_to_live = time_to_live.or(resource.time_to_live);
        resource.purge_after_all_confirmed = self.purge.unwrap_or(resource.purge_after_all_confirmed);
        resource.grace = grace.or(resource.grace);
        resource.use_manifest_file_shim = self.shim.or(resource.use_manifest_file_shim);
        resource.external_service_code = self.code.or(resource.external_service_code.take());
        resource.external_service_edition_code = self.edition.or(resource.external_service_edition_code);
        resource.required_party = self.required_party.or(resource.required_party.take());
        Ok(())
    }
}

fn check_limit(limit: i64, resource: &Resource, production: bool) -> Result<u64, OwnerFault> {
    let bytes = u64::try_from(limit).map_err(|_| OwnerFault::LimitNegative)?;
    if bytes == 0 {
        return Err(OwnerFault::LimitZero);
    }
    if production && !resource.virus_scan_waiver && bytes > LARGEST_SCANNED {
        return Err(OwnerFault::LimitAboveScan);
    }
    if limit > LARGEST {
        return Err(OwnerFault::LimitAboveAll);
    }
    Ok(bytes)
}

fn check_time_to_live(text: &str) -> Result<Duration, OwnerFault> {
    let length = time_span::parse(text).ok_or(OwnerFault::TimeToLiveFormat)?;
    if length > LONGEST_LIFE { Err(OwnerFault::TimeToLiveTooLong) } else { Ok(length) }
}

fn check_grace(text: &str) -> Result<Duration, OwnerFault> {
    let length = time_span::parse(text).ok_or(OwnerFault::GraceFormat)?;
    if length > LONGEST_GRACE { Err(OwnerFault::GraceTooLong) } else { Ok(length) }
}

/// Shows a resource's settings, to its owner alone; null stands for the default.
pub(super) fn show(
    site: &Site,
    caller: &Caller,
    id: &str,
    headers: &HeaderMap,
) -> Result<Response<Body>, Refusal> {
    // The endpoint declares that it consumes JSON, although it has no body.
    if headers.contains_key(header::CONTENT_TYPE) {
        must_be_json(headers)?;
    }
    site.look(|world| {
        let resource = world.resources.get(id).filter(|resource| resource.configured);
        let resource = resource.ok_or(OwnerFault::ResourceNotConfigured)?;
        let owner = resource.owner.as_deref().map(bare_number);
        if owner.is_none() || owner != caller.organization() {
            return Err(Fault::NoAccess.into());
        }
        Ok(json_answer(&json!({
            "maxFileTransferSize": resource.max_file_transfer_size,
            "fileTransferTimeToLive": resource.time_to_live.map(time_span::text),
            "purgeFileTransferAfterAllRecipientsConfirmed": resource.purge_after_all_confirmed,
            "purgeFileTransferGracePeriod": resource.grace.map(time_span::text),
            "useManifestFileShim": resource.use_manifest_file_shim,
            "externalServiceCodeLegacy": resource.external_service_code,
            "externalServiceEditionCodeLegacy": resource.external_service_edition_code,
            "requiredParty": resource.required_party,
        })))
    })
}
