//! `formidlingd state verify`: what does not fit, and what to do about it.

use std::io::Write;

use clap::Args;

use super::copies::{open, refuse};
use crate::cli::{ConfigOptions, Exit};
use crate::daemon;
use crate::store::{Finding, Opened};
use crate::transfer::visible;

/// Read everything that is remembered, and tell what does not fit
///
/// Every record and all that points to it, every line of the journal, and the files that are being sent and received
/// beside their records. Exits with 0 if all fits, with 1 if something was found; each finding comes with what to do.
/// Changes nothing. The service must be stopped.
#[derive(Debug, Args)]
pub(super) struct Verify {
    #[command(flatten)]
    config: ConfigOptions,
}

impl Verify {
    pub(super) fn run(self, out: &mut impl Write) -> Exit {
        let config = match self.config.load_as_owner() {
            Ok(config) => config,
            Err(exit) => return exit,
        };
        let state = &config.state.path;
        let Opened { store, repaired, .. } = match open(state) {
            Ok(opened) => opened,
            Err(exit) => return exit,
        };
        let mut found = 0_u64;
        let mut told = Ok(());
        let mut tell = |finding: Finding| {
            found += 1;
            let Finding { subject, problem, remedy } = finding;
            if told.is_ok() {
                let (subject, problem) = (visible(&subject), visible(&problem));
                told = writeln!(out, "{subject}: {problem}\n  what to do: {remedy}");
            }
        };
        if let Some(copy) = repaired {
            tell(Finding {
                subject: copy.display().to_string(),
                problem: "the database was damaged, and was repaired just now; this is how it was".to_owned(),
                remedy: "look at the disk's health; delete the copy when all is well",
            });
        }
        let verified = daemon::verify(&config, &store, &mut tell);
        match verified {
            Ok(verified) => {
                let (records, lines) = (verified.records, verified.lines);
                let told = told.and_then(|()| {
                    let torn = match verified.torn {
                        0 => String::new(),
                        torn => format!(" ({torn} of them half written, with nothing lost)"),
                    };
                    writeln!(
                        out,
                        "{records} active transfers and {lines} lines of the journal{torn} read: {}",
                        if found == 0 { "all fits".to_owned() } else { format!("{found} findings") }
                    )
                });
                if told.is_ok() && found == 0 { Exit::Done } else { Exit::Failed }
            }
            Err(error) => refuse(state, &error),
        }
    }
}
