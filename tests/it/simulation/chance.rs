//! What goes wrong by chance: the same for the same seed.

use std::collections::BTreeMap;

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
    /// A whole upload arrives, and is stored when nobody waits for it any more; a chunk is accepted, and stored minutes
    /// later.
    Late,
    /// The resumable upload that the call is about has been forgotten.
    Forgotten,
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

/// Calls that go wrong in one life story, at most.
const CALLS: u32 = 9;
/// File operations that go wrong in one life story, at most.
const OPERATIONS: u32 = 5;
/// Faults in one life story, at most.
pub(crate) const FAULTS: u32 = CALLS + OPERATIONS;
/// Deaths in one life story, at most. Three complete downloads that a loss of power has torn are a person's to look at.
const DEATHS: u32 = 4;

/// Chance, with a limit: what goes wrong ends some time.
#[derive(Debug, Clone)]
pub(crate) struct Chance {
    pub(crate) random: fastrand::Rng,
    /// Faults and deaths yet to come.
    calls: u32,
    operations: u32,
    deaths: u32,
    /// One moment in so many is the last, and one file operation in so many fails. Each story has its own, or all would
    /// have their deaths and faults at their beginning.
    dies: u32,
    fails: u32,
    /// What went wrong with which call, how often.
    pub(crate) struck: BTreeMap<(Operation, String), u32>,
}

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let dies = [20, 100, 300, 1000][random.usize(0..4)];
        let fails = [20, 100, 300][random.usize(0..3)];
        let (calls, operations, deaths) = (CALLS, OPERATIONS, DEATHS);
        Self { random, calls, operations, deaths, dies, fails, struck: BTreeMap::new() }
    }

    /// Faults that have happened.
    pub(crate) fn faults(&self) -> u32 {
        FAULTS - self.calls - self.operations
    }

    pub(crate) fn has_failed_disk(&self) -> bool {
        self.operations < OPERATIONS
    }

    pub(crate) fn dies(&mut self) -> bool {
        hits(&mut self.random, &mut self.deaths, self.dies)
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
        (can && hits(&mut self.random, &mut self.operations, self.fails))
            .then(|| ERRORS[self.random.usize(0..ERRORS.len())])
    }

    pub(crate) fn fault(&mut self, operation: Operation) -> Fault {
        let fault = self.any_fault(operation);
        if fault != Fault::None {
            *self.struck.entry((operation, format!("{fault:?}"))).or_default() += 1;
        }
        fault
    }

    fn any_fault(&mut self, operation: Operation) -> Fault {
        // Tokens, searching and looking make up most calls: the others would hardly ever be met.
        let one_in = match operation {
            Operation::Token | Operation::Exchange | Operation::Search => 60,
            Operation::Overview | Operation::Details => 8,
            _ => 3,
        };
        if !hits(&mut self.random, &mut self.calls, one_in) {
            return Fault::None;
        }
        let (status, number) = REFUSALS[self.random.usize(0..REFUSALS.len())];
        let is_resumable = matches!(
            operation,
            Operation::TusCreate | Operation::TusHead | Operation::TusPatch | Operation::TusJoin
        );
        match self.random.u32(0..if is_resumable { 10 } else { 8 }) {
            0 => Fault::Connect,
            1 => Fault::LostBefore,
            2 => Fault::LostAfter,
            3 if matches!(operation, Operation::Upload | Operation::Download | Operation::TusPatch) => {
                Fault::CutBody
            }
            4 if operation == Operation::TusPatch => Fault::Wedge,
            4 if operation == Operation::Upload => Fault::Late,
            5 => Fault::Stall,
            8 if operation == Operation::TusPatch => Fault::Late,
            9 => Fault::Forgotten,
            6 => Fault::StatusAfter(AFTERWARDS[self.random.usize(0..AFTERWARDS.len())]),
            _ => Fault::Status(status, number),
        }
    }
}

/// Whether chance strikes, while anything is left of it.
fn hits(random: &mut fastrand::Rng, left: &mut u32, one_in: u32) -> bool {
    let hit = *left > 0 && random.u32(0..one_in) == 0;
    *left -= u32::from(hit);
    hit
}
