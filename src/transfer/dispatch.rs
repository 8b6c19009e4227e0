//! What a dropped file is: which file was taken, and everything that Altinn is told of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Md5, OrgNumber, OutgoingFileName, ResourceId, SendersReference, Sha256};

/// What was seen of a dropped file when it was taken: enough to know it again, wherever it has been moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileIdentity {
    /// Device number of the file system, as long as it is mounted; in a claim, a number that stands for the outbox,
    /// since file systems get other device numbers when the machine starts anew.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
    /// Size in bytes.
    pub size: u64,
    /// Modification time, nanoseconds since 1970.
    pub modified_ns: i64,
}

impl FileIdentity {
    /// Whether this is the same file, unchanged, whatever the number of its device is today.
    #[must_use]
    pub fn is_same_file(&self, other: &Self) -> bool {
        (self.inode, self.size, self.modified_ns) == (other.inode, other.size, other.modified_ns)
    }
}

/// Which file was taken, from where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Claim {
    /// The name it had in the drop folder.
    pub name: String,
    /// The recipient's folder it was dropped in, where the folder names the recipient.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient_folder: Option<OrgNumber>,
    /// The folder it was dropped in, where folders name recipients and this one names nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other_folder: Option<String>,
    /// Whether a sidecar was taken with it.
    pub sidecar: bool,
    /// What the file was when the claim was intended.
    pub file: FileIdentity,
}

/// Everything that Altinn is told of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Dispatch {
    /// The name recipients see.
    pub file_name: OutgoingFileName,
    /// The resource it is sent under.
    pub resource_id: ResourceId,
    /// The organisation that sends.
    pub sender: OrgNumber,
    /// The organisations it is for; never empty.
    pub recipients: Vec<OrgNumber>,
    /// What the transfer is found by again if an answer is lost.
    pub reference: SendersReference,
    /// `propertyList`.
    pub properties: BTreeMap<String, String>,
    /// Whether the resource's virus scan is waived.
    pub disable_virus_scan: bool,
    /// MD5 of the content, which Altinn verifies.
    pub md5: Md5,
    /// SHA-256 of the content, for the receipt.
    pub sha256: Sha256,
    /// Size of the content in bytes.
    pub size: u64,
    /// What the file was when its content was hashed: one that is something else has been written since. Absent in
    /// records from before it was remembered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<FileIdentity>,
}
