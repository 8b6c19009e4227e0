//! The file systems of a real machine, with real mounts: FUSE, mounts between the folders, full disks, file systems
//! that go and come back, kernels that tell of nothing, and other users. Root alone can make them; `.ci/run` does.

mod archives;
mod away;
mod between;
mod corrected;
mod full;
mod fuse;
mod state;
mod users;
mod watches;

use std::path::{Path, PathBuf};

use crate::support::{Bench, Content, MOTTAKER, RESOURCE, files_below};

/// Bytes of a file that is sent and received in several blocks.
const SEVERAL_BLOCKS: usize = 600_000;

/// A folder in the bench's own, for what is mounted elsewhere.
pub(crate) fn folder(bench: &Bench, name: &str) -> PathBuf {
    let folder = bench.dir.path().join(name);
    std::fs::create_dir(&folder).unwrap();
    folder
}

/// Puts a file in a folder on any file system, whole, and remembers what is promised of it.
pub(crate) fn put(bench: &mut Bench, path: &Path, bytes: &[u8]) {
    let draft = path.with_file_name(".draft");
    std::fs::write(&draft, bytes).unwrap();
    std::fs::rename(&draft, path).unwrap();
    bench.promise(path, Content::of(bytes));
}

/// Puts a sidecar in a folder.
pub(crate) fn put_sidecar(folder: &Path, name: &str) {
    let sidecar = serde_json::json!({ "propertyList": { "name": name } });
    std::fs::write(folder.join(format!("{name}.meta.json")), sidecar.to_string()).unwrap();
}

/// Everything that lies in a folder, by name.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A second outbox of the sender, on an ordinary file system. What it does shows that time has passed for the first.
#[derive(Debug)]
pub(crate) struct OtherOutbox {
    path: PathBuf,
    sent: usize,
}

impl OtherOutbox {
    /// Configures it for a sender that does not run.
    pub(crate) fn of(bench: &mut Bench) -> Self {
        const SECTION: &str = "outbox.other";
        let path = folder(bench, "other");
        bench
            .sender
            .set(SECTION, "path", format!("\"{}\"", path.display()))
            .set(SECTION, "identity", "\"default\"")
            .set(SECTION, "resource_id", format!("\"{RESOURCE}\""))
            .set(SECTION, "recipients", format!("[\"{MOTTAKER}\"]"))
            .set(SECTION, "settle", "\"200ms\"")
            .set(SECTION, "settle_empty", "\"200ms\"")
            .set(SECTION, "keep_sent", "\"forever\"");
        Self { path, sent: 0 }
    }

    /// Sends two files, one after the other: whatever could be taken elsewhere would be gone.
    pub(crate) fn sends(&mut self, bench: &mut Bench) {
        for _ in 0..2 {
            self.sent += 1;
            let name = format!("other-{}.txt", self.sent);
            // Its receipt does not lie where the others do.
            bench.drop_at(&self.path.join(&name), name.as_bytes()).ours = false;
            bench.wait_until("the other outbox has sent its file", || {
                let files = files_below(&self.path.join("sent"));
                files.iter().filter(|path| path.to_string_lossy().ends_with(".receipt.json")).count()
                    == self.sent
            });
        }
    }
}
