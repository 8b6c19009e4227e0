//! Bodies that break off, stall, crawl or lie, on their way in or out.
//!
//! A body is wrapped only when a rule has struck, so that others cost nothing.

use std::io;
use std::sync::Arc;

use axum::body::{Body, BodyDataStream};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use jiff::Timestamp;
use std::time::Duration;

use crate::sandbox::clock::{Clock, later};
use crate::sandbox::line::{End, Line};

/// What happens to a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Twist {
    /// After so many bytes the connection ends; a shorter body is cut at its end.
    Cut { at: u64, end: End },
    /// After so many bytes nothing moves for a while; a shorter body stalls at its end.
    Stall { at: u64, pause: Duration },
    /// So many bytes in a second.
    Slow { rate: u64 },
    /// After so many bytes it ends as if that were all.
    Truncate { at: u64 },
    /// The byte at that place is another one.
    Corrupt { at: u64 },
    /// It is said to have another length.
    Length { length: u64 },
}

/// Which way a body goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    In,
    Out,
}

/// Lets a twist happen to a body.
pub(super) fn shape(body: Body, way: Way, twist: Twist, clock: &Arc<dyn Clock>, line: Option<&Line>) -> Body {
    let shaper = Shaper {
        blocks: body.into_data_stream(),
        rest: Bytes::new(),
        position: 0,
        way,
        twist,
        paused: false,
        begun: None,
        over: false,
        clock: Arc::clone(clock),
        line: line.cloned(),
    };
    Body::from_stream(futures_util::stream::unfold(shaper, |mut shaper| async move {
        let block = shaper.next().await?;
        Some((block, shaper))
    }))
}

struct Shaper {
    blocks: BodyDataStream,
    /// What was read and has not gone on yet.
    rest: Bytes,
    /// How many bytes have gone on.
    position: u64,
    way: Way,
    twist: Twist,
    paused: bool,
    begun: Option<Timestamp>,
    over: bool,
    clock: Arc<dyn Clock>,
    line: Option<Line>,
}

impl Shaper {
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        if self.over {
            return None;
        }
        match self.twist {
            Twist::Cut { at, end } if self.position >= at => return Some(Err(self.cut(end).await)),
            Twist::Stall { at, pause } if self.position >= at => self.pause(pause).await,
            Twist::Truncate { at } if self.position >= at => return None,
            Twist::Slow { rate } => self.wait_for_turn(rate).await,
            _ => {}
        }
        while self.rest.is_empty() {
            match self.blocks.next().await {
                Some(Ok(block)) => self.rest = block,
                Some(Err(error)) => {
                    self.over = true;
                    return Some(Err(io::Error::other(error)));
                }
                None => return self.end().await,
            }
        }
        let piece = self.rest.split_to(self.room().min(self.rest.len()));
        let before = self.position;
        self.position += piece.len() as u64;
        Some(Ok(match self.twist {
            Twist::Corrupt { at } if (before..self.position).contains(&at) => corrupt(&piece, at - before),
            _ => piece,
        }))
    }

    /// How many bytes may go on at once.
    fn room(&self) -> usize {
        let room = match self.twist {
            Twist::Cut { at, .. } | Twist::Stall { at, .. } | Twist::Truncate { at }
                if at > self.position =>
            {
                at - self.position
            }
            // Ten portions a second.
            Twist::Slow { rate } => (rate / 10).max(1),
            _ => u64::MAX,
        };
        usize::try_from(room).unwrap_or(usize::MAX)
    }

    async fn end(&mut self) -> Option<io::Result<Bytes>> {
        match self.twist {
            Twist::Cut { end, .. } => Some(Err(self.cut(end).await)),
            // The server ends such a connection before its last words are out.
            Twist::Length { length } if self.position < length => Some(Err(self.cut(End::Close).await)),
            Twist::Stall { pause, .. } => {
                self.pause(pause).await;
                self.over = true;
                None
            }
            _ => {
                self.over = true;
                None
            }
        }
    }

    async fn cut(&mut self, end: End) -> io::Error {
        self.over = true;
        if let Some(line) = &self.line {
            if self.way == Way::Out {
                // What went out before must arrive.
                line.flushed_since(line.flushes()).await;
            }
            line.cut(end);
        }
        io::ErrorKind::ConnectionAborted.into()
    }

    async fn pause(&mut self, pause: Duration) {
        if !std::mem::replace(&mut self.paused, true) {
            self.clock.sleep(pause).await;
        }
    }

    /// Waits until the bytes that have gone on would have gone at that rate.
    async fn wait_for_turn(&mut self, rate: u64) {
        let begun = *self.begun.get_or_insert_with(|| self.clock.now());
        let micros = u128::from(self.position) * 1_000_000 / u128::from(rate.max(1));
        let taken = Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX));
        self.clock.sleep_until(later(begun, taken)).await;
    }
}

fn corrupt(piece: &Bytes, place: u64) -> Bytes {
    let mut piece = BytesMut::from(&**piece);
    if let Some(byte) = usize::try_from(place).ok().and_then(|place| piece.get_mut(place)) {
        *byte = !*byte;
    }
    piece.freeze()
}
