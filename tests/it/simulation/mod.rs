//! Every death, and every death during the recovery from it, in process: simulated disk, network and clock.
//!
//! A run passes its moments: crash points, file operations, syncs, changes of the store, calls before and after their
//! effect. At each it is photographed, and goes on. What deaths of the process and losses of power would leave of the
//! photograph is where other runs begin; a death needs no dying, and a start no process. Images that differ in times
//! alone are one. `FORMIDLINGD_SIMULATION=all` tries what takes minutes, too; a failure tells the path that
//! `FORMIDLINGD_SIMULATION_PATH` goes again, with `FORMIDLINGD_SIMULATION_LOG=1` before the eyes.

mod call;
mod chance;
mod checks;
mod disk;
mod explore;
mod honest;
mod network;
mod random;
mod server;
mod tokens;
mod transfer;
mod tus;
mod way;
mod world;

use explore::{Plan, explore};
use world::{CHUNK, Way};

/// What is read and sent at once.
const BLOCK: usize = 256 * 1024;
/// Nothing, little, and around the border of a block.
const SIZES: [usize; 6] = [0, 1, 10_000, BLOCK - 1, BLOCK, BLOCK + 1];
/// The same for files in chunks, around the border of a chunk. An empty one goes as a stream.
const CHUNKED: [usize; 7] = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 10_000];

/// Whether what takes minutes is asked for.
fn is_all() -> bool {
    std::env::var("FORMIDLINGD_SIMULATION").is_ok_and(|wanted| wanted == "all")
}

/// One death at every moment, with a file of each size.
fn once(way: Way, sizes: &[usize]) {
    for size in sizes.iter().copied() {
        // The last one with a sidecar, so that both are seen without one more.
        let sidecar = way == Way::Out && size == BLOCK + 1;
        let explored = explore(&Plan { way, size, sidecar, depth: if is_all() { 2 } else { 1 } });
        for point in ["store:committing", "store:committed"] {
            assert!(explored.points.contains_key(point), "{point} was not passed");
        }
    }
}

#[test]
fn a_sent_file_of_any_size_survives_every_death() {
    once(Way::Out, &SIZES);
}

#[test]
fn a_received_file_of_any_size_survives_every_death() {
    once(Way::In, &SIZES);
}

#[test]
fn a_sent_file_survives_every_death_during_the_recovery_from_every_death() {
    explore(&Plan { way: Way::Out, size: 1, sidecar: is_all(), depth: 2 });
}

#[test]
fn a_received_file_survives_every_death_during_the_recovery_from_every_death() {
    explore(&Plan { way: Way::In, size: 1, sidecar: false, depth: 2 });
}

#[test]
fn a_file_sent_in_chunks_survives_every_death() {
    once(Way::Tus, &CHUNKED);
}

#[test]
fn a_file_sent_in_chunks_survives_every_death_during_the_recovery_from_every_death() {
    explore(&Plan { way: Way::Tus, size: CHUNK + 1, sidecar: false, depth: 2 });
}

#[test]
fn a_file_sent_in_parts_at_once_survives_every_death() {
    explore(&Plan { way: Way::Parts, size: 2 * CHUNK + 1, sidecar: false, depth: 1 });
}
