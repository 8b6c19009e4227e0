//! Everything that would keep the service from running, found before it runs. Asks nobody, and leaves nothing behind.

mod folders;
mod groups;
mod mounts;
mod nesting;
mod probing;

use std::path::Path;

use rustix::fs::{Access, FileType};

use crate::config::{Config, Origin, Problem};
use crate::http;
use crate::identity::SigningKey;
use crate::seams::Random;

use super::assemble::{http_settings, naming};

/// What was found before the service runs.
#[derive(Debug, Default)]
pub struct Preflight {
    /// What keeps the service from running.
    pub problems: Vec<Problem>,
    /// What does not, but should be known.
    pub warnings: Vec<Problem>,
    /// What the folders can do; none where there are problems with them.
    pub facts: Vec<FolderFacts>,
}

/// What was found out about the folders of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderFacts {
    /// The route's table: `outbox.invoices`.
    pub route: String,
    /// What holds, a line each.
    pub facts: Vec<String>,
}

/// What would keep the service from running with this configuration, read from `file`: keys that cannot be used,
/// folders that are not there or not writable, that meet under different names or cannot do what is needed, groups and
/// programs that the service may not use. Blocks.
#[must_use]
pub fn preflight(config: &Config, file: &Path, random: &dyn Random) -> Preflight {
    let file = Origin::File(file.to_owned());
    let mut found = Found::in_file(file);
    keys(config, &mut found);
    http(config, &mut found);
    groups::check(config, &mut found);
    programs(config, &mut found);
    let before = found.problems.len();
    let usable = folders::check(config, &mut found);
    if found.problems.len() == before {
        probing::check(config, &usable, random, &mut found);
    }
    Preflight { problems: found.problems, warnings: found.warnings, facts: found.facts }
}

struct Found {
    file: Origin,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
    facts: Vec<FolderFacts>,
}

impl Found {
    fn in_file(file: Origin) -> Self {
        Self { file, problems: Vec::new(), warnings: Vec::new(), facts: Vec::new() }
    }

    fn add(&mut self, key: impl Into<String>, reason: impl Into<String>, remedy: impl Into<String>) {
        let problem = self.problem(key, reason, remedy);
        self.problems.push(problem);
    }

    fn warn(&mut self, key: impl Into<String>, reason: impl Into<String>, remedy: impl Into<String>) {
        let warning = self.problem(key, reason, remedy);
        self.warnings.push(warning);
    }

    fn problem(
        &self,
        key: impl Into<String>,
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Problem {
        Problem { file: self.file.clone(), key: key.into(), reason: reason.into(), remedy: remedy.into() }
    }
}

fn keys(config: &Config, found: &mut Found) {
    for (name, client) in &config.clients {
        if let Err(error) = SigningKey::parse(client.credential.private_key.expose()) {
            found.add(format!("client.{name}.private_key"), error.to_string(), error.remedy());
        }
        if let Err(error) = naming(&client.credential.naming).check() {
            found.add(format!("client.{name}.certificate_chain"), error.to_string(), error.remedy());
        }
    }
}

fn http(config: &Config, found: &mut Found) {
    if let Err(error) = http::Clients::new(&http_settings(&config.http)) {
        found.add("http", crate::route::text_for_people(&error), error.remedy());
    }
}

/// Programs that cannot be run are a problem where the service itself runs them. The hook service may see what this
/// process does not, and may come later; so then it is a warning.
fn programs(config: &Config, found: &mut Found) {
    let mut some = false;
    for inbox in config.inboxes.values() {
        let Some([program, ..]) = inbox.on_received.as_deref() else { continue };
        some = true;
        if rustix::fs::access(program.as_str(), Access::EXEC_OK).is_ok() {
            continue;
        }
        let key = format!("inbox.{}.on_received", inbox.name);
        if config.hooks.socket.is_some() {
            let reason = format!("{program:?} is not a program, as far as can be seen from here");
            found.warn(key, reason, "name an executable file that formidlingd-hook@.service may run");
        } else {
            let reason = format!("{program:?} is not a program that the service may run");
            found.add(key, reason, "name an executable file");
        }
    }
    if let Some(socket) = config.hooks.socket.as_deref().filter(|_| some)
        && !rustix::fs::stat(socket)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Socket)
    {
        let reason = "there is no such socket: programs of on_received wait for it";
        found.warn("hooks.socket", reason, "start it with `systemctl enable --now formidlingd-hook.socket`");
    }
}
