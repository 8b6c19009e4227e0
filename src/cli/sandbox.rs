//! `formidlingd sandbox`: a local Altinn to build and test against.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::json;

use super::{Exit, complain, serve};
use crate::daemon::{Shutdown, Signals};
use crate::sandbox::{self, Customer, FaultRules, Founded, Keep, RateLimits, Role, RuleError, Sandbox};
use crate::telemetry;

/// Run a local Altinn to build and test against
///
/// Serves Maskinporten, the token exchange and Formidling on loopback, with a sender and a recipient organisation,
/// and a system vendor with its customers if they are asked for, and prints ready-to-use configurations for all of
/// them. It is not Altinn: what it is sent goes nowhere.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// Where to listen; loopback only, port 0 for any free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8090")]
    listen: SocketAddr,
    /// Where keys, transfers and contents are kept; a temporary folder if not given
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Speak TLS, with a certificate by an authority that is made in the folder
    #[arg(long)]
    tls: bool,
    /// Have so many customers of a system vendor, who acts for all of them by one client
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = customers)]
    organisations: usize,
    /// How long the malware scan takes
    #[arg(long, value_name = "DURATION", default_value = "200ms", value_parser = humantime::parse_duration)]
    scan_delay: Duration,
    /// After how long an upload that was begun and not ended has failed
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = humantime::parse_duration)]
    stuck_after: Duration,
    /// How probably a chunk of a resumable upload that is cut off midway is accepted and never stored, as at Altinn
    #[arg(long, value_name = "PROBABILITY", default_value_t = 1.0, value_parser = probability)]
    tus_wedge: f64,
    /// Where chance begins, so that it is the same every time
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// Demand this subscription key of every request to the platform
    #[arg(long, value_name = "KEY")]
    subscription_key: Option<String>,
    /// What goes wrong: a file of fault rules (TOML); GET and PUT /_sandbox/faults while it runs
    #[arg(long, value_name = "FILE")]
    faults: Option<PathBuf>,
    /// How many calls a client may make: "altinn" for Altinn's limits, "off", or so many times Altinn's
    #[arg(long, value_name = "LIMITS", default_value = "altinn", value_parser = rate_limits)]
    rate_limits: RateLimits,
    /// Trust this certificate authority in pushed events, besides those of the system (PEM; repeatable)
    #[arg(long, value_name = "FILE")]
    trust: Vec<PathBuf>,
    /// How long Altinn Events remembers subscriptions and rights; the real one does for 1h, in which a new
    /// subscription can stay silent and a deleted one can still be delivered to
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = humantime::parse_duration)]
    events_cache: Duration,
    /// Let what happens by itself (scans, expiry, retries) happen this many times faster; moments that are shown and
    /// the lives of tokens are not touched
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = speed)]
    speed: f64,
    /// Keep no content: only its size, taking a checksum that is given as true, or with "hash" its hash, too;
    /// downloads consist of zeros
    #[arg(long, value_name = "KEEP", num_args = 0..=1, require_equals = true, default_missing_value = "size")]
    discard: Option<Discard>,
    /// Print one line of JSON when ready, instead of words
    #[arg(long)]
    json: bool,
}

/// What is kept although content is discarded.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Discard {
    /// Sizes alone
    Size,
    /// Sizes and hashes
    Hash,
}

impl From<Discard> for Keep {
    fn from(discard: Discard) -> Self {
        match discard {
            Discard::Size => Self::Size,
            Discard::Hash => Self::Hash,
        }
    }
}

fn probability(text: &str) -> Result<f64, String> {
    number(text, 0.0..=1.0)
}

fn speed(text: &str) -> Result<f64, String> {
    number(text, 0.001..=1_000_000.0)
}

fn number(text: &str, range: RangeInclusive<f64>) -> Result<f64, String> {
    let number = text.parse::<f64>().map_err(|error| error.to_string())?;
    if range.contains(&number) {
        Ok(number)
    } else {
        Err(format!("a number from {} to {} is expected", range.start(), range.end()))
    }
}

fn rate_limits(text: &str) -> Result<RateLimits, &'static str> {
    match text {
        "altinn" => Ok(RateLimits::altinn()),
        "off" => Ok(RateLimits::default()),
        factor => match factor.parse() {
            Ok(factor) if factor > 0 => Ok(RateLimits::altinn().times(factor)),
            _ => Err("altinn, off, or a whole number of at least 1 is expected"),
        },
    }
}

/// Why the fault rules cannot be used.
#[derive(Debug, thiserror::Error)]
enum FaultsError {
    #[error("failed to read the fault rules in {}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("the fault rules in {} are wrong", path.display())]
    Wrong { path: PathBuf, source: RuleError },
}

fn read_faults(path: Option<&Path>) -> Result<FaultRules, FaultsError> {
    let Some(path) = path else { return Ok(FaultRules::default()) };
    let text = std::fs::read_to_string(path)
        .map_err(|source| FaultsError::Read { path: path.to_owned(), source })?;
    FaultRules::from_toml(&text).map_err(|source| FaultsError::Wrong { path: path.to_owned(), source })
}

impl Options {
    pub(super) fn run(self, out: &mut impl Write) -> Exit {
        if let Err(error) =
            telemetry::init_logging(telemetry::Format::Text, "warn", telemetry::FileNames::Full)
        {
            return complain(&error, "this is a defect of formidlingd: report it");
        }
        let served = serve(self.serve(out));
        served.unwrap_or_else(|error| complain(&error, "see what the system says"))
    }

    async fn serve(self, out: &mut impl Write) -> Exit {
        let signals = match Signals::catch() {
            Ok(signals) => signals,
            Err(error) => return complain(&error, "see what the system says"),
        };
        let faults = match read_faults(self.faults.as_deref()) {
            Ok(faults) => faults,
            Err(error) => {
                return complain(&error, "correct the file; docs/sandbox-faults.md says what it may hold");
            }
        };
        let options = sandbox::Options {
            faults,
            rate_limits: self.rate_limits,
            listen: self.listen,
            dir: self.dir,
            scan_delay: self.scan_delay,
            stuck_after: self.stuck_after,
            tus_wedge: self.tus_wedge,
            seed: self.seed,
            key_gate: self.subscription_key,
            customers: self.organisations,
            tls: self.tls,
            trust: self.trust,
            events_cache: self.events_cache,
            keep: self.discard.map_or(Keep::Content, Keep::from),
            speed: self.speed,
            ..sandbox::Options::default()
        };
        let sandbox = match Sandbox::start(options).await {
            Ok(sandbox) => sandbox,
            Err(error) => return complain(&error, "choose another address or folder"),
        };
        let written = write_configurations(&sandbox).and_then(|configurations| {
            let ready = ready(&sandbox, &configurations);
            std::fs::write(sandbox.dir().join("sandbox.json"), format!("{ready}\n"))?;
            if self.json {
                writeln!(out, "{ready}")?;
                return out.flush();
            }
            tell(out, &sandbox, &configurations)
        });
        if let Err(error) = written {
            return complain(&error, "see whether the folder can be written");
        }
        let shutdown = Shutdown::new();
        let ended = tokio::select! {
            ended = sandbox.ended() => Some(ended),
            () = shutdown.listen(signals) => None,
            () = shutdown.soon().cancelled() => None,
        };
        sandbox.stop().await;
        ended.map_or(Exit::Done, |error| complain(&error, "start it again"))
    }
}

/// More are not told apart by their names, and are not quick to start any more.
const MOST_CUSTOMERS: usize = 9999;

fn customers(text: &str) -> Result<usize, String> {
    let number = text.parse().map_err(|error: std::num::ParseIntError| error.to_string())?;
    if number > MOST_CUSTOMERS { Err(format!("at most {MOST_CUSTOMERS}")) } else { Ok(number) }
}

/// A configuration that was written down.
struct Written {
    role: Role,
    /// The member of the JSON.
    name: &'static str,
    path: PathBuf,
}

/// Writes the configurations beside the sandbox's own files, with the folders that they name.
fn write_configurations(sandbox: &Sandbox) -> std::io::Result<Vec<Written>> {
    let write = |role, name: &'static str, folders: &[PathBuf]| -> std::io::Result<Written> {
        for folder in folders {
            std::fs::create_dir_all(sandbox.folder(role).join(folder))?;
        }
        let path = sandbox.dir().join(format!("{name}.toml"));
        std::fs::write(&path, sandbox.configuration(role, None))?;
        Ok(Written { role, name, path })
    };
    let mut all = vec![
        write(Role::Sender, "sender", &["outbox".into()])?,
        write(Role::Recipient, "recipient", &["inbox".into()])?,
    ];
    if let Some(vendor) = sandbox.vendor() {
        let names = vendor.customers.iter().map(|customer| Path::new(&customer.name));
        let folders: Vec<PathBuf> =
            names.flat_map(|name| [name.join("outbox"), name.join("inbox")]).collect();
        all.push(write(Role::Vendor, "vendor", &folders)?);
    }
    Ok(all)
}

/// Configurations with more lines than this are named and not shown.
const LINES_SHOWN: usize = 100;

fn tell(out: &mut impl Write, sandbox: &Sandbox, configurations: &[Written]) -> std::io::Result<()> {
    writeln!(out, "This is the formidlingd sandbox. It is not Altinn: what it is sent goes nowhere.")?;
    writeln!(out, "  listening on  {}", sandbox.url())?;
    writeln!(out, "  files in      {}", sandbox.dir().display())?;
    writeln!(out, "  all this in   {} (for programs)", sandbox.dir().join("sandbox.json").display())?;
    if let Some(authority) = sandbox.certificate_authority() {
        writeln!(out, "  trust         {} (the certificate authority of its TLS)", authority.display())?;
    }
    writeln!(out, "\nIt serves")?;
    for (name, address) in sandbox.endpoints() {
        writeln!(out, "  {name:<21} {address}")?;
    }
    writeln!(out, "\nAll of these may read and write the resource {}:", sandbox.resource())?;
    for party in sandbox.organizations() {
        writeln!(out, "  organisation  0192:{} ({})", party.number, party.name)?;
        tell_client(out, party)?;
    }
    if let Some(vendor) = sandbox.vendor() {
        let number = vendor.customers.len();
        writeln!(out, "  customers     {number}, each with a system user of the vendor's")?;
        if let (Some(first), Some(last)) = (vendor.customers.first(), vendor.customers.last()) {
            let (to, is_one) = (format!(" to 0192:{} ({})", last.number, last.name), number == 1);
            writeln!(
                out,
                "                0192:{} ({}){}",
                first.number,
                first.name,
                if is_one { "" } else { &to }
            )?;
        }
        writeln!(out, "  vendor        0192:{} ({})", vendor.founded.number, vendor.founded.name)?;
        tell_client(out, &vendor.founded)?;
    }
    if let Some(owner) = sandbox.service_owner() {
        writeln!(out, "It belongs to")?;
        writeln!(out, "  service owner 0192:{} ({})", owner.number, owner.name)?;
        tell_client(out, owner)?;
    }
    for Written { role, path, .. } in configurations {
        let text = sandbox.configuration(*role, None);
        if text.lines().count() > LINES_SHOWN {
            writeln!(out, "\n# {} is too long to be shown", path.display())?;
        } else {
            writeln!(out, "\n# {}\n{text}", path.display())?;
        }
    }
    writeln!(out, "Try them in other terminals; Ctrl-C here ends the sandbox:")?;
    for Written { path, .. } in configurations {
        writeln!(out, "  formidlingd run --config {}", path.display())?;
    }
    out.flush()
}

fn tell_client(out: &mut impl Write, party: &Founded) -> std::io::Result<()> {
    writeln!(out, "    client id   {}", party.client_id)?;
    writeln!(out, "    key         {}, kid {}", party.private_key.display(), party.key_id)
}

/// All that a program has to know in order to use the sandbox.
fn ready(sandbox: &Sandbox, configurations: &[Written]) -> serde_json::Value {
    let client = |party: &Founded| {
        json!({
            "name": party.name,
            "organization": format!("0192:{}", party.number),
            "clientId": party.client_id,
            "keyId": party.key_id,
            "privateKey": party.private_key,
        })
    };
    let mut ready = json!({
        "url": sandbox.url(),
        "dir": sandbox.dir(),
        "resource": sandbox.resource(),
        "endpoints": sandbox.endpoints().into_iter().collect::<BTreeMap<_, _>>(),
        "organizations": sandbox.organizations().iter().map(client).collect::<Vec<_>>(),
    });
    let mut add = |name: &str, value: serde_json::Value| {
        if let Some(members) = ready.as_object_mut() {
            members.insert(name.to_owned(), value);
        }
    };
    if let Some(owner) = sandbox.service_owner() {
        add("serviceOwner", client(owner));
    }
    if let Some(authority) = sandbox.certificate_authority() {
        add("certificateAuthority", json!(authority));
    }
    for Written { role, name, path } in configurations {
        let mut end = json!({ "configuration": path, "folder": sandbox.folder(*role) });
        if let (Role::Vendor, Some(vendor)) = (role, sandbox.vendor()) {
            let customer =
                |it: &Customer| json!({ "name": it.name, "organization": format!("0192:{}", it.number) });
            if let Some(members) = end.as_object_mut() {
                members.insert("client".to_owned(), client(&vendor.founded));
                members.insert("customers".to_owned(), vendor.customers.iter().map(customer).collect());
            }
        }
        add(name, end);
    }
    ready
}
