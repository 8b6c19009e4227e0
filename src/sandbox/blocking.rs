//! The one place where the sandbox leaves the async threads.

use std::io;

/// Runs `work` on a thread that may block.
///
/// When the returned future is dropped the work goes on, and what it returns is dropped: so a value
/// that must not outlive an abandoned request cleans up in its own `Drop`.
#[expect(
    clippy::disallowed_methods,
    reason = "the sandbox shares no code with the client, so it has its own wrapper"
)]
pub(super) async fn blocking<T, F>(work: F) -> io::Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> io::Result<T> + Send + 'static,
{
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// Starts `work` on a thread that may block, to be awaited later.
#[expect(
    clippy::disallowed_methods,
    reason = "the sandbox shares no code with the client, so it has its own wrapper"
)]
pub(super) fn start_blocking<T, F>(work: F) -> tokio::task::JoinHandle<T>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    tokio::task::spawn_blocking(work)
}
