//! Faults that can be done to any request: other answers, lost ones, and bodies that go wrong.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::faults::put;
use super::support::{BASE, Bench, RECIPIENT, RESOURCE, Reply, SENDER, eventually, send};
use crate::sandbox::{Clock as _, Entry};

async fn search(bench: &Bench) -> Reply {
    send(bench.get_as(SENDER, &format!("?resourceId={RESOURCE}"))).await
}

/// Sends a request as raw bytes, and reads until the connection ends: what came, and whether the
/// end was a clean one.
async fn raw(bench: &Bench, request: &[u8]) -> (Vec<u8>, bool) {
    let address = bench.sandbox.url().strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    let clean = stream.read_to_end(&mut answer).await.is_ok();
    (answer, clean)
}

/// The head of a request, without an end of its connection.
fn head(bench: &Bench, organization: &str, line: &str, more: &str) -> String {
    format!(
        "{line} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n{more}\r\n",
        bench.token(organization)
    )
}

/// The entry of the only request of that kind.
fn entry(bench: &Bench, operation: &str) -> Entry {
    let entries = bench.sandbox.ledger().entries();
    let mut found = entries.into_iter().filter(|entry| entry.operation == operation);
    let entry = found.next().unwrap_or_else(|| panic!("no {operation}"));
    assert!(found.next().is_none(), "more than one {operation}");
    entry
}

/// Moves the time on until the future is done, a step at a time.
async fn meanwhile<T>(bench: &Bench, step: Duration, work: impl Future<Output = T>) -> (T, Duration) {
    let begun = bench.clock.now();
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => {
                return (done, bench.clock.now().duration_since(begun).unsigned_abs());
            }
            () = tokio::time::sleep(Duration::from_millis(2)) => bench.clock.advance(step),
        }
    }
}

#[tokio::test]
async fn answers_that_gateways_and_altinn_give() {
    let bench = Bench::start().await;
    for (fault, status, content_type, text) in [
        (json!({ "status": 401 }), 401, None, ""),
        (json!({ "status": 500, "body": "empty" }), 500, None, ""),
        (json!({ "status": 502, "body": "html" }), 502, Some("text/html"), "<h1>502 Bad Gateway</h1>"),
        (json!({ "status": 503, "body": "html" }), 503, Some("text/html"), "Service Unavailable"),
        (json!({ "status": 504, "body": "html" }), 504, Some("text/html"), "Gateway Timeout"),
        (
            json!({ "status": 200, "body": "garbage-json" }),
            200,
            Some("application/json; charset=utf-8"),
            "{\"file",
        ),
        (
            json!({ "status": 500, "body": "problem" }),
            500,
            Some("application/problem+json"),
            "\"status\":500",
        ),
        (
            json!({ "status": 429, "body": "gateway-json" }),
            429,
            Some("application/json"),
            "\"statusCode\":429",
        ),
        (json!({ "status": 408 }), 408, None, ""),
        (json!({ "status": 423 }), 423, None, ""),
        (json!({ "status": 418, "text": "no tea" }), 418, Some("text/plain; charset=utf-8"), "no tea"),
        (json!({ "body": "bro-00006" }), 401, Some("application/json; charset=utf-8"), "BRO-00006"),
        (json!({ "body": "bro-00021" }), 503, Some("application/json; charset=utf-8"), "BRO-00021"),
        (
            json!({ "body": "bro-00006", "status": 403 }),
            403,
            Some("application/json; charset=utf-8"),
            "BRO-00006",
        ),
    ] {
        let mut rule = fault.clone();
        rule["effect"] = "answer".into();
        put(&bench, rule).await;
        let reply = search(&bench).await;
        assert_eq!((reply.status, reply.header("Content-Type")), (status, content_type), "{fault}");
        assert!(reply.text().contains(text) && (text.is_empty() == reply.text().is_empty()), "{fault}");
        let challenge = reply.header("WWW-Authenticate").is_some();
        assert_eq!(challenge, fault == json!({ "status": 401 }), "{fault}");
    }
}

#[tokio::test]
async fn an_answer_can_tell_when_to_come_again_or_not() {
    let bench = Bench::start().await;
    for (fault, retry_after) in [
        (json!({}), None),
        (json!({ "retry_after": "30s" }), Some("30")),
        (json!({ "retry_after": "1500ms" }), Some("2")),
        (
            json!({ "headers": { "Retry-After": "Tue, 18 Aug 2026 12:00:00 GMT" } }),
            Some("Tue, 18 Aug 2026 12:00:00 GMT"),
        ),
    ] {
        let mut rule = fault.clone();
        rule["effect"] = "answer".into();
        rule["status"] = 429.into();
        put(&bench, rule).await;
        let reply = search(&bench).await;
        assert_eq!((reply.status, reply.header("Retry-After")), (429, retry_after), "{fault}");
    }
}

#[tokio::test]
async fn an_answer_comes_before_the_effect_or_after_it() {
    let bench = Bench::start().await;
    for (when, made) in [("before", 0), ("after", 1)] {
        put(&bench, json!({ "operation": "initialize", "effect": "answer", "status": 504, "when": when }))
            .await;
        assert_eq!(bench.try_initialize(|_| {}).await.status, 504);
        assert_eq!(bench.sandbox.transfers().len(), made, "{when}");
    }
    let effects: Vec<_> =
        bench.sandbox.ledger().entries().into_iter().map(|it| (it.status, it.effect)).collect();
    assert!(effects.contains(&(Some(504), None)) && effects.contains(&(Some(504), Some("initialized"))));
}

#[tokio::test]
async fn an_answer_is_lost_before_the_effect_or_after_it_with_a_reset_or_a_clean_end() {
    let bench = Bench::start().await;
    let body = Bench::metadata().to_string();
    let more = format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    let request = head(&bench, SENDER, &format!("POST {BASE}"), &more) + &body;
    let mut made = 0;
    for (when, close) in [("before", "reset"), ("before", "clean"), ("after", "reset"), ("after", "clean")] {
        let rule = json!({ "name": "lost", "operation": "initialize", "effect": "lose", "when": when, "close": close });
        put(&bench, rule).await;
        let (answer, clean) = raw(&bench, request.as_bytes()).await;
        assert_eq!((answer.as_slice(), clean), (&b""[..], close == "clean"), "{when} {close}");
        made += usize::from(when == "after");
        assert_eq!(bench.sandbox.transfers().len(), made, "{when} {close}");
        let last =
            bench.sandbox.ledger().entries().into_iter().rfind(|it| it.operation == "initialize").unwrap();
        assert_eq!((last.status, last.effect), (None, (when == "after").then_some("initialized")));
        assert_eq!(last.faults, ["lost"]);
    }
    assert!(bench.request(Method::GET, "/jwk").send().await.is_ok());
}

#[tokio::test]
async fn every_operation_can_lose_its_answer_after_the_effect() {
    let bench = Bench::start().await;
    let id = bench.initialize(|_| {}).await;
    let lost = async |operation: &str, request: reqwest::RequestBuilder| {
        put(&bench, json!({ "operation": operation, "effect": "lose", "when": "after" })).await;
        assert!(request.send().await.is_err(), "{operation}");
        let entry = entry(&bench, operation);
        assert_eq!(entry.status, None);
        send(bench.request(Method::DELETE, "/_sandbox/faults")).await;
        entry.effect
    };
    let upload = bench.post_as(SENDER, &format!("/{id}/upload")).body("hello");
    assert_eq!(lost("upload", upload).await, Some("published"));
    let download = bench.get_as(RECIPIENT, &format!("/{id}/download"));
    assert_eq!(lost("download", download).await, Some("download started"));
    assert_eq!((bench.transfer(&id).delivered, entry(&bench, "download").sent), (0, 0));
    let confirm = bench.post_as(RECIPIENT, &format!("/{id}/confirmdownload"));
    assert_eq!(lost("confirm", confirm).await, Some("all confirmed"));
    assert_eq!(lost("overview", bench.get_as(SENDER, &format!("/{id}"))).await, None);
    assert_eq!(lost("details", bench.get_as(SENDER, &format!("/{id}/details"))).await, None);
    assert_eq!(bench.status(&id).await, "AllConfirmedDownloaded");
}

#[tokio::test]
async fn bytes_of_any_kind_can_come_instead_of_an_answer() {
    let bench = Bench::start().await;
    let words = "HTTP/1.1 200 OK\r\nContent-Le";
    put(&bench, json!({ "operation": "search", "effect": "raw", "text": words, "when": "after" })).await;
    let request = head(&bench, SENDER, &format!("GET {BASE}?resourceId={RESOURCE}"), "");
    let (answer, clean) = raw(&bench, request.as_bytes()).await;
    assert_eq!((String::from_utf8(answer).unwrap().as_str(), clean), (words, true));
    assert_eq!(entry(&bench, "search").status, None);
}

#[tokio::test]
async fn an_answer_is_delayed_before_the_effect_or_after_it() {
    let bench = Bench::start().await;
    for (when, early) in [("before", false), ("after", true)] {
        put(&bench, json!({ "operation": "initialize", "effect": "delay", "duration": "30s", "when": when }))
            .await;
        let before = bench.sandbox.transfers().len();
        let seen = async {
            let made = || bench.sandbox.transfers().len() > before;
            if early {
                eventually(made, || "the effect".to_owned()).await;
            }
            assert_eq!(made(), early);
        };
        let (id, ()) = tokio::join!(async { meanwhile_after(&bench, bench.initialize(|_| {})).await }, seen);
        assert!(!id.is_empty());
    }
    let delayed = bench.sandbox.ledger().entries().into_iter().filter(|it| it.operation == "initialize");
    assert!(delayed.map(|it| it.milliseconds).all(|milliseconds| milliseconds >= 30_000));
}

/// Lets the request go for a while before the time moves.
async fn meanwhile_after<T>(bench: &Bench, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    tokio::select! {
        _ = &mut work => panic!("it did not wait"),
        () = tokio::time::sleep(Duration::from_millis(100)) => {}
    }
    let (done, taken) = meanwhile(bench, Duration::from_secs(10), work).await;
    assert!(taken >= Duration::from_secs(30), "{taken:?}");
    done
}

#[tokio::test]
async fn an_upload_is_cut_at_a_byte_and_stays_started() {
    let bench = Bench::start().await;
    for (at, received) in [(0, 0), (3, 3), (5, 5), (900, 5)] {
        let id = bench.initialize(|_| {}).await;
        put(&bench, json!({ "transfer": id, "operation": "upload", "effect": "request-cut", "at": at }))
            .await;
        let request = bench.post_as(SENDER, &format!("/{id}/upload")).body("hello");
        assert!(request.send().await.is_err(), "{at}");
        let entry = || {
            let entries = bench.sandbox.ledger().entries();
            entries.into_iter().find(|it| it.operation == "upload" && it.transfer == id.parse().ok())
        };
        eventually(|| entry().is_some(), || "the end of the upload".to_owned()).await;
        assert_eq!(entry().unwrap().received, received);
        assert_eq!(bench.status(&id).await, "UploadStarted");
        put(&bench, json!([])).await;
        assert_eq!(bench.upload(&id, "hello").await.status, 200);
    }
}

#[tokio::test]
async fn an_upload_stalls_and_an_upload_is_slow() {
    let bench = Bench::start().await;
    for (rule, least) in [
        (json!({ "operation": "upload", "effect": "request-stall", "at": 3, "duration": "1m" }), 60),
        (json!({ "operation": "upload", "effect": "request-slow", "bytes_per_second": 100 }), 9),
    ] {
        let id = bench.initialize(|_| {}).await;
        put(&bench, rule.clone()).await;
        let content = "x".repeat(1000);
        let (reply, taken) = meanwhile(&bench, Duration::from_secs(1), bench.upload(&id, content)).await;
        assert_eq!(reply.status, 200);
        assert!(taken >= Duration::from_secs(least), "{rule} {taken:?}");
        assert_eq!(bench.transfer(&id).size, 1000);
    }
}

/// A published file of 600 000 bytes, which is a stream for the sandbox, or of 1000, which is not.
async fn published(bench: &Bench, size: usize) -> (String, Vec<u8>) {
    let content: Vec<u8> = (0..size).map(|place| u8::try_from(place % 251).unwrap()).collect();
    let id = bench.initialize(|_| {}).await;
    assert_eq!(bench.upload(&id, content.clone()).await.status, 200);
    (id, content)
}

#[tokio::test]
async fn a_download_is_cut_at_a_byte() {
    let bench = Bench::start().await;
    for (size, at, close) in
        [(1000, 0, "reset"), (1000, 7, "clean"), (600_000, 400_001, "clean"), (600_000, 7, "clean")]
    {
        let (id, content) = published(&bench, size).await;
        put(&bench, json!({ "operation": "download", "effect": "response-cut", "at": at, "close": close }))
            .await;
        let request = head(&bench, RECIPIENT, &format!("GET {BASE}/{id}/download"), "");
        let (answer, clean) = raw(&bench, request.as_bytes()).await;
        assert_eq!(clean, close == "clean");
        if clean {
            let body = answer.windows(4).position(|it| it == b"\r\n\r\n").unwrap() + 4;
            assert_eq!(answer[body..], content[..at], "{size} {at}");
            assert!(
                String::from_utf8_lossy(&answer[..body]).contains(&format!("content-length: {size}\r\n"))
            );
        }
        assert_eq!(bench.transfer(&id).delivered, 0);
        put(&bench, json!([])).await;
        assert_eq!(bench.download(RECIPIENT, &id, None).await.body, content);
        assert_eq!(bench.transfer(&id).delivered, 1);
    }
    let sent: Vec<u64> = bench
        .sandbox
        .ledger()
        .entries()
        .iter()
        .filter(|it| !it.faults.is_empty())
        .map(|it| it.sent)
        .collect();
    assert_eq!(sent, [0, 7, 400_001, 7]);
}

#[tokio::test]
async fn a_download_stalls_and_a_download_is_slow() {
    let bench = Bench::start().await;
    for (rule, least) in [
        (json!({ "operation": "download", "effect": "response-stall", "at": 3, "duration": "1m" }), 60),
        (json!({ "operation": "download", "effect": "response-slow", "bytes_per_second": 100 }), 9),
    ] {
        let (id, content) = published(&bench, 1000).await;
        put(&bench, rule.clone()).await;
        let download = bench.download(RECIPIENT, &id, None);
        let (reply, taken) = meanwhile(&bench, Duration::from_secs(1), download).await;
        assert_eq!(reply.body, content);
        assert_eq!(reply.header("Content-Length"), Some("1000"));
        assert!(taken >= Duration::from_secs(least), "{rule} {taken:?}");
        assert_eq!(bench.transfer(&id).delivered, 1);
    }
}

#[tokio::test]
async fn a_truncated_download_looks_whole() {
    let bench = Bench::start().await;
    for size in [1000, 600_000] {
        let (id, content) = published(&bench, size).await;
        put(&bench, json!({ "operation": "download", "effect": "response-truncate", "at": 999 })).await;
        let reply = bench.download(RECIPIENT, &id, None).await;
        assert_eq!((reply.status, reply.header("Content-Length")), (200, None));
        assert_eq!(reply.header("Transfer-Encoding"), Some("chunked"));
        assert_eq!(reply.body, content[..999]);
        assert_eq!(bench.transfer(&id).delivered, 0);
    }
}

#[tokio::test]
async fn a_byte_of_a_download_is_another_one() {
    let bench = Bench::start().await;
    for (size, at) in [(1000, 0), (1000, 999), (600_000, 599_999), (600_000, 262_144)] {
        let (id, mut content) = published(&bench, size).await;
        put(&bench, json!({ "operation": "download", "effect": "response-corrupt", "at": at })).await;
        let reply = bench.download(RECIPIENT, &id, None).await;
        content[at] = !content[at];
        assert_eq!(reply.body, content);
        assert_eq!(bench.transfer(&id).delivered, 0);
    }
}

#[tokio::test]
async fn an_answer_declares_a_length_that_it_has_not() {
    let bench = Bench::start().await;
    let (id, content) = published(&bench, 1000).await;
    let rule = |length| json!({ "operation": "download", "effect": "response-length", "length": length });
    put(&bench, rule(900)).await;
    let reply = bench.download(RECIPIENT, &id, None).await;
    assert_eq!((reply.header("Content-Length"), reply.body.as_slice()), (Some("900"), &content[..900]));
    put(&bench, rule(1100)).await;
    let response = bench.get_as(RECIPIENT, &format!("/{id}/download")).send().await.unwrap();
    assert_eq!(response.content_length(), Some(1100));
    assert!(response.bytes().await.is_err());
}

#[tokio::test]
async fn small_answers_can_be_twisted_as_downloads_can() {
    let bench = Bench::start().await;
    bench.initialize(|_| {}).await;
    let whole = search(&bench).await;
    let twisted = async |rule: Value| {
        put(&bench, rule).await;
        search(&bench).await
    };
    let corrupt = twisted(json!({ "effect": "response-corrupt", "at": 0 })).await;
    assert_eq!((corrupt.body[0], &corrupt.body[1..]), (!b'[', &whole.body[1..]));
    assert_eq!(corrupt.header("Content-Length"), whole.header("Content-Length"));
    let truncated = twisted(json!({ "effect": "response-truncate", "at": 4 })).await;
    assert_eq!(truncated.body, whole.body[..4]);
    put(&bench, json!({ "effect": "response-cut", "at": 4 })).await;
    let request = bench.get_as(SENDER, &format!("?resourceId={RESOURCE}"));
    assert!(request.send().await.unwrap().bytes().await.is_err());
}

#[tokio::test]
async fn several_rules_can_strike_at_one_request() {
    let bench = Bench::start().await;
    let (id, mut content) = published(&bench, 1000).await;
    put(
        &bench,
        json!([
            { "effect": "response-corrupt", "at": 1 },
            { "effect": "response-truncate", "at": 10 },
            { "effect": "delay", "duration": "5s" },
        ]),
    )
    .await;
    let download = bench.download(RECIPIENT, &id, None);
    let (reply, taken) = meanwhile(&bench, Duration::from_secs(1), download).await;
    content[1] = !content[1];
    assert_eq!(reply.body, content[..10]);
    assert!(taken >= Duration::from_secs(5));
    assert_eq!(entry(&bench, "download").faults.len(), 3);
}
