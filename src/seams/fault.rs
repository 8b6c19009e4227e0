//! File operations that fail because a test wants them to: a full disk, a folder that hangs by a thread.
//!
//! `FORMIDLINGD_FAIL_AT=write:2:3:28` lets the second `write` and the two after it (three in all) fail with error
//! number 28, which is a full disk. The operations are the verbs of `files`' errors; `*` is any of them.
//! `FORMIDLINGD_FAIL_AT=@/some/file` reads `*:2:3:28` from a file, at every operation: when it says something new, the
//! count begins again. What fails is then noted in a file beside it, `.hits`, a line each; with error number 0 it is
//! noted and does not fail.
//!
//! `FORMIDLINGD_FREE_SPACE=/some/file` takes the free bytes of every file system from a file, where it holds a number.
//!
//! Release builds have none of this.

use std::io;

/// Fails if the environment asks for it; see the module's page.
#[cfg(debug_assertions)]
#[track_caller]
pub fn injected_fault(operation: &str) -> io::Result<()> {
    use std::sync::LazyLock;

    static WANTED: LazyLock<Option<Wanted>> =
        LazyLock::new(|| Wanted::parse(&std::env::var("FORMIDLINGD_FAIL_AT").ok()?));

    if let Some(simulation) = super::simulation::current() {
        return simulation.operates(operation);
    }
    let Some(wanted) = WANTED.as_ref() else { return Ok(()) };
    wanted.pass(operation, std::panic::Location::caller())
}

/// How many bytes a test wants to be free; see the module's page.
#[cfg(debug_assertions)]
#[must_use]
pub fn injected_space() -> Option<u64> {
    use std::sync::LazyLock;

    static FILE: LazyLock<Option<std::ffi::OsString>> =
        LazyLock::new(|| std::env::var_os("FORMIDLINGD_FREE_SPACE"));

    std::fs::read_to_string(FILE.as_ref()?).ok()?.trim().parse().ok()
}

/// Release builds have no such faults.
#[cfg(not(debug_assertions))]
#[inline(always)]
#[expect(clippy::unnecessary_wraps, reason = "debug builds do fail")]
pub fn injected_fault(_operation: &str) -> io::Result<()> {
    Ok(())
}

/// Release builds ask the file system alone.
#[cfg(not(debug_assertions))]
#[inline(always)]
#[must_use]
pub fn injected_space() -> Option<u64> {
    None
}

/// Where it stands which calls fail.
#[cfg(debug_assertions)]
#[derive(Debug)]
enum Wanted {
    Fixed(Fault, std::sync::atomic::AtomicU64),
    Planned { file: String, plan: std::sync::Mutex<(String, u64)> },
}

#[cfg(debug_assertions)]
impl Wanted {
    fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix('@') {
            Some(file) => Some(Self::Planned { file: file.to_owned(), plan: std::sync::Mutex::default() }),
            None => Some(Self::Fixed(Fault::parse(text)?, std::sync::atomic::AtomicU64::new(0))),
        }
    }

    fn pass(&self, operation: &str, caller: &std::panic::Location<'_>) -> io::Result<()> {
        use std::sync::PoisonError;
        use std::sync::atomic::Ordering;

        let (fault, call, file) = match self {
            Self::Fixed(fault, passed) if fault.is_about(operation) => {
                (fault.clone(), passed.fetch_add(1, Ordering::SeqCst) + 1, None)
            }
            Self::Fixed(..) => return Ok(()),
            Self::Planned { file, plan } => {
                let text = std::fs::read_to_string(file).unwrap_or_default();
                let Some(fault) = Fault::parse(text.trim()).filter(|fault| fault.is_about(operation)) else {
                    return Ok(());
                };
                let mut plan = plan.lock().unwrap_or_else(PoisonError::into_inner);
                if plan.0 != text {
                    *plan = (text, 0);
                }
                plan.1 += 1;
                (fault, plan.1, Some(file))
            }
        };
        if !fault.hits(call) {
            return Ok(());
        }
        if let Some(file) = file {
            use std::io::Write as _;
            let hits = std::fs::OpenOptions::new().create(true).append(true).open(format!("{file}.hits"));
            // A test that cannot read what was hit notices.
            let _written = hits.and_then(|mut hits| {
                writeln!(hits, "{call} {operation} {}:{}", caller.file(), caller.line())
            });
        }
        // Noted, and that is all.
        if fault.errno == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(fault.errno)) }
    }
}

/// Which calls fail, and how.
#[cfg(debug_assertions)]
#[derive(Debug, Clone, PartialEq, Eq)]
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

    fn is_about(&self, operation: &str) -> bool {
        self.operation == "*" || self.operation == operation
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
        assert!(fault.is_about("sync folder") && !fault.is_about("sync"));
        assert!(Fault::parse("*:1:1:5").unwrap().is_about("sync"));
        for wrong in ["", "write", "write:1", "write:1:1", "write:a:1:28"] {
            assert_eq!(Fault::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_plan_counts_from_when_it_was_made_and_notes_what_failed() {
        let folder = tempfile::tempdir().unwrap();
        let plan = folder.path().join("plan");
        let wanted = Wanted::parse(&format!("@{}", plan.display())).unwrap();
        let pass = |operation| wanted.pass(operation, std::panic::Location::caller()).is_ok();
        assert!(pass("open"), "there is no plan yet");
        std::fs::write(&plan, "*:2:1:28").unwrap();
        assert_eq!([pass("open"), pass("write"), pass("open")], [true, false, true]);
        std::fs::write(&plan, "open:1:1:5").unwrap();
        assert_eq!([pass("write"), pass("open"), pass("open")], [true, false, true]);
        let hits = std::fs::read_to_string(folder.path().join("plan.hits")).unwrap();
        let named: Vec<_> = hits.lines().map(|line| line.rsplit_once(' ').unwrap().0.to_owned()).collect();
        assert_eq!(named, ["2 write", "1 open"]);
    }
}
