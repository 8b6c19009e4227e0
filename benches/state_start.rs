//! How long a start after a long history takes, and how much memory: a state with so many transfers that are published and
//! wait for their recipients, and so many that are finished, and then `formidlingd run` on copies of it, several binaries in
//! turns. See `benches/README.md`.

#![expect(
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a measurement prints, in real time, and may end where something is not as it should be"
)]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use formidlingd::seams::{Clock as _, OsRandom, SystemClock};
use formidlingd::store::Store;
use formidlingd::transfer::{
    Booking, Claim, Dispatch, FileIdentity, Md5, OutgoingEvent, Place, RecipientProgress, Sha256, Transfer,
    TransferId,
};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256 as Sha};

type Anything<T> = Result<T, Box<dyn std::error::Error>>;

/// The outbox of the configuration that the sandbox writes.
const ROUTE: &str = "to-mottaker";
/// Stands for the number of a transfer in the samples: twelve digits, also as a JSON number.
const NUMBER: u64 = 987_654_321_012;
/// What is looked through after the start is looked through by then.
const SETTLED: Duration = Duration::from_secs(15);

fn main() -> Anything<()> {
    // `cargo bench` adds an argument of its own.
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let number =
        |place: usize, otherwise: u64| arguments.get(place).map_or(Ok(otherwise), |text| text.parse());
    let (open, finished, rounds) = (number(0, 100_000)?, number(1, 1_000_000)?, number(2, 3)?);
    let mut binaries: Vec<PathBuf> = arguments.iter().skip(3).map(PathBuf::from).collect();
    if binaries.is_empty() {
        binaries.push(std::env::current_dir()?.join("target/release/formidlingd"));
    }
    // A real disk: not a tmpfs, where fsync costs nothing.
    let folder = tempfile::Builder::new().prefix("formidlingd-bench-").tempdir_in("/var/tmp")?;
    let bench = Bench::new(folder.path(), &binaries[0])?;
    let state = bench.folder.join("sender/state");
    let begun = Instant::now();
    let file = bench.folder.join("export.jsonl");
    write_export(&bench.folder, &file, open, finished)?;
    println!(
        "an export of {open} open and {finished} finished transfers: written in {:.1?}",
        begun.elapsed()
    );
    let begun = Instant::now();
    formidlingd::store::import(&state, &file, SystemClock.now(), false)?;
    println!("imported in {:.1?}", begun.elapsed());
    std::fs::remove_file(&file)?;
    let kept = bench.folder.join("kept");
    copy(&state, &kept)?;
    println!(
        "sled: {} MiB, journal: {} MiB",
        mebibytes(&state.join("sled"))?,
        mebibytes(&state.join("journal"))?
    );
    for round in 1..=rounds {
        for binary in &binaries {
            std::fs::remove_dir_all(&state)?;
            copy(&kept, &state)?;
            // The second start is the usual one: the first may have something to build.
            for start in ["first", "second"] {
                let found = bench.start(binary)?;
                println!("{round} {} {start}: {found}", binary.display());
            }
        }
    }
    Ok(())
}

/// A sandbox, and the configuration that it has written.
struct Bench {
    folder: PathBuf,
    sandbox: Child,
}

impl Drop for Bench {
    fn drop(&mut self) {
        drop(self.sandbox.kill());
        drop(self.sandbox.wait());
    }
}

impl Bench {
    fn new(folder: &Path, binary: &Path) -> Anything<Self> {
        let sandbox = Command::new(binary)
            .args(["sandbox", "--rate-limits", "off", "--dir"])
            .arg(folder)
            .stdout(Stdio::null())
            .spawn()?;
        let bench = Self { folder: folder.to_owned(), sandbox };
        while !folder.join("recipient.toml").exists() {
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(bench)
    }

    /// Starts a sender, lets it look through what it has, and stops it.
    fn start(&self, binary: &Path) -> Anything<String> {
        let begun = Instant::now();
        let mut sender = Command::new(binary)
            .args(["run", "--config"])
            .arg(self.folder.join("sender.toml"))
            .stderr(Stdio::piped())
            .spawn()?;
        let log = BufReader::new(sender.stderr.take().ok_or("there is no log")?);
        let (tell, told) = std::sync::mpsc::channel();
        // Read to its end, so that nobody waits for it to be read.
        let reader = std::thread::spawn(move || {
            let mut warnings = 0_u64;
            for line in log.lines().map_while(Result::ok) {
                if line.contains(" started ") {
                    tell.send(Instant::now()).ok();
                }
                if line.contains("WARN") || line.contains("ERROR") {
                    warnings += 1;
                    if warnings <= 3 {
                        println!("    {line}");
                    }
                }
            }
        });
        let ready = told.recv_timeout(Duration::from_mins(2))?.duration_since(begun);
        let memory = |name| memory_of(sender.id(), name);
        let (at_ready, peak_at_ready) = (memory("VmRSS:")?, memory("VmHWM:")?);
        std::thread::sleep(SETTLED);
        let (settled, peak) = (memory("VmRSS:")?, memory("VmHWM:")?);
        let pid = rustix::process::Pid::from_child(&sender);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        let status = sender.wait()?;
        reader.join().map_err(|_| "the log could not be read")?;
        if !status.success() {
            return Err(format!("it ended with {status}").into());
        }
        Ok(format!(
            "ready after {:.2} s with {at_ready} MiB (at most {peak_at_ready}), {settled} MiB {} s later (at most {peak})",
            ready.as_secs_f64(),
            SETTLED.as_secs()
        ))
    }
}

/// MiB of memory, by `/proc/PID/status`.
fn memory_of(pid: u32, name: &str) -> Anything<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with(name)).ok_or("it has no such line")?;
    Ok(line.split_whitespace().nth(1).ok_or("it has no number")?.parse::<u64>()? / 1024)
}

fn mebibytes(folder: &Path) -> Anything<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let data = entry?.metadata()?;
        bytes += if data.is_file() { data.len() } else { 0 };
    }
    Ok(bytes >> 20)
}

fn copy(from: &Path, to: &Path) -> Anything<()> {
    let copied = Command::new("cp").args(["--archive", "--reflink=auto"]).arg(from).arg(to).status()?;
    if copied.success() { Ok(()) } else { Err("cp failed".into()) }
}

/// Sends one transfer on its way in a store, and ends a second: every other line is one of these two, with an id and a
/// number of its own.
fn write_export(folder: &Path, file: &Path, open: u64, finished: u64) -> Anything<()> {
    let now = Timestamp::from_second(SystemClock.now().as_second())?;
    let next_attempt = now + SignedDuration::from_hours(1);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (state, samples) = (folder.join("sample"), folder.join("samples.jsonl"));
    let (first, second) = runtime.block_on(async {
        let store = Store::open(&state, Arc::new(SystemClock), Arc::new(OsRandom))?.store;
        let first = store_published(&store, NUMBER, next_attempt).await?;
        let second = store_published(&store, NUMBER - 1, next_attempt).await?;
        let ended = second.clone().after_outgoing(OutgoingEvent::AllConfirmed { at: now }, now)?;
        store.finish(&second, ended).await?;
        store.export_to(&samples, true)?;
        store.close().await?;
        Anything::Ok((first, second))
    })?;
    let text = std::fs::read_to_string(&samples)?;
    let line_of = |kind: &str| {
        let begins = format!("{{\"{kind}\":");
        text.lines().find(|line| line.starts_with(&begins)).ok_or_else(|| format!("there is no {kind}"))
    };
    let mut id = second.id;
    let mut ids = Vec::new();
    for _ in 0..open {
        id = id.successor();
        ids.push(id);
    }
    let mut header: Value = serde_json::from_str(line_of("header")?)?;
    header["header"]["lastId"] = json!(id);
    let mut digest = Sha::new();
    let mut out = BufWriter::with_capacity(1 << 20, File::create(file)?);
    let mut put = |line: &str| -> Anything<()> {
        let line = format!("{line}\n");
        digest.update(line.as_bytes());
        Ok(out.write_all(line.as_bytes())?)
    };
    put(&header.to_string())?;
    let record = Sample::new(line_of("record")?, first.id, NUMBER, next_attempt);
    for (number, id) in (0..).zip(&ids) {
        let spread = SignedDuration::from_millis(36 * i64::try_from(number)?);
        put(&record.of(*id, number, next_attempt + spread))?;
    }
    let line = Sample::new(line_of("finished")?, second.id, NUMBER - 1, next_attempt);
    let mut old =
        TransferId::new(u64::try_from((now - SignedDuration::from_hours(24)).as_millisecond())?, [7; 16]);
    for number in 0..finished {
        old = old.successor();
        put(&line.of(old, open + number, now))?;
    }
    let sha256 = formidlingd::transfer::Sha256::from_bytes(digest.finalize().into()).to_string();
    let end = json!({ "end": { "folders": 0, "records": open, "finished": finished, "sha256": sha256 } });
    writeln!(out, "{end}")?;
    out.into_inner()?.sync_all()?;
    std::fs::remove_dir_all(state)?;
    Ok(std::fs::remove_file(samples)?)
}

/// A line that is cut where id, number and time stand.
struct Sample(Vec<Piece>);

enum Piece {
    Text(String),
    Id,
    Number,
    Time,
}

impl Sample {
    fn new(line: &str, id: TransferId, number: u64, time: Timestamp) -> Self {
        let marks = [(id.to_string(), 'i'), (number.to_string(), 'n'), (time.to_string(), 't')];
        let mut pieces = Vec::new();
        let mut rest = line;
        while let Some((at, mark, kind)) =
            marks.iter().filter_map(|(mark, kind)| Some((rest.find(mark.as_str())?, mark, kind))).min()
        {
            let (before, after) = rest.split_at(at);
            pieces.push(Piece::Text(before.to_owned()));
            pieces.push(match kind {
                'i' => Piece::Id,
                'n' => Piece::Number,
                _ => Piece::Time,
            });
            rest = after.get(mark.len()..).unwrap_or_default();
        }
        pieces.push(Piece::Text(rest.to_owned()));
        Self(pieces)
    }

    fn of(&self, id: TransferId, number: u64, time: Timestamp) -> String {
        let (id, number, time) = (id.to_string(), (100_000_000_000 + number).to_string(), time.to_string());
        let text = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Id => id.clone(),
            Piece::Number => number.clone(),
            Piece::Time => time.clone(),
        };
        self.0.iter().map(text).collect()
    }
}

/// Stores a transfer that was sent a while ago, with every step that led there.
async fn store_published(store: &Store, number: u64, next_attempt: Timestamp) -> Anything<Transfer> {
    let now = SystemClock.now();
    let id = store.new_id();
    let name = format!("faktura {number} for november.pdf");
    let file =
        FileIdentity { device: 1, inode: number, size: 123_456, modified_ns: 1_795_248_000_000_000_001 };
    let claim =
        Claim { name: name.clone(), recipient_folder: None, other_folder: None, sidecar: false, file };
    let dispatch = Dispatch {
        file_name: name.parse()?,
        resource_id: "sandbox-files".parse()?,
        sender: "991825827".parse()?,
        recipients: vec!["910753614".parse()?],
        reference: id.to_string().parse()?,
        properties: BTreeMap::from([("year".to_owned(), "2026".to_owned())]),
        disable_virus_scan: false,
        md5: Md5::from_bytes([7; 16]),
        sha256: Sha256::from_bytes([8; 32]),
        size: 123_456,
        file: Some(claim.file),
    };
    let recipients = vec![RecipientProgress {
        recipient: "910753614".parse()?,
        status: "Initialized".to_owned(),
        changed: Some(now),
    }];
    let place = Place { date: Some("2026-11-21".to_owned()), name: name.parse()? };
    let booking = Booking { id: format!("00000000-0000-4000-8000-{number:012}").parse()?, initialized: now };
    let events = [
        OutgoingEvent::FileTaken,
        OutgoingEvent::Described(Box::new(dispatch)),
        OutgoingEvent::InitializeIntended { at: now },
        OutgoingEvent::Adopted(booking),
        OutgoingEvent::UploadBegun { at: now },
        OutgoingEvent::LastByteLeaving,
        OutgoingEvent::UploadAccepted { at: now },
        OutgoingEvent::PublishedSeen {
            published: now,
            expires: now + SignedDuration::from_hours(24 * 30),
            recipients,
        },
        OutgoingEvent::ArchiveIntended(place),
        OutgoingEvent::Archived,
    ];
    let mut transfer = Transfer::outgoing(id, ROUTE.parse()?, claim, now);
    store.insert(transfer.clone()).await?;
    for event in events {
        let after = Transfer { next_attempt, ..transfer.clone().after_outgoing(event, now)? };
        store.update(&transfer, after.clone()).await?;
        transfer = after;
    }
    Ok(transfer)
}
