//! One life of a simulated service: from what a death has left to the end of all work, on one thread, by a clock that
//! jumps to the next thing to happen.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use formidlingd::config::{self, Config};
use formidlingd::daemon::{Service, Shutdown, Simulated, Surroundings};
use formidlingd::http::{Clients, Settings};
use formidlingd::seams::{self, SeededRandom, Simulation};
use formidlingd::store::Memory;
use formidlingd::transfer::{Outgoing, Work};
use jiff::Timestamp;
use serde_json::json;

use super::call::Call;
use super::chance::{Chance, Fault};
use super::checks;
use super::disk::{Death, Disk, Place, without_times};
use super::network::Network;
use super::server::{self, Server};
pub(crate) use super::way::Way;

pub(crate) const SENDER: &str = "0192:991825827";
pub(crate) const RECIPIENT: &str = "0192:986252932";
pub(crate) const RESOURCE: &str = "simulated";
/// Bytes of a chunk of a resumable upload: the least that the settings take.
pub(crate) const CHUNK: usize = 1024;
/// The name of the file.
pub(crate) const NAME: &str = "brev.bin";
/// A service that starts anew after a death does so after this.
const RESTART: Duration = Duration::from_secs(1);
/// When a run begins, and one that has become quiet is looked at once more after this.
const QUIET: Duration = Duration::from_secs(12);

/// Everything at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    pub(crate) disk: Disk,
    pub(crate) memory: Memory,
    pub(crate) server: Server,
    pub(crate) now: Timestamp,
    /// What the file is to be. A file that was dropped and not yet taken may be torn by a loss of power, and is what
    /// it is then.
    pub(crate) expected: Rc<Vec<u8>>,
    /// The sidecar that was dropped with it.
    sidecar: Option<u64>,
    /// The deaths that led here.
    pub(crate) path: Vec<String>,
}

/// A moment that was seen, with what Altinn may have made of it.
#[derive(Debug, Clone)]
pub(crate) struct Photo {
    /// Where, and how often that was passed before.
    pub(crate) point: String,
    pub(crate) image: Image,
}

/// What came of a run.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) photos: Vec<Photo>,
    pub(crate) violations: Vec<String>,
    /// The moment of death, where chance has brought one, or of an end in order.
    pub(crate) death: Option<Photo>,
    pub(crate) has_ended: bool,
    pub(crate) points: BTreeMap<String, u32>,
    /// How long it took by the simulated clock.
    pub(crate) took: Duration,
    /// What is left of chance.
    pub(crate) chance: Option<Chance>,
}

/// The clock of a run.
#[derive(Debug)]
pub(crate) struct Clock {
    pub(crate) base: Timestamp,
    pub(crate) start: tokio::time::Instant,
}

impl seams::Clock for Clock {
    fn now(&self) -> Timestamp {
        self.base + self.start.elapsed()
    }
}

/// Where runs take place, one after another.
pub(crate) struct World {
    pub(crate) way: Way,
    place: Rc<RefCell<Place>>,
    config: Config,
    clients: Clients,
    _folder: tempfile::TempDir,
}

/// A key that everybody signs with, who looks at no signature.
static KEY: LazyLock<String> = LazyLock::new(|| {
    let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
    pem::encode(&pem::Pem::new("PRIVATE KEY", pair.as_der().unwrap().as_ref()))
});

/// The clients are costly to make, and the same for all.
static CLIENTS: LazyLock<Clients> = LazyLock::new(|| Clients::new(&Settings::default()).unwrap());

/// In memory, where that can be had: what survives a loss of power is not this disk's to say.
fn folder() -> tempfile::TempDir {
    let mut builder = tempfile::Builder::new();
    builder.prefix("fd-sim-");
    builder.tempdir_in("/dev/shm").or_else(|_| builder.tempdir()).unwrap()
}

#[expect(clippy::too_many_lines, reason = "it is one document")]
fn configuration(way: Way, folder: &Path) -> Config {
    let (tree, key) = (folder.join("disk"), folder.join("key.pem"));
    std::fs::write(&key, &*KEY).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let mut text = format!(
        r#"
[altinn]
environment = "sandbox"
platform_url = "http://127.0.0.1:9/"
maskinporten_token_url = "http://127.0.0.1:9/token"
maskinporten_audience = "http://127.0.0.1:9/"
[state]
path = "{tree}/state"
[client.default]
client_id = "one"
key_id = "one"
private_key = {{ file = "{key}" }}
searches_per_minute = 600
details_per_minute = 600
calls_per_minute = 6000
"#,
        tree = tree.display(),
        key = key.display()
    );
    if way.sends() {
        write!(
            text,
            r#"
[identity.sender]
organization = "{SENDER}"
[outbox.out]
identity = "sender"
path = "{tree}/out"
resource_id = "{RESOURCE}"
recipients = ["{RECIPIENT}"]
watch = "poll"
poll_interval = "10s"
"#,
            tree = tree.display()
        )
        .unwrap();
        if let Some((upload, parts)) = way.upload() {
            let chunks = format!("chunk_size = \"{CHUNK}B\"\nparallel_parts = {parts}");
            write!(text, "upload = \"{upload}\"\n{chunks}\n").unwrap();
        }
    }
    if way.receives() {
        write!(
            text,
            r#"
[identity.recipient]
organization = "{RECIPIENT}"
[inbox.in]
identity = "recipient"
path = "{tree}/in"
resource_id = "{RESOURCE}"
poll_interval = "10s"
"#,
            tree = tree.display()
        )
        .unwrap();
    }
    let path = folder.join("configuration.toml");
    std::fs::write(&path, text).unwrap();
    config::load(&path).unwrap_or_else(|problems| panic!("{problems:?}")).config
}

impl World {
    pub(crate) fn new(way: Way) -> Self {
        if std::env::var_os("FORMIDLINGD_SIMULATION_LOG").is_some() {
            // Refused where another test of this process has it already.
            tracing_subscriber::fmt().with_writer(std::io::stderr).try_init().unwrap_or_default();
        }
        let folder = folder();
        Self {
            way,
            place: Rc::new(RefCell::new(Place::new(folder.path()))),
            config: configuration(way, folder.path()),
            clients: CLIENTS.clone(),
            _folder: folder,
        }
    }

    /// How all begins: a file of this content has been dropped, or waits at Altinn.
    pub(crate) fn beginning(&self, content: &[u8], sidecar: bool) -> Image {
        let now: Timestamp = "2026-08-18T11:40:00Z".parse().unwrap();
        let mut disk = Disk::new();
        let mut server = Server { confirms: !self.way.receives(), ..Server::default() };
        let mut sidecar_node = None;
        if self.way.sends() {
            disk.folder("out");
            disk.put(&self.place.borrow(), &format!("out/{NAME}"), content);
            if sidecar {
                let document = json!({ "propertyList": { "a": "b" } }).to_string();
                let path = format!("out/{NAME}.meta.json");
                sidecar_node = Some(disk.put(&self.place.borrow(), &path, document.as_bytes()));
            }
        }
        if self.way.receives() {
            disk.folder("in");
        }
        if self.way == Way::In {
            let request = json!({
                "fileName": NAME, "resourceId": RESOURCE, "sendersFileTransferReference": "theirs",
                "sender": SENDER, "recipients": [RECIPIENT], "propertyList": {},
            });
            server::published(&mut server, &request, content, now);
        }
        let expected = Rc::new(content.to_vec());
        let (memory, now, sidecar) = (Memory::default(), now + RESTART, sidecar_node);
        Image { disk, memory, server, now, expected, sidecar, path: Vec::new() }
    }

    /// Forgets the files of trees that are not looked at any more.
    pub(crate) fn forget_all_but<'a>(&self, images: impl IntoIterator<Item = &'a Image>) {
        let keep = images.into_iter().flat_map(|image| image.disk.nodes()).collect();
        self.place.borrow().forget(&keep);
    }

    /// Lets the service live from there until all is done.
    pub(crate) fn run(&self, image: &Image, photographs: bool, chance: Option<Chance>) -> Outcome {
        let mut image = image.clone();
        image.disk.lay_out(&mut self.place.borrow_mut());
        image.memory = image.memory.replaced(&changed(SAME), &changed(image.claimed_changed()));
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let outcome = runtime.block_on(self.live(image, photographs, chance));
        drop(runtime);
        CURRENT.set(None);
        outcome
    }

    #[expect(clippy::too_many_lines, reason = "it is a life, from beginning to end")]
    async fn live(&self, image: Image, photographs: bool, chance: Option<Chance>) -> Outcome {
        let clock = Arc::new(Clock { base: image.now, start: tokio::time::Instant::now() });
        let server = Arc::new(Mutex::new(image.server.clone()));
        let network = Network { server: Arc::clone(&server), clock: Arc::clone(&clock) };
        let memory = image.memory.clone();
        let life = Rc::new(Life {
            way: self.way,
            server,
            clock: Arc::clone(&clock),
            tree: self.place.borrow().tree.clone(),
            state: RefCell::new(State {
                place: Rc::clone(&self.place),
                image,
                dirty: true,
                photographs,
                chance,
                seen: None,
                outcome: Outcome::default(),
            }),
        });
        CURRENT.set(Some(Rc::clone(&life)));
        let _simulated = seams::simulate(Rc::clone(&life) as Rc<dyn Simulation>);
        let surroundings = Surroundings {
            clock: Arc::clone(&clock) as _,
            random: Arc::new(SeededRandom::new(7)),
            simulated: Some(Simulated {
                clients: self.clients.on(Arc::new(network)),
                memory: memory.clone(),
            }),
        };
        let shutdown = Shutdown::new();
        let service = match Service::assemble(self.config.clone(), &surroundings) {
            Ok(service) => service,
            Err(error) => {
                let error = format!("the service does not start: {error:?}");
                life.state.borrow_mut().outcome.violations.push(error);
                return life.outcome();
            }
        };
        let mut service = Box::pin(service.run(shutdown.clone()));
        let bound = checks::bound(self.way, life.state.borrow().chance.is_some());
        let start = clock.start;
        let over = async {
            let mut quiet_since = None;
            while start.elapsed() < bound && !life.has_died() {
                tokio::time::sleep(Duration::from_secs(2)).await;
                let now = tokio::time::Instant::now();
                quiet_since = if life.is_quiet() { quiet_since.or(Some(now)) } else { None };
                if quiet_since.is_some_and(|since| now.duration_since(since) >= QUIET) {
                    return true;
                }
            }
            false
        };
        let is_over = tokio::select! {
            over = over => Some(over),
            ended = &mut service => {
                // It ends in order where the disk fails under its state, and is started anew.
                if ended.is_err() && life.has_failed_disk() {
                    life.ended();
                }
                None
            }
        };
        life.state.borrow_mut().outcome.took = start.elapsed();
        if life.has_died() {
            return life.outcome();
        }
        match is_over {
            Some(true) => {
                shutdown.ask();
                if let Err(error) = service.await {
                    life.violation(format!("the service does not end well: {error:?}"));
                }
                life.scan();
                checks::at_the_end(&life);
            }
            Some(false) => life.violation(format!("not done within {bound:?}: {}", life.describe())),
            None => life.violation("the service ended by itself".to_owned()),
        }
        life.outcome()
    }
}

thread_local! {
    static CURRENT: RefCell<Option<Rc<Life>>> = const { RefCell::new(None) };
}

/// The life that goes on on this thread, if one does.
pub(crate) fn life() -> Option<Rc<Life>> {
    CURRENT.with_borrow(Clone::clone)
}

/// A run under way.
pub(crate) struct Life {
    pub(crate) way: Way,
    pub(crate) server: Arc<Mutex<Server>>,
    pub(crate) clock: Arc<Clock>,
    tree: PathBuf,
    pub(crate) state: RefCell<State>,
}

/// The revisions of disk and Altinn, and what the store has.
type Seen = (u64, u64, Vec<(Vec<u8>, Vec<u8>)>);

pub(crate) struct State {
    place: Rc<RefCell<Place>>,
    pub(crate) image: Image,
    /// Something may have changed on the disk since it was looked at.
    dirty: bool,
    photographs: bool,
    chance: Option<Chance>,
    /// What was photographed last.
    seen: Option<Seen>,
    outcome: Outcome,
}

impl Life {
    pub(crate) fn violation(&self, what: String) {
        self.state.borrow_mut().outcome.violations.push(what);
    }

    fn outcome(&self) -> Outcome {
        let mut state = self.state.borrow_mut();
        let chance = state.chance.take();
        Outcome { chance, ..std::mem::take(&mut state.outcome) }
    }

    pub(crate) fn is_by_chance(&self) -> bool {
        self.state.borrow().chance.is_some()
    }

    /// How often something went wrong that may have cost a chunk.
    pub(crate) fn breaks(&self) -> u32 {
        let state = self.state.borrow();
        let faults = state.chance.as_ref().map_or(0, Chance::faults);
        faults + u32::try_from(state.image.path.len()).unwrap()
    }

    pub(crate) fn has_died(&self) -> bool {
        self.state.borrow().outcome.death.is_some()
    }

    /// Looks at the disk.
    pub(crate) fn scan(&self) {
        let mut state = self.state.borrow_mut();
        if std::mem::take(&mut state.dirty) {
            let links = state.photographs || state.chance.is_some();
            let State { place, image, .. } = &mut *state;
            image.disk.scan(&mut place.borrow_mut(), links);
        }
    }

    /// A death could fall here.
    fn moment(&self, point: &str) {
        {
            let mut state = self.state.borrow_mut();
            if state.outcome.death.is_some() {
                return;
            }
            let passed = state.outcome.points.entry(point.to_owned()).or_default();
            *passed += 1;
            let dies = state.chance.as_mut().is_some_and(Chance::dies);
            if !state.photographs && !dies {
                return;
            }
        }
        self.scan();
        let mut state = self.state.borrow_mut();
        let revision = self.server.lock().unwrap().revision();
        let seen = (state.image.disk.revision(), revision, state.image.memory.pairs());
        if state.photographs && state.seen.as_ref() == Some(&seen) {
            return;
        }
        state.seen = Some(seen);
        let point = format!("{point}#{}", state.outcome.points[point]);
        let photo = self.photo(point, &state.image);
        if state.photographs {
            state.outcome.photos.push(photo);
        } else {
            state.outcome.death = Some(photo);
        }
    }

    /// What is to go wrong with a call.
    pub(crate) fn fault(&self, call: &Call) -> Fault {
        let mut state = self.state.borrow_mut();
        state.chance.as_mut().map_or(Fault::None, |chance| chance.fault(call.operation()))
    }

    /// Whether a file operation has failed by chance.
    fn has_failed_disk(&self) -> bool {
        self.state.borrow().chance.as_ref().is_some_and(Chance::has_failed_disk)
    }

    /// The service has ended by itself: another begins with what it left.
    fn ended(&self) {
        self.scan();
        let mut state = self.state.borrow_mut();
        let photo = self.photo("ended".to_owned(), &state.image);
        state.outcome.death = Some(photo);
        state.outcome.has_ended = true;
    }

    /// What is to be seen now.
    fn photo(&self, point: String, image: &Image) -> Photo {
        let memory = image.memory.replaced(&changed(image.claimed_changed()), &changed(SAME));
        let (server, now) = (self.server.lock().unwrap().clone(), seams::Clock::now(&*self.clock));
        Photo { point, image: Image { memory, server, now, ..image.clone() } }
    }

    /// Whether all is done, as far as can be seen at a glance.
    fn is_quiet(&self) -> bool {
        let state = self.state.borrow();
        if state.image.memory.count() > 0 {
            return false;
        }
        drop(state);
        let has_dropped = self.way.sends() && self.tree.join("out").join(NAME).exists();
        let confirmed = !self.server.lock().unwrap().confirmations.is_empty();
        !has_dropped && (!self.way.receives() || confirmed)
    }

    pub(crate) fn describe(&self) -> String {
        self.scan();
        let state = self.state.borrow();
        let records = state.image.memory.transfers();
        let files: Vec<String> = state.image.disk.listing().into_iter().map(|(path, _)| path).collect();
        let server = self.server.lock().unwrap();
        let transfers: Vec<_> =
            server.transfers.iter().map(|transfer| (&transfer.id, transfer.status())).collect();
        format!("records {records:#?}\nfiles {files:#?}\nat Altinn {transfers:?}, calls {:?}", server.calls)
    }
}

impl Simulation for Life {
    fn passes(&self, point: &str) {
        self.moment(point);
    }

    fn operates(&self, operation: &str) -> std::io::Result<()> {
        self.moment(&format!("before:{operation}"));
        if operation == "make folder" && self.is_by_chance() {
            // A folder that is removed and made anew between two looks would pass for one change.
            self.scan();
        }
        let mut state = self.state.borrow_mut();
        state.dirty = true;
        match state.chance.as_mut().and_then(|chance| chance.operation_fails(operation)) {
            Some(errno) => Err(std::io::Error::from_raw_os_error(errno)),
            None => Ok(()),
        }
    }

    fn synced(&self, what: BorrowedFd<'_>) {
        self.state.borrow_mut().dirty = true;
        self.moment("syncing");
        self.scan();
        let inode = rustix::fs::fstat(what.as_fd()).unwrap().st_ino;
        let mut state = self.state.borrow_mut();
        let State { place, image, .. } = &mut *state;
        image.disk.synced(&place.borrow(), inode);
    }
}

impl Photo {
    /// What a death at this moment leaves, or what it must not.
    pub(crate) fn after(&self, death: Death) -> Result<Image, String> {
        let Self { point, image } = self;
        let mut left = image.clone();
        left.memory = image.memory.copy();
        // Whoever drops sidecars is taken to sync them: a torn one puts the file aside, as any other that is no JSON.
        let spared = image.sidecar.filter(|_| !image.has_taken());
        left.disk = image.disk.after(death, spared);
        left.now = image.now + RESTART;
        left.path.push(format!("{point}/{}", death.name()));
        if let Some(torn) = checks::torn(image, &left)? {
            left.expected = torn;
        }
        Ok(left)
    }
}

/// A time of the kernel's, which nobody can set: laid out anew, a file has another. In an image the claimed file's
/// stands as this.
const SAME: i64 = 1;

/// How records have the time of the claimed file.
fn changed(at: i64) -> String {
    format!("\"fileChangedNs\":{at},")
}

impl Image {
    /// When the kernel last saw the claimed file change.
    fn claimed_changed(&self) -> i64 {
        self.disk.changed_below("out/.formidlingd/sending/", "/file").unwrap_or(SAME)
    }

    /// What tells two images apart but for times, which change nothing but waits.
    pub(crate) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.disk.hash(&mut hasher);
        // Records are documents; what points to them says nothing else.
        for (_, value) in self.memory.pairs().iter().filter(|(_, value)| value.first() == Some(&b'{')) {
            without_times(value).hash(&mut hasher);
        }
        self.server.hash(&mut hasher);
        self.expected.hash(&mut hasher);
        hasher.finish()
    }

    /// Whether any record says more than that a file is to be taken.
    pub(crate) fn has_taken(&self) -> bool {
        let is_taken = |work: &Work| !matches!(work, Work::Outgoing { progress: Outgoing::Claiming, .. });
        self.memory.transfers().unwrap().iter().any(|transfer| is_taken(&transfer.work))
    }
}
