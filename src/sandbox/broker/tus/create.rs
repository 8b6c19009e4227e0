//! POST (Broker API, TUS: create): begins an upload, or begins it again.

use axum::body::Body;
use axum::http::{Response, StatusCode, header};
use uuid::Uuid;

use super::access::{Intent, authorize};
use super::desk::Target;
use super::headers::{
    self, Concat, Reply, UPLOAD_OFFSET, check_metadata, must_have_length, must_have_version,
};
use super::refusal::Refused;
use super::{Asked, Stop, concat, patch};
use crate::sandbox::broker::transfer::{Status, Transfer};
use crate::sandbox::broker::upload;
use crate::sandbox::problem::Fault;
use crate::sandbox::site::Note;

/// Where uploads lie.
const BASE: &str = "/broker/api/v1/filetransfer/upload/tus";

/// Checks, then creates; nothing of it is idempotent.
pub(super) async fn create(
    asked: &Asked<'_>,
    body: &mut Option<Body>,
    note: &mut Note,
) -> Result<Response<Body>, Stop> {
    let transfer = authorize(asked, Intent::Create)?;
    must_have_version(asked.headers)?;
    let concat = headers::concat(asked.headers, asked.path)?;
    if let Concat::Final(files) = concat {
        check_metadata(asked.headers)?;
        return Ok(concat::join(asked, &files, note)?);
    }
    let length = must_have_length(asked.headers)?;
    check_metadata(asked.headers)?;
    if upload::is_too_large(asked.site, &transfer, length) {
        return Err(Refused::TooLarge.into());
    }
    start(asked)?;
    let created = begin(asked, &concat, length);
    note.entry.effect = Some("tus created");
    let offset = patch::write_first(&created, length, body, note).await?;
    let mut reply = Reply::new(StatusCode::CREATED).with(header::LOCATION, &location(&created));
    if length > 0 || concat == Concat::Partial {
        reply = reply.expires(asked.shown_expiry());
    }
    if let Some(offset) = offset {
        reply = reply.with(UPLOAD_OFFSET, &offset);
    }
    Ok(reply.into_response())
}

/// The status changes at once; later requests leave it as it is.
fn start(asked: &Asked<'_>) -> Result<(), Fault> {
    let open = asked.site.depot.change(asked.id, |transfer: &mut Transfer| {
        let status = transfer.status();
        if status == Status::Initialized {
            transfer.enter(Status::UploadStarted, None, asked.now());
        }
        matches!(status, Status::Initialized | Status::UploadStarted)
    });
    if open == Some(true) { Ok(()) } else { Err(Fault::AlreadyUploaded) }
}

/// Begins the upload, and gives what further steps ask for.
fn begin<'a>(asked: &Asked<'a>, concat: &Concat, length: u64) -> Asked<'a> {
    let (now, expires) = (asked.now(), asked.expires());
    let target = match concat {
        Concat::Partial => Target::Partial(Uuid::new_v4().simple().to_string()),
        _ => Target::Whole,
    };
    asked.site.tus.change(asked.id, now, |desk| {
        match &target {
            Target::Whole => desk.create(length, expires),
            Target::Partial(id) => desk.create_partial(id, length, expires),
        }
        desk.touch(&target, now, expires);
    });
    Asked { target, ..*asked }
}

/// Path-absolute, with the id as initialize gave it.
pub(super) fn location(asked: &Asked<'_>) -> String {
    let id = asked.id.hyphenated();
    match &asked.target {
        Target::Whole => format!("{BASE}/{id}"),
        Target::Partial(part) => format!("{BASE}/{id}/partial/{part}"),
    }
}
