//! The crash points, found by reading the source, so that a new point is tried by itself.

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

/// The points of an inbox, but those that are reached only by what came damaged: `downloads` has tests of its own.
pub(crate) fn inbox_points() -> BTreeSet<String> {
    let mut points = points("inbox");
    for point in ["damage:removed", "damage:evidence"] {
        assert!(points.remove(point), "{point}");
    }
    points
}

/// Those at which a sender dies that streams a file, with everything as usual.
pub(crate) fn sender_points() -> BTreeSet<String> {
    let mut points = points("outbox");
    // Reached where the store was lost or set back, or by a sidecar without its file.
    let rare = ["claims:adopted", "orphan:explained", "receipts:", "set_back:"];
    points.retain(|point| !rare.iter().any(|rare| point.starts_with(rare)));
    points
}

/// Those of the store at which a service dies that works as usual.
pub(crate) fn store_points() -> BTreeSet<String> {
    let mut points = points("store");
    // Reached by commands, where the state was damaged or set back, and on a full disk; the last two belong to the
    // database in memory.
    let rare = [
        "import:",
        "repair:",
        "set_back:",
        "journal:rewritten",
        "journal:replaced",
        "ballast:given_up",
        "store:committing",
        "store:committed",
    ];
    points.retain(|point| !rare.iter().any(|rare| point.starts_with(rare)));
    points
}

/// Those of the store whose names begin so.
pub(crate) fn store_points_of(what: &str) -> Vec<String> {
    points("store").into_iter().filter(|point| point.starts_with(what)).collect()
}
