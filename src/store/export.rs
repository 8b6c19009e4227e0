//! Everything that is remembered, as JSON lines: to be kept elsewhere, moved, or read by people.
//!
//! The first line is the header, the last one tells how many lines of each kind there are and the SHA-256 of all bytes
//! before it, so that a file that was cut or changed is known. In between stand the folders that routes have used, the
//! active transfers with their steps, and, where wanted, the journal: the last line of each kind of transfer counts.
//!
//! Active transfers are those of one moment: while they are read, nothing is changed. The journal is read afterwards,
//! so a transfer that is finished meanwhile is in both, as after a death between the two, and is finished once more.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::seams::{crash_point, injected_fault};
use crate::transfer::{InstallationMark, Transfer, TransferId};

use super::core::{Core, PAGE};
use super::record::{self, Finished, Step, VERSION};
use super::{Error, Store, Tombstone, Unreadable, disk, keys};

/// The form of these files.
pub(super) const FORMAT: u64 = 1;
/// Where exports are put that the service makes by itself.
const FOLDER: &str = "export";
const SUFFIX: &str = ".jsonl";
const HALF_WRITTEN: &str = ".new";

/// One line. What an older version wrote is read for ever.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum ExportLine {
    Header(Header),
    Folder(Folder),
    Record(Box<ActiveRecord>),
    Finished(Box<FinishedLine>),
    Forgotten(Box<ForgottenLine>),
    End(End),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Header {
    /// The form of the file.
    pub(super) format: u64,
    /// The form of the records in it.
    pub(super) records: u64,
    pub(super) created: Timestamp,
    pub(super) installation: InstallationMark,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) last_id: Option<TransferId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) changed: Option<Timestamp>,
    /// Whether the journal is in it, too.
    pub(super) journal: bool,
}

/// A folder that a route has used.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Folder {
    pub(super) key: String,
    /// The bytes of its path: a path need not be text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) bytes: Option<Vec<u8>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) path: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ActiveRecord {
    pub(super) steps: u64,
    pub(super) transfer: Transfer,
    pub(super) history: Vec<NumberedStep>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct NumberedStep {
    pub(super) number: u64,
    #[serde(flatten)]
    pub(super) step: Step,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FinishedLine {
    /// The journal's file that it stands in.
    pub(super) month: String,
    pub(super) finished: Timestamp,
    pub(super) steps: Vec<Step>,
    pub(super) transfer: Transfer,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ForgottenLine {
    pub(super) month: String,
    pub(super) tombstone: Tombstone,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Counts {
    pub(super) folders: u64,
    pub(super) records: u64,
    pub(super) finished: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct End {
    #[serde(flatten)]
    pub(super) counts: Counts,
    /// Of all bytes before this line, in hexadecimal digits.
    pub(super) sha256: String,
}

/// What was exported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// Active transfers.
    pub records: u64,
    /// Lines of the journal; `None` where it was left out on purpose.
    pub finished: Option<u64>,
    /// What cannot be read, and is therefore not in it.
    pub left_out: Vec<Unreadable>,
}

/// What the last line says of those before it.
pub(super) fn sum(digest: Sha256) -> String {
    crate::transfer::Sha256::from_bytes(digest.finalize().into()).to_string()
}

struct Writer<'a> {
    out: &'a mut dyn Write,
    digest: Sha256,
    counts: Counts,
}

impl Writer<'_> {
    fn line(&mut self, line: &ExportLine) -> io::Result<()> {
        injected_fault("export line")?;
        let mut bytes = serde_json::to_vec(line)?;
        bytes.push(b'\n');
        self.digest.update(&bytes);
        self.out.write_all(&bytes)
    }
}

impl Store {
    /// Writes everything that is remembered to `out`, the journal too if wanted. Changes wait while active transfers are
    /// read, a second for 100 000 or so. Blocks.
    pub fn export(&self, out: &mut dyn Write, with_journal: bool) -> Result<Exported, Error> {
        self.export_named(out, Path::new("the export"), with_journal)
    }

    /// The same to a file, which appears whole or not at all, and survives a loss of power. Blocks.
    pub fn export_to(&self, path: &Path, with_journal: bool) -> Result<Exported, Error> {
        let mut anew = path.as_os_str().to_owned();
        anew.push(HALF_WRITTEN);
        let anew = PathBuf::from(anew);
        let exported = self.write_anew(path, &anew, with_journal);
        if exported.is_err() {
            // What is left is overwritten by the next one.
            drop(std::fs::remove_file(&anew));
        }
        exported
    }

    fn write_anew(&self, path: &Path, anew: &Path, with_journal: bool) -> Result<Exported, Error> {
        let failed = |source| Error::io("write", anew, source);
        let file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(anew);
        let mut writer = io::BufWriter::with_capacity(256 * 1024, file.map_err(failed)?);
        let exported = self.export_named(&mut writer, anew, with_journal)?;
        crash_point("export:written");
        let file: File = writer.into_inner().map_err(|error| failed(error.into_error()))?;
        crate::seams::sync_file(&file).map_err(failed)?;
        crash_point("export:synced");
        std::fs::rename(anew, path).map_err(|source| Error::io("rename", anew, source))?;
        crash_point("export:renamed");
        match path.parent() {
            Some(parent) if parent != Path::new("") => disk::sync_dir(parent)?,
            _ => disk::sync_dir(Path::new("."))?,
        }
        crash_point("export:done");
        Ok(exported)
    }

    /// Exports all but the journal to a new file below the state directory, named by the time, and removes all but the
    /// newest `keep` of those. Blocks.
    pub fn export_by_itself(&self, state: &Path, keep: usize) -> Result<(PathBuf, Exported), Error> {
        let folder = state.join(FOLDER);
        disk::create_dir(&folder)?;
        let name = format!("{}{SUFFIX}", self.shared.clock.now().strftime("%Y%m%dT%H%M%S%.3fZ"));
        let path = folder.join(name);
        let exported = self.export_to(&path, false)?;
        let mut all = exports(&folder)?;
        // Never the one that was just made, also where the clock has gone back.
        all.retain(|other| *other != path);
        all.sort();
        let surplus = (all.len() + 1).saturating_sub(keep.max(1));
        for old in all.into_iter().take(surplus) {
            std::fs::remove_file(&old).map_err(|source| Error::io("delete", old, source))?;
        }
        disk::sync_dir(&folder)?;
        Ok((path, exported))
    }

    fn header(&self, journal: bool) -> Result<Header, Error> {
        let core = &self.shared.core;
        let text = |key| Ok::<_, Error>(core.engine.get(key)?.and_then(|text| String::from_utf8(text).ok()));
        Ok(Header {
            format: FORMAT,
            records: VERSION,
            created: self.shared.clock.now(),
            installation: self.shared.mark,
            last_id: text(keys::LAST_ID)?.and_then(|id| id.parse().ok()),
            changed: text(keys::CHANGED)?.and_then(|time| time.parse().ok()),
            journal,
        })
    }

    fn export_named(&self, out: &mut dyn Write, name: &Path, with_journal: bool) -> Result<Exported, Error> {
        let core = &self.shared.core;
        let mut writer = Writer { out, digest: Sha256::new(), counts: Counts::default() };
        let mut left_out = Vec::new();
        let failed = |source| Error::io("write", name, source);
        core.settled(|| {
            writer.line(&ExportLine::Header(self.header(with_journal)?)).map_err(failed)?;
            for (key, path) in self.shared.known_folders.all()? {
                let (bytes, path) = match String::from_utf8(path) {
                    Ok(path) => (None, Some(path)),
                    Err(error) => (Some(error.into_bytes()), None),
                };
                writer.counts.folders += 1;
                writer.line(&ExportLine::Folder(Folder { key, bytes, path })).map_err(failed)?;
            }
            records(core, |active| {
                match active {
                    Ok(active) => {
                        writer.counts.records += 1;
                        writer.line(&ExportLine::Record(Box::new(active))).map_err(failed)?;
                    }
                    Err(unreadable) => left_out.push(unreadable),
                }
                Ok(())
            })
        })?;
        if with_journal {
            core.journal.for_each(|month, number, line| {
                let line = match record::decode_line(line) {
                    Ok(line) => of_journal(month, line),
                    // A death in the midst of a line leaves a part of it, which readers pass over.
                    Err(record::DecodeError::Malformed(_)) => return Ok(()),
                    Err(reason) => {
                        let key = format!("journal/{month}:{number}");
                        left_out.push(Unreadable { key, reason: reason.to_string() });
                        return Ok(());
                    }
                };
                writer.counts.finished += 1;
                writer.line(&line).map_err(failed)
            })?;
        }
        let sha256 = sum(writer.digest.clone());
        let counts = writer.counts;
        writer.line(&ExportLine::End(End { counts, sha256 })).map_err(failed)?;
        writer.out.flush().map_err(failed)?;
        let finished = with_journal.then_some(counts.finished);
        Ok(Exported { records: counts.records, finished, left_out })
    }
}

fn of_journal(month: &str, line: record::Line) -> ExportLine {
    let month = month.to_owned();
    match line {
        record::Line::Finished(finished) => {
            let Finished { at, steps, transfer } = *finished;
            ExportLine::Finished(Box::new(FinishedLine { month, finished: at, steps, transfer }))
        }
        record::Line::Forgotten(tombstone) => {
            ExportLine::Forgotten(Box::new(ForgottenLine { month, tombstone: *tombstone }))
        }
    }
}

/// Shows every record with its steps.
fn records(
    core: &Core,
    mut show: impl FnMut(Result<ActiveRecord, Unreadable>) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut after: Option<Vec<u8>> = None;
    loop {
        let pairs = core.engine.scan(keys::RECORDS, after.as_deref(), PAGE)?;
        let ended = pairs.len() < PAGE;
        for (key, bytes) in &pairs {
            let unreadable = |reason| Unreadable { key: String::from_utf8_lossy(key).into_owned(), reason };
            let id = key.get(keys::RECORDS.len()..).and_then(keys::parse_id);
            let decoded =
                id.ok_or_else(|| unreadable("its key holds no transfer id".to_owned())).and_then(|id| {
                    record::decode_for(id, bytes).map_err(|error| unreadable(super::load::reason(&error)))
                });
            match decoded {
                Ok(record::Record { steps, transfer }) => {
                    let history = steps_of(core, transfer.id)?;
                    show(Ok(ActiveRecord { steps, transfer, history }))?;
                }
                Err(unreadable) => show(Err(unreadable))?,
            }
        }
        after = pairs.into_iter().last().map(|(key, _)| key);
        if ended {
            return Ok(());
        }
    }
}

fn steps_of(core: &Core, id: TransferId) -> Result<Vec<NumberedStep>, Error> {
    let pairs = core.engine.scan(&keys::step_prefix(id), None, PAGE)?;
    let step = |(key, bytes): &(Vec<u8>, Vec<u8>)| {
        Some(NumberedStep { number: keys::parse_step(key)?.1, step: record::decode_step(bytes)? })
    };
    Ok(pairs.iter().filter_map(step).collect())
}

fn exports(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.and_then(Iterator::collect::<io::Result<Vec<_>>>),
    };
    let entries = entries.map_err(|source| Error::io("list the directory", folder, source))?;
    let is_export = |path: &PathBuf| path.to_string_lossy().ends_with(SUFFIX);
    Ok(entries.into_iter().map(|entry| entry.path()).filter(is_export).collect())
}

/// The exports that the service has made by itself in which a transfer stands that is finished since. Blocks.
#[must_use]
pub fn exports_with(state: &Path, id: TransferId) -> Vec<PathBuf> {
    let text = id.to_string();
    let holds = |path: &PathBuf| {
        let lines = File::open(path).map(|file| io::BufReader::with_capacity(256 * 1024, file).lines());
        // One that cannot be read may hold it.
        lines.map_or(true, |mut lines| lines.any(|line| line.map_or(true, |line| line.contains(&text))))
    };
    let mut all = exports(&state.join(FOLDER)).unwrap_or_default();
    all.retain(holds);
    all.sort();
    all
}

/// The newest export that the service has made by itself, and when by its name; `None` where there is none. Blocks.
#[must_use]
pub fn newest_export(state: &Path) -> Option<(PathBuf, Timestamp)> {
    let mut all = exports(&state.join(FOLDER)).ok()?;
    all.sort();
    let newest = all.pop()?;
    let name = newest.file_name()?.to_str()?.strip_suffix(SUFFIX)?;
    let time = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%S%.fZ", name).ok()?;
    let time = time.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
    Some((newest, time))
}

/// What a person can do about an error, with what there is in this state directory to do it with.
#[must_use]
pub fn remedy_in(state: &Path, error: &Error) -> String {
    let Error::Damaged { .. } = error else { return error.remedy().to_owned() };
    let look = "nothing was reset. Look at the disk's health, and keep a copy of the state directory";
    match newest_export(state) {
        Some((path, time)) => format!(
            "{look}. The last export is of {time}: formidlingd state import --set-damaged-aside {} puts it in the place of \
             the damaged database, which is kept. What has happened since is asked of Altinn at the next start; files \
             that were being sent are known by their claims",
            path.display()
        ),
        None => format!(
            "{look}. There is no export in it: begin anew by moving {0}/sled and {0}/format away, and keep them. Files \
             that are being sent are known by their claims, delivered ones by their markers",
            state.display()
        ),
    }
}
