//! What a test may take into its own hands: time, chance, the point of a crash, and the door between the
//! async threads and blocking work. Nothing here knows anything about transfers.

mod blocking;
mod clock;
mod crash;
mod random;

pub use blocking::blocking;
pub use clock::{Clock, SystemClock};
pub use crash::crash_point;
pub use random::{OsRandom, Random, SeededRandom};
