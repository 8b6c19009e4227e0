//! What holds after every test beside the promises: no secret in anything that was written, and no more memory and
//! descriptors than a service needs.

use std::path::Path;

use super::{Bench, Party, files_below};

/// The most memory a debug build may ever have had, in bytes. A release build needs half of it.
const MEMORY: u64 = 128 * 1024 * 1024;
/// The most descriptors that may be open when all is done.
const DESCRIPTORS: usize = 192;
/// How tokens and keys begin: a JSON Web Token, a PEM key, a private JWK.
const SECRETS: [&str; 4] = ["eyJ", "PRIVATE KEY-----", "\"d\":\"", "Bearer ey"];

impl Bench {
    /// No more than their caps, of those that run.
    pub(super) fn assert_caps(&self) {
        for party in [&self.sender, &self.recipient] {
            let Some(child) = &party.child else { continue };
            if let Some(peak) = child.peak_memory() {
                assert!(peak <= MEMORY, "the {} has had {peak} bytes of memory", party.name);
            }
            let open = child.descriptors();
            assert!(open <= DESCRIPTORS, "the {} has {open} descriptors open", party.name);
        }
    }

    /// Neither log nor receipt, metadata, error file, journal or database holds a token or a key.
    pub(super) fn assert_no_secrets(&self) {
        for party in [&self.sender, &self.recipient] {
            let key = self.subscription_key(party);
            assert_no_secret(&party.name, &party.log(), key.as_deref());
            let ours = [party.state(), party.outbox(), party.inbox(), party.sent()];
            for path in ours.iter().flat_map(|folder| files_below(folder)).filter(|path| is_written(path)) {
                let bytes = std::fs::read(&path).unwrap_or_default();
                assert_no_secret(&path.to_string_lossy(), &String::from_utf8_lossy(&bytes), key.as_deref());
            }
        }
    }

    fn subscription_key(&self, party: &Party) -> Option<String> {
        let text = party.settings.text();
        let line = text.lines().find(|line| line.starts_with("subscription_key"))?;
        let path = line.split('"').nth(1)?;
        let key = std::fs::read_to_string(self.dir.path().join(path)).ok()?;
        Some(key.trim().to_owned()).filter(|key| !key.is_empty())
    }
}

/// What the service writes itself, and not what people have dropped or sent.
fn is_written(path: &Path) -> bool {
    let is_companion = [".receipt.json", ".error.json", ".meta.json", "claim.json"]
        .iter()
        .any(|suffix| path.to_string_lossy().ends_with(suffix));
    let is_state =
        path.components().any(|part| ["journal", "sled"].iter().any(|name| part.as_os_str() == *name));
    is_companion || is_state
}

fn assert_no_secret(place: &str, text: &str, key: Option<&str>) {
    for secret in SECRETS.into_iter().chain(key) {
        assert!(!text.contains(secret), "{place} holds {secret:?}");
    }
}
