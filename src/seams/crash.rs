//! Named points between two steps, at which a test can let the process die, or stand still.
//!
//! `FORMIDLINGD_CRASH_AT=claim:renamed` kills the process (as `kill -9` does: nothing is flushed, nothing is
//! unwound) when it passes that point; `claim:renamed:3` at the third time. `FORMIDLINGD_STOP_AT` stops it there
//! with SIGSTOP instead, until somebody sends SIGCONT. Release builds have no such points.

/// Dies or stops here if the environment asks for it; see the module's page.
#[cfg(debug_assertions)]
pub fn crash_point(name: &str) {
    use std::sync::LazyLock;

    static CRASH: LazyLock<Option<Point>> = LazyLock::new(|| Point::of_environment("FORMIDLINGD_CRASH_AT"));
    static STOP: LazyLock<Option<Point>> = LazyLock::new(|| Point::of_environment("FORMIDLINGD_STOP_AT"));

    if let Some(simulation) = super::simulation::current() {
        return simulation.passes(name);
    }
    let pid = rustix::process::getpid();
    // If the signal could not be sent the test would notice that the process goes on.
    if CRASH.as_ref().is_some_and(|point| point.is_passed(name))
        && rustix::process::kill_process(pid, rustix::process::Signal::KILL).is_ok()
    {
        loop {
            std::thread::park();
        }
    }
    if STOP.as_ref().is_some_and(|point| point.is_passed(name))
        && rustix::process::kill_process(pid, rustix::process::Signal::STOP).is_ok()
    {
        // Another thread may be the one that takes the signal: until it has, this one could run on.
        while stop_is_pending() {
            std::thread::yield_now();
        }
    }
}

/// Release builds have no crash points.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn crash_point(_name: &str) {}

/// A point that the environment names, and how often it was passed.
#[cfg(debug_assertions)]
#[derive(Debug)]
struct Point {
    name: String,
    /// It counts when it is passed for this time.
    time: u64,
    passed: std::sync::atomic::AtomicU64,
}

#[cfg(debug_assertions)]
impl Point {
    fn of_environment(variable: &str) -> Option<Self> {
        Some(Self::parse(&std::env::var(variable).ok()?))
    }

    /// `room:point` or `room:point:time`.
    fn parse(text: &str) -> Self {
        let (name, time) = match text.rsplit_once(':').map(|(name, time)| (name, time.parse())) {
            Some((name, Ok(time))) => (name, time),
            _ => (text, 1),
        };
        Self { name: name.to_owned(), time, passed: std::sync::atomic::AtomicU64::new(0) }
    }

    /// Whether this is the point, passed for the time that counts.
    fn is_passed(&self, name: &str) -> bool {
        self.name == name && self.passed.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1 == self.time
    }
}

/// Whether a SIGSTOP to this process waits for a thread to take it.
#[cfg(debug_assertions)]
fn stop_is_pending() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let pending = status.lines().find_map(|line| line.strip_prefix("ShdPnd:"));
    let pending = pending.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    pending & (1 << (rustix::process::Signal::STOP.as_raw() - 1)) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_counts_at_its_time_and_no_other() {
        let hits = |text: &str, names: &[&str]| -> Vec<bool> {
            let point = Point::parse(text);
            names.iter().map(|name| point.is_passed(name)).collect()
        };
        assert_eq!(hits("claim:renamed", &["claim:synced", "claim:renamed"]), [false, true]);
        assert_eq!(hits("claim:renamed", &["claim:renamed", "claim:renamed"]), [true, false]);
        assert_eq!(hits("claim:renamed:2", &["claim:renamed", "x", "claim:renamed"]), [false, false, true]);
    }
}
