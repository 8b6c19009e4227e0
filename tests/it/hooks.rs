//! Programs of `on_received`, as children and run by the hook service; what they have started ends with them.

use std::io::Write;
use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Bench, DEADLINE, INBOX, Setup, command, run, until};

/// What systemd does with `Accept=yes`: a process for each connection, which is its standard input and output.
struct HookService {
    socket: PathBuf,
    stop: Arc<AtomicBool>,
    accepting: Option<JoinHandle<Vec<Child>>>,
}

impl HookService {
    fn start(bench: &Bench) -> Self {
        let socket = socket(bench);
        let listener = UnixListener::bind(&socket).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let (stopping, log) = (Arc::clone(&stop), log(bench));
        let accepting = std::thread::spawn(move || {
            let mut children = Vec::new();
            for stream in listener.incoming() {
                if stopping.load(Ordering::SeqCst) {
                    break;
                }
                let input = OwnedFd::from(stream.unwrap());
                let output = input.try_clone().unwrap();
                let log = std::fs::OpenOptions::new().create(true).append(true).open(&log).unwrap();
                let mut hook =
                    command(&["hook"], &[("TZ", "Europe/Oslo"), ("SECRET", "of the hook service")]);
                hook.stdin(Stdio::from(input)).stdout(Stdio::from(output)).stderr(log);
                children.push(hook.spawn().unwrap());
            }
            children
        });
        Self { socket, stop, accepting: Some(accepting) }
    }
}

impl Drop for HookService {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // It wakes the thread, which may also have ended in a panic.
        let _woken = UnixStream::connect(&self.socket);
        let children = self.accepting.take().map(JoinHandle::join);
        for mut child in children.and_then(Result::ok).unwrap_or_default() {
            let _dead = child.kill();
            let _reaped = child.wait();
        }
    }
}

fn socket(bench: &Bench) -> PathBuf {
    bench.dir.path().join("hook.sock")
}

fn log(bench: &Bench) -> PathBuf {
    bench.dir.path().join("hook.log")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// Who runs the programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Children,
    Hooks,
}

/// The folder of a program. What a failed test leaves running is killed.
struct Program(PathBuf);

impl Deref for Program {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let pid = read(&self.join("pid")).trim().parse().ok().and_then(Pid::from_raw);
        if let Some(pid) = pid.filter(|_| sleeps(self)) {
            let _gone = kill_process(pid, Signal::KILL);
        }
    }
}

/// A recipient with a shell script as its program; `DIR` in it is the folder that is returned.
fn with_program(bench: &mut Bench, mode: Mode, script: &str) -> Program {
    let folder = bench.dir.path().join("program");
    std::fs::create_dir(&folder).unwrap();
    let program = folder.join("import");
    let script = script.replace("DIR", folder.to_str().unwrap());
    std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    let on_received = format!("[\"{}\", \"{{path}}\", \"$(id)\"]", program.display());
    bench.recipient.set(INBOX, "on_received", on_received);
    if mode == Mode::Hooks {
        let socket = format!("\"{}\"", socket(bench).display());
        bench.recipient.set("hooks", "socket", socket);
    }
    Program(folder)
}

/// The first time, it starts another program that does not end, and waits for it; later it ends at once.
const ENDLESS: &str = "echo x >> DIR/ran
[ -s DIR/pid ] && exit 0
sleep 1000 &
echo $! > DIR/pid.new
mv DIR/pid.new DIR/pid
wait";

/// Whether the process that the endless program started still runs.
fn sleeps(folder: &Path) -> bool {
    let pid = read(&folder.join("pid"));
    let stat = read(&Path::new("/proc").join(pid.trim()).join("stat"));
    stat.contains("(sleep)") && !stat.contains(") Z")
}

fn runs(folder: &Path) -> usize {
    read(&folder.join("ran")).lines().count()
}

#[test]
fn the_hook_service_runs_a_program_once_for_each_file() {
    let mut bench = Bench::new(&Setup::default());
    let script = "echo \"$1|$2|$FORMIDLINGD_PATH|$FORMIDLINGD_METADATA|$FORMIDLINGD_FILE_TRANSFER_ID|\
                  $FORMIDLINGD_ROUTE|$TZ|$SECRET\" >> DIR/ran; echo to the journal";
    let folder = with_program(&mut bench, Mode::Hooks, script);
    let _service = HookService::start(&bench);
    for name in ["a.txt", "to ord.txt", "{metadata}.txt"] {
        bench.drop_file(name, name.as_bytes());
    }
    bench.sender.start();
    bench.recipient.start_with(&[("SECRET", "of the service")]);
    bench.settle();
    bench.wait_until("the program has run for each", || runs(&folder) >= 3);
    bench.assert_promises();
    let lines = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let expected: Vec<String> = bench
        .received()
        .iter()
        .map(|(path, metadata)| {
            let (path, id) = (path.display(), metadata["fileTransferId"].as_str().unwrap());
            format!("{path}|$(id)|{path}|{path}.meta.json|{id}|from-avsender|Europe/Oslo|")
        })
        .collect();
    assert_eq!(lines(&read(&folder.join("ran"))), lines(&expected.join("\n")));
    assert_eq!(lines(&read(&log(&bench))), ["to the journal"; 3], "and nothing else");
}

#[test]
fn a_program_that_fails_in_the_hook_service_is_run_again() {
    let mut bench = Bench::new(&Setup::default());
    let script = "echo x >> DIR/ran; [ $(wc -l < DIR/ran) -ge 3 ] || exit 7";
    let folder = with_program(&mut bench, Mode::Hooks, script);
    let _service = HookService::start(&bench);
    bench.drop_file("a.txt", b"a");
    bench.start();
    bench.wait_until("the program has run three times", || runs(&folder) >= 3);
    bench.assert_promises();
    assert_eq!(runs(&folder), 3);
    let log = bench.recipient.log();
    assert!(log.contains("on_received_failed") && log.contains("exit code 7"));
    assert_eq!(bench.requests("download", 200).len(), 1, "the file was not fetched again");
}

#[test]
fn a_hook_service_that_is_not_there_is_waited_for() {
    let mut bench = Bench::new(&Setup::default());
    let folder = with_program(&mut bench, Mode::Hooks, "echo x >> DIR/ran");
    bench.drop_file("a.txt", b"a");
    bench.start();
    let says = |bench: &Bench| bench.recipient.log().matches("hook_unavailable").count();
    bench.wait_until("the service is missed", || says(&bench) >= 2);
    assert!(bench.recipient.log().contains("systemctl enable --now formidlingd-hook.socket"));
    assert!(bench.recipient.inbox().join("a.txt").exists(), "the file does not wait");
    // A socket that nobody listens on any more is as good as none.
    drop(UnixListener::bind(socket(&bench)).unwrap());
    let said = says(&bench);
    bench.wait_until("the service is missed", || says(&bench) >= said + 2);
    std::fs::remove_file(socket(&bench)).unwrap();
    let _service = HookService::start(&bench);
    bench.wait_until("the program has run", || runs(&folder) >= 1);
    bench.assert_promises();
    assert_eq!((runs(&folder), bench.requests("download", 200).len()), (1, 1));
}

#[test]
fn a_program_that_takes_too_long_is_killed_with_all_that_it_started() {
    for mode in [Mode::Children, Mode::Hooks] {
        let mut bench = Bench::new(&Setup::default());
        let folder = with_program(&mut bench, mode, ENDLESS);
        bench.recipient.set(INBOX, "on_received_timeout", "\"1s\"");
        let _service = HookService::start(&bench);
        bench.drop_file("a.txt", b"a");
        bench.start();
        bench.wait_until("its time is over", || bench.recipient.log().contains("did not end within 1s"));
        bench.wait_until("nothing of it is left", || folder.join("pid").exists() && !sleeps(&folder));
        bench.wait_until("it has run again", || runs(&folder) >= 2);
        bench.assert_promises();
        assert_eq!(bench.requests("download", 200).len(), 1, "{mode:?}");
    }
}

#[test]
fn a_program_does_not_outlive_a_service_that_is_stopped_at_once() {
    for mode in [Mode::Children, Mode::Hooks] {
        let mut bench = Bench::new(&Setup::default());
        let folder = with_program(&mut bench, mode, ENDLESS);
        let _service = HookService::start(&bench);
        bench.drop_file("a.txt", b"a");
        bench.start();
        bench.wait_until("the program runs", || sleeps(&folder));
        let mut child = bench.recipient.child.take().unwrap();
        child.signal(Signal::TERM);
        let is_stopping = || bench.recipient.said().contains("stopping: no new work");
        assert!(until(DEADLINE, is_stopping), "{mode:?}");
        assert!(child.is_running() && sleeps(&folder), "it is given time: {mode:?}");
        child.signal(Signal::TERM);
        assert_eq!(child.wait().and_then(|status| status.code()), Some(0), "{mode:?}");
        assert!(until(DEADLINE, || !sleeps(&folder)), "{mode:?}");
        bench.recipient.start();
        bench.wait_until("the program has run again", || runs(&folder) >= 2);
        bench.assert_promises();
        assert_eq!(runs(&folder), 2, "{mode:?}");
    }
}

#[test]
fn a_service_that_dies_while_its_program_runs_has_it_run_again() {
    let mut bench = Bench::new(&Setup::default());
    let folder = with_program(&mut bench, Mode::Hooks, ENDLESS);
    let _service = HookService::start(&bench);
    bench.drop_file("a.txt", b"a");
    bench.start();
    bench.wait_until("the program runs", || sleeps(&folder));
    bench.recipient.kill();
    bench.wait_until("nobody asks any more, and it was killed", || !sleeps(&folder));
    bench.recipient.start();
    bench.wait_until("the program has run again", || runs(&folder) >= 2);
    bench.assert_promises();
    assert_eq!((runs(&folder), bench.requests("download", 200).len()), (2, 1));
}

#[test]
fn the_hook_command_reads_requests_and_nothing_else() {
    let hook = |input: &[u8]| {
        let mut hook = command(&["hook"], &[]);
        hook.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = hook.spawn().unwrap();
        // It stops reading where there is too much.
        let _cut = child.stdin.take().unwrap().write_all(input);
        let output = child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let long = format!("{{\"program\": \"/bin/{}\"}}\n", "x".repeat(2 << 20));
    for (garbage, reason) in [
        ("", "is not a request"),
        ("hei\n", "is not a request"),
        ("{\"program\": \"/bin/true\"}\n", "missing field"),
        (&long, "more than 1048576 bytes"),
    ] {
        let (code, answer, complaint) = hook(garbage.as_bytes());
        assert_eq!(code, Some(1), "{complaint}");
        assert!(complaint.contains(reason) && complaint.contains("what to do"), "{complaint}");
        assert!(answer.starts_with("{\"refused\":\"") && answer.contains(reason), "{answer}");
    }
    let request = "{\"program\":\"/bin/sh\",\"arguments\":[\"-c\",\"echo said; exit $CODE\"],\
                   \"environment\":{\"CODE\":\"3\"},\"limit_ms\":60000}\n";
    let expected = (Some(0), "{\"ran\":{\"exited\":3}}\n".to_owned(), "said\n".to_owned());
    assert_eq!(hook(request.as_bytes()), expected);
}

#[test]
fn a_hook_command_that_is_stopped_takes_its_program_along() {
    let mut bench = Bench::new(&Setup::default());
    let folder = with_program(&mut bench, Mode::Hooks, ENDLESS);
    let program = folder.join("import");
    let request =
        serde_json::json!({ "program": program, "arguments": [], "environment": {}, "limit_ms": 1_000_000 });
    let mut hook = command(&["hook"], &[]);
    let mut hook = hook.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    hook.stdin.take().unwrap().write_all(request.to_string().as_bytes()).unwrap();
    assert!(until(DEADLINE, || sleeps(&folder)));
    kill_process(Pid::from_child(&hook), Signal::TERM).unwrap();
    assert!(until(DEADLINE, || hook.try_wait().unwrap().is_some()), "it goes on");
    assert_eq!(hook.wait().unwrap().code(), Some(1));
    assert!(until(DEADLINE, || !sleeps(&folder)));
}

#[test]
fn check_leaves_programs_to_the_hook_service() {
    let mut bench = Bench::new(&Setup::default());
    let folder = with_program(&mut bench, Mode::Children, "true");
    let check = |bench: &Bench| {
        let configuration = bench.recipient.configuration().to_str().unwrap().to_owned();
        run(&["check", "--config", &configuration], &[])
    };
    std::fs::remove_file(folder.join("import")).unwrap();
    let checked = check(&bench);
    assert_eq!(checked.code, Some(78), "{checked:?}");
    let path = socket(&bench);
    bench.recipient.set("hooks", "socket", format!("\"{}\"", path.display()));
    let checked = check(&bench);
    assert_eq!(checked.code, Some(0), "{checked:?}");
    for key in ["inbox.from-avsender.on_received", "hooks.socket"] {
        let warned = checked.text.lines().any(|line| line.starts_with("warning: ") && line.contains(key));
        assert!(warned, "{key}: {checked:?}");
    }
    let _listener = UnixListener::bind(&path).unwrap();
    std::fs::write(folder.join("import"), "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(folder.join("import"), PermissionsExt::from_mode(0o755)).unwrap();
    let checked = check(&bench);
    assert!(checked.code == Some(0) && !checked.text.contains("warning"), "{checked:?}");
}
