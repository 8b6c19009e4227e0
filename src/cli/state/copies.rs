//! `formidlingd state export` and `state import`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use super::act_as_owner;
use crate::cli::{ConfigOptions, Exit, complain};
use crate::seams::{Clock, OsRandom, SystemClock};
use crate::store::{self, Exported, Opened, Store};
use crate::transfer::visible;

/// Write everything that is remembered, as JSON lines
///
/// Active transfers with their steps, the folders that routes have used, and the journal of what is finished. A file
/// appears whole or not at all. The last line holds counts and a SHA-256 of the lines before it, so that `state import`
/// notices whatever has become of the file. The service must be stopped. A running service exports by itself, all but
/// the journal: see `state.export_every`.
#[derive(Debug, Args)]
pub(super) struct Export {
    /// Where to; standard output if absent
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Leave out the journal, which can be copied as it is: it is JSON lines, too
    #[arg(long)]
    without_journal: bool,
    #[command(flatten)]
    config: ConfigOptions,
}

/// Take in what `state export` wrote
///
/// Into an empty state, all of it or nothing. The service must be stopped. At its next start it compares what it
/// remembers now with Altinn, and holds outboxes for which Altinn knows more: see `resume --after-restore`.
#[derive(Debug, Args)]
pub(super) struct Import {
    /// What to take in
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Put it in the place of a damaged database, which is kept as damaged-TIME
    #[arg(long)]
    set_damaged_aside: bool,
    #[command(flatten)]
    config: ConfigOptions,
}

/// What to do about a store that cannot be opened by a command.
pub(super) fn remedy(state: &Path, error: &store::Error) -> String {
    match error {
        store::Error::InUse { .. } => {
            "stop the service (systemctl stop formidlingd), do it again, and start the service".to_owned()
        }
        error => store::remedy_in(state, error),
    }
}

/// How a command ends that found the store as it is.
pub(super) fn refuse(state: &Path, error: &store::Error) -> Exit {
    let exit = complain(error, &remedy(state, error));
    if matches!(error, store::Error::Newer { .. }) { Exit::Configuration } else { exit }
}

/// Opens the store of a service that is stopped.
pub(super) fn open(state: &Path) -> Result<Opened, Exit> {
    Store::open(state, Arc::new(SystemClock), Arc::new(OsRandom)).map_err(|error| refuse(state, &error))
}

impl Export {
    pub(super) fn run(self, out: &mut impl Write) -> Exit {
        let config = match self.config.load_as_owner() {
            Ok(config) => config,
            Err(exit) => return exit,
        };
        let state = &config.state.path;
        let store = match open(state) {
            Ok(opened) => opened.store,
            Err(exit) => return exit,
        };
        let exported = match &self.file {
            Some(file) => store.export_to(file, !self.without_journal),
            None => store.export(out, !self.without_journal),
        };
        match exported {
            Ok(exported) => tell(&exported, self.file.as_deref()),
            Err(error) => refuse(state, &error),
        }
    }
}

/// On standard error: on the other stands the export itself.
fn tell(exported: &Exported, file: Option<&Path>) -> Exit {
    let Exported { records, finished, left_out } = exported;
    let journal = finished
        .map_or_else(|| "the journal left out".to_owned(), |lines| format!("{lines} lines of the journal"));
    let to = file.map_or_else(String::new, |file| format!(" to {}", visible(&file.to_string_lossy())));
    let mut said = vec![format!("exported{to}: {records} active transfers, {journal}")];
    said.extend(left_out.iter().map(|left| {
        let (key, reason) = (visible(&left.key), visible(&left.reason));
        format!("not in it, since it cannot be read: {key}: {reason}")
    }));
    let mut err = io::stderr();
    // If nobody reads, the exit code still tells.
    drop(said.iter().try_for_each(|line| writeln!(err, "{line}")));
    if left_out.is_empty() { Exit::Done } else { Exit::Failed }
}

impl Import {
    pub(super) fn run(self, out: &mut impl Write) -> Exit {
        let config = match self.config.load() {
            Ok(config) => config,
            Err(exit) => return exit,
        };
        let state = &config.state.path;
        // Where there is no state yet, root would make one that the service cannot use.
        if let Err(error) = act_as_owner(state) {
            let remedy = match &error {
                super::AccessError::NoState { .. } => {
                    "make the directory first, private and owned by the user that the service runs as (systemd makes \
                     it at the service's first start)"
                }
                error => error.remedy(),
            };
            return complain(&error, remedy);
        }
        match store::import(state, &self.file, SystemClock.now(), self.set_damaged_aside) {
            Ok(imported) => {
                let journal = imported.finished.map_or_else(
                    || "the journal as it is here".to_owned(),
                    |lines| format!("{lines} lines of the journal"),
                );
                let told = writeln!(
                    out,
                    "imported: {} active transfers, {journal}, as of {}\nStart the service. It asks Altinn first what \
                     has happened since, and holds outboxes for which that is more than nothing: see the log, and \
                     formidlingd resume --after-restore.",
                    imported.records, imported.created
                );
                told.map_or(Exit::Failed, |()| Exit::Done)
            }
            Err(error @ store::ImportError::Store(store::Error::Newer { .. })) => {
                complain(&error, error.remedy());
                Exit::Configuration
            }
            Err(error) => complain(&error, error.remedy()),
        }
    }
}
