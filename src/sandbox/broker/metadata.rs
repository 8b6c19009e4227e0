//! The body of initialize: JSON into members, members into values, with ASP.NET's own complaints
//! (Broker API, initialize and validation errors).

use std::collections::BTreeMap;

use serde_json::{Map, Value};

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

/// The members of the body, found whatever the case of their names.
struct Members(Map<String, Value>);

impl Members {
    fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().rev().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// A string, or nothing when it is missing or null; another type is a JSON error.
    fn text(&self, name: &str) -> Result<Option<String>, Refusal> {
        match self.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(unreadable(&format!("$.{name}"))),
        }
    }
}

/// What a body that does not fit the model is answered with.
fn unreadable(path: &str) -> Refusal {
    Refusal::Invalid(Messages::from([
        ("initializeExt".to_owned(), vec!["The initializeExt field is required.".to_owned()]),
        (path.to_owned(), vec![format!("The JSON value could not be converted. Path: {path}")]),
    ]))
}

/// Reads and validates the body.
pub(in crate::sandbox) fn read(body: &[u8]) -> Result<Metadata, Refusal> {
    if body.is_empty() {
        return Err(Refusal::Invalid(Messages::from([
            (String::new(), vec!["A non-empty request body is required.".to_owned()]),
            ("initializeExt".to_owned(), vec!["The initializeExt field is required.".to_owned()]),
        ])));
    }
    let Ok(Value::Object(members)) = serde_json::from_slice(body) else { return Err(unreadable("$")) };
    let members = Members(members);
    let mut errors = Messages::new();
    let file_name = required(&mut errors, "FileName", members.text("fileName")?);
    length(&mut errors, "FileName", &file_name, 255);
    let resource = required(&mut errors, "ResourceId", members.text("resourceId")?);
    let resource = check_resource(&mut errors, &resource);
    let reference = members.text("sendersFileTransferReference")?.unwrap_or_default();
    if !(1..=4096).contains(&units(&reference)) {
        let text = "The field SendersFileTransferReference must be a string with a minimum length of 1 and a maximum length of 4096.";
        complain(&mut errors, "SendersFileTransferReference", text);
    }
    let sender = required(&mut errors, "Sender", members.text("sender")?);
    if !sender.is_empty() && !is_organization(&sender) {
        complain(&mut errors, "Sender", format!("Organization numbers should be {ORGANIZATION_FORM}"));
    }
    let recipients = recipients(&mut errors, &members)?;
    let properties = properties(&mut errors, &members)?;
    let (checksum, demanded_checksum) = checksum(&mut errors, &members)?;
    let disable_virus_scan = match members.get("disableVirusScan") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(value)) => *value,
        Some(_) => return Err(unreadable("$.disableVirusScan")),
    };
    if !errors.is_empty() {
        return Err(Refusal::Invalid(errors));
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
        checksum,
        demanded_checksum,
        disable_virus_scan,
    })
}

/// Lengths are counted in UTF-16 units, as .NET counts them.
fn units(text: &str) -> usize {
    text.encode_utf16().count()
}

fn complain(errors: &mut Messages, member: &str, message: impl Into<String>) {
    errors.entry(member.to_owned()).or_default().push(message.into());
}

/// A member that must be there and must not be blank.
fn required(errors: &mut Messages, member: &str, value: Option<String>) -> String {
    let value = value.unwrap_or_default();
    if value.trim().is_empty() {
        complain(errors, member, format!("The {member} field is required."));
        return String::new();
    }
    value
}

fn length(errors: &mut Messages, member: &str, value: &str, maximum: usize) {
    if units(value) > maximum {
        let text = format!(
            "The field {member} must be a string with a minimum length of 1 and a maximum length of {maximum}."
        );
        complain(errors, member, text);
    }
}

/// `^(?:urn:altinn:resource:)?[^:]{1,255}$` and at most 255 in all; the prefix is cut.
fn check_resource(errors: &mut Messages, resource: &str) -> String {
    if resource.is_empty() {
        return String::new();
    }
    length(errors, "ResourceId", resource, 255);
    let bare = resource.strip_prefix(RESOURCE_URN).unwrap_or(resource);
    if bare.is_empty() || bare.contains(':') {
        complain(errors, "ResourceId", "Invalid Resource identifier format");
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
fn recipients(errors: &mut Messages, members: &Members) -> Result<Vec<Option<String>>, Refusal> {
    let values = match members.get("recipients") {
        None | Some(Value::Null) => {
            complain(errors, "Recipients", "The Recipients field is required.");
            return Ok(Vec::new());
        }
        Some(Value::Array(values)) => values,
        Some(_) => return Err(unreadable("$.recipients")),
    };
    let mut recipients = Vec::with_capacity(values.len());
    for (place, value) in values.iter().enumerate() {
        match value {
            Value::Null => recipients.push(None),
            Value::String(text) => recipients.push(Some(text.clone())),
            _ => return Err(unreadable(&format!("$.recipients[{place}]"))),
        }
    }
    if recipients.is_empty() {
        complain(errors, "Recipients", "One or more recipients are required");
    }
    if recipients.iter().flatten().any(|text| !text.is_empty() && !is_organization(text)) {
        complain(errors, "Recipients", format!("Each recipient should be {ORGANIZATION_FORM}"));
    }
    Ok(recipients)
}

fn properties(errors: &mut Messages, members: &Members) -> Result<BTreeMap<String, Option<String>>, Refusal> {
    let mut properties = BTreeMap::new();
    let given = match members.get("propertyList") {
        None => return Ok(properties),
        Some(Value::Null) => {
            complain(errors, "PropertyList", "The PropertyList field is required.");
            return Ok(properties);
        }
        Some(Value::Object(given)) => given,
        Some(_) => return Err(unreadable("$.propertyList")),
    };
    if given.len() > 10 {
        complain(errors, "PropertyList", "PropertyList can contain at most 10 properties");
    }
    for (key, value) in given {
        if units(key) > 50 {
            let text =
                format!("PropertyList Key can not be longer than 50. Length:{}, KeyValue:{key}", units(key));
            complain(errors, "PropertyList", text);
        }
        let value = match value {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            _ => return Err(unreadable(&format!("$.propertyList.{key}"))),
        };
        if let Some(value) = value.as_deref().filter(|value| units(value) > 3000) {
            let text = format!(
                "PropertyList Value can not be longer than 3000. Length:{}, Value:{value}",
                units(value)
            );
            complain(errors, "PropertyList", text);
        }
        properties.insert(key.clone(), value);
    }
    Ok(properties)
}

/// What is shown, and what is demanded. Hex digits are not checked: nonsense is accepted and will
/// fail as a mismatch.
fn checksum(errors: &mut Messages, members: &Members) -> Result<(Option<String>, Option<String>), Refusal> {
    let shown = match members.get("checksum") {
        None => Some(String::new()),
        Some(_) => members.text("checksum")?,
    };
    let demanded = shown.clone().filter(|text| !text.trim().is_empty());
    if let Some(text) = &demanded {
        if units(text) != 32 {
            let message = "The checksum, if used, must be a MD5 hash with a length of 32 characters";
            complain(errors, "Checksum", message);
        }
        if text.chars().any(char::is_uppercase) {
            complain(errors, "Checksum", "The checksum, if used, must be a MD5 hash in lower case");
        }
    }
    Ok((shown, demanded))
}
