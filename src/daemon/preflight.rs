//! Everything that would keep the service from running, found before it runs. Changes nothing and asks nobody.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::Access;

use crate::config::{Config, Origin, Problem};
use crate::files;
use crate::http;
use crate::identity::SigningKey;

use super::assemble::{http_settings, naming};

/// What would keep the service from running with this configuration, read from `file`: keys that cannot be used,
/// folders that are not there or not writable, routes that share a folder under different names. Blocks.
#[must_use]
pub fn preflight(config: &Config, file: &Path) -> Vec<Problem> {
    let mut found = Found { file: Origin::File(file.to_owned()), problems: Vec::new() };
    keys(config, &mut found);
    http(config, &mut found);
    folders(config, &mut found);
    state(config, &mut found);
    found.problems
}

struct Found {
    file: Origin,
    problems: Vec<Problem>,
}

impl Found {
    fn add(&mut self, key: String, reason: impl Into<String>, remedy: impl Into<String>) {
        let (reason, remedy) = (reason.into(), remedy.into());
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
        found.add("http".to_owned(), crate::route::text_for_people(&error), error.remedy());
    }
}

fn folders(config: &Config, found: &mut Found) {
    let mut seen: BTreeMap<(u64, u64), String> = BTreeMap::new();
    let outboxes = config.outboxes.values().map(|outbox| (format!("outbox.{}", outbox.name), &outbox.path));
    let inboxes = config.inboxes.values().map(|inbox| (format!("inbox.{}", inbox.name), &inbox.path));
    for (route, path) in outboxes.chain(inboxes) {
        let key = format!("{route}.path");
        let Some(identity) = folder(&key, path, found) else { continue };
        if let Some(other) = seen.insert(identity, key.clone()) {
            found.add(
                key,
                format!("it is the same folder as {other}"),
                "give each route a folder of its own",
            );
        }
    }
    for inbox in config.inboxes.values() {
        if let Some(group) = &inbox.group
            && let Err(error) = files::group_number(group)
        {
            found.add(
                format!("inbox.{}.group", inbox.name),
                error.full_message(),
                "name a group that exists",
            );
        }
        if let Some([program, ..]) = inbox.on_received.as_deref()
            && rustix::fs::access(program.as_str(), Access::EXEC_OK).is_err()
        {
            let reason = format!("{program:?} is not a program that the service may run");
            found.add(format!("inbox.{}.on_received", inbox.name), reason, "name an executable file");
        }
    }
}

/// Device and inode of a folder that can be used.
fn folder(key: &str, path: &Path, found: &mut Found) -> Option<(u64, u64)> {
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) => {
            let reason = format!("{} cannot be opened: {error}", path.display());
            found.add(key.to_owned(), reason, "make the folder, and let the service's user into it");
            return None;
        }
    };
    if !metadata.is_dir() {
        found.add(key.to_owned(), format!("{} is not a folder", path.display()), "name a folder");
        return None;
    }
    if rustix::fs::access(path, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK).is_err() {
        let reason = format!("the user that runs this may not read and write {}", path.display());
        found.add(
            key.to_owned(),
            reason,
            "give the service's user (or its group) the right to read and write it",
        );
        return None;
    }
    Some((metadata.dev(), metadata.ino()))
}

fn state(config: &Config, found: &mut Found) {
    let path = &config.state.path;
    let Some(existing) = nearest_existing(path) else { return };
    if rustix::fs::access(&existing, Access::WRITE_OK | Access::EXEC_OK).is_err() {
        let reason = format!("the user that runs this may not write {}", existing.display());
        found.add("state.path".to_owned(), reason, "give the service's user the right to write it");
    } else if !existing.is_dir() {
        let reason = format!("{} is not a folder", existing.display());
        found.add("state.path".to_owned(), reason, "name a folder");
    }
}

fn nearest_existing(path: &Path) -> Option<PathBuf> {
    path.ancestors().find(|ancestor| ancestor.exists()).map(Path::to_owned)
}
