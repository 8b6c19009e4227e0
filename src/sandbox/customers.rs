//! A system vendor, and as many customers as are asked for, for whom its one client acts.
//!
//! No invented organisation may have the number of a real one.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::founding::{Founded, SCOPES, approve, organization, settle};
use super::keys::Key;
use super::world::{SystemUser, World};

/// The system vendor, whose one client acts for every customer.
pub(super) const LEVERANDOR: &str = "leverandor";
/// Where the organisation numbers of the vendor and of the customers begin. Numbers that begin with 2 or 3 are those
/// of Tenor, the authorities' register of invented organisations; real ones begin with 8 or 9.
const FIRST_VENDOR: u32 = 21_000_000;
const FIRST_CUSTOMER: u32 = 31_000_000;

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

/// Adds the vendor, and customers up to `wanted`, as far as they are missing; whether there was something to add.
/// Who is there already stays as it is, whatever has been made of its rights.
pub(super) fn serve(world: &mut World, key: &Key, wanted: usize, now: Timestamp) -> bool {
    let Some(number) = numbers(FIRST_VENDOR).next() else { return false };
    let before = (world.organizations.len(), world.clients.len());
    let client = match world.clients.iter().find(|client| client.owner == number) {
        Some(client) => client.id.clone(),
        None => settle(world, LEVERANDOR, &number, &SCOPES, key, now),
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

/// The vendor of a world, with those who have approved its system.
pub(super) fn vendor(world: &World, vendors: Vec<Founded>) -> Option<Vendor> {
    let founded = vendors.into_iter().next()?;
    let names: BTreeMap<&str, &str> =
        world.organizations.iter().map(|it| (it.number.as_str(), it.name.as_str())).collect();
    let approved =
        world.system_users.iter().filter(|user| user.approved && user.clients.contains(&founded.client_id));
    let customer = |user: &SystemUser| {
        let name = (*names.get(user.organization.as_str())?).to_owned();
        Some(Customer { name, number: user.organization.clone() })
    };
    let customers = approved.filter_map(customer).collect();
    Some(Vendor { founded, customers })
}
