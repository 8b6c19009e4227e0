//! What is to be posted, and when: first by time, then by the endpoint that it goes to, so that a
//! slow one holds up no other.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use jiff::Timestamp;

use super::event::{Event, Notice};
use super::schedule::Schedule;
use super::subscriptions::Held;

/// Posts that may be waiting; more are dropped, as by a full queue.
const LONGEST: usize = 200_000;
/// Posts in flight to one endpoint.
const PER_ENDPOINT: usize = 16;
/// Posts in flight in all.
const IN_ALL: usize = 512;

/// Something to post.
#[derive(Debug, Clone)]
pub(super) struct Mail {
    /// The subscription as it was when the post was decided on; its end does not call it back.
    pub(super) held: Arc<Held>,
    /// `None` for the validation of the subscription.
    pub(super) event: Option<Arc<Event>>,
    /// Counts from 1.
    pub(super) attempt: u32,
}

impl Mail {
    pub(super) fn endpoint(&self) -> &str {
        &self.held.subscription.wish.end_point
    }

    pub(super) fn schedule(&self) -> Schedule {
        if self.event.is_some() { Schedule::Delivery } else { Schedule::Validation }
    }
}

/// Something that is to be done at a time.
#[derive(Debug)]
pub(super) enum Job {
    /// Formidling sends an event, late.
    Send(Notice),
    /// Post something.
    Post(Mail),
}

/// Jobs by time, and posts by endpoint.
#[derive(Debug, Default)]
pub(super) struct Queue {
    added: u64,
    by_time: BTreeMap<(Timestamp, u64), Job>,
    by_endpoint: HashMap<String, VecDeque<Mail>>,
    in_flight: HashMap<String, usize>,
    waiting: usize,
    flying: usize,
}

impl Queue {
    /// Adds a job.
    pub(super) fn add(&mut self, time: Timestamp, job: Job) {
        if self.by_time.len() + self.waiting >= LONGEST {
            tracing::warn!("sandbox: the queue of events is full; one was dropped");
            return;
        }
        self.added += 1;
        self.by_time.insert((time, self.added), job);
    }

    /// Moves the posts whose time has come to their endpoints, and gives the late events.
    pub(super) fn due(&mut self, now: Timestamp) -> Vec<Notice> {
        let later = self.by_time.split_off(&(now, u64::MAX));
        let mut notices = Vec::new();
        for job in std::mem::replace(&mut self.by_time, later).into_values() {
            match job {
                Job::Send(notice) => notices.push(notice),
                Job::Post(mail) => {
                    self.waiting += 1;
                    self.by_endpoint.entry(mail.endpoint().to_owned()).or_default().push_back(mail);
                }
            }
        }
        notices
    }

    /// Takes all late events.
    pub(super) fn late(&mut self) -> Vec<Notice> {
        let is_late = |_: &(Timestamp, u64), job: &mut Job| matches!(job, Job::Send(_));
        let late = self.by_time.extract_if(.., is_late);
        late.filter_map(|(_, job)| if let Job::Send(notice) = job { Some(notice) } else { None }).collect()
    }

    /// Takes the posts that can begin, in turn from each endpoint, and counts them as in flight.
    pub(super) fn startable(&mut self) -> Vec<Mail> {
        let mut started = Vec::new();
        loop {
            let before = started.len();
            for (endpoint, mails) in &mut self.by_endpoint {
                if self.flying >= IN_ALL {
                    return started;
                }
                let flying = self.in_flight.get(endpoint).copied().unwrap_or(0);
                if flying < PER_ENDPOINT
                    && let Some(mail) = mails.pop_front()
                {
                    self.in_flight.insert(endpoint.clone(), flying + 1);
                    self.flying += 1;
                    self.waiting -= 1;
                    started.push(mail);
                }
            }
            self.by_endpoint.retain(|_, mails| !mails.is_empty());
            if started.len() == before {
                return started;
            }
        }
    }

    /// A post to the endpoint has ended.
    pub(super) fn landed(&mut self, endpoint: &str) {
        self.flying = self.flying.saturating_sub(1);
        if let Some(flying) = self.in_flight.get_mut(endpoint) {
            *flying = flying.saturating_sub(1);
            if *flying == 0 {
                self.in_flight.remove(endpoint);
            }
        }
    }

    /// The time of the next job.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.by_time.keys().next().map(|(time, _)| *time)
    }

    /// Whether everything that is due has been done.
    #[cfg(test)]
    pub(super) fn is_idle(&self, now: Timestamp) -> bool {
        self.flying == 0 && self.waiting == 0 && self.next().is_none_or(|next| next > now)
    }
}
