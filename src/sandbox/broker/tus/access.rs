//! Who may do what with an upload, and for whom that is not asked again (Broker API, authorization
//! per request, and tokens that expire).

use jiff::Timestamp;
use uuid::Uuid;

use super::Asked;
use crate::sandbox::auth::Caller;
use crate::sandbox::broker::serve::guid;
use crate::sandbox::broker::transfer::{Status, Transfer};
use crate::sandbox::broker::upload;
use crate::sandbox::problem::Fault;
use crate::sandbox::route::{TusMethod, TusRequest};
use crate::sandbox::site::Site;
use crate::sandbox::world::{Action, bare_number};

/// What a request is about to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Intent {
    Create,
    Write,
    Look,
    Delete,
}

/// Whether a caller is known from earlier requests to the transfer.
enum Standing {
    /// It is, and the upload goes on.
    Active,
    /// It is, and the upload is over.
    Over,
    /// It is not.
    Unknown,
}

/// Lets the caller do it, or not.
pub(super) fn authorize(asked: &Asked<'_>, intent: Intent) -> Result<Transfer, Fault> {
    let Asked { site, caller, id, .. } = *asked;
    let now = asked.now();
    let transfer = site.depot.read(id, Transfer::clone).ok_or(Fault::NotFound)?;
    if matches!(intent, Intent::Write | Intent::Look) {
        match standing(site, caller, &transfer, now) {
            Standing::Active => return Ok(transfer),
            Standing::Over => return Err(Fault::AlreadyUploaded),
            Standing::Unknown => {}
        }
    }
    if intent == Intent::Look {
        let may = caller.may(site, &transfer.resource, Action::Write, &transfer.sender);
        return if may { Ok(transfer) } else { Err(Fault::NoAccess) };
    }
    upload::check(site, caller, &transfer)?;
    if let Some(key) = key(caller) {
        let expires = asked.expires();
        site.tus.change(id, now, |desk| match intent {
            Intent::Delete => desk.sessions.remove(&key),
            _ => desk.sessions.insert(key, expires),
        });
    }
    Ok(transfer)
}

/// A token that has expired is as good as a live one where its bearer has an upload under way.
pub(in crate::sandbox) fn admits_expired(site: &Site, request: &TusRequest, caller: &Caller) -> bool {
    if request.method == TusMethod::Options {
        return false;
    }
    let id: Option<Uuid> = request.id.as_deref().and_then(guid);
    let transfer = id.and_then(|id| site.depot.read(id, Transfer::clone));
    transfer.is_some_and(|it| matches!(standing(site, caller, &it, site.now()), Standing::Active))
}

/// A session, or else activity by the sender itself; either is renewed by being used.
fn standing(site: &Site, caller: &Caller, transfer: &Transfer, now: Timestamp) -> Standing {
    let goes_on = matches!(transfer.status(), Status::UploadStarted | Status::UploadProcessing);
    let key = key(caller);
    let (has_session, active) = site.tus.look(transfer.id, now, |desk| {
        let has_session = key.as_ref().is_some_and(|key| desk.sessions.contains_key(key));
        (has_session, desk.active.is_some())
    });
    let is_sender = caller.organization() == Some(bare_number(&transfer.sender));
    let is_known_by_activity = active && goes_on && is_sender;
    if !(has_session || is_known_by_activity) {
        return Standing::Unknown;
    }
    if let Some(key) = key {
        let expires = site.due(now, site.settings.tus_expiry);
        site.tus.change(transfer.id, now, |desk| desk.sessions.insert(key, expires));
    }
    if goes_on { Standing::Active } else { Standing::Over }
}

/// What a session is kept under.
fn key(caller: &Caller) -> Option<String> {
    let subject = caller.session.as_ref()?;
    Some(format!("{subject}:{}", caller.organization().unwrap_or_default()))
}
