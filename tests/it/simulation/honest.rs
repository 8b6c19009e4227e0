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
use super::server::Server;
use super::transfer::{SCAN, hex};
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
    /// Where parts lie, in the order in which they were begun.
    parts: Vec<String>,
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

    /// Where an upload lies: of the whole, or a part by the answer to its creation.
    fn location(&self, number: usize, part: Option<usize>) -> String {
        let whole = format!("{}{}", super::tus::BASE, self.id(number));
        let unknown = || format!("{whole}/partial/{}", "f".repeat(32));
        part.map_or_else(|| whole.clone(), |part| self.parts.get(part).cloned().unwrap_or_else(unknown))
    }

    async fn tus_create(&mut self, number: usize, length: u64, part: bool) -> String {
        let made = self.sender.tus_create(self.id(number), length, part).await;
        self.parts.extend(made.as_ref().ok().filter(|_| part).cloned());
        told(made.map(|_| "begun".to_owned()))
    }

    async fn tus_head(&self, number: usize, part: Option<usize>) -> String {
        let found = self.sender.tus_head(self.id(number), &self.location(number, part)).await;
        told(found.map(|found| format!("{found:?}")))
    }

    /// Sends a chunk; one that is not whole breaks off.
    async fn tus_patch(
        &self,
        number: usize,
        part: Option<usize>,
        offset: u64,
        content: &[u8],
        is_whole: bool,
    ) -> String {
        let mut pieces: Vec<_> = content.chunks(500).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        let mut size = content.len() as u64;
        if !is_whole {
            pieces.push(Err(std::io::ErrorKind::ConnectionReset.into()));
            size += 1;
        }
        let location = self.location(number, part);
        let chunk = broker::Chunk { location: &location, offset, size, ends_part: part.is_some() };
        // What has been sent before a break is there before it.
        let slowly = stream::iter(pieces).then(|piece| async {
            if piece.is_err() {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            piece
        });
        let sent = self.sender.tus_patch(self.id(number), chunk, slowly).await;
        let accepted = sent.as_ref().err().and_then(broker::Error::accepted_offset);
        if is_whole {
            format!("{} {accepted:?}", told(sent.map(|offset| format!("sent up to {offset}"))))
        } else {
            format!("cut {}", sent.is_err())
        }
    }

    async fn tus_finish(&self, number: usize, length: u64) -> String {
        let finished = self.sender.tus_finish(self.id(number), &self.location(number, None), length).await;
        told(finished.map(|length| format!("finished {length}")))
    }

    async fn tus_join(&self, number: usize, parts: &[usize]) -> String {
        let locations: Vec<_> = parts.iter().map(|part| self.location(number, Some(*part))).collect();
        told(self.sender.tus_join(self.id(number), &locations).await.map(|()| "joined".to_owned()))
    }

    /// Waits until what was accepted is stored and worked on.
    async fn pause(&self) {
        tokio::time::sleep(Duration::from_millis(300)).await;
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

/// What a client may ask of resumable uploads.
#[expect(clippy::too_many_lines, reason = "it is one story")]
async fn resumable(altinn: &mut Altinn) -> Vec<String> {
    let mut answers = Vec::new();
    let content: Vec<u8> = (0..=250).cycle().take(3000).collect();
    let mut tell = |answer: String| answers.push(answer);
    let number = altinn.ids.len();
    // Nothing is begun, or by a stream; then three chunks.
    tell(altinn.tus_head(99, None).await);
    tell(altinn.tus_create(99, 10, false).await);
    tell(altinn.tus_head(0, None).await);
    tell(altinn.tus_create(0, 10, false).await);
    tell(altinn.initialize(&content, false).await);
    tell(altinn.tus_head(number, None).await);
    tell(altinn.tus_patch(number, None, 0, &content[..1000], true).await);
    tell(altinn.tus_create(number, 3000, false).await);
    tell(altinn.overview(number, Role::Sender).await);
    tell(altinn.tus_head(number, None).await);
    tell(altinn.tus_patch(number, None, 500, &content[..1000], true).await);
    tell(altinn.tus_patch(number, None, 0, &content[..1000], true).await);
    altinn.pause().await;
    tell(altinn.tus_head(number, None).await);
    tell(altinn.tus_patch(number, None, 0, &content[..1000], true).await);
    tell(altinn.tus_patch(number, None, 1000, &content[1000..2000], true).await);
    tell(altinn.tus_patch(number, None, 2000, &content[2000..], true).await);
    altinn.pause().await;
    tell(altinn.overview(number, Role::Sender).await);
    tell(altinn.tus_head(number, None).await);
    tell(altinn.tus_finish(number, 3000).await);
    tell(altinn.tus_create(number, 3000, false).await);
    tell(altinn.details(number).await);
    tell(altinn.download(number, 0).await);
    // A chunk that is cut is counted, and never stored.
    let number = altinn.ids.len();
    tell(altinn.initialize(&content, false).await);
    tell(altinn.tus_create(number, 3000, false).await);
    tell(altinn.tus_patch(number, None, 0, &content[..1000], true).await);
    tell(altinn.tus_patch(number, None, 1000, &content[1000..1500], false).await);
    altinn.pause().await;
    tell(altinn.tus_head(number, None).await);
    tell(altinn.tus_patch(number, None, 1000, &content[1000..2000], true).await);
    tell(altinn.tus_patch(number, None, 1500, &content[1500..], true).await);
    altinn.pause().await;
    tell(altinn.tus_head(number, None).await);
    tell(altinn.overview(number, Role::Sender).await);
    // Content that is not what was announced, and one that is scanned.
    for (announced, is_scanned) in [(&b"something else"[..], false), (&content[..], true)] {
        let number = altinn.ids.len();
        tell(altinn.initialize(announced, is_scanned).await);
        tell(altinn.tus_create(number, 3000, false).await);
        tell(altinn.tus_patch(number, None, 0, &content, true).await);
        altinn.pause().await;
        tell(altinn.overview(number, Role::Sender).await);
        tell(altinn.tus_head(number, None).await);
        tell(altinn.tus_finish(number, 3000).await);
    }
    // Two parts, joined too early and in time.
    let number = altinn.ids.len();
    tell(altinn.initialize(&content, false).await);
    tell(altinn.tus_create(number, 2000, true).await);
    tell(altinn.tus_create(number, 1000, true).await);
    tell(altinn.tus_head(number, Some(7)).await);
    tell(altinn.tus_patch(number, Some(1), 0, &content[2000..], true).await);
    tell(altinn.tus_patch(number, Some(0), 0, &content[..1000], true).await);
    altinn.pause().await;
    tell(altinn.tus_head(number, Some(0)).await);
    tell(altinn.tus_join(number, &[0, 1]).await);
    tell(altinn.tus_join(number, &[0, 7]).await);
    tell(altinn.tus_patch(number, Some(0), 1000, &content[1000..2000], true).await);
    tell(altinn.tus_head(number, Some(0)).await);
    tell(altinn.overview(number, Role::Sender).await);
    tell(altinn.tus_join(number, &[0, 1]).await);
    altinn.pause().await;
    tell(altinn.overview(number, Role::Sender).await);
    tell(altinn.tus_join(number, &[0, 1]).await);
    tell(altinn.tus_head(number, Some(0)).await);
    tell(altinn.download(number, 0).await);
    answers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_small_altinn_answers_as_the_sandbox_does() {
    let (listen, rate_limits) = ("127.0.0.1:0".parse().unwrap(), RateLimits::default());
    let options = Options { listen, rate_limits, scan_delay: SCAN, ..Options::default() };
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
            parts: Vec::new(),
            resource: sandbox.resource().to_owned(),
            organizations: [organization(sender), organization(recipient)],
        };
        let mut told = story(&mut altinn).await;
        told.extend(resumable(&mut altinn).await);
        answers.push(told);
    }
    let [real, small] = [&answers[0], &answers[1]];
    assert_eq!(real.len(), small.len());
    let pairs = real.iter().zip(small).enumerate();
    let differing: Vec<_> = pairs.filter(|(_, (real, small))| real != small).collect();
    assert!(differing.is_empty(), "{differing:#?}");
    sandbox.stop().await;
}
