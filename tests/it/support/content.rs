//! What is in a file, without holding it in memory.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read, Write as _};
use std::path::Path;

use md5::{Digest, Md5};

/// Size and MD5.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Content {
    pub(crate) size: u64,
    pub(crate) md5: String,
}

impl Content {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self::read(bytes)
    }

    /// Of a file; nothing if there is none.
    pub(crate) fn of_file(path: &Path) -> Option<Self> {
        File::open(path).ok().map(Self::read)
    }

    fn read(mut from: impl Read) -> Self {
        let (mut size, mut digest, mut block) = (0, Md5::new(), vec![0; 256 * 1024]);
        loop {
            let read = from.read(&mut block).unwrap();
            if read == 0 {
                break;
            }
            size += read as u64;
            digest.update(&block[..read]);
        }
        let mut md5 = String::new();
        for byte in digest.finalize() {
            write!(md5, "{byte:02x}").unwrap();
        }
        Self { size, md5 }
    }
}

/// Bytes that no other seed gives.
pub(crate) fn noise(seed: u64, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes
}

/// A file of noise that does not fit in memory.
pub(crate) fn write_noise(path: &Path, seed: u64, size: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut file = File::create(path).unwrap();
    let mut block = vec![0; 1024 * 1024];
    let mut left = size;
    while left > 0 {
        random.fill(&mut block);
        let part = usize::try_from(left).unwrap_or(usize::MAX).min(block.len());
        file.write_all(&block[..part]).unwrap();
        left -= part as u64;
    }
}
