//! Every call, broken in every way: whatever becomes of an answer, a file is published once, delivered once and
//! confirmed, and no call that changes something is repeated blindly.
//!
//! No answer of these is final for a file. A refusal without Altinn's own words is somebody else's (a gateway, a
//! firewall), and one that has them is about rights, which an outage of Altinn's authorization looks like: the route
//! waits, and the file is sent. What is final (malware, a wrong checksum again and again, a file that is too large)
//! has tests of its own in `sending.rs` and `bad_input.rs`. Calls of resumable uploads are in `tus`.

mod tus;

use std::time::Duration;

use formidlingd::sandbox::{Entry, Filter, Options, RateLimits, Role};
use serde_json::{Value, json};

use crate::support::{InProcess, OUTBOX, files_below, in_process, noise};

/// An upload whose last byte may have left is watched until Altinn gives it up: here sooner than after a day.
const STUCK_AFTER: Duration = Duration::from_mins(10);
/// However a call is broken, the file is through after this long: the answer to the end of a part is waited for longest.
const BOUND: Duration = Duration::from_hours(4);
/// Bytes of a file.
const SIZE: usize = 3000;
/// Bytes of a chunk, where it goes in chunks: the least that the settings take. The last of three is short.
const CHUNK: usize = 1024;

/// A call, and how it is brought about.
struct Call {
    name: &'static str,
    /// The sandbox's name of it.
    operation: &'static str,
    /// Who makes it.
    by: Role,
    /// Which of them it is, counted while the rules are in force.
    nth: u32,
    /// What has to go wrong before, so that it is made.
    before: &'static [fn() -> Value],
    /// Whether its answer has a body that can be cut.
    has_body: bool,
    /// In how many parts the file goes in chunks; as a stream where in none.
    parts: u64,
    /// Whether what arrives of a chunk that is cut is accepted and never stored.
    wedges: bool,
    /// How long Altinn takes to put together what is there.
    finalising: Duration,
}

fn a_token_is_refused() -> Value {
    json!({"operation": "initialize", "effect": "answer", "status": 401, "body": "empty", "nth": 1})
}

fn initialize_is_lost() -> Value {
    json!({"operation": "initialize", "effect": "lose", "when": "after", "nth": 1})
}

fn upload_is_lost() -> Value {
    json!({"operation": "upload", "effect": "lose", "when": "before", "nth": 1})
}

fn checksum_differs() -> Value {
    json!({"effect": "checksum-mismatch", "nth": 1})
}

fn download_is_not_noted() -> Value {
    json!({"operation": "confirm", "effect": "answer", "body": "bro-00019", "nth": 1})
}

const fn call(name: &'static str, operation: &'static str, by: Role) -> Call {
    Call {
        name,
        operation,
        by,
        nth: 1,
        before: &[],
        has_body: true,
        parts: 0,
        wedges: false,
        finalising: Duration::from_millis(20),
    }
}

const CALLS: [Call; 12] = [
    Call { before: &[a_token_is_refused], ..call("token", "token", Role::Sender) },
    Call { before: &[a_token_is_refused], ..call("exchange", "exchange", Role::Sender) },
    call("initialize", "initialize", Role::Sender),
    call("upload", "upload", Role::Sender),
    call("overview by the sender", "overview", Role::Sender),
    Call { before: &[upload_is_lost, checksum_differs], ..call("details", "details", Role::Sender) },
    Call { before: &[initialize_is_lost], ..call("search by the sender", "search", Role::Sender) },
    call("search by the recipient", "search", Role::Recipient),
    call("overview by the recipient", "overview", Role::Recipient),
    call("download", "download", Role::Recipient),
    Call { before: &[download_is_not_noted], nth: 2, ..call("touch", "download", Role::Recipient) },
    Call { has_body: false, ..call("confirm", "confirm", Role::Recipient) },
];

/// A way to break a call: a name, and the members of a rule.
type Way = (&'static str, Value);

fn answer(status: u16, body: &str) -> Value {
    json!({"effect": "answer", "status": status, "body": body})
}

/// An answer in the place of the real one, after all has happened.
fn after(status: u16, body: &str) -> Value {
    json!({"effect": "answer", "status": status, "body": body, "when": "after"})
}

/// How any call is broken.
fn ways(call: &Call) -> Vec<Way> {
    let mut ways = vec![
        ("dropped before", json!({"effect": "lose", "when": "before"})),
        ("dropped after the effect", json!({"effect": "lose", "when": "after"})),
        ("stall", json!({"effect": "delay", "duration": "3h"})),
        ("401 empty", answer(401, "empty")),
        ("401 BRO-00006", json!({"effect": "answer", "body": "bro-00006"})),
        ("403", answer(403, "empty")),
        ("404", answer(404, "empty")),
        ("408", answer(408, "empty")),
        ("409", answer(409, "empty")),
        ("423", answer(423, "empty")),
        ("429", json!({"effect": "answer", "status": 429, "body": "gateway-json", "retry_after": "30s"})),
        ("500", answer(500, "empty")),
        ("500 after the effect", after(500, "empty")),
        ("502 HTML", answer(502, "html")),
        ("502 HTML after the effect", after(502, "html")),
        ("503", answer(503, "empty")),
        ("garbage JSON", after(200, "garbage-json")),
    ];
    if call.has_body {
        ways.push(("cut in the answer", json!({"effect": "response-cut", "at": 7})));
    }
    if matches!(call.operation, "upload" | "initialize" | "tus-patch") {
        ways.push(("cut in the request", json!({"effect": "request-cut", "at": 100})));
        ways.push(("stall in the request", json!({"effect": "request-stall", "at": 100, "duration": "3h"})));
    }
    ways
}

/// Uploads that Altinn itself ends without publishing, so that another transfer is made; and transfers that are made
/// and never get a byte. Everywhere else one transfer is made, and one upload begins.
fn spare(call: &Call, way: &str) -> (usize, usize) {
    if call.parts > 0 {
        return (usize::from(tus::is_dead(call, way)), 0);
    }
    match (call.name, way) {
        // The first does not have its checksum; or a part of it arrived, and Altinn fails the transfer after a while.
        ("details", _) | ("upload", "cut in the request" | "stall in the request") => (1, 0),
        // Who may not search cannot find a transfer that was made.
        ("search by the sender", "401 BRO-00006" | "403") => (0, 1),
        _ => (0, 0),
    }
}

/// What is wrong with how a file fared, if anything is.
fn verdict(site: &InProcess, name: &str, after: u64, call: &Call, way: &str) -> Result<(), String> {
    let sandbox = site.sandbox();
    let mine: Vec<_> =
        sandbox.transfers().into_iter().filter(|transfer| transfer.file_name == name).collect();
    let recipient = format!("0192:{}", site.organization(Role::Recipient));
    let published: usize = mine.iter().map(formidlingd::sandbox::Transfer::published).sum();
    let confirmed = mine.iter().filter(|transfer| {
        transfer.highest(&recipient).is_some_and(|status| status.name() == "DownloadConfirmed")
    });
    let entries = sandbox.ledger().find(&Filter { after: Some(after), ..Filter::default() });
    let with_effect = |operation: &str, effect: &[&str]| {
        entries
            .iter()
            .filter(|entry| {
                entry.operation == operation && entry.effect.is_some_and(|it| effect.contains(&it))
            })
            .count()
    };
    let arrived: Vec<_> = files_below(&site.inbox())
        .into_iter()
        .filter(|path| !path.to_string_lossy().contains(".formidlingd"))
        .filter(|path| {
            let file = path.file_name().unwrap().to_string_lossy().into_owned();
            let is_companion = path.extension().is_some_and(|extension| extension == "json");
            file.starts_with(name.trim_end_matches(".bin")) && !is_companion
        })
        .collect();
    let uploaded =
        entries.iter().filter(|entry| entry.operation == "upload" && entry.effect.is_some()).count();
    let (in_vain, unused) = spare(call, way);
    let streams = if call.parts > 0 { 0 } else { 1 + in_vain };
    let mut problems = vec![
        (published != 1, format!("published {published} times, in {} transfers", mine.len())),
        (confirmed.count() != 1, "not confirmed, or more than once".to_owned()),
        (arrived.len() != 1, format!("{} files have arrived: {arrived:?}", arrived.len())),
        (mine.len() > 1 + in_vain + unused, format!("{} transfers were made", mine.len())),
        (uploaded > streams, format!("{uploaded} uploads began")),
        (with_effect("confirm", &["confirmed", "all confirmed"]) != 1, "confirmed more than once".to_owned()),
        (!files_below(&site.outbox().join("failed")).is_empty(), "it lies in failed/".to_owned()),
    ];
    problems.extend(tus::problems(&entries, call, way));
    let found: Vec<String> = problems.into_iter().filter(|(is_so, _)| *is_so).map(|(_, text)| text).collect();
    if !found.is_empty() {
        let shown: Vec<String> = entries.iter().map(show).collect();
        return Err(format!("{}\n{}", found.join("; "), shown.join("\n")));
    }
    Ok(())
}

fn show(entry: &Entry) -> String {
    format!("    {} {} {:?} {:?} {:?}", entry.time, entry.operation, entry.status, entry.effect, entry.faults)
}

/// Sends a file while a call is broken in one way, and looks what became of it.
async fn cell(site: &InProcess, call: &Call, number: usize, way: &str, fault: Value) -> Result<(), String> {
    let name = format!("{number:02}-{}.bin", call.operation);
    let content = noise(number as u64, SIZE);
    let ledger = site.sandbox().ledger();
    let after = ledger.entries().last().map_or(0, |entry| entry.sequence);
    let mut rules: Vec<Value> = call.before.iter().map(|rule| rule()).collect();
    let mut rule = fault;
    rule["name"] = json!("the fault");
    let is_quirk = rule["effect"].as_str().is_some_and(|effect| effect.starts_with("tus-"));
    if !is_quirk {
        rule["operation"] = json!(call.operation);
    }
    if rule.get("times").is_none() {
        rule["nth"] = json!(call.nth);
    }
    rule["organization"] = json!(site.organization(call.by));
    rules.push(rule);
    site.stalled.set(usize::from(way.starts_with("stall") || tus::is_waited_for(call, way)));
    site.faults(rules);
    std::fs::write(site.outbox().join(&name), &content).unwrap();
    let receipt = || {
        let receipts = files_below(&site.outbox().join("sent"));
        let mine = receipts.iter().find(|path| path.ends_with(format!("{name}.receipt.json")));
        mine.is_some_and(|path| {
            std::fs::read_to_string(path).is_ok_and(|text| text.contains("\"status\": \"completed\""))
        }) && std::fs::read(site.inbox().join(&name)).is_ok_and(|bytes| bytes == content)
    };
    let is_through = site.until(BOUND, receipt).await;
    let strikes =
        ledger.find(&Filter { after: Some(after), fault: Some("the fault".into()), ..Filter::default() });
    site.faults(Vec::new());
    site.stalled.set(0);
    if strikes.is_empty() {
        return Err(format!(
            "the fault never struck{}",
            if is_through { "" } else { ", and it is not through" }
        ));
    }
    if !is_through {
        let entries = ledger.find(&Filter { after: Some(after), ..Filter::default() });
        let shown: Vec<String> = entries.iter().rev().take(40).rev().map(show).collect();
        return Err(format!("not through within {BOUND:?}\n{}", shown.join("\n")));
    }
    verdict(site, &name, after, call, way)
}

/// All cells of one call, in a sandbox of their own; those that fail.
fn row(call: &Call, ways: Vec<Way>) -> Vec<String> {
    let options = Options {
        rate_limits: RateLimits::altinn(),
        stuck_after: STUCK_AFTER,
        tus_wedge: if call.wedges { 1.0 } else { 0.0 },
        finalising_delay: call.finalising,
        ..Options::default()
    };
    let change = |role: Role, settings: &mut crate::support::Settings| {
        // The clock moves by whole seconds.
        settings.set("http", "connect_timeout", "\"1m\"");
        if role == Role::Sender && call.parts > 0 {
            settings.set(OUTBOX, "chunk_size", format!("\"{CHUNK}B\""));
            settings.set(OUTBOX, "parallel_parts", call.parts);
        }
    };
    in_process(options, change, async |site| {
        let mut failed = Vec::new();
        for (number, (way, fault)) in ways.into_iter().enumerate() {
            if let Err(problem) = cell(site, call, number, way, fault).await {
                failed.push(format!("{} × {way}: {problem}", call.name));
                if problem.starts_with("not through") {
                    break;
                }
            }
            if way.starts_with("401") || matches!(call.operation, "token" | "exchange") {
                // A token that was refused is not asked for anew each time.
                tokio::time::sleep(Duration::from_mins(6)).await;
            }
        }
        failed
    })
}

/// Breaks calls in all these ways, each call on a thread of its own.
fn all_arrive_once(calls: &[Call], ways: fn(&Call) -> Vec<Way>) {
    let failed: Vec<String> = std::thread::scope(|scope| {
        let rows: Vec<_> = calls.iter().map(|call| scope.spawn(move || row(call, ways(call)))).collect();
        rows.into_iter()
            .flat_map(|row| row.join().unwrap_or_else(|_| vec!["a row panicked".to_owned()]))
            .collect()
    });
    assert!(failed.is_empty(), "{} cells failed:\n{}", failed.len(), failed.join("\n"));
}

#[test]
fn whatever_becomes_of_an_answer_a_file_arrives_once() {
    all_arrive_once(&CALLS, ways);
}
