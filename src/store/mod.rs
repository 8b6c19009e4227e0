//! Durable records of transfers: an embedded database for what is active, a monthly journal for what is over.
//!
//! The room's promise is small. When a change has been answered with `Ok`, it survives `kill -9` and a loss of
//! power; a change is made with all the keys that point to the record, or not at all; and nobody reads a change
//! before it is sure to last. All writes go through one thread ([`owner`]), which makes many of them durable at
//! once. A change names the record it was made from, so that two writers cannot overwrite one another.
//!
//! After a failed write nothing is known of what the disk has, while memory may be ahead of it. The store then
//! refuses everything with [`Error::Broken`], and the process is to restart: what was not acknowledged is done
//! again from what the disk has.
//!
//! In the state directory stand `sled/` (the database), `journal/` (what is finished), `lock`, `changes` (how many
//! commits there were, which tells a log that was cut short), `ballast` (which is given
//! up when the disk is full), `format` (which tells an emptied store from a new one), `suspect` (where damage was met),
//! `export/`, and `damaged-<time>/` where a repair was needed. The room
//! never deletes or changes a record it cannot read, except for what is torn of a transfer that is forgotten, and
//! never judges by itself that the clock can be trusted.
//!
//! Debug builds have a database in memory besides ([`Memory`]), for simulations.
//!
//! Read [`stage`] for what is checked and written, [`keys`] for how it is laid out.

mod ballast;
mod core;
mod disk;
mod engine;
mod error;
mod export;
mod ids;
mod import;
mod journal;
mod keys;
mod known_folders;
mod load;
#[cfg(debug_assertions)]
mod memory;
mod owner;
mod record;
mod repair;
mod set_back;
mod stage;
mod tombstone;
mod verify;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::{Notify, mpsc, oneshot};

use crate::seams::{Clock, Random, another_thread, blocking};
use crate::transfer::{IdSuffix, InstallationMark, RouteName, Transfer, TransferId};

use self::core::Core;
use self::disk::Lock;
use self::engine::Engine;
use self::ids::IdSource;
use self::journal::Journal;
use self::load::{Loaded, Ready};
use self::owner::{Job, Owner, QUEUE};
use self::record::{Finished, Line};
use self::set_back::Unchecked;
use self::stage::Task;

pub use self::ballast::Ballast;
pub use self::error::Error;
pub use self::export::{Exported, exports_with, newest_export, remedy_in};
pub use self::import::{ImportError, Imported, import};
pub use self::keys::BrokerKey;
pub use self::known_folders::KnownFolders;
#[cfg(debug_assertions)]
pub use self::memory::Memory;
pub use self::record::{DecodeError, Step};
pub use self::set_back::{SetBackNote, SetBackNotes, Unremembered};
pub use self::tombstone::Tombstone;
pub use self::verify::{Finding, Verified};

/// A handle to the store; clones are the same store.
///
/// A method that changes something answers when the change is durable. Its future may be dropped: the change is
/// then made or not made, but never half made. When the last handle is dropped, what was asked for is still
/// done before the drop returns.
#[derive(Debug, Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

/// An opened store, and what there is to say about its opening.
#[derive(Debug)]
pub struct Opened {
    /// The store.
    pub store: Store,
    /// Records that cannot be read, as far as they were looked at: where there are many, [`Store::read_through`] finds
    /// the others. They stay where they are, and hold what they hold.
    pub unreadable: Vec<Unreadable>,
    /// Where the database is that was damaged, and was replaced by what could be made of it.
    pub repaired: Option<PathBuf>,
}

/// A record that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// Its key.
    pub key: String,
    /// Why, for people.
    pub reason: String,
}

/// A transfer that was forgotten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Erased {
    /// What is kept.
    pub tombstone: Tombstone,
    /// What is not kept any more; `None` where it had been forgotten before.
    pub before: Option<Transfer>,
}

#[derive(Debug)]
struct Shared {
    core: Arc<Core>,
    clock: Arc<dyn Clock>,
    ids: IdSource,
    mark: InstallationMark,
    /// What was not held against Altinn before it was opened.
    unchecked: Unchecked,
    known_folders: KnownFolders,
    /// Whether the disk has room for new work, and somebody has found that it has not.
    has_room: AtomicBool,
    lacks_room: Notify,
    /// What new work must leave free; unset where the state lies on no disk.
    floor: OnceLock<Ballast>,
    /// `None` only while being dropped.
    jobs: Option<Jobs>,
    /// `None` once somebody waits for its end, and where nothing runs by itself.
    owner: Mutex<Option<Thread>>,
}

/// The thread of the owner.
type Thread = JoinHandle<Result<(), Error>>;

/// Who does what is asked for.
#[derive(Debug)]
enum Jobs {
    /// The owner, on its thread.
    Queue(mpsc::Sender<Job>),
    /// Whoever asks, since nothing runs beside anything else in a simulation.
    #[cfg(debug_assertions)]
    InPlace(Owner),
}

impl Store {
    /// Opens the store in the state directory `path`, which is created where there is none. Blocking.
    ///
    /// The directory is locked before anything in it is touched: a second process gets [`Error::InUse`].
    pub fn open(path: &Path, clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Result<Opened, Error> {
        disk::create_dir(path)?;
        let lock = Lock::take(path)?;
        import::finish(path)?;
        let journal = Journal::open(&path.join("journal"))?;
        let Ready { engine, loaded, repaired } = load::open(path, clock.now())?;
        let known_folders = KnownFolders::open(path)?;
        Self::start(Box::new(engine), journal, Some(lock), loaded, known_folders, clock, random)
            .map(|(store, unreadable)| Opened { store, unreadable, repaired })
    }

    fn start(
        engine: Box<dyn Engine>,
        journal: Journal,
        lock: Option<Lock>,
        loaded: Loaded,
        known_folders: KnownFolders,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<(Self, Vec<Unreadable>), Error> {
        let mark = load::installation(&*engine, &*random)?;
        let unchecked = set_back::unchecked(&*engine, loaded.changed)?;
        let core = Arc::new(Core {
            engine,
            journal,
            counts: Mutex::new(loaded.counts),
            unreadable: Mutex::new(loaded.unreadable_ids),
            is_read_through: AtomicBool::new(loaded.is_read_through),
            gate: RwLock::new(()),
            in_flight: Mutex::default(),
            broken: AtomicBool::new(false),
            lock,
        });
        let owner = Owner { core: Arc::clone(&core), clock: Arc::clone(&clock) };
        let (jobs, owner) = Jobs::start(owner)?;
        let ids = IdSource::new(Arc::clone(&clock), random, mark, loaded.last);
        let owner = Mutex::new(owner);
        let shared = Shared {
            core,
            clock,
            ids,
            mark,
            unchecked,
            known_folders,
            has_room: AtomicBool::new(true),
            lacks_room: Notify::new(),
            floor: OnceLock::new(),
            jobs: Some(jobs),
            owner,
        };
        Ok((Self { shared: Arc::new(shared) }, loaded.unreadable))
    }

    /// Opens a store whose database is `memory`, with all else in the state directory `path`.
    #[cfg(debug_assertions)]
    pub fn open_in_memory(
        path: &Path,
        memory: &Memory,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Self, Error> {
        disk::create_dir(path)?;
        let journal = Journal::open(&path.join("journal"))?;
        let loaded = load::load(memory, false)?;
        let known_folders = KnownFolders::open(path)?;
        let engine = Box::new(memory.clone());
        Self::start(engine, journal, None, loaded, known_folders, clock, random).map(|(store, _)| store)
    }

    /// An id for a new transfer, above every id given before and every id ever stored here, also where the
    /// clock has gone back.
    #[must_use]
    pub fn new_id(&self) -> TransferId {
        self.shared.ids.next()
    }

    /// Whether an id was made here, in this store.
    #[must_use]
    pub fn has_made(&self, id: TransferId) -> bool {
        id.is_marked(self.shared.mark)
    }

    /// From when on Altinn may have had something of a route's that the store does not know, for it may have been set
    /// back: when it had last been changed before it was opened, or before an earlier opening after which
    /// [`Store::checked`] was not told; `None` where it was new.
    #[must_use]
    pub fn unchecked_since(&self, route: &RouteName) -> Option<Timestamp> {
        self.shared.unchecked.of(route)
    }

    /// Remembers, durably, that a route was held against what Altinn has: after the next opening, only what comes from
    /// now on need be.
    pub async fn checked(&self, route: &RouteName) -> Result<(), Error> {
        self.ask(Task::Checked(route.clone())).await
    }

    /// What is noted of a state that was set back in time.
    #[must_use]
    pub fn set_back_notes(&self) -> SetBackNotes {
        self.shared.known_folders.set_back_notes()
    }

    /// Says whether the disk has room for what new work would have to be remembered.
    pub fn set_has_room(&self, has_room: bool) {
        self.shared.has_room.store(has_room, Ordering::SeqCst);
    }

    /// Holds [`Store::finds_room`] to what is to be left free beside this ballast.
    pub fn keep_floor(&self, ballast: Ballast) {
        // It does not change while the state is open.
        let _kept = self.shared.floor.set(ballast);
    }

    /// Whether there is room now: for whoever is about to begin something new, since a disk fills up faster than it is
    /// looked at. Where there is none, nobody else finds any until [`Store::set_has_room`] says that there is. A disk
    /// that cannot be looked at counts as it was.
    pub async fn finds_room(&self) -> bool {
        if !self.shared.has_room.load(Ordering::SeqCst) {
            return false;
        }
        let Some(ballast) = self.shared.floor.get().cloned() else { return true };
        let finds = blocking(move || ballast.leaves_enough()).await.unwrap_or(true);
        if !finds {
            self.set_has_room(false);
            self.shared.lacks_room.notify_one();
        }
        finds
    }

    /// Waits until [`Store::finds_room`] has found none, unless it has since this was last called.
    pub async fn lacks_room(&self) {
        self.shared.lacks_room.notified().await;
    }

    /// Which folders the routes have used.
    #[must_use]
    pub fn known_folders(&self) -> &KnownFolders {
        &self.shared.known_folders
    }

    /// Stores a new transfer. Refused where its id is known ([`Error::Exists`]), or where another transfer
    /// holds its file or its transfer at Altinn.
    pub async fn insert(&self, transfer: Transfer) -> Result<(), Error> {
        self.ask(Task::Insert(Box::new(transfer))).await
    }

    /// Puts `after` in the place of `before`, which must still be what is stored ([`Error::Stale`]). Refused
    /// where another transfer holds what `after` would hold.
    pub async fn update(&self, before: &Transfer, after: Transfer) -> Result<(), Error> {
        self.ask(Task::Update { before: Box::new(before.clone()), after: Box::new(after) }).await
    }

    /// Moves a transfer to the journal, as `after`, and lets go of all it holds. `before` must still be what is
    /// stored, and `after` must be over or only be remembered ([`Error::Unfinished`]).
    pub async fn finish(&self, before: &Transfer, after: Transfer) -> Result<(), Error> {
        self.ask(Task::Finish { before: Box::new(before.clone()), after: Box::new(after) }).await
    }

    /// The active transfer of this id.
    pub async fn get(&self, id: TransferId) -> Result<Option<Transfer>, Error> {
        self.read(move |core| core.get(id)).await
    }

    /// The transfers of a route that are due at `until` or before, with the time each was due; the earliest
    /// come first. Those whose records cannot be read are left out.
    pub async fn due(
        &self,
        route: &RouteName,
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<(Timestamp, TransferId)>, Error> {
        let route = route.clone();
        self.read(move |core| core.settled(|| core.due(&route, Some(until), limit))).await
    }

    /// When the first transfer of a route is due.
    pub async fn next_due(&self, route: &RouteName) -> Result<Option<Timestamp>, Error> {
        let route = route.clone();
        let first = self.read(move |core| core.settled(|| core.due(&route, None, 1))).await?;
        Ok(first.first().map(|(time, _)| *time))
    }

    /// The active transfer that holds this transfer at Altinn, be it the present one or one it has given up on.
    pub async fn by_broker_id(&self, key: &BrokerKey) -> Result<Option<TransferId>, Error> {
        let key = *key;
        self.read(move |core| core.settled(|| core.by_broker_id(key))).await
    }

    /// The active transfer whose file this is; see [`Transfer::file_identity`]. The caller compares size and
    /// time of change, for an inode may be used again.
    pub async fn by_file(&self, device: u64, inode: u64) -> Result<Option<Transfer>, Error> {
        self.read(move |core| core.settled(|| core.by_file(device, inode))).await
    }

    /// At most `limit` active transfers, of one route or of all, whose ids come after `after`, in the order of
    /// their ids. Those that cannot be read are left out.
    pub async fn page(
        &self,
        route: Option<&RouteName>,
        after: Option<TransferId>,
        limit: usize,
    ) -> Result<Vec<Transfer>, Error> {
        let route = route.cloned();
        self.read(move |core| core.settled(|| core.page(route.as_ref(), after, limit))).await
    }

    /// The active transfer of this id, for those who may block.
    pub fn look(&self, id: TransferId) -> Result<Option<Transfer>, Error> {
        self.shared.core.get(id)
    }

    /// At most `limit` active transfers of a route that are at work ([`Transfer::is_at_work`]), whose ids come after
    /// `after`, in the order of their ids. Those that cannot be read are left out.
    pub async fn page_at_work(
        &self,
        route: &RouteName,
        after: Option<TransferId>,
        limit: usize,
    ) -> Result<Vec<Transfer>, Error> {
        let route = route.clone();
        self.read(move |core| core.settled(|| core.page_at_work(&route, after, limit))).await
    }

    /// Shows every active transfer of a route that can be read. Blocks.
    pub fn for_each_of(&self, route: &RouteName, show: &mut dyn FnMut(&Transfer)) -> Result<(), Error> {
        let core = &self.shared.core;
        let mut after = None;
        loop {
            let page = core.settled(|| core.page(Some(route), after, core::PAGE))?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.id);
            page.iter().for_each(&mut *show);
        }
    }

    /// How many active transfers each route has, those that cannot be read among them. Costs nothing.
    #[must_use]
    pub fn counts(&self) -> Vec<(RouteName, usize)> {
        let counts = self.shared.core.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().map(|(route, count)| (route.clone(), *count)).collect()
    }

    /// How many active transfers a route has, those that cannot be read among them. Costs nothing.
    #[expect(clippy::unused_async, reason = "a store shared by several machines will have to ask")]
    pub async fn count(&self, route: &RouteName) -> Result<usize, Error> {
        self.shared.core.check()?;
        let counts = self.shared.core.counts.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(counts.get(route).copied().unwrap_or(0))
    }

    /// When a transfer, active or finished, reached which phase; the last 64.
    pub async fn steps(&self, id: TransferId) -> Result<Vec<Step>, Error> {
        let steps = self
            .read(move |core| {
                core.settled(|| {
                    let prefix = keys::step_prefix(id);
                    let pairs =
                        core.engine.scan(&prefix, None, usize::try_from(record::MAX_STEPS).unwrap_or(64))?;
                    Ok(pairs.iter().filter_map(|(_, bytes)| record::decode_step(bytes)).collect::<Vec<_>>())
                })
            })
            .await?;
        if steps.is_empty() {
            return Ok(self.journal_line(id).await?.map_or_else(Vec::new, |finished| finished.steps));
        }
        Ok(steps)
    }

    /// The finished transfer of this id. Reads through the journal, so it is for people who ask.
    pub async fn journal_find(&self, id: TransferId) -> Result<Option<Transfer>, Error> {
        Ok(self.journal_line(id).await?.map(|finished| finished.transfer))
    }

    async fn journal_line(&self, id: TransferId) -> Result<Option<Finished>, Error> {
        let line = self.read(move |core| core.journal.find(id, created(id))).await?;
        Ok(match line {
            Some(Line::Finished(finished)) => Some(*finished),
            Some(Line::Forgotten(_)) | None => None,
        })
    }

    /// At most `limit` transfers whose ids end so, active and finished and forgotten. Reads through everything,
    /// so it is for people who ask.
    pub async fn matching(&self, suffix: &IdSuffix, limit: usize) -> Result<Vec<TransferId>, Error> {
        let suffix = suffix.clone();
        self.read(move |core| {
            let mut ids = core.journal.ids(&suffix, limit)?;
            let mut after = None;
            loop {
                let page = core.settled(|| core.page(None, after, core::PAGE))?;
                let Some(last) = page.last() else { break };
                after = Some(last.id);
                ids.extend(page.iter().map(|transfer| transfer.id).filter(|id| suffix.fits(*id)));
            }
            Ok(ids.into_iter().take(limit).collect())
        })
        .await
    }

    /// Erases, durably, what is known of a finished transfer, but for a [`Tombstone`]; `None` where nothing is
    /// known of it. Refused while it is active ([`Error::UnderWay`]). Where it was stopped half-way it can be
    /// asked for again.
    ///
    /// Copies that were made before, and room that was freed and not used again, are not reached.
    pub async fn forget(&self, id: TransferId) -> Result<Option<Erased>, Error> {
        self.ask(Task::Forget(id)).await?;
        let now = self.shared.clock.now();
        let erased = self.read(move |core| core.journal.forget(id, now)).await?;
        Ok(erased.map(|(tombstone, before)| Erased { tombstone, before }))
    }

    /// Deletes the journal's months that ended `keep` ago or earlier, and tells how many. Blocking. Whether the
    /// clock can be trusted with this is the caller's to decide.
    pub fn prune_journal(&self, keep: Duration) -> Result<usize, Error> {
        let keep = SignedDuration::try_from(keep).unwrap_or(SignedDuration::MAX);
        match self.shared.clock.now().checked_sub(keep) {
            Ok(before) => self.shared.core.journal.prune(before),
            // Longer than time goes back.
            Err(_) => Ok(0),
        }
    }

    /// Answers when the thread that owns all writes has come by: for a watchdog.
    pub async fn probe(&self) -> Result<(), Error> {
        self.ask(Task::Probe).await
    }

    /// Does what was asked for so far, and then takes no more: clones get [`Error::Closed`] from every change.
    /// The directory is let go of when the last clone is dropped.
    pub async fn close(self) -> Result<(), Error> {
        match self.ask(Task::Close).await {
            Ok(()) | Err(Error::Closed) => {}
            Err(error) => return Err(error),
        }
        let owner = self.shared.owner.lock().unwrap_or_else(PoisonError::into_inner).take();
        match owner {
            Some(owner) => blocking(move || join(owner)).await,
            None => Ok(()),
        }
    }

    async fn ask(&self, task: Task) -> Result<(), Error> {
        let (done, answer) = oneshot::channel();
        let jobs = match self.shared.jobs.as_ref().ok_or(Error::Closed)? {
            Jobs::Queue(jobs) => jobs,
            #[cfg(debug_assertions)]
            Jobs::InPlace(owner) => return owner.outcomes(&[task]).pop().unwrap_or(Err(Error::Closed)),
        };
        jobs.send(Job { task, done }).await.map_err(|_| self.gone())?;
        another_thread(answer).await.unwrap_or_else(|_| Err(self.gone()))
    }

    /// Why the owner is gone.
    fn gone(&self) -> Error {
        self.shared.core.check().err().unwrap_or(Error::Closed)
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Core) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let core = Arc::clone(&self.shared.core);
        blocking(move || read(&core)).await
    }
}

impl Jobs {
    /// Starts the owner's thread, but in a simulation.
    fn start(owner: Owner) -> Result<(Self, Option<Thread>), Error> {
        #[cfg(debug_assertions)]
        if crate::seams::is_simulated() {
            return Ok((Self::InPlace(owner), None));
        }
        let (jobs, queue) = mpsc::channel(QUEUE);
        let owner = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || owner.run(queue))
            .map_err(|source| Error::io("start the thread of", "the store", source))?;
        Ok((Self::Queue(jobs), Some(owner)))
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        drop(self.jobs.take());
        let owner = self.owner.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(owner) = owner
            && let Err(error) = join(owner)
        {
            tracing::error!(error = &error as &dyn std::error::Error, "the store did not end well");
        }
    }
}

fn join(owner: Thread) -> Result<(), Error> {
    // A panic of the owner is a bug; what it had not acknowledged is done again after a restart.
    owner.join().unwrap_or(Err(Error::Broken))
}

/// The time in an id, which is not before the transfer's first moment unless the clock went back.
fn created(id: TransferId) -> Timestamp {
    // The first 48 of 128 bits are milliseconds (RFC 9562, section 5.7).
    let unix_ms = u128::from_be_bytes(*id.as_bytes()) >> 80;
    let unix_ms = i64::try_from(unix_ms).unwrap_or(i64::MAX);
    Timestamp::from_millisecond(unix_ms).unwrap_or(Timestamp::UNIX_EPOCH)
}
