//! The program from the outside: the real binary, against a local Altinn, in processes of their own.
//!
//! Each test is a claim. It has a [`support::Bench`] to itself (a sandbox, a sender and a recipient in a folder
//! of their own), and ends with [`support::Bench::assert_promises`]: what was dropped was published once,
//! delivered once and confirmed once, or lies in `failed/` with an explanation.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test that cannot go on fails, says why, and measures real time"
)]

mod access;
mod ageing;
mod bad_input;
mod clock;
mod copies;
mod crash_points;
mod crashes;
mod customers;
mod disk_faults;
mod documents;
mod downloads;
mod faults;
mod folders;
mod full_state;
mod hooks;
mod hours;
mod house;
mod kills;
mod large;
mod left_alone;
mod lost_answers;
mod matrix;
mod mounts;
mod names;
mod operating;
mod outages;
mod poison;
mod power;
mod quotas;
mod reading;
mod receiving;
mod recovery;
mod repair;
mod sending;
mod set_back;
mod sidecars;
#[cfg(debug_assertions)]
mod simulation;
mod state;
mod statements;
mod support;
mod swaps;
mod tls;
mod tus;
mod unstored;
mod vanished;
mod writers;
