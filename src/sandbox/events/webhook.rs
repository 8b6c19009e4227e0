//! One POST to an endpoint, as the platform's HTTP client does it.

use std::error::Error as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

use bytes::Bytes;
use futures_util::StreamExt as _;
use reqwest::{Certificate, Client, header, redirect};
use serde::Serialize;
use serde_json::json;
use tokio::sync::OnceCell;

use crate::sandbox::Error;
use crate::sandbox::blocking::blocking;

/// The content type of every push; not that of CloudEvents.
const CONTENT_TYPE: &str = "application/json; charset=utf-8";
/// An endpoint with this in it gets its own form.
const SLACK: &str = "hooks.slack.com";
/// As many redirects does .NET follow.
const REDIRECTS: usize = 50;

/// Posts to endpoints.
pub(super) struct Webhook {
    /// Authorities to trust besides those of the system.
    authorities: Vec<Certificate>,
    /// Made at the first POST: most sandboxes never do one.
    client: OnceCell<Client>,
}

impl Webhook {
    /// Reads the authorities.
    pub(super) fn new(trust: &[PathBuf]) -> Result<Self, Error> {
        let mut authorities = Vec::new();
        for path in trust {
            authorities.extend(read(path)?);
        }
        Ok(Self { authorities, client: OnceCell::new() })
    }

    /// Posts, follows redirects, and reads the answer to its end; the status, or what went wrong.
    pub(super) async fn post(&self, endpoint: &str, body: Bytes) -> Result<u16, String> {
        let client = self.client().await.map_err(|error| error.to_string())?;
        let request = client.post(endpoint).header(header::CONTENT_TYPE, CONTENT_TYPE).body(body);
        let response = request.send().await.map_err(chain)?;
        let status = response.status().as_u16();
        let mut rest = response.bytes_stream();
        while let Some(block) = rest.next().await {
            block.map_err(chain)?;
        }
        Ok(status)
    }

    /// Making the client reads the system's authorities from the disk.
    async fn client(&self) -> io::Result<&Client> {
        let make = || {
            let authorities = self.authorities.clone();
            blocking(move || client(authorities).map_err(io::Error::other))
        };
        self.client.get_or_try_init(make).await
    }
}

/// The body of a push.
pub(super) fn body(endpoint: &str, event: &impl Serialize) -> serde_json::Result<Bytes> {
    let text = serde_json::to_string(event)?;
    if endpoint.contains(SLACK) {
        return Ok(json!({ "text": text }).to_string().into());
    }
    Ok(text.into())
}

fn read(path: &Path) -> Result<Vec<Certificate>, Error> {
    let text =
        fs::read(path).map_err(|error| Error::Trust { path: path.to_owned(), source: error.into() })?;
    let certificates = Certificate::from_pem_bundle(&text)
        .map_err(|error| Error::Trust { path: path.to_owned(), source: error.into() })?;
    if certificates.is_empty() {
        return Err(Error::Trust { path: path.to_owned(), source: "no certificate is in it".into() });
    }
    Ok(certificates)
}

/// Redirects as .NET follows them: 301, 302 and 303 turn a POST into a GET, 307 and 308 do not, and
/// none leads from https to http.
#[expect(
    clippy::disallowed_methods,
    reason = "the sandbox shares no code with the client, so it makes its own"
)]
fn client(authorities: Vec<Certificate>) -> reqwest::Result<Client> {
    let follow = redirect::Policy::custom(|attempt| {
        if attempt.url().scheme() != "https" || attempt.previous().len() > REDIRECTS {
            attempt.stop()
        } else {
            attempt.follow()
        }
    });
    Client::builder()
        .redirect(follow)
        .referer(false)
        .http1_only()
        .no_proxy()
        .tls_certs_merge(authorities)
        .build()
}

/// An error with all its causes, since the outermost says only that sending failed; without the
/// endpoint, in which there is a secret.
fn chain(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
