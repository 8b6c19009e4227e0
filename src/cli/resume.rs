//! `formidlingd resume`: what was held goes on.

use std::io::Write;

use clap::Args;

use super::{ConfigOptions, Exit, complain};
use crate::store::SetBackNotes;
use crate::transfer::RouteName;

/// Go on with outboxes that are held
///
/// After the state, or the whole machine, was restored from a copy, an outbox for which Altinn has had more from us than
/// the state knows is held, so that nothing is sent twice; the log says so (`state_set_back`). With --after-restore
/// somebody says that the restore was meant. Files that Altinn has had already, by name, content, recipients and
/// properties, are then archived with their receipt, and not sent again; all others are sent. The service may run: it
/// notices within seconds.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// The outbox; all that are held for this reason, if absent
    #[arg(value_name = "ROUTE")]
    route: Option<RouteName>,
    /// The state was restored on purpose
    #[arg(long, required = true)]
    after_restore: bool,
    #[command(flatten)]
    config: ConfigOptions,
}

impl Options {
    pub(super) fn run(self, out: &mut impl Write) -> Exit {
        debug_assert!(self.after_restore, "clap demands it");
        let config = match self.config.load_as_owner() {
            Ok(config) => config,
            Err(exit) => return exit,
        };
        match SetBackNotes::of(&config.state.path).release(self.route.as_ref()) {
            Ok(released) => {
                let told = released.iter().try_for_each(|route| writeln!(out, "{route}: released"));
                let told = told.and_then(|()| {
                    if released.is_empty() {
                        writeln!(out, "nothing is held for a state that was set back")
                    } else {
                        Ok(())
                    }
                });
                told.map_or(Exit::Failed, |()| Exit::Done)
            }
            Err(error) => complain(&error, error.remedy()),
        }
    }
}
