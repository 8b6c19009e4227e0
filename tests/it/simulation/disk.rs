//! A disk that can lose its power: real files, and beside them what of them would survive.
//!
//! What is durable changes at a sync alone: of a file its content, of a folder the changes of names in it. Names change
//! in operations that are whole or not there, as renames are on ext4, XFS and btrfs, and one that was not synced may
//! be lost or kept for itself. From what was seen at one moment every tree is derived that a death at that moment
//! could leave.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

/// What stands for a file or folder. A file's is its inode, which lasts; a folder is made anew for each run, so that
/// folders are counted.
type Node = u64;
/// The folder that everything is in; other folders are counted from here.
const ROOT: Node = 1 << 63;
/// More changes of names than this at one moment are not tried in every combination.
const COMBINED: usize = 4;

/// The names in each folder.
type Names = BTreeMap<Node, BTreeMap<String, Node>>;

/// Changes of names that happen together.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Operation {
    changes: Vec<Change>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Change {
    folder: Node,
    name: String,
    before: Option<Node>,
    after: Option<Node>,
}

/// What is in a file.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) bytes: Vec<u8>,
    /// Of the bytes without times.
    hash: u64,
}

impl Content {
    pub(crate) fn new(bytes: Vec<u8>) -> Rc<Self> {
        let mut hasher = DefaultHasher::new();
        without_times(&bytes).hash(&mut hasher);
        Rc::new(Self { bytes, hash: hasher.finish() })
    }
}

#[derive(Debug, Clone)]
struct File {
    content: Rc<Content>,
    /// What a loss of power leaves of it; nothing where it was never synced.
    durable: Option<Rc<Content>>,
    mode: u32,
    modified: SystemTime,
    changed: (i64, i64),
}

/// What is on the disk, and what of it lasts.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    current: Names,
    durable: Names,
    /// What happened since, in its order, and has not been synced.
    pending: Vec<Operation>,
    files: BTreeMap<Node, File>,
    folders: BTreeMap<Node, u32>,
    next_folder: Node,
    revision: u64,
}

/// How a disk is left by a death.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Death {
    /// The process: everything stays, but is no more durable than before.
    Kill,
    /// Power: what was not synced is gone.
    Drop,
    /// Power: names are there, and contents that were not synced end in the middle.
    Cut,
    /// Power: names are there, and contents that were not synced are zeros.
    Zero,
    /// Power: of the changes of names that were not synced, those of this pattern are there.
    Mix(u8),
}

impl Death {
    pub(crate) fn name(self) -> String {
        match self {
            Self::Kill => "kill".to_owned(),
            Self::Drop => "drop".to_owned(),
            Self::Cut => "cut".to_owned(),
            Self::Zero => "zero".to_owned(),
            Self::Mix(pattern) => format!("mix{pattern}"),
        }
    }
}

/// Where the files are while a run lasts.
#[derive(Debug)]
pub(crate) struct Place {
    /// The tree, and beside it a link to every file that was seen, so that its inode stays what it is.
    pub(crate) tree: PathBuf,
    attic: PathBuf,
    /// The folders of this run by their inodes.
    inodes: HashMap<u64, Node>,
}

impl Place {
    pub(crate) fn new(folder: &Path) -> Self {
        let (tree, attic) = (folder.join("disk"), folder.join("attic"));
        std::fs::create_dir_all(&attic).unwrap();
        Self { tree, attic, inodes: HashMap::new() }
    }

    /// Forgets the files that no tree is to have any more.
    pub(crate) fn forget(&self, keep: &BTreeSet<u64>) {
        for entry in std::fs::read_dir(&self.attic).unwrap().flatten() {
            let node = entry.file_name().to_str().and_then(|name| name.parse().ok());
            if node.is_none_or(|node| !keep.contains(&node)) {
                std::fs::remove_file(entry.path()).unwrap();
            }
        }
    }
}

impl Disk {
    /// An empty one.
    pub(crate) fn new() -> Self {
        let names: Names = [(ROOT, BTreeMap::new())].into();
        Self {
            current: names.clone(),
            durable: names,
            pending: Vec::new(),
            files: BTreeMap::new(),
            folders: [(ROOT, 0o755)].into(),
            next_folder: ROOT,
            revision: 0,
        }
    }

    /// Looks at what is there now.
    pub(crate) fn scan(&mut self, place: &mut Place, links: bool) {
        let mut found = Names::new();
        self.scan_folder(place, &place.tree.clone(), ROOT, &mut found, links);
        self.note(found);
    }

    fn scan_folder(&mut self, place: &mut Place, path: &Path, folder: Node, found: &mut Names, links: bool) {
        let mut names = BTreeMap::new();
        for entry in std::fs::read_dir(path).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let Ok(metadata) = entry.metadata() else { continue };
            let node = if metadata.is_dir() {
                let node = *place.inodes.entry(metadata.ino()).or_insert_with(|| {
                    self.next_folder += 1;
                    self.next_folder
                });
                self.folders.insert(node, metadata.permissions().mode() & 0o7777);
                self.scan_folder(place, &entry.path(), node, found, links);
                node
            } else {
                self.look_at(place, &entry.path(), &metadata, links);
                metadata.ino()
            };
            names.insert(name, node);
        }
        found.insert(folder, names);
    }

    fn look_at(&mut self, place: &Place, path: &Path, metadata: &std::fs::Metadata, links: bool) {
        let (node, changed) = (metadata.ino(), (metadata.ctime(), metadata.ctime_nsec()));
        let known = self.files.get(&node);
        if known.is_some_and(|known| {
            known.changed == changed && known.content.bytes.len() as u64 == metadata.len()
        }) {
            return;
        }
        let kept = place.attic.join(node.to_string());
        if links && known.is_none() && !kept.exists() {
            std::fs::hard_link(path, kept).unwrap();
        }
        let content = std::fs::read(path).unwrap();
        let durable = known.and_then(|known| known.durable.clone());
        let content = match &durable {
            Some(durable) if durable.bytes == content => Rc::clone(durable),
            _ => Content::new(content),
        };
        self.revision += 1;
        let changed = std::fs::metadata(path).map_or(changed, |now| (now.ctime(), now.ctime_nsec()));
        let (mode, modified) = (metadata.permissions().mode() & 0o7777, metadata.modified().unwrap());
        self.files.insert(node, File { content, durable, mode, modified, changed });
    }

    /// Finds out what has happened to the names since the last look.
    fn note(&mut self, found: Names) {
        let mut changes = Vec::new();
        let nothing = BTreeMap::new();
        let folders: BTreeSet<Node> = self.current.keys().chain(found.keys()).copied().collect();
        for folder in folders {
            let before = self.current.get(&folder).unwrap_or(&nothing);
            let after = found.get(&folder).unwrap_or(&nothing);
            let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
            for name in names {
                let (before, after) = (before.get(name).copied(), after.get(name).copied());
                if before != after {
                    changes.push(Change { folder, name: name.clone(), before, after });
                }
            }
        }
        // Where a node has gone from one name to another, that is one operation.
        let mut operations: Vec<Operation> = Vec::new();
        while let Some(change) = changes.pop() {
            let mut together = vec![change];
            loop {
                let of = |change: &Change| [change.before, change.after];
                let nodes: Vec<Node> = together.iter().flat_map(of).flatten().collect();
                let is_part =
                    |change: &Change| of(change).into_iter().flatten().any(|node| nodes.contains(&node));
                let Some(part) = changes.iter().position(is_part) else { break };
                together.push(changes.swap_remove(part));
            }
            operations.push(Operation { changes: together });
        }
        // Folders are made before what is put into them, and removed after it was taken out.
        operations.sort_by_key(|operation| {
            let change = &operation.changes[0];
            match (change.after.is_some_and(is_folder), change.before.is_some_and(is_folder)) {
                (true, _) => (0, change.after),
                (false, false) => (1, None),
                (false, true) => (2, None),
            }
        });
        self.revision += u64::from(!operations.is_empty());
        self.pending.extend(operations);
        self.current = found;
    }

    /// A file or folder has been synced; it was looked at before.
    pub(crate) fn synced(&mut self, place: &Place, inode: u64) {
        self.revision += 1;
        if let Some(file) = self.files.get_mut(&inode) {
            file.durable = Some(Rc::clone(&file.content));
        }
        let Some(folder) = place.inodes.get(&inode).copied() else { return };
        let mut wanted: Vec<bool> = self
            .pending
            .iter()
            .map(|operation| operation.changes.iter().any(|change| change.folder == folder))
            .collect();
        // And what these rest on.
        for later in (0..self.pending.len()).rev().filter(|place| wanted[*place]).collect::<Vec<_>>() {
            self.want(later, &mut wanted);
        }
        let pending = std::mem::take(&mut self.pending);
        for (operation, is_wanted) in pending.into_iter().zip(wanted) {
            if is_wanted {
                assert!(apply(&mut self.durable, &operation), "{operation:?} in {:?}", self.durable);
            } else {
                self.pending.push(operation);
            }
        }
    }

    /// Marks what an operation rests on.
    fn want(&self, later: usize, wanted: &mut [bool]) {
        wanted[later] = true;
        for earlier in 0..later {
            if !wanted[earlier] && rests_on(&self.pending[later], &self.pending[earlier]) {
                self.want(earlier, wanted);
            }
        }
    }

    /// Every way in which a death now could leave it.
    pub(crate) fn deaths(&self) -> Vec<Death> {
        let mut deaths = vec![Death::Kill];
        if self.pending.is_empty() && self.is_synced() {
            return deaths;
        }
        deaths.push(Death::Drop);
        if !self.is_synced() {
            deaths.extend([Death::Cut, Death::Zero]);
        }
        let pending = self.pending.len();
        if (2..=COMBINED).contains(&pending) {
            deaths.extend((1..(1 << pending) - 1).map(Death::Mix));
        } else if pending == 1 {
            deaths.push(Death::Mix(1));
        }
        if pending > COMBINED {
            // The later ones alone.
            deaths.extend([Death::Mix(0b1000_0000), Death::Mix(0b1100_0000)]);
        }
        deaths
    }

    fn is_synced(&self) -> bool {
        let kept: BTreeSet<Node> =
            self.current.values().flat_map(|inside| inside.values().copied()).collect();
        let is_synced = |file: &File| file.is_synced();
        self.files.iter().all(|(node, file)| !kept.contains(node) || is_synced(file))
    }

    /// What a death leaves. The content of what is `spared` was synced by others.
    pub(crate) fn after(&self, death: Death, spared: Option<u64>) -> Self {
        let mut left = self.clone();
        if let Some(file) = spared.and_then(|spared| left.files.get_mut(&spared)) {
            file.durable = Some(Rc::clone(&file.content));
        }
        let names = match death {
            Death::Kill => return left,
            Death::Drop => self.durable.clone(),
            Death::Cut | Death::Zero => self.current.clone(),
            Death::Mix(pattern) => self.mixed(pattern),
        };
        let names = reachable(&names);
        let kept: BTreeSet<Node> = names.values().flat_map(|inside| inside.values().copied()).collect();
        left.files.retain(|node, _| kept.contains(node));
        for file in left.files.values_mut() {
            if !file.is_synced() {
                let length = file.content.bytes.len();
                file.content = match (death, &file.durable) {
                    (Death::Cut, _) => Content::new(file.content.bytes[..length / 2].to_vec()),
                    (Death::Zero, _) => Content::new(vec![0; length]),
                    (_, Some(durable)) => Rc::clone(durable),
                    (_, None) => Content::new(Vec::new()),
                };
            }
            file.durable = Some(Rc::clone(&file.content));
        }
        left.folders.retain(|node, _| *node == ROOT || kept.contains(node));
        left.current = names.clone();
        left.durable = names;
        left.pending = Vec::new();
        left
    }

    /// What is durable, and those of the pending operations whose bit is set; with more operations than bits, the
    /// highest bits are for the last.
    fn mixed(&self, pattern: u8) -> Names {
        let mut names = self.durable.clone();
        let shift = if self.pending.len() > COMBINED { 8usize.saturating_sub(self.pending.len()) } else { 0 };
        for (place, operation) in self.pending.iter().enumerate() {
            let bit = if self.pending.len() > COMBINED { (place + shift).min(7) } else { place };
            let is_last = self.pending.len() <= 8 || place + 8 >= self.pending.len();
            if is_last && pattern & (1 << bit) != 0 {
                apply(&mut names, operation);
            }
        }
        names
    }

    /// Makes it what stands in its place.
    pub(crate) fn lay_out(&mut self, place: &mut Place) {
        if place.tree.exists() {
            remove(&place.tree);
        }
        place.inodes.clear();
        self.lay_out_folder(place, &place.tree.clone(), ROOT);
    }

    fn lay_out_folder(&mut self, place: &mut Place, path: &Path, folder: Node) {
        let mode = self.folders.get(&folder).copied().unwrap_or(0o700);
        std::fs::DirBuilder::new().mode(0o700).create(path).unwrap();
        place.inodes.insert(std::fs::metadata(path).unwrap().ino(), folder);
        for (name, node) in self.current.get(&folder).cloned().unwrap_or_default() {
            let at = path.join(name);
            if is_folder(node) {
                self.lay_out_folder(place, &at, node);
                continue;
            }
            let file = self.files.get_mut(&node).unwrap();
            let kept = place.attic.join(node.to_string());
            let is_as_it_was = std::fs::metadata(&kept).is_ok_and(|found| {
                (found.ctime(), found.ctime_nsec()) == file.changed
                    && found.len() == file.content.bytes.len() as u64
            });
            if !is_as_it_was {
                std::fs::set_permissions(&kept, std::fs::Permissions::from_mode(0o600)).unwrap();
                std::fs::write(&kept, &file.content.bytes).unwrap();
            }
            std::fs::hard_link(&kept, &at).unwrap();
            let opened = std::fs::File::open(&at).unwrap();
            opened.set_modified(file.modified).unwrap();
            opened.set_permissions(std::fs::Permissions::from_mode(file.mode)).unwrap();
            let now = std::fs::metadata(&at).unwrap();
            file.changed = (now.ctime(), now.ctime_nsec());
        }
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Puts a file there that somebody has dropped long ago, but that nobody has synced.
    pub(crate) fn put(&mut self, place: &Place, path: &str, content: &[u8]) -> Node {
        let draft = place.attic.join("draft");
        let mut options = std::fs::File::options();
        let file = options.write(true).create(true).truncate(true).mode(0o640).open(&draft).unwrap();
        std::fs::write(&draft, content).unwrap();
        let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(1_786_000_000);
        file.set_modified(modified).unwrap();
        let metadata = std::fs::metadata(&draft).unwrap();
        let node = metadata.ino();
        std::fs::rename(&draft, place.attic.join(node.to_string())).unwrap();
        let metadata = std::fs::metadata(place.attic.join(node.to_string())).unwrap();
        let changed = (metadata.ctime(), metadata.ctime_nsec());
        let content = Content::new(content.to_vec());
        self.files.insert(node, File { content, durable: None, mode: 0o640, modified, changed });
        let (folder, name) = path.rsplit_once('/').unwrap();
        let folder = self.folder(folder);
        for names in [&mut self.current, &mut self.durable] {
            names.entry(folder).or_default().insert(name.to_owned(), node);
        }
        node
    }

    /// The folder of this path, made if it is not there.
    pub(crate) fn folder(&mut self, path: &str) -> Node {
        let mut folder = ROOT;
        for part in path.split('/') {
            let known = self.current.get(&folder).and_then(|names| names.get(part)).copied();
            folder = known.unwrap_or_else(|| {
                self.next_folder += 1;
                let node = self.next_folder;
                self.folders.insert(node, 0o750);
                for names in [&mut self.current, &mut self.durable] {
                    names.entry(folder).or_default().insert(part.to_owned(), node);
                    names.insert(node, BTreeMap::new());
                }
                node
            });
        }
        folder
    }

    /// When a file in a folder of this path last changed by the kernel's own time, in nanoseconds.
    pub(crate) fn changed_below(&self, folder: &str, name: &str) -> Option<i64> {
        let is_it = |path: &str| path.starts_with(folder) && path.ends_with(name);
        let changed = listing(&self.current, &|node| self.files.get(&node).map(|file| file.changed));
        let (_, (seconds, nanoseconds)) = changed.into_iter().find(|(path, _)| is_it(path))?;
        Some(seconds * 1_000_000_000 + nanoseconds)
    }

    /// Every file with its path.
    pub(crate) fn listing(&self) -> Vec<(String, Rc<Content>)> {
        listing(&self.current, &|node| self.files.get(&node).map(|file| Rc::clone(&file.content)))
    }

    /// Every file that would survive a loss of power, with its path and as much of its content.
    pub(crate) fn durable(&self) -> Vec<(String, Rc<Content>)> {
        let nothing = Content::new(Vec::new());
        let durable = |file: &File| file.durable.clone().unwrap_or_else(|| Rc::clone(&nothing));
        listing(&self.durable, &|node| self.files.get(&node).map(durable))
    }

    /// Another number after each change.
    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    /// The files that are under any name now or after a death.
    pub(crate) fn nodes(&self) -> BTreeSet<u64> {
        self.files.keys().copied().collect()
    }

    /// What tells two disks apart but for times.
    pub(crate) fn hash(&self, hasher: &mut DefaultHasher) {
        for names in [&self.current, &self.durable] {
            let is_durable = std::ptr::eq(names, &raw const self.durable);
            let mut folders = vec![(ROOT, 0_u32)];
            while let Some((folder, depth)) = folders.pop() {
                for (name, node) in names.get(&folder).into_iter().flatten() {
                    let name = if name.ends_with("formidlingd-tmp") { "temporary" } else { name };
                    (depth, name).hash(hasher);
                    match self.files.get(node) {
                        Some(file) if is_durable => {
                            file.durable.as_ref().map(|content| content.hash).hash(hasher);
                        }
                        Some(file) => file.content.hash.hash(hasher),
                        None => folders.push((*node, depth + 1)),
                    }
                }
            }
        }
        self.pending.len().hash(hasher);
    }
}

impl File {
    fn is_synced(&self) -> bool {
        self.durable.as_ref().is_some_and(|durable| Rc::ptr_eq(durable, &self.content))
    }
}

/// A document without its times.
pub(crate) fn without_times(bytes: &[u8]) -> Vec<u8> {
    if bytes.first() != Some(&b'{') {
        return bytes.to_vec();
    }
    let text = String::from_utf8_lossy(bytes);
    let is_time =
        |part: &str| part.len() >= 20 && part.ends_with('Z') && part.as_bytes().get(10) == Some(&b'T');
    let parts = text.split('"').map(|part| if is_time(part) { "time" } else { part });
    parts.collect::<Vec<_>>().join("\"").into_bytes()
}

/// Removes a tree, also where the service has made folders that nobody may write in yet.
fn remove(tree: &Path) {
    if std::fs::remove_dir_all(tree).is_ok() {
        return;
    }
    let mut folders = vec![tree.to_owned()];
    while let Some(folder) = folders.pop() {
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700)).unwrap();
        let entries = std::fs::read_dir(&folder).unwrap().flatten();
        folders.extend(entries.map(|entry| entry.path()).filter(|path| path.is_dir()));
    }
    std::fs::remove_dir_all(tree).unwrap();
}

fn is_folder(node: Node) -> bool {
    node >= ROOT
}

/// Whether an operation cannot be there without an earlier one.
fn rests_on(later: &Operation, earlier: &Operation) -> bool {
    later.changes.iter().any(|later| {
        earlier.changes.iter().any(|earlier| {
            let is_same_name = (later.folder, &later.name) == (earlier.folder, &earlier.name);
            let node = later.before.or(later.after);
            let is_same_node = node.is_some() && [earlier.before, earlier.after].contains(&node);
            // A folder is made before what is in it, and is empty before it is removed.
            let is_around = earlier.after == Some(later.folder) || later.before == Some(earlier.folder);
            is_same_name || is_same_node || is_around
        })
    })
}

/// Carries an operation out, if what it rests on is there; whether it was.
fn apply(names: &mut Names, operation: &Operation) -> bool {
    let can = operation.changes.iter().all(|change| {
        let found = names.get(&change.folder).and_then(|names| names.get(&change.name)).copied();
        let is_emptied = change.before.is_none_or(|node| {
            let moves = operation.changes.iter().any(|change| change.after == Some(node));
            moves || names.get(&node).is_none_or(BTreeMap::is_empty)
        });
        found == change.before && is_emptied
    });
    for change in operation.changes.iter().filter(|_| can) {
        let names = names.entry(change.folder).or_default();
        match change.after {
            Some(node) => names.insert(change.name.clone(), node),
            None => names.remove(&change.name),
        };
    }
    can
}

/// The folders that can be come to.
fn reachable(names: &Names) -> Names {
    let mut reached = Names::new();
    let mut folders = vec![ROOT];
    while let Some(folder) = folders.pop() {
        let inside = names.get(&folder).cloned().unwrap_or_default();
        folders.extend(inside.values().filter(|node| is_folder(**node)));
        reached.insert(folder, inside);
    }
    reached
}

fn listing<T>(names: &Names, content: &dyn Fn(Node) -> Option<T>) -> Vec<(String, T)> {
    let mut found = Vec::new();
    let mut folders = vec![(String::new(), ROOT)];
    while let Some((path, folder)) = folders.pop() {
        for (name, node) in names.get(&folder).into_iter().flatten() {
            match content(*node) {
                Some(content) => found.push((format!("{path}{name}"), content)),
                None => folders.push((format!("{path}{name}/"), *node)),
            }
        }
    }
    found.sort_by(|(one, _), (other, _)| one.cmp(other));
    found
}
