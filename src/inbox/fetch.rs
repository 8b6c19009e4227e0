//! The requests of one download: each goes on where the file ends, and what is not the answer that was asked for is
//! not written to it.

use std::sync::Arc;

use futures_util::StreamExt;
use tokio::sync::mpsc;
use tracing::{debug, warn};

use super::Route;
use crate::broker::{self, Download};
use crate::files::{Claimed, Lack, Writer};
use crate::route::{Kind, Trouble};
use crate::seams;
use crate::transfer::{Effect, Offer};

/// Blocks that wait for the disk.
const BLOCKS_WAITING: usize = 2;
/// Breaks in one download after which it is put off; each that brought something new begins the count again.
const MAX_BREAKS: u32 = 5;
/// How often the whole file is refused where its rest was asked for. A gateway may have a bad moment; one that cannot
/// do better would otherwise keep the file from ever arriving.
const WHOLE_REFUSED: u32 = 2;

/// Why fetching ended without the file.
#[derive(Debug)]
pub(super) enum Stop {
    Trouble(Trouble),
    AskOverview(Trouble),
    /// Others have filled the file system.
    NoRoom(Lack),
    /// More bytes came than the file has.
    TooMuch(Writer),
}

/// What one request came to, where the download can go on.
#[derive(Debug)]
enum Broken {
    /// It ended as it should.
    No,
    /// It broke off.
    Off(Trouble),
    /// The whole file came in place of its rest, and was not taken.
    Whole(Trouble),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pumped {
    Ended,
    TooMuch,
}

impl Route {
    /// Fetches what is missing, and goes on after breaks.
    pub(super) async fn fetch(
        self: &Arc<Self>,
        offer: &Offer,
        mut writer: Writer,
        room: &Arc<Claimed>,
    ) -> Result<Writer, Stop> {
        let (mut breaks, mut refused) = (0, 0);
        // An empty file is asked for, too: Altinn takes a confirmation only after a download.
        let mut is_asked_for = writer.offset() > 0;
        while !is_asked_for || writer.offset() < offer.size {
            is_asked_for = true;
            let from = writer.offset();
            let takes_whole = refused >= WHOLE_REFUSED;
            let (returned, broken) = self.fetch_once(offer, writer, room, takes_whole).await?;
            writer = returned;
            let trouble = match broken {
                Broken::No => continue,
                Broken::Off(trouble) => trouble,
                Broken::Whole(trouble) => {
                    refused += 1;
                    trouble
                }
            };
            breaks = if writer.offset() > from { 1 } else { breaks + 1 };
            // Who is asked to wait keeps no slot meanwhile.
            if breaks > MAX_BREAKS || matches!(trouble.kind, Kind::Temporary(Some(_))) {
                return Err(Stop::Trouble(trouble));
            }
            debug!(code = %trouble.failure.code, at = writer.offset(), "download broke off: going on");
            tokio::time::sleep(self.means.backoff.delay(breaks - 1)).await;
        }
        Ok(writer)
    }

    /// One request, from where the file ends.
    async fn fetch_once(
        &self,
        offer: &Offer,
        mut writer: Writer,
        room: &Arc<Claimed>,
        takes_whole: bool,
    ) -> Result<(Writer, Broken), Stop> {
        let download = match self.means.broker.download(offer.id, writer.offset()).await {
            Ok(download) => download,
            Err(error) => return self.refused(writer, &error),
        };
        let now = self.means.now();
        // Before what is there is touched: it may be a page of somebody on the way.
        if let Some(reason) = unlike(&download, offer) {
            let remedy =
                "nothing: it is asked for again; if it lasts, see what stands between here and Altinn";
            let trouble = Trouble::new(Kind::Temporary(None), "download_not_as_asked", reason, remedy, now);
            return Ok((writer, Broken::Off(trouble)));
        }
        if download.offset != writer.offset() {
            if !takes_whole {
                let message = format!(
                    "the rest of the file was asked for, from byte {}, and all of it came",
                    writer.offset()
                );
                let remedy =
                    "nothing: the rest is asked for again, and if it cannot be had, the whole file is taken";
                let kind = Kind::Temporary(None);
                let trouble = Trouble::new(kind, "download_not_as_asked", message, remedy, now);
                return Ok((writer, Broken::Whole(trouble)));
            }
            warn!(file_transfer = %offer.id, thrown_away = writer.offset(), "only the whole file can be had, and not its rest: it is fetched from its beginning");
            let restarted = seams::blocking(move || writer.restart().map(|()| writer)).await;
            writer = restarted.map_err(|error| Stop::Trouble(Trouble::files(&error, now)))?;
        }
        let left = offer.size.saturating_sub(writer.offset());
        let (sender, receiver) = mpsc::channel(BLOCKS_WAITING);
        let (claimed, min_free) = (Arc::clone(room), self.settings.min_free_space);
        let folder = writer.folder().clone();
        let look = move || claimed.look(&folder, |total| min_free.bytes(total));
        let writing = writer.receive(receiver, offer.size, look);
        let pumping = pump(download, left, sender);
        let ((writer, written), pumped) = tokio::join!(writing, pumping);
        if let Some(lack) = written.map_err(|error| Stop::Trouble(Trouble::files(&error, now)))? {
            return Err(Stop::NoRoom(lack));
        }
        match pumped {
            Ok(Pumped::Ended) if writer.offset() >= offer.size => Ok((writer, Broken::No)),
            Ok(Pumped::Ended) => Ok((writer, Broken::Off(cut(now)))),
            Ok(Pumped::TooMuch) => Err(Stop::TooMuch(writer)),
            Err(error) => Ok((writer, Broken::Off(Trouble::broker(&error, now)))),
        }
    }

    /// A request for bytes that was answered with something else.
    fn refused(&self, writer: Writer, error: &broker::Error) -> Result<(Writer, Broken), Stop> {
        use broker::Trouble as Found;
        let trouble = Trouble::broker(error, self.means.now());
        match error.trouble() {
            Found::NotReady | Found::Gone | Found::Range | Found::AskOverview => {
                Err(Stop::AskOverview(trouble))
            }
            Found::Server | Found::Platform if error.effect() != Effect::Refused => {
                Ok((writer, Broken::Off(trouble)))
            }
            _ => Err(Stop::Trouble(trouble)),
        }
    }
}

/// Hands on what comes, but no more than is `left` of the file.
async fn pump(
    download: Download,
    mut left: u64,
    sender: mpsc::Sender<bytes::Bytes>,
) -> Result<Pumped, broker::Error> {
    let mut body = download.body;
    while let Some(block) = body.next().await {
        let block = block?;
        left = match left.checked_sub(block.len() as u64) {
            Some(left) => left,
            None => return Ok(Pumped::TooMuch),
        };
        if sender.send(block).await.is_err() {
            break;
        }
    }
    Ok(Pumped::Ended)
}

/// Whether what is about to come cannot be of this file, by what its head says.
fn unlike(download: &Download, offer: &Offer) -> Option<String> {
    let size = offer.size;
    match (download.total, download.length) {
        (Some(total), _) if total != size => {
            Some(format!("a file of {total} bytes is about to come, and this one has {size}"))
        }
        (_, Some(length)) if length > size.saturating_sub(download.offset) => Some(format!(
            "{length} bytes are about to come, and {} are missing",
            size.saturating_sub(download.offset)
        )),
        _ => None,
    }
}

fn cut(now: jiff::Timestamp) -> Trouble {
    let message = "the download ended before the end of the file".to_owned();
    Trouble::new(Kind::Temporary(None), "download_cut", message, "nothing: it is resumed", now)
}
