//! RSA keys and compact JWTs (RFC 7515, RFC 7519), on aws-lc alone.
//!
//! Private keys never leave this file except as the PEM file of an organisation.

use std::fs;
use std::io;
use std::path::Path;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{
    KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    RSA_PKCS1_SHA256, RsaParameters, RsaPublicKeyComponents,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

use super::draft;

/// A private key with its public half as JWK members.
pub(super) struct Key {
    pub(super) id: String,
    pair: KeyPair,
    /// base64url, as in a JWK.
    pub(super) modulus: String,
    /// base64url, as in a JWK.
    pub(super) exponent: String,
}

impl Key {
    /// Reads the key of a PEM file, or generates it and writes the file.
    pub(super) fn load_or_generate(path: &Path, id: &str) -> io::Result<Self> {
        let pair = match fs::read(path) {
            Ok(text) => {
                let block = pem::parse(text).map_err(io::Error::other)?;
                KeyPair::from_pkcs8(block.contents()).map_err(io::Error::other)?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let pair = KeyPair::generate(KeySize::Rsa2048).map_err(io::Error::other)?;
                let der = pair.as_der().map_err(io::Error::other)?;
                let text = pem::encode(&pem::Pem::new("PRIVATE KEY", der.as_ref()));
                draft::replace_private(path, text.as_bytes())?;
                pair
            }
            Err(error) => return Err(error),
        };
        Self::new(pair, id)
    }

    fn new(pair: KeyPair, id: &str) -> io::Result<Self> {
        let public: pkcs1::RsaPublicKeyRef<'_> =
            pair.public_key().as_ref().try_into().map_err(io::Error::other)?;
        let modulus = URL_SAFE_NO_PAD.encode(public.modulus.as_bytes());
        let exponent = URL_SAFE_NO_PAD.encode(public.public_exponent.as_bytes());
        Ok(Self { id: id.to_owned(), pair, modulus, exponent })
    }

    /// The public key as a member of a JWK set.
    pub(super) fn jwk(&self) -> Value {
        json!({ "kty": "RSA", "use": "sig", "alg": "RS256", "kid": self.id, "n": self.modulus, "e": self.exponent })
    }

    /// A JWT over `claims`, signed RS256.
    pub(super) fn sign(&self, claims: &Map<String, Value>) -> io::Result<String> {
        let header = json!({ "alg": "RS256", "kid": self.id, "typ": "JWT" });
        let mut token = URL_SAFE_NO_PAD.encode(header.to_string());
        token.push('.');
        token.push_str(&URL_SAFE_NO_PAD.encode(serde_json::to_vec(claims)?));
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), token.as_bytes(), &mut signature)
            .map_err(io::Error::other)?;
        token.push('.');
        token.push_str(&URL_SAFE_NO_PAD.encode(signature));
        Ok(token)
    }
}

/// The RSA algorithms that Maskinporten takes; no EC, PSS, HMAC or `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    Rs256,
    Rs384,
    Rs512,
}

impl Algorithm {
    fn named(name: &str) -> Option<Self> {
        match name {
            "RS256" => Some(Self::Rs256),
            "RS384" => Some(Self::Rs384),
            "RS512" => Some(Self::Rs512),
            _ => None,
        }
    }

    fn parameters(self) -> &'static RsaParameters {
        match self {
            Self::Rs256 => &RSA_PKCS1_2048_8192_SHA256,
            Self::Rs384 => &RSA_PKCS1_2048_8192_SHA384,
            Self::Rs512 => &RSA_PKCS1_2048_8192_SHA512,
        }
    }
}

/// A compact JWT, taken apart but not yet believed.
pub(super) struct Parsed<'a> {
    pub(super) header: Map<String, Value>,
    pub(super) claims: Map<String, Value>,
    signed: &'a str,
    signature: Vec<u8>,
}

impl<'a> Parsed<'a> {
    /// Takes a token apart; `None` when it is no JWT with two JSON objects.
    pub(super) fn parse(token: &'a str) -> Option<Self> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let object = |part: &str| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok();
        Some(Self {
            header: object(header)?,
            claims: object(claims)?,
            signed,
            signature: URL_SAFE_NO_PAD.decode(signature).ok()?,
        })
    }

    /// The algorithm in the header, when it is one of RSA PKCS#1.
    pub(super) fn algorithm(&self) -> Option<Algorithm> {
        Algorithm::named(self.header.get("alg")?.as_str()?)
    }

    /// Whether the signature is that of the key with these JWK members.
    pub(super) fn is_signed_by(&self, modulus: &str, exponent: &str) -> bool {
        let Some(algorithm) = self.algorithm() else { return false };
        let (Ok(n), Ok(e)) = (URL_SAFE_NO_PAD.decode(modulus), URL_SAFE_NO_PAD.decode(exponent)) else {
            return false;
        };
        RsaPublicKeyComponents { n, e }
            .verify(algorithm.parameters(), self.signed.as_bytes(), &self.signature)
            .is_ok()
    }

    /// A claim that is a string.
    pub(super) fn text(&self, claim: &str) -> Option<&str> {
        self.claims.get(claim)?.as_str()
    }

    /// A claim that is a whole number of seconds.
    pub(super) fn seconds(&self, claim: &str) -> Option<i64> {
        let value = self.claims.get(claim)?;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a NumericDate may have a fraction, which is cut"
        )]
        value.as_i64().or_else(|| value.as_f64().map(|seconds| seconds as i64))
    }
}
