//! Hearing of transfers: Altinn is asked, again and again, what waits for us. Both what nobody has touched and
//! what was begun and never confirmed, page by page, so that everything is found, also after months.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::Route;
use super::folders::Marker;
use crate::broker::{Overview, RecipientStatus, Role, Search, Status};
use crate::config::Confirm;
use crate::route::{Kind, Trouble, earlier, later};
use crate::seams::crash_point;
use crate::store::{self, BrokerKey};
use crate::transfer::{
    BrokerTransferId, Confirmation, Incoming, IncomingEvent, Notification, Offer, OrgNumber, Transfer,
};

/// What one search answers with at most.
const PAGE: usize = 100;
/// Known and undelivered transfers, beyond which Altinn keeps the rest for us.
const MAX_UNDELIVERED: usize = 500;
/// Transfers that are not for this inbox and need not be asked about again; beyond this they are forgotten.
const MAX_IGNORED: usize = 10_000;
/// How soon Altinn is asked again where it has more than was taken.
const SOON: Duration = Duration::from_secs(2);
/// How often old deliveries are forgotten.
const PRUNE_EVERY: Duration = Duration::from_hours(24);
/// How long a delivery is remembered after Altinn should have deleted the transfer, which it sometimes forgets.
const KEEP_MARKERS: Duration = Duration::from_hours(30 * 24);
/// How far ahead of us Altinn's clock may be.
const MARGIN: Duration = Duration::from_hours(24);

/// Asks for ever, until `stop`.
pub(super) async fn run(route: Arc<Route>, stop: CancellationToken) -> Result<(), Trouble> {
    let mut hearing = Hearing { ignored: HashSet::new() };
    let mut failures = 0;
    let mut pruned = Instant::now();
    while !stop.is_cancelled() {
        if pruned.elapsed() >= PRUNE_EVERY && route.means.skew.is_confirmed() {
            pruned = Instant::now();
            prune(&route).await;
        }
        let wait = tokio::select! {
            () = stop.cancelled() => break,
            asked = hearing.ask(&route) => match asked {
                Ok(Asked::Everything) => {
                    failures = 0;
                    route.settings.poll_interval
                }
                Ok(Asked::ThereIsMore) => SOON.min(route.settings.poll_interval),
                Err(trouble) => {
                    failures += 1;
                    wait_after(&route, trouble, failures)?
                }
            },
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
    Ok(())
}

/// Forgets deliveries of transfers that Altinn has deleted long ago.
async fn prune(route: &Arc<Route>) {
    let deadline = earlier(route.means.now(), KEEP_MARKERS);
    if let Err(trouble) = route.on_files(move |folders| folders.prune_markers(deadline)).await {
        warn!(route = route.settings.name.as_str(), code = %trouble.failure.code, error = %trouble.failure.message, "cannot forget old deliveries: trying again tomorrow");
    }
}

/// How long to wait after an attempt that failed.
fn wait_after(route: &Route, trouble: Trouble, failures: u32) -> Result<Duration, Trouble> {
    let now = route.means.now();
    let until = |next: Timestamp| next.duration_since(now).unsigned_abs();
    let named = if let Kind::Temporary(named) = trouble.kind { named } else { None };
    let backoff =
        route.means.backoff.delay_after(failures - 1, named).max(route.settings.poll_interval.min(SOON));
    Ok(match trouble.kind {
        Kind::Fatal => return Err(trouble),
        Kind::Route => until(route.hearing.hold(&trouble.failure, now)),
        Kind::Held(next) => until(next),
        Kind::Temporary(_) | Kind::Slow | Kind::Permanent => {
            let failure = &trouble.failure;
            warn!(route = route.settings.name.as_str(), code = %failure.code, reason = %failure.message, failures, "cannot ask for incoming files: trying again");
            backoff
        }
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Everything,
    ThereIsMore,
}

/// What came of a transfer that search has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Considered {
    /// It need not be asked about.
    Known,
    /// Altinn was asked; when it was published.
    Looked(Option<Timestamp>),
    /// There is no room to remember it.
    NoRoom,
}

#[derive(Debug)]
struct Hearing {
    ignored: HashSet<BrokerTransferId>,
}

impl Hearing {
    async fn ask(&mut self, route: &Arc<Route>) -> Result<Asked, Trouble> {
        route
            .hearing
            .pass(None, route.means.now())
            .map_err(|(failure, next)| Trouble { failure, kind: Kind::Held(next) })?;
        if route.backlog.counted() >= MAX_UNDELIVERED || !route.means.store.finds_room().await {
            return Ok(Asked::ThereIsMore);
        }
        let mut asked = Asked::Everything;
        for status in [RecipientStatus::Initialized, RecipientStatus::DownloadStarted] {
            if self.ask_for(route, status).await? == Asked::ThereIsMore {
                asked = Asked::ThereIsMore;
            }
        }
        route.hearing.release();
        Ok(asked)
    }

    /// Everything published that we have come so far with, oldest first, page by page.
    async fn ask_for(&mut self, route: &Arc<Route>, status: RecipientStatus) -> Result<Asked, Trouble> {
        let mut search = Search {
            resource_id: route.settings.resource_id.clone(),
            role: Role::Recipient,
            status: Some(Status::Published),
            recipient_status: Some(status),
            from: None,
            to: None,
            ascending: true,
        };
        loop {
            let ids = route.means.broker.search(&search).await.map_err(|error| broker(route, &error))?;
            let (mut last, mut is_full) = (None, false);
            for id in &ids {
                is_full |= route.backlog.counted() >= MAX_UNDELIVERED;
                if is_full {
                    break;
                }
                match self.consider(route, *id).await {
                    Ok(Considered::NoRoom) => is_full = true,
                    Ok(Considered::Known) => {}
                    Ok(Considered::Looked(changed)) => last = changed.or(last),
                    // One transfer that cannot be asked about does not hide the others.
                    Err(trouble) if !matches!(trouble.kind, Kind::Fatal) => {
                        warn!(route = route.settings.name.as_str(), file_transfer = %id, code = %trouble.failure.code, reason = %trouble.failure.message, "cannot ask about an incoming file: trying again");
                    }
                    Err(trouble) => return Err(trouble),
                }
            }
            // Also what was taken on before there was too much.
            route.wake.notify_one();
            if is_full {
                return Ok(Asked::ThereIsMore);
            }
            let Some(last_id) = ids.last().filter(|_| ids.len() >= PAGE) else {
                return Ok(Asked::Everything);
            };
            let last = match last {
                Some(last) => Some(last),
                None => overview(route, *last_id).await?.status_changed,
            };
            // More than a page of equal times cannot be told apart by Altinn; the next poll finds the rest.
            if last.is_none() || last == search.from {
                return Ok(Asked::ThereIsMore);
            }
            search.from = last;
            search.to = Some(later(route.means.server_now(), MARGIN));
        }
    }

    /// Takes a transfer on, if it is new and for us, and there is room to remember it.
    async fn consider(&mut self, route: &Arc<Route>, id: BrokerTransferId) -> Result<Considered, Trouble> {
        let recipient = route.identity.organization;
        let key = BrokerKey::Incoming { recipient, id };
        let known = route.means.store.by_broker_id(&key).await;
        let known = known.map_err(|error| Trouble::store(&error, route.means.now()))?;
        if known.is_some() || self.ignored.contains(&id) {
            return Ok(Considered::Known);
        }
        let overview = overview(route, id).await?;
        let offered = offer(&overview, recipient, &route.settings.senders);
        match offered.and_then(|offer| remembered(route, offer)) {
            // The disk may have filled up while many were asked about.
            Ok(_) if !route.means.store.finds_room().await => return Ok(Considered::NoRoom),
            Ok(offer) => take_on(route, offer).await?,
            Err(reason) => {
                if reason == NOT_PUBLISHED {
                    return Ok(Considered::Looked(overview.status_changed));
                }
                if self.ignored.len() >= MAX_IGNORED {
                    self.ignored.clear();
                }
                self.ignored.insert(id);
                info!(route = route.settings.name.as_str(), file_transfer = %id, sender = %overview.sender_raw, reason, "not received");
            }
        }
        Ok(Considered::Looked(overview.status_changed))
    }
}

fn broker(route: &Route, error: &crate::broker::Error) -> Trouble {
    Trouble::broker(error, route.means.now())
}

async fn overview(route: &Route, id: BrokerTransferId) -> Result<Overview, Trouble> {
    route.means.broker.overview(id, Role::Recipient).await.map_err(|error| broker(route, &error))
}

/// The one reason that may pass: what search sees and what the overview sees can differ for a moment.
const NOT_PUBLISHED: &str = "it is not published, or not any more";

/// What is offered, or why it is not for this inbox.
pub(super) fn offer(
    overview: &Overview,
    recipient: OrgNumber,
    senders: &[OrgNumber],
) -> Result<Offer, &'static str> {
    if overview.status != Status::Published {
        return Err(NOT_PUBLISHED);
    }
    let Some(own) = overview.recipient(recipient) else {
        return Err("it is not addressed to this organisation");
    };
    // Search goes by the latest thing we did, the overview by the furthest we came: a confirmed file that was
    // fetched once more is still a confirmed file.
    if own.status == RecipientStatus::DownloadConfirmed {
        return Err("it is confirmed already");
    }
    let is_allowed = |sender: OrgNumber| senders.contains(&sender);
    if !senders.is_empty() && !overview.sender.is_some_and(is_allowed) {
        return Err("its sender is not among the inbox's senders");
    }
    let Ok(resource_id) = overview.resource_id.parse() else { return Err("its resource id cannot be read") };
    let published = overview.published.or(overview.status_changed);
    Ok(Offer {
        id: overview.id,
        resource_id,
        file_name: overview.file_name.clone(),
        sender: overview.sender.map_or_else(|| overview.sender_raw.clone(), |sender| sender.to_string()),
        recipient,
        reference: overview.reference.clone(),
        properties: overview.properties.clone(),
        checksum: overview.checksum,
        size: overview.size,
        published: published.unwrap_or(Timestamp::UNIX_EPOCH),
        expires: overview.expiration.unwrap_or(Timestamp::MAX),
    })
}

/// What is larger than allowed is remembered, to be told of and looked at again, unless many are already: they would
/// count, and keep the others from being heard of.
fn remembered(route: &Route, offer: Offer) -> Result<Offer, &'static str> {
    if route.is_too_large(&offer) && route.backlog.is_full() {
        return Err("it is larger than max_file_size allows, and many such files wait already");
    }
    Ok(offer)
}

/// Makes a record of the offer. A marker on disk shows that it was delivered before the store was lost.
async fn take_on(route: &Arc<Route>, offer: Offer) -> Result<(), Trouble> {
    let id = offer.id;
    let marker = route.on_files(move |folders| folders.delivered_marker(id)).await?;
    let now = route.means.now();
    let transfer = match marker {
        None => {
            let id = route.means.store.new_id();
            info!(route = route.settings.name.as_str(), transfer = %id, file_transfer = %offer.id, name = %offer.file_name, bytes = offer.size, sender = %offer.sender, "found");
            let progress = Incoming::Discovered { offer: Box::new(offer) };
            Transfer::incoming(id, route.settings.name.clone(), progress, now)
        }
        Some(marker) => {
            warn!(route = route.settings.name.as_str(), transfer = %marker.transfer_id, file_transfer = %offer.id, "the state store does not know this file, but it was delivered: going on with its confirmation");
            delivered_before(route, marker, offer, now)?
        }
    };
    crash_point("hear:found");
    match route.means.store.insert(transfer.clone()).await {
        Ok(()) => {
            crash_point("hear:noted");
            route.note(&transfer);
            Ok(())
        }
        // Another inbox of the same organisation was quicker.
        Err(store::Error::BrokerIdTaken { .. }) => Ok(()),
        Err(error) => {
            let trouble = Trouble::store(&error, now);
            if trouble.kind == Kind::Permanent {
                error!(route = route.settings.name.as_str(), code = %trouble.failure.code, error = %trouble.failure.message, "not received: what its sender tells of the file is too much to remember");
                return Ok(());
            }
            Err(trouble)
        }
    }
}

fn delivered_before(
    route: &Route,
    marker: Marker,
    offer: Offer,
    now: Timestamp,
) -> Result<Transfer, Trouble> {
    let progress = Incoming::Discovered { offer: Box::new(offer) };
    let transfer = Transfer::incoming(marker.transfer_id, route.settings.name.clone(), progress, now);
    let mut events = as_delivered(route, marker).into_iter();
    let delivered = events.try_fold(transfer, |transfer, event| transfer.after_incoming(event, now));
    delivered.map_err(|illegal| Trouble::illegal(illegal, now))
}

/// What has happened to a file that was delivered, as its marker says, and that its record knows nothing of.
pub(super) fn as_delivered(route: &Route, marker: Marker) -> [IncomingEvent; 4] {
    let at = route.means.now();
    let confirmation = confirmation(route);
    [
        IncomingEvent::DownloadBegun,
        IncomingEvent::DownloadVerified(marker.received),
        IncomingEvent::DeliveryIntended(marker.place),
        IncomingEvent::Delivered { at, confirmation, notification: notification(route) },
    ]
}

/// Whether a program is to be run, by the settings. It runs at least once.
pub(super) fn notification(route: &Route) -> Notification {
    if route.settings.on_received.is_some() { Notification::Due } else { Notification::Done }
}

/// Who confirms, by the settings.
pub(super) fn confirmation(route: &Route) -> Confirmation {
    match route.settings.confirm {
        Confirm::Automatic => Confirmation::Due,
        Confirm::Manual => Confirmation::Manual,
    }
}
