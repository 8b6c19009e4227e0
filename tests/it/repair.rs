//! A damaged database is repaired, whatever happens during the repair.

use std::path::PathBuf;

use crate::support::{Bench, Party, Setup, files_below, noise, store_points_of};

/// sled's own snapshot of its log.
fn snapshot(party: &Party) -> PathBuf {
    let is_snapshot = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with("snap.");
    files_below(&party.state().join("sled")).into_iter().find(is_snapshot).expect("a snapshot")
}

fn names_in_state(party: &Party) -> Vec<String> {
    let entries = std::fs::read_dir(party.state()).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_death_at_any_point_of_a_repair_is_repaired_by_the_next_start() {
    let mut bench = Bench::new(&Setup::default());
    bench.recipient.start();
    let points = store_points_of("repair:");
    assert!(points.len() >= 4, "{points:?}");
    for (seed, point) in (0..).zip(&points) {
        bench.drop_file(&format!("{}.bin", point.replace(':', "-")), &noise(seed, 1000));
        bench.sender.start();
        bench.settle();
        assert_eq!(bench.sender.stop(), Some(0), "before {point}");
        // The next start finds a log that has grown, and writes another.
        bench.sender.start();
        assert_eq!(bench.sender.stop(), Some(0), "before {point}");
        std::fs::write(snapshot(&bench.sender), b"no snapshot at all").unwrap();
        bench.sender.is_killed_at(point);
        bench.sender_goes_on(point);
        let names = names_in_state(&bench.sender);
        assert!(!names.iter().any(|name| name.starts_with("repair")), "{point}: {names:?}");
    }
    let kept = names_in_state(&bench.sender).iter().filter(|name| name.starts_with("damaged-")).count();
    assert_eq!(kept, points.len(), "each damaged database is kept, once");
    bench.sender.start();
    bench.wait_for_completion();
    bench.assert_promises();
}
