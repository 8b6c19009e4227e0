//! What a test may take into its own hands: time, chance, the point of a crash, failing file operations, and the
//! door between the async threads and blocking work. Nothing here knows anything about transfers.

mod blocking;
mod clock;
mod crash;
mod fault;
mod random;

pub use blocking::blocking;
pub use clock::{Clock, SystemClock};
pub use crash::crash_point;
pub use fault::{injected_fault, injected_space};
pub use random::{OsRandom, Random, SeededRandom};
