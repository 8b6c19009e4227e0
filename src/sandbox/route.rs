//! From method and path to an operation, by ASP.NET's rules: any case, a trailing slash tolerated,
//! 405 for a known path with another method, 404 for the rest.

use axum::http::{Method, StatusCode};

use super::problem::Produces;

/// What a request is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Operation {
    Token,
    MaskinportenMetadata,
    MaskinportenKeys,
    Exchange {
        provider: String,
    },
    /// A new lifetime for an Altinn token.
    Refresh,
    OpenIdConfiguration,
    OpenIdKeys,
    Initialize,
    Search,
    Overview {
        id: String,
    },
    Details {
        id: String,
    },
    Upload {
        id: String,
    },
    Download {
        id: String,
    },
    Confirm {
        id: String,
    },
    SandboxLedger,
    SandboxTransfers,
    SandboxContent,
    /// The fault rules, or the one of that name.
    SandboxFaults {
        name: Option<String>,
    },
    SandboxEvents,
    SandboxSubscriptions,
    SandboxDeliveries,
    /// Initialize and upload in one.
    FormUpload,
    /// Resumable upload.
    Tus(TusRequest),
    /// A resource's settings; `put` writes them.
    Resource {
        id: String,
        put: bool,
    },
    /// The service owner; `create` makes it known to the Broker.
    ServiceOwner {
        create: bool,
    },
    /// The service owner's monthly statistics.
    Statistics,
    /// The Resource Registry, open to everybody.
    Registry(Question),
    /// Altinn Events.
    Events(Events),
}

/// A request to the TUS endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TusRequest {
    pub(super) method: TusMethod,
    /// The transfer; `None` for the path without one.
    pub(super) id: Option<String>,
    /// The partial upload of that transfer.
    pub(super) partial: Option<String>,
}

/// What a TUS request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TusMethod {
    Options,
    Create,
    Head,
    Patch,
    Delete,
}

/// What the Resource Registry is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Question {
    Resource(String),
    Policy(String),
    Rights(String),
}

/// An operation of Altinn Events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Events {
    Subscribe,
    Subscriptions,
    Subscription(String),
    Unsubscribe(String),
    /// The platform's own; refused to everybody else.
    Validate,
    Pull,
}

impl Operation {
    /// The name in the ledger.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::MaskinportenMetadata => "maskinporten-metadata",
            Self::MaskinportenKeys => "maskinporten-keys",
            Self::Exchange { .. } => "exchange",
            Self::Refresh => "refresh",
            Self::OpenIdConfiguration => "openid-configuration",
            Self::OpenIdKeys => "openid-keys",
            Self::Initialize => "initialize",
            Self::Search => "search",
            Self::Overview { .. } => "overview",
            Self::Details { .. } => "details",
            Self::Upload { .. } => "upload",
            Self::Download { .. } => "download",
            Self::Confirm { .. } => "confirm",
            Self::SandboxLedger
            | Self::SandboxTransfers
            | Self::SandboxContent
            | Self::SandboxFaults { .. }
            | Self::SandboxEvents
            | Self::SandboxSubscriptions
            | Self::SandboxDeliveries => "sandbox",
            Self::FormUpload => "form-upload",
            Self::Tus(request) => match request.method {
                TusMethod::Options => "tus-options",
                TusMethod::Create => "tus-create",
                TusMethod::Head => "tus-head",
                TusMethod::Patch => "tus-patch",
                TusMethod::Delete => "tus-delete",
            },
            Self::Resource { put: true, .. } => "resource-put",
            Self::Resource { put: false, .. } => "resource-get",
            Self::ServiceOwner { create: true } => "service-owner-create",
            Self::ServiceOwner { create: false } => "service-owner-get",
            Self::Statistics => "statistics",
            Self::Registry(_) => "registry",
            Self::Events(Events::Subscribe) => "subscribe",
            Self::Events(Events::Subscriptions) => "subscriptions",
            Self::Events(Events::Subscription(_)) => "subscription",
            Self::Events(Events::Unsubscribe(_)) => "unsubscribe",
            Self::Events(Events::Validate) => "validate-subscription",
            Self::Events(Events::Pull) => "pull",
        }
    }

    /// What the endpoint declares to produce.
    pub(super) fn produces(&self) -> Produces {
        match self {
            Self::Initialize
            | Self::Search
            | Self::Overview { .. }
            | Self::Details { .. }
            | Self::Upload { .. }
            | Self::Confirm { .. }
            | Self::FormUpload
            | Self::Resource { .. }
            | Self::ServiceOwner { create: false } => Produces::Json,
            Self::Statistics => Produces::Csv,
            _ => Produces::Anything,
        }
    }

    /// Whether it lies behind API Management, where a subscription key may be demanded.
    pub(super) fn is_on_the_platform(&self) -> bool {
        let is_elsewhere = matches!(self, Self::Token | Self::MaskinportenMetadata | Self::MaskinportenKeys);
        // The Resource Registry is open to everybody, without token or key.
        !is_elsewhere && !self.is_the_sandboxs_own() && !matches!(self, Self::Registry(_))
    }

    /// Whether it is a page that no real Altinn has.
    pub(super) fn is_the_sandboxs_own(&self) -> bool {
        self.name() == "sandbox"
    }

    /// The transfer that the path names.
    pub(super) fn transfer(&self) -> Option<&str> {
        match self {
            Self::Overview { id }
            | Self::Details { id }
            | Self::Upload { id }
            | Self::Download { id }
            | Self::Confirm { id } => Some(id),
            Self::Tus(request) => request.id.as_deref(),
            _ => None,
        }
    }
}

/// Finds the operation, or the bare status that routing answers with.
pub(super) fn find(method: &Method, path: &str) -> Result<Operation, StatusCode> {
    let parts: Vec<String> = path.trim_matches('/').split('/').map(decode).collect();
    let lower: Vec<String> = parts.iter().map(|part| part.to_ascii_lowercase()).collect();
    let lower: Vec<&str> = lower.iter().map(String::as_str).collect();
    let given = Given(&parts);
    let choices = match lower.as_slice() {
        ["broker", "api", "v1", rest @ ..] => broker(rest, given),
        ["events", "api", "v1", rest @ ..] => events(rest, given),
        ["resourceregistry", "api", "v1", "resource", rest @ ..] => registry(rest, given),
        ["_sandbox", "faults", _] => [Method::GET, Method::DELETE]
            .map(|method| (method, Operation::SandboxFaults { name: parts.last().cloned() }))
            .to_vec(),
        ["_sandbox", page] => sandbox(page),
        rest => identity(rest, given),
    };
    match choices.iter().find(|(allowed, _)| allowed == method) {
        Some((_, operation)) => Ok(operation.clone()),
        None if choices.is_empty() => Err(StatusCode::NOT_FOUND),
        None => Err(StatusCode::METHOD_NOT_ALLOWED),
    }
}

/// What a path can be asked for.
type Choices = Vec<(Method, Operation)>;

/// The segments of the path as they were given.
#[derive(Clone, Copy)]
struct Given<'a>(&'a [String]);

impl Given<'_> {
    /// The segment that many places from the end, from 0.
    fn back(self, places: usize) -> String {
        self.0.iter().rev().nth(places).cloned().unwrap_or_default()
    }
}

fn identity(path: &[&str], given: Given<'_>) -> Choices {
    let get = |operation| vec![(Method::GET, operation)];
    match path {
        ["token"] => vec![(Method::POST, Operation::Token)],
        [".well-known", "oauth-authorization-server"] => get(Operation::MaskinportenMetadata),
        ["jwk"] => get(Operation::MaskinportenKeys),
        ["authentication", "api", "v1", rest @ ..] => match rest {
            ["exchange", _] => get(Operation::Exchange { provider: given.back(0) }),
            ["refresh"] => get(Operation::Refresh),
            ["openid", ".well-known", "openid-configuration"] => get(Operation::OpenIdConfiguration),
            ["openid", ".well-known", "openid-configuration", "jwks"] => get(Operation::OpenIdKeys),
            _ => vec![],
        },
        _ => vec![],
    }
}

fn broker(path: &[&str], given: Given<'_>) -> Choices {
    match path {
        ["filetransfer"] => vec![(Method::POST, Operation::Initialize), (Method::GET, Operation::Search)],
        // To GET, "upload" is an id, although none that exists.
        ["filetransfer", "upload"] => {
            vec![
                (Method::POST, Operation::FormUpload),
                (Method::GET, Operation::Overview { id: given.back(0) }),
            ]
        }
        ["filetransfer", "upload", "tus"] => tus(None, None),
        ["filetransfer", "upload", "tus", _] => tus(Some(&given.back(0)), None),
        ["filetransfer", "upload", "tus", _, "partial", _] => tus(Some(&given.back(2)), Some(&given.back(0))),
        ["filetransfer", _] => vec![(Method::GET, Operation::Overview { id: given.back(0) })],
        ["filetransfer", _, "details"] => vec![(Method::GET, Operation::Details { id: given.back(1) })],
        ["filetransfer", _, "upload"] => vec![(Method::POST, Operation::Upload { id: given.back(1) })],
        ["filetransfer", _, "download"] => vec![(Method::GET, Operation::Download { id: given.back(1) })],
        ["filetransfer", _, "confirmdownload"] => {
            vec![(Method::POST, Operation::Confirm { id: given.back(1) })]
        }
        ["resource", _] => vec![
            (Method::GET, Operation::Resource { id: given.back(0), put: false }),
            (Method::PUT, Operation::Resource { id: given.back(0), put: true }),
        ],
        ["serviceowner"] => vec![
            (Method::GET, Operation::ServiceOwner { create: false }),
            (Method::POST, Operation::ServiceOwner { create: true }),
        ],
        ["statistics", "monthly"] => vec![(Method::GET, Operation::Statistics)],
        _ => vec![],
    }
}

/// The methods of a TUS path.
fn tus(id: Option<&String>, partial: Option<&String>) -> Choices {
    let request = |method| Operation::Tus(TusRequest { method, id: id.cloned(), partial: partial.cloned() });
    vec![
        (Method::OPTIONS, request(TusMethod::Options)),
        (Method::POST, request(TusMethod::Create)),
        (Method::HEAD, request(TusMethod::Head)),
        (Method::PATCH, request(TusMethod::Patch)),
        (Method::DELETE, request(TusMethod::Delete)),
    ]
}

fn registry(path: &[&str], given: Given<'_>) -> Choices {
    let question = match path {
        [_] => Question::Resource(given.back(0)),
        [_, "policy"] => Question::Policy(given.back(1)),
        [_, "policy", "rights"] => Question::Rights(given.back(2)),
        _ => return vec![],
    };
    vec![(Method::GET, Operation::Registry(question))]
}

fn events(path: &[&str], given: Given<'_>) -> Choices {
    let choices = match path {
        ["events"] => vec![(Method::GET, Events::Pull)],
        ["subscriptions"] => vec![(Method::POST, Events::Subscribe), (Method::GET, Events::Subscriptions)],
        ["subscriptions", "validate", _] => vec![(Method::PUT, Events::Validate)],
        ["subscriptions", _] => vec![
            (Method::GET, Events::Subscription(given.back(0))),
            (Method::DELETE, Events::Unsubscribe(given.back(0))),
        ],
        _ => vec![],
    };
    choices.into_iter().map(|(method, operation)| (method, Operation::Events(operation))).collect()
}

fn sandbox(page: &str) -> Choices {
    match page {
        "ledger" => vec![(Method::GET, Operation::SandboxLedger)],
        "transfers" => vec![(Method::GET, Operation::SandboxTransfers)],
        "content" => vec![(Method::GET, Operation::SandboxContent)],
        "events" => vec![(Method::GET, Operation::SandboxEvents)],
        "subscriptions" => vec![(Method::GET, Operation::SandboxSubscriptions)],
        "deliveries" => vec![(Method::GET, Operation::SandboxDeliveries)],
        "faults" => [Method::GET, Method::PUT, Method::POST, Method::DELETE]
            .map(|method| (method, Operation::SandboxFaults { name: None }))
            .to_vec(),
        _ => vec![],
    }
}

/// Percent-decodes one path segment; what is no valid escape stays as it is.
fn decode(segment: &str) -> String {
    let mut left = segment.as_bytes();
    let mut decoded = Vec::with_capacity(segment.len());
    while let Some((byte, rest)) = left.split_first() {
        let escape = match (byte, rest) {
            (b'%', [high, low, after @ ..]) => {
                hex(*high).zip(hex(*low)).map(|(high, low)| (high * 16 + low, after))
            }
            _ => None,
        };
        let (value, after) = escape.unwrap_or((*byte, rest));
        decoded.push(value);
        left = after;
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}
