//! A call that did not succeed, and what that means.

use std::fmt;
use std::time::Duration;

use super::effect::{Answer, Trouble, TusRefusal, judge, unanswered};
use super::{Call, Code, Problem};
use crate::http::{self, Sent};
use crate::identity;
use crate::pace::Stopping;
use crate::transfer::outgoing::LastByte;
use crate::transfer::{AltinnAnswer, BrokerTransferId, Effect};

/// A call to Formidling that did not succeed: which, about which transfer, and why.
#[derive(Debug)]
pub struct Error {
    call: Call,
    transfer: Option<BrokerTransferId>,
    kind: Box<Kind>,
}

/// Why a call did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum Kind {
    /// There was no token to make it with.
    #[error("there is no token")]
    Token(#[source] identity::Error),
    /// It would have had to wait, and the service stops.
    #[error("it was not made")]
    Stopping(#[source] Stopping),
    /// There was no answer, or not the whole of it.
    #[error("there is no answer")]
    Http(#[source] http::Error),
    /// Altinn, or something before it, said no.
    #[error("{}", said(.0))]
    Problem(Problem),
    /// Altinn said yes in words that could not be understood.
    #[error("the answer (HTTP {status}) lacks {lacks}: {summary:?}")]
    Garbled {
        /// The HTTP status.
        status: u16,
        /// What it should have.
        lacks: &'static str,
        /// How it begins.
        summary: String,
    },
}

impl Error {
    pub(super) fn new(call: Call, transfer: Option<BrokerTransferId>, kind: Kind) -> Self {
        Self { call, transfer, kind: Box::new(kind) }
    }

    /// The call.
    #[must_use]
    pub fn call(&self) -> Call {
        self.call
    }

    /// The transfer it was about, where it was about one.
    #[must_use]
    pub fn transfer(&self) -> Option<BrokerTransferId> {
        self.transfer
    }

    /// Why it did not succeed.
    #[must_use]
    pub fn kind(&self) -> &Kind {
        &self.kind
    }

    /// What it has done, and what is the matter.
    #[must_use]
    pub fn answer(&self) -> Answer {
        let (effect, trouble) = match &*self.kind {
            Kind::Token(error) if error.is_passing() => (Effect::None, Trouble::Platform),
            Kind::Token(_) => (Effect::None, Trouble::Token),
            Kind::Stopping(_) => (Effect::None, Trouble::Platform),
            Kind::Http(error) => self.lost(error),
            Kind::Problem(problem) => return judge(self.call, problem.facts()),
            Kind::Garbled { .. } => (unanswered(self.call), Trouble::Protocol),
        };
        Answer { effect, trouble }
    }

    fn lost(&self, error: &http::Error) -> (Effect, Trouble) {
        let trouble = match error {
            http::Error::Connect { .. } => Trouble::Platform,
            http::Error::Timeout { .. } | http::Error::Stalled { .. } | http::Error::Cut { .. } => {
                Trouble::Server
            }
            http::Error::Source { .. } => Trouble::Source,
            http::Error::Client { .. }
            | http::Error::Certificates { .. }
            | http::Error::Proxy { .. }
            | http::Error::Insecure { .. }
            | http::Error::Request { .. } => Trouble::Route,
            http::Error::TooLarge { .. } => Trouble::Protocol,
        };
        match error.sent() {
            Sent::Nothing => (Effect::None, trouble),
            Sent::Part | Sent::Whole => (unanswered(self.call), trouble),
        }
    }

    /// What it has done at Altinn.
    #[must_use]
    pub fn effect(&self) -> Effect {
        self.answer().effect
    }

    /// What is the matter.
    #[must_use]
    pub fn trouble(&self) -> Trouble {
        self.answer().trouble
    }

    /// How much of the request may have left this machine. Of an upload, [`Sent::Part`] says that its last byte
    /// provably has not.
    #[must_use]
    pub fn sent(&self) -> Sent {
        match &*self.kind {
            Kind::Token(_) | Kind::Stopping(_) => Sent::Nothing,
            Kind::Http(error) => error.sent(),
            Kind::Problem(_) | Kind::Garbled { .. } => Sent::Whole,
        }
    }

    /// Whether a byte of the request may have left this machine.
    #[must_use]
    pub fn was_sent(&self) -> bool {
        self.sent() != Sent::Nothing
    }

    /// The HTTP status of a refusal.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match &*self.kind {
            Kind::Problem(problem) => Some(problem.status),
            Kind::Token(_) | Kind::Stopping(_) | Kind::Http(_) | Kind::Garbled { .. } => None,
        }
    }

    /// Up to where Altinn had accepted bytes when it refused a chunk for another offset.
    #[must_use]
    pub fn accepted_offset(&self) -> Option<u64> {
        match &*self.kind {
            Kind::Problem(Problem { tus: Some(TusRefusal::Offset { accepted }), .. })
                if self.trouble() == Trouble::Offset =>
            {
                Some(*accepted)
            }
            _ => None,
        }
    }

    /// How long we are asked to wait.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match &*self.kind {
            Kind::Token(error) => error.retry_after(),
            Kind::Problem(problem) => problem.retry_after,
            Kind::Stopping(_) | Kind::Http(_) | Kind::Garbled { .. } => None,
        }
    }

    /// Whether the last byte of an upload may have left.
    #[must_use]
    pub fn last_byte(&self) -> LastByte {
        match (self.effect(), self.sent()) {
            // Whatever left was not taken in: the call was turned away before anything was done.
            (Effect::None, _) | (_, Sent::Nothing | Sent::Part) => LastByte::Kept,
            (Effect::Unknown | Effect::Refused, Sent::Whole) => LastByte::MayHaveLeft,
        }
    }

    /// What Altinn (or Maskinporten) answered, if it did, for an error file.
    #[must_use]
    pub fn altinn(&self) -> Option<AltinnAnswer> {
        let answer = |status: u16, code: Option<String>, detail: &str| AltinnAnswer {
            status: Some(status),
            code,
            detail: (!detail.is_empty()).then(|| detail.to_owned()),
        };
        match &*self.kind {
            Kind::Problem(problem) => {
                Some(answer(problem.status, problem.code.map(|code| code.to_string()), &problem.detail))
            }
            Kind::Garbled { status, summary, .. } => Some(answer(*status, None, summary)),
            Kind::Token(error) => {
                let refusal = error.refusal()?;
                Some(answer(refusal.status, Some(refusal.name()), &refusal.description))
            }
            Kind::Stopping(_) | Kind::Http(_) => None,
        }
    }

    /// A short, stable name.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match &*self.kind {
            Kind::Token(error) => error.code(),
            Kind::Stopping(stopping) => stopping.code(),
            Kind::Http(error) => error.code(),
            Kind::Problem(_) => trouble_code(self.trouble()),
            Kind::Garbled { .. } => "altinn_garbled",
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> String {
        match &*self.kind {
            Kind::Token(error) => error.remedy(),
            Kind::Stopping(stopping) => stopping.remedy().to_owned(),
            Kind::Http(error) => error.remedy(),
            Kind::Problem(problem) => remedy(self.trouble(), problem).to_owned(),
            Kind::Garbled { .. } => {
                "check that altinn.platform_url is Altinn's platform, and what stands between".into()
            }
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Altinn: {}", self.call)?;
        if let Some(transfer) = self.transfer {
            write!(formatter, " of {transfer}")?;
        }
        write!(formatter, ": {}", self.kind)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.kind.source()
    }
}

fn said(problem: &Problem) -> String {
    let code = problem.code.map(|code| format!(" {code}")).unwrap_or_default();
    let colon = if problem.detail.is_empty() { "" } else { ": " };
    format!("HTTP {}{code}{colon}{}", problem.status, problem.detail)
}

fn trouble_code(trouble: Trouble) -> &'static str {
    match trouble {
        Trouble::Token => "token_refused",
        Trouble::Key => "subscription_key",
        Trouble::Rights => "no_access",
        Trouble::Route => "not_set_up",
        Trouble::Recipients => "recipient_not_allowed",
        Trouble::File => "file_refused",
        Trouble::Checksum => "checksum_mismatch",
        Trouble::Failed => "transfer_failed",
        Trouble::Gone => "transfer_not_found",
        Trouble::NotReady => "not_ready",
        Trouble::AskOverview => "other_state",
        Trouble::NotDownloaded => "not_downloaded",
        Trouble::Range => "range",
        Trouble::Offset => "upload_offset",
        Trouble::Server => "altinn_error",
        Trouble::Platform => "altinn_unavailable",
        Trouble::Protocol => "altinn_unexpected",
        Trouble::Source => "body_unreadable",
    }
}

fn remedy(trouble: Trouble, problem: &Problem) -> &'static str {
    match trouble {
        Trouble::Token => {
            "check that identity and altinn.environment belong together, and this machine's clock; it is tried again"
        }
        Trouble::Key => "check altinn.subscription_key: the gateway says that it is missing or wrong",
        Trouble::Rights if problem.code == Some(Code::NoAccess) => {
            "let the organisation (or its system user) have the right to the resource, and check resource_id; it is asked again, since an outage of Altinn's authorization looks the same"
        }
        Trouble::Rights => {
            "give the Maskinporten client the scopes altinn:broker.write (to send) and altinn:broker.read (to receive)"
        }
        Trouble::Route => {
            "ask the resource's owner whether it is set up for Formidling, and check altinn.platform_url"
        }
        Trouble::Recipients => {
            "ask the resource's owner to put the recipient in its access list, or correct the recipients"
        }
        Trouble::File => "change what Altinn does not take, and send the file anew",
        Trouble::Checksum => "send the file anew: it changed, or was damaged on the way",
        Trouble::Failed => "see Altinn's reason; the file is sent anew in a new transfer where that may help",
        Trouble::Gone => "check altinn.environment: Altinn has no such transfer",
        Trouble::NotReady | Trouble::AskOverview | Trouble::NotDownloaded | Trouble::Range => {
            "nothing: the transfer's overview decides what follows"
        }
        Trouble::Offset => "nothing: the upload goes on where Altinn says",
        Trouble::Server | Trouble::Platform => "nothing: it is tried again",
        Trouble::Protocol => {
            "look at what stands between this machine and Altinn; else please report it as a fault in formidlingd"
        }
        Trouble::Source => "see the reason; the file may have been cut short or its disk may be failing",
    }
}
