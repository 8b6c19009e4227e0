//! Reads the members of a rule one by one, so that an error names the member and what it may be.

use std::time::Duration;

use serde_json::{Map, Value};

/// Why a rule cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct RuleError {
    /// Which rule, and its name.
    pub(super) place: String,
    pub(super) problem: String,
}

/// The members of one rule that nobody has asked for yet.
pub(super) struct Members {
    place: String,
    left: Map<String, Value>,
    asked: Vec<&'static str>,
}

impl Members {
    pub(super) fn new(place: String, members: Map<String, Value>) -> Self {
        Self { place, left: members, asked: Vec::new() }
    }

    /// An error about this rule.
    pub(super) fn wrong(&self, problem: impl Into<String>) -> RuleError {
        RuleError { place: self.place.clone(), problem: problem.into() }
    }

    /// Whether a member is there and not asked for yet.
    pub(super) fn has(&self, name: &str) -> bool {
        self.left.contains_key(name)
    }

    /// Takes a member as it is.
    pub(super) fn take(&mut self, name: &'static str) -> Option<Value> {
        self.asked.push(name);
        self.left.remove(name)
    }

    fn read<T>(
        &mut self,
        name: &'static str,
        allowed: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<Option<T>, RuleError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        match read(&value) {
            Some(read) => Ok(Some(read)),
            None => Err(self.wrong(format!("`{name}` must be {allowed}, not {value}"))),
        }
    }

    /// A text that is not empty.
    pub(super) fn text(&mut self, name: &'static str) -> Result<Option<String>, RuleError> {
        self.read(name, "a text that is not empty", |value| {
            value.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
        })
    }

    /// A whole number that is not smaller than `least`.
    pub(super) fn whole(&mut self, name: &'static str, least: u64) -> Result<Option<u64>, RuleError> {
        self.read(name, &format!("a whole number, at least {least}"), |value| {
            value.as_u64().filter(|number| *number >= least)
        })
    }

    /// A probability.
    pub(super) fn probability(&mut self, name: &'static str) -> Result<Option<f64>, RuleError> {
        self.read(name, "a number from 0 to 1", |value| {
            value.as_f64().filter(|number| (0.0..=1.0).contains(number))
        })
    }

    /// A duration with its unit.
    pub(super) fn duration(&mut self, name: &'static str) -> Result<Option<Duration>, RuleError> {
        self.read(name, "a duration such as \"500ms\" or \"10m\"", |value| {
            humantime::parse_duration(value.as_str()?).ok()
        })
    }

    /// One of some words.
    pub(super) fn choice<T: Copy>(
        &mut self,
        name: &'static str,
        choices: &[(&str, T)],
    ) -> Result<Option<T>, RuleError> {
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        self.read(name, &one_of(&words), |value| {
            let text = value.as_str()?;
            choices.iter().find(|(word, _)| *word == text).map(|(_, choice)| *choice)
        })
    }

    /// A text, or a list of texts.
    pub(super) fn texts(&mut self, name: &'static str) -> Result<Option<Vec<String>>, RuleError> {
        self.read(name, "a text or a list of texts, not empty", |value| match value {
            Value::String(text) => Some(vec![text.clone()]),
            Value::Array(texts) if !texts.is_empty() => {
                texts.iter().map(|text| text.as_str().map(str::to_owned)).collect()
            }
            _ => None,
        })
    }

    /// A table of texts.
    pub(super) fn table(&mut self, name: &'static str) -> Result<Vec<(String, String)>, RuleError> {
        let table = self.read(name, "a table of texts", |value| {
            let members = value.as_object()?.iter();
            members.map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
        });
        Ok(table?.unwrap_or_default())
    }

    /// A member that must be there.
    pub(super) fn must<T>(&self, name: &str, value: Option<T>) -> Result<T, RuleError> {
        value.ok_or_else(|| self.wrong(format!("`{name}` is missing")))
    }

    /// Whatever nobody has asked for is refused.
    pub(super) fn finish(self) -> Result<(), RuleError> {
        let Some(name) = self.left.keys().next() else { return Ok(()) };
        Err(self.wrong(format!("`{name}` is not known here; allowed are {}", list(&self.asked))))
    }
}

/// `"a", "b" or "c"`.
pub(super) fn one_of(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
    match quoted.as_slice() {
        [] => "nothing".to_owned(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

fn list(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
