//! The world a new sandbox begins with: two organisations that exchange files, and the service owner
//! of the one resource, with their clients and keys.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use uuid::Uuid;

use super::blocking::blocking;
use super::customers::{self, LEVERANDOR, Vendor};
use super::keys::{Key, write_private};
use super::world::{Action, Client, Organization, RegisteredKey, SystemUser, World};

pub(super) const AVSENDER: &str = "avsender";
pub(super) const MOTTAKER: &str = "mottaker";
pub(super) const TJENESTEEIER: &str = "tjenesteeier";
pub(super) const RESOURCE: &str = "sandbox-files";
/// Where the subscription key lies when the gate is on.
pub(super) const SUBSCRIPTION_KEY: &str = "keys/subscription-key";

const PARTIES: [(&str, &str); 2] = [(AVSENDER, "991825827"), (MOTTAKER, "910753614")];
pub(super) const SCOPES: [&str; 3] = ["altinn:broker.write", "altinn:broker.read", "altinn:events.subscribe"];
const OWNER: &str = "314455665";
const OWNER_SCOPES: [&str; 1] = ["altinn:serviceowner"];
/// Altinn's short code of the service owner.
const OWNER_CODE: &str = "tje";

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
    /// Without the vendor.
    pub(super) parties: Vec<Founded>,
    pub(super) vendor: Option<Vendor>,
    pub(super) maskinporten: Key,
    pub(super) altinn: Key,
}

/// Reads what a former sandbox left in `dir`, and makes what is missing.
pub(super) async fn found(
    dir: &Path,
    now: Timestamp,
    key_gate: Option<&str>,
    wanted_customers: usize,
) -> io::Result<Foundation> {
    let keys = dir.join("keys");
    fs::create_dir_all(&keys)?;
    if let Some(key) = key_gate {
        write_private(&dir.join(SUBSCRIPTION_KEY), key.as_bytes())?;
    }
    let load = |file: &str, id: String| {
        let path = keys.join(file);
        blocking(move || Key::load_or_generate(&path, &id))
    };
    let of = |name: &str| load(&format!("{name}.pem"), format!("sandbox-{name}"));
    let [avsender, mottaker] = PARTIES.map(|(name, _)| of(name));
    let leverandor = async { if wanted_customers == 0 { Ok(None) } else { of(LEVERANDOR).await.map(Some) } };
    // Generating keys is what takes time, so all are made at once.
    let (maskinporten, altinn, avsender, mottaker, owner, leverandor) = tokio::try_join!(
        load("maskinporten-signing.pem", "maskinporten".to_owned()),
        load("altinn-signing.pem", "altinn".to_owned()),
        avsender,
        mottaker,
        of(TJENESTEEIER),
        leverandor,
    )?;
    let path = dir.join("world.json");
    let (mut world, mut is_new) = match fs::read(&path) {
        Ok(text) => (serde_json::from_slice(&text)?, false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            (begin(&[avsender, mottaker], &owner, now), true)
        }
        Err(error) => return Err(error),
    };
    if let Some(key) = leverandor {
        is_new |= customers::serve(&mut world, &key, wanted_customers, now);
    }
    if is_new {
        save(&world, dir)?;
    }
    let (vendors, parties) = parties(&world, &keys).into_iter().partition(|party| party.name == LEVERANDOR);
    let vendor = customers::vendor(&world, vendors);
    Ok(Foundation { world, parties, vendor, maskinporten, altinn })
}

/// Writes the world down, for the next start.
pub(super) fn save(world: &World, dir: &Path) -> io::Result<()> {
    let draft = dir.join("world.json.new");
    fs::write(&draft, serde_json::to_vec_pretty(world)?)?;
    fs::rename(&draft, dir.join("world.json"))
}

fn begin(keys: &[Key; 2], owner: &Key, now: Timestamp) -> World {
    let mut world = World::new();
    for ((name, number), key) in PARTIES.iter().zip(keys) {
        let client = settle(&mut world, name, number, &SCOPES, key, now);
        approve(&mut world, number, &format!("{number}_formidlingd"), &client);
    }
    settle(&mut world, TJENESTEEIER, OWNER, &OWNER_SCOPES, owner, now);
    world.service_owners.insert(OWNER.to_owned(), TJENESTEEIER.to_owned());
    world.owner_codes.insert(OWNER.to_owned(), OWNER_CODE.to_owned());
    for resource in world.resources.values_mut() {
        resource.owner = Some(OWNER.to_owned());
    }
    world
}

/// Adds an organisation and its client, whose id it returns.
pub(super) fn settle(
    world: &mut World,
    name: &str,
    number: &str,
    scopes: &[&str],
    key: &Key,
    now: Timestamp,
) -> String {
    let client = Uuid::new_v4().to_string();
    world.organizations.push(organization(name, number, scopes));
    let key = RegisteredKey {
        id: key.id.clone(),
        modulus: key.modulus.clone(),
        exponent: key.exponent.clone(),
        registered: now,
    };
    let scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
    world.clients.push(Client { id: client.clone(), owner: number.to_owned(), scopes, keys: vec![key] });
    client
}

/// An organisation that has been granted these scopes.
pub(super) fn organization(name: &str, number: &str, scopes: &[&str]) -> Organization {
    Organization {
        name: name.to_owned(),
        number: number.to_owned(),
        granted: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
        parent: None,
    }
}

/// Lets a system act for an organisation, which may do with the resource all that there is.
pub(super) fn approve(world: &mut World, number: &str, system: &str, client: &str) {
    world.system_users.push(SystemUser {
        id: Uuid::new_v4().to_string(),
        organization: number.to_owned(),
        reference: None,
        system_id: system.to_owned(),
        clients: vec![client.to_owned()],
        approved: true,
    });
    for action in [Action::Read, Action::Write, Action::Subscribe] {
        world.permit(RESOURCE, number, action);
    }
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
