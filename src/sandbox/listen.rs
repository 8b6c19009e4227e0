//! The listener: loopback connections without Nagle's delay, with TLS or without, which end when the sandbox ends.
//!
//! A client that is slow with its handshake must not keep others waiting.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::clock::Clock;
use super::line::{End, Line};
use super::pace::{OUT_AT_ONCE, Outgoing};

/// How long an accept error (such as too many open files) is waited out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a handshake may take.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(10);
/// So many handshakes are under way at once; who comes later waits in the kernel's queue.
const HANDSHAKES: usize = 1000;

/// Accepts connections that `cut` ends.
pub(super) struct Door {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    handshakes: JoinSet<Option<(TlsStream<TcpStream>, SocketAddr)>>,
    cut: CancellationToken,
    clock: Arc<dyn Clock>,
}

impl Door {
    /// A door that speaks TLS when there is a configuration of it.
    pub(super) fn new(
        listener: TcpListener,
        tls: Option<Arc<rustls::ServerConfig>>,
        cut: CancellationToken,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { listener, tls: tls.map(TlsAcceptor::from), handshakes: JoinSet::new(), cut, clock }
    }

    fn connection(&self, stream: Stream) -> Connection {
        let line = Line::new(self.cut.child_token());
        let cut = Box::pin(line.is_cut());
        Connection { stream, cut, line, outgoing: Outgoing::new(Arc::clone(&self.clock)) }
    }

    async fn greet(
        &mut self,
        accepted: io::Result<(TcpStream, SocketAddr)>,
    ) -> Option<(Connection, SocketAddr)> {
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "sandbox: a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                return None;
            }
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "sandbox: TCP_NODELAY could not be set");
        }
        let Some(tls) = &self.tls else { return Some((self.connection(Stream::Plain(stream)), address)) };
        let handshake = tls.accept(stream);
        self.handshakes.spawn(async move {
            // By the machine's time, as everything that is about connections and not about Altinn.
            match tokio::time::timeout(HANDSHAKE_PATIENCE, handshake).await {
                Ok(Ok(stream)) => Some((stream, address)),
                Ok(Err(error)) => {
                    tracing::debug!(%error, "sandbox: a TLS handshake failed");
                    None
                }
                Err(_) => {
                    tracing::debug!("sandbox: a TLS handshake took too long");
                    None
                }
            }
        });
        None
    }
}

impl Listener for Door {
    type Io = Connection;
    type Addr = SocketAddr;

    // What is dropped with this future is tried again by the next call: no connection is lost.
    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            let has_room = self.handshakes.len() < HANDSHAKES;
            tokio::select! {
                Some(ended) = self.handshakes.join_next() => {
                    if let Ok(Some((stream, address))) = ended {
                        return (self.connection(Stream::Tls(Box::new(stream))), address);
                    }
                }
                accepted = self.listener.accept(), if has_room => {
                    if let Some(greeted) = self.greet(accepted).await {
                        return greeted;
                    }
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Connected<IncomingStream<'_, Door>> for Line {
    fn connect_info(stream: IncomingStream<'_, Door>) -> Self {
        stream.io().line.clone()
    }
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        }
    }
}

/// A connection that fails as soon as the sandbox is gone, or when its line is cut.
pub(super) struct Connection {
    stream: Stream,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    line: Line,
    outgoing: Outgoing,
}

/// Passes a call on to whichever stream it is.
macro_rules! pass {
    ($stream:expr, $method:ident, $($argument:expr),+) => {
        match $stream {
            Stream::Plain(stream) => Pin::new(stream).$method($($argument),+),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).$method($($argument),+),
        }
    };
}

impl Connection {
    fn is_cut(&mut self, context: &mut Context<'_>) -> bool {
        self.cut.as_mut().poll(context).is_ready()
    }

    /// Passes on what came of a write of so many bytes, unless the client takes nothing for too long.
    fn unless_stuck<T>(
        &mut self,
        context: &mut Context<'_>,
        bytes: usize,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.outgoing.moves();
        } else if self.outgoing.is_stuck(bytes, context) {
            self.line.cut(End::Reset);
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        written
    }

    /// Writes what is to be said instead of the server's own bytes, and then ends the connection.
    fn poll_instead(&mut self, context: &mut Context<'_>) -> Option<Poll<io::Result<usize>>> {
        let mut words = self.line.instead()?;
        while !words.is_empty() {
            match pass!(&mut self.stream, poll_write, context, &words) {
                Poll::Ready(Ok(written)) => drop(words.split_to(written)),
                Poll::Ready(Err(error)) => return Some(Poll::Ready(Err(error))),
                Poll::Pending => {
                    self.line.say_instead(words);
                    return Some(Poll::Pending);
                }
            }
        }
        if pass!(&mut self.stream, poll_flush, context).is_pending() {
            self.line.say_instead(words);
            return Some(Poll::Pending);
        }
        self.line.cut(End::Close);
        Some(Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.line.wants_reset()
            && let Err(error) = self.stream.tcp().set_zero_linger()
        {
            tracing::debug!(%error, "sandbox: a connection could not be set to end with a reset");
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_cut(cx) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        pass!(&mut self.stream, poll_read, cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_cut(cx) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        if let Some(instead) = self.poll_instead(cx) {
            return instead;
        }
        let written = pass!(&mut self.stream, poll_write, cx, buf);
        self.unless_stuck(cx, buf.len(), written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = pass!(&mut self.stream, poll_flush, cx);
        if matches!(flushed, Poll::Ready(Ok(()))) {
            self.line.flushed();
        }
        self.unless_stuck(cx, OUT_AT_ONCE, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        pass!(&mut self.stream, poll_shutdown, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.is_cut(cx) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        if let Some(instead) = self.poll_instead(cx) {
            return instead;
        }
        let written = pass!(&mut self.stream, poll_write_vectored, cx, bufs);
        self.unless_stuck(cx, bufs.iter().map(|buf| buf.len()).sum(), written)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }
}
