//! A transfer as it is remembered: who it is, how far it has come, and when it is to be looked at again.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{
    BrokerTransferId, Claim, Confirmation, Failure, FileIdentity, IllegalTransition, Incoming, IncomingEvent,
    Outgoing, OutgoingEvent, RouteName, TransferId, Unpublished,
};

/// Before everything that waits for a time: what is new is not kept waiting by a backlog of looks at what has
/// long been sent.
const AT_ONCE: Timestamp = Timestamp::UNIX_EPOCH;

/// Trouble after which nothing was tried for longer than this is over. Everything is tried again sooner.
const SPELL: SignedDuration = SignedDuration::from_hours(24);

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
    /// Since when it has been in trouble, be it with breaks in which a step went well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<Spell>,
    /// What is being done.
    pub work: Work,
}

/// A time of trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spell {
    /// When it began.
    pub since: Timestamp,
    /// When something last went wrong.
    pub last: Timestamp,
}

impl Spell {
    fn goes_on_at(self, time: Timestamp) -> bool {
        time.duration_since(self.last) <= SPELL
    }
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
            trouble: None,
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
        let at = problem.at;
        // Where nobody tried for so long, as while the service was stopped, this is trouble of its own.
        let goes_on = self.trouble.filter(|spell| spell.goes_on_at(at));
        self.trouble = Some(Spell { since: goes_on.map_or(at, |spell| spell.since), last: at });
        self.problem = Some(problem);
        self.next_attempt = next;
        self
    }

    /// Since when it has been in trouble without a break; `None` where it is in none, or was not tried for long.
    #[must_use]
    pub fn troubled_since(&self, now: Timestamp) -> Option<Timestamp> {
        let at = self.problem.as_ref()?.at;
        let spell = self.trouble.unwrap_or(Spell { since: at, last: at });
        spell.goes_on_at(now).then_some(spell.since)
    }

    /// Since when it has been in trouble, be it with breaks in which a step went well; `None` where nothing went wrong
    /// for long.
    #[must_use]
    pub fn struggling_since(&self, now: Timestamp) -> Option<Timestamp> {
        self.trouble.filter(|spell| spell.goes_on_at(now)).map(|spell| spell.since)
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

#[cfg(test)]
mod tests {
    use super::super::samples::{claim, failure};
    use super::*;

    const DAY: i64 = 24 * 3600;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn fails(transfer: Transfer, second: i64) -> Transfer {
        transfer.after_trouble(Failure { at: at(second), ..failure() }, at(second))
    }

    #[test]
    fn time_in_which_nobody_tried_is_no_time_of_trouble() {
        let id = "01a20052-d934-7c77-9c84-5e364830abb5".parse().unwrap();
        let mut transfer = Transfer::outgoing(id, "accounts".parse().unwrap(), claim(1), at(0));
        assert_eq!(transfer.troubled_since(at(0)), None);
        for hour in 0..50 {
            transfer = fails(transfer, hour * 3600);
            assert_eq!(transfer.troubled_since(at(hour * 3600)), Some(at(0)));
            if hour == 20 {
                // A step that goes well in between is no end of it: each attempt begins with one.
                transfer = transfer.after_outgoing(OutgoingEvent::FileTaken, at(hour * 3600)).unwrap();
                assert_eq!(transfer.troubled_since(at(hour * 3600)), None);
            }
        }
        // The service is stopped for long.
        let later = 10 * DAY;
        assert_eq!(transfer.troubled_since(at(later)), None, "it is tried first");
        transfer = fails(transfer, later);
        assert_eq!(transfer.troubled_since(at(later)), Some(at(later)));
    }
}
