//! What strangers call their files, and what becomes of it in the inbox.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use unicode_normalization::UnicodeNormalization as _;

use crate::support::{Bench, Content, INBOX, MOTTAKER, Setup, files_below, noise};

/// Names that hurt whoever takes them as they are.
const NAMES: [&str; 36] = [
    "../../../etc/passwd",
    "/etc/passwd",
    "..",
    ".",
    "...",
    ".formidlingd",
    ".formidlingd/incoming/x",
    ".bashrc",
    "-rf",
    "CON.txt",
    "nul",
    "Com1",
    "a:b|c<d>e?.txt",
    "tab\tand\nline.txt",
    "\u{1b}[2Jescape\u{7}.txt",
    "exe\u{202e}fdp.scr",
    "\u{2066}isolated\u{2069}.txt",
    "zero\u{200b}width.txt",
    "soft\u{ad}hyphen.txt",
    "\u{feff}bom.txt",
    "line\u{2028}separator.txt",
    "replaced\u{fffd}.txt",
    "invoice.pdf.meta.json",
    "invoice.pdf",
    "INVOICE.PDF.Meta.Json",
    "x.receipt.json",
    "x.ERROR.json",
    "trailing. . .",
    "trailing space ",
    "..\\..\\windows\\system.ini",
    "null\u{0}byte.txt",
    "ends in slash/",
    "e\u{301}te\u{301}.txt",
    "Rapport.pdf",
    "rapport.pdf",
    "RAPPORT.PDF",
];

/// What people and shares take for one name.
fn folded(name: &str) -> String {
    name.nfc().collect::<String>().to_lowercase()
}

/// Lets a stranger send a file of each name; what it holds shows which it is.
fn send(bench: &mut Bench, names: &[&str]) {
    let stranger = bench.stranger();
    for (seed, name) in (bench.dropped.len() as u64..).zip(names) {
        let bytes = noise(seed, 64);
        stranger.send(name, MOTTAKER, &bytes);
        let path = bench.recipient.inbox().join(format!("{seed}"));
        let dropped = bench.promise(&path, Content::of(&bytes));
        (dropped.shown, dropped.ours) = ((*name).to_owned(), false);
    }
}

/// Everything around the inbox, with its content: both ends' folders but for the recipient's state.
fn elsewhere(bench: &Bench) -> BTreeMap<PathBuf, Option<Content>> {
    let (inbox, state) = (bench.recipient.inbox(), bench.recipient.state());
    let files = files_below(&bench.recipient.folder).into_iter().chain(files_below(&bench.sender.folder));
    let around = files.filter(|path| !path.starts_with(&inbox) && !path.starts_with(&state));
    let mut around: BTreeMap<_, _> = around.map(|path| (path.clone(), Content::of_file(&path))).collect();
    // Of the bench's own folder, in which logs and books grow, the names.
    let names = std::fs::read_dir(bench.dir.path()).unwrap().map(|entry| (entry.unwrap().path(), None));
    around.extend(names.filter(|(path, _)| path.extension().is_none()));
    around
}

fn assert_apart(folder: &Path) {
    let mut seen = BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(seen.insert(folded(&name)), "{name} stands beside what a share takes for the same");
    }
}

#[test]
fn names_that_strangers_choose_land_safely() {
    let mut bench = Bench::new(&Setup::default());
    let before = elsewhere(&bench);
    send(&mut bench, &NAMES);
    let (foxes, letters) = ("🦊".repeat(127), format!("{}.pdf", "ø".repeat(150)));
    assert!(letters.len() > 300);
    send(&mut bench, &[&foxes, &letters]);
    bench.recipient.start();
    bench.assert_promises();
    for path in bench.inbox_files() {
        assert_eq!(path.parent().unwrap(), bench.recipient.inbox());
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(!name.starts_with(['.', '-']) && !name.ends_with(['.', ' ']), "{name}");
        assert!(
            !name.contains(|c: char| c.is_control() || "\\:|<>?*\"\u{202e}\u{2066}\u{200b}".contains(c)),
            "{name}"
        );
        assert!(name.len() + ".receipt.json".len() <= 255, "{name}");
        assert!(name.nfc().eq(name.chars()), "{name} is decomposed");
    }
    assert_apart(&bench.recipient.inbox());
    assert_eq!(elsewhere(&bench), before, "something outside the inbox was touched");
    assert!(!bench.recipient.folder.join("etc").exists());
    // The log is read on terminals.
    let log = bench.recipient.log();
    let is_raw =
        |c: &char| (c.is_control() && *c != '\n') || "\u{202e}\u{2066}\u{2069}\u{200b}\u{2028}".contains(*c);
    assert_eq!(log.chars().find(is_raw), None, "{log:?}");
}

#[test]
fn names_that_differ_in_case_or_composition_do_not_meet() {
    for layout in ["flat", "by_sender"] {
        let mut bench = Bench::new(&Setup::default());
        bench.recipient.set(INBOX, "layout", format!("\"{layout}\""));
        let folder = match layout {
            "by_sender" => bench.recipient.inbox().join("991825827"),
            _ => bench.recipient.inbox(),
        };
        std::fs::create_dir_all(&folder).unwrap();
        // Some that others have laid there; they stay as they are.
        let lying = ["Brev.TXT", "søknad.txt.META.json"];
        for name in lying {
            std::fs::write(folder.join(name), "{}").unwrap();
        }
        let names = ["brev.txt", "BREV.txt", "Søknad.txt", "ÅR.txt", "a\u{30a}r.txt", "år.TXT", "ÅR.txt"];
        send(&mut bench, &names);
        bench.recipient.start();
        bench.wait_until("all are confirmed", || bench.confirmations() == names.len());
        assert_eq!(bench.recipient.stop(), Some(0));
        assert_apart(&folder);
        for name in lying {
            assert_eq!(std::fs::read(folder.join(name)).unwrap(), b"{}");
            std::fs::remove_file(folder.join(name)).unwrap();
        }
        bench.recipient.start();
        bench.assert_promises();
    }
}

#[test]
fn a_name_that_was_chosen_before_a_crash_is_not_chosen_again() {
    let mut bench = Bench::new(&Setup::default());
    send(&mut bench, &["Rapport.pdf"]);
    bench.recipient.is_killed_at("deliver:intended");
    send(&mut bench, &["rapport.pdf", "RAPPORT.pdf"]);
    bench.recipient.start();
    bench.assert_promises();
    assert_apart(&bench.recipient.inbox());
    assert!(bench.recipient.inbox().join("Rapport.pdf").exists());
}

#[test]
fn a_transfers_folder_that_is_taken_is_told_apart_and_named_as_it_is() {
    let mut bench = Bench::new(&Setup::default());
    bench.recipient.set(INBOX, "layout", "\"by_transfer\"");
    let (told, script) = (bench.dir.path().join("told"), bench.dir.path().join("import"));
    std::fs::write(&script, format!("#!/bin/sh\nprintf '%s\\n' \"$1\" >> {}\n", told.display())).unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    bench.recipient.set(INBOX, "on_received", format!("[\"{}\", \"{{path}}\"]", script.display()));
    let bytes = noise(1, 64);
    let id = bench.stranger().send("a.txt", MOTTAKER, &bytes);
    bench.promise(&bench.recipient.inbox().join("a.txt"), Content::of(&bytes)).ours = false;
    // Somebody else's, with what must stay in it, and in other letters than ours.
    let taken = bench.recipient.inbox().join(id.to_uppercase());
    std::fs::create_dir(&taken).unwrap();
    bench.recipient.start();
    bench.wait_until("the program has run", || told.exists());
    bench.assert_promises();
    let (path, _) = bench.received().pop().unwrap();
    assert_eq!(std::fs::read_to_string(&told).unwrap().trim(), path.to_str().unwrap());
    let folder = path.parent().unwrap().file_name().unwrap().to_str().unwrap();
    assert!(folder.starts_with(&format!("{id}~")), "{folder}");
    assert!(bench.recipient.log().contains(&format!("folder=\"{folder}\"")), "{}", bench.recipient.log());
    assert_eq!(std::fs::read_dir(&taken).unwrap().count(), 0);
}
