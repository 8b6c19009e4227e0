//! The log: lines on standard error, for a person, for a program, or for systemd's journal.
//!
//! Values that come from outside (file names, answers) are logged as fields. The journal and text forms write
//! strings in quotes, with control and other invisible characters escaped, so that a hostile name cannot move the
//! cursor, forge a line, or turn the direction of the text.

use std::io::{self, IsTerminal, Write};

use tracing::{Level, Metadata};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people: time, level, message and fields; in colour on a terminal.
    Text,
    /// One JSON object a line.
    Json,
    /// For the journal: a priority prefix (`sd-daemon(3)`) and no time, since the journal has its own.
    Journald,
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The directives cannot be parsed.
    #[error("the log level {directives:?} is not one")]
    Directives {
        /// What was given.
        directives: String,
        /// What the parser says of it.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// The process has a log already.
    #[error("the log is set up already")]
    AlreadySet,
}

/// Sets up the log of the process: lines on standard error, of what `directives` let through (a level such as
/// `info`, or such as `info,formidlingd::outbox=debug`).
pub fn init_logging(format: Format, directives: &str) -> Result<(), LoggingError> {
    let filter = EnvFilter::try_new(directives)
        .map_err(|source| LoggingError::Directives { directives: directives.to_owned(), source })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter);
    let outcome = match format {
        Format::Text => {
            let subscriber = builder.with_ansi(io::stderr().is_terminal()).with_writer(io::stderr).finish();
            tracing::subscriber::set_global_default(subscriber)
        }
        Format::Json => {
            let subscriber = builder.json().flatten_event(true).with_writer(io::stderr).finish();
            tracing::subscriber::set_global_default(subscriber)
        }
        Format::Journald => {
            let subscriber = builder
                .with_ansi(false)
                .without_time()
                .with_level(false)
                .with_writer(Journal { to: io::stderr })
                .finish();
            tracing::subscriber::set_global_default(subscriber)
        }
    };
    outcome.map_err(|_| LoggingError::AlreadySet)
}

/// Begins each line with the priority of its level.
#[derive(Debug)]
struct Journal<M> {
    to: M,
}

/// `<N>` of `sd-daemon(3)`: the priorities of `syslog(3)`.
fn prefix(level: Level) -> &'static [u8] {
    match level {
        Level::ERROR => b"<3>",
        Level::WARN => b"<4>",
        Level::INFO => b"<6>",
        _ => b"<7>",
    }
}

impl<'a, M: MakeWriter<'a>> MakeWriter<'a> for Journal<M> {
    type Writer = Prefixed<M::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        Prefixed { prefix: prefix(Level::INFO), to: self.to.make_writer() }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Self::Writer {
        Prefixed { prefix: prefix(*metadata.level()), to: self.to.make_writer_for(metadata) }
    }
}

/// Writes one event, which the formatter hands over as a whole.
#[derive(Debug)]
struct Prefixed<W> {
    prefix: &'static [u8],
    to: W,
}

impl<W: Write> Write for Prefixed<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        // One write, so that lines of two threads do not mix.
        let line = [self.prefix, event].concat();
        self.to.write_all(&line)?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}
