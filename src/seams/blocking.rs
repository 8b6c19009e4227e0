//! The one door through which blocking work leaves the async threads.

/// Runs `work` on the blocking threads and hands its value back.
///
/// A panic in `work` goes on in the caller, where the supervisor of the calling part sees it. Work that has
/// begun cannot be cancelled: if the returned future is dropped, `work` still runs to its end. A thread that
/// simulates does it itself, in place.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    if super::is_simulated() {
        return work();
    }
    super::another_thread(on_blocking_threads(work)).await
}

/// The same for work that waits for the network itself, and so takes its time without the machine being busy.
pub async fn blocking_stream<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    if super::is_simulated() {
        return work();
    }
    on_blocking_threads(work).await
}

#[expect(clippy::disallowed_methods, reason = "this is the one wrapper")]
async fn on_blocking_threads<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Cancelled: the runtime is going down, and nobody is left to take an answer.
            Err(_cancelled) => std::future::pending().await,
        },
    }
}

#[cfg(test)]
mod tests {
    #[tokio::test]
    async fn gives_the_value_back() {
        assert_eq!(super::blocking(|| 6 * 7).await, 42);
    }
}
