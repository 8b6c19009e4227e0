//! HEAD and DELETE (Broker API, TUS: HEAD; expiry, termination), and what PATCH shares with them.

use axum::body::Body;
use axum::http::{Response, StatusCode};

use super::access::{Intent, authorize};
use super::desk::Target;
use super::headers::{Reply, UPLOAD_CONCAT, UPLOAD_LENGTH, UPLOAD_OFFSET, must_have_version};
use super::refusal::Refused;
use super::store::{Lock, is_over};
use super::{Asked, finalise};
use crate::sandbox::broker::transfer::{Status, Transfer};
use crate::sandbox::faults::Quirk;
use crate::sandbox::site::Note;

/// How far the upload has come: the bytes that are stored.
pub(super) fn head(asked: &Asked<'_>) -> Result<Response<Body>, Refused> {
    authorize(asked, Intent::Look)?;
    strike_expired(asked);
    recover(asked)?;
    must_have_version(asked.headers)?;
    let _lock = lock(asked)?;
    if !exists(asked) {
        return Err(Refused::NoUpload);
    }
    asked.touch();
    let size = asked.site.depot.read(asked.id, |transfer| transfer.size).unwrap_or(0);
    let (length, durable, joined) = asked.site.tus.look(asked.id, asked.now(), |desk| {
        let length = desk.length(&asked.target);
        // When the cache has been cleaned up, the finished blob is all there is to look at.
        let durable = if length.is_some() { desk.durable(&asked.target) } else { size };
        (length, durable, desk.joined.clone())
    });
    let mut reply = Reply::new(StatusCode::OK).with(UPLOAD_OFFSET, &durable);
    if let Some(length) = length {
        reply = reply.with(UPLOAD_LENGTH, &length);
    }
    let concat = match (&asked.target, joined) {
        (Target::Partial(_), _) => Some("partial".to_owned()),
        (Target::Whole, Some(ids)) => {
            let path = asked.path.trim_end_matches('/');
            let urls: Vec<String> = ids.iter().map(|id| format!("{path}/partial/{id}")).collect();
            Some(format!("final;{}", urls.join(" ")))
        }
        (Target::Whole, None) => None,
    };
    if let Some(concat) = concat {
        reply = reply.with(UPLOAD_CONCAT, &concat);
    }
    Ok(reply.into_response())
}

/// Ends the upload. What is stored of it stays, and so does the transfer's status.
pub(super) fn delete(asked: &Asked<'_>, note: &mut Note) -> Result<Response<Body>, Refused> {
    authorize(asked, Intent::Delete)?;
    must_have_version(asked.headers)?;
    let _lock = lock(asked)?;
    if !exists(asked) {
        return Err(Refused::NoUpload);
    }
    asked.site.tus.change(asked.id, asked.now(), |desk| desk.forget(&asked.target));
    note.entry.effect = Some("tus deleted");
    Ok(Reply::new(StatusCode::NO_CONTENT).into_response())
}

/// The upload for this request alone.
pub(super) fn lock(asked: &Asked<'_>) -> Result<Lock, Refused> {
    if asked.site.faults.strikes(Quirk::TusLocked, asked.caller.organization()).is_some() {
        return Err(Refused::Locked);
    }
    Lock::take(asked.site, asked.id, &asked.target).ok_or(Refused::Locked)
}

/// A rule may say that the upload was forgotten.
pub(super) fn strike_expired(asked: &Asked<'_>) {
    let known = asked.site.tus.look(asked.id, asked.now(), |desk| desk.upload(&asked.target).is_some());
    if known && asked.site.faults.strikes(Quirk::TusExpired, asked.caller.organization()).is_some() {
        asked.site.tus.change(asked.id, asked.now(), |desk| {
            desk.forget(&asked.target);
            desk.sessions.clear();
            desk.active = None;
        });
    }
}

/// Whether anything is known under the upload's id.
pub(super) fn exists(asked: &Asked<'_>) -> bool {
    asked.site.tus.look(asked.id, asked.now(), |desk| desk.length(&asked.target).is_some()) || has_blob(asked)
}

/// Whether the content lies where downloads look for it.
fn has_blob(asked: &Asked<'_>) -> bool {
    let has_blob = |transfer: &Transfer| {
        transfer.blob.is_some() || (transfer.discarded && transfer.stored && !is_over(transfer.status()))
    };
    asked.site.depot.read(asked.id, has_blob).unwrap_or(false)
}

/// HEAD and PATCH get the finalising job going again, if all bytes are there. Where nothing is
/// known about the upload this step throws.
pub(super) fn recover(asked: &Asked<'_>) -> Result<(), Refused> {
    let status = asked.site.depot.read(asked.id, Transfer::status);
    if !matches!(status, Some(Status::UploadStarted | Status::UploadProcessing)) || has_blob(asked) {
        return Ok(());
    }
    let length = asked.site.tus.look(asked.id, asked.now(), |desk| desk.length(&asked.target));
    if length.is_none() {
        return Err(Refused::Unhandled);
    }
    if asked.target == Target::Whole {
        finalise::schedule(asked.site, asked.id);
    }
    Ok(())
}
