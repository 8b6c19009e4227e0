//! The configuration: read from TOML files and the environment, checked as a whole, and handed on as types that
//! need no further check.
//!
//! [`load`] reads the main file, `conf.d/*.toml` beside it, and variables such as
//! `FORMIDLINGD__OUTBOX__INVOICES__PATH`. What is wrong comes back all at once, each [`Problem`] with its place, its
//! key, the reason and a remedy. `config.example.toml` shows every key.
//!
//! A variable overrides a key, or sets one that the file leaves out; it does not make a table that has a name, and
//! it cannot reach one whose name has a hyphen. A list in a variable is separated by commas. A key stands in one
//! file only.
//!
//! Nothing here writes, logs or touches the network, and no problem shows a secret.

mod checks;
mod choice;
mod model;
mod patterns;
mod problem;
mod read;
mod read_routes;
mod reference;
mod routes;
mod schema;
mod secret;
mod secret_source;
mod section;
mod tree;
mod values;

#[cfg(test)]
mod tests;

use std::path::Path;

pub use model::{
    Altinn, Client, ClientCredential, Config, Environment, Hooks, Http, Identity, KeyNaming, Limits,
    LogFileNames, LogFormat, Proxy, Retry, State, Telemetry,
};
pub use patterns::NamePatterns;
pub use problem::{Origin, Problem, Problems};
pub use reference::ReferenceTemplate;
pub use routes::{
    AfterSend, Confirm, Inbox, Keep, Layout, MinFreeSpace, Outbox, ParallelParts, Recipients, Sending,
    Sidecar, SidecarMember, Upload, Watch,
};
pub use secret::Secret;

/// A configuration that can be used, and what should be looked at all the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What works, but is probably not meant.
    pub warnings: Vec<Problem>,
}

/// Reads the configuration whose main file is `path`, with `conf.d/*.toml` beside it and the process's environment.
///
/// Reads files, and so is called where blocking is allowed.
pub fn load(path: &Path) -> Result<Loaded, Problems> {
    load_with(path, &std::env::vars_os().collect())
}

/// The same with an environment that is handed in.
fn load_with(path: &Path, environment: &tree::Environment) -> Result<Loaded, Problems> {
    let mut found = section::Findings::default();
    let config = tree::read(path, environment, &mut found.problems)
        .and_then(|tree| build(&tree, path, environment, &mut found).ok());
    let warnings = found.warnings;
    match (config, Problems::new(found.problems)) {
        (Some(config), None) => Ok(Loaded { config, warnings }),
        (_, Some(problems)) => Err(problems),
        (None, None) => Err(Problems::unexplained(path)),
    }
}

/// From the tree to the configuration.
fn build(
    tree: &tree::Table,
    main: &Path,
    environment: &tree::Environment,
    found: &mut section::Findings,
) -> Result<Config, section::Reported> {
    read::unknown_tables(tree, found);
    let altinn =
        read::single(tree, main, &schema::ALTINN, found, |section| read::altinn(section, environment));
    let clients =
        read::named(tree, &schema::CLIENT, found, |name, section| read::client(name, section, environment));
    let identities = read::named(tree, &schema::IDENTITY, found, read::identity);
    let outboxes = read::named(tree, &schema::OUTBOX, found, read_routes::outbox);
    let inboxes = read::named(tree, &schema::INBOX, found, read_routes::inbox);
    let state = read::single(tree, main, &schema::STATE, found, read::state);
    let http = read::single(tree, main, &schema::HTTP, found, |section| read::http(section, environment));
    let retry = read::single(tree, main, &schema::RETRY, found, read::retry);
    let limits = read::single(tree, main, &schema::LIMITS, found, read::limits);
    let hooks = read::single(tree, main, &schema::HOOKS, found, read::hooks);
    let telemetry = read::single(tree, main, &schema::TELEMETRY, found, read::telemetry);
    let environment = altinn.as_ref().ok().map(|altinn| altinn.environment);
    let checks = checks::Checks {
        main,
        tree,
        environment,
        identities: &identities,
        outboxes: &outboxes,
        inboxes: &inboxes,
        state: state.as_ref().ok(),
    };
    checks.run(found);
    Ok(Config {
        altinn: altinn?,
        clients,
        identities,
        outboxes,
        inboxes,
        state: state?,
        http: http?,
        retry: retry?,
        limits: limits?,
        hooks: hooks?,
        telemetry: telemetry?,
    })
}
