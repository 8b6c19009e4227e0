//! Whoever reads an inbox while files arrive.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::Value;

use crate::support::{Bench, Content, INBOX, MOTTAKER, Setup, noise};

/// Sizes of files: nothing, one block and less, several blocks.
const SIZES: [usize; 6] = [0, 1, 1000, 100_000, 400_000, 1_500_000];
const FILES: u64 = 60;

/// Everything that is seen below `folder` now is whole, and its metadata is there.
fn look(folder: &Path, sent: &BTreeMap<String, Content>, seen: &mut BTreeSet<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy();
        // The service's own, and hidden.
        if name.starts_with(".formidlingd") || seen.contains(&path) {
            continue;
        }
        if path.is_dir() {
            look(&path, sent, seen);
            continue;
        }
        let text = path.to_str().unwrap();
        let metadata =
            if text.ends_with(".meta.json") { text.to_owned() } else { format!("{text}.meta.json") };
        let metadata = std::fs::read(&metadata).unwrap_or_else(|error| panic!("{metadata}: {error}"));
        let metadata: Value = serde_json::from_slice(&metadata)
            .unwrap_or_else(|error| panic!("metadata of {text} is half there: {error}"));
        if !text.ends_with(".meta.json") {
            let content = Content::of_file(&path).unwrap();
            assert_eq!(content, sent[metadata["fileName"].as_str().unwrap()], "{text} is half there");
            assert_eq!(metadata["checksum"], content.md5.as_str());
        }
        seen.insert(path);
    }
}

#[test]
fn a_reader_sees_whole_files_with_their_metadata_and_nothing_else() {
    for layout in ["flat", "by_sender", "by_transfer"] {
        let mut bench = Bench::new(&Setup::default());
        bench.recipient.set(INBOX, "layout", format!("\"{layout}\"")).set(INBOX, "max_concurrent", 4);
        let stranger = bench.stranger();
        let mut sent = BTreeMap::new();
        for (seed, size) in (0..FILES).zip(SIZES.into_iter().cycle()) {
            let (name, bytes) = (format!("{seed}.bin"), noise(seed, size));
            stranger.send(&name, MOTTAKER, &bytes);
            bench.promise(&bench.recipient.inbox().join(&name), Content::of(&bytes)).ours = false;
            sent.insert(name, Content::of(&bytes));
        }
        let (inbox, is_over, looks) = (bench.recipient.inbox(), AtomicBool::new(false), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut seen = BTreeSet::new();
                while !is_over.load(Ordering::SeqCst) {
                    look(&inbox, &sent, &mut seen);
                    looks.fetch_add(1, Ordering::SeqCst);
                }
                look(&inbox, &sent, &mut seen);
                seen.len()
            });
            let watch = std::panic::AssertUnwindSafe(|| {
                bench.wait_until("the reader looks", || {
                    looks.load(Ordering::SeqCst) > 0 || reader.is_finished()
                });
                bench.recipient.start();
                bench.wait_until("all files are there", || {
                    bench.inbox_files().len() == sent.len() || reader.is_finished()
                });
            });
            let watched = std::panic::catch_unwind(watch);
            is_over.store(true, Ordering::SeqCst);
            let seen = reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            watched.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            assert_eq!(seen, 2 * sent.len(), "files and metadata, {layout}");
        });
        bench.assert_promises();
    }
}
