//! Where an upload goes on: what Altinn has stored, once that stands still or has caught up with what it has accepted.

use std::time::Duration;

use tokio::time::Instant;

use super::Upload;
use super::death::Death;
use super::part::{Part, Place};
use crate::broker;
use crate::outbox::Route;
use crate::outbox::follow::{Seen, seen};
use crate::outbox::upload::cut;
use crate::route::Trouble;

/// How often Altinn has to fail to answer before an upload counts as lost.
const LOST_LOOKS: u32 = 5;
/// Another request holds the upload, or did a moment ago.
const LOCKED: u16 = 423;
/// What Altinn answers about an upload that it has forgotten, among other things.
const FAILED: u16 = 500;

/// How patient the looking is; all of it on tokio's time.
#[derive(Debug, Clone, Copy)]
struct Patience {
    /// The first wait between two looks. They double, up to the longest.
    first: Duration,
    longest: Duration,
    /// How long nothing may move.
    wedged: Duration,
    /// How long Altinn may fail to answer.
    lost: Duration,
}

impl Patience {
    fn of(wedged: Duration) -> Self {
        let share = wedged / 4;
        Self {
            first: share.min(Duration::from_secs(1)),
            longest: share.min(Duration::from_secs(30)),
            wedged,
            lost: wedged * 2,
        }
    }
}

/// What was found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The upload goes on here.
    At(u64),
    /// It does not go on.
    Dead(Death),
    /// The service is about to stop.
    Stopped,
}

impl Route {
    /// Looks until it is known where a part goes on.
    ///
    /// Where nothing is known of what Altinn has accepted, two looks in a row have to agree; where it is known, what is
    /// stored has to catch up with it.
    pub(super) async fn find_offset(&self, upload: &Upload, part: &Part) -> Result<Found, Trouble> {
        let mut accepted = match part.place {
            Place::Unsure { accepted } => accepted,
            Place::At { offset, .. } => return Ok(Found::At(offset)),
        };
        let patience = Patience::of(self.means.retry.wedged_after);
        let mut pause = patience.first;
        let mut before = None;
        let mut moved = Instant::now();
        let mut failing: Option<(Instant, u32)> = None;
        loop {
            match self.means.broker.tus_head(upload.id, &part.location).await {
                Ok(stored) if stored.length != Some(part.length) || stored.offset > part.length => {
                    return Ok(Found::Dead(Death::Foreign { length: stored.length }));
                }
                Ok(stored) => {
                    self.hold.release();
                    failing = None;
                    let offset = stored.offset;
                    if offset == part.length || accepted == Some(offset) {
                        return Ok(Found::At(offset));
                    }
                    // A chunk that was still on its way was accepted after we asked.
                    accepted = accepted.filter(|accepted| *accepted > offset);
                    let stands_still = before.replace(offset) == Some(offset);
                    if !stands_still {
                        (moved, pause) = (Instant::now(), patience.first);
                    }
                    match accepted {
                        None if stands_still => return Ok(Found::At(offset)),
                        Some(accepted) if stands_still && moved.elapsed() >= patience.wedged => {
                            return Ok(Found::Dead(Death::Wedged { stored: offset, accepted }));
                        }
                        None | Some(_) => {}
                    }
                }
                Err(error) if error.status() == Some(FAILED) => {
                    let (since, looks) = failing.unwrap_or((Instant::now(), 0));
                    failing = Some((since, looks + 1));
                    if looks + 1 >= LOST_LOOKS && since.elapsed() >= patience.lost {
                        return self.lost(upload, &error).await;
                    }
                }
                Err(error) if error.status() == Some(LOCKED) && moved.elapsed() < patience.wedged => {}
                Err(error) => {
                    return match error.trouble() {
                        broker::Trouble::Gone => Ok(Found::Dead(Death::NotFound)),
                        broker::Trouble::AskOverview => Ok(Found::Dead(Death::Past)),
                        _ => Err(Trouble::broker(&error, self.means.now())),
                    };
                }
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.stopping.cancelled() => return Ok(Found::Stopped),
            }
            pause = pause.saturating_mul(2).min(patience.longest);
        }
    }

    /// Altinn has failed for long to answer about the upload. It has forgotten it, if it can answer about the transfer
    /// and waits for bytes; else it is in trouble itself.
    async fn lost(&self, upload: &Upload, error: &broker::Error) -> Result<Found, Trouble> {
        let overview = self.overview(upload.id).await?;
        if seen(&overview) == Seen::Begun {
            return Ok(Found::Dead(Death::Lost));
        }
        Err(cut(Trouble::broker(error, self.means.now()).failure))
    }
}
