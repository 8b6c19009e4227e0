//! Checksums of contents, computed once while bytes pass by.

use std::io::Read;

use md5::Digest;

use super::stream::BLOCK_BYTES;
use crate::seams::injected_fault;
use crate::transfer::{Md5, Sha256};

/// MD5 and SHA-256 of the same bytes in one pass.
#[derive(Clone, Default)]
pub struct Digests {
    md5: md5::Md5,
    sha256: sha2::Sha256,
    bytes: u64,
}

impl std::fmt::Debug for Digests {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Digests").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl Digests {
    /// Takes the next bytes in.
    pub fn update(&mut self, bytes: &[u8]) {
        self.md5.update(bytes);
        self.sha256.update(bytes);
        self.bytes += bytes.len() as u64;
    }

    /// How many bytes have been taken in.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The checksums of all of them.
    #[must_use]
    pub fn finish(self) -> (Md5, Sha256) {
        (Md5::from_bytes(self.md5.finalize().into()), Sha256::from_bytes(self.sha256.finalize().into()))
    }
}

/// Reads a file from where it stands to its end.
pub fn digest_file(file: &mut impl Read) -> std::io::Result<Digests> {
    let mut digests = Digests::default();
    let mut block = vec![0; BLOCK_BYTES];
    loop {
        injected_fault("read")?;
        let read = match file.read(&mut block) {
            Ok(0) => return Ok(digests),
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        digests.update(block.get(..read).unwrap_or_default());
    }
}
