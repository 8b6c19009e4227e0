//! From the tree of what was written to the checked configuration: outboxes and inboxes.

use std::collections::{BTreeMap, BTreeSet};

use super::patterns::NamePatterns;
use super::problem::Origin;
use super::routes::{
    AfterSend, Inbox, Keep, MinFreeSpace, Outbox, ParallelParts, Recipients, Sending, Sidecar, SidecarMember,
};
use super::section::{Reported, Section, Wrong};
use super::tree::Value;
use super::values;
use crate::transfer::RouteName;

/// `[outbox.NAME]`
pub(super) fn outbox(name: RouteName, section: &mut Section<'_>) -> Result<Outbox, Reported> {
    let path = section.value("path", values::path);
    let identity = section.value("identity", values::parsed);
    let resource_id = section.value("resource_id", values::parsed);
    let sidecar = section.value("sidecar", values::choice);
    let sidecar_may = section.value("sidecar_may", values::choices);
    let recipients = recipients(section, sidecar, sidecar_may.as_ref().ok());
    let reference = section.value("reference", values::parsed);
    let properties = properties(section);
    let disable_virus_scan = section.value("disable_virus_scan", values::boolean);
    let include = section.value("include", some_patterns);
    let exclude = section.value("exclude", values::patterns);
    let settle = section.value("settle", values::duration);
    let settle_empty = section.value("settle_empty", values::duration);
    let settle_unverified = section.value("settle_unverified", values::duration);
    let watch = section.value("watch", values::choice);
    let poll_interval = section.value("poll_interval", values::positive_duration);
    let sidecar_patience = section.value("sidecar_patience", values::positive_duration);
    let allowed_recipients = section.value("allowed_recipients", values::organizations);
    let allowed_resources = section.value("allowed_resources", values::resources);
    let after_send = section.value("after_send", values::choice);
    let archive_path = section.optional("archive_path", values::path);
    let (keep_sent, keep_receipts) = kept(section, after_send);
    let file_mode = section.value("file_mode", values::file_mode);
    let group = section.optional("group", values::text);
    let processing_patience = section.value("processing_patience", values::positive_duration);
    let sending = sending(section);
    let give_up_after = section.optional("give_up_after", values::positive_duration);
    let max_concurrent = section.value("max_concurrent", values::positive);
    Ok(Outbox {
        name,
        path: path?,
        identity: identity?,
        resource_id: resource_id?,
        recipients: recipients?,
        reference: reference?,
        properties: properties?,
        disable_virus_scan: disable_virus_scan?,
        include: include?,
        exclude: exclude?,
        settle: settle?,
        settle_empty: settle_empty?,
        settle_unverified: settle_unverified?,
        watch: watch?,
        poll_interval: poll_interval?,
        sidecar: sidecar?,
        sidecar_may: sidecar_may?,
        sidecar_patience: sidecar_patience?,
        allowed_recipients: allowed_recipients?,
        allowed_resources: allowed_resources?,
        after_send: after_send?,
        archive_path: archive_path?,
        keep_sent: keep_sent?,
        keep_receipts: keep_receipts?,
        file_mode: file_mode?,
        group: group?,
        processing_patience: processing_patience?,
        sending: sending?,
        give_up_after: give_up_after?,
        max_concurrent: max_concurrent?,
    })
}

/// How content is sent.
fn sending(section: &mut Section<'_>) -> Result<Sending, Reported> {
    let upload = section.value("upload", values::choice);
    let chunk_size = section.value("chunk_size", chunk_size);
    let parallel_parts = section.value("parallel_parts", parallel_parts);
    Ok(Sending { upload: upload?, chunk_size: chunk_size?, parallel_parts: parallel_parts? })
}

/// Altinn holds a whole chunk in memory, and takes none of 2 GiB.
const LARGEST_CHUNK: u64 = 1024 * 1024 * 1024;
const SMALLEST_CHUNK: u64 = 1024;

fn chunk_size(value: &Value) -> Result<u64, Wrong> {
    let size = values::positive_size(value)?;
    if (SMALLEST_CHUNK..=LARGEST_CHUNK).contains(&size) {
        Ok(size)
    } else {
        Err(Wrong::new("it is below 1 KiB or above 1 GiB", "write \"16MiB\", or a size near it"))
    }
}

/// More parts at once than any line needs.
const MOST_PARTS: u64 = 16;

fn parallel_parts(value: &Value) -> Result<ParallelParts, Wrong> {
    if let Value::Text(text) | Value::Plain(text) = value
        && text == "auto"
    {
        return Ok(ParallelParts::Auto);
    }
    let wrong =
        || Wrong::new("it is not \"auto\" or a number from 1 to 16", "write \"auto\", or 1 for no parts");
    match values::positive::<u64>(value) {
        Ok(number) if number <= MOST_PARTS => Ok(ParallelParts::Number(number)),
        Ok(_) | Err(_) => Err(wrong()),
    }
}

/// How long files and receipts are kept. It is asked for once for each outbox, where somebody has to choose: for
/// files that pile up, or for the receipts of files that go.
fn kept(
    section: &mut Section<'_>,
    after_send: Result<AfterSend, Reported>,
) -> (Result<Keep, Reported>, Result<Keep, Reported>) {
    const REMEDY: &str = "choose a time such as \"1825d\", or \"forever\": bookkeeping wants evidence for five years, \
        the protection of personal data wants it to go when nobody needs it";
    let mut keep = |key| section.optional(key, values::keep).map(|keep| keep.unwrap_or(Keep::Unsaid));
    let kept = (keep("keep_sent"), keep("keep_receipts"));
    match (after_send, kept) {
        (Ok(AfterSend::Archive), (Ok(Keep::Unsaid), _)) => {
            section.warning("keep_sent", Wrong::new("nobody has said how long sent files are kept", REMEDY));
        }
        (Ok(AfterSend::Delete), (_, Ok(Keep::Unsaid))) | (_, (Ok(Keep::For(_)), Ok(Keep::Unsaid))) => {
            let reason = "files go, and nobody has said how long their receipts are kept";
            section.warning("keep_receipts", Wrong::new(reason, REMEDY));
        }
        _ => {}
    }
    kept
}

/// Patterns of what is sent.
fn some_patterns(value: &Value) -> Result<NamePatterns, Wrong> {
    let patterns = values::patterns(value)?;
    if patterns.as_slice().is_empty() {
        Err(Wrong::new("it is empty, so nothing would be sent", "write [\"*\"], or remove it"))
    } else {
        Ok(patterns)
    }
}

/// Who receives, out of `recipients`, `recipients_from` and `sidecar`.
fn recipients(
    section: &mut Section<'_>,
    sidecar: Result<Sidecar, Reported>,
    sidecar_may: Option<&BTreeSet<SidecarMember>>,
) -> Result<Recipients, Reported> {
    const REMEDY: &str = "add recipients = [\"0192:…\"], or recipients_from = \"directory\"";
    let listed = section.optional("recipients", values::organizations);
    let from = section.optional("recipients_from", directory);
    let (listed, from) = (listed?, from?);
    let sidecar_chooses = sidecar_may.ok_or(Reported)?.contains(&SidecarMember::Recipients);
    match (listed, from, sidecar?) {
        (Some(_), Some(()), _) => {
            let wrong = Wrong::new("recipients is given too", "keep one of the two");
            Err(section.problem("recipients_from", wrong))
        }
        (Some(listed), None, _) if listed.is_empty() => {
            Err(section.problem("recipients", Wrong::new("it is empty", REMEDY)))
        }
        (Some(listed), None, sidecar) => {
            if sidecar == Sidecar::Optional && sidecar_chooses {
                warn_of_late_sidecar(section);
            }
            Ok(Recipients::Listed(listed))
        }
        (None, Some(()), _) => Ok(Recipients::FromDirectory),
        (None, None, Sidecar::Required) if sidecar_chooses => Ok(Recipients::FromSidecar),
        (None, None, Sidecar::Required) => {
            let wrong = Wrong::new("it is missing, and the sidecar may not say", REMEDY);
            Err(section.problem("recipients", wrong))
        }
        (None, None, Sidecar::Optional | Sidecar::Off) => {
            let reason = "it is missing, and a file can come without a sidecar that says";
            Err(section
                .problem("recipients", Wrong::new(reason, format!("{REMEDY}, or sidecar = \"required\""))))
        }
    }
}

fn directory(value: &Value) -> Result<(), Wrong> {
    match value {
        Value::Text(text) | Value::Plain(text) if text == "directory" => Ok(()),
        _ => Err(Wrong::new("it is not \"directory\"", "write \"directory\", or give recipients")),
    }
}

/// Warns where somebody has asked for it by name; the defaults alone do not call for a warning on every outbox.
fn warn_of_late_sidecar(section: &mut Section<'_>) {
    let key = ["sidecar_may", "sidecar"].into_iter().find(|key| section.has(key));
    if let Some(key) = key {
        let reason = "a sidecar that comes late finds its file sent to the default recipients";
        section
            .warning(key, Wrong::new(reason, "set sidecar = \"required\" where sidecars choose recipients"));
    }
}

// Formidling's limits on `propertyList`, as the messages of its validation state them
// (<https://github.com/Altinn/altinn-broker>, `src/Altinn.Broker.API`).
const MAX_PROPERTIES: usize = 10;
const MAX_PROPERTY_KEY: usize = 50;
const MAX_PROPERTY_VALUE: usize = 3000;

fn properties(section: &mut Section<'_>) -> Result<BTreeMap<String, String>, Reported> {
    let Some(node) = section.node("properties") else { return Ok(BTreeMap::new()) };
    let Value::Table(table) = &node.value else {
        let reason = format!("it is {}, and should be a table", node.value.kind());
        return Err(section.problem("properties", Wrong::new(reason, "write it as { name = \"value\" }")));
    };
    let mut properties = Ok(BTreeMap::new());
    if table.len() > MAX_PROPERTIES {
        let reason = format!("it has {} entries, and Altinn takes {MAX_PROPERTIES}", table.len());
        properties = Err(section.problem("properties", Wrong::new(reason, "remove some")));
    }
    for (name, node) in table {
        match (property(name, &node.value, &node.origin), &mut properties) {
            (Ok(value), Ok(properties)) => {
                properties.insert(name.clone(), value);
            }
            (Ok(_), Err(Reported)) => {}
            (Err(wrong), _) => {
                properties =
                    Err(section.problem(&format!("properties.{}", super::tree::segment(name)), wrong));
            }
        }
    }
    properties
}

fn property(name: &str, value: &Value, origin: &Origin) -> Result<String, Wrong> {
    let units = |text: &str| text.encode_utf16().count();
    if let Origin::Environment(_) = origin {
        let reason = "a variable cannot name a property: its name has no upper and lower case";
        return Err(Wrong::new(reason, "write the property in a file"));
    }
    let Value::Text(text) = value else {
        let reason = format!("it is {}, and should be a text", value.kind());
        return Err(Wrong::new(reason, "put it in quotes"));
    };
    if name.trim().is_empty() || units(name) > MAX_PROPERTY_KEY {
        Err(Wrong::new("its name is empty or too long", format!("use 1 to {MAX_PROPERTY_KEY} characters")))
    } else if units(text) > MAX_PROPERTY_VALUE {
        Err(Wrong::new("it is too long", format!("use at most {MAX_PROPERTY_VALUE} characters")))
    } else {
        Ok(text.clone())
    }
}

/// `[inbox.NAME]`
pub(super) fn inbox(name: RouteName, section: &mut Section<'_>) -> Result<Inbox, Reported> {
    let path = section.value("path", values::path);
    let identity = section.value("identity", values::parsed);
    let resource_id = section.value("resource_id", values::parsed);
    let poll_interval = section.value("poll_interval", values::positive_duration);
    let layout = section.value("layout", values::choice);
    let write_metadata = section.value("write_metadata", values::boolean);
    let confirm = section.value("confirm", values::choice);
    let senders = section.value("senders", values::organizations);
    let min_free_space = section.optional("min_free_space", values::free_space);
    let max_file_size = section.optional("max_file_size", values::positive_size);
    let max_waiting = section.optional("max_waiting", values::positive);
    let on_received = section.optional("on_received", program);
    let on_received_timeout = section.value("on_received_timeout", values::positive_duration);
    let file_mode = section.value("file_mode", values::file_mode);
    let group = section.optional("group", values::text);
    let max_concurrent = section.value("max_concurrent", values::positive);
    Ok(Inbox {
        name,
        path: path?,
        identity: identity?,
        resource_id: resource_id?,
        poll_interval: poll_interval?,
        layout: layout?,
        write_metadata: write_metadata?,
        confirm: confirm?,
        senders: senders?,
        min_free_space: min_free_space?.unwrap_or(MinFreeSpace::Usual),
        max_file_size: max_file_size?,
        max_waiting: max_waiting?,
        on_received: on_received?,
        on_received_timeout: on_received_timeout?,
        file_mode: file_mode?,
        group: group?,
        max_concurrent: max_concurrent?,
    })
}

/// A program by its absolute path, and its arguments. No shell reads them.
fn program(value: &Value) -> Result<Vec<String>, Wrong> {
    const REMEDY: &str = "write [\"/path/of/program\", \"{path}\"]";
    let words = values::texts(value)?;
    match words.first() {
        None => Err(Wrong::new("it is empty", REMEDY)),
        Some(program) if !program.starts_with('/') => {
            Err(Wrong::new("its program is not an absolute path", REMEDY))
        }
        Some(_) => Ok(words),
    }
}
