//! What goes wrong by chance: the same for the same seed.

use super::call::Operation;
use super::disk::Death;

/// What goes wrong with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// There is no connection.
    Connect,
    /// The request never arrives.
    LostBefore,
    /// The answer never arrives.
    LostAfter,
    /// Half of a body arrives.
    CutBody,
    /// Half of a chunk arrives, counts, and is never stored.
    Wedge,
    /// A whole upload arrives, and is stored when nobody waits for it any more.
    Late,
    /// The answer takes for ever.
    Stall,
    /// This answer instead, of this number, before anything has happened.
    Status(u16, u16),
    /// This answer instead, after all has happened.
    StatusAfter(u16),
}

/// Answers that mean that nothing has happened, where they are Altinn's own.
const REFUSALS: [(u16, u16); 9] =
    [(401, 0), (401, 6), (403, 0), (403, 5), (429, 0), (423, 0), (503, 21), (503, 0), (408, 0)];
/// Answers of somebody between us and Altinn, that say nothing.
const AFTERWARDS: [u16; 5] = [500, 502, 503, 504, 200];
/// No room, an error of the disk, no room in the quota.
const ERRORS: [i32; 3] = [28, 5, 122];

/// Faults in one life story, at most.
pub(crate) const FAULTS: u32 = 12;
/// Deaths in one life story, at most. Three complete downloads that a loss of power has torn are a person's to look at.
const DEATHS: u32 = 4;

/// Chance, with a limit: what goes wrong ends some time.
#[derive(Debug, Clone)]
pub(crate) struct Chance {
    pub(crate) random: fastrand::Rng,
    /// Faults and deaths yet to come.
    pub(crate) left: u32,
    pub(crate) deaths: u32,
}

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self { random: fastrand::Rng::with_seed(seed), left: FAULTS, deaths: DEATHS }
    }

    fn one_in(&mut self, number: u32) -> bool {
        let hit = self.left > 0 && self.random.u32(0..number) == 0;
        self.left -= u32::from(hit);
        hit
    }

    pub(crate) fn dies(&mut self) -> bool {
        let hit = self.deaths > 0 && self.random.u32(0..60) == 0;
        self.deaths -= u32::from(hit);
        hit
    }

    /// How the disk is left. Nothing is torn by the last deaths, so that no download is damaged too often.
    pub(crate) fn death(&mut self, possible: &[Death]) -> Death {
        let can = |death: &&Death| self.deaths + 2 >= DEATHS || !matches!(death, Death::Cut | Death::Zero);
        let possible: Vec<Death> = possible.iter().filter(can).copied().collect();
        possible[self.random.usize(0..possible.len())]
    }

    pub(crate) fn operation_fails(&mut self, operation: &str) -> Option<i32> {
        // An answer that was lost belongs to network file systems, and has tests of its own.
        let can = !matches!(operation, "move and hear of" | "rename" | "watch");
        (can && self.one_in(40)).then(|| ERRORS[self.random.usize(0..ERRORS.len())])
    }

    pub(crate) fn fault(&mut self, operation: Operation) -> Fault {
        if !self.one_in(5) {
            return Fault::None;
        }
        let (status, number) = REFUSALS[self.random.usize(0..REFUSALS.len())];
        match self.random.u32(0..8) {
            0 => Fault::Connect,
            1 => Fault::LostBefore,
            2 => Fault::LostAfter,
            3 if matches!(operation, Operation::Upload | Operation::Download | Operation::TusPatch) => {
                Fault::CutBody
            }
            4 if operation == Operation::TusPatch => Fault::Wedge,
            4 if operation == Operation::Upload => Fault::Late,
            5 => Fault::Stall,
            6 => Fault::StatusAfter(AFTERWARDS[self.random.usize(0..AFTERWARDS.len())]),
            _ => Fault::Status(status, number),
        }
    }
}
