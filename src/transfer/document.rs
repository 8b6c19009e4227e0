//! The JSON files that people and programs read and write: sidecar, metadata, receipt, error file, and the
//! claim that stands beside a file while it is being sent.
//!
//! Members are camelCase, with Altinn's own names wherever Altinn has one. Members may be added; none is ever
//! renamed. Times are RFC 3339 in UTC with milliseconds.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    AltinnAnswer, BrokerTransferId, Claim, Dispatch, Md5, OrgNumber, OutgoingFileName, ResourceId, RouteName,
    SendersReference, Sha256, TransferId,
};

/// Times as documents have them: `2026-11-21T08:00:00.000Z`.
mod millis {
    use jiff::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{time:.3}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        Timestamp::deserialize(deserializer)
    }

    pub(super) mod option {
        use super::{Deserialize, Deserializer, Serializer, Timestamp};

        #[expect(clippy::ref_option, reason = "serde hands a reference")]
        pub(in super::super) fn serialize<S: Serializer>(
            time: &Option<Timestamp>,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            match time {
                Some(time) => super::serialize(time, serializer),
                None => serializer.serialize_none(),
            }
        }

        pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<Timestamp>, D::Error> {
            Option::deserialize(deserializer)
        }
    }
}

/// The longest companion that is read back; what is longer is nobody's of ours.
pub const MAX_COMPANION_BYTES: u64 = 16 * 1024 * 1024;

/// A document as people and programs read it: indented, with a last line end.
#[must_use]
pub fn to_json(document: &impl Serialize) -> Vec<u8> {
    // Documents are structs of texts, numbers and times: there is nothing in them that JSON cannot say.
    let mut bytes = serde_json::to_vec_pretty(document).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

/// `<name>.meta.json` beside a dropped file: what is to be different for this file. Every member is optional.
///
/// Received metadata may be dropped again as it is: the members that only metadata has are accepted, and where
/// `fileTransferId` shows that it *is* received metadata, `resourceId` and the reference in it are not taken.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Sidecar {
    /// The name recipients see.
    pub file_name: Option<OutgoingFileName>,
    /// The resource to send under.
    pub resource_id: Option<ResourceId>,
    /// The organisations it is for.
    pub recipients: Option<Vec<OrgNumber>>,
    /// The sender's reference.
    pub senders_file_transfer_reference: Option<SendersReference>,
    /// `propertyList`.
    pub property_list: Option<BTreeMap<String, String>>,
    /// Whether the resource's virus scan is waived.
    pub disable_virus_scan: Option<bool>,
    /// Only metadata has it: this is received metadata.
    pub file_transfer_id: Option<serde_json::Value>,
    /// Only metadata has it; not read.
    sender: Option<serde_json::Value>,
    /// Only metadata has it; not read.
    recipient: Option<serde_json::Value>,
    /// Only metadata has it; not read.
    checksum: Option<serde_json::Value>,
    /// Only metadata has it; not read.
    checksum_verified: Option<serde_json::Value>,
    /// Only metadata has it; not read.
    sha256: Option<serde_json::Value>,
    /// Only metadata has it; not read.
    file_transfer_size: Option<serde_json::Value>,
    /// Only metadata has it; not read.
    published: Option<serde_json::Value>,
    /// Only metadata has it; not read.
    received: Option<serde_json::Value>,
}

/// `<name>.meta.json` beside a received file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// Altinn's id of the transfer. An importer that must not import twice remembers it.
    pub file_transfer_id: BrokerTransferId,
    /// The resource it was sent under.
    pub resource_id: ResourceId,
    /// The sender's name for the file, verbatim.
    pub file_name: String,
    /// Who sent it.
    pub sender: String,
    /// Who it is for.
    pub recipient: OrgNumber,
    /// The sender's reference.
    pub senders_file_transfer_reference: String,
    /// `propertyList`.
    pub property_list: BTreeMap<String, String>,
    /// MD5 of the file.
    pub checksum: Md5,
    /// Whether Altinn had a checksum to compare with; without one, only the size was verified.
    pub checksum_verified: bool,
    /// SHA-256 of the file.
    pub sha256: Sha256,
    /// Size in bytes.
    pub file_transfer_size: u64,
    /// When Altinn published it.
    #[serde(with = "millis")]
    pub published: Timestamp,
    /// When its last byte was on our disk.
    #[serde(with = "millis")]
    pub received: Timestamp,
}

/// A recipient, in a receipt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReceiptRecipient {
    /// The organisation.
    pub recipient: OrgNumber,
    /// `Initialized`, `DownloadStarted` or `DownloadConfirmed`.
    pub status: String,
    /// When it came so far.
    #[serde(with = "millis::option")]
    pub changed: Option<Timestamp>,
}

/// `<name>.receipt.json` beside a sent file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    /// Our id of the transfer.
    pub transfer_id: TransferId,
    /// Altinn's id of it.
    pub file_transfer_id: BrokerTransferId,
    /// The outbox it was dropped in.
    pub route: RouteName,
    /// The resource it was sent under.
    pub resource_id: ResourceId,
    /// The name recipients see.
    pub file_name: OutgoingFileName,
    /// Who sent it.
    pub sender: OrgNumber,
    /// Who it is for, and how far each has come.
    pub recipients: Vec<ReceiptRecipient>,
    /// The reference it is found by at Altinn.
    pub senders_file_transfer_reference: SendersReference,
    /// `propertyList`.
    pub property_list: BTreeMap<String, String>,
    /// MD5 of the file.
    pub checksum: Md5,
    /// SHA-256 of the file.
    pub sha256: Sha256,
    /// Size in bytes.
    pub file_transfer_size: u64,
    /// `published`, `completed` or `expired`.
    pub status: String,
    /// When the file was taken from the drop folder.
    #[serde(with = "millis")]
    pub claimed: Timestamp,
    /// When Altinn gave it an id.
    #[serde(with = "millis")]
    pub initialized: Timestamp,
    /// When Altinn had every byte.
    #[serde(with = "millis")]
    pub uploaded: Timestamp,
    /// When Altinn published it.
    #[serde(with = "millis")]
    pub published: Timestamp,
    /// When the last recipient had confirmed it; null until then.
    #[serde(with = "millis::option")]
    pub completed: Option<Timestamp>,
}

/// `<name>.error.json` beside a file that was not sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ErrorFile {
    /// Stable, for programs.
    pub code: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub remedy: String,
    /// Our id of the transfer; null where the file was never claimed.
    pub transfer_id: Option<TransferId>,
    /// Altinn's id of it; null where Altinn never gave one.
    pub file_transfer_id: Option<BrokerTransferId>,
    /// The outbox it was dropped in.
    pub route: RouteName,
    /// The name it was dropped under.
    pub file_name: String,
    /// When it failed.
    #[serde(with = "millis")]
    pub failed: Timestamp,
    /// How often the failing step was tried.
    pub attempts: u32,
    /// What Altinn answered; null where Altinn was not asked.
    pub altinn: Option<AltinnAnswer>,
}

/// `claim.json` beside a file that is being sent: enough to go on with it if the state store is lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClaimFile {
    /// Our id of the transfer.
    pub transfer_id: TransferId,
    /// The outbox it was dropped in.
    pub route: RouteName,
    /// When it was claimed.
    pub created: Timestamp,
    /// Which file was taken.
    pub claim: Claim,
    /// What Altinn was told, once it has answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dispatch: Option<Box<Dispatch>>,
    /// Altinn's id, once it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_transfer_id: Option<BrokerTransferId>,
}
