//! The grant: a short signed statement of who asks for what (RFC 7523, docs.digdir.no: JWT grant).

use jiff::Timestamp;
use jsonwebtoken::{Algorithm, Header};
use serde::Serialize;
use uuid::Uuid;

use super::{Error, Scope, SigningKey};
use crate::transfer::OrgNumber;

/// How long a grant is valid. Maskinporten takes at most 120 seconds; a slow link and a clock that is a little
/// behind both eat of it.
const VALIDITY_SECONDS: i64 = 100;

/// What is the same in every grant of an identity.
#[derive(Debug, Clone)]
pub(super) struct Granter {
    pub(super) client_id: String,
    pub(super) audience: String,
    pub(super) key: SigningKey,
    pub(super) name: Name,
    /// The organisation to ask a system-user token for, and which system user, where there are several.
    pub(super) system_user: Option<SystemUser>,
}

/// How the key is named in the header: by one of these, never by both.
#[derive(Debug, Clone)]
pub(super) enum Name {
    Kid(String),
    X5c(Vec<String>),
}

#[derive(Debug, Clone)]
pub(super) struct SystemUser {
    pub(super) organization: OrgNumber,
    pub(super) reference: Option<String>,
}

/// The claims. Maskinporten refuses a grant with any other than those it knows.
#[derive(Debug, Serialize)]
struct Claims<'a> {
    aud: &'a str,
    iss: &'a str,
    scope: &'a str,
    iat: i64,
    exp: i64,
    jti: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    authorization_details: Option<[AuthorizationDetails<'a>; 1]>,
}

#[derive(Debug, Serialize)]
struct AuthorizationDetails<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    systemuser_org: Organization,
    #[serde(rename = "externalRef", skip_serializing_if = "Option::is_none")]
    external_ref: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct Organization {
    authority: &'static str,
    #[serde(rename = "ID")]
    id: String,
}

impl Granter {
    /// A new grant, with an id of its own: Maskinporten takes each once.
    pub(super) fn grant(&self, scope: Scope, now: Timestamp) -> Result<String, Error> {
        let mut header = Header::new(Algorithm::RS256);
        // Not in Maskinporten's table of header members.
        header.typ = None;
        match &self.name {
            Name::Kid(kid) => header.kid = Some(kid.clone()),
            Name::X5c(chain) => header.x5c = Some(chain.clone()),
        }
        jsonwebtoken::encode(&header, &self.claims(scope, now), self.key.encoding_key())
            .map_err(|_| Error::Sign)
    }

    fn claims(&self, scope: Scope, now: Timestamp) -> Claims<'_> {
        let iat = now.as_second();
        Claims {
            aud: &self.audience,
            iss: &self.client_id,
            scope: scope.as_str(),
            iat,
            exp: iat + VALIDITY_SECONDS,
            jti: Uuid::new_v4().to_string(),
            authorization_details: self.system_user.as_ref().map(|user| {
                [AuthorizationDetails {
                    kind: "urn:altinn:systemuser",
                    systemuser_org: Organization {
                        authority: "iso6523-actorid-upis",
                        id: user.organization.to_string(),
                    },
                    external_ref: user.reference.as_deref(),
                }]
            }),
        }
    }
}
