//! A process of the program under test.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

/// How long anything may take before a test gives up. Generous: the machine may be busy with other tests.
pub(crate) const DEADLINE: Duration = Duration::from_secs(90);
/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_formidlingd");
const PAUSE: Duration = Duration::from_millis(20);

/// Waits until something holds; whether it ever did.
pub(crate) fn until(deadline: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    loop {
        if condition() {
            return true;
        }
        if start.elapsed() > deadline {
            return false;
        }
        std::thread::sleep(PAUSE);
    }
}

/// A running process, killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Child(std::process::Child);

impl Child {
    /// Starts the program by a command that takes its place, or by its own name; its output is appended to `log`.
    pub(crate) fn start<L: AsRef<OsStr>, A: AsRef<OsStr>>(
        launcher: &[L],
        arguments: &[A],
        environment: &[(&str, &str)],
        log: &Path,
    ) -> Self {
        let mut command = command_by(launcher, arguments, environment);
        let log = append(log);
        command.stdout(log.try_clone().unwrap()).stderr(log);
        Self(command.spawn().unwrap())
    }

    /// Starts the program and returns its first line.
    pub(crate) fn start_and_read_line<A: AsRef<OsStr>>(arguments: &[A], log: &Path) -> (Self, String) {
        let mut command = command(arguments, &[]);
        command.stdout(Stdio::piped()).stderr(append(log));
        let mut child = Self(command.spawn().unwrap());
        let mut line = String::new();
        // The pipe stays open as long as the child, which may want to say more.
        let mut reader = BufReader::new(child.0.stdout.take().unwrap());
        reader.read_line(&mut line).unwrap();
        child.0.stdout = Some(reader.into_inner());
        (child, line)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        // It may have ended by itself, which the test sees from its status.
        let _gone = kill_process(Pid::from_child(&self.0), signal);
    }

    /// Whether it still runs; how it ended stays to be asked for.
    pub(crate) fn is_running(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        matches!(waitid(WaitId::Pid(Pid::from_child(&self.0)), options), Ok(None))
    }

    /// Whether every thread of it stands still, stopped by a signal.
    pub(crate) fn is_stopped(&self) -> bool {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.0.id()));
        let is_stopped = |thread: std::fs::DirEntry| {
            // The state follows the name, which stands in brackets and may hold anything.
            let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
        };
        threads.is_ok_and(|threads| threads.flatten().all(is_stopped))
    }

    /// How it ended, once it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().unwrap()
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> Option<ExitStatus> {
        let mut status = None;
        until(DEADLINE, || {
            status = self.ended();
            status.is_some()
        });
        status
    }

    /// Whether it was killed by `kill -9`.
    pub(crate) fn was_killed(status: ExitStatus) -> bool {
        status.signal() == Some(Signal::KILL.as_raw())
    }

    /// The most memory it has had, in bytes.
    pub(crate) fn peak_memory(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
    }

    /// How many descriptors it has open.
    pub(crate) fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.0.id())).map_or(0, Iterator::count)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Dead already, or dead in a moment; either way it is reaped.
        let _dead = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    /// What it printed, on both ways out.
    pub(crate) text: String,
}

/// Runs the program to its end.
pub(crate) fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Ended {
    run_by(&[PROGRAM], arguments, environment)
}

/// Runs it to its end by a command that takes its place.
pub(crate) fn run_by<L: AsRef<OsStr>>(
    launcher: &[L],
    arguments: &[&str],
    environment: &[(&str, &str)],
) -> Ended {
    let output = tempfile::NamedTempFile::new().unwrap();
    let mut child = Child::start(launcher, arguments, environment, output.path());
    let status = child.wait();
    let text = std::fs::read_to_string(output.path()).unwrap();
    let status = status.unwrap_or_else(|| panic!("{arguments:?} did not end\n{text}"));
    Ended { code: status.code(), text }
}

/// The program, untouched by the environment of the tests.
pub(crate) fn command<A: AsRef<OsStr>>(arguments: &[A], environment: &[(&str, &str)]) -> Command {
    command_by(&[PROGRAM], arguments, environment)
}

fn command_by<L: AsRef<OsStr>, A: AsRef<OsStr>>(
    launcher: &[L],
    arguments: &[A],
    environment: &[(&str, &str)],
) -> Command {
    let mut command = Command::new(&launcher[0]);
    command.args(&launcher[1..]);
    let ours = std::env::vars_os().map(|(name, _)| name);
    for name in ours.filter(|name| name.to_string_lossy().starts_with("FORMIDLINGD_")) {
        command.env_remove(name);
    }
    command.args(arguments).envs(environment.iter().copied()).stdin(Stdio::null());
    command
}

fn append(log: &Path) -> File {
    OpenOptions::new().create(true).append(true).open(log).unwrap()
}
