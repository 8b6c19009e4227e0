//! Errors of a host that may be about what was asked for, and not about the host.

use std::hash::{DefaultHasher, Hash, Hasher};

/// Errors in a row, after which they are taken for the host's.
const ERRORS: u32 = 3;
/// About so many things at least.
const SUBJECTS: usize = 2;
/// Where so many things have met errors and nothing has succeeded meanwhile, it is the host, and nothing is tried at
/// once only because it has not been tried.
const MANY: usize = 16;

/// What a call is about: a transfer, a file that is to become one, or whatever else may be alone in its trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subject {
    hash: u64,
    is_one_of_many: bool,
}

impl Subject {
    /// One of many things that have nothing to do with each other, such as a transfer.
    #[must_use]
    pub fn of(what: &(impl Hash + ?Sized)) -> Self {
        Self { hash: hash(what), is_one_of_many: true }
    }

    /// What many things hang on, such as an organisation's token. While others meet errors, it waits as they do.
    #[must_use]
    pub fn shared(what: &(impl Hash + ?Sized)) -> Self {
        Self { hash: hash(what), is_one_of_many: false }
    }
}

fn hash(what: &(impl Hash + ?Sized)) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

/// Errors in a row, between which nothing has succeeded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Doubt {
    errors: u32,
    /// Those that met them, the first [`MANY`].
    subjects: Vec<Subject>,
}

impl Doubt {
    pub(super) fn add(&mut self, subject: Subject) {
        self.errors = self.errors.saturating_add(1);
        if self.subjects.len() < MANY && !self.has_met(subject) {
            self.subjects.push(subject);
        }
    }

    /// Whether it is more than one thing that is in trouble.
    pub(super) fn is_about_the_host(&self) -> bool {
        self.errors >= ERRORS && self.subjects.len() >= SUBJECTS
    }

    /// Whether a call about `subject` has met an error.
    pub(super) fn has_met(&self, subject: Subject) -> bool {
        self.subjects.contains(&subject)
    }

    /// Whether a call about `subject` may be made at once: it has met no error, and what have may be alone in theirs.
    pub(super) fn spares(&self, subject: Subject) -> bool {
        subject.is_one_of_many && self.subjects.len() < MANY && !self.has_met(subject)
    }
}
