//! Why something did not work, in a form that is stored, shown and put in an error file.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A change that the drawn states do not allow: a bug or a damaged record, reported and never carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{event:?} cannot happen to a transfer that is {state}")]
pub struct IllegalTransition {
    /// The phase the transfer is in.
    pub state: &'static str,
    /// The name of the event.
    pub event: &'static str,
}

/// What Altinn answered, for the error file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AltinnAnswer {
    /// HTTP status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// `BRO-` and five digits, or `MP-nnn`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Altinn's own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// Why something did not work and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// Stable, `snake_case`, for programs.
    pub code: String,
    /// For people: what is wrong, with what.
    pub message: String,
    /// For people: what to do.
    pub remedy: String,
    /// When it was seen.
    pub at: Timestamp,
    /// What Altinn said, where Altinn said something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub altinn: Option<AltinnAnswer>,
}
