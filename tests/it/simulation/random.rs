//! Whole life stories with everything at once: deaths, losses of power, answers that are lost or wrong, errors of the
//! disk, in both directions. The same seed tells the same story.

use std::time::Instant;

use super::chance::Chance;
use super::world::{Way, World};
use crate::support::noise;

/// Stories that are told in the gate.
const STORIES: u64 = 80;

/// The seeds: `FORMIDLINGD_SIMULATION_SEED` alone, or `FORMIDLINGD_SIMULATION_STORIES` of them.
fn seeds() -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|number| number.parse::<u64>().ok());
    match number("FORMIDLINGD_SIMULATION_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("FORMIDLINGD_SIMULATION_STORIES").unwrap_or(STORIES),
    }
}

#[test]
fn whatever_goes_wrong_at_once_a_file_is_published_and_delivered_once() {
    let begun = Instant::now();
    let world = World::new(Way::Both);
    let (mut lives, mut faults) = (0, 0);
    for seed in seeds() {
        let mut chance = Chance::new(seed);
        let (all, size) = (chance.left, [0, 1, 10_000, 262_144, 262_145, 600_000][chance.random.usize(0..6)]);
        let mut image = world.beginning(&noise(seed, size), chance.random.bool());
        let mut path: Vec<String> = Vec::new();
        loop {
            lives += 1;
            let outcome = world.run(&image, false, Some(chance.clone()));
            let wrong = outcome.violations.join("\n");
            let told = format!("FORMIDLINGD_SIMULATION_SEED={seed}, {size} bytes, after {path:?}");
            assert!(wrong.is_empty(), "{told}: {wrong}");
            chance = outcome.chance.unwrap();
            let Some(photo) = outcome.death else { break };
            let death = chance.death(&photo.image.disk.deaths());
            image = photo.after(death).unwrap_or_else(|wrong| panic!("{told}: {wrong}"));
            path = image.path.clone();
        }
        faults += all - chance.left;
        world.forget_all_but([]);
    }
    eprintln!(
        "{} stories of {lives} lives with {faults} faults, {:.1} s",
        seeds().count(),
        begun.elapsed().as_secs_f64()
    );
}
