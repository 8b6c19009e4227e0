//! What the tests of this room share: a small Altinn, and clients of it.

mod calls;
mod reading;
mod table;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use bytes::Bytes;
use futures_util::stream;
use serde_json::json;

use super::{Client, Initialize, Parts};
use crate::http::Secret;
use crate::http::testing::{Server, clients};
use crate::identity::{Identity, KeyNaming, Means, Parameters, SLOW_PROBE, SigningKey, Skew, generate_key};
use crate::pace::{Backoff, Breaker, Budget, Limits};
use crate::seams::{SeededRandom, SystemClock};
use crate::transfer::BrokerTransferId;

static KEY: LazyLock<SigningKey> =
    LazyLock::new(|| SigningKey::parse(generate_key().unwrap().expose()).unwrap());

const ID: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";

fn id() -> BrokerTransferId {
    ID.parse().unwrap()
}

fn overview_json() -> serde_json::Value {
    json!({ "fileTransferId": ID, "resourceId": "agency-reports", "fileName": "../a.zip",
        "sendersFileTransferReference": "case-77", "checksum": "9e107d9d372bb6826bd81d3542a419d6",
        "useVirusScan": true, "fileTransferSize": 1_048_576, "fileTransferStatus": "Published",
        "fileTransferStatusText": "Ready for download",
        "fileTransferStatusChanged": "2026-08-18T11:40:51.123456+00:00",
        "created": "2026-08-18T11:40:01.5+00:00", "expirationTime": "2026-09-17T11:40:01.5+00:00",
        "sender": "0192:991825827",
        "recipients": [{ "recipient": "0192:910753614",
            "currentRecipientFileTransferStatusCode": "DownloadStarted",
            "currentRecipientFileTransferStatusText": "x",
            "currentRecipientFileTransferStatusChanged": "2026-08-18T11:40:01.6+00:00" }],
        "propertyList": { "Key": "v" }, "published": "2026-08-18T11:40:51.123456+00:00", "new": [1] })
}

/// Altinn: an issuer of tokens, and whatever a test answers with.
#[derive(Clone, Default)]
struct Altinn {
    tokens: Arc<AtomicUsize>,
    seen: Arc<Mutex<Vec<Request<()>>>>,
    bodies: Arc<Mutex<Vec<Bytes>>>,
    /// The next answers, last first; then 200.
    answers: Arc<Mutex<Vec<Response>>>,
}

impl Altinn {
    fn answering(answers: impl IntoIterator<Item = Response>) -> Self {
        let mut answers: Vec<Response> = answers.into_iter().collect();
        answers.reverse();
        Self { answers: Arc::new(Mutex::new(answers)), ..Self::default() }
    }

    fn seen(&self) -> Vec<(Method, String, String)> {
        let header = |request: &Request<()>, name: header::HeaderName| {
            request.headers().get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
        };
        let seen = self.seen.lock().unwrap();
        let lines = seen.iter().map(|request| {
            let line = (request.method().clone(), request.uri().to_string());
            (line.0, line.1, header(request, header::AUTHORIZATION))
        });
        lines.collect()
    }

    async fn serve(&self) -> Server {
        let exchanged = Arc::clone(&self.tokens);
        let router = Router::new()
            .route("/token", post(async || axum::Json(json!({ "access_token": "raw" }))))
            .route(
                "/authentication/api/v1/exchange/maskinporten",
                get(async move || format!("token-{}", exchanged.fetch_add(1, Ordering::SeqCst))),
            )
            .fallback(any(answer))
            .with_state(self.clone());
        Server::start(router).await
    }
}

async fn answer(State(altinn): State<Altinn>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let is_upload = head.uri.path().ends_with("/upload");
    altinn.seen.lock().unwrap().push(Request::from_parts(head, ()));
    let next = altinn.answers.lock().unwrap().pop();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
    altinn.bodies.lock().unwrap().push(body);
    next.unwrap_or_else(|| {
        if is_upload { axum::Json(json!({ "fileTransferId": ID })).into_response() } else { empty(200) }
    })
}

fn problem(status: u16, code: &str) -> Response {
    let body = json!({ "status": status, "code": code, "detail": "in words" }).to_string();
    (StatusCode::from_u16(status).unwrap(), body).into_response()
}

fn empty(status: u16) -> Response {
    StatusCode::from_u16(status).unwrap().into_response()
}

fn client(platform: &Server) -> Client {
    client_to(platform.url.clone(), platform)
}

fn client_to(platform_url: url::Url, issuer: &Server) -> Client {
    let random = Arc::new(SeededRandom::new(5));
    let backoff = Backoff::new(Duration::from_millis(20), Duration::from_millis(40), random).unwrap();
    let parameters = Parameters {
        name: "default".parse().unwrap(),
        organization: "991825827".parse().unwrap(),
        client_id: "f5a1".into(),
        key: KEY.clone(),
        naming: KeyNaming::KeyId("k".into()),
        system_user: false,
        system_user_reference: None,
        token_url: issuer.url.join("token").unwrap(),
        audience: "https://test.maskinporten.no/".into(),
        platform_url: issuer.url.clone(),
        subscription_key: None,
        slow_probe: SLOW_PROBE,
    };
    let clients = clients();
    let skew = Arc::new(Skew::new());
    let breaker = |host| {
        let random = Arc::new(SeededRandom::new(6));
        Arc::new(Breaker::new(host, Duration::from_millis(40), random))
    };
    let platform = breaker("platform");
    let means = Means {
        clients: clients.clone(),
        clock: Arc::new(SystemClock),
        skew,
        backoff,
        issuer: breaker("issuer"),
        platform: Arc::clone(&platform),
    };
    Client::new(Parts {
        platform_url,
        clients,
        identity: Arc::new(Identity::new(parameters, means).unwrap()),
        budget: Arc::new(Budget::new(Limits::default())),
        breaker: platform,
        subscription_key: Some(Secret::new("the-key")),
        clock: Arc::new(SystemClock),
    })
}

fn initialize() -> Initialize {
    Initialize {
        file_name: "a.zip".parse().unwrap(),
        resource_id: "agency".parse().unwrap(),
        reference: "case-77".parse().unwrap(),
        sender: "991825827".parse().unwrap(),
        recipients: vec!["910753614".parse().unwrap()],
        properties: BTreeMap::from([("Key".into(), "v".into())]),
        checksum: "9e107d9d372bb6826bd81d3542a419d6".parse().unwrap(),
        disable_virus_scan: false,
    }
}

fn block(text: &'static str) -> impl stream::Stream<Item = std::io::Result<Bytes>> + Send {
    stream::iter([Ok(Bytes::from_static(text.as_bytes()))])
}
