//! Tiny servers on loopback, for the tests of the rooms that speak HTTP.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use url::Url;

use super::{Clients, Settings};

/// A server that lives as long as this value.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) url: Url,
    _task: JoinSet<()>,
}

impl Server {
    /// Serves `router`.
    pub(crate) async fn start(router: axum::Router) -> Self {
        let (listener, url) = listen().await;
        let mut task = JoinSet::new();
        task.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, _task: task }
    }

    /// Gives each connection to `serve`, as it is.
    pub(crate) async fn raw<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (listener, url) = listen().await;
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _peer) = listener.accept().await.unwrap();
                connections.spawn(serve(stream));
            }
        });
        Self { url, _task: task }
    }
}

async fn listen() -> (TcpListener, Url) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    (listener, url)
}

/// Reads until the end of a request's headers, and gives them.
pub(crate) async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// Writes `text`, and never minds whether it arrives.
pub(crate) async fn write(stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).await.unwrap_or_default();
}

/// A port of this machine that nobody listens on.
pub(crate) async fn dead_url() -> Url {
    listen().await.1
}

/// Clients that are impatient, so that a test of patience is short.
pub(crate) fn clients() -> Clients {
    Clients::new(&impatient()).unwrap()
}

pub(crate) fn impatient() -> Settings {
    Settings {
        idle_timeout: Duration::from_millis(300),
        answer_timeout: Duration::from_millis(600),
        ..Settings::default()
    }
}

/// An error and all its reasons, as a log has them.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = format!("{error} {error:?}");
    let mut next = error.source();
    while let Some(reason) = next {
        text = format!("{text}: {reason} {reason:?}");
        next = reason.source();
    }
    text
}
