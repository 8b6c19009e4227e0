//! What a test may take into its own hands: time, chance, the point of a crash, failing file operations, the door
//! between the async threads and blocking work, who waits behind it, and all of them at once in a simulation. Nothing here knows anything
//! about transfers.

mod blocking;
mod clock;
mod crash;
mod fault;
mod random;
mod simulation;
mod steady;
mod waiting;

pub use blocking::{blocking, blocking_stream};
pub use clock::{Clock, SystemClock};
pub use crash::crash_point;
pub use fault::{injected_fault, injected_space};
pub use random::{OsRandom, Random, SeededRandom};
#[cfg(debug_assertions)]
pub use simulation::{Simulated, Simulation, simulate};
pub use simulation::{is_simulated, sync_file, synced};
pub use steady::SteadyClock;
pub use waiting::{Waiting, another_thread, count_waiting};
