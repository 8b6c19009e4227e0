//! What the service tells of itself: its log.

mod logging;

pub use logging::{Format, LoggingError, init_logging};
