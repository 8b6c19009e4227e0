//! Which way files go in a simulated life.

/// Which way the file goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// From the drop folder to Altinn; its recipient is not simulated.
    Out,
    /// From Altinn to the inbox; its sender is not simulated.
    In,
    /// Both, by one service.
    Both,
    /// Out, in chunks of [`super::world::CHUNK`].
    Tus,
    /// Out, in chunks, in two parts at once.
    Parts,
    /// Both, in chunks.
    BothTus,
    /// Both; what is larger than a chunk goes in three parts at once.
    BothParts,
}

impl Way {
    pub(crate) fn sends(self) -> bool {
        self != Self::In
    }

    pub(crate) fn receives(self) -> bool {
        matches!(self, Self::In | Self::Both | Self::BothTus | Self::BothParts)
    }

    /// What is sent resumably, and in how many parts.
    pub(crate) fn upload(self) -> Option<(&'static str, u64)> {
        match self {
            Self::Out | Self::In | Self::Both => None,
            Self::Tus | Self::BothTus => Some(("tus", 1)),
            Self::Parts => Some(("tus", 2)),
            Self::BothParts => Some(("auto", 3)),
        }
    }
}
