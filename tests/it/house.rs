//! The house stands as `src/lib.rs` draws it: a room uses only what stands below it.

use std::collections::BTreeSet;
use std::path::Path;

use crate::support::sources_below;

/// From the ground up; rooms of one floor do not use each other. The sandbox stands apart.
const FLOORS: [&[&str]; 10] = [
    &["seams"],
    &["transfer"],
    &["config", "telemetry"],
    &["http", "pace", "store", "files"],
    &["identity"],
    &["broker"],
    &["route"],
    &["outbox", "inbox"],
    &["daemon"],
    &["cli"],
];
const APART: &str = "sandbox";
/// Who may use what stands apart.
const NEIGHBOUR: &str = "cli";
const LONGEST_FILE: usize = 600;
/// The one file with calls that no safe crate offers.
const UNSAFE_FILE: &str = "files/sys.rs";

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

/// What is wrong with one room using another.
fn objection(room: &str, used: &str) -> Option<String> {
    if room == used {
        return None;
    }
    let wrong = match (floor(room), floor(used)) {
        _ if used == APART => room != NEIGHBOUR,
        _ if room == APART => true,
        (Some(own), Some(below)) => below >= own,
        _ => return Some(format!("{room} uses {used}, and one of them stands on no floor")),
    };
    wrong.then(|| format!("{room} uses {used}, which does not stand below it"))
}

/// The text without line comments.
fn code(text: &str) -> String {
    let without = |line: &str| line.split("//").next().unwrap_or_default().to_owned() + "\n";
    text.lines().map(without).collect()
}

fn identifier(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}

/// The first names of a path or of a group in braces.
fn first_names(text: &str) -> Vec<&str> {
    let Some(group) = text.strip_prefix('{') else { return vec![identifier(text)] };
    let (mut names, mut depth, mut start) = (Vec::new(), 0, 0);
    for (place, letter) in group.char_indices() {
        let ends = matches!((letter, depth), (',' | '}', 0));
        if ends {
            names.push(identifier(group[start..place].trim()));
            start = place + 1;
        }
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            _ => {}
        }
    }
    names.into_iter().filter(|name| !name.is_empty()).collect()
}

/// The rooms that a file's code uses, by `crate::` or by climbing out of its own with `super::`. `depth` is how
/// many modules deep the file is.
fn rooms_used(text: &str, depth: usize) -> BTreeSet<String> {
    let code = code(text);
    let mut rooms = BTreeSet::new();
    for (place, found) in code.match_indices("crate::") {
        let is_whole = !code[..place].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        if is_whole {
            rooms.extend(first_names(&code[place + found.len()..]).into_iter().map(str::to_owned));
        }
    }
    let climb = "super::".repeat(depth);
    for (place, found) in code.match_indices(&climb) {
        let rest = &code[place + found.len()..];
        let rest = rest.trim_start_matches("super::");
        rooms.extend(first_names(rest).into_iter().filter(|name| floor(name).is_some()).map(str::to_owned));
    }
    // Items of the crate itself, such as a constant in lib.rs, are nobody's room.
    rooms.retain(|name| name.chars().next().is_some_and(char::is_lowercase));
    rooms
}

/// A file of the house: its path below `src/`, and its text.
struct Page<'a> {
    path: &'a str,
    text: &'a str,
}

impl Page<'_> {
    fn room(&self) -> &str {
        self.path.split('/').next().unwrap_or_default().trim_end_matches(".rs")
    }

    fn depth(&self) -> usize {
        let parts = self.path.split('/').count();
        if self.path.ends_with("mod.rs") { parts - 1 } else { parts }
    }

    fn is_test(&self) -> bool {
        self.path
            .split('/')
            .any(|part| matches!(part.trim_end_matches(".rs"), "tests" | "testing" | "samples"))
            || self.path.ends_with("_tests.rs")
    }

    /// Everything that is wrong with it.
    fn objections(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        if !matches!(self.room(), "lib" | "main") {
            for used in rooms_used(self.text, self.depth()) {
                wrong.extend(objection(self.room(), &used));
            }
        }
        if !self.text.starts_with("//!") {
            wrong.push("it does not open by saying what it is for (//!)".to_owned());
        }
        let lines = self.text.lines().count();
        if lines > LONGEST_FILE && !self.is_test() {
            wrong.push(format!("{lines} lines are more than {LONGEST_FILE}"));
        }
        let uses_unsafe = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern", "unsafe("]
            .iter()
            .any(|word| code(self.text).contains(word));
        if uses_unsafe && self.path != UNSAFE_FILE {
            wrong.push(format!("unsafe stands in {UNSAFE_FILE} alone"));
        }
        wrong
    }
}

#[test]
fn rooms_use_only_what_stands_below_them() {
    let house = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let paths = sources_below(&house);
    assert!(paths.len() > 50, "the house was not found");
    let mut wrong = Vec::new();
    for path in &paths {
        let text = std::fs::read_to_string(path).unwrap();
        let path = path.strip_prefix(&house).unwrap().to_str().unwrap();
        let page = Page { path, text: &text };
        wrong.extend(page.objections().into_iter().map(|objection| format!("src/{path}: {objection}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_wrong_house_is_found_out() {
    let cases = [
        ("a room above", "store/a.rs", "//! A.\nuse crate::outbox::Outbox;", 1),
        ("a room on the same floor", "outbox/a.rs", "//! A.\nuse crate::inbox;", 1),
        ("in a group", "store/a.rs", "//! A.\nuse crate::{transfer::{Id, Other}, broker::Client, seams};", 1),
        ("in the middle of code", "pace/a.rs", "//! A.\nfn f() { crate::identity::f(); }", 1),
        ("by climbing", "store/a.rs", "//! A.\nuse super::super::broker::Client;", 1),
        ("by climbing out of mod.rs", "store/mod.rs", "//! A.\nuse super::broker;", 1),
        ("the sandbox uses the house", "sandbox/a.rs", "//! A.\nuse crate::transfer::Id;", 1),
        ("a room uses the sandbox", "daemon/a.rs", "//! A.\nuse crate::sandbox::Sandbox;", 1),
        ("a room of no floor", "cellar/a.rs", "//! A.\nuse crate::seams;", 1),
        ("no purpose", "store/a.rs", "use crate::seams;", 1),
        ("unsafe", "store/a.rs", "//! A.\nfn f() { unsafe { g() } }", 1),
        ("what is right", "cli/a.rs", "//! A.\n// crate::cli\nuse crate::{daemon, sandbox::Sandbox};", 0),
        ("its own", "store/a.rs", "//! A.\nuse crate::store::Store;\nuse super::keys;", 0),
        ("below", "outbox/a.rs", "//! A.\nuse crate::route::{Hold, Means};\nuse crate::seams;", 0),
        ("the system's calls", "files/sys.rs", "//! A.\nunsafe fn f() {}", 0),
    ];
    for (name, path, text, count) in cases {
        let wrong = Page { path, text }.objections();
        assert_eq!(wrong.len(), count, "{name}: {wrong:?}");
    }
    let long = "//! A.\n".to_owned() + &"\n".repeat(LONGEST_FILE);
    assert_eq!(Page { path: "store/a.rs", text: &long }.objections().len(), 1);
    assert_eq!(Page { path: "store/tests.rs", text: &long }.objections().len(), 0);
}
