//! Trouble with a transfer: what is wrong, and what it means for the file, the route or the service.

use std::time::Duration;

use jiff::Timestamp;

use crate::transfer::{Failure, IllegalTransition};
use crate::{broker, files, store};

/// What trouble means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It passes: try again, not before the given time where Altinn has named one.
    Temporary(Option<Duration>),
    /// The file waits, for a long time between attempts, and others go on.
    Slow,
    /// The route is held: every file waits where it is, and one attempt at a time looks whether it has passed.
    Route,
    /// The route is held already; look again at this time.
    Held(Timestamp),
    /// It will never go: the file is put aside with an explanation.
    Permanent,
    /// The service cannot go on: what it would do next could not be remembered.
    Fatal,
}

/// Trouble with a transfer.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{code}: {message}", code = failure.code, message = failure.message)]
pub struct Trouble {
    /// What is wrong and what to do.
    pub failure: Failure,
    /// What it means.
    pub kind: Kind,
}

impl Trouble {
    /// Trouble of our own finding.
    #[must_use]
    pub fn new(kind: Kind, code: &str, message: String, remedy: &str, at: Timestamp) -> Self {
        let failure = Failure { code: code.to_owned(), message, remedy: remedy.to_owned(), at, altinn: None };
        Self { failure, kind }
    }

    /// A file operation that failed. A full or absent disk passes.
    #[must_use]
    pub fn files(error: &files::Error, at: Timestamp) -> Self {
        Self::new(Kind::Temporary(None), error.code(), error.full_message(), error.remedy(), at)
    }

    /// A store that refused. Where its memory itself is in trouble the service must not act; where it is one
    /// record's, the others go on.
    #[must_use]
    pub fn store(error: &store::Error, at: Timestamp) -> Self {
        use store::Error as E;
        let kind = match error {
            E::InUse { .. } | E::Newer { .. } | E::Io { .. } | E::Damaged { .. } | E::Broken | E::Closed => {
                Kind::Fatal
            }
            E::Exists { .. } | E::BrokerIdTaken { .. } | E::FileTaken { .. } | E::Stale { .. } => {
                Kind::Temporary(None)
            }
            E::Mixed { .. }
            | E::Unfinished { .. }
            | E::UnderWay { .. }
            | E::Encode { .. }
            | E::Unreadable { .. } => Kind::Slow,
            E::TooLarge { .. } => Kind::Permanent,
        };
        Self::new(kind, error.code(), text_for_people(error), error.remedy(), at)
    }

    /// A change that the states do not allow: a bug, reported and not carried out.
    #[must_use]
    pub fn illegal(illegal: IllegalTransition, at: Timestamp) -> Self {
        let remedy = "this is a defect of formidlingd: report it; the file is left as it is";
        Self::new(Kind::Slow, "illegal_transition", illegal.to_string(), remedy, at)
    }

    /// A call that failed, by what the failure says of itself.
    #[must_use]
    pub fn broker(error: &broker::Error, at: Timestamp) -> Self {
        use broker::Trouble as Found;
        let kind = match error.trouble() {
            Found::Token | Found::Key | Found::Rights | Found::Route | Found::Protocol => Kind::Route,
            Found::Recipients => Kind::Slow,
            Found::File => Kind::Permanent,
            Found::Checksum
            | Found::Failed
            | Found::Gone
            | Found::NotReady
            | Found::AskOverview
            | Found::NotDownloaded
            | Found::Range
            | Found::Offset
            | Found::Server
            | Found::Platform
            | Found::Source => Kind::Temporary(error.retry_after()),
        };
        let failure = Failure {
            code: error.code().to_owned(),
            message: text_for_people(error),
            remedy: error.remedy(),
            at,
            altinn: error.altinn(),
        };
        Self { failure, kind }
    }
}

/// Codes of trouble that lies with the platform, the way to it, or Maskinporten, and ends without us.
const PASSING: [&str; 11] = [
    "altinn_error",
    "altinn_unavailable",
    "connect_failed",
    "connection_broke",
    "exchange_no_answer",
    "exchange_unavailable",
    "initialize_unsettled",
    "maskinporten_no_answer",
    "maskinporten_unavailable",
    "stalled",
    "timeout",
];

/// Whether trouble of this code ends without anybody changing the settings.
#[must_use]
pub fn passes_by_itself(code: &str) -> bool {
    PASSING.contains(&code)
}

/// An error with its causes, one after the other.
#[must_use]
pub fn text_for_people(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = error.source();
    }
    text
}
