//! A rule: what it is about, when it strikes, and how often it has.

use std::collections::HashSet;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::effect::{self, Effect};
use super::operations::Operations;
use super::quirk::Quirk;
use super::read::{Members, RuleError, one_of};
use crate::sandbox::clock::later;
use crate::sandbox::events::KINDS;

/// Rules that say what goes wrong in a sandbox, in the order in which they are asked.
#[derive(Debug, Clone, Default)]
pub struct FaultRules(pub(super) Vec<Rule>);

impl FaultRules {
    /// Reads the `[[fault]]` tables of a TOML document.
    pub fn from_toml(text: &str) -> Result<Self, RuleError> {
        let document: Value = toml::from_str(text)
            .map_err(|error| RuleError { place: "the rules".to_owned(), problem: error.to_string() })?;
        Self::from_json(document)
    }

    /// Reads the same from JSON: one rule, a list of rules, or `{"fault": [...]}`.
    pub fn from_json(document: Value) -> Result<Self, RuleError> {
        let wrong = |problem: String| RuleError { place: "the rules".to_owned(), problem };
        let rules = match document {
            Value::Array(rules) => rules,
            Value::Object(mut members) => match (members.remove("fault"), members.keys().next()) {
                (Some(Value::Array(rules)), None) => rules,
                (Some(_), Some(other)) => {
                    return Err(wrong(format!("`{other}` is not known here; allowed is `fault`")));
                }
                (Some(_), None) => return Err(wrong("`fault` must be a list of tables".to_owned())),
                (None, None) => Vec::new(),
                (None, Some(_)) => vec![Value::Object(members)],
            },
            _ => return Err(wrong("a list of rules is expected".to_owned())),
        };
        let mut read = Vec::new();
        let mut names = HashSet::new();
        for (place, rule) in rules.into_iter().enumerate() {
            let rule = Rule::read(place + 1, rule)?;
            if let Some(name) = &rule.name
                && !names.insert(name.clone())
            {
                return Err(wrong(format!("the `name` \"{name}\" is there twice")));
            }
            read.push(rule);
        }
        Ok(Self(read))
    }
}

/// One rule, as it was given.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    pub(super) name: Option<String>,
    given: Map<String, Value>,
    operations: Operations,
    /// Nine digits.
    organization: Option<String>,
    resource: Option<String>,
    transfer: Option<Uuid>,
    /// The kind of an event, such as `published`.
    event: Option<String>,
    occurrence: Occurrence,
    window: Option<Duration>,
    pub(super) effect: Effect,
}

/// Which of the matches strike.
#[derive(Debug, Clone)]
struct Occurrence {
    nth: Option<u64>,
    from: u64,
    every: u64,
    times: u64,
    probability: Option<f64>,
    seed: u64,
}

/// What is known of a request before anything has happened.
#[derive(Debug, Default)]
pub(super) struct Question {
    pub(super) operation: &'static str,
    pub(super) organization: Option<String>,
    pub(super) resource: Option<String>,
    pub(super) transfer: Option<Uuid>,
}

impl Rule {
    fn read(place: usize, rule: Value) -> Result<Self, RuleError> {
        let Value::Object(given) = rule else {
            let problem = "a table is expected".to_owned();
            return Err(RuleError { place: format!("fault {place}"), problem });
        };
        let place = match given.get("name") {
            Some(Value::String(name)) => format!("fault {place} (\"{name}\")"),
            _ => format!("fault {place}"),
        };
        let mut members = Members::new(place, given.clone());
        let name = members.text("name")?;
        let effect = effect::read(&mut members)?;
        let organization = members.text("organization")?.map(|text| number(&members, &text)).transpose()?;
        let about_requests = !matches!(effect, Effect::Quirk(..));
        let about_events = matches!(effect, Effect::Quirk(quirk, _) if quirk.is_about_events());
        let mut rule = Self {
            name,
            given,
            operations: Operations::Any,
            organization,
            resource: None,
            transfer: None,
            event: None,
            occurrence: occurrence(&mut members)?,
            window: members.duration("for")?,
            effect,
        };
        if about_requests {
            rule.operations = operations(&mut members)?;
            rule.resource = members.text("resource")?;
        }
        if about_requests || about_events {
            let transfer = members.text("transfer")?;
            rule.transfer = transfer.map(|text| id(&members, &text)).transpose()?;
        }
        if about_events {
            let event = members.text("event")?;
            rule.event = event.map(|text| kind(&members, text)).transpose()?;
        }
        members.finish()?;
        Ok(rule)
    }

    fn is_about(&self, question: &Question) -> bool {
        let same = |wanted: &Option<String>, given: &Option<String>| wanted.is_none() || wanted == given;
        self.operations.contain(question.operation)
            && same(&self.organization, &question.organization)
            && same(&self.resource, &question.resource)
            && (self.transfer.is_none() || self.transfer == question.transfer)
    }
}

fn number(members: &Members, text: &str) -> Result<String, RuleError> {
    let digits = text.strip_prefix("0192:").unwrap_or(text);
    if digits.len() == 9 && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(digits.to_owned());
    }
    Err(members.wrong(format!("`organization` must be nine digits, with or without 0192:, not \"{text}\"")))
}

fn id(members: &Members, text: &str) -> Result<Uuid, RuleError> {
    Uuid::try_parse(text).map_err(|_| members.wrong(format!("`transfer` must be a UUID, not \"{text}\"")))
}

fn kind(members: &Members, text: String) -> Result<String, RuleError> {
    if KINDS.contains(&text.as_str()) {
        return Ok(text);
    }
    Err(members.wrong(format!("`event` must be {}, not \"{text}\"", one_of(&KINDS))))
}

fn operations(members: &mut Members) -> Result<Operations, RuleError> {
    let names = members.texts("operation")?.unwrap_or_else(|| vec!["any".to_owned()]);
    Operations::named(names.iter().map(String::as_str)).map_err(|name| {
        members.wrong(format!("`operation` must be {}, not \"{name}\"", one_of(&Operations::allowed())))
    })
}

fn occurrence(members: &mut Members) -> Result<Occurrence, RuleError> {
    let nth = members.whole("nth", 1)?;
    if nth.is_some()
        && let Some(other) = ["from", "every", "times"].into_iter().find(|other| members.has(other))
    {
        return Err(members.wrong(format!("`nth` and `{other}` exclude each other")));
    }
    let from = members.whole("from", 1)?;
    let every = members.whole("every", 1)?;
    let times = members.whole("times", 1)?;
    let probability = members.probability("probability")?;
    if probability.is_none() && members.has("seed") {
        return Err(members.wrong("`seed` goes with `probability`"));
    }
    let seed = members.whole("seed", 0)?.unwrap_or(1);
    Ok(Occurrence {
        nth,
        from: from.unwrap_or(1),
        every: every.unwrap_or(1),
        times: times.unwrap_or(u64::MAX),
        probability,
        seed,
    })
}

/// A rule in force.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) name: String,
    pub(super) rule: Rule,
    set: Timestamp,
    matched: u64,
    struck: u64,
    chance: fastrand::Rng,
}

impl Live {
    pub(super) fn new(name: String, rule: Rule, now: Timestamp) -> Self {
        let chance = fastrand::Rng::with_seed(rule.occurrence.seed);
        Self { name, rule, set: now, matched: 0, struck: 0, chance }
    }

    /// Whether it strikes at a request.
    pub(super) fn strikes(&mut self, question: &Question, now: Timestamp) -> bool {
        !matches!(self.rule.effect, Effect::Quirk(..)) && self.rule.is_about(question) && self.count(now)
    }

    /// The amount, when it is that quirk and strikes now.
    pub(super) fn strikes_as(
        &mut self,
        quirk: Quirk,
        organization: Option<&str>,
        event: Option<(&str, Uuid)>,
        now: Timestamp,
    ) -> Option<u64> {
        let Effect::Quirk(own, amount) = self.rule.effect else { return None };
        let wanted = self.rule.organization.as_deref();
        let (kind, transfer) = event.unzip();
        let matches = own == quirk
            && (wanted.is_none() || wanted == organization)
            && (self.rule.event.is_none() || self.rule.event.as_deref() == kind)
            && (self.rule.transfer.is_none() || self.rule.transfer == transfer);
        (matches && self.count(now)).then_some(amount)
    }

    /// Counts a match, and a strike when it comes to that.
    fn count(&mut self, now: Timestamp) -> bool {
        if self.rule.window.is_some_and(|window| now >= later(self.set, window)) {
            return false;
        }
        self.matched += 1;
        let occurrence = &self.rule.occurrence;
        // The dice are thrown at every match, so that the other members do not change their order.
        let lucky = occurrence.probability.is_none_or(|probability| self.chance.f64() < probability);
        // Of those from `from` on, the last of each `every`.
        let counted = self.matched.saturating_sub(occurrence.from - 1);
        let due = match occurrence.nth {
            Some(nth) => self.matched == nth,
            None => counted > 0 && counted.is_multiple_of(occurrence.every) && self.struck < occurrence.times,
        };
        let strikes = lucky && due;
        self.struck += u64::from(strikes);
        strikes
    }

    /// The rule as it was given, with what came of it.
    pub(super) fn show(&self) -> Value {
        json!({
            "name": self.name,
            "set": self.set,
            "matched": self.matched,
            "struck": self.struck,
            "rule": self.rule.given,
        })
    }
}
