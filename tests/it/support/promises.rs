//! What is promised of every dropped file, held against everything that can be seen: the sandbox's own books,
//! both ends' folders, receipts, metadata and journals.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Bench, Content, MOTTAKER, Party, RESOURCE};

/// What becomes of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Published, delivered and confirmed.
    Confirmed,
    /// Published and delivered; nobody has confirmed it.
    Delivered,
    /// Published; nobody fetches it.
    Published,
    /// In `failed/`, with an error file of this code.
    Refused(&'static str),
    /// Still where it was dropped.
    Waiting,
}

/// A file that was dropped, and what is to become of it.
#[derive(Debug, Clone)]
pub(crate) struct Dropped {
    path: PathBuf,
    /// Its name in the drop folder.
    pub(crate) name: String,
    /// Its name at Altinn.
    pub(crate) shown: String,
    pub(crate) content: Content,
    pub(crate) recipients: Vec<String>,
    pub(crate) fate: Fate,
    /// Whether the sender keeps it in `sent/`.
    pub(crate) kept: bool,
    /// Whether it went by the sender at all, and not by other software.
    pub(crate) ours: bool,
}

impl Dropped {
    pub(super) fn new(path: &Path, content: Content) -> Self {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        Self {
            path: path.to_owned(),
            shown: name.clone(),
            name,
            content,
            recipients: vec![MOTTAKER.to_owned()],
            fate: Fate::Confirmed,
            kept: true,
            ours: true,
        }
    }

    fn is_published(&self) -> bool {
        matches!(self.fate, Fate::Confirmed | Fate::Delivered | Fate::Published)
    }

    fn is_delivered(&self) -> bool {
        matches!(self.fate, Fate::Confirmed | Fate::Delivered)
    }
}

/// MD5, name at Altinn, recipient.
type Key = (String, String, String);

/// The Rust files below a folder, sorted.
pub(crate) fn sources_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = files_below(folder);
    files.retain(|path| path.extension().is_some_and(|extension| extension == "rs"));
    files
}

/// The files below a folder, sorted.
pub(crate) fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(path);
            } else {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

fn read_json(path: &Path) -> Option<Value> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

/// What a start that was killed leaves of trying a folder out: empty, hidden, and removed by a later one.
fn is_probe(path: &Path) -> bool {
    let is_named =
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(".formidlingd-probe-"));
    is_named && path.metadata().is_ok_and(|metadata| metadata.len() == 0)
}

fn is_private(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == ".formidlingd") || is_probe(path)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

/// A companion's path without what makes it one.
fn without_suffix(path: &Path, suffix: &str) -> Option<PathBuf> {
    Some(PathBuf::from(path.to_str()?.strip_suffix(suffix)?))
}

/// The companions below a folder, each with the path of the file it belongs to.
fn companions(folder: &Path, suffix: &str) -> Vec<(PathBuf, Value)> {
    let of = |path: PathBuf| Some((without_suffix(&path, suffix)?, read_json(&path)?));
    files_below(folder).into_iter().filter_map(of).collect()
}

impl Bench {
    /// Every receipt, with the path of the file it belongs to.
    pub(crate) fn receipts(&self) -> Vec<(PathBuf, Value)> {
        companions(&self.sender.sent(), ".receipt.json")
    }

    /// Every error file, with the path of the file it belongs to.
    pub(crate) fn errors(&self) -> Vec<(PathBuf, Value)> {
        companions(&self.sender.outbox().join("failed"), ".error.json")
    }

    /// The metadata of every received file, with the file's path.
    pub(crate) fn received(&self) -> Vec<(PathBuf, Value)> {
        let all = companions(&self.recipient.inbox(), ".meta.json");
        all.into_iter().filter(|(path, _)| !is_private(path)).collect()
    }

    /// Every received file, with or without metadata.
    pub(crate) fn inbox_files(&self) -> Vec<PathBuf> {
        let is_file = |path: &PathBuf| !is_private(path) && !path.to_string_lossy().ends_with(".meta.json");
        files_below(&self.recipient.inbox()).into_iter().filter(is_file).collect()
    }

    /// How often each content is to be published and confirmed.
    fn expected(&self) -> BTreeMap<Key, (u64, u64)> {
        let mut expected = BTreeMap::new();
        for dropped in self.dropped.iter().filter(|dropped| dropped.is_published()) {
            for recipient in &dropped.recipients {
                let number = recipient.strip_prefix("0192:").unwrap_or(recipient).to_owned();
                let key = (dropped.content.md5.clone(), dropped.shown.clone(), number);
                let count: &mut (u64, u64) = expected.entry(key).or_default();
                count.0 += 1;
                let confirms = dropped.fate == Fate::Confirmed && recipient == MOTTAKER;
                count.1 += u64::from(confirms);
            }
        }
        expected
    }

    /// How often it has been, by the sandbox's books.
    fn counted(&self) -> BTreeMap<Key, (u64, u64)> {
        let mut counted = BTreeMap::new();
        for row in self.look("content") {
            let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
            let recipient = text("recipient");
            let recipient = recipient.rsplit(':').next().unwrap_or_default().to_owned();
            let count = (row["published"].as_u64().unwrap(), row["confirmed"].as_u64().unwrap());
            if count != (0, 0) {
                counted.insert((text("md5"), text("fileName"), recipient), count);
            }
        }
        counted
    }

    /// Whether all that is expected of every file has happened; what has not, otherwise.
    pub(super) fn is_settled(&self) -> Result<(), String> {
        let (expected, counted) = (self.expected(), self.counted());
        for (key, count) in &expected {
            let have = counted.get(key).copied().unwrap_or_default();
            if have.0 < count.0 || have.1 < count.1 {
                return Err(format!("{key:?} published and confirmed {have:?} times of {count:?}"));
            }
        }
        let sent = self.dropped.iter().filter(|dropped| dropped.is_published() && dropped.ours).count();
        let receipts = self.receipts();
        if receipts.len() < sent {
            return Err(format!("{} receipts of {sent}", receipts.len()));
        }
        // The receipt is laid down before its file.
        let kept = self
            .dropped
            .iter()
            .filter(|dropped| dropped.is_published() && dropped.ours && dropped.kept)
            .count();
        let laid_down = receipts.iter().filter(|(path, _)| path.exists()).count();
        if laid_down < kept {
            return Err(format!("{laid_down} files beside receipts of {kept}"));
        }
        let refused = self.dropped.iter().filter(|dropped| matches!(dropped.fate, Fate::Refused(_))).count();
        let errors = self.errors().iter().filter(|(path, _)| path.exists()).count();
        if errors < refused {
            return Err(format!("{errors} refused files beside error files of {refused}"));
        }
        let delivered = self.dropped.iter().filter(|dropped| dropped.is_delivered()).count();
        let files = self.inbox_files().len();
        if files < delivered {
            return Err(format!("{files} files in the inbox of {delivered}"));
        }
        Ok(())
    }

    /// The promises, where everything has settled and neither end runs.
    pub(super) fn assert_settled_promises(&self) {
        assert_eq!(self.counted(), self.expected(), "how often each content was published and confirmed");
        self.assert_sent();
        self.assert_refused();
        self.assert_waiting();
        self.assert_received();
        self.assert_nothing_stray();
    }

    fn transfer_at_altinn(&self, id: &Value) -> Value {
        let found = self.look("transfers").into_iter().find(|transfer| transfer["id"] == *id);
        found.unwrap_or_else(|| panic!("Altinn knows no transfer {id}"))
    }

    fn assert_sent(&self) {
        let mut left: Vec<&Dropped> =
            self.dropped.iter().filter(|dropped| dropped.is_published() && dropped.ours).collect();
        let mut ids = BTreeSet::new();
        for (path, receipt) in self.receipts() {
            let is_it = |dropped: &&Dropped| {
                receipt["checksum"] == dropped.content.md5.as_str()
                    && receipt["fileName"] == dropped.shown.as_str()
                    && (Content::of_file(&path).as_ref() == dropped.kept.then_some(&dropped.content))
            };
            let place = left.iter().position(is_it);
            let place =
                place.unwrap_or_else(|| panic!("{}: a receipt of nothing: {receipt}", path.display()));
            let dropped = left.swap_remove(place);
            assert_eq!(receipt["fileTransferSize"], dropped.content.size, "{receipt}");
            assert_eq!(receipt["resourceId"], RESOURCE);
            assert!(
                ids.insert(receipt["fileTransferId"].to_string()),
                "two receipts of one transfer: {receipt}"
            );
            assert!(ids.insert(receipt["transferId"].to_string()), "two receipts of one transfer: {receipt}");
            let altinn = self.transfer_at_altinn(&receipt["fileTransferId"]);
            assert_eq!(altinn["published"], 1, "{altinn}");
            assert_eq!(altinn["md5"], receipt["checksum"]);
            assert_eq!(altinn["fileName"], receipt["fileName"]);
            assert_eq!(altinn["reference"], receipt["sendersFileTransferReference"]);
            if receipt["status"] == "completed" {
                assert!(receipt["completed"].is_string(), "{receipt}");
                assert_eq!(dropped.fate, Fate::Confirmed, "{receipt}");
            } else {
                assert_eq!(receipt["status"], "published", "{receipt}");
                assert!(receipt["completed"].is_null(), "{receipt}");
            }
        }
        assert!(left.is_empty(), "published without a receipt: {left:?}");
        for path in files_below(&self.sender.sent()) {
            let text = path.to_string_lossy();
            let belongs = text.ends_with(".receipt.json")
                || with_suffix(&path, ".receipt.json").exists()
                || without_suffix(&path, ".meta.json")
                    .is_some_and(|file| with_suffix(&file, ".receipt.json").exists());
            assert!(belongs, "{text} has no receipt");
        }
    }

    /// A sidecar that was set aside has no file, and an error file that says why.
    fn is_orphan(path: &Path, error: &Value) -> bool {
        let is_orphan = ["sidecar_orphaned", "sidecar_late"].iter().any(|code| error["code"] == *code);
        assert!(!is_orphan || with_suffix(path, ".meta.json").exists(), "{error}");
        is_orphan
    }

    fn assert_refused(&self) {
        let mut left: Vec<&Dropped> =
            self.dropped.iter().filter(|dropped| matches!(dropped.fate, Fate::Refused(_))).collect();
        for (path, error) in self.errors() {
            if Self::is_orphan(&path, &error) {
                continue;
            }
            let is_it = |dropped: &&Dropped| {
                matches!(dropped.fate, Fate::Refused(code) if error["code"] == code)
                    && error["fileName"] == dropped.name.as_str()
                    && Content::of_file(&path).as_ref() == Some(&dropped.content)
            };
            let place = left.iter().position(is_it);
            let place = place.unwrap_or_else(|| panic!("{}: not expected: {error}", path.display()));
            left.swap_remove(place);
            for member in ["message", "remedy"] {
                assert!(error[member].as_str().is_some_and(|text| !text.is_empty()), "{error}");
            }
        }
        assert!(left.is_empty(), "refused without an error file: {left:?}");
        for path in
            files_below(&self.sender.outbox().join("failed")).into_iter().filter(|path| !is_probe(path))
        {
            let text = path.to_string_lossy();
            let belongs = text.ends_with(".error.json")
                || with_suffix(&path, ".error.json").exists()
                || without_suffix(&path, ".meta.json")
                    .is_some_and(|file| with_suffix(&file, ".error.json").exists());
            assert!(belongs, "{text} has no error file");
        }
    }

    /// The drop folder holds what waits in it, and nothing else.
    fn assert_waiting(&self) {
        let outbox = self.sender.outbox();
        let waiting: BTreeMap<&Path, &Dropped> = self
            .dropped
            .iter()
            .filter(|dropped| dropped.fate == Fate::Waiting)
            .map(|dropped| (dropped.path.as_path(), dropped))
            .collect();
        for (path, dropped) in &waiting {
            assert_eq!(Content::of_file(path).as_ref(), Some(&dropped.content), "{}", path.display());
        }
        for path in files_below(&outbox) {
            let first = path.strip_prefix(&outbox).unwrap().iter().next().unwrap().to_str().unwrap();
            let is_marker = path.starts_with(outbox.join(".formidlingd/aside"));
            if ["sent", "failed"].contains(&first) || is_marker || is_probe(&path) {
                continue;
            }
            let file = without_suffix(&path, ".meta.json");
            let belongs = waiting.contains_key(path.as_path())
                || file.is_some_and(|file| waiting.contains_key(file.as_path()));
            assert!(belongs, "{} was left behind", path.display());
        }
    }

    fn assert_received(&self) {
        let mut left: Vec<&Dropped> = self.dropped.iter().filter(|dropped| dropped.is_delivered()).collect();
        let has_metadata = !self.recipient.settings.text().contains("write_metadata = false");
        for path in self.inbox_files() {
            let content = Content::of_file(&path).unwrap();
            let metadata = read_json(&with_suffix(&path, ".meta.json"));
            assert_eq!(metadata.is_some(), has_metadata, "metadata of {}", path.display());
            let is_it = |dropped: &&Dropped| {
                dropped.content == content
                    && metadata.as_ref().is_none_or(|metadata| metadata["fileName"] == dropped.shown.as_str())
            };
            let place = left.iter().position(is_it);
            let place = place.unwrap_or_else(|| panic!("{} was never sent, or came twice", path.display()));
            left.swap_remove(place);
            if let Some(metadata) = metadata {
                self.assert_metadata(&metadata, &content);
            }
        }
        assert!(left.is_empty(), "not received: {left:?}");
        let ids: BTreeSet<String> =
            self.received().iter().map(|(_, metadata)| metadata["fileTransferId"].to_string()).collect();
        assert_eq!(ids.len(), self.received().len(), "one transfer was delivered twice");
        for (path, metadata) in self.received() {
            assert!(path.exists(), "metadata without a file: {}: {metadata}", path.display());
        }
    }

    fn assert_metadata(&self, metadata: &Value, content: &Content) {
        let altinn = self.transfer_at_altinn(&metadata["fileTransferId"]);
        assert_eq!(metadata["fileName"], altinn["fileName"]);
        assert_eq!(metadata["sendersFileTransferReference"], altinn["reference"]);
        assert_eq!(metadata["resourceId"], altinn["resourceId"]);
        assert_eq!(metadata["recipient"], MOTTAKER);
        assert_eq!(metadata["checksum"], content.md5.as_str());
        assert_eq!(metadata["checksumVerified"], true);
        assert_eq!(metadata["fileTransferSize"], content.size);
        let number = |organization: &Value| {
            organization.as_str().unwrap_or_default().rsplit(':').next().unwrap_or_default().to_owned()
        };
        assert_eq!(number(&metadata["sender"]), number(&altinn["sender"]));
    }

    /// Neither partial files nor temporary ones.
    fn assert_nothing_stray(&self) {
        let folders = [&self.sender.folder, &self.sender.sent(), &self.recipient.folder];
        for path in folders.into_iter().flat_map(|folder| files_below(folder)) {
            let name = path.file_name().unwrap().to_string_lossy();
            let is_state = path.starts_with(self.sender.state()) || path.starts_with(self.recipient.state());
            let is_waiting = self.dropped.iter().any(|dropped| dropped.path == path);
            assert!(
                !name.starts_with('.') || is_state || is_waiting || is_probe(&path),
                "{} is temporary",
                path.display()
            );
        }
        let private = self.recipient.inbox().join(".formidlingd");
        for folder in [self.sender.outbox().join(".formidlingd/sending"), private.join("incoming")] {
            let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
            let left = entries.filter(|entry| !is_probe(&entry.path())).count();
            assert_eq!(left, 0, "{}: {:?}", folder.display(), files_below(&folder));
        }
        // What was delivered is remembered beside the inbox, too, for as long as Altinn could offer it again.
        let delivered = self.dropped.iter().filter(|dropped| dropped.is_delivered()).count();
        let markers = files_below(&private.join("delivered")).len();
        assert_eq!(markers, delivered, "markers of delivered files");
    }

    /// What is in the journal of an end, by id.
    fn journal_of(party: &Party) -> BTreeMap<String, Value> {
        let mut transfers = BTreeMap::new();
        for path in files_below(&party.state().join("journal")) {
            for line in std::fs::read_to_string(&path).unwrap().lines().filter(|line| !line.is_empty()) {
                let Ok(line) = serde_json::from_str::<Value>(line) else { continue };
                transfers.insert(line["id"].as_str().unwrap().to_owned(), line["transfer"].clone());
            }
        }
        transfers
    }

    /// Whether every receipt that says that it is over has its line in the journal, which comes after it.
    pub(super) fn is_journalled(&self) -> bool {
        let journal = Self::journal_of(&self.sender);
        let receipts = self.receipts();
        let mut over = receipts.iter().filter(|(_, receipt)| receipt["status"] == "completed");
        over.all(|(_, receipt)| journal.contains_key(receipt["transferId"].as_str().unwrap()))
    }

    /// What is finished is in the journal, as the receipts have it.
    pub(super) fn assert_journals(&self) {
        let transfers = Self::journal_of(&self.sender);
        for (path, receipt) in self.receipts() {
            let is_known = transfers.contains_key(receipt["transferId"].as_str().unwrap());
            let is_over = receipt["status"] == "completed";
            assert_eq!(is_known, is_over, "{}: receipt and journal differ", path.display());
        }
        // Reads every line.
        Self::journal_of(&self.recipient);
    }
}
