//! What can go wrong on the way to a token.

use std::fmt;
use std::time::Duration;

use super::Scope;
use super::refusal::{Refusal, Values};
use crate::http;
use crate::pace::Stopping;
use crate::transfer::{Effect, IdentityName};

/// Which of the two servers was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Maskinporten, with a grant.
    Grant,
    /// Altinn, with Maskinporten's token.
    Exchange,
}

impl fmt::Display for Stage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Grant => "Maskinporten's token endpoint",
            Self::Exchange => "Altinn's token exchange",
        })
    }
}

/// A token that was not had, or a key that cannot be used. Can be cloned, since all who wait for a token get it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The private key cannot be read.
    #[error("the private key cannot be used: {reason}")]
    KeyForm {
        /// Why, without anything of the key.
        reason: &'static str,
    },
    /// The private key is too short.
    #[error("the private key has {bits} bits, and 2048 is the least")]
    KeyTooShort {
        /// Its length.
        bits: usize,
    },
    /// No key could be made.
    #[error("a new private key could not be made")]
    KeyGeneration,
    /// The certificate chain cannot be read.
    #[error("the certificate chain is not a row of PEM certificates")]
    CertificateChain,
    /// An address that requests cannot be built from.
    #[error("the address {url:?} cannot be built upon")]
    Address {
        /// The address.
        url: String,
    },
    /// The grant could not be signed.
    #[error("the grant could not be signed")]
    Sign,
    /// No answer.
    #[error("identity {identity}: no token for {scope}: no answer of {stage}")]
    NoAnswer {
        /// The identity.
        identity: IdentityName,
        /// What the token was for.
        scope: Scope,
        /// Who was asked.
        stage: Stage,
        /// The reason.
        #[source]
        source: http::Error,
    },
    /// It would have had to wait, and the service stops.
    #[error("identity {identity}: no token for {scope}")]
    Stopping {
        /// The identity.
        identity: IdentityName,
        /// What the token was for.
        scope: Scope,
        /// The reason.
        #[source]
        source: Stopping,
    },
    /// A passing trouble over there.
    #[error("identity {identity}: no token for {scope}: {stage} answered {status}")]
    Unavailable {
        /// The identity.
        identity: IdentityName,
        /// What the token was for.
        scope: Scope,
        /// Who was asked.
        stage: Stage,
        /// The HTTP status.
        status: u16,
        /// How long they ask us to wait.
        retry_after: Option<Duration>,
    },
    /// Maskinporten says no.
    #[error(
        "identity {identity}: Maskinporten refuses a token for {scope} ({name}): {}",
        refusal.description
    )]
    Refused {
        /// The identity.
        identity: IdentityName,
        /// What the token was for.
        scope: Scope,
        /// `MP-nnn`, or what there is instead.
        name: String,
        /// What it said.
        refusal: Box<Refusal>,
        /// What to do.
        remedy: String,
    },
    /// Altinn does not exchange the token.
    #[error("identity {identity}: Altinn refuses the exchange of a token for {scope} with status {status}")]
    ExchangeRefused {
        /// The identity.
        identity: IdentityName,
        /// What the token was for.
        scope: Scope,
        /// The HTTP status.
        status: u16,
        /// Whether it is the subscription key that is missing or wrong.
        subscription_key: bool,
    },
    /// An answer that is none.
    #[error("identity {identity}: no token for {scope}: the answer of {stage} holds none")]
    Garbled {
        /// The identity.
        identity: IdentityName,
        /// What the token was for.
        scope: Scope,
        /// Who was asked.
        stage: Stage,
    },
}

impl Error {
    pub(super) fn refused(identity: &IdentityName, scope: Scope, refusal: Refusal, values: &Values) -> Self {
        Self::Refused {
            identity: identity.clone(),
            scope,
            name: refusal.name(),
            remedy: refusal.remedy(values),
            refusal: Box::new(refusal),
        }
    }

    /// What it has done to a transfer: nothing, for without a token nothing was asked.
    #[must_use]
    pub fn effect(&self) -> Effect {
        match self {
            Self::KeyForm { .. }
            | Self::KeyTooShort { .. }
            | Self::KeyGeneration
            | Self::CertificateChain
            | Self::Address { .. } => Effect::Refused,
            Self::Sign
            | Self::NoAnswer { .. }
            | Self::Stopping { .. }
            | Self::Unavailable { .. }
            | Self::Refused { .. }
            | Self::ExchangeRefused { .. }
            | Self::Garbled { .. } => Effect::None,
        }
    }

    /// Whether it passes by itself, as an outage does, and not only when somebody acts.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::NoAnswer { .. } | Self::Stopping { .. } | Self::Unavailable { .. } => true,
            // Altinn answers 401 to an exchange also when something is wrong inside.
            Self::ExchangeRefused { subscription_key, .. } => !subscription_key,
            Self::KeyForm { .. }
            | Self::KeyTooShort { .. }
            | Self::KeyGeneration
            | Self::CertificateChain
            | Self::Address { .. }
            | Self::Sign
            | Self::Refused { .. }
            | Self::Garbled { .. } => false,
        }
    }

    /// What Maskinporten said, where it said no.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        if let Self::Refused { refusal, .. } = self { Some(refusal) } else { None }
    }

    /// How long the other side asks us to wait.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        if let Self::Unavailable { retry_after, .. } = self { *retry_after } else { None }
    }

    /// A short, stable name.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::KeyForm { .. } => "key_unusable",
            Self::KeyTooShort { .. } => "key_too_short",
            Self::KeyGeneration => "key_generation",
            Self::CertificateChain => "certificate_chain",
            Self::Address { .. } => "address",
            Self::Sign => "grant_not_signed",
            Self::NoAnswer { stage: Stage::Grant, .. } => "maskinporten_no_answer",
            Self::NoAnswer { stage: Stage::Exchange, .. } => "exchange_no_answer",
            Self::Stopping { source, .. } => source.code(),
            Self::Unavailable { stage: Stage::Grant, .. } => "maskinporten_unavailable",
            Self::Unavailable { stage: Stage::Exchange, .. } => "exchange_unavailable",
            Self::Refused { .. } => "maskinporten_refused",
            Self::ExchangeRefused { .. } => "exchange_refused",
            Self::Garbled { .. } => "token_garbled",
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::KeyForm { .. } | Self::KeyTooShort { .. } => {
                "give an RSA private key of 2048 bits or more, as PEM (PKCS#1 or PKCS#8) or private JWK; `formidlingd key new` makes one".into()
            }
            Self::KeyGeneration => "try again, or make one with openssl".into(),
            Self::CertificateChain => {
                "give the certificates as PEM (-----BEGIN CERTIFICATE-----), the business certificate first".into()
            }
            Self::Address { .. } => "write it as https://host/".into(),
            Self::Sign => "check the private key with `formidlingd check`".into(),
            Self::NoAnswer { source, .. } => source.remedy(),
            Self::Stopping { source, .. } => source.remedy().into(),
            Self::Unavailable { .. } => "nothing: it is tried again".into(),
            Self::Refused { remedy, .. } => remedy.clone(),
            Self::ExchangeRefused { subscription_key: true, .. } => {
                "check altinn.subscription_key: the gateway says that it is missing or wrong".into()
            }
            Self::ExchangeRefused { .. } => {
                "check that the Maskinporten client and Altinn's address are of the same environment; it is tried again, since an outage at Altinn looks the same".into()
            }
            Self::Garbled { stage, .. } => format!("check the address of {stage}, and what is between"),
        }
    }
}
