//! `formidlingd hook`: one program of `on_received`, run for the service by systemd.

use clap::Args;

use super::{Exit, complain};
use crate::inbox::hook;

/// Run one program for the service
///
/// Started by systemd for each connection to formidlingd-hook.socket. Reads a request, as one line of JSON, from
/// standard input, runs the program that it names, and says on standard output how it ended.
#[derive(Debug, Args)]
pub(super) struct Options {}

impl Options {
    pub(super) fn run(self) -> Exit {
        let Self {} = self;
        // It waits for one program and nothing else, and there is one process like this for each.
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return complain(&error, "see what the system says"),
        };
        let served = runtime.block_on(hook::serve());
        // A read from a terminal cannot be interrupted, and must not keep the process.
        runtime.shutdown_background();
        match served {
            Ok(()) => Exit::Done,
            Err(error) => complain(&error, error.remedy()),
        }
    }
}
