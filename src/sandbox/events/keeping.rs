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
use crate::sandbox::clock::earlier;
use crate::sandbox::site::Site;

/// When old events are forgotten.
const NIGHTLY: Time = Time::constant(3, 0, 0, 0);

/// Writes what is new, and comes at night, until told to stop.
pub(super) async fn run(site: &Arc<Site>, stop: &CancellationToken) {
    let mut night = next_night(site.clock.now());
    loop {
        if night <= site.clock.now() {
            night = next_night(site.clock.now());
            // As of last night, also when a clock that jumped brings it late.
            forget_old(site, earlier(night, Duration::from_hours(24))).await;
        }
        flush(site).await;
        tokio::select! {
            () = stop.cancelled() => return,
            () = site.events.changed.notified() => {}
            () = site.clock.sleep_until(night) => {}
        }
    }
}

/// Writes what is not in the files yet.
pub(in crate::sandbox) async fn flush(site: &Site) {
    let (dirty, events) = {
        let mut log = site.events.log();
        (mem::take(&mut *site.events.dirty()), log.unwritten())
    };
    if dirty && let Err(error) = save(site).await {
        tracing::error!(%error, "sandbox: the subscriptions could not be written");
    }
    if events.is_empty() {
        return;
    }
    let path = site.events.log_file.clone();
    if let Err(error) = blocking(move || log::append(&path, &events)).await {
        tracing::error!(%error, "sandbox: events could not be written");
    }
}

/// Writes the subscriptions.
pub(super) async fn save(site: &Site) -> io::Result<()> {
    // One at a time, or an older state could replace a newer one.
    let _writing = site.events.writing.lock().await;
    let kept = site.events.subscriptions().kept();
    let path = site.events.list_file.clone();
    blocking(move || subscriptions::write(&path, &kept)).await
}

async fn forget_old(site: &Site, night: Timestamp) {
    let events = {
        let mut log = site.events.log();
        if !log.forget_old(night) {
            return;
        }
        log.everything()
    };
    let path = site.events.log_file.clone();
    if let Err(error) = blocking(move || log::rewrite(&path, &events)).await {
        tracing::error!(%error, "sandbox: old events could not be forgotten");
    }
}

/// The next time it is three o'clock, by UTC.
fn next_night(now: Timestamp) -> Timestamp {
    let today = now.to_zoned(TimeZone::UTC).date();
    let at = |date: jiff::civil::Date| {
        date.to_datetime(NIGHTLY).to_zoned(TimeZone::UTC).map(|zoned| zoned.timestamp())
    };
    let tonight = at(today).ok().filter(|time| *time > now);
    tonight.or_else(|| at(today.checked_add(1.day()).ok()?).ok()).unwrap_or(Timestamp::MAX)
}
