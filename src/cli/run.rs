//! `formidlingd run`: the service.

use clap::Args;

use super::check::{load, print_problems};
use super::{ConfigOptions, Exit, complain, complain_of_daemon, serve};
use crate::config::{self, LogFileNames, LogFormat};
use crate::daemon::{Error, FolderFacts, Service, Shutdown, Signals, Surroundings};
use crate::{seams, telemetry};

/// How often it is tried to open a store on a full disk.
const WAIT_FOR_ROOM: std::time::Duration = std::time::Duration::from_secs(10);

/// systemd's patience with that, longer than one try.
const EXTEND_USEC: u32 = 60_000_000;

/// Run the service in the foreground
///
/// Logs to standard error. Stops in order on SIGTERM or SIGINT; a second signal stops it at once. What was begun is
/// finished at the next start.
#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    config: ConfigOptions,
}

impl Options {
    pub(super) fn run(self) -> Exit {
        let loaded = match load(&self.config.config) {
            Ok(loaded) => loaded,
            Err(problems) => return print_problems(&mut std::io::stderr(), &problems),
        };
        if let Err(error) = init_logging(&loaded.config) {
            return complain(&error, "see telemetry.log_level in the configuration");
        }
        for FolderFacts { route, facts } in &loaded.facts {
            for fact in facts {
                tracing::info!(route, fact, "folder tried out");
            }
        }
        for warning in &loaded.warnings {
            tracing::warn!(key = %warning.key, reason = %warning.reason, remedy = %warning.remedy, "configuration");
        }
        let served = serve(async {
            match run_service(loaded.config, Shutdown::new()).await {
                Ok(()) => Exit::Done,
                Err(error) => complain_of_daemon(&error),
            }
        });
        served.unwrap_or_else(|error| complain(&error, "see what the system says"))
    }
}

/// Runs a service until it is told to stop, by signal or by `shutdown`.
pub(super) async fn run_service(config: config::Config, shutdown: Shutdown) -> Result<(), Error> {
    let signals = Signals::catch().map_err(Error::Signals)?;
    let surroundings = Surroundings::default();
    let listening = shutdown.listen(signals);
    tokio::pin!(listening);
    let assembled = tokio::select! {
        assembled = assemble(config, &surroundings, &shutdown) => assembled?,
        () = &mut listening => None,
    };
    let Some(service) = assembled else { return Ok(()) };
    tell_systemd(&[sd_notify::NotifyState::Ready]);
    let stopping = async {
        shutdown.soon().cancelled().await;
        tell_systemd(&[sd_notify::NotifyState::Stopping]);
        std::future::pending::<()>().await;
    };
    tokio::select! {
        outcome = service.run(shutdown.clone()) => outcome,
        () = &mut listening => Ok(()),
        () = stopping => Ok(()),
    }
}

/// Builds the service. Where not even the store can be opened for want of room, that is waited for; `None` where the
/// service was stopped meanwhile.
async fn assemble(
    config: config::Config,
    surroundings: &Surroundings,
    shutdown: &Shutdown,
) -> Result<Option<Service>, Error> {
    loop {
        let (config, surroundings) = (config.clone(), surroundings.clone());
        match seams::blocking(move || Service::assemble(config, &surroundings)).await {
            Err(error @ Error::Store { .. }) if error.is_full_disk() => {
                tracing::error!(code = "state_disk_full", error = %crate::route::text_for_people(&error), "there is no room for the state: waiting for some");
            }
            assembled => return assembled.map(Some),
        }
        tell_systemd(&[
            sd_notify::NotifyState::Status("waiting for room on the disk of the state"),
            sd_notify::NotifyState::ExtendTimeoutUsec(EXTEND_USEC),
        ]);
        tokio::select! {
            () = shutdown.soon().cancelled() => return Ok(None),
            () = tokio::time::sleep(WAIT_FOR_ROOM) => {}
        }
    }
}

/// Tells systemd, where it started us.
fn tell_systemd(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd cannot be told");
    }
}

fn init_logging(config: &config::Config) -> Result<(), telemetry::LoggingError> {
    let settings = &config.telemetry;
    let format = match settings.log_format {
        LogFormat::Text => telemetry::Format::Text,
        LogFormat::Json => telemetry::Format::Json,
        LogFormat::Journald => telemetry::Format::Journald,
    };
    let names = match settings.log_file_names {
        LogFileNames::Full => telemetry::FileNames::Full,
        LogFileNames::Masked => {
            let outboxes = config.outboxes.values();
            let outboxes = outboxes.flat_map(|outbox| [Some(&outbox.path), outbox.archive_path.as_ref()]);
            let inboxes = config.inboxes.values().map(|inbox| Some(&inbox.path));
            telemetry::FileNames::Masked { folders: outboxes.chain(inboxes).flatten().cloned().collect() }
        }
    };
    telemetry::init_logging(format, &settings.log_level, names)
}
