//! What a person types, and what is printed. Each command is a file; commands write to what they are handed and
//! say how they ended, so that everything can be tried in process.

mod check;
mod demo;
mod hook;
mod key;
mod resume;
mod run;
mod sandbox;
mod state;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{self, Config};
use crate::transfer::visible;
use crate::{daemon, files, http, store};

/// How a command ended; each is a documented exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// It is done.
    Done = 0,
    /// It failed.
    Failed = 1,
    /// The configuration is wrong, or the state is of a newer version; the unit file does not start the service
    /// again on it (`EX_CONFIG`, sysexits.h).
    Configuration = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Sends and receives files through Altinn Formidling
#[derive(Debug, Parser)]
#[command(name = "formidlingd", version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Options),
    Check(check::Options),
    Demo(demo::Options),
    Sandbox(Box<sandbox::Options>),
    Key(key::Options),
    State(state::Options),
    Resume(resume::Options),
    #[command(hide = true)]
    Hook(hook::Options),
}

/// Where the configuration is.
#[derive(Debug, Args)]
struct ConfigOptions {
    /// The configuration file; `conf.d/*.toml` beside it is read too
    #[arg(
        long,
        value_name = "FILE",
        env = "FORMIDLINGD_CONFIG",
        default_value = "/etc/formidlingd/config.toml"
    )]
    config: PathBuf,
}

impl ConfigOptions {
    /// Reads the configuration. What is wrong with it is said on standard error.
    fn load(&self) -> Result<Config, Exit> {
        let loaded = config::load(&self.config);
        loaded
            .map(|loaded| loaded.config)
            .map_err(|problems| check::print_problems(&mut std::io::stderr(), &problems))
    }

    /// The same, for a command that uses the state: root acts as its owner from then on. Call it before any thread is
    /// started: each has the rights of the one that starts it.
    fn load_as_owner(&self) -> Result<Config, Exit> {
        let config = self.load()?;
        state::act_as_owner(&config.state.path).map_err(|error| complain(&error, error.remedy()))?;
        Ok(config)
    }
}

/// Parses the command line and carries it out.
#[must_use]
pub fn main() -> ExitCode {
    // Wrong usage ends here, with exit code 2 and what would be right.
    let cli = Cli::parse();
    http::install_crypto_provider();
    files::ignore_lease_signals();
    let mut out = std::io::stdout();
    let exit = match cli.command {
        Command::Run(options) => options.run(),
        Command::Check(options) => options.run(&mut out),
        Command::Demo(options) => options.run(&mut out),
        Command::Sandbox(options) => options.run(&mut out),
        Command::Key(options) => options.run(&mut out),
        Command::State(options) => options.run(&mut out),
        Command::Resume(options) => options.run(&mut out),
        Command::Hook(options) => options.run(),
    };
    exit.into()
}

/// Runs `work` on the async threads of a command that serves.
fn serve(work: impl Future<Output = Exit>) -> std::io::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        // File and store work; each waits for a disk, so more than a few only take memory.
        .max_blocking_threads(32)
        .thread_name("formidlingd")
        .build()?;
    let exit = runtime.block_on(work);
    // What still blocks, such as a read from a folder that hangs, must not keep the process.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    Ok(exit)
}

/// Says what went wrong and what to do, on standard error.
fn complain(error: &dyn std::error::Error, remedy: &str) -> Exit {
    // Nobody is left to be told if standard error is gone.
    drop(complain_to(&mut std::io::stderr(), error, remedy));
    Exit::Failed
}

/// Errors carry names that came from others, so they are made fit for a terminal.
fn complain_to(out: &mut impl Write, error: &dyn std::error::Error, remedy: &str) -> std::io::Result<()> {
    let text = crate::route::text_for_people(error);
    writeln!(out, "formidlingd: {}\n  what to do: {}", visible(&text), visible(remedy))
}

fn complain_of_daemon(error: &daemon::Error) -> Exit {
    let exit = complain(error, &error.remedy());
    match error {
        // Starting again will not help.
        daemon::Error::Store { source: store::Error::Newer { .. }, .. } => Exit::Configuration,
        _ => exit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_plays_no_tricks_on_a_terminal() {
        let error =
            std::io::Error::other("cannot move /srv/exe\u{202e}fdp\u{1b}[2J\nformidlingd: all is well");
        let mut out = Vec::new();
        complain_to(&mut out, &error, "rename \u{9b}2J").unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.lines().count(), 2, "{text:?}");
        assert!(!text.contains(['\u{202e}', '\u{1b}', '\u{9b}']), "{text:?}");
    }
}
