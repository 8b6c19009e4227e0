//! A machine whose clock is set while files are on their way, in both directions and by up to ten years. The sandbox
//! keeps the right time, and what waits waits by the monotonic clock, as it does on a real machine.

use std::path::{Path, PathBuf};
use std::time::Duration;

use formidlingd::sandbox::Role;

use crate::support::{Content, InProcess, OUTBOX, Settings, files_below, in_process_off_by, noise};

const SECOND: i64 = 1;
const HOUR: i64 = 3600;
const YEARS: i64 = 10 * 365 * 24 * HOUR;
/// By how much the clock is off, one after the other; the differences are jumps, too.
const WRONG: [i64; 7] = [10 * SECOND, -10 * SECOND, HOUR, -HOUR, YEARS, -YEARS, 0];
const PATIENCE: Duration = Duration::from_hours(4);

/// What is old is deleted and given up.
fn ages(role: Role, settings: &mut Settings) {
    if role == Role::Sender {
        settings.set(OUTBOX, "keep_sent", "\"30d\"").set(OUTBOX, "keep_receipts", "\"30d\"");
    }
}

fn drop_file(site: &InProcess, number: u64) {
    std::fs::write(site.outbox().join(format!("{number}.bin")), noise(number, 10_000)).unwrap();
}

fn has_arrived(site: &InProcess, number: u64) -> bool {
    let bytes = std::fs::read(site.inbox().join(format!("{number}.bin")));
    bytes.is_ok_and(|bytes| bytes == noise(number, 10_000))
}

async fn until_all_have_arrived(site: &InProcess, files: u64) {
    let arrived = || (0..files).all(|number| has_arrived(site, number));
    site.wait_until("every file has arrived", PATIENCE, arrived).await;
}

/// Whether a file is claimed (0), known to Altinn (1), or published (2).
fn is_so_far(site: &InProcess, number: u64, stage: u32) -> bool {
    let name = format!("{number}.bin");
    let transfers = site.sandbox().transfers();
    let at_altinn = transfers.iter().find(|transfer| transfer.file_name == name);
    match stage {
        0 => !site.outbox().join(name).exists(),
        1 => at_altinn.is_some(),
        _ => at_altinn.is_some_and(|transfer| transfer.published() > 0),
    }
}

/// Nothing lost, nothing twice, nothing aged or given up on.
async fn assert_promises(site: &InProcess, files: u64) {
    let receipts = || files_below(&site.outbox().join("sent"));
    let is_receipt = |path: &Path| path.to_string_lossy().ends_with(".receipt.json");
    let completed = || {
        let says = |path: &PathBuf| {
            std::fs::read_to_string(path).is_ok_and(|text| text.contains("\"status\": \"completed\""))
        };
        receipts().iter().filter(|path| is_receipt(path) && says(path)).count() as u64 == files
    };
    site.wait_until("every receipt says that it is over", PATIENCE, completed).await;
    let kept = receipts().into_iter().filter(|path| !is_receipt(path)).count() as u64;
    assert_eq!(kept, files, "an archived file was deleted");
    assert!(files_below(&site.outbox().join("failed")).is_empty(), "a file was given up");
    let delivered = std::fs::read_dir(site.inbox()).unwrap().flatten();
    let delivered = delivered.filter(|entry| entry.path().extension().is_some_and(|end| end == "bin"));
    assert_eq!(delivered.count() as u64, files);
    let transfers = site.sandbox().transfers();
    let published = transfers.iter().map(formidlingd::sandbox::Transfer::published).sum::<usize>() as u64;
    assert_eq!(published, files, "{transfers:?}");
    assert_eq!(site.sandbox().ledger().count("confirm", 204) as u64, files);
    for number in 0..files {
        let content = Content::of_file(&site.inbox().join(format!("{number}.bin")));
        assert_eq!(content, Some(Content::of(&noise(number, 10_000))));
    }
}

#[test]
fn a_clock_that_is_set_while_files_are_on_their_way_loses_doubles_and_ages_nothing() {
    in_process_off_by(0, ages, async |site| {
        let mut files = 0;
        for (round, wrong) in (0..).zip(WRONG) {
            // One is at another place each time, and two are wherever they have come to meanwhile.
            for _ in 0..3 {
                drop_file(site, files);
                files += 1;
            }
            let last = files - 1;
            site.wait_until("the last is so far", PATIENCE, || is_so_far(site, last, round % 3)).await;
            site.set_off_by(wrong);
            until_all_have_arrived(site, files).await;
            if wrong.abs() == YEARS {
                // What is old is looked for every hour. That nothing is found cannot be seen.
                tokio::time::sleep(Duration::from_mins(70)).await;
            }
        }
        assert_promises(site, files).await;
    });
}

#[test]
fn a_clock_that_is_wrong_at_the_start_costs_a_delay() {
    for wrong in [YEARS, -YEARS] {
        in_process_off_by(wrong, ages, async |site| {
            drop_file(site, 0);
            // However far it comes by such a clock: that is what the time is for.
            tokio::time::sleep(Duration::from_mins(20)).await;
            let before = site.clock.passed();
            site.set_off_by(0);
            drop_file(site, 1);
            until_all_have_arrived(site, 2).await;
            let took = site.clock.passed().checked_sub(before).unwrap();
            assert!(took < Duration::from_hours(1), "the wait was not bounded: {took:?}");
            assert_promises(site, 2).await;
        });
    }
}
