//! From the drop folder to the claim: the folder is listed, files are watched until they are still and nobody
//! has them open for writing, and then claimed, as many as there is room for. What there is no room for stays
//! where it is.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Route;
use super::candidate::{Candidate, Source};
use super::listing::Listing;
use super::observe::{self, Examined, Pair, Waiting};
use super::orphans::Orphans;
use super::take;
use super::watch::Watch;
use crate::route::Trouble;
use crate::seams::crash_point;
use crate::store;
use crate::transfer::{Claim, FileIdentity, Outgoing, Transfer, Work};

/// Listing takes no more than a tenth of the time, but for folders so large that a file would wait too long.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Claims what is dropped, until `stop`.
pub(super) async fn run(route: Arc<Route>, stop: CancellationToken) -> Result<(), Trouble> {
    let mut openings = route.folders.openings();
    while !stop.is_cancelled() {
        openings.mark_unchanged();
        let serve = serve(&route, &stop);
        tokio::select! {
            outcome = serve => outcome?,
            // Another folder, or the same after it was away: it is watched and looked at anew.
            _ = openings.changed() => {}
        }
    }
    Ok(())
}

/// Claims what is dropped in the folders that are held open now.
async fn serve(route: &Arc<Route>, stop: &CancellationToken) -> Result<(), Trouble> {
    let mut intake = Intake::new(route);
    let mut watch = Watch::start(route).await;
    let mut listed = Instant::now();
    let mut pause = Duration::ZERO;
    while !stop.is_cancelled() {
        if intake.listing.ready.is_empty() {
            let begun = Instant::now();
            intake.listing.arrived(watch.take_arrived());
            intake = list(route, intake).await;
            for source in &intake.listing.sources {
                watch.also(source);
            }
            intake.orphans.pass(route, &intake.listing.sources, Instant::now()).await;
            listed = Instant::now();
            pause = (listed.duration_since(begun) * 10).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
        }
        let has_room = claim_ready(route, &mut intake).await?;
        let wait = intake.listing.next_look.min(route.settings.poll_interval);
        let wait = intake.orphans.next_pass().map_or(wait, |next| wait.min(next.duration_since(listed)));
        let next_listing = listed + pause.max(wait);
        tokio::select! {
            () = stop.cancelled() => {}
            () = route.room.notified(), if !has_room => {}
            () = async { tokio::time::sleep_until(listed + pause).await; watch.hint().await; }, if has_room => {}
            () = tokio::time::sleep_until(next_listing), if has_room => {}
            // A held route, or one whose files all wait: look now and then whether there is room again.
            () = tokio::time::sleep(route.settings.poll_interval), if !has_room => {}
        }
    }
    Ok(())
}

/// What is known of the drop folder.
#[derive(Debug)]
struct Intake {
    listing: Listing,
    orphans: Orphans,
}

impl Intake {
    fn new(route: &Route) -> Self {
        Self {
            listing: Listing::new(route.settings.clone()),
            orphans: Orphans::new(route.settings.sidecar_patience),
        }
    }
}

/// Lists off the async threads. A folder that cannot be listed is told and tried again.
async fn list(route: &Arc<Route>, mut intake: Intake) -> Intake {
    let folders = match route.folders.folders() {
        Ok(folders) => folders,
        Err(_told) => return intake,
    };
    let wall = route.means.now();
    let (intake, outcome) = crate::seams::blocking(move || {
        let outcome = intake.listing.list(&folders, Instant::now(), wall);
        (intake, outcome)
    })
    .await;
    if let Err(error) = outcome {
        warn!(route = route.settings.name.as_str(), code = error.code(), error = %error.full_message(), remedy = error.remedy(), "cannot list the drop folder: trying again");
    }
    intake
}

/// Claims ready files while there is room; whether there still is.
async fn claim_ready(route: &Arc<Route>, intake: &mut Intake) -> Result<bool, Trouble> {
    loop {
        let room = route.room_for_claims();
        if intake.listing.ready.is_empty() {
            return Ok(true);
        }
        // What is taken has to be remembered.
        if room == 0 || !route.means.store.finds_room().await {
            return Ok(false);
        }
        let batch: Vec<_> = intake.listing.ready.drain(..room.min(intake.listing.ready.len())).collect();
        let mut claims = Vec::new();
        for candidate in batch {
            if let Some(claim) = examine(route, intake, candidate).await? {
                claims.push(claim);
            }
        }
        futures_util::future::try_join_all(claims.into_iter().map(|claim| claim_file(route, claim))).await?;
        route.wake.notify_one();
    }
}

/// Looks at a ready file once more; the claim to make, if it is as it was and nobody writes it.
async fn examine(
    route: &Arc<Route>,
    intake: &mut Intake,
    candidate: Candidate,
) -> Result<Option<Claim>, Trouble> {
    if route.is_immovable(&candidate) {
        if let Some(observation) = intake.listing.observed.get_mut(&candidate) {
            observation.waiting = Some(Waiting::Immovable);
        }
        intake.listing.tell(&candidate, Waiting::Immovable, None);
        return Ok(None);
    }
    let opened = {
        let candidate = candidate.clone();
        route.on_files(move |folders| observe::examine(folders, &candidate)).await
    };
    let now = Instant::now();
    let listing = &mut intake.listing;
    let Some(observation) = listing.observed.get_mut(&candidate) else { return Ok(None) };
    let pair = match opened {
        Ok(Examined::Free(pair)) => pair,
        Ok(Examined::Unverified(pair)) => {
            let missing = observation.missing_unverified(&route.settings, now);
            if !missing.is_zero() {
                listing.look_within(missing);
                return Ok(None);
            }
            pair
        }
        Ok(Examined::Waits(Waiting::BeingWritten, _)) => {
            observation.disturb(now);
            listing.look_within(route.settings.settle);
            return Ok(None);
        }
        Ok(Examined::Waits(waiting, error)) => {
            observation.waiting = Some(waiting);
            listing.tell(&candidate, waiting, error.as_ref());
            return Ok(None);
        }
        Ok(Examined::Gone) => {
            listing.observed.remove(&candidate);
            return Ok(None);
        }
        Err(trouble) => {
            warn!(route = route.settings.name.as_str(), code = %trouble.failure.code, error = %trouble.failure.message, "cannot look at a file: trying again");
            return Ok(None);
        }
    };
    if pair != observation.pair {
        observation.see(pair, now, false, observation.seen_in);
        return Ok(None);
    }
    listing.observed.remove(&candidate);
    if pair.sidecar.is_none() && listing.reads_sidecars() {
        intake.orphans.taken_without(candidate.clone(), now);
    }
    Ok(claim_of(&candidate, &pair, route.number))
}

fn claim_of(candidate: &Candidate, pair: &Pair, outbox: u64) -> Option<Claim> {
    let (recipient_folder, other_folder) = match &candidate.source {
        Source::Drop => (None, None),
        Source::Recipient(recipient) => (Some(*recipient), None),
        Source::Other(name) => (None, Some(name.clone())),
    };
    Some(Claim {
        name: candidate.name.to_str()?.to_owned(),
        recipient_folder,
        other_folder,
        sidecar: pair.sidecar.is_some(),
        file: FileIdentity { device: outbox, ..pair.file.identity },
    })
}

/// Makes the intent durable; the driver moves the file.
async fn claim_file(route: &Arc<Route>, claim: Claim) -> Result<(), Trouble> {
    let now = route.means.now();
    let fatal = |error: &store::Error| Trouble::store(error, now);
    let file = claim.file;
    let holder = route.means.store.by_file(file.device, file.inode).await.map_err(|error| fatal(&error))?;
    if let Some(holder) = holder {
        return take_again(route, holder, &claim).await;
    }
    let id = route.means.store.new_id();
    info!(transfer = %id, name = %claim.name, bytes = file.size, route = route.settings.name.as_str(), "claimed");
    let transfer = Transfer::outgoing(id, route.settings.name.clone(), claim, now);
    route.note(&transfer);
    match route.means.store.insert(transfer).await {
        Ok(()) => {
            crash_point("claim:intended");
            Ok(())
        }
        // Another record has a file of this inode, or had one until now: the next listing looks again.
        Err(store::Error::FileTaken { .. }) => {
            route.forget(id);
            Ok(())
        }
        Err(error) => Err(fatal(&error)),
    }
}

/// The file is one that a record holds already: its claim was intended, or was undone by a loss of power. It is
/// that transfer's file, and moved again.
async fn take_again(route: &Arc<Route>, holder: Transfer, seen: &Claim) -> Result<(), Trouble> {
    let Work::Outgoing { claim, progress, .. } = &holder.work else { return Ok(()) };
    if *progress == Outgoing::Claiming || claim.file != seen.file || holder.route != route.settings.name {
        return Ok(());
    }
    let Some(beside) = super::initialize::claim_file(&holder) else { return Ok(()) };
    warn!(transfer = %holder.id, name = %claim.name, "a claimed file is back in the drop folder: taking it again");
    let (id, claim) = (holder.id, claim.clone());
    if let Err(trouble) = route.on_files(move |folders| take::take(folders, id, &claim, &beside)).await {
        warn!(transfer = %id, code = %trouble.failure.code, error = %trouble.failure.message, "cannot take it again: trying again at the next listing");
    }
    Ok(())
}
