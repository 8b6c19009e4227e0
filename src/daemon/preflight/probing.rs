//! What the folders can do, found out by trying.

use std::path::Path;

use super::{FolderFacts, Found};
use crate::config::Config;
use crate::route::{Finding, Report};
use crate::seams::Random;
use crate::{inbox, outbox};

/// Tries the folders of every route out that can be used. That others are away has been told of.
pub(super) fn check(config: &Config, usable: &[&Path], random: &dyn Random, found: &mut Found) {
    for settings in config.outboxes.values().filter(|outbox| usable.contains(&outbox.path.as_path())) {
        take(format!("outbox.{}", settings.name), outbox::probe(settings, random), found);
    }
    for settings in config.inboxes.values().filter(|inbox| usable.contains(&inbox.path.as_path())) {
        take(format!("inbox.{}", settings.name), inbox::probe(settings, random), found);
    }
}

fn take(route: String, report: Report, found: &mut Found) {
    let Report { facts, warnings, problems } = report;
    let key = |finding: &Finding| format!("{route}.{}", finding.key);
    for problem in &problems {
        found.add(key(problem), &problem.reason, &problem.remedy);
    }
    for warning in &warnings {
        found.warn(key(warning), &warning.reason, &warning.remedy);
    }
    found.facts.push(FolderFacts { route, facts });
}
