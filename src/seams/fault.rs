//! File operations that fail because a test wants them to: a full disk, a folder that hangs by a thread.
//!
//! `FORMIDLINGD_FAIL_AT=write:2:3:28` lets the second `write` and the two after it (three in all) fail with error
//! number 28, which is a full disk. The operations are the verbs of `files`' errors. Release builds have no such
//! faults.

use std::io;

/// Fails if the environment asks for it; see the module's page.
#[cfg(debug_assertions)]
pub fn injected_fault(operation: &str) -> io::Result<()> {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static WANTED: LazyLock<Option<Fault>> =
        LazyLock::new(|| Fault::parse(&std::env::var("FORMIDLINGD_FAIL_AT").ok()?));
    static PASSED: AtomicU64 = AtomicU64::new(0);

    if let Some(simulation) = super::simulation::current() {
        return simulation.operates(operation);
    }
    match WANTED.as_ref().filter(|fault| fault.operation == operation) {
        Some(fault) if fault.hits(PASSED.fetch_add(1, Ordering::SeqCst) + 1) => {
            Err(io::Error::from_raw_os_error(fault.errno))
        }
        _ => Ok(()),
    }
}

/// Release builds have no such faults.
#[cfg(not(debug_assertions))]
#[inline(always)]
#[expect(clippy::unnecessary_wraps, reason = "debug builds do fail")]
pub fn injected_fault(_operation: &str) -> io::Result<()> {
    Ok(())
}

/// Which calls fail, and how.
#[cfg(debug_assertions)]
#[derive(Debug, PartialEq, Eq)]
struct Fault {
    operation: String,
    first: u64,
    count: u64,
    errno: i32,
}

#[cfg(debug_assertions)]
impl Fault {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let operation = parts.next()?.to_owned();
        let (first, count) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        Some(Self { operation, first, count, errno: parts.next()?.parse().ok()? })
    }

    fn hits(&self, call: u64) -> bool {
        call >= self.first && call - self.first < self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_calls_named_fail_and_no_others() {
        let fault = Fault::parse("sync folder:2:3:28").unwrap();
        assert_eq!((fault.operation.as_str(), fault.errno), ("sync folder", 28));
        let hit: Vec<_> = (1..8).filter(|call| fault.hits(*call)).collect();
        assert_eq!(hit, [2, 3, 4]);
        for wrong in ["", "write", "write:1", "write:1:1", "write:a:1:28"] {
            assert_eq!(Fault::parse(wrong), None, "{wrong}");
        }
    }
}
