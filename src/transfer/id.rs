//! Names and ids. One type for each, so that two cannot be swapped.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

use super::{ParseError, serde_as_text};

/// What tells the transfers of one installation from those of others that send for the same organisation. It lives
/// and dies with the state store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct InstallationMark([u8; 3]);

impl InstallationMark {
    /// A mark made of random bytes.
    #[must_use]
    pub fn new(random: [u8; 16]) -> Self {
        let [a, b, c, ..] = random;
        Self([a, b, c])
    }
}

impl fmt::Display for InstallationMark {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c] = self.0;
        write!(formatter, "{a:02x}{b:02x}{c:02x}")
    }
}

impl FromStr for InstallationMark {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let wrong = || ParseError::new(text, "the mark of an installation", "it has six hexadecimal digits");
        if text.len() != 6 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        let number = u32::from_str_radix(text, 16).map_err(|_| wrong())?;
        let [_, a, b, c] = number.to_be_bytes();
        Ok(Self([a, b, c]))
    }
}

/// Our own id of a transfer: a UUID of version 7, so that ids sort by time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransferId(Uuid);

impl TransferId {
    /// An id made of a time, in milliseconds since 1970, and random bytes (RFC 9562, section 5.7).
    #[must_use]
    pub fn new(unix_ms: u64, random: [u8; 16]) -> Self {
        let mut tail = [0; 10];
        tail.iter_mut().zip(random).for_each(|(to, from)| *to = from);
        Self(uuid::Builder::from_unix_timestamp_millis(unix_ms, &tail).into_uuid())
    }

    /// The same with the mark of the installation that made it in the place of three of the random bytes, so that
    /// an installation knows its own transfers again, wherever it meets them. The last eight digits stay random.
    #[must_use]
    pub fn marked(unix_ms: u64, mut random: [u8; 16], mark: InstallationMark) -> Self {
        // Bytes 9 to 11 of the id: behind version and variant.
        random.iter_mut().skip(3).zip(mark.0).for_each(|(to, from)| *to = from);
        Self::new(unix_ms, random)
    }

    /// Whether this installation made it: certain where not, and as good as certain where so.
    #[must_use]
    pub fn is_marked(self, mark: InstallationMark) -> bool {
        self.as_bytes().iter().skip(9).zip(mark.0).all(|(found, mark)| *found == mark)
    }

    /// The id directly after this one, for keeping ids in order when the clock goes back.
    #[must_use]
    pub fn successor(self) -> Self {
        let (unix_ms, random) = self.parts();
        // 80 bits follow the time; all ones is as good as never reached, and then the time moves on.
        match random.checked_add(1) {
            Some(next) if next >> 74 == 0 => Self::from_parts(unix_ms, next),
            _ => Self::from_parts(unix_ms + 1, 0),
        }
    }

    /// The time, and the 74 bits that carry neither version nor variant.
    fn parts(self) -> (u64, u128) {
        let bits = self.0.as_u128();
        let unix_ms = u64::try_from(bits >> 80).unwrap_or(u64::MAX);
        (unix_ms, (((bits >> 64) & 0xfff) << 62) | (bits & ((1 << 62) - 1)))
    }

    fn from_parts(unix_ms: u64, random: u128) -> Self {
        let bits = (u128::from(unix_ms) << 80)
            | (7 << 76)
            | ((random >> 62) << 64)
            | (0b10 << 62)
            | (random & ((1 << 62) - 1));
        Self(Uuid::from_u128(bits))
    }

    /// The last eight hexadecimal digits. A version-7 UUID's *first* digits are a time and not unique.
    #[must_use]
    pub fn short(&self) -> String {
        let simple = self.0.simple().to_string();
        simple.chars().skip(24).collect()
    }

    /// The sixteen bytes, which sort as the ids do.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

/// Altinn's id of a file transfer (`fileTransferId`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BrokerTransferId(Uuid);

impl BrokerTransferId {
    /// The sixteen bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

macro_rules! uuid_text {
    ($name:ident, $expected:literal) => {
        impl FromStr for $name {
            type Err = ParseError;

            fn from_str(text: &str) -> Result<Self, ParseError> {
                Uuid::try_parse(text).map(Self).map_err(|_| {
                    ParseError::new(
                        text,
                        $expected,
                        "it is a UUID such as 6a0f7f5e-6a55-4a63-9d0c-0f3f0a1c2b3d",
                    )
                })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0.hyphenated(), formatter)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, formatter)
            }
        }
    };
}

uuid_text!(TransferId, "a transfer id");
uuid_text!(BrokerTransferId, "a fileTransferId");

/// The end of a transfer id, or all of it, as a person types it: hexadecimal digits, with or without hyphens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdSuffix(Box<str>);

/// Fewer digits are a slip of the hand.
const SHORTEST_SUFFIX: usize = 4;

impl IdSuffix {
    /// Whether an id ends so.
    #[must_use]
    pub fn fits(&self, id: TransferId) -> bool {
        id.0.simple().to_string().ends_with(&*self.0)
    }
}

impl FromStr for IdSuffix {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let digits: String = text.chars().filter(|c| *c != '-').map(|c| c.to_ascii_lowercase()).collect();
        if (SHORTEST_SUFFIX..=32).contains(&digits.len())
            && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
        {
            Ok(Self(digits.into()))
        } else {
            let reason = "it is a transfer's id or the last digits of one, at least four, such as 364830ab";
            Err(ParseError::new(text, "a transfer id", reason))
        }
    }
}

impl fmt::Display for IdSuffix {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A text newtype: private field, one checking parser, shown as it is.
macro_rules! text {
    ($(#[$doc:meta])* $name:ident, $expected:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Box<str>);

        impl $name {
            /// The text itself.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = ParseError;

            fn from_str(text: &str) -> Result<Self, ParseError> {
                let check: fn(&str) -> Result<&str, &'static str> = $check;
                match check(text) {
                    Ok(checked) => Ok(Self(checked.into())),
                    Err(reason) => Err(ParseError::new(text, $expected, reason)),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, formatter)
            }
        }

        serde_as_text!($name);
    };
}

text!(
    /// The name of an outbox or inbox in the configuration.
    RouteName, "a route name", table_name
);
text!(
    /// The name of an identity in the configuration.
    IdentityName, "an identity name", table_name
);
text!(
    /// The name of a Maskinporten client in the configuration.
    ClientName, "a client name", table_name
);
text!(
    /// A resource of Altinn's resource registry, bare: search does not know the urn form.
    ResourceId, "a resource id", resource_id
);
text!(
    /// `sendersFileTransferReference`: 1 to 500 characters, what Altinn's database can hold.
    SendersReference, "a sender's reference", senders_reference
);

/// `[a-z0-9]+([_-][a-z0-9]+)*`: what a TOML table, an environment variable and a metric label can all carry.
fn table_name(text: &str) -> Result<&str, &'static str> {
    let word = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    if text.len() <= 64 && text.split(['-', '_']).all(word) {
        Ok(text)
    } else {
        Err(
            "it is made of a-z and 0-9, in words joined by single hyphens or underscores, 64 characters at most",
        )
    }
}

/// Formidling's own rule: `^(?:urn:altinn:resource:)?[^:]{1,255}$`, 255 characters in all; the prefix is cut.
fn resource_id(text: &str) -> Result<&str, &'static str> {
    let bare = text.strip_prefix("urn:altinn:resource:").unwrap_or(text);
    if bare.is_empty()
        || text.chars().count() > 255
        || bare.contains(':')
        || bare.chars().any(|c| c.is_control() || c.is_whitespace())
    {
        Err("it is the id from Altinn's resource registry, such as agency-invoices")
    } else {
        Ok(bare)
    }
}

fn senders_reference(text: &str) -> Result<&str, &'static str> {
    match text.encode_utf16().count() {
        1..=500 => Ok(text),
        _ => Err("it has 1 to 500 characters, which is what Altinn can store"),
    }
}

serde_as_text!(TransferId, BrokerTransferId, InstallationMark);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transfer_ids_sort_by_time_and_successors_follow() {
        let earlier = TransferId::new(1_000, [0xff; 16]);
        let later = TransferId::new(1_001, [0; 16]);
        assert!(earlier < later);
        assert!(earlier < earlier.successor());
        assert!(later < later.successor() && later.successor() < later.successor().successor());
        assert_eq!(later.to_string().parse::<TransferId>().unwrap(), later);
        assert_eq!(later.short().len(), 8);
        assert!(later.to_string().ends_with(&later.short()));
        assert_eq!(uuid::Uuid::from_bytes(*later.successor().as_bytes()).get_version_num(), 7);
        assert_eq!(uuid::Uuid::from_bytes(*earlier.successor().as_bytes()).get_version_num(), 7);
    }

    #[test]
    fn an_installation_knows_its_own_ids() {
        let mark = InstallationMark::new([0xab, 0x00, 0xff, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]);
        let other = InstallationMark::new([0xab, 0x00, 0xfe, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]);
        assert_eq!(mark.to_string(), "ab00ff");
        assert_eq!("ab00ff".parse::<InstallationMark>().unwrap(), mark);
        for bad in ["", "ab00f", "ab00fff", "+b00ff", "ab00fg", "åb00f"] {
            assert!(bad.parse::<InstallationMark>().is_err(), "{bad}");
        }
        let id = TransferId::marked(1_000, [7; 16], mark);
        for id in [id, id.successor(), id.to_string().parse().unwrap()] {
            assert!(id.is_marked(mark) && !id.is_marked(other), "{id}");
            assert_eq!(uuid::Uuid::from_bytes(*id.as_bytes()).get_version_num(), 7);
        }
        assert!(!TransferId::new(1_000, [7; 16]).is_marked(mark));
    }

    #[test]
    fn the_end_of_an_id_is_hexadecimal_and_not_too_short() {
        let id: TransferId = "01a20052-d934-7c77-9c84-5e364830abb5".parse().unwrap();
        for end in ["abb5", "4830ABB5", "9c84-5e364830abb5", &id.to_string()] {
            assert!(end.parse::<IdSuffix>().unwrap().fits(id), "{end}");
        }
        assert!(
            !"abb6".parse::<IdSuffix>().unwrap().fits(id) && !"01a2".parse::<IdSuffix>().unwrap().fits(id)
        );
        for bad in ["", "bb5", "----", "abbx", "*abb5", &format!("0{id}")] {
            assert!(bad.parse::<IdSuffix>().is_err(), "{bad}");
        }
    }

    #[test]
    fn table_names() {
        for good in ["a", "invoices", "to-agency", "a_b-c", "2026"] {
            assert!(good.parse::<RouteName>().is_ok(), "{good}");
        }
        for bad in ["", "A", "a--b", "-a", "a-", "a.b", "å", "a b", "a_-b"] {
            assert!(bad.parse::<RouteName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn resource_ids_lose_their_prefix() {
        assert_eq!("urn:altinn:resource:agency".parse::<ResourceId>().unwrap().as_str(), "agency");
        for bad in ["", "urn:altinn:resource:", "a:b", "urn:altinn:org:x", "a b", "a\n"] {
            assert!(bad.parse::<ResourceId>().is_err(), "{bad}");
        }
    }
}
