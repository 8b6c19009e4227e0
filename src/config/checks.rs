//! What holds between tables: names that exist, folders that do not meet, files that nobody receives twice.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::model::{Environment, Identity, State};
use super::problem::{Origin, Problem};
use super::routes::{Inbox, Outbox, Recipients};
use super::section::{Findings, Wrong};
use super::tree::{Node, Table, Value, segment};
use crate::transfer::{IdentityName, OrgNumber, RouteName};

/// The tables as far as they could be read, and the tree that they were read from.
#[derive(Debug)]
pub(super) struct Checks<'a> {
    pub(super) main: &'a Path,
    pub(super) tree: &'a Table,
    pub(super) environment: Option<Environment>,
    pub(super) identities: &'a BTreeMap<IdentityName, Identity>,
    pub(super) outboxes: &'a BTreeMap<RouteName, Outbox>,
    pub(super) inboxes: &'a BTreeMap<RouteName, Inbox>,
    pub(super) state: Option<&'a State>,
}

impl Checks<'_> {
    /// Reports all that does not fit together.
    pub(super) fn run(&self, found: &mut Findings) {
        self.some_route(found);
        self.names(found);
        self.folders(found);
        self.inboxes_of_one_resource(found);
        self.synthetic_organizations(found);
    }

    fn some_route(&self, found: &mut Findings) {
        if self.written("outbox").next().is_none() && self.written("inbox").next().is_none() {
            found.problems.push(Problem {
                file: Origin::File(self.main.to_path_buf()),
                key: String::new(),
                reason: "there is no outbox and no inbox, so there is nothing to do".to_owned(),
                remedy: "add [outbox.NAME] or [inbox.NAME]; config.example.toml shows both".to_owned(),
            });
        }
    }

    /// The names below a table, also of what could not be read in full.
    fn written(&self, section: &str) -> impl Iterator<Item = &String> {
        let table = match self.tree.get(section) {
            Some(Node { value: Value::Table(table), .. }) => Some(table),
            _ => None,
        };
        table.into_iter().flat_map(Table::keys)
    }

    fn names(&self, found: &mut Findings) {
        for identity in self.identities.values() {
            self.exists(&["identity", identity.name.as_str(), "client"], identity.client.as_str(), found);
        }
        let routes = self
            .outboxes
            .values()
            .map(|route| ("outbox", &route.name, &route.identity))
            .chain(self.inboxes.values().map(|route| ("inbox", &route.name, &route.identity)));
        for name in self.inboxes.keys().filter(|name| self.outboxes.contains_key(name)) {
            let wrong = Wrong::new(
                format!("there is an [outbox.{name}] too"),
                "give each route a name of its own".to_owned(),
            );
            found.problems.push(self.problem(&["inbox", name.as_str(), ""], wrong));
        }
        for (section, name, identity) in routes {
            self.exists(&[section, name.as_str(), "identity"], identity.as_str(), found);
        }
    }

    /// Checks that what a key names has a table; the key's own name is that of the tables.
    fn exists(&self, key: &[&str; 3], name: &str, found: &mut Findings) {
        let [.., section] = key;
        if self.written(section).any(|written| written == name) {
            return;
        }
        let remedy = match super::schema::nearest(name, self.written(section).map(String::as_str)) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => format!("add [{section}.{name}], or name another"),
        };
        let wrong = Wrong::new(format!("there is no [{section}.{name}]"), remedy);
        found.problems.push(self.problem(key, wrong));
    }

    /// Folders that are equal or nested: a file would be sent from where it was received, or twice.
    fn folders(&self, found: &mut Findings) {
        let mut folders: Vec<([&str; 3], &PathBuf)> = Vec::new();
        folders.extend(
            self.outboxes.values().map(|route| (["outbox", route.name.as_str(), "path"], &route.path)),
        );
        folders.extend(self.outboxes.values().filter_map(|route| {
            Some((["outbox", route.name.as_str(), "archive_path"], route.archive_path.as_ref()?))
        }));
        folders
            .extend(self.inboxes.values().map(|route| (["inbox", route.name.as_str(), "path"], &route.path)));
        folders.extend(self.state.map(|state| (["state", "", "path"], &state.path)));
        for (position, (key, path)) in folders.iter().enumerate() {
            for (other_key, other) in folders.iter().take(position) {
                if path.starts_with(other) || other.starts_with(path) {
                    let reason = format!("it meets {} ({:?})", dotted(other_key), other.to_string_lossy());
                    let wrong = Wrong::new(reason, "give each a folder of its own, none inside another");
                    found.problems.push(self.problem(key, wrong));
                }
            }
        }
    }

    /// Two inboxes of one organisation and resource would both receive each file.
    fn inboxes_of_one_resource(&self, found: &mut Findings) {
        let all: Vec<(&Inbox, Option<OrgNumber>)> = self
            .inboxes
            .values()
            .map(|inbox| (inbox, self.identities.get(&inbox.identity).map(|identity| identity.organization)))
            .collect();
        for (position, (inbox, organization)) in all.iter().enumerate() {
            for (other, other_organization) in all.iter().take(position) {
                let same = organization.is_some()
                    && organization == other_organization
                    && inbox.resource_id == other.resource_id;
                let apart = !inbox.senders.is_empty()
                    && !other.senders.is_empty()
                    && !inbox.senders.iter().any(|sender| other.senders.contains(sender));
                if same && !apart {
                    let reason = format!("inbox.{} receives the same files", other.name);
                    let remedy = "remove one, or give both a list of senders that have none in common";
                    let key = ["inbox", inbox.name.as_str(), "resource_id"];
                    found.problems.push(self.problem(&key, Wrong::new(reason, remedy)));
                }
            }
        }
    }

    /// Numbers that begin with 2 or 3 are made up for the test environments; in production nobody has one.
    fn synthetic_organizations(&self, found: &mut Findings) {
        if self.environment != Some(Environment::Production) {
            return;
        }
        let mut named: Vec<([&str; 3], &[OrgNumber])> = Vec::new();
        for identity in self.identities.values() {
            let key = ["identity", identity.name.as_str(), "organization"];
            named.push((key, std::slice::from_ref(&identity.organization)));
        }
        for outbox in self.outboxes.values() {
            let name = outbox.name.as_str();
            if let Recipients::Listed(recipients) = &outbox.recipients {
                named.push((["outbox", name, "recipients"], recipients));
            }
            named.push((["outbox", name, "allowed_recipients"], &outbox.allowed_recipients));
        }
        for inbox in self.inboxes.values() {
            named.push((["inbox", inbox.name.as_str(), "senders"], &inbox.senders));
        }
        for (key, organizations) in named {
            for organization in organizations.iter().filter(|organization| organization.is_synthetic()) {
                let reason = format!("{organization} is a number of the test environments");
                let wrong = Wrong::new(reason, "write the real number, or use environment = \"tt02\"");
                found.warnings.push(self.problem(&key, wrong));
            }
        }
    }

    fn problem(&self, key: &[&str; 3], wrong: Wrong) -> Problem {
        let mut origin = Origin::File(self.main.to_path_buf());
        let mut table = Some(self.tree);
        for name in key.iter().filter(|name| !name.is_empty()) {
            let Some(node) = table.and_then(|table| table.get(*name)) else { break };
            origin = node.origin.clone();
            table = if let Value::Table(below) = &node.value { Some(below) } else { None };
        }
        Problem { file: origin, key: dotted(key), reason: wrong.reason, remedy: wrong.remedy }
    }
}

fn dotted(key: &[&str; 3]) -> String {
    key.iter().filter(|name| !name.is_empty()).map(|name| segment(name)).collect::<Vec<_>>().join(".")
}
