//! `formidlingd check`: what `run` would die with, without running.

use std::io::Write;
use std::path::Path;

use clap::Args;

use super::{ConfigOptions, Exit};
use crate::config::{self, Config, Origin, Problem, Problems};
use crate::daemon::{FolderFacts, Preflight, preflight};
use crate::seams::OsRandom;
use crate::transfer::visible;

/// Check configuration, keys and folders
///
/// Prints exactly what `run` would refuse to start with, and exits with 78 if there is anything; otherwise what was
/// found out about the folders, by trying. Touches no network and leaves nothing behind.
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
        let Loaded { config, warnings, facts } = loaded;
        let written = print_facts(out, &facts)
            .and_then(|()| warnings.iter().try_for_each(|warning| writeln!(out, "warning: {warning}")));
        let written = written.and_then(|()| {
            let (outboxes, inboxes) = (config.outboxes.len(), config.inboxes.len());
            let file = Origin::File(self.config.config);
            writeln!(out, "{file}: ok ({outboxes} outboxes, {inboxes} inboxes)")
        });
        written.map_or(Exit::Failed, |()| Exit::Done)
    }
}

/// A configuration that the service can run with.
pub(super) struct Loaded {
    pub(super) config: Config,
    pub(super) warnings: Vec<Problem>,
    pub(super) facts: Vec<FolderFacts>,
}

/// Reads the configuration and looks for everything that would keep the service from running.
pub(super) fn load(path: &Path) -> Result<Loaded, Problems> {
    let config::Loaded { config, mut warnings } = config::load(path)?;
    let Preflight { problems, warnings: more, facts } = preflight(&config, path, &OsRandom);
    warnings.extend(more);
    match Problems::new(problems) {
        None => Ok(Loaded { config, warnings, facts }),
        Some(problems) => Err(problems),
    }
}

fn print_facts(out: &mut impl Write, facts: &[FolderFacts]) -> std::io::Result<()> {
    for FolderFacts { route, facts } in facts {
        for fact in facts {
            writeln!(out, "{route}: {}", visible(fact))?;
        }
    }
    Ok(())
}

/// Prints what is wrong, for `check` and `run` alike.
pub(super) fn print_problems(out: &mut impl Write, problems: &Problems) -> Exit {
    // If nobody reads, the exit code still tells.
    drop(problems.iter().try_for_each(|problem| writeln!(out, "{problem}")));
    Exit::Configuration
}
