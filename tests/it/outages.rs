//! Six hours without Altinn: at most one call a minute looks whether it is there again, no file fails, and everything
//! finishes afterwards.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use formidlingd::sandbox::{Filter, Options, RateLimits, Role};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{InProcess, files_below, in_process, noise};

const OUTAGE: Duration = Duration::from_hours(6);
const MINUTE: SignedDuration = SignedDuration::from_mins(1);
/// Calls that were under way or set out before it was clear that a host is down end within this long.
const BEFORE_IT_IS_CLEAR: SignedDuration = SignedDuration::from_mins(10);
/// A call that is taken and not answered stands still for so long, which is longer than any client waits.
const STANDING_STILL: Duration = Duration::from_mins(10);
/// Bytes of the file that is on its way when the outage begins.
const LARGE: usize = 3 * 1024 * 1024;
const FILES: u64 = 6;

fn options() -> Options {
    let stuck_after = Duration::from_mins(30);
    Options { rate_limits: RateLimits::altinn(), stuck_after, ..Options::default() }
}

fn drop_files(outbox: &Path, numbers: std::ops::Range<u64>) {
    for number in numbers {
        std::fs::write(outbox.join(format!("{number}.bin")), content(number)).unwrap();
    }
}

fn content(number: u64) -> Vec<u8> {
    noise(number, if number == 0 { LARGE } else { 5000 })
}

fn count(site: &InProcess, operation: &str) -> usize {
    site.sandbox().ledger().find(&Filter { operation: Some(operation.into()), ..Filter::default() }).len()
}

/// Begins an upload, takes Altinn away, drops more files, brings it back and sees everything through.
async fn live_through(
    site: &InProcess,
    down: impl AsyncFnOnce(),
    up: impl AsyncFnOnce(),
) -> (Timestamp, Timestamp) {
    // It is on its way when the outage begins, and does not come through.
    site.stalled.set(1);
    site.faults(vec![
        json!({"operation": "upload", "effect": "request-stall", "at": 100_000, "duration": "5h"}),
    ]);
    drop_files(&site.outbox(), 0..1);
    let begun =
        || site.sandbox().transfers().iter().any(|transfer| transfer.status().name() == "UploadStarted");
    assert!(site.until(Duration::from_hours(1), begun).await, "the upload never began");
    site.stalled.set(usize::MAX);
    let start = site.clock.passed();
    down().await;
    let from = present(site);
    drop_files(&site.outbox(), 1..FILES);
    while site.clock.passed() < start + OUTAGE {
        tokio::time::sleep(Duration::from_mins(5)).await;
        assert!(files_below(&site.outbox().join("failed")).is_empty(), "no file is to blame");
    }
    let to = present(site);
    up().await;
    // What still stands still over there, and whose client has gone, ends.
    tokio::time::sleep(STANDING_STILL * 2).await;
    site.stalled.set(0);
    let arrived = || {
        (0..FILES).all(|number| {
            std::fs::read(site.inbox().join(format!("{number}.bin")))
                .is_ok_and(|bytes| bytes == content(number))
        })
    };
    assert!(site.until(Duration::from_hours(2), arrived).await, "not everything arrived after the outage");
    let confirmed = || count_confirmed(site) as u64 == FILES;
    assert!(site.until(Duration::from_hours(1), confirmed).await, "not everything was confirmed");
    assert!(files_below(&site.outbox().join("failed")).is_empty());
    let mut published: BTreeMap<String, usize> = BTreeMap::new();
    for transfer in site.sandbox().transfers() {
        *published.entry(transfer.file_name.clone()).or_default() += transfer.published();
    }
    assert!(published.len() as u64 == FILES && published.values().all(|times| *times == 1), "{published:?}");
    assert_eq!(
        site.sandbox().ledger().find(&Filter { status: Some(Some(429)), ..Filter::default() }).len(),
        0
    );
    (from, to)
}

fn count_confirmed(site: &InProcess) -> usize {
    let recipient = format!("0192:{}", site.organization(Role::Recipient));
    let transfers = site.sandbox().transfers();
    let is_confirmed = |name: Option<&str>| name == Some("DownloadConfirmed");
    transfers
        .iter()
        .filter(|it| is_confirmed(it.highest(&recipient).map(formidlingd::sandbox::RecipientStatus::name)))
        .count()
}

fn present(site: &InProcess) -> Timestamp {
    formidlingd::seams::Clock::now(&*site.clock)
}

/// The platform and Maskinporten are hosts of their own, also where the sandbox is both. Two services look, each once a
/// minute: three calls within a minute are one too many.
fn assert_one_a_minute(site: &InProcess, from: Timestamp, to: Timestamp) {
    let mut times: BTreeMap<&str, Vec<Timestamp>> = BTreeMap::new();
    for entry in site.sandbox().ledger().entries() {
        if entry.time >= from && entry.time < to {
            let host = if entry.operation == "token" { "Maskinporten" } else { "platform" };
            times.entry(host).or_default().push(entry.time);
        }
    }
    // Where Maskinporten is down, too, there are no tokens to ask the platform with.
    let looked: usize = times.values().map(Vec::len).sum();
    assert!(looked >= 60, "nobody looked whether Altinn is there again: {looked} calls");
    for (host, times) in times {
        // Maskinporten is asked when the tokens are over, and found to be down only then.
        let clear =
            times.iter().find(|time| **time >= from + MINUTE).map(|first| *first + BEFORE_IT_IS_CLEAR);
        let times: Vec<Timestamp> =
            times.into_iter().filter(|time| clear.is_some_and(|clear| *time >= clear)).collect();
        assert!(times.len() <= 2 * 360, "{host}: {} calls in six hours", times.len());
        let quick = times.windows(3).find(|calls| calls[2].duration_since(calls[0]) < MINUTE);
        assert!(quick.is_none(), "{host}: three calls of two services within a minute: {quick:?}");
    }
}

fn outage(operations: &Value, effect: &Value) {
    in_process(
        options(),
        |_, _| {},
        async |site| {
            let mut rule = effect.clone();
            rule["operation"] = operations.clone();
            let rules = vec![rule];
            let (from, to) =
                live_through(site, async || site.faults(rules), async || site.faults(Vec::new())).await;
            assert_one_a_minute(site, from, to);
        },
    );
}

#[test]
fn six_hours_in_which_a_gateway_answers_cost_a_call_a_minute() {
    // Maskinporten is there all the while.
    outage(&json!(["transfers", "exchange"]), &json!({"effect": "answer", "status": 502, "body": "html"}));
}

#[test]
fn six_hours_in_which_altinn_answers_with_errors_cost_a_call_a_minute() {
    outage(&json!(["transfers", "exchange"]), &json!({"effect": "answer", "status": 500, "body": "empty"}));
}

#[test]
fn six_hours_in_which_every_call_is_taken_and_never_answered_cost_a_call_a_minute() {
    outage(&json!("any"), &json!({"effect": "delay", "duration": format!("{}s", STANDING_STILL.as_secs())}));
}

#[test]
fn six_hours_in_which_every_connection_is_closed_cost_a_call_a_minute() {
    outage(&json!("any"), &json!({"effect": "lose", "when": "before"}));
}

/// Stands before the sandbox, and is there or not.
async fn gate(listener: TcpListener, to: String, is_there: Arc<AtomicBool>) {
    let address = listener.local_addr().unwrap();
    let mut listener = Some(listener);
    let mut connections = tokio::task::JoinSet::new();
    loop {
        if !is_there.load(Ordering::SeqCst) {
            listener = None;
            connections.abort_all();
            tokio::time::sleep(Duration::from_secs(1)).await;
            continue;
        }
        if listener.is_none() {
            listener = Some(TcpListener::bind(address).await.unwrap());
        }
        let accepted =
            tokio::time::timeout(Duration::from_secs(1), listener.as_ref().unwrap().accept()).await;
        let Ok(Ok((mut client, _))) = accepted else { continue };
        let to = to.clone();
        connections.spawn(async move {
            if let Ok(mut server) = TcpStream::connect(to).await {
                drop(tokio::io::copy_bidirectional(&mut client, &mut server).await);
            }
        });
    }
}

#[test]
fn six_hours_in_which_every_connection_is_refused_fail_no_file() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let through_the_gate = |_: Role, settings: &mut crate::support::Settings| {
        settings.set("altinn", "platform_url", format!("\"{url}\"")).set(
            "altinn",
            "maskinporten_token_url",
            format!("\"{url}/token\""),
        );
    };
    let listener = std::cell::Cell::new(Some(listener));
    in_process(options(), through_the_gate, async |site| {
        let is_there = Arc::new(AtomicBool::new(true));
        let listener = TcpListener::from_std(listener.take().unwrap()).unwrap();
        let to = site.sandbox().url().strip_prefix("http://").unwrap().to_owned();
        let gate = tokio::spawn(gate(listener, to, Arc::clone(&is_there)));
        let down = async || is_there.store(false, Ordering::SeqCst);
        let up = async || {
            is_there.store(true, Ordering::SeqCst);
            site.faults(Vec::new());
        };
        let asked = count(site, "search");
        let (from, to) = live_through(site, down, up).await;
        assert!(count(site, "search") > asked && to > from);
        gate.abort();
    });
}
