//! The small Altinn of the simulation is held against the sandbox: the same calls, in the same order, by the same
//! client, have the same answers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use formidlingd::broker::{self, Client, Initialize, Overview, Parts, Role, Search, Status};
use formidlingd::http::{Clients, Settings};
use formidlingd::identity::{self, Identity, KeyNaming, SigningKey, Skew};
use formidlingd::pace::{Backoff, Breaker, Budget, Limits};
use formidlingd::sandbox::{Founded, Options, RateLimits, Sandbox};
use formidlingd::seams::{Clock, Random, SeededRandom, SystemClock};
use formidlingd::transfer::{BrokerTransferId, OrgNumber};
use futures_util::{StreamExt, stream};
use md5::{Digest, Md5};

use super::network::Network;
use super::server::{Server, hex};
use super::world;

/// A client of one end, on the real network or on the simulation's.
fn client(sandbox: &Sandbox, founded: &Founded, clients: Clients) -> Client {
    let random: Arc<dyn Random> = Arc::new(SeededRandom::new(1));
    let backoff =
        Backoff::new(Duration::from_millis(10), Duration::from_millis(20), Arc::clone(&random)).unwrap();
    let (clock, skew): (Arc<dyn Clock>, _) = (Arc::new(SystemClock), Arc::new(Skew::new()));
    let key = std::fs::read_to_string(&founded.private_key).unwrap();
    let url = |path: &str| format!("{}{path}", sandbox.url()).parse::<url::Url>().unwrap();
    let parameters = identity::Parameters {
        name: founded.name.parse().unwrap(),
        organization: format!("0192:{}", founded.number).parse().unwrap(),
        client_id: founded.client_id.clone(),
        key: SigningKey::parse(&key).unwrap(),
        naming: KeyNaming::KeyId(founded.key_id.clone()),
        system_user: true,
        system_user_reference: None,
        token_url: url("/token"),
        audience: sandbox.endpoints().iter().find(|(name, _)| *name == "maskinporten").unwrap().1.clone(),
        platform_url: url("/"),
        subscription_key: None,
        slow_probe: identity::SLOW_PROBE,
    };
    let breaker = || Arc::new(Breaker::new("altinn", Duration::from_millis(20), Arc::clone(&random)));
    let (issuer, platform) = (breaker(), breaker());
    let means = identity::Means {
        clients: clients.clone(),
        clock: Arc::clone(&clock),
        skew,
        backoff,
        issuer,
        platform: Arc::clone(&platform),
    };
    let rates = std::num::NonZeroU32::new(60_000).unwrap();
    let limits = Limits { searches_per_minute: rates, details_per_minute: rates, calls_per_minute: rates };
    Client::new(Parts {
        platform_url: url("/"),
        clients,
        identity: Arc::new(Identity::new(parameters, means).unwrap()),
        budget: Arc::new(Budget::new(limits)),
        breaker: platform,
        subscription_key: None,
        clock,
    })
}

/// One Altinn with its two ends.
struct Altinn {
    sender: Client,
    recipient: Client,
    /// Ids in the order in which they were given, so that others can be compared.
    ids: Vec<BrokerTransferId>,
    resource: String,
    organizations: [OrgNumber; 2],
}

impl Altinn {
    fn id(&self, number: usize) -> BrokerTransferId {
        let nobody = || "11111111-1111-4111-8111-111111111111".parse().unwrap();
        self.ids.get(number).copied().unwrap_or_else(nobody)
    }

    async fn initialize(&mut self, content: &[u8], is_scanned: bool) -> String {
        let checksum = hex(&Md5::digest(content)).parse().unwrap();
        let request = Initialize {
            file_name: "a.bin".parse().unwrap(),
            resource_id: self.resource.parse().unwrap(),
            reference: format!("reference {}", self.ids.len()).parse().unwrap(),
            sender: self.organizations[0],
            recipients: vec![self.organizations[1]],
            properties: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
            checksum,
            disable_virus_scan: !is_scanned,
        };
        let made = self.sender.initialize(&request).await;
        self.ids.extend(made.as_ref().map(|made| made.id));
        told(made.map(|_| "made".to_owned()))
    }

    async fn upload(&self, number: usize, content: &[u8]) -> String {
        let pieces: Vec<_> = content.chunks(1000).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        let sent = self.sender.upload(self.id(number), content.len() as u64, stream::iter(pieces)).await;
        told(sent.map(|()| "sent".to_owned()))
    }

    async fn overview(&self, number: usize, role: Role) -> String {
        let client = if role == Role::Sender { &self.sender } else { &self.recipient };
        told(client.overview(self.id(number), role).await.map(|overview| shown(&overview)))
    }

    async fn details(&self, number: usize) -> String {
        let details = self.sender.details(self.id(number), Role::Sender).await;
        told(details.map(|details| {
            let history: Vec<_> = details.history.iter().map(|moment| moment.status.to_string()).collect();
            let rows: Vec<_> =
                details.recipient_history.iter().map(|row| format!("{:?}", row.status)).collect();
            format!("{history:?} {rows:?}")
        }))
    }

    async fn search(
        &self,
        role: Role,
        status: Option<Status>,
        own: Option<broker::RecipientStatus>,
    ) -> String {
        let search = Search {
            resource_id: self.resource.parse().unwrap(),
            role,
            status,
            recipient_status: own,
            from: None,
            to: None,
            ascending: true,
        };
        let client = if role == Role::Sender { &self.sender } else { &self.recipient };
        let number = |id: &BrokerTransferId| self.ids.iter().position(|known| known == id);
        told(
            client
                .search(&search)
                .await
                .map(|ids| format!("{:?}", ids.iter().map(number).collect::<Vec<_>>())),
        )
    }

    async fn download(&self, number: usize, from: u64) -> String {
        let download = match self.recipient.download(self.id(number), from).await {
            Ok(download) => download,
            Err(error) => return told(Err(error)),
        };
        let head = format!("{} {:?} {:?}", download.offset, download.length, download.total);
        let body: Vec<_> = download.body.collect().await;
        let body: Vec<u8> = body.into_iter().flat_map(|piece| piece.unwrap()).collect();
        format!("{head} {}", hex(&Md5::digest(&body)))
    }

    async fn confirm(&self, number: usize) -> String {
        told(self.recipient.confirm(self.id(number)).await.map(|()| "confirmed".to_owned()))
    }
}

fn told(answer: Result<String, broker::Error>) -> String {
    answer.unwrap_or_else(|error| {
        let altinn = error.altinn();
        let (status, code) = altinn.map_or((None, None), |altinn| (altinn.status, altinn.code));
        format!("{status:?} {code:?} {:?} {:?}", error.trouble(), error.effect())
    })
}

fn shown(overview: &Overview) -> String {
    let recipients: Vec<_> = overview.recipients.iter().map(|own| format!("{:?}", own.status)).collect();
    format!(
        "{} {:?} {} {:?} {recipients:?} {} {} {:?} scan {}",
        overview.status,
        overview.checksum,
        overview.size,
        overview.published.is_some(),
        overview.reference,
        overview.sender_raw == overview.sender.unwrap().to_string(),
        overview.properties,
        overview.use_virus_scan,
    )
}

/// What a client may ask, in an order that leads through every state.
async fn story(altinn: &mut Altinn) -> Vec<String> {
    use broker::RecipientStatus as Own;
    let mut answers = Vec::new();
    let content = vec![7; 5000];
    let mut tell = |answer: String| answers.push(answer);
    tell(altinn.overview(9, Role::Sender).await);
    tell(altinn.upload(9, b"x").await);
    tell(altinn.download(9, 0).await);
    tell(altinn.confirm(9).await);
    tell(altinn.search(Role::Sender, None, None).await);
    tell(altinn.initialize(&content, false).await);
    tell(altinn.overview(0, Role::Sender).await);
    tell(altinn.overview(0, Role::Recipient).await);
    tell(altinn.search(Role::Sender, Some(Status::Initialized), None).await);
    tell(altinn.search(Role::Recipient, Some(Status::Published), Some(Own::Initialized)).await);
    tell(altinn.download(0, 0).await);
    tell(altinn.confirm(0).await);
    tell(altinn.upload(0, &content).await);
    tell(altinn.upload(0, &content).await);
    tell(altinn.overview(0, Role::Sender).await);
    tell(altinn.details(0).await);
    tell(altinn.search(Role::Recipient, Some(Status::Published), Some(Own::Initialized)).await);
    tell(altinn.confirm(0).await);
    for from in [0, 1, 4999, 5000, 6000] {
        tell(altinn.download(0, from).await);
    }
    tell(altinn.search(Role::Recipient, Some(Status::Published), Some(Own::Initialized)).await);
    tell(altinn.search(Role::Recipient, Some(Status::Published), Some(Own::DownloadStarted)).await);
    tell(altinn.overview(0, Role::Recipient).await);
    tell(altinn.confirm(0).await);
    tell(altinn.confirm(0).await);
    tell(altinn.overview(0, Role::Sender).await);
    tell(altinn.search(Role::Recipient, Some(Status::Published), Some(Own::DownloadStarted)).await);
    // Content that is not what was announced, an empty file, and one that is scanned.
    tell(altinn.initialize(b"something", false).await);
    tell(altinn.upload(1, b"something else").await);
    tell(altinn.overview(1, Role::Sender).await);
    tell(altinn.upload(1, b"something").await);
    tell(altinn.download(1, 0).await);
    tell(altinn.initialize(b"", false).await);
    tell(altinn.upload(2, b"").await);
    tell(altinn.overview(2, Role::Sender).await);
    tell(altinn.download(2, 0).await);
    tell(altinn.confirm(2).await);
    tell(altinn.initialize(&content, true).await);
    tell(altinn.upload(3, &content).await);
    tell(altinn.overview(3, Role::Sender).await);
    tell(altinn.download(3, 0).await);
    tell(altinn.confirm(3).await);
    while altinn.overview(3, Role::Sender).await.starts_with("UploadProcessing") {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tell(altinn.overview(3, Role::Recipient).await);
    tell(altinn.search(Role::Sender, Some(Status::Published), None).await);
    tell(altinn.search(Role::Sender, Some(Status::Failed), None).await);
    answers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_small_altinn_answers_as_the_sandbox_does() {
    let (listen, rate_limits) = ("127.0.0.1:0".parse().unwrap(), RateLimits::default());
    let scan_delay = super::server::SCAN;
    let options = Options { listen, rate_limits, scan_delay, ..Options::default() };
    let sandbox = Sandbox::start(options).await.unwrap();
    let founded = |name: &str| sandbox.organizations().iter().find(|founded| founded.name == name).unwrap();
    let (sender, recipient) = (founded("avsender"), founded("mottaker"));
    let clock = Arc::new(world::Clock { base: jiff::Timestamp::now(), start: tokio::time::Instant::now() });
    let server = Arc::new(Mutex::new(Server::default()));
    let clients = Clients::new(&Settings::default()).unwrap();
    let small = clients.on(Arc::new(Network { server, clock }));
    let mut answers = Vec::new();
    for clients in [clients, small] {
        let organization = |founded: &Founded| format!("0192:{}", founded.number).parse().unwrap();
        let mut altinn = Altinn {
            sender: client(&sandbox, sender, clients.clone()),
            recipient: client(&sandbox, recipient, clients),
            ids: Vec::new(),
            resource: sandbox.resource().to_owned(),
            organizations: [organization(sender), organization(recipient)],
        };
        answers.push(story(&mut altinn).await);
    }
    let [real, small] = [&answers[0], &answers[1]];
    for (number, (real, small)) in real.iter().zip(small).enumerate() {
        assert_eq!(real, small, "answer {number}");
    }
    sandbox.stop().await;
}
