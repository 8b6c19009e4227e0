//! Tokens: what they may do, how long they last, and that nobody sees them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::Deserialize;
use tokio::time::Instant;

/// What a token may do. One scope for each token: the least privilege.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Sending files.
    BrokerWrite,
    /// Receiving files.
    BrokerRead,
}

impl Scope {
    /// The scope's name at Maskinporten.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BrokerWrite => "altinn:broker.write",
            Self::BrokerRead => "altinn:broker.read",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// How long an exchanged token lasts when it does not say so itself; Altinn's own last 30 minutes.
const ASSUMED_LIFETIME: Duration = Duration::from_mins(25);

/// How long before its end a token is renewed. Altinn judges expiry without any tolerance.
const MARGIN: Duration = Duration::from_mins(1);

/// A token for Altinn. Cheap to clone, and redacted in `Debug`.
#[derive(Clone)]
pub struct AccessToken(Arc<Inner>);

struct Inner {
    text: Box<str>,
    renew_at: Instant,
    expires: Option<Timestamp>,
}

impl AccessToken {
    /// A token that was issued just now. Its lifetime is counted from `server_time`, the issuer's own clock, so
    /// that ours may be wrong.
    pub(super) fn issued(text: &str, server_time: Timestamp) -> Self {
        let expires = expiry(text);
        let lifetime = match expires {
            Some(expires) => Duration::try_from(expires.duration_since(server_time)).unwrap_or_default(),
            None => ASSUMED_LIFETIME,
        };
        let renew_at = Instant::now() + lifetime.saturating_sub(MARGIN.min(lifetime / 4));
        Self(Arc::new(Inner { text: text.into(), renew_at, expires }))
    }

    /// The token itself, for an `Authorization` header and nothing else.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0.text
    }

    /// When it expires, by the issuer's clock, if it says so.
    #[must_use]
    pub fn expires(&self) -> Option<Timestamp> {
        self.0.expires
    }

    /// Whether it may be used for a while yet.
    pub(crate) fn is_fresh(&self) -> bool {
        Instant::now() < self.0.renew_at
    }

    /// Whether this is that very token.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("AccessToken").field("expires", &self.0.expires).finish_non_exhaustive()
    }
}

/// `exp` of a JWT, unverified: it says how long to keep the token, and whom it hurts if it lies is its issuer.
fn expiry(token: &str) -> Option<Timestamp> {
    #[derive(Deserialize)]
    struct Claims {
        exp: f64,
    }
    let payload = token.split('.').nth(1)?;
    let json = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
    let claims: Claims = serde_json::from_slice(&json).ok()?;
    #[expect(clippy::cast_possible_truncation, reason = "it saturates, and a time out of range is none")]
    Timestamp::from_second(claims.exp as i64).ok()
}

/// The token in the exchange's answer, which is the bare text or the same in quotes.
pub(super) fn from_exchange(body: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(body).ok()?.trim();
    let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text).trim();
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'=');
    (!text.is_empty() && text.bytes().all(is_token)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn jwt(claims: &str) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn i37_either_form_of_the_exchanges_answer_is_the_same_token() {
        for body in ["a.b-c._d", "\"a.b-c._d\"", "a.b-c._d\n", " \"a.b-c._d\"\r\n"] {
            assert_eq!(from_exchange(body.as_bytes()), Some("a.b-c._d"), "{body:?}");
        }
        for body in ["", "\"\"", "\"", "<html>", "{\"a\":1}", "a b", "\u{e5}"] {
            assert_eq!(from_exchange(body.as_bytes()), None, "{body:?}");
        }
        assert_eq!(from_exchange(&[0xff]), None);
    }

    #[tokio::test(start_paused = true)]
    async fn i42_a_token_lasts_by_its_own_exp_less_a_margin() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let cases = [
            ("30 minutes", jwt(r#"{"exp":1800001800}"#), 1_740),
            ("raw, two minutes", jwt(r#"{"exp":1800000120}"#), 90),
            ("as a fraction", jwt(r#"{"exp":1800001800.75}"#), 1_740),
            ("silent", jwt(r"{}"), 1_440),
            ("not a JWT", "opaque".to_owned(), 1_440),
            ("over already", jwt(r#"{"exp":1799999999}"#), 0),
        ];
        for (name, text, fresh_for) in cases {
            let token = AccessToken::issued(&text, now);
            let left = token.0.renew_at.saturating_duration_since(Instant::now());
            assert_eq!(left, Duration::from_secs(fresh_for), "{name}");
        }
    }

    #[test]
    fn a_token_is_redacted() {
        let token = AccessToken(Arc::new(Inner {
            text: "very.secret.token".into(),
            renew_at: Instant::now(),
            expires: None,
        }));
        assert!(!format!("{token:?} {token:#?}").contains("secret"));
    }

    proptest::proptest! {
        #[test]
        fn any_answer_is_read_without_a_panic(body in proptest::collection::vec(0u8.., 0..200)) {
            if let Some(token) = from_exchange(&body) {
                expiry(token);
            }
        }
    }
}
