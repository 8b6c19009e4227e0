//! Whole life stories with everything at once: deaths, losses of power, answers that are lost or wrong, errors of the
//! disk, in both directions. The same seed tells the same story.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::BLOCK;
use super::call::Operation;
use super::chance::Chance;
use super::disk::Death;
use super::world::{CHUNK, Way, World};
use crate::support::noise;

/// Stories that are told in the gate.
const STORIES: usize = 120;
/// Which way files go, and sizes around every border of it: a stream, chunks of a file, chunks of parts at once.
const WAYS: [(Way, [usize; 7]); 3] = [
    (Way::Both, [0, 1, 10_000, BLOCK - 1, BLOCK, BLOCK + 1, 600_000]),
    (Way::BothTus, [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 7 * CHUNK + 5]),
    (Way::BothParts, [0, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK + 1, 7 * CHUNK + 5, 10_000]),
];

/// Calls that go wrong in the stories of the gate.
const EFFECTIVE: [Operation; 8] = [
    Operation::Initialize,
    Operation::Upload,
    Operation::TusCreate,
    Operation::TusHead,
    Operation::TusPatch,
    Operation::TusJoin,
    Operation::Download,
    Operation::Confirm,
];

/// The seeds: `FORMIDLINGD_SIMULATION_STORIES` of them from `FORMIDLINGD_SIMULATION_SEED` on, or that one alone.
fn seeds() -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|number| number.parse::<u64>().ok());
    let (first, stories) = (number("FORMIDLINGD_SIMULATION_SEED"), number("FORMIDLINGD_SIMULATION_STORIES"));
    let from = first.unwrap_or(0);
    from..from + stories.unwrap_or(if first.is_some() { 1 } else { STORIES as u64 })
}

#[test]
fn whatever_goes_wrong_at_once_a_file_is_published_and_delivered_once() {
    let begun = Instant::now();
    let worlds = WAYS.map(|(way, _)| World::new(way));
    let (mut lives, mut faults) = (0, 0);
    let mut struck: BTreeMap<(Operation, String), u32> = BTreeMap::new();
    for seed in seeds() {
        let mut chance = Chance::new(seed);
        let way = usize::try_from(seed).unwrap() % WAYS.len();
        let (world, (way, sizes)) = (&worlds[way], WAYS[way]);
        let size = sizes[chance.random.usize(0..sizes.len())];
        let mut image = world.beginning(&noise(seed, size), chance.random.bool());
        let mut path: Vec<String> = Vec::new();
        loop {
            lives += 1;
            let outcome = world.run(&image, false, Some(chance.clone()));
            let wrong = outcome.violations.join("\n");
            let told = format!("FORMIDLINGD_SIMULATION_SEED={seed}, {way:?}, {size} bytes, after {path:?}");
            assert!(wrong.is_empty(), "{told}: {wrong}");
            chance = outcome.chance.unwrap();
            let Some(photo) = outcome.death else { break };
            let death =
                if outcome.has_ended { Death::Kill } else { chance.death(&photo.image.disk.deaths()) };
            image = photo.after(death).unwrap_or_else(|wrong| panic!("{told}: {wrong}"));
            path = image.path.clone();
        }
        faults += chance.faults();
        for (what, times) in chance.struck {
            *struck.entry(what).or_default() += times;
        }
        world.forget_all_but([]);
    }
    eprintln!(
        "{} stories of {lives} lives with {faults} faults, {:.1} s: {struck:?}",
        seeds().count(),
        begun.elapsed().as_secs_f64()
    );
    // Stories that go wrong only where nothing can be lost would say nothing.
    let met: BTreeSet<Operation> = struck.keys().map(|(operation, _)| *operation).collect();
    let missed: Vec<_> = EFFECTIVE.iter().filter(|operation| !met.contains(operation)).collect();
    assert!(seeds().count() < STORIES || missed.is_empty(), "nothing ever went wrong with {missed:?}");
}
