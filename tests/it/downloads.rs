//! Downloads that break in every way in which they can: what is durable is not fetched again, what is not what was
//! asked for is not written, and what is not what Altinn has is not delivered.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::{Bench, Content, Fate, INBOX, Setup, files_below, noise};

const MIB: usize = 1024 * 1024;
/// What a death costs of a large download at most, in bytes.
const CHECKPOINT: u64 = 64 * 1024 * 1024;

/// The folder of the one download that is under way.
fn own(bench: &Bench) -> PathBuf {
    let incoming = bench.recipient.inbox().join(".formidlingd/incoming");
    let mut folders = std::fs::read_dir(incoming).unwrap().flatten().map(|folder| folder.path());
    folders.next().expect("a download is under way")
}

fn json_of(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn sent(entries: &[Value]) -> u64 {
    entries.iter().map(|entry| entry["sent"].as_u64().unwrap()).sum()
}

/// Sends a file and waits until it lies at Altinn; the recipient does not run yet.
fn published(bench: &mut Bench, name: &str, bytes: &[u8]) {
    let stranger = bench.stranger();
    stranger.send(name, crate::support::MOTTAKER, bytes);
    bench.promise(&bench.recipient.inbox().join(name), Content::of(bytes)).ours = false;
}

#[test]
fn a_killed_download_goes_on_from_what_is_durable_whatever_a_loss_of_power_left_behind_it() {
    let mut bench = Bench::new(&Setup::default());
    let bytes = noise(1, 90 * MIB);
    let size = bytes.len() as u64;
    published(&mut bench, "large.bin", &bytes);
    drop(bytes);
    bench.recipient.is_killed_at("download:durable");
    let own = own(&bench);
    let durable = json_of(&own.join("durable.json"))["bytes"].as_u64().unwrap();
    assert!((CHECKPOINT..size).contains(&durable), "{durable}");
    // What was not synced is of two kinds: nothing of it may be believed.
    let file = std::fs::OpenOptions::new().write(true).open(own.join("file")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &vec![0; 20 * MIB], durable).unwrap();
    drop(file);
    bench.recipient.start();
    bench.assert_promises();
    let resumed = bench.requests("download", 206);
    assert_eq!((resumed.len(), sent(&resumed)), (1, size - durable), "what was durable was fetched again");
    assert!(!bench.recipient.log().contains("download_damaged"), "what was not durable was believed");
}

#[test]
fn a_download_that_is_killed_again_and_again_loses_no_more_than_was_not_durable() {
    let mut bench = Bench::new(&Setup::default());
    let bytes = noise(2, 140 * MIB);
    let size = bytes.len() as u64;
    published(&mut bench, "large.bin", &bytes);
    drop(bytes);
    // The second is reached only by a download that has gone on from the first.
    for point in ["download:synced", "download:durable", "download:durable", "verify:synced"] {
        bench.recipient.is_killed_at(point);
    }
    bench.recipient.start();
    bench.assert_promises();
    let all = [bench.requests("download", 200), bench.requests("download", 206)].concat();
    let lost = sent(&all).saturating_sub(size);
    // A kill leaves what the system's buffers hold, too.
    assert!(lost <= 4 * (CHECKPOINT + 16 * MIB as u64), "{lost} bytes were fetched again");
    assert_eq!(
        bench.requests("download", 200).len(),
        2,
        "from the beginning only before anything was durable"
    );
}

/// Answers to the request for the rest of a file that are not its rest, and to that for a file that are not it.
fn wrong_answers(size: usize) -> Vec<Value> {
    let part = |range: String| json!({ "status": 206, "text": "xyz", "headers": { "Content-Range": range } });
    vec![
        part(format!("bytes 0-2/{size}")),
        part(format!("bytes {}-{}/{}", 3 * MIB, 3 * MIB + 2, size + 1)),
        part("bytes */*".to_owned()),
        json!({ "status": 206, "text": "xyz" }),
        json!({ "status": 200, "text": "<html>Log in to the network</html>" }),
        json!({ "status": 200, "body": "empty" }),
        json!({ "status": 204, "body": "empty" }),
    ]
}

#[test]
fn an_answer_that_is_not_the_one_that_was_asked_for_is_not_written_to_the_file() {
    let mut bench = Bench::new(&Setup::default());
    let bytes = noise(3, 4 * MIB);
    let mut rules = Vec::new();
    // The first request is cut; the next, for the rest, gets each of these in its turn.
    rules.push(json!({ "operation": "download", "effect": "response-cut", "at": 3 * MIB, "close": "clean", "nth": 1 }));
    for (nth, answer) in (2..).zip(wrong_answers(bytes.len())) {
        let mut rule = answer;
        rule["operation"] = json!("download");
        rule["effect"] = json!("answer");
        rule["nth"] = json!(nth);
        rules.push(rule);
    }
    bench.set_faults(&json!(rules));
    published(&mut bench, "a.bin", &bytes);
    bench.recipient.start();
    bench.assert_promises();
    assert!(!bench.recipient.log().contains("download_damaged"), "{}", bench.recipient.log());
    let whole = bench.requests("download", 200);
    let wholes = whole.iter().filter(|entry| entry["faults"].as_array().is_none_or(Vec::is_empty)).count();
    assert_eq!(wholes, 0, "the file was fetched from its beginning: {whole:?}");
}

#[test]
fn the_whole_file_in_place_of_its_rest_is_refused_before_what_is_there_is_thrown_away() {
    for (times, wholes) in [(1, 2), (100, 4)] {
        let mut bench = Bench::new(&Setup::default());
        let bytes = noise(4, 4 * MIB);
        bench.set_faults(&json!([
            { "operation": "download", "effect": "response-cut", "at": 3 * MIB, "close": "clean", "nth": 1 },
            { "effect": "range-ignored", "times": times },
        ]));
        published(&mut bench, "a.bin", &bytes);
        bench.recipient.start();
        bench.assert_promises();
        assert_eq!(bench.requests("download", 200).len(), wholes, "{times}");
        assert_eq!(bench.requests("download", 206).len(), usize::from(times == 1), "{times}");
        assert_eq!(bench.recipient.log().contains("fetched from its beginning"), times > 1);
    }
}

#[test]
fn bodies_that_are_longer_or_shorter_than_announced_do_no_harm() {
    let mut bench = Bench::new(&Setup::default());
    let bytes = noise(5, 2 * MIB);
    let long = format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{}", "x".repeat(3 * MIB));
    bench.set_faults(&json!([
        { "operation": "download", "effect": "response-length", "length": 100, "nth": 1 },
        { "operation": "download", "effect": "response-length", "length": 3 * MIB, "nth": 2 },
        { "operation": "download", "effect": "response-truncate", "at": 1000, "nth": 3 },
        { "operation": "download", "effect": "response-truncate", "at": MIB, "nth": 4 },
        // Of which one cannot tell that it is too long before it is.
        { "operation": "download", "effect": "raw", "text": long, "nth": 6 },
    ]));
    published(&mut bench, "a.bin", &bytes);
    published(&mut bench, "b.bin", &noise(6, 2 * MIB));
    bench.recipient.start();
    bench.assert_promises();
}

#[test]
fn what_is_damaged_once_is_fetched_once_more_and_delivered() {
    for fault in [
        json!([{ "effect": "wrong-byte", "amount": 1000, "nth": 1 }]),
        json!([{ "operation": "download", "effect": "response-corrupt", "at": 0, "nth": 1 }]),
    ] {
        let mut bench = Bench::new(&Setup::default());
        bench.set_faults(&fault);
        published(&mut bench, "a.bin", &noise(7, 100_000));
        bench.recipient.start();
        bench.assert_promises();
        assert_eq!(bench.requests("download", 200).len(), 2);
        assert!(files_below(&bench.recipient.inbox().join(".formidlingd/rejected")).is_empty());
    }
}

#[test]
fn what_is_damaged_twice_is_kept_as_evidence_and_not_confirmed() {
    for point in [None, Some("damage:removed"), Some("damage:evidence")] {
        let mut bench = Bench::new(&Setup::default());
        let bytes = noise(8, 100_000);
        bench.set_faults(&json!([{ "effect": "wrong-byte", "amount": 1000 }]));
        published(&mut bench, "a.bin", &bytes);
        bench.dropped[0].fate = Fate::Published;
        if let Some(point) = point {
            bench.recipient.is_killed_at(point);
        }
        bench.recipient.start();
        let rejected = bench.recipient.inbox().join(".formidlingd/rejected");
        let kept = |bench: &Bench| {
            let log = bench.recipient.said();
            log.lines().any(|line| line.contains("ERROR") && line.contains("checksum_mismatch"))
        };
        bench.wait_until("it is told that it is given up", || kept(&bench));
        bench.wait_until("it is kept", || files_below(&rejected).len() >= 2);
        let files = files_below(&rejected);
        let path = files.iter().find(|path| path.ends_with("evidence.json")).unwrap();
        let (evidence, found) = (json_of(path), Content::of_file(&path.with_file_name("file")).unwrap());
        let expected = Content::of(&bytes);
        assert_eq!(evidence["expected"]["checksum"], expected.md5.as_str(), "{evidence}");
        assert_eq!(evidence["found"]["checksum"], found.md5.as_str(), "{evidence}");
        assert_eq!(evidence["found"]["fileTransferSize"], 100_000, "{evidence}");
        assert_eq!(evidence["fileName"], "a.bin", "{evidence}");
        assert_ne!(found, expected);
        // It is not fetched again and again; but a death costs a download.
        let downloads = bench.requests("download", 200).len();
        assert!(downloads <= 2 + usize::from(point.is_some()), "{downloads}");
        assert_eq!(bench.recipient.stop(), Some(0));
        bench.recipient.start();
        let searches = bench.requests("search", 200).len();
        bench.wait_until("the inbox was polled", || bench.requests("search", 200).len() > searches + 4);
        assert_eq!(bench.requests("download", 200).len(), downloads, "after {point:?}");
        bench.assert_promises();
    }
}

#[test]
fn a_death_while_what_is_there_is_thrown_away_leaves_nothing_of_it() {
    let mut bench = Bench::new(&Setup::default());
    bench.set_faults(&json!([
        { "operation": "download", "effect": "response-cut", "at": 3 * MIB, "close": "clean", "nth": 1 },
        { "effect": "range-ignored" },
    ]));
    published(&mut bench, "a.bin", &noise(10, 4 * MIB));
    bench.recipient.is_killed_at("restart:forgotten");
    assert!(!own(&bench).join("durable.json").exists());
    bench.recipient.start();
    bench.assert_promises();
    assert!(!bench.recipient.log().contains("download_damaged"));
}

/// How much is free by what a test says, in a file that `FORMIDLINGD_FREE_SPACE` is to name.
pub(crate) fn set_free(bench: &Bench, bytes: u64) -> String {
    let (draft, path) = (bench.dir.path().join("free-draft"), bench.dir.path().join("free"));
    std::fs::write(&draft, bytes.to_string()).unwrap();
    std::fs::rename(draft, &path).unwrap();
    path.into_os_string().into_string().unwrap()
}

#[test]
fn a_download_stops_where_others_fill_the_disk_and_goes_on_when_there_is_room() {
    let mut bench = Bench::new(&Setup::default());
    bench.recipient.set(INBOX, "min_free_space", "\"1MiB\"");
    let bytes = noise(9, 40 * MIB);
    published(&mut bench, "large.bin", &bytes);
    bench.set_faults(&json!([
        { "operation": "download", "effect": "response-slow", "bytes_per_second": 20 * MIB, "nth": 1 },
    ]));
    let free = set_free(&bench, 1 << 40);
    bench.recipient.start_with(&[("FORMIDLINGD_FREE_SPACE", &free)]);
    let incoming = bench.recipient.inbox().join(".formidlingd/incoming");
    let has_come = |bytes: u64| {
        files_below(&incoming).iter().any(|path| path.metadata().is_ok_and(|file| file.len() >= bytes))
    };
    bench.wait_until("some of it has come", || has_come(2 * MIB as u64));
    set_free(&bench, 1000);
    let said = |bench: &Bench| bench.recipient.log().matches("not_enough_room").count();
    bench.wait_until("the download has stopped", || said(&bench) >= 3);
    assert_eq!(bench.requests("download", 206).len(), 0);
    assert_eq!(bench.confirmations(), 0);
    // The room that was reserved for it is free for others meanwhile.
    let file = files_below(&incoming).into_iter().find(|path| path.ends_with("file")).unwrap();
    let metadata = file.metadata().unwrap();
    assert!(metadata.len() < bytes.len() as u64, "all of it had come before the disk was full");
    let taken = std::os::unix::fs::MetadataExt::blocks(&metadata) * 512;
    assert!(taken < metadata.len() + MIB as u64, "{taken} bytes are taken for {}", metadata.len());
    set_free(&bench, 1 << 40);
    bench.assert_promises();
    let resumed = bench.requests("download", 206);
    assert_eq!((resumed.len(), sent(&resumed)), (1, bytes.len() as u64 - metadata.len()));
}

#[test]
fn what_has_come_when_the_disk_is_full_is_not_fetched_again() {
    const SIZE: usize = 24 * MIB;
    // The write of a block fails, and then also that of the document which says how much is durable.
    for (failing, spared) in [("write:1:1:28", 0), ("write:1:2:28", 256 * 1024)] {
        let mut bench = Bench::new(&Setup::default());
        published(&mut bench, "large.bin", &noise(11, SIZE));
        bench.set_faults(&json!([
            { "operation": "download", "effect": "response-slow", "bytes_per_second": 16 * MIB, "nth": 1 },
        ]));
        let plan = bench.dir.path().join("fail");
        bench.recipient.start_with(&[("FORMIDLINGD_FAIL_AT", &format!("@{}", plan.display()))]);
        let has_come = |bench: &Bench| {
            let incoming = bench.recipient.inbox().join(".formidlingd/incoming");
            let lengths = files_below(&incoming).into_iter().filter_map(|path| path.metadata().ok());
            lengths.map(|file| file.len()).max().unwrap_or_default()
        };
        bench.wait_until("some of it has come", || has_come(&bench) >= 2 * MIB as u64);
        let come = has_come(&bench);
        std::fs::write(&plan, failing).unwrap();
        bench.assert_promises();
        let log = bench.recipient.log();
        assert!(log.contains("code=disk_full") && !log.contains("download_damaged"), "{failing}: {log}");
        let resumed = bench.requests("download", 206);
        assert_eq!((bench.requests("download", 200).len(), resumed.len()), (1, 1), "{failing}");
        assert!(sent(&resumed) <= SIZE as u64 - come + spared, "{failing}: {} of {come}", sent(&resumed));
    }
}

#[test]
fn what_a_sync_that_failed_was_to_make_durable_is_fetched_again() {
    let mut bench = Bench::new(&Setup::default());
    published(&mut bench, "large.bin", &noise(12, 8 * MIB));
    bench.set_faults(&json!([
        { "operation": "download", "effect": "response-slow", "bytes_per_second": 8 * MIB, "nth": 1 },
        { "operation": "download", "effect": "response-cut", "at": 6 * MIB, "close": "clean", "nth": 1 },
    ]));
    let plan = bench.dir.path().join("fail");
    bench.recipient.start_with(&[("FORMIDLINGD_FAIL_AT", &format!("@{}", plan.display()))]);
    let incoming = bench.recipient.inbox().join(".formidlingd/incoming");
    bench.wait_until("some of it has come", || {
        files_below(&incoming).iter().any(|path| path.metadata().is_ok_and(|file| file.len() > MIB as u64))
    });
    // The kernel tells of it once: the next sync would succeed without those bytes.
    std::fs::write(&plan, "sync:1:1:28").unwrap();
    bench.assert_promises();
    assert!(bench.recipient.log().contains("code=disk_full"), "{}", bench.recipient.log());
    assert_eq!(bench.requests("download", 206).len(), 0, "what may be gone was taken for durable");
}

#[test]
fn a_file_that_is_there_whole_needs_no_more_room() {
    let mut bench = Bench::new(&Setup::default());
    bench.recipient.set(INBOX, "min_free_space", "\"1MiB\"");
    // Its room is looked at after so many bytes.
    published(&mut bench, "large.bin", &noise(13, 8 * MIB));
    bench.set_faults(&json!([
        { "operation": "download", "effect": "response-slow", "bytes_per_second": 8 * MIB, "nth": 1 },
    ]));
    let free = set_free(&bench, 1 << 40);
    bench.recipient.start_with(&[("FORMIDLINGD_FREE_SPACE", &free)]);
    let incoming = bench.recipient.inbox().join(".formidlingd/incoming");
    bench.wait_until("some of it has come", || {
        files_below(&incoming).iter().any(|path| path.metadata().is_ok_and(|file| file.len() > MIB as u64))
    });
    set_free(&bench, 1000);
    bench.assert_promises();
    assert!(!bench.recipient.log().contains("not_enough_room"), "{}", bench.recipient.log());
}
