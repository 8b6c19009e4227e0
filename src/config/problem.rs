//! What is wrong with a configuration, in words that a person can act on.

use std::fmt;
use std::path::PathBuf;

use crate::transfer::visible;

/// One thing that is wrong, or worth a warning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where it was written.
    pub file: Origin,
    /// The key, as in `outbox.invoices.path`; empty when the whole file is meant.
    pub key: String,
    /// What is wrong; a phrase without a full stop. It never holds the value of a secret.
    pub reason: String,
    /// What to do about it; a phrase without a full stop.
    pub remedy: String,
}

impl fmt::Display for Problem {
    /// On one line, fit for a terminal: paths and names come from others.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: ", self.file)?;
        if !self.key.is_empty() {
            write!(formatter, "{}: ", visible(&self.key))?;
        }
        write!(formatter, "{}; {}", visible(&self.reason), visible(&self.remedy))
    }
}

/// Where a setting was written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// In this file.
    File(PathBuf),
    /// In this environment variable.
    Environment(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => formatter.write_str(&visible(&path.to_string_lossy())),
            Self::Environment(variable) => write!(formatter, "environment variable {}", visible(variable)),
        }
    }
}

/// Everything that is wrong with a configuration; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// A list of problems, if there is one.
    #[must_use]
    pub fn new(problems: Vec<Problem>) -> Option<Self> {
        if problems.is_empty() { None } else { Some(Self(problems)) }
    }

    /// What is said when a configuration was refused and nobody said why, which a test keeps from happening.
    pub(super) fn unexplained(file: &std::path::Path) -> Self {
        Self(vec![Problem {
            file: Origin::File(file.to_path_buf()),
            key: String::new(),
            reason: "it was refused without a reason".to_owned(),
            remedy: "report this as a fault of formidlingd".to_owned(),
        }])
    }

    /// The problems, in the order of the file.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.0.iter()
    }
}

impl<'a> IntoIterator for &'a Problems {
    type Item = &'a Problem;
    type IntoIter = std::slice::Iter<'a, Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Problems {
    /// A line for each problem, without a line break at the end.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, problem) in self.0.iter().enumerate() {
            if position > 0 {
                formatter.write_str("\n")?;
            }
            problem.fmt(formatter)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
