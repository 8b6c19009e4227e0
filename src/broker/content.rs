//! Content, coming in.

use std::fmt;
use std::pin::Pin;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use reqwest::Response;
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE};

use super::error::{Error, Kind};
use super::{Call, Client};
use crate::transfer::BrokerTransferId;

/// The bytes of a file as they come.
pub type Body = Pin<Box<dyn Stream<Item = Result<Bytes, Error>> + Send>>;

/// A download that has begun.
pub struct Download {
    /// Where the body begins in the file: what was asked for, or 0 when Altinn sends the whole file instead.
    pub offset: u64,
    /// How many bytes are to come.
    pub length: Option<u64>,
    /// The size of the whole file.
    pub total: Option<u64>,
    /// The bytes. An error may come after any of them; a body that ends early ends with one.
    pub body: Body,
}

impl fmt::Debug for Download {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Download")
            .field("offset", &self.offset)
            .field("length", &self.length)
            .field("total", &self.total)
            .finish_non_exhaustive()
    }
}

impl Download {
    /// Makes something of a success.
    pub(super) fn begin(
        client: &Client,
        id: BrokerTransferId,
        from: u64,
        response: Response,
    ) -> Result<Self, Error> {
        let status = response.status().as_u16();
        let length = header(&response, &CONTENT_LENGTH).and_then(|text| text.parse().ok());
        let (offset, total) = match status {
            // The whole file, also when a part was asked for: then what we have is not to be appended to.
            200 => (0, length),
            206 => match header(&response, &CONTENT_RANGE).and_then(content_range) {
                // More or fewer bytes than were named could not be told apart from a file that is damaged.
                Some((first, last, total))
                    if first == from && length.is_none_or(|length| length == last - first + 1) =>
                {
                    (from, total)
                }
                Some(_) | None => {
                    let kind = Kind::Garbled {
                        status,
                        lacks: "the Content-Range that was asked for",
                        summary: header(&response, &CONTENT_RANGE).unwrap_or_default().to_owned(),
                    };
                    return Err(Error::new(Call::Download, Some(id), kind));
                }
            },
            other => {
                let kind = Kind::Garbled { status: other, lacks: "content", summary: String::new() };
                return Err(Error::new(Call::Download, Some(id), kind));
            }
        };
        let clients = client.clients().clone();
        let body = response.bytes_stream().map(move |block| {
            block
                .map_err(|error| Error::new(Call::Download, Some(id), Kind::Http(clients.broken_body(error))))
        });
        Ok(Self { offset, length, total, body: Box::pin(body) })
    }
}

fn header<'a>(response: &'a Response, name: &reqwest::header::HeaderName) -> Option<&'a str> {
    response.headers().get(name)?.to_str().ok()
}

/// First byte, last byte and, where it is known, size of the whole: `bytes 100-199/200`, `bytes 100-199/*`.
pub(super) fn content_range(text: &str) -> Option<(u64, u64, Option<u64>)> {
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last): (u64, u64) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    let total = match total.trim() {
        "*" => None,
        digits => Some(digits.parse().ok()?),
    };
    (first <= last && total.is_none_or(|total| last < total)).then_some((first, last, total))
}
