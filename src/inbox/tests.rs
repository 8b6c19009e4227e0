//! The steps of an inbox against a small Altinn that says what a test wants it to say: what is deleted under way,
//! what is deleted after it was delivered, and checksums that never come.

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

#[tokio::test]
async fn a_file_that_is_deleted_under_way_has_expired_and_leaves_nothing() {
    let bench = Bench::new(Duration::from_hours(1), true).await;
    let mut transfer = bench.heard().await;
    bench.will_answer([cut_after(300_000), problem(403, "BRO-00007")]);
    bench.set("fileTransferStatus", json!("Purged"));
    bench.drive(&mut transfer).await.unwrap();
    assert_eq!(transfer.state_name(), "expired");
    assert_eq!(bench.asked("download"), 2);
    let incoming = bench.inbox.path().join(".formidlingd/incoming");
    assert_eq!(std::fs::read_dir(incoming).unwrap().count(), 0, "the beginning of the file is removed");
    assert_eq!(std::fs::read_dir(bench.inbox.path()).unwrap().count(), 1, "nothing was delivered");
    assert!(bench.log().contains("ERROR"), "{}", bench.log());
    let journal = bench.route.means.store.journal_find(transfer.id).await.unwrap();
    assert_eq!(journal.unwrap().state_name(), "expired");
}

#[tokio::test]
async fn a_file_that_is_refused_for_a_moment_has_not_expired() {
    let bench = Bench::new(Duration::from_hours(1), true).await;
    let mut transfer = bench.heard().await;
    bench.will_answer([cut_after(300_000), problem(403, "BRO-00007")]);
    let trouble = bench.drive(&mut transfer).await.unwrap_err();
    assert_eq!(trouble.kind, Kind::Temporary(None), "Altinn says that it is published");
    bench.will_answer([Bytes::from(content()).into_response(), StatusCode::NO_CONTENT.into_response()]);
    bench.drive(&mut transfer).await.unwrap();
    assert_eq!(transfer.state_name(), "confirmed");
    assert_eq!(std::fs::read(bench.inbox.path().join("a.bin")).unwrap(), content());
}

#[tokio::test]
async fn a_delivered_file_that_cannot_be_confirmed_any_more_stays_delivered() {
    for purged in ["Purged", "Failed"] {
        let bench = Bench::new(Duration::from_hours(1), true).await;
        let mut transfer = bench.heard().await;
        bench.will_answer([Bytes::from(content()).into_response(), problem(400, "BRO-00010")]);
        bench.set("fileTransferStatus", json!(purged));
        bench.drive(&mut transfer).await.unwrap();
        assert_eq!(transfer.state_name(), "delivered");
        let Work::Incoming { progress: Incoming::Delivered { confirmation, .. }, .. } = &transfer.work else {
            panic!("{transfer:?}");
        };
        assert_eq!(*confirmation, Confirmation::TooLate);
        assert_eq!(transfer.problem.as_ref().unwrap().code, "confirm_too_late");
        assert!(bench.log().contains("confirm_too_late"), "{}", bench.log());
        assert_eq!(std::fs::read(bench.inbox.path().join("a.bin")).unwrap(), content());
        let journal = bench.route.means.store.journal_find(transfer.id).await.unwrap();
        assert_eq!(journal, Some(transfer));
    }
}

#[tokio::test]
async fn a_confirmation_that_was_taken_and_not_heard_of_is_found_in_the_overview() {
    let bench = Bench::new(Duration::from_hours(1), true).await;
    let mut transfer = bench.heard().await;
    bench.will_answer([Bytes::from(content()).into_response(), problem(400, "BRO-00010")]);
    bench.set(
        "recipients",
        json!([{ "recipient": "0192:910753614",
            "currentRecipientFileTransferStatusCode": "DownloadConfirmed" }]),
    );
    bench.set("fileTransferStatus", json!("Purged"));
    bench.drive(&mut transfer).await.unwrap();
    assert_eq!((transfer.state_name(), &transfer.problem), ("confirmed", &None));
}

#[tokio::test]
async fn a_checksum_that_altinn_has_yet_to_compute_is_waited_for() {
    let bench = Bench::new(Duration::from_mins(29), false).await;
    let mut transfer = bench.heard().await;
    for _ in 0..3 {
        let trouble = bench.drive(&mut transfer).await.unwrap_err();
        assert_eq!(trouble.failure.code, "checksum_pending");
    }
    assert_eq!((bench.asked(ID), bench.asked("download")), (4, 0), "asked again, and not fetched");
    let mut digests = crate::files::Digests::default();
    digests.update(&content());
    bench.set("checksum", json!(digests.finish().0.to_string()));
    bench.will_answer([Bytes::from(content()).into_response(), StatusCode::NO_CONTENT.into_response()]);
    bench.drive(&mut transfer).await.unwrap();
    assert_eq!((transfer.state_name(), &bench.metadata()["checksumVerified"]), ("confirmed", &json!(true)));
}

#[tokio::test]
async fn a_file_without_a_checksum_is_delivered_on_its_size_after_half_an_hour() {
    let bench = Bench::new(Duration::from_mins(31), false).await;
    let mut transfer = bench.heard().await;
    // One byte too few is not the file, whatever its checksum.
    bench.will_answer([cut_after(BYTES - 1), problem(500, "BRO-00099")]);
    for _ in 0..6 {
        bench.will_answer([problem(500, "BRO-00099")]);
    }
    bench.drive(&mut transfer).await.unwrap_err();
    assert!(!bench.inbox.path().join("a.bin").exists());
    bench.altinn.answers.lock().unwrap().clear();
    bench.will_answer([Bytes::from(content()).into_response(), StatusCode::NO_CONTENT.into_response()]);
    bench.drive(&mut transfer).await.unwrap();
    let metadata = bench.metadata();
    assert_eq!((transfer.state_name(), &metadata["checksumVerified"]), ("confirmed", &json!(false)));
    assert_eq!(metadata["fileTransferSize"], BYTES);
    assert!(bench.log().contains("only its size is verified"), "{}", bench.log());
    let published: Timestamp = metadata["published"].as_str().unwrap().parse().unwrap();
    assert!(published < SystemClock.now());
}

#[tokio::test]
async fn a_name_that_was_chosen_before_this_start_is_kept_for_its_transfer() {
    let bench = Bench::new(Duration::from_hours(1), true).await;
    let transfer = bench.heard().await;
    let route = &bench.route;
    let (md5, sha256) = crate::files::Digests::default().finish();
    let now = route.means.now();
    let received = Received { md5, sha256, size: 0, received: now, checksum_verified: true };
    let place = InboxPlace { folder: None, name: "a.bin".parse().unwrap(), metadata: true };
    let mut intended = transfer.clone();
    let events = [
        IncomingEvent::DownloadBegun,
        IncomingEvent::DownloadVerified(received),
        IncomingEvent::DeliveryIntended(place),
    ];
    route.means.store_events(&mut intended, events, Transfer::after_incoming).await.unwrap();
    assert_eq!(route.names.reserved(), 0, "as after a start");
    super::recover::recover(route).await.unwrap();
    let Work::Incoming { progress, .. } = &transfer.work else { panic!("{transfer:?}") };
    let offer = Offer { file_name: "A.BIN".to_owned(), ..progress.offer().clone() };
    let other = route.means.store.new_id();
    let chosen = route.choose_place(other, &offer).await.unwrap();
    assert_eq!(chosen.name.as_str(), format!("A~{}.BIN", other.short()));
    let again = route.choose_place(transfer.id, progress.offer()).await.unwrap();
    assert_eq!(again.name.as_str(), "a.bin");
}

#[tokio::test]
async fn files_that_are_too_large_do_not_keep_others_from_being_heard_of() {
    for max_file_size in [Some(1), None] {
        let mut bench = Bench::new(Duration::from_hours(1), true).await;
        Arc::get_mut(&mut bench.route).unwrap().settings.max_file_size = max_file_size;
        let min_free_space = if max_file_size.is_none() { u64::MAX } else { 1 };
        Arc::get_mut(&mut bench.route).unwrap().settings.min_free_space = MinFreeSpace::Bytes(min_free_space);
        let mut transfer = bench.heard().await;
        bench.route.note(&transfer);
        assert_eq!(bench.route.backlog.counted(), 1);
        let trouble = bench.drive(&mut transfer).await.unwrap_err();
        if trouble.kind == Kind::Slow {
            Driver(Arc::clone(&bench.route)).waits_for_people(&transfer);
        }
        assert_eq!(bench.route.backlog.counted(), 0, "{}", trouble.failure.code);
        bench.route.note(&transfer);
        assert_eq!(bench.route.backlog.counted(), 1, "something has happened to it");
    }
}

/// The private folder of a transfer.
fn own(bench: &Bench, transfer: &Transfer) -> std::path::PathBuf {
    bench.inbox.path().join(".formidlingd/incoming").join(transfer.id.to_string())
}

#[tokio::test]
async fn a_record_that_is_older_than_its_delivery_goes_on_from_its_marker() {
    for deleted in [false, true] {
        let bench = Bench::new(Duration::from_hours(1), true).await;
        let mut transfer = bench.heard().await;
        let begun = transfer.clone().after_incoming(IncomingEvent::DownloadBegun, transfer.created).unwrap();
        bench.will_answer([Bytes::from(content()).into_response(), StatusCode::NO_CONTENT.into_response()]);
        bench.drive(&mut transfer).await.unwrap();
        assert_eq!(transfer.state_name(), "confirmed");
        // An importer has taken it, and an export from before that is taken in.
        for name in ["a.bin", "a.bin.meta.json"] {
            std::fs::remove_file(bench.inbox.path().join(name)).unwrap();
        }
        bench.will_answer([problem(400, "BRO-00010")]);
        if deleted {
            bench.set("fileTransferStatus", json!("Purged"));
        }
        bench.set(
            "recipients",
            json!([{ "recipient": "0192:910753614",
                "currentRecipientFileTransferStatusCode": "DownloadConfirmed" }]),
        );
        let mut older = begun;
        older.id = bench.route.means.store.new_id();
        bench.route.means.store.insert(older.clone()).await.unwrap();
        super::recover::recover(&bench.route).await.unwrap();
        let driven = tokio::time::timeout(Duration::from_secs(30), bench.drive(&mut older)).await;
        driven.expect("it was fetched again, and there is nothing to fetch").unwrap();
        assert_eq!(older.state_name(), "confirmed", "{}", bench.log());
        assert_eq!(bench.asked("download"), 1, "it was not fetched again");
        assert!(!bench.inbox.path().join("a.bin").exists(), "and not delivered again");
    }
}

#[tokio::test]
async fn a_file_that_vanishes_before_it_is_laid_down_is_fetched_again_and_not_confirmed() {
    for layout in [Layout::Flat, Layout::BySender, Layout::ByTransfer] {
        for (with_metadata, is_tried_before) in [(true, false), (false, false), (true, true)] {
            let mut bench = Bench::new(Duration::from_hours(1), true).await;
            {
                let settings = &mut Arc::get_mut(&mut bench.route).unwrap().settings;
                (settings.layout, settings.write_metadata) = (layout, with_metadata);
            }
            let mut transfer = bench.heard().await;
            bench.will_answer([Bytes::from(content()).into_response()]);
            let driver = Driver(Arc::clone(&bench.route));
            while transfer.phase() != "delivering" {
                driver.step(&mut transfer).await.unwrap();
            }
            let file = own(&bench, &transfer).join("file");
            if is_tried_before {
                // The move is refused, and will be for as long as somebody pleases.
                let Work::Incoming { progress: Incoming::Delivering { offer, received, place }, .. } =
                    &transfer.work
                else {
                    panic!("{transfer:?}")
                };
                let (id, marker) = (transfer.id, deliver::marker(transfer.id, offer, received, place));
                let moved = bench.route.on_files(move |folders| {
                    let refused = || {
                        let refused =
                            std::io::Error::from_raw_os_error(rustix::io::Errno::ACCESS.raw_os_error());
                        Err(Error::new("move", "file", refused))
                    };
                    deliver::move_marked(folders, &folders.own(id)?, "file", &marker, refused)
                });
                assert_eq!(moved.await.unwrap_err().failure.code, "folder_not_accessible");
            }
            std::fs::remove_file(&file).unwrap();
            let trouble = bench.drive(&mut transfer).await.unwrap_err();
            assert_eq!((trouble.failure.code.as_str(), transfer.phase()), ("file_vanished", "discovered"));
            assert!(bench.log().contains("ERROR") && bench.asked("confirmdownload") == 0, "{}", bench.log());
            bench.will_answer([
                Bytes::from(content()).into_response(),
                StatusCode::NO_CONTENT.into_response(),
            ]);
            bench.drive(&mut transfer).await.unwrap();
            assert_eq!(transfer.state_name(), "confirmed");
            let folder = match layout {
                Layout::Flat => bench.inbox.path().to_owned(),
                Layout::BySender => bench.inbox.path().join("991825827"),
                Layout::ByTransfer => bench.inbox.path().join(ID),
            };
            assert_eq!(std::fs::read(folder.join("a.bin")).unwrap(), content());
            let others = std::fs::read_dir(&folder).unwrap().flatten();
            let others = others.filter(|entry| entry.file_name() != ".formidlingd").count();
            assert_eq!(others, 1 + usize::from(with_metadata), "no other metadata stays");
        }
    }
}

#[tokio::test]
async fn a_folder_that_vanishes_with_its_file_is_fetched_again_and_not_confirmed() {
    for layout in [Layout::Flat, Layout::ByTransfer] {
        let mut bench = Bench::new(Duration::from_hours(1), true).await;
        Arc::get_mut(&mut bench.route).unwrap().settings.layout = layout;
        let mut transfer = bench.heard().await;
        bench.will_answer([Bytes::from(content()).into_response()]);
        let driver = Driver(Arc::clone(&bench.route));
        while transfer.phase() != "delivering" {
            driver.step(&mut transfer).await.unwrap();
        }
        std::fs::remove_dir_all(own(&bench, &transfer)).unwrap();
        let trouble = bench.drive(&mut transfer).await.unwrap_err();
        assert_eq!((trouble.failure.code.as_str(), transfer.phase()), ("file_vanished", "discovered"));
        assert!(bench.log().contains("ERROR") && bench.asked("confirmdownload") == 0, "{}", bench.log());
        bench.will_answer([Bytes::from(content()).into_response(), StatusCode::NO_CONTENT.into_response()]);
        bench.drive(&mut transfer).await.unwrap();
        assert_eq!(transfer.state_name(), "confirmed");
        let folder = bench.inbox.path().join(if layout == Layout::Flat { "" } else { ID });
        assert_eq!(std::fs::read(folder.join("a.bin")).unwrap(), content());
    }
}

#[tokio::test]
async fn while_the_services_own_folder_is_put_away_nothing_counts_as_removed_or_delivered() {
    for what in ["", "incoming", "delivered"] {
        let bench = Bench::new(Duration::from_hours(1), true).await;
        let mut transfer = bench.heard().await;
        bench.will_answer([Bytes::from(content()).into_response()]);
        let driver = Driver(Arc::clone(&bench.route));
        while transfer.phase() != "delivering" {
            driver.step(&mut transfer).await.unwrap();
        }
        // As a death between the move and the store leaves it; and then somebody cleans up.
        let private = bench.inbox.path().join(".formidlingd");
        std::fs::rename(own(&bench, &transfer).join("file"), bench.inbox.path().join("a.bin")).unwrap();
        std::fs::remove_dir(own(&bench, &transfer)).unwrap();
        let away = bench.inbox.path().join("away");
        std::fs::rename(private.join(what), &away).unwrap();
        let trouble = bench.drive(&mut transfer).await.unwrap_err();
        assert_eq!(
            (trouble.failure.code.as_str(), transfer.phase()),
            ("folder_not_recognised", "delivering")
        );
        assert!(bench.log().contains("ERROR") && bench.log().contains(ID), "{}", bench.log());
        assert_eq!((bench.asked("download"), bench.asked("confirmdownload")), (1, 0));
    }
}

/// Lets the inbox ask what waits, until it has asked so often.
async fn hear(bench: &Bench, searches: usize) {
    let stop = tokio_util::sync::CancellationToken::new();
    let asked = async {
        while bench.asked("filetransfer") < searches {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // It has the answer, and waits for the next time.
        tokio::time::sleep(Duration::from_millis(50)).await;
        stop.cancel();
    };
    let (heard, ()) = tokio::join!(hear::run(Arc::clone(&bench.route), stop.clone()), asked);
    heard.unwrap();
}

#[tokio::test]
async fn an_inbox_that_may_ask_and_not_fetch_stays_held_until_it_may() {
    let bench = Bench::new(Duration::from_hours(1), true).await;
    let mut transfer = bench.heard().await;
    bench.will_answer([problem(403, "BRO-00006")]);
    let trouble = bench.drive(&mut transfer).await.unwrap_err();
    assert_eq!(trouble.kind, Kind::Route, "{trouble}");
    for _ in 0..2 {
        bench.route.hold.failed(transfer.id, &trouble.failure, bench.route.means.now());
    }
    assert!(bench.route.hold.is_held());
    bench.will_answer([axum::Json(json!([])).into_response(), axum::Json(json!([])).into_response()]);
    hear(&bench, 2).await;
    assert!(bench.route.hold.is_held(), "that it may ask says nothing of fetching");
    bench.will_answer([Bytes::from(content()).into_response(), StatusCode::NO_CONTENT.into_response()]);
    tokio::time::sleep(Duration::from_millis(5)).await;
    bench.drive(&mut transfer).await.unwrap();
    assert!(!bench.route.hold.is_held());
}

#[tokio::test]
async fn who_waits_for_a_token_keeps_no_slot() {
    let bench = Bench::new(Duration::from_hours(1), true).await;
    let mut transfer = bench.heard().await;
    let identity = bench.route.means.broker.identity();
    let token = identity.token(crate::identity::Scope::BrokerRead).await.unwrap();
    identity.refuse(crate::identity::Scope::BrokerRead, &token);
    bench.altinn.keeps_tokens.store(true, Ordering::Release);
    let asked = bench.asked("token");
    bench.will_answer([Bytes::from(content()).into_response(), StatusCode::NO_CONTENT.into_response()]);
    let look = async {
        while bench.asked("token") == asked {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let free = bench.route.means.slots.available_permits();
        bench.altinn.keeps_tokens.store(false, Ordering::Release);
        free
    };
    let (driven, free) = tokio::join!(bench.drive(&mut transfer), look);
    driven.unwrap();
    assert_eq!((free, transfer.state_name()), (4, "confirmed"));
}

#[tokio::test]
async fn evidence_that_a_death_left_behind_blocks_nothing() {
    let bench = Bench::new(Duration::from_hours(1), true).await;
    let mut transfer = bench.heard().await;
    let own = own(&bench, &transfer);
    std::fs::create_dir(&own).unwrap();
    for name in ["evidence.json", "durable.json"] {
        std::fs::write(own.join(name), "{}").unwrap();
    }
    std::fs::create_dir(own.join("whole")).unwrap();
    bench.will_answer([Bytes::from(content()).into_response(), StatusCode::NO_CONTENT.into_response()]);
    bench.drive(&mut transfer).await.unwrap();
    assert_eq!(transfer.state_name(), "confirmed");
    assert!(!own.exists());
}

#[tokio::test]
async fn markers_that_are_damaged_cost_nothing_that_is_not_delivered() {
    let long = vec![b'['; 2 * 1024 * 1024];
    let garbage: [&[u8]; 6] = [b"", b"{", b"null", b"{\"transferId\":\"x\"}", b"\xff\xfe\x00", &long];
    for garbage in garbage {
        let bench = Bench::new(Duration::from_hours(1), true).await;
        let markers = bench.inbox.path().join(".formidlingd/delivered");
        for name in [ID, "nonsense", "6f0fad5b-d9cb-469f-a165-70867728950e"] {
            std::fs::write(markers.join(name), garbage).unwrap();
        }
        let mut transfer = bench.heard().await;
        super::recover::recover(&bench.route).await.unwrap();
        drop(bench.route.on_files(|folders| folders.prune_markers(Timestamp::MAX)).await);
        bench.will_answer([Bytes::from(content()).into_response(), StatusCode::NO_CONTENT.into_response()]);
        bench.drive(&mut transfer).await.unwrap();
        assert_eq!(transfer.state_name(), "confirmed");
        assert_eq!(std::fs::read(bench.inbox.path().join("a.bin")).unwrap(), content());
        let id = ID.parse().unwrap();
        let marker = bench.route.on_files(move |folders| folders.marker(id)).await.unwrap();
        assert_eq!(marker.unwrap().transfer_id, transfer.id, "it is written anew");
    }
}

#[tokio::test]
async fn a_marker_that_is_damaged_after_the_file_was_laid_down_still_speaks_for_it() {
    let bench = Bench::new(Duration::from_hours(1), true).await;
    let mut transfer = bench.heard().await;
    bench.will_answer([Bytes::from(content()).into_response()]);
    let driver = Driver(Arc::clone(&bench.route));
    while transfer.phase() != "delivering" {
        driver.step(&mut transfer).await.unwrap();
    }
    // As a death between the move and the store leaves it; and then the disk has its day.
    std::fs::rename(own(&bench, &transfer).join("file"), bench.inbox.path().join("a.bin")).unwrap();
    std::fs::write(bench.inbox.path().join(".formidlingd/delivered").join(ID), "{").unwrap();
    bench.will_answer([StatusCode::NO_CONTENT.into_response()]);
    bench.drive(&mut transfer).await.unwrap();
    assert_eq!((transfer.state_name(), bench.asked("download")), ("confirmed", 1));
}
