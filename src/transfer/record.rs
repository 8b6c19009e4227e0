//! A transfer as it is remembered: who it is, how far it has come, and when it is to be looked at again.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    BrokerTransferId, Claim, Confirmation, Failure, FileIdentity, IllegalTransition, Incoming, IncomingEvent,
    Outgoing, OutgoingEvent, RouteName, TransferId, Unpublished,
};

/// Before everything that waits for a time: what is new is not kept waiting by a backlog of looks at what has
/// long been sent.
const AT_ONCE: Timestamp = Timestamp::UNIX_EPOCH;

/// One transfer, in either direction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Transfer {
    /// Our own id of it.
    pub id: TransferId,
    /// The outbox or inbox it belongs to.
    pub route: RouteName,
    /// When it was first seen.
    pub created: Timestamp,
    /// When it last changed.
    pub updated: Timestamp,
    /// How often the present step has been tried without success.
    pub attempts: u32,
    /// When it is to be looked at next. Nothing is done before.
    pub next_attempt: Timestamp,
    /// What went wrong last, until something goes well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Failure>,
    /// What is being done.
    pub work: Work,
}

/// The direction, with what each needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "direction")]
pub enum Work {
    /// A file of ours.
    #[serde(rename = "out")]
    Outgoing {
        /// Which file was taken, from where.
        claim: Claim,
        /// Transfers at Altinn that were given up on, each with proof that it published nothing.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        abandoned: Vec<BrokerTransferId>,
        /// How many of them never had the file whole, so that it was not Altinn that failed them.
        #[serde(default, skip_serializing_if = "is_zero")]
        never_whole: u32,
        /// How far it has come.
        progress: Outgoing,
    },
    /// A file for us.
    #[serde(rename = "in")]
    Incoming {
        /// How often a complete download was not what Altinn has.
        #[serde(default)]
        damaged: u32,
        /// How far it has come.
        progress: Incoming,
    },
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl Transfer {
    /// A new outgoing transfer: the claim is intended.
    #[must_use]
    pub fn outgoing(id: TransferId, route: RouteName, claim: Claim, now: Timestamp) -> Self {
        let work =
            Work::Outgoing { claim, abandoned: Vec::new(), never_whole: 0, progress: Outgoing::Claiming };
        Self::new(id, route, work, now)
    }

    /// A new incoming transfer: it waits at Altinn.
    #[must_use]
    pub fn incoming(id: TransferId, route: RouteName, progress: Incoming, now: Timestamp) -> Self {
        let work = Work::Incoming { damaged: 0, progress };
        Self::new(id, route, work, now)
    }

    fn new(id: TransferId, route: RouteName, work: Work, now: Timestamp) -> Self {
        Self {
            id,
            route,
            created: now,
            updated: now,
            attempts: 0,
            next_attempt: AT_ONCE,
            problem: None,
            work,
        }
    }

    /// The transfer after `event`. A step that goes well ends the count of attempts.
    pub fn after_outgoing(mut self, event: OutgoingEvent, now: Timestamp) -> Result<Self, IllegalTransition> {
        let Work::Outgoing { claim, mut abandoned, mut never_whole, progress } = self.work else {
            return Err(IllegalTransition { state: "incoming", event: event.name() });
        };
        // What was given up on with proof must not come back as the transfer that bytes are sent to.
        if let OutgoingEvent::Adopted(booking) = &event
            && abandoned.contains(&booking.id)
        {
            return Err(IllegalTransition { state: progress.phase(), event: "adopted again" });
        }
        if matches!(
            event,
            OutgoingEvent::Abandoned(_)
                | OutgoingEvent::FailureIntended { .. }
                | OutgoingEvent::DecisionNeeded { .. }
        ) && let Some(booking) = progress.booking()
        {
            abandoned.push(booking.id);
        }
        if event == OutgoingEvent::Abandoned(Unpublished::NeverWhole) {
            never_whole = never_whole.saturating_add(1);
        }
        // These are attempts, or take one back: only what follows shows whether it went well.
        let is_attempt = matches!(
            event,
            OutgoingEvent::InitializeIntended { .. }
                | OutgoingEvent::InitializeHadNoEffect
                | OutgoingEvent::UploadBegun { .. }
                | OutgoingEvent::SessionBegun { .. }
                | OutgoingEvent::LastByteLeaving
                | OutgoingEvent::NothingArrived
                | OutgoingEvent::UploadHadNoEffect
                | OutgoingEvent::FailureIntended { .. }
                | OutgoingEvent::DecisionNeeded { .. }
        );
        let attempts = if is_attempt { self.attempts } else { 0 };
        self.work = Work::Outgoing { claim, abandoned, never_whole, progress: progress.apply(event)? };
        Ok(Self { attempts, ..self.moved_on(now) })
    }

    /// The transfer after `event`. A step that goes well ends the count of attempts.
    pub fn after_incoming(mut self, event: IncomingEvent, now: Timestamp) -> Result<Self, IllegalTransition> {
        let Work::Incoming { damaged, progress } = self.work else {
            return Err(IllegalTransition { state: "outgoing", event: event.name() });
        };
        let damaged = damaged.saturating_add(u32::from(event == IncomingEvent::DownloadDamaged));
        let progress = progress.apply(event)?;
        // Nothing that goes well afterwards makes up for it.
        let is_too_late = matches!(progress, Incoming::Delivered { confirmation: Confirmation::TooLate, .. });
        let lasting = self.problem.take().filter(|_| is_too_late);
        self.work = Work::Incoming { damaged, progress };
        Ok(Self { problem: lasting, ..self.moved_on(now) })
    }

    fn moved_on(mut self, now: Timestamp) -> Self {
        self.updated = now;
        self.next_attempt = now;
        self.attempts = 0;
        self.problem = None;
        self
    }

    /// The transfer after a step that did not go well, to be tried again at `next`.
    #[must_use]
    pub fn after_trouble(mut self, problem: Failure, next: Timestamp) -> Self {
        self.attempts = self.attempts.saturating_add(1);
        self.updated = problem.at;
        self.problem = Some(problem);
        self.next_attempt = next;
        self
    }

    /// Altinn's id of the transfer, where it is known.
    #[must_use]
    pub fn broker_id(&self) -> Option<BrokerTransferId> {
        match &self.work {
            Work::Outgoing { progress, .. } => progress.booking().map(|booking| booking.id),
            Work::Incoming { progress, .. } => Some(progress.offer().id),
        }
    }

    /// The dropped file, until it has been laid down: a file of this identity in the drop folder is this
    /// transfer's and not a new one. Afterwards it may be dropped again on purpose.
    #[must_use]
    pub fn file_identity(&self) -> Option<FileIdentity> {
        match &self.work {
            Work::Outgoing { claim, progress, .. } => progress.holds_file().then_some(claim.file),
            Work::Incoming { .. } => None,
        }
    }

    /// Whether a start has to look at it before anything else: a file of it lies with us, or Altinn may know more of it
    /// than its record does. Not those that only wait for their recipients, or for a person.
    ///
    /// The store has keys of it: a version that changes the answer also has to rename `store::keys::INDEXED`.
    #[must_use]
    pub fn is_at_work(&self) -> bool {
        match &self.work {
            Work::Outgoing { progress, .. } => progress.holds_file(),
            Work::Incoming { progress, .. } => match progress {
                Incoming::Discovered { .. }
                | Incoming::Downloading { .. }
                | Incoming::Downloaded { .. }
                | Incoming::Delivering { .. } => true,
                Incoming::Delivered { confirmation, .. } => *confirmation == Confirmation::Due,
                Incoming::Confirmed { .. } | Incoming::Expired { .. } | Incoming::Failed { .. } => false,
            },
        }
    }

    /// `out` or `in`.
    #[must_use]
    pub fn direction(&self) -> &'static str {
        match &self.work {
            Work::Outgoing { .. } => "out",
            Work::Incoming { .. } => "in",
        }
    }

    /// The public name of the state.
    #[must_use]
    pub fn state_name(&self) -> &'static str {
        match &self.work {
            Work::Outgoing { progress, .. } => progress.name(),
            Work::Incoming { progress, .. } => progress.name(),
        }
    }

    /// The name of the state with nothing folded together.
    #[must_use]
    pub fn phase(&self) -> &'static str {
        match &self.work {
            Work::Outgoing { progress, .. } => progress.phase(),
            Work::Incoming { progress, .. } => progress.phase(),
        }
    }

    /// Whether nothing more is to be done.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        match &self.work {
            Work::Outgoing { progress, .. } => progress.is_finished(),
            Work::Incoming { progress, .. } => progress.is_finished(),
        }
    }
}
