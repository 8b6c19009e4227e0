//! The way between a simulated service and its Altinn: every call can be lost on the way there or back, and is held
//! against what the store and the disk would still say after a death.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use formidlingd::http::{self, Answer, Lost};
use formidlingd::seams::{self, crash_point};
use futures_util::stream;
use http_body_util::BodyExt;
use jiff::Timestamp;
use reqwest::header::{AUTHORIZATION, RANGE};
use reqwest::{Body, Request, Response};

use super::call::{Call, Operation, Reply};
use super::chance::Fault;
use super::checks;
use super::server::Server;
use super::tokens;
use super::tus::Fate;
use super::world::{Clock, Life, life};

/// How long a message takes.
const LATENCY: Duration = Duration::from_millis(20);
/// What has arrived of somebody who is dead is stored this long afterwards.
const LATE: Duration = Duration::from_mins(3);
/// Content arrives in such pieces.
const PIECE: usize = 64 * 1024;

#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) server: Arc<Mutex<Server>>,
    pub(crate) clock: Arc<Clock>,
}

impl http::Network for Network {
    fn answer(&self, request: Request) -> Answer {
        let (server, clock) = (Arc::clone(&self.server), Arc::clone(&self.clock));
        Box::pin(async move { answer(&server, &clock, request).await })
    }
}

/// What is asked by a request.
pub(crate) fn call_of(request: &Request) -> Call {
    let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let pairs = request.url().query_pairs();
    Call {
        method: request.method().clone(),
        path: request.url().path().to_owned(),
        query: pairs.map(|(name, value)| (name.into_owned(), value.into_owned())).collect::<BTreeMap<_, _>>(),
        range: request.headers().get(RANGE).and_then(|range| range.to_str().ok()).map(str::to_owned),
        tus: ["upload-offset", "upload-length", "upload-concat"]
            .into_iter()
            .filter_map(|name| Some((name, request.headers().get(name)?.to_str().ok()?.to_owned())))
            .collect(),
        caller: tokens::caller(header(AUTHORIZATION)),
    }
}

async fn answer(server: &Mutex<Server>, clock: &Clock, mut request: Request) -> Result<Response, Lost> {
    let now = || seams::Clock::now(clock);
    let call = call_of(&request);
    let (operation, fault) = (call.operation(), life().map_or(Fault::None, |life| life.fault(&call)));
    tokio::time::sleep(LATENCY).await;
    match fault {
        Fault::Connect => return Err(Lost::Connect),
        Fault::LostBefore => return Err(Lost::Cut),
        Fault::Status(status, number) => return Ok(response(refusal(status, number), now(), None)),
        Fault::Forgotten => server.lock().unwrap().forget(&call),
        _ => {}
    }
    let body = request.body_mut().take();
    let reply = if matches!(operation, Operation::Upload | Operation::TusPatch) {
        crash_point(&format!("call:{}:sent", operation.name()));
        check(|life| checks::at_call(life, &call, b""));
        let arriving = Arriving { server, now: &now, call: &call, fault };
        match operation {
            Operation::Upload => arriving.upload(body).await?,
            _ => arriving.chunk(body).await?,
        }
    } else {
        let body = match body {
            Some(body) => body.collect().await.map_err(|_| Lost::Cut)?.to_bytes(),
            None => Bytes::new(),
        };
        crash_point(&format!("call:{}:sent", operation.name()));
        check(|life| checks::at_call(life, &call, &body));
        server.lock().unwrap().answer(&call, &body, now())
    };
    crash_point(&format!("call:{}:done", operation.name()));
    match fault {
        Fault::LostAfter => return Err(Lost::Cut),
        Fault::StatusAfter(status) => return Ok(response(refusal(status, 0), now(), None)),
        Fault::Stall => std::future::pending().await,
        _ => {}
    }
    tokio::time::sleep(LATENCY).await;
    let cut = (operation == Operation::Download && fault == Fault::CutBody).then_some(reply.body.len() / 2);
    Ok(response(reply, now(), cut))
}

fn check(invariant: impl FnOnce(&Life)) {
    if let Some(life) = life() {
        invariant(&life);
    }
}

fn refusal(status: u16, number: u16) -> Reply {
    match number {
        0 if status == 502 => Reply::bare(502, "<html>Bad Gateway</html>"),
        0 if status == 200 => Reply::bare(200, "{\"neither\": "),
        0 => Reply::bare(status, ""),
        _ => Reply::problem(status, number),
    }
}

/// A body on its way to Altinn.
struct Arriving<'a, Now> {
    server: &'a Mutex<Server>,
    now: &'a Now,
    call: &'a Call,
    fault: Fault,
}

impl<Now: Fn() -> Timestamp> Arriving<'_, Now> {
    fn server(&self) -> MutexGuard<'_, Server> {
        self.server.lock().unwrap()
    }

    /// What a death leaves if this has happened; life goes on as if it had not.
    fn branch(&self, point: &str, happens: impl FnOnce(&Self)) {
        let before = self.server().clone();
        happens(self);
        crash_point(point);
        *self.server() = before;
    }

    /// All of a body, or what came of one that broke off or was cut in the middle of a block. `at_half` is told what
    /// has come at each of those.
    async fn taken(&self, body: Option<Body>, at_half: impl Fn(&[u8])) -> Result<Vec<u8>, Vec<u8>> {
        let (mut content, mut body) = (Vec::new(), body.unwrap_or_default());
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return Err(content) };
            let frame = frame.into_data().unwrap_or_default();
            let half = [&content, &frame[..frame.len() / 2]].concat();
            at_half(&half);
            if matches!(self.fault, Fault::CutBody | Fault::Wedge) {
                return Err(half);
            }
            content.extend_from_slice(&frame);
            tokio::time::sleep(LATENCY).await;
        }
        Ok(content)
    }

    /// A stream.
    async fn upload(&self, body: Option<Body>) -> Result<Reply, Lost> {
        let id = self.call.id();
        if let Some(refused) = self.server().begin_upload(id, (self.now)()) {
            return Ok(refused);
        }
        let content = Arc::new(self.taken(body, |_| {}).await.map_err(|_| Lost::Cut)?);
        check(|life| checks::at_last_byte(life, self.call));
        crash_point("call:upload:whole");
        let store_late = |it: &Self| it.server().end_upload_late(id, Arc::clone(&content), (it.now)() + LATE);
        // Altinn may store what has arrived though the sender is dead by now.
        self.branch("call:upload:late", store_late);
        if self.fault == Fault::Late {
            store_late(self);
            return Err(Lost::Cut);
        }
        Ok(self.server().end_upload(id, Arc::clone(&content), (self.now)()))
    }

    /// A chunk of a resumable upload. One whose sender dies on the way counts as far as it has come, and is stored, or
    /// never.
    async fn chunk(&self, body: Option<Body>) -> Result<Reply, Lost> {
        let room = match self.server().begin_chunk(self.call, (self.now)()) {
            Ok(room) => room,
            Err(answer) => return Ok(answer),
        };
        let count =
            |it: &Self, bytes: &[u8], fate| it.server().end_chunk(it.call, bytes.to_vec(), fate, (it.now)());
        let branch = |bytes: &[u8], fate, point: &str| self.branch(point, |it| drop(count(it, bytes, fate)));
        let taken = self.taken(body, |half| {
            branch(half, Fate::Wedged, "call:tus_patch:cut_for_good");
            branch(half, Fate::Stored, "call:tus_patch:cut");
        });
        let content = match taken.await {
            Ok(content) => content,
            Err(part) => {
                // Where it is its sender who broke off, it is as when a person pulls the plug: never stored, as the
                // sandbox has it.
                let fate = if self.fault == Fault::CutBody { Fate::Stored } else { Fate::Wedged };
                count(self, &part, fate);
                return Err(Lost::Cut);
            }
        };
        let is_part = self.call.path.contains("/partial/");
        if content.len() as u64 == room && !is_part {
            check(|life| checks::at_last_byte(life, self.call));
        }
        crash_point("call:tus_patch:whole");
        branch(&content, Fate::Wedged, "call:tus_patch:whole_for_good");
        let fate = if self.fault == Fault::Late { Fate::Late(LATE) } else { Fate::Stored };
        let (answer, waits) = count(self, &content, fate);
        if let Some(waits) = waits {
            crash_point("call:tus_patch:storing");
            tokio::time::sleep(waits).await;
        }
        Ok(answer)
    }
}

/// The answer on the line; it may break off.
pub(crate) fn response(reply: Reply, now: Timestamp, cut: Option<usize>) -> Response {
    let mut response = axum::http::Response::builder()
        .status(reply.status)
        .header("date", now.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string());
    for (name, value) in reply.headers {
        response = response.header(name, value);
    }
    let end = cut.unwrap_or(reply.body.len());
    let pieces = (0..end).step_by(PIECE).map(|at| Ok(reply.body.slice(at..end.min(at + PIECE))));
    let mut pieces: Vec<io::Result<Bytes>> = pieces.collect();
    if cut.is_some() {
        pieces.push(Err(io::ErrorKind::ConnectionReset.into()));
    }
    response.body(Body::wrap_stream(stream::iter(pieces))).unwrap().into()
}
