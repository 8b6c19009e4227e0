//! How fast: the budget of calls that Altinn gives a Maskinporten client, the waits between attempts, and one
//! probe instead of many when the platform is down. All waiting is on tokio's time, which a test can pause.

mod backoff;
mod breaker;
mod budget;
mod doubt;
mod error;

pub use backoff::{Backoff, LONGEST_RETRY_AFTER};
pub use breaker::{Breaker, Permit};
pub use budget::{Budget, Limits, Operation};
pub use doubt::Subject;
pub use error::{Error, Stopping};
