//! Wall-clock time, handed in. Waiting is done on tokio's (monotonic) time, which a test can pause.

use jiff::Timestamp;

/// Tells the time that is stored and shown.
pub trait Clock: std::fmt::Debug + Send + Sync {
    /// The present moment, UTC.
    fn now(&self) -> Timestamp;

    /// Takes note of what a server says the time is.
    fn observe(&self, _server: Timestamp) {}
}

/// The clock of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock that others are handed")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}
