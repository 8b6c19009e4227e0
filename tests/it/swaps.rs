//! Somebody replaces folders and files by links while a step is half done. The service works in the folders that it
//! has opened, follows no link, and touches nothing elsewhere; when the real ones are back, each file goes its way
//! once.

use std::path::{Path, PathBuf};

use crate::support::{Bench, Elsewhere, Fate, INBOX, Setup, files_below, noise, points, usual_points};

/// Bytes of a file that is uploaded in several blocks.
const SEVERAL_BLOCKS: usize = 600 * 1024;

/// Whether a sender has done with a file all that can be done, wherever its folders are now.
fn is_over(bench: &Bench, elsewhere: &Elsewhere, name: &str) -> bool {
    let outbox = bench.sender.outbox();
    let folders = ["sent", "failed"].map(|folder| elsewhere.place_of(&outbox.join(folder)));
    let days = std::fs::read_dir(&folders[0]).into_iter().flatten().flatten();
    let days: Vec<PathBuf> = days.map(|day| day.path()).chain([folders[1].clone()]).collect();
    let is_completed = |folder: &PathBuf| {
        let receipt = std::fs::read_to_string(folder.join(format!("{name}.receipt.json")));
        receipt.is_ok_and(|receipt| receipt.contains("\"completed\": \"") && receipt.contains("Confirmed"))
    };
    let is_refused =
        |folder: &PathBuf| folder.join(format!("{name}.error.json")).exists() && folder.join(name).exists();
    days.iter().any(|folder| is_completed(folder) || is_refused(folder))
}

/// Stops the sender at a point, lets somebody change the folders, lets it go on as far as it gets, puts everything
/// back, and sees the file go its way.
fn sender_case(
    bench: &mut Bench,
    elsewhere: &mut Elsewhere,
    (point, name): (&str, &str),
    change: impl FnOnce(&mut Bench, &mut Elsewhere),
) {
    let case = format!("{name} at {point}");
    bench.sender.stop_at(point);
    change(bench, elsewhere);
    let said_before = bench.sender.said().len();
    bench.sender.go_on();
    bench.wait_until(&format!("the sender has gone on: {case}"), || {
        let said = bench.sender.said();
        let is_over = |name: &str| is_over(bench, elsewhere, name);
        said[said_before..].contains("again") || is_over(name) || is_over(&next(name))
    });
    assert_eq!(bench.sender.stop(), Some(0), "{case}");
    elsewhere.put_back(&case);
    bench.sender.start();
    bench.settle();
    assert_eq!(bench.sender.stop(), Some(0), "{case}");
}

/// The name of a file that is dropped after another one. When it is over, the first has had its turn.
fn next(name: &str) -> String {
    format!("next-{name}")
}

/// The points of an outbox, but one that is reached only where the store was lost.
fn sender_points(prefixes: &[&str]) -> Vec<String> {
    let points = points("outbox");
    let is_wanted =
        |point: &String| point != "claims:adopted" && prefixes.iter().any(|prefix| point.starts_with(prefix));
    points.into_iter().filter(is_wanted).collect()
}

fn only_file_in(folder: &Path) -> PathBuf {
    let is_file = |path: &PathBuf| path.file_name().is_some_and(|name| name == "file");
    files_below(folder).into_iter().find(is_file).unwrap()
}

#[test]
fn a_sender_whose_folders_become_links_touches_nothing_elsewhere() {
    let mut bench = Bench::new(&Setup { arguments: vec!["--stuck-after", "3s"], ..Setup::default() });
    let mut elsewhere = Elsewhere::new(bench.dir.path());
    bench.recipient.start();
    let points = sender_points(&["claim:", "initialize:intended", "upload:begun", "archive:", "lay_down:"]);
    assert!(points.len() >= 10, "{points:?}");
    for (seed, point) in (0..).zip(&points) {
        let name = format!("{}.bin", point.replace(':', "-"));
        bench.sidecar(&name, &serde_json::json!({ "propertyList": { "point": point } }));
        bench.drop_file(&name, &noise(seed, SEVERAL_BLOCKS));
        sender_case(&mut bench, &mut elsewhere, (point, &name), |bench, elsewhere| {
            for folder in [".formidlingd", "sent", "failed"] {
                elsewhere.swap(&bench.sender.outbox().join(folder));
            }
        });
    }
    bench.sender.start();
    bench.wait_for_completion();
    bench.assert_promises();
}

#[test]
fn a_sender_that_puts_a_file_aside_touches_nothing_elsewhere() {
    let mut bench = Bench::new(&Setup::default());
    let mut elsewhere = Elsewhere::new(bench.dir.path());
    let points = sender_points(&["lay_down:"]);
    assert!(points.len() >= 3, "{points:?}");
    for point in &points {
        let name = format!("{}.bin", point.replace(':', "-"));
        bench.sidecar(&name, &serde_json::json!({ "recipients": [] }));
        bench.drop_file(&name, point.as_bytes()).fate = Fate::Refused("no_recipients");
        sender_case(&mut bench, &mut elsewhere, (point, &name), |bench, elsewhere| {
            for folder in [".formidlingd", "sent", "failed"] {
                elsewhere.swap(&bench.sender.outbox().join(folder));
            }
        });
    }
    bench.assert_promises();
}

#[test]
fn a_day_of_the_archive_that_becomes_a_link_is_not_followed() {
    let mut bench = Bench::new(&Setup::default());
    let mut elsewhere = Elsewhere::new(bench.dir.path());
    bench.recipient.start();
    bench.drop_file("first.bin", b"first");
    bench.sender.start();
    bench.wait_for_completion();
    assert_eq!(bench.sender.stop(), Some(0));
    let day = bench.receipts()[0].0.parent().unwrap().to_owned();
    for (seed, point) in (1..).zip(&sender_points(&["upload:answered", "archive:", "lay_down:"])) {
        let name = format!("{}.bin", point.replace(':', "-"));
        bench.drop_file(&name, &noise(seed, 1000));
        sender_case(&mut bench, &mut elsewhere, (point, &name), |_, elsewhere| elsewhere.swap(&day));
        // The names that file and receipt are to get lead elsewhere, to nothing.
        let planted = format!("planted-{name}");
        if !point.starts_with("upload:") && point != "archive:intended" {
            continue;
        }
        bench.drop_file(&planted, &noise(seed + 100, 1000));
        let names = [planted.clone(), format!("{planted}.receipt.json")].map(|name| day.join(name));
        bench.sender.stop_at(point);
        for name in &names {
            elsewhere.plant(name);
        }
        bench.sender.go_on();
        bench.wait_until("it is archived under another name", || bench.sender.said().contains("archived"));
        assert_eq!(bench.sender.stop(), Some(0));
        assert!(names.iter().all(|name| name.is_symlink()), "what others put there stays");
        for name in &names {
            std::fs::remove_file(name).unwrap();
        }
        elsewhere.put_back(&planted);
    }
    bench.sender.start();
    bench.wait_for_completion();
    bench.assert_promises();
}

/// A file becomes a link at each point, in the drop folder or, where it was taken already, in the sending folder.
fn file_becomes_link(points: &[&str]) {
    let mut bench = Bench::new(&Setup { arguments: vec!["--stuck-after", "3s"], ..Setup::default() });
    let mut elsewhere = Elsewhere::new(bench.dir.path());
    bench.recipient.start();
    for (seed, point) in (0..).zip(points) {
        let name = format!("{}.bin", point.replace(':', "-"));
        bench.drop_file(&name, &noise(seed, SEVERAL_BLOCKS));
        sender_case(&mut bench, &mut elsewhere, (point, &name), |bench, elsewhere| {
            let dropped = bench.sender.outbox().join(&name);
            let sending = bench.sender.outbox().join(".formidlingd/sending");
            elsewhere.swap(&if dropped.exists() { dropped } else { only_file_in(&sending) });
            bench.drop_file(&next(&name), &noise(seed + 100, 1000));
        });
    }
    bench.sender.start();
    bench.wait_for_completion();
    bench.assert_promises();
}

#[test]
fn a_file_that_becomes_a_link_is_not_followed() {
    file_becomes_link(&[
        "claim:intended",
        "claim:written",
        "claim:renamed",
        "claim:synced",
        "initialize:intended",
        "initialize:answered",
    ]);
}

#[test]
fn a_link_that_is_taken_in_a_files_place_is_given_back() {
    file_becomes_link(&["claim:sidecar_moved"]);
}

#[test]
fn a_recipient_whose_folders_become_links_touches_nothing_elsewhere() {
    for layout in ["flat", "by_sender"] {
        let mut bench = Bench::new(&Setup::default());
        let mut elsewhere = Elsewhere::new(bench.dir.path());
        bench.recipient.set(INBOX, "layout", format!("\"{layout}\""));
        bench.drop_file("first.bin", b"first");
        bench.start();
        bench.settle();
        assert_eq!(bench.recipient.stop(), Some(0));
        let inbox = bench.recipient.inbox();
        let mut points = usual_points("inbox");
        // Reached only where a folder is delivered whole.
        assert!(points.remove("deliver:whole"));
        // Reached only where a program is run.
        assert!(points.remove("notify:ran"));
        assert!(points.len() >= 9, "{points:?}");
        for (seed, point) in (0..).zip(&points) {
            let name = format!("{}.bin", point.replace(':', "-"));
            bench.drop_file(&name, &noise(seed, SEVERAL_BLOCKS));
            let confirmed = bench.confirmations();
            bench.recipient.stop_at(point);
            elsewhere.swap(&inbox.join(".formidlingd"));
            if layout == "by_sender" {
                elsewhere.swap(&inbox.join("991825827"));
            }
            let said_before = bench.recipient.said().len();
            bench.recipient.go_on();
            bench.wait_until(&format!("the recipient has gone on after {point}"), || {
                bench.recipient.said()[said_before..].contains("again") || bench.confirmations() > confirmed
            });
            assert_eq!(bench.recipient.stop(), Some(0), "{point}");
            elsewhere.put_back(point);
            bench.recipient.start();
            bench.settle();
            assert_eq!(bench.recipient.stop(), Some(0), "{point}");
        }
        bench.assert_promises();
    }
}

#[test]
fn names_that_lead_elsewhere_are_not_delivered_to() {
    let mut bench = Bench::new(&Setup::default());
    let mut elsewhere = Elsewhere::new(bench.dir.path());
    bench.sender.start();
    let inbox = bench.recipient.inbox();
    for (seed, point) in (0..).zip(["download:begun", "deliver:intended", "deliver:metadata"]) {
        let name = format!("{}.bin", point.replace(':', "-"));
        bench.drop_file(&name, &noise(seed, SEVERAL_BLOCKS));
        let confirmed = bench.confirmations();
        bench.recipient.stop_at(point);
        let mut links = vec![inbox.join(&name)];
        if point != "deliver:metadata" {
            links.push(inbox.join(format!("{name}.meta.json")));
        }
        for link in &links {
            elsewhere.plant(link);
        }
        bench.recipient.go_on();
        bench.wait_until("it is delivered and confirmed", || bench.confirmations() > confirmed);
        assert_eq!(bench.recipient.stop(), Some(0), "{point}");
        assert!(links.iter().all(|link| link.is_symlink()), "what others put there stays");
        for link in &links {
            std::fs::remove_file(link).unwrap();
        }
        elsewhere.put_back(point);
    }
    bench.assert_promises();
}
