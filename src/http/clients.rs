//! The clients, and the ways to use them.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use jiff::Timestamp;
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};
use reqwest::{Client, Method, NoProxy, RequestBuilder, Response, redirect, retry};
use url::{Host, Url};

use super::{Error, Proxy, Sent, Settings};

/// The largest answer that is read into memory. A details page with thousands of rows stays far below.
const LARGEST_REPLY_BYTES: usize = 16 * 1024 * 1024;

/// The clients that everything shares, so that connections are shared too. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Clients(Arc<Inner>);

#[derive(Debug, Clone)]
struct Inner {
    remote: Set,
    loopback: Set,
    timeouts: Timeouts,
    #[cfg(debug_assertions)]
    network: Option<Arc<dyn super::Network>>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Timeouts {
    pub(super) idle: Duration,
    pub(super) call: Duration,
    pub(super) answer: Duration,
}

/// One client for each purpose, since a read timeout belongs to a client and not to a request.
#[derive(Debug, Clone)]
struct Set {
    calls: Client,
    downloads: Client,
    uploads: Client,
}

/// What a request is for, which decides how long it may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// A small question with a small answer: limited in whole.
    Call,
    /// A small question with a large answer: limited where it stands still.
    Download,
    /// A large body: [`Clients::upload`] watches that it moves.
    Upload,
}

/// An answer, read to its end.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// Makes aws-lc the one crypto provider of this process. Before the first client; more than once does no harm.
pub fn install_crypto_provider() {
    // Refused only when there is one already, and no other than this is linked.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
}

impl Clients {
    /// Makes the clients.
    pub fn new(settings: &Settings) -> Result<Self, Error> {
        install_crypto_provider();
        let certificates = match &settings.ca_file {
            Some(pem) => certificates(pem)?,
            None => Vec::new(),
        };
        let make = |loopback: bool, read_timeout: Option<Duration>| {
            make(settings, &certificates, loopback, read_timeout)
        };
        let set = |loopback: bool| {
            Ok(Set {
                calls: make(loopback, None)?,
                downloads: make(loopback, Some(settings.idle_timeout))?,
                // Not here: a client's read timeout runs from the start of a request, also while it is still
                // sending, and would cut every upload that takes longer.
                uploads: make(loopback, None)?,
            })
        };
        Ok(Self(Arc::new(Inner {
            remote: set(false)?,
            loopback: set(true)?,
            timeouts: Timeouts {
                idle: settings.idle_timeout,
                call: settings.call_timeout,
                answer: settings.answer_timeout,
            },
            #[cfg(debug_assertions)]
            network: None,
        })))
    }

    /// The same clients on another network, which answers every request.
    #[cfg(debug_assertions)]
    #[must_use]
    pub fn on(&self, network: Arc<dyn super::Network>) -> Self {
        let mut inner = (*self.0).clone();
        inner.network = Some(network);
        Self(Arc::new(inner))
    }

    #[cfg(debug_assertions)]
    pub(super) fn network(&self) -> Option<&dyn super::Network> {
        self.0.network.as_deref()
    }

    pub(super) fn timeouts(&self) -> Timeouts {
        self.0.timeouts
    }

    /// A request to be filled in, then given to [`Clients::call`], [`Clients::open`] or [`Clients::upload`].
    pub fn request(&self, purpose: Purpose, method: Method, url: Url) -> Result<RequestBuilder, Error> {
        let loopback = is_loopback(&url);
        if url.scheme() != "https" && !(loopback && url.scheme() == "http") {
            return Err(Error::Insecure { host: host(&url) });
        }
        let set = if loopback { &self.0.loopback } else { &self.0.remote };
        Ok(match purpose {
            Purpose::Call => set.calls.request(method, url).timeout(self.0.timeouts.call),
            Purpose::Download => set.downloads.request(method, url),
            Purpose::Upload => set.uploads.request(method, url),
        })
    }

    /// Sends a request and reads the whole answer, which is small.
    pub async fn call(&self, request: RequestBuilder) -> Result<Reply, Error> {
        let response = self.open(request).await?;
        self.read(response).await
    }

    /// Sends a request and gives the answer when its body is yet to come.
    pub async fn open(&self, request: RequestBuilder) -> Result<Response, Error> {
        let (client, request) = request.build_split();
        let request = request.map_err(|error| failure(error, Sent::Nothing))?;
        self.execute(&client, request, || Sent::Whole).await
    }

    /// The one way out to the network. `sent` tells, after a failure, how much of the request may have left.
    pub(super) async fn execute(
        &self,
        client: &Client,
        request: reqwest::Request,
        sent: impl Fn() -> Sent,
    ) -> Result<Response, Error> {
        #[cfg(debug_assertions)]
        if let Some(network) = self.network() {
            return super::network::answer(network, request, self.0.timeouts.idle, sent).await;
        }
        client.execute(request).await.map_err(|error| failure(error, sent()))
    }

    /// Reads the rest of an answer that turned out to be small, as a refusal is.
    pub async fn read(&self, mut response: Response) -> Result<Reply, Error> {
        let host = host(response.url());
        let mut body = BytesMut::new();
        let (status, headers) = (response.status().as_u16(), std::mem::take(response.headers_mut()));
        loop {
            let next = tokio::time::timeout(self.0.timeouts.idle, response.chunk()).await;
            let chunk = next.map_err(|_elapsed| Error::Timeout { host: host.clone(), sent: Sent::Whole })?;
            let Some(chunk) = chunk.map_err(|error| failure(error, Sent::Whole))? else { break };
            if body.len() + chunk.len() > LARGEST_REPLY_BYTES {
                return Err(Error::TooLarge { host, limit: LARGEST_REPLY_BYTES });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Reply { status, headers, body: body.freeze() })
    }

    /// An error of a body that is being read, in this room's words.
    #[must_use]
    pub fn broken_body(&self, error: reqwest::Error) -> Error {
        failure(error, Sent::Whole)
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<reqwest::Certificate>, Error> {
    let certificates = reqwest::Certificate::from_pem_bundle(pem)
        .map_err(|error| Error::Certificates { source: Some(Arc::new(error)) })?;
    if certificates.is_empty() {
        return Err(Error::Certificates { source: None });
    }
    Ok(certificates)
}

#[expect(clippy::disallowed_methods, reason = "this is the one place that makes clients")]
fn make(
    settings: &Settings,
    certificates: &[reqwest::Certificate],
    loopback: bool,
    read_timeout: Option<Duration>,
) -> Result<Client, Error> {
    let mut builder = Client::builder()
        .user_agent(concat!("formidlingd/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .referer(false)
        .tcp_nodelay(true)
        .connect_timeout(settings.connect_timeout)
        // HTTP/2 brings nothing to large bodies and costs processor time, on downloads most of all.
        .http1_only()
        .https_only(!loopback)
        .tls_certs_merge(certificates.iter().cloned());
    if let Some(timeout) = read_timeout {
        builder = builder.read_timeout(timeout);
    }
    builder = match (&settings.proxy, loopback) {
        (Proxy::None, _) | (_, true) => builder.no_proxy(),
        (Proxy::Environment, false) => builder,
        (Proxy::Url { url, credentials }, false) => {
            let mut bare = url.clone();
            // They fail for addresses that cannot have credentials, and then there is nothing to remove.
            bare.set_username("").and_then(|()| bare.set_password(None)).unwrap_or_default();
            let mut proxy = reqwest::Proxy::all(bare)
                .map_err(|error| Error::Proxy { host: host(url), source: Arc::new(error.without_url()) })?;
            match credentials {
                Some(login) => proxy = proxy.basic_auth(&login.user, login.password.expose()),
                None if !url.username().is_empty() => {
                    proxy = proxy.basic_auth(url.username(), url.password().unwrap_or_default());
                }
                None => {}
            }
            builder.proxy(proxy.no_proxy(NoProxy::from_string(&settings.no_proxy.join(","))))
        }
    };
    builder.build().map_err(|error| Error::Client { source: Arc::new(error.without_url()) })
}

/// Whether an address is this machine's own.
#[must_use]
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Host and port, for people.
pub(super) fn host(url: &Url) -> String {
    let name = url.host_str().unwrap_or("an address without a host");
    match url.port() {
        Some(port) => format!("{name}:{port}"),
        None => name.to_owned(),
    }
}

/// An error of the library, without its URL, sorted.
pub(super) fn failure(error: reqwest::Error, sent: Sent) -> Error {
    let host = error.url().map_or_else(|| "the server".to_owned(), host);
    let (connect, timeout, builder) = (error.is_connect(), error.is_timeout(), error.is_builder());
    let source = Arc::new(error.without_url());
    if builder {
        Error::Request { host, source }
    } else if connect {
        Error::Connect { host, source }
    } else if timeout {
        Error::Timeout { host, sent }
    } else {
        Error::Cut { host, sent, source }
    }
}

/// The server's time, as its `Date` header has it (RFC 9110, section 6.6.1).
#[must_use]
pub fn date(headers: &HeaderMap) -> Option<Timestamp> {
    let text = headers.get(DATE)?.to_str().ok()?;
    http_date(text)
}

fn http_date(text: &str) -> Option<Timestamp> {
    jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()
}

/// How long the server asks us to wait (RFC 9110, section 10.2.3): in seconds, or until a date, which is read
/// against the server's own clock.
#[must_use]
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let wait = http_date(text)?.duration_since(date(headers)?);
    Some(Duration::try_from(wait).unwrap_or(Duration::ZERO))
}
