//! What is finished: one file of JSON lines per month (UTC), only ever appended to.
//!
//! A line is durable before its record leaves the database, so a crash between the two leaves both, and the
//! transfer is finished again: the last line of an id counts. A crash within a line leaves a broken one, which
//! the next append ends with a line feed and readers pass over.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use crate::transfer::TransferId;

use super::record::{Finished, decode_finished};
use super::{Error, disk};

/// The first bytes of a line, in which its id stands.
const HEAD_BYTES: usize = 96;

#[derive(Debug)]
pub(super) struct Journal {
    directory: PathBuf,
    /// Held while files are appended to or deleted.
    writing: Mutex<()>,
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
        Ok(Self { directory: directory.to_owned(), writing: Mutex::new(()) })
    }

    /// Appends whole lines to the month of `now`, durably. After an error any of them may be there.
    pub(super) fn append(&self, lines: &[u8], now: Timestamp) -> Result<(), Error> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.directory.join(Month::of(now).file_name());
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
        file.write_all(lines).and_then(|()| file.sync_data()).map_err(failed)?;
        if length == 0 { disk::sync_dir(&self.directory) } else { Ok(()) }
    }

    /// The finished transfer of this id. Its id tells the first month in which it can have finished, so that
    /// month and those after it are read first, the newest before the others; the earlier ones, which only a
    /// clock that went back can have made possible, come last.
    pub(super) fn find(&self, id: TransferId, earliest: Timestamp) -> Result<Option<Finished>, Error> {
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

/// The last readable line of `id` in one file. Where there are lines but none can be read, that is an error.
fn find_in(path: &Path, id: TransferId) -> Result<Option<Finished>, Error> {
    let failed = |source| Error::io("read the journal", path, source);
    let mut reader = BufReader::with_capacity(256 * 1024, File::open(path).map_err(failed)?);
    let (mut line, mut number) = (Vec::new(), 0_u64);
    let (mut found, mut broken) = (None, None);
    let wanted = id.to_string();
    loop {
        line.clear();
        number += 1;
        if reader.read_until(b'\n', &mut line).map_err(failed)? == 0 {
            break;
        }
        let head = line.get(..HEAD_BYTES).unwrap_or(&line);
        if !head.windows(wanted.len()).any(|part| part == wanted.as_bytes()) {
            continue;
        }
        match decode_finished(&line) {
            Ok(finished) => found = Some(finished),
            Err(reason) => {
                broken = Some(Error::Unreadable { key: format!("{}:{number}", path.display()), reason });
            }
        }
    }
    match (found, broken) {
        (None, Some(broken)) => Err(broken),
        (found, _) => Ok(found),
    }
}
