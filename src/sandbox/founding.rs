//! The world a new sandbox begins with: two organisations, their clients and keys, one resource.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use uuid::Uuid;

use super::blocking::blocking;
use super::keys::{Key, write_private};
use super::world::{Action, Client, Organization, RegisteredKey, SystemUser, World};

pub(super) const AVSENDER: &str = "avsender";
pub(super) const MOTTAKER: &str = "mottaker";
pub(super) const RESOURCE: &str = "sandbox-files";
/// Where the subscription key lies when the gate is on.
pub(super) const SUBSCRIPTION_KEY: &str = "keys/subscription-key";

const PARTIES: [(&str, &str); 2] = [(AVSENDER, "991825827"), (MOTTAKER, "910753614")];
const SCOPES: [&str; 3] = ["altinn:broker.write", "altinn:broker.read", "altinn:events.subscribe"];

/// What a client of the sandbox needs in order to act as an organisation.
#[derive(Debug, Clone)]
pub struct Founded {
    /// A short lower-case name.
    pub name: String,
    /// Nine digits.
    pub number: String,
    /// The Maskinporten client id.
    pub client_id: String,
    /// The `kid` of its registered key.
    pub key_id: String,
    /// The private key, PEM (PKCS#8), readable by the owner alone.
    pub private_key: PathBuf,
}

/// Keys and world of a sandbox.
pub(super) struct Foundation {
    pub(super) world: World,
    pub(super) parties: Vec<Founded>,
    pub(super) maskinporten: Key,
    pub(super) altinn: Key,
}

/// Reads what a former sandbox left in `dir`, and makes what is missing.
pub(super) async fn found(dir: &Path, now: Timestamp, key_gate: Option<&str>) -> io::Result<Foundation> {
    let keys = dir.join("keys");
    fs::create_dir_all(&keys)?;
    if let Some(key) = key_gate {
        write_private(&dir.join(SUBSCRIPTION_KEY), key.as_bytes())?;
    }
    let load = |file: &str, id: String| {
        let path = keys.join(file);
        blocking(move || Key::load_or_generate(&path, &id))
    };
    let [avsender, mottaker] =
        PARTIES.map(|(name, _)| load(&format!("{name}.pem"), format!("sandbox-{name}")));
    // Generating keys is what takes time, so all four are made at once.
    let (maskinporten, altinn, avsender, mottaker) = tokio::try_join!(
        load("maskinporten-signing.pem", "maskinporten".to_owned()),
        load("altinn-signing.pem", "altinn".to_owned()),
        avsender,
        mottaker,
    )?;
    let path = dir.join("world.json");
    let world = match fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let world = begin(&[avsender, mottaker], now);
            save(&world, dir)?;
            world
        }
        Err(error) => return Err(error),
    };
    let parties = parties(&world, &keys);
    Ok(Foundation { world, parties, maskinporten, altinn })
}

/// Writes the world down, for the next start.
pub(super) fn save(world: &World, dir: &Path) -> io::Result<()> {
    let draft = dir.join("world.json.new");
    fs::write(&draft, serde_json::to_vec_pretty(world)?)?;
    fs::rename(&draft, dir.join("world.json"))
}

fn begin(keys: &[Key; 2], now: Timestamp) -> World {
    let mut world = World::new();
    let scopes: BTreeSet<String> = SCOPES.iter().map(|scope| (*scope).to_owned()).collect();
    for ((name, number), key) in PARTIES.iter().zip(keys) {
        let client = Uuid::new_v4().to_string();
        world.organizations.push(Organization {
            name: (*name).to_owned(),
            number: (*number).to_owned(),
            granted: scopes.clone(),
            parent: None,
        });
        world.system_users.push(SystemUser {
            id: Uuid::new_v4().to_string(),
            organization: (*number).to_owned(),
            reference: None,
            system_id: format!("{number}_formidlingd"),
            clients: vec![client.clone()],
            approved: true,
        });
        let key = RegisteredKey {
            id: key.id.clone(),
            modulus: key.modulus.clone(),
            exponent: key.exponent.clone(),
            registered: now,
        };
        world.clients.push(Client {
            id: client,
            owner: (*number).to_owned(),
            scopes: scopes.clone(),
            keys: vec![key],
        });
        for action in [Action::Read, Action::Write, Action::Subscribe] {
            world.permit(RESOURCE, number, action);
        }
    }
    world
}

/// The organisations that have a client with a key whose file lies in the sandbox.
fn parties(world: &World, keys: &Path) -> Vec<Founded> {
    let of_client = |client: &Client| {
        let organization = world.organization(&client.owner)?;
        let private_key = keys.join(format!("{}.pem", organization.name));
        let key = client.keys.first()?;
        private_key.exists().then(|| Founded {
            name: organization.name.clone(),
            number: organization.number.clone(),
            client_id: client.id.clone(),
            key_id: key.id.clone(),
            private_key,
        })
    };
    world.clients.iter().filter_map(of_client).collect()
}
