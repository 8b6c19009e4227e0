//! Reads single values: what is accepted for each kind, and the words for what is not.
//!
//! A value is shown in a problem only where it cannot be a secret in the wrong place.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use url::Url;

use super::choice::Choice;
use super::patterns::NamePatterns;
use super::routes::{Keep, MinFreeSpace};
use super::schema;
use super::section::Wrong;
use super::tree::Value;
use crate::transfer::{OrgNumber, ParseError, ResourceId};

/// The longest duration; longer ones would reach past the end of calendars.
const LONGEST: Duration = Duration::from_hours(100 * 366 * 24);

/// The longest path of a Unix socket: 108 bytes with the zero at the end (unix(7), `sun_path`).
const LONGEST_SOCKET_PATH: usize = 107;

fn mistyped(value: &Value, wanted: &str, remedy: impl Into<String>) -> Wrong {
    Wrong::new(format!("it is {}, and should be {wanted}", value.kind()), remedy)
}

/// A text, borrowed.
fn as_text<'a>(value: &'a Value, remedy: &str) -> Result<&'a str, Wrong> {
    match value {
        Value::Text(text) | Value::Plain(text) => Ok(text),
        _ => Err(mistyped(value, "a text", remedy)),
    }
}

/// A text that says something.
pub(super) fn text(value: &Value) -> Result<String, Wrong> {
    let text = as_text(value, "put it in quotes")?;
    if text.trim().is_empty() || text.chars().any(char::is_control) {
        Err(Wrong::new(
            "it is empty or has control characters",
            "write a text on one line, or remove the key",
        ))
    } else {
        Ok(text.to_owned())
    }
}

/// A text that a type of the domain parses.
pub(super) fn parsed<T: FromStr<Err = ParseError>>(value: &Value) -> Result<T, Wrong> {
    let text = as_text(value, "put it in quotes")?;
    text.parse().map_err(|error: ParseError| {
        Wrong::new(format!("{:?} is not {}", error.value, error.expected), error.reason)
    })
}

/// True or false.
pub(super) fn boolean(value: &Value) -> Result<bool, Wrong> {
    match value {
        Value::Boolean(value) => Ok(*value),
        Value::Plain(text) if text == "true" => Ok(true),
        Value::Plain(text) if text == "false" => Ok(false),
        _ => Err(mistyped(value, "true or false", "write true or false, without quotes")),
    }
}

/// A whole number of at least 1.
pub(super) fn positive<T: TryFrom<i64>>(value: &Value) -> Result<T, Wrong> {
    let number = match value {
        Value::Integer(number) => *number,
        Value::Plain(text) => {
            text.trim().parse().map_err(|_| mistyped(value, "a whole number", "write digits alone"))?
        }
        _ => return Err(mistyped(value, "a whole number", "write digits alone, without quotes")),
    };
    // 2^31 is more than anything here can use, and fits every type.
    match T::try_from(number) {
        Ok(fitting) if (1..=1 << 31).contains(&number) => Ok(fitting),
        _ => Err(Wrong::new(format!("{number} is out of range"), "write a number from 1 on")),
    }
}

/// A duration, which may be zero.
pub(super) fn duration(value: &Value) -> Result<Duration, Wrong> {
    const REMEDY: &str = "write a number and a unit in quotes, such as \"30s\", \"5m\", \"24h\" or \"7d\"";
    let text = as_text(value, REMEDY)?;
    match humantime::parse_duration(text) {
        Ok(duration) if duration <= LONGEST => Ok(duration),
        Ok(_) => Err(Wrong::new(format!("{} is more than 100 years", quoted(text)), "write a shorter one")),
        Err(_) => Err(Wrong::new(format!("{} is not a duration", quoted(text)), REMEDY)),
    }
}

/// A duration that is not zero.
pub(super) fn positive_duration(value: &Value) -> Result<Duration, Wrong> {
    match duration(value)? {
        Duration::ZERO => Err(Wrong::new("it is zero", "write a longer one, such as \"200ms\"")),
        duration => Ok(duration),
    }
}

/// How long something is kept: a duration that is not zero, or for ever.
pub(super) fn keep(value: &Value) -> Result<Keep, Wrong> {
    match value {
        Value::Text(text) | Value::Plain(text) if text == "forever" => Ok(Keep::Forever),
        value => positive_duration(value)
            .map(Keep::For)
            .map_err(|wrong| Wrong { remedy: format!("{}, or \"forever\"", wrong.remedy), ..wrong }),
    }
}

/// How often something is done: a duration that is not zero, or never.
pub(super) fn every(value: &Value) -> Result<Option<Duration>, Wrong> {
    match value {
        Value::Text(text) | Value::Plain(text) if text == "never" => Ok(None),
        value => positive_duration(value)
            .map(Some)
            .map_err(|wrong| Wrong { remedy: format!("{}, or \"never\"", wrong.remedy), ..wrong }),
    }
}

/// A number of bytes.
pub(super) fn size(value: &Value) -> Result<u64, Wrong> {
    const REMEDY: &str = "write a number and a unit in quotes, such as \"500MiB\" or \"2GiB\"";
    let text = as_text(value, REMEDY)?;
    match text.parse::<bytesize::ByteSize>() {
        Ok(size) => Ok(size.as_u64()),
        Err(_) => Err(Wrong::new(format!("{} is not a size", quoted(text)), REMEDY)),
    }
}

/// A number of bytes that is not zero.
pub(super) fn positive_size(value: &Value) -> Result<u64, Wrong> {
    match size(value)? {
        0 => Err(Wrong::new("it is zero", "write a larger one, such as \"2GiB\", or remove it")),
        size => Ok(size),
    }
}

/// Room to leave free.
pub(super) fn free_space(value: &Value) -> Result<MinFreeSpace, Wrong> {
    size(value).map(MinFreeSpace::Bytes)
}

/// One of a few words.
pub(super) fn choice<T: Choice>(value: &Value) -> Result<T, Wrong> {
    let words = || T::ALL.iter().map(|(word, _)| *word);
    let listed = || words().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
    let text = as_text(value, &format!("write one of {}", listed()))?;
    T::ALL.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or_else(|| {
        let remedy = match schema::nearest(text, words()) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => format!("write one of {}", listed()),
        };
        Wrong::new(format!("{} is none of the possible words", quoted(text)), remedy)
    })
}

/// The entries of a list; a text of the environment is split at its commas.
pub(super) fn list(value: &Value) -> Result<Vec<Value>, Wrong> {
    match value {
        Value::List(values) => Ok(values.clone()),
        Value::Plain(text) => Ok(text
            .split(',')
            .map(str::trim)
            .filter(|entry| !entry.is_empty())
            .map(|entry| Value::Plain(entry.to_owned()))
            .collect()),
        _ => Err(mistyped(value, "a list", "put it in [ ], its entries in quotes")),
    }
}

fn entries<T>(value: &Value, read: impl Fn(&Value) -> Result<T, Wrong>) -> Result<Vec<T>, Wrong> {
    let entry = |(position, value)| {
        read(value)
            .map_err(|wrong| Wrong { reason: format!("entry {}: {}", position + 1, wrong.reason), ..wrong })
    };
    list(value)?.iter().enumerate().map(entry).collect()
}

/// Texts that say something.
pub(super) fn texts(value: &Value) -> Result<Vec<String>, Wrong> {
    entries(value, text)
}

/// Organisations, none of them twice.
pub(super) fn organizations(value: &Value) -> Result<Vec<OrgNumber>, Wrong> {
    each_once(value)
}

/// Resources, none of them twice.
pub(super) fn resources(value: &Value) -> Result<Vec<ResourceId>, Wrong> {
    each_once(value)
}

fn each_once<T>(value: &Value) -> Result<Vec<T>, Wrong>
where
    T: FromStr<Err = ParseError> + Ord + std::fmt::Display,
{
    let all: Vec<T> = entries(value, parsed)?;
    let mut seen = BTreeSet::new();
    let twice = all.iter().find(|one| !seen.insert(*one)).map(|twice| format!("{twice} is in it twice"));
    twice.map_or(Ok(all), |reason| Err(Wrong::new(reason, "remove one of them")))
}

/// A set of words.
pub(super) fn choices<T: Choice + Ord>(value: &Value) -> Result<BTreeSet<T>, Wrong> {
    Ok(entries(value, choice)?.into_iter().collect())
}

/// Patterns of file names.
pub(super) fn patterns(value: &Value) -> Result<NamePatterns, Wrong> {
    let texts = texts(value)?;
    if let Some(path) = texts.iter().find(|text| text.contains('/')) {
        let reason = format!("{} has a /, but patterns are held against the name alone", quoted(path));
        return Err(Wrong::new(reason, "write a pattern such as \"*.pdf\""));
    }
    NamePatterns::new(texts).map_err(|error| {
        let pattern = error.glob().map(quoted).unwrap_or_default();
        Wrong::new(
            format!("{pattern} is not a pattern: {}", error.kind()),
            "write a pattern such as \"*.pdf\"",
        )
    })
}

/// An absolute path without `..`.
pub(super) fn path(value: &Value) -> Result<PathBuf, Wrong> {
    let text = as_text(value, "put it in quotes")?;
    let path = Path::new(text);
    if !path.is_absolute() || text.contains('\0') {
        Err(Wrong::new("it is not an absolute path", "write the whole path, from / on"))
    } else if path.components().any(|component| component == Component::ParentDir) {
        Err(Wrong::new("it has a .. in it", "write the path without"))
    } else {
        // Without doubled and last slashes, and without single dots.
        Ok(path.components().collect())
    }
}

/// A path that can be the address of a Unix socket.
pub(super) fn socket_path(value: &Value) -> Result<PathBuf, Wrong> {
    let path = path(value)?;
    let bytes = path.as_os_str().len();
    if bytes > LONGEST_SOCKET_PATH {
        let reason =
            format!("it has {bytes} bytes, and the path of a socket has at most {LONGEST_SOCKET_PATH}");
        return Err(Wrong::new(reason, "write a shorter one, such as \"/run/formidlingd-hook/hook.sock\""));
    }
    Ok(path)
}

/// Permission bits, as text in octal.
pub(super) fn file_mode(value: &Value) -> Result<u32, Wrong> {
    const REMEDY: &str = "write it as chmod does, in quotes, such as \"0640\"";
    let text = as_text(value, REMEDY)?;
    let octal = (3..=4).contains(&text.len()) && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    match u32::from_str_radix(text, 8) {
        Ok(mode) if octal && mode <= 0o777 => {
            if mode & 0o600 == 0o600 {
                Ok(mode)
            } else {
                Err(Wrong::new("the owner, which is the service, could not read and write", REMEDY))
            }
        }
        _ => Err(Wrong::new(format!("{} is not a file mode", quoted(text)), REMEDY)),
    }
}

/// An address of http or https without credentials. It is not shown: it might carry some.
pub(super) fn url(value: &Value) -> Result<Url, Wrong> {
    let text = as_text(value, "put it in quotes")?;
    let url = Url::parse(text)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        .ok_or_else(|| {
            Wrong::new("it is not an http or https address", "write one such as \"https://example.no\"")
        })?;
    if !url.username().is_empty() || url.password().is_some() {
        Err(Wrong::new(
            "it carries a user or a password",
            "remove them; a secret is never written in the file",
        ))
    } else if url.query().is_some() || url.fragment().is_some() {
        Err(Wrong::new("it has a ? or a #", "write the address without"))
    } else {
        Ok(url)
    }
}

/// An address that is encrypted, or does not leave the machine.
pub(super) fn safe_url(value: &Value) -> Result<Url, Wrong> {
    let url = url(value)?;
    if url.scheme() == "http" && !is_loopback(&url) {
        Err(Wrong::new("http is accepted for loopback addresses alone", "write https"))
    } else {
        Ok(url)
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// A text in quotes, escaped, at a readable length.
pub(super) fn quoted(text: &str) -> String {
    let short: String = text.chars().take(80).collect();
    format!("{short:?}")
}
