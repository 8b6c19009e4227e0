//! The calls that there are.

use std::fmt;

use crate::pace::Operation;

/// A call of Formidling's API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Call {
    /// Making a transfer.
    Initialize,
    /// Uploading content as one stream.
    Upload,
    /// Beginning a resumable upload, or a part of one.
    TusCreate,
    /// Looking how much of a resumable upload is stored.
    TusHead,
    /// Sending a chunk of a resumable upload.
    TusPatch,
    /// Having the parts of a resumable upload joined.
    TusJoin,
    /// Looking at one transfer.
    Overview,
    /// Looking at one transfer and its history.
    Details,
    /// Looking for transfers.
    Search,
    /// Downloading content.
    Download,
    /// Downloading a byte, so that Altinn notes that the download was begun.
    Touch,
    /// Confirming a download.
    Confirm,
}

impl Call {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Initialize,
        Self::Upload,
        Self::TusCreate,
        Self::TusHead,
        Self::TusPatch,
        Self::TusJoin,
        Self::Overview,
        Self::Details,
        Self::Search,
        Self::Download,
        Self::Touch,
        Self::Confirm,
    ];

    /// A short, stable name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Initialize => "initialize",
            Self::Upload => "upload",
            Self::TusCreate => "tus-create",
            Self::TusHead => "tus-head",
            Self::TusPatch => "tus-patch",
            Self::TusJoin => "tus-join",
            Self::Overview => "overview",
            Self::Details => "details",
            Self::Search => "search",
            Self::Download => "download",
            Self::Touch => "touch",
            Self::Confirm => "confirm",
        }
    }

    /// Whether it changes something at Altinn that cannot be asked for twice without a thought.
    #[must_use]
    pub const fn changes_something(self) -> bool {
        match self {
            Self::Initialize
            | Self::Upload
            | Self::TusCreate
            | Self::TusPatch
            | Self::TusJoin
            | Self::Confirm => true,
            Self::TusHead | Self::Overview | Self::Details | Self::Search | Self::Download | Self::Touch => {
                false
            }
        }
    }

    pub(super) const fn operation(self) -> Operation {
        match self {
            Self::Initialize => Operation::Initialize,
            Self::Upload => Operation::Upload,
            Self::TusCreate | Self::TusHead | Self::TusPatch | Self::TusJoin => Operation::Resumable,
            Self::Overview => Operation::Overview,
            Self::Details => Operation::Details,
            Self::Search => Operation::Search,
            Self::Download | Self::Touch => Operation::Download,
            Self::Confirm => Operation::Confirm,
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}
