//! The crash points, found by reading the source, so that a new point is tried by itself.

use std::collections::BTreeSet;
use std::path::Path;

use super::files_below;

/// The names of the crash points in a room.
pub(crate) fn points(room: &str) -> BTreeSet<String> {
    let house = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(room);
    let texts = files_below(&house).into_iter().map(|path| std::fs::read_to_string(path).unwrap());
    let of_text = |text: String| {
        let names =
            text.split("crash_point(\"").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned());
        names.collect::<Vec<_>>()
    };
    texts.flat_map(of_text).collect()
}
