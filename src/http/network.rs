//! A network that a test has made. Debug builds alone have it.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use reqwest::{Body, Method, Request, Response};

use super::clients::host;
use super::{Error, Sent};

/// What becomes of a request.
pub type Answer = Pin<Box<dyn Future<Output = Result<Response, Lost>> + Send>>;

/// A network that answers requests in the place of the real one. It takes bodies at its own pace, and may leave a
/// request without an answer for ever: the waits are limited as on the real network.
pub trait Network: fmt::Debug + Send + Sync {
    /// Answers a request.
    fn answer(&self, request: Request) -> Answer;
}

/// Why a request got no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// No connection was made.
    Connect,
    /// The connection broke.
    Cut,
}

/// An answer, or an error in this room's words.
pub(super) async fn answer(
    network: &dyn Network,
    request: Request,
    idle: Duration,
    sent: impl Fn() -> Sent,
) -> Result<Response, Error> {
    // What is fetched has no limit but its client's read timeout.
    let is_fetched = request.method() == Method::GET;
    let limit = request.timeout().copied().or(is_fetched.then_some(idle));
    let host = host(request.url());
    let answer = network.answer(request);
    let answer = match limit {
        Some(limit) => tokio::time::timeout(limit, answer).await,
        None => Ok(answer.await),
    };
    match answer {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(Lost::Connect)) => Err(Error::Connect { host, source: Arc::new(broken().await) }),
        Ok(Err(Lost::Cut)) => Err(Error::Cut { host, sent: sent(), source: Arc::new(broken().await) }),
        Err(_elapsed) => Err(Error::Timeout { host, sent: sent() }),
    }
}

/// An error of the library, which nobody else can make: that of a body that breaks.
async fn broken() -> reqwest::Error {
    loop {
        let breaks = stream::once(async { Err::<Bytes, _>(io::Error::from(io::ErrorKind::ConnectionReset)) });
        let mut response = Response::from(axum::http::Response::new(Body::wrap_stream(breaks)));
        if let Err(error) = response.chunk().await {
            return error.without_url();
        }
    }
}
