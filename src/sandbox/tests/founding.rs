//! What a start makes of what a former one left.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use super::support::{Bench, lay_keys};
use crate::sandbox::{ManualClock, Role};

#[tokio::test]
async fn a_key_whose_file_was_lost_is_registered_again() {
    let bench = Bench::start().await;
    let (before, lost) = {
        let party = bench.party(Role::Sender);
        (party.client_id.clone(), party.private_key.clone())
    };
    fs::remove_file(lost).unwrap();
    let bench = bench.restart().await;
    assert_eq!(bench.party(Role::Sender).client_id, before, "the client is the same");
    bench.raw_token(Role::Sender).await;
    bench.raw_token(Role::Recipient).await;
    // It is the world's from now on.
    bench.restart().await.raw_token(Role::Sender).await;
}

#[tokio::test]
async fn a_key_that_somebody_else_registered_is_left_alone() {
    let bench = Bench::start().await;
    let registered =
        |bench: &Bench| bench.sandbox.world(|world| world.clients[0].keys[0].modulus.clone()).unwrap();
    bench
        .sandbox
        .world(|world| world.clients[0].keys[0].modulus = world.clients[1].keys[0].modulus.clone())
        .unwrap();
    let other = registered(&bench);
    let bench = bench.restart().await;
    assert_eq!(registered(&bench), other);
}

#[tokio::test]
async fn a_secret_is_for_the_owner_alone_to_read_whoever_could_before() {
    let dir = tempfile::tempdir().unwrap();
    lay_keys(dir.path());
    let key = dir.path().join("keys/subscription-key");
    let signing = dir.path().join("keys/maskinporten-signing.pem");
    fs::remove_file(&signing).unwrap();
    // What a kill left.
    let draft = dir.path().join("keys/maskinporten-signing.pem.new");
    for path in [&key, &draft] {
        fs::write(path, "open to everybody").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    }
    let clock = Arc::new(ManualClock::new("2026-08-18T11:40:01.5Z".parse().unwrap()));
    let bench = Bench::at(dir, clock, |options| options.key_gate = Some("secret".to_owned())).await;
    assert_eq!(fs::read_to_string(&key).unwrap(), "secret");
    for path in [key, signing] {
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{}", path.display());
    }
    assert!(!draft.exists());
    drop(bench);
}
