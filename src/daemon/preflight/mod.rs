//! Everything that would keep the service from running, found before it runs. Changes nothing and asks nobody.

mod folders;
mod groups;
mod mounts;
mod nesting;

use std::path::Path;

use rustix::fs::Access;

use crate::config::{Config, Origin, Problem};
use crate::http;
use crate::identity::SigningKey;

use super::assemble::{http_settings, naming};

/// What would keep the service from running with this configuration, read from `file`: keys that cannot be used,
/// folders that are not there or not writable or meet under different names, groups and programs that the service
/// may not use. Blocks.
#[must_use]
pub fn preflight(config: &Config, file: &Path) -> Vec<Problem> {
    let mut found = Found { file: Origin::File(file.to_owned()), problems: Vec::new() };
    keys(config, &mut found);
    http(config, &mut found);
    folders::check(config, &mut found);
    groups::check(config, &mut found);
    programs(config, &mut found);
    found.problems
}

struct Found {
    file: Origin,
    problems: Vec<Problem>,
}

impl Found {
    fn add(&mut self, key: impl Into<String>, reason: impl Into<String>, remedy: impl Into<String>) {
        let (key, reason, remedy) = (key.into(), reason.into(), remedy.into());
        self.problems.push(Problem { file: self.file.clone(), key, reason, remedy });
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

fn programs(config: &Config, found: &mut Found) {
    for inbox in config.inboxes.values() {
        if let Some([program, ..]) = inbox.on_received.as_deref()
            && rustix::fs::access(program.as_str(), Access::EXEC_OK).is_err()
        {
            let reason = format!("{program:?} is not a program that the service may run");
            found.add(format!("inbox.{}.on_received", inbox.name), reason, "name an executable file");
        }
    }
}
