//! An endpoint for pushed events: HTTPS on loopback, with an authority of its own.

use std::collections::HashMap;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Response, StatusCode, header};
use axum::serve::Listener;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::VALIDATION;

/// What an endpoint answers.
#[derive(Debug, Clone)]
pub(super) enum Answer {
    Status(u16),
    Redirect(u16, String),
    /// Nothing, for ever.
    Silence,
}

/// A request that came.
#[derive(Debug, Clone)]
pub(super) struct Heard {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

impl Heard {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(super) fn kind(&self) -> String {
        let body: Value = serde_json::from_str(&self.body).unwrap_or_default();
        body["type"].as_str().unwrap_or_default().to_owned()
    }
}

#[derive(Default)]
struct Shared {
    heard: Mutex<Vec<Heard>>,
    answers: Mutex<HashMap<String, Answer>>,
    /// Paths of requests that went away before they were answered.
    cut: Mutex<Vec<String>>,
}

/// Notes that nobody waits for an answer any more.
struct Unanswered {
    shared: Arc<Shared>,
    path: String,
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        self.shared.cut.lock().unwrap().push(std::mem::take(&mut self.path));
    }
}

pub(super) struct Receiver {
    address: SocketAddr,
    shared: Arc<Shared>,
    dir: tempfile::TempDir,
    // Ends with the receiver.
    _server: JoinSet<()>,
}

impl Receiver {
    pub(super) async fn start() -> Self {
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &authority).unwrap();
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("ca.pem"), authority.pem()).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let door = Door { listener, acceptor: TlsAcceptor::from(Arc::new(config)) };
        let shared = Arc::new(Shared::default());
        let router = Router::new().fallback(hear).with_state(Arc::clone(&shared));
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(door, router).await.unwrap() });
        Self { address, shared, dir, _server: server }
    }

    /// The certificate to trust.
    pub(super) fn authority(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.address)
    }

    /// What that path answers from now on; at first it is 200.
    pub(super) fn answer(&self, path: &str, answer: Answer) {
        self.shared.answers.lock().unwrap().insert(path.to_owned(), answer);
    }

    /// What came to that path.
    pub(super) fn heard(&self, path: &str) -> Vec<Heard> {
        let heard = self.shared.heard.lock().unwrap();
        heard.iter().filter(|heard| heard.path == path).cloned().collect()
    }

    /// How many requests to that path were cut off.
    pub(super) fn cut(&self, path: &str) -> usize {
        self.shared.cut.lock().unwrap().iter().filter(|it| *it == path).count()
    }

    /// What came to that path besides validations.
    pub(super) fn events(&self, path: &str) -> Vec<Heard> {
        self.heard(path).into_iter().filter(|heard| heard.kind() != VALIDATION).collect()
    }

    /// The validations that came to that path.
    pub(super) fn validations(&self, path: &str) -> Vec<Heard> {
        self.heard(path).into_iter().filter(|heard| heard.kind() == VALIDATION).collect()
    }
}

async fn hear(State(shared): State<Arc<Shared>>, request: Request) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1024 * 1024).await.unwrap();
    let path = parts.uri.path().to_owned();
    let heard = Heard {
        method: parts.method.to_string(),
        path: path.clone(),
        headers: parts.headers,
        body: String::from_utf8(body.to_vec()).unwrap(),
    };
    let answer = shared.answers.lock().unwrap().get(&path).cloned().unwrap_or(Answer::Status(200));
    shared.heard.lock().unwrap().push(heard);
    let mut response = Response::new(Body::empty());
    match answer {
        Answer::Status(status) => *response.status_mut() = StatusCode::from_u16(status).unwrap(),
        Answer::Redirect(status, location) => {
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            response.headers_mut().insert(header::LOCATION, location.parse().unwrap());
        }
        Answer::Silence => {
            let _unanswered = Unanswered { shared: Arc::clone(&shared), path };
            std::future::pending::<()>().await;
        }
    }
    response
}

struct Door {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl Listener for Door {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        loop {
            let (stream, address) = self.listener.accept().await.unwrap();
            // A client that does not trust the certificate goes away here.
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}
