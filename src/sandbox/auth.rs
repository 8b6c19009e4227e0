//! Who calls Formidling, and whether they may (Broker API, authorization).

use std::sync::OnceLock;

use axum::http::{HeaderMap, StatusCode, header};
use serde_json::{Map, Value};

use super::broker::transfer::Transfer;
use super::broker::tus;
use super::faults::Quirk;
use super::keys::{Algorithm, Parsed};
use super::problem::{Fault, Refusal};
use super::route::Operation;
use super::site::Site;
use super::world::{Action, Subject, bare_number};

const WRITE: &str = "altinn:broker.write";
const READ: &str = "altinn:broker.read";
const SERVICE_OWNER: &str = "altinn:serviceowner";

/// The caller of a request whose token was accepted.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    /// Nobody when the token's system user could not be read.
    pub(super) subject: Option<Subject>,
    /// The owner of the Maskinporten client, nine digits; recorded for statistics.
    pub(super) vendor: Option<String>,
    /// What tells its sessions of resumable upload apart.
    pub(super) session: Option<String>,
    /// Whether Altinn Authorization is down for this request, once it was asked.
    down: OnceLock<bool>,
}

impl Caller {
    /// Nine digits, or nobody.
    pub(super) fn organization(&self) -> Option<&str> {
        match &self.subject {
            Some(Subject::SystemUser(number) | Subject::Organization(number)) => Some(number),
            None => None,
        }
    }

    /// The organisation in the form that is stored, `0192:…`.
    pub(super) fn party(&self) -> Option<String> {
        self.organization().map(normalised)
    }

    /// Asks Altinn Authorization. All questions of one request get through to it, or none.
    pub(super) fn may(&self, site: &Site, resource: &str, action: Action, party: &str) -> bool {
        let Some(subject) = &self.subject else { return false };
        let strikes = || site.faults.strikes(Quirk::AuthorizationDown, self.organization()).is_some();
        if *self.down.get_or_init(strikes) {
            return false;
        }
        site.look(|world| world.permits(subject, resource, action, party))
    }

    /// Demands `write` on the sender's party, or else `read` on that of some recipient.
    pub(super) fn must_be_party(&self, site: &Site, transfer: &Transfer) -> Result<(), Refusal> {
        if self.may(site, &transfer.resource, Action::Write, &transfer.sender) {
            return Ok(());
        }
        self.must_be_recipient(site, transfer)
    }

    /// Demands `read` on the party of some recipient.
    pub(super) fn must_be_recipient(&self, site: &Site, transfer: &Transfer) -> Result<(), Refusal> {
        let recipients = transfer.recipient_organizations();
        if recipients.iter().any(|recipient| self.may(site, &transfer.resource, Action::Read, recipient)) {
            return Ok(());
        }
        Err(Fault::NoAccess.into())
    }
}

/// An organisation number in the form in which recipients are stored.
pub(super) fn normalised(number: &str) -> String {
    format!("0192:{}", bare_number(number))
}

/// Authentication, then the scope policy of the operation.
pub(super) fn authenticate(
    site: &Site,
    operation: &Operation,
    headers: &HeaderMap,
) -> Result<Caller, Refusal> {
    let token = bearer(headers).ok_or(Refusal::Token("Bearer"))?;
    let (claims, life) = verify(site, token)?;
    let caller = caller(&claims);
    let admitted = match (life, operation) {
        (Life::Live, _) => true,
        (Life::Expired, Operation::Tus(request)) => tus::admits_expired(site, request, &caller),
        (Life::Expired, _) => false,
    };
    if !admitted {
        return Err(EXPIRED);
    }
    let scopes = scopes(&claims);
    let has = |scope: &str| scopes.iter().any(|granted| granted == scope);
    let allowed = match operation {
        Operation::Initialize | Operation::Upload { .. } | Operation::FormUpload | Operation::Tus(_) => {
            has(WRITE)
        }
        Operation::Download { .. } | Operation::Confirm { .. } => has(READ),
        Operation::Resource { .. } | Operation::ServiceOwner { .. } | Operation::Statistics => {
            has(SERVICE_OWNER)
        }
        _ => has(WRITE) || has(READ),
    };
    if allowed { Ok(caller) } else { Err(Refusal::Bare(StatusCode::FORBIDDEN)) }
}

/// The claims of a token of Altinn itself: Altinn Events trusts no other issuer.
pub(super) fn altinn_claims(site: &Site, headers: &HeaderMap) -> Result<Map<String, Value>, Refusal> {
    let token = bearer(headers).ok_or(Refusal::Token("Bearer"))?;
    let (claims, life) = verify(site, token)?;
    if matches!(life, Life::Expired) {
        return Err(EXPIRED);
    }
    if claims.get("iss").and_then(Value::as_str) == Some(site.altinn_issuer().as_str()) {
        Ok(claims)
    } else {
        Err(Refusal::Token(r#"Bearer error="invalid_token", error_description="The issuer is invalid""#))
    }
}

/// The token of an `Authorization` header.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// Who a request says it comes from; nothing of it is verified.
#[derive(Debug, Default)]
pub(super) struct Presented {
    /// The Maskinporten client.
    pub(super) client: Option<String>,
    /// Nine digits.
    pub(super) organization: Option<String>,
}

/// Reads the token of a request without believing it, as a gateway does.
pub(super) fn presented(headers: &HeaderMap) -> Option<Presented> {
    let parsed = Parsed::parse(bearer(headers)?)?;
    let client = parsed.text("client_id").map(str::to_owned);
    Some(Presented { client, organization: caller(&parsed.claims).organization().map(str::to_owned) })
}

const EXPIRED: Refusal =
    Refusal::Token(r#"Bearer error="invalid_token", error_description="The token expired""#);

/// Whether the time of a token is over.
enum Life {
    Live,
    Expired,
}

/// Two issuers are trusted; signature and lifetime are checked, without any tolerance; the
/// audience is not.
fn verify(site: &Site, token: &str) -> Result<(Map<String, Value>, Life), Refusal> {
    const INVALID: Refusal = Refusal::Token(r#"Bearer error="invalid_token""#);
    let parsed = Parsed::parse(token).ok_or(INVALID)?;
    let issuer = parsed.text("iss").ok_or(INVALID)?;
    let key = if issuer == site.altinn_issuer() {
        &site.altinn
    } else if issuer == site.maskinporten_issuer() {
        &site.maskinporten
    } else {
        return Err(Refusal::Token(
            r#"Bearer error="invalid_token", error_description="The issuer is invalid""#,
        ));
    };
    if parsed.algorithm() != Some(Algorithm::Rs256) || !parsed.is_signed_by(&key.modulus, &key.exponent) {
        return Err(Refusal::Token(
            r#"Bearer error="invalid_token", error_description="The signature key was not found""#,
        ));
    }
    let now = site.clock.now();
    let expires = parsed.seconds("exp").ok_or(INVALID)?;
    let too_early = parsed.seconds("nbf").is_some_and(|not_before| not_before > now.as_second());
    if too_early {
        return Err(EXPIRED);
    }
    let life = if expires <= now.as_second() { Life::Expired } else { Life::Live };
    Ok((parsed.claims, life))
}

/// `urn:altinn:scope` if present, else `scope`, split at spaces.
pub(super) fn scopes(claims: &Map<String, Value>) -> Vec<String> {
    let claim = claims.get("urn:altinn:scope").or_else(|| claims.get("scope"));
    let text = claim.and_then(Value::as_str).unwrap_or_default();
    text.split(' ').filter(|scope| !scope.is_empty()).map(str::to_owned).collect()
}

/// First match wins: the system user's organisation, `urn:altinn:orgNumber`, `consumer.ID`. A
/// claim about a system user that cannot be read makes the caller nobody.
fn caller(claims: &Map<String, Value>) -> Caller {
    let consumer = claims
        .get("consumer")
        .and_then(|consumer| consumer.get("ID"))
        .and_then(Value::as_str)
        .map(|id| bare_number(id).to_owned());
    let subject = if let Some(details) = claims.get("authorization_details") {
        system_user(details).map(Subject::SystemUser)
    } else if let Some(number) = claims.get("urn:altinn:orgNumber").and_then(Value::as_str) {
        Some(Subject::Organization(bare_number(number).to_owned()))
    } else {
        consumer.clone().map(Subject::Organization)
    };
    let session = ["sid", "client_id", "sub"].into_iter().find_map(|name| claims.get(name)?.as_str());
    Caller { subject, vendor: consumer, session: session.map(str::to_owned), down: OnceLock::new() }
}

/// The organisation of a system user; all four members must be there, in their exact case.
fn system_user(details: &Value) -> Option<String> {
    let entry = match details {
        Value::Array(entries) => entries.first()?,
        other => other,
    };
    entry.get("type")?.as_str()?;
    entry.get("systemuser_id")?.as_array()?;
    entry.get("system_id")?.as_str()?;
    let id = entry.get("systemuser_org")?.get("ID")?.as_str()?;
    Some(bare_number(id).to_owned())
}
