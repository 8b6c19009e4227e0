//! The way out: a file that is dropped in a folder is published at Altinn exactly once, and laid down with its
//! receipt.
//!
//! [`watch`] hears of files, [`listing`] finds them, [`observe`] says when they have come to rest, [`intake`] claims
//! them, [`take`] makes them ours, [`describe`] finds out what Altinn is to be told, [`initialize`] and
//! [`upload`] send (large files by [`resumable`]), [`follow`] sees what becomes of it, [`lay_down`] puts file and
//! receipt (or error file) in place. The [`driver`] takes these steps, one at a time, as the state machine says.

pub mod driver;

mod candidate;
mod claims;
mod describe;
mod folders;
mod follow;
mod ignore;
mod initialize;
mod intake;
mod lay_down;
mod listing;
mod observe;
mod orphans;
mod overdue;
mod probe;
mod receipt;
mod receipts;
mod recovery;
mod resumable;
mod retention;
mod sending;
mod set_back;
mod take;
mod unremembered;
mod upload;
mod vanished;
mod verify;
mod watch;
mod window;

pub use probe::probe;
pub use verify::verify;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::route::{Hold, Means, Mount, Recovery, Trouble, work_off};
use crate::seams::OsRandom;
use crate::transfer::{Outgoing, OutgoingEvent, Transfer, TransferId, Work};
use crate::{config, files};
use candidate::{Candidate, Source};
use folders::Folders;
use set_back::SetBack;

/// Files of one route that are claimed and wait for people, beyond which they count as work in hand.
const MAX_APART: usize = 256;

/// What cannot be moved is tried again this often.
const TRY_TO_MOVE_EVERY: Duration = Duration::from_mins(5);

/// What cannot be moved out of the drop folder.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Immovable {
    File(Candidate),
    AllIn(Source),
}

/// One `[outbox.NAME]`.
#[derive(Debug)]
pub struct Outbox {
    route: Arc<Route>,
}

/// What every step of an outbox works with.
#[derive(Debug)]
struct Route {
    settings: config::Outbox,
    /// Stands for the outbox where a file is known by its inode: the device's number does not last.
    number: u64,
    identity: config::Identity,
    means: Means,
    hold: Hold,
    recovery: Recovery,
    set_back: SetBack,
    folders: Arc<Mount<Folders>>,
    /// Hashing and uploading at once, in this route.
    slots: Semaphore,
    /// Claimed transfers of which no byte has been sent: while there are many, nothing more is claimed, and
    /// files stay where they are.
    unsent: Mutex<HashSet<TransferId>>,
    /// Unsent transfers that wait for something that only people can change.
    apart: Mutex<HashSet<TransferId>>,
    /// What cannot be moved out of the drop folder, and since when: it is tried again after a while.
    immovable: Mutex<HashMap<Immovable, Instant>>,
    /// How resumable uploads have gone.
    tempo: resumable::Tempo,
    /// The service is about to stop: what takes long ends where it can be gone on with.
    stopping: CancellationToken,
    /// Transfers have become due, or there is room for more.
    wake: Arc<Notify>,
    room: Notify,
}

impl Outbox {
    /// Opens the route's folders, making those that are the service's own; where they cannot be opened, the route
    /// waits for them. Blocks.
    #[must_use]
    pub fn open(settings: config::Outbox, identity: config::Identity, mut means: Means) -> Self {
        means.retry.give_up_after = settings.give_up_after.unwrap_or(means.retry.give_up_after);
        let opener = {
            let (settings, known) = (settings.clone(), means.store.known_folders().clone());
            move |opening| Folders::open(&settings, &known, opening)
        };
        let prober = {
            let settings = settings.clone();
            move || probe(&settings, &OsRandom)
        };
        let folders = means.mount(&settings.name, &settings.path, opener, prober);
        let hold = Hold::new(settings.name.clone(), means.retry.max);
        let recovery = Recovery::new(settings.name.clone());
        let slots = Semaphore::new(settings.max_concurrent);
        let route = Route {
            number: number(settings.name.as_str()),
            settings,
            identity,
            means,
            hold,
            recovery,
            set_back: SetBack::default(),
            folders,
            slots,
            unsent: Mutex::default(),
            apart: Mutex::default(),
            immovable: Mutex::default(),
            tempo: resumable::Tempo::default(),
            stopping: CancellationToken::new(),
            wake: Arc::new(Notify::new()),
            room: Notify::new(),
        };
        Self { route: Arc::new(route) }
    }

    /// Sends what is dropped, until `stop`.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Trouble> {
        let (route, folders) = (Arc::clone(&self.route), Arc::clone(&self.route.folders));
        folders.serve(stop.clone(), Box::pin(Self::serve(route, stop))).await
    }

    async fn serve(route: Arc<Route>, stop: CancellationToken) -> Result<(), Trouble> {
        claims::recover(&route).await?;
        let intake = async {
            tokio::select! {
                () = stop.cancelled() => {}
                () = route.recovery.first_done() => {}
            }
            intake::run(Arc::clone(&route), stop.clone()).await
        };
        let wake = Arc::clone(&route.wake);
        let retention = retention::run(Arc::clone(&route), stop.clone());
        let receipts = {
            let (route, stop) = (Arc::clone(&route), stop.clone());
            async move {
                tokio::select! {
                    () = stop.cancelled() => Ok(()),
                    recovered = receipts::recover(route) => recovered,
                }
            }
        };
        let stopping = route.stopping.clone();
        let work = work_off(Arc::new(driver::Driver(Arc::clone(&route))), wake, stop.clone());
        let stopped = async {
            stop.cancelled().await;
            stopping.cancel();
            Ok(())
        };
        tokio::try_join!(intake, retention, receipts, work, stopped).map(|((), (), (), (), ())| ())
    }
}

/// A number that stands for a name, the same for ever.
fn number(name: &str) -> u64 {
    let mut digests = files::Digests::default();
    digests.update(name.as_bytes());
    let (_, sha256) = digests.finish();
    sha256.as_bytes().iter().take(8).fold(0, |number, byte| (number << 8) | u64::from(*byte))
}

impl Route {
    /// Stores what an event makes of the transfer.
    async fn happened(&self, transfer: &mut Transfer, event: OutgoingEvent) -> Result<(), Trouble> {
        self.all_happened(transfer, [event]).await
    }

    /// Stores what several events make of the transfer, between which nothing outside was touched.
    async fn all_happened(
        &self,
        transfer: &mut Transfer,
        events: impl IntoIterator<Item = OutgoingEvent>,
    ) -> Result<(), Trouble> {
        let stored = self.means.store_events(transfer, events, Transfer::after_outgoing).await;
        self.note(transfer);
        stored
    }

    /// Keeps count of claimed transfers that have not been sent.
    fn note(&self, transfer: &Transfer) {
        let Work::Outgoing { progress, .. } = &transfer.work else { return };
        let is_unsent = *progress == Outgoing::Claiming || progress.is_unsent();
        self.apart.lock().unwrap_or_else(PoisonError::into_inner).remove(&transfer.id);
        let mut unsent = self.unsent.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = if is_unsent { unsent.insert(transfer.id) } else { unsent.remove(&transfer.id) };
        drop(unsent);
        if changed && !is_unsent {
            self.room.notify_one();
        }
    }

    /// A file that waits for people, such as one to an organisation that is not let in, does not keep others
    /// from being claimed; but not too many of them, for they are better left in the drop folder.
    fn set_apart(&self, id: TransferId) {
        let mut apart = self.apart.lock().unwrap_or_else(PoisonError::into_inner);
        if apart.len() < MAX_APART && self.unsent.lock().unwrap_or_else(PoisonError::into_inner).remove(&id) {
            apart.insert(id);
            self.room.notify_one();
        }
    }

    /// A claimed file could not be moved: it waits, and where its folder is the reason, so do all in it. So do they
    /// where there are more such files than are remembered, or they would be claimed and given back without end.
    fn cannot_move(&self, transfer: &Transfer, is_folder: bool) {
        let Work::Outgoing { claim, .. } = &transfer.work else { return };
        let source = Source::of(claim);
        let mut immovable = self.immovable.lock().unwrap_or_else(PoisonError::into_inner);
        let is_folder = is_folder || source != Source::Drop || immovable.len() >= MAX_APART;
        let what = if is_folder {
            Immovable::AllIn(source)
        } else {
            Immovable::File(Candidate { source, name: claim.name.clone().into() })
        };
        immovable.insert(what, Instant::now());
    }

    /// Whether a file was found to be immovable not long ago.
    fn is_immovable(&self, candidate: &Candidate) -> bool {
        let mut immovable = self.immovable.lock().unwrap_or_else(PoisonError::into_inner);
        immovable.retain(|_, since| since.elapsed() < TRY_TO_MOVE_EVERY);
        immovable.contains_key(&Immovable::AllIn(candidate.source.clone()))
            || immovable.contains_key(&Immovable::File(candidate.clone()))
    }

    /// A claim that was not made after all.
    fn forget(&self, id: TransferId) {
        self.unsent.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    /// How many more files may be claimed now.
    fn room_for_claims(&self) -> usize {
        let unsent = self.unsent.lock().unwrap_or_else(PoisonError::into_inner).len();
        if self.set_back.is_held() {
            return usize::from(unsent == 0);
        }
        // While the route is held, one file looks whether the trouble has passed, and another, since it may be the
        // first one's alone; the others stay where they are.
        if self.hold.is_held() {
            return 2_usize.saturating_sub(unsent);
        }
        // Twice as many as are sent at once, so that the next are hashed while these are on their way.
        self.settings.max_concurrent.saturating_mul(2).saturating_sub(unsent)
    }

    /// Runs file work of this route off the async threads.
    async fn on_files<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Folders) -> Result<T, files::Error> + Send + 'static,
    ) -> Result<T, Trouble> {
        self.means.on_files(&self.folders, work).await
    }
}
