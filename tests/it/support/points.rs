//! The crash points, found by reading the source, so that a new point is tried by itself, and where those are tried that
//! are reached on a rare way alone.

use std::collections::BTreeSet;
use std::path::Path;

use super::files_below;

/// The names of the crash points in a room. Those of resumable uploads are a room of their own here
/// (`outbox/resumable`): a file goes either by them or by those of a stream.
pub(crate) fn points(room: &str) -> BTreeSet<String> {
    let house = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(room);
    let resumable = house.join("resumable");
    let files = files_below(&house).into_iter().filter(|path| !path.starts_with(&resumable));
    let texts = files.map(|path| std::fs::read_to_string(path).unwrap());
    let of_text = |text: String| {
        let names =
            text.split("crash_point(\"").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned());
        names.collect::<Vec<_>>()
    };
    texts.flat_map(of_text).collect()
}

/// Points that are reached on a rare way alone, so that the walks over whole rooms pass them by, and the test that dies
/// there. `crashes` holds the list against the sources and the tests.
pub(crate) const RARE: [(&str, &str, &str); 32] = [
    // Documents, downloads and moves, in both directions.
    ("replace:written", "crashes.rs", "a_death_while_a_document_gets_its_name_loses_and_doubles_nothing"),
    ("replace:renamed", "crashes.rs", "a_death_while_a_document_gets_its_name_loses_and_doubles_nothing"),
    (
        "download:synced",
        "downloads.rs",
        "a_download_that_is_killed_again_and_again_loses_no_more_than_was_not_durable",
    ),
    (
        "download:durable",
        "downloads.rs",
        "a_download_that_is_killed_again_and_again_loses_no_more_than_was_not_durable",
    ),
    ("restart:forgotten", "downloads.rs", "a_death_while_what_is_there_is_thrown_away_leaves_nothing_of_it"),
    ("damage:removed", "downloads.rs", "what_is_damaged_twice_is_kept_as_evidence_and_not_confirmed"),
    ("damage:evidence", "downloads.rs", "what_is_damaged_twice_is_kept_as_evidence_and_not_confirmed"),
    ("move:linked", "faults.rs", "a_death_between_the_new_name_and_the_end_of_the_old_one_doubles_nothing"),
    // Where the archive is another file system. With a real one: `mounts::archives`, which needs root.
    ("copy:written", "faults.rs", "a_death_while_a_file_is_copied_to_its_archive_archives_it_once"),
    ("copy:renamed", "faults.rs", "a_death_while_a_file_is_copied_to_its_archive_archives_it_once"),
    ("copy:placed", "faults.rs", "a_death_while_a_file_is_copied_to_its_archive_archives_it_once"),
    // A sidecar without its file.
    ("orphan:explained", "sidecars.rs", "a_sidecar_is_in_one_place_whenever_the_sender_dies"),
    // Where the state was lost, set back, taken from an export, or is to forget.
    ("claims:adopted", "crashes.rs", "a_sender_that_has_lost_its_store_goes_on_from_its_claims"),
    ("receipts:adopted", "copies.rs", "receipts_are_kept_up_to_date_when_the_store_was_lost"),
    ("set_back:noted", "set_back.rs", "a_death_at_any_point_of_it_sends_nothing_twice"),
    ("set_back:taken", "set_back.rs", "a_death_at_any_point_of_it_sends_nothing_twice"),
    ("set_back:adopted", "set_back.rs", "a_death_at_any_point_of_it_sends_nothing_twice"),
    ("set_back:written", "set_back.rs", "a_death_at_any_point_of_it_sends_nothing_twice"),
    ("set_back:renamed", "set_back.rs", "a_death_at_any_point_of_it_sends_nothing_twice"),
    ("import:built", "copies.rs", "a_death_at_any_point_of_an_import_leaves_all_or_nothing"),
    ("import:placing", "copies.rs", "a_death_at_any_point_of_an_import_leaves_all_or_nothing"),
    ("import:placed", "copies.rs", "a_death_at_any_point_of_an_import_leaves_all_or_nothing"),
    ("import:renamed", "copies.rs", "a_death_at_any_point_of_an_import_leaves_all_or_nothing"),
    ("journal:rewritten", "state.rs", "a_death_while_forgetting_leaves_the_old_journal_or_the_new_one"),
    ("journal:replaced", "state.rs", "a_death_while_forgetting_leaves_the_old_journal_or_the_new_one"),
    (
        "ballast:given_up",
        "full_state.rs",
        "a_death_while_the_ballast_is_given_up_keeps_nothing_from_going_on",
    ),
    ("repair:prepared", "repair.rs", "a_death_at_any_point_of_a_repair_is_repaired_by_the_next_start"),
    ("repair:found", "repair.rs", "a_death_at_any_point_of_a_repair_is_repaired_by_the_next_start"),
    ("repair:set_aside", "repair.rs", "a_death_at_any_point_of_a_repair_is_repaired_by_the_next_start"),
    ("repair:placed", "repair.rs", "a_death_at_any_point_of_a_repair_is_repaired_by_the_next_start"),
    // The database of simulations.
    ("store:committing", "simulation/mod.rs", "once"),
    ("store:committed", "simulation/mod.rs", "once"),
];

/// The points of a room but the rare ones.
pub(crate) fn usual_points(room: &str) -> BTreeSet<String> {
    let mut points = points(room);
    points.retain(|point| !RARE.iter().any(|(rare, ..)| rare == point));
    points
}

/// Those of the store whose names begin so.
pub(crate) fn store_points_of(what: &str) -> Vec<String> {
    points("store").into_iter().filter(|point| point.starts_with(what)).collect()
}
