//! Every named crash point is died at, in the real binary: those that are on the way of every file by tests that read
//! their names from the sources, and each of the others by a test that goes there.

use std::collections::BTreeSet;
use std::path::Path;

use crate::support::{inbox_points, points, sender_points, store_points, store_points_of};

/// The points that are reached on a rare way alone: a part of the name, the file of the test, the test.
const ELSEWHERE: [(&str, &str, &str); 20] = [
    ("claims:adopted", "crashes.rs", "a_sender_that_has_lost_its_store_goes_on_from_its_claims"),
    ("receipts:adopted", "copies.rs", "receipts_are_kept_up_to_date_when_the_store_was_lost"),
    ("orphan:explained", "sidecars.rs", "a_sidecar_is_in_one_place_whenever_the_sender_dies"),
    ("set_back:noted", "set_back.rs", "a_death_at_any_point_of_it_sends_nothing_twice"),
    ("set_back:taken", "set_back.rs", "a_death_at_any_point_of_it_sends_nothing_twice"),
    ("set_back:adopted", "set_back.rs", "a_death_at_any_point_of_it_sends_nothing_twice"),
    ("damage:removed", "downloads.rs", "what_is_damaged_twice_is_kept_as_evidence_and_not_confirmed"),
    ("damage:evidence", "downloads.rs", "what_is_damaged_twice_is_kept_as_evidence_and_not_confirmed"),
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
    ("copy:written", "mounts/archives.rs", "a_sender_that_dies_while_it_copies_archives_once"),
    ("copy:renamed", "mounts/archives.rs", "a_sender_that_dies_while_it_copies_archives_once"),
    ("copy:placed", "mounts/archives.rs", "a_sender_that_dies_while_it_copies_archives_once"),
    ("move:linked", "faults.rs", "a_death_between_the_new_name_and_the_end_of_the_old_one_doubles_nothing"),
    ("replace:written", "crashes.rs", "a_death_while_a_document_gets_its_name_loses_and_doubles_nothing"),
    ("replace:renamed", "crashes.rs", "a_death_while_a_document_gets_its_name_loses_and_doubles_nothing"),
    ("journal:rewritten", "state.rs", "a_death_while_forgetting_leaves_the_old_journal_or_the_new_one"),
    ("journal:replaced", "state.rs", "a_death_while_forgetting_leaves_the_old_journal_or_the_new_one"),
    ("ballast:given_up", "full_state.rs", "a_death_when_the_ballast_was_given_up_loses_nothing"),
];
/// Of the database in memory, which only the simulation has.
const SIMULATED: [&str; 2] = ["store:committing", "store:committed"];

/// All there are.
fn all() -> BTreeSet<String> {
    let mut all = points("");
    all.extend(points("outbox/resumable"));
    // The examples in the tests of the points themselves.
    all.retain(|point| !["a:point", "another:point"].contains(&point.as_str()));
    all
}

#[test]
fn every_point_is_died_at_by_a_test() {
    let all = all();
    assert!(all.len() >= 60, "{} points: {all:?}", all.len());
    let mut tried = sender_points();
    for more in [points("outbox/resumable"), inbox_points(), store_points()] {
        tried.extend(more);
    }
    for rare in ["import:", "repair:", "set_back:"] {
        tried.extend(store_points_of(rare));
    }
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
    for (point, file, test) in ELSEWHERE {
        let text = std::fs::read_to_string(tests.join(file)).unwrap();
        let (_, body) =
            text.split_once(&format!("fn {test}(")).unwrap_or_else(|| panic!("{file} has no {test}"));
        let body = body.split("\n#[test]").next().unwrap_or_default();
        assert!(body.contains(&format!("\"{point}")), "{file}: {test} does not die at {point}");
        assert!(tried.insert(point.to_owned()), "{point} is listed, and needs not be");
    }
    tried.extend(SIMULATED.map(str::to_owned));
    assert_eq!(tried, all, "points that tests die at, and points that there are");
}
