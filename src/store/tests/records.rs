//! What was written once is read for ever.

use crate::transfer::TransferId;
use crate::transfer::samples::{incoming_states, outgoing_states, resumable_states};

use super::super::record::{self, Record};
use super::*;

/// One record per state, as version 1 wrote them. Lines may be added for states that are new, none is changed.
const VERSION_1: &str = include_str!("../../../tests/store/records-v1.jsonl");

/// What the fixture's lines are, in their order.
fn expected() -> Vec<(String, Record)> {
    let id = |number: u64| TransferId::new(1_795_248_000_000 + number, [5; 16]);
    let out = |(name, progress), never_whole| {
        let abandoned = vec![crate::transfer::samples::broker_id(200)];
        (format!("out: {name}"), Work::Outgoing { claim: claim(42), abandoned, never_whole, progress })
    };
    let outgoing = outgoing_states().into_iter().map(|state| out(state, 0));
    let resumable = resumable_states().into_iter().map(|state| out(state, 1));
    let incoming = incoming_states()
        .into_iter()
        .map(|(name, progress)| (format!("in: {name}"), Work::Incoming { damaged: 1, progress }));
    (0..)
        .zip(outgoing.chain(incoming).chain(resumable))
        .map(|(number, (name, work))| {
            let transfer = Transfer {
                id: id(number),
                route: route("accounts"),
                created: at(0),
                updated: at(1),
                attempts: 2,
                next_attempt: at(60),
                problem: Some(failure()),
                trouble: None,
                work,
            };
            (name, Record { steps: 3, transfer })
        })
        .collect()
}

#[test]
fn records_of_version_1_are_read_as_what_they_were() {
    let expected = expected();
    assert_eq!(VERSION_1.lines().count(), expected.len());
    for (line, (name, record)) in VERSION_1.lines().zip(expected) {
        assert_eq!(record::decode(line.as_bytes()).unwrap(), record, "{name}");
    }
}

#[test]
fn records_are_written_as_they_always_were() {
    for (line, (name, record)) in VERSION_1.lines().zip(expected()) {
        assert_eq!(String::from_utf8(record::encode(&record).unwrap()).unwrap(), line, "{name}");
    }
}

#[test]
fn any_bytes_are_decoded_without_a_panic() {
    for (line, _) in VERSION_1.lines().zip(0..3) {
        for cut in 0..line.len() {
            assert!(record::decode(&line.as_bytes()[..cut]).is_err());
        }
    }
    for (bytes, says) in [
        (&b""[..], "not a record"),
        (b"{}", "not a record"),
        (b"[1]", "not a record"),
        (br#"{"v":0}"#, "never existed"),
        (br#"{"v":99,"anything":[]}"#, "newer formidlingd"),
    ] {
        let error = record::decode(bytes).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}
