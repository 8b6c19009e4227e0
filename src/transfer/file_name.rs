//! File names: those we tell Altinn, and those that strangers choose and we must write to disk.

use std::fmt;
use std::str::FromStr;

use unicode_normalization::UnicodeNormalization;

use super::{ParseError, is_invisible, serde_as_text};

/// The longest name that Linux file systems and Samba shares take, in bytes.
const MAX_NAME_BYTES: usize = 255;
/// Room that every name of ours leaves for the longest companion suffix.
const COMPANION_ROOM: usize = Companion::Receipt.suffix().len();
/// An "extension" longer than this is part of the name.
const MAX_EXTENSION_BYTES: usize = 20;

/// A JSON file that belongs to a file and stands beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Companion {
    /// `<name>.meta.json`: metadata of a received file, or the sidecar of a dropped one.
    Metadata,
    /// `<name>.receipt.json`: what became of a sent file.
    Receipt,
    /// `<name>.error.json`: why a file was not sent.
    Error,
}

impl Companion {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Metadata, Self::Receipt, Self::Error];

    /// What is put behind the file's name.
    #[must_use]
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Metadata => ".meta.json",
            Self::Receipt => ".receipt.json",
            Self::Error => ".error.json",
        }
    }

    /// The companion kind that `name` is of, with the name of the file it belongs to.
    #[must_use]
    pub fn of(name: &str) -> Option<(Self, &str)> {
        Self::ALL.into_iter().find_map(|companion| {
            let cut = name.len().checked_sub(companion.suffix().len())?;
            let (stem, suffix) = (name.get(..cut)?, name.get(cut..)?);
            (!stem.is_empty() && suffix.eq_ignore_ascii_case(companion.suffix())).then_some((companion, stem))
        })
    }
}

/// The name that a transfer has at Altinn: 1 to 255 UTF-16 units, one line, no path.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OutgoingFileName(Box<str>);

impl OutgoingFileName {
    /// The name itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for OutgoingFileName {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let wrong = |reason| Err(ParseError::new(text, "a file name", reason));
        match text.encode_utf16().count() {
            1..=255 => {}
            _ => return wrong("it has 1 to 255 characters, which is what Altinn takes"),
        }
        if text.chars().any(char::is_control) {
            return wrong("it has no line breaks or other control characters");
        }
        if text.contains(['/', '\\']) || text == "." || text == ".." {
            return wrong("it is a name, not a path");
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for OutgoingFileName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for OutgoingFileName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, formatter)
    }
}

/// A name that can be given to a file in a folder of ours: one path component, of a length that leaves room
/// for its companions.
///
/// [`SafeFileName::for_received`] makes one of anything; parsing refuses what is not one already.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SafeFileName(Box<str>);

impl SafeFileName {
    /// The name itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A safe name as near as possible to what a stranger called the file; the stranger's own stands in the
    /// metadata.
    ///
    /// The result is a valid name on Linux and Windows alike: composed (NFC), no path parts, no control,
    /// direction or zero-width characters, no name that Windows reserves, no dot or dash in front, no dot or
    /// space behind, and never the name of a companion.
    #[must_use]
    pub fn for_received(original: &str, distinct: &str) -> Self {
        let mut name: String = original.nfc().map(|c| if is_hostile(c) { '_' } else { c }).collect();
        name.truncate(name.trim_end_matches(['.', ' ']).len());
        if name.starts_with(['.', '-', ' ', '~']) || is_reserved_on_windows(&name) {
            name.insert(0, '_');
        }
        if Companion::of(&name).is_some() {
            name.push('_');
        }
        if name.is_empty() {
            "file".clone_into(&mut name);
        }
        Self(name.into()).fitting(distinct)
    }

    /// The name under which a dropped file is laid down, which is its own unless that leaves no room for its
    /// companions.
    pub fn for_local(name: &str, distinct: &str) -> Result<Self, ParseError> {
        if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
            return Err(ParseError::new(name, "a file name", "it is one path component"));
        }
        Ok(Self(name.into()).fitting(distinct))
    }

    /// `<stem>~<distinct><extension>`: the name to use where this one is taken. The same input always gives
    /// the same name, so that a repeated step hits the same file.
    #[must_use]
    pub fn distinguished(&self, distinct: &str) -> Self {
        let (stem, extension) = self.split();
        let room = (MAX_NAME_BYTES - COMPANION_ROOM).saturating_sub(1 + distinct.len() + extension.len());
        let mut end = stem.len().min(room);
        while !stem.is_char_boundary(end) {
            end -= 1;
        }
        let stem = stem.get(..end).unwrap_or_default();
        Self(format!("{stem}~{distinct}{extension}").into())
    }

    /// The name of this file's companion.
    #[must_use]
    pub fn companion(&self, companion: Companion) -> String {
        format!("{}{}", self.0, companion.suffix())
    }

    fn fitting(self, distinct: &str) -> Self {
        if self.0.len() + COMPANION_ROOM > MAX_NAME_BYTES { self.distinguished(distinct) } else { self }
    }

    /// Stem and extension with its dot; the extension is empty where there is none worth the name.
    fn split(&self) -> (&str, &str) {
        match self.0.rfind('.') {
            Some(dot) if dot > 0 && self.0.len() - dot <= MAX_EXTENSION_BYTES => self.0.split_at(dot),
            _ => (&self.0, ""),
        }
    }
}

impl FromStr for SafeFileName {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        match Self::for_local(text, "") {
            Ok(name) if name.as_str() == text => Ok(name),
            _ => Err(ParseError::new(
                text,
                "a file name",
                "it is one path component with room for a companion",
            )),
        }
    }
}

impl fmt::Display for SafeFileName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for SafeFileName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, formatter)
    }
}

serde_as_text!(OutgoingFileName, SafeFileName);

/// What two names have in common that Windows, macOS or a Samba share take for one: composed or not, in any case.
/// Where languages and systems disagree about case, names are rather taken for one than for two.
#[must_use]
pub fn folded(name: &str) -> String {
    // Up and down again: some letters have two small forms, or one that no capital leads back to.
    name.nfc().flat_map(char::to_uppercase).flat_map(char::to_lowercase).nfc().collect()
}

/// What must not stand in a name that a stranger chose: path separators and Windows' forbidden characters,
/// controls, line separators, and everything that is invisible or turns the writing direction.
fn is_hostile(c: char) -> bool {
    c.is_control() || matches!(c, '<' | '>' | ':' | '"' | '/' | '\\' | '|' | '?' | '*') || is_invisible(c)
}

/// Device names that Windows reserves in every folder, with any extension (Microsoft, "Naming Files").
fn is_reserved_on_windows(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default().trim_end().to_ascii_uppercase();
    if ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"].contains(&stem.as_str()) {
        return true;
    }
    let port = stem.strip_prefix("COM").or_else(|| stem.strip_prefix("LPT"));
    port.is_some_and(|number| {
        let mut digits = number.chars();
        matches!((digits.next(), digits.next()), (Some('0'..='9' | '¹' | '²' | '³'), None))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::test_runner::TestCaseError;

    #[test]
    fn strangers_names_become_safe_ones() {
        let cases = [
            ("rapport.pdf", "rapport.pdf"),
            ("Árggaid čoahkkáigeassu 🎉 æøå.pdf", "Árggaid čoahkkáigeassu 🎉 æøå.pdf"),
            ("A\u{30A}.pdf", "Å.pdf"),
            ("../../etc/passwd", "_.._.._etc_passwd"),
            ("..\\x", "_.._x"),
            ("C:\\x.txt", "C__x.txt"),
            ("", "file"),
            (".", "file"),
            ("...", "file"),
            ("  ", "file"),
            (".bashrc", "_.bashrc"),
            ("-rf", "_-rf"),
            ("~x", "_~x"),
            ("a. . ", "a"),
            ("a\nb\0c", "a_b_c"),
            ("exe.\u{202E}fdp", "exe._fdp"),
            ("a\u{200B}b", "a_b"),
            ("CON", "_CON"),
            ("nul.txt", "_nul.txt"),
            ("com1.log", "_com1.log"),
            ("COM¹", "_COM¹"),
            ("console.txt", "console.txt"),
            ("invoice.pdf.meta.json", "invoice.pdf.meta.json_"),
            ("x.RECEIPT.JSON", "x.RECEIPT.JSON_"),
            (".meta.json", "_.meta.json_"),
        ];
        for (original, expected) in cases {
            assert_eq!(SafeFileName::for_received(original, "0a1b2c3d").as_str(), expected, "{original:?}");
        }
    }

    #[test]
    fn a_long_name_is_cut_at_a_character_and_keeps_its_extension() {
        let name = SafeFileName::for_received(&format!("{}.pdf", "ø".repeat(150)), "0a1b2c3d");
        assert!(name.as_str().ends_with("ø~0a1b2c3d.pdf"), "{name}");
        assert!(name.companion(Companion::Receipt).len() <= 255);
    }

    #[test]
    fn a_taken_name_is_told_apart() {
        let name: SafeFileName = "rapport.tar.gz".parse().unwrap();
        assert_eq!(name.distinguished("0a1b2c3d").as_str(), "rapport.tar~0a1b2c3d.gz");
        let name: SafeFileName = "README".parse().unwrap();
        assert_eq!(name.distinguished("0a1b2c3d").as_str(), "README~0a1b2c3d");
    }

    #[test]
    fn outgoing_names() {
        assert!("a".repeat(255).parse::<OutgoingFileName>().is_ok());
        assert!("😀".repeat(127).parse::<OutgoingFileName>().is_ok());
        for bad in ["", "a/b", "a\\b", "..", "a\nb", &"a".repeat(256), &"😀".repeat(128)] {
            assert!(bad.parse::<OutgoingFileName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn names_that_a_share_takes_for_one_are_one() {
        for (one, other) in [
            ("Rapport.pdf", "rAPPORT.PDF"),
            ("ÅRSAK.txt", "a\u{30A}rsak.txt"),
            ("straße", "STRASSE"),
            ("ΟΔΟΣ", "οδος"),
            ("οδοσ", "οδος"),
            ("I\u{307}stanbul", "İSTANBUL"),
            ("\u{212A}elvin", "kelvin"),
            ("ǅ", "ǆ"),
        ] {
            assert_eq!(folded(one), folded(other), "{one} {other}");
        }
        for (one, other) in [("a", "å"), ("a.pdf", "a_.pdf"), ("o", "ø"), ("1", "2")] {
            assert_ne!(folded(one), folded(other));
        }
    }

    /// What strangers make names of.
    fn hostile() -> impl Strategy<Value = String> {
        let parts = [
            "/",
            "..",
            "\\",
            "\0",
            "\n",
            "\r",
            "\u{1b}[2J",
            "\u{7f}",
            "\u{85}",
            "\u{2028}",
            "\u{202e}",
            "\u{2066}",
            "\u{200b}",
            "\u{feff}",
            "\u{ad}",
            "\u{fffd}",
            "CON",
            "nul",
            "Com1",
            "lpt¹",
            "conin$",
            ".",
            " ",
            "-",
            "~",
            "_",
            ".meta.json",
            ".META.JSON",
            ".receipt.Json",
            ".eRRor.json",
            ".formidlingd",
            "e\u{301}",
            "A\u{30a}",
            "\u{301}",
            "ß",
            "🦊",
            "a",
            "B",
            ".pdf",
            ":",
            "*",
        ];
        let part = prop_oneof![
            4 => proptest::sample::select(parts.to_vec()).prop_map(str::to_owned),
            1 => "[a-zæøå]{1,80}",
            1 => any::<char>().prop_map(String::from),
        ];
        proptest::collection::vec(part, 0..14).prop_map(|parts| parts.concat())
    }

    fn assert_safe(original: &str) -> Result<(), TestCaseError> {
        let name = SafeFileName::for_received(original, "0a1b2c3d");
        let apart = name.distinguished("0a1b2c3d");
        for text in [name.as_str(), apart.as_str()] {
            prop_assert!(!text.is_empty() && text != "." && text != "..");
            prop_assert!(!text.contains(['/', '\\', '\0', '\n']));
            prop_assert!(!text.starts_with(['.', '-', ' ']) && !text.ends_with(['.', ' ']));
            prop_assert!(Companion::of(text).is_none());
            prop_assert!(!text.chars().any(is_hostile));
            prop_assert!(text.len() + ".receipt.json".len() <= 255);
            prop_assert!(!is_reserved_on_windows(text));
            prop_assert!(unicode_normalization::is_nfc(text));
        }
        // Made safe once more it stays as it is, so a repeated step finds the same file.
        prop_assert_eq!(&SafeFileName::for_received(name.as_str(), "0a1b2c3d"), &name);
        Ok(())
    }

    proptest! {
        #[test]
        fn any_name_becomes_one_path_component_with_room_for_companions(original in any::<String>()) {
            assert_safe(&original)?;
        }

        #[test]
        fn any_hostile_name_becomes_a_safe_one(original in hostile()) {
            assert_safe(&original)?;
        }

        #[test]
        fn any_bytes_become_a_safe_name(original in proptest::collection::vec(0u8.., 0..300)) {
            assert_safe(&String::from_utf8_lossy(&original))?;
        }

        #[test]
        fn case_and_composition_do_not_matter(name in "[a-zA-Zæøåšžéαβσς🦊 ._-]{0,40}") {
            use unicode_normalization::UnicodeNormalization as _;
            let same = [name.to_uppercase(), name.to_lowercase(), name.nfd().collect(), folded(&name)];
            for other in same {
                prop_assert_eq!(folded(&other), folded(&name), "{}", other);
            }
        }

        #[test]
        fn long_names_stay_safe(original in "[a-zæ.~ -]{200,400}") {
            let name = SafeFileName::for_received(&original, "0a1b2c3d");
            prop_assert!(name.companion(Companion::Receipt).len() <= 255);
            prop_assert!(!name.as_str().ends_with(['.', ' ']));
        }
    }
}
