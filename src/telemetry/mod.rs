//! What the service tells of itself: its log.

mod fields;
mod json;
mod logging;
mod mask;

pub use logging::{Format, LoggingError, init_logging};
pub use mask::FileNames;
