//! Private keys: read in the forms people have them in, checked at once, shown to nobody.

use std::fmt;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use pkcs1::der::{Decode, Encode};
use pkcs1::{RsaPrivateKeyRef, UintRef};
use serde::Deserialize;

use super::Error;
use crate::http::Secret;

/// Shorter keys are broken or nearly so. Maskinporten names no minimum; 2048 is what Altinn itself uses.
const SHORTEST_KEY_BITS: usize = 2048;

/// An RSA private key that signs grants. Redacted in `Debug`.
#[derive(Clone)]
pub struct SigningKey {
    key: EncodingKey,
    modulus: Vec<u8>,
    exponent: Vec<u8>,
}

/// How a grant says which key has signed it. Maskinporten takes the one or the other, never both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyNaming {
    /// By the id (`kid`) under which the key is registered on the client.
    KeyId(String),
    /// By a business certificate and its chain (`x5c`): PEM, the certificate itself first.
    CertificateChain(String),
}

impl KeyNaming {
    /// Whether a grant can be named so; nothing is sent.
    pub fn check(&self) -> Result<(), Error> {
        match self {
            Self::KeyId(_) => Ok(()),
            Self::CertificateChain(chain) => x5c(chain).map(drop),
        }
    }
}

impl SigningKey {
    /// Reads a private key: PEM in the form of PKCS#1 or PKCS#8, or a private JWK.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        let key = if text.starts_with('{') { from_jwk(text)? } else { from_pem(text)? };
        // What the library made of it is PKCS#1 in every case.
        let parts = RsaPrivateKeyRef::from_der(key.as_bytes())
            .map_err(|_| Error::KeyForm { reason: "it does not hold the numbers of an RSA key" })?;
        let (modulus, exponent) =
            (parts.modulus.as_bytes().to_vec(), parts.public_exponent.as_bytes().to_vec());
        let bits = modulus.len() * 8 - modulus.first().map_or(0, |byte| byte.leading_zeros() as usize);
        if bits < SHORTEST_KEY_BITS {
            return Err(Error::KeyTooShort { bits });
        }
        let key = Self { key, modulus, exponent };
        key.prove()?;
        Ok(key)
    }

    /// Signs something and verifies it, so that a damaged key is found here and not at Maskinporten.
    fn prove(&self) -> Result<(), Error> {
        let broken = || Error::KeyForm { reason: "its numbers do not belong together" };
        KeyPair::from_der(self.key.as_bytes()).map_err(|_| broken())?;
        let message = b"formidlingd";
        let signature =
            jsonwebtoken::crypto::sign(message, &self.key, Algorithm::RS256).map_err(|_| broken())?;
        let public = DecodingKey::from_rsa_raw_components(&self.modulus, &self.exponent);
        match jsonwebtoken::crypto::verify(&signature, message, &public, Algorithm::RS256) {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(broken()),
        }
    }

    /// The public half as a JWK, as it is uploaded to Maskinporten's self-service.
    #[must_use]
    pub fn public_jwk(&self, kid: &str) -> serde_json::Value {
        serde_json::json!({
            "kty": "RSA",
            "use": "sig",
            "alg": "RS256",
            "kid": kid,
            "n": URL_SAFE_NO_PAD.encode(&self.modulus),
            "e": URL_SAFE_NO_PAD.encode(&self.exponent),
        })
    }

    /// The length of the key.
    #[must_use]
    pub fn bits(&self) -> usize {
        self.modulus.len() * 8
    }

    pub(super) fn encoding_key(&self) -> &EncodingKey {
        &self.key
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SigningKey").field("bits", &self.bits()).finish_non_exhaustive()
    }
}

/// A new private key of 3072 bits, as PEM (PKCS#8).
pub fn generate_key() -> Result<Secret, Error> {
    let pair = KeyPair::generate(KeySize::Rsa3072).map_err(|_| Error::KeyGeneration)?;
    let der = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).map_err(|_| Error::KeyGeneration)?;
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    Ok(Secret::new(&pem::encode_config(&pem::Pem::new("PRIVATE KEY", der.as_ref()), config)))
}

fn from_pem(text: &str) -> Result<EncodingKey, Error> {
    let block = pem::parse(text)
        .map_err(|_| Error::KeyForm { reason: "it is neither PEM (-----BEGIN …) nor a JWK ({ …)" })?;
    match block.tag() {
        "RSA PRIVATE KEY" | "PRIVATE KEY" if block.headers().iter().next().is_none() => {
            EncodingKey::from_rsa_pem(text.as_bytes())
                .map_err(|_| Error::KeyForm { reason: "it is not an RSA key, or it is damaged" })
        }
        "RSA PRIVATE KEY" | "PRIVATE KEY" | "ENCRYPTED PRIVATE KEY" => {
            Err(Error::KeyForm { reason: "it is protected by a password, which formidlingd does not have" })
        }
        "PUBLIC KEY" | "RSA PUBLIC KEY" | "CERTIFICATE" => {
            Err(Error::KeyForm { reason: "it is the public half, and signing takes the private one" })
        }
        "EC PRIVATE KEY" => {
            Err(Error::KeyForm { reason: "it is an elliptic key, and Maskinporten takes RSA" })
        }
        _ => Err(Error::KeyForm { reason: "it is not a private key" }),
    }
}

fn from_jwk(text: &str) -> Result<EncodingKey, Error> {
    #[derive(Deserialize)]
    struct Jwk<'a> {
        #[serde(borrow)]
        kty: std::borrow::Cow<'a, str>,
        n: Option<String>,
        e: Option<String>,
        d: Option<String>,
        p: Option<String>,
        q: Option<String>,
        dp: Option<String>,
        dq: Option<String>,
        qi: Option<String>,
    }
    // The parser's own error may quote what it read, and is not passed on.
    let jwk: Jwk<'_> =
        serde_json::from_str(text).map_err(|_| Error::KeyForm { reason: "it is not a JWK" })?;
    if jwk.kty != "RSA" {
        return Err(Error::KeyForm { reason: "it is not an RSA key, and Maskinporten takes no other" });
    }
    let number = |member: Option<String>| {
        let text = member.ok_or(Error::KeyForm {
            reason: "a private JWK has n, e, d, p, q, dp, dq and qi, and one of them is missing",
        })?;
        URL_SAFE_NO_PAD
            .decode(text.trim_end_matches('='))
            .map_err(|_| Error::KeyForm { reason: "a number in the JWK is not base64url" })
    };
    let numbers = [
        number(jwk.n)?,
        number(jwk.e)?,
        number(jwk.d)?,
        number(jwk.p)?,
        number(jwk.q)?,
        number(jwk.dp)?,
        number(jwk.dq)?,
        number(jwk.qi)?,
    ];
    pkcs1_of(&numbers)
        .map(|der| EncodingKey::from_rsa_der(&der))
        .map_err(|_| Error::KeyForm { reason: "the numbers in the JWK are not those of an RSA key" })
}

fn pkcs1_of(numbers: &[Vec<u8>; 8]) -> Result<Vec<u8>, pkcs1::der::Error> {
    let [n, e, d, prime1, prime2, exponent1, exponent2, coefficient] = numbers;
    RsaPrivateKeyRef {
        modulus: UintRef::new(n)?,
        public_exponent: UintRef::new(e)?,
        private_exponent: UintRef::new(d)?,
        prime1: UintRef::new(prime1)?,
        prime2: UintRef::new(prime2)?,
        exponent1: UintRef::new(exponent1)?,
        exponent2: UintRef::new(exponent2)?,
        coefficient: UintRef::new(coefficient)?,
        other_prime_infos: None,
    }
    .to_der()
}

/// A chain of certificates as a JWT's header has it (RFC 7515, section 4.1.6): base64 of each DER.
pub(super) fn x5c(chain: &str) -> Result<Vec<String>, Error> {
    let blocks = pem::parse_many(chain).map_err(|_| Error::CertificateChain)?;
    if blocks.is_empty() || blocks.iter().any(|block| block.tag() != "CERTIFICATE") {
        return Err(Error::CertificateChain);
    }
    Ok(blocks.iter().map(|block| STANDARD.encode(block.contents())).collect())
}
