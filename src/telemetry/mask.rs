//! What must not stand in a log: national identity numbers always, names of files where the settings say so.
//!
//! File names hold the numbers of people; a log is read by more people, and kept for longer, than the file.

use std::borrow::Cow;
use std::ops::Range;
use std::path::PathBuf;

/// How names of files show in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileNames {
    /// As they are.
    Full,
    /// Not at all; of a path below one of these folders, the folder alone.
    Masked {
        /// The folders of the routes.
        folders: Vec<PathBuf>,
    },
}

/// Fields that hold nothing but a name or a path.
const FIELDS_OF_FILES: [&str; 5] = ["name", "path", "file", "folder", "file_name"];
/// Fields that hold words of ours, which name no file.
const FIELDS_OF_OURS: [&str; 2] = ["remedy", "code"];

/// As many as there are digits.
const NUMBER: &str = "***********";
const NAME: &str = "***";

/// Masks texts of a log.
#[derive(Debug, Clone)]
pub(super) struct Mask {
    /// The beginnings of paths below the folders of the routes, escaped as in `{:?}`; `None` where names are shown.
    folders: Option<Vec<String>>,
}

impl Mask {
    pub(super) fn new(names: FileNames) -> Self {
        let folders = match names {
            FileNames::Full => None,
            FileNames::Masked { folders } => {
                let below = |folder: &PathBuf| format!("{}/", folder.to_string_lossy().escape_debug());
                let mut folders: Vec<String> = folders.iter().map(below).collect();
                // The longest first, so that as much of a path as possible is known.
                folders.sort_by_key(|folder| std::cmp::Reverse(folder.len()));
                Some(folders)
            }
        };
        Self { folders }
    }

    /// The text of a field as it may be logged.
    pub(super) fn field<'a>(&self, field: &str, text: &'a str) -> Cow<'a, str> {
        match &self.folders {
            Some(_) if FIELDS_OF_FILES.contains(&field) => Cow::Borrowed(NAME),
            Some(folders) if !FIELDS_OF_OURS.contains(&field) => {
                Cow::Owned(without_numbers(&without_names(text, folders)).into_owned())
            }
            _ => without_numbers(text),
        }
    }
}

/// The text without what stands in quotes, which is how names stand in messages, and without the rest of paths that
/// begin with one of the folders. Rather too much goes than too little.
fn without_names(text: &str, folders: &[String]) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    loop {
        let quote = rest.find('"');
        let folder = folders
            .iter()
            .filter_map(|folder| rest.find(folder.as_str()).map(|at| (at, folder)))
            .min_by_key(|(at, _)| *at);
        match (quote, folder) {
            (quote, Some((at, folder))) if quote.is_none_or(|quote| at < quote) => {
                // Nobody knows where a path without quotes ends.
                shown.push_str(rest.get(..at).unwrap_or_default());
                shown.push_str(folder);
                shown.push_str(NAME);
                return shown;
            }
            (Some(quote), _) => {
                let (before, quoted) = rest.split_at(quote);
                let quoted = quoted.get(1..).unwrap_or_default();
                let (inner, after) = quoted.split_at(end_of_quote(quoted));
                let folder = folders.iter().find(|folder| inner.starts_with(folder.as_str()));
                let is_folder = folders.iter().any(|folder| folder.strip_suffix('/') == Some(inner));
                shown.push_str(before);
                shown.push('"');
                shown.push_str(folder.map_or("", String::as_str));
                shown.push_str(if is_folder { inner } else { NAME });
                shown.push('"');
                rest = after.get(1..).unwrap_or_default();
            }
            (None, _) => {
                shown.push_str(rest);
                return shown;
            }
        }
    }
}

/// Where a text that began with a quote ends: before the next that is not escaped, or at the end.
fn end_of_quote(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'"' if !escaped => return at,
            b'\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    text.len()
}

/// The text without national identity numbers: eleven digits, or six and five with a blank or hyphen between, that
/// are not part of a longer number. What looks so within a UUID is none.
pub(super) fn without_numbers(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    let found = numbers(bytes);
    if found.is_empty() {
        return Cow::Borrowed(text);
    }
    let ids = uuids(bytes);
    let mut shown = String::with_capacity(text.len());
    let mut from = 0;
    for number in found {
        let in_an_id = ids.iter().any(|id| id.start <= number.start && number.end <= id.end);
        if in_an_id {
            continue;
        }
        shown.push_str(text.get(from..number.start).unwrap_or_default());
        shown.push_str(NUMBER);
        from = number.end;
    }
    shown.push_str(text.get(from..).unwrap_or_default());
    Cow::Owned(shown)
}

/// Where national identity numbers seem to stand.
fn numbers(bytes: &[u8]) -> Vec<Range<usize>> {
    let runs = runs_of_digits(bytes);
    let mut found = Vec::new();
    let mut runs = runs.iter().peekable();
    while let Some(run) = runs.next() {
        let starts = [run.start, run.start + digits_of_an_escape(bytes, run.start)];
        let long = |digits: usize| starts.iter().find(|start| run.end.saturating_sub(**start) == digits);
        if let Some(start) = long(11) {
            found.push(*start..run.end);
        } else if let (Some(start), Some(next)) = (long(6), runs.peek()) {
            let between = bytes.get(run.end..next.start).unwrap_or_default();
            let parted = matches!(between, b" " | b"-" | b"\xc2\xa0");
            if parted && next.len() == 5 {
                found.push(*start..next.end);
            }
        }
    }
    found
}

fn runs_of_digits(bytes: &[u8]) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (at, _) in bytes.iter().enumerate().filter(|(_, byte)| byte.is_ascii_digit()) {
        match runs.last_mut() {
            Some(run) if run.end == at => run.end = at + 1,
            _ => runs.push(at..at + 1),
        }
    }
    runs
}

/// How many of the digits from `start` on belong to an escape that `{:?}` has written, `\0` or `\xf9`: a name may
/// have such a character just before the number.
fn digits_of_an_escape(bytes: &[u8], start: usize) -> usize {
    let before = |length: usize| start.checked_sub(length).and_then(|from| bytes.get(from..start));
    match (before(1), before(2), before(3)) {
        (Some(b"\\"), _, _) => 1,
        (_, Some(b"\\x"), _) => 2,
        (_, _, Some([b'\\', b'x', letter])) if letter.is_ascii_hexdigit() => 1,
        _ => 0,
    }
}

/// Where UUIDs stand.
fn uuids(bytes: &[u8]) -> Vec<Range<usize>> {
    const LENGTH: usize = 36;
    let is_uuid = |window: &[u8]| {
        window.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
    };
    let ends_word = |byte: Option<&u8>| byte.is_none_or(|byte| !byte.is_ascii_alphanumeric());
    bytes
        .windows(LENGTH)
        .enumerate()
        .filter(|(at, window)| {
            is_uuid(window)
                && ends_word(at.checked_sub(1).and_then(|before| bytes.get(before)))
                && ends_word(bytes.get(at + LENGTH))
        })
        .map(|(at, _)| at..at + LENGTH)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn identity_numbers_go_and_other_numbers_stay() {
        for (text, shown) in [
            ("01019012345", "***********"),
            ("søknad_01019012345.pdf", "søknad_***********.pdf"),
            ("010190 12345, 010190-12345", "***********, ***********"),
            ("010190\u{a0}12345", "***********"),
            ("123456 010190 12345", "123456 ***********"),
            ("a01019012345b02029012345", "a***********b***********"),
            (
                "\\001019012345 \\xf901019012345 \\xFa01019012345",
                "\\0*********** \\xf9*********** \\xFa***********",
            ),
            ("\\01019012345", "\\***********"),
            ("010190123456 0101901234 010190 123456 0101901 2345 010190  12345", ""),
            ("2026-11-21T22:55:59.284815Z", ""),
            ("01a20052-d934-7c77-9c84-a12345678901", ""),
            ("id=01a20052-d934-7c77-9c84-12345678901a,", ""),
            ("x01a20052-d934-7c77-9c84-a12345678901", "x01a20052-d934-7c77-9c84-a***********"),
            ("", ""),
        ] {
            assert_eq!(without_numbers(text), if shown.is_empty() { text } else { shown });
        }
    }

    fn masked(field: &str, text: &str) -> String {
        let folders = vec!["/srv/out".into(), "/srv/out-2/søk \"x\"".into()];
        Mask::new(FileNames::Masked { folders }).field(field, text).into_owned()
    }

    #[test]
    fn names_go_with_the_fields_the_quotes_and_the_folders_that_they_stand_in() {
        for field in FIELDS_OF_FILES {
            assert_eq!(masked(field, "Ola.pdf"), "***");
        }
        for (text, shown) in [
            (
                "cannot open \"/srv/out/Ola \\\"N\\\".pdf\": Permission denied",
                "cannot open \"/srv/out/***\": Permission denied",
            ),
            ("cannot open /srv/out/Ola N.pdf: Permission denied", "cannot open /srv/out/***"),
            ("cannot list \"/srv/out\": x", "cannot list \"/srv/out\": x"),
            ("cannot list /srv/out: x", "cannot list /srv/out: x"),
            ("\"/srv/out-2/søk \\\"x\\\"/Ola\" and \"Kari\"", "\"/srv/out-2/søk \\\"x\\\"/***\" and \"***\""),
            ("\"/etc/Ola\" and \"Kari", "\"***\" and \"***\""),
            ("01019012345", "***********"),
        ] {
            assert_eq!(masked("error", text), shown);
        }
        assert_eq!(masked("remedy", "choose \"forever\""), "choose \"forever\"");
        assert_eq!(Mask::new(FileNames::Full).field("name", "Ola.pdf"), "Ola.pdf");
    }

    proptest! {
        #[test]
        fn no_number_is_left_in_any_text(
            before in any::<String>(), after in any::<String>(), number in "[0-9]{6}[ -]?[0-9]{5}",
        ) {
            let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
            prop_assume!(!ends(before.chars().last()) && !ends(after.chars().next()));
            // A number before a blank could be the first half of another.
            for text in [format!("{before}{number}{after}"), format!("{:?}", format!("{before}{number}{after}"))] {
                prop_assert!(!without_numbers(&text).contains(&number), "{text}");
            }
        }

        #[test]
        fn no_quoted_name_is_left_in_any_text(
            before in "[^\"]*", name in "[a-z\"\\\\ ]{0,9}Nordmann[a-z\"\\\\ ]{0,9}", after in any::<String>(),
        ) {
            let after = after.replace("Nordmann", "");
            prop_assume!(!before.contains("Nordmann"));
            let shown = masked("error", &format!("{before}{name:?}{after}"));
            prop_assert!(!shown.contains("Nordmann"), "{shown}");
        }

        #[test]
        fn masking_is_done_once(text in any::<String>()) {
            let once = without_numbers(&text).into_owned();
            prop_assert_eq!(without_numbers(&once), once.as_str());
        }
    }
}
