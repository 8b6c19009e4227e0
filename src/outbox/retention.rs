//! Deleting archived files and receipts after the time that the settings give, and never unless they give one.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Route;
use super::folders::Folders;
use crate::files::Error;
use crate::route::Trouble;
use crate::transfer::Companion;

/// How often it is looked whether something has grown old.
const EVERY: Duration = Duration::from_hours(1);
/// How often it is looked whether a server has agreed with our clock by now.
const UNTIL_CONFIRMED: Duration = Duration::from_secs(1);

/// Deletes what has grown old, until `stop`. Nothing is deleted before a server has agreed with our clock.
pub(super) async fn run(route: Arc<Route>, stop: CancellationToken) -> Result<(), Trouble> {
    let (keep_sent, keep_receipts) = (route.settings.keep_sent.limit(), route.settings.keep_receipts.limit());
    if keep_sent.is_none() && keep_receipts.is_none() {
        stop.cancelled().await;
        return Ok(());
    }
    while !stop.is_cancelled() {
        let is_confirmed = route.means.skew.is_confirmed();
        if is_confirmed {
            let now = route.means.now();
            let (sent, receipts) = (last_day(now, keep_sent), last_day(now, keep_receipts));
            match route.on_files(move |folders| prune(folders, sent, receipts)).await {
                Ok(0) => {}
                Ok(deleted) => {
                    info!(
                        route = route.settings.name.as_str(),
                        deleted, "old archived files deleted, as the settings say"
                    );
                }
                Err(trouble) => {
                    warn!(route = route.settings.name.as_str(), code = %trouble.failure.code, error = %trouble.failure.message, "old archived files cannot be deleted: trying again");
                }
            }
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(if is_confirmed { EVERY } else { UNTIL_CONFIRMED }) => {}
        }
    }
    Ok(())
}

/// The last day of publication that is older than `keep`, whatever the hour; `None` where nothing is deleted.
fn last_day(now: Timestamp, keep: Option<Duration>) -> Option<Date> {
    let keep = SignedDuration::try_from(keep?).ok()?;
    let oldest = now.checked_sub(keep).ok()?;
    oldest.to_zoned(jiff::tz::TimeZone::system()).date().yesterday().ok()
}

/// Deletes archived files of days until `sent`, and receipts of days until `receipts`; tells how many.
fn prune(folders: &Folders, sent: Option<Date>, receipts: Option<Date>) -> Result<usize, Error> {
    let mut days = BTreeSet::new();
    folders.sent.for_each_name(|name| {
        days.extend(name.to_str().and_then(|name| name.parse::<Date>().ok()));
        true
    })?;
    let mut deleted = 0;
    for day in days {
        let is_old = |last: Option<Date>| last.is_some_and(|last| day <= last);
        if !is_old(sent) && !is_old(receipts) {
            continue;
        }
        let folder = match folders.sent.subfolder(day.to_string()) {
            Ok(folder) => folder,
            // A name that reads as a date in another way is not ours.
            Err(error) if error.is_missing() => continue,
            Err(error) => return Err(error),
        };
        let mut old = Vec::new();
        folder.for_each_name(|name| {
            let companion = name.to_str().and_then(Companion::of).map(|(companion, _)| companion);
            if is_old(if companion == Some(Companion::Receipt) { receipts } else { sent }) {
                old.push(name.to_owned());
            }
            true
        })?;
        for name in &old {
            match folder.remove_file(name) {
                Ok(()) => deleted += 1,
                // A folder that somebody has made there, say; it does not keep the rest.
                Err(error) => {
                    warn!(code = error.code(), error = %error.full_message(), "cannot delete what is old");
                }
            }
        }
        let mut is_empty = true;
        folder.for_each_name(|_| {
            is_empty = false;
            false
        })?;
        if is_empty {
            folders.sent.remove_folder(day.to_string())?;
        }
    }
    Ok(deleted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_old_when_all_of_it_is() {
        let now: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        assert_eq!(last_day(now, None), None);
        let last = last_day(now, Some(Duration::from_hours(48))).unwrap();
        assert!(last <= "2026-11-18".parse::<Date>().unwrap(), "{last}");
    }

    #[test]
    fn files_and_receipts_have_times_of_their_own() {
        let temporary = tempfile::tempdir().unwrap();
        let folders = Folders::of_test(temporary.path());
        for folder in ["sent/2026-01-01", "sent/2026-06-01", "sent/notes"] {
            std::fs::create_dir(temporary.path().join(folder)).unwrap();
        }
        for day in ["2026-01-01", "2026-06-01"] {
            for name in ["a.pdf", "a.pdf.receipt.json", "a.pdf.meta.json"] {
                std::fs::write(temporary.path().join("sent").join(day).join(name), "x").unwrap();
            }
        }
        let day = |day: &str| Some(day.parse::<Date>().unwrap());
        let left =
            |day: &str| std::fs::read_dir(temporary.path().join("sent").join(day)).map_or(0, Iterator::count);
        assert_eq!(prune(&folders, None, None).unwrap(), 0);
        assert_eq!(prune(&folders, day("2026-03-01"), None).unwrap(), 2);
        assert_eq!((left("2026-01-01"), left("2026-06-01")), (1, 3), "the receipt stays");
        assert_eq!(prune(&folders, None, day("2026-03-01")).unwrap(), 1);
        assert!(!temporary.path().join("sent/2026-01-01").exists());
        assert!(temporary.path().join("sent/notes").exists());
        assert_eq!(left("2026-06-01"), 3);
    }
}
