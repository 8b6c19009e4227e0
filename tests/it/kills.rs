//! `kill -9` at random moments, again and again.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::support::{Bench, Child, OUTBOX, Setup};

/// How much is sent, and how often the ends are killed.
struct Soak {
    seed: u64,
    files: u64,
    largest: u64,
    /// One more file, of this size.
    giant: Option<u64>,
    /// How often one end or both are killed, and how many milliseconds lie between.
    kills: u32,
    pause: Range<u64>,
    /// Further settings of the outbox.
    outbox: &'static [(&'static str, &'static str)],
    deadline: Duration,
}

/// What a soak came to.
#[derive(Debug, Default)]
struct Figures {
    /// Processes that were killed.
    kills: u64,
    files: u64,
    bytes: u64,
    /// Beyond what the files have: sent, and fetched.
    again: [u64; 2],
    took: Duration,
    /// The most memory that sender and recipient had.
    peaks: [u64; 2],
}

impl Figures {
    /// The figures of both.
    fn and(self, other: &Self) -> Self {
        let most = |number: usize| self.peaks[number].max(other.peaks[number]);
        Self {
            kills: self.kills + other.kills,
            files: self.files + other.files,
            bytes: self.bytes + other.bytes,
            again: [self.again[0] + other.again[0], self.again[1] + other.again[1]],
            took: self.took + other.took,
            peaks: [most(0), most(1)],
        }
    }
}

impl std::fmt::Display for Figures {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { kills, files, bytes, again: [sent, fetched], took, peaks: [sender, recipient] } = self;
        write!(
            formatter,
            "{kills} kills, {files} files, none lost, none doubled; {} MiB in {} s; sent again {} MiB, fetched \
             again {} MiB; peak memory: sender {} MiB, recipient {} MiB",
            bytes / MIB,
            took.as_secs(),
            sent / MIB,
            fetched / MIB,
            sender / MIB,
            recipient / MIB,
        )
    }
}

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

fn soak(soak: &Soak) -> Figures {
    let mut random = fastrand::Rng::with_seed(soak.seed);
    // Bytes whose end may have left are not sent again until Altinn has given up on them; a transfer that is
    // still uploaded must not be given up on.
    let stuck_after = if soak.giant.is_some() { "300s" } else { "4s" };
    let mut bench = Bench::new(&Setup { arguments: vec!["--stuck-after", stuck_after], ..Setup::default() });
    for (key, value) in soak.outbox {
        bench.sender.set(OUTBOX, key, value);
    }
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
    let (mut peaks, mut kills) = ([0; 2], 0);
    for _ in 0..soak.kills {
        // The moment is the test's input: there is no condition to wait for.
        std::thread::sleep(Duration::from_millis(random.u64(soak.pause.clone())));
        note_peaks(&bench, &mut peaks);
        let both = random.u8(0..3);
        for (number, party) in [&mut bench.sender, &mut bench.recipient].into_iter().enumerate() {
            if both == 2 || usize::from(both) == number {
                party.kill();
                party.start();
                kills += 1;
            }
        }
    }
    bench.wait_within(soak.deadline);
    note_peaks(&bench, &mut peaks);
    let took = begun.elapsed();
    bench.assert_promises();
    let again = moved(&bench).map(|moved| moved.saturating_sub(bytes));
    let files = soak.files + u64::from(soak.giant.is_some());
    Figures { kills, files, bytes, again, took, peaks }
}

/// The bytes of content that Altinn has taken, and handed over.
fn moved(bench: &Bench) -> [u64; 2] {
    let ledger = bench.look("ledger");
    let total = |member: &str| ledger.iter().filter_map(|entry| entry[member].as_u64()).sum();
    [total("received"), total("sent")]
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
        soak(&round(seed * 1000));
    }
}

/// A few seconds of kills.
fn round(seed: u64) -> Soak {
    let deadline = Duration::from_mins(2);
    Soak { seed, files: 40, largest: 4 * MIB, giant: None, kills: 10, pause: 20..900, outbox: &[], deadline }
}

/// What `FORMIDLINGD_SOAK_SEED` says, so that other moments can be tried.
fn seed_on_demand() -> u64 {
    std::env::var("FORMIDLINGD_SOAK_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1)
}

/// The same for hours of work, on demand: `FORMIDLINGD_SOAK=1 cargo test --test it soak -- --nocapture`.
#[test]
fn soak_on_demand() {
    if std::env::var_os("FORMIDLINGD_SOAK").is_none() {
        eprintln!(
            "not run: set FORMIDLINGD_SOAK=1 for 300 files of up to 256 MiB, one of 2 GiB, and 20 kills"
        );
        return;
    }
    let (seed, deadline) = (seed_on_demand(), Duration::from_hours(1));
    let giant = Some(2048 * MIB);
    let large =
        Soak { files: 300, largest: 256 * MIB, giant, kills: 20, pause: 200..6000, deadline, ..round(seed) };
    eprintln!("seed {seed}: {}", soak(&large));
}

/// As many kills as are asked for, in rounds with folders of their own: `tests/kill-run 10000`.
#[test]
fn kill_run_on_demand() {
    let wanted = std::env::var("FORMIDLINGD_KILLS").ok().and_then(|kills| kills.parse().ok());
    let Some(wanted) = wanted else {
        eprintln!("not run: set FORMIDLINGD_KILLS=10000, or run tests/kill-run");
        return;
    };
    let (first, begun) = (seed_on_demand(), Instant::now());
    let (next, sum) = (AtomicU64::new(first), Mutex::new(Figures::default()));
    // More than one at once, since most of a round is waiting.
    std::thread::scope(|threads| {
        for _ in 0..ROUNDS_AT_ONCE {
            threads.spawn(|| {
                while sum.lock().unwrap().kills < wanted {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    eprintln!("seed {seed}");
                    let figures = soak(&round_of_kill_run(seed));
                    let mut sum = sum.lock().unwrap();
                    *sum = std::mem::take(&mut *sum).and(&figures);
                    eprintln!("seed {seed}: {figures}\nso far, {} s: {sum}", begun.elapsed().as_secs());
                }
            });
        }
    });
    let sum = sum.into_inner().unwrap();
    eprintln!("from seed {first}, {} s: {sum}", begun.elapsed().as_secs());
}

/// Some rounds of a kill run go on beside each other.
const ROUNDS_AT_ONCE: usize = 3;

/// Many kills, and hardly time between them.
fn round_of_kill_run(seed: u64) -> Soak {
    let outbox: &[_] = match seed % 3 {
        0 => &[("upload", "\"tus\""), ("chunk_size", "\"64KiB\"")],
        1 => &[("chunk_size", "\"256KiB\"")],
        _ => &[],
    };
    Soak { files: 60, largest: 2 * MIB, kills: 60, pause: 5..400, outbox, ..round(seed << 16) }
}
