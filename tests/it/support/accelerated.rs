//! One clock for a sandbox and services in this process, that runs many times as fast as the machine's.
//!
//! It is tokio's own paused time, which a thread moves on, so that everything that waits (for a token to expire, for
//! the next poll, for a transfer to be purged) waits by the same clock as what is stored and shown.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use formidlingd::{sandbox, seams};
use jiff::Timestamp;
use tokio::sync::mpsc;

/// Real time between two moves of the clock.
const TICK: Duration = Duration::from_millis(1);
/// How often everybody has a turn between two moves: a request and its answer pass through fewer, and are over within a
/// move also where the machine is slow.
const TURNS: usize = 16;

/// Shows a time that runs as fast as [`accelerated`] says.
pub(crate) struct Clock {
    start: Timestamp,
    passed: AtomicU64,
}

impl Clock {
    fn present(&self) -> Timestamp {
        self.start + Duration::from_millis(self.passed.load(Ordering::SeqCst))
    }

    /// What has passed since the start.
    pub(crate) fn passed(&self) -> Duration {
        Duration::from_millis(self.passed.load(Ordering::SeqCst))
    }

    /// Moves on tokio's time and this one together.
    async fn advance(&self, step: Duration) {
        self.passed.fetch_add(u64::try_from(step.as_millis()).unwrap(), Ordering::SeqCst);
        tokio::time::advance(step).await;
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.present())
    }
}

impl seams::Clock for Clock {
    fn now(&self) -> Timestamp {
        self.present()
    }
}

impl sandbox::Clock for Clock {
    fn now(&self) -> Timestamp {
        self.present()
    }

    fn sleep_until(&self, deadline: Timestamp) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            while let Ok(left) = Duration::try_from(deadline.duration_since(self.present()))
                && !left.is_zero()
            {
                tokio::time::sleep(left).await;
            }
        })
    }
}

/// Does `work` while the time runs `rate` times as fast as the machine's; but as fast as the machine's while
/// `is_busy`, and while anybody waits for another thread, so that nothing times out that is being done, however busy the
/// machine is.
pub(crate) fn accelerated<F: Future>(
    rate: u32,
    is_busy: impl Fn() -> bool,
    work: impl FnOnce(Arc<Clock>) -> F,
) -> F::Output {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let clock = Arc::new(Clock { start: "2026-08-18T11:40:00Z".parse().unwrap(), passed: AtomicU64::new(0) });
    let waiting = seams::count_waiting();
    runtime.block_on(async {
        let (ticks, mut ticked) = mpsc::channel(1);
        // While a blocking thread is at work, tokio does not move its paused time by itself.
        let tick = tokio::task::spawn_blocking(move || {
            while ticks.blocking_send(()).is_ok() {
                std::thread::sleep(TICK);
            }
        });
        let moved = Arc::clone(&clock);
        let time = async move {
            while ticked.recv().await.is_some() {
                let is_busy = waiting.count() > 0 || is_busy();
                moved.advance(if is_busy { TICK } else { TICK * rate }).await;
                for _ in 0..TURNS {
                    tokio::task::yield_now().await;
                }
            }
        };
        let done = tokio::select! {
            done = work(clock) => done,
            () = time => unreachable!("the thread ends when nobody listens any more"),
        };
        tick.await.unwrap();
        done
    })
}
