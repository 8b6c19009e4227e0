//! `formidlingd demo`: the main job with nothing to set up. A sandbox and one service with two organisations run
//! in this process; what happens is told from outside, as a person would see it in the folders.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use tokio::time::Instant;

use super::check::{load, print_problems};
use super::run::run_service;
use super::{Exit, complain, complain_of_daemon, serve};
use crate::daemon::Shutdown;
use crate::sandbox::{self, Sandbox};
use crate::telemetry;
use crate::transfer::document::{Metadata, Receipt};

/// The file that the demo drops.
const SAMPLE: &str = "Hilsen fra Kárášjohka 👋.txt";
const SAMPLE_TEXT: &str = "Bures! This file went through a local Altinn Formidling.\n";
/// How long the sample may take to arrive.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often the folders are looked at.
const LOOK: Duration = Duration::from_millis(50);

/// Show the main job, with nothing to set up
///
/// Runs a local Altinn, a sender and a recipient in one process, drops a sample file and tells what becomes of it.
/// Then goes on until Ctrl-C, so that you can drop files of your own.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// Where to work; a temporary folder if not given
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// End after the first arrival: with 0, or with 1 if the file does not arrive
    #[arg(long)]
    once: bool,
}

impl Options {
    pub(super) fn run(self, out: &mut impl Write) -> Exit {
        if let Err(error) =
            telemetry::init_logging(telemetry::Format::Text, "warn", telemetry::FileNames::Full)
        {
            return complain(&error, "this is a defect of formidlingd: report it");
        }
        let temporary = match self.dir {
            Some(_) => None,
            None => match tempfile::Builder::new().prefix("formidlingd-demo-").tempdir() {
                Ok(temporary) => Some(temporary),
                Err(error) => return complain(&error, "name a folder with --dir"),
            },
        };
        let dir = self.dir.as_deref().or(temporary.as_ref().map(tempfile::TempDir::path));
        let Some(dir) = dir.map(Path::to_owned) else { return Exit::Failed };
        let served = serve(demonstrate(dir, self.once, out));
        served.unwrap_or_else(|error| complain(&error, "see what the system says"))
    }
}

async fn demonstrate(dir: PathBuf, once: bool, out: &mut impl Write) -> Exit {
    let options = sandbox::Options {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        dir: Some(dir.join("altinn")),
        key_gate: Some("demo".to_owned()),
        ..sandbox::Options::default()
    };
    let sandbox = match Sandbox::start(options).await {
        Ok(sandbox) => sandbox,
        Err(error) => return complain(&error, "name another folder with --dir"),
    };
    let stage = match Stage::set(&dir, &sandbox) {
        Ok(stage) => stage,
        Err(error) => return complain(&error, "see whether the folder can be written"),
    };
    let loaded = match load(&stage.configuration) {
        Ok(loaded) => loaded,
        Err(problems) => return print_problems(out, &problems),
    };
    let shutdown = Shutdown::new();
    let service = run_service(loaded.config, shutdown.clone());
    tokio::pin!(service);
    let told = tokio::select! {
        ended = &mut service => Err(ended),
        told = stage.tell(&sandbox, once, out) => Ok(told),
    };
    shutdown.ask();
    let exit = match told {
        // Ctrl-C, or a part of the service failed.
        Err(ended) => ended.map_or_else(|error| complain_of_daemon(&error), |()| Exit::Done),
        Ok(told) => {
            let ended = service.await.map_or_else(|error| complain_of_daemon(&error), |()| Exit::Done);
            let told = told.unwrap_or_else(|error| complain(&error, "see what the system says"));
            if told == Exit::Done { ended } else { told }
        }
    };
    sandbox.stop().await;
    exit
}

/// The folders and the configuration of the demo.
struct Stage {
    configuration: PathBuf,
    outbox: PathBuf,
    inbox: PathBuf,
}

impl Stage {
    fn set(dir: &Path, sandbox: &Sandbox) -> io::Result<Self> {
        let dir = std::path::absolute(dir)?;
        let stage = Self {
            configuration: dir.join("demo.toml"),
            outbox: dir.join("outbox"),
            inbox: dir.join("inbox"),
        };
        std::fs::create_dir_all(&stage.outbox)?;
        std::fs::create_dir_all(&stage.inbox)?;
        let text = stage.text(&dir, sandbox).map_err(io::Error::other)?;
        std::fs::write(&stage.configuration, text)?;
        Ok(stage)
    }

    /// One service that acts for both organisations.
    fn text(&self, dir: &Path, sandbox: &Sandbox) -> Result<String, std::fmt::Error> {
        let quoted = |path: &Path| serde_json::Value::from(path.to_string_lossy()).to_string();
        let url = sandbox.url();
        let mut text = String::from("# The demo: a local sandbox, which is not Altinn.\n");
        writeln!(text, "[altinn]\nenvironment = \"sandbox\"\nplatform_url = \"{url}\"")?;
        writeln!(text, "maskinporten_token_url = \"{url}/token\"\nmaskinporten_audience = \"{url}/\"")?;
        writeln!(
            text,
            "subscription_key = {{ file = {} }}",
            quoted(&sandbox.dir().join("keys/subscription-key"))
        )?;
        for organization in sandbox.organizations() {
            let name = &organization.name;
            writeln!(text, "\n[client.{name}]\nclient_id = \"{}\"", organization.client_id)?;
            writeln!(text, "key_id = \"{}\"", organization.key_id)?;
            writeln!(text, "private_key = {{ file = {} }}", quoted(&organization.private_key))?;
            // The sandbox has no rate limits of its own, and a demo should not wait for Altinn's.
            writeln!(
                text,
                "searches_per_minute = 6000\ndetails_per_minute = 6000\ncalls_per_minute = 60000"
            )?;
            writeln!(
                text,
                "[identity.{name}]\nclient = \"{name}\"\norganization = \"{}\"",
                organization.number
            )?;
        }
        writeln!(text, "\n[outbox.to-mottaker]\nidentity = \"avsender\"\nresource_id = \"sandbox-files\"")?;
        writeln!(
            text,
            "path = {}\nrecipients = [\"0192:910753614\"]\nsettle = \"500ms\"\nkeep_sent = \"forever\"",
            quoted(&self.outbox)
        )?;
        writeln!(text, "\n[inbox.from-avsender]\nidentity = \"mottaker\"\nresource_id = \"sandbox-files\"")?;
        writeln!(text, "path = {}\npoll_interval = \"500ms\"", quoted(&self.inbox))?;
        writeln!(text, "\n[state]\npath = {}", quoted(&dir.join("state")))?;
        Ok(text)
    }

    /// Drops the sample and tells what becomes of it, and then of every other file.
    async fn tell(&self, sandbox: &Sandbox, once: bool, out: &mut impl Write) -> io::Result<Exit> {
        writeln!(
            out,
            "A local Altinn (a sandbox, not Altinn itself), a sender and a recipient in one process."
        )?;
        writeln!(out, "  Altinn     {}", sandbox.url())?;
        writeln!(out, "  sender     0192:991825827, drops files in  {}", self.outbox.display())?;
        writeln!(out, "  recipient  0192:910753614, finds them in   {}", self.inbox.display())?;
        writeln!(out, "  settings   {}\n", self.configuration.display())?;
        let mut known: HashSet<String> = names(&self.inbox)?.into_iter().collect();
        let begun = Instant::now();
        std::fs::write(self.outbox.join(SAMPLE), SAMPLE_TEXT)?;
        writeln!(out, "dropped    {SAMPLE:?} in the outbox")?;
        out.flush()?;
        let arrived = loop {
            if let Some(name) = names(&self.inbox)?.into_iter().find(|name| !known.contains(name)) {
                break name;
            }
            if begun.elapsed() > PATIENCE {
                writeln!(
                    out,
                    "it did not arrive within {PATIENCE:?}: look in {}/failed and at the log",
                    self.outbox.display()
                )?;
                return Ok(Exit::Failed);
            }
            tokio::time::sleep(LOOK).await;
        };
        let exit = self.tell_arrival(&arrived, begun, out)?;
        known.insert(arrived);
        let receipt = self.receipt_of_sample(begun).await?;
        tell_receipt(&receipt, &self.outbox, out)?;
        if once {
            return Ok(exit);
        }
        writeln!(out, "\nNow drop files of your own in the outbox. Ctrl-C ends the demo.")?;
        out.flush()?;
        loop {
            tokio::time::sleep(LOOK).await;
            for name in
                names(&self.inbox)?.into_iter().filter(|name| !known.contains(name)).collect::<Vec<_>>()
            {
                writeln!(out, "arrived    {name:?}")?;
                out.flush()?;
                known.insert(name);
            }
        }
    }

    fn tell_arrival(&self, name: &str, begun: Instant, out: &mut impl Write) -> io::Result<Exit> {
        let content = std::fs::read(self.inbox.join(name))?;
        writeln!(out, "arrived    {name:?} in the inbox after {:.1} s", begun.elapsed().as_secs_f64())?;
        let metadata: Metadata = read_json(&self.inbox.join(format!("{name}.meta.json")))?;
        writeln!(
            out,
            "           from {}, MD5 {}, Altinn's id {}",
            metadata.sender, metadata.checksum, metadata.file_transfer_id
        )?;
        if name == SAMPLE && content == SAMPLE_TEXT.as_bytes() {
            writeln!(out, "           identical to what was dropped")?;
            return Ok(Exit::Done);
        }
        writeln!(out, "           NOT what was dropped")?;
        Ok(Exit::Failed)
    }

    /// The receipt of the sample, when the recipient's confirmation has come back to the sender.
    async fn receipt_of_sample(&self, begun: Instant) -> io::Result<(PathBuf, Receipt)> {
        loop {
            for date in names(&self.outbox.join("sent"))? {
                let path = self.outbox.join("sent").join(&date).join(format!("{SAMPLE}.receipt.json"));
                let receipt = read_json::<Receipt>(&path).ok();
                if let Some(receipt) =
                    receipt.filter(|receipt| receipt.status == "completed" || begun.elapsed() > PATIENCE)
                {
                    return Ok((path, receipt));
                }
            }
            if begun.elapsed() > PATIENCE {
                return Err(io::Error::other("there is no receipt in sent/"));
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

fn tell_receipt(receipt: &(PathBuf, Receipt), outbox: &Path, out: &mut impl Write) -> io::Result<()> {
    let (path, receipt) = receipt;
    let path = path.strip_prefix(outbox).unwrap_or(path);
    let recipients: Vec<_> =
        receipt.recipients.iter().map(|entry| format!("{} {}", entry.recipient, entry.status)).collect();
    writeln!(out, "confirmed  {}", recipients.join(", "))?;
    writeln!(
        out,
        "archived   {} with its receipt: {}",
        path.with_extension("").with_extension("").display(),
        receipt.status
    )?;
    out.flush()
}

/// The files in a folder that people see: no companions, nothing hidden.
fn names(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') && !name.ends_with(".meta.json") {
            names.push(name);
        }
    }
    Ok(names)
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> io::Result<T> {
    serde_json::from_slice(&std::fs::read(path)?).map_err(io::Error::other)
}
