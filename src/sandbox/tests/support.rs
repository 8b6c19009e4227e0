//! A sandbox with a clock that stands still, and what a test needs to talk to it.

use std::fs;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jiff::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::sandbox::{Founded, ManualClock, Options, Role, Sandbox, Transfer};

pub(super) const SENDER: &str = "0192:991825827";
pub(super) const RECIPIENT: &str = "0192:910753614";
pub(super) const THIRD: &str = "0192:313579246";
pub(super) const OWNER: &str = "0192:314455665";
pub(super) const RESOURCE: &str = "sandbox-files";
pub(super) const BASE: &str = "/broker/api/v1/filetransfer";
pub(super) const NOBODY: &str = "00000000-0000-0000-0000-000000000000";
pub(super) const MD5_OF_NOTHING: &str = "d41d8cd98f00b204e9800998ecf8427e";
pub(super) const HELLO_MD5: &str = "5d41402abc4b2a76b9719d911017c592";
/// How long a test waits for a condition before it fails.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// The keys, made once for all tests of the process: generating them is the slow part.
fn keys() -> &'static [(&'static str, Vec<u8>)] {
    static KEYS: OnceLock<Vec<(&str, Vec<u8>)>> = OnceLock::new();
    KEYS.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        ["maskinporten-signing", "altinn-signing", "avsender", "mottaker", "tjenesteeier", "leverandor"]
            .map(|name| {
                let path = dir.path().join(name);
                crate::sandbox::keys::Key::load_or_generate(&path, name).unwrap();
                (name, fs::read(path).unwrap())
            })
            .into()
    })
}

/// Lays the keys where a sandbox looks for them.
pub(super) fn lay_keys(dir: &Path) {
    fs::create_dir_all(dir.join("keys")).unwrap();
    for (name, pem) in keys() {
        fs::write(dir.join("keys").join(format!("{name}.pem")), pem).unwrap();
    }
}

/// A running sandbox under test.
pub(super) struct Bench {
    pub(super) sandbox: Sandbox,
    pub(super) clock: Arc<ManualClock>,
    pub(super) http: reqwest::Client,
    // Last, so that it outlives the sandbox.
    pub(super) dir: Option<tempfile::TempDir>,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: reqwest::header::HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Reply {
    pub(super) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The number of a `BRO-` code.
    #[track_caller]
    pub(super) fn is_fault(&self, status: u16, number: u16) {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(self.json()["code"], format!("BRO-{number:05}"), "{}", self.text());
    }

    /// A validation error of one member, without a code.
    #[track_caller]
    pub(super) fn is_invalid(&self, member: &str, message: &str) {
        assert_eq!(self.status, 400, "{}", self.text());
        let body = self.json();
        assert!(body.get("code").is_none(), "{body}");
        let messages = body["errors"][member].as_array().unwrap_or_else(|| panic!("no {member} in {body}"));
        assert!(messages.iter().any(|text| text.as_str().unwrap().starts_with(message)), "{body}");
    }

    #[track_caller]
    pub(super) fn status_is(&self, status: u16) {
        assert_eq!(self.status, status, "{}", self.text());
    }

    #[track_caller]
    pub(super) fn is_bare(&self, status: u16) {
        assert_eq!((self.status, self.text().as_str()), (status, ""));
    }
}

pub(super) async fn send(request: RequestBuilder) -> Reply {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let headers = response.headers().clone();
    Reply { status, headers, body: response.bytes().await.unwrap().to_vec() }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the sandbox shares no code with the client, not even in its tests"
)]
pub(super) fn http() -> reqwest::Client {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    reqwest::Client::builder().no_proxy().build().unwrap()
}

impl Bench {
    pub(super) async fn start() -> Bench {
        Self::with(|_| {}).await
    }

    pub(super) async fn with(change: impl FnOnce(&mut Options)) -> Bench {
        let dir = tempfile::tempdir().unwrap();
        lay_keys(dir.path());
        let start: Timestamp = "2026-08-18T11:40:01.5Z".parse().unwrap();
        let clock = Arc::new(ManualClock::new(start));
        Self::at(dir, clock, change).await
    }

    pub(super) async fn at(
        dir: tempfile::TempDir,
        clock: Arc<ManualClock>,
        change: impl FnOnce(&mut Options),
    ) -> Bench {
        let mut options = Options {
            listen: "127.0.0.1:0".parse().unwrap(),
            dir: Some(dir.path().to_owned()),
            clock: Arc::clone(&clock) as _,
            ..Options::default()
        };
        change(&mut options);
        let sandbox = Sandbox::start(options).await.unwrap();
        Bench { sandbox, clock, http: http(), dir: Some(dir) }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.sandbox.url())
    }

    pub(super) fn now(&self) -> i64 {
        crate::sandbox::Clock::now(&*self.clock).as_second()
    }

    // Tokens.

    pub(super) fn party(&self, role: Role) -> &Founded {
        self.sandbox.organizations().iter().find(|it| it.name == role.organization()).unwrap()
    }

    /// The claims of an Altinn token of an organisation, with both scopes.
    pub(super) fn claims(&self, organization: &str) -> Map<String, Value> {
        let claims = json!({
            "iss": self.sandbox.site.altinn_issuer(),
            "scope": "altinn:broker.write altinn:broker.read",
            "consumer": { "authority": "iso6523-actorid-upis", "ID": organization },
            "exp": self.now() + 1800,
        });
        claims.as_object().unwrap().clone()
    }

    pub(super) fn sign(&self, claims: &Map<String, Value>) -> String {
        self.sandbox.site.altinn.sign(claims).unwrap()
    }

    pub(super) fn token(&self, organization: &str) -> String {
        self.sign(&self.claims(organization))
    }

    pub(super) fn token_with_scope(&self, organization: &str, scope: &str) -> String {
        let mut claims = self.claims(organization);
        claims.insert("scope".to_owned(), scope.into());
        self.sign(&claims)
    }

    /// The claims of a correct grant.
    pub(super) fn grant_claims(&self, role: Role) -> Value {
        json!({
            "aud": self.url("/"),
            "iss": self.party(role).client_id,
            "iat": self.now(),
            "exp": self.now() + 100,
            "jti": Uuid::new_v4().to_string(),
            "scope": "altinn:broker.write altinn:broker.read",
        })
    }

    /// Signs a grant as a client does, with another library than the sandbox's own code.
    pub(super) fn grant(&self, role: Role, change: impl FnOnce(&mut Value)) -> String {
        let mut claims = self.grant_claims(role);
        change(&mut claims);
        let mut header = Header::new(Algorithm::RS256);
        header.kid = Some(self.party(role).key_id.clone());
        self.sign_grant(role, &header, &claims)
    }

    pub(super) fn sign_grant(&self, role: Role, header: &Header, claims: &Value) -> String {
        let pem = fs::read(&self.party(role).private_key).unwrap();
        jsonwebtoken::encode(header, claims, &EncodingKey::from_rsa_pem(&pem).unwrap()).unwrap()
    }

    pub(super) async fn post_grant(&self, assertion: &str) -> Reply {
        let form = [("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"), ("assertion", assertion)];
        send(self.http.post(self.url("/token")).form(&form)).await
    }

    /// A raw Maskinporten token.
    pub(super) async fn raw_token(&self, role: Role) -> String {
        let reply = self.post_grant(&self.grant(role, |_| {})).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.json()["access_token"].as_str().unwrap().to_owned()
    }

    // Requests.

    pub(super) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, self.url(path))
    }

    pub(super) fn get_as(&self, organization: &str, path: &str) -> RequestBuilder {
        self.request(Method::GET, &format!("{BASE}{path}")).bearer_auth(self.token(organization))
    }

    pub(super) fn post_as(&self, organization: &str, path: &str) -> RequestBuilder {
        self.request(Method::POST, &format!("{BASE}{path}")).bearer_auth(self.token(organization))
    }

    /// A correct body of initialize, without a virus scan.
    pub(super) fn metadata() -> Value {
        json!({
            "fileName": "a.txt", "resourceId": RESOURCE, "sendersFileTransferReference": "case-77",
            "sender": SENDER, "recipients": [RECIPIENT], "disableVirusScan": true,
        })
    }

    pub(super) async fn try_initialize(&self, change: impl FnOnce(&mut Value)) -> Reply {
        let mut body = Self::metadata();
        change(&mut body);
        send(self.post_as(SENDER, "").json(&body)).await
    }

    pub(super) async fn initialize(&self, change: impl FnOnce(&mut Value)) -> String {
        let reply = self.try_initialize(change).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.json()["fileTransferId"].as_str().unwrap().to_owned()
    }

    pub(super) async fn upload(&self, id: &str, content: impl Into<reqwest::Body>) -> Reply {
        let request = self.post_as(SENDER, &format!("/{id}/upload"));
        send(request.header("Content-Type", "application/octet-stream").body(content)).await
    }

    /// A transfer that is published at once.
    pub(super) async fn publish(&self, content: &str) -> String {
        self.publish_with(content, |_| {}).await
    }

    pub(super) async fn publish_with(&self, content: &str, change: impl FnOnce(&mut Value)) -> String {
        let id = self.initialize(change).await;
        assert_eq!(self.upload(&id, content.to_owned()).await.status, 200);
        id
    }

    pub(super) async fn overview(&self, id: &str) -> Value {
        let reply = send(self.get_as(SENDER, &format!("/{id}"))).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.json()
    }

    pub(super) async fn status(&self, id: &str) -> String {
        self.overview(id).await["fileTransferStatus"].as_str().unwrap().to_owned()
    }

    pub(super) async fn download(&self, organization: &str, id: &str, range: Option<&str>) -> Reply {
        let request = self.get_as(organization, &format!("/{id}/download"));
        send(range.into_iter().fold(request, |request, range| request.header("Range", range))).await
    }

    pub(super) async fn confirm(&self, organization: &str, id: &str) -> Reply {
        send(self.post_as(organization, &format!("/{id}/confirmdownload"))).await
    }

    /// The ids that a search finds.
    pub(super) async fn search(&self, organization: &str, query: &str) -> Vec<String> {
        let reply = send(self.get_as(organization, &format!("?resourceId={RESOURCE}{query}"))).await;
        assert_eq!(StatusCode::OK, reply.status, "{}", reply.text());
        serde_json::from_slice(&reply.body).unwrap()
    }

    // Looking inside.

    pub(super) fn transfer(&self, id: &str) -> Transfer {
        let id: Uuid = id.parse().unwrap();
        self.sandbox.transfers().into_iter().find(|transfer| transfer.id == id).unwrap()
    }

    /// Kind and nine digits of the events about a transfer.
    pub(super) fn events(&self, id: &str) -> Vec<(&'static str, String)> {
        let events = self.sandbox.events().into_iter().filter(|event| event.transfer.to_string() == id);
        events.map(|event| (event.kind, event.organization)).collect()
    }

    pub(super) fn count_events(&self, id: &str, kind: &str) -> usize {
        self.events(id).iter().filter(|(it, _)| *it == kind).count()
    }

    /// Waits until the transfer has the status.
    pub(super) async fn until(&self, id: &str, status: &str) {
        eventually(
            || self.transfer(id).status().name() == status,
            || format!("{status}, but {:?}", self.transfer(id)),
        )
        .await;
    }

    /// How many blobs lie on the disk.
    pub(super) fn blobs(&self) -> usize {
        fs::read_dir(self.sandbox.dir().join("blobs")).unwrap().count()
    }

    /// An organisation with both rights, which no key stands for.
    pub(super) fn permit_third(&self) {
        use crate::sandbox::Action;
        self.sandbox
            .world(|world| {
                for action in [Action::Read, Action::Write] {
                    world.permit(RESOURCE, "313579246", action);
                }
            })
            .unwrap();
    }

    pub(super) fn resource(&self, change: impl FnOnce(&mut crate::sandbox::Resource)) {
        self.sandbox.world(|world| change(world.resources.get_mut(RESOURCE).unwrap())).unwrap();
    }

    /// Stops, and starts another sandbox on the same directory.
    pub(super) async fn restart(self) -> Bench {
        self.restart_with(|_| {}).await
    }

    pub(super) async fn restart_with(self, change: impl FnOnce(&mut Options)) -> Bench {
        let Stopped { dir, clock } = self.stop().await;
        Self::at(dir, clock, change).await
    }

    /// Stops; the directory stays.
    pub(super) async fn stop(mut self) -> Stopped {
        let (dir, clock) = (self.dir.take().unwrap(), Arc::clone(&self.clock));
        drop(self.http);
        self.sandbox.stop().await;
        Stopped { dir, clock }
    }
}

/// What is left of a sandbox that was stopped.
pub(super) struct Stopped {
    dir: tempfile::TempDir,
    clock: Arc<ManualClock>,
}

impl Stopped {
    /// Starts another sandbox on it.
    pub(super) async fn start_again(self) -> Bench {
        Bench::at(self.dir, self.clock, |_| {}).await
    }
}

/// Waits for a condition.
pub(super) async fn eventually(condition: impl Fn() -> bool, wanted: impl Fn() -> String) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !condition() {
        assert!(tokio::time::Instant::now() < deadline, "waited in vain for {}", wanted());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
