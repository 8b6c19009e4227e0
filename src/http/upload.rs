//! A large body, watched while it goes out.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use reqwest::header::CONTENT_LENGTH;
use reqwest::{Body, RequestBuilder};
use tokio::time::Instant;

use super::clients::{Timeouts, failure, host};
use super::{Clients, Error, Reply, Sent};

impl Clients {
    /// Sends `request` with `size` bytes of `body`, and reads the answer.
    ///
    /// The library's own timeouts do not see a connection that takes no more bytes, so this does: when no block
    /// is taken for the idle timeout, the request is cut. After the last block the server has the longer answer
    /// timeout to store what it got. An error tells whether the last byte may have left ([`Error::sent`]).
    pub async fn upload(
        &self,
        request: RequestBuilder,
        size: u64,
        body: impl Stream<Item = Result<Bytes, io::Error>> + Send + 'static,
    ) -> Result<Reply, Error> {
        self.upload_and_wait(request, size, body, self.timeouts().answer).await
    }

    /// The same, with another patience for the answer.
    pub async fn upload_and_wait(
        &self,
        request: RequestBuilder,
        size: u64,
        body: impl Stream<Item = Result<Bytes, io::Error>> + Send + 'static,
        answer: Duration,
    ) -> Result<Reply, Error> {
        let progress = Arc::new(Progress::new(size, Timeouts { answer, ..self.timeouts() }));
        // The library goes on sending when the answer is there before the whole body has left.
        let _end = End(Arc::clone(&progress));
        let watched = Watched { body: Box::pin(body), progress: Arc::clone(&progress) };
        let request = request.header(CONTENT_LENGTH, size).body(Body::wrap_stream(watched));
        let (client, request) = request.build_split();
        let request = request.map_err(|error| failure(error, Sent::Nothing))?;
        let host = host(request.url());
        let answer = tokio::select! {
            answer = self.execute(&client, request, || progress.sent()) => answer,
            (idle, sent) = progress.standstill() => return Err(Error::Stalled { host, idle, sent }),
        };
        match answer {
            Ok(response) => self.read(response).await,
            Err(error) => Err(progress.explain(error)),
        }
    }
}

/// How far a body has come.
#[derive(Debug)]
struct Progress {
    size: u64,
    timeouts: Timeouts,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    taken: u64,
    moved: Instant,
    broken: Option<Arc<io::Error>>,
    ended: bool,
}

impl Progress {
    fn new(size: u64, timeouts: Timeouts) -> Self {
        Self {
            size,
            timeouts,
            state: Mutex::new(State { taken: 0, moved: Instant::now(), broken: None, ended: false }),
        }
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How much may have left. A block that was never taken from the stream was never given to a socket.
    fn sent(&self) -> Sent {
        if self.with(|state| state.taken) >= self.size { Sent::Whole } else { Sent::Part }
    }

    /// Returns when the body has stood still for too long, with how long that was.
    async fn standstill(&self) -> (Duration, Sent) {
        loop {
            let sent = self.sent();
            let patience = match sent {
                Sent::Whole => self.timeouts.answer,
                Sent::Nothing | Sent::Part => self.timeouts.idle,
            };
            let deadline = self.with(|state| state.moved) + patience;
            if Instant::now() >= deadline {
                return (patience, sent);
            }
            tokio::time::sleep_until(deadline).await;
        }
    }

    /// Blames our own reading where that is what broke.
    fn explain(&self, error: Error) -> Error {
        let broken = self.with(|state| state.broken.take());
        match (error, broken) {
            (Error::Cut { host, sent, .. }, Some(source)) => Error::Source { host, sent, source },
            (error, _) => error,
        }
    }
}

/// Ends the body when the upload is over, however it ended.
struct End(Arc<Progress>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.with(|state| state.ended = true);
    }
}

/// A body that notes what is taken from it.
struct Watched {
    body: Pin<Box<dyn Stream<Item = Result<Bytes, io::Error>> + Send>>,
    progress: Arc<Progress>,
}

impl Stream for Watched {
    type Item = Result<Bytes, io::Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.progress.with(|state| state.ended) {
            return Poll::Ready(Some(Err(io::Error::other("the upload is over"))));
        }
        let next = std::task::ready!(self.body.as_mut().poll_next(context));
        self.progress.with(|state| match &next {
            Some(Ok(block)) => {
                state.taken += block.len() as u64;
                state.moved = Instant::now();
            }
            Some(Err(error)) => {
                state.broken = Some(Arc::new(io::Error::new(error.kind(), error.to_string())));
            }
            None => {}
        });
        Poll::Ready(next)
    }
}
