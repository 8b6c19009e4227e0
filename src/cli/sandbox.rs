//! `formidlingd sandbox`: a local Altinn to build and test against.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::{Exit, complain, serve};
use crate::daemon::{Shutdown, Signals};
use crate::sandbox::{self, Role, Sandbox};
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
    /// How probably a chunk of a resumable upload that is cut off midway is accepted and never stored, as at Altinn
    #[arg(long, value_name = "PROBABILITY", default_value_t = 1.0)]
    tus_wedge: f64,
    /// Demand this subscription key of every request to the platform
    #[arg(long, value_name = "KEY")]
    subscription_key: Option<String>,
    /// Print one line of JSON when ready, instead of words
    #[arg(long)]
    json: bool,
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
            tus_wedge: self.tus_wedge,
            key_gate: self.subscription_key,
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
