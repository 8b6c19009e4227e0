//! What Altinn is to be told of a file: route, folder and sidecar put together, the content hashed once, and
//! every limit of the API checked before any call.

use std::collections::BTreeMap;
use std::io;

use jiff::Timestamp;

use super::candidate::Source;
use super::folders::{FILE, Folders, SIDECAR};
use super::take;
use crate::config::{self, Recipients, SidecarMember};
use crate::files::{self, Digests, Entry, EntryKind, Error, Writers};
use crate::route::{Kind, Trouble};
use crate::transfer::document::Sidecar;
use crate::transfer::{
    Claim, Dispatch, FileIdentity, OrgNumber, OutgoingFileName, ResourceId, SendersReference, TransferId,
};

/// What Altinn takes of a file that is scanned for malware (Broker API, limits).
const MAX_SCANNED_BYTES: u64 = 50_000_000_000;
/// What Altinn's storage can hold of one that is not.
const MAX_BYTES: u64 = 1_677_721_600_000;
/// `propertyList`: entries, characters of a key, characters of a value.
const MAX_PROPERTIES: (usize, usize, usize) = (10, 50, 3000);
/// Altinn names no limit; this keeps the record of a transfer small enough for the store.
const MAX_RECIPIENTS: usize = 500;
/// A sidecar is small; more than this is something else.
const MAX_SIDECAR_BYTES: u64 = 1024 * 1024;

/// A claimed file, read once.
#[derive(Debug)]
pub(super) struct Content {
    digests: Digests,
    file: FileIdentity,
}

/// What reading a claimed file came to.
#[derive(Debug)]
pub(super) enum ReadOutcome {
    /// It was still while it was read.
    Still(Box<Content>),
    /// Somebody is writing it.
    Changing,
}

/// The sidecar of a claimed file.
#[derive(Debug)]
pub(super) enum TakenSidecar {
    /// It came without one.
    None,
    /// Its content.
    Content(Vec<u8>),
    /// It came with one, which is gone.
    Lost,
    /// It is too large to be one: so many bytes.
    TooLarge(u64),
}

/// The sidecar that was taken with a file.
pub(super) fn sidecar(folders: &Folders, id: TransferId, claim: &Claim) -> Result<TakenSidecar, Error> {
    if !claim.sidecar {
        return Ok(TakenSidecar::None);
    }
    let own = folders.own(id)?;
    take::fetch_sidecar(&folders.source(&Source::of(claim))?, &own, claim)?;
    match own.look(SIDECAR)? {
        None => Ok(TakenSidecar::Lost),
        Some(entry) if entry.identity.size > MAX_SIDECAR_BYTES => {
            Ok(TakenSidecar::TooLarge(entry.identity.size))
        }
        Some(_) => own.read(SIDECAR, MAX_SIDECAR_BYTES).map(TakenSidecar::Content),
    }
}

/// The claimed file as it is now, and whether the kernel tells who writes it.
pub(super) fn look(folders: &Folders, id: TransferId) -> Result<(Entry, bool), Error> {
    let own = folders.own(id)?;
    let path = own.path().join(FILE);
    let file = own.open_file(FILE)?;
    let entry = Entry::of_file(&file).map_err(|error| Error::new("look at", &path, error))?;
    Ok((entry, folders.writers(&file) != Writers::Unknown))
}

/// Reads and hashes a claimed file. One that a writer has open, or that changes meanwhile, is not taken.
pub(super) fn read(folders: &Folders, id: TransferId) -> Result<ReadOutcome, Error> {
    let own = folders.own(id)?;
    let path = own.path().join(FILE);
    let mut file = own.open_file(FILE)?;
    let look =
        |file: &std::fs::File| Entry::of_file(file).map_err(|error| Error::new("look at", &path, error));
    let before = look(&file)?;
    if before.kind != EntryKind::File {
        let reason = io::Error::new(io::ErrorKind::InvalidData, "it is not a regular file any more");
        return Err(Error::new("read", &path, reason));
    }
    if folders.writers(&file) == Writers::Some {
        return Ok(ReadOutcome::Changing);
    }
    let digests = files::digest_file(&mut file).map_err(|error| Error::new("read", &path, error))?;
    let after = look(&file)?;
    if before != after || digests.bytes() != after.identity.size || folders.writers(&file) == Writers::Some {
        return Ok(ReadOutcome::Changing);
    }
    Ok(ReadOutcome::Still(Box::new(Content { digests, file: after.identity })))
}

/// What a dispatch is made of.
#[derive(Debug)]
pub(super) struct Ingredients<'a> {
    /// The route's settings.
    pub(super) settings: &'a config::Outbox,
    /// Who sends.
    pub(super) sender: OrgNumber,
    /// The transfer.
    pub(super) id: TransferId,
    /// Which file was taken.
    pub(super) claim: &'a Claim,
    /// How many transfers at Altinn were given up on before.
    pub(super) abandoned: usize,
    /// The local date, for the reference.
    pub(super) date: &'a str,
    /// The present moment.
    pub(super) now: Timestamp,
}

/// All that Altinn is told but the content, which is worth reading only now.
#[derive(Debug)]
pub(super) struct Outline {
    file_name: OutgoingFileName,
    resource_id: ResourceId,
    sender: OrgNumber,
    recipients: Vec<OrgNumber>,
    reference: SendersReference,
    properties: BTreeMap<String, String>,
    disable_virus_scan: bool,
    max_bytes: u64,
}

impl Outline {
    /// What Altinn is to be told; `None` where the file has grown meanwhile beyond what Altinn takes.
    pub(super) fn complete(self, content: Content) -> Option<Dispatch> {
        let size = content.digests.bytes();
        let (md5, sha256) = content.digests.finish();
        (size <= self.max_bytes).then_some(Dispatch {
            file_name: self.file_name,
            resource_id: self.resource_id,
            sender: self.sender,
            recipients: self.recipients,
            reference: self.reference,
            properties: self.properties,
            disable_virus_scan: self.disable_virus_scan,
            md5,
            sha256,
            size,
            file: Some(content.file),
        })
    }
}

impl Ingredients<'_> {
    /// What Altinn is to be told of a file of this size and with this sidecar, or why it cannot be sent as it is.
    pub(super) fn outline(&self, sidecar: &TakenSidecar, size: u64) -> Result<Outline, Trouble> {
        self.check_folder()?;
        let sidecar = self.sidecar(sidecar)?;
        let file_name = match sidecar.file_name {
            Some(name) => name,
            None => self.claim.name.parse::<OutgoingFileName>().map_err(|error| {
                self.refuse(
                    "file_name_invalid",
                    error.to_string(),
                    "rename the file, or set fileName in its sidecar",
                )
            })?,
        };
        let recipients = self.recipients(sidecar.recipients)?;
        let is_received = sidecar.file_transfer_id.is_some();
        let resource_id = self.resource(sidecar.resource_id.filter(|_| !is_received))?;
        let reference = sidecar.senders_file_transfer_reference.filter(|_| !is_received);
        let disable_virus_scan = sidecar.disable_virus_scan.unwrap_or(self.settings.disable_virus_scan);
        let mut properties = self.settings.properties.clone();
        properties.extend(sidecar.property_list.unwrap_or_default());
        self.check_properties(&properties)?;
        let max_bytes = if disable_virus_scan { MAX_BYTES } else { MAX_SCANNED_BYTES };
        self.check_size(size, max_bytes)?;
        Ok(Outline {
            reference: self.reference(reference, &file_name)?,
            file_name,
            resource_id,
            sender: self.sender,
            recipients,
            properties,
            disable_virus_scan,
            max_bytes,
        })
    }

    fn check_folder(&self) -> Result<(), Trouble> {
        let Some(folder) = &self.claim.other_folder else { return Ok(()) };
        let message = format!("the file lies in the folder {folder:?}, which is no organisation number");
        let remedy = "drop it in a folder named by the recipient's organisation number (nine digits, the last of which must fit)";
        Err(self.refuse("recipient_folder_invalid", message, remedy))
    }

    fn resource(&self, chosen: Option<ResourceId>) -> Result<ResourceId, Trouble> {
        let Some(chosen) = chosen else { return Ok(self.settings.resource_id.clone()) };
        let allowed = &self.settings.allowed_resources;
        if allowed.is_empty() || allowed.contains(&chosen) || chosen == self.settings.resource_id {
            return Ok(chosen);
        }
        let message = format!("{chosen} is not among the outbox's allowed_resources");
        let remedy = "see whether the resource is right; if so, add it to allowed_resources";
        Err(self.refuse("resource_not_allowed", message, remedy))
    }

    fn sidecar(&self, taken: &TakenSidecar) -> Result<Sidecar, Trouble> {
        let content = match taken {
            TakenSidecar::None => return Ok(Sidecar::default()),
            TakenSidecar::Content(content) => content.as_slice(),
            TakenSidecar::Lost => {
                let message = "the sidecar that came with the file is gone, and may have said who it is for";
                let remedy = "drop the file again with its sidecar";
                return Err(self.refuse("sidecar_missing", message.to_owned(), remedy));
            }
            TakenSidecar::TooLarge(bytes) => {
                let message = format!("the sidecar has {bytes} bytes, and may have {MAX_SIDECAR_BYTES}");
                let remedy = "correct the sidecar, then drop it again before the file";
                return Err(self.refuse("sidecar_invalid", message, remedy));
            }
        };
        // Notepad writes a byte order mark, which is not JSON.
        let content = content.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(content);
        let sidecar: Sidecar = serde_json::from_slice(content).map_err(|error| {
            let name = take::sidecar_name(&self.claim.name);
            let remedy = "correct the sidecar, then drop it again before the file";
            self.refuse("sidecar_invalid", format!("the sidecar {name:?} cannot be used: {error}"), remedy)
        })?;
        let is_received = sidecar.file_transfer_id.is_some();
        let used = [
            (SidecarMember::FileName, sidecar.file_name.is_some()),
            (SidecarMember::ResourceId, sidecar.resource_id.is_some() && !is_received),
            (SidecarMember::Recipients, sidecar.recipients.is_some()),
            (
                SidecarMember::SendersFileTransferReference,
                sidecar.senders_file_transfer_reference.is_some() && !is_received,
            ),
            (SidecarMember::PropertyList, sidecar.property_list.is_some()),
            (SidecarMember::DisableVirusScan, sidecar.disable_virus_scan.is_some()),
        ];
        for (member, is_used) in used {
            if is_used && !self.settings.sidecar_may.contains(&member) {
                let message =
                    format!("the sidecar sets {member}, which this outbox does not let sidecars do");
                let remedy =
                    format!("leave {member} out of the sidecar, or add it to sidecar_may of the outbox");
                return Err(self.refuse("sidecar_not_allowed", message, &remedy));
            }
        }
        Ok(sidecar)
    }

    fn recipients(&self, from_sidecar: Option<Vec<OrgNumber>>) -> Result<Vec<OrgNumber>, Trouble> {
        let from_folder = self.claim.recipient_folder;
        if let (Some(folder), Some(sidecar)) = (from_folder, &from_sidecar)
            && sidecar.as_slice() != [folder]
        {
            let message =
                format!("the file lies in the folder of {folder}, but its sidecar names other recipients");
            let remedy = "leave recipients out of the sidecar, or drop the file in the right folder";
            return Err(self.refuse("recipients_conflict", message, remedy));
        }
        let is_chosen = from_folder.is_some() || from_sidecar.is_some();
        let configured = match &self.settings.recipients {
            Recipients::Listed(recipients) => recipients.clone(),
            Recipients::FromDirectory | Recipients::FromSidecar => Vec::new(),
        };
        let mut recipients = from_sidecar.or(from_folder.map(|folder| vec![folder])).unwrap_or(configured);
        recipients.sort_unstable();
        recipients.dedup();
        if recipients.is_empty() {
            let remedy = match self.settings.recipients {
                Recipients::FromDirectory => {
                    "drop the file in a folder named by the recipient's organisation number"
                }
                Recipients::Listed(_) | Recipients::FromSidecar => {
                    "name the recipients in the file's sidecar"
                }
            };
            return Err(self.refuse(
                "no_recipients",
                "nobody is named to receive the file".to_owned(),
                remedy,
            ));
        }
        if recipients.len() > MAX_RECIPIENTS {
            let message = format!("{} recipients for one file", recipients.len());
            let remedy = format!("send it to at most {MAX_RECIPIENTS} organisations at a time");
            return Err(self.refuse("too_many_recipients", message, &remedy));
        }
        let allowed = &self.settings.allowed_recipients;
        let stranger =
            recipients.iter().find(|recipient| !allowed.is_empty() && !allowed.contains(recipient));
        if let Some(stranger) = stranger.filter(|_| is_chosen) {
            let message = format!("{stranger} is not among the outbox's allowed_recipients");
            let remedy = "see whether the number is right; if so, add it to allowed_recipients";
            return Err(self.refuse("recipient_not_allowed", message, remedy));
        }
        Ok(recipients)
    }

    /// The reference that finds the transfer again. A new transfer after one that was given up on gets one of
    /// its own where the reference carries our id; the user's own words stay as they are.
    fn reference(
        &self,
        chosen: Option<SendersReference>,
        file_name: &OutgoingFileName,
    ) -> Result<SendersReference, Trouble> {
        if let Some(chosen) = chosen {
            return Ok(chosen);
        }
        let wrong = |error: crate::transfer::ParseError| {
            self.refuse("reference_invalid", error.to_string(), "correct the outbox's reference")
        };
        let reference =
            self.settings.reference.expand(&self.id, file_name.as_str(), self.date).map_err(wrong)?;
        if self.abandoned == 0 || !reference.as_str().contains(&self.id.to_string()) {
            return Ok(reference);
        }
        format!("{reference}.{}", self.abandoned + 1).parse().or(Ok(reference))
    }

    fn check_properties(&self, properties: &BTreeMap<String, String>) -> Result<(), Trouble> {
        let (entries, key, value) = MAX_PROPERTIES;
        let units = |text: &str| text.encode_utf16().count();
        let fits = properties.len() <= entries
            && properties.iter().all(|(name, content)| units(name) <= key && units(content) <= value);
        if fits {
            return Ok(());
        }
        let message = format!("{} properties, or one that is too long", properties.len());
        let remedy = "at most 10 properties, with keys of 50 and values of 3000 characters";
        Err(self.refuse("properties_invalid", message, remedy))
    }

    fn check_size(&self, size: u64, limit: u64) -> Result<(), Trouble> {
        if size <= limit {
            return Ok(());
        }
        let message = format!("the file has {size} bytes, and Altinn takes {limit}");
        Err(self.refuse("file_too_large", message, "split the file"))
    }

    fn refuse(&self, code: &str, message: String, remedy: &str) -> Trouble {
        Trouble::new(Kind::Permanent, code, message, remedy, self.now)
    }
}
