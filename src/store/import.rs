//! Taking in an export: whole, or not at all.
//!
//! A new store is built beside the old one, in `importing/`, and every line is checked on the way. One rename makes it
//! `imported/`: from then on it is what the state directory holds, and whoever opens that next puts the parts in their
//! places, as often as it takes. Before the rename nothing has changed, and what is left is removed.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use crate::seams::crash_point;

use super::disk::{self, Lock};
use super::engine::{Changes, Engine, SledEngine, counter_path};
use super::export::{ActiveRecord, Counts, End, ExportLine, FORMAT, Folder, Header, sum};
use super::keys::{self, Unique};
use super::record::{self, Finished, MAX_STEPS, Record, VERSION};
use super::{Error, journal, known_folders, load, repair};

const HALF_DONE: &str = "importing";
const DONE: &str = "imported";
/// The longest line: a record, its steps and its message are far below.
const MAX_LINE_BYTES: u64 = 4 * 1024 * 1024;
/// Records that are made durable together.
const BATCH: usize = 500;

/// What was taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Imported {
    /// Active transfers.
    pub records: u64,
    /// Lines of the journal; `None` where the file has none of them on purpose, and the journal that is there stays.
    pub finished: Option<u64>,
    /// When the file was written.
    pub created: Timestamp,
}

/// Why nothing was taken in. Whatever it is, the state is as it was.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A line is not what it should be.
    #[error("{}, line {line}: {reason}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1 on.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The state directory holds something already.
    #[error("the state in {} is not empty: it holds {what}", path.display())]
    NotEmpty {
        /// The state directory.
        path: PathBuf,
        /// What it holds.
        what: String,
    },
    /// The state directory cannot be used.
    #[error("cannot import into the state")]
    Store(#[from] Error),
}

impl ImportError {
    /// What to do.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Read { .. } => "see what the system says; nothing was changed",
            Self::Line { .. } => {
                "the file is not as it was written: use another copy or an older export; nothing was changed"
            }
            Self::NotEmpty { .. } => {
                "what is there would be lost: look at it with state verify. To replace it, move the state directory \
                 away first, and keep it"
            }
            Self::Store(Error::InUse { .. }) => {
                "stop the service (systemctl stop formidlingd), do it again, and start the service"
            }
            Self::Store(Error::Damaged { .. }) => {
                "add --set-damaged-aside: the damaged database is kept under another name, and the export put in its \
                 place"
            }
            Self::Store(error) => error.remedy(),
        }
    }
}

/// Takes an export in, into a state directory without active transfers and, where the export has a journal, without
/// one. A damaged database is in the way, unless it is to be set aside; it is kept. Blocks.
pub fn import(
    state: &Path,
    file: &Path,
    now: Timestamp,
    set_damaged_aside: bool,
) -> Result<Imported, ImportError> {
    let read = |source| ImportError::Read { path: file.to_owned(), source };
    let lines = BufReader::with_capacity(256 * 1024, File::open(file).map_err(read)?);
    disk::create_dir(state)?;
    let _lock = Lock::take(state)?;
    finish(state)?;
    let damaged = match assert_empty(state, now) {
        Err(ImportError::Store(Error::Damaged { .. })) if set_damaged_aside => true,
        empty => {
            empty?;
            false
        }
    };
    let half = state.join(HALF_DONE);
    let imported = build(state, &half, lines, file);
    if imported.is_err() {
        // Whatever opens the state next removes what is left.
        drop(std::fs::remove_dir_all(&half));
    }
    let imported = imported?;
    if damaged {
        set_aside(state, now)?;
    }
    crash_point("import:built");
    let done = state.join(DONE);
    std::fs::rename(&half, &done).map_err(|source| Error::io("rename", &half, source))?;
    crash_point("import:renamed");
    disk::sync_dir(state)?;
    finish(state)?;
    Ok(imported)
}

fn assert_empty(state: &Path, now: Timestamp) -> Result<(), ImportError> {
    let exists = |name: &str| {
        let path = state.join(name);
        path.try_exists().map_err(|source| Error::io("look at", path, source))
    };
    if !exists("sled")? && !exists("format")? {
        return Ok(());
    }
    let ready = load::open(state, now)?;
    let records = ready.engine.scan(keys::RECORDS, None, 1)?;
    if records.is_empty() {
        Ok(())
    } else {
        let what = "transfers that are under way".to_owned();
        Err(ImportError::NotEmpty { path: state.to_owned(), what })
    }
}

/// Keeps a damaged database under another name.
fn set_aside(state: &Path, now: Timestamp) -> Result<(), Error> {
    let sled = state.join("sled");
    let aside = repair::damaged_path(state, now);
    match std::fs::rename(&sled, &aside) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        renamed => renamed.map_err(|source| Error::io("rename", sled, source)),
    }?;
    disk::sync_dir(state)
}

/// Puts what was imported in its place, if a death kept that from being done; removes what was not imported whole.
pub(super) fn finish(state: &Path) -> Result<(), Error> {
    let half = state.join(HALF_DONE);
    disk::remove_dir(&half)?;
    let done = state.join(DONE);
    if !done.try_exists().map_err(|source| Error::io("look at", &done, source))? {
        return Ok(());
    }
    for folder in ["folders", "journal"] {
        let (from, to) = (done.join(folder), state.join(folder));
        if from.try_exists().map_err(|source| Error::io("look at", &from, source))? {
            disk::create_dir(&to)?;
            for entry in disk::read_dir(&from)? {
                rename(&entry.path(), &to.join(entry.file_name()))?;
            }
            disk::sync_dir(&to)?;
            std::fs::remove_dir(&from).map_err(|source| Error::io("delete", from, source))?;
        }
    }
    crash_point("import:placing");
    for name in ["sled", "changes", "format"] {
        let (from, to) = (done.join(name), state.join(name));
        if !from.try_exists().map_err(|source| Error::io("look at", &from, source))? {
            continue;
        }
        if name == "sled" {
            match std::fs::remove_dir_all(&to) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::io("delete", to, error));
                }
                _ => {}
            }
        }
        rename(&from, &to)?;
        crash_point("import:placed");
    }
    disk::sync_dir(state)?;
    std::fs::remove_dir_all(&done).map_err(|source| Error::io("delete", &done, source))?;
    disk::sync_dir(state)
}

fn rename(from: &Path, to: &Path) -> Result<(), Error> {
    std::fs::rename(from, to).map_err(|source| Error::io("rename", from, source))
}

/// Builds a state directory of the lines.
fn build(state: &Path, half: &Path, lines: impl BufRead, file: &Path) -> Result<Imported, ImportError> {
    disk::create_dir(half)?;
    let sled = half.join("sled");
    let mut build = Build {
        state,
        half,
        engine: SledEngine::open(&sled)?,
        changes: Changes::new(),
        pending: 0,
        header: None,
        counts: Counts::default(),
        ended: false,
        month: None,
    };
    build.all(lines, file)?;
    let Build { engine, header, counts, .. } = build;
    drop(engine);
    // Its files are synced by name: sled has closed them by now, or is about to.
    for path in [sled.join("db"), counter_path(&sled)] {
        let synced = File::open(&path).and_then(|file| file.sync_all());
        synced.map_err(|source| Error::io("sync", path, source))?;
    }
    let format = half.join("format");
    write_durably(&format, format!("{VERSION}\n").as_bytes())?;
    disk::sync_dir(&sled)?;
    disk::sync_dir(half)?;
    let header = header.ok_or_else(|| wrong(file, 1, "it has no header"))?;
    let finished = header.journal.then_some(counts.finished);
    Ok(Imported { records: counts.records, finished, created: header.created })
}

fn write_durably(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .map_err(|source| Error::io("write", path, source))
}

fn wrong(file: &Path, line: u64, reason: impl Into<String>) -> ImportError {
    ImportError::Line { path: file.to_owned(), line, reason: reason.into() }
}

/// Why a line cannot be taken in.
enum Refused {
    Reason(String),
    Store(Error),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

impl From<String> for Refused {
    fn from(reason: String) -> Self {
        Self::Reason(reason)
    }
}

impl From<&str> for Refused {
    fn from(reason: &str) -> Self {
        Self::Reason(reason.to_owned())
    }
}

/// A store that is being built.
struct Build<'a> {
    state: &'a Path,
    half: &'a Path,
    engine: SledEngine,
    changes: Changes,
    pending: usize,
    header: Option<Header>,
    counts: Counts,
    ended: bool,
    /// The month that is being written.
    month: Option<(String, io::BufWriter<File>)>,
}

impl Build<'_> {
    fn all(&mut self, mut lines: impl BufRead, file: &Path) -> Result<(), ImportError> {
        let mut digest = Sha256::new();
        let mut bytes = Vec::new();
        for number in 1.. {
            bytes.clear();
            let mut limited = lines.by_ref().take(MAX_LINE_BYTES);
            let read = limited.read_until(b'\n', &mut bytes);
            if read.map_err(|source| ImportError::Read { path: file.to_owned(), source })? == 0 {
                if self.ended {
                    break;
                }
                return Err(wrong(file, number, "the file ends too early: its last line is missing"));
            }
            let refused = |refused| match refused {
                Refused::Reason(reason) => wrong(file, number, reason),
                Refused::Store(error) => ImportError::Store(error),
            };
            let before = digest.clone();
            digest.update(&bytes);
            self.line(&bytes, before).map_err(refused)?;
        }
        self.commit()?;
        self.close_month()?;
        Ok(())
    }

    fn line(&mut self, bytes: &[u8], before: Sha256) -> Result<(), Refused> {
        if self.ended {
            return Err("there is more behind the line that says where it ends".into());
        }
        if bytes.last() != Some(&b'\n') {
            return Err("the line is cut, or far too long".into());
        }
        let Some(header) = &self.header else { return self.begin(bytes) };
        let has_journal = header.journal;
        let line = serde_json::from_slice::<ExportLine>(bytes)
            .map_err(|error| format!("it is not what state export writes: {error}"))?;
        match line {
            ExportLine::Header(_) => Err("a second header".into()),
            ExportLine::Folder(folder) => self.folder(folder),
            ExportLine::Record(active) => self.record(*active),
            ExportLine::Finished(_) | ExportLine::Forgotten(_) if !has_journal => {
                Err("a line of the journal, which the header says is not in the file".into())
            }
            ExportLine::Finished(line) => {
                let line = *line;
                let finished = Finished { at: line.finished, steps: line.steps, transfer: line.transfer };
                self.journal(&line.month, &record::encode_finished(&finished)?)
            }
            ExportLine::Forgotten(line) => {
                self.journal(&line.month, &record::encode_tombstone(&line.tombstone)?)
            }
            ExportLine::End(end) => self.end(&end, before),
        }
    }

    fn begin(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        let Ok(ExportLine::Header(header)) = serde_json::from_slice::<ExportLine>(bytes) else {
            return Err(first_line(bytes).into());
        };
        if header.format > FORMAT || header.records > VERSION {
            return Err(newer().into());
        }
        if header.journal && !super::Journal::open(&self.state.join("journal"))?.is_empty()? {
            return Err(
                "the file has a journal, and the state directory has one already: move it away, and keep it"
                    .into(),
            );
        }
        let mut put = |key: &[u8], value: String| {
            self.changes.insert(key.to_vec(), Some(value.into_bytes()));
        };
        put(keys::SCHEMA, VERSION.to_string());
        put(keys::INSTALLATION, header.installation.to_string());
        if let Some(id) = header.last_id {
            put(keys::LAST_ID, id.to_string());
        }
        if let Some(changed) = header.changed {
            put(keys::CHANGED, changed.to_string());
            put(keys::UNCHECKED, changed.to_string());
        }
        self.header = Some(header);
        Ok(())
    }

    fn folder(&mut self, folder: Folder) -> Result<(), Refused> {
        let Folder { key, bytes, path } = folder;
        if !known_folders::is_key(&key) {
            return Err(format!("{key:?} is not the name of a route").into());
        }
        let ((None, Some(path)) | (Some(path), None)) = (bytes, path.map(String::into_bytes)) else {
            return Err("a folder has either a path or the bytes of one".into());
        };
        if known_folders::is_of_receipts(&key) {
            // What was published since the export is known by its receipts alone.
            self.counts.folders += 1;
            return Ok(());
        }
        let folders = self.half.join("folders");
        disk::create_dir(&folders)?;
        let file = folders.join(&key);
        if file.exists() {
            return Err(format!("the folder of {key} is in it twice").into());
        }
        write_durably(&file, &path)?;
        disk::sync_dir(&folders)?;
        self.counts.folders += 1;
        Ok(())
    }

    fn record(&mut self, active: ActiveRecord) -> Result<(), Refused> {
        let ActiveRecord { steps, transfer, history } = active;
        let id = transfer.id;
        if self.get(&keys::record(id))?.is_some() {
            return Err(format!("transfer {id} is in it twice").into());
        }
        for key in Unique::of(&transfer).into_all() {
            if let Some(holder) = self.get(&key)?.as_deref().and_then(keys::parse_id).filter(|by| *by != id) {
                let what = String::from_utf8_lossy(&key).into_owned();
                return Err(
                    format!("transfers {holder} and {id} hold the same file or transfer ({what})").into()
                );
            }
            self.put(key, id.to_string().into_bytes());
        }
        let mut last = None;
        for numbered in &history {
            let is_kept = numbered.number < steps && steps - numbered.number <= MAX_STEPS;
            if !is_kept || last.is_some_and(|last| last >= numbered.number) {
                return Err(format!("step {} of transfer {id} cannot be", numbered.number).into());
            }
            last = Some(numbered.number);
            let step = record::encode_step(id, &numbered.step)?;
            self.put(keys::step(id, numbered.number), step);
        }
        self.put(keys::route(&transfer.route, id), Vec::new());
        self.put(keys::due(&transfer), Vec::new());
        if transfer.is_at_work() {
            self.put(keys::at_work(&transfer.route, id), Vec::new());
        }
        let bytes = record::encode(&Record { steps, transfer }).map_err(|error| error.to_string())?;
        self.put(keys::record(id), bytes);
        self.counts.records += 1;
        self.pending += 1;
        if self.pending >= BATCH {
            self.commit()?;
        }
        Ok(())
    }

    fn journal(&mut self, month: &str, line: &[u8]) -> Result<(), Refused> {
        if !journal::is_month(month) {
            return Err(format!("{month:?} is not a month of the journal").into());
        }
        if self.month.as_ref().is_none_or(|(open, _)| open != month) {
            self.close_month()?;
            let folder = self.half.join("journal");
            disk::create_dir(&folder)?;
            let path = folder.join(month);
            let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
            let file = file.map_err(|source| Error::io("write", path, source))?;
            self.month = Some((month.to_owned(), io::BufWriter::with_capacity(256 * 1024, file)));
        }
        if let Some((month, file)) = &mut self.month {
            file.write_all(line).map_err(|source| Error::io("write", &*month, source))?;
        }
        self.counts.finished += 1;
        Ok(())
    }

    fn end(&mut self, end: &End, before: Sha256) -> Result<(), Refused> {
        if end.counts != self.counts {
            return Err("there are lines missing, or some twice".into());
        }
        if end.sha256 != sum(before) {
            return Err("the lines before are not as they were written: their SHA-256 is another".into());
        }
        self.ended = true;
        Ok(())
    }

    fn close_month(&mut self) -> Result<(), Error> {
        let Some((month, file)) = self.month.take() else { return Ok(()) };
        let failed = |source| Error::io("write", &month, source);
        let file = file.into_inner().map_err(|error| failed(error.into_error()))?;
        crate::seams::sync_file(&file).map_err(failed)?;
        disk::sync_dir(&self.half.join("journal"))
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        match self.changes.get(key) {
            Some(value) => Ok(value.clone()),
            None => self.engine.get(key),
        }
    }

    fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.changes.insert(key, Some(value));
    }

    fn commit(&mut self) -> Result<(), Error> {
        self.pending = 0;
        self.engine.commit(std::mem::take(&mut self.changes))
    }
}

fn newer() -> &'static str {
    "a newer formidlingd wrote it: import it with that version, or a later one"
}

/// What is wrong with a line that should be a header: one of a newer form need not be readable but for its number.
fn first_line(bytes: &[u8]) -> &'static str {
    let header = serde_json::from_slice::<serde_json::Value>(bytes).ok();
    let format = header.as_ref().and_then(|line| line.get("header")?.get("format")?.as_u64());
    match format {
        Some(format) if format > FORMAT => newer(),
        _ => "it does not begin with the header of an export",
    }
}
