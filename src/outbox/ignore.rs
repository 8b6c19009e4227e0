//! Which names in a drop folder are never files to send.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::folders::{FAILED, SENT};
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

#[cfg(test)]
mod tests {
    use super::*;

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
