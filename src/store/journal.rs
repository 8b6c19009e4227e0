//! What is finished: one file of JSON lines per month (UTC), only ever appended to, except where a transfer is
//! forgotten: then the month is written anew beside the old file, and takes its place.
//!
//! A line is durable before its record leaves the database, so a crash between the two leaves both, and the
//! transfer is finished again: the last line of an id counts. A crash within a line leaves a broken one, which
//! the next append ends with a line feed and readers pass over.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use crate::seams::{self, crash_point};
use crate::transfer::{BrokerTransferId, IdSuffix, Transfer, TransferId};

use super::record::{Line, decode_line, encode_tombstone};
use super::{Error, Tombstone, disk};

/// The first bytes of a line, in which its id stands.
const HEAD_BYTES: usize = 96;
/// Behind the name of a month that is being written anew.
const HALF_WRITTEN: &str = ".new";

#[derive(Debug)]
pub(super) struct Journal {
    directory: PathBuf,
    /// Held while files are appended to or deleted: the month whose name is known to be durable. An earlier process
    /// may have died, or the disk refused, between a month's first line and the sync of its name.
    writing: Mutex<Option<Month>>,
}

/// A month, as its first day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Month(Date);

impl Month {
    fn of(time: Timestamp) -> Self {
        Self(time.to_zoned(TimeZone::UTC).date().first_of_month())
    }

    fn parse(file_name: &str) -> Option<Self> {
        let (year, month) = file_name.strip_suffix(".jsonl")?.split_once('-')?;
        if year.len() != 4 || month.len() != 2 {
            return None;
        }
        Some(Self(Date::new(year.parse().ok()?, month.parse().ok()?, 1).ok()?))
    }

    fn file_name(self) -> String {
        format!("{:04}-{:02}.jsonl", self.0.year(), self.0.month())
    }

    /// The first moment of the month after.
    fn end(self) -> Option<Timestamp> {
        let next = self.0.checked_add(1.month()).ok()?;
        Some(next.to_zoned(TimeZone::UTC).ok()?.timestamp())
    }
}

impl Journal {
    pub(super) fn open(directory: &Path) -> Result<Self, Error> {
        disk::create_dir(directory)?;
        remove_half_written(directory)?;
        Ok(Self { directory: directory.to_owned(), writing: Mutex::new(None) })
    }

    /// Appends whole lines to the month of `now`, durably. After an error any of them may be there.
    pub(super) fn append(&self, lines: &[u8], now: Timestamp) -> Result<(), Error> {
        let mut named = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let month = Month::of(now);
        let path = self.directory.join(month.file_name());
        let failed = |source| Error::io("append to the journal", &path, source);
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .read(true)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        if !ends_with_line_feed(&file, length).map_err(failed)? {
            file.write_all(b"\n").map_err(failed)?;
        }
        seams::injected_fault("journal append").map_err(failed)?;
        file.write_all(lines).map_err(failed)?;
        crash_point("journal:appended");
        seams::sync_file(&file).map_err(failed)?;
        crash_point("journal:synced");
        if length == 0 || *named != Some(month) {
            *named = None;
            disk::sync_dir(&self.directory)?;
            *named = Some(month);
        }
        Ok(())
    }

    /// What is told of this id last. Its id tells the first month in which it can have finished, so that
    /// month and those after it are read first, the newest before the others; the earlier ones, which only a
    /// clock that went back can have made possible, come last.
    pub(super) fn find(&self, id: TransferId, earliest: Timestamp) -> Result<Option<Line>, Error> {
        let mut months = self.months()?;
        let earliest = Month::of(earliest);
        months.sort_by_key(|month| std::cmp::Reverse((*month >= earliest, *month)));
        for month in months {
            let found = find_in(&self.directory.join(month.file_name()), id)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// At most `limit` ids that fit.
    pub(super) fn ids(&self, suffix: &IdSuffix, limit: usize) -> Result<BTreeSet<TransferId>, Error> {
        let mut ids = BTreeSet::new();
        for month in self.months()? {
            for_each_line(&self.directory.join(month.file_name()), |_, line| {
                ids.extend(id_of(line).filter(|id| suffix.fits(*id)));
                Ok(ids.len() < limit)
            })?;
        }
        Ok(ids)
    }

    /// Puts a tombstone in the place of all lines of `id`, durably, month by month. Tells what it is, and the
    /// transfer unless it was forgotten before; `None` where the journal has no line of it. After an error or a
    /// death each month is as it was or as it should be, and it can be done again.
    pub(super) fn forget(
        &self,
        id: TransferId,
        now: Timestamp,
    ) -> Result<Option<(Tombstone, Option<Transfer>)>, Error> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let (tombstone, before) = match self.find(id, super::created(id))? {
            None => return Ok(None),
            Some(Line::Forgotten(tombstone)) => (*tombstone, None),
            Some(Line::Finished(finished)) => (Tombstone::of(&finished, now), Some(finished.transfer)),
        };
        let line = encode_tombstone(&tombstone)?;
        for month in self.months()? {
            self.forget_in(month, id, &line)?;
        }
        Ok(Some((tombstone, before)))
    }

    fn forget_in(&self, month: Month, id: TransferId, tombstone: &[u8]) -> Result<(), Error> {
        let path = self.directory.join(month.file_name());
        let mut found = false;
        for_each_line(&path, |_, line| {
            found |= id_of(line) == Some(id) && line != tombstone;
            Ok(!found)
        })?;
        if !found {
            return Ok(());
        }
        let anew = self.directory.join(format!("{}{HALF_WRITTEN}", month.file_name()));
        let replaced = write_without(&path, &anew, id, tombstone).and_then(|()| {
            crash_point("journal:rewritten");
            std::fs::rename(&anew, &path).map_err(|source| Error::io("rename", &anew, source))
        });
        if replaced.is_err() {
            // It is removed when the journal is next opened, if not now.
            drop(std::fs::remove_file(&anew));
        }
        replaced?;
        crash_point("journal:replaced");
        disk::sync_dir(&self.directory)
    }

    /// Deletes every month that ended before `before`, and tells how many.
    pub(super) fn prune(&self, before: Timestamp) -> Result<usize, Error> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut pruned = 0;
        for month in self.months()? {
            if month.end().is_some_and(|end| end <= before) {
                let path = self.directory.join(month.file_name());
                std::fs::remove_file(&path).map_err(|source| Error::io("delete", path, source))?;
                pruned += 1;
            }
        }
        if pruned > 0 {
            disk::sync_dir(&self.directory)?;
        }
        Ok(pruned)
    }

    /// Shows every line of every month, the oldest first, with the name of its file and its number there.
    pub(super) fn for_each(
        &self,
        mut look: impl FnMut(&str, u64, &[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut months = self.months()?;
        months.sort();
        for month in months {
            let name = month.file_name();
            for_each_line(&self.directory.join(&name), |number, line| {
                look(&name, number, line).map(|()| true)
            })?;
        }
        Ok(())
    }

    /// Which of these transfers at Altinn it tells of, in a line of the transfer of ours that each is looked for in. One
    /// go through the months in which those can have finished.
    pub(super) fn known(
        &self,
        wanted: &HashMap<TransferId, Vec<BrokerTransferId>>,
    ) -> Result<HashSet<BrokerTransferId>, Error> {
        let mut known = HashSet::new();
        let Some(earliest) = wanted.keys().min() else { return Ok(known) };
        let earliest = Month::of(super::created(*earliest));
        for month in self.months()?.into_iter().filter(|month| *month >= earliest) {
            for_each_line(&self.directory.join(month.file_name()), |_, line| {
                let wanted = id_of(line).and_then(|id| wanted.get(&id)).into_iter().flatten();
                known.extend(wanted.filter(|id| mentions(line, &id.to_string())));
                Ok(true)
            })?;
        }
        Ok(known)
    }

    /// Whether it has no month.
    pub(super) fn is_empty(&self) -> Result<bool, Error> {
        Ok(self.months()?.is_empty())
    }

    fn months(&self) -> Result<Vec<Month>, Error> {
        let entries = disk::read_dir(&self.directory)?;
        Ok(entries.iter().filter_map(|entry| Month::parse(entry.file_name().to_str()?)).collect())
    }
}

fn ends_with_line_feed(file: &File, length: u64) -> std::io::Result<bool> {
    let Some(last) = length.checked_sub(1) else { return Ok(true) };
    let mut byte = [0];
    file.read_exact_at(&mut byte, last)?;
    Ok(byte == *b"\n")
}

/// Shows every line of a file, with its number and its line feed, until `look` has seen enough.
fn for_each_line(path: &Path, mut look: impl FnMut(u64, &[u8]) -> Result<bool, Error>) -> Result<(), Error> {
    let failed = |source| Error::io("read the journal", path, source);
    let mut reader = BufReader::with_capacity(256 * 1024, File::open(path).map_err(failed)?);
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        if reader.read_until(b'\n', &mut line).map_err(failed)? == 0 || !look(number, &line)? {
            break;
        }
    }
    Ok(())
}

fn mentions(line: &[u8], text: &str) -> bool {
    line.windows(text.len()).any(|part| part == text.as_bytes())
}

/// Whether a file of this name is a month of the journal.
pub(super) fn is_month(file_name: &str) -> bool {
    Month::parse(file_name).is_some_and(|month| month.file_name() == file_name)
}

/// The id of a line, which stands near its beginning, also where the rest is broken.
pub(super) fn id_of(line: &[u8]) -> Option<TransferId> {
    const BEFORE: &[u8] = b"\"id\":\"";
    const LENGTH: usize = 36;
    let head = line.get(..HEAD_BYTES).unwrap_or(line);
    let at = head.windows(BEFORE.len()).position(|part| part == BEFORE)? + BEFORE.len();
    std::str::from_utf8(head.get(at..at + LENGTH)?).ok()?.parse().ok()
}

/// Copies a month, durably, with `tombstone` in the place of the first line of `id` and without the others.
fn write_without(path: &Path, anew: &Path, id: TransferId, tombstone: &[u8]) -> Result<(), Error> {
    let failed = |source| Error::io("write", anew, source);
    let file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(anew);
    let mut writer = BufWriter::with_capacity(256 * 1024, file.map_err(failed)?);
    let mut is_marked = false;
    for_each_line(path, |_, line| {
        if id_of(line) != Some(id) {
            writer.write_all(line).map_err(failed)?;
        } else if !is_marked {
            is_marked = true;
            writer.write_all(tombstone).map_err(failed)?;
        }
        Ok(true)
    })?;
    let file = writer.into_inner().map_err(|error| failed(error.into_error()))?;
    seams::sync_file(&file).map_err(failed)
}

/// Removes what a death has left of a month that was being written anew.
fn remove_half_written(directory: &Path) -> Result<(), Error> {
    for entry in disk::read_dir(directory)? {
        if entry
            .file_name()
            .to_str()
            .and_then(|name| name.strip_suffix(HALF_WRITTEN))
            .and_then(Month::parse)
            .is_some()
        {
            let path = entry.path();
            std::fs::remove_file(&path).map_err(|source| Error::io("delete", path, source))?;
        }
    }
    Ok(())
}

/// The last readable line of `id` in one file. Where there are lines but none can be read, that is an error.
fn find_in(path: &Path, id: TransferId) -> Result<Option<Line>, Error> {
    let (mut found, mut broken) = (None, None);
    for_each_line(path, |number, line| {
        if id_of(line) == Some(id) {
            match decode_line(line) {
                Ok(line) => found = Some(line),
                Err(reason) => {
                    broken = Some(Error::Unreadable { key: format!("{}:{number}", path.display()), reason });
                }
            }
        }
        Ok(true)
    })?;
    match (found, broken) {
        (None, Some(broken)) => Err(broken),
        (found, _) => Ok(found),
    }
}
