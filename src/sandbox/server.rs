//! One request: routing, `Accept`, the key gate, authentication, scope, and then the handler, in the
//! order of the Broker's own pipeline.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use bytes::BytesMut;
use futures_util::StreamExt as _;
use jiff::Timestamp;
use serde_json::json;

use super::identity::{exchange, maskinporten};
use super::problem::{Produces, Refusal, allows_json, answer, bare, json_answer};
use super::route::{self, Operation};
use super::site::{Note, Site};
use super::{broker, events, faults, inspect, pace, registry};

/// Says on every answer that this is not Altinn.
const NOT_ALTINN: HeaderName = HeaderName::from_static("x-formidlingd-sandbox");
/// The largest body that is read into memory: JSON and forms, never content. It is the sandbox's own limit.
pub(super) const LARGEST_FORM: usize = 16 * 1024 * 1024;

/// Answers a request.
pub(super) async fn serve(State(site): State<Arc<Site>>, request: Request) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let (body, slowness) = pace::watched(body, &site.clock);
    let mut response = match route::find(&parts.method, parts.uri.path()) {
        Ok(operation) => {
            let mut note = Note::new(Arc::clone(&site), operation.name());
            note.introduce(&parts);
            let (body, told) =
                if site.faults.any() { faults::told(&operation, body).await } else { (body, None) };
            let plan = site.faults.plan(&site, &operation, &parts, told.as_deref());
            let planned = plan.is_some();
            let response = if let Some(plan) = plan {
                Box::pin(plan.carry_out(&site, &operation, &parts, body, &mut note)).await
            } else {
                Box::pin(respond(&site, &operation, &parts, body, &mut note)).await
            };
            if slowness.struck() {
                note.settle(Some(StatusCode::REQUEST_TIMEOUT.as_u16()));
                too_slow()
            } else {
                if !planned {
                    note.close(response.status().as_u16());
                }
                response
            }
        }
        Err(status) => {
            let mut note = Note::new(Arc::clone(&site), "unknown");
            note.introduce(&parts);
            note.close(status.as_u16());
            site.drain(body);
            bare(status)
        }
    };
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(NOT_ALTINN, HeaderValue::from_static("not Altinn"));
    // By the sandbox's clock, which clients compare with their own; otherwise it would be the machine's.
    if let Some(date) = http_date(site.clock.now()) {
        headers.insert(header::DATE, date);
    }
    response
}

/// What Kestrel answers when a body comes in too slowly.
fn too_slow() -> Response<Body> {
    let mut response = bare(StatusCode::REQUEST_TIMEOUT);
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Reads a body that is held in memory.
pub(super) async fn read(site: &Site, body: Body, note: &mut Note) -> Result<Bytes, Refusal> {
    let mut blocks = body.into_data_stream();
    let mut read = BytesMut::new();
    while let Some(block) = blocks.next().await {
        let Ok(block) = block else {
            note.vanish();
            return Err(Refusal::Bare(StatusCode::BAD_REQUEST));
        };
        if read.len() + block.len() > LARGEST_FORM {
            site.drain(Body::from_stream(blocks));
            return Err(Refusal::Oversized);
        }
        read.extend_from_slice(&block);
    }
    Ok(read.freeze())
}

/// A moment as HTTP headers have it (RFC 9110, section 5.6.7).
pub(super) fn http_date(moment: Timestamp) -> Option<HeaderValue> {
    let text = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&moment).ok()?;
    HeaderValue::try_from(text).ok()
}

/// The way of a request that nothing goes wrong with.
pub(super) async fn respond(
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
    if let Some(response) = site.limits.refuse(site.now(), operation.name(), note.entry.client.as_deref()) {
        site.drain(body);
        return response;
    }
    match operation {
        Operation::Token => match read(site, body, note).await {
            Ok(body) => maskinporten::token(site, &parts.headers, &body, note),
            Err(refusal) => refusal.into_response(Produces::Anything, parts.uri.path()),
        },
        Operation::MaskinportenMetadata => json_answer(&maskinporten::metadata(site)),
        Operation::MaskinportenKeys => json_answer(&json!({ "keys": [site.maskinporten.jwk()] })),
        Operation::Exchange { provider } => exchange::exchange(site, provider, &parts.headers, note),
        Operation::Refresh => exchange::refresh(site, &parts.headers, note),
        Operation::OpenIdConfiguration => json_answer(&exchange::configuration(site)),
        Operation::OpenIdKeys => json_answer(&json!({ "keys": [site.altinn.jwk()] })),
        Operation::SandboxLedger => inspect::ledger(site, parts.uri.query().unwrap_or_default()),
        Operation::SandboxTransfers => inspect::transfers(site),
        Operation::SandboxContent => inspect::content(site, parts.uri.query().unwrap_or_default()),
        Operation::SandboxEvents => inspect::lines(site.events.shown()),
        Operation::SandboxSubscriptions => inspect::lines(site.events.shown_subscriptions()),
        Operation::SandboxDeliveries => inspect::lines(site.events.deliveries()),
        Operation::SandboxFaults { name } => faults::control(site, parts, name.as_deref(), body).await,
        Operation::Registry(question) => registry::answer_to(site, question),
        Operation::Events(operation) => events::serve(site, operation, parts, body, note).await,
        _ => match broker::serve(site, operation, parts, body, note).await {
            Ok(response) => response,
            Err(Refusal::Unhandled) if !allows_json(&parts.headers) => {
                bare(StatusCode::INTERNAL_SERVER_ERROR)
            }
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
