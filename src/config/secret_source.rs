//! Fetches a secret from where the configuration says it is: a file, the environment, or systemd's credentials.
//!
//! Nothing here shows a value, nor the text that stands where a value was named: people paste the wrong thing.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::schema::SECRET_KEYS;
use super::secret::Secret;
use super::section::{Reported, Section, Wrong};
use super::tree::{Environment, Node, Table, Value};
use super::values;

/// More than any key or certificate chain has.
const MAX_BYTES: u64 = 1 << 20;

/// What a secret may be named by.
const WAYS: &str = "write { file = \"/path\" }, { env = \"NAME\" } or { credential = \"NAME\" }";

/// Whether others than the owner may be able to read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Modes {
    /// Refused for everybody, warned of for the group.
    Checked,
    /// Left to systemd, or to who mounts the directory: a credential that Kubernetes mounts has 0644, and nobody
    /// else lives in that container.
    Exempt,
}

impl Modes {
    /// A file of the credentials directory is exempt by whatever key it is named.
    fn of(path: &Path, environment: &Environment) -> Self {
        let directory = environment.get(OsStr::new("CREDENTIALS_DIRECTORY"));
        match directory.map(Path::new) {
            Some(directory) if directory.is_absolute() && path.starts_with(directory) => Self::Exempt,
            _ => Self::Checked,
        }
    }
}

/// A secret that must be there.
pub(super) fn required(
    section: &mut Section<'_>,
    key: &'static str,
    environment: &Environment,
) -> Result<Secret<String>, Reported> {
    optional(section, key, environment)?
        .ok_or_else(|| section.problem(key, Wrong::new("it is missing", WAYS)))
}

/// A secret that may be absent.
pub(super) fn optional(
    section: &mut Section<'_>,
    key: &'static str,
    environment: &Environment,
) -> Result<Option<Secret<String>>, Reported> {
    let Some(node) = section.node(key) else { return Ok(None) };
    let Value::Table(table) = &node.value else {
        let wrong = Wrong::new("a secret is never written in the configuration itself", WAYS);
        return Err(section.problem(key, wrong));
    };
    let (way, named) = only_way(table).map_err(|wrong| section.problem(key, wrong))?;
    let mut warning = None;
    let fetched = match way {
        "file" => values::path(&named.value)
            .and_then(|path| from_file(&path, Modes::of(&path, environment), &mut warning)),
        "env" => from_environment(&named.value, environment),
        _ => from_credential(&named.value, environment),
    };
    let key = format!("{key}.{way}");
    if let Some(wrong) = warning {
        section.warning(&key, wrong);
    }
    fetched.map(|text| Some(Secret::new(text))).map_err(|wrong| section.problem(&key, wrong))
}

/// The one way that is given.
fn only_way(table: &Table) -> Result<(&'static str, &Node), Wrong> {
    let given: Vec<(&'static str, &Node)> =
        SECRET_KEYS.into_iter().filter_map(|way| table.get(way).map(|node| (way, node))).collect();
    match given.as_slice() {
        [] => Err(Wrong::new("it does not say where the secret is", WAYS)),
        [(way, node)] => Ok((way, node)),
        several => {
            let each: Vec<String> =
                several.iter().map(|(way, node)| format!("{way} ({})", node.origin)).collect();
            let reason = format!("it says where the secret is more than once: {}", each.join(", "));
            Err(Wrong::new(
                reason,
                "keep one; a variable adds to what a file says unless it names the same key",
            ))
        }
    }
}

fn from_environment(name: &Value, environment: &Environment) -> Result<String, Wrong> {
    let name = values::text(name)?;
    let value = environment.get(OsStr::new(&name)).ok_or_else(|| {
        Wrong::new("there is no such environment variable", "set it for the service, or name another")
    })?;
    let text = value.to_str().ok_or_else(|| Wrong::new("the variable is not UTF-8", "set it to text"))?;
    said(text, "the variable")
}

fn from_credential(name: &Value, environment: &Environment) -> Result<String, Wrong> {
    let name = values::text(name)?;
    if name.contains('/') || name.starts_with('.') {
        return Err(Wrong::new("it is a path", "write the name alone, as in LoadCredential=NAME:/path"));
    }
    let Some(directory) = environment.get(OsStr::new("CREDENTIALS_DIRECTORY")) else {
        return Err(Wrong::new(
            "a credential is only readable in the unit: $CREDENTIALS_DIRECTORY is not set",
            "run this inside the service's unit, or use { file = \"/path\" }",
        ));
    };
    from_file(&PathBuf::from(directory).join(name), Modes::Exempt, &mut None).map_err(|wrong| Wrong {
        remedy: "add LoadCredential=NAME:/path to the unit, with this name".to_owned(),
        ..wrong
    })
}

/// Opens without blocking, as a pipe would, and checks what has been opened, not what lay there before.
fn from_file(path: &Path, modes: Modes, warning: &mut Option<Wrong>) -> Result<String, Wrong> {
    let cannot = |error: std::io::Error| {
        Wrong::new(
            format!("the file cannot be read: {error}"),
            "create it, or let the user that the service runs as read it",
        )
    };
    let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    let file = OpenOptions::new().read(true).custom_flags(nonblocking).open(path).map_err(cannot)?;
    let metadata = file.metadata().map_err(cannot)?;
    if !metadata.is_file() {
        return Err(Wrong::new("it is not a regular file", "name a file"));
    }
    let shown = format!("{:?}", path.to_string_lossy());
    if modes == Modes::Checked && metadata.mode() & 0o007 != 0 {
        let reason =
            format!("its mode {:04o} lets everybody on this machine use it", metadata.mode() & 0o7777);
        let remedy = format!(
            "run: chmod o= {shown}; on Kubernetes, which mounts secrets with 0644, give the volume \
             defaultMode: 0440 and the pod an fsGroup, or set CREDENTIALS_DIRECTORY to where it is mounted"
        );
        return Err(Wrong::new(reason, remedy));
    }
    if modes == Modes::Checked && metadata.mode() & 0o070 != 0 {
        *warning = Some(Wrong::new(
            "its group may read it",
            format!("run: chmod g= {shown}, unless the service reads it by that group"),
        ));
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Wrong::new("the file has more than 1 MiB", "name the file that holds the secret alone"));
    }
    let text = String::from_utf8(bytes)
        .map_err(|_| Wrong::new("the file is not text", "a key is PEM or a JWK, not DER or PKCS#12"))?;
    said(&text, "the file")
}

/// The secret without the line break that an editor or `echo` adds.
fn said(text: &str, what: &str) -> Result<String, Wrong> {
    match text.trim() {
        "" => Err(Wrong::new(format!("{what} is empty"), "put the secret in it")),
        secret => Ok(secret.to_owned()),
    }
}
