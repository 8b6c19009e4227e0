//! What the folders of an inbox can do, and whether files can be moved along every path that they take.

use super::folders::PRIVATE;
use crate::config;
use crate::files::Dir;
use crate::route::Report;
use crate::seams::Random;

/// What delivering needs.
const ONE_MOUNT: &str =
    "keep the inbox and the folders below it on one file system, without mounts between them";

/// Tries the folders of an inbox out. Nothing that is made stays. Blocks.
#[must_use]
pub fn probe(settings: &config::Inbox, random: &dyn Random) -> Report {
    // One that is not there has been told of, or is waited for.
    let Ok(inbox) = Dir::open(&settings.path) else { return Report::default() };
    let (mut report, probe) = Report::of(&inbox, random);
    if probe.is_none() {
        return report;
    }
    match report.existing(&inbox, &[PRIVATE, "incoming"]) {
        Some(incoming) => report.try_move("path", &incoming, &inbox, random, ONE_MOUNT),
        None => report.try_private(&inbox, PRIVATE, random, ONE_MOUNT),
    }
    report
}
