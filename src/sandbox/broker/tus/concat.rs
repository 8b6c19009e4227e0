//! The POST that has partial uploads joined (Broker API, TUS: parallel partials and final).

use axum::body::Body;
use axum::http::{Response, StatusCode, header};

use super::desk::Target;
use super::headers::Reply;
use super::refusal::Refused;
use super::{Asked, create, finalise};
use crate::sandbox::broker::transfer::{Status, Transfer};
use crate::sandbox::problem::Fault;
use crate::sandbox::site::Note;

/// Checks the list, and has the uploads joined in the background. In which order it lists them is
/// of no consequence.
pub(super) fn join(asked: &Asked<'_>, files: &[String], note: &mut Note) -> Result<Response<Body>, Refused> {
    let ids: Vec<String> = files.iter().map(|file| last_segment(file)).collect();
    check_list(asked, files, &ids)?;
    let length = check_store(asked, &ids)?;
    let now = asked.now();
    let begun = asked.site.depot.change(asked.id, |transfer: &mut Transfer| {
        let open = transfer.status() == Status::UploadStarted;
        if open {
            // Without the event that goes with this status elsewhere.
            transfer.enter(Status::UploadProcessing, None, now);
        }
        open
    });
    if begun != Some(true) {
        return Err(Fault::AlreadyUploaded.into());
    }
    let expires = asked.expires();
    asked.site.tus.change(asked.id, now, |desk| {
        desk.join(ids, length, expires);
        desk.touch(&Target::Whole, now, expires);
    });
    finalise::schedule(asked.site, asked.id);
    note.entry.effect = Some("tus joined");
    Ok(Reply::new(StatusCode::CREATED).with(header::LOCATION, &create::location(asked)).into_response())
}

/// The id of a reference such as `partial/{id}`.
fn last_segment(file: &str) -> String {
    file.rsplit('/').next().unwrap_or_default().to_owned()
}

/// What the protocol demands: they exist, they are partial, they are finished.
fn check_list(asked: &Asked<'_>, files: &[String], ids: &[String]) -> Result<(), Refused> {
    let site = asked.site;
    let now = asked.now();
    let whole = asked.id.to_string();
    let is_partial = |id: &String| site.tus.owner(asked.id, id).is_some();
    let exists = |id: &String| {
        is_partial(id)
            || (*id == whole && site.tus.look(asked.id, now, |desk| desk.length(&Target::Whole).is_some()))
    };
    let is_finished = |id: &String| {
        let target = Target::Partial(id.clone());
        let owner = site.tus.owner(asked.id, id).unwrap_or(asked.id);
        site.tus.look(owner, now, |desk| desk.length(&target) == Some(desk.accepted(&target)))
    };
    let failing = |passes: &dyn Fn(&String) -> bool| {
        let pairs = files.iter().zip(ids).filter(|(_, id)| !passes(id));
        let names: Vec<&str> = pairs.map(|(file, _)| file.as_str()).collect();
        (!names.is_empty()).then(|| names.join(", "))
    };
    let refused = |text: &str, names: String| Err(Refused::Concat(format!("{text}: {names}")));
    if let Some(names) = failing(&exists) {
        return refused("Could not find some of the files supplied for concatenation", names);
    }
    if let Some(names) = failing(&is_partial) {
        return refused(
            "Some of the files supplied for concatenation are not marked as partial and can not be concatenated",
            names,
        );
    }
    if let Some(names) = failing(&is_finished) {
        return refused(
            "Some of the files supplied for concatenation are not finished and can not be concatenated",
            names,
        );
    }
    Ok(())
}

/// What the store demands: they are of this transfer, and all their blocks are stored.
fn check_store(asked: &Asked<'_>, ids: &[String]) -> Result<u64, Refused> {
    asked.site.tus.look(asked.id, asked.now(), |desk| {
        let mut total = 0_u64;
        for id in ids {
            let Some(upload) = desk.partials.get(id) else {
                return Err(Refused::Concat(format!(
                    "Partial upload {id} does not belong to file transfer {}.",
                    asked.id
                )));
            };
            let (length, stored) = (upload.length, upload.stored);
            if stored < length {
                return Err(Refused::Concat(format!(
                    "Partial upload {id} is not ready for concatenation. Expected {length} bytes, committed {stored}."
                )));
            }
            total = total.saturating_add(length);
        }
        Ok(total)
    })
}
