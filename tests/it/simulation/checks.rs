//! The invariants, held against a simulated life: at each call what must be durable before it, at the end that
//! everything is in its place, once.

use std::rc::Rc;
use std::time::Duration;

use formidlingd::files::PROBE_PREFIX;
use formidlingd::transfer::{Incoming, LastByte, Outgoing, Transfer, Work};
use serde_json::Value;

use super::call::{Call, Operation};
use super::chance::FAULTS;
use super::transfer::{STUCK, Transfer as AtAltinn};
use super::world::{CHUNK, Image, Life, NAME, Way};

/// Everything finishes within this: a stuck upload is waited for, what was lost is settled, and each attempt comes
/// after the longest wait at the latest (`retry.max`), a few times over. Where chance rules, each of its faults may
/// cost a route's hold or a stuck upload besides.
pub(crate) fn bound(way: Way, by_chance: bool) -> Duration {
    const LONGEST_WAIT: Duration = Duration::from_mins(5);
    const CUT_UPLOAD: Duration = Duration::from_mins(2);
    const SETTLE_INITIALIZE: Duration = Duration::from_mins(1);
    /// The answer to the last chunk of a part.
    const STORING: Duration = Duration::from_mins(125);
    let faults = if by_chance { FAULTS } else { 0 };
    let in_parts = way.upload().is_some_and(|(_, parts)| parts > 1);
    let stalls = if in_parts { faults * STORING } else { Duration::ZERO };
    let bound = (1 + faults) * (STUCK + CUT_UPLOAD + SETTLE_INITIALIZE) + 12 * LONGEST_WAIT + stalls;
    // Whether recipients have confirmed is looked at after a third of the age, which all lives before have made.
    if by_chance { 3 * bound } else { bound }
}

fn outgoing(transfers: &[Transfer]) -> impl Iterator<Item = &Outgoing> {
    transfers.iter().filter_map(|transfer| match &transfer.work {
        Work::Outgoing { progress, .. } => Some(progress),
        Work::Incoming { .. } => None,
    })
}

/// Before a call that changes something, its intent is durable, and so is all that it rests on.
#[expect(clippy::too_many_lines, reason = "it is one list")]
pub(crate) fn at_call(life: &Life, call: &Call, body: &[u8]) {
    let operation = call.operation();
    let is_effective = matches!(
        operation,
        Operation::Initialize
            | Operation::Upload
            | Operation::Confirm
            | Operation::TusCreate
            | Operation::TusPatch
            | Operation::TusJoin
    );
    if !is_effective || life.has_died() {
        return;
    }
    life.scan();
    let image = life.state.borrow().image.clone();
    let transfers = image.memory.transfers().unwrap();
    let durable = image.disk.durable();
    let is_claimed = || {
        durable.iter().any(|(path, content)| {
            path.contains("/sending/") && path.ends_with("/file") && content.bytes == *image.expected
        })
    };
    let is_intended = match operation {
        Operation::Initialize => {
            let request: Value = serde_json::from_slice(body).unwrap_or_default();
            let reference = request["sendersFileTransferReference"].as_str().unwrap_or_default().to_owned();
            let is_it = |progress: &Outgoing| matches!(progress, Outgoing::Initializing { dispatch, .. } if dispatch.reference.as_str() == reference);
            outgoing(&transfers).any(is_it) && is_claimed()
        }
        Operation::Upload => {
            let is_it = |progress: &Outgoing| matches!(progress, Outgoing::Uploading { booking, .. } if booking.id.to_string() == call.id());
            outgoing(&transfers).any(is_it) && is_claimed()
        }
        Operation::TusCreate | Operation::TusPatch | Operation::TusJoin => {
            let is_it = |progress: &Outgoing| match progress {
                Outgoing::Uploading { booking, session: Some(session), last_byte, .. } => {
                    let is_begun =
                        |path: &str| session.parts.iter().any(|part| part.location.as_deref() == Some(path));
                    let is_intended = match operation {
                        Operation::TusPatch => is_begun(&call.path),
                        // Begun once more, what was sent before would be thrown away.
                        Operation::TusCreate => session.next_to_create().is_some(),
                        _ => *last_byte == LastByte::MayHaveLeft,
                    };
                    booking.id.to_string() == call.id() && !session.given_up && is_intended
                }
                _ => false,
            };
            outgoing(&transfers).any(is_it) && is_claimed()
        }
        _ => {
            let is_delivered = transfers.iter().any(|transfer| {
                matches!(&transfer.work, Work::Incoming { progress: Incoming::Delivered { offer, .. }, .. } if offer.id.to_string() == call.id())
            });
            let expected =
                life.server.lock().unwrap().find(call.id()).and_then(|transfer| transfer.content.clone());
            let expected = expected.map_or_else(|| image.expected.to_vec(), |content| content.to_vec());
            let lies = durable
                .iter()
                .any(|(path, content)| *path == format!("in/{NAME}") && content.bytes == expected);
            let has_metadata = durable
                .iter()
                .any(|(path, content)| *path == format!("in/{NAME}.meta.json") && !content.bytes.is_empty());
            is_delivered && lies && has_metadata
        }
    };
    let is_alive = |transfer: &AtAltinn| transfer.is_being_stored();
    if operation == Operation::Upload && life.server.lock().unwrap().find(call.id()).is_some_and(is_alive) {
        life.violation("bytes are sent again while those sent before may still be stored".to_owned());
    }
    if !is_intended {
        let durable: Vec<_> = durable.iter().map(|(path, content)| (path, content.bytes.len())).collect();
        life.violation(format!(
            "{} without what must be durable before it: {transfers:#?} {durable:#?}",
            operation.name()
        ));
    }
}

/// When the last byte of an upload has left, the store says that it may have.
pub(crate) fn at_last_byte(life: &Life, call: &Call) {
    if life.has_died() {
        return;
    }
    let transfers = life.state.borrow().image.memory.transfers().unwrap();
    let is_it = |progress: &Outgoing| matches!(progress, Outgoing::Uploading { booking, last_byte: LastByte::MayHaveLeft, .. } if booking.id.to_string() == call.id());
    if !outgoing(&transfers).any(is_it) {
        life.violation(format!("the last byte has left, and the store does not know: {transfers:#?}"));
    }
}

/// What a loss of power has made of the file, where it was not ours yet: whoever dropped it had not synced it.
pub(crate) fn torn(before: &Image, left: &Image) -> Result<Option<Rc<Vec<u8>>>, String> {
    let listed = before.disk.listing();
    let is_it = |path: &str| {
        path.starts_with("out/")
            && (path.ends_with(&format!("/{NAME}")) || path.contains("/sending/") && path.ends_with("/file"))
    };
    if !listed.iter().any(|(path, _)| is_it(path)) {
        return Ok(None);
    }
    let found: Vec<_> = left.disk.listing().into_iter().filter(|(path, _)| is_it(path)).collect();
    match found.as_slice() {
        [(_, content)] if content.bytes == *before.expected => Ok(None),
        [(_, content)] if !before.has_taken() && before.server.transfers.is_empty() => {
            Ok(Some(Rc::new(content.bytes.clone())))
        }
        [(path, content)] => {
            Err(format!("{path} was torn after it was taken: {} bytes left", content.bytes.len()))
        }
        [] => Err("the file is lost".to_owned()),
        several => Err(format!("the file is there {} times", several.len())),
    }
}

/// When all is done, everything is in its place, once.
#[expect(clippy::too_many_lines, reason = "it is one list")]
pub(crate) fn at_the_end(life: &Life) {
    let image = life.state.borrow().image.clone();
    let server = life.server.lock().unwrap().clone();
    let files = image.disk.listing();
    let mut wrong = Vec::new();
    let names =
        || files.iter().map(|(path, content)| (path.clone(), content.bytes.len())).collect::<Vec<_>>();
    let published: Vec<_> = server.transfers.iter().filter(|transfer| transfer.published.is_some()).collect();
    if published.len() != 1 {
        wrong.push(format!("published {} times", published.len()));
    }
    let is_other = |content: &std::sync::Arc<Vec<u8>>| **content != *image.expected;
    if published.iter().any(|transfer| transfer.content.as_ref().is_some_and(is_other)) {
        wrong.push("something else was published".to_owned());
    }
    // Each break costs a chunk of each part under way at most; where more is lost, another transfer is made.
    let (_, parts) = life.way.upload().unwrap_or_default();
    let most = image.expected.len() as u64 + u64::from(life.breaks()) * parts * CHUNK as u64;
    for transfer in server.transfers.iter().filter(|transfer| transfer.tus.received > most) {
        wrong.push(format!("{} bytes were sent for {}", transfer.tus.received, image.expected.len()));
    }
    // A lost answer is settled by finding what was made, not by asking for another.
    let is_unused = |transfer: &&AtAltinn| transfer.status() == "Initialized";
    if !life.is_by_chance() && server.transfers.iter().any(|transfer| is_unused(&transfer)) {
        wrong.push("a transfer was asked for and never used".to_owned());
    }
    if !image.memory.transfers().is_ok_and(|transfers| transfers.is_empty()) {
        wrong.push("records are left".to_owned());
    }
    // What a folder was tried out with goes with a later trial, when it has become old.
    let is_left_in = |folder: &str| {
        let is_left = |name: &str| !name.starts_with(PROBE_PREFIX);
        files.iter().any(|(path, _)| path.strip_prefix(folder).is_some_and(is_left))
    };
    let journal: Vec<Value> = files
        .iter()
        .filter(|(path, _)| path.starts_with("state/journal/"))
        .flat_map(|(_, text)| {
            String::from_utf8_lossy(&text.bytes).lines().map(str::to_owned).collect::<Vec<_>>()
        })
        .filter_map(|line| serde_json::from_str(&line).ok())
        .collect();
    if journal.is_empty() {
        wrong.push("the journal does not know of it".to_owned());
    }
    if life.way.sends() {
        let placed: Vec<_> = files
            .iter()
            .filter(|(path, _)| {
                path.starts_with("out/") && (path.ends_with(&format!("/{NAME}")) || path.ends_with("/file"))
            })
            .collect();
        match placed.as_slice() {
            [(path, content)] if path.starts_with("out/sent/") && content.bytes == *image.expected => {}
            _ => wrong.push(format!(
                "the file is not in sent/, whole and once: {placed:?}",
                placed = placed.iter().map(|(path, content)| (path, content.bytes.len())).collect::<Vec<_>>()
            )),
        }
        let receipts: Vec<Value> = files
            .iter()
            .filter(|(path, _)| path.ends_with(".receipt.json"))
            .filter_map(|(_, text)| serde_json::from_slice(&text.bytes).ok())
            .collect();
        let ids: Vec<&str> = published.iter().map(|transfer| transfer.id.as_str()).collect();
        match receipts.as_slice() {
            [receipt]
                if ids.contains(&receipt["fileTransferId"].as_str().unwrap_or_default())
                    && receipt["status"] == "completed" => {}
            _ => wrong.push(format!("not one receipt of what was published: {receipts:?}")),
        }
        if is_left_in("out/.formidlingd/sending/") {
            wrong.push("something is left in sending/".to_owned());
        }
        if files.iter().any(|(path, _)| path.starts_with("out/failed/")) {
            wrong.push("something is in failed/".to_owned());
        }
    }
    if life.way.receives() {
        let delivered: Vec<_> = files
            .iter()
            .filter(|(path, _)| {
                path.starts_with("in/") && !path.contains(".formidlingd") && !path.ends_with(".meta.json")
            })
            .collect();
        match delivered.as_slice() {
            [(path, content)] if *path == format!("in/{NAME}") && content.bytes == *image.expected => {}
            _ => wrong.push("the file is not in the inbox, whole and once".to_owned()),
        }
        if !files.iter().any(|(path, _)| *path == format!("in/{NAME}.meta.json")) {
            wrong.push("there is no metadata".to_owned());
        }
        if is_left_in("in/.formidlingd/incoming/") {
            wrong.push("something is left in incoming/".to_owned());
        }
        if server.confirmations.values().sum::<u32>() != 1 {
            wrong.push(format!("confirmed {:?} times", server.confirmations));
        }
    }
    if !wrong.is_empty() {
        life.violation(format!("{wrong:#?}\nfiles {:#?}", names()));
    }
}
