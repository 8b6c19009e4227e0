//! One request: routing, `Accept`, the key gate, authentication, scope, and then the handler, in the
//! order of the Broker's own pipeline.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use serde_json::json;
use uuid::Uuid;

use super::auth::{self, Caller};
use super::problem::{Fault, Produces, Refusal, answer, bare, invalid, json_answer};
use super::route::{self, Operation};
use super::site::{Note, Site};
use super::transfer::Transfer;
use super::{download, exchange, initialize, inspect, maskinporten, search, show, upload};

/// Says on every answer that this is not Altinn.
const NOT_ALTINN: HeaderName = HeaderName::from_static("x-formidlingd-sandbox");
/// The largest body that is read into memory: JSON and forms, never content.
const LARGEST_FORM: usize = 16 * 1024 * 1024;

/// Answers a request.
pub(super) async fn serve(State(site): State<Arc<Site>>, request: Request) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let mut response = match route::find(&parts.method, parts.uri.path()) {
        Ok(operation) => {
            let mut note = Note::new(Arc::clone(&site), operation.name());
            let response = Box::pin(respond(&site, &operation, &parts, body, &mut note)).await;
            note.close(response.status().as_u16());
            response
        }
        Err(status) => {
            Note::new(Arc::clone(&site), "unknown").close(status.as_u16());
            site.drain(body);
            bare(status)
        }
    };
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(NOT_ALTINN, HeaderValue::from_static("not Altinn"));
    response
}

async fn respond(
    site: &Arc<Site>,
    operation: &Operation,
    parts: &Parts,
    body: Body,
    note: &mut Note,
) -> Response<Body> {
    if operation.is_on_the_platform()
        && let Some(response) = key_gate(site, &parts.headers)
    {
        site.drain(body);
        return response;
    }
    match operation {
        Operation::Token => match axum::body::to_bytes(body, LARGEST_FORM).await {
            Ok(body) => maskinporten::token(site, &parts.headers, &body, note),
            Err(_) => bare(StatusCode::BAD_REQUEST),
        },
        Operation::MaskinportenMetadata => json_answer(&maskinporten::metadata(site)),
        Operation::MaskinportenKeys => json_answer(&json!({ "keys": [site.maskinporten.jwk()] })),
        Operation::Exchange { provider } => exchange::exchange(site, provider, &parts.headers, note),
        Operation::OpenIdConfiguration => json_answer(&exchange::configuration(site)),
        Operation::OpenIdKeys => json_answer(&json!({ "keys": [site.altinn.jwk()] })),
        Operation::SandboxLedger => inspect::ledger(site),
        Operation::SandboxTransfers => inspect::transfers(site),
        Operation::SandboxContent => inspect::content(site),
        _ => match broker(site, operation, parts, body, note).await {
            Ok(response) => response,
            Err(refusal) => refusal.into_response(operation.produces(), parts.uri.path()),
        },
    }
}

/// What Azure API Management answers when a subscription key is demanded.
fn key_gate(site: &Site, headers: &HeaderMap) -> Option<Response<Body>> {
    let demanded = site.settings.key_gate.as_deref()?;
    let message = match headers.get("Ocp-Apim-Subscription-Key") {
        Some(key) if key.as_bytes() == demanded.as_bytes() => return None,
        Some(_) => {
            "Access denied due to invalid subscription key. Make sure to provide a valid key for an active subscription."
        }
        None => {
            "Access denied due to missing subscription key. Make sure to include subscription key when making requests to an API."
        }
    };
    let body = json!({ "statusCode": 401, "message": message });
    let mut response = answer(StatusCode::UNAUTHORIZED, "application/json", body.to_string());
    let challenge =
        r#"AzureApiManagementKey realm="formidlingd sandbox",name="Ocp-Apim-Subscription-Key",type="header""#;
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    Some(response)
}

/// An endpoint of Formidling: 406 before 401 before 403 before 415 and 400 before the handler.
async fn broker(
    site: &Arc<Site>,
    operation: &Operation,
    parts: &Parts,
    body: Body,
    note: &mut Note,
) -> Result<Response<Body>, Refusal> {
    let headers = &parts.headers;
    if operation.produces() == Produces::Json && !accepts_json(headers) {
        site.drain(body);
        return Ok(not_acceptable());
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
            let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
            let body = read(body).await?;
            initialize::initialize(site, &caller, content_type, &body, note)
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
        show::overview(transfer)
    };
    Ok(json_answer(&body))
}

async fn read(body: Body) -> Result<Bytes, Refusal> {
    axum::body::to_bytes(body, LARGEST_FORM).await.map_err(|_| Refusal::Bare(StatusCode::BAD_REQUEST))
}

/// The transfer of a path.
fn find(site: &Site, id: &str, note: &mut Note) -> Result<Transfer, Refusal> {
    let Some(guid) = guid(id) else {
        return Err(invalid("fileTransferId", format!("The value '{id}' is not valid.")));
    };
    note.entry.transfer = Some(guid);
    site.depot.read(guid, Transfer::clone).ok_or_else(|| Fault::NotFound.into())
}

/// A GUID in the formats of .NET: plain, with hyphens, in braces or in parentheses.
fn guid(text: &str) -> Option<Uuid> {
    let text = text.trim();
    let inner = text.strip_prefix('(').and_then(|text| text.strip_suffix(')')).unwrap_or(text);
    if inner.to_ascii_lowercase().starts_with("urn:") {
        return None;
    }
    Uuid::try_parse(inner).ok()
}

/// One element, cut at `;`, must be `application/json` or `*/*`; no header passes.
fn accepts_json(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(header::ACCEPT).iter().peekable();
    if values.peek().is_none() {
        return true;
    }
    values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).any(|element| {
        let media_type = element.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        media_type == "application/json" || media_type == "*/*"
    })
}

fn not_acceptable() -> Response<Body> {
    const TEXT: &str = "This endpoint does not support the requested Accept header. Supported Accept headers are: application/json, */*.";
    let mut response = Response::new(Body::from(TEXT));
    *response.status_mut() = StatusCode::NOT_ACCEPTABLE;
    response
}
