//! Clients that are too slow.

use std::cell::Cell;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::support::{BASE, Bench, RECIPIENT, SENDER, eventually};

const SECOND: Duration = Duration::from_secs(1);

async fn connect(bench: &Bench, request: &str, organization: &str) -> TcpStream {
    let address = bench.sandbox.url().strip_prefix("http://").unwrap().to_owned();
    let mut stream = TcpStream::connect(&address).await.unwrap();
    let token = bench.token(organization);
    let head = format!("{request} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

/// How many seconds pass until something holds.
async fn seconds_until(bench: &Bench, condition: impl Fn() -> bool) -> u64 {
    let seconds = Cell::new(0);
    let passes = || {
        bench.clock.advance(SECOND);
        seconds.set(seconds.get() + 1);
        condition()
    };
    eventually(passes, || "a slow client to be cut off".to_owned()).await;
    seconds.get()
}

#[tokio::test]
async fn an_upload_below_a_hundred_bytes_a_second_is_408_and_has_failed() {
    let bench = Bench::start().await;
    for (bytes, patience) in [(3, 10), (5_000, 50)] {
        let id = bench.initialize(|_| {}).await;
        let mut stream = connect(&bench, &format!("POST {BASE}/{id}/upload"), SENDER).await;
        let blobs = bench.blobs();
        stream.write_all(b"Content-Length: 10000\r\n\r\n").await.unwrap();
        stream.write_all(&vec![b'x'; bytes]).await.unwrap();
        eventually(|| bench.blobs() > blobs, || "a partial blob".to_owned()).await;
        let seconds = seconds_until(&bench, || bench.transfer(&id).status().name() == "Failed").await;
        assert!(seconds >= patience, "{seconds}");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("connection: close"), "{answer}");
        let overview = bench.overview(&id).await;
        assert_eq!(overview["fileTransferStatusText"], "Error occurred while uploading fileTransfer");
        assert_eq!(bench.count_events(&id, "uploadfailed"), 1);
        eventually(|| bench.blobs() == 0, || "the partial blob to go".to_owned()).await;
    }
    assert_eq!(bench.sandbox.ledger().count("upload", 408), 2);
}

#[tokio::test]
async fn an_initialize_that_does_not_come_to_its_end_is_408() {
    let bench = Bench::start().await;
    let mut stream = connect(&bench, &format!("POST {BASE}"), SENDER).await;
    stream.write_all(b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{").await.unwrap();
    seconds_until(&bench, || bench.sandbox.ledger().count("initialize", 408) == 1).await;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

#[tokio::test]
async fn a_recipient_that_stops_reading_is_cut_off() {
    const SIZE: u64 = 40_000_000;
    let bench = Bench::start().await;
    let id = bench.publish(&"x".repeat(40_000_000)).await;
    let mut stream = connect(&bench, &format!("GET {BASE}/{id}/download"), RECIPIENT).await;
    stream.write_all(b"\r\n").await.unwrap();
    stream.read_exact(&mut [0; 1000]).await.unwrap();
    let sent = || {
        let entries = bench.sandbox.ledger().entries();
        entries.iter().find(|it| it.operation == "download").map_or(0, |it| it.sent)
    };
    // What was sent is written down when the answer is given up.
    let seconds = seconds_until(&bench, || sent() > 0).await;
    assert!(seconds >= 5 && sent() < SIZE, "{seconds} s, {} bytes", sent());
    let mut rest = Vec::new();
    let ended = stream.read_to_end(&mut rest).await;
    assert!(ended.is_err(), "a reset, after {} bytes", rest.len());
    assert_eq!(bench.transfer(&id).delivered, 0);
}
