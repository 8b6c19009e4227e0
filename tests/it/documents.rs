//! What the documents say of the code is true.

use std::path::Path;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Each `path.rs` and the `names` that a line puts behind it: "`a.rs`: `one`, `two`; `b.rs`: `three`".
fn named(line: &str) -> Vec<(String, String)> {
    let mut file = None;
    let mut named = Vec::new();
    for quoted in line.split('`').skip(1).step_by(2) {
        if Path::new(quoted).extension().is_some_and(|extension| extension == "rs") {
            file = Some(quoted.to_owned());
        } else if let Some(file) = &file {
            named.push((file.clone(), quoted.to_owned()));
        }
    }
    named
}

#[test]
fn every_test_that_guards_an_invariant_exists() {
    let architecture = read("ARCHITECTURE.md");
    let invariants =
        architecture.split("## Invariants").nth(1).unwrap().split("\n## ").next().unwrap().to_owned();
    let mut guards = 0;
    for line in invariants.lines().filter(|line| line.starts_with('|')) {
        let Some(guard) = line.trim_end_matches('|').rsplit('|').next() else { continue };
        for (file, name) in named(guard) {
            guards += 1;
            assert!(
                read(&file).contains(&format!("fn {name}")),
                "{file} has no test {name}, which guards: {line}"
            );
        }
    }
    assert!(guards > 20, "only {guards} guards were found: is the table read?");
}

#[test]
fn a_name_belongs_to_the_file_before_it() {
    let found = named("`a/b.rs`: `one`, `two`; `c.rs`: `three`");
    let pair = |file: &str, name: &str| (file.to_owned(), name.to_owned());
    assert_eq!(found, [pair("a/b.rs", "one"), pair("a/b.rs", "two"), pair("c.rs", "three")]);
}
