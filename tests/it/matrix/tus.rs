//! The calls of resumable uploads: beginning one, each chunk, looking, finishing, and the parts with their joining.
//!
//! Beside the ways to break any call there are those that lie about offsets. An upload is given up on proof alone
//! ([`is_dead`]); everywhere else it goes on, and at most one chunk is sent again.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::Duration;

use formidlingd::sandbox::{Entry, Role};
use serde_json::{Value, json};

use super::{CHUNK, Call, SIZE, Way, after, all_arrive_once, answer, call, ways};

fn middle_is_lost() -> Value {
    json!({"operation": "tus-patch", "effect": "lose", "when": "before", "nth": 2})
}

fn last_is_not_heard_of() -> Value {
    json!({"operation": "tus-patch", "effect": "lose", "when": "after", "nth": 3})
}

const fn tus(name: &'static str, operation: &'static str, nth: u32, parts: u64) -> Call {
    Call { nth, parts, has_body: false, ..call(name, operation, Role::Sender) }
}

/// Two parts of a file of three chunks have two chunks and one.
const CALLS: [Call; 11] = [
    tus("create", "tus-create", 1, 1),
    tus("first chunk", "tus-patch", 1, 1),
    Call { wedges: true, ..tus("middle chunk", "tus-patch", 2, 1) },
    tus("last chunk", "tus-patch", 3, 1),
    Call { before: &[middle_is_lost], ..tus("look", "tus-head", 1, 1) },
    // An upload that is whole is finished by itself, before anybody asks: here later. The third chunk has met its rule
    // before it comes to this one.
    Call {
        before: &[last_is_not_heard_of],
        finalising: Duration::from_mins(1),
        ..tus("finish", "tus-patch", 3, 1)
    },
    tus("create a part", "tus-create", 2, 2),
    Call { wedges: true, ..tus("chunk of a part", "tus-patch", 1, 2) },
    tus("last chunk of a part", "tus-patch", 3, 2),
    tus("look at a part", "tus-head", 1, 2),
    tus("join", "tus-create", 3, 2),
];

/// What Altinn says of a transfer whose upload is over.
const PAST: &str = "A file transfer has already been, or attempted to be, created. Create a new file transfer resource to try again.";
/// Beyond any offset of the file.
const BEYOND: u64 = 99_999;

/// An answer with headers, and text.
fn told(status: u16, when: &str, text: &str, headers: &[(&str, String)]) -> Value {
    let headers: serde_json::Map<String, Value> =
        headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone().into())).collect();
    let (form, text) = if text.is_empty() { ("body", "empty") } else { ("text", text) };
    json!({"effect": "answer", "status": status, "when": when, form: text, "headers": headers})
}

fn offset(is: impl Display) -> (&'static str, String) {
    ("upload-offset", is.to_string())
}

fn length(is: impl Display) -> (&'static str, String) {
    ("upload-length", is.to_string())
}

/// How a call of a resumable upload is broken.
fn all_ways(call: &Call) -> Vec<Way> {
    let mut all = ways(call);
    all.push(("410", answer(410, "empty")));
    all.push(("409 past its upload", told(409, "before", PAST, &[])));
    all.push(("409 past its upload, after the effect", told(409, "after", PAST, &[])));
    match call.operation {
        "tus-create" if call.name == "join" => all.extend(join_ways()),
        "tus-create" => all.extend(create_ways()),
        "tus-head" => all.extend(look_ways(call)),
        _ => all.extend(chunk_ways(call)),
    }
    all
}

fn create_ways() -> Vec<Way> {
    let elsewhere = ("location", "http://127.0.0.1:9/broker/api/v1/filetransfer/upload/tus/x".to_owned());
    let beside = ("location", "/broker/api/v1/filetransfer/../../../somewhere".to_owned());
    vec![
        ("201 without a place", after(201, "empty")),
        ("201 with a place elsewhere", told(201, "after", "", &[elsewhere])),
        ("201 with a place beside", told(201, "after", "", &[beside])),
        (
            "503 in Altinn's words",
            told(503, "before", "Storage provider is not ready yet. Please try again later.", &[]),
        ),
    ]
}

fn chunk_ways(call: &Call) -> Vec<Way> {
    let differs = |accepted: u64| {
        format!("Offset does not match file. File offset: {accepted}. Request offset: {}", start(call))
    };
    let end = (start(call) + CHUNK as u64).min(SIZE as u64);
    let mut all = vec![
        ("404 in Altinn's words", told(404, "before", "The requested file transfer was not found", &[])),
        ("400 of the storage", told(400, "before", "Buffered TUS upload failed for file id x.", &[])),
        // A gateway that sent the request twice.
        ("409 at its end, after the effect", told(409, "after", &differs(end), &[])),
        ("409 at the beginning", told(409, "before", &differs(0), &[])),
        ("409 beyond the file", told(409, "before", &differs(BEYOND), &[])),
        ("204 without an offset", after(204, "empty")),
        ("204 with a word for an offset", told(204, "after", "", &[offset("many")])),
        ("204 with an offset ahead", told(204, "after", "", &[offset(BEYOND)])),
        ("204 with an offset behind", told(204, "after", "", &[offset(0)])),
    ];
    if call.name != "finish" {
        // The end of a part waits for what is never stored, which takes two hours: once is enough.
        if call.name != "last chunk of a part" {
            all.push(("never stored", json!({"effect": "tus-wedge"})));
        }
        all.push(("stored late", json!({"effect": "tus-lag", "amount": 1})));
        all.push(("locked", json!({"effect": "tus-locked"})));
        all.push(("forgotten", json!({"effect": "tus-expired"})));
    }
    all
}

/// Where the chunk begins in its upload, where that is known.
fn start(call: &Call) -> u64 {
    match call.name {
        "middle chunk" | "last chunk of a part" => CHUNK as u64,
        "last chunk" => 2 * CHUNK as u64,
        "finish" => SIZE as u64,
        _ => 0,
    }
}

fn look_ways(call: &Call) -> Vec<Way> {
    let all = || length(SIZE);
    let twice = |mut rule: Value| {
        (rule["from"], rule["times"]) = (1.into(), 2.into());
        rule
    };
    let mut ways = vec![
        ("404 in Altinn's words", told(404, "before", "The requested file transfer was not found", &[])),
        ("200 without an offset", told(200, "before", "", &[all()])),
        ("200 with a word for an offset", told(200, "before", "", &[offset("many"), all()])),
        ("200 without a length", told(200, "before", "", &[offset(CHUNK)])),
        ("200 of another file", told(200, "before", "", &[offset(77), length(77)])),
        ("200 with an offset beyond the file", told(200, "before", "", &[offset(BEYOND), all()])),
        ("locked", json!({"effect": "tus-locked", "from": 2 * call.parts, "times": 1})),
    ];
    if call.parts == 1 {
        // Two looks have to agree.
        ways.extend([
            ("200 with an offset ahead", told(200, "before", "", &[offset(2 * CHUNK), all()])),
            ("200 with an offset behind", told(200, "before", "", &[offset(0), all()])),
            ("200 with an offset ahead, twice", twice(told(200, "before", "", &[offset(2 * CHUNK), all()]))),
            ("200 with an offset behind, twice", twice(told(200, "before", "", &[offset(0), all()]))),
        ]);
    }
    ways
}

fn join_ways() -> Vec<Way> {
    let text = "Partial upload x is not ready for concatenation. Expected 952 bytes, committed 0.";
    vec![
        ("404 in Altinn's words", told(404, "before", "The requested file transfer was not found", &[])),
        ("400 not stored yet", told(400, "before", text, &[])),
        ("400 not stored yet, after the effect", told(400, "after", text, &[])),
        ("201 without a place", after(201, "empty")),
    ]
}

/// Whether Altinn says something that only an upload that is dead has said of it, or bytes that were accepted are never
/// stored: another transfer is made then, when the first cannot be published any more.
pub(super) fn is_dead(call: &Call, way: &str) -> bool {
    if call.operation == "tus-create" && call.name != "join" {
        return false;
    }
    let is_cut = ["cut in the request", "stall in the request"].contains(&way);
    // The end of a part is waited for for two hours: Altinn has failed the transfer by then.
    let is_late = call.name == "last chunk of a part" && way == "stall";
    let has_said = [
        "404",
        "404 in Altinn's words",
        "409 beyond the file",
        "204 with an offset ahead",
        "204 with an offset behind",
        "200 without a length",
        "200 of another file",
        "200 with an offset beyond the file",
        "200 with an offset ahead, twice",
        "never stored",
        "forgotten",
    ];
    has_said.contains(&way) || is_late || is_cut && call.wedges
}

/// Whether the end of a part is answered only after hours: it waits for what is never stored.
pub(super) fn is_waited_for(call: &Call, way: &str) -> bool {
    call.parts > 1 && way == "never stored"
}

/// What is wrong with what was done with resumable uploads, if anything is.
pub(super) fn problems(entries: &[Entry], call: &Call, way: &str) -> Vec<(bool, String)> {
    let mut uploads: BTreeMap<_, (u64, u64, u64)> = BTreeMap::new();
    for entry in entries {
        let (created, joined, received) = uploads.entry(entry.transfer).or_default();
        *created += u64::from(entry.effect == Some("tus created"));
        *joined += u64::from(entry.effect == Some("tus joined"));
        if entry.operation == "tus-patch" {
            *received += entry.received;
        }
    }
    // One whose beginning was not heard of is begun once more: none of its bytes has been sent.
    let begun = call.parts + u64::from(call.operation == "tus-create" && call.name != "join");
    let most = SIZE + CHUNK;
    uploads
        .into_values()
        .flat_map(|(created, joined, received)| {
            [
                (created > begun, format!("{created} uploads were begun of one transfer")),
                (joined > 1, format!("joined {joined} times")),
                (received > most as u64, format!("{received} bytes were sent of {SIZE} ({way})")),
            ]
        })
        .collect()
}

#[test]
fn whatever_becomes_of_an_answer_a_file_in_chunks_arrives_once() {
    all_arrive_once(&CALLS, all_ways);
}
