//! A service that is an ordinary user, and people who are others, in a folder that they share.

use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use super::{SEVERAL_BLOCKS, names};
use crate::support::{Bench, Content, Fate, OUTBOX, PROGRAM, Party, Setup, assert_alone_as_root, noise};

/// The service's user, and the group that the folders are shared with. Numbers that no account need have.
pub(crate) const SERVICE: u32 = 64_101;
pub(crate) const GROUP: u32 = 64_102;
/// Somebody who drops files.
const PERSON: u32 = 64_103;
/// The service does not see writers of others' files, so it waits for longer than any test runs.
const UNVERIFIED: &str = "\"1h\"";

/// Runs a party as the service's user; with the capability to see all writers, or with none at all.
pub(crate) fn as_service(bench: &Bench, party: &Party, sees_writers: bool) -> Vec<String> {
    // Where cargo builds, others may not be let in.
    let program = bench.dir.path().join("formidlingd");
    if !program.exists() {
        // By another process: what this one writes, the children that other tests start at that moment hold open, and a
        // program that somebody writes cannot be started.
        let copied = Command::new("cp").arg(PROGRAM).arg(&program).status().unwrap();
        assert!(copied.success());
    }
    std::fs::set_permissions(bench.dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let key = party.settings.text().lines().find_map(|line| line.strip_prefix("private_key = { file = \""));
    let key = PathBuf::from(key.unwrap().split('"').next().unwrap());
    chown(&key, Some(SERVICE), None).unwrap();
    chown(&party.folder, Some(SERVICE), None).unwrap();
    for folder in [party.outbox(), party.inbox()].into_iter().filter(|folder| folder.exists()) {
        share(&folder, 0o3770);
    }
    let mut launcher = setpriv(SERVICE);
    if sees_writers {
        launcher.extend(["--inh-caps=+lease", "--ambient-caps=+lease"].map(str::to_owned));
    }
    launcher.push(program.to_str().unwrap().to_owned());
    launcher
}

/// The service's folder, which the group shares.
fn share(folder: &Path, mode: u32) {
    chown(folder, Some(SERVICE), Some(GROUP)).unwrap();
    std::fs::set_permissions(folder, PermissionsExt::from_mode(mode)).unwrap();
}

/// A command that makes the next one somebody's, who is in the group.
fn setpriv(user: u32) -> Vec<String> {
    let user = [format!("--reuid={user}"), format!("--regid={user}"), format!("--groups={GROUP}")];
    std::iter::once("setpriv".to_owned()).chain(user).collect()
}

/// A shell of the person's.
fn person(script: &str, path: &Path) -> Command {
    let words = setpriv(PERSON);
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).args(["sh", "-c", script, "sh"]).arg(path);
    command
}

fn succeeds(mut command: Command) -> bool {
    command.stderr(Stdio::null()).status().unwrap().success()
}

/// A program of the person's that has made a file of its full size and goes on writing it.
struct Writer {
    child: Child,
    input: ChildStdin,
}

impl Writer {
    fn begin(path: &Path, size: usize) -> Self {
        let script = format!("umask 027; fallocate -l {size} \"$1\" && exec cat 1<>\"$1\"");
        let mut child = person(&script, path).stdin(Stdio::piped()).spawn().unwrap();
        let input = child.stdin.take().unwrap();
        Self { child, input }
    }

    /// Writes a piece; it is in the file when this returns.
    fn write(&mut self, bench: &Bench, path: &Path, piece: &[u8], at: usize) {
        self.input.write_all(piece).unwrap();
        bench.wait_until("the piece is written", || {
            std::fs::read(path).is_ok_and(|content| content.get(at..at + piece.len()) == Some(piece))
        });
    }

    fn end(mut self) {
        drop(self.input);
        assert!(self.child.wait().unwrap().success());
    }
}

/// Sends two files of the service's own user, one after the other: another's that could be taken would be gone.
fn own_files_are_sent(bench: &mut Bench, prefix: &str) {
    for number in 0..2 {
        let name = format!("{prefix}-{number}.txt");
        let draft = bench.dir.path().join("own-draft");
        std::fs::write(&draft, &name).unwrap();
        chown(&draft, Some(SERVICE), Some(SERVICE)).unwrap();
        let path = bench.sender.outbox().join(&name);
        std::fs::rename(&draft, &path).unwrap();
        bench.promise(&path, Content::of(name.as_bytes()));
        let sent =
            |bench: &Bench| bench.receipts().iter().any(|(path, _)| path.ends_with(&name) && path.exists());
        bench.wait_until("the service's own file is sent", || sent(bench));
    }
}

fn shared_outbox(sees_writers: bool) -> Bench {
    assert_alone_as_root();
    let mut bench = Bench::new(&Setup::default());
    bench.sender.launcher = as_service(&bench, &bench.sender, sees_writers);
    bench.sender.set(OUTBOX, "settle_unverified", UNVERIFIED);
    bench
}

/// A person writes a file in pieces, each long after the file would have been taken if nobody had it open; it is as
/// it was written last after each.
fn write_in_pieces(bench: &mut Bench, path: &Path, seed: u64) -> Writer {
    let whole = noise(seed, SEVERAL_BLOCKS);
    let piece = SEVERAL_BLOCKS / 3;
    let mut writer = Writer::begin(path, SEVERAL_BLOCKS);
    for (number, bytes) in whole.chunks(piece).enumerate() {
        writer.write(bench, path, bytes, number * piece);
        own_files_are_sent(bench, &format!("own-{seed}-{number}"));
        let written = std::fs::read(path).expect("it was taken while it was being written");
        assert_eq!(written.get(..number * piece + bytes.len()), whole.get(..number * piece + bytes.len()));
    }
    assert_eq!(path.metadata().unwrap().uid(), PERSON);
    bench.promise(path, Content::of(&whole));
    writer
}

#[test]
#[ignore = "needs root: mounts"]
fn a_file_of_another_user_is_waited_for_longer_where_its_writers_are_not_seen() {
    let mut bench = shared_outbox(false);
    let check = bench.sender.run("check");
    assert_eq!(check.code, Some(0), "{check:?}");
    for words in ["others' are waited for longer", "another user's for 1h", "CAP_LEASE"] {
        assert!(check.text.contains(words), "{words}: {check:?}");
    }
    bench.start();
    let path = bench.sender.outbox().join("from-another.bin");
    write_in_pieces(&mut bench, &path, 1).end();
    // Nobody has it open any more, which the service cannot know.
    own_files_are_sent(&mut bench, "after");
    assert!(path.exists(), "it was taken though nobody can tell whether it is being written");
    assert_eq!(bench.sender.stop(), Some(0));
    bench.sender.set(OUTBOX, "settle_unverified", "\"500ms\"");
    bench.sender.start();
    bench.assert_promises();
}

#[test]
#[ignore = "needs root: mounts"]
fn writers_of_other_users_files_are_seen_with_the_capability() {
    let mut bench = shared_outbox(true);
    let check = bench.sender.run("check");
    assert!(check.text.contains("; writers are seen"), "{check:?}");
    bench.start();
    let path = bench.sender.outbox().join("from-another.bin");
    let writer = write_in_pieces(&mut bench, &path, 2);
    own_files_are_sent(&mut bench, "after");
    assert!(path.exists(), "it was taken while it was open");
    writer.end();
    // Long before a file is taken whose writers are not seen.
    bench.assert_promises();
}

#[test]
#[ignore = "needs root: mounts"]
fn a_file_that_the_service_may_not_read_stays_where_it_is_until_it_may() {
    let mut bench = shared_outbox(true);
    bench.start();
    let path = bench.sender.outbox().join("private.txt");
    assert!(succeeds(person("umask 077; echo secret > \"$1\"", &path)));
    bench.promise(&path, Content::of(b"secret\n")).fate = Fate::Waiting;
    bench.wait_until("it is told of", || {
        let said = bench.sender.said();
        said.lines().any(|line| line.contains("file_not_readable") && line.contains("private.txt"))
    });
    own_files_are_sent(&mut bench, "own");
    assert_eq!(std::fs::read(&path).unwrap(), b"secret\n");
    assert!(succeeds(person("chmod 640 \"$1\"", &path)));
    bench.dropped[0].fate = Fate::Confirmed;
    bench.assert_promises();
}

#[test]
#[ignore = "needs root: mounts"]
fn in_a_sticky_folder_nobody_moves_what_is_the_services_or_anothers() {
    let mut bench = shared_outbox(true);
    let outbox = bench.sender.outbox();
    let check = bench.sender.run("check");
    assert!(check.code == Some(0) && !check.text.contains("warning"), "{check:?}");
    bench.start();
    bench.drop_file("first.txt", b"first");
    bench.settle();
    let others = outbox.join("~$anothers.docx");
    std::fs::write(&others, "ignored").unwrap();
    bench.promise(&others, Content::of(b"ignored")).fate = Fate::Waiting;
    for name in [".formidlingd", "sent", "failed", "~$anothers.docx"] {
        let path = outbox.join(name);
        assert!(!succeeds(person("mv \"$1\" \"$1-moved\"", &path)), "{name} can be moved away");
        assert!(path.exists());
    }
    for name in [".formidlingd", ".formidlingd/sending"] {
        assert!(!succeeds(person("ls \"$1\"", &outbox.join(name))), "{name} can be looked into");
        assert!(!succeeds(person("touch \"$1/planted\"", &outbox.join(name))), "{name} can be written");
    }
    bench.assert_promises();

    share(&outbox, 0o2770);
    let check = bench.sender.run("check");
    assert_eq!(check.code, Some(0), "{check:?}");
    assert!(check.text.contains("warning") && check.text.contains("chmod 3770"), "{check:?}");
    assert!(
        succeeds(person("mv \"$1\" \"$1-moved\"", &outbox.join("sent"))),
        "what is warned of can be done"
    );
    assert_eq!(names(&outbox.join("sent-moved")).len(), 1);
}

/// Whether a file is the service's and of the folder's group, whose people may read it.
fn assert_shared(path: &Path, case: &str) {
    let file = path.metadata().unwrap();
    let found = (file.uid(), file.gid(), file.mode() & 0o7777);
    assert_eq!(found, (SERVICE, GROUP, 0o640), "{}: {case}", path.display());
    assert!(succeeds(person("cat \"$1\" > /dev/null", path)), "{} cannot be read: {case}", path.display());
}

#[test]
#[ignore = "needs root: mounts"]
fn what_is_delivered_to_a_shared_folder_belongs_to_its_group() {
    assert_alone_as_root();
    // Whether or not the folder passes its group on by itself.
    for mode in [0o3770, 0o1770] {
        let mut bench = Bench::new(&Setup::default());
        bench.recipient.launcher = as_service(&bench, &bench.recipient, false);
        let inbox = bench.recipient.inbox();
        share(&inbox, mode);
        bench.start();
        bench.drop_file("a.pdf", b"a");
        bench.assert_promises();
        for name in ["a.pdf", "a.pdf.meta.json"] {
            assert_shared(&inbox.join(name), &format!("in a folder of mode {mode:o}"));
        }
    }
}

#[test]
#[ignore = "needs root: mounts"]
fn receipts_and_error_files_belong_to_the_group_of_the_outbox() {
    for mode in [0o3770, 0o1770] {
        let mut bench = shared_outbox(true);
        share(&bench.sender.outbox(), mode);
        bench.start();
        bench.drop_file("a.pdf", b"a");
        bench.sidecar("b.pdf", &serde_json::json!({ "recipients": [] }));
        bench.drop_file("b.pdf", b"b").fate = Fate::Refused("no_recipients");
        bench.wait_for_completion();
        bench.assert_promises();
        let beside = |path: &Path, suffix: &str| PathBuf::from(format!("{}{suffix}", path.display()));
        let (receipts, errors) = (bench.receipts(), bench.errors());
        for path in [beside(&receipts[0].0, ".receipt.json"), beside(&errors[0].0, ".error.json")] {
            assert_shared(&path, &format!("in a folder of mode {mode:o}"));
        }
    }
}
