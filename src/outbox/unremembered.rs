//! What tells a transfer at Altinn that is not remembered as ours, and as equal to a file; how long Altinn is asked; and
//! what is left from before a release.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::candidate::Source;
use super::folders::Folders;
use super::ignore::is_ignored;
use crate::broker;
use crate::files::{self, EntryKind};
use crate::store::Unremembered;
use crate::transfer::{BrokerTransferId, Dispatch, Outgoing, Transfer, TransferId, Work};

/// Searches that Altinn refuses or answers with an error of its own, after which it is not asked any more, and over how
/// long they have to be spread: a hiccup must not let a set back state pass.
const TRIES: u32 = 10;
const TIME: Duration = Duration::from_mins(30);
/// Overviews of one transfer that Altinn answers with 500, after which that one is passed over.
const OVERVIEWS: u32 = 3;

/// How often Altinn could not be searched, and since when.
#[derive(Debug, Default)]
pub(super) struct Patience {
    tries: u32,
    first: Option<Instant>,
}

impl Patience {
    /// Counts one more; whether it is enough.
    pub(super) fn ends(&mut self, now: Instant) -> bool {
        self.tries = self.tries.saturating_add(1);
        let first = *self.first.get_or_insert(now);
        self.tries >= TRIES && now.duration_since(first) >= TIME
    }
}

/// Transfers of which Altinn cannot give an overview.
#[derive(Debug, Default)]
pub(super) struct Broken(HashMap<BrokerTransferId, u32>);

impl Broken {
    /// Counts one more failure of this one; whether it is passed over. One is counted for each search, so that these
    /// stay few.
    pub(super) fn is_given_up(&mut self, id: BrokerTransferId) -> bool {
        let failures = self.0.entry(id).or_default();
        *failures = failures.saturating_add(1);
        *failures > OVERVIEWS
    }
}

/// Whether an error says that searching does not work here. One that passes (a limit, an outage) says nothing about it.
pub(super) fn is_about_searching(error: &broker::Error) -> bool {
    match error.trouble() {
        broker::Trouble::Rights | broker::Trouble::Protocol => true,
        broker::Trouble::Server => error.status() == Some(500),
        _ => false,
    }
}

/// The id of ours in a reference, which may stand in the midst of other text.
pub(super) fn own_id(reference: &str, is_own: impl Fn(TransferId) -> bool) -> Option<TransferId> {
    const LENGTH: usize = 36;
    let ids =
        reference.as_bytes().windows(LENGTH).filter_map(|part| std::str::from_utf8(part).ok()?.parse().ok());
    ids.into_iter().find(|id| is_own(*id))
}

/// Whether Altinn was told the same of a file, but for the reference.
pub(super) fn is_equal(found: &Unremembered, dispatch: &Dispatch) -> bool {
    found.file_name == dispatch.file_name.as_str()
        && found.md5 == Some(dispatch.md5)
        && found.recipients == dispatch.recipients
        && found.properties == dispatch.properties
}

/// Whether a file was there, as it is, before the transfer was made: one that was written since is another.
pub(super) fn is_older(modified_ns: i64, created: Option<Timestamp>) -> bool {
    let modified = Timestamp::from_nanosecond(i128::from(modified_ns));
    matches!((modified, created), (Ok(modified), Some(created)) if modified <= created)
}

/// Whether a transfer is one of a file that lay there at `released`, and is yet to be sent.
pub(super) fn is_left(transfer: &Transfer, released: Timestamp) -> bool {
    let Work::Outgoing { progress, .. } = &transfer.work else { return false };
    transfer.created <= released && (*progress == Outgoing::Claiming || progress.is_unsent())
}

/// Whether a file that may be sent lay in the drop folders at `released`. One that was moved there since has changed since.
pub(super) fn has_older(
    folders: &Folders,
    from_directory: bool,
    released: Timestamp,
) -> Result<bool, files::Error> {
    let mut sources = vec![Source::Drop];
    if from_directory {
        sources.extend(Source::below(&folders.drop, |_| {})?);
    }
    for source in &sources {
        let folder = match folders.source(source) {
            Err(error) if error.is_missing() => continue,
            folder => folder?,
        };
        let mut found = Ok(false);
        folder.for_each_name(|name| {
            if is_ignored(name) {
                return true;
            }
            let is_old = folder.look(name).map(|entry| {
                entry.is_some_and(|entry| {
                    entry.kind == EntryKind::File && i128::from(entry.changed_ns) <= released.as_nanosecond()
                })
            });
            let goes_on = matches!(is_old, Ok(false));
            found = is_old;
            goes_on
        })?;
        if found? {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transfer::samples::{at, broker_id, dispatch};

    #[test]
    fn only_what_lay_there_at_the_release_is_left_of_before() {
        let temporary = tempfile::tempdir().unwrap();
        let folders = Folders::of_test(temporary.path());
        let (early, late) = (Timestamp::UNIX_EPOCH, Timestamp::MAX);
        std::fs::write(temporary.path().join("a.part"), "x").unwrap();
        assert!(!has_older(&folders, true, late).unwrap(), "never to be sent");
        std::fs::write(temporary.path().join("a.txt"), "x").unwrap();
        assert!(has_older(&folders, false, late).unwrap());
        assert!(!has_older(&folders, false, early).unwrap(), "it has come since");
        std::fs::remove_file(temporary.path().join("a.txt")).unwrap();
        std::fs::create_dir(temporary.path().join("910075918")).unwrap();
        std::fs::write(temporary.path().join("910075918/a.txt"), "x").unwrap();
        assert!(has_older(&folders, true, late).unwrap());
        assert!(!has_older(&folders, true, early).unwrap());
    }

    #[test]
    fn patience_takes_tries_and_time() {
        let (mut patience, begun) = (Patience::default(), Instant::now());
        for _ in 0..100 {
            assert!(
                !patience.ends(begun + TIME - Duration::from_secs(1)),
                "not for many tries in a short time"
            );
        }
        let (mut patience, late) = (Patience::default(), begun + 2 * TIME);
        assert!(!patience.ends(begun));
        for _ in 2..TRIES {
            assert!(!patience.ends(late), "not for a long time between a few tries");
        }
        assert!(patience.ends(late));
    }

    #[test]
    fn one_that_is_broken_for_good_keeps_no_others_from_being_looked_at() {
        let mut broken = Broken::default();
        for id in [1, 2] {
            for _ in 0..OVERVIEWS {
                assert!(!broken.is_given_up(broker_id(id)));
            }
            assert!(broken.is_given_up(broker_id(id)));
        }
    }

    #[test]
    fn ours_is_found_within_a_reference() {
        let id: TransferId = "01a20052-d934-7c77-9c84-5e364830abb5".parse().unwrap();
        for reference in [format!("{id}"), format!("{id}.2"), format!("øre-{id}"), format!("{id}{id}")] {
            assert_eq!(own_id(&reference, |found| found == id), Some(id), "{reference}");
        }
        for reference in ["", "2026/17", &id.to_string().split_off(1), "øøøøøøøøøøøøøøøøøøøøøøøø"]
        {
            assert_eq!(own_id(reference, |_| true), None, "{reference}");
        }
        assert_eq!(own_id(&id.to_string(), |_| false), None);
    }

    #[test]
    fn only_a_file_that_is_equal_and_older_goes_on_with_what_altinn_has() {
        let dispatch = dispatch();
        let found = Unremembered {
            id: broker_id(1),
            reference: "other".to_owned(),
            file_name: dispatch.file_name.as_str().to_owned(),
            md5: Some(dispatch.md5),
            recipients: dispatch.recipients.clone(),
            properties: dispatch.properties.clone(),
            created: Some(at(0)),
            begun: true,
            taken_by: None,
        };
        assert!(is_equal(&found, &dispatch));
        let others = [
            Unremembered { file_name: "b.pdf".to_owned(), ..found.clone() },
            Unremembered { md5: None, ..found.clone() },
            Unremembered { recipients: vec![dispatch.sender], ..found.clone() },
            Unremembered { properties: [].into(), ..found.clone() },
        ];
        assert!(others.iter().all(|other| !is_equal(other, &dispatch)));
        let ns = |time: Timestamp| i64::try_from(time.as_nanosecond()).unwrap();
        assert!(is_older(ns(at(-1)), Some(at(0))) && is_older(ns(at(0)), Some(at(0))));
        assert!(!is_older(ns(at(1)), Some(at(0))) && !is_older(ns(at(-1)), None));
    }
}
