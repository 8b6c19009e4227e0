//! `POST /broker/api/v1/filetransfer` (Broker API, initialize).

use axum::body::Body;
use axum::http::{Response, StatusCode};
use serde_json::json;
use uuid::Uuid;

use super::metadata::{self, Metadata};
use super::transfer::{RecipientStatus, Status, Transfer};
use crate::sandbox::agenda::Job;
use crate::sandbox::auth::{Caller, normalised};
use crate::sandbox::clock::later;
use crate::sandbox::problem::{Fault, Refusal, json_answer};
use crate::sandbox::site::{Note, Site};
use crate::sandbox::world::{Action, Stage, bare_number};

/// The column is `varchar(500)`, whatever the validation lets through.
const REFERENCE_COLUMN: usize = 500;

/// Validates, checks, and writes the row.
pub(in crate::sandbox) fn initialize(
    site: &Site,
    caller: &Caller,
    content_type: Option<&str>,
    body: &[u8],
    note: &mut Note,
) -> Result<Response<Body>, Refusal> {
    if !is_json(content_type) {
        return Err(Refusal::Bare(StatusCode::UNSUPPORTED_MEDIA_TYPE));
    }
    let metadata = metadata::read(body)?;
    if !caller.may(site, &metadata.resource, Action::Write, &metadata.sender) {
        return Err(Fault::NoAccess.into());
    }
    check_resource(site, &metadata)?;
    if metadata.reference.chars().count() > REFERENCE_COLUMN {
        return Err(Refusal::Unhandled);
    }
    let transfer = transfer(site, caller, metadata)?;
    let id = transfer.id;
    note.entry.transfer = Some(id);
    note.entry.effect = Some("initialized");
    site.agenda.add(transfer.expiration, Job::Expire(id));
    site.tell_sender("filetransferinitialized", &transfer);
    site.depot.insert(transfer);
    Ok(json_answer(&json!({ "fileTransferId": id })))
}

/// `application/json`, `text/json` and `application/*+json`, as ASP.NET's input formatter.
fn is_json(content_type: Option<&str>) -> bool {
    let media_type = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    let media_type = media_type.to_ascii_lowercase();
    media_type == "application/json"
        || media_type == "text/json"
        || (media_type.starts_with("application/") && media_type.ends_with("+json"))
}

/// The handler's checks after the access check, in its order.
fn check_resource(site: &Site, metadata: &Metadata) -> Result<(), Fault> {
    site.look(|world| {
        let resource = world.resources.get(&metadata.resource).ok_or(Fault::NoAccess)?;
        let production = world.stage == Stage::Production;
        if !resource.service_owner {
            return Err(Fault::NoServiceOwner);
        }
        if metadata.disable_virus_scan && production && !resource.virus_scan_waiver {
            return Err(Fault::ScanRequired);
        }
        if !resource.storage_ready {
            return Err(Fault::StorageNotReady);
        }
        if !resource.registered {
            return Err(Fault::NotInRegistry);
        }
        if let Some(list) = &resource.access_list
            && !metadata.recipients.iter().all(|recipient| list.contains(bare_number(recipient)))
        {
            return Err(Fault::NotInAccessList);
        }
        if let Some(required) = resource.required_party.as_deref().map(bare_number)
            && bare_number(&metadata.sender) != required
        {
            match metadata.recipients.as_slice() {
                [only] if bare_number(only) == required => {}
                [_] => return Err(Fault::RequiredPartyMissing),
                _ => return Err(Fault::RequiredPartyAlone),
            }
        }
        Ok(())
    })
}

/// The row, its properties, its recipients and its first status. These are not one transaction: a
/// null property leaves a half-made row behind.
fn transfer(site: &Site, caller: &Caller, metadata: Metadata) -> Result<Transfer, Refusal> {
    let now = site.now();
    let time_to_live =
        site.look(|world| world.resources.get(&metadata.resource).and_then(|it| it.time_to_live));
    let half_made = metadata.properties.values().any(Option::is_none);
    let mut transfer = Transfer {
        id: Uuid::new_v4(),
        resource: metadata.resource,
        file_name: metadata.file_name,
        reference: metadata.reference,
        sender: metadata.sender,
        vendor: caller.vendor.clone(),
        checksum: metadata.checksum,
        demanded_checksum: metadata.demanded_checksum,
        use_virus_scan: site.settings.use_virus_scan && !metadata.disable_virus_scan,
        size: 0,
        created: now,
        expiration: later(now, time_to_live.unwrap_or(site.settings.time_to_live)),
        properties: metadata.properties.into_iter().filter_map(|(key, value)| Some((key, value?))).collect(),
        history: Vec::new(),
        recipients: Vec::new(),
        blob: None,
        stored: false,
        md5: None,
        awaits_md5: false,
        scan_passed: false,
        delivered: 0,
        half_made,
    };
    if half_made {
        site.depot.insert(transfer);
        return Err(Refusal::Unhandled);
    }
    for recipient in metadata.recipients {
        let recipient = normalised(&recipient);
        if transfer.highest(&recipient).is_none() {
            transfer.enter_recipient(&recipient, RecipientStatus::Initialized, now);
        }
    }
    transfer.enter(Status::Initialized, None, now);
    Ok(transfer)
}
