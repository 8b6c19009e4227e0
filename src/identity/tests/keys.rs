//! Keys and grants.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::super::grant::{Granter, Name, SystemUser};
use super::super::*;
use super::{PEM, part};
use crate::http::testing::chain;

fn members(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

/// The private key as a JWK, taken apart by hand.
fn jwk(pem: &str) -> Value {
    use pkcs1::der::Decode as _;
    let key = jsonwebtoken::EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap();
    let parts = pkcs1::RsaPrivateKeyRef::from_der(key.as_bytes()).unwrap();
    let text = |number: pkcs1::UintRef<'_>| URL_SAFE_NO_PAD.encode(number.as_bytes());
    json!({
        "kty": "RSA", "kid": "ignored", "use": "sig",
        "n": text(parts.modulus), "e": text(parts.public_exponent), "d": text(parts.private_exponent),
        "p": text(parts.prime1), "q": text(parts.prime2), "dp": text(parts.exponent1),
        "dq": text(parts.exponent2), "qi": text(parts.coefficient),
    })
}

fn pkcs1_pem(pem: &str) -> String {
    let key = jsonwebtoken::EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap();
    ::pem::encode(&::pem::Pem::new("RSA PRIVATE KEY", key.as_bytes()))
}

#[test]
fn every_form_of_a_key_is_the_same_key() {
    let public = SigningKey::parse(&PEM).unwrap().public_jwk("2026-11");
    assert_eq!(members(&public), BTreeSet::from(["kty", "use", "alg", "kid", "n", "e"]));
    assert_eq!((&public["kid"], &public["e"]), (&json!("2026-11"), &json!("AQAB")));
    let forms =
        [pkcs1_pem(&PEM), format!("\n{}\n\n", *PEM), PEM.replace('\n', "\r\n"), jwk(&PEM).to_string()];
    for form in forms {
        assert_eq!(SigningKey::parse(&form).unwrap().public_jwk("2026-11"), public);
    }
}

#[test]
fn keys_that_cannot_sign_are_refused_without_showing_them() {
    let mut without_primes = jwk(&PEM);
    without_primes.as_object_mut().unwrap().remove("p");
    let mut mixed = jwk(&PEM);
    mixed["d"] = json!(URL_SAFE_NO_PAD.encode([3; 384]));
    let mut elliptic = jwk(&PEM);
    elliptic["kty"] = json!("EC");
    let cases = [
        ("empty", String::new()),
        ("words", "secret words".into()),
        ("damaged", PEM.replace("MII", "MIJ")),
        ("cut", PEM.chars().take(600).collect()),
        ("public", PEM.replace("PRIVATE", "PUBLIC")),
        ("encrypted", PEM.replace("PRIVATE", "ENCRYPTED PRIVATE")),
        ("no primes", without_primes.to_string()),
        ("mixed", mixed.to_string()),
        ("elliptic", elliptic.to_string()),
        ("not a JWK", r#"{"secret":1}"#.into()),
        ("damaged JWK", jwk(&PEM).to_string().replace("\"p\":\"", "\"p\":\"!")),
    ];
    for (name, text) in cases {
        let error = SigningKey::parse(&text).unwrap_err();
        assert_eq!(error.code(), "key_unusable", "{name}: {error}");
        let shown = chain(&error);
        assert!(!shown.contains("secret") && shown.len() < 400, "{name}: {shown}");
    }
}

#[test]
fn a_short_key_is_refused() {
    // 1024 bits, made for this test.
    let text = include_str!("../testdata/short.pem");
    assert!(matches!(SigningKey::parse(text), Err(Error::KeyTooShort { bits: 1024 })));
}

#[test]
fn i57_a_key_is_redacted() {
    let key = SigningKey::parse(&PEM).unwrap();
    let shown = format!("{key:?} {key:#?} {:?}", generate_key().unwrap());
    assert!(shown.len() < 200 && !shown.contains("MII"), "{shown}");
}

fn granter(name: Name, system_user: Option<SystemUser>) -> Granter {
    Granter {
        client_id: "f5a1".into(),
        audience: "https://test.maskinporten.no/".into(),
        key: SigningKey::parse(&PEM).unwrap(),
        name,
        system_user,
    }
}

#[test]
fn i18_a_grant_holds_the_allowed_claims_and_no_other() {
    let allowed = BTreeSet::from(["aud", "iss", "scope", "iat", "exp", "jti", "authorization_details"]);
    let now = Timestamp::from_second(1_800_000_000).unwrap();
    let organization = "991825827".parse().unwrap();
    let names = [Name::Kid("k".into()), Name::X5c(vec!["AA==".into(), "BB==".into()])];
    let users = [
        None,
        Some(SystemUser { organization, reference: None }),
        Some(SystemUser { organization, reference: Some("ref".into()) }),
    ];
    for name in &names {
        for user in &users {
            for scope in [Scope::BrokerWrite, Scope::BrokerRead] {
                let grant = granter(name.clone(), user.clone()).grant(scope, now).unwrap();
                let (head, claims) = (part(&grant, 0), part(&grant, 1));
                assert!(members(&claims).is_subset(&allowed), "{claims}");
                let validity = claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap();
                assert!((60..=120).contains(&validity), "{validity}");
                assert_eq!(claims["iat"], 1_800_000_000);
                assert_eq!(claims["scope"], scope.as_str());
                assert_eq!(
                    (&claims["iss"], &claims["aud"]),
                    (&json!("f5a1"), &json!("https://test.maskinporten.no/"))
                );
                let naming = match name {
                    Name::Kid(_) => "kid",
                    Name::X5c(_) => "x5c",
                };
                assert_eq!(members(&head), BTreeSet::from(["alg", naming]), "{head}");
                assert_eq!(head["alg"], "RS256");
            }
        }
    }
}

#[test]
fn i32_a_system_user_is_asked_for_with_the_prefix() {
    let organization = "991825827".parse().unwrap();
    let user = |reference: Option<&str>| SystemUser { organization, reference: reference.map(str::to_owned) };
    let details = |user| {
        let claims =
            granter(Name::Kid("k".into()), user).grant(Scope::BrokerRead, Timestamp::UNIX_EPOCH).unwrap();
        part(&claims, 1)["authorization_details"].clone()
    };
    let organization = json!({ "authority": "iso6523-actorid-upis", "ID": "0192:991825827" });
    assert_eq!(
        details(Some(user(Some("ref")))),
        json!([{ "type": "urn:altinn:systemuser", "systemuser_org": organization, "externalRef": "ref" }])
    );
    assert_eq!(
        details(Some(user(None))),
        json!([{ "type": "urn:altinn:systemuser", "systemuser_org": organization }])
    );
    assert_eq!(details(None), Value::Null);
}

#[test]
fn i17_each_grant_has_an_id_of_its_own() {
    let granter = granter(Name::Kid("k".into()), None);
    let grants: Vec<String> =
        (0..10).map(|_| granter.grant(Scope::BrokerRead, Timestamp::UNIX_EPOCH).unwrap()).collect();
    let ids: BTreeSet<String> = grants.iter().map(|grant| part(grant, 1)["jti"].to_string()).collect();
    assert_eq!(ids.len(), 10);
}

#[test]
fn a_certificate_chain_becomes_x5c() {
    let block = "-----BEGIN CERTIFICATE-----\nAQID\n-----END CERTIFICATE-----\n";
    assert_eq!(super::super::key::x5c(&block.repeat(2)).unwrap(), ["AQID", "AQID"]);
    for chain in ["", "AQID", &PEM, &format!("{block}{}", *PEM)] {
        assert!(matches!(super::super::key::x5c(chain), Err(Error::CertificateChain)));
    }
}
