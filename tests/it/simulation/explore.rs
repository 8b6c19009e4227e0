//! Goes through the deaths breadth first, each distinct image once.

use std::collections::{BTreeMap, HashSet};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use super::disk::Death;
use super::is_all;
use super::world::{Image, Outcome, Photo, Way, World};
use crate::support::noise;

/// The one path to go, as a failure has told it.
static WANTED: LazyLock<Option<Vec<String>>> = LazyLock::new(|| {
    let path = std::env::var("FORMIDLINGD_SIMULATION_PATH").ok()?;
    Some(path.split(" > ").map(str::to_owned).collect())
});

/// What is to be explored.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) way: Way,
    /// Bytes of the file.
    pub(crate) size: usize,
    pub(crate) sidecar: bool,
    /// Deaths one after another.
    pub(crate) depth: usize,
}

/// What was explored.
#[derive(Debug, Default)]
pub(crate) struct Explored {
    pub(crate) runs: usize,
    pub(crate) images: usize,
    pub(crate) moments: usize,
    pub(crate) points: BTreeMap<String, u32>,
    pub(crate) longest: Duration,
}

/// Tries every death, and every death during the recovery from it.
pub(crate) fn explore(plan: &Plan) -> Explored {
    let begun = Instant::now();
    let world = World::new(plan.way);
    let mut explored = Explored::default();
    let mut seen = HashSet::new();
    let mut images = vec![world.beginning(&noise(1, plan.size), plan.sidecar)];
    for depth in 0..=plan.depth {
        let is_last = depth == plan.depth;
        let mut next: Vec<Image> = Vec::new();
        for image in &images {
            let outcome = world.run(image, !is_last, None);
            assert_well(plan, image, &outcome);
            explored.runs += 1;
            explored.longest = explored.longest.max(outcome.took);
            for (point, passed) in outcome.points {
                *explored.points.entry(point).or_default() += passed;
            }
            explored.moments += outcome.photos.len();
            for photo in &outcome.photos {
                derive(plan, photo, &mut seen, &mut next);
            }
        }
        world.forget_all_but(&next);
        explored.images += next.len();
        images = next;
    }
    eprintln!(
        "{:?}, {} bytes, {} deaths deep: {} runs from {} images of {} moments, {:.1} s; the longest took {:?} of its own time",
        plan.way,
        plan.size,
        plan.depth,
        explored.runs,
        explored.images,
        explored.moments,
        begun.elapsed().as_secs_f64(),
        explored.longest
    );
    explored
}

fn derive(plan: &Plan, photo: &Photo, seen: &mut HashSet<u64>, next: &mut Vec<Image>) {
    // One death alone tears and mixes; two after another do where there are minutes for it.
    let is_tried = |death: &Death| plan.depth == 1 || is_all() || matches!(death, Death::Kill | Death::Drop);
    for death in photo.image.disk.deaths().into_iter().filter(is_tried) {
        match photo.after(death) {
            Ok(image) => {
                let is_wanted = WANTED.as_ref().is_none_or(|wanted| wanted.starts_with(&image.path));
                if is_wanted && seen.insert(image.fingerprint()) {
                    next.push(image);
                }
            }
            Err(wrong) => panic!(
                "{}: {wrong}",
                reproduce(plan, &photo.image, &format!("{}/{}", photo.point, death.name()))
            ),
        }
    }
}

fn assert_well(plan: &Plan, image: &Image, outcome: &Outcome) {
    assert!(
        outcome.violations.is_empty(),
        "{}: {}",
        reproduce(plan, image, ""),
        outcome.violations.join("\n")
    );
}

/// How to come to this again.
fn reproduce(plan: &Plan, image: &Image, last: &str) -> String {
    let mut path = image.path.clone();
    if !last.is_empty() {
        path.push(last.to_owned());
    }
    format!("{plan:?} after {}", path.join(" > "))
}
