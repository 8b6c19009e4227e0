//! The loop that takes due transfers in hand, each driven one step at a time.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, error, info_span, warn};

use super::{Decision, Hold, Kind, Means, Recovery, Trouble, Verdict, later, text_for_people};
use crate::pace::Stopping;
use crate::store;
use crate::transfer::{Failure, RouteName, Transfer, TransferId};

/// Transfers of one route in hand at once. Most of them wait for an answer or a slot; what is costly is bounded
/// by slots.
const IN_HAND: usize = 64;
/// Files that wait for something that only people can change are looked at this often.
const SLOW: Duration = Duration::from_mins(5);
/// The longest time that anything is put off for on purpose. What is further away was stored by a clock that
/// has been set back since, and is looked at now.
const LONGEST_WAIT: Duration = Duration::from_hours(7);
/// The loop looks at the clock at least this often, since the wall clock may be set while it sleeps.
const LONGEST_SLEEP: Duration = Duration::from_mins(1);

/// While transfers that were in flight go first, it is looked this often whether they are waited for any longer.
const RECOVERY_TICK: Duration = Duration::from_secs(1);

/// What has failed so often in a row does not keep others from being taken in.
const OFTEN: u32 = 3;

/// What follows a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The next step, at once.
    Step,
    /// Nothing until the transfer's next attempt.
    Wait,
}

/// What a direction does with its transfers.
pub trait Drive: Send + Sync + 'static {
    /// The route it serves.
    fn route(&self) -> &RouteName;
    /// What it works with.
    fn means(&self) -> &Means;
    /// The hold on the route.
    fn hold(&self) -> &Hold;
    /// What was in flight at the start.
    fn recovery(&self) -> &Recovery;
    /// What a step has decided of a transfer that was in flight as `was`; and what Altinn has said of it, where that
    /// was not told to [`Recovery::said`].
    fn decided(&self, was: &'static str, transfer: &Transfer) -> (Option<&'static str>, Decision);
    /// Does the one thing that is to be done next, and stores the outcome: `transfer` is what the store has.
    fn step(&self, transfer: &mut Transfer) -> impl Future<Output = Result<Next, Trouble>> + Send;
    /// A transfer waits for something that only people can change, or has been in trouble for long: it must not keep
    /// others from being taken in.
    fn waits_for_people(&self, transfer: &Transfer);
    /// Puts a transfer aside that will never go.
    fn give_up(
        &self,
        transfer: &mut Transfer,
        failure: Failure,
    ) -> impl Future<Output = Result<Next, Trouble>> + Send;
}

/// Takes due transfers of a route in hand until `stop`, then lets those in hand end their present step.
///
/// Ends with an error if the store does: without its memory the service must not act.
pub async fn work_off<D: Drive>(
    driver: Arc<D>,
    wake: Arc<Notify>,
    stop: CancellationToken,
) -> Result<(), Trouble> {
    let mut in_hand = HashSet::new();
    let mut drivers = JoinSet::new();
    while !stop.is_cancelled() {
        let (due, next) = due(&*driver, &in_hand).await?;
        for id in due {
            in_hand.insert(id);
            let (driver, stop) = (Arc::clone(&driver), stop.clone());
            let span = info_span!("transfer", transfer = %id, route = driver.route().as_str());
            drivers.spawn(async move { (id, drive(&*driver, id, &stop).await) }.instrument(span));
        }
        tokio::select! {
            () = stop.cancelled() => {}
            Some(ended) = drivers.join_next() => put_down(ended, &mut in_hand)?,
            () = wake.notified() => {}
            () = tokio::time::sleep(next) => {}
        }
        while let Some(ended) = drivers.try_join_next() {
            put_down(ended, &mut in_hand)?;
        }
    }
    while let Some(ended) = drivers.join_next().await {
        put_down(ended, &mut in_hand)?;
    }
    Ok(())
}

/// The transfers to take in hand now, and how long nothing else will be due.
async fn due<D: Drive>(
    driver: &D,
    in_hand: &HashSet<TransferId>,
) -> Result<(Vec<TransferId>, Duration), Trouble> {
    let means = driver.means();
    let now = means.now();
    let room = IN_HAND.saturating_sub(in_hand.len());
    // What was in flight comes before everything else, whenever it was to be looked at again.
    let first = driver.recovery().first();
    if !first.is_empty() {
        let first = first.into_iter().filter(|id| !in_hand.contains(id)).take(room).collect();
        return Ok((first, RECOVERY_TICK));
    }
    let limit = in_hand.len() + room + 1;
    let waiting = means.store.due(driver.route(), Timestamp::MAX, limit).await;
    let waiting = waiting.map_err(|error| Trouble::store(&error, now))?;
    let mut next = LONGEST_SLEEP;
    let mut due = Vec::new();
    for (time, id) in waiting.into_iter().filter(|(_, id)| !in_hand.contains(id)) {
        if time > now && time <= later(now, LONGEST_WAIT) {
            next = next.min(time.duration_since(now).unsigned_abs());
            break;
        }
        if due.len() < room {
            due.push(id);
        }
    }
    Ok((due, next))
}

fn put_down(
    ended: Result<(TransferId, Result<(), Trouble>), tokio::task::JoinError>,
    in_hand: &mut HashSet<TransferId>,
) -> Result<(), Trouble> {
    match ended {
        Ok((id, outcome)) => {
            in_hand.remove(&id);
            outcome
        }
        // The panic goes on in the part, and the supervisor stops the service loudly.
        Err(panicked) if panicked.is_panic() => std::panic::resume_unwind(panicked.into_panic()),
        Err(_cancelled) => Ok(()),
    }
}

/// Drives one transfer until it waits, is over, or the service stops.
async fn drive<D: Drive>(driver: &D, id: TransferId, stop: &CancellationToken) -> Result<(), Trouble> {
    let means = driver.means();
    let stored = match means.store.get(id).await {
        // It waits, and keeps what it holds; the store does not give it out as due any more.
        Err(error @ store::Error::Unreadable { .. }) => {
            error!(code = error.code(), error = %text_for_people(&error), "a record in the state store cannot be read: it is kept, and its transfer waits");
            driver.recovery().forget(id);
            return Ok(());
        }
        stored => stored.map_err(|error| Trouble::store(&error, means.now()))?,
    };
    let Some(mut transfer) = stored else {
        driver.recovery().forget(id);
        return Ok(());
    };
    while !stop.is_cancelled() {
        let outcome = driver.step(&mut transfer).await;
        driver.recovery().stepped(&transfer, &outcome, |was| driver.decided(was, &transfer));
        let trouble = match outcome {
            Ok(Next::Step) => continue,
            Ok(Next::Wait) => return Ok(()),
            Err(trouble) => trouble,
        };
        // It would only have waited: nothing is wrong with it.
        if stop.is_cancelled() && trouble.failure.code == Stopping::CODE {
            return Ok(());
        }
        let trouble = match trouble.kind {
            Kind::Permanent => match driver.give_up(&mut transfer, trouble.failure).await {
                Ok(Next::Step) => continue,
                Ok(Next::Wait) => return Ok(()),
                Err(trouble) => trouble,
            },
            _ => trouble,
        };
        return put_off(driver, transfer, trouble).await;
    }
    Ok(())
}

/// Stores what went wrong and when to try again.
async fn put_off<D: Drive>(driver: &D, transfer: Transfer, trouble: Trouble) -> Result<(), Trouble> {
    let means = driver.means();
    let now = means.now();
    let mut is_told = !matches!(trouble.kind, Kind::Held(_) | Kind::Route);
    let next = match trouble.kind {
        Kind::Fatal => {
            error!(code = %trouble.failure.code, reason = %trouble.failure.message, "the state store failed");
            return Err(trouble);
        }
        Kind::Temporary(named) => {
            if transfer.attempts >= OFTEN {
                driver.waits_for_people(&transfer);
            }
            later(now, means.backoff.delay_after(transfer.attempts, named))
        }
        Kind::Slow | Kind::Permanent => {
            driver.waits_for_people(&transfer);
            later(now, SLOW.max(means.backoff.delay(transfer.attempts)))
        }
        Kind::Route => {
            // Another one is to look next.
            driver.waits_for_people(&transfer);
            match driver.hold().failed(transfer.id, &trouble.failure, now) {
                Verdict::Held(next) => next,
                Verdict::Alone(next) => {
                    is_told = true;
                    next
                }
            }
        }
        Kind::Held(next) => next,
    };
    let next = next.min(later(now, LONGEST_WAIT));
    if is_told {
        let failure = &trouble.failure;
        warn!(
            code = %failure.code,
            reason = %failure.message,
            remedy = %failure.remedy,
            attempt = transfer.attempts + 1,
            next = %next,
            "will try again"
        );
    }
    let after = transfer.clone().after_trouble(trouble.failure, next);
    match means.store.update(&transfer, after).await {
        // The store has moved on without us, by a change that was under way when the step ended: what it has
        // is loaded anew.
        Err(store::Error::Stale { .. }) | Ok(()) => Ok(()),
        Err(error) => {
            let trouble = Trouble::store(&error, now);
            if trouble.kind == Kind::Fatal { Err(trouble) } else { Ok(()) }
        }
    }
}
