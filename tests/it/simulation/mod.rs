//! Every death, and every death during the recovery from it, in process: simulated disk, network and clock.
//!
//! A run passes its moments: crash points, file operations, syncs, changes of the store, calls before and after their
//! effect. At each it is photographed, and goes on. What deaths of the process and losses of power would leave of the
//! photograph is where other runs begin; a death needs no dying, and a start no process. Images that differ in times
//! alone are one. `FORMIDLINGD_SIMULATION=all` tries what takes minutes, too; a failure tells the path that
//! `FORMIDLINGD_SIMULATION_PATH` goes again, with `FORMIDLINGD_SIMULATION_LOG=1` before the eyes.

mod chance;
mod checks;
mod disk;
mod explore;
mod honest;
mod network;
mod random;
mod server;
mod tus;
mod world;

use explore::{Plan, explore};
use world::{CHUNK, Way};

/// What is read and sent at once.
const BLOCK: usize = 256 * 1024;
/// Around every border: nothing, one byte, one block and its neighbours.
const SIZES: [usize; 6] = [0, 1, 10_000, BLOCK - 1, BLOCK, BLOCK + 1];

/// Whether what takes minutes is asked for.
fn is_all() -> bool {
    std::env::var("FORMIDLINGD_SIMULATION").is_ok_and(|wanted| wanted == "all")
}

/// One death at every moment, with a file of every size.
fn once(way: Way) {
    for size in SIZES {
        explore(&Plan { way, size, sidecar: false, depth: if is_all() { 2 } else { 1 } });
    }
}

#[test]
fn a_sent_file_of_any_size_survives_every_death() {
    once(Way::Out);
    explore(&Plan { way: Way::Out, size: BLOCK + 1, sidecar: true, depth: 1 });
}

#[test]
fn a_received_file_of_any_size_survives_every_death() {
    once(Way::In);
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
    for size in [1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK] {
        let depth = if is_all() { 2 } else { 1 };
        explore(&Plan { way: Way::Tus, size, sidecar: false, depth });
    }
}

#[test]
fn a_file_sent_in_chunks_survives_every_death_during_the_recovery_from_every_death() {
    explore(&Plan { way: Way::Tus, size: CHUNK + 1, sidecar: false, depth: 2 });
}

#[test]
fn a_file_sent_in_parts_at_once_survives_every_death() {
    explore(&Plan { way: Way::Parts, size: 2 * CHUNK + 1, sidecar: false, depth: 1 });
}
