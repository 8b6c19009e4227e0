//! What the tests of this room share.

mod keys;
mod refusals;
mod tokens;

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::generate_key;

static PEM: LazyLock<String> = LazyLock::new(|| generate_key().unwrap().expose().to_owned());

fn part(jwt: &str, index: usize) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(jwt.split('.').nth(index).unwrap()).unwrap()).unwrap()
}
