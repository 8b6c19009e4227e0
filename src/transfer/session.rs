//! A resumable upload (the TUS protocol, as Altinn speaks it): into which parts a file is divided, in chunks of which
//! size they are sent, and where they lie at Altinn. All of it is remembered: neither the size of the chunks nor the
//! division is ever changed on the way, and no part is begun twice.
//!
//! How far it has come is not remembered: Altinn says how many bytes it has stored.

use serde::{Deserialize, Serialize};

/// Blocks that a file may have at Altinn, over all parts (Broker API, TUS: PATCH).
pub const MAX_BLOCKS: u64 = 50_000;
/// Each break in the middle of a chunk makes a block more. So many breaks are allowed for.
const BREAKS: u64 = 1_000;
/// A chunk that has to be larger than configured is a multiple of this.
const ROUND: u64 = 1024 * 1024;

/// How a file is sent resumably.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UploadSession {
    /// Bytes of a chunk; the last one of a part may be shorter.
    pub chunk_bytes: u64,
    /// When the file last changed, as the kernel had it when the upload was begun: nanoseconds since 1970.
    pub file_changed_ns: i64,
    /// The parts in the order of the file: one is the file as a whole, several are joined at the end.
    pub parts: Vec<UploadPart>,
    /// Nothing more is sent to it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub given_up: bool,
}

/// A part of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UploadPart {
    /// Its bytes.
    pub length: u64,
    /// The path where it lies at Altinn, once it was begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
}

impl UploadSession {
    /// Divides a file of `size` bytes (at least one) into up to `parts` parts of whole chunks of `chunk_bytes` (more
    /// where Altinn's limit of blocks demands it).
    #[must_use]
    pub fn plan(size: u64, chunk_bytes: u64, parts: u64, file_changed_ns: i64) -> Self {
        let least = size.div_ceil(MAX_BLOCKS - BREAKS);
        let chunk_bytes =
            if chunk_bytes.max(1) < least { least.next_multiple_of(ROUND) } else { chunk_bytes.max(1) };
        let of_part = size.div_ceil(chunk_bytes).div_ceil(parts.max(1)).saturating_mul(chunk_bytes).max(1);
        let mut left = size;
        let mut parts = Vec::new();
        while left > 0 {
            let length = left.min(of_part);
            parts.push(UploadPart { length, location: None });
            left -= length;
        }
        Self { chunk_bytes, file_changed_ns, parts, given_up: false }
    }

    /// Whether parts are to be joined at the end. Until they are, nothing can be published.
    #[must_use]
    pub fn is_joined(&self) -> bool {
        self.parts.len() > 1
    }

    /// Whether nothing of it was begun.
    #[must_use]
    pub fn is_untouched(&self) -> bool {
        !self.given_up && !self.parts.is_empty() && self.parts.iter().all(|part| part.location.is_none())
    }

    /// The number of the part that is to be begun next.
    #[must_use]
    pub fn next_to_create(&self) -> Option<usize> {
        self.parts.iter().position(|part| part.location.is_none()).filter(|_| !self.given_up)
    }

    /// Whether its last byte may leave, or its parts be joined: everything was begun, and it was not given up.
    #[must_use]
    pub fn may_end(&self) -> bool {
        !self.given_up && self.next_to_create().is_none()
    }

    pub(super) fn create(&mut self, part: usize, location: String) {
        if let Some(part) = self.parts.get_mut(part) {
            part.location = Some(location);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn chunks_grow_only_where_the_limit_of_blocks_demands_it() {
        let chunk = |size| UploadSession::plan(size, 16 * MIB, 1, 0).chunk_bytes;
        assert_eq!(chunk(1), 16 * MIB);
        assert_eq!(chunk(50_000_000_000), 16 * MIB, "the largest file with a malware scan");
        assert_eq!(chunk(49_000 * 16 * MIB), 16 * MIB);
        assert_eq!(chunk(49_000 * 16 * MIB + 1), 17 * MIB);
        // The largest file of all is 50 000 blocks of 32 MiB.
        assert_eq!(chunk(50_000 * 32 * MIB), 33 * MIB);
    }

    proptest! {
        #[test]
        fn parts_are_whole_chunks_that_make_up_the_file(
            size in 1_u64..2_000_000_000_000,
            chunk in 1_u64..64 * MIB,
            parts in 0_u64..20,
        ) {
            let session = UploadSession::plan(size, chunk, parts, 0);
            prop_assert_eq!(session.parts.iter().map(|part| part.length).sum::<u64>(), size);
            prop_assert!((1..=parts.max(1)).contains(&(session.parts.len() as u64)));
            prop_assert!(session.chunk_bytes >= chunk);
            let blocks: u64 = session.parts.iter().map(|part| part.length.div_ceil(session.chunk_bytes)).sum();
            prop_assert!(blocks <= MAX_BLOCKS - BREAKS, "{} blocks", blocks);
            prop_assert_eq!(blocks, size.div_ceil(session.chunk_bytes));
            let whole = session.parts.iter().rev().skip(1);
            prop_assert!(whole.into_iter().all(|part| part.length % session.chunk_bytes == 0));
            prop_assert!(session.parts.iter().all(|part| part.length > 0));
        }
    }
}
