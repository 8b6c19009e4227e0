//! The steps of an inbox against a small Altinn that says what a test wants it to say. What they share is here.

mod ends;
mod hearing;
mod starting;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tracing::instrument::WithSubscriber as _;

use super::driver::Driver;
use super::{Inbox, Route, deliver, hear};
use crate::broker::{Client, Parts, Role};
use crate::config::{self, Confirm, Layout, MinFreeSpace};
use crate::files::Error;
use crate::http::{Clients, Settings, testing::Server};
use crate::identity::{self, Identity, KeyNaming, Parameters, SLOW_PROBE, SigningKey, Skew, generate_key};
use crate::pace::{Backoff, Breaker, Budget, Limits};
use crate::route::{Drive as _, Kind, Means, Next, Trouble, later};
use crate::seams::{Clock as _, SeededRandom, SystemClock};
use crate::store::Store;
use crate::transfer::{Confirmation, InboxPlace, Incoming, IncomingEvent, Offer, Received, Transfer, Work};

const ID: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";
const BYTES: usize = 600_000;

/// Altinn, with one transfer.
#[derive(Clone)]
struct Altinn {
    overview: Arc<Mutex<Value>>,
    /// What downloads and confirmations are answered with, in this order.
    answers: Arc<Mutex<Vec<Response>>>,
    asked: Arc<Mutex<Vec<String>>>,
    /// No token is given.
    keeps_tokens: Arc<AtomicBool>,
}

async fn grant(State(altinn): State<Altinn>) -> axum::Json<Value> {
    altinn.asked.lock().unwrap().push("token".to_owned());
    while altinn.keeps_tokens.load(Ordering::Acquire) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    axum::Json(json!({ "access_token": "raw" }))
}

async fn answer(State(altinn): State<Altinn>, request: Request) -> Response {
    let path = request.uri().path();
    let last = path.rsplit('/').next().unwrap().to_owned();
    altinn.asked.lock().unwrap().push(last.clone());
    if last == ID {
        return axum::Json(altinn.overview.lock().unwrap().clone()).into_response();
    }
    altinn.answers.lock().unwrap().remove(0)
}

fn content() -> Vec<u8> {
    (0..BYTES).map(|number| u8::try_from(number % 251).unwrap()).collect()
}

/// The beginning of the file, and then the line breaks.
fn cut_after(bytes: usize) -> Response {
    let blocks = [Ok(Bytes::from(content()[..bytes].to_vec())), Err(std::io::Error::other("cut"))];
    let headers = [("content-length", BYTES.to_string())];
    (headers, Body::from_stream(futures_util::stream::iter(blocks))).into_response()
}

fn problem(status: u16, code: &str) -> Response {
    let body = json!({ "status": status, "code": code, "detail": "in words" }).to_string();
    (StatusCode::from_u16(status).unwrap(), body).into_response()
}

struct Bench {
    altinn: Altinn,
    route: Arc<Route>,
    log: Arc<Mutex<Vec<u8>>>,
    inbox: tempfile::TempDir,
    _state: tempfile::TempDir,
    _server: Server,
}

impl Bench {
    /// An inbox, and a transfer for it that was published so long ago, with or without a checksum.
    async fn new(published: Duration, has_checksum: bool) -> Self {
        let mut digests = crate::files::Digests::default();
        digests.update(&content());
        let published = SystemClock.now().checked_sub(published).unwrap();
        let overview = json!({ "fileTransferId": ID, "resourceId": "agency", "fileName": "a.bin",
            "sendersFileTransferReference": "r", "fileTransferSize": BYTES, "fileTransferStatus": "Published",
            "checksum": has_checksum.then(|| digests.finish().0.to_string()), "published": published,
            "fileTransferStatusChanged": published, "created": published,
            "expirationTime": later(published, Duration::from_hours(24)), "sender": "0192:991825827",
            "recipients": [{ "recipient": "0192:910753614",
                "currentRecipientFileTransferStatusCode": "Initialized" }] });
        let altinn = Altinn {
            overview: Arc::new(Mutex::new(overview)),
            answers: Arc::default(),
            asked: Arc::default(),
            keeps_tokens: Arc::default(),
        };
        let router = Router::new()
            .route("/token", post(grant))
            .route("/authentication/api/v1/exchange/maskinporten", get(async || "token"))
            .fallback(any(answer))
            .with_state(altinn.clone());
        let server = Server::start(router).await;
        let (inbox, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let means = means(&server, state.path());
        let identity = config::Identity {
            name: "default".parse().unwrap(),
            organization: "910753614".parse().unwrap(),
            client: "default".parse().unwrap(),
            system_user: false,
            system_user_reference: None,
        };
        let inbox_of = Inbox::open(settings(inbox.path()), identity, config::Hooks::default(), means);
        Self { altinn, route: inbox_of.route, log: Arc::default(), inbox, _state: state, _server: server }
    }

    /// The transfer as it is taken on.
    async fn heard(&self) -> Transfer {
        let id = ID.parse().unwrap();
        let overview = self.route.means.broker.overview(id, Role::Recipient).await.unwrap();
        let offer = hear::offer(&overview, self.route.identity.organization, &[]).unwrap();
        let progress = Incoming::Discovered { offer: Box::new(offer) };
        let id = self.route.means.store.new_id();
        let transfer =
            Transfer::incoming(id, self.route.settings.name.clone(), progress, self.route.means.now());
        self.route.means.store.insert(transfer.clone()).await.unwrap();
        transfer
    }

    fn will_answer(&self, answers: impl IntoIterator<Item = Response>) {
        self.altinn.answers.lock().unwrap().extend(answers);
    }

    fn set(&self, member: &str, value: Value) {
        self.altinn.overview.lock().unwrap()[member] = value;
    }

    /// Takes steps until one does not lead to the next.
    async fn drive(&self, transfer: &mut Transfer) -> Result<(), Trouble> {
        let log = Arc::clone(&self.log);
        let writer = move || Log(Arc::clone(&log));
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(writer).finish();
        let driver = Driver(Arc::clone(&self.route));
        let drive = async {
            while driver.step(transfer).await? == Next::Step {}
            Ok(())
        };
        drive.with_subscriber(subscriber).await
    }

    fn log(&self) -> String {
        String::from_utf8(self.log.lock().unwrap().clone()).unwrap()
    }

    /// How often that was asked for.
    fn asked(&self, what: &str) -> usize {
        self.altinn.asked.lock().unwrap().iter().filter(|asked| *asked == what).count()
    }

    fn metadata(&self) -> Value {
        let metadata = std::fs::read(self.inbox.path().join("a.bin.meta.json")).unwrap();
        serde_json::from_slice(&metadata).unwrap()
    }
}

struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn settings(path: &std::path::Path) -> config::Inbox {
    config::Inbox {
        name: "in".parse().unwrap(),
        path: path.to_owned(),
        identity: "default".parse().unwrap(),
        resource_id: "agency".parse().unwrap(),
        poll_interval: Duration::from_mins(1),
        layout: Layout::Flat,
        write_metadata: true,
        confirm: Confirm::Automatic,
        senders: Vec::new(),
        min_free_space: MinFreeSpace::Bytes(1),
        on_received: None,
        on_received_timeout: Duration::from_mins(1),
        file_mode: 0o640,
        group: None,
        max_concurrent: 4,
        max_file_size: None,
        max_waiting: None,
    }
}

fn means(server: &Server, state: &std::path::Path) -> Means {
    let random = Arc::new(SeededRandom::new(7));
    let wait = Duration::from_millis(1);
    let backoff = Backoff::new(wait, wait, Arc::<SeededRandom>::clone(&random)).unwrap();
    let clock: Arc<SystemClock> = Arc::default();
    let skew = Arc::new(Skew::new());
    let clients = Clients::new(&Settings::default()).unwrap();
    let parameters = Parameters {
        name: "default".parse().unwrap(),
        organization: "910753614".parse().unwrap(),
        client_id: "f5a1".into(),
        key: SigningKey::parse(generate_key().unwrap().expose()).unwrap(),
        naming: KeyNaming::KeyId("k".into()),
        system_user: false,
        system_user_reference: None,
        token_url: server.url.join("token").unwrap(),
        audience: "https://test.maskinporten.no/".into(),
        platform_url: server.url.clone(),
        subscription_key: None,
        slow_probe: SLOW_PROBE,
    };
    let platform = Arc::new(Breaker::new("platform", wait, Arc::new(SeededRandom::new(2))));
    let identity = identity::Means {
        clients: clients.clone(),
        clock: Arc::<SystemClock>::clone(&clock),
        skew: Arc::clone(&skew),
        backoff: backoff.clone(),
        issuer: Arc::new(Breaker::new("issuer", wait, Arc::new(SeededRandom::new(2)))),
        platform: Arc::clone(&platform),
    };
    let broker = Client::new(Parts {
        platform_url: server.url.clone(),
        clients,
        identity: Arc::new(Identity::new(parameters, identity).unwrap()),
        budget: Arc::new(Budget::new(Limits::default())),
        breaker: platform,
        subscription_key: None,
        clock: Arc::<SystemClock>::clone(&clock),
    });
    let retry = config::Retry {
        initial: wait,
        max: wait,
        give_up_after: Duration::from_hours(1),
        cut_upload_wait: wait,
        settle_initialize: wait,
        wedged_after: wait,
        probe_every: wait,
    };
    let store = Store::open(state, Arc::<SystemClock>::clone(&clock), random).unwrap().store;
    let slots = Arc::new(Semaphore::new(4));
    Means { store, broker, clock, skew, backoff, retry, slots, room: Arc::default() }
}

/// The private folder of a transfer.
fn own(bench: &Bench, transfer: &Transfer) -> std::path::PathBuf {
    bench.inbox.path().join(".formidlingd/incoming").join(transfer.id.to_string())
}
