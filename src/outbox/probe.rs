//! What the folders of an outbox can do: how new files are heard of, whether writers are seen, and whether files can
//! be moved along every path that they take.

use super::candidate::Source;
use super::folders::{FAILED, PRIVATE, SENT};
use super::watch::{Told, would_tell};
use crate::config::{self, Watch};
use crate::files::{Dir, Leases, Probe};
use crate::route::Report;
use crate::seams::Random;

/// What moving files out of the drop folder needs.
const ONE_MOUNT: &str =
    "keep the drop folder and the folders below it on one file system, without mounts between them";

/// Tries the folders of an outbox out. Nothing that is made stays. Blocks.
#[must_use]
pub fn probe(settings: &config::Outbox, random: &dyn Random) -> Report {
    // One that is not there has been told of, or is waited for.
    let Ok(drop) = Dir::open(&settings.path) else { return Report::default() };
    let (mut report, probe) = Report::of(&drop, random);
    let Some(probe) = probe else { return report };
    hearing(settings, &drop, &probe, &mut report, random);
    settling(settings, &probe, &mut report);
    moving(settings, &drop, &mut report, random);
    report
}

fn hearing(settings: &config::Outbox, drop: &Dir, probe: &Probe, report: &mut Report, random: &dyn Random) {
    let listed = format!("the folder is listed every {}", humantime::format_duration(settings.poll_interval));
    let told = match would_tell(settings.watch, drop, probe.file_system, random) {
        Ok(told) => told,
        Err(error) => return report.problem("path", error.full_message(), error.remedy()),
    };
    let fact = match told {
        Told::Yes => format!("the kernel tells of new files, and {listed}"),
        Told::Off => format!("{listed}, as watch = \"poll\" says"),
        Told::NotOfOthers(file_system) => {
            format!("{listed}, since the kernel does not see what others put on {}", file_system.name())
        }
        Told::NotAtAll => format!("{listed}, since the kernel does not tell of new files here"),
    };
    report.facts.push(fact);
    if settings.watch == Watch::Notify && told == Told::NotAtAll {
        let reason = "it is \"notify\", and the kernel does not tell of new files here";
        report.problem("watch", reason, "write \"auto\"; perhaps raise fs.inotify.max_user_watches");
    }
}

fn settling(settings: &config::Outbox, probe: &Probe, report: &mut Report) {
    let words = humantime::format_duration;
    let unverified = settings.settle.max(settings.settle_unverified);
    let settle = match probe.leases {
        Leases::OfAll => format!("a file is taken when it has been still for {}", words(settings.settle)),
        Leases::OfOwn => format!(
            "a file is taken when it has been still for {}, another user's for {} (CAP_LEASE would make it the same)",
            words(settings.settle),
            words(unverified)
        ),
        Leases::OfNone => format!("a file is taken when it has been still for {}", words(unverified)),
    };
    report.facts.push(format!("{settle}, an empty one for {}", words(settings.settle_empty)));
}

fn moving(settings: &config::Outbox, drop: &Dir, report: &mut Report, random: &dyn Random) {
    let Some(sending) = report.existing(drop, &[PRIVATE, "sending"]) else {
        return report.try_private(drop, PRIVATE, random, ONE_MOUNT);
    };
    report.try_move("path", drop, &sending, random, ONE_MOUNT);
    if let Some(failed) = report.existing(drop, &[FAILED]) {
        report.try_move("path", &sending, &failed, random, ONE_MOUNT);
    }
    match &settings.archive_path {
        Some(path) => match Dir::open(path) {
            Ok(archive) => archiving(&sending, &archive, report, random),
            Err(error) => report.problem("archive_path", error.full_message(), error.remedy()),
        },
        None => {
            if let Some(sent) = report.existing(drop, &[SENT]) {
                let remedy = "name the folder that lies elsewhere in archive_path: files are copied there";
                report.try_move("path", &sending, &sent, random, remedy);
            }
        }
    }
    if settings.recipients == config::Recipients::FromDirectory {
        for source in Source::below(drop, |_| {}).unwrap_or_default() {
            let name = source.name().unwrap_or_default();
            if let Some(folder) = report.existing(drop, &[&name]) {
                report.try_move("path", &folder, &sending, random, ONE_MOUNT);
            }
        }
    }
}

fn archiving(sending: &Dir, archive: &Dir, report: &mut Report, random: &dyn Random) {
    let path = archive.path().display().to_string();
    match crate::files::try_move(sending, archive, random) {
        Ok(()) => report.facts.push(format!("sent files are moved to {path}")),
        Err(error) if error.is_cross_device() => {
            report.facts.push(format!("sent files are copied to {path}, which is another file system"));
        }
        Err(error) => report.problem("archive_path", error.full_message(), error.remedy()),
    }
}
