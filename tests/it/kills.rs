//! `kill -9` at random moments, again and again.

use std::time::{Duration, Instant};

use crate::support::{Bench, Child, Party, Setup};

/// How much is sent, and how often the ends are killed.
struct Soak {
    seed: u64,
    files: u64,
    largest: u64,
    /// One more file, of this size.
    giant: Option<u64>,
    kills: u32,
    deadline: Duration,
}

/// What a soak came to.
struct Figures {
    bytes: u64,
    took: Duration,
    peaks: [u64; 2],
}

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

fn soak(soak: &Soak) -> Figures {
    let mut random = fastrand::Rng::with_seed(soak.seed);
    // Bytes whose end may have left are not sent again until Altinn has given up on them; a transfer that is
    // still uploaded must not be given up on.
    let stuck_after = if soak.giant.is_some() { "300s" } else { "4s" };
    let mut bench = Bench::new(&Setup { arguments: vec!["--stuck-after", stuck_after], ..Setup::default() });
    let begun = Instant::now();
    bench.start();
    let mut bytes = 0;
    for number in 0..soak.files {
        // As many in each doubling, and some empty.
        let doubling = 1 << random.u32(0..=soak.largest.ilog2());
        let size = if number % 10 == 0 { 0 } else { random.u64(doubling..=2 * doubling).min(soak.largest) };
        bench.drop_noise(&format!("{number}.bin"), soak.seed + number, size);
        bytes += size;
    }
    if let Some(size) = soak.giant {
        bench.drop_noise("giant.bin", soak.seed + soak.files, size);
        bytes += size;
    }
    let mut peaks = [0; 2];
    for _ in 0..soak.kills {
        // The moment is the test's input: there is no condition to wait for.
        let pause = if soak.giant.is_some() { 200..6000 } else { 20..900 };
        std::thread::sleep(Duration::from_millis(random.u64(pause)));
        note_peaks(&bench, &mut peaks);
        let both = random.u8(0..3);
        for (number, party) in [&mut bench.sender, &mut bench.recipient].into_iter().enumerate() {
            if both == 2 || usize::from(both) == number {
                restart(party);
            }
        }
    }
    bench.wait_within(soak.deadline);
    note_peaks(&bench, &mut peaks);
    let took = begun.elapsed();
    bench.assert_promises();
    Figures { bytes, took, peaks }
}

fn restart(party: &mut Party) {
    party.kill();
    party.start();
}

fn note_peaks(bench: &Bench, peaks: &mut [u64; 2]) {
    for (peak, party) in peaks.iter_mut().zip([&bench.sender, &bench.recipient]) {
        let now = party.child.as_ref().and_then(Child::peak_memory).unwrap_or_default();
        *peak = (*peak).max(now);
    }
}

#[test]
fn kills_at_random_moments_lose_and_double_nothing() {
    for seed in [1, 2] {
        let deadline = Duration::from_mins(2);
        soak(&Soak { seed: seed * 1000, files: 40, largest: 4 * MIB, giant: None, kills: 10, deadline });
    }
}

/// The same for hours of work, on demand: `FORMIDLINGD_SOAK=1 cargo test --test it soak -- --nocapture`.
/// `FORMIDLINGD_SOAK_SEED` chooses other moments.
#[test]
fn soak_on_demand() {
    if std::env::var_os("FORMIDLINGD_SOAK").is_none() {
        eprintln!(
            "not run: set FORMIDLINGD_SOAK=1 for 300 files of up to 256 MiB, one of 2 GiB, and 20 kills"
        );
        return;
    }
    let seed = std::env::var("FORMIDLINGD_SOAK_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let giant = Some(2048 * MIB);
    let deadline = Duration::from_hours(1);
    let figures = soak(&Soak { seed, files: 300, largest: 256 * MIB, giant, kills: 20, deadline });
    let Figures { bytes, took, peaks: [sender, recipient] } = figures;
    eprintln!(
        "{} MiB in {} s ({} MiB/s), seed {seed}; peak memory: sender {} MiB, recipient {} MiB",
        bytes / MIB,
        took.as_secs(),
        bytes / MIB / took.as_secs().max(1),
        sender / MIB,
        recipient / MIB,
    );
}
