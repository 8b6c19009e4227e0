//! Every key that the configuration knows, with its default, in one table. What is unknown, what is missing and
//! what a key means when it is absent follow from it; `config.example.toml` is held against it by a test.

/// A table of the configuration.
#[derive(Debug)]
pub(super) struct Section {
    /// Its name, as in `[altinn]`, or the first part of it, as in `[outbox.invoices]`.
    pub(super) name: &'static str,
    /// Whether there are many of it, each with a name.
    pub(super) named: bool,
    /// Its keys.
    pub(super) keys: &'static [Key],
}

impl Section {
    /// The key of this name.
    pub(super) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

/// One key of a table.
#[derive(Debug)]
pub(super) struct Key {
    /// Its name.
    pub(super) name: &'static str,
    /// What its absence means.
    pub(super) absent: Absent,
    /// What may stand below it.
    pub(super) shape: Shape,
}

/// What the absence of a key means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Absent {
    /// A problem.
    Wrong,
    /// That there is no such thing, or that it follows from other keys.
    Nothing,
    /// The same as this text, which is read as if it came from the environment.
    Means(&'static str),
}

/// What may stand below a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// Nothing: it is a value or a list.
    Value,
    /// One of the ways to name a secret, see [`SECRET_KEYS`].
    Secret,
    /// Any names, each with a text.
    Texts,
}

/// The ways to name a secret.
pub(super) const SECRET_KEYS: [&str; 3] = ["file", "env", "credential"];

const fn required(name: &'static str) -> Key {
    Key { name, absent: Absent::Wrong, shape: Shape::Value }
}

const fn optional(name: &'static str) -> Key {
    Key { name, absent: Absent::Nothing, shape: Shape::Value }
}

const fn default(name: &'static str, text: &'static str) -> Key {
    Key { name, absent: Absent::Means(text), shape: Shape::Value }
}

const fn secret(name: &'static str, absent: Absent) -> Key {
    Key { name, absent, shape: Shape::Secret }
}

/// `[altinn]`
pub(super) const ALTINN: Section = Section {
    name: "altinn",
    named: false,
    keys: &[
        required("environment"),
        optional("platform_url"),
        optional("maskinporten_token_url"),
        optional("maskinporten_audience"),
        secret("subscription_key", Absent::Nothing),
    ],
};

/// `[client.NAME]`
pub(super) const CLIENT: Section = Section {
    name: "client",
    named: true,
    keys: &[
        required("client_id"),
        optional("key_id"),
        secret("private_key", Absent::Wrong),
        secret("certificate_chain", Absent::Nothing),
        default("searches_per_minute", "9"),
        default("details_per_minute", "9"),
        default("calls_per_minute", "110"),
    ],
};

/// `[identity.NAME]`
pub(super) const IDENTITY: Section = Section {
    name: "identity",
    named: true,
    keys: &[
        required("organization"),
        default("client", "default"),
        default("system_user", "true"),
        optional("system_user_reference"),
    ],
};

/// `[outbox.NAME]`
pub(super) const OUTBOX: Section = Section {
    name: "outbox",
    named: true,
    keys: &[
        required("path"),
        required("identity"),
        required("resource_id"),
        optional("recipients"),
        optional("recipients_from"),
        default("reference", "{transferId}"),
        Key { name: "properties", absent: Absent::Nothing, shape: Shape::Texts },
        default("disable_virus_scan", "false"),
        default("include", "*"),
        default("exclude", ""),
        default("settle", "2s"),
        default("settle_empty", "30s"),
        default("settle_unverified", "30s"),
        default("watch", "auto"),
        default("poll_interval", "30s"),
        default("sidecar", "optional"),
        default("sidecar_may", "fileName,recipients,sendersFileTransferReference,propertyList"),
        default("sidecar_patience", "5m"),
        default("allowed_recipients", ""),
        default("allowed_resources", ""),
        default("after_send", "archive"),
        optional("archive_path"),
        optional("keep_sent"),
        optional("keep_receipts"),
        default("file_mode", "0640"),
        optional("group"),
        default("processing_patience", "24h"),
        default("upload", "auto"),
        default("chunk_size", "16MiB"),
        default("parallel_parts", "auto"),
        optional("give_up_after"),
        default("max_concurrent", "4"),
    ],
};

/// `[inbox.NAME]`
pub(super) const INBOX: Section = Section {
    name: "inbox",
    named: true,
    keys: &[
        required("path"),
        required("identity"),
        required("resource_id"),
        default("poll_interval", "1m"),
        default("layout", "flat"),
        default("write_metadata", "true"),
        default("confirm", "automatic"),
        default("senders", ""),
        optional("min_free_space"),
        optional("max_file_size"),
        optional("max_waiting"),
        optional("on_received"),
        default("on_received_timeout", "5m"),
        default("file_mode", "0640"),
        optional("group"),
        default("max_concurrent", "4"),
    ],
};

/// `[state]`
pub(super) const STATE: Section = Section {
    name: "state",
    named: false,
    keys: &[
        default("path", "/var/lib/formidlingd"),
        default("keep_history", "400d"),
        default("export_every", "1h"),
        default("keep_exports", "5"),
        optional("ballast"),
        optional("min_free_space"),
    ],
};

/// `[http]`
pub(super) const HTTP: Section = Section {
    name: "http",
    named: false,
    keys: &[
        optional("proxy"),
        secret("proxy_credentials", Absent::Nothing),
        default("no_proxy", ""),
        optional("ca_file"),
        default("connect_timeout", "10s"),
        default("idle_timeout", "60s"),
    ],
};

/// `[retry]`
pub(super) const RETRY: Section = Section {
    name: "retry",
    named: false,
    keys: &[
        default("initial", "1s"),
        default("max", "5m"),
        default("give_up_after", "7d"),
        default("cut_upload_wait", "2m"),
        default("settle_initialize", "1m"),
        default("wedged_after", "5m"),
        default("probe_every", "1m"),
    ],
};

/// `[limits]`
pub(super) const LIMITS: Section =
    Section { name: "limits", named: false, keys: &[default("uploads", "8"), default("downloads", "8")] };

/// `[hooks]`
pub(super) const HOOKS: Section = Section { name: "hooks", named: false, keys: &[optional("socket")] };

/// `[telemetry]`
pub(super) const TELEMETRY: Section = Section {
    name: "telemetry",
    named: false,
    keys: &[default("log_format", "text"), default("log_level", "info"), default("log_file_names", "full")],
};

/// All tables, in the order of `config.example.toml`.
pub(super) const SECTIONS: [&Section; 11] =
    [&ALTINN, &CLIENT, &IDENTITY, &OUTBOX, &INBOX, &STATE, &HTTP, &RETRY, &LIMITS, &HOOKS, &TELEMETRY];

/// The table of this name.
pub(super) fn section(name: &str) -> Option<&'static Section> {
    SECTIONS.into_iter().find(|section| section.name == name)
}

/// The nearest of some names, if it is near enough to have been meant.
pub(super) fn nearest<'a>(wrong: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // 0.7 takes `recipient` for `recipients` and `enviroment` for `environment`, but not `port` for `path`.
    names
        .into_iter()
        .map(|name| (strsim::normalized_damerau_levenshtein(wrong, name), name))
        .filter(|(likeness, _)| *likeness >= 0.7)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, name)| name)
}
