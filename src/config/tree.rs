//! The settings as they were written: files and environment merged into one tree, each value with its origin.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use config::{FileFormat, Source, ValueKind};

use super::problem::{Origin, Problem};

/// What the process was given by its environment: variable and value.
pub(super) type Environment = BTreeMap<OsString, OsString>;

/// A table: names and what stands at them.
pub(super) type Table = BTreeMap<String, Node>;

/// A value and where it was written.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) origin: Origin,
}

/// A value as it was written. It may be a secret in the wrong place, so only a checked value is shown.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// A text in quotes.
    Text(String),
    /// A text that stands for whatever is expected: from the environment, or a default.
    Plain(String),
    Integer(i64),
    Float,
    Boolean(bool),
    List(Vec<Value>),
    Table(Table),
}

impl Value {
    /// What kind of value this is, in words.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) | Self::Plain(_) => "a text",
            Self::Integer(_) => "a whole number",
            Self::Float => "a number with a fraction",
            Self::Boolean(_) => "true or false",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}

/// The prefix of variables that are settings.
const PREFIX: &str = "FORMIDLINGD__";

/// Reads the main file, `conf.d/*.toml` beside it, and the environment. `None` when a file could not be read: what
/// else is wrong cannot be told then.
pub(super) fn read(main: &Path, environment: &Environment, problems: &mut Vec<Problem>) -> Option<Table> {
    let mut tree = Table::new();
    let mut whole = true;
    for file in std::iter::once(main.to_path_buf()).chain(further_files(main, problems)) {
        let origin = Origin::File(file.clone());
        match parse(&file) {
            Ok(table) => merge(&mut tree, table_of(table, &origin), &mut Vec::new(), problems),
            Err(problem) => {
                problems.push(*problem);
                whole = false;
            }
        }
    }
    for (variable, text) in environment {
        let variable = variable.to_string_lossy();
        let Some(name) = variable.strip_prefix(PREFIX) else { continue };
        match text.to_str() {
            Some(text) => override_by(&mut tree, &variable, name, text, problems),
            None => problems.push(Problem {
                file: Origin::Environment(variable.to_string()),
                key: String::new(),
                reason: "its value is not UTF-8".to_owned(),
                remedy: "set it to text, or remove it".to_owned(),
            }),
        }
    }
    whole.then_some(tree)
}

/// `conf.d/*.toml` beside the main file, in the order of their names.
fn further_files(main: &Path, problems: &mut Vec<Problem>) -> Vec<PathBuf> {
    let directory = main.with_file_name("conf.d");
    let entries = match std::fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            problems.push(unreadable(&directory, &error));
            return Vec::new();
        }
    };
    let mut files = Vec::new();
    for entry in entries {
        match entry {
            Ok(entry) => files.push(entry.path()),
            Err(error) => problems.push(unreadable(&directory, &error)),
        }
    }
    let hidden = |path: &Path| path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml") && !hidden(path));
    files.sort();
    files
}

fn unreadable(path: &Path, error: &std::io::Error) -> Problem {
    let remedy = match error.kind() {
        std::io::ErrorKind::NotFound => {
            "create it (config.example.toml is a start), or name another with --config"
        }
        std::io::ErrorKind::PermissionDenied => "let the user that the service runs as read it",
        std::io::ErrorKind::IsADirectory => "name the file in it",
        _ => "look at the disk or the mount",
    };
    Problem {
        file: Origin::File(path.to_path_buf()),
        key: String::new(),
        reason: format!("it cannot be read: {error}"),
        remedy: remedy.to_owned(),
    }
}

/// Reads and parses one file.
fn parse(path: &Path) -> Result<config::Map<String, config::Value>, Box<Problem>> {
    let problem = |reason: String, remedy: &str| {
        let file = Origin::File(path.to_path_buf());
        Box::new(Problem { file, key: String::new(), reason, remedy: remedy.to_owned() })
    };
    let bytes = std::fs::read(path).map_err(|error| Box::new(unreadable(path, &error)))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let reason = format!("byte {} is not UTF-8", error.utf8_error().valid_up_to() + 1);
        problem(reason, "save the file as UTF-8")
    })?;
    config::File::from_str(&text, FileFormat::Toml)
        .collect()
        .map_err(|error| problem(syntax(&error), "correct the line; a text stands in quotes, a list in [ ]"))
}

/// Line, column and message of a syntax error, without the line itself: that may hold a secret.
fn syntax(error: &config::ConfigError) -> String {
    let config::ConfigError::FileParse { cause, .. } = error else { return "it is not TOML".to_owned() };
    let text = cause.to_string();
    // "TOML parse error at line 1, column 5", two lines with the source, a line with the mark, and the message.
    match text.strip_prefix("TOML parse error at ") {
        Some(shown) => {
            let place = shown.lines().next().unwrap_or_default();
            let message = shown.lines().nth(4).unwrap_or("it does not belong here");
            format!("not TOML at {place}: {message}")
        }
        None => "it holds a number that TOML does not know".to_owned(),
    }
}

fn table_of(map: config::Map<String, config::Value>, origin: &Origin) -> Table {
    map.into_iter()
        .map(|(name, value)| (name, Node { value: value_of(value.kind, origin), origin: origin.clone() }))
        .collect()
}

fn value_of(kind: ValueKind, origin: &Origin) -> Value {
    match kind {
        ValueKind::Boolean(value) => Value::Boolean(value),
        ValueKind::I64(value) => Value::Integer(value),
        ValueKind::String(text) => Value::Text(text),
        ValueKind::Table(map) => Value::Table(table_of(map, origin)),
        ValueKind::Array(values) => {
            Value::List(values.into_iter().map(|value| value_of(value.kind, origin)).collect())
        }
        // TOML has none of these but the float.
        ValueKind::Nil
        | ValueKind::I128(_)
        | ValueKind::U64(_)
        | ValueKind::U128(_)
        | ValueKind::Float(_) => Value::Float,
    }
}

/// Adds the tables of a further file. A key stands in one file: which of two was meant, nobody can tell.
fn merge(into: &mut Table, from: Table, path: &mut Vec<String>, problems: &mut Vec<Problem>) {
    for (name, node) in from {
        path.push(name.clone());
        match (into.get_mut(&name), node) {
            (None, node) => {
                into.insert(name, node);
            }
            (Some(Node { value: Value::Table(there), .. }), Node { value: Value::Table(more), .. }) => {
                merge(there, more, path, problems);
            }
            (Some(there), node) => problems.push(Problem {
                file: node.origin,
                key: dotted(path),
                reason: format!("{} sets it too", there.origin),
                remedy: "keep it in one of the two files".to_owned(),
            }),
        }
        path.pop();
    }
}

/// Lets `FORMIDLINGD__OUTBOX__INVOICES__PATH` override `outbox.invoices.path`.
fn override_by(tree: &mut Table, variable: &str, name: &str, text: &str, problems: &mut Vec<Problem>) {
    let origin = Origin::Environment(variable.to_owned());
    let path: Vec<String> = name.split("__").map(str::to_lowercase).collect();
    if let Some((section, route)) = unmade(tree, &path) {
        problems.push(Problem {
            file: origin,
            key: dotted(&path),
            reason: format!("no file has a table [{section}.{}]", segment(&route)),
            remedy: "write the table in a file; the environment overrides its keys, but does not make it"
                .to_owned(),
        });
        return;
    }
    let mut table = tree;
    let Some((last, parents)) = path.split_last() else { return };
    for parent in parents {
        let node = table
            .entry(parent.clone())
            .or_insert_with(|| Node { value: Value::Table(Table::new()), origin: origin.clone() });
        let kind = node.value.kind();
        let Value::Table(below) = &mut node.value else {
            problems.push(Problem {
                file: origin,
                key: dotted(&path),
                reason: format!(
                    "there can be nothing below {}, which is {kind} in {}",
                    segment(parent),
                    node.origin
                ),
                remedy: "remove one of the two".to_owned(),
            });
            return;
        };
        table = below;
    }
    table.insert(last.clone(), Node { value: Value::Plain(text.to_owned()), origin });
}

/// The table with a name that a variable speaks of and no file has made.
fn unmade(tree: &Table, path: &[String]) -> Option<(String, String)> {
    let [section, name, _, ..] = path else { return None };
    if !super::schema::section(section)?.named {
        return None;
    }
    match tree.get(section) {
        Some(Node { value: Value::Table(tables), .. }) if tables.contains_key(name) => None,
        _ => Some((section.clone(), name.clone())),
    }
}

/// A path of names as TOML writes it.
pub(super) fn dotted(path: &[String]) -> String {
    path.iter().map(|name| segment(name)).collect::<Vec<_>>().join(".")
}

/// A name as TOML writes it: in quotes, with its odd characters escaped, where it is not bare.
pub(super) fn segment(name: &str) -> String {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if !name.is_empty() && name.bytes().all(bare) { name.to_owned() } else { format!("{name:?}") }
}
