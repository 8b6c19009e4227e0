//! Digests, as values: computing them is `files`' business.

use std::fmt;
use std::str::FromStr;

use super::{ParseError, serde_as_text};

macro_rules! digest {
    ($(#[$doc:meta])* $name:ident, $bytes:literal, $expected:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $bytes]);

        impl $name {
            /// The bytes.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8; $bytes] {
                &self.0
            }

            /// The digest of these bytes.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; $bytes]) -> Self {
                Self(bytes)
            }
        }

        impl FromStr for $name {
            type Err = ParseError;

            fn from_str(text: &str) -> Result<Self, ParseError> {
                let wrong = || ParseError::new(text, $expected, "it is written in hexadecimal digits");
                let digits = text.as_bytes();
                if digits.len() != 2 * $bytes {
                    return Err(wrong());
                }
                let mut bytes = [0; $bytes];
                for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
                    let pair = std::str::from_utf8(pair).map_err(|_| wrong())?;
                    if !pair.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                        return Err(wrong());
                    }
                    *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
                }
                Ok(Self(bytes))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, formatter)
            }
        }

        serde_as_text!($name);
    };
}

digest!(
    /// An MD5 digest: what Altinn verifies an upload by, written as 32 lowercase hexadecimal digits.
    Md5, 16, "an MD5 checksum"
);
digest!(
    /// A SHA-256 digest: what a receipt can prove a content by.
    Sha256, 32, "a SHA-256 checksum"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn md5_is_shown_in_lower_case_and_read_in_any() {
        let md5: Md5 = "9E107D9D372BB6826BD81D3542A419D6".parse().unwrap();
        assert_eq!(md5.to_string(), "9e107d9d372bb6826bd81d3542a419d6");
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "9e107d9d372bb6826bd81d3542a419d",
            "+e107d9d372bb6826bd81d3542a419d6",
            "zz107d9d372bb6826bd81d3542a419d6",
            "ææææææææææææææææ",
        ] {
            assert!(text.parse::<Md5>().is_err(), "{text}");
        }
    }
}
