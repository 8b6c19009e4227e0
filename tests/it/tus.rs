//! Large files, which are sent resumably: they go on where they broke off, and are published once.

use serde_json::{Value, json};

use crate::support::{Bench, Content, OUTBOX, Setup, ask, files_below, noise};

/// Bytes of a chunk here.
const CHUNK: usize = 64 * 1024;
/// A file of several chunks, the last one short.
const SIZE: usize = 6 * CHUNK + 17;

/// A sandbox where what is cut is stored (`wedge` 0) or never stored (1), and two ends that are not started.
fn bench(wedge: &'static str) -> Bench {
    let arguments = vec!["--tus-wedge", wedge, "--stuck-after", "4s"];
    let mut bench = Bench::new(&Setup { arguments, ..Setup::default() });
    bench.sender.set(OUTBOX, "chunk_size", format!("\"{CHUNK}B\""));
    bench.recipient.start();
    bench
}

fn faults(bench: &Bench, rules: &Value) {
    let answer = ask(&bench.url, "PUT", "/_sandbox/faults", &[], rules.to_string().as_bytes());
    assert_eq!(answer.map(|answer| answer.status).ok(), Some(200));
}

/// The requests of an operation, whatever came of them.
fn all(bench: &Bench, operation: &str) -> Vec<Value> {
    bench.look("ledger").into_iter().filter(|entry| entry["operation"] == operation).collect()
}

/// The bytes that Altinn has taken in chunks.
fn received(bench: &Bench) -> u64 {
    all(bench, "tus-patch").iter().map(|entry| entry["received"].as_u64().unwrap()).sum()
}

#[test]
fn files_of_more_than_a_chunk_are_sent_resumably_and_others_as_a_stream() {
    let mut bench = bench("1");
    for (seed, size) in (0..).zip([0, 1, CHUNK - 1, CHUNK, CHUNK + 1, SIZE]) {
        bench.drop_file(&format!("{size}.bin"), &noise(seed, size));
    }
    bench.sender.start();
    bench.assert_promises();
    assert_eq!(bench.requests("upload", 200).len(), 4);
    assert_eq!(bench.requests("tus-create", 201).len(), 2);
    assert_eq!(received(&bench), (CHUNK + 1 + SIZE) as u64);
    assert_eq!(bench.requests("tus-patch", 204).len(), 2 + 7);
}

#[test]
fn an_upload_that_is_killed_between_two_chunks_goes_on_without_sending_a_byte_again() {
    let mut bench = bench("1");
    bench.drop_file("a.bin", &noise(1, SIZE));
    bench.sender.is_killed_at("upload:chunk_answered:3");
    bench.sender.start();
    bench.assert_promises();
    assert_eq!(received(&bench), SIZE as u64);
    assert_eq!(bench.look("transfers").len(), 1);
    assert_eq!(bench.requests("tus-create", 201).len(), 1, "never begun again");
}

#[test]
fn an_upload_that_is_killed_in_the_middle_of_a_chunk_sends_no_more_than_that_chunk_again() {
    // More than the connection holds by itself, or all of it would have left when the process dies.
    const LARGE: usize = 12 * 1024 * 1024;
    let size = 2 * LARGE + 17;
    let mut bench = bench("0");
    bench.sender.set(OUTBOX, "chunk_size", format!("\"{LARGE}B\""));
    let stall = json!({ "operation": "tus-patch", "effect": "request-stall", "at": 1000, "duration": "1s", "nth": 2 });
    faults(&bench, &json!([stall]));
    bench.drop_file("a.bin", &noise(1, size));
    bench.sender.start();
    bench.wait_until("the second chunk stands still", || has_struck(&bench));
    bench.sender.kill();
    bench.sender.start();
    bench.assert_promises();
    assert!(all(&bench, "tus-patch").iter().any(|entry| entry["status"] != 204), "no chunk was cut");
    let again = received(&bench).saturating_sub(size as u64);
    assert!(again <= LARGE as u64, "{again} bytes were sent again");
    assert_eq!(bench.look("transfers").len(), 1);
    assert_eq!(bench.requests("tus-create", 201).len(), 1);
}

/// Whether a rule has struck.
fn has_struck(bench: &Bench) -> bool {
    let answer = ask(&bench.url, "GET", "/_sandbox/faults", &[], b"").unwrap();
    let rules: Vec<Value> = serde_json::from_slice(&answer.body).unwrap();
    rules.iter().any(|rule| rule["struck"].as_u64() > Some(0))
}

/// A chunk that is cut is stored as far as it came, or accepted and never stored. Either way the file is published once.
fn chunks_are_cut(wedge: &'static str, parts: u64) -> Bench {
    let mut bench = bench(wedge);
    bench.sender.set(OUTBOX, "parallel_parts", parts).set(OUTBOX, "max_concurrent", 2);
    let cut = json!({ "operation": "tus-patch", "effect": "request-cut", "at": 50_000, "from": 3, "every": 9, "times": 4 });
    faults(&bench, &json!([cut]));
    for (seed, name) in (0..).zip(["a.bin", "b.bin", "c.bin"]) {
        bench.drop_file(name, &noise(seed, SIZE));
    }
    bench.sender.start();
    bench.assert_promises();
    assert!(has_struck(&bench));
    bench
}

#[test]
fn chunks_that_are_cut_and_stored_are_gone_on_with() {
    let bench = chunks_are_cut("0", 1);
    assert_eq!(bench.look("transfers").len(), 3, "none was given up");
    let again = received(&bench) - 3 * SIZE as u64;
    assert!(again <= 4 * CHUNK as u64, "{again} bytes were sent again");
}

#[test]
fn uploads_that_are_wedged_are_given_up_and_sent_in_new_transfers() {
    let bench = chunks_are_cut("1", 1);
    let log = bench.sender.log();
    assert!(log.contains("wedged=true") && log.contains("resent_bytes="), "{log}");
    assert!(bench.look("transfers").len() > 3);
    // Never into a session that was begun.
    let created = bench.requests("tus-create", 201);
    let mut transfers: Vec<String> = created.iter().map(|entry| entry["transfer"].to_string()).collect();
    transfers.sort();
    transfers.dedup();
    assert_eq!(transfers.len(), created.len());
}

#[test]
fn some_chunks_that_are_cut_are_stored_and_some_are_not() {
    chunks_are_cut("0.5", 1);
}

#[test]
fn parts_that_are_cut_are_gone_on_with_or_sent_in_new_transfers() {
    chunks_are_cut("0.5", 3);
}

#[test]
fn parts_are_begun_in_the_order_of_the_file_and_all_are_joined() {
    let mut bench = bench("1");
    bench.sender.set(OUTBOX, "parallel_parts", 3);
    bench.drop_file("a.bin", &noise(1, SIZE));
    bench.sender.start();
    bench.assert_promises();
    // Three parts and the joining; nothing twice.
    assert_eq!(bench.requests("tus-create", 201).len(), 4);
    assert_eq!(received(&bench), SIZE as u64);
}

#[test]
fn an_upload_is_begun_when_it_is_its_turn() {
    let mut bench = bench("1");
    bench.sender.set(OUTBOX, "max_concurrent", 1);
    faults(
        &bench,
        &json!([{ "operation": "tus-patch", "effect": "request-slow", "bytes_per_second": 200_000 }]),
    );
    bench.drop_file("a.bin", &noise(1, SIZE));
    bench.drop_file("b.bin", &noise(2, SIZE));
    bench.sender.start();
    bench.assert_promises();
    let ledger = bench.look("ledger");
    let created: Vec<usize> =
        (0..ledger.len()).filter(|place| ledger[*place]["operation"] == "tus-create").collect();
    let [first, second] = created[..] else { panic!("{created:?}") };
    let is_first =
        |entry: &&Value| entry["operation"] == "tus-patch" && entry["transfer"] == ledger[first]["transfer"];
    assert_eq!(ledger[..second].iter().filter(is_first).count(), 7, "the other was begun before its turn");
}

#[test]
fn a_part_whose_making_was_not_remembered_is_made_once_more() {
    let mut bench = bench("1");
    bench.sender.set(OUTBOX, "parallel_parts", 3);
    bench.drop_file("a.bin", &noise(1, SIZE));
    bench.sender.is_killed_at("upload:part_created:2");
    bench.sender.start();
    bench.assert_promises();
    // The first, the second twice, the third, and the joining.
    assert_eq!(bench.requests("tus-create", 201).len(), 5);
    assert_eq!(bench.look("transfers").len(), 1);
}

/// What goes wrong with one file, how many transfers it takes, and how many parts it is sent in.
fn troubles() -> Vec<(&'static str, Value, u64, usize)> {
    let rule = |operation: &str, effect: &str, nth: u64| json!({ "operation": operation, "effect": effect, "nth": nth });
    let quirk =
        |effect: &str, amount: u64, nth: u64| json!({ "effect": effect, "amount": amount, "nth": nth });
    let with = |mut rule: Value, more: Value| {
        rule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        rule
    };
    let lost = |operation, nth| with(rule(operation, "lose", nth), json!({ "when": "after" }));
    let answer = |operation, nth, status: u16| {
        with(rule(operation, "answer", nth), json!({ "status": status, "body": "empty" }))
    };
    vec![
        ("lag", quirk("tus-lag", 2, 2), 1, 1),
        ("locked", json!({ "effect": "tus-locked", "from": 3, "times": 2 }), 1, 1),
        ("expired", json!({ "effect": "tus-expired", "nth": 3 }), 1, 2),
        // The whole file is accepted, and never stored: Altinn fails it by itself.
        ("never-stored", json!({ "effect": "tus-wedge", "nth": 2 }), 1, 2),
        ("last-never-stored", json!({ "effect": "tus-wedge", "nth": 7 }), 1, 2),
        ("create-lost", lost("tus-create", 1), 1, 1),
        ("chunk-lost", lost("tus-patch", 3), 1, 1),
        ("last-chunk-lost", lost("tus-patch", 7), 1, 1),
        ("token", answer("tus-patch", 3, 401), 1, 1),
        ("gateway", answer("tus-patch", 3, 502), 1, 1),
        ("once-500", answer("tus-patch", 3, 500), 1, 1),
        ("too-many", with(answer("tus-patch", 3, 429), json!({ "retry_after": "1s" })), 1, 1),
        ("permuted", json!({ "effect": "tus-permuted", "nth": 1 }), 3, 2),
        ("join-lost", lost("tus-create", 4), 3, 1),
        ("join-gateway", answer("tus-create", 4, 502), 3, 1),
    ]
}

fn trouble_is_overcome(troubles: &[(&'static str, Value, u64, usize)]) {
    let mut bench = bench("1");
    let mut transfers = 0;
    for (seed, (name, rule, parts, more)) in (0..).zip(troubles) {
        bench.sender.set(OUTBOX, "parallel_parts", parts);
        faults(&bench, rule);
        bench.drop_file(&format!("{name}.bin"), &noise(seed, SIZE));
        bench.sender.start();
        bench.settle();
        assert_eq!(bench.sender.stop(), Some(0), "{name}");
        assert!(has_struck(&bench), "{name} did not happen");
        transfers += more;
        assert_eq!(bench.look("transfers").len(), transfers, "{name}");
    }
    bench.assert_promises();
}

#[test]
fn what_goes_wrong_with_a_resumable_upload_is_overcome() {
    let troubles = troubles();
    let (one, other) = troubles.split_at(troubles.len() / 2);
    // Each file waits for what went wrong with it, so that half of them go beside the others.
    std::thread::scope(|scope| {
        scope.spawn(|| trouble_is_overcome(one));
        trouble_is_overcome(other);
    });
}

#[test]
fn a_file_that_is_written_while_it_is_sent_is_sent_anew_as_it_is() {
    for parts in [1, 3] {
        let mut bench = bench("1");
        bench.sender.set(OUTBOX, "parallel_parts", parts);
        bench.drop_file("a.bin", &noise(1, SIZE));
        let content = noise(2, SIZE);
        bench.sender.stop_at("upload:chunk_answered:4");
        let sending = files_below(&bench.sender.outbox().join(".formidlingd/sending"));
        let file = sending.iter().find(|path| path.ends_with("file")).unwrap();
        std::fs::write(file, &content).unwrap();
        bench.dropped.last_mut().unwrap().content = Content::of(&content);
        bench.sender.go_on();
        bench.assert_promises();
        assert_eq!(bench.look("transfers").len(), 2);
        assert!(received(&bench) < 2 * SIZE as u64, "it was noticed before the end");
    }
}

#[test]
fn a_file_that_is_written_while_nobody_sends_it_is_sent_anew_as_it_is() {
    let mut bench = bench("1");
    bench.drop_file("a.bin", &noise(1, SIZE));
    let content = noise(2, SIZE);
    bench.sender.is_killed_at("upload:chunk_answered:4");
    let sending = files_below(&bench.sender.outbox().join(".formidlingd/sending"));
    let file = sending.iter().find(|path| path.ends_with("file")).unwrap();
    let modified = std::fs::metadata(file).unwrap().modified().unwrap();
    std::fs::write(file, &content).unwrap();
    // Even a writer that hides it.
    std::fs::File::options().append(true).open(file).unwrap().set_modified(modified).unwrap();
    bench.dropped.last_mut().unwrap().content = Content::of(&content);
    bench.sender.start();
    bench.assert_promises();
    assert_eq!(bench.look("transfers").len(), 2);
    assert_eq!(received(&bench), (4 * CHUNK + SIZE) as u64, "it was noticed before anything more was sent");
}

#[test]
fn a_service_that_is_stopped_ends_after_the_chunk_and_goes_on_after_it() {
    let mut bench = bench("1");
    let slow = json!({ "operation": "tus-patch", "effect": "request-slow", "bytes_per_second": 65_536 });
    faults(&bench, &json!([slow]));
    bench.drop_file("a.bin", &noise(1, SIZE));
    bench.sender.start();
    bench.wait_until("a chunk is there", || !bench.requests("tus-patch", 204).is_empty());
    assert_eq!(bench.sender.stop(), Some(0));
    assert!(bench.requests("tus-patch", 204).len() < 6, "it waited for the end");
    faults(&bench, &json!([]));
    bench.sender.start();
    bench.assert_promises();
    assert_eq!(received(&bench), SIZE as u64);
    assert_eq!(bench.look("transfers").len(), 1);
}

#[test]
fn what_was_begun_in_one_way_goes_on_in_that_way() {
    let mut bench = bench("1");
    bench.drop_file("a.bin", &noise(1, SIZE));
    bench.sender.is_killed_at("upload:chunk_answered:2");
    bench.sender.set(OUTBOX, "upload", "\"stream\"").set(OUTBOX, "chunk_size", "\"1MiB\"");
    bench.sender.start();
    bench.assert_promises();
    assert_eq!(all(&bench, "upload").len(), 0);
    assert_eq!(received(&bench), SIZE as u64);
    assert_eq!(bench.requests("tus-patch", 204).len(), 7, "in chunks of the same size");
}
