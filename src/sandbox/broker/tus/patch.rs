//! PATCH (Broker API, TUS: PATCH): the next chunk of an upload.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use axum::http::{Response, StatusCode};
use uuid::Uuid;

use super::access::{Intent, authorize};
use super::desk::{Accepted, NotAccepted, Pending, Target};
use super::headers::{
    self, Checksum, Reply, UPLOAD_LENGTH, UPLOAD_OFFSET, must_be_chunk, must_have_offset, must_have_version,
};
use super::receive::{Chunk, Order, Written, receive};
use super::refusal::Refused;
use super::store::Lock;
use super::{Asked, Stop, head};
use crate::sandbox::agenda::Job;
use crate::sandbox::broker::upload;
use crate::sandbox::faults::Quirk;
use crate::sandbox::site::{Note, Site};

/// How long the last chunk of a partial upload waits for the blocks.
const PATIENCE: Duration = Duration::from_hours(2);

/// A PATCH at the end of the upload, or beyond, is answered before the rights are looked at and
/// without reading the body. It gets the finalising job going again.
pub(super) fn complete_already(asked: &Asked<'_>) -> Option<Response<Body>> {
    let offset = headers::offset(asked.headers)?;
    let now = asked.now();
    let length = asked.site.tus.look(asked.id, now, |desk| desk.length(&asked.target))?;
    if length == 0 || offset < i64::try_from(length).ok()? {
        return None;
    }
    asked.touch();
    head::recover(asked).ok()?;
    Some(Reply::new(StatusCode::NO_CONTENT).with(UPLOAD_OFFSET, &length).into_response())
}

/// Checks, then takes the bytes.
pub(super) async fn patch(
    asked: &Asked<'_>,
    body: &mut Option<Body>,
    note: &mut Note,
) -> Result<Response<Body>, Stop> {
    authorize(asked, Intent::Write)?;
    head::strike_expired(asked);
    head::recover(asked)?;
    must_have_version(asked.headers)?;
    let lock = head::lock(asked)?;
    if !head::exists(asked) {
        return Err(Refused::NoUpload.into());
    }
    let (offset, length) = check(asked)?;
    let checksum = headers::checksum(asked.headers)?;
    asked.touch();
    let accepted = asked.site.tus.look(asked.id, asked.now(), |desk| desk.accepted(&asked.target));
    if offset != accepted {
        return Err(Refused::Offset { file: accepted, request: offset }.into());
    }
    if offset == length {
        return Err(Refused::Complete.into());
    }
    let written = write(asked, lock, length.saturating_sub(offset), body, note).await?;
    if checksum == Checksum::Mismatch {
        return Err(Refused::Checksum.into());
    }
    Ok(Reply::new(StatusCode::NO_CONTENT)
        .with(UPLOAD_OFFSET, &(offset + written))
        .expires(asked.shown_expiry())
        .into_response())
}

/// What is looked at before the offset is compared.
fn check(asked: &Asked<'_>) -> Result<(u64, u64), Refused> {
    must_be_chunk(asked.headers)?;
    let (length, is_final) = asked.site.tus.look(asked.id, asked.now(), |desk| {
        (desk.length(&asked.target), asked.target == Target::Whole && desk.joined.is_some())
    });
    let length = length.ok_or(Refused::Unhandled)?;
    if asked.headers.contains_key(UPLOAD_LENGTH) {
        return Err(Refused::Header("Upload-Length cannot be updated once set".to_owned()));
    }
    let offset = must_have_offset(asked.headers)?;
    if is_final { Err(Refused::Final) } else { Ok((offset, length)) }
}

/// The data that comes with a POST: what goes wrong with it is not told, but for the offset.
pub(super) async fn write_first(
    asked: &Asked<'_>,
    length: u64,
    body: &mut Option<Body>,
    note: &mut Note,
) -> Result<Option<u64>, Stop> {
    let has_data = length > 0 && body.as_ref().is_some_and(|body| !body.is_end_stream());
    if !has_data {
        return Ok(None);
    }
    let accepted = || asked.site.tus.look(asked.id, asked.now(), |desk| desk.accepted(&asked.target));
    let fits = must_be_chunk(asked.headers).is_ok() && headers::checksum(asked.headers).is_ok();
    let Some(lock) = Lock::take(asked.site, asked.id, &asked.target).filter(|_| fits) else {
        return Ok(Some(accepted()));
    };
    match write(asked, lock, length, body, note).await {
        Err(Stop::Vanished) => Err(Stop::Vanished),
        Ok(_) | Err(Stop::Refused(_)) => Ok(Some(accepted())),
    }
}

/// Takes the body and counts it; gives the number of bytes.
async fn write(
    asked: &Asked<'_>,
    lock: Lock,
    room: u64,
    body: &mut Option<Body>,
    note: &mut Note,
) -> Result<u64, Stop> {
    let order = Order {
        site: Arc::clone(asked.site),
        id: asked.id,
        target: asked.target.clone(),
        lock,
        room,
        announced: upload::length(asked.headers),
        organization: asked.caller.organization().map(str::to_owned),
    };
    let body = body.take().unwrap_or_default();
    let Written { length, accepted, lock } = receive(order, body, note).await?;
    let Some(accepted) = accepted else { return Ok(0) };
    let accepted = accepted.map_err(|why| refused(asked, &why))?;
    if accepted.last && matches!(asked.target, Target::Partial(_)) {
        wait_until_stored(asked).await?;
    }
    drop(lock);
    Ok(length)
}

/// What becomes of a chunk that has come to its end.
pub(super) fn fate(site: &Site, organization: Option<&str>) -> Fate {
    if site.faults.strikes(Quirk::TusWedge, organization).is_some() {
        Fate::Never
    } else {
        Fate::Store { behind: site.faults.strikes(Quirk::TusLag, organization).unwrap_or(0) }
    }
}

fn refused(asked: &Asked<'_>, why: &NotAccepted) -> Refused {
    let id = asked.file_id();
    Refused::Store(match *why {
        NotAccepted::TooManyChunks { length } => return Refused::too_many_chunks(&id, length),
        NotAccepted::Conflict { expected, current } => {
            format!("Upload offset conflict for file id {id}. Expected {expected}, current {current}.")
        }
        NotAccepted::Overflow { offset } => {
            format!("Upload chunk exceeds upload length for file id {id} at offset {offset}.")
        }
        NotAccepted::Fault(fault) => format!("Buffered TUS upload failed for file id {id}. {fault}"),
    })
}

/// What becomes of a chunk that is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is stored once so many more chunks were accepted. The last chunk of an upload waits for
    /// nothing, nor do those before it then.
    Store { behind: u64 },
    /// It is never stored.
    Never,
}

/// Counts a chunk as accepted, and has it stored later.
pub(super) fn accept(
    site: &Site,
    id: Uuid,
    target: &Target,
    mut chunk: Chunk,
    fate: Fate,
) -> Result<Accepted, NotAccepted> {
    let now = site.now();
    let due = site.due(now, site.settings.tus_storing_delay);
    let expires = site.due(now, site.settings.tus_expiry);
    let accepted = site.tus.change(id, now, |desk| {
        let accepted = desk.accept(target, chunk.length, expires)?;
        desk.touch(target, now, expires);
        desk.advance(target, accepted.last, due);
        if let Fate::Store { behind } = fate {
            let behind = if accepted.last { 0 } else { behind };
            let (block, length) = (accepted.block, chunk.length);
            chunk.kept = true;
            let file = chunk.file.clone();
            desk.pending.push(Pending { target: target.clone(), block, length, file, behind, due });
        }
        Ok(accepted)
    })?;
    site.agenda.add(due, Job::Tus(id));
    Ok(accepted)
}

/// The last chunk of a partial upload is answered when all its blocks are stored.
async fn wait_until_stored(asked: &Asked<'_>) -> Result<(), Refused> {
    let site = asked.site;
    let deadline = site.due(asked.now(), PATIENCE);
    loop {
        let mut stored = std::pin::pin!(site.tus.stored());
        stored.as_mut().enable();
        let left = site.tus.look(asked.id, asked.now(), |desk| {
            let upload = desk.upload(&asked.target)?;
            Some(upload.length.saturating_sub(upload.stored))
        });
        if left == Some(0) {
            return Ok(());
        }
        let in_time = tokio::select! {
            () = stored => true,
            () = site.clock.sleep_until(deadline) => false,
        };
        if !in_time {
            let id = asked.file_id();
            let length = site.tus.look(asked.id, asked.now(), |desk| desk.length(&asked.target));
            let length = length.unwrap_or(0);
            return Err(Refused::Store(format!(
                "Timed out waiting for TUS blocks to stage for file id {id}. Expected {length} bytes."
            )));
        }
    }
}
