//! Named points between two steps, at which a test can let the process die.
//!
//! `FORMIDLINGD_CRASH_AT=claim:renamed` kills the process (as `kill -9` does: nothing is flushed, nothing is
//! unwound) when it passes that point; `claim:renamed:3` at the third time. Release builds have no such points.

/// Dies here if the environment asks for it; see the module's page.
#[cfg(debug_assertions)]
pub fn crash_point(name: &str) {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static WANTED: LazyLock<Option<(String, u64)>> = LazyLock::new(|| {
        let wanted = std::env::var("FORMIDLINGD_CRASH_AT").ok()?;
        match wanted.rsplit_once(':') {
            Some((point, count)) if count.parse::<u64>().is_ok() => {
                Some((point.to_owned(), count.parse().unwrap_or(1)))
            }
            _ => Some((wanted, 1)),
        }
    });
    static PASSED: AtomicU64 = AtomicU64::new(0);

    if let Some((point, count)) = WANTED.as_ref()
        && point == name
        && PASSED.fetch_add(1, Ordering::SeqCst) + 1 == *count
    {
        let pid = rustix::process::getpid();
        // If the signal could not be sent the test would notice that the process lives.
        if rustix::process::kill_process(pid, rustix::process::Signal::KILL).is_ok() {
            loop {
                std::thread::park();
            }
        }
    }
}

/// Release builds have no crash points.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn crash_point(_name: &str) {}
