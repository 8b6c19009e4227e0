//! Fills a state directory, so that a start after a long history can be measured: so many transfers that are published
//! and wait for their recipients, and so many that are finished. See `benches/README.md`.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use formidlingd::seams::{Clock, OsRandom, SystemClock};
use formidlingd::store::Store;
use formidlingd::transfer::{
    Booking, Claim, Dispatch, FileIdentity, Md5, OutgoingEvent, Place, RecipientProgress, Sha256, Transfer,
    TransferId,
};
use jiff::Timestamp;

/// Transfers that are asked for at once: the store makes groups of them durable together.
const GROUP: usize = 1_000;

fn main() {
    // `cargo bench` adds an argument of its own.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [state, route, open, finished] = arguments.as_slice() else {
        eprintln!("usage: cargo bench --bench state_start -- STATE ROUTE OPEN FINISHED");
        return;
    };
    let (open, finished): (usize, usize) = (open.parse().unwrap(), finished.parse().unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(fill(Path::new(state), route, open));
    lengthen(&Path::new(state).join("journal"), finished);
}

/// Stores the open transfers, and one that is finished.
async fn fill(state: &Path, route: &str, open: usize) {
    let store = Store::open(state, Arc::new(SystemClock), Arc::new(OsRandom)).unwrap().store;
    let mut stored = 0;
    while stored < open + 1 {
        let group: Vec<Transfer> = (stored..(stored + GROUP).min(open + 1))
            .map(|number| published(store.new_id(), route, number))
            .collect();
        stored += group.len();
        let inserts = group.iter().cloned().map(|transfer| store.insert(transfer));
        futures_util::future::try_join_all(inserts).await.unwrap();
        if stored == open + 1 {
            let last = group.last().unwrap();
            let at = SystemClock.now();
            let ended = last.clone().after_outgoing(OutgoingEvent::AllConfirmed { at }, at).unwrap();
            store.finish(last, ended).await.unwrap();
        }
    }
    store.close().await.unwrap();
}

/// A transfer that was sent a while ago.
fn published(id: TransferId, route: &str, number: usize) -> Transfer {
    let now = SystemClock.now();
    let name = format!("faktura {number} for november.pdf");
    let inode = number as u64;
    let claim = Claim {
        name: name.clone(),
        recipient_folder: None,
        other_folder: None,
        sidecar: false,
        file: FileIdentity { device: 1, inode, size: 123_456, modified_ns: 1_795_248_000_000_000_001 },
    };
    let dispatch = Dispatch {
        file_name: name.parse().unwrap(),
        resource_id: "sandbox-files".parse().unwrap(),
        sender: "991825827".parse().unwrap(),
        recipients: vec!["910753614".parse().unwrap()],
        reference: id.to_string().parse().unwrap(),
        properties: BTreeMap::from([("year".to_owned(), "2026".to_owned())]),
        disable_virus_scan: false,
        md5: Md5::from_bytes([7; 16]),
        sha256: Sha256::from_bytes([8; 32]),
        size: 123_456,
        file: Some(claim.file),
    };
    let recipients = vec![RecipientProgress {
        recipient: "910753614".parse().unwrap(),
        status: "Initialized".to_owned(),
        changed: Some(now),
    }];
    let place = Place { date: Some("2026-11-21".to_owned()), name: name.parse().unwrap() };
    let booking =
        Booking { id: format!("00000000-0000-4000-8000-{number:012x}").parse().unwrap(), initialized: now };
    let events = [
        OutgoingEvent::FileTaken,
        OutgoingEvent::Described(Box::new(dispatch)),
        OutgoingEvent::InitializeIntended { at: now },
        OutgoingEvent::Adopted(booking),
        OutgoingEvent::UploadBegun { at: now },
        OutgoingEvent::LastByteLeaving,
        OutgoingEvent::UploadAccepted { at: now },
        OutgoingEvent::PublishedSeen { published: now, expires: Timestamp::MAX, recipients },
        OutgoingEvent::ArchiveIntended(place),
        OutgoingEvent::Archived,
    ];
    let transfer = Transfer::outgoing(id, route.parse().unwrap(), claim, now);
    events.into_iter().fold(transfer, |transfer, event| transfer.after_outgoing(event, now).unwrap())
}

/// Repeats the one line of the journal, each time with an id of its own.
fn lengthen(journal: &Path, lines: usize) {
    let month = std::fs::read_dir(journal).unwrap().next().unwrap().unwrap().path();
    let text = std::fs::read_to_string(&month).unwrap();
    let line = text.lines().next().unwrap();
    let id: TransferId = line.split("\"id\":\"").nth(1).unwrap()[..36].parse().unwrap();
    let file = std::fs::OpenOptions::new().append(true).open(&month).unwrap();
    let mut writer = BufWriter::with_capacity(1 << 20, file);
    let mut next = id;
    for _ in 1..lines {
        next = next.successor();
        writeln!(writer, "{}", line.replace(&id.to_string(), &next.to_string())).unwrap();
    }
    writer.into_inner().unwrap().sync_all().unwrap();
}
