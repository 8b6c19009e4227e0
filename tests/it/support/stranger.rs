//! Somebody who sends with other software: straight at the sandbox's API, with names that we would not use.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

use super::http::ask;
use super::{Content, RESOURCE};

/// An organisation that sends.
#[derive(Debug)]
pub(crate) struct Stranger {
    url: String,
    organization: String,
    token: String,
}

impl Stranger {
    /// Logs in with the client of a configuration that the sandbox wrote.
    pub(crate) fn with_client_of(url: &str, configuration: &str) -> Self {
        let value = |key: &str| {
            let line = configuration.lines().find(|line| line.starts_with(&format!("{key} = "))).unwrap();
            line.split('"').nth(1).unwrap().to_owned()
        };
        let pem = std::fs::read(Path::new(&value("private_key"))).unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let organization = value("organization");
        let claims = json!({
            "aud": value("maskinporten_audience"),
            "iss": value("client_id"),
            "scope": "altinn:broker.write",
            "iat": now,
            "exp": now + 100,
            "jti": uuid::Uuid::new_v4().to_string(),
            "authorization_details": [{
                "type": "urn:altinn:systemuser",
                "systemuser_org": { "authority": "iso6523-actorid-upis", "ID": organization },
            }],
        });
        let mut header = Header::new(Algorithm::RS256);
        header.typ = None;
        header.kid = Some(value("key_id"));
        let grant = encode(&header, &claims, &EncodingKey::from_rsa_pem(&pem).unwrap()).unwrap();
        let form =
            format!("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion={grant}");
        let kind = [("Content-Type", "application/x-www-form-urlencoded")];
        let answer = ask(url, "POST", "/token", &kind, form.as_bytes()).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        let token: Value = serde_json::from_slice(&answer.body).unwrap();
        let bearer = format!("Bearer {}", token["access_token"].as_str().unwrap());
        let path = "/authentication/api/v1/exchange/maskinporten";
        let answer = ask(url, "GET", path, &[("Authorization", &bearer)], b"").unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        let token = answer.text().trim_matches('"').to_owned();
        Self { url: url.to_owned(), organization, token }
    }

    /// Sends a file; Altinn's id of it.
    pub(crate) fn send(&self, file_name: &str, recipient: &str, bytes: &[u8]) -> String {
        let bearer = format!("Bearer {}", self.token);
        let body = json!({
            "fileName": file_name,
            "resourceId": RESOURCE,
            "sendersFileTransferReference": "from a stranger",
            "sender": self.organization,
            "recipients": [recipient],
            "propertyList": {},
            "checksum": Content::of(bytes).md5,
        });
        let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
        let base = "/broker/api/v1/filetransfer";
        let answer = ask(&self.url, "POST", base, &headers, body.to_string().as_bytes()).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        let answer: Value = serde_json::from_slice(&answer.body).unwrap();
        let id = answer["fileTransferId"].as_str().unwrap().to_owned();
        let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/octet-stream")];
        let answer = ask(&self.url, "POST", &format!("{base}/{id}/upload"), &headers, bytes).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        id
    }
}
