//! Who exists and what they may do: organisations, clients, system users, resources and rights.
//!
//! All of it is data, so that a test changes the world and not the code.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A key that is registered on a Maskinporten client.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RegisteredKey {
    /// The `kid`.
    pub id: String,
    /// RSA modulus, base64url.
    pub modulus: String,
    /// RSA exponent, base64url.
    pub exponent: String,
    /// When it was uploaded; a year later it stops working.
    pub registered: Timestamp,
}

/// A Maskinporten client.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Client {
    /// The client id, a UUID.
    pub id: String,
    /// The nine-digit number of the organisation that owns it.
    pub owner: String,
    /// Scopes registered on the client.
    pub scopes: BTreeSet<String>,
    /// Registered keys.
    pub keys: Vec<RegisteredKey>,
}

/// A system user: the right of a system (and so of its clients) to act for an organisation.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SystemUser {
    /// The system user's UUID.
    pub id: String,
    /// The nine-digit number of the organisation that approved it.
    pub organization: String,
    /// The external reference; `None` means that Altinn stored the organisation number.
    pub reference: Option<String>,
    /// The system, `<vendor>_<name>`.
    pub system_id: String,
    /// The client ids of the system.
    pub clients: Vec<String>,
    /// Whether the organisation has approved the request.
    pub approved: bool,
}

/// An organisation.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Organization {
    /// A short lower-case name, which also names the key file.
    pub name: String,
    /// Nine digits.
    pub number: String,
    /// Scopes that their owner has granted to the organisation.
    pub granted: BTreeSet<String>,
    /// Nine digits of the main unit, when this is a sub-unit (branch).
    #[serde(default)]
    pub parent: Option<String>,
}

/// What a party may do with a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Action {
    /// Download and confirm.
    Read,
    /// Initialize and upload.
    Write,
    /// Hear of events.
    Subscribe,
}

/// A party lets another organisation act for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delegation {
    /// Nine digits of the party that has the right.
    pub from: String,
    /// Nine digits of the organisation that may use it.
    pub to: String,
    /// What it may do.
    pub action: Action,
}

/// A consumer lets a supplier use one of its scopes (Altinn's delegation of scopes).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScopeDelegation {
    /// Nine digits of the consumer.
    pub from: String,
    /// Nine digits of the supplier.
    pub to: String,
    /// The scope.
    pub scope: String,
}

/// A Formidling resource, as the service owner has set it up.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch that the service owner or Altinn sets by itself"
)]
pub struct Resource {
    /// Rights per organisation number (nine digits).
    pub rights: BTreeMap<String, BTreeSet<Action>>,
    /// Rights used by others than the party itself.
    pub delegations: Vec<Delegation>,
    /// Whether the policy lets an organisation in without a system user.
    pub admits_organizations: bool,
    /// Largest file in bytes.
    pub max_file_transfer_size: Option<u64>,
    /// How long transfers live; the sandbox's own setting when absent.
    pub time_to_live: Option<Duration>,
    /// Whether content is purged some time after the last confirmation.
    pub purge_after_all_confirmed: bool,
    /// How long after the last confirmation; the sandbox's own setting when absent.
    pub grace: Option<Duration>,
    /// A party that must be the sender or the only recipient.
    pub required_party: Option<String>,
    /// Nine-digit numbers of those who may receive, when the access list is switched on.
    pub access_list: Option<BTreeSet<String>>,
    /// Altinn has approved the resource for transfers without a virus scan.
    pub virus_scan_waiver: bool,
    /// The service owner's storage account has been deployed.
    pub storage_ready: bool,
    /// Storing a file fails.
    pub storage_fails: bool,
    /// The resource is in the Resource Registry.
    pub registered: bool,
    /// Its service owner is known to the Broker.
    pub service_owner: bool,
    /// Nine digits of its service owner.
    pub owner: Option<String>,
    /// The service owner has made it known to the Broker; until then nobody can use it there.
    pub configured: bool,
    /// The code of the Altinn 2 service that it follows.
    pub external_service_code: Option<String>,
    /// The edition of the Altinn 2 service that it follows.
    pub external_service_edition_code: Option<i32>,
    /// Whether downloads get the manifest of Altinn 2.
    pub use_manifest_file_shim: Option<bool>,
}

impl Default for Resource {
    fn default() -> Self {
        Self {
            rights: BTreeMap::new(),
            delegations: Vec::new(),
            admits_organizations: true,
            max_file_transfer_size: None,
            time_to_live: None,
            purge_after_all_confirmed: true,
            grace: None,
            required_party: None,
            access_list: None,
            virus_scan_waiver: false,
            storage_ready: true,
            storage_fails: false,
            registered: true,
            service_owner: true,
            owner: None,
            configured: true,
            external_service_code: None,
            external_service_edition_code: None,
            use_manifest_file_shim: None,
        }
    }
}

/// Which Altinn the sandbox stands for, where they differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// tt02: resources need no approval for transfers without a virus scan.
    Staging,
    /// Production.
    Production,
}

/// Whether Altinn Authorization answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Authorization {
    /// It answers.
    Up,
    /// It does not: every question is answered with "no", as the Broker does.
    Down,
}

/// Everything that exists in the sandbox besides transfers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct World {
    /// Staging or production.
    pub stage: Stage,
    /// The state of Altinn Authorization.
    pub authorization: Authorization,
    /// The organisations.
    pub organizations: Vec<Organization>,
    /// The Maskinporten clients.
    pub clients: Vec<Client>,
    /// The system users.
    pub system_users: Vec<SystemUser>,
    /// Scopes that consumers let suppliers use.
    #[serde(default)]
    pub scope_delegations: Vec<ScopeDelegation>,
    /// The resources, by bare id.
    pub resources: BTreeMap<String, Resource>,
    /// The names of the service owners that the Broker knows, by their nine digits.
    #[serde(default)]
    pub service_owners: BTreeMap<String, String>,
    /// The short codes of Altinn's service owners, by their nine digits.
    #[serde(default)]
    pub owner_codes: BTreeMap<String, String>,
}

/// Who asks Altinn Authorization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Subject {
    /// A system user, by its organisation's nine digits.
    SystemUser(String),
    /// An organisation, nine digits.
    Organization(String),
}

impl World {
    /// An empty staging world.
    #[must_use]
    pub fn new() -> Self {
        Self {
            stage: Stage::Staging,
            authorization: Authorization::Up,
            organizations: Vec::new(),
            clients: Vec::new(),
            system_users: Vec::new(),
            scope_delegations: Vec::new(),
            resources: BTreeMap::new(),
            service_owners: BTreeMap::new(),
            owner_codes: BTreeMap::new(),
        }
    }

    /// Lets an organisation (nine digits) do `action` with a resource, which is made if need be.
    pub fn permit(&mut self, resource: &str, organization: &str, action: Action) {
        let resource = self.resources.entry(resource.to_owned()).or_default();
        resource.rights.entry(organization.to_owned()).or_default().insert(action);
    }

    /// The client with that id.
    pub(super) fn client(&self, id: &str) -> Option<&Client> {
        self.clients.iter().find(|client| client.id == id)
    }

    /// The organisation with that number (nine digits).
    pub(super) fn organization(&self, number: &str) -> Option<&Organization> {
        self.organizations.iter().find(|organization| organization.number == number)
    }

    /// Asks Altinn Authorization: is the resource that of the service owner with this code?
    pub(super) fn owner_has(&self, resource: &str, code: &str) -> bool {
        let owner = self.resources.get(resource).and_then(|resource| resource.owner.as_ref());
        let of_owner = owner.and_then(|number| self.owner_codes.get(number));
        self.authorization == Authorization::Up && of_owner.is_some_and(|of_owner| of_owner == code)
    }

    /// Asks Altinn Authorization: may `subject` do `action` with `resource` on behalf of `party`
    /// (any form of the number)? For what the Broker asks about, a resource that it does not know is a "no" too,
    /// since it looks that up inside the access check.
    pub(super) fn permits(&self, subject: &Subject, resource: &str, action: Action, party: &str) -> bool {
        if self.authorization == Authorization::Down {
            return false;
        }
        let is_known = |resource: &&Resource| resource.configured || action == Action::Subscribe;
        let Some(resource) = self.resources.get(resource).filter(is_known) else { return false };
        let party = bare_number(party);
        let actor = match subject {
            Subject::SystemUser(organization) => organization,
            Subject::Organization(organization) if resource.admits_organizations => organization,
            Subject::Organization(_) => return false,
        };
        if !resource.rights.get(party).is_some_and(|actions| actions.contains(&action)) {
            return false;
        }
        actor == party
            || resource
                .delegations
                .iter()
                .any(|given| given.from == party && given.to == *actor && given.action == action)
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

/// An organisation number without its prefix: everything up to the last colon is cut.
pub(super) fn bare_number(text: &str) -> &str {
    text.rsplit(':').next().unwrap_or(text)
}
