//! A ready-made configuration of formidlingd for each end of the sandbox.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use super::founding::{AVSENDER, Founded, MOTTAKER, RESOURCE, SUBSCRIPTION_KEY};
use super::limits::RateLimits;
use super::site::Site;

/// Which end a configuration is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// "Avsender", with an outbox.
    Sender,
    /// "Mottaker", with an inbox.
    Recipient,
}

impl Role {
    /// The name of the organisation that plays this role.
    pub(super) fn organization(self) -> &'static str {
        match self {
            Self::Sender => AVSENDER,
            Self::Recipient => MOTTAKER,
        }
    }

    /// Where its folders lie unless the caller says otherwise.
    pub(super) fn folder(self, dir: &Path) -> PathBuf {
        match self {
            Self::Sender => dir.join("sender"),
            Self::Recipient => dir.join("recipient"),
        }
    }
}

/// The text of the configuration; writing to a String is the only thing that could fail.
pub(super) fn text(
    site: &Site,
    parties: &[Founded],
    role: Role,
    base: &Path,
) -> Result<String, std::fmt::Error> {
    let find = |name: &str| parties.iter().find(|party| party.name == name).ok_or(std::fmt::Error);
    let (party, recipient) = (find(role.organization())?, find(MOTTAKER)?);
    let path = |name: &str| quoted(&base.join(name));
    let mut text = String::new();
    writeln!(text, "# For the local sandbox, which is not Altinn: {}", site.url)?;
    writeln!(text, "[altinn]\nenvironment = \"sandbox\"")?;
    writeln!(text, "platform_url = \"{}\"", site.url)?;
    writeln!(text, "maskinporten_token_url = \"{}/token\"", site.url)?;
    writeln!(text, "maskinporten_audience = \"{}\"", site.maskinporten_issuer())?;
    if site.settings.key_gate.is_some() {
        let file = site.dir.join(SUBSCRIPTION_KEY);
        writeln!(text, "subscription_key = {{ file = {} }}", quoted(&file))?;
    }
    writeln!(text, "\n[client.default]\nclient_id = \"{}\"\nkey_id = \"{}\"", party.client_id, party.key_id)?;
    writeln!(text, "private_key = {{ file = {} }}", quoted(&party.private_key))?;
    if let Some([searches, details, calls]) = budget(site.limits.rates) {
        writeln!(text, "searches_per_minute = {searches}\ndetails_per_minute = {details}")?;
        writeln!(text, "calls_per_minute = {calls}")?;
    }
    writeln!(text, "\n[identity.default]\norganization = \"0192:{}\"\nsystem_user = true", party.number)?;
    match role {
        Role::Sender => {
            writeln!(text, "\n[outbox.to-mottaker]\nidentity = \"default\"\npath = {}", path("outbox"))?;
            writeln!(text, "resource_id = \"{RESOURCE}\"\nrecipients = [\"0192:{}\"]", recipient.number)?;
            writeln!(text, "keep_sent = \"forever\"")?;
        }
        Role::Recipient => {
            writeln!(text, "\n[inbox.from-avsender]\nidentity = \"default\"\npath = {}", path("inbox"))?;
            writeln!(text, "resource_id = \"{RESOURCE}\"\npoll_interval = \"1s\"")?;
        }
    }
    writeln!(text, "\n[state]\npath = {}", path("state"))?;
    Ok(text)
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
