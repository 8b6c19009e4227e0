//! A download that is complete and not what Altinn has. It is fetched once more, as a whole; then what came is kept
//! as evidence, with a document that says what was expected and what was found, and nothing is confirmed.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use super::Route;
use super::folders::Folders;
use crate::files::{Error, Mode};
use crate::route::{Kind, Next, Trouble};
use crate::seams::crash_point;
use crate::transfer::document::to_json;
use crate::transfer::{
    BrokerTransferId, IncomingEvent, Md5, Offer, RouteName, Sha256, Transfer, TransferId, Work,
};

/// Complete downloads that were not what Altinn has, after which a person has to look.
const MAX_DAMAGED: u32 = 2;
/// What stands beside the file that is kept.
const EVIDENCE: &str = "evidence.json";

/// What was found on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) md5: Md5,
    pub(super) sha256: Sha256,
    /// Bytes.
    pub(super) size: u64,
    /// More came than these, and was not taken.
    pub(super) more_came: bool,
}

/// `.formidlingd/rejected/<transferId>/evidence.json`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Evidence<'a> {
    code: &'static str,
    message: &'a str,
    transfer_id: TransferId,
    file_transfer_id: BrokerTransferId,
    route: &'a RouteName,
    file_name: &'a str,
    sender: &'a str,
    downloads: u32,
    failed: Timestamp,
    expected: Expected,
    found: OnDisk,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Expected {
    checksum: Option<Md5>,
    file_transfer_size: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct OnDisk {
    checksum: Md5,
    sha256: Sha256,
    file_transfer_size: u64,
    more_came: bool,
}

/// The code of a file that is kept for inspection.
const MISMATCH: &str = "checksum_mismatch";

impl Route {
    /// Fetches a damaged file again, or gives it up.
    pub(super) async fn settle_damage(
        self: &Arc<Self>,
        transfer: &mut Transfer,
        offer: &Offer,
        found: Found,
    ) -> Result<Next, Trouble> {
        let Work::Incoming { damaged, .. } = &transfer.work else { return Ok(Next::Wait) };
        let (id, damaged, now) = (transfer.id, *damaged, self.means.now());
        let message = describe(offer, &found);
        if damaged + 1 < MAX_DAMAGED {
            self.on_files(move |folders| folders.remove_own(id)).await?;
            crash_point("damage:removed");
            self.all_happened(transfer, [IncomingEvent::DownloadBegun, IncomingEvent::DownloadDamaged])
                .await?;
            let remedy = "nothing: it is fetched once more";
            return Err(Trouble::new(Kind::Temporary(None), "download_damaged", message, remedy, now));
        }
        let evidence = Evidence {
            code: MISMATCH,
            message: &message,
            transfer_id: id,
            file_transfer_id: offer.id,
            route: &self.settings.name,
            file_name: &offer.file_name,
            sender: &offer.sender,
            downloads: damaged + 1,
            failed: now,
            expected: Expected { checksum: offer.checksum, file_transfer_size: offer.size },
            found: OnDisk {
                checksum: found.md5,
                sha256: found.sha256,
                file_transfer_size: found.size,
                more_came: found.more_came,
            },
        };
        let document = to_json(&evidence);
        self.on_files(move |folders| write(folders, id, &document)).await?;
        crash_point("damage:evidence");
        let remedy = "ask the sender to send the file again; what came is kept under .formidlingd/rejected, with evidence.json beside it";
        Err(Trouble::new(Kind::Permanent, MISMATCH, message, remedy, now))
    }
}

fn write(folders: &Folders, id: TransferId, document: &[u8]) -> Result<(), Error> {
    folders.own(id)?.replace(EVIDENCE, document, Mode::PRIVATE_FILE)
}

fn describe(offer: &Offer, found: &Found) -> String {
    let wanted = offer.checksum.map_or_else(|| "unknown".to_owned(), |checksum| checksum.to_string());
    let more = if found.more_came { ", and more came" } else { "" };
    format!(
        "what came is not what Altinn has: {} bytes of MD5 {}{more}, instead of {} bytes of MD5 {wanted}",
        found.size, found.md5, offer.size
    )
}
