//! Programs that write into a drop folder in the many ways in which programs write. No half of a file is ever taken,
//! and each is sent at last as it is when its writer is done.

use std::fs::{File, FileTimes, OpenOptions};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use crate::support::{Bench, Content, OUTBOX, Setup, noise};

/// How long a file has to be still. Writers take longer in all, and pause for a small part of it, so that a busy
/// machine does not make a pause look like an end.
const SETTLE: &str = "\"1s\"";
const PAUSE: Duration = Duration::from_millis(100);
const PIECES: usize = 20;
const PIECE: usize = 10_000;

fn bench(settle: &str) -> Bench {
    let mut bench = Bench::new(&Setup::default());
    bench.sender.set(OUTBOX, "settle", settle).set(OUTBOX, "settle_empty", settle);
    bench.start();
    bench.wait_until("the folder is watched", || bench.sender.log().contains("watching"));
    bench
}

/// The pieces of a file, and all of it.
fn pieces(seed: u64) -> (Vec<Vec<u8>>, Vec<u8>) {
    let pieces: Vec<Vec<u8>> = (0..PIECES).map(|piece| noise(seed + piece as u64, PIECE)).collect();
    let whole = pieces.concat();
    (pieces, whole)
}

/// Writes a file piece by piece, with a pause after each. The rhythm is what the test puts in: nothing is waited for,
/// and on a slower machine the pauses are still a small part of the time a file has to be still.
fn write_slowly(path: &Path, pieces: &[Vec<u8>], mut write: impl FnMut(usize, &[u8])) {
    for (number, piece) in pieces.iter().enumerate() {
        assert!(path.exists() || number == 0, "taken in the middle");
        write(number, piece);
        std::thread::sleep(PAUSE);
    }
}

/// Waits until files that were dropped later have been sent: a file that could have been taken would be gone.
fn others_are_sent(bench: &mut Bench, name: &str) {
    for number in 0..2 {
        bench.drop_file(&format!("{number}-after-{name}"), &noise(number, 100));
        bench.settle();
    }
}

/// Somebody writes a file and stops in the middle, with the file open; nobody takes it meanwhile.
fn stalls_in_the_middle(bench: &mut Bench, path: &Path, file: File, write_rest: impl FnOnce(File)) {
    let name = path.file_name().unwrap().to_str().unwrap().to_owned();
    let before = Content::of_file(path).unwrap();
    others_are_sent(bench, &name);
    assert_eq!(Content::of_file(path), Some(before), "{name} was taken while it was open");
    write_rest(file);
    let content = Content::of_file(path).unwrap();
    bench.promise(path, content);
    bench.assert_promises();
}

fn dropped(bench: &Bench, name: &str) -> PathBuf {
    bench.sender.outbox().join(name)
}

#[test]
fn a_writer_that_opens_and_closes_its_file_again_and_again_is_waited_for() {
    let mut bench = bench(SETTLE);
    let (pieces, whole) = pieces(1);
    let path = dropped(&bench, "a.bin");
    write_slowly(&path, &pieces, |_, piece| {
        OpenOptions::new().create(true).append(true).open(&path).unwrap().write_all(piece).unwrap();
    });
    bench.promise(&path, Content::of(&whole));
    bench.assert_promises();
}

#[test]
fn a_copy_that_keeps_its_size_and_its_old_time_is_waited_for() {
    let mut bench = bench(SETTLE);
    let (pieces, whole) = pieces(100);
    let path = dropped(&bench, "a.bin");
    let long_ago = FileTimes::new().set_modified(SystemTime::UNIX_EPOCH + Duration::from_hours(277_000));
    write_slowly(&path, &pieces, |number, piece| {
        // All that shows of the writer, between two pieces, is the time of the last change of attributes.
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).unwrap();
        file.set_len(whole.len() as u64).unwrap();
        file.write_all_at(piece, (number * PIECE) as u64).unwrap();
        file.set_times(long_ago).unwrap();
    });
    bench.promise(&path, Content::of(&whole));
    bench.assert_promises();
}

#[test]
fn a_file_of_full_size_that_is_still_open_is_waited_for() {
    let mut bench = bench("\"200ms\"");
    let path = dropped(&bench, "a.bin");
    let (pieces, whole) = pieces(200);
    let file = File::create(&path).unwrap();
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, whole.len() as u64).unwrap();
    stalls_in_the_middle(&mut bench, &path, file, |mut file| {
        for piece in &pieces {
            file.write_all(piece).unwrap();
        }
    });
}

#[test]
fn a_file_that_is_written_while_it_looks_years_old_is_waited_for() {
    let mut bench = bench("\"200ms\"");
    let path = dropped(&bench, "a.bin");
    let long_ago = FileTimes::new().set_modified(SystemTime::UNIX_EPOCH + Duration::from_hours(277_000));
    let mut file = File::create(&path).unwrap();
    file.write_all(&noise(1, PIECE)).unwrap();
    file.set_times(long_ago).unwrap();
    stalls_in_the_middle(&mut bench, &path, file, |mut file| {
        file.write_all(&noise(2, PIECE)).unwrap();
        file.set_times(long_ago).unwrap();
    });
}

#[test]
fn a_file_that_is_moved_in_while_it_is_open_is_waited_for() {
    for sidecar in ["off", "optional"] {
        let mut bench = Bench::new(&Setup::default());
        // Where no sidecar can follow, a file that is moved in is taken at once.
        bench.sender.set(OUTBOX, "sidecar", format!("\"{sidecar}\""));
        bench.start();
        bench.wait_until("the folder is watched", || bench.sender.log().contains("watching"));
        let (draft, path) = (bench.dir.path().join("written-elsewhere"), dropped(&bench, "a.bin"));
        let mut file = File::create(&draft).unwrap();
        file.write_all(&noise(1, PIECE)).unwrap();
        std::fs::rename(&draft, &path).unwrap();
        stalls_in_the_middle(&mut bench, &path, file, |mut file| file.write_all(&noise(2, PIECE)).unwrap());
    }
}

#[test]
fn a_file_whose_other_name_is_written_is_waited_for() {
    let mut bench = bench("\"200ms\"");
    let (other, path) = (bench.dir.path().join("other-name"), dropped(&bench, "a.bin"));
    let mut file = File::create(&other).unwrap();
    file.write_all(&noise(1, PIECE)).unwrap();
    std::fs::hard_link(&other, &path).unwrap();
    stalls_in_the_middle(&mut bench, &path, file, |mut file| file.write_all(&noise(2, PIECE)).unwrap());
}

#[test]
fn a_file_whose_other_name_is_opened_and_closed_again_and_again_is_waited_for() {
    let mut bench = bench(SETTLE);
    let (other, path) = (bench.dir.path().join("other-name"), dropped(&bench, "a.bin"));
    let (pieces, whole) = pieces(300);
    write_slowly(&path, &pieces, |number, piece| {
        let mut file = OpenOptions::new().create(true).truncate(false).write(true).open(&other).unwrap();
        if number == 0 {
            file.set_len(whole.len() as u64).unwrap();
            std::fs::hard_link(&other, &path).unwrap();
        }
        file.seek(SeekFrom::Start((number * PIECE) as u64)).unwrap();
        file.write_all(piece).unwrap();
    });
    bench.promise(&path, Content::of(&whole));
    bench.assert_promises();
}

/// Writes half of a file by a mapping of it, whose descriptor it has closed, and the rest when it is told to.
const MAPPED_WRITER: &str = "
import mmap, sys
with open(sys.argv[1], 'w+b') as file:
    file.truncate(20000)
    mapping = mmap.mmap(file.fileno(), 20000)
mapping[:10000] = b'a' * 10000
print('half', flush=True)
sys.stdin.readline()
mapping[10000:] = b'b' * 10000
mapping.close()
";

#[test]
fn a_file_that_is_written_by_a_mapping_is_waited_for() {
    let mut bench = bench("\"200ms\"");
    let path = dropped(&bench, "a.bin");
    let mut writer = std::process::Command::new("python3");
    writer.args(["-c", MAPPED_WRITER]).arg(&path).stdin(Stdio::piped()).stdout(Stdio::piped());
    // Writing by a mapping needs unsafe code, or somebody else.
    let Ok(mut writer) = writer.spawn() else {
        eprintln!("not run: there is no python3 to write by a mapping; files/sys.rs tests the look at one");
        return;
    };
    let mut said = String::new();
    BufReader::new(writer.stdout.take().unwrap()).read_line(&mut said).unwrap();
    assert_eq!(said, "half\n");
    // The mapping keeps the file open for writing; ours is a reader.
    let reader = File::open(&path).unwrap();
    stalls_in_the_middle(&mut bench, &path, reader, |_| {
        drop(writer.stdin.take());
        assert!(writer.wait().unwrap().success());
    });
    assert_eq!(
        bench.dropped.last().unwrap().content,
        Content::of(&[vec![b'a'; 10_000], vec![b'b'; 10_000]].concat())
    );
}

/// A claimed file is ours, but who had it open, or has another name of it, can still write it.
fn is_written_after(point: &str, write: impl FnOnce(&File)) {
    let mut bench = Bench::new(&Setup { arguments: vec!["--stuck-after", "3s"], ..Setup::default() });
    bench.recipient.start();
    let other = bench.dir.path().join("other-name");
    let path = dropped(&bench, "a.bin");
    std::fs::write(&other, noise(1, 600_000)).unwrap();
    std::fs::hard_link(&other, &path).unwrap();
    bench.sender.stop_at(point);
    let file = OpenOptions::new().write(true).open(&other).unwrap();
    write(&file);
    drop(file);
    let content = Content::of_file(&other).unwrap();
    bench.promise(&path, content);
    bench.sender.go_on();
    eprintln!("written at {point}");
    bench.assert_promises();
}

/// The points at which a claimed file can be written before its last byte has been sent.
const BEFORE_LAST_BYTE: [&str; 7] = [
    "claim:intended",
    "claim:sidecar_moved",
    "claim:renamed",
    "claim:synced",
    "initialize:intended",
    "initialize:answered",
    "upload:begun",
];

#[test]
fn a_claimed_file_that_grows_is_sent_as_it_is_at_last() {
    for point in BEFORE_LAST_BYTE.into_iter().filter(|point| !point.starts_with("upload:")) {
        is_written_after(point, |file| file.write_all_at(b"more", 600_000).unwrap());
    }
}

#[test]
fn a_claimed_file_that_is_overwritten_is_sent_as_it_is_at_last() {
    for point in BEFORE_LAST_BYTE {
        is_written_after(point, |file| file.write_all_at(&noise(2, 1000), 300_000).unwrap());
    }
}

#[test]
fn a_claimed_file_that_shrinks_is_sent_as_it_is_at_last() {
    for point in BEFORE_LAST_BYTE {
        is_written_after(point, |file| file.set_len(1000).unwrap());
    }
}

#[test]
fn a_claimed_file_that_grows_while_it_is_sent_is_sent_as_it_is_at_last() {
    is_written_after("upload:begun", |file| file.write_all_at(b"more", 600_000).unwrap());
}
