//! What was on its way when the service was last stopped or killed, and what was decided of it. Files that wait for a
//! transfer, and published ones that wait for their recipients, are not on their way.

use std::sync::Arc;

use super::Route;
use super::follow::{Seen, seen};
use crate::route::{Decision, Next, Trouble};
use crate::transfer::{Outgoing, OutgoingStep, Transfer, Work};

/// What is told of a request for a transfer that was lost.
const INITIALIZING: &str = "initializing";

impl Route {
    /// Notes a transfer that Altinn may know more of than its record does.
    pub(super) fn note_in_flight(&self, transfer: &Transfer) {
        let Work::Outgoing { progress, .. } = &transfer.work else { return };
        let is_in_flight = matches!(
            progress,
            Outgoing::Initializing { .. }
                | Outgoing::Initialized { .. }
                | Outgoing::Uploading { .. }
                | Outgoing::Uploaded { .. }
                | Outgoing::Processing { .. }
        );
        if is_in_flight {
            self.recovery.found(transfer, progress.phase());
        }
    }

    /// Sees whether a transfer that has an id and no bytes, or a part of them, is still what its record says, before
    /// bytes go to it.
    pub(super) async fn compare(self: &Arc<Self>, transfer: &mut Transfer) -> Result<Next, Trouble> {
        let Some(id) = transfer.broker_id() else { return Ok(Next::Step) };
        let overview = self.overview(id).await?;
        match seen(&overview) {
            // Of a record that is older than what has happened since, the file may have been sent with another.
            Seen::NothingArrived if self.pass_set_back(transfer).await? => Ok(Next::Step),
            // What follows an upload that is not allowed any more is known there.
            Seen::NothingArrived | Seen::Begun | Seen::Unknown => Ok(Next::Step),
            Seen::Processing | Seen::Published(_) | Seen::Over(_) => self.take_in(transfer, &overview).await,
        }
    }
}

/// What a step made of a transfer that was in flight as `was`.
pub(super) fn decided(was: &'static str, transfer: &Transfer) -> (Option<&'static str>, Decision) {
    let is_unsettled =
        transfer.problem.as_ref().is_some_and(|problem| problem.code == super::initialize::UNSETTLED);
    let is_resumable = matches!(
        &transfer.work,
        Work::Outgoing { progress, .. } if progress.next_step() == OutgoingStep::Resume
    );
    let (altinn, what, why) = match (was, transfer.phase()) {
        (INITIALIZING, "initialized" | "uploading") => {
            (Some("has it"), "adopted", "it is equal to what was asked for, and has no bytes")
        }
        (INITIALIZING, "described" | "claimed") => {
            (Some("shows none"), "asked for anew", "a transfer without bytes publishes nothing")
        }
        (INITIALIZING, _) => {
            (is_unsettled.then_some("shows none yet"), "looked for again", "it may show later")
        }
        (_, "initialized") => (None, "sent", "no byte had left"),
        (_, "uploading") if is_resumable => {
            (None, "gone on with", "a resumable upload goes on with what Altinn has not stored")
        }
        (_, "uploading") => (None, "asked again later", "Altinn may still be writing what was sent"),
        (_, "uploaded" | "processing") => {
            (None, "waited for", "Altinn has every byte and is yet to publish it")
        }
        (_, "archiving" | "published" | "completed" | "expired") => {
            (None, "archived", "Altinn has published it")
        }
        (_, "claimed" | "described") => (None, "sent anew", "Altinn will never publish this transfer"),
        (_, "failing" | "failed") => (None, "put in failed", "it cannot be sent, see its error file"),
        _ => (None, "nothing", "it is over"),
    };
    (altinn, Decision { what, why })
}
