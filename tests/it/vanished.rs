//! Claimed files that somebody removes or replaces where only the service has business: root, or a virus scanner.

use std::path::{Path, PathBuf};

use crate::support::{Bench, Setup, files_below, noise};

/// In and after each step up to the last byte.
const POINTS: [&str; 4] =
    ["initialize:intended", "initialize:answered", "initialize:adopted", "upload:begun"];

fn claimed(bench: &Bench) -> PathBuf {
    let sending = files_below(&bench.sender.outbox().join(".formidlingd/sending"));
    sending.into_iter().find(|path| path.ends_with("file")).expect("a file is claimed")
}

/// Kills the sender at each point, does something to the file, and sees that it goes to nobody and is told of.
fn meddled_with(code: &str, meddle: fn(&Path)) {
    let mut bench = Bench::new(&Setup { arguments: vec!["--stuck-after", "1s"], ..Setup::default() });
    for (seed, point) in (0..).zip(POINTS) {
        let name = format!("{}.bin", point.replace(':', "-"));
        bench.drop_file(&name, &noise(seed, 600_000));
        bench.sender.is_killed_at(point);
        meddle(&claimed(&bench));
        bench.sender.start();
        let failed = bench.sender.outbox().join("failed").join(&name);
        let explained =
            || bench.errors().iter().any(|(path, error)| *path == failed && error["code"] == code);
        bench.wait_until("it is explained", explained);
        bench.wait_until("it is told", || bench.sender.said().contains(code));
        assert_eq!(failed.exists(), code == "file_replaced", "after {point}");
        bench.wait_until("nothing is left of it", || {
            files_below(&bench.sender.outbox().join(".formidlingd/sending")).is_empty()
        });
        // It keeps nothing from others.
        bench.dropped.pop();
        assert_eq!(bench.sender.stop(), Some(0), "after {point}");
    }
    assert!(bench.look("transfers").iter().all(|transfer| transfer["published"] == 0));
    std::fs::remove_dir_all(bench.sender.outbox().join("failed")).unwrap();
    bench.start();
    bench.drop_file("good.bin", &noise(99, 1000));
    bench.assert_promises();
}

#[test]
fn a_claimed_file_that_is_removed_goes_to_nobody_and_is_told_of() {
    meddled_with("file_vanished", |path| std::fs::remove_file(path).unwrap());
}

#[test]
fn a_claimed_file_that_is_replaced_goes_to_nobody_and_is_told_of() {
    meddled_with("file_replaced", |path| {
        let other = path.with_file_name("cleaned");
        std::fs::write(&other, "nothing harmful is left").unwrap();
        std::fs::rename(other, path).unwrap();
    });
}
