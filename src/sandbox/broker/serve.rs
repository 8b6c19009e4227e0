//! An endpoint of Formidling: `Accept`, authentication and scope, then the handler, in the order of
//! the Broker's own pipeline.

use std::sync::Arc;

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Response, StatusCode, header};
use uuid::Uuid;

use super::transfer::Transfer;
use super::{download, form, initialize, resource, search, service_owner, show, statistics, tus, upload};
use crate::sandbox::auth::{self, Caller};
use crate::sandbox::faults::Quirk;
use crate::sandbox::problem::{Fault, Refusal, invalid, json_answer};
use crate::sandbox::route::Operation;
use crate::sandbox::server::read;
use crate::sandbox::site::{Note, Site};

/// An endpoint of Formidling: 406 before 401 before 403 before 415 and 400 before the handler.
pub(in crate::sandbox) async fn serve(
    site: &Arc<Site>,
    operation: &Operation,
    parts: &Parts,
    body: Body,
    note: &mut Note,
) -> Result<Response<Body>, Refusal> {
    let headers = &parts.headers;
    if let Some(media_type) = operation.produces().media_type()
        && !accepts(headers, media_type)
    {
        site.drain(body);
        return Ok(not_acceptable(media_type));
    }
    let caller = match auth::authenticate(site, operation, headers) {
        Ok(caller) => caller,
        Err(refusal) => {
            site.drain(body);
            return Err(refusal);
        }
    };
    note.entry.organization = caller.organization().map(str::to_owned);
    note.entry.vendor.clone_from(&caller.vendor);
    match operation {
        Operation::Initialize => {
            let body = read(site, body, note).await?;
            initialize::initialize(site, &caller, headers, &body, note)
        }
        Operation::Search => search::search(site, &caller, parts.uri.query().unwrap_or_default()),
        Operation::Upload { id } => {
            let transfer = if upload::is_octets(headers) {
                find(site, id, note)
            } else {
                Err(Refusal::Bare(StatusCode::UNSUPPORTED_MEDIA_TYPE))
            };
            match transfer {
                Ok(transfer) => upload::upload(site, &caller, transfer, headers, body, note).await,
                Err(refusal) => {
                    site.drain(body);
                    Err(refusal)
                }
            }
        }
        Operation::Overview { id } | Operation::Details { id } => {
            let transfer = find(site, id, note)?;
            show_to(site, &caller, operation, &transfer)
        }
        Operation::Download { id } => {
            let transfer = find(site, id, note)?;
            download::download(site, &caller, transfer, headers, note).await
        }
        Operation::Confirm { id } => {
            let transfer = find(site, id, note)?;
            download::confirm(site, &caller, &transfer, note)
        }
        Operation::FormUpload => form::upload(site, &caller, headers, body, note).await,
        Operation::Tus(request) => tus::serve(site, &caller, request, parts, body, note).await,
        Operation::Resource { .. } | Operation::ServiceOwner { .. } | Operation::Statistics => {
            to_service_owner(site, &caller, operation, parts, body, note).await
        }
        _ => Err(Refusal::Bare(StatusCode::NOT_FOUND)),
    }
}

/// The endpoints of a service owner.
async fn to_service_owner(
    site: &Arc<Site>,
    caller: &Caller,
    operation: &Operation,
    parts: &Parts,
    body: Body,
    note: &mut Note,
) -> Result<Response<Body>, Refusal> {
    let headers = &parts.headers;
    let body = read(site, body, note).await?;
    match operation {
        Operation::Resource { id, put: true } => {
            resource::configure(site, caller, id, headers, &body, note).await
        }
        Operation::Resource { id, put: false } => resource::show(site, caller, id, headers),
        Operation::ServiceOwner { create: true } => {
            service_owner::create(site, caller, headers, &body, note).await
        }
        Operation::ServiceOwner { create: false } => service_owner::show(site, caller),
        Operation::Statistics => statistics::monthly(site, caller, parts.uri.query().unwrap_or_default()),
        _ => Err(Refusal::Bare(StatusCode::NOT_FOUND)),
    }
}

fn show_to(
    site: &Site,
    caller: &Caller,
    operation: &Operation,
    transfer: &Transfer,
) -> Result<Response<Body>, Refusal> {
    if transfer.half_made {
        return Err(Refusal::Unhandled);
    }
    caller.must_be_party(site, transfer)?;
    let body = if matches!(operation, Operation::Details { .. }) {
        show::details(transfer)
    } else {
        let more = site.faults.strikes(Quirk::ExtraRecipient, caller.organization()).is_some();
        show::overview(transfer, more)
    };
    Ok(json_answer(&body))
}

/// The transfer of a path.
fn find(site: &Site, id: &str, note: &mut Note) -> Result<Transfer, Refusal> {
    let Some(guid) = guid(id) else {
        return Err(invalid("fileTransferId", format!("The value '{id}' is not valid.")));
    };
    note.entry.transfer = Some(guid);
    let read = |transfer: &Transfer| site.events.readable(transfer, site.now()).into_owned();
    site.depot.read(guid, read).ok_or_else(|| Fault::NotFound.into())
}

/// A GUID in the formats of .NET: plain, with hyphens, in braces or in parentheses.
pub(super) fn guid(text: &str) -> Option<Uuid> {
    let text = text.trim();
    let inner = text.strip_prefix('(').and_then(|text| text.strip_suffix(')')).unwrap_or(text);
    if inner.to_ascii_lowercase().starts_with("urn:") {
        return None;
    }
    Uuid::try_parse(inner).ok()
}

/// One element, cut at `;`, must be what the endpoint produces or `*/*`; no header passes.
fn accepts(headers: &HeaderMap, media_type: &str) -> bool {
    let mut values = headers.get_all(header::ACCEPT).iter().peekable();
    if values.peek().is_none() {
        return true;
    }
    values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).any(|element| {
        let asked = element.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        asked == media_type || asked == "*/*"
    })
}

fn not_acceptable(media_type: &str) -> Response<Body> {
    let text = format!(
        "This endpoint does not support the requested Accept header. Supported Accept headers are: {media_type}, */*."
    );
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = StatusCode::NOT_ACCEPTABLE;
    response
}
