//! Resumable uploads (TUS 1.0.0, as Formidling speaks it): begin, send a chunk, look, join.
//!
//! Altinn counts bytes twice: as *accepted* when a chunk's request ends, and as *stored* some time later. A chunk is
//! compared with the first number; looking shows the second. Each call is made once and judged by the one table.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, LOCATION};
use reqwest::{Method, RequestBuilder};

use super::client::{Client, Target};
use super::error::{Error, Kind};
use super::{Call, parse};
use crate::http::{Purpose, Reply};
use crate::identity::Scope;
use crate::transfer::BrokerTransferId;

const VERSION: (&str, &str) = ("Tus-Resumable", "1.0.0");
const OFFSET: &str = "Upload-Offset";
const LENGTH: &str = "Upload-Length";
const CONCAT: &str = "Upload-Concat";
/// The one type that a chunk may have.
const CHUNK: &str = "application/offset+octet-stream";
/// The longest path that is believed to be one of an upload.
const LONGEST_LOCATION: usize = 512;
/// Altinn answers the last chunk of a part when all of it is stored, for which it waits two hours (Broker API, TUS:
/// PATCH).
const STORING: Duration = Duration::from_mins(125);

/// How much of an upload is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// Bytes stored. What was accepted may be more.
    pub offset: u64,
    /// The size that the upload has over there. Another than ours, or none, says that it is not the upload that we
    /// began.
    pub length: Option<u64>,
}

/// A chunk that is to be sent.
#[derive(Debug, Clone, Copy)]
pub struct Chunk<'a> {
    /// Where the upload lies, as [`Client::tus_create`] gave it.
    pub location: &'a str,
    /// Where the chunk begins in the upload.
    pub offset: u64,
    /// Its bytes.
    pub size: u64,
    /// Whether it is the last of a part, which is answered late.
    pub ends_part: bool,
}

impl Client {
    /// Begins the upload of a file, or of a part of one, of `length` bytes; its path.
    ///
    /// Beginning a file's upload again throws away what was accepted, so it is never done once a chunk may have been
    /// sent. A part that was begun and whose path is not known has no bytes, and does no harm.
    pub async fn tus_create(&self, id: BrokerTransferId, length: u64, part: bool) -> Result<String, Error> {
        let target = self.tus(Call::TusCreate, id, Method::POST, &base(id))?;
        let fill = |request: RequestBuilder| {
            let request = request.header(VERSION.0, VERSION.1).header(LENGTH, length);
            if part { request.header(CONCAT, "partial") } else { request }
        };
        let reply = self.small(&target, fill).await?;
        location(&target, &reply, part).ok_or_else(|| {
            target.error(parse::garbled(&reply, "a Location below the address that was asked"))
        })
    }

    /// How much of an upload is stored.
    pub async fn tus_head(&self, id: BrokerTransferId, location: &str) -> Result<Stored, Error> {
        let target = self.tus(Call::TusHead, id, Method::HEAD, location)?;
        let reply = self.small(&target, |request| request.header(VERSION.0, VERSION.1)).await?;
        let Some(offset) = number(&reply.headers, OFFSET) else {
            return Err(target.error(parse::garbled(&reply, "Upload-Offset")));
        };
        Ok(Stored { offset, length: number(&reply.headers, LENGTH) })
    }

    /// Sends a chunk; the offset after it, by Altinn's word. Another than the chunk's end says that it is not the
    /// upload that we began.
    pub async fn tus_patch(
        &self,
        id: BrokerTransferId,
        chunk: Chunk<'_>,
        body: impl Stream<Item = Result<Bytes, io::Error>> + Send + 'static,
    ) -> Result<u64, Error> {
        let target = self.tus(Call::TusPatch, id, Method::PATCH, chunk.location)?;
        let (permit, token) = self.admitted_to_upload(id, &target).await?;
        let request = self.request(&target, Purpose::Upload, &token)?.header(ACCEPT, "application/json");
        let request = patch(request, chunk.offset);
        let answer = if chunk.ends_part {
            self.clients().upload_and_wait(request, chunk.size, body, STORING).await
        } else {
            self.clients().upload(request, chunk.size, body).await
        };
        let reply = self.judged_content(&target, permit, answer)?;
        if !(200..300).contains(&reply.status) {
            return Err(self.refused(&target, &token, &reply));
        }
        next_offset(&target, &reply)
    }

    /// Asks Altinn to finish an upload of which it has accepted all `length` bytes: a chunk without bytes at the end.
    /// The length by Altinn's word.
    pub async fn tus_finish(&self, id: BrokerTransferId, location: &str, length: u64) -> Result<u64, Error> {
        let target = self.tus(Call::TusPatch, id, Method::PATCH, location)?;
        let reply = self.small(&target, |request| patch(request, length).body("")).await?;
        next_offset(&target, &reply)
    }

    /// Has the parts at these paths joined to the file. They are joined in the order in which they were begun.
    ///
    /// After a lost answer the overview tells whether it was done.
    pub async fn tus_join(&self, id: BrokerTransferId, locations: &[String]) -> Result<(), Error> {
        let target = self.tus(Call::TusJoin, id, Method::POST, &base(id))?;
        let parts = format!("final;{}", locations.join(" "));
        let fill =
            |request: RequestBuilder| request.header(VERSION.0, VERSION.1).header(CONCAT, parts.as_str());
        self.small(&target, fill).await.map(drop)
    }

    /// A call to an upload. A path of another form than Altinn's own is refused, whoever named it: what goes there
    /// carries a token.
    fn tus(&self, call: Call, id: BrokerTransferId, method: Method, path: &str) -> Result<Target, Error> {
        let base = base(id);
        if path != base && !is_part(path, &base) {
            let kind = Kind::Garbled { status: 201, lacks: "a Location of ours", summary: path.to_owned() };
            return Err(Error::new(call, Some(id), kind));
        }
        self.target_at(call, Some(id), Scope::BrokerWrite, method, path)
    }
}

/// The path of a transfer's upload.
fn base(id: BrokerTransferId) -> String {
    format!("/broker/api/v1/filetransfer/upload/tus/{id}")
}

/// Whether a path is one of a part of an upload.
fn is_part(path: &str, base: &str) -> bool {
    let name = path.strip_prefix(base).and_then(|rest| rest.strip_prefix("/partial/"));
    path.len() <= LONGEST_LOCATION
        && name.is_some_and(|name| {
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        })
}

/// The path in `Location`, where it is on the same server and of the upload that was asked for.
fn location(target: &Target, reply: &Reply, part: bool) -> Option<String> {
    let text = reply.headers.get(LOCATION)?.to_str().ok()?;
    let url = target.url.join(text).ok()?;
    let is_plain = url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
    let base = target.url.path();
    let fits = if part { is_part(url.path(), base) } else { url.path() == base };
    (url.origin() == target.url.origin() && is_plain && fits).then(|| url.path().to_owned())
}

fn patch(request: RequestBuilder, offset: u64) -> RequestBuilder {
    request.header(VERSION.0, VERSION.1).header(OFFSET, offset).header(CONTENT_TYPE, CHUNK)
}

fn next_offset(target: &Target, reply: &Reply) -> Result<u64, Error> {
    number(&reply.headers, OFFSET).ok_or_else(|| target.error(parse::garbled(reply, "Upload-Offset")))
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}
