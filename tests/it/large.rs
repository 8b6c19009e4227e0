//! Files of many gibibytes, on demand: what formidlingd needs of memory does not grow with them.
//!
//! `FORMIDLINGD_LARGE_GIB=4 cargo test --test it large -- --nocapture` sends a file of so many gibibytes, by a
//! resumable upload, to a recipient; with `FORMIDLINGD_LARGE=upload` it is only sent. The file has no blocks on disk,
//! and the sandbox keeps its hash and no content, so that only the recipient needs room.

use std::fs::File;
use std::time::{Duration, Instant};

use crate::support::{Bench, Child, Content, Fate, OUTBOX, PROGRAM, Setup};

const MIB: u64 = 1024 * 1024;
/// The most that either end may have of memory.
const CAP: u64 = 64 * MIB;

#[test]
fn a_large_file_needs_no_more_memory_than_a_small_one() {
    let size = std::env::var("FORMIDLINGD_LARGE_GIB").ok().and_then(|size| size.parse::<u64>().ok());
    let Some(size) = size.map(|gib| gib * 1024 * MIB) else {
        eprintln!("not run: set FORMIDLINGD_LARGE_GIB=4");
        return;
    };
    let is_fetched = std::env::var("FORMIDLINGD_LARGE").as_deref() != Ok("upload");
    let arguments = vec!["--discard=hash", "--tus-wedge", "0"];
    let mut bench = Bench::new(&Setup { arguments, ..Setup::default() });
    for party in [&mut bench.sender, &mut bench.recipient] {
        // Beside the peak that is asserted below: what is claimed and not touched counts here, too.
        let limited = ["prlimit".to_owned(), format!("--data={}", 8 * CAP), PROGRAM.to_owned()];
        party.launcher = limited.to_vec();
    }
    bench.sender.set(OUTBOX, "disable_virus_scan", true).set(OUTBOX, "upload", "\"tus\"");
    let draft = bench.dir.path().join("large");
    File::create(&draft).unwrap().set_len(size).unwrap();
    let content = Content::of_file(&draft).unwrap();
    let path = bench.sender.outbox().join("large.bin");
    let begun = Instant::now();
    std::fs::rename(&draft, &path).unwrap();
    if is_fetched {
        bench.promise(&path, content);
        bench.start();
    } else {
        bench.promise(&path, content).fate = Fate::Published;
        bench.sender.start();
    }
    bench.wait_within(Duration::from_hours(2));
    let took = begun.elapsed();
    for party in [&bench.sender, &bench.recipient] {
        let Some(peak) = party.child.as_ref().and_then(Child::peak_memory) else { continue };
        let (mib, speed) = (peak / MIB, size / MIB / took.as_secs().max(1));
        eprintln!("{}: {} GiB, {speed} MiB/s, peak memory {mib} MiB", party.name, size / MIB / 1024);
        assert!(peak <= CAP, "the {} had {mib} MiB of memory", party.name);
    }
    bench.assert_promises();
}
