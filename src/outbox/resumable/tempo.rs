//! Whether sending several parts at once pays: it does where much of the time goes by with waiting for Altinn's
//! answers, in which a single upload sends nothing.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::config::ParallelParts;
use crate::outbox::sending::Handed;

/// Parts at once, where they pay.
const PARTS: u64 = 4;
/// A part has at least so many chunks, or the making and joining of parts costs more than it brings.
const LEAST_CHUNKS: u64 = 8;
/// So many chunks are looked at before anything is concluded; older ones count less and less.
const LEAST_SEEN: u32 = 8;

/// How the chunks of a route have gone.
#[derive(Debug, Default)]
pub(in crate::outbox) struct Tempo(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    chunks: u32,
    sending: Duration,
    waiting: Duration,
}

impl Tempo {
    /// Takes in a chunk that was answered just now.
    pub(super) fn note(&self, handed: &Handed) {
        let (sending, waiting) = handed.times();
        self.add(sending, waiting);
    }

    fn add(&self, sending: Duration, waiting: Duration) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.chunks >= 4 * LEAST_SEEN {
            *seen = Seen { chunks: seen.chunks / 2, sending: seen.sending / 2, waiting: seen.waiting / 2 };
        }
        seen.chunks += 1;
        seen.sending += sending;
        seen.waiting += waiting;
    }

    /// In how many parts a file is to be sent.
    pub(super) fn parts(&self, setting: ParallelParts, size: u64, chunk_bytes: u64) -> u64 {
        match setting {
            ParallelParts::Number(number) => number,
            ParallelParts::Auto => {
                let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                let pays = seen.chunks >= LEAST_SEEN && seen.waiting > seen.sending;
                let is_large = size / chunk_bytes.max(1) >= PARTS * LEAST_CHUNKS;
                if pays && is_large { PARTS } else { 1 }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNK: u64 = 16 * 1024 * 1024;

    #[test]
    fn parts_are_sent_at_once_where_waiting_for_answers_takes_most_of_the_time() {
        let tempo = Tempo::default();
        let parts = |tempo: &Tempo, size| tempo.parts(ParallelParts::Auto, size, CHUNK);
        assert_eq!(parts(&tempo, 1000 * CHUNK), 1, "nothing is known yet");
        for _ in 0..LEAST_SEEN {
            tempo.add(Duration::from_millis(100), Duration::from_millis(300));
        }
        assert_eq!(parts(&tempo, 1000 * CHUNK), 4);
        assert_eq!(parts(&tempo, 31 * CHUNK), 1, "too small");
        // The line has become a slow one: it is busy all the time.
        for _ in 0..64 {
            tempo.add(Duration::from_secs(3), Duration::from_millis(300));
        }
        assert_eq!(parts(&tempo, 1000 * CHUNK), 1);
        assert_eq!(tempo.parts(ParallelParts::Number(7), 1, CHUNK), 7, "whoever sets it, gets it");
    }
}
