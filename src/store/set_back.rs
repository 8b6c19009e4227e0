//! What is durable of a state that was set back in time: for each outbox, what Altinn has of ours that the store does
//! not know. While it is there and not released, the outbox is held.

use std::io::Write;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use super::{Error, disk};
use crate::seams::crash_point;
use crate::transfer::{BrokerTransferId, Md5, OrgNumber, RouteName, TransferId};

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
    /// What it does not know.
    pub transfers: Vec<Unremembered>,
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
        let path = self.path(route, if released { RELEASED } else { HELD });
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
