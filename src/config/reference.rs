//! The template of `sendersFileTransferReference`.

use std::fmt;
use std::str::FromStr;

use crate::transfer::{ParseError, SendersReference, TransferId};

/// What `sendersFileTransferReference` is made of: text with `{transferId}`, `{fileName}` and `{date}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferenceTemplate {
    text: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    TransferId,
    FileName,
    Date,
}

/// What Altinn can store, in UTF-16 units.
const MAX_UNITS: usize = 500;
/// The length of a hyphenated UUID.
const TRANSFER_ID_UNITS: usize = 36;
/// The length of `2026-11-21`.
const DATE_UNITS: usize = 10;

impl ReferenceTemplate {
    /// Fills the template. `date` is local, as in `2026-11-21`. A long file name is cut, so that the reference
    /// has the 500 characters that Altinn can store.
    pub fn expand(
        &self,
        id: &TransferId,
        file_name: &str,
        date: &str,
    ) -> Result<SendersReference, ParseError> {
        let names = self.parts.iter().filter(|part| matches!(part, Part::FileName)).count();
        let room = MAX_UNITS.saturating_sub(self.fixed_units()).checked_div(names).unwrap_or(0);
        let name = cut(file_name, room);
        let mut reference = String::new();
        for part in &self.parts {
            match part {
                Part::Literal(text) => reference.push_str(text),
                Part::TransferId => reference.push_str(&id.to_string()),
                Part::FileName => reference.push_str(name),
                Part::Date => reference.push_str(date),
            }
        }
        reference.parse()
    }

    /// The template as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The length without file names.
    fn fixed_units(&self) -> usize {
        self.parts
            .iter()
            .map(|part| match part {
                Part::Literal(text) => text.encode_utf16().count(),
                Part::TransferId => TRANSFER_ID_UNITS,
                Part::Date => DATE_UNITS,
                Part::FileName => 0,
            })
            .sum()
    }
}

/// The longest start of `text` that has at most `units` UTF-16 units.
fn cut(text: &str, units: usize) -> &str {
    let mut used = 0;
    for (at, character) in text.char_indices() {
        used += character.len_utf16();
        if used > units {
            return text.get(..at).unwrap_or(text);
        }
    }
    text
}

impl FromStr for ReferenceTemplate {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let wrong = |reason| ParseError::new(text, "a reference template", reason);
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            parts.push(Part::Literal(before.to_owned()));
            let (name, after) = after.split_once('}').ok_or_else(|| wrong("a { has no }"))?;
            parts.push(match name {
                "transferId" => Part::TransferId,
                "fileName" => Part::FileName,
                "date" => Part::Date,
                _ => return Err(wrong("the placeholders are {transferId}, {fileName} and {date}")),
            });
            rest = after;
        }
        parts.push(Part::Literal(rest.to_owned()));
        parts.retain(|part| !matches!(part, Part::Literal(text) if text.is_empty()));
        if parts.iter().any(|part| matches!(part, Part::Literal(text) if text.contains('}'))) {
            return Err(wrong("a } has no {"));
        }
        let template = Self { text: text.to_owned(), parts };
        if template.text.trim().is_empty() {
            Err(wrong("Altinn demands a reference"))
        } else if template.fixed_units() > MAX_UNITS {
            Err(wrong("it has more than the 500 characters that Altinn can store"))
        } else {
            Ok(template)
        }
    }
}

impl fmt::Display for ReferenceTemplate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(template: &str, name: &str) -> String {
        let id = TransferId::new(0, [0; 16]);
        template.parse::<ReferenceTemplate>().unwrap().expand(&id, name, "2026-11-21").unwrap().to_string()
    }

    #[test]
    fn placeholders_are_filled() {
        let id = TransferId::new(0, [0; 16]);
        assert_eq!(expand("{transferId}", "x"), id.to_string());
        assert_eq!(expand("a {fileName}/{date}{fileName}", "å.pdf"), "a å.pdf/2026-11-21å.pdf");
        assert_eq!(expand("fixed", "x"), "fixed");
    }

    #[test]
    fn a_long_name_is_cut_to_what_altinn_stores() {
        let reference = expand("{transferId} {fileName} {fileName}", &"😀".repeat(300));
        assert!((497..=500).contains(&reference.encode_utf16().count()), "{reference}");
    }

    #[test]
    fn what_is_no_template_is_refused() {
        for text in ["", " ", "{", "}", "{transferid}", "a{fileName", "{date}}", &"x".repeat(501)] {
            assert!(text.parse::<ReferenceTemplate>().is_err(), "{text}");
        }
    }
}
