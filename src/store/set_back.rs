//! What is durable of a state that was set back in time: for each outbox, what Altinn has of ours that the store does
//! not know. While it is there and not released, the outbox is held.

use std::io::Write;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use super::engine::{Changes, Engine};
use super::{Error, disk, keys};
use crate::seams::crash_point;
use crate::transfer::{BrokerTransferId, Md5, OrgNumber, RouteName, TransferId};

/// What stands in the place of a time where a route was held against Altinn.
pub(super) const CHECKED: &[u8] = b"checked";
/// Routes that are looked for at once; nobody has as many.
const MAX_ROUTES: usize = 100_000;

const HELD: &str = ".json";
const RELEASED: &str = ".released.json";
const HALF_WRITTEN: &str = ".new";

/// A transfer at Altinn that the store should know, and does not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Unremembered {
    /// Altinn's id of it.
    pub id: BrokerTransferId,
    /// The reference it was made with, which holds an id of ours.
    pub reference: String,
    /// The name of its file.
    pub file_name: String,
    /// MD5 of its file.
    #[serde(default)]
    pub md5: Option<Md5>,
    /// Whom it was for, sorted.
    pub recipients: Vec<OrgNumber>,
    /// `propertyList`.
    pub properties: BTreeMap<String, String>,
    /// When it was made.
    #[serde(default)]
    pub created: Option<Timestamp>,
    /// Whether bytes may have gone to it.
    pub begun: bool,
    /// The transfer of ours that has been told to go on with it.
    #[serde(default)]
    pub taken_by: Option<TransferId>,
}

/// What is known of an outbox whose state was set back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SetBackNote {
    /// When the store that was put back had last been changed.
    pub since: Timestamp,
    /// When it was noticed.
    pub noticed: Timestamp,
    /// Whether everything since then has been looked at.
    pub complete: bool,
    /// How far has been looked.
    #[serde(default)]
    pub looked_until: Option<Timestamp>,
    /// When the service noticed that somebody has released the outbox.
    #[serde(default)]
    pub released: Option<Timestamp>,
    /// What it does not know.
    pub transfers: Vec<Unremembered>,
}

/// From when on each route is to be held against what Altinn has, since the state may have been set back.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Unchecked {
    /// Of routes that have no time of their own; `None` where the store is new.
    all: Option<Timestamp>,
    routes: BTreeMap<RouteName, Timestamp>,
}

impl Unchecked {
    pub(super) fn of(&self, route: &RouteName) -> Option<Timestamp> {
        self.routes.get(route).copied().or(self.all)
    }
}

/// What is to be looked at after this opening of a store that was last changed at `changed`. It is durable, for a
/// change moves that time on, and a death before the look must not.
pub(super) fn unchecked(engine: &dyn Engine, changed: Option<Timestamp>) -> Result<Unchecked, Error> {
    let Some(changed) = changed else { return Ok(Unchecked::default()) };
    let parse = |value: &[u8]| std::str::from_utf8(value).ok()?.parse::<Timestamp>().ok();
    let mut renewed = Changes::new();
    let now = || Some(changed.to_string().into_bytes());
    let mut routes = BTreeMap::new();
    for (key, value) in engine.scan(keys::UNCHECKED_OF, None, MAX_ROUTES)? {
        let route = key.get(keys::UNCHECKED_OF.len()..).and_then(|name| std::str::from_utf8(name).ok());
        let Some(Ok(route)) = route.map(str::parse::<RouteName>) else { continue };
        let since = parse(&value);
        if since.is_none() {
            renewed.insert(key, now());
        }
        routes.insert(route, since.unwrap_or(changed));
    }
    let all = engine.get(keys::UNCHECKED)?.as_deref().and_then(parse);
    if all.is_none() {
        renewed.insert(keys::UNCHECKED.to_vec(), now());
    }
    if !renewed.is_empty() {
        engine.commit(renewed)?;
    }
    Ok(Unchecked { all: all.or(Some(changed)), routes })
}

/// `<state>/set-back/`: a file for each outbox that is held for this reason, or was. Every function blocks.
#[derive(Debug, Clone)]
pub struct SetBackNotes {
    dir: PathBuf,
}

impl SetBackNotes {
    /// Those of a state directory, whether or not there is one.
    #[must_use]
    pub fn of(state: &Path) -> Self {
        Self { dir: state.join("set-back") }
    }

    /// What is noted of an outbox, and whether somebody has released it.
    pub fn read(&self, route: &RouteName) -> Result<Option<(SetBackNote, bool)>, Error> {
        for (suffix, released) in [(RELEASED, true), (HELD, false)] {
            let path = self.path(route, suffix);
            match std::fs::read(&path) {
                Ok(bytes) => {
                    let unreadable = |error| Error::io("read", &path, std::io::Error::other(error));
                    let note: SetBackNote = serde_json::from_slice(&bytes).map_err(unreadable)?;
                    return Ok(Some((note, released)));
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => return Err(Error::io("read", path, source)),
            }
        }
        Ok(None)
    }

    /// Notes it, durably; what was released stays so.
    pub fn write(&self, route: &RouteName, note: &SetBackNote, released: bool) -> Result<(), Error> {
        disk::create_dir(&self.dir)?;
        // Somebody may have released it meanwhile.
        let released = released || self.path(route, RELEASED).exists();
        self.write_to(route, note, if released { RELEASED } else { HELD })
    }

    fn write_to(&self, route: &RouteName, note: &SetBackNote, suffix: &str) -> Result<(), Error> {
        let path = self.path(route, suffix);
        let new = self.path(route, HALF_WRITTEN);
        let bytes = serde_json::to_vec(note).unwrap_or_default();
        let written = std::fs::File::create(&new).and_then(|mut file| {
            file.write_all(&bytes)?;
            crate::seams::sync_file(&file)
        });
        crash_point("set_back:written");
        written
            .and_then(|()| std::fs::rename(&new, &path))
            .map_err(|source| Error::io("write", &path, source))?;
        crash_point("set_back:renamed");
        disk::sync_dir(&self.dir)
    }

    /// Holds what was released before, since the state was set back once more.
    pub fn hold_again(&self, route: &RouteName, note: &SetBackNote) -> Result<(), Error> {
        disk::create_dir(&self.dir)?;
        self.write_to(route, note, HELD)?;
        // Until this is gone, the outbox counts as released; what is found is found again after a death here.
        disk::remove_file(&self.path(route, RELEASED))?;
        disk::sync_dir(&self.dir)
    }

    /// Forgets it.
    pub fn remove(&self, route: &RouteName) -> Result<(), Error> {
        for suffix in [RELEASED, HELD] {
            let path = self.path(route, suffix);
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::io("delete", path, error));
                }
                _ => {}
            }
        }
        disk::sync_dir(&self.dir)
    }

    /// Releases one outbox, or all; those that were held. A running service notices within seconds.
    pub fn release(&self, only: Option<&RouteName>) -> Result<Vec<RouteName>, Error> {
        let mut released = Vec::new();
        if !self.dir.try_exists().map_err(|source| Error::io("look at", &self.dir, source))? {
            return Ok(released);
        }
        for entry in disk::read_dir(&self.dir)? {
            let name = entry.file_name();
            let route =
                name.to_str().and_then(|name| name.strip_suffix(HELD)).and_then(|name| name.parse().ok());
            let Some(route) = route.filter(|route| only.is_none_or(|only| only == route)) else { continue };
            let path = entry.path();
            std::fs::rename(&path, self.path(&route, RELEASED))
                .map_err(|source| Error::io("rename", path, source))?;
            released.push(route);
        }
        disk::sync_dir(&self.dir)?;
        released.sort();
        Ok(released)
    }

    fn path(&self, route: &RouteName, suffix: &str) -> PathBuf {
        self.dir.join(format!("{route}{suffix}"))
    }
}
