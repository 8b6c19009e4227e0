//! Resumable upload against the Broker's statements (TUS), and against a model.

mod access;
mod concat;
mod create;
mod finalise;
mod head;
mod model;
mod patch;
mod quirks;
mod restart;

use std::time::Duration;

use bytes::Bytes;
use reqwest::{Body, Method, RequestBuilder};
use serde_json::Value;
use tokio::sync::mpsc;

use super::support::{BASE, Bench, Reply, SENDER, send};

/// The two delays of the sandbox: storing a chunk, and each step of finalising.
pub(super) const STEP: Duration = Duration::from_millis(20);
pub(super) const DAY: Duration = Duration::from_hours(24);

pub(super) fn scanned(body: &mut Value) {
    body["disableVirusScan"] = false.into();
}

/// The path of the upload of a transfer.
pub(super) fn path(id: &str) -> String {
    format!("{BASE}/upload/tus/{id}")
}

impl Bench {
    /// A request of the protocol, by the sender.
    pub(super) fn tus(&self, method: Method, path: &str) -> RequestBuilder {
        self.request(method, path).bearer_auth(self.token(SENDER)).header("Tus-Resumable", "1.0.0")
    }

    pub(super) async fn create(&self, path: &str, length: u64) -> Reply {
        send(self.tus(Method::POST, path).header("Upload-Length", length)).await
    }

    /// A transfer whose upload has begun; gives id and path.
    pub(super) async fn begin(&self, length: u64, change: impl FnOnce(&mut Value)) -> (String, String) {
        let id = self.initialize(change).await;
        let path = path(&id);
        let reply = self.create(&path, length).await;
        assert_eq!(reply.status, 201, "{}", reply.text());
        (id, path)
    }

    pub(super) fn chunk(&self, path: &str, offset: u64, content: impl Into<Body>) -> RequestBuilder {
        self.tus(Method::PATCH, path)
            .header("Upload-Offset", offset)
            .header("Content-Type", "application/offset+octet-stream")
            .body(content)
    }

    pub(super) async fn patch(&self, path: &str, offset: u64, content: impl Into<Body>) -> Reply {
        send(self.chunk(path, offset, content)).await
    }

    pub(super) async fn head(&self, path: &str) -> Reply {
        send(self.tus(Method::HEAD, path)).await
    }

    /// The durable offset that HEAD shows.
    pub(super) async fn durable(&self, path: &str) -> Option<u64> {
        self.head(path).await.number("Upload-Offset")
    }

    /// The accepted offset, as the refusal of a PATCH names it.
    pub(super) async fn accepted(&self, path: &str) -> Option<u64> {
        // No upload here is as long as this is off the mark, nor as short as the offset.
        for offset in [0, 1] {
            let reply = self.patch(path, offset, "").await;
            let text = reply.text();
            if let Some(rest) = text.strip_prefix("Offset does not match file. File offset: ") {
                return rest.split('.').next().unwrap().parse().ok();
            }
        }
        None
    }

    /// A PATCH during which time passes.
    pub(super) async fn patch_meanwhile(&self, path: &str, offset: u64, content: impl Into<Body>) -> Reply {
        let time = async {
            loop {
                self.clock.advance(STEP);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::select! {
            reply = self.patch(path, offset, content) => reply,
            () = time => unreachable!(),
        }
    }

    /// Begins a partial upload; gives its path.
    pub(super) async fn begin_partial(&self, path: &str, length: u64) -> String {
        let request = self.tus(Method::POST, path).header("Upload-Concat", "partial");
        let reply = send(request.header("Upload-Length", length)).await;
        assert_eq!(reply.status, 201, "{}", reply.text());
        reply.header("Location").unwrap().to_owned()
    }

    /// A whole partial upload, in chunks of at most three bytes; gives its path.
    pub(super) async fn partial(&self, path: &str, content: &str) -> String {
        let part = self.begin_partial(path, content.len() as u64).await;
        let mut offset = 0;
        for chunk in content.as_bytes().chunks(3) {
            let end = offset + chunk.len() as u64;
            self.patch_meanwhile(&part, offset, chunk.to_vec()).await.is_accepted(end);
            offset = end;
        }
        part
    }

    /// Has partial uploads joined.
    pub(super) async fn join(&self, path: &str, parts: &[&str]) -> Reply {
        let list = format!("final;{}", parts.join(" "));
        send(self.tus(Method::POST, path).header("Upload-Concat", list)).await
    }

    /// Lets a moment pass, and waits until HEAD shows the offset.
    pub(super) async fn until_durable(&self, path: &str, offset: u64) {
        self.clock.advance(STEP);
        self.until_stored(path, offset).await;
    }

    /// Waits, without time passing, until HEAD shows the offset.
    pub(super) async fn until_stored(&self, path: &str, offset: impl Into<Option<u64>>) {
        let wanted = offset.into();
        let patience = tokio::time::timeout(Duration::from_secs(30), async {
            while self.durable(path).await != wanted {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        assert!(patience.await.is_ok(), "waited in vain for {wanted:?}: {:?}", self.head(path).await);
    }

    /// Lets the upload, whose last chunk was accepted, be finalised, and no further.
    pub(super) async fn until_finalised(&self, id: &str, path: &str, length: u64, status: &str) {
        self.until_durable(path, length).await;
        self.clock.advance(STEP);
        self.until(id, status).await;
    }

    /// Lets time pass, step by step, until the transfer has the status.
    pub(super) async fn run_until(&self, id: &str, status: &str) {
        let patience = tokio::time::timeout(Duration::from_secs(30), async {
            while self.transfer(id).status().name() != status {
                self.clock.advance(STEP);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        assert!(patience.await.is_ok(), "waited in vain for {status}: {:?}", self.transfer(id));
    }

    /// Lets time pass until everything that is due has been done.
    pub(super) async fn run(&self, steps: u32) {
        for _ in 0..steps {
            self.clock.advance(STEP);
            // Jobs that are due now run on threads of their own: a request behind them shows
            // nothing, but a whole upload takes the same ways and is finished after them.
            self.probe().await;
        }
    }

    /// A small upload that is stored by the same jobs.
    async fn probe(&self) {
        let (_, path) = Box::pin(self.begin(2, |_| {})).await;
        assert_eq!(self.patch(&path, 0, "x").await.status, 204);
        self.until_durable(&path, 1).await;
    }

    /// A request of raw bytes whose connection is then cut.
    pub(super) async fn cut(&self, path: &str, offset: u64, announced: usize, sent: &str) {
        use tokio::io::AsyncWriteExt as _;
        let address = self.sandbox.url().strip_prefix("http://").unwrap().to_owned();
        let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
        let head = format!(
            "PATCH {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {}\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: {offset}\r\nContent-Type: application/offset+octet-stream\r\nContent-Length: {announced}\r\n\r\n{sent}",
            self.token(SENDER)
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        drop(stream);
    }

    /// Waits until the upload has accepted so many bytes.
    pub(super) async fn until_accepted(&self, path: &str, offset: u64) {
        let patience = tokio::time::timeout(Duration::from_secs(30), async {
            while self.accepted(path).await != Some(offset) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        assert!(patience.await.is_ok(), "waited in vain for {offset}: {:?}", self.accepted(path).await);
    }
}

impl Reply {
    pub(super) fn number(&self, header: &str) -> Option<u64> {
        self.header(header)?.parse().ok()
    }

    /// A refusal of the protocol's library: plain text with `Tus-Resumable`.
    #[track_caller]
    pub(super) fn is_refused(&self, status: u16, text: &str) {
        assert_eq!((self.status, self.text().as_str()), (status, text));
        assert_eq!(self.header("Tus-Resumable"), Some("1.0.0"));
        assert_eq!(self.header("Content-Type"), Some("text/plain"));
    }

    /// A refusal of the Broker's own: plain text without `Tus-Resumable`.
    #[track_caller]
    pub(super) fn is_forbidden(&self, status: u16, text: &str) {
        assert_eq!((self.status, self.text().as_str()), (status, text));
        assert_eq!(self.header("Tus-Resumable"), None);
        assert_eq!(self.header("Content-Type"), Some("text/plain"));
    }

    #[track_caller]
    pub(super) fn is_accepted(&self, offset: u64) {
        assert_eq!(self.status, 204, "{}", self.text());
        assert_eq!(self.number("Upload-Offset"), Some(offset));
        assert_eq!(self.header("Tus-Resumable"), Some("1.0.0"));
    }
}

pub(super) const ALREADY: &str = "A file transfer has already been, or attempted to be, created. Create a new file transfer resource to try again.";
pub(super) const UNKNOWN: &str = "The requested file transfer was not found";
pub(super) const NO_ACCESS: &str = "You must use a bearer token that represents a system user with access to the resource in the Resource Rights Registry";

/// A body whose blocks a test sends when it wants; dropping the sender ends it properly.
pub(super) fn held_body() -> (mpsc::Sender<Result<Bytes, std::io::Error>>, Body) {
    let (sender, receiver) = mpsc::channel(1);
    let blocks = futures_util::stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|block| (block, receiver))
    });
    (sender, Body::wrap_stream(blocks))
}
