//! What a failure tells of the other side.

/// What a failed operation has done, which decides what may be done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Nothing has happened: it may be tried again.
    None,
    /// It may have happened: ask before anything is repeated.
    Unknown,
    /// It has been refused: the same again will be refused again.
    Refused,
}
