//! A whole service on one thread, in the hands of a test: nothing runs beside anything else, and the test is told of
//! every step that a death could fall between.
//!
//! While a thread simulates, blocking work runs on it, in place; [`crash_point`](super::crash_point),
//! [`injected_fault`](super::injected_fault) and every sync tell the simulation; and whoever streams between a file
//! and the network takes turns with the network instead of waiting for it on a thread of its own. With tokio's paused
//! time and a network that is simulated, too, a run is the same each time. Release builds have none of this.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

#[cfg(debug_assertions)]
pub use self::debug::{Simulated, Simulation, simulate};

#[cfg(debug_assertions)]
mod debug {
    use std::cell::RefCell;
    use std::io;
    use std::os::fd::BorrowedFd;
    use std::rc::Rc;

    /// Who is told of a simulated service's steps. All are told on the thread that simulates.
    pub trait Simulation {
        /// A crash point is passed.
        fn passes(&self, point: &str);

        /// A file operation, one of the verbs of `files`' errors, is about to be made; it fails with the error that
        /// is given back.
        fn operates(&self, operation: &str) -> io::Result<()>;

        /// The content of a file, or the names in a folder, are to survive a loss of power from now on.
        fn synced(&self, what: BorrowedFd<'_>);
    }

    thread_local! {
        static CURRENT: RefCell<Option<Rc<dyn Simulation>>> = const { RefCell::new(None) };
    }

    /// A thread simulates for as long as this lives.
    #[derive(Debug)]
    #[must_use]
    pub struct Simulated(());

    /// Lets this thread simulate. A simulation that is there already is put aside for good.
    pub fn simulate(simulation: Rc<dyn Simulation>) -> Simulated {
        CURRENT.set(Some(simulation));
        Simulated(())
    }

    impl Drop for Simulated {
        fn drop(&mut self) {
            CURRENT.set(None);
        }
    }

    /// The simulation of this thread.
    pub(in crate::seams) fn current() -> Option<Rc<dyn Simulation>> {
        CURRENT.with_borrow(Clone::clone)
    }
}

#[cfg(debug_assertions)]
pub(super) use self::debug::current;

/// Whether this thread simulates a service.
#[cfg(debug_assertions)]
#[must_use]
pub fn is_simulated() -> bool {
    current().is_some()
}

/// Release builds simulate nothing.
#[cfg(not(debug_assertions))]
#[inline(always)]
#[must_use]
pub fn is_simulated() -> bool {
    false
}

/// Makes a file durable, content and size.
pub fn sync_file(file: &File) -> io::Result<()> {
    file.sync_all()?;
    synced(file.as_fd());
    Ok(())
}

/// Tells that a file or folder has been synced by other means.
#[cfg(debug_assertions)]
pub fn synced(what: BorrowedFd<'_>) {
    if let Some(simulation) = current() {
        simulation.synced(what);
    }
}

/// In a release build nobody wants to know.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn synced(_what: BorrowedFd<'_>) {}

#[cfg(all(test, debug_assertions))]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;
    use crate::seams::{blocking, crash_point, injected_fault};

    #[derive(Default)]
    struct Told(RefCell<Vec<String>>);

    impl Simulation for Told {
        fn passes(&self, point: &str) {
            self.0.borrow_mut().push(point.to_owned());
        }

        fn operates(&self, operation: &str) -> io::Result<()> {
            self.0.borrow_mut().push(operation.to_owned());
            Err(io::Error::from_raw_os_error(28))
        }

        fn synced(&self, _what: BorrowedFd<'_>) {
            self.0.borrow_mut().push("synced".to_owned());
        }
    }

    #[tokio::test]
    async fn a_simulated_thread_does_all_by_itself_and_tells_of_it() {
        let told = Rc::new(Told::default());
        let simulated = simulate(Rc::clone(&told) as Rc<dyn Simulation>);
        let here = std::thread::current().id();
        assert_eq!(blocking(move || std::thread::current().id()).await, here);
        crash_point("a:point");
        assert_eq!(injected_fault("write").unwrap_err().raw_os_error(), Some(28));
        sync_file(&tempfile::tempfile().unwrap()).unwrap();
        assert_eq!(*told.0.borrow(), ["a:point", "write", "synced"]);

        drop(simulated);
        assert_ne!(blocking(move || std::thread::current().id()).await, here);
        crash_point("another:point");
        injected_fault("write").unwrap();
        assert_eq!(told.0.borrow().len(), 3);
    }
}
