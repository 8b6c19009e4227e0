//! What a request can do to the connection that it came on.
//!
//! Nothing here panics or speaks HTTP: the connection looks at its line whenever it reads or writes.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// With a reset (RST).
    Reset,
    /// As a program ends that closes its socket (FIN).
    Close,
}

/// A handle on a connection.
#[derive(Debug, Clone)]
pub(super) struct Line(Arc<Wire>);

#[derive(Debug)]
struct Wire {
    cut: CancellationToken,
    reset: AtomicBool,
    flushes: AtomicU64,
    flushed: AtomicWaker,
    /// Whether there is something in `instead`, so that a write takes no lock for nothing.
    speaks: AtomicBool,
    instead: Mutex<Bytes>,
}

impl Line {
    /// The line of a connection that ends when `cut` is cancelled.
    pub(super) fn new(cut: CancellationToken) -> Self {
        Self(Arc::new(Wire {
            cut,
            reset: AtomicBool::new(false),
            flushes: AtomicU64::new(0),
            flushed: AtomicWaker::new(),
            speaks: AtomicBool::new(false),
            instead: Mutex::default(),
        }))
    }

    /// Ends the connection: from now on it neither reads nor writes.
    pub(super) fn cut(&self, end: End) {
        if end == End::Reset {
            self.0.reset.store(true, Ordering::Release);
        }
        self.0.cut.cancel();
    }

    /// Lets the connection write these bytes instead of what the server writes next, and end.
    pub(super) fn say_instead(&self, words: Bytes) {
        *self.0.instead.lock().unwrap_or_else(PoisonError::into_inner) = words;
        self.0.speaks.store(true, Ordering::Release);
    }

    /// How often everything that the server had written was handed to the system.
    pub(super) fn flushes(&self) -> u64 {
        self.0.flushes.load(Ordering::Acquire)
    }

    /// Resolves when that happened after `flushes` was `before`. One task at a time may wait.
    pub(super) async fn flushed_since(&self, before: u64) {
        std::future::poll_fn(|context| {
            self.0.flushed.register(context.waker());
            if self.flushes() > before { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Resolves when the connection is to end.
    pub(super) fn is_cut(&self) -> WaitForCancellationFutureOwned {
        self.0.cut.clone().cancelled_owned()
    }

    /// Whether it is to end with a reset.
    pub(super) fn wants_reset(&self) -> bool {
        self.0.reset.load(Ordering::Acquire)
    }

    /// Takes what is to be said instead.
    pub(super) fn instead(&self) -> Option<Bytes> {
        if !self.0.speaks.load(Ordering::Acquire) || !self.0.speaks.swap(false, Ordering::AcqRel) {
            return None;
        }
        Some(std::mem::take(&mut *self.0.instead.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Everything that the server had written was handed to the system.
    pub(super) fn flushed(&self) {
        self.0.flushes.fetch_add(1, Ordering::Release);
        self.0.flushed.wake();
    }
}
