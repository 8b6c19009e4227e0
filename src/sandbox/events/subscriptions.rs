//! The subscriptions that exist, and the file that keeps them over a restart.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::event::{self, Event};
use crate::sandbox::draft;
use crate::sandbox::site::Site;

/// What makes two subscriptions identical.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Wish {
    pub(super) end_point: String,
    pub(super) resource_filter: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) subject_filter: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) type_filter: Option<String>,
    pub(super) consumer: String,
    pub(super) include_subunits: bool,
}

/// A subscription, as it is shown.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Subscription {
    pub(super) id: i32,
    #[serde(flatten)]
    pub(super) wish: Wish,
    pub(super) created_by: String,
    pub(super) created: Timestamp,
    pub(super) validated: bool,
}

/// A subscription with what is peculiar about it here.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Held {
    #[serde(flatten)]
    pub(super) subscription: Subscription,
    /// Until then it hears nothing.
    #[serde(rename = "silentUntil", default, skip_serializing_if = "Option::is_none")]
    pub(super) silent_until: Option<Timestamp>,
    /// It was removed, and is delivered to until then.
    #[serde(rename = "lingersUntil", default, skip_serializing_if = "Option::is_none")]
    lingers_until: Option<Timestamp>,
}

impl Held {
    /// Whether it hears nothing now, in the beginning or in the end.
    pub(super) fn is_deaf(&self, now: Timestamp) -> bool {
        self.silent_until.is_some_and(|until| now < until) || self.is_over(now)
    }

    fn is_over(&self, now: Timestamp) -> bool {
        self.lingers_until.is_some_and(|until| until <= now)
    }
}

/// All subscriptions.
#[derive(Debug)]
pub(super) struct Subscriptions {
    next: i32,
    held: BTreeMap<i32, Arc<Held>>,
    /// Removed ones that are delivered to for a while.
    lingering: Vec<Arc<Held>>,
}

/// The file.
#[derive(Serialize, Deserialize)]
pub(super) struct Kept {
    next: i32,
    subscriptions: Vec<Held>,
    #[serde(default)]
    lingering: Vec<Held>,
}

impl Subscriptions {
    /// Reads what a former sandbox had.
    pub(super) fn read(path: &Path) -> io::Result<Self> {
        let kept: Kept = match fs::read(path) {
            Ok(text) => serde_json::from_slice(&text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Kept { next: 1, subscriptions: Vec::new(), lingering: Vec::new() }
            }
            Err(error) => return Err(error),
        };
        let held = kept.subscriptions.into_iter().map(|held| (held.subscription.id, Arc::new(held)));
        let lingering = kept.lingering.into_iter().map(Arc::new);
        Ok(Self { next: kept.next, held: held.collect(), lingering: lingering.collect() })
    }

    /// What is to be kept in the file.
    pub(super) fn kept(&self) -> Kept {
        Kept {
            next: self.next,
            subscriptions: self.held.values().map(|held| Held::clone(held)).collect(),
            lingering: self.lingering.iter().map(|held| Held::clone(held)).collect(),
        }
    }

    /// The subscription with that id.
    pub(super) fn get(&self, id: i32) -> Option<&Arc<Held>> {
        self.held.get(&id)
    }

    /// All of them, by id.
    pub(super) fn all(&self) -> impl Iterator<Item = &Subscription> {
        self.held.values().map(|held| &held.subscription)
    }

    /// The identical subscription, if there is one.
    pub(super) fn identical(&self, wish: &Wish) -> Option<&Arc<Held>> {
        self.held.values().find(|held| held.subscription.wish == *wish)
    }

    /// Adds a subscription, not validated yet.
    pub(super) fn add(&mut self, wish: Wish, now: Timestamp, silent_until: Option<Timestamp>) -> Arc<Held> {
        let id = self.next;
        self.next = self.next.saturating_add(1);
        let created_by = wish.consumer.clone();
        let subscription = Subscription { id, wish, created_by, created: now, validated: false };
        let held = Arc::new(Held { subscription, silent_until, lingers_until: None });
        self.held.insert(id, Arc::clone(&held));
        held
    }

    /// Marks a subscription validated; tells whether it was not.
    pub(super) fn validate(&mut self, id: i32) -> bool {
        let Some(held) = self.held.get_mut(&id) else { return false };
        if held.subscription.validated {
            return false;
        }
        Arc::make_mut(held).subscription.validated = true;
        true
    }

    /// Removes a subscription, which may be delivered to until the given time.
    pub(super) fn remove(&mut self, id: i32, lingers_until: Option<Timestamp>) {
        let Some(mut held) = self.held.remove(&id) else { return };
        if lingers_until.is_some() {
            Arc::make_mut(&mut held).lingers_until = lingers_until;
            self.lingering.push(held);
        }
    }

    /// Those that an event is for, by resource, subject and type, so far as they are validated.
    pub(super) fn matching(&mut self, site: &Site, event: &Event) -> Vec<Arc<Held>> {
        let now = site.now();
        self.lingering.retain(|held| !held.is_over(now));
        if self.held.is_empty() && self.lingering.is_empty() {
            return Vec::new();
        }
        let (resource, subject, kind) =
            (event.resource_on_the_wire(), event.subject(), event.kind_on_the_wire());
        let main = site.look(|world| {
            let parent = world.organization(&event.organization)?.parent.as_deref()?;
            Some(event::subject(parent))
        });
        let is_for = |held: &&Arc<Held>| {
            let Subscription { wish, validated, .. } = &held.subscription;
            *validated
                && wish.resource_filter == resource
                && wish.type_filter.as_ref().is_none_or(|filter| *filter == kind)
                && wish.subject_filter.as_ref().is_none_or(|filter| {
                    *filter == subject || (wish.include_subunits && main.as_ref() == Some(filter))
                })
        };
        self.held.values().chain(&self.lingering).filter(is_for).cloned().collect()
    }
}

/// Writes the file. An endpoint has a secret in it.
pub(super) fn write(path: &Path, kept: &Kept) -> io::Result<()> {
    draft::replace_private(path, &serde_json::to_vec_pretty(kept)?)
}
