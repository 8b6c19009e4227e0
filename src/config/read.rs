//! From the tree of what was written to the checked configuration: all tables but the routes.

use std::collections::BTreeMap;
use std::path::Path;
use std::str::FromStr;

use tracing_subscriber::EnvFilter;
use url::Url;

use super::model::{
    Altinn, Client, ClientCredential, Environment as AltinnEnvironment, Hooks, Http, Identity, KeyNaming,
    Limits, Proxy, Retry, State, Telemetry,
};
use super::problem::{Origin, Problem};
use super::schema;
use super::section::{Findings, Reported, Section, Wrong, unknown};
use super::tree::{Environment, Node, Table, Value, segment};
use super::{secret_source, values};
use crate::transfer::{ClientName, IdentityName, ParseError};

/// Reports the tables that nobody knows.
pub(super) fn unknown_tables(tree: &Table, found: &mut Findings) {
    let names = || schema::SECTIONS.into_iter().map(|section| section.name);
    for (name, node) in tree {
        if schema::section(name).is_none() {
            found.problems.push(unknown("", name, &node.origin, names()));
        }
    }
}

/// Reads a table that there is one of; absent is as good as empty.
pub(super) fn single<T>(
    tree: &Table,
    main: &Path,
    schema: &'static schema::Section,
    found: &mut Findings,
    read: impl FnOnce(&mut Section<'_>) -> Result<T, Reported>,
) -> Result<T, Reported> {
    let nothing = Node { value: Value::Table(Table::new()), origin: Origin::File(main.to_path_buf()) };
    let node = tree.get(schema.name).unwrap_or(&nothing);
    let table = table_at(node, schema.name, found)?;
    read(&mut Section::new(schema, None, (table, &node.origin), found))
}

/// Reads the tables that have names.
pub(super) fn named<N: FromStr<Err = ParseError> + Ord + Clone, T>(
    tree: &Table,
    schema: &'static schema::Section,
    found: &mut Findings,
    read: impl Fn(N, &mut Section<'_>) -> Result<T, Reported>,
) -> BTreeMap<N, T> {
    let mut tables = BTreeMap::new();
    let Some(all) = tree.get(schema.name).and_then(|node| table_at(node, schema.name, found).ok()) else {
        return tables;
    };
    for (name, node) in all {
        let path = format!("{}.{}", schema.name, segment(name));
        let Ok(table) = table_at(node, &path, found) else { continue };
        let parsed = name.parse::<N>();
        let mut section = Section::new(schema, Some(name), (table, &node.origin), found);
        match parsed {
            Ok(name) => {
                if let Ok(value) = read(name.clone(), &mut section) {
                    tables.insert(name, value);
                }
            }
            Err(error) => found.problems.push(Problem {
                file: node.origin.clone(),
                key: path,
                reason: format!("{:?} is not {}", error.value, error.expected),
                remedy: error.reason.to_owned(),
            }),
        }
    }
    tables
}

fn table_at<'a>(node: &'a Node, path: &str, found: &mut Findings) -> Result<&'a Table, Reported> {
    match &node.value {
        Value::Table(table) => Ok(table),
        other => {
            found.problems.push(Problem {
                file: node.origin.clone(),
                key: path.to_owned(),
                reason: format!("it is {}, and should be a table", other.kind()),
                remedy: format!("begin it with [{path}], or with a name more where there are several"),
            });
            Err(Reported)
        }
    }
}

/// `[altinn]`
pub(super) fn altinn(section: &mut Section<'_>, environment: &Environment) -> Result<Altinn, Reported> {
    let which = section.value("environment", values::choice::<AltinnEnvironment>);
    let platform = section.optional("platform_url", values::safe_url);
    let token = section.optional("maskinporten_token_url", values::safe_url);
    let audience = section.optional("maskinporten_audience", values::text);
    let subscription_key = secret_source::optional(section, "subscription_key", environment);
    let which = which?;
    let (implied_platform, implied_token, implied_audience) = match implied(which) {
        Some((platform, token, audience)) => {
            (Url::parse(platform).ok(), Url::parse(token).ok(), Some(audience.to_owned()))
        }
        None => (None, None, None),
    };
    let platform = settled(section, "platform_url", platform?, implied_platform);
    let token = settled(section, "maskinporten_token_url", token?, implied_token);
    let audience = settled(section, "maskinporten_audience", audience?, implied_audience);
    let altinn = Altinn {
        environment: which,
        platform_url: platform?,
        maskinporten_token_url: token?,
        maskinporten_audience: audience?,
        subscription_key: subscription_key?,
    };
    one_world(section, &altinn)?;
    Ok(altinn)
}

/// Platform, token endpoint and audience of an environment.
///
/// Origin: <https://docs.altinn.studio/broker/getting-started/common-steps> and
/// <https://docs.digdir.no/docs/Maskinporten/maskinporten_func_wellknown>.
fn implied(environment: AltinnEnvironment) -> Option<(&'static str, &'static str, &'static str)> {
    match environment {
        AltinnEnvironment::Tt02 => Some((
            "https://platform.tt02.altinn.no",
            "https://test.maskinporten.no/token",
            "https://test.maskinporten.no/",
        )),
        AltinnEnvironment::Production => {
            Some(("https://platform.altinn.no", "https://maskinporten.no/token", "https://maskinporten.no/"))
        }
        AltinnEnvironment::Sandbox => None,
    }
}

/// What is written, else what is implied, else a problem.
fn settled<T>(
    section: &mut Section<'_>,
    key: &'static str,
    written: Option<T>,
    implied: Option<T>,
) -> Result<T, Reported> {
    written.or(implied).ok_or_else(|| {
        section.problem(
            key,
            Wrong::new(
                "it is missing, and environment = \"sandbox\" implies no address",
                "write what `formidlingd sandbox` prints at its start",
            ),
        )
    })
}

/// Refuses addresses of one environment in the configuration of another: a client that is registered in one does
/// not exist in the other, and a test must not reach production.
fn one_world(section: &mut Section<'_>, altinn: &Altinn) -> Result<(), Reported> {
    let audience = Url::parse(&altinn.maskinporten_audience).ok();
    let addresses = [
        ("platform_url", Some(&altinn.platform_url)),
        ("maskinporten_token_url", Some(&altinn.maskinporten_token_url)),
        ("maskinporten_audience", audience.as_ref()),
    ];
    let mut one = Ok(());
    for (key, url) in addresses {
        let Some(world) = url.and_then(Url::host_str).and_then(world) else { continue };
        if world != altinn.environment {
            let reason = format!("it belongs to \"{world}\", but environment = \"{}\"", altinn.environment);
            one = Err(section.problem(key, Wrong::new(reason, "remove it, or change environment")));
        }
    }
    one
}

/// The environment that a host belongs to, where it is one of Altinn's or Maskinporten's.
fn world(host: &str) -> Option<AltinnEnvironment> {
    let host = host.trim_end_matches('.');
    match host {
        "platform.altinn.no" | "maskinporten.no" => Some(AltinnEnvironment::Production),
        _ if host.ends_with(".altinn.no") || host.ends_with(".maskinporten.no") => {
            Some(AltinnEnvironment::Tt02)
        }
        _ => None,
    }
}

/// `[client.NAME]`
pub(super) fn client(
    name: ClientName,
    section: &mut Section<'_>,
    environment: &Environment,
) -> Result<Client, Reported> {
    let client_id = section.value("client_id", values::text);
    let private_key = secret_source::required(section, "private_key", environment);
    let naming = key_naming(section, environment);
    let searches = section.value("searches_per_minute", values::positive);
    let details = section.value("details_per_minute", values::positive);
    let calls = section.value("calls_per_minute", values::positive);
    Ok(Client {
        name,
        client_id: client_id?,
        credential: ClientCredential { private_key: private_key?, naming: naming? },
        searches_per_minute: searches?,
        details_per_minute: details?,
        calls_per_minute: calls?,
    })
}

fn key_naming(section: &mut Section<'_>, environment: &Environment) -> Result<KeyNaming, Reported> {
    const REMEDY: &str = "give key_id for a key that is registered on the client, certificate_chain for a business \
                          certificate";
    let key_id = section.optional("key_id", values::text);
    let chain = secret_source::optional(section, "certificate_chain", environment);
    match (key_id?, chain?) {
        (Some(key_id), None) => Ok(KeyNaming::KeyId(key_id)),
        (None, Some(chain)) => Ok(KeyNaming::CertificateChain(chain)),
        (Some(_), Some(_)) => {
            Err(section.problem("certificate_chain", Wrong::new("key_id is given too", REMEDY)))
        }
        (None, None) => {
            Err(section.problem("key_id", Wrong::new("neither it nor certificate_chain is given", REMEDY)))
        }
    }
}

/// `[identity.NAME]`
pub(super) fn identity(name: IdentityName, section: &mut Section<'_>) -> Result<Identity, Reported> {
    let organization = section.value("organization", values::parsed);
    let client = section.value("client", values::parsed);
    let system_user = section.value("system_user", values::boolean);
    let reference = section.optional("system_user_reference", values::text);
    if section.has("system_user_reference") && matches!(system_user, Ok(false)) {
        let wrong = Wrong::new("there is no system user to refer to", "remove it, or set system_user = true");
        section.problem("system_user_reference", wrong);
    }
    Ok(Identity {
        name,
        organization: organization?,
        client: client?,
        system_user: system_user?,
        system_user_reference: reference?,
    })
}

/// `[state]`
pub(super) fn state(section: &mut Section<'_>) -> Result<State, Reported> {
    let path = section.value("path", values::path);
    let keep_history = section.value("keep_history", values::keep);
    let export_every = section.value("export_every", values::every);
    let keep_exports = section.value("keep_exports", values::positive);
    let ballast = section.optional("ballast", values::size);
    let min_free_space = section.optional("min_free_space", values::size);
    Ok(State {
        path: path?,
        keep_history: keep_history?,
        export_every: export_every?,
        keep_exports: keep_exports?,
        ballast: ballast?,
        min_free_space: min_free_space?,
    })
}

/// `[http]`
pub(super) fn http(section: &mut Section<'_>, environment: &Environment) -> Result<Http, Reported> {
    let proxy = section.optional("proxy", |value| match value {
        Value::Text(text) | Value::Plain(text) if text == "environment" => Ok(Proxy::Environment),
        value => values::url(value).map(Proxy::Url),
    });
    let credentials = secret_source::optional(section, "proxy_credentials", environment);
    let no_proxy = section.value("no_proxy", values::texts);
    let ca_file = section.optional("ca_file", values::path);
    let connect_timeout = section.value("connect_timeout", values::positive_duration);
    let idle_timeout = section.value("idle_timeout", values::positive_duration);
    if let Ok(Some(path)) = &ca_file
        && let Err(error) = std::fs::File::open(path)
    {
        let reason = format!("the file cannot be read: {error}");
        section.problem("ca_file", Wrong::new(reason, "name a PEM file that the service may read"));
    }
    if !matches!(proxy, Ok(Some(Proxy::Url(_))) | Err(Reported)) {
        let idle = [
            ("proxy_credentials", section.has("proxy_credentials")),
            ("no_proxy", no_proxy.as_ref().is_ok_and(|hosts| !hosts.is_empty())),
        ];
        for (key, _) in idle.into_iter().filter(|(_, given)| *given) {
            section
                .problem(key, Wrong::new("it goes with the address of a proxy", "set proxy, or remove it"));
        }
    }
    if let Ok(Some(credentials)) = &credentials
        && !credentials.expose().contains(':')
    {
        section.problem("proxy_credentials", Wrong::new("it has no colon", "store it as user:password"));
    }
    Ok(Http {
        proxy: proxy?.unwrap_or(Proxy::None),
        proxy_credentials: credentials?,
        no_proxy: no_proxy?,
        ca_file: ca_file?,
        connect_timeout: connect_timeout?,
        idle_timeout: idle_timeout?,
    })
}

/// `[retry]`
pub(super) fn retry(section: &mut Section<'_>) -> Result<Retry, Reported> {
    let initial = section.value("initial", values::positive_duration);
    let max = section.value("max", values::positive_duration);
    let give_up_after = section.value("give_up_after", values::positive_duration);
    let cut_upload_wait = section.value("cut_upload_wait", values::duration);
    let settle_initialize = section.value("settle_initialize", values::duration);
    let wedged_after = section.value("wedged_after", values::positive_duration);
    let probe_every = section.value("probe_every", values::positive_duration);
    if let (Ok(initial), Ok(max)) = (initial, max)
        && initial > max
    {
        let key = if section.has("max") { "max" } else { "initial" };
        section.problem(key, Wrong::new("max is shorter than initial", "make max the longer one"));
    }
    Ok(Retry {
        initial: initial?,
        max: max?,
        give_up_after: give_up_after?,
        cut_upload_wait: cut_upload_wait?,
        settle_initialize: settle_initialize?,
        wedged_after: wedged_after?,
        probe_every: probe_every?,
    })
}

/// `[limits]`
pub(super) fn limits(section: &mut Section<'_>) -> Result<Limits, Reported> {
    let uploads = section.value("uploads", values::positive);
    let downloads = section.value("downloads", values::positive);
    Ok(Limits { uploads: uploads?, downloads: downloads? })
}

/// `[hooks]`
pub(super) fn hooks(section: &mut Section<'_>) -> Result<Hooks, Reported> {
    let socket = section.optional("socket", values::socket_path);
    Ok(Hooks { socket: socket? })
}

/// `[telemetry]`
pub(super) fn telemetry(section: &mut Section<'_>) -> Result<Telemetry, Reported> {
    let log_format = section.value("log_format", values::choice);
    let log_level = section.value("log_level", |value| {
        let text = values::text(value)?;
        if is_directives(&text) {
            Ok(text)
        } else {
            let reason = format!("{} is neither a level nor a list of directives", values::quoted(&text));
            Err(Wrong::new(
                reason,
                "write error, warn, info, debug or trace, or such as \"info,formidlingd=debug\"",
            ))
        }
    });
    let log_file_names = section.value("log_file_names", values::choice);
    Ok(Telemetry { log_format: log_format?, log_level: log_level?, log_file_names: log_file_names? })
}

/// Whether a text is what `tracing-subscriber` filters by. A word alone must be a level: the crate would take a
/// mistyped one for the name of a module, and log nothing else.
fn is_directives(text: &str) -> bool {
    let word_is_level = |word: &str| {
        let levels = ["off", "error", "warn", "info", "debug", "trace"];
        word.contains('=') || levels.iter().any(|level| word.eq_ignore_ascii_case(level))
    };
    text.split(',').all(|word| word_is_level(word.trim())) && EnvFilter::try_new(text).is_ok()
}
