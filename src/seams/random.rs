//! Chance, handed in.

use std::sync::Mutex;

/// A source of randomness for ids and jitter.
pub trait Random: std::fmt::Debug + Send + Sync {
    /// Sixteen random bytes.
    fn bytes(&self) -> [u8; 16];
    /// A number in `0.0..1.0`.
    fn fraction(&self) -> f64;
}

/// The operating system's randomness.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsRandom;

impl Random for OsRandom {
    fn bytes(&self) -> [u8; 16] {
        // A version-4 UUID carries 122 random bits of the operating system, enough for an id.
        *uuid::Uuid::new_v4().as_bytes()
    }

    fn fraction(&self) -> f64 {
        fastrand::f64()
    }
}

/// The same numbers for the same seed, for tests.
#[derive(Debug)]
pub struct SeededRandom(Mutex<fastrand::Rng>);

impl SeededRandom {
    /// A source that repeats itself for equal seeds.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(fastrand::Rng::with_seed(seed)))
    }

    fn with<T>(&self, draw: impl FnOnce(&mut fastrand::Rng) -> T) -> T {
        draw(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

impl Random for SeededRandom {
    fn bytes(&self) -> [u8; 16] {
        self.with(|rng| rng.u128(..)).to_be_bytes()
    }

    fn fraction(&self) -> f64 {
        self.with(fastrand::Rng::f64)
    }
}
