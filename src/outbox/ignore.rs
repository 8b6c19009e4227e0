//! Which names in a drop folder are never files to send.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::folders::{FAILED, PRIVATE, SENT};
use crate::transfer::Companion;

/// Endings that programs give to files that are not finished, and litter that desktops leave (compared without
/// regard to case).
const ENDINGS: [&str; 10] =
    [".tmp", ".part", ".partial", ".filepart", ".crdownload", ".crswap", ".swp", ".lnk", ".download", "~"];
/// Names that desktops leave in every folder.
const NAMES: [&str; 4] = ["thumbs.db", "desktop.ini", "ehthumbs.db", "$recycle.bin"];

/// Whether a name is on the built-in ignore list: hidden files, files that a program has yet to finish, desktop
/// litter, and the companions that stand beside files.
pub(super) fn is_ignored(name: &OsStr) -> bool {
    let bytes = name.as_bytes();
    if bytes.starts_with(b".") || bytes.starts_with(b"~") {
        return true;
    }
    let text = name.to_string_lossy().to_lowercase();
    ENDINGS.iter().any(|ending| text.ends_with(ending))
        || NAMES.contains(&text.as_str())
        || [SENT, FAILED].contains(&text.as_str())
        || Companion::of(&text).is_some()
}

/// Of a name that programs give to a file which they have yet to finish, the part that is the finished file's name or
/// its beginning: `a.pdf.part`, `.a.pdf.Xy12Ab` (rsync), `~a.pdf`.
pub(super) fn unfinished_name(name: &OsStr) -> Option<&str> {
    let name = name.to_str()?;
    if name == PRIVATE || !is_ignored(OsStr::new(name)) || Companion::of(name).is_some() {
        return None;
    }
    let visible = name.trim_start_matches(['.', '~', '$']);
    let lower = visible.to_ascii_lowercase();
    let ending = ENDINGS.iter().find(|ending| lower.ends_with(*ending)).map_or(0, |ending| ending.len());
    let begun = visible.get(..visible.len() - ending).unwrap_or_default();
    let begun = if name.starts_with('.') && ending == 0 {
        begun.rsplit_once('.').map_or(begun, |(begun, _)| begun)
    } else {
        begun
    };
    (!begun.is_empty() && ![SENT, FAILED].contains(&begun)).then_some(begun)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_unfinished_file_it_is_known_what_it_will_be() {
        for (name, begun) in [
            ("a.pdf.part", Some("a.pdf")),
            ("a.pdf.filepart", Some("a.pdf")),
            ("a.pdf.TMP", Some("a.pdf")),
            (".a.pdf.Xy12Ab", Some("a.pdf")),
            ("~$a.docx", Some("a.docx")),
            (".a.pdf.swp", Some("a.pdf")),
            ("a.pdf", None),
            ("a.pdf.meta.json", None),
            ("sent", None),
        ] {
            assert_eq!(unfinished_name(OsStr::new(name)), begun, "{name}");
        }
    }

    #[test]
    fn unfinished_files_and_litter_are_ignored() {
        for name in [
            ".hidden",
            "a.tmp",
            "a.TMP",
            "x.part",
            "x.partial",
            "x.filepart",
            "x.crdownload",
            ".x.swp",
            "~$brev.docx",
            "x.pdf~",
            "Thumbs.db",
            "desktop.ini",
            "link.lnk",
            "a.pdf.meta.json",
            "a.pdf.receipt.json",
            "a.pdf.error.json",
            "sent",
            "failed",
        ] {
            assert!(is_ignored(OsStr::new(name)), "{name}");
        }
        for name in ["a.pdf", "meta.json", "tmp", "part.zip", "æøå", "a.json", "Faktura ~ kopi.pdf"] {
            assert!(!is_ignored(OsStr::new(name)), "{name}");
        }
    }
}
