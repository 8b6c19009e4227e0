//! Resumable upload (Broker API, TUS; tus.io protocol 1.0.0): tusdotnet with the Broker's own store.
//!
//! A chunk is *accepted* when its request ends and *stored* some time later; PATCH is compared with
//! the one offset, HEAD shows the other (`desk.rs`). What follows the last byte is `finalise.rs`.

mod access;
mod concat;
mod create;
mod desk;
pub(in crate::sandbox) mod finalise;
mod head;
mod headers;
mod patch;
mod receive;
pub(in crate::sandbox) mod records;
mod refusal;
pub(in crate::sandbox) mod store;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Response};
use jiff::Timestamp;
use uuid::Uuid;

use self::desk::Target;
use self::refusal::Refused;
use super::serve::guid;
use crate::sandbox::auth::Caller;
use crate::sandbox::clock::later;
use crate::sandbox::line::{End, Line};
use crate::sandbox::problem::Refusal;
use crate::sandbox::route::{TusMethod, TusRequest};
use crate::sandbox::site::{Note, Site};
pub(in crate::sandbox) use access::admits_expired;

/// A request to an upload.
struct Asked<'a> {
    site: &'a Arc<Site>,
    caller: &'a Caller,
    headers: &'a HeaderMap,
    /// The path as it was sent.
    path: &'a str,
    id: Uuid,
    target: Target,
}

impl Asked<'_> {
    fn now(&self) -> Timestamp {
        self.site.now()
    }

    /// When the upload will be forgotten, if nothing more is heard of it.
    fn expires(&self) -> Timestamp {
        self.site.due(self.now(), self.site.settings.tus_expiry)
    }

    /// What the client is told about it.
    fn shown_expiry(&self) -> Timestamp {
        later(self.now(), self.site.settings.tus_expiry)
    }

    /// The upload's id in messages.
    fn file_id(&self) -> String {
        match &self.target {
            Target::Whole => self.id.to_string(),
            Target::Partial(id) => id.clone(),
        }
    }

    /// A sign of life from the client.
    fn touch(&self) {
        let now = self.now();
        self.site.tus.change(self.id, now, |desk| desk.touch(&self.target, now, self.expires()));
    }
}

/// Answers a TUS request. A refused request's body is read to its end behind the answer.
pub(super) async fn serve(
    site: &Arc<Site>,
    caller: &Caller,
    request: &TusRequest,
    parts: &Parts,
    body: Body,
    note: &mut Note,
) -> Result<Response<Body>, Refusal> {
    let mut body = Some(body);
    let response = match answer(site, caller, request, parts, &mut body, note).await {
        Ok(response) => Ok(response),
        Err(Stop::Refused(Refused::Unhandled)) => Err(Refusal::Unhandled),
        Err(Stop::Refused(refused)) => Ok(refused.into_response()),
        Err(Stop::Vanished) => {
            note.vanish();
            // A client that has merely stalled gets no answer either.
            if let Some(ConnectInfo(line)) = parts.extensions.get::<ConnectInfo<Line>>() {
                line.cut(End::Close);
            }
            Ok(Refused::NotTus.into_response())
        }
    };
    if let Some(body) = body {
        site.drain(body);
    }
    response
}

/// Why there is no good answer.
enum Stop {
    Refused(Refused),
    /// Nobody is there to be answered.
    Vanished,
}

impl<T: Into<Refused>> From<T> for Stop {
    fn from(refused: T) -> Self {
        Self::Refused(refused.into())
    }
}

async fn answer(
    site: &Arc<Site>,
    caller: &Caller,
    request: &TusRequest,
    parts: &Parts,
    body: &mut Option<Body>,
    note: &mut Note,
) -> Result<Response<Body>, Stop> {
    if request.method == TusMethod::Options {
        return Ok(headers::capabilities());
    }
    let id = request.id.as_deref().and_then(guid);
    note.entry.transfer = id;
    let asked = id.map(|id| Asked {
        site,
        caller,
        headers: &parts.headers,
        path: parts.uri.path(),
        id,
        target: request.partial.clone().map_or(Target::Whole, Target::Partial),
    });
    // Ahead of everything else that is particular to the protocol.
    if let Some(asked) = asked.as_ref().filter(|_| request.method == TusMethod::Patch)
        && let Some(response) = patch::complete_already(asked)
    {
        return Ok(response);
    }
    let create = request.method == TusMethod::Create;
    if !parts.headers.contains_key(headers::TUS_RESUMABLE) || (create && request.partial.is_some()) {
        return Err(Refused::NotTus.into());
    }
    let Some(asked) = asked else {
        let unknown = if create || request.id.is_some() { Refused::NoId } else { Refused::NotTus };
        return Err(unknown.into());
    };
    match request.method {
        TusMethod::Create => create::create(&asked, body, note).await,
        TusMethod::Patch => patch::patch(&asked, body, note).await,
        TusMethod::Head => Ok(head::head(&asked)?),
        TusMethod::Delete => Ok(head::delete(&asked, note)?),
        TusMethod::Options => Ok(headers::capabilities()),
    }
}
