//! A ready-made configuration of formidlingd for each end of the sandbox, and the addresses of what it serves.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use super::founding::{AVSENDER, Founded, LEVERANDOR, MOTTAKER, RESOURCE, SUBSCRIPTION_KEY, Vendor};
use super::limits::RateLimits;
use super::site::Site;

/// Which end a configuration is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// "Avsender", with an outbox.
    Sender,
    /// "Mottaker", with an inbox.
    Recipient,
    /// "Leverandor", with an outbox and an inbox for each customer.
    Vendor,
}

impl Role {
    /// The name of the organisation that plays this role.
    pub(super) fn organization(self) -> &'static str {
        match self {
            Self::Sender => AVSENDER,
            Self::Recipient => MOTTAKER,
            Self::Vendor => LEVERANDOR,
        }
    }

    /// Where its folders lie unless the caller says otherwise.
    pub(super) fn folder(self, dir: &Path) -> PathBuf {
        match self {
            Self::Sender => dir.join("sender"),
            Self::Recipient => dir.join("recipient"),
            Self::Vendor => dir.join("vendor"),
        }
    }
}

/// Those whom a configuration may speak of.
pub(super) struct Ends<'a> {
    pub(super) site: &'a Site,
    pub(super) parties: &'a [Founded],
    pub(super) vendor: Option<&'a Vendor>,
    pub(super) certificate_authority: Option<&'a Path>,
}

/// The text of the configuration; besides a role that nobody plays, writing to a String is all that could fail.
pub(super) fn text(ends: &Ends<'_>, role: Role, base: &Path) -> Result<String, std::fmt::Error> {
    let find = |name: &str| ends.parties.iter().find(|party| party.name == name).ok_or(std::fmt::Error);
    let recipient = find(MOTTAKER)?;
    let mut text = String::new();
    match (role, ends.vendor) {
        (Role::Sender, _) => {
            let sender = find(role.organization())?;
            begin(&mut text, ends, sender)?;
            identity(&mut text, "default", &sender.number)?;
            outbox(&mut text, ("to-mottaker", "default"), &base.join("outbox"), &recipient.number)?;
        }
        (Role::Recipient, _) => {
            begin(&mut text, ends, recipient)?;
            identity(&mut text, "default", &recipient.number)?;
            inbox(&mut text, ("from-avsender", "default"), &base.join("inbox"))?;
        }
        (Role::Vendor, Some(vendor)) => {
            begin(&mut text, ends, &vendor.founded)?;
            // Each sends to the next and the last to the first; one alone has nobody but mottaker.
            let first = if vendor.customers.len() > 1 { vendor.customers.first() } else { None };
            let next = vendor.customers.iter().skip(1).chain(first).map(|next| &next.number);
            for (customer, next) in vendor.customers.iter().zip(next.chain([&recipient.number])) {
                let (name, base) = (customer.name.as_str(), base.join(&customer.name));
                identity(&mut text, name, &customer.number)?;
                outbox(&mut text, (&format!("{name}-out"), name), &base.join("outbox"), next)?;
                inbox(&mut text, (&format!("{name}-in"), name), &base.join("inbox"))?;
            }
        }
        (Role::Vendor, None) => return Err(std::fmt::Error),
    }
    writeln!(text, "\n[state]\npath = {}", quoted(&base.join("state")))?;
    Ok(text)
}

/// Which Altinn, and the client.
fn begin(text: &mut String, ends: &Ends<'_>, party: &Founded) -> std::fmt::Result {
    let site = ends.site;
    writeln!(text, "# For the local sandbox, which is not Altinn: {}", site.url)?;
    writeln!(text, "[altinn]\nenvironment = \"sandbox\"")?;
    writeln!(text, "platform_url = \"{}\"", site.url)?;
    writeln!(text, "maskinporten_token_url = \"{}/token\"", site.url)?;
    writeln!(text, "maskinporten_audience = \"{}\"", site.maskinporten_issuer())?;
    if site.settings.key_gate.is_some() {
        let file = site.dir.join(SUBSCRIPTION_KEY);
        writeln!(text, "subscription_key = {{ file = {} }}", quoted(&file))?;
    }
    if let Some(file) = ends.certificate_authority {
        writeln!(text, "\n[http]\nca_file = {}", quoted(file))?;
    }
    writeln!(text, "\n[client.default]\nclient_id = \"{}\"\nkey_id = \"{}\"", party.client_id, party.key_id)?;
    writeln!(text, "private_key = {{ file = {} }}", quoted(&party.private_key))?;
    if let Some([searches, details, calls]) = budget(site.limits.rates) {
        writeln!(text, "searches_per_minute = {searches}\ndetails_per_minute = {details}")?;
        writeln!(text, "calls_per_minute = {calls}")?;
    }
    Ok(())
}

fn identity(text: &mut String, name: &str, number: &str) -> std::fmt::Result {
    writeln!(text, "\n[identity.{name}]\norganization = \"0192:{number}\"\nsystem_user = true")
}

fn outbox(
    text: &mut String,
    (name, identity): (&str, &str),
    path: &Path,
    recipient: &str,
) -> std::fmt::Result {
    writeln!(text, "\n[outbox.{name}]\nidentity = \"{identity}\"\npath = {}", quoted(path))?;
    writeln!(text, "resource_id = \"{RESOURCE}\"\nrecipients = [\"0192:{recipient}\"]")?;
    writeln!(text, "keep_sent = \"forever\"")
}

fn inbox(text: &mut String, (name, identity): (&str, &str), path: &Path) -> std::fmt::Result {
    writeln!(text, "\n[inbox.{name}]\nidentity = \"{identity}\"\npath = {}", quoted(path))?;
    writeln!(text, "resource_id = \"{RESOURCE}\"\npoll_interval = \"1s\"")
}

/// What is served, by name, with the address of each.
pub(super) fn endpoints(site: &Site) -> Vec<(&'static str, String)> {
    let at = |path: &str| format!("{}{path}", site.url);
    vec![
        ("maskinporten", site.maskinporten_issuer()),
        ("token", at("/token")),
        ("maskinportenMetadata", at("/.well-known/oauth-authorization-server")),
        ("maskinportenKeys", at("/jwk")),
        ("exchange", at("/authentication/api/v1/exchange/maskinporten")),
        ("altinnMetadata", at("/authentication/api/v1/openid/.well-known/openid-configuration")),
        ("altinnKeys", at("/authentication/api/v1/openid/.well-known/openid-configuration/jwks")),
        ("broker", at("/broker/api/v1")),
        ("events", at("/events/api/v1")),
        ("resourceRegistry", at("/resourceregistry/api/v1/resource")),
        ("sandbox", at("/_sandbox")),
    ]
}

/// Searches, details and other calls in a minute; nothing where the client's own defaults will do.
fn budget(rates: RateLimits) -> Option<[u32; 3]> {
    let calls = [rates.initialize, rates.upload, rates.overview, rates.download, rates.confirm];
    let calls = calls.into_iter().flatten().min();
    (rates != RateLimits::altinn())
        .then(|| [rates.search.unwrap_or(60_000), rates.details.unwrap_or(60_000), calls.unwrap_or(600_000)])
}

/// A path as a TOML basic string, whose escapes are those of JSON.
fn quoted(path: &Path) -> String {
    let absolute = std::path::absolute(path).unwrap_or_else(|_: io::Error| path.to_owned());
    serde_json::Value::from(absolute.to_string_lossy()).to_string()
}
