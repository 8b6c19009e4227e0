//! `formidlingd sandbox`: a local Altinn to build and test against.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::{Exit, complain, serve};
use crate::daemon::{Shutdown, Signals};
use crate::sandbox::{self, Keep, Role, Sandbox};
use crate::telemetry;

/// Run a local Altinn to build and test against
///
/// Serves Maskinporten, the token exchange and Formidling on loopback, with a sender and a recipient organisation,
/// and prints ready-to-use configurations for both. It is not Altinn: what it is sent goes nowhere.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// Where to listen; loopback only, port 0 for any free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8090")]
    listen: SocketAddr,
    /// Where keys, transfers and contents are kept; a temporary folder if not given
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// How long the malware scan takes
    #[arg(long, value_name = "DURATION", default_value = "200ms", value_parser = humantime::parse_duration)]
    scan_delay: Duration,
    /// After how long an upload that was begun and not ended has failed
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = humantime::parse_duration)]
    stuck_after: Duration,
    /// Demand this subscription key of every request to the platform
    #[arg(long, value_name = "KEY")]
    subscription_key: Option<String>,
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

fn speed(text: &str) -> Result<f64, String> {
    let speed = text.parse::<f64>().map_err(|error| error.to_string())?;
    if (0.001..=1_000_000.0).contains(&speed) {
        Ok(speed)
    } else {
        Err("a factor from 0.001 to 1000000 is expected".to_owned())
    }
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
        let options = sandbox::Options {
            listen: self.listen,
            dir: self.dir,
            scan_delay: self.scan_delay,
            stuck_after: self.stuck_after,
            key_gate: self.subscription_key,
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
        let written = write_configurations(&sandbox).and_then(|[sender, recipient]| {
            if self.json {
                tell_json(out, &sandbox, &sender, &recipient)
            } else {
                tell(out, &sandbox, &sender, &recipient)
            }
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

/// Writes both configurations beside the sandbox's own files, with the folders that they name.
fn write_configurations(sandbox: &Sandbox) -> std::io::Result<[PathBuf; 2]> {
    let write = |role, name: &str, folder: &str| -> std::io::Result<PathBuf> {
        std::fs::create_dir_all(sandbox.folder(role).join(folder))?;
        let path = sandbox.dir().join(name);
        std::fs::write(&path, sandbox.configuration(role, None))?;
        Ok(path)
    };
    Ok([write(Role::Sender, "sender.toml", "outbox")?, write(Role::Recipient, "recipient.toml", "inbox")?])
}

fn tell(out: &mut impl Write, sandbox: &Sandbox, sender: &Path, recipient: &Path) -> std::io::Result<()> {
    writeln!(out, "This is the formidlingd sandbox. It is not Altinn: what it is sent goes nowhere.")?;
    writeln!(out, "  listening on  {}", sandbox.url())?;
    writeln!(out, "  files in      {}", sandbox.dir().display())?;
    for organization in sandbox.organizations() {
        let (name, number) = (&organization.name, &organization.number);
        writeln!(
            out,
            "  organisation  0192:{number} ({name}), key in {}",
            organization.private_key.display()
        )?;
    }
    for (path, role) in [(sender, Role::Sender), (recipient, Role::Recipient)] {
        writeln!(out, "\n# {}\n{}", path.display(), sandbox.configuration(role, None))?;
    }
    writeln!(out, "Try them in two other terminals; Ctrl-C here ends the sandbox:")?;
    writeln!(out, "  formidlingd run --config {}", sender.display())?;
    writeln!(out, "  formidlingd run --config {}", recipient.display())?;
    out.flush()
}

fn tell_json(
    out: &mut impl Write,
    sandbox: &Sandbox,
    sender: &Path,
    recipient: &Path,
) -> std::io::Result<()> {
    let end =
        |path: &Path, role| serde_json::json!({ "configuration": path, "folder": sandbox.folder(role) });
    let ready = serde_json::json!({
        "url": sandbox.url(),
        "dir": sandbox.dir(),
        "sender": end(sender, Role::Sender),
        "recipient": end(recipient, Role::Recipient),
    });
    writeln!(out, "{ready}")?;
    out.flush()
}
