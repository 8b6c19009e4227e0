//! The client of Formidling's API.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;
use jiff::Timestamp;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, RANGE};
use reqwest::{Method, RequestBuilder, Response};
use url::Url;

use super::error::{Error, Kind};
use super::parse;
use super::{Call, Details, Download, Initialize, Initialized, Overview, Problem, Role, Search, Trouble};
use crate::http::{self, Clients, Purpose, Reply, Secret, Sent};
use crate::identity::{self, AccessToken, Identity, SUBSCRIPTION_KEY_HEADER, Scope};
use crate::pace::{Breaker, Budget, Permit, Stopping, Subject};
use crate::seams::Clock;
use crate::transfer::BrokerTransferId;

/// What a client is made of.
#[derive(Debug, Clone)]
pub struct Parts {
    /// Altinn's platform, such as `https://platform.altinn.no/`.
    pub platform_url: Url,
    /// The HTTP clients.
    pub clients: Clients,
    /// Who we are.
    pub identity: Arc<Identity>,
    /// The budget of the identity's Maskinporten client.
    pub budget: Arc<Budget>,
    /// One for the platform, whoever we are.
    pub breaker: Arc<Breaker>,
    /// Sent where there is one.
    pub subscription_key: Option<Secret>,
    /// Our own time, which answers are compared with.
    pub clock: Arc<dyn Clock>,
}

/// Formidling, as one identity sees it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client(Arc<Parts>);

/// Where a call goes, and as whom.
pub(super) struct Target {
    pub(super) call: Call,
    transfer: Option<BrokerTransferId>,
    scope: Scope,
    method: Method,
    pub(super) url: Url,
    /// What may be alone in its trouble.
    subject: Subject,
}

impl Client {
    /// A client made of `parts`. Nothing is sent.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// The identity it acts as.
    #[must_use]
    pub fn identity(&self) -> &Arc<Identity> {
        &self.0.identity
    }

    /// Whether the platform answers, as far as is known: while it does not, calls wait.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.0.breaker.is_closed()
    }

    pub(super) fn clients(&self) -> &Clients {
        &self.0.clients
    }

    /// Makes a transfer, without content. When the answer is lost, there may be one all the same.
    pub async fn initialize(&self, transfer: &Initialize) -> Result<Initialized, Error> {
        let mut target = self.target(Call::Initialize, None, Scope::BrokerWrite, Method::POST, "")?;
        target.subject = Subject::of(transfer.reference.as_str());
        let body = initialize_body(transfer);
        let reply = self.small(&target, |request| request.json(&body)).await?;
        let id = parse::object(&reply)
            .and_then(|members| {
                parse::transfer_id(&members).ok_or_else(|| parse::garbled(&reply, "fileTransferId"))
            })
            .map_err(|kind| target.error(kind))?;
        Ok(Initialized { id, server_time: http::date(&reply.headers) })
    }

    /// Uploads the content as one stream of `size` bytes, and returns when Altinn has stored it all.
    ///
    /// Never to be repeated for a transfer whose last byte may have left ([`Error::sent`]) before the overview
    /// has been seen.
    pub async fn upload(
        &self,
        id: BrokerTransferId,
        size: u64,
        body: impl Stream<Item = Result<Bytes, io::Error>> + Send + 'static,
    ) -> Result<(), Error> {
        let target = self.target(Call::Upload, Some(id), Scope::BrokerWrite, Method::POST, "/upload")?;
        let (permit, token) = self.admitted_to_upload(id, &target).await?;
        let request = self
            .request(&target, Purpose::Upload, &token)?
            .header(CONTENT_TYPE, "application/octet-stream")
            .header(ACCEPT, "application/json");
        let answer = self.0.clients.upload(request, size, body).await;
        let reply = self.judged_content(&target, permit, answer)?;
        if !(200..300).contains(&reply.status) {
            return Err(self.refused(&target, &token, &reply));
        }
        // A success that does not name the transfer is not Altinn's: a page to log in to the network, say.
        let answered = parse::object(&reply).map(|members| parse::transfer_id(&members));
        match answered {
            Ok(Some(answered)) if answered == id => Ok(()),
            _ => Err(target.error(parse::garbled(&reply, "the transfer's fileTransferId"))),
        }
    }

    /// A transfer as it stands.
    pub async fn overview(&self, id: BrokerTransferId, role: Role) -> Result<Overview, Error> {
        let target = self.target(Call::Overview, Some(id), role.scope(), Method::GET, "")?;
        let reply = self.small(&target, |request| request).await?;
        parse::overview(&reply).map_err(|kind| target.error(kind))
    }

    /// A transfer and its history. Altinn gives ten a minute: for people and for doubt, not for following.
    pub async fn details(&self, id: BrokerTransferId, role: Role) -> Result<Details, Error> {
        let target = self.target(Call::Details, Some(id), role.scope(), Method::GET, "/details")?;
        let reply = self.small(&target, |request| request).await?;
        parse::details(&reply).map_err(|kind| target.error(kind))
    }

    /// The ids of up to 100 transfers.
    pub async fn search(&self, search: &Search) -> Result<Vec<BrokerTransferId>, Error> {
        let mut target = self.target(Call::Search, None, search.role.scope(), Method::GET, "")?;
        target.subject = Subject::of(search.resource_id.as_str());
        search_query(&mut target.url, search);
        let reply = self.small(&target, |request| request).await?;
        parse::ids(&reply).map_err(|kind| target.error(kind))
    }

    /// Waits until there is a token for the content of a transfer, so that whoever is to wait for one waits before
    /// taking what others could use. Nothing is said of the transfer.
    pub async fn ready(&self, id: BrokerTransferId, role: Role) -> Result<(), Error> {
        let (call, path) = match role {
            Role::Sender => (Call::Upload, "/upload"),
            Role::Recipient => (Call::Download, "/download"),
        };
        let target = self.target(call, Some(id), role.scope(), Method::GET, path)?;
        self.token(&target).await.map(drop)
    }

    /// Begins to download, from the byte `from`. Altinn notes that it was begun.
    pub async fn download(&self, id: BrokerTransferId, from: u64) -> Result<Download, Error> {
        let target = self.target(Call::Download, Some(id), Scope::BrokerRead, Method::GET, "/download")?;
        let fill = |request: RequestBuilder| {
            if from > 0 { request.header(RANGE, format!("bytes={from}-")) } else { request }
        };
        let response = self.repeated(&target, Purpose::Download, &fill).await?;
        Download::begin(self, id, from, response)
    }

    /// Downloads a byte (nothing, of an `empty` file), so that Altinn notes that the download was begun and lets
    /// it be confirmed.
    pub async fn touch(&self, id: BrokerTransferId, empty: bool) -> Result<(), Error> {
        let target = self.target(Call::Touch, Some(id), Scope::BrokerRead, Method::GET, "/download")?;
        let fill = |request: RequestBuilder| {
            if empty { request } else { request.header(RANGE, "bytes=0-0") }
        };
        // What it holds does not matter, and if the range was ignored it is the whole file: it is not read.
        self.repeated(&target, Purpose::Download, &fill).await.map(drop)
    }

    /// Says that the content is safe here, after which Altinn may delete it.
    pub async fn confirm(&self, id: BrokerTransferId) -> Result<(), Error> {
        let target =
            self.target(Call::Confirm, Some(id), Scope::BrokerRead, Method::POST, "/confirmdownload")?;
        self.small(&target, |request| request).await.map(drop)
    }

    /// A call with a small answer, which is a success.
    pub(super) async fn small(
        &self,
        target: &Target,
        fill: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Reply, Error> {
        let response = self.repeated(target, Purpose::Call, &fill).await?;
        self.0.clients.read(response).await.map_err(|error| target.error(Kind::Http(error)))
    }

    /// A call whose answer is a success, its body yet to be read. It is made again, with a new token, when the
    /// first was not taken: that is decided before Altinn looks at the call.
    async fn repeated(
        &self,
        target: &Target,
        purpose: Purpose,
        fill: &impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, Error> {
        match self.once(target, purpose, fill).await {
            Err(error) if error.trouble() == Trouble::Token && matches!(error.kind(), Kind::Problem(_)) => {
                self.once(target, purpose, fill).await
            }
            answer => answer,
        }
    }

    async fn once(
        &self,
        target: &Target,
        purpose: Purpose,
        fill: &impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, Error> {
        let (permit, token) = self.admitted(target).await?;
        let request = self.request(target, purpose, &token)?.header(ACCEPT, accept(purpose));
        let answer = self.0.clients.open(fill(request)).await;
        let response = match answer {
            Ok(response) if response.status().is_success() => {
                self.observe(response.headers());
                permit.succeeded();
                return Ok(response);
            }
            Ok(response) => self.0.clients.read(response).await,
            Err(error) => Err(error),
        };
        let reply = self.judged(target, permit, response)?;
        Err(self.refused(target, &token, &reply))
    }

    /// An answer that is no success, after which a token that was not taken is not used again.
    pub(super) fn refused(&self, target: &Target, token: &AccessToken, reply: &Reply) -> Error {
        let error = target.error(Kind::Problem(Problem::read(reply)));
        if error.trouble() == Trouble::Token {
            self.0.identity.refuse(target.scope, token);
        }
        error
    }

    /// Leave to make a call, and a token to make it with. The token comes first: it may have to be asked for, at
    /// Maskinporten, and at the platform by a call that needs leave of its own.
    async fn admitted(&self, target: &Target) -> Result<(Permit<'_>, AccessToken), Error> {
        loop {
            let token = self.token(target).await?;
            // One that is nearly over when it is given is used once, rather than asked for in a loop.
            let was_fresh = token.is_fresh();
            let permit = self.turn(target).await?;
            if token.is_fresh() || !was_fresh {
                return Ok((permit, token));
            }
        }
    }

    /// Waits until a call is within the budget, and while the platform is down. Who waits for the budget when it
    /// goes down leaves that queue, so that the probe is not at its end. Who waits when the service stops gives up.
    async fn turn(&self, target: &Target) -> Result<Permit<'_>, Error> {
        let stopping = |stopping| target.error(Kind::Stopping(stopping));
        loop {
            let permit = self.0.breaker.permit(target.subject).await.map_err(stopping)?;
            let ready = self.0.budget.ready(target.call.operation());
            tokio::select! {
                biased;
                () = ready => return Ok(permit),
                () = self.0.breaker.ended() => return Err(stopping(Stopping)),
                () = self.0.breaker.opened(), if !permit.is_probe() => {}
            }
        }
    }

    /// The same for a call that carries content: it may take hours, and is not what others should wait for to learn
    /// whether Altinn is there.
    pub(super) async fn admitted_to_upload(
        &self,
        id: BrokerTransferId,
        target: &Target,
    ) -> Result<(Permit<'_>, AccessToken), Error> {
        loop {
            while !self.0.breaker.is_closed() {
                self.overview(id, Role::Sender).await?;
            }
            let (permit, token) = self.admitted(target).await?;
            if !permit.is_probe() {
                return Ok((permit, token));
            }
        }
    }

    /// The same as [`Self::judged`], for a call that carries content. Where it broke after a connection was made,
    /// nothing is said of the host: the line may have been cut for a moment with everything that was on it, or
    /// somebody on the way may not like this file. A gateway that says no may have had enough of this file, too. A look
    /// at the transfer follows, and that one counts.
    pub(super) fn judged_content(
        &self,
        target: &Target,
        permit: Permit<'_>,
        answer: Result<Reply, http::Error>,
    ) -> Result<Reply, Error> {
        match answer {
            Ok(reply) if (502..=504).contains(&reply.status) => {
                self.observe(&reply.headers);
                permit.erred(http::retry_after(&reply.headers));
                Ok(reply)
            }
            Err(error) if error.sent() != Sent::Nothing && !permit.is_probe() => {
                Err(target.error(Kind::Http(error)))
            }
            answer => self.judged(target, permit, answer),
        }
    }

    /// Tells the breaker what came of a call, and takes the server's time from it.
    fn judged(
        &self,
        target: &Target,
        permit: Permit<'_>,
        answer: Result<Reply, http::Error>,
    ) -> Result<Reply, Error> {
        match answer {
            Ok(reply) => {
                self.observe(&reply.headers);
                let problem = Problem::read(&reply);
                match super::effect::judge(target.call, problem.facts()).trouble {
                    Trouble::Platform if reply.status >= 400 => permit.failed(problem.retry_after),
                    // Without words of Formidling's own.
                    _ if reply.status >= 500 && problem.code.is_none() => permit.erred(problem.retry_after),
                    _ => permit.succeeded(),
                }
                Ok(reply)
            }
            Err(error) => {
                let error = target.error(Kind::Http(error));
                // One call that was cut or was never answered says little; several in a row do, and a probe. A body
                // that could not be read is our own.
                if matches!(error.trouble(), Trouble::Platform | Trouble::Server) || permit.is_probe() {
                    permit.failed(None);
                }
                Err(error)
            }
        }
    }

    pub(super) async fn token(&self, target: &Target) -> Result<AccessToken, Error> {
        self.0.identity.token(target.scope).await.map_err(|error| target.error(Kind::Token(error)))
    }

    pub(super) fn request(
        &self,
        target: &Target,
        purpose: Purpose,
        token: &AccessToken,
    ) -> Result<RequestBuilder, Error> {
        let mut request = self
            .0
            .clients
            .request(purpose, target.method.clone(), target.url.clone())
            .map_err(|error| target.error(Kind::Http(error)))?;
        if let Some(bearer) = identity::bearer(token.expose()) {
            request = request.header(AUTHORIZATION, bearer);
        }
        if let Some(key) = &self.0.subscription_key {
            request = request.header(SUBSCRIPTION_KEY_HEADER, identity::sensitive(key));
        }
        Ok(request)
    }

    fn observe(&self, headers: &HeaderMap) {
        if let Some(server) = http::date(headers) {
            self.0.clock.observe(server);
            self.0.identity.skew().observe(server, self.0.clock.now());
        }
    }

    /// The address of a call. Everything goes to the platform, so that the subscription key does too.
    pub(super) fn target(
        &self,
        call: Call,
        transfer: Option<BrokerTransferId>,
        scope: Scope,
        method: Method,
        rest: &str,
    ) -> Result<Target, Error> {
        let id = transfer.map(|id| format!("/{id}")).unwrap_or_default();
        self.target_at(call, transfer, scope, method, &format!("/broker/api/v1/filetransfer{id}{rest}"))
    }

    /// The same, where the path is known whole.
    pub(super) fn target_at(
        &self,
        call: Call,
        transfer: Option<BrokerTransferId>,
        scope: Scope,
        method: Method,
        path: &str,
    ) -> Result<Target, Error> {
        let url = self.0.platform_url.join(path).map_err(|_| {
            let host = self.0.platform_url.host_str().unwrap_or_default().to_owned();
            Error::new(call, transfer, Kind::Http(http::Error::Insecure { host }))
        })?;
        let subject = transfer.map_or_else(|| Subject::of(call.as_str()), |transfer| Subject::of(&transfer));
        Ok(Target { call, transfer, scope, method, url, subject })
    }
}

impl Target {
    pub(super) fn error(&self, kind: Kind) -> Error {
        Error::new(self.call, self.transfer, kind)
    }
}

/// Altinn compares whole elements of `Accept`, and refuses `application/*`. Content has any type.
fn accept(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Call | Purpose::Upload => "application/json",
        Purpose::Download => "*/*",
    }
}

fn initialize_body(transfer: &Initialize) -> serde_json::Value {
    serde_json::json!({
        "fileName": transfer.file_name.as_str(),
        "resourceId": transfer.resource_id.as_str(),
        "sendersFileTransferReference": transfer.reference.as_str(),
        // In this form alone does Altinn's search find the sender.
        "sender": transfer.sender.to_string(),
        "recipients": transfer.recipients.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "propertyList": transfer.properties,
        "checksum": transfer.checksum.to_string(),
        "disableVirusScan": transfer.disable_virus_scan,
    })
}

fn search_query(url: &mut Url, search: &Search) {
    let mut query = url.query_pairs_mut();
    query.append_pair("resourceId", search.resource_id.as_str());
    query.append_pair("role", search.role.as_str());
    if let Some(status) = &search.status {
        query.append_pair("status", status.as_str());
    }
    if let Some(status) = &search.recipient_status {
        query.append_pair("recipientStatus", status.as_str());
    }
    let mut time = |name: &str, time: Option<Timestamp>| {
        if let Some(time) = time {
            query.append_pair(name, &time.to_string());
        }
    };
    time("from", search.from);
    time("to", search.to);
    query.append_pair("orderAscending", if search.ascending { "true" } else { "false" });
}
