//! `POST /broker/api/v1/filetransfer` (Broker API, initialize).

use axum::body::Body;
use axum::http::{HeaderMap, Response};
use serde_json::json;
use uuid::Uuid;

use super::jobs::expires;
use super::members::must_be_json;
use super::metadata::{self, Metadata};
use super::transfer::{Md5Check, RecipientStatus, Status, Transfer};
use crate::sandbox::agenda::Job;
use crate::sandbox::auth::{Caller, normalised};
use crate::sandbox::clock::later;
use crate::sandbox::faults::Quirk;
use crate::sandbox::problem::{Fault, Refusal, json_answer};
use crate::sandbox::site::{Note, Site};
use crate::sandbox::world::{Action, Stage, bare_number};

/// The column is `varchar(500)`, whatever the validation lets through.
const REFERENCE_COLUMN: usize = 500;

/// Validates, checks, and writes the row.
pub(super) fn initialize(
    site: &Site,
    caller: &Caller,
    headers: &HeaderMap,
    body: &[u8],
    note: &mut Note,
) -> Result<Response<Body>, Refusal> {
    must_be_json(headers)?;
    let id = begin(site, caller, metadata::read(body)?, note)?;
    Ok(json_answer(&json!({ "fileTransferId": id })))
}

/// Checks what was validated, and writes the row.
pub(super) fn begin(
    site: &Site,
    caller: &Caller,
    metadata: Metadata,
    note: &mut Note,
) -> Result<Uuid, Refusal> {
    if !caller.may(site, &metadata.resource, Action::Write, &metadata.sender) {
        return Err(Fault::NoAccess.into());
    }
    check_resource(site, caller, &metadata)?;
    if metadata.reference.chars().count() > REFERENCE_COLUMN {
        return Err(Refusal::Unhandled);
    }
    let transfer = transfer(site, caller, metadata)?;
    let id = transfer.id;
    note.entry.transfer = Some(id);
    note.entry.effect = Some("initialized");
    site.agenda.add(expires(site, &transfer), Job::Expire(id));
    // In this order: an event implies that the state can be read.
    site.depot.insert(transfer.clone());
    site.tell_sender("filetransferinitialized", &transfer);
    Ok(id)
}

/// The handler's checks after the access check, in its order.
fn check_resource(site: &Site, caller: &Caller, metadata: &Metadata) -> Result<(), Fault> {
    site.look(|world| {
        let resource = world.resources.get(&metadata.resource).ok_or(Fault::NoAccess)?;
        let production = world.stage == Stage::Production;
        if !resource.service_owner {
            return Err(Fault::NoServiceOwner);
        }
        if metadata.disable_virus_scan && production && !resource.virus_scan_waiver {
            return Err(Fault::ScanRequired);
        }
        if !resource.storage_ready
            || site.faults.strikes(Quirk::StorageNotReady, caller.organization()).is_some()
        {
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
        if let Some(required) =
            resource.required_party.as_deref().filter(|it| !it.trim().is_empty()).map(bare_number)
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
        ranged: std::collections::BTreeMap::new(),
        blob: None,
        discarded: false,
        stored: false,
        interim_commits: false,
        md5: None,
        md5_check: Md5Check::default(),
        delivered: 0,
        delivered_to: std::collections::BTreeMap::new(),
        half_made,
    };
    if half_made {
        site.depot.insert(transfer);
        return Err(Refusal::Unhandled);
    }
    for recipient in metadata.recipients {
        let recipient = normalised(&recipient);
        if transfer.highest(&recipient).is_none() {
            transfer.enter_recipient(&recipient, RecipientStatus::Initialized, None, now);
        }
    }
    transfer.enter(Status::Initialized, None, now);
    Ok(transfer)
}
