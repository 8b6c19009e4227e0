//! Real file systems under the folders of a test. Only root may mount them, and only where nobody else sees it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::child::{DEADLINE, until};

/// How the tests that need root are run.
const HOW: &str = "run: unshare --mount --propagation private cargo test --test it -- --ignored mounts::";

/// Fails unless this is root in a mount namespace of its own, from which nothing reaches the machine's mounts.
pub(crate) fn assert_alone_as_root() {
    assert!(rustix::process::geteuid().is_root(), "this test needs root; {HOW}");
    let mounts = |process: &str| std::fs::read_to_string(format!("/proc/{process}/mountinfo")).unwrap();
    let (ours, all) = (mounts("self"), mounts("1"));
    // Each mount has a number of its own, also in a copy of all mounts; namespaces may not be looked at.
    let number = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
    let numbers: Vec<String> = all.lines().map(number).collect();
    let is_alone = ours.lines().all(|line| !numbers.contains(&number(line)));
    assert!(is_alone && !numbers.is_empty(), "these are the mounts of the whole machine; {HOW}");
    assert!(!ours.contains(" shared:"), "what is mounted here is seen elsewhere, too; {HOW}");
}

/// What is mounted.
#[derive(Debug)]
enum Kind {
    /// A folder, under a second name.
    Bind(PathBuf),
    /// A folder behind a FUSE file system.
    Fuse(PathBuf),
    /// Memory, of this many KiB.
    Memory(u32),
}

/// A mounted file system. It is taken away when this is dropped, whoever still uses it.
#[derive(Debug)]
pub(crate) struct Mount {
    kind: Kind,
    point: PathBuf,
    server: Option<Child>,
}

impl Mount {
    /// Shows a folder at `point`, too.
    pub(crate) fn bind(folder: &Path, point: &Path) -> Self {
        Self::new(Kind::Bind(folder.to_owned()), point)
    }

    /// Shows a folder at `point` by a FUSE file system, as a server's folder is shown: what is done in the folder
    /// itself, behind the file system, nobody at `point` is told of.
    pub(crate) fn fuse(folder: &Path, point: &Path) -> Self {
        Self::new(Kind::Fuse(folder.to_owned()), point)
    }

    /// A file system in memory that has room for so many KiB.
    pub(crate) fn memory(kib: u32, point: &Path) -> Self {
        Self::new(Kind::Memory(kib), point)
    }

    fn new(kind: Kind, point: &Path) -> Self {
        assert_alone_as_root();
        // What the kernel lists has no links in it.
        let mut mount = Self { kind, point: point.canonicalize().unwrap(), server: None };
        mount.mount();
        mount
    }

    /// Mounts it again.
    pub(crate) fn mount(&mut self) {
        assert!(!self.is_mounted(), "{} is mounted already", self.point.display());
        match &self.kind {
            Kind::Bind(folder) => {
                succeed(Command::new("mount").args(["-n", "--bind"]).args([folder, &self.point]));
            }
            Kind::Memory(kib) => {
                let options = format!("size={kib}k,mode=755");
                succeed(
                    Command::new("mount")
                        .args(["-n", "-t", "tmpfs", "-o", &options, "tmpfs"])
                        .arg(&self.point),
                );
            }
            Kind::Fuse(folder) => {
                let mut server = Command::new("bindfs");
                server.arg("-f").args([folder, &self.point]).stdin(Stdio::null());
                self.server = Some(server.spawn().expect("bindfs is installed"));
                let is_there = until(DEADLINE, || self.is_mounted());
                assert!(is_there, "bindfs did not mount {}", self.point.display());
            }
        }
    }

    /// Takes it away at once, whoever still uses it. What was below it shows again.
    pub(crate) fn lift(&mut self) {
        succeed(Command::new("umount").args(["-n", "-i", "-l"]).arg(&self.point));
        self.end_server();
    }

    fn is_mounted(&self) -> bool {
        let point = self.point.to_str().unwrap();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        mounts.lines().any(|line| line.split(' ').nth(4) == Some(point))
    }

    /// Ends the program behind a FUSE file system, which stays mounted and answers nothing but errors from now on.
    pub(crate) fn end_server(&mut self) {
        if let Some(mut server) = self.server.take() {
            // It ends by itself when nobody uses it any more; either way it is reaped.
            let _dead = server.kill();
            let _reaped = server.wait();
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if self.is_mounted() {
            let lifted = Command::new("umount").args(["-n", "-i", "-l"]).arg(&self.point).status();
            if !lifted.as_ref().is_ok_and(std::process::ExitStatus::success) {
                eprintln!("{} is still mounted: {lifted:?}", self.point.display());
            }
        }
        self.end_server();
    }
}

fn succeed(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// All the room that was left on a file system, until this is dropped.
#[derive(Debug)]
pub(crate) struct Ballast(PathBuf);

impl Ballast {
    /// Takes all room there is in `folder` but for some KiB.
    pub(crate) fn but(kib: u64, folder: &Path) -> Self {
        let ballast = Self(folder.join("ballast"));
        let mut file = std::fs::File::create(&ballast.0).unwrap();
        let page = [0; 4096];
        while file.write_all(&page).is_ok() {}
        let size = file.metadata().unwrap().len();
        file.set_len(size.checked_sub(kib * 1024).expect("there was less room than is to be left")).unwrap();
        ballast
    }
}

impl Drop for Ballast {
    fn drop(&mut self) {
        // Its file system may have gone before it.
        let _gone = std::fs::remove_file(&self.0);
    }
}
