//! Who waits for another thread: a test that moves the time on counts them and lets it stand meanwhile, so that nothing
//! times out because a disk or a processor is busy. Release builds count nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many wait.
#[derive(Debug, Clone, Default)]
pub struct Waiting(Arc<AtomicUsize>);

impl Waiting {
    /// How many there are at this moment.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

#[cfg(debug_assertions)]
pub use self::debug::count_waiting;

/// Release builds count nothing.
#[cfg(not(debug_assertions))]
#[must_use]
pub fn count_waiting() -> Waiting {
    Waiting::default()
}

/// Waits for what another thread does.
pub async fn another_thread<T>(work: impl Future<Output = T>) -> T {
    #[cfg(debug_assertions)]
    let _counted = debug::Counted::begin();
    work.await
}

#[cfg(debug_assertions)]
mod debug {
    use std::cell::RefCell;
    use std::sync::atomic::Ordering;

    use super::Waiting;

    thread_local! {
        static COUNT: RefCell<Option<Waiting>> = const { RefCell::new(None) };
    }

    /// Counts those that begin to wait on this thread, until it is called here again.
    #[must_use]
    pub fn count_waiting() -> Waiting {
        let waiting = Waiting::default();
        COUNT.set(Some(waiting.clone()));
        waiting
    }

    /// One that waits for as long as this lives, wherever it ends.
    #[derive(Debug)]
    pub(super) struct Counted(Option<Waiting>);

    impl Counted {
        pub(super) fn begin() -> Self {
            let waiting = COUNT.with_borrow(Clone::clone);
            if let Some(Waiting(count)) = &waiting {
                count.fetch_add(1, Ordering::SeqCst);
            }
            Self(waiting)
        }
    }

    impl Drop for Counted {
        fn drop(&mut self) {
            if let Some(Waiting(count)) = &self.0 {
                count.fetch_sub(1, Ordering::SeqCst);
            }
        }
    }
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use super::super::{blocking, blocking_stream};
    use super::count_waiting;

    #[tokio::test]
    async fn who_waits_for_another_thread_is_counted_until_it_has_its_answer() {
        let waiting = count_waiting();
        let seen = waiting.clone();
        assert_eq!(blocking(move || seen.count()).await, 1);
        let seen = waiting.clone();
        assert_eq!(blocking_stream(move || seen.count()).await, 0);
        let (end, until_end) = std::sync::mpsc::channel::<()>();
        let mut given_up = Box::pin(blocking(move || until_end.recv().is_ok()));
        assert!(futures_util::poll!(&mut given_up).is_pending());
        assert_eq!(waiting.count(), 1);
        drop(given_up);
        assert_eq!(waiting.count(), 0);
        drop(end);
    }
}
