//! How slow a client may be: the minimum data rates of Kestrel, the web server of the real one.
//!
//! Time counts only while there is nothing to read, or while nothing can be written: a client that keeps
//! up costs no look at the clock.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use futures_util::future::BoxFuture;
use http_body::{Frame, SizeHint};
use jiff::Timestamp;

use super::clock::{Clock, later};

/// A request's body comes in at so many bytes a second or more, on the whole,
const SLOWEST_IN: u64 = 100;
/// unless it took no longer than this.
const GRACE_IN: Duration = Duration::from_secs(10);
/// What is written goes out at so many bytes a second or more,
const SLOWEST_OUT: u64 = 240;
/// unless it took no longer than this.
const GRACE_OUT: Duration = Duration::from_secs(5);
/// So many bytes are written at once.
pub(super) const OUT_AT_ONCE: usize = 64 * 1024;

/// The error of a body that came in too slowly.
#[derive(Debug, thiserror::Error)]
#[error("reading the request body timed out due to data arriving too slowly")]
struct TooSlow;

/// Whether a request's body came in too slowly.
#[derive(Debug, Clone, Default)]
pub(super) struct Slowness(Arc<AtomicBool>);

impl Slowness {
    /// It did, and reading it failed for that.
    pub(super) fn struck(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Whether this error of a body, or what caused it, is that it came in too slowly.
pub(super) fn is_too_slow(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source()).any(<dyn std::error::Error>::is::<TooSlow>)
}

/// A request's body that fails when it comes in too slowly.
pub(super) fn watched(body: Body, clock: &Arc<dyn Clock>) -> (Body, Slowness) {
    let slowness = Slowness::default();
    if body.is_end_stream() {
        return (body, slowness);
    }
    let watched = Watched {
        body,
        slowness: slowness.clone(),
        patience: Patience::new(Arc::clone(clock)),
        received: 0,
        waiting: None,
        waited: Duration::ZERO,
    };
    (Body::new(watched), slowness)
}

struct Watched {
    body: Body,
    slowness: Slowness,
    patience: Patience,
    received: u64,
    waiting: Option<Timestamp>,
    /// Before `waiting`.
    waited: Duration,
}

impl Watched {
    /// When the client has made the server wait too long, if nothing comes. It never moves back.
    fn deadline(&self, waiting: Timestamp) -> Timestamp {
        let allowed = at_rate(self.received, SLOWEST_IN).max(GRACE_IN);
        later(waiting, allowed.saturating_sub(self.waited))
    }
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) {
            if let Some(waiting) = this.waiting.take() {
                this.waited += this.patience.since(waiting);
            }
            if let Some(Ok(frame)) = &frame {
                this.received += frame.data_ref().map_or(0, |data| data.len() as u64);
            }
            return Poll::Ready(frame);
        }
        let waiting = *this.waiting.get_or_insert_with(|| this.patience.clock.now());
        let deadline = this.deadline(waiting);
        if !this.patience.is_over(deadline, context) {
            return Poll::Pending;
        }
        this.slowness.0.store(true, Ordering::Release);
        Poll::Ready(Some(Err(axum::Error::new(TooSlow))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Looks whether a client takes what is written.
pub(super) struct Outgoing {
    patience: Patience,
    waiting: Option<Timestamp>,
}

impl Outgoing {
    /// Nothing is written yet.
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { patience: Patience::new(clock), waiting: None }
    }

    /// Something was taken.
    pub(super) fn moves(&mut self) {
        self.waiting = None;
    }

    /// Nothing of so many bytes is taken now; whether that has lasted too long.
    pub(super) fn is_stuck(&mut self, bytes: usize, context: &mut Context<'_>) -> bool {
        let waiting = *self.waiting.get_or_insert_with(|| self.patience.clock.now());
        let allowed = at_rate(bytes.min(OUT_AT_ONCE) as u64, SLOWEST_OUT).max(GRACE_OUT);
        self.patience.is_over(later(waiting, allowed), context)
    }
}

/// How long so many bytes take.
fn at_rate(bytes: u64, a_second: u64) -> Duration {
    Duration::from_millis(bytes.saturating_mul(1000) / a_second)
}

/// One timer, which is set again only when it has run out.
struct Patience {
    clock: Arc<dyn Clock>,
    timer: Option<(Timestamp, BoxFuture<'static, ()>)>,
}

impl Patience {
    fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, timer: None }
    }

    fn since(&self, moment: Timestamp) -> Duration {
        // A clock that was set back counts for nothing.
        Duration::try_from(self.clock.now().duration_since(moment)).unwrap_or_default()
    }

    fn is_over(&mut self, deadline: Timestamp, context: &mut Context<'_>) -> bool {
        loop {
            let (_, timer) = match &mut self.timer {
                Some(timer) if timer.0 <= deadline => timer,
                timer => {
                    let clock = Arc::clone(&self.clock);
                    timer.insert((deadline, Box::pin(async move { clock.sleep_until(deadline).await })))
                }
            };
            if timer.as_mut().poll(context).is_pending() {
                return false;
            }
            self.timer = None;
            if self.clock.now() >= deadline {
                return true;
            }
        }
    }
}
