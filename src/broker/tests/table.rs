//! The table of effects, compared whole with a second one written anew.

use super::super::effect::judge;
use super::super::*;
use crate::transfer::Effect;

fn facts(status: u16, code: Option<u32>) -> Facts {
    Facts { status, code: code.map(Code::of), has_errors: false, is_key_gate: false, tus: None }
}

/// What is said of every code: written anew, not taken from the table that it tests.
const BY_CODE: [(u32, u16, Effect, Trouble); 26] = [
    (1, 404, Effect::Refused, Trouble::Gone),
    (2, 400, Effect::None, Trouble::Route),
    (3, 400, Effect::None, Trouble::NotReady),
    (4, 409, Effect::Unknown, Trouble::AskOverview),
    (5, 403, Effect::None, Trouble::Route),
    (6, 401, Effect::None, Trouble::Rights),
    (7, 403, Effect::None, Trouble::NotReady),
    (8, 500, Effect::Refused, Trouble::Failed),
    (9, 400, Effect::Refused, Trouble::Checksum),
    (10, 400, Effect::Unknown, Trouble::AskOverview),
    (11, 400, Effect::None, Trouble::Protocol),
    (14, 400, Effect::None, Trouble::Protocol),
    (16, 400, Effect::Refused, Trouble::File),
    (19, 400, Effect::None, Trouble::NotDownloaded),
    (20, 400, Effect::Refused, Trouble::File),
    (21, 503, Effect::None, Trouble::Route),
    (23, 400, Effect::None, Trouble::Protocol),
    (24, 400, Effect::None, Trouble::Route),
    (25, 400, Effect::None, Trouble::Route),
    (26, 400, Effect::Refused, Trouble::File),
    (27, 400, Effect::Refused, Trouble::File),
    (28, 400, Effect::None, Trouble::Recipients),
    (29, 416, Effect::Refused, Trouble::Range),
    (30, 503, Effect::None, Trouble::Server),
    (6001, 404, Effect::None, Trouble::Protocol),
    (7002, 409, Effect::None, Trouble::Protocol),
];

#[test]
fn every_code_means_the_same_for_every_call() {
    for (code, status, effect, trouble) in BY_CODE {
        for call in Call::ALL {
            let answer = judge(call, facts(status, Some(code)));
            assert_eq!(answer, Answer { effect, trouble }, "{call} BRO-{code:05}");
        }
    }
    for code in Code::KNOWN {
        assert!(BY_CODE.iter().any(|(number, ..)| *number == code.number()), "{code} is not in the test");
        assert_eq!(Code::of(code.number()), *code);
    }
}

/// What is said of an answer without a code: for calls that only look, and for those that change something.
const BY_STATUS: [(u16, Effect, Effect, Trouble); 24] = [
    (200, Effect::None, Effect::Unknown, Trouble::Protocol),
    (301, Effect::None, Effect::None, Trouble::Route),
    (302, Effect::None, Effect::None, Trouble::Route),
    (400, Effect::None, Effect::None, Trouble::Protocol),
    (401, Effect::None, Effect::None, Trouble::Token),
    (402, Effect::None, Effect::None, Trouble::Protocol),
    (403, Effect::None, Effect::None, Trouble::Rights),
    (404, Effect::None, Effect::None, Trouble::Route),
    (405, Effect::None, Effect::None, Trouble::Protocol),
    (406, Effect::None, Effect::None, Trouble::Protocol),
    (408, Effect::None, Effect::Unknown, Trouble::Server),
    (409, Effect::None, Effect::Unknown, Trouble::AskOverview),
    (410, Effect::None, Effect::None, Trouble::Protocol),
    (415, Effect::None, Effect::None, Trouble::Protocol),
    (416, Effect::Refused, Effect::Refused, Trouble::Range),
    (423, Effect::None, Effect::None, Trouble::Server),
    (425, Effect::None, Effect::None, Trouble::Server),
    (429, Effect::None, Effect::None, Trouble::Server),
    (500, Effect::None, Effect::Unknown, Trouble::Server),
    (501, Effect::None, Effect::Unknown, Trouble::Server),
    (502, Effect::None, Effect::Unknown, Trouble::Platform),
    (503, Effect::None, Effect::Unknown, Trouble::Platform),
    (504, Effect::None, Effect::Unknown, Trouble::Platform),
    (599, Effect::None, Effect::Unknown, Trouble::Server),
];

fn changes(call: Call) -> bool {
    match call {
        Call::Initialize
        | Call::Upload
        | Call::TusCreate
        | Call::TusPatch
        | Call::TusJoin
        | Call::Confirm => true,
        Call::TusHead | Call::Overview | Call::Details | Call::Search | Call::Download | Call::Touch => false,
    }
}

fn carries_a_file(call: Call) -> bool {
    match call {
        Call::Initialize | Call::Upload | Call::TusCreate => true,
        Call::TusHead
        | Call::TusPatch
        | Call::TusJoin
        | Call::Overview
        | Call::Details
        | Call::Search
        | Call::Download
        | Call::Touch
        | Call::Confirm => false,
    }
}

/// Where an answer about a resumable upload means something of its own.
fn of_a_resumable_upload(call: Call, status: u16) -> Option<Answer> {
    let answer = |effect, trouble| Some(Answer { effect, trouble });
    match (call, status) {
        (Call::TusPatch, 400) => answer(Effect::Unknown, Trouble::Server),
        (Call::TusHead | Call::TusPatch | Call::TusJoin, 404) => answer(Effect::None, Trouble::Gone),
        _ => None,
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table, read from top to bottom")]
fn what_refusals_of_resumable_uploads_say_in_words_is_read() {
    let read = |status, text: &str| Problem::of(status, text.as_bytes()).facts();
    let judged = |call, status, text: &str| judge(call, read(status, text));
    let offset = "Offset does not match file. File offset: 16777216. Request offset: 8388608";
    assert_eq!(read(409, offset).tus, Some(TusRefusal::Offset { accepted: 16_777_216 }));
    let cases = [
        (Call::TusPatch, 409, offset, Effect::None, Trouble::Offset),
        (Call::TusHead, 409, "", Effect::None, Trouble::AskOverview),
        (
            Call::TusJoin,
            400,
            "Partial upload 3f is not ready for concatenation. Expected 9 bytes, committed 8.",
            Effect::None,
            Trouble::NotReady,
        ),
        (Call::TusJoin, 400, "Header Upload-Concat is invalid", Effect::None, Trouble::Protocol),
        (Call::TusCreate, 400, "File size exceeds maximum", Effect::Refused, Trouble::File),
        (Call::TusCreate, 413, "", Effect::Refused, Trouble::File),
        (
            Call::TusPatch,
            413,
            "Request contains more data than the file's upload length",
            Effect::None,
            Trouble::Protocol,
        ),
        (Call::TusPatch, 415, "Content-Type x is invalid.", Effect::None, Trouble::Protocol),
        (Call::TusPatch, 412, "", Effect::None, Trouble::Protocol),
        (
            Call::TusPatch,
            423,
            "File is currently being updated. Please try again later",
            Effect::None,
            Trouble::Server,
        ),
        (Call::TusPatch, 460, "", Effect::Unknown, Trouble::Protocol),
        (Call::TusPatch, 400, "Buffered TUS upload failed for file id 1.", Effect::Unknown, Trouble::Server),
        (
            Call::TusPatch,
            401,
            "You must use a bearer token that represents a system user with access to the resource in the Resource Rights Registry",
            Effect::None,
            Trouble::Rights,
        ),
        (Call::TusPatch, 401, "", Effect::None, Trouble::Token),
        (
            Call::TusCreate,
            409,
            "A file transfer has already been, or attempted to be, created. Create a new file transfer resource to try again.",
            Effect::Unknown,
            Trouble::AskOverview,
        ),
        (Call::TusCreate, 404, "The requested file transfer was not found", Effect::Refused, Trouble::Gone),
        (
            Call::TusCreate,
            503,
            "Storage provider is not ready yet. Please try again later.",
            Effect::None,
            Trouble::Route,
        ),
    ];
    for (call, status, text, effect, trouble) in cases {
        assert_eq!(judged(call, status, text), Answer { effect, trouble }, "{call} {status} {text}");
    }
    // What looks alike and is not.
    for text in
        ["Offset does not match file. File offset: many. Request offset: 1", "Offset does not match file"]
    {
        assert_eq!(read(409, text).tus, None, "{text}");
    }
}

#[test]
fn an_answer_without_a_code_is_judged_by_its_status() {
    for (status, looking, changing, trouble) in BY_STATUS {
        for call in Call::ALL {
            let effect = if changes(call) { changing } else { looking };
            let expected = of_a_resumable_upload(call, status).unwrap_or(Answer { effect, trouble });
            assert_eq!(judge(call, facts(status, None)), expected, "{call} {status}");
        }
    }
    for call in Call::ALL {
        let invalid = judge(call, Facts { has_errors: true, ..facts(400, None) });
        if call == Call::TusPatch {
            // Its refusals are plain text, of which none is about the form of what was sent.
            assert_eq!(invalid, Answer { effect: Effect::Unknown, trouble: Trouble::Server });
            continue;
        }
        let trouble = if carries_a_file(call) { Trouble::File } else { Trouble::Protocol };
        assert_eq!(invalid, Answer { effect: Effect::Refused, trouble }, "{call}");
        let gate = judge(call, Facts { is_key_gate: true, ..facts(401, None) });
        assert_eq!(gate, Answer { effect: Effect::None, trouble: Trouble::Key }, "{call}");
        // Headers are not the file's (431).
        for status in [413, 414, 431] {
            let (effect, trouble) = if carries_a_file(call) && status != 431 {
                (Effect::Refused, Trouble::File)
            } else {
                (Effect::None, Trouble::Protocol)
            };
            assert_eq!(judge(call, facts(status, None)), Answer { effect, trouble }, "{call} {status}");
        }
    }
}

#[test]
fn trouble_with_rights_or_set_up_never_refuses_a_file() {
    for call in Call::ALL {
        for (code, status) in [(2, 400), (5, 403), (6, 401), (21, 503), (28, 400)] {
            assert_eq!(judge(call, facts(status, Some(code))).effect, Effect::None, "{call} {code}");
        }
        for status in [401, 403, 404, 423, 429] {
            assert_eq!(judge(call, facts(status, None)).effect, Effect::None, "{call} {status}");
        }
    }
}
