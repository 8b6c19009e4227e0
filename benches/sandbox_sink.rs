//! How fast the sandbox takes bytes that it discards, against a bare hyper server that does the same.
//!
//! `cargo bench --bench sandbox_sink [PAIRS]` prints each pair and the median of the ratios. Both servers are processes
//! of their own, on loopback; the client is one thread that writes the same buffer again and again.

#![expect(
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a measurement prints, in real time"
)]

use std::convert::Infallible;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use formidlingd::sandbox::{Founded, Keep, Options, Sandbox};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

type Anything<T> = Result<T, Box<dyn std::error::Error>>;

/// Bytes of an upload.
const SIZE: u64 = 4 << 30;
const PAIRS: usize = 9;
/// What a client gives to the kernel at once.
const BUFFER: usize = 1 << 20;
const BASE: &str = "/broker/api/v1/filetransfer";

fn main() -> Anything<()> {
    let argument = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    match argument.as_deref() {
        Some("sink") => runtime()?.block_on(sink()),
        Some("sandbox") => runtime()?.block_on(sandbox()),
        pairs => compare(pairs.map_or(Ok(PAIRS), str::parse)?),
    }
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}

/// A server that reads a body and forgets it.
async fn sink() -> Anything<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    say(&json!({ "address": listener.local_addr()? }))?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            let service = service_fn(|request: Request<Incoming>| async move {
                let mut body = request.into_body();
                while let Some(Ok(_)) = body.frame().await {}
                Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
            });
            drop(
                hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await,
            );
        });
    }
}

/// The sandbox as `formidlingd sandbox --discard` runs it.
async fn sandbox() -> Anything<()> {
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let sandbox = Sandbox::start(Options { listen, keep: Keep::Size, ..Options::default() }).await?;
    let sender = sandbox.organizations().first().ok_or("there is no organisation")?;
    let address = sandbox.url().trim_start_matches("http://");
    say(&json!({ "address": address, "token": token(&sandbox, sender).await?, "sender": sender.number }))?;
    Err(sandbox.ended().await.into())
}

fn say(ready: &Value) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{ready}")?;
    out.flush()
}

/// An Altinn token, which lives for half an hour.
async fn token(sandbox: &Sandbox, sender: &Founded) -> Anything<String> {
    let now = jiff::Timestamp::now().as_second();
    let claims = json!({
        "aud": format!("{}/", sandbox.url()), "iss": sender.client_id, "iat": now, "exp": now + 100,
        "jti": uuid::Uuid::new_v4().to_string(), "scope": "altinn:broker.write",
    });
    let mut header = Header::new(Algorithm::RS256);
    header.kid = Some(sender.key_id.clone());
    let key = EncodingKey::from_rsa_pem(&std::fs::read(&sender.private_key)?)?;
    let grant = jsonwebtoken::encode(&header, &claims, &key)?;
    let form = [("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"), ("assertion", &grant)];
    let http = reqwest::Client::builder().no_proxy().build()?;
    let answer = http.post(format!("{}/token", sandbox.url())).form(&form).send().await?;
    let answer: Value = serde_json::from_slice(&answer.bytes().await?)?;
    let raw = answer["access_token"].as_str().ok_or("no token")?;
    let exchange = format!("{}/authentication/api/v1/exchange/maskinporten", sandbox.url());
    Ok(http.get(exchange).bearer_auth(raw).send().await?.text().await?)
}

/// A server in a process of its own, which ends with this value.
struct Server {
    child: Child,
    ready: Value,
}

impl Server {
    fn start(what: &str) -> Anything<Self> {
        let mut child = Command::new(std::env::current_exe()?).arg(what).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut line)?;
        Ok(Self { child, ready: serde_json::from_str(&line)? })
    }

    fn text(&self, name: &str) -> &str {
        self.ready[name].as_str().unwrap_or_default()
    }

    /// Posts on a connection of its own; the body of the answer.
    fn post(
        &self,
        path: &str,
        content_type: &str,
        length: u64,
        write: impl FnOnce(&mut TcpStream) -> std::io::Result<()>,
    ) -> Anything<String> {
        let mut stream = TcpStream::connect(self.text("address"))?;
        stream.set_nodelay(true)?;
        write!(
            stream,
            "POST {path} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\ncontent-type: {content_type}\r\n\
             content-length: {length}\r\nconnection: close\r\n\r\n",
            self.text("address"),
            self.text("token"),
        )?;
        write(&mut stream)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        if answer.starts_with("HTTP/1.1 200") { Ok(answer) } else { Err(answer.into()) }
    }

    /// Uploads to a path; GiB per second.
    fn upload(&self, path: &str) -> Anything<f64> {
        let buffer = vec![7; BUFFER];
        let begun = Instant::now();
        self.post(path, "application/octet-stream", SIZE, |stream| {
            (0..SIZE / BUFFER as u64).try_for_each(|_| stream.write_all(&buffer))
        })?;
        Ok((SIZE >> 30) as f64 / begun.elapsed().as_secs_f64())
    }

    /// A transfer to upload to.
    fn initialize(&self) -> Anything<String> {
        let body = json!({
            "fileName": "a.bin", "resourceId": "sandbox-files", "sendersFileTransferReference": "bench",
            "sender": format!("0192:{}", self.text("sender")), "recipients": ["0192:910753614"],
            "checksum": "d41d8cd98f00b204e9800998ecf8427e", "disableVirusScan": true,
        })
        .to_string();
        let answer = self
            .post(BASE, "application/json", body.len() as u64, |stream| stream.write_all(body.as_bytes()))?;
        let body = answer.split("\r\n\r\n").nth(1).unwrap_or_default();
        let id = serde_json::from_str::<Value>(body)?["fileTransferId"].as_str().map(str::to_owned);
        Ok(format!("{BASE}/{}/upload", id.ok_or("no id")?))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn compare(pairs: usize) -> Anything<()> {
    let (sink, sandbox) = (Server::start("sink")?, Server::start("sandbox")?);
    // Once for warmth.
    sink.upload("/")?;
    sandbox.upload(&sandbox.initialize()?)?;
    let mut ratios = Vec::new();
    for pair in 1..=pairs {
        let (bare, own) = (sink.upload("/")?, sandbox.upload(&sandbox.initialize()?)?);
        println!("{pair}: bare {bare:.2} GiB/s, sandbox {own:.2} GiB/s, ratio {:.2}", own / bare);
        ratios.push(own / bare);
    }
    ratios.sort_by(f64::total_cmp);
    println!("median ratio {:.2}", ratios.get(ratios.len() / 2).copied().unwrap_or_default());
    Ok(())
}
