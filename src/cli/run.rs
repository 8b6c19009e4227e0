//! `formidlingd run`: the service.

use clap::Args;

use super::check::{load, print_problems};
use super::{ConfigOptions, Exit, complain, complain_of_daemon, serve};
use crate::config::{self, LogFileNames, LogFormat};
use crate::daemon::{Error, FolderFacts, Service, Shutdown, Signals, Surroundings};
use crate::{seams, telemetry};

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
    let service = seams::blocking(move || Service::assemble(config, &surroundings)).await?;
    tell_systemd(&[sd_notify::NotifyState::Ready]);
    let stopping = async {
        shutdown.soon().cancelled().await;
        tell_systemd(&[sd_notify::NotifyState::Stopping]);
        std::future::pending::<()>().await;
    };
    tokio::select! {
        outcome = service.run(shutdown.clone()) => outcome,
        () = shutdown.listen(signals) => Ok(()),
        () = stopping => Ok(()),
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
