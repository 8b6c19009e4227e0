//! Sending a part, chunk after chunk.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Upload;
use super::death::Death;
use crate::broker::{self, Chunk, Role};
use crate::outbox::Route;
use crate::outbox::sending::{Handed, Stretch, while_reading};
use crate::outbox::upload::CUT;
use crate::route::{Kind, Trouble};
use crate::seams::crash_point;
use crate::transfer::{Effect, Failure, UploadSession};

/// A part that is being sent.
#[derive(Debug)]
pub(super) struct Part {
    /// Where it begins in the file.
    start: u64,
    pub(super) length: u64,
    pub(super) location: String,
    pub(super) place: Place,
    /// Bytes up to here have been sent by this process.
    reached: u64,
    /// A chunk was taken.
    pub(super) has_advanced: bool,
}

/// Where a part goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Here. Whether that is what Altinn has stored, or what it has accepted.
    At { offset: u64, is_stored: bool },
    /// Altinn has to be asked; so much it is known to have accepted.
    Unsure { accepted: Option<u64> },
}

/// Why nothing more is sent of a part for now.
pub(super) enum Ended {
    /// Altinn has every byte of the file.
    Accepted,
    /// Altinn has to be asked where it goes on, or whether it is whole.
    Unsure,
    /// The service stops, or another part cannot go on.
    Stopped,
    /// The upload is dead.
    Dead(Death),
    /// Something went wrong that passes, or that somebody has to see to.
    Failed(Box<Trouble>),
}

impl Part {
    /// All parts. Those from number `fresh` on were begun a moment ago.
    pub(super) fn all(session: &UploadSession, fresh: usize) -> Vec<Self> {
        let mut start = 0;
        let mut parts = Vec::new();
        for (number, part) in session.parts.iter().enumerate() {
            let Some(location) = part.location.clone() else { break };
            let place = if number >= fresh {
                Place::At { offset: 0, is_stored: true }
            } else {
                Place::Unsure { accepted: None }
            };
            let length = part.length;
            parts.push(Self { start, length, location, place, reached: 0, has_advanced: false });
            start += length;
        }
        parts
    }

    /// How far it has come.
    pub(super) fn come(&self) -> u64 {
        match self.place {
            Place::At { offset, .. } => offset,
            Place::Unsure { accepted } => accepted.unwrap_or(0),
        }
    }

    /// Whether Altinn has stored all of it.
    pub(super) fn is_whole(&self) -> bool {
        self.place == Place::At { offset: self.length, is_stored: true }
    }
}

impl Route {
    /// Sends chunk after chunk until the part is over, or it is not clear where it goes on. A chunk that is on its way
    /// is never broken off: Altinn may never store what it has had of it.
    pub(super) async fn send_part(self: &Arc<Self>, upload: &Upload, part: &mut Part) -> Ended {
        let ended = self.send_chunks(upload, part).await;
        if !matches!(ended, Ended::Unsure) {
            upload.halted.store(true, Ordering::Release);
        }
        ended
    }

    async fn send_chunks(self: &Arc<Self>, upload: &Upload, part: &mut Part) -> Ended {
        let mut is_renewed = false;
        loop {
            let Place::At { offset, is_stored } = part.place else { return Ended::Unsure };
            let size = upload.session.chunk_bytes.min(part.length.saturating_sub(offset));
            if self.stopping.is_cancelled() || upload.halted.load(Ordering::Acquire) || size == 0 {
                return Ended::Stopped;
            }
            let end = offset + size;
            let answer = self.send_chunk(upload, part, offset, size).await;
            crash_point("upload:chunk_answered");
            let error = match answer {
                Ok(answered) if answered == end => {
                    // Where it is one that others may not begin, that it goes on says nothing to them.
                    if !part.has_advanced && upload.shows_rights {
                        self.hold.release();
                    }
                    (part.has_advanced, is_renewed) = (true, false);
                    part.place = Place::At { offset: end, is_stored: false };
                    match (end == part.length, upload.session.is_joined()) {
                        (true, false) => return Ended::Accepted,
                        // It is joined when Altinn shows that it has stored all of it.
                        (true, true) => {
                            part.place = Place::Unsure { accepted: Some(end) };
                            return Ended::Unsure;
                        }
                        (false, _) => continue,
                    }
                }
                Ok(answered) => return Ended::Dead(Death::WrongOffset { sent: end, answered }),
                Err(error) => error,
            };
            part.place =
                Place::Unsure { accepted: error.accepted_offset().filter(|accepted| *accepted > offset) };
            return match (error.trouble(), error.accepted_offset()) {
                (broker::Trouble::Offset, Some(accepted)) if is_stored && accepted < offset => {
                    Ended::Dead(Death::Restarted { stored: offset, accepted })
                }
                (broker::Trouble::Offset, _) => Ended::Unsure,
                (broker::Trouble::Gone, _) => Ended::Dead(Death::NotFound),
                (broker::Trouble::AskOverview | broker::Trouble::Failed, _) => Ended::Dead(Death::Past),
                // The call was turned away before anything was looked at, and there is a new token now.
                (broker::Trouble::Token, _) if error.status().is_some() && !is_renewed => {
                    is_renewed = true;
                    part.place = Place::At { offset, is_stored };
                    continue;
                }
                _ if error.status() == Some(423) => Ended::Unsure,
                _ => Ended::Failed(Box::new(self.broken(&error))),
            };
        }
    }

    async fn send_chunk(
        self: &Arc<Self>,
        upload: &Upload,
        part: &mut Part,
        offset: u64,
        size: u64,
    ) -> Result<u64, broker::Error> {
        // Who waits for a token keeps no slot meanwhile: others may have theirs.
        self.means.broker.ready(upload.id, Role::Sender).await?;
        let _slot = self.means.slots.acquire().await;
        let ends_part = offset + size == part.length;
        let stretch =
            Stretch { from: part.start + offset, size, ends_file: ends_part && !upload.session.is_joined() };
        let ends_part = ends_part && upload.session.is_joined();
        let chunk = Chunk { location: &part.location, offset, size, ends_part };
        let handed = Arc::<Handed>::default();
        let (body, reading) = self.stretch(&upload.sending, stretch, &handed);
        let answer = while_reading(reading, self.means.broker.tus_patch(upload.id, chunk, body)).await;
        let reached = offset + handed.bytes();
        upload.resent.fetch_add(part.reached.min(reached).saturating_sub(offset), Ordering::Relaxed);
        part.reached = part.reached.max(reached);
        if answer.is_ok() && !ends_part {
            self.tempo.note(&handed);
        }
        answer
    }

    /// The trouble of a chunk that was not taken. What became of it is asked before anything is sent again.
    fn broken(&self, error: &broker::Error) -> Trouble {
        let trouble = Trouble::broker(error, self.means.now());
        let kind = match trouble.kind {
            // The file was taken before, so it is not the file.
            Kind::Permanent => Kind::Slow,
            kind => kind,
        };
        match error.effect() {
            Effect::Unknown => Trouble { failure: Failure { code: CUT.to_owned(), ..trouble.failure }, kind },
            Effect::None | Effect::Refused => Trouble { kind, ..trouble },
        }
    }
}
