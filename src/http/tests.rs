//! The clients against servers that wait, break off and refuse.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::{any, get, post};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use reqwest::Method;
use reqwest::header::{DATE, HeaderMap, LOCATION, RETRY_AFTER};
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use url::Url;

use super::testing::{Server, chain, clients, dead_url, impatient, read_head, write};
use super::*;

const MIB: usize = 1024 * 1024;

fn blocks(count: usize) -> impl stream::Stream<Item = io::Result<Bytes>> + Send {
    stream::iter((0..count).map(|_| Ok(Bytes::from(vec![7; MIB]))))
}

async fn upload(
    url: Url,
    size: usize,
    body: impl stream::Stream<Item = io::Result<Bytes>> + Send + 'static,
) -> Result<Reply, Error> {
    let clients = clients();
    let request = clients.request(Purpose::Upload, Method::POST, url).unwrap();
    clients.upload(request, size as u64, body).await
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_not_followed() {
    let visits = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&visits);
    let elsewhere = Server::start(Router::new().fallback(any(async move || {
        counted.fetch_add(1, Ordering::SeqCst);
    })))
    .await;
    let to = elsewhere.url.to_string();
    let here =
        Server::start(Router::new().fallback(any(async move || (StatusCode::FOUND, [(LOCATION, to)])))).await;
    let clients = clients();
    for purpose in [Purpose::Call, Purpose::Download, Purpose::Upload] {
        let request = clients.request(purpose, Method::GET, here.url.clone()).unwrap().bearer_auth("token");
        assert_eq!(clients.call(request).await.unwrap().status, 302);
    }
    assert_eq!(visits.load(Ordering::SeqCst), 0);
}

#[test]
fn only_this_machine_is_reached_without_https() {
    let clients = Clients::new(&Settings::default()).unwrap();
    let cases = [
        ("https://platform.altinn.no/x", true),
        ("http://platform.altinn.no/x", false),
        ("http://127.0.0.1:8080/x", true),
        ("http://[::1]/x", true),
        ("http://localhost/x", true),
        ("http://localhost.evil.example/x", false),
        ("http://127.0.0.1.evil.example/x", false),
        ("ftp://localhost/x", false),
    ];
    for (url, allowed) in cases {
        let request = clients.request(Purpose::Call, Method::GET, url.parse().unwrap());
        assert_eq!(request.is_ok(), allowed, "{url}");
        assert!(!request.is_err_and(|error| chain(&error).contains("/x")), "{url}");
    }
}

#[tokio::test]
async fn a_proxy_is_used_for_others_and_never_for_this_machine() {
    let (requests, mut seen) = mpsc::unbounded_channel();
    let proxy = Server::raw(move |mut stream| {
        let requests = requests.clone();
        async move {
            requests.send(read_head(&mut stream).await).unwrap();
            write(&mut stream, "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
                .await;
        }
    })
    .await;
    let credentials = Credentials { user: "u".into(), password: Secret::new("hidden") };
    let settings = Settings {
        proxy: Proxy::Url { url: proxy.url.clone(), credentials: Some(credentials) },
        ..impatient()
    };
    assert!(!format!("{settings:?}").contains("hidden"));
    let clients = Clients::new(&settings).unwrap();

    let url = "https://platform.altinn.invalid/path?secret=1".parse().unwrap();
    let error = clients.call(clients.request(Purpose::Call, Method::GET, url).unwrap()).await.unwrap_err();
    let head = seen.recv().await.unwrap();
    assert!(head.starts_with("CONNECT platform.altinn.invalid:443 "), "{head}");
    assert!(head.to_lowercase().contains("proxy-authorization: basic dtpoawrkzw4="), "{head}");
    assert_eq!(error.sent(), Sent::Nothing, "{error:?}");
    assert!(!chain(&error).contains("secret"), "{}", chain(&error));

    let here = Server::start(Router::new().route("/", get(async || "here"))).await;
    let request = clients.request(Purpose::Call, Method::GET, here.url.clone()).unwrap();
    assert_eq!(clients.call(request).await.unwrap().body, "here");
}

#[tokio::test]
async fn nothing_is_sent_where_nobody_listens() {
    let error = upload(dead_url().await.join("?secret=1").unwrap(), MIB, blocks(1)).await.unwrap_err();
    assert_eq!((error.sent(), error.code()), (Sent::Nothing, "connect_failed"));
    assert!(!chain(&error).contains("secret"), "{}", chain(&error));
}

#[tokio::test]
async fn a_slow_upload_that_moves_is_not_cut() {
    let server = Server::start(Router::new().route(
        "/",
        post(async |body: axum::body::Body| {
            let mut size = 0;
            let mut blocks = body.into_data_stream();
            while let Some(block) = blocks.next().await {
                size += block.unwrap().len();
            }
            size.to_string()
        }),
    ))
    .await;
    // Four times the idle timeout in all, a third of it between blocks.
    let slow = stream::unfold(0, async |sent: usize| {
        tokio::time::sleep(Duration::from_millis(100)).await;
        (sent < 12).then(|| (Ok(Bytes::from_static(b"block")), sent + 1))
    });
    assert_eq!(upload(server.url.clone(), 60, slow).await.unwrap().body, "60");
}

#[tokio::test]
async fn an_upload_that_nobody_takes_is_cut() {
    let server = Server::raw(async |mut stream| {
        read_head(&mut stream).await;
        std::future::pending::<()>().await;
    })
    .await;
    // More than any socket holds.
    let error = upload(server.url.clone(), 256 * MIB, blocks(256)).await.unwrap_err();
    assert!(matches!(error, Error::Stalled { sent: Sent::Part, .. }), "{error:?}");
}

#[tokio::test]
async fn an_upload_that_is_not_answered_is_cut_and_may_have_arrived() {
    let server = Server::raw(async |mut stream| {
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.unwrap_or_default();
    })
    .await;
    let error = upload(server.url.clone(), MIB, blocks(1)).await.unwrap_err();
    assert!(matches!(error, Error::Stalled { sent: Sent::Whole, .. }), "{error:?}");
}

#[tokio::test]
async fn an_upload_whose_connection_breaks_tells_how_far_it_came() {
    for (wait_for, sent) in [(1, Sent::Part), (4 * MIB, Sent::Whole)] {
        let server = Server::raw(move |mut stream| async move {
            read_head(&mut stream).await;
            let mut body = vec![0; wait_for];
            stream.read_exact(&mut body).await.unwrap();
        })
        .await;
        let (block, mut more) = mpsc::unbounded_channel();
        block.send(Ok(Bytes::from(vec![7; MIB]))).unwrap();
        for _ in 0..3 {
            if sent == Sent::Whole {
                block.send(Ok(Bytes::from(vec![7; MIB]))).unwrap();
            }
        }
        let body = stream::poll_fn(move |context| more.poll_recv(context));
        let error = upload(server.url.clone(), 4 * MIB, body).await.unwrap_err();
        assert_eq!(error.sent(), sent, "{error:?}");
        drop(block);
    }
}

#[tokio::test]
async fn nothing_more_is_sent_once_there_is_an_answer() {
    let server = Server::raw(async |mut stream| {
        read_head(&mut stream).await;
        write(&mut stream, "HTTP/1.1 409 Conflict\r\nContent-Length: 0\r\n\r\n").await;
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.unwrap_or_default();
    })
    .await;
    let (alive, mut gone) = mpsc::channel::<()>(1);
    let endless = stream::repeat_with(move || {
        assert!(!alive.is_closed());
        Ok(Bytes::from_static(&[7; 4096]))
    });
    assert_eq!(upload(server.url.clone(), usize::MAX / 2, endless).await.unwrap().status, 409);
    // The body is let go of, and the file with it.
    assert_eq!(tokio::time::timeout(Duration::from_secs(10), gone.recv()).await, Ok(None));
}

#[tokio::test]
async fn an_unreadable_file_is_blamed_on_the_file() {
    let server = Server::raw(async |mut stream| {
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.unwrap_or_default();
    })
    .await;
    let broken = stream::iter([Ok(Bytes::from_static(b"begin")), Err(io::Error::other("the disk is gone"))]);
    let error = upload(server.url.clone(), 10, broken).await.unwrap_err();
    assert!(matches!(error, Error::Source { sent: Sent::Part, .. }), "{error:?}");
    assert!(chain(&error).contains("the disk is gone"));
}

#[tokio::test]
async fn a_download_that_stands_still_or_ends_early_is_an_error() {
    for stall in [true, false] {
        let server = Server::raw(move |mut stream| async move {
            read_head(&mut stream).await;
            write(&mut stream, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").await;
            if stall {
                std::future::pending::<()>().await;
            }
        })
        .await;
        let clients = clients();
        let request = clients.request(Purpose::Download, Method::GET, server.url.clone()).unwrap();
        let mut body = clients.open(request).await.unwrap().bytes_stream();
        assert_eq!(body.next().await.unwrap().unwrap(), "half");
        let error = clients.broken_body(body.next().await.unwrap().unwrap_err());
        assert_eq!(matches!(error, Error::Timeout { .. }), stall, "{error:?}");
        assert_eq!(matches!(error, Error::Cut { .. }), !stall, "{error:?}");
    }
}

#[tokio::test]
async fn an_endless_answer_is_cut() {
    let server = Server::start(Router::new().route(
        "/",
        get(async || {
            axum::body::Body::from_stream(stream::repeat_with(|| Ok::<_, io::Error>(vec![32; MIB])))
        }),
    ))
    .await;
    let clients = clients();
    let request = clients.request(Purpose::Call, Method::GET, server.url.clone()).unwrap();
    assert!(matches!(clients.call(request).await, Err(Error::TooLarge { .. })));
}

#[test]
fn certificates_to_trust_must_be_some() {
    for pem in ["", "not a certificate", "-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n"]
    {
        let settings = Settings { ca_file: Some(pem.as_bytes().to_vec()), ..Settings::default() };
        assert_eq!(Clients::new(&settings).unwrap_err().effect(), crate::transfer::Effect::None, "{pem:?}");
    }
}

#[test]
fn dates_and_waits_are_read() {
    let headers = |date: &str, wait: &str| {
        let mut headers = HeaderMap::new();
        headers.insert(DATE, date.parse().unwrap());
        headers.insert(RETRY_AFTER, wait.parse().unwrap());
        headers
    };
    let now = "Sun, 06 Nov 1994 08:49:37 GMT";
    let cases = [
        ("120", Some(120)),
        (" 7 ", Some(7)),
        ("Sun, 06 Nov 1994 08:50:07 GMT", Some(30)),
        ("Sun, 06 Nov 1994 08:40:07 GMT", Some(0)),
        ("-1", None),
        ("soon", None),
        ("99999999999999999999999", None),
    ];
    for (wait, seconds) in cases {
        assert_eq!(retry_after(&headers(now, wait)), seconds.map(Duration::from_secs), "{wait}");
    }
    assert_eq!(date(&headers(now, "0")), Some(Timestamp::from_second(784_111_777).unwrap()));
    assert_eq!(date(&headers("yesterday", "0")), None);
    assert_eq!(date(&HeaderMap::new()), None);
}
