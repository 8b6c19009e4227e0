//! Every death, and every death during the recovery from it, in process: simulated disk, network and clock.
//!
//! A run passes its moments: crash points, file operations, syncs, changes of the store, calls before and after their
//! effect. At each it is photographed, and goes on. What deaths of the process and losses of power would leave of the
//! photograph is where other runs begin; a death needs no dying, and a start no process. Images that differ in times
//! alone are one.

mod chance;
mod checks;
mod disk;
mod explore;
mod network;
mod server;
mod world;

use explore::{Plan, explore};
use world::Way;

/// What is read and sent at once.
const BLOCK: usize = 256 * 1024;

#[test]
fn a_sent_file_survives_every_death() {
    explore(&Plan { way: Way::Out, size: 10_000, sidecar: false, depth: 2 });
}

#[test]
fn a_received_file_survives_every_death() {
    explore(&Plan { way: Way::In, size: 10_000, sidecar: false, depth: 2 });
}
