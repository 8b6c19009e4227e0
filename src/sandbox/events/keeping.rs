//! Keeps events and subscriptions in files, and forgets old events every night.

use std::sync::Arc;
use std::time::Duration;
use std::{io, mem};

use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use tokio_util::sync::CancellationToken;

use super::{log, subscriptions};
use crate::sandbox::blocking::blocking;
use crate::sandbox::clock::{earlier, later};
use crate::sandbox::site::Site;

/// When old events are forgotten.
const NIGHTLY: Time = Time::constant(3, 0, 0, 0);
/// From one night to the next, unless the sandbox is faster.
const DAY: Duration = Duration::from_hours(24);
/// The shortest day of a fast sandbox.
const SHORTEST_DAY: Duration = Duration::from_millis(10);
/// When what could not be written is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// Writes what is new, and comes at night, until told to stop.
pub(super) async fn run(site: &Arc<Site>, stop: &CancellationToken) {
    let day = site.scaled(DAY).max(SHORTEST_DAY);
    let mut night = next_night(site.clock.now(), day);
    loop {
        if night <= site.clock.now() {
            night = next_night(site.clock.now(), day);
            // As of last night, also when a clock that jumped brings it late.
            forget_old(site, earlier(night, day)).await;
        }
        let again = later(site.clock.now(), AGAIN);
        let next = if flush(site).await { night } else { night.min(again) };
        tokio::select! {
            () = stop.cancelled() => return,
            () = site.events.changed.notified() => {}
            () = site.clock.sleep_until(next) => {}
        }
    }
}

/// Writes what is not in the files yet; whether that succeeded.
pub(in crate::sandbox) async fn flush(site: &Arc<Site>) -> bool {
    let subscriptions = save(site).await;
    if let Err(error) = &subscriptions {
        tracing::error!(%error, "sandbox: the subscriptions could not be written");
    }
    let events = write(site, |site| {
        let (events, before) = site.events.log().unwritten();
        if events.is_empty() {
            return Ok(());
        }
        log::append(&site.events.log_file, &events).inspect_err(|_| site.events.log().not_written(before))
    });
    let events = events.await;
    if let Err(error) = &events {
        tracing::error!(%error, "sandbox: events could not be written");
    }
    subscriptions.is_ok() && events.is_ok()
}

/// Writes the subscriptions, if they have changed since they were written.
pub(in crate::sandbox) async fn save(site: &Arc<Site>) -> io::Result<()> {
    write(site, |site| {
        if !mem::take(&mut *site.events.dirty()) {
            return Ok(());
        }
        let kept = site.events.subscriptions().kept();
        subscriptions::write(&site.events.list_file, &kept).inspect_err(|_| *site.events.dirty() = true)
    })
    .await
}

/// Does one at a time, or an older state could replace a newer one; and takes its turn along, since
/// it goes on when the request that wanted it is abandoned.
async fn write(
    site: &Arc<Site>,
    act: impl FnOnce(&Site) -> io::Result<()> + Send + 'static,
) -> io::Result<()> {
    let writing = Arc::clone(&site.events.writing).lock_owned().await;
    let site = Arc::clone(site);
    blocking(move || {
        let _writing = writing;
        act(&site)
    })
    .await
}

async fn forget_old(site: &Arc<Site>, night: Timestamp) {
    let forgotten = write(site, move |site| {
        let (events, before) = {
            let mut log = site.events.log();
            if !log.forget_old(earlier(night, site.scaled(log::KEPT_FOR))) {
                return Ok(());
            }
            log.everything()
        };
        log::rewrite(&site.events.log_file, &events).inspect_err(|_| site.events.log().not_written(before))
    });
    if let Err(error) = forgotten.await {
        tracing::error!(%error, "sandbox: old events could not be forgotten");
    }
}

/// The next night: days of that length are counted from three o'clock, by UTC.
fn next_night(now: Timestamp, day: Duration) -> Timestamp {
    let today = now.to_zoned(TimeZone::UTC).date();
    let at = |date: jiff::civil::Date| {
        date.to_datetime(NIGHTLY).to_zoned(TimeZone::UTC).map(|zoned| zoned.timestamp())
    };
    let past = at(today).ok().filter(|time| *time <= now);
    let Some(past) = past.or_else(|| at(today.checked_sub(1.day()).ok()?).ok()) else {
        return Timestamp::MAX;
    };
    let since = now.duration_since(past).unsigned_abs();
    let left = day.as_nanos().saturating_sub(since.as_nanos().checked_rem(day.as_nanos()).unwrap_or(0));
    later(now, Duration::from_nanos(u64::try_from(left).unwrap_or(u64::MAX)))
}
