//! `docs/contract.md` and the tests hold each other: each statement has a test that bears its number, and each
//! number in the name of a test has a statement.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use crate::support::sources_below;

/// Why a statement has no test of its number.
enum Reason {
    /// It is about a part of formidlingd that does not exist yet.
    Awaits(&'static str),
    /// A test of another name shows it.
    ShownBy(&'static str),
}
use Reason::{Awaits, ShownBy};

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Awaits(feature) => write!(f, "it awaits {feature}"),
            ShownBy(test) => write!(f, "{test} shows it"),
        }
    }
}

const EVENTS: Reason = Awaits("the listener for events");
const SUBSCRIPTIONS: Reason = Awaits("the upkeep of subscriptions");
const DOCTOR: Reason = Awaits("doctor");

/// What has no test of its number, and why.
const EXCEPTIONS: &[(&str, Reason)] = &[
    ("I23", ShownBy("i42_a_token_lasts_by_its_own_exp_less_a_margin")),
    ("I24", Awaits("the reload of keys")),
    ("I31", Awaits("a service that acts for several customers of one client")),
    ("I58", DOCTOR),
    ("I59", ShownBy("each_wrong_file_gets_the_words_beside_it")),
    ("I60", DOCTOR),
    ("E18", SUBSCRIPTIONS),
    ("E19", SUBSCRIPTIONS),
    ("E20", SUBSCRIPTIONS),
    ("E25", EVENTS),
    ("E26", SUBSCRIPTIONS),
    ("E27", EVENTS),
    ("E35", EVENTS),
    ("E36", EVENTS),
    ("E37", EVENTS),
    ("E38", EVENTS),
    ("E39", EVENTS),
    ("E40", EVENTS),
    ("E41", EVENTS),
    ("E42", EVENTS),
    ("E43", EVENTS),
    // Nothing hears of events yet, so each file that arrives is found by polling.
    ("E44", ShownBy("the_demo_shows_a_file_arriving")),
    ("E49", Awaits("the pull of events")),
    ("E50", Awaits("the pull of events")),
];

/// A letter and a number, as `S67`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Statement {
    letter: char,
    number: u16,
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.letter, self.number)
    }
}

impl Statement {
    /// `67_search…` after the letter, or `67` alone: one to three digits.
    fn read(letter: char, text: &str) -> Option<(Self, &str)> {
        let end = text.find(|c: char| !c.is_ascii_digit())?;
        let number = text[..end].parse().ok().filter(|_| (1..=3).contains(&end))?;
        Some((Self { letter, number }, &text[end..]))
    }

    /// The one that the name of a test bears: `s067_…`, or `s67_…`.
    fn of_name(name: &str) -> Option<Self> {
        let letter = name.chars().next().filter(|letter| "sie".contains(*letter))?;
        let (statement, rest) = Self::read(letter.to_ascii_uppercase(), &name[1..])?;
        rest.starts_with('_').then_some(statement)
    }
}

/// The statements of the contract: lines that begin `- **S67** (sandbox)`.
fn statements(text: &str) -> Vec<Statement> {
    let statement = |line: &str| {
        let rest = line.strip_prefix("- **")?;
        let letter = rest.chars().next()?;
        let (statement, rest) = Statement::read(letter, &rest[1..])?;
        let about = rest.strip_prefix("** (")?.split(')').next()?;
        let known = ["sandbox", "client", "sandbox, deduced", "client, deduced"].contains(&about);
        assert!(known, "{statement} is about \"{about}\"");
        Some(statement)
    };
    text.lines().filter_map(statement).collect()
}

/// The names of the tests in a file: functions under an attribute that ends in `test`.
fn tests(text: &str) -> Vec<&str> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let is_test = |place: usize| {
        let attributes = lines[..place].iter().rev().take_while(|line| line.starts_with("#["));
        attributes.copied().any(|line| {
            let name = line.trim_start_matches("#[").split(['(', ']']).next().unwrap_or_default();
            name == "test" || name.ends_with("::test")
        })
    };
    let mut names = Vec::new();
    for (place, line) in lines.iter().enumerate() {
        let Some(rest) = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ") else { continue };
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        if is_test(place) {
            names.push(&rest[..end]);
        }
    }
    names
}

#[test]
fn each_statement_has_a_test_and_each_number_a_statement() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let contract = std::fs::read_to_string(root.join("docs/contract.md")).unwrap();
    let stated = statements(&contract);
    let all: BTreeSet<Statement> = stated.iter().copied().collect();
    assert_eq!(all.len(), stated.len(), "a number stands twice in docs/contract.md");
    let files = ["src", "tests"].map(|folder| sources_below(&root.join(folder))).concat();
    let mut names = BTreeSet::new();
    let mut shown: BTreeMap<Statement, String> = BTreeMap::new();
    let mut wrong = Vec::new();
    for file in &files {
        for name in tests(&std::fs::read_to_string(file).unwrap()) {
            names.insert(name.to_owned());
            let Some(statement) = Statement::of_name(name) else { continue };
            if !all.contains(&statement) {
                wrong
                    .push(format!("{name} in {} shows what docs/contract.md does not state", file.display()));
            }
            shown.insert(statement, name.to_owned());
        }
    }
    let listed: BTreeMap<String, &Reason> =
        EXCEPTIONS.iter().map(|(statement, reason)| ((*statement).to_owned(), reason)).collect();
    assert_eq!(listed.len(), EXCEPTIONS.len(), "an exception stands twice");
    for statement in &all {
        let excuse = listed.get(&statement.to_string());
        match (shown.get(statement), excuse) {
            (None, None) => wrong.push(format!("{statement} has no test")),
            (Some(name), Some(reason)) => {
                wrong.push(format!("{statement} is excepted ({reason}), but has {name}"));
            }
            (None, Some(ShownBy(name))) if !names.contains(*name) => {
                wrong.push(format!("{statement} is to be shown by {name}, which does not exist"));
            }
            _ => {}
        }
    }
    for statement in listed.keys().filter(|name| !all.iter().any(|it| it.to_string() == **name)) {
        wrong.push(format!("the exception {statement} is stated nowhere"));
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn names_and_lines_are_read_as_they_are_meant() {
    let read = |name| Statement::of_name(name).map(|it| it.to_string());
    assert_eq!(read("s067_search_is_limited"), Some("S67".to_owned()));
    assert_eq!(read("e1_x").as_deref(), Some("E1"));
    for none in ["s67", "s0671_x", "search_x", "x067_x", "s_x", ""] {
        assert_eq!(read(none), None, "{none}");
    }
    let text = "- **S1** (sandbox) One.\n- **I20** (client) Two.\n**S3** (sandbox) No.\n- S4 no\n";
    assert_eq!(statements(text).iter().map(Statement::to_string).collect::<Vec<_>>(), ["S1", "I20"]);
    let code = "#[tokio::test]\nasync fn s001_a() {\n}\n#[test]\n#[ignore]\nfn b() {}\nfn s002_no() {}\n";
    assert_eq!(tests(code), ["s001_a", "b"]);
}
