//! Reads one table, key by key, and goes on after a problem, so that all of them come to light at once.

use super::problem::{Origin, Problem};
use super::schema::{self, Absent, Shape};
use super::tree::{Node, Table, Value, segment};

/// Problems and warnings found so far.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<Problem>,
}

/// Why a value will not do.
#[derive(Debug)]
pub(super) struct Wrong {
    pub(super) reason: String,
    pub(super) remedy: String,
}

impl Wrong {
    pub(super) fn new(reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { reason: reason.into(), remedy: remedy.into() }
    }
}

/// A value cannot be had, and why has been reported; reading goes on with the next key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reported;

/// One table of the configuration, being read.
#[derive(Debug)]
pub(super) struct Section<'a> {
    schema: &'static schema::Section,
    /// As in `outbox.invoices`.
    path: String,
    table: &'a Table,
    /// Where the table was begun.
    origin: &'a Origin,
    found: &'a mut Findings,
}

impl<'a> Section<'a> {
    /// Begins to read a table, and reports the keys in it that nobody knows.
    pub(super) fn new(
        schema: &'static schema::Section,
        name: Option<&str>,
        (table, origin): (&'a Table, &'a Origin),
        found: &'a mut Findings,
    ) -> Self {
        let path = match name {
            Some(name) => format!("{}.{}", schema.name, segment(name)),
            None => schema.name.to_owned(),
        };
        let mut section = Self { schema, path, table, origin, found };
        section.report_unknown();
        section
    }

    /// A key that must have a value, be it its default.
    pub(super) fn value<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&Value) -> Result<T, Wrong>,
    ) -> Result<T, Reported> {
        self.optional(key, read)?.ok_or_else(|| {
            self.problem(key, Wrong::new("it is missing", format!("add {key} to [{}]", self.path)))
        })
    }

    /// A key that may be absent.
    pub(super) fn optional<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&Value) -> Result<T, Wrong>,
    ) -> Result<Option<T>, Reported> {
        let outcome = match (self.table.get(key), self.schema.key(key).map(|key| key.absent)) {
            (Some(node), _) => read(&node.value).map(Some),
            (None, Some(Absent::Means(text))) => read(&Value::Plain(text.to_owned())).map(Some),
            (None, _) => Ok(None),
        };
        outcome.map_err(|wrong| self.problem(key, wrong))
    }

    /// The node at a key, if it was written.
    pub(super) fn node(&self, key: &str) -> Option<&'a Node> {
        self.table.get(key)
    }

    /// Whether a key was written.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Reports a problem with a key, which may have parts, as in `private_key.file`.
    pub(super) fn problem(&mut self, key: &str, wrong: Wrong) -> Reported {
        let problem = self.described(key, wrong);
        self.found.problems.push(problem);
        Reported
    }

    /// Reports something that works but should be looked at.
    pub(super) fn warning(&mut self, key: &str, wrong: Wrong) {
        let warning = self.described(key, wrong);
        self.found.warnings.push(warning);
    }

    fn described(&self, key: &str, wrong: Wrong) -> Problem {
        let node = self.table.get(key.split('.').next().unwrap_or(key));
        let file = node.map_or(self.origin, |node| innermost(node, key)).clone();
        Problem { file, key: format!("{}.{key}", self.path), reason: wrong.reason, remedy: wrong.remedy }
    }

    fn report_unknown(&mut self) {
        let names = || self.schema.keys.iter().map(|key| key.name);
        for (name, node) in self.table {
            match self.schema.key(name) {
                None => self.found.problems.push(unknown(&self.path, name, &node.origin, names())),
                Some(key) if key.shape == Shape::Secret => {
                    let Value::Table(below) = &node.value else { continue };
                    let path = format!("{}.{name}", self.path);
                    for (name, node) in
                        below.iter().filter(|(name, _)| !schema::SECRET_KEYS.contains(&name.as_str()))
                    {
                        let problem = unknown(&path, name, &node.origin, schema::SECRET_KEYS);
                        self.found.problems.push(problem);
                    }
                }
                Some(_) => {}
            }
        }
    }
}

/// Where `private_key.file` was written, which need not be where `private_key` was begun.
fn innermost<'a>(node: &'a Node, key: &str) -> &'a Origin {
    match (&node.value, key.split_once('.')) {
        (Value::Table(table), Some((_, below))) => table.get(below).map_or(&node.origin, |node| &node.origin),
        _ => &node.origin,
    }
}

/// The problem of a name that nobody knows, with the nearest that somebody does.
pub(super) fn unknown(
    path: &str,
    name: &str,
    origin: &Origin,
    known: impl IntoIterator<Item = &'static str> + Clone,
) -> Problem {
    let key = if path.is_empty() { segment(name) } else { format!("{path}.{}", segment(name)) };
    let remedy = match schema::nearest(name, known.clone()) {
        Some(near) => format!("did you mean {near}?"),
        None => format!("the known ones are {}", known.into_iter().collect::<Vec<_>>().join(", ")),
    };
    Problem { file: origin.clone(), key, reason: "it is unknown".to_owned(), remedy }
}
