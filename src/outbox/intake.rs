//! From the drop folder to the claim: the folder is listed, files are watched until they are still and nobody
//! has them open for writing, and then claimed, as many as there is room for. What there is no room for stays
//! where it is.

use std::collections::{HashMap, HashSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Route;
use super::folders::Folders;
use super::ignore::is_ignored;
use super::take::{self, sidecar_name};
use super::watch::Watch;
use crate::config::{self, Recipients, Sidecar};
use crate::files::{self, Dir, Entry, EntryKind, Writers};
use crate::route::Trouble;
use crate::seams::crash_point;
use crate::store;
use crate::transfer::{Claim, OrgNumber, Outgoing, Transfer, Work};

/// Files observed at once. More than this wait for their turn in the folder, so that a backlog costs no memory.
const WINDOW: usize = 4096;
/// Names that were warned about; beyond this the warnings begin anew.
const MAX_REPORTED: usize = 1024;
/// The folder is listed at most this often, and never takes more than a tenth of the time.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);

/// Claims what is dropped, until `stop`.
pub(super) async fn run(route: Arc<Route>, stop: CancellationToken) -> Result<(), Trouble> {
    let mut intake = Intake::new(&route);
    let mut watch = Watch::start(&route.settings);
    let mut listed = Instant::now();
    let mut pause = Duration::ZERO;
    while !stop.is_cancelled() {
        if intake.ready.is_empty() {
            let begun = Instant::now();
            intake.arrived(watch.take_arrived());
            intake = list(&route, intake).await;
            for folder in &intake.recipient_folders {
                watch.also(&route.settings.path.join(folder.digits()));
            }
            listed = Instant::now();
            pause = (listed.duration_since(begun) * 10).max(SHORTEST_PAUSE);
        }
        let has_room = claim_ready(&route, &mut intake).await?;
        let next_listing = listed + pause.max(intake.next_look.min(route.settings.poll_interval));
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

/// A file in a drop folder.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Candidate {
    recipient_folder: Option<OrgNumber>,
    name: OsString,
}

/// What has been seen of a file, and since when.
#[derive(Debug)]
struct Observation {
    file: Entry,
    sidecar: Option<Entry>,
    still_since: Instant,
    /// It was renamed into the folder, so it came whole.
    arrived: bool,
    seen_in: u64,
}

/// What is known of the drop folder.
#[derive(Debug)]
struct Intake {
    settings: config::Outbox,
    observed: HashMap<Candidate, Observation>,
    ready: VecDeque<Candidate>,
    arrived: HashSet<PathBuf>,
    reported: HashSet<OsString>,
    recipient_folders: Vec<OrgNumber>,
    next_look: Duration,
    listing: u64,
}

impl Intake {
    fn new(route: &Route) -> Self {
        Self {
            settings: route.settings.clone(),
            observed: HashMap::new(),
            ready: VecDeque::new(),
            arrived: HashSet::new(),
            reported: HashSet::new(),
            recipient_folders: Vec::new(),
            next_look: Duration::ZERO,
            listing: 0,
        }
    }

    fn arrived(&mut self, paths: HashSet<PathBuf>) {
        self.arrived = paths;
    }

    /// Lists the folders and decides which files are ready. Blocks.
    fn list(&mut self, folders: &Folders, now: Instant) -> Result<(), files::Error> {
        self.listing += 1;
        self.next_look = self.settings.poll_interval;
        self.list_folder(&folders.drop, None, now)?;
        if self.settings.recipients == Recipients::FromDirectory {
            self.recipient_folders = recipient_folders(&folders.drop)?;
            for recipient in self.recipient_folders.clone() {
                let listed = folders
                    .source(Some(recipient))
                    .and_then(|folder| self.list_folder(&folder, Some(recipient), now));
                // One recipient's folder does not keep the others' files.
                if let Err(error) = listed
                    && !error.is_missing()
                    && self.is_news(OsStr::new(&recipient.digits()))
                {
                    warn!(code = error.code(), error = %error.full_message(), remedy = error.remedy(), "cannot list a recipient's folder: its files wait");
                }
            }
        }
        let listing = self.listing;
        self.observed.retain(|_, observation| observation.seen_in == listing);
        self.choose_ready(now);
        Ok(())
    }

    fn list_folder(
        &mut self,
        folder: &Dir,
        recipient: Option<OrgNumber>,
        now: Instant,
    ) -> Result<(), files::Error> {
        let mut names = Vec::new();
        let (settings, observed, room) =
            (&self.settings, &self.observed, WINDOW.saturating_sub(self.observed.len()));
        let mut new = 0;
        folder.for_each_name(|name| {
            if is_ignored(name) || !settings.include.matches(name) || settings.exclude.matches(name) {
                return true;
            }
            let candidate = Candidate { recipient_folder: recipient, name: name.to_owned() };
            if observed.contains_key(&candidate) {
                names.push(candidate);
            } else if new < room {
                new += 1;
                names.push(candidate);
            }
            true
        })?;
        for candidate in names {
            self.observe(folder, candidate, now)?;
        }
        Ok(())
    }

    fn observe(&mut self, folder: &Dir, candidate: Candidate, now: Instant) -> Result<(), files::Error> {
        let Some(file) = folder.look(&candidate.name)?.filter(|entry| entry.kind == EntryKind::File) else {
            return Ok(());
        };
        let Some(name) = candidate.name.to_str() else {
            if self.is_news(&candidate.name) {
                warn!(path = ?folder.path().join(&candidate.name), code = "file_name_not_utf8", "not sent: the name is not UTF-8, so Altinn cannot be told it; rename the file");
            }
            return Ok(());
        };
        let sidecar = match self.settings.sidecar {
            Sidecar::Off => None,
            Sidecar::Optional | Sidecar::Required => sidecar(folder, name)?,
        };
        let arrived = self.arrived.contains(&folder.path().join(name));
        let listing = self.listing;
        let observation = self.observed.entry(candidate).or_insert(Observation {
            file,
            sidecar,
            still_since: now,
            arrived,
            seen_in: listing,
        });
        observation.seen_in = listing;
        if observation.file != file || observation.sidecar != sidecar {
            *observation = Observation { file, sidecar, still_since: now, arrived, seen_in: listing };
        }
        Ok(())
    }

    fn choose_ready(&mut self, now: Instant) {
        let mut ready: Vec<_> = Vec::new();
        for (candidate, observation) in &self.observed {
            if self.settings.sidecar == Sidecar::Required && observation.sidecar.is_none() {
                continue;
            }
            let wait = self.settle(observation);
            let still = now.duration_since(observation.still_since);
            if still >= wait {
                ready.push((observation.file.identity.modified_ns, candidate.clone()));
            } else {
                self.next_look = self.next_look.min(wait.saturating_sub(still));
            }
        }
        // The oldest first: nothing is promised about order, but nothing should wait for ever either.
        ready.sort_by(|one, other| (one.0, &one.1.name).cmp(&(other.0, &other.1.name)));
        self.ready = ready.into_iter().map(|(_, candidate)| candidate).collect();
    }

    /// How long a file has to be still.
    fn settle(&self, observation: &Observation) -> Duration {
        let no_sidecar_follows = self.settings.sidecar == Sidecar::Off || observation.sidecar.is_some();
        if observation.arrived && no_sidecar_follows {
            Duration::ZERO
        } else if observation.file.identity.size == 0 {
            self.settings.settle_empty
        } else {
            self.settings.settle
        }
    }

    /// Whether something about a name has not been told yet.
    fn is_news(&mut self, name: &OsStr) -> bool {
        if self.reported.len() >= MAX_REPORTED {
            self.reported.clear();
        }
        self.reported.insert(name.to_owned())
    }
}

/// The folders that are named by a recipient's organisation number.
fn recipient_folders(drop: &Dir) -> Result<Vec<OrgNumber>, files::Error> {
    let mut recipients = Vec::new();
    drop.for_each_name(|name| {
        let recipient = name.to_str().filter(|name| name.len() == 9);
        recipients.extend(recipient.and_then(|name| name.parse::<OrgNumber>().ok()));
        true
    })?;
    let is_folder = |recipient: &OrgNumber| {
        let entry = drop.look(recipient.digits()).ok().flatten();
        entry.is_some_and(|entry| entry.kind == EntryKind::Folder)
    };
    recipients.retain(is_folder);
    Ok(recipients)
}

/// Lists off the async threads. A folder that cannot be listed is told and tried again.
async fn list(route: &Arc<Route>, mut intake: Intake) -> Intake {
    let folders = route.folders.clone();
    let (intake, outcome) = crate::seams::blocking(move || {
        let outcome = intake.list(&folders, Instant::now());
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
        if intake.ready.is_empty() {
            return Ok(true);
        }
        if room == 0 {
            return Ok(false);
        }
        let batch: Vec<_> = intake.ready.drain(..room.min(intake.ready.len())).collect();
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

/// A file and the sidecar beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    file: Entry,
    sidecar: Option<Entry>,
}

/// What opening a ready file showed.
#[derive(Debug)]
enum Examined {
    Free(Seen),
    Unverified(Seen),
    BeingWritten,
    Gone,
    Forbidden(files::Error),
}

/// The sidecar beside a file, where there is one.
fn sidecar(folder: &Dir, name: &str) -> Result<Option<Entry>, files::Error> {
    Ok(folder.look(sidecar_name(name))?.filter(|entry| entry.kind == EntryKind::File))
}

fn open_and_examine(folders: &Folders, candidate: &Candidate) -> Result<Examined, files::Error> {
    let folder = folders.source(candidate.recipient_folder)?;
    let file = match folder.open_file(&candidate.name) {
        Ok(file) => file,
        Err(error) if error.is_missing() => return Ok(Examined::Gone),
        Err(error) if error.is_forbidden() => return Ok(Examined::Forbidden(error)),
        Err(error) => return Err(error),
    };
    let path = folder.path().join(&candidate.name);
    let entry = Entry::of_file(&file).map_err(|error| files::Error::new("look at", &path, error))?;
    let sidecar = match candidate.name.to_str() {
        Some(name) if folders.reads_sidecars => sidecar(&folder, name)?,
        _ => None,
    };
    let seen = Seen { file: entry, sidecar };
    Ok(match files::writers(&file) {
        _ if entry.kind != EntryKind::File => Examined::Gone,
        Writers::None => Examined::Free(seen),
        Writers::Unknown => Examined::Unverified(seen),
        Writers::Some => Examined::BeingWritten,
    })
}

/// Looks at a ready file once more; the claim to make, if it is as it was and nobody writes it.
async fn examine(
    route: &Arc<Route>,
    intake: &mut Intake,
    candidate: Candidate,
) -> Result<Option<Claim>, Trouble> {
    let opened = {
        let candidate = candidate.clone();
        route.on_files(move |folders| open_and_examine(folders, &candidate)).await
    };
    let Some(observation) = intake.observed.get_mut(&candidate) else { return Ok(None) };
    let seen = match opened {
        Ok(Examined::Free(seen)) => seen,
        Ok(Examined::Unverified(seen)) => {
            let wait = route.settings.settle.max(route.settings.settle_unverified);
            if observation.still_since.elapsed() < wait {
                intake.next_look =
                    intake.next_look.min(wait.saturating_sub(observation.still_since.elapsed()));
                return Ok(None);
            }
            seen
        }
        Ok(Examined::BeingWritten) => {
            observation.still_since = Instant::now();
            observation.arrived = false;
            intake.next_look = intake.next_look.min(route.settings.settle);
            return Ok(None);
        }
        Ok(Examined::Gone) => {
            intake.observed.remove(&candidate);
            return Ok(None);
        }
        Ok(Examined::Forbidden(error)) => {
            if intake.is_news(&candidate.name) {
                warn!(route = route.settings.name.as_str(), code = error.code(), error = %error.full_message(), remedy = "let the service's user read the file", "not sent: the file cannot be read");
            }
            return Ok(None);
        }
        Err(trouble) => {
            warn!(route = route.settings.name.as_str(), code = %trouble.failure.code, error = %trouble.failure.message, "cannot look at a file: trying again");
            return Ok(None);
        }
    };
    if seen != (Seen { file: observation.file, sidecar: observation.sidecar }) {
        (observation.file, observation.sidecar) = (seen.file, seen.sidecar);
        observation.still_since = Instant::now();
        return Ok(None);
    }
    intake.observed.remove(&candidate);
    let Some(name) = candidate.name.to_str() else { return Ok(None) };
    let claim = Claim {
        name: name.to_owned(),
        recipient_folder: candidate.recipient_folder,
        sidecar: seen.sidecar.is_some(),
        file: seen.file.identity,
    };
    Ok(Some(claim))
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
