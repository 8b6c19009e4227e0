//! `formidlingd state forget`: what is remembered of finished transfers is erased.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use super::remains::remains;
use crate::cli::{ConfigOptions, Exit, complain, serve};
use crate::config::Config;
use crate::seams::{OsRandom, SystemClock};
use crate::store::{self, Erased, Store};
use crate::transfer::{IdSuffix, TransferId, visible};

/// How many transfers are named where an id fits several.
const CANDIDATES: usize = 10;

/// Erase what is remembered of finished transfers
///
/// Names, references, properties and recipients go from the journal; ids, route, state and times stay, so that it can
/// be shown that there was a transfer and that it was forgotten. Files and receipts in the folders are yours: what is
/// still there is printed. The service must be stopped. Copies made before, such as backups, are not reached.
#[derive(Debug, Args)]
pub(super) struct Forget {
    /// Transfer ids, or their last digits, at least four
    #[arg(required = true, value_name = "ID")]
    ids: Vec<IdSuffix>,
    #[command(flatten)]
    config: ConfigOptions,
}

/// Why a transfer is not forgotten.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("cannot open the state")]
    Open(#[source] store::Error),
    #[error("no transfer has the id {0}, or an id that ends so")]
    Unknown(IdSuffix),
    #[error("{suffix} fits several transfers: {}", listed(candidates))]
    Ambiguous { suffix: IdSuffix, candidates: Vec<TransferId> },
    #[error("cannot forget")]
    Store(#[source] store::Error),
}

fn listed(candidates: &[TransferId]) -> String {
    let more = if candidates.len() > CANDIDATES { " and more" } else { "" };
    let shown: Vec<String> = candidates.iter().take(CANDIDATES).map(TransferId::to_string).collect();
    format!("{}{more}", shown.join(", "))
}

impl Error {
    fn remedy(&self) -> &'static str {
        match self {
            Self::Open(store::Error::InUse { .. }) => {
                "stop the service (systemctl stop formidlingd), do it again, and start the service"
            }
            Self::Unknown(_) => "see the log, the receipt or the metadata for the id; nothing was forgotten",
            Self::Ambiguous { .. } => "give more digits, or the whole id; nothing was forgotten",
            Self::Open(error) | Self::Store(error) => error.remedy(),
        }
    }
}

impl Forget {
    pub(super) fn run(self, out: &mut impl Write) -> Exit {
        let config = match self.config.load_as_owner() {
            Ok(config) => config,
            Err(exit) => return exit,
        };
        let served = serve(async {
            match forget(&config, &self.ids).await {
                // If nobody reads, the exit code still tells.
                Ok(erased) => tell(out, &config, &erased).map_or(Exit::Failed, |()| Exit::Done),
                Err(errors) => errors.iter().fold(Exit::Failed, |_, error| complain(error, error.remedy())),
            }
        });
        served.unwrap_or_else(|error| complain(&error, "see what the system says"))
    }
}

/// Finds every transfer before the first is forgotten, so that a slip of the hand costs nothing.
async fn forget(config: &Config, suffixes: &[IdSuffix]) -> Result<Vec<Erased>, Vec<Error>> {
    let opened = crate::seams::blocking({
        let path = config.state.path.clone();
        move || Store::open(&path, Arc::new(SystemClock), Arc::new(OsRandom))
    });
    let store = opened.await.map_err(|error| vec![Error::Open(error)])?.store;
    let (mut ids, mut wrong) = (Vec::new(), Vec::new());
    for suffix in suffixes {
        match find(&store, suffix).await {
            Ok(id) if ids.contains(&id) => {}
            Ok(id) => ids.push(id),
            Err(error) => wrong.push(error),
        }
    }
    let mut erased = Vec::new();
    if wrong.is_empty() {
        for id in ids {
            match store.forget(id).await {
                Ok(transfer) => erased.extend(transfer),
                Err(error) => wrong.push(Error::Store(error)),
            }
        }
    }
    if let Err(error) = store.close().await {
        wrong.push(Error::Store(error));
    }
    if wrong.is_empty() { Ok(erased) } else { Err(wrong) }
}

/// The one transfer that is meant, if it is over.
async fn find(store: &Store, suffix: &IdSuffix) -> Result<TransferId, Error> {
    let candidates = store.matching(suffix, CANDIDATES + 1).await.map_err(Error::Store)?;
    match candidates.as_slice() {
        [] => Err(Error::Unknown(suffix.clone())),
        [id] => match store.get(*id).await {
            Ok(None) => Ok(*id),
            Ok(Some(active)) => {
                Err(Error::Store(store::Error::UnderWay { id: *id, state: active.state_name() }))
            }
            Err(error) => Err(Error::Store(error)),
        },
        _ => Err(Error::Ambiguous { suffix: suffix.clone(), candidates }),
    }
}

fn tell(out: &mut impl Write, config: &Config, erased: &[Erased]) -> io::Result<()> {
    for Erased { tombstone, before } in erased {
        let Some(transfer) = before else {
            writeln!(out, "{}: forgotten already, {}", tombstone.id, tombstone.forgotten)?;
            continue;
        };
        let (route, state) = (&tombstone.route, &tombstone.state);
        writeln!(out, "{}: forgotten ({}, route {route}, {state})", tombstone.id, tombstone.direction)?;
        match remains(config, transfer) {
            None => writeln!(out, "  its route is not in the configuration: look in the folders it had")?,
            Some(paths) if paths.is_empty() => writeln!(out, "  nothing of it lies where it was laid down")?,
            Some(paths) => {
                writeln!(out, "  still there, and yours to keep or delete:")?;
                for path in paths {
                    writeln!(out, "  {}", visible(&path.to_string_lossy()))?;
                }
            }
        }
    }
    let ids = erased.iter().map(|erased| erased.tombstone.id);
    let exports: std::collections::BTreeSet<PathBuf> =
        ids.flat_map(|id| store::exports_with(&config.state.path, id)).collect();
    for export in exports {
        writeln!(
            out,
            "an export still holds what was active then; delete it, or wait until newer ones have taken its place: {}",
            visible(&export.to_string_lossy())
        )?;
    }
    for copy in damaged_copies(&config.state.path) {
        writeln!(
            out,
            "a copy of a damaged database may still hold them: {}",
            visible(&copy.to_string_lossy())
        )?;
    }
    out.flush()
}

fn damaged_copies(state: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(state).into_iter().flatten().flatten();
    let mut copies: Vec<PathBuf> = entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("damaged-"))
        .map(|entry| entry.path())
        .collect();
    copies.sort();
    copies
}
