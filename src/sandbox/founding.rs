//! The world a new sandbox begins with: two organisations that exchange files, and the service owner of the one
//! resource, with their clients and keys; and a system vendor with as many customers as are asked for.
//!
//! The two have the numbers that the examples in Altinn's own documentation have. All other organisations are
//! invented, and none of them may have the number of a real one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use uuid::Uuid;

use super::blocking::blocking;
use super::draft;
use super::keys::Key;
use super::world::{Action, Client, Organization, RegisteredKey, SystemUser, World};

pub(super) const AVSENDER: &str = "avsender";
pub(super) const MOTTAKER: &str = "mottaker";
pub(super) const TJENESTEEIER: &str = "tjenesteeier";
pub(super) const RESOURCE: &str = "sandbox-files";
const WORLD: &str = "world.json";
/// Where the subscription key lies when the gate is on.
pub(super) const SUBSCRIPTION_KEY: &str = "keys/subscription-key";

/// The system vendor, whose one client acts for every customer.
pub(super) const LEVERANDOR: &str = "leverandor";
/// Where the organisation numbers of the vendor and of the customers begin. Numbers that begin with 2 or 3 are those
/// of Tenor, the authorities' register of invented organisations; real ones begin with 8 or 9.
const FIRST_VENDOR: u32 = 21_000_000;
const FIRST_CUSTOMER: u32 = 31_000_000;

const PARTIES: [(&str, &str); 2] = [(AVSENDER, "991825827"), (MOTTAKER, "910753614")];
const SCOPES: [&str; 3] = ["altinn:broker.write", "altinn:broker.read", "altinn:events.subscribe"];
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

/// An organisation that lets the vendor's system act for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Customer {
    /// A short lower-case name.
    pub name: String,
    /// Nine digits.
    pub number: String,
}

/// A system vendor, who acts for its customers by one client.
#[derive(Debug, Clone)]
pub struct Vendor {
    /// The vendor itself with its client.
    pub founded: Founded,
    /// Those who have approved a system user of its system.
    pub customers: Vec<Customer>,
}

/// Keys and world of a sandbox.
pub(super) struct Foundation {
    pub(super) world: World,
    /// Without the vendor.
    pub(super) parties: Vec<Founded>,
    pub(super) service_owner: Option<Founded>,
    pub(super) vendor: Option<Vendor>,
    pub(super) maskinporten: Key,
    pub(super) altinn: Key,
}

/// A key, and whether it had to be made because its file was not there.
struct Found {
    key: Key,
    made: bool,
}

/// Those of all who have one.
struct Keys {
    maskinporten: Key,
    altinn: Key,
    parties: [Found; 2],
    owner: Found,
    vendor: Option<Found>,
}

/// Reads what a former sandbox left in `dir`, and makes what is missing.
pub(super) async fn found(
    dir: &Path,
    now: Timestamp,
    key_gate: Option<&str>,
    customers: usize,
) -> io::Result<Foundation> {
    let keys = load(dir.join("keys"), customers > 0).await?;
    let (dir, key_gate) = (dir.to_owned(), key_gate.map(str::to_owned));
    blocking(move || {
        if let Some(key) = key_gate {
            draft::replace_private(&dir.join(SUBSCRIPTION_KEY), key.as_bytes())?;
        }
        settle(&dir, keys, customers, now)
    })
    .await
}

/// Generating keys is what takes time, so all of them are made at once.
async fn load(dir: PathBuf, vendor: bool) -> io::Result<Keys> {
    let made = dir.clone();
    blocking(move || fs::create_dir_all(made)).await?;
    let load = |file: &str, id: String| {
        let path = dir.join(file);
        blocking(move || {
            let made = !path.try_exists()?;
            Ok(Found { key: Key::load_or_generate(&path, &id)?, made })
        })
    };
    let of = |name: &str| load(&format!("{name}.pem"), format!("sandbox-{name}"));
    let [avsender, mottaker] = PARTIES.map(|(name, _)| of(name));
    let vendor = async { if vendor { of(LEVERANDOR).await.map(Some) } else { Ok(None) } };
    let (maskinporten, altinn, avsender, mottaker, owner, vendor) = tokio::try_join!(
        load("maskinporten-signing.pem", "maskinporten".to_owned()),
        load("altinn-signing.pem", "altinn".to_owned()),
        avsender,
        mottaker,
        of(TJENESTEEIER),
        vendor,
    )?;
    let (maskinporten, altinn) = (maskinporten.key, altinn.key);
    Ok(Keys { maskinporten, altinn, parties: [avsender, mottaker], owner, vendor })
}

/// Reads the world, or makes one, and adds what is missing in it.
fn settle(dir: &Path, keys: Keys, customers: usize, now: Timestamp) -> io::Result<Foundation> {
    let Keys { maskinporten, altinn, parties: [avsender, mottaker], owner, vendor } = keys;
    let (mut world, mut changed) = match fs::read(dir.join(WORLD)) {
        Ok(text) => (serde_json::from_slice(&text)?, false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            (begin(&[&avsender.key, &mottaker.key], &owner.key, now), true)
        }
        Err(error) => return Err(error),
    };
    if let Some(found) = &vendor {
        changed |= serve_customers(&mut world, &found.key, customers, now);
    }
    for found in [&avsender, &mottaker, &owner].into_iter().chain(&vendor) {
        changed |= found.made && register_again(&mut world, &found.key, now);
    }
    if changed {
        save(&world, dir)?;
    }
    let mut parties = parties(&world, &dir.join("keys"));
    let mut take = |name| {
        let place = parties.iter().position(|party| party.name == name)?;
        Some(parties.remove(place))
    };
    let (service_owner, vendor) = (take(TJENESTEEIER), take(LEVERANDOR));
    let vendor = vendor.map(|founded| with_customers(&world, founded));
    Ok(Foundation { world, parties, service_owner, vendor, maskinporten, altinn })
}

/// Registers a key in the place of one whose file was lost, as a person would in self-service; whether there was
/// such a one.
fn register_again(world: &mut World, key: &Key, now: Timestamp) -> bool {
    let registered = world.clients.iter_mut().flat_map(|client| &mut client.keys);
    let mut lost = registered.filter(|it| it.id == key.id && it.modulus != key.modulus).peekable();
    let any = lost.peek().is_some();
    lost.for_each(|it| *it = registration(key, now));
    any
}

fn registration(key: &Key, now: Timestamp) -> RegisteredKey {
    RegisteredKey {
        id: key.id.clone(),
        modulus: key.modulus.clone(),
        exponent: key.exponent.clone(),
        registered: now,
    }
}

/// Writes the world down, for the next start.
pub(super) fn save(world: &World, dir: &Path) -> io::Result<()> {
    let text = serde_json::to_vec_pretty(world)?;
    draft::replace(&dir.join(WORLD), |file| file.write_all(&text))
}

fn begin(keys: &[&Key; 2], owner: &Key, now: Timestamp) -> World {
    let mut world = World::new();
    for ((name, number), key) in PARTIES.iter().zip(keys) {
        let client = open_account(&mut world, name, number, &SCOPES, key, now);
        approve(&mut world, number, &format!("{number}_formidlingd"), &client);
    }
    open_account(&mut world, TJENESTEEIER, OWNER, &OWNER_SCOPES, owner, now);
    world.service_owners.insert(OWNER.to_owned(), TJENESTEEIER.to_owned());
    world.owner_codes.insert(OWNER.to_owned(), OWNER_CODE.to_owned());
    for resource in world.resources.values_mut() {
        resource.owner = Some(OWNER.to_owned());
    }
    world
}

/// Adds an organisation with a client of its own; the client's id.
fn open_account(
    world: &mut World,
    name: &str,
    number: &str,
    scopes: &[&str],
    key: &Key,
    now: Timestamp,
) -> String {
    let id = Uuid::new_v4().to_string();
    let organization = organization(name, number, scopes);
    let scopes = organization.granted.clone();
    world.organizations.push(organization);
    world.clients.push(Client {
        id: id.clone(),
        owner: number.to_owned(),
        scopes,
        keys: vec![registration(key, now)],
    });
    id
}

/// Lets a system act for an organisation, which may do everything with the resource.
fn approve(world: &mut World, number: &str, system: &str, client: &str) {
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

fn organization(name: &str, number: &str, scopes: &[&str]) -> Organization {
    let granted = scopes.iter().map(|scope| (*scope).to_owned()).collect();
    Organization { name: name.to_owned(), number: number.to_owned(), granted, parent: None }
}

/// Adds the vendor, and customers up to `wanted`, as far as they are missing; whether there was something to add.
/// Who is there already stays as it is, whatever has been made of its rights.
fn serve_customers(world: &mut World, key: &Key, wanted: usize, now: Timestamp) -> bool {
    let Some(number) = numbers(FIRST_VENDOR).next() else { return false };
    let before = (world.organizations.len(), world.clients.len());
    let client = match world.clients.iter().find(|client| client.owner == number) {
        Some(client) => client.id.clone(),
        None => open_account(world, LEVERANDOR, &number, &SCOPES, key, now),
    };
    let known: BTreeSet<String> = world.organizations.iter().map(|it| it.number.clone()).collect();
    let system = format!("{number}_{LEVERANDOR}");
    for (index, customer) in numbers(FIRST_CUSTOMER).take(wanted).enumerate() {
        if !known.contains(&customer) {
            world.organizations.push(organization(&format!("kunde-{:04}", index + 1), &customer, &SCOPES));
            approve(world, &customer, &system, &client);
        }
    }
    before != (world.organizations.len(), world.clients.len())
}

/// Organisation numbers from the one that begins with these eight digits on.
fn numbers(first: u32) -> impl Iterator<Item = String> {
    (first..100_000_000).filter_map(|body| {
        let digit = check_digit(body)?;
        Some(format!("{body}{digit}"))
    })
}

/// The ninth digit of an organisation number (modulus 11); some combinations of eight have none.
fn check_digit(body: u32) -> Option<u32> {
    let digits = std::iter::successors(Some(body), |rest| Some(rest / 10)).map(|rest| rest % 10);
    let sum: u32 = digits.zip([2, 3, 4, 5, 6, 7, 2, 3]).map(|(digit, weight)| digit * weight).sum();
    match (11 - sum % 11) % 11 {
        10 => None,
        digit => Some(digit),
    }
}

/// A vendor, with those who have approved its system.
fn with_customers(world: &World, founded: Founded) -> Vendor {
    let names: BTreeMap<&str, &str> =
        world.organizations.iter().map(|it| (it.number.as_str(), it.name.as_str())).collect();
    let approved =
        world.system_users.iter().filter(|user| user.approved && user.clients.contains(&founded.client_id));
    let customer = |user: &SystemUser| {
        let name = (*names.get(user.organization.as_str())?).to_owned();
        Some(Customer { name, number: user.organization.clone() })
    };
    let customers = approved.filter_map(customer).collect();
    Vendor { founded, customers }
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
