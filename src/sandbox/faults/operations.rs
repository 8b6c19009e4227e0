//! Which operations a rule is about: names of the ledger, and groups of them.

/// The operations that can be struck; the sandbox's own pages are none of them.
pub(in crate::sandbox) const NAMES: [&str; 33] = [
    "token",
    "maskinporten-metadata",
    "maskinporten-keys",
    "exchange",
    "refresh",
    "openid-configuration",
    "openid-keys",
    "initialize",
    "search",
    "overview",
    "details",
    "upload",
    "download",
    "confirm",
    "form-upload",
    "tus-options",
    "tus-create",
    "tus-head",
    "tus-patch",
    "tus-delete",
    "resource-get",
    "resource-put",
    "service-owner-get",
    "service-owner-create",
    "statistics",
    "registry",
    "subscribe",
    "subscriptions",
    "subscription",
    "unsubscribe",
    "validate-subscription",
    "pull",
    "any",
];

/// Names that stand for several.
pub(in crate::sandbox) const GROUPS: [(&str, &[&str]); 5] = [
    (
        "identity",
        &[
            "token",
            "maskinporten-metadata",
            "maskinporten-keys",
            "exchange",
            "refresh",
            "openid-configuration",
            "openid-keys",
        ],
    ),
    (
        "transfers",
        &[
            "initialize",
            "search",
            "overview",
            "details",
            "upload",
            "download",
            "confirm",
            "form-upload",
            "tus-options",
            "tus-create",
            "tus-head",
            "tus-patch",
            "tus-delete",
        ],
    ),
    ("tus", &["tus-options", "tus-create", "tus-head", "tus-patch", "tus-delete"]),
    (
        "events",
        &["subscribe", "subscriptions", "subscription", "unsubscribe", "validate-subscription", "pull"],
    ),
    (
        "changes",
        &[
            "initialize",
            "upload",
            "confirm",
            "form-upload",
            "tus-create",
            "tus-patch",
            "tus-delete",
            "resource-put",
            "service-owner-create",
            "subscribe",
            "unsubscribe",
        ],
    ),
];

/// The operations of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Operations {
    /// Every request that is not for the sandbox's own pages.
    Any,
    /// These.
    These(Vec<&'static str>),
}

impl Operations {
    /// The operations with these names; the first unknown name otherwise.
    pub(super) fn named<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, &'a str> {
        let mut these = Vec::new();
        let mut any = false;
        for name in names {
            if name == "any" {
                any = true;
            } else if let Some((_, members)) = GROUPS.iter().find(|(group, _)| *group == name) {
                these.extend_from_slice(members);
            } else {
                these.push(NAMES.iter().find(|known| **known == name).ok_or(name)?);
            }
        }
        Ok(if any { Self::Any } else { Self::These(these) })
    }

    /// Whether the operation is one of them.
    pub(super) fn contain(&self, operation: &str) -> bool {
        match self {
            Self::Any => true,
            Self::These(names) => names.contains(&operation),
        }
    }

    /// Everything that can be said, for an error.
    pub(super) fn allowed() -> Vec<&'static str> {
        NAMES.iter().copied().chain(GROUPS.iter().map(|(name, _)| *name)).collect()
    }
}
