//! `formidlingd check`: what `run` would die with, without running.

use std::io::Write;
use std::path::Path;

use clap::Args;

use super::{ConfigOptions, Exit};
use crate::config::{self, Loaded, Origin, Problems};
use crate::daemon::preflight;

/// Check configuration, keys and folders
///
/// Prints exactly what `run` would refuse to start with, and exits with 78 if there is anything. Touches no network
/// and changes nothing.
#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    config: ConfigOptions,
}

impl Options {
    pub(super) fn run(self, out: &mut impl Write) -> Exit {
        let loaded = match load(&self.config.config) {
            Ok(loaded) => loaded,
            Err(problems) => return print_problems(out, &problems),
        };
        let written = loaded.warnings.iter().try_for_each(|warning| writeln!(out, "warning: {warning}"));
        let written = written.and_then(|()| {
            let (outboxes, inboxes) = (loaded.config.outboxes.len(), loaded.config.inboxes.len());
            let file = Origin::File(self.config.config);
            writeln!(out, "{file}: ok ({outboxes} outboxes, {inboxes} inboxes)")
        });
        written.map_or(Exit::Failed, |()| Exit::Done)
    }
}

/// Reads the configuration and looks for everything that would keep the service from running.
pub(super) fn load(path: &Path) -> Result<Loaded, Problems> {
    let loaded = config::load(path)?;
    match Problems::new(preflight(&loaded.config, path)) {
        None => Ok(loaded),
        Some(problems) => Err(problems),
    }
}

/// Prints what is wrong, for `check` and `run` alike.
pub(super) fn print_problems(out: &mut impl Write, problems: &Problems) -> Exit {
    // If nobody reads, the exit code still tells.
    drop(problems.iter().try_for_each(|problem| writeln!(out, "{problem}")));
    Exit::Configuration
}
