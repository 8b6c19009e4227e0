//! Where tokens come from: a grant to Maskinporten, and its token to Altinn.

use std::sync::Arc;

use reqwest::Method;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue};
use serde::Deserialize;
use url::Url;

use super::grant::{Granter, Name, SystemUser};
use super::refusal::{Refusal, Values};
use super::token::from_exchange;
use super::{AccessToken, Error, KeyNaming, Means, Parameters, Scope, Skew, Stage};
use crate::http::{self, Purpose, Secret};
use crate::pace::Subject;
use crate::transfer::{IdentityName, OrgNumber};

/// RFC 7523, section 2.1.
const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// Asks for tokens, without remembering any.
#[derive(Debug)]
pub(super) struct Source {
    name: IdentityName,
    organization: OrgNumber,
    granter: Granter,
    token_url: Url,
    exchange_url: Url,
    subscription_key: Option<Secret>,
    means: Means,
}

impl Source {
    pub(super) fn new(parameters: Parameters, means: Means) -> Result<Self, Error> {
        let Parameters { platform_url, naming, organization, .. } = parameters;
        let exchange_url = platform_url
            .join("/authentication/api/v1/exchange/maskinporten")
            .map_err(|_| Error::Address { url: platform_url.to_string() })?;
        let name = match naming {
            KeyNaming::KeyId(kid) => Name::Kid(kid),
            KeyNaming::CertificateChain(chain) => Name::X5c(super::key::x5c(&chain)?),
        };
        let system_user = parameters
            .system_user
            .then_some(SystemUser { organization, reference: parameters.system_user_reference });
        Ok(Self {
            name: parameters.name,
            organization,
            granter: Granter {
                client_id: parameters.client_id,
                audience: parameters.audience,
                key: parameters.key,
                name,
                system_user,
            },
            token_url: parameters.token_url,
            exchange_url,
            subscription_key: parameters.subscription_key,
            means,
        })
    }

    pub(super) fn name(&self) -> &IdentityName {
        &self.name
    }

    pub(super) fn organization(&self) -> OrgNumber {
        self.organization
    }

    pub(super) fn skew(&self) -> &Arc<Skew> {
        &self.means.skew
    }

    /// A new token for Altinn. A 401 of the exchange is answered with one more of Maskinporten's tokens.
    pub(super) async fn fetch(&self, scope: Scope) -> Result<AccessToken, Error> {
        let first = self.granted(scope).await?;
        match self.exchange(scope, &first).await {
            Err(Error::ExchangeRefused { status: 401, subscription_key: false, .. }) => {
                let second = self.granted(scope).await?;
                self.exchange(scope, &second).await
            }
            answer => answer,
        }
    }

    /// Maskinporten's token. A grant that was too late, or was taken for one used before, is made anew once.
    async fn granted(&self, scope: Scope) -> Result<Secret, Error> {
        match self.grant(scope).await {
            Err(Error::Refused { refusal, .. }) if refusal.is_cured_by_a_new_grant() => {
                self.grant(scope).await
            }
            answer => answer,
        }
    }

    async fn grant(&self, scope: Scope) -> Result<Secret, Error> {
        #[derive(Deserialize)]
        struct Granted {
            access_token: String,
        }
        let grant = self.granter.grant(scope, self.means.clock.now())?;
        let stage = Stage::Grant;
        let request = self
            .means
            .clients
            .request(Purpose::Call, Method::POST, self.token_url.clone())
            .map_err(|source| self.no_answer(scope, stage, source))?
            .header(ACCEPT, "application/json")
            .form(&[("grant_type", GRANT_TYPE), ("assertion", &grant)]);
        let reply = self.call(scope, stage, request).await?;
        match reply.status {
            200..=299 => match serde_json::from_slice::<Granted>(&reply.body) {
                Ok(granted) if !granted.access_token.is_empty() => Ok(Secret::new(&granted.access_token)),
                Ok(_) | Err(_) => Err(self.garbled(scope, stage)),
            },
            408 | 425 | 429 | 500.. => Err(self.unavailable(scope, stage, &reply)),
            status => {
                let refusal = Refusal::read(status, &reply.body, self.means.skew.harmful());
                Err(Error::refused(&self.name, scope, refusal, &self.values(scope)))
            }
        }
    }

    async fn exchange(&self, scope: Scope, token: &Secret) -> Result<AccessToken, Error> {
        let stage = Stage::Exchange;
        let bearer = bearer(token.expose()).ok_or_else(|| self.garbled(scope, Stage::Grant))?;
        let mut request = self
            .means
            .clients
            .request(Purpose::Call, Method::GET, self.exchange_url.clone())
            .map_err(|source| self.no_answer(scope, stage, source))?
            .header(ACCEPT, "text/plain")
            .header(AUTHORIZATION, bearer);
        if let Some(key) = &self.subscription_key {
            request = request.header(SUBSCRIPTION_KEY_HEADER, sensitive(key));
        }
        let reply = self.call(scope, stage, request).await?;
        match reply.status {
            200..=299 => {
                let token = from_exchange(&reply.body).ok_or_else(|| self.garbled(scope, stage))?;
                let server_time = http::date(&reply.headers).unwrap_or_else(|| self.means.clock.now());
                Ok(AccessToken::issued(token, server_time))
            }
            408 | 425 | 429 | 500.. => Err(self.unavailable(scope, stage, &reply)),
            status => Err(Error::ExchangeRefused {
                identity: self.name.clone(),
                scope,
                status,
                subscription_key: status == 401 && is_key_gate(&reply.body),
            }),
        }
    }

    async fn call(
        &self,
        scope: Scope,
        stage: Stage,
        request: reqwest::RequestBuilder,
    ) -> Result<http::Reply, Error> {
        let breaker = match stage {
            Stage::Grant => &self.means.issuer,
            Stage::Exchange => &self.means.platform,
        };
        let permit = breaker.permit(Subject::shared(&(self.name.as_str(), scope.as_str()))).await;
        let permit =
            permit.map_err(|source| Error::Stopping { identity: self.name.clone(), scope, source })?;
        let reply = match self.means.clients.call(request).await {
            Ok(reply) => reply,
            Err(source) => {
                permit.failed(None);
                return Err(self.no_answer(scope, stage, source));
            }
        };
        match reply.status {
            502..=504 => permit.failed(http::retry_after(&reply.headers)),
            500.. => permit.erred(http::retry_after(&reply.headers)),
            _ => permit.succeeded(),
        }
        self.observe(&reply.headers);
        Ok(reply)
    }

    fn observe(&self, headers: &HeaderMap) {
        if let Some(server) = http::date(headers) {
            self.means.clock.observe(server);
            self.means.skew.observe(server, self.means.clock.now());
        }
    }

    fn no_answer(&self, scope: Scope, stage: Stage, source: http::Error) -> Error {
        Error::NoAnswer { identity: self.name.clone(), scope, stage, source }
    }

    fn unavailable(&self, scope: Scope, stage: Stage, reply: &http::Reply) -> Error {
        let retry_after = http::retry_after(&reply.headers);
        Error::Unavailable { identity: self.name.clone(), scope, stage, status: reply.status, retry_after }
    }

    fn garbled(&self, scope: Scope, stage: Stage) -> Error {
        Error::Garbled { identity: self.name.clone(), scope, stage }
    }

    fn values(&self, scope: Scope) -> Values {
        let granter = &self.granter;
        Values {
            client_id: granter.client_id.clone(),
            organization: self.organization.to_string(),
            reference: granter.system_user.as_ref().and_then(|user| user.reference.clone()),
            audience: granter.audience.clone(),
            key: match &granter.name {
                Name::Kid(kid) => format!("key {kid:?}"),
                Name::X5c(_) => "the business certificate".to_owned(),
            },
            scope: scope.as_str(),
        }
    }
}

/// The header of Altinn's API gateway. Not demanded any more, and sent where one is configured.
pub(crate) const SUBSCRIPTION_KEY_HEADER: &str = "Ocp-Apim-Subscription-Key";

/// A header's value that is not shown when headers are.
pub(crate) fn sensitive(secret: &Secret) -> HeaderValue {
    let mut value =
        HeaderValue::from_str(secret.expose().trim()).unwrap_or_else(|_| HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}

/// `Bearer …`, if the token can stand in a header.
pub(crate) fn bearer(token: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Whether a 401 is the API gateway's, about the subscription key: it has `statusCode` and `message`.
pub(crate) fn is_key_gate(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Gate {
        #[serde(rename = "statusCode")]
        status_code: u16,
        message: String,
    }
    serde_json::from_slice::<Gate>(body)
        .is_ok_and(|gate| gate.status_code == 401 && gate.message.contains("subscription key"))
}
