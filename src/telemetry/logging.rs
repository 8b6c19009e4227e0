//! The log: lines on standard error, for a person, for a program, or for systemd's journal.
//!
//! Names and answers come from strangers. What could move a terminal's cursor, forge a line or turn the direction
//! of the text is escaped on its way out, whatever part of a line it stands in. National identity numbers are masked in
//! every text, and names of files where the settings say so.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

use tracing::{Dispatch, Level, Metadata};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use super::fields::MaskedFields;
use super::json;
use super::mask::{FileNames, Mask};
use crate::transfer::is_invisible;

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
    #[error("cannot filter the log by {directives:?}")]
    Directives {
        /// What was given.
        directives: String,
        /// What the parser says of it.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// The process has a log already.
    #[error("the log of this process is set up already")]
    AlreadySet,
}

/// Sets up the log of the process: lines on standard error, of what `directives` let through (a level such as
/// `info`, or such as `info,formidlingd::outbox=debug`), with names of files as `names` says.
///
/// Names and paths are found by the fields that they stand in (`name`, `path`, `file`, `folder`, `file_name`), and in
/// messages by the quotes around them (`{:?}`) or the folder in front: log them in no other way.
pub fn init_logging(format: Format, directives: &str, names: FileNames) -> Result<(), LoggingError> {
    let colour = if io::stderr().is_terminal() { Colour::On } else { Colour::Off };
    let log = log_to(io::stderr, format, colour, filter(directives)?, Mask::new(names));
    tracing::dispatcher::set_global_default(log).map_err(|_| LoggingError::AlreadySet)
}

fn filter(directives: &str) -> Result<EnvFilter, LoggingError> {
    EnvFilter::try_new(directives)
        .map_err(|source| LoggingError::Directives { directives: directives.to_owned(), source })
}

/// Whether a text log has colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Colour {
    On,
    Off,
}

fn log_to<M>(to: M, format: Format, colour: Colour, filter: EnvFilter, mask: Mask) -> Dispatch
where
    M: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt().with_env_filter(filter);
    match format {
        Format::Text => {
            let ansi = colour == Colour::On;
            let builder = builder.fmt_fields(MaskedFields(mask)).with_ansi(ansi);
            Dispatch::new(builder.with_writer(Lines { to, form: Form::Text(colour) }).finish())
        }
        Format::Json => {
            let to = Lines { to, form: Form::Json(mask) };
            Dispatch::new(builder.json().flatten_event(true).with_writer(to).finish())
        }
        Format::Journald => {
            let builder = builder.fmt_fields(MaskedFields(mask)).with_ansi(false);
            let to = Lines { to, form: Form::Journald };
            Dispatch::new(builder.without_time().with_level(false).with_writer(to).finish())
        }
    }
}

/// Makes a harmless line of each event, and begins it with its priority where the journal reads it.
#[derive(Debug)]
struct Lines<M> {
    to: M,
    form: Form,
}

/// What is still to be done to an event that the formatter has written.
#[derive(Debug)]
enum Form {
    Text(Colour),
    /// Its texts are masked here: the formatter takes the fields of an event past every hook. It escapes them itself.
    Json(Mask),
    Journald,
}

impl<M> Lines<M> {
    fn line<W>(&self, level: Level, to: W) -> Line<'_, W> {
        Line { form: &self.form, level, to }
    }
}

impl<'a, M: MakeWriter<'a>> MakeWriter<'a> for Lines<M> {
    type Writer = Line<'a, M::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        self.line(Level::INFO, self.to.make_writer())
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Self::Writer {
        self.line(*metadata.level(), self.to.make_writer_for(metadata))
    }
}

/// `<N>` of `sd-daemon(3)`, with the priorities of `syslog(3)`.
fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "<3>",
        Level::WARN => "<4>",
        Level::INFO => "<6>",
        _ => "<7>",
    }
}

/// Writes one event, which the formatter hands over as a whole.
#[derive(Debug)]
struct Line<'a, W> {
    form: &'a Form,
    level: Level,
    to: W,
}

impl<W: Write> Write for Line<'_, W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let text = text.trim_end_matches('\n');
        // One write, so that the lines of two threads do not mix.
        let line = match self.form {
            Form::Text(colour) => format!("{}\n", harmless(text, *colour)),
            Form::Json(mask) => format!("{}\n", json::masked(text, mask)),
            Form::Journald => format!("{}{}\n", priority(self.level), harmless(text, Colour::Off)),
        };
        self.to.write_all(line.as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// What the formatter colours with: the codes of `tracing_subscriber::fmt`. A hostile name could use them too, and
/// would be coloured.
const COLOURS: [&str; 9] =
    ["\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[3m", "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[34m", "\x1b[35m"];

/// Escapes all that does not show as itself.
fn harmless(text: &str, colour: Colour) -> String {
    let mut line = String::with_capacity(text.len());
    for (at, character) in text.char_indices() {
        let rest = text.get(at..).unwrap_or_default();
        let ours = colour == Colour::On && COLOURS.iter().any(|code| rest.starts_with(code));
        if (character.is_control() && !ours) || is_invisible(character) {
            // Writing to a String cannot fail.
            if write!(line, "{}", character.escape_default()).is_err() {
                line.push(char::REPLACEMENT_CHARACTER);
            }
        } else {
            line.push(character);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use proptest::prelude::*;

    use super::*;

    const HOSTILE: &str = "exe\u{202e}fdp.\x1b[2J\n<0>forged\r\u{9b}2J\u{200b}ø";

    #[derive(Debug, Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is written of the events of `work`.
    fn logged(format: Format, colour: Colour, names: FileNames, work: impl FnOnce()) -> String {
        let buffer = Buffer::default();
        let to = buffer.clone();
        let log = log_to(move || to.clone(), format, colour, filter("info").unwrap(), Mask::new(names));
        tracing::dispatcher::with_default(&log, work);
        String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap()
    }

    /// What is written of a few events.
    fn written(format: Format, colour: Colour) -> String {
        logged(format, colour, FileNames::Full, || {
            let _span = tracing::info_span!("transfer", route = "invoices", name = %HOSTILE).entered();
            tracing::info!(bytes = 3, "sent");
            tracing::warn!(name = %HOSTILE, "will retry");
            tracing::error!(name = HOSTILE, error = ?HOSTILE, "gave up");
            tracing::error!("{HOSTILE}");
            tracing::debug!("not shown");
        })
    }

    const FORMATS: [(Format, Colour); 4] = [
        (Format::Text, Colour::Off),
        (Format::Text, Colour::On),
        (Format::Json, Colour::Off),
        (Format::Journald, Colour::Off),
    ];

    /// Logs a text in every way in which one can get into a line.
    fn log_everywhere(text: &str) {
        let span = tracing::info_span!("outer", name = %text, later = tracing::field::Empty).entered();
        span.record("later", text);
        let _inner = tracing::info_span!("inner", file = ?text, other = text).entered();
        let error = LoggingError::Directives {
            directives: text.to_owned(),
            source: EnvFilter::try_new("a=b=c").unwrap_err(),
        };
        tracing::info!(name = %text, path = ?std::path::Path::new(text), file = text, "{text}");
        tracing::warn!(error = &error as &dyn std::error::Error, reason = %error, list = ?[text], "failed");
    }

    proptest! {
        #[test]
        fn no_identity_number_is_logged_in_any_form(
            before in any::<String>(), after in any::<String>(), number in "[0-9]{6}[ -]?[0-9]{5}",
        ) {
            let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
            prop_assume!(!ends(before.chars().last()) && !ends(after.chars().next()));
            let text = format!("{before}{number}{after}");
            for (format, colour) in FORMATS {
                let log = logged(format, colour, FileNames::Full, || log_everywhere(&text));
                prop_assert!(!log.contains(&number), "{log}");
                prop_assert_eq!(log.lines().count(), 2, "{}", log);
            }
        }
    }

    #[test]
    fn numbers_and_ids_are_logged_as_they_are() {
        const ID: &str = "01a20052-d934-7c77-9c84-a12345678901";
        for (format, colour) in FORMATS {
            let log = logged(format, colour, FileNames::Full, || {
                let _span =
                    tracing::info_span!("transfer", transfer = %ID, size = 22_345_678_901_u64).entered();
                tracing::info!(bytes = 12_345_678_901_u64, change = -32_345_678_901_i64, id = ID, "sent");
            });
            assert!(log.matches(ID).count() >= 2, "{log}");
            for number in ["12345678901", "22345678901", "-32345678901"] {
                assert!(log.contains(number), "{number} in {log}");
            }
        }
    }

    #[test]
    fn no_file_name_is_logged_where_names_are_masked() {
        for (format, colour) in FORMATS {
            let names = FileNames::Masked { folders: vec!["/srv/out".into()] };
            let log = logged(format, colour, names, || {
                const NAME: &str = "Ola Nordmann.pdf";
                let path = std::path::Path::new("/srv/out").join(NAME);
                let _span = tracing::info_span!("transfer", route = "invoices", name = NAME).entered();
                tracing::info!(name = %NAME, path = ?path, file = NAME, folder = ?NAME, bytes = 3, "claimed");
                tracing::warn!(error = %format!("cannot open {path:?}: gone"), code = "file_missing", "failed");
                tracing::warn!(reason = %format!("{NAME:?} is not a file name"), "in {}", path.display());
            });
            assert!(!log.contains("Nordmann"), "{log}");
            for kept in ["invoices", "transfer", "claimed", "/srv/out/***", "gone", "file_missing", "failed"]
            {
                assert!(log.contains(kept), "{kept} in {log}");
            }
        }
    }

    #[test]
    fn hostile_names_stay_on_their_line_and_are_escaped() {
        for (format, colour) in
            [(Format::Text, Colour::Off), (Format::Text, Colour::On), (Format::Journald, Colour::Off)]
        {
            let text = written(format, colour);
            assert_eq!(text.lines().count(), 4, "{text}");
            assert!(
                !text.chars().any(|c| is_invisible(c) || (c.is_control() && c != '\n' && c != '\x1b')),
                "{text:?}"
            );
            assert!(!text.contains("\x1b[2J"), "{text:?}");
            assert!(colour == Colour::On || !text.contains('\x1b'), "{text:?}");
            assert!(text.contains('ø'), "{text}");
        }
    }

    #[test]
    fn the_journal_gets_priorities_and_no_time() {
        let text = written(Format::Journald, Colour::Off);
        let prefixes: Vec<&str> = text.lines().map(|line| line.split_at(3).0).collect();
        assert_eq!(prefixes, ["<6>", "<4>", "<3>", "<3>"]);
        assert!(text.starts_with("<6>transfer{route=\"invoices\""), "{text}");
    }

    #[test]
    fn json_has_one_object_a_line() {
        let text = written(Format::Json, Colour::Off);
        let events: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(events.len(), 4);
        assert_eq!((&events[0]["message"], &events[0]["bytes"]), (&"sent".into(), &3.into()));
        assert_eq!(events[0]["span"]["route"], "invoices");
        assert_eq!(events[2]["name"], HOSTILE);
    }

    #[test]
    fn wrong_directives_and_a_second_log_are_errors() {
        assert!(matches!(
            init_logging(Format::Text, "a=b=c", FileNames::Full),
            Err(LoggingError::Directives { .. })
        ));
        // Another test of this process may have been first.
        let _first = init_logging(Format::Json, "off", FileNames::Full);
        assert!(matches!(init_logging(Format::Text, "info", FileNames::Full), Err(LoggingError::AlreadySet)));
    }
}
