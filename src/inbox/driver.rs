//! One step at a time: a driver loads a record, asks the state machine for the next step, does that one step and
//! stores the outcome. Nothing else moves a transfer.

use std::sync::Arc;
use std::time::Duration;

use tracing::error;

use super::Route;
use crate::broker::{self, Role, Status};
use crate::route::{Decision, Drive, Hold, Kind, Means, Next, Recovery, Trouble, later};
use crate::seams::crash_point;
use crate::transfer::{
    Failure, Incoming, IncomingEvent, IncomingStep, Notification, RouteName, Transfer, Work,
};

/// What only waits for its deadline is looked at this often, since the wall clock may be set.
const LONGEST_MEMORY: Duration = Duration::from_hours(6);

/// Drives the transfers of one inbox.
#[derive(Debug)]
pub struct Driver(pub(super) Arc<Route>);

impl Drive for Driver {
    fn route(&self) -> &RouteName {
        &self.0.settings.name
    }

    fn means(&self) -> &Means {
        &self.0.means
    }

    fn hold(&self) -> &Hold {
        &self.0.hold
    }

    fn recovery(&self) -> &Recovery {
        &self.0.recovery
    }

    fn decided(&self, was: &'static str, transfer: &Transfer) -> (Option<&'static str>, Decision) {
        super::recover::decided(was, transfer)
    }

    async fn step(&self, transfer: &mut Transfer) -> Result<Next, Trouble> {
        let Work::Incoming { progress, .. } = &transfer.work else { return Ok(Next::Wait) };
        let route = &self.0;
        match progress.next_step() {
            // Before Altinn is asked: what it has deleted since has not expired.
            IncomingStep::Download if route.was_delivered(transfer).await? => Ok(Next::Step),
            IncomingStep::Download | IncomingStep::Confirm if route.recovery.is_open(transfer.id) => {
                route.compare(transfer).await
            }
            IncomingStep::Download => route.download(transfer).await,
            IncomingStep::IntendDelivery => route.intend_delivery(transfer).await,
            IncomingStep::Deliver => route.deliver(transfer).await,
            IncomingStep::Confirm => route.confirm_and_notify(transfer).await,
            IncomingStep::Notify => route.notify(transfer).await,
            IncomingStep::Remember => route.remember(transfer).await,
            IncomingStep::Nothing => route.end(transfer, transfer.clone()).await,
        }
    }

    fn waits_for_people(&self, transfer: &Transfer) {
        let Work::Incoming { progress, .. } = &transfer.work else { return };
        // What takes part of the inbox's room already counts as work in hand.
        if matches!(progress, Incoming::Discovered { .. }) {
            self.0.backlog.set_apart(transfer.id);
        }
    }

    async fn give_up(&self, transfer: &mut Transfer, failure: Failure) -> Result<Next, Trouble> {
        self.0.reject(transfer, failure).await
    }
}

impl Route {
    /// Confirms; while that does not succeed, the operator's program is not kept waiting for it.
    async fn confirm_and_notify(self: &Arc<Self>, transfer: &mut Transfer) -> Result<Next, Trouble> {
        let confirmed = self.confirm(transfer).await;
        let trouble = match confirmed {
            Ok(next) => return Ok(next),
            Err(trouble) => trouble,
        };
        let is_due = matches!(
            &transfer.work,
            Work::Incoming { progress: Incoming::Delivered { delivery, .. }, .. }
                if delivery.notification == Notification::Due
        );
        if is_due && trouble.kind != Kind::Fatal {
            self.notify(transfer).await?;
        }
        Err(trouble)
    }

    /// What cannot be received is kept for inspection, reported, and not confirmed.
    async fn reject(self: &Arc<Self>, transfer: &mut Transfer, failure: Failure) -> Result<Next, Trouble> {
        let Work::Incoming { progress, .. } = &transfer.work else { return Ok(Next::Wait) };
        let can_fail = matches!(
            progress,
            Incoming::Discovered { .. } | Incoming::Downloading { .. } | Incoming::Downloaded { .. }
        );
        if !can_fail {
            return Err(Trouble { failure, kind: Kind::Slow });
        }
        error!(code = %failure.code, reason = %failure.message, remedy = %failure.remedy, "not received");
        let id = transfer.id;
        self.on_files(move |folders| {
            match folders.incoming.move_to(id.to_string(), &folders.rejected, id.to_string()) {
                Err(error) if !error.is_missing() && !error.is_taken() => Err(error),
                _ => Ok(()),
            }
        })
        .await?;
        self.happened(transfer, IncomingEvent::Failed(failure)).await?;
        Ok(Next::Step)
    }

    /// Keeps the record until Altinn has deleted the transfer, so that it is not taken for a new one.
    async fn remember(self: &Arc<Self>, transfer: &mut Transfer) -> Result<Next, Trouble> {
        let Work::Incoming { progress, .. } = &transfer.work else { return Ok(Next::Wait) };
        let (now, expires) = (self.means.now(), progress.offer().expires);
        if self.means.skew.is_confirmed() && expires <= now && self.is_gone(transfer).await? {
            let id = progress.offer().id;
            return match progress {
                Incoming::Failed { .. } => {
                    self.happened_last(transfer, IncomingEvent::Expired { at: now }).await
                }
                _ => self.confirmation_too_late(transfer, id).await,
            };
        }
        let next = expires.min(later(now, LONGEST_MEMORY)).max(later(now, Duration::from_mins(5)));
        self.means.store_change(transfer, |before| Ok(Transfer { next_attempt: next, ..before })).await?;
        Ok(Next::Wait)
    }

    /// Stores an event that may be the last: then the transfer goes to the journal in the same breath.
    pub(super) async fn happened_last(
        self: &Arc<Self>,
        transfer: &mut Transfer,
        event: IncomingEvent,
    ) -> Result<Next, Trouble> {
        let now = self.means.now();
        let after = transfer.clone().after_incoming(event.clone(), now);
        let after = after.map_err(|illegal| Trouble::illegal(illegal, now))?;
        if after.is_finished() {
            return self.end(transfer, after).await;
        }
        self.happened(transfer, event).await?;
        Ok(Next::Step)
    }

    /// Moves a transfer that is over from the store to the journal.
    pub(super) async fn end(&self, transfer: &mut Transfer, ended: Transfer) -> Result<Next, Trouble> {
        self.means.store_end(transfer, ended).await?;
        crash_point("received:journalled");
        self.note(transfer);
        Ok(Next::Wait)
    }

    /// Whether Altinn has deleted the transfer: it may outlive its expiry, and then it would be offered again.
    async fn is_gone(&self, transfer: &Transfer) -> Result<bool, Trouble> {
        let Some(id) = transfer.broker_id() else { return Ok(true) };
        match self.means.broker.overview(id, Role::Recipient).await {
            Ok(overview) => Ok(matches!(overview.status, Status::Purged | Status::Failed)),
            Err(error) if error.trouble() == broker::Trouble::Gone => Ok(true),
            Err(error) => Err(Trouble::broker(&error, self.means.now())),
        }
    }
}
