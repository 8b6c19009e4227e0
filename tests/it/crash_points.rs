//! Every named crash point is died at, in the real binary: those that are on the way of every file by tests that read
//! their names from the sources, and each of the others by a test that goes there.

use std::collections::BTreeSet;
use std::path::Path;

use crate::support::{RARE, points, usual_points};

/// The rooms whose usual points are died at one after another: here, and for the store in `copies`.
const WALKED: [&str; 4] = ["outbox", "outbox/resumable", "inbox", "store"];

#[test]
fn at_every_crash_point_a_test_dies() {
    let rooms = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap().flatten();
    // Where crash points are made, they have none but in tests of that.
    let rooms = rooms.map(|room| room.file_name().into_string().unwrap()).filter(|room| room != "seams");
    let all: BTreeSet<String> = rooms.chain([WALKED[1].to_owned()]).flat_map(|room| points(&room)).collect();
    assert!(all.len() >= 60, "{all:?}");
    let mut tried: BTreeSet<String> = WALKED.into_iter().flat_map(usual_points).collect();
    for (point, file, test) in RARE {
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it").join(file))
            .unwrap();
        let body =
            text.split_once(&format!("fn {test}(")).map(|(_, rest)| rest.split("\n}\n").next().unwrap());
        let group = point.split_once(':').unwrap().0;
        // By its name, at a time of several, or with all that begin alike.
        let names = [format!("\"{point}\""), format!("\"{point}:"), format!("\"{group}:\"")];
        let is_named = body.is_some_and(|body| names.iter().any(|name| body.contains(name)));
        assert!(is_named, "{point} is not named in {test} of {file}");
        tried.insert(point.to_owned());
    }
    let missing: Vec<_> = all.difference(&tried).collect();
    assert!(missing.is_empty(), "no test dies at {missing:?}: see support::RARE");
    let gone: Vec<_> = tried.difference(&all).collect();
    assert!(gone.is_empty(), "there are no such points any more: {gone:?}");
}
