//! What the folders of a route can do, for people who ask before the service runs, and for the service that must not
//! run where it would lose or overwrite files.

use crate::files::{Dir, Error, Mode, NoReplace, PROBE_PREFIX, Probe, try_move};
use crate::seams::Random;

/// Something about a folder that somebody should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The key of the route's table that it is about.
    pub key: &'static str,
    /// What it is.
    pub reason: String,
    /// What to do.
    pub remedy: String,
}

/// What was found out about a route's folders.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// What holds, a line each.
    pub facts: Vec<String>,
    /// What may do harm one day.
    pub warnings: Vec<Finding>,
    /// What keeps the route from working.
    pub problems: Vec<Finding>,
}

impl Report {
    /// A report that begins with what the folder can do, and what it is lacking; with the probe, where it could be
    /// made. Nothing that is made stays. Blocks.
    #[must_use]
    pub fn of(folder: &Dir, random: &dyn Random) -> (Self, Option<Probe>) {
        let mut report = Self::default();
        match Probe::of(folder, random) {
            Ok(probe) => {
                report.facts.push(probe.describe());
                report.judge(folder, &probe);
                (report, Some(probe))
            }
            Err(error) => {
                report.trouble(&error);
                (report, None)
            }
        }
    }

    fn judge(&mut self, folder: &Dir, probe: &Probe) {
        let path = folder.path().display();
        if probe.no_replace == NoReplace::Impossible {
            let reason = format!(
                "{path} lies on a {} file system that can neither rename without overwriting nor make hard links",
                probe.file_system.name()
            );
            self.problem("path", reason, "use a folder on another file system");
        }
        if probe.is_open_to_others {
            let reason = format!(
                "everybody who may write to {path} can rename or replace what lies in it, the service's own folders too"
            );
            self.warning("path", reason, "set the sticky bit: chmod 3770");
        }
        if probe.is_anothers {
            let reason = format!(
                "{path} belongs to another user, who can rename or replace the service's own folders"
            );
            self.warning("path", reason, "give the folder to the service's user: chown");
        }
        if !probe.tells_case {
            self.facts.push("names that differ in case alone are one name here".to_owned());
        }
    }

    /// Tries whether files can be moved from one folder into another.
    pub fn try_move(&mut self, key: &'static str, from: &Dir, to: &Dir, random: &dyn Random, remedy: &str) {
        match try_move(from, to, random) {
            Ok(()) => {}
            Err(error) if error.is_cross_device() => {
                let (from, to) = (from.path().display(), to.path().display());
                let reason = format!(
                    "files cannot be moved from {from} to {to}: they lie on different file systems, or a mount lies between them"
                );
                self.problem(key, reason, remedy);
            }
            Err(error) => self.trouble(&error),
        }
    }

    /// The same into the service's own folder, or into one that is made for it where there is none yet.
    pub fn try_private(&mut self, folder: &Dir, name: &str, random: &dyn Random, remedy: &str) {
        match self.existing(folder, &[name]) {
            Some(private) => self.try_move("path", folder, &private, random, remedy),
            None if matches!(folder.look(name), Ok(None)) => self.try_new_subfolder(folder, random),
            // Nobody but the service can tell, which has been said.
            None => {}
        }
    }

    fn try_new_subfolder(&mut self, folder: &Dir, random: &dyn Random) {
        let name = format!("{PROBE_PREFIX}{:032x}-d", u128::from_ne_bytes(random.bytes()));
        match folder.ensure_subfolder(&name, Mode::PRIVATE_FOLDER) {
            Ok(below) => {
                self.try_move("path", folder, &below, random, "use a folder in which folders can be made");
                if let Err(error) = folder.remove_folder(&name) {
                    self.trouble(&error);
                }
            }
            Err(error) => self.trouble(&error),
        }
    }

    /// A folder below that is there already; `None` where it is not, or where only the service may look into it,
    /// which is then said.
    pub fn existing(&mut self, folder: &Dir, names: &[&str]) -> Option<Dir> {
        let mut below = folder.clone();
        for name in names {
            below = match below.subfolder(name) {
                Ok(found) => found,
                Err(error) if error.is_missing() => return None,
                Err(error) if error.is_forbidden() => {
                    self.facts.push(format!(
                        "cannot tell whether files can be moved to {}: only the service's user may look into it",
                        error.path.display()
                    ));
                    return None;
                }
                Err(error) => {
                    self.trouble(&error);
                    return None;
                }
            };
        }
        Some(below)
    }

    fn trouble(&mut self, error: &Error) {
        self.problem("path", error.full_message(), error.remedy());
    }

    /// Adds a problem.
    pub fn problem(&mut self, key: &'static str, reason: impl Into<String>, remedy: impl Into<String>) {
        self.problems.push(Finding { key, reason: reason.into(), remedy: remedy.into() });
    }

    /// Adds a warning.
    pub fn warning(&mut self, key: &'static str, reason: impl Into<String>, remedy: impl Into<String>) {
        self.warnings.push(Finding { key, reason: reason.into(), remedy: remedy.into() });
    }
}
