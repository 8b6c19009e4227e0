//! Reading everything there is, and telling what does not fit: every record is readable and all that points to it does,
//! nothing points to what is not there, no two hold one thing, and every line of the journal is whole.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;

use crate::transfer::{BrokerTransferId, Transfer, TransferId};

use super::core::{Core, PAGE};
use super::keys::{self, Unique};
use super::record::{self, DecodeError, Line, MAX_STEPS, Record};
use super::{Error, Store, Unreadable, load};

/// Something that does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is about: a key, a line of the journal, a folder.
    pub subject: String,
    /// What is the matter with it.
    pub problem: String,
    /// What to do about it.
    pub remedy: &'static str,
}

/// What was read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Verified {
    /// Active transfers.
    pub records: u64,
    /// Lines of the journal.
    pub lines: u64,
    /// Lines that a death has left half written, and that nothing is lost with.
    pub torn: u64,
}

/// Records that changes wait for at a time while all are looked at.
const FEW: usize = 100;

const KEEP: &str =
    "keep a copy of the state directory and report it; the transfer waits and keeps what it holds";
const EXPORT: &str = "state export writes what can be read; state import builds the database anew from it, in an empty \
                      state directory";
const HISTORY: &str = "the history of this transfer is lost, and nothing else: its receipt or metadata says what became \
                       of it";
const ERASE: &str = "forget it once more, with state forget";

impl Store {
    /// Looks at every record, where that was not done when the store was opened, and tells of each that cannot be read;
    /// ends early when `go_on` says so. Changes wait for a few records at a time. Blocks.
    pub fn read_through(
        &self,
        go_on: &dyn Fn() -> bool,
        tell: &mut dyn FnMut(Unreadable),
    ) -> Result<(), Error> {
        let core = &self.shared.core;
        let mut after: Option<Vec<u8>> = None;
        while go_on() && !core.is_read_through.load(Ordering::SeqCst) {
            let pairs = core.settled(|| core.engine.scan(keys::RECORDS, after.as_deref(), FEW))?;
            for (key, bytes) in &pairs {
                if let Err(unreadable) = load::look_at(key, bytes) {
                    if let Some(id) = load::id_of(key) {
                        core.set_apart(id);
                    }
                    tell(unreadable);
                }
            }
            if pairs.len() < FEW {
                core.is_read_through.store(true, Ordering::SeqCst);
            }
            after = pairs.into_iter().last().map(|(key, _)| key);
        }
        Ok(())
    }

    /// Reads everything and tells each thing that does not fit. Changes wait while the database is read. Blocks.
    pub fn verify(&self, tell: &mut dyn FnMut(Finding)) -> Result<Verified, Error> {
        let core = &self.shared.core;
        let mut verified = Verified::default();
        core.settled(|| database(core, &mut verified, tell))?;
        journal(core, &mut verified, tell)?;
        Ok(verified)
    }

    /// Which of these transfers at Altinn the journal tells of, in a line of the transfer of ours that each is looked for
    /// in. Reads through it. Blocks.
    pub fn finished_among(
        &self,
        wanted: &HashMap<TransferId, Vec<BrokerTransferId>>,
    ) -> Result<HashSet<BrokerTransferId>, Error> {
        self.shared.core.journal.known(wanted)
    }
}

fn finding(key: &[u8], problem: impl Into<String>, remedy: &'static str) -> Finding {
    Finding { subject: String::from_utf8_lossy(key).into_owned(), problem: problem.into(), remedy }
}

fn database(core: &Core, verified: &mut Verified, tell: &mut dyn FnMut(Finding)) -> Result<(), Error> {
    let mut last = None;
    let mut after: Option<Vec<u8>> = None;
    loop {
        let pairs = core.engine.scan(b"", after.as_deref(), PAGE)?;
        for (key, value) in &pairs {
            if key.starts_with(keys::RECORDS) {
                verified.records += 1;
                last = last.max(record(core, key, value, tell)?);
            } else if !key.starts_with(b"m/") {
                pointer(core, key, value, tell)?;
            }
        }
        let ended = pairs.len() < PAGE;
        after = pairs.into_iter().last().map(|(key, _)| key);
        if ended {
            break;
        }
    }
    let stored = core.engine.get(keys::LAST_ID)?.as_deref().and_then(keys::parse_id);
    if last > stored {
        let problem = "there is a transfer with a higher id than the highest that was ever given";
        tell(finding(keys::LAST_ID, problem, EXPORT));
    }
    Ok(())
}

/// A record, and everything that is to point to it; its id.
fn record(
    core: &Core,
    key: &[u8],
    value: &[u8],
    tell: &mut dyn FnMut(Finding),
) -> Result<Option<TransferId>, Error> {
    let Some(id) = key.get(keys::RECORDS.len()..).and_then(keys::parse_id) else {
        tell(finding(key, "its key holds no transfer id", KEEP));
        return Ok(None);
    };
    let Record { steps, transfer } = match record::decode_for(id, value) {
        Ok(record) => record,
        Err(error) => {
            tell(finding(key, format!("it cannot be read: {}", super::load::reason(&error)), KEEP));
            return Ok(Some(id));
        }
    };
    let at_work = transfer.is_at_work().then(|| keys::at_work(&transfer.route, id));
    for pointer in [keys::route(&transfer.route, id), keys::due(&transfer)].into_iter().chain(at_work) {
        if core.engine.get(&pointer)?.is_none() {
            tell(finding(
                &pointer,
                format!("it is missing, and transfer {id} is not found without it"),
                EXPORT,
            ));
        }
    }
    for pointer in Unique::of(&transfer).into_all() {
        match core.engine.get(&pointer)?.as_deref().map(keys::parse_id) {
            Some(Some(holder)) if holder == id => {}
            Some(Some(holder)) => {
                let problem = format!("transfers {holder} and {id} hold the same");
                let remedy = "see with state export which of the two it is, and report it: nothing more may be sent \
                              for the other";
                tell(finding(&pointer, problem, remedy));
            }
            _ => {
                tell(finding(
                    &pointer,
                    format!("it does not point to transfer {id}, which holds it"),
                    EXPORT,
                ));
            }
        }
    }
    let kept = core.engine.scan(&keys::step_prefix(id), None, PAGE)?;
    let expected = steps.min(MAX_STEPS);
    if kept.len() as u64 != expected {
        let problem = format!("it has {} of its {expected} steps", kept.len());
        tell(finding(key, problem, "only its history is incomplete: nothing need be done"));
    }
    Ok(Some(id))
}

/// A key that points to a record, or belongs to one.
fn pointer(core: &Core, key: &[u8], value: &[u8], tell: &mut dyn FnMut(Finding)) -> Result<(), Error> {
    let (id, is_step) = match key.first() {
        Some(b'r' | b'w') => (keys::parse_route(key).map(|(_, id)| id), false),
        Some(b'n') => (keys::parse_due(key).map(|(_, id)| id), false),
        Some(b'b' | b'f') => (keys::parse_id(value), false),
        Some(b'h') => (keys::parse_step(key).map(|(id, _)| id), true),
        _ => (None, false),
    };
    let Some(id) = id else {
        tell(finding(key, "it is nothing that formidlingd writes", EXPORT));
        return Ok(());
    };
    let Some(bytes) = core.engine.get(&keys::record(id))? else {
        tell(finding(key, format!("it points to transfer {id}, which is not there"), EXPORT));
        return Ok(());
    };
    // What a record that cannot be read holds is not known; that it cannot be read is told.
    let Ok(Record { steps, transfer }) = record::decode_for(id, &bytes) else { return Ok(()) };
    let holds = if is_step {
        let number = keys::parse_step(key).map_or(u64::MAX, |(_, number)| number);
        number < steps && steps - number <= MAX_STEPS && record::decode_step(value).is_some()
    } else {
        is_of(&transfer, key)
    };
    if !holds {
        tell(finding(key, format!("it points to transfer {id}, which does not hold it"), EXPORT));
    }
    Ok(())
}

fn is_of(transfer: &Transfer, key: &[u8]) -> bool {
    keys::route(&transfer.route, transfer.id) == key
        || keys::due(transfer) == key
        || (transfer.is_at_work() && keys::at_work(&transfer.route, transfer.id) == key)
        || Unique::of(transfer).into_all().any(|unique| unique == key)
}

/// What the journal says of a transfer.
#[derive(Debug, Default, Clone, Copy)]
struct Told {
    whole: bool,
    forgotten: bool,
    /// Names that should have been erased.
    unerased: bool,
}

fn journal(core: &Core, verified: &mut Verified, tell: &mut dyn FnMut(Finding)) -> Result<(), Error> {
    let mut told: HashMap<TransferId, Told> = HashMap::new();
    let mut torn: Vec<(String, TransferId)> = Vec::new();
    core.journal.for_each(|month, number, line| {
        verified.lines += 1;
        let at = || format!("journal/{month}:{number}");
        let id = super::journal::id_of(line);
        match record::decode_line(line) {
            Ok(decoded) => {
                let (inside, forgotten) = match &decoded {
                    Line::Finished(finished) => (finished.transfer.id, false),
                    Line::Forgotten(tombstone) => (tombstone.id, true),
                };
                if id != Some(inside) {
                    let problem = format!("it is a line of transfer {inside}, and does not begin as one");
                    tell(Finding { subject: at(), problem, remedy: HISTORY });
                }
                let entry = told.entry(inside).or_default();
                entry.whole = true;
                entry.forgotten |= forgotten;
                entry.unerased |= !forgotten;
            }
            Err(DecodeError::Malformed(error)) => match id {
                // Part of it was there to be found; whether the whole is, too, is seen at the end.
                Some(id) => torn.push((at(), id)),
                None if line == b"\n" => {}
                // So little of it was written that nobody can have relied on it.
                None if line.len() < 64 || line.last() != Some(&b'\n') => verified.torn += 1,
                None => tell(Finding {
                    subject: at(),
                    problem: format!("it cannot be read: {error}"),
                    remedy: HISTORY,
                }),
            },
            Err(error) => {
                tell(Finding { subject: at(), problem: format!("it cannot be read: {error}"), remedy: KEEP });
            }
        }
        Ok(())
    })?;
    for (subject, id) in torn {
        // A death in the midst of a line leaves the record, and the transfer is finished once more.
        if told.get(&id).is_some_and(|told| told.whole) || core.engine.get(&keys::record(id))?.is_some() {
            verified.torn += 1;
        } else {
            let problem = format!("the line of transfer {id} is broken, and there is no other");
            tell(Finding { subject, problem, remedy: HISTORY });
        }
    }
    for (id, _) in told.iter().filter(|(_, told)| told.forgotten && told.unerased) {
        let (subject, problem) =
            (format!("journal: {id}"), "it was forgotten, and a line with its names is left");
        tell(Finding { subject, problem: problem.to_owned(), remedy: ERASE });
    }
    Ok(())
}
