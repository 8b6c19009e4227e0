//! What can be wrong with a pace.

use std::time::Duration;

use crate::transfer::Effect;

/// A call would have had to wait, and the service stops. Nothing is wrong with what it was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it would have had to wait, and the service stops")]
pub struct Stopping;

impl Stopping {
    /// A short, stable name.
    pub const CODE: &str = "stopping";

    /// What it has done on the other side: nothing.
    #[must_use]
    pub fn effect(self) -> Effect {
        Effect::None
    }

    /// A short, stable name.
    #[must_use]
    pub fn code(self) -> &'static str {
        Self::CODE
    }

    /// What to do about it.
    #[must_use]
    pub fn remedy(self) -> &'static str {
        "nothing: it goes on at the next start"
    }
}

/// Settings of a pace that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The first wait is longer than the longest.
    #[error(
        "the first wait ({}) is longer than the longest ({})",
        humantime::format_duration(*initial),
        humantime::format_duration(*max)
    )]
    InitialOverMax {
        /// The first wait.
        initial: Duration,
        /// The longest wait.
        max: Duration,
    },
    /// The first wait is none at all, so that attempts would follow each other without a pause.
    #[error("the first wait is zero")]
    ZeroInitial,
}

impl Error {
    /// What it has done on the other side: nothing.
    #[must_use]
    pub fn effect(&self) -> Effect {
        match self {
            Self::InitialOverMax { .. } | Self::ZeroInitial => Effect::Refused,
        }
    }

    /// A short, stable name.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::InitialOverMax { .. } => "retry_initial_over_max",
            Self::ZeroInitial => "retry_initial_zero",
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::InitialOverMax { .. } => "let retry.initial be at most retry.max".into(),
            Self::ZeroInitial => "let retry.initial be longer, such as \"1s\"".into(),
        }
    }
}
