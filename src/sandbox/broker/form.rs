//! `POST /broker/api/v1/filetransfer/upload` (Broker API, initialize and upload in one).
//!
//! The whole form is read before anything happens, as the Broker does it; the file goes to the disk
//! meanwhile, so that memory does not grow with it. When the upload fails after initialize, the
//! transfer stays behind, and the answer does not say its id.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, Response, StatusCode, header};
use multer::{Constraints, Field, Multipart, SizeLimit};
use uuid::Uuid;

use super::initialize;
use super::intake::{Attempt, Received, receive};
use super::metadata::{Complaints, Given, Metadata, Properties};
use super::transfer::Transfer;
use super::upload::{commit, length, start};
use crate::sandbox::auth::Caller;
use crate::sandbox::problem::{Fault, Refusal, invalid};
use crate::sandbox::server::LARGEST_FORM;
use crate::sandbox::site::{Note, Site};

/// The largest form, the file included: .NET's `int.MaxValue`.
const LARGEST: u64 = 2_147_483_647;
/// ASP.NET's limits of what is not a file.
const MOST_VALUES: usize = 1024;
const LONGEST_VALUE: usize = 4 * 1024 * 1024;

/// Initializes and uploads.
pub(super) async fn upload(
    site: &Arc<Site>,
    caller: &Caller,
    headers: &HeaderMap,
    body: Body,
    note: &mut Note,
) -> Result<Response<Body>, Refusal> {
    let Form { values, file } = match Form::boundary(headers) {
        Ok(Some(_)) if length(headers).is_some_and(|length| length > LARGEST) => {
            site.drain(body);
            return Err(unreadable(&too_large()));
        }
        Ok(Some(boundary)) => Form::read(site, boundary, body, note).await?,
        Ok(None) => Form::default(),
        Err(refusal) => {
            site.drain(body);
            return Err(refusal);
        }
    };
    let mut complaints = Complaints::new("Metadata.");
    if file.is_none() {
        complaints.add_bare("FileTransfer", "The FileTransfer field is required.");
    }
    let metadata = metadata(&values, complaints)?;
    let file = file.ok_or(Refusal::Unhandled)?;
    let id = initialize::begin(site, caller, metadata, note)?;
    let transfer = site.depot.read(id, Transfer::clone).ok_or(Fault::NotFound)?;
    start(site, caller, &transfer, Some(file.size), note)?;
    commit(site, id, file, note)
}

/// A form, read to its end.
#[derive(Default)]
struct Form {
    values: Vec<(String, String)>,
    file: Option<Attempt>,
}

/// Why a form could not be read.
enum Unreadable {
    /// The client is gone.
    Cut,
    /// The disk is.
    Storage,
    /// It breaks a rule.
    Bad(String),
}

impl From<multer::Error> for Unreadable {
    fn from(error: multer::Error) -> Self {
        match error {
            multer::Error::StreamReadFailed(_) => Self::Cut,
            multer::Error::StreamSizeExceeded { .. } => Self::Bad(too_large()),
            multer::Error::IncompleteStream | multer::Error::IncompleteFieldData { .. } => Self::Bad(
                "Unexpected end of Stream, the content may have already been read by another component. "
                    .to_owned(),
            ),
            other => Self::Bad(other.to_string()),
        }
    }
}

fn too_large() -> String {
    format!("Multipart body length limit {LARGEST} exceeded.")
}

fn unreadable(why: &str) -> Refusal {
    invalid("", format!("Failed to read the request form. {why}"))
}

impl Form {
    /// The boundary; nothing without a content type, which is a form without fields.
    fn boundary(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
        let Some(declared) = headers.get(header::CONTENT_TYPE) else { return Ok(None) };
        match multer::parse_boundary(declared.to_str().unwrap_or_default()) {
            Ok(boundary) => Ok(Some(boundary)),
            Err(multer::Error::NoBoundary) => Err(unreadable("Missing content-type boundary.")),
            Err(_) => Err(Refusal::Bare(StatusCode::UNSUPPORTED_MEDIA_TYPE)),
        }
    }

    async fn read(site: &Arc<Site>, boundary: String, body: Body, note: &mut Note) -> Result<Self, Refusal> {
        let limits = Constraints::new().size_limit(SizeLimit::new().whole_stream(LARGEST));
        let mut blocks = body.into_data_stream();
        let mut multipart = Multipart::with_constraints(&mut blocks, boundary, limits);
        let mut form = Self::default();
        let taken = form.take(site, &mut multipart, note).await;
        drop(multipart);
        if taken.is_err() {
            site.drain(Body::from_stream(blocks));
        }
        match taken {
            Ok(()) => Ok(form),
            Err(Unreadable::Cut) => {
                note.vanish();
                Err(Refusal::Bare(StatusCode::BAD_REQUEST))
            }
            Err(Unreadable::Storage) => Err(Refusal::Unhandled),
            Err(Unreadable::Bad(why)) => Err(unreadable(&why)),
        }
    }

    async fn take(
        &mut self,
        site: &Arc<Site>,
        multipart: &mut Multipart<'_>,
        note: &mut Note,
    ) -> Result<(), Unreadable> {
        let mut left = LARGEST_FORM;
        while let Some(field) = multipart.next_field().await? {
            let name = field.name().unwrap_or_default().to_owned();
            if field.file_name().is_none() {
                let value = value(field, left).await?;
                left = left.saturating_sub(name.len() + value.len());
                if self.values.len() == MOST_VALUES {
                    return Err(Unreadable::Bad(format!("Form value count limit {MOST_VALUES} exceeded.")));
                }
                self.values.push((name, value));
            } else if self.file.is_none() && name.eq_ignore_ascii_case("FileTransfer") {
                match receive(site, Uuid::new_v4(), field, note).await {
                    Received::Whole(attempt) => self.file = Some(attempt),
                    Received::Cut(error) => return Err(error.into()),
                    Received::StorageFailed => return Err(Unreadable::Storage),
                }
            }
        }
        Ok(())
    }
}

/// A value, which is held in memory and so has its limits.
async fn value(mut field: Field<'_>, left: usize) -> Result<String, Unreadable> {
    let mut bytes = Vec::new();
    while let Some(chunk) = field.chunk().await? {
        if bytes.len() + chunk.len() > LONGEST_VALUE.min(left) {
            return Err(Unreadable::Bad(format!("Form value length limit {LONGEST_VALUE} exceeded.")));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Binds the fields to the metadata, as ASP.NET does: names in any case, the first of several
/// values, a blank one as null.
fn metadata(values: &[(String, String)], mut complaints: Complaints) -> Result<Metadata, Refusal> {
    let all = |name: &str| {
        let name = format!("Metadata.{name}");
        values.iter().filter(move |(key, _)| key.eq_ignore_ascii_case(&name)).map(|(_, value)| value)
    };
    let text = |name: &str| all(name).next().and_then(|value| bound(value));
    let disable_virus_scan = match text("DisableVirusScan") {
        None => false,
        Some(flag) => flag.trim().to_ascii_lowercase().parse().unwrap_or_else(|_| {
            complaints
                .add("DisableVirusScan", format!("The value '{flag}' is not valid for DisableVirusScan."));
            false
        }),
    };
    let mut recipients: Vec<_> = all("Recipients").map(|value| bound(value)).collect();
    if recipients.is_empty() {
        // The first index that is missing ends the list.
        recipients = (0..values.len())
            .map_while(|index| all(&format!("Recipients[{index}]")).next())
            .map(|value| bound(value))
            .collect();
    }
    let given = Given {
        file_name: text("FileName"),
        resource: text("ResourceId"),
        reference: text("SendersFileTransferReference"),
        sender: text("Sender"),
        recipients: Some(recipients),
        properties: Some(properties(values)),
        checksum: match all("Checksum").next() {
            None => Some(String::new()),
            Some(value) => bound(value),
        },
        disable_virus_scan,
    };
    given.check(complaints)
}

/// A blank text is bound as null.
fn bound(value: &str) -> Option<String> {
    (!value.trim().is_empty()).then(|| value.to_owned())
}

/// `Metadata.PropertyList[key]`, one per entry; keys keep their case.
fn properties(values: &[(String, String)]) -> Properties {
    const PREFIX: &str = "Metadata.PropertyList[";
    let key = |name: &str| {
        let (prefix, rest) = name.split_at_checked(PREFIX.len())?;
        let key = rest.strip_suffix(']')?;
        prefix.eq_ignore_ascii_case(PREFIX).then(|| key.to_owned())
    };
    let mut properties = Properties::new();
    for (name, value) in values {
        if let Some(key) = key(name)
            && !properties.iter().any(|(known, _)| *known == key)
        {
            properties.push((key, bound(value)));
        }
    }
    properties
}
