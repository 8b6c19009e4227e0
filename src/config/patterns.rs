//! `include` and `exclude`: shell patterns that a file's name is held against.

use std::ffi::OsStr;
use std::fmt;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// Shell patterns, held against a name alone (never a path), whatever the case of its letters.
#[derive(Clone)]
pub struct NamePatterns {
    patterns: Vec<String>,
    set: GlobSet,
}

impl NamePatterns {
    /// Compiles patterns; the error is the first pattern that is none, and why.
    pub fn new(patterns: Vec<String>) -> Result<Self, globset::Error> {
        let mut builder = GlobSetBuilder::new();
        for pattern in &patterns {
            // globset folds the case of ASCII alone; names have æ, ø and å.
            builder.add(GlobBuilder::new(&pattern.to_lowercase()).literal_separator(true).build()?);
        }
        Ok(Self { patterns, set: builder.build()? })
    }

    /// Whether one of the patterns fits the whole name.
    #[must_use]
    pub fn matches(&self, name: &OsStr) -> bool {
        self.set.is_match(name.to_string_lossy().to_lowercase())
    }

    /// The patterns as they were written.
    #[must_use]
    pub fn as_slice(&self) -> &[String] {
        &self.patterns
    }
}

impl fmt::Debug for NamePatterns {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.patterns.fmt(formatter)
    }
}

impl PartialEq for NamePatterns {
    fn eq(&self, other: &Self) -> bool {
        self.patterns == other.patterns
    }
}

impl Eq for NamePatterns {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_matched_whole_and_without_case() {
        let patterns =
            NamePatterns::new(["*.pdf", "Årsrapport-????.xml", "{a,b}.txt"].map(str::to_owned).to_vec())
                .unwrap();
        for name in ["x.pdf", "X.PDF", ".pdf", "årsrapport-2026.XML", "B.txt"] {
            assert!(patterns.matches(OsStr::new(name)), "{name}");
        }
        for name in ["x.pdf.bak", "arsrapport-2026.xml", "årsrapport-26.xml", "c.txt", ""] {
            assert!(!patterns.matches(OsStr::new(name)), "{name}");
        }
        assert!(!NamePatterns::new(Vec::new()).unwrap().matches(OsStr::new("x")));
        assert!(NamePatterns::new(vec!["[".to_owned()]).is_err());
    }
}
