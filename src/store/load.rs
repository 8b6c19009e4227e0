//! Opening: the engine, what it holds looked at once, and a repair where it is damaged.
//!
//! Every record is looked at before anything is done, where they are few. Where they are many, that would keep the
//! service from starting for long: then the keys alone are read, and [`Store::read_through`] looks at the records
//! afterwards; one that cannot be read is told of there, or when it is met. All are read before the start where damage was
//! met before, and where the keys of what is at work have to be made.
//!
//! [`Store::read_through`]: super::Store::read_through

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::seams::{self, Random};
use crate::transfer::{InstallationMark, RouteName, Transfer, TransferId};

use super::core::PAGE;
use super::engine::{Changes, Engine, SledEngine, counter_path, suspect_path};
use super::record::{self, VERSION};
use super::{Error, Unreadable, disk, keys, repair};

/// Records up to this number are all read before the start: a tenth of a second or so.
const FEW: usize = 5_000;

/// What a look at everything has found.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    pub(super) counts: BTreeMap<RouteName, usize>,
    pub(super) unreadable: Vec<Unreadable>,
    pub(super) unreadable_ids: HashSet<TransferId>,
    /// Whether every record was looked at.
    pub(super) is_read_through: bool,
    /// The highest id ever stored.
    pub(super) last: Option<TransferId>,
    /// When the store was last changed; `None` where it is new.
    pub(super) changed: Option<Timestamp>,
}

/// What the ids that are made here bear. Chosen once for each store.
pub(super) fn installation(engine: &dyn Engine, random: &dyn Random) -> Result<InstallationMark, Error> {
    if let Some(mark) = engine.get(keys::INSTALLATION)?.as_deref().and_then(parse_text) {
        return Ok(mark);
    }
    let mark = InstallationMark::new(random.bytes());
    engine.commit([(keys::INSTALLATION.to_vec(), Some(mark.to_string().into_bytes()))].into())?;
    Ok(mark)
}

fn parse_text<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// An open engine, and what was done to open it.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) engine: SledEngine,
    pub(super) loaded: Loaded,
    /// Where the database is that was damaged, and was replaced by what could be made of it.
    pub(super) repaired: Option<PathBuf>,
}

/// Opens the database in `state`. Where it cannot be opened or read through, what may help is tried.
pub(super) fn open(state: &Path, now: Timestamp) -> Result<Ready, Error> {
    let path = state.join("sled");
    repair::finish(state, &path)?;
    let begun = begun(state)?;
    if !begun {
        // What a database counted that was moved away on purpose.
        disk::remove_file(&counter_path(&path))?;
    }
    let ready = open_with_repair(state, &path, now, begun);
    if ready.is_err() {
        // Half a copy is of no use to anybody, and takes the room that is waited for where the disk is full.
        disk::remove_dir(&repair::trial(state))?;
    }
    let ready = ready?;
    if !begun {
        begin(state)?;
    }
    Ok(ready)
}

fn open_with_repair(state: &Path, path: &Path, now: Timestamp, begun: bool) -> Result<Ready, Error> {
    // Opening makes new snapshots: what there was before is what can be tried.
    let remedies = repair::remedies(path)?;
    let suspect = suspect_path(path);
    let is_suspect = suspect.try_exists().map_err(|source| Error::io("look at", &suspect, source))?;
    let damage = match open_and_load(path, begun, is_suspect) {
        Ok((engine, loaded)) => {
            if is_suspect {
                disk::remove_file(&suspect)?;
            }
            return Ok(Ready { engine, loaded, repaired: None });
        }
        Err(damage @ Error::Damaged { .. }) => damage,
        Err(other) => return Err(other),
    };
    for remedy in remedies {
        let trial = repair::prepare(remedy, state, path)?;
        match open_and_load(&trial, begun, true) {
            Ok(tried) => {
                drop(tried);
                let copy = repair::adopt(state, path, now)?;
                let (engine, loaded) = open_and_load(path, begun, true)?;
                disk::remove_file(&suspect)?;
                return Ok(Ready { engine, loaded, repaired: Some(copy) });
            }
            Err(Error::Damaged { .. }) => {}
            Err(other) => return Err(other),
        }
    }
    Err(damage)
}

/// Whether there was ever a store in `state`. sled opens a log that it can make nothing of as an empty one; a
/// file beside it tells that from a first start.
fn begun(state: &Path) -> Result<bool, Error> {
    let format = state.join("format");
    format.try_exists().map_err(|source| Error::io("look at", format, source))
}

fn begin(state: &Path) -> Result<(), Error> {
    let format = state.join("format");
    File::create(&format)
        .and_then(|mut file| {
            writeln!(file, "{VERSION}")?;
            seams::sync_file(&file)
        })
        .map_err(|source| Error::io("write", format, source))?;
    disk::sync_dir(state)
}

fn open_and_load(path: &Path, begun: bool, all: bool) -> Result<(SledEngine, Loaded), Error> {
    let engine = SledEngine::open(path)?;
    check_schema(path, &engine, begun)?;
    let loaded = load(&engine, all)?;
    Ok((engine, loaded))
}

fn check_schema(path: &Path, engine: &SledEngine, begun: bool) -> Result<(), Error> {
    let Some(schema) = engine.get(keys::SCHEMA)? else {
        if begun {
            let detail = "it is empty, and it was not before".to_owned();
            return Err(Error::Damaged { path: path.to_owned(), detail });
        }
        let schema = VERSION.to_string().into_bytes();
        return engine.commit([(keys::SCHEMA.to_vec(), Some(schema))].into());
    };
    match std::str::from_utf8(&schema).ok().and_then(|text| text.parse().ok()) {
        Some(VERSION) => Ok(()),
        Some(found) if found > VERSION => Err(Error::Newer { path: path.to_owned(), found, known: VERSION }),
        _ => {
            Err(Error::Damaged { path: path.to_owned(), detail: "its format has no known number".to_owned() })
        }
    }
}

/// Looks at every membership of a route, and at every record where they are few, or `all` is said, or the keys of what
/// is at work have to be made.
pub(super) fn load(engine: &dyn Engine, all: bool) -> Result<Loaded, Error> {
    let mut loaded = Loaded {
        last: engine.get(keys::LAST_ID)?.as_deref().and_then(keys::parse_id),
        changed: engine.get(keys::CHANGED)?.as_deref().and_then(parse_text),
        ..Loaded::default()
    };
    for_each(engine, keys::ROUTES, |key, _| {
        if let Some((route, id)) = keys::parse_route(key) {
            *loaded.counts.entry(route).or_default() += 1;
            loaded.last = loaded.last.max(Some(id));
        }
    })?;
    let generation = engine.get(keys::GENERATION)?;
    let is_indexed = generation.is_some() && engine.get(keys::INDEXED)? == generation;
    if !all && is_indexed && loaded.counts.values().sum::<usize>() > FEW {
        return Ok(loaded);
    }
    let mut at_work = BTreeSet::new();
    for_each(engine, keys::RECORDS, |key, bytes| {
        loaded.last = loaded.last.max(id_of(key));
        match look_at(key, bytes) {
            Ok(transfer) if transfer.is_at_work() && !is_indexed => {
                at_work.insert(keys::at_work(&transfer.route, transfer.id));
            }
            Ok(_) => {}
            Err(unreadable) => {
                loaded.unreadable_ids.extend(id_of(key));
                loaded.unreadable.push(unreadable);
            }
        }
    })?;
    loaded.is_read_through = true;
    if !is_indexed {
        index(engine, at_work, &loaded.unreadable_ids, generation.is_some())?;
    }
    Ok(loaded)
}

/// Makes the keys of what is at work, in one change. What cannot be read may be at work.
fn index(
    engine: &dyn Engine,
    mut at_work: BTreeSet<Vec<u8>>,
    unreadable: &HashSet<TransferId>,
    is_counted: bool,
) -> Result<(), Error> {
    if !unreadable.is_empty() {
        for_each(engine, keys::ROUTES, |key, _| {
            let unreadable = keys::parse_route(key).filter(|(_, id)| unreadable.contains(id));
            at_work.extend(unreadable.map(|(route, id)| keys::at_work(&route, id)));
        })?;
    }
    let mut changes = Changes::new();
    for_each(engine, keys::AT_WORK, |key, _| {
        if !at_work.remove(key) {
            changes.insert(key.to_vec(), None);
        }
    })?;
    changes.extend(at_work.into_iter().map(|key| (key, Some(Vec::new()))));
    if changes.is_empty() && !is_counted { Ok(()) } else { engine.commit(changes) }
}

/// The id in the key of a record.
pub(super) fn id_of(key: &[u8]) -> Option<TransferId> {
    key.get(keys::RECORDS.len()..).and_then(keys::parse_id)
}

/// A record, or why it cannot be read.
pub(super) fn look_at(key: &[u8], bytes: &[u8]) -> Result<Transfer, Unreadable> {
    let reason = match id_of(key) {
        Some(id) => match record::decode_for(id, bytes) {
            Ok(record) => return Ok(record.transfer),
            Err(error) => reason(&error),
        },
        None => "its key holds no transfer id".to_owned(),
    };
    Err(Unreadable { key: String::from_utf8_lossy(key).into_owned(), reason })
}

/// Why a record cannot be read, without naming it again.
pub(super) fn reason(error: &Error) -> String {
    match error {
        Error::Unreadable { reason, .. } => reason.to_string(),
        other => other.to_string(),
    }
}

fn for_each(engine: &dyn Engine, prefix: &[u8], mut look: impl FnMut(&[u8], &[u8])) -> Result<(), Error> {
    let mut after: Option<Vec<u8>> = None;
    loop {
        let pairs = engine.scan(prefix, after.as_deref(), PAGE)?;
        let ended = pairs.len() < PAGE;
        for (key, value) in &pairs {
            look(key, value);
        }
        after = pairs.into_iter().last().map(|(key, _)| key);
        if ended {
            return Ok(());
        }
    }
}
