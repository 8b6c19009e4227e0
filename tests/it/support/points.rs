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
