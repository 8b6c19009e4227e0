//! Texts of strangers, made fit for a terminal or a log: what does not show as itself is written out.

use std::borrow::Cow;

/// A text on one line that shows as what it is: controls, line breaks, and what is invisible or turns the direction
/// of the text are written as `\n` or `\u{202e}`.
#[must_use]
pub fn visible(text: &str) -> Cow<'_, str> {
    let tricky = |character: char| character.is_control() || is_invisible(character);
    if !text.contains(tricky) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if tricky(character) {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    Cow::Owned(shown)
}

/// Whether a character breaks a line, has no width or turns the direction of text (Unicode Standard Annex 9 and
/// Technical Report 36).
#[must_use]
pub fn is_invisible(character: char) -> bool {
    matches!(u32::from(character),
        0x00AD | 0x034F | 0x061C | 0x115F | 0x1160 | 0x17B4 | 0x17B5 | 0x180B..=0x180F
        | 0x200B..=0x200F | 0x2028..=0x202E | 0x2060..=0x206F | 0x3164 | 0xFE00..=0xFE0E | 0xFEFF
        | 0xFFA0 | 0xFFF0..=0xFFFB | 0x1BCA0..=0x1BCA3 | 0x1D173..=0x1D17A | 0xE0000..=0xE0FFF)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_plays_tricks_is_written_out_and_the_rest_stays() {
        assert_eq!(visible("Kárášjohka 👋️ \"a\\b\".pdf"), "Kárášjohka 👋️ \"a\\b\".pdf");
        assert_eq!(visible("exe\u{202e}fdp\x1b[2J\n"), "exe\\u{202e}fdp\\u{1b}[2J\\n");
    }

    proptest! {
        #[test]
        fn no_text_moves_a_cursor(text in any::<String>()) {
            let shown = visible(&text);
            prop_assert!(!shown.chars().any(|c| c.is_control() || is_invisible(c)));
            prop_assert_eq!(visible(&shown), shown.as_ref(), "it is escaped once");
        }
    }
}
