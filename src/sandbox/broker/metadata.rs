//! What initialize is told, as JSON or as a form: read, then validated with ASP.NET's own complaints
//! (Broker API, initialize and validation errors).

use std::collections::BTreeMap;

use serde_json::Value;

use super::members::Members;
use crate::sandbox::problem::{Messages, Refusal};

const ORGANIZATION_FORM: &str = "on the form countrycode:organizationnumber (e.g. 0192:910753614) or urn:altinn:organization:identifier-no:organizationnumber";
const ORGANIZATION_URN: &str = "urn:altinn:organization:identifier-no:";
const RESOURCE_URN: &str = "urn:altinn:resource:";

/// Metadata that passed the validation.
#[derive(Debug)]
pub(in crate::sandbox) struct Metadata {
    pub(in crate::sandbox) file_name: String,
    /// Bare.
    pub(in crate::sandbox) resource: String,
    pub(in crate::sandbox) reference: String,
    /// As sent.
    pub(in crate::sandbox) sender: String,
    /// As sent; the first null ends the request in an exception.
    pub(in crate::sandbox) recipients: Vec<String>,
    /// A null value fails in the database, after the row was written.
    pub(in crate::sandbox) properties: BTreeMap<String, Option<String>>,
    /// As it is shown until a checksum is computed.
    pub(in crate::sandbox) checksum: Option<String>,
    /// The checksum that is demanded, if one was given.
    pub(in crate::sandbox) demanded_checksum: Option<String>,
    pub(in crate::sandbox) disable_virus_scan: bool,
}

/// Keys and values; null is a value, too.
pub(super) type Properties = Vec<(String, Option<String>)>;

/// What a request says of a transfer, before anything is checked.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) file_name: Option<String>,
    pub(super) resource: Option<String>,
    pub(super) reference: Option<String>,
    pub(super) sender: Option<String>,
    pub(super) recipients: Option<Vec<Option<String>>>,
    /// `None` for a null; a member that is missing is an empty list.
    pub(super) properties: Option<Properties>,
    /// `None` for a null; a member that is missing is an empty text.
    pub(super) checksum: Option<String>,
    pub(super) disable_virus_scan: bool,
}

/// Reads and validates a JSON body.
pub(super) fn read(body: &[u8]) -> Result<Metadata, Refusal> {
    let members = Members::read(body, "initializeExt")?;
    let given = Given {
        file_name: members.text("fileName")?,
        resource: members.text("resourceId")?,
        reference: members.text("sendersFileTransferReference")?,
        sender: members.text("sender")?,
        recipients: recipients(&members)?,
        properties: properties(&members)?,
        checksum: match members.get("checksum") {
            None => Some(String::new()),
            Some(_) => members.text("checksum")?,
        },
        disable_virus_scan: members.flag("disableVirusScan")?.unwrap_or(false),
    };
    given.check(Complaints::new(""))
}

fn recipients(members: &Members) -> Result<Option<Vec<Option<String>>>, Refusal> {
    let values = match members.get("recipients") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Array(values)) => values,
        Some(_) => return Err(members.misfit("$.recipients")),
    };
    let text = |(place, value): (usize, &Value)| match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.clone())),
        _ => Err(members.misfit(&format!("$.recipients[{place}]"))),
    };
    values.iter().enumerate().map(text).collect::<Result<_, _>>().map(Some)
}

fn properties(members: &Members) -> Result<Option<Properties>, Refusal> {
    let given = match members.get("propertyList") {
        None => return Ok(Some(Vec::new())),
        Some(Value::Null) => return Ok(None),
        Some(Value::Object(given)) => given,
        Some(_) => return Err(members.misfit("$.propertyList")),
    };
    let property = |(key, value): (&String, &Value)| match value {
        Value::Null => Ok((key.clone(), None)),
        Value::String(text) => Ok((key.clone(), Some(text.clone()))),
        _ => Err(members.misfit(&format!("$.propertyList.{key}"))),
    };
    given.iter().map(property).collect::<Result<_, _>>().map(Some)
}

/// What is wrong with members, under the names that C# has for them.
#[derive(Debug)]
pub(super) struct Complaints {
    prefix: &'static str,
    messages: Messages,
}

impl Complaints {
    /// None yet; `prefix` stands before each member's name.
    pub(super) fn new(prefix: &'static str) -> Self {
        Self { prefix, messages: Messages::new() }
    }

    /// Adds a message about a member.
    pub(super) fn add(&mut self, member: &str, message: impl Into<String>) {
        self.messages.entry(format!("{}{member}", self.prefix)).or_default().push(message.into());
    }

    /// Adds a message about something outside the prefix.
    pub(super) fn add_bare(&mut self, name: &str, message: impl Into<String>) {
        self.messages.entry(name.to_owned()).or_default().push(message.into());
    }

    /// A member that must be there and must not be blank.
    fn require(&mut self, member: &str, value: Option<String>) -> String {
        let value = value.unwrap_or_default();
        if value.trim().is_empty() {
            self.add(member, format!("The {member} field is required."));
            return String::new();
        }
        value
    }

    fn limit(&mut self, member: &str, value: &str, maximum: usize) {
        if units(value) > maximum {
            let text = format!(
                "The field {member} must be a string with a minimum length of 1 and a maximum length of {maximum}."
            );
            self.add(member, text);
        }
    }
}

impl Given {
    /// Validates; to `complaints` are added those about the members.
    pub(super) fn check(self, mut complaints: Complaints) -> Result<Metadata, Refusal> {
        let to = &mut complaints;
        let file_name = to.require("FileName", self.file_name);
        to.limit("FileName", &file_name, 255);
        let resource = to.require("ResourceId", self.resource);
        let resource = check_resource(to, &resource);
        let reference = self.reference.unwrap_or_default();
        if !(1..=4096).contains(&units(&reference)) {
            let text = "The field SendersFileTransferReference must be a string with a minimum length of 1 and a maximum length of 4096.";
            to.add("SendersFileTransferReference", text);
        }
        let sender = to.require("Sender", self.sender);
        if !sender.is_empty() && !is_organization(&sender) {
            to.add("Sender", format!("Organization numbers should be {ORGANIZATION_FORM}"));
        }
        let recipients = check_recipients(to, self.recipients);
        let properties = check_properties(to, self.properties);
        let demanded_checksum = check_checksum(to, self.checksum.as_deref());
        if !complaints.messages.is_empty() {
            return Err(Refusal::Invalid(complaints.messages));
        }
        // A null among the recipients passes the pattern check and ends in an exception.
        let recipients = recipients.into_iter().collect::<Option<Vec<_>>>().ok_or(Refusal::Unhandled)?;
        Ok(Metadata {
            file_name,
            resource,
            reference,
            sender,
            recipients,
            properties,
            checksum: self.checksum,
            demanded_checksum,
            disable_virus_scan: self.disable_virus_scan,
        })
    }
}

/// Lengths are counted in UTF-16 units, as .NET counts them.
fn units(text: &str) -> usize {
    text.encode_utf16().count()
}

/// `^(?:urn:altinn:resource:)?[^:]{1,255}$` and at most 255 in all; the prefix is cut.
fn check_resource(complaints: &mut Complaints, resource: &str) -> String {
    if resource.is_empty() {
        return String::new();
    }
    complaints.limit("ResourceId", resource, 255);
    let bare = resource.strip_prefix(RESOURCE_URN).unwrap_or(resource);
    if bare.is_empty() || bare.contains(':') {
        complaints.add("ResourceId", "Invalid Resource identifier format");
    }
    bare.to_owned()
}

/// `^(?:\d{4}:\d{9}|urn:altinn:organization:identifier-no:\d{9})$`
fn is_organization(text: &str) -> bool {
    let digits = |text: &str, count| text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.strip_prefix(ORGANIZATION_URN) {
        Some(number) => digits(number, 9),
        None => text.split_once(':').is_some_and(|(prefix, number)| digits(prefix, 4) && digits(number, 9)),
    }
}

/// At least one; an empty string and null pass the pattern check.
fn check_recipients(
    complaints: &mut Complaints,
    recipients: Option<Vec<Option<String>>>,
) -> Vec<Option<String>> {
    let Some(recipients) = recipients else {
        complaints.add("Recipients", "The Recipients field is required.");
        return Vec::new();
    };
    if recipients.is_empty() {
        complaints.add("Recipients", "One or more recipients are required");
    }
    if recipients.iter().flatten().any(|text| !text.is_empty() && !is_organization(text)) {
        complaints.add("Recipients", format!("Each recipient should be {ORGANIZATION_FORM}"));
    }
    recipients
}

fn check_properties(
    complaints: &mut Complaints,
    given: Option<Properties>,
) -> BTreeMap<String, Option<String>> {
    let Some(given) = given else {
        complaints.add("PropertyList", "The PropertyList field is required.");
        return BTreeMap::new();
    };
    if given.len() > 10 {
        complaints.add("PropertyList", "PropertyList can contain at most 10 properties");
    }
    for (key, value) in &given {
        if units(key) > 50 {
            let text =
                format!("PropertyList Key can not be longer than 50. Length:{}, KeyValue:{key}", units(key));
            complaints.add("PropertyList", text);
        }
        if let Some(value) = value.as_deref().filter(|value| units(value) > 3000) {
            let text = format!(
                "PropertyList Value can not be longer than 3000. Length:{}, Value:{value}",
                units(value)
            );
            complaints.add("PropertyList", text);
        }
    }
    given.into_iter().collect()
}

/// What is demanded, if anything. Hex digits are not checked: nonsense is accepted and will fail as
/// a mismatch.
fn check_checksum(complaints: &mut Complaints, shown: Option<&str>) -> Option<String> {
    let demanded = shown.filter(|text| !text.trim().is_empty())?;
    if units(demanded) != 32 {
        let message = "The checksum, if used, must be a MD5 hash with a length of 32 characters";
        complaints.add("Checksum", message);
    }
    if demanded.chars().any(char::is_uppercase) {
        complaints.add("Checksum", "The checksum, if used, must be a MD5 hash in lower case");
    }
    Some(demanded.to_owned())
}
