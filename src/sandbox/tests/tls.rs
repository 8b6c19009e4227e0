//! The sandbox behind TLS.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::support::{BASE, Bench, HELLO_MD5, RECIPIENT, lay_keys, send};
use crate::sandbox::{Clock as _, ManualClock, Options, Role, SystemClock};

fn with_tls(options: &mut Options) {
    options.tls = true;
}

/// A sandbox with TLS and a client that trusts it. Clients take the machine's time, so its clock starts there.
async fn start() -> Bench {
    let dir = tempfile::tempdir().unwrap();
    lay_keys(dir.path());
    at(dir, Arc::new(ManualClock::new(SystemClock.now()))).await
}

async fn at(dir: tempfile::TempDir, clock: Arc<ManualClock>) -> Bench {
    let mut bench = Bench::at(dir, clock, with_tls).await;
    bench.http = trusting(&bench);
    bench
}

async fn restart(mut bench: Bench) -> Bench {
    let (dir, clock) = (bench.dir.take().unwrap(), Arc::clone(&bench.clock));
    drop(bench.http);
    bench.sandbox.stop().await;
    at(dir, clock).await
}

#[expect(
    clippy::disallowed_methods,
    reason = "the sandbox shares no code with the client, not even in its tests"
)]
fn trusting(bench: &Bench) -> reqwest::Client {
    let pem = fs::read(bench.sandbox.certificate_authority().unwrap()).unwrap();
    let authority = reqwest::Certificate::from_pem(&pem).unwrap();
    reqwest::Client::builder().no_proxy().tls_certs_only([authority]).build().unwrap()
}

/// A connection by rustls itself, which offers these protocols.
async fn connect(
    address: &str,
    authority: &Path,
    name: &'static str,
    alpn: &[&str],
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let stream = TcpStream::connect(address).await.unwrap();
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(name).unwrap(), stream).await
}

fn address(bench: &Bench) -> String {
    bench.sandbox.url().strip_prefix("https://").unwrap().to_owned()
}

fn authority(bench: &Bench) -> &Path {
    bench.sandbox.certificate_authority().unwrap()
}

#[tokio::test]
async fn a_file_goes_from_sender_to_recipient_by_tls() {
    let bench = start().await;
    let raw = bench.raw_token(Role::Sender).await;
    let exchange = bench.url("/authentication/api/v1/exchange/maskinporten");
    let altinn = send(bench.http.get(exchange).bearer_auth(&raw)).await;
    assert_eq!(altinn.status, 200);
    let request = bench.http.post(bench.url(BASE)).bearer_auth(altinn.text()).json(&Bench::metadata());
    let id = send(request).await.json()["fileTransferId"].as_str().unwrap().to_owned();
    assert_eq!(bench.upload(&id, "hello").await.status, 200);
    assert_eq!(bench.transfer(&id).md5.as_deref(), Some(HELLO_MD5));
    let reply = bench.download(RECIPIENT, &id, Some("bytes=1-")).await;
    assert_eq!((reply.status, reply.body.as_slice()), (206, &b"ello"[..]));
    assert_eq!(reply.header("X-Formidlingd-Sandbox"), Some("not Altinn"));
}

#[tokio::test]
async fn a_large_body_goes_both_ways_whole() {
    let bench = start().await;
    let content: Vec<u8> = (0..5_000_000_u32).map(|index| (index % 251) as u8).collect();
    let id = bench.initialize(|_| {}).await;
    assert_eq!(bench.upload(&id, content.clone()).await.status, 200);
    assert_eq!(bench.download(RECIPIENT, &id, None).await.body, content);
}

#[tokio::test]
async fn every_address_is_https_and_the_configuration_names_the_authority() {
    let bench = start().await;
    assert!(bench.sandbox.url().starts_with("https://127.0.0.1:"));
    for (name, address) in bench.sandbox.endpoints() {
        assert!(address.starts_with(bench.sandbox.url()), "{name}: {address}");
    }
    let metadata = send(bench.http.get(bench.url("/.well-known/oauth-authorization-server"))).await.json();
    assert_eq!(metadata["issuer"], bench.url("/"));
    assert_eq!(metadata["token_endpoint"], bench.url("/token"));
    let configuration: toml::Table = bench.sandbox.configuration(Role::Sender, None).parse().unwrap();
    assert_eq!(configuration["http"]["ca_file"].as_str(), authority(&bench).to_str());
    assert_eq!(configuration["altinn"]["platform_url"].as_str(), Some(bench.sandbox.url()));
}

#[tokio::test]
async fn without_tls_there_is_no_authority() {
    let bench = Bench::start().await;
    assert!(bench.sandbox.url().starts_with("http://"));
    assert_eq!(bench.sandbox.certificate_authority(), None);
    assert!(!bench.sandbox.dir().join("tls").exists());
    assert!(!bench.sandbox.configuration(Role::Sender, None).contains("ca_file"));
}

#[tokio::test]
async fn the_certificate_is_for_localhost_and_both_addresses_and_for_nobody_else() {
    let bench = start().await;
    for name in ["localhost", "127.0.0.1", "::1"] {
        connect(&address(&bench), authority(&bench), name, &[]).await.unwrap();
    }
    let refused = connect(&address(&bench), authority(&bench), "platform.altinn.no", &[]).await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("not valid for name"), "{refused}");
}

#[tokio::test]
async fn who_does_not_trust_the_authority_does_not_connect() {
    let (one, other) = (start().await, start().await);
    let refused = connect(&address(&one), authority(&other), "localhost", &[]).await.unwrap_err();
    assert!(refused.to_string().contains("invalid peer certificate"), "{refused}");
}

#[tokio::test]
async fn http_1_1_is_spoken_and_http_2_is_not() {
    let bench = start().await;
    let stream =
        connect(&address(&bench), authority(&bench), "localhost", &["h2", "http/1.1"]).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let refused = connect(&address(&bench), authority(&bench), "localhost", &["h2"]).await.unwrap_err();
    assert!(refused.to_string().contains("NoApplicationProtocol"), "{refused}");
}

#[tokio::test]
async fn a_client_that_is_slow_with_its_handshake_keeps_nobody_waiting() {
    let bench = start().await;
    let mut slow = Vec::new();
    for _ in 0..20 {
        slow.push(TcpStream::connect(address(&bench)).await.unwrap());
    }
    assert_eq!(send(bench.http.get(bench.url("/jwk"))).await.status, 200);
    // It stops all the same.
    bench.sandbox.stop().await;
}

#[tokio::test]
async fn who_speaks_no_tls_is_turned_away_and_others_are_served() {
    let bench = start().await;
    let mut stream = TcpStream::connect(address(&bench)).await.unwrap();
    stream.write_all(b"GET /jwk HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    // An alert and the end, or a reset: nothing of HTTP.
    if stream.read_to_end(&mut answer).await.is_ok() {
        assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    }
    assert_eq!(send(bench.http.get(bench.url("/jwk"))).await.status, 200);
}

#[tokio::test]
async fn a_dropped_sandbox_cuts_connections_with_tls() {
    let bench = start().await;
    let mut stream = connect(&address(&bench), authority(&bench), "localhost", &[]).await.unwrap();
    stream.write_all(b"POST /token HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf").await.unwrap();
    drop(bench);
    assert!(matches!(stream.read(&mut [0; 64]).await, Ok(0) | Err(_)));
}

/// All that lies in `tls/`, by name.
fn papers(bench: &Bench) -> Vec<(String, Vec<u8>)> {
    let mut papers: Vec<_> = fs::read_dir(bench.sandbox.dir().join("tls"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect();
    papers.sort();
    papers
}

#[tokio::test]
async fn a_restart_keeps_the_authority_and_the_certificate() {
    let bench = start().await;
    let before = papers(&bench);
    let names: Vec<&str> = before.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["ca.key", "ca.pem", "server.key", "server.pem"]);
    bench.clock.advance(Duration::from_hours(700 * 24));
    let bench = restart(bench).await;
    assert_eq!(papers(&bench), before);
}

#[tokio::test]
async fn what_has_run_out_by_the_sandboxs_clock_is_made_anew() {
    let bench = start().await;
    let before = papers(&bench);
    bench.clock.advance(Duration::from_hours(731 * 24));
    let bench = restart(bench).await;
    for (old, new) in before.iter().zip(papers(&bench)) {
        assert_ne!(*old, new);
    }
}

#[tokio::test]
async fn what_is_broken_or_does_not_belong_together_is_made_anew() {
    for (file, content) in [("server.pem", None), ("ca.pem", Some("rubbish")), ("server.key", Some(""))] {
        let bench = start().await;
        let path = bench.sandbox.dir().join("tls").join(file);
        match content {
            Some(text) => fs::write(&path, text).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        let bench = restart(bench).await;
        assert_eq!(send(bench.http.get(bench.url("/jwk"))).await.status, 200, "{file}");
    }
    let (one, other) = (start().await, start().await);
    let strange = other.sandbox.dir().join("tls/server.key");
    fs::copy(strange, one.sandbox.dir().join("tls/server.key")).unwrap();
    let one = restart(one).await;
    assert_eq!(send(one.http.get(one.url("/jwk"))).await.status, 200);
}

#[tokio::test]
async fn its_private_keys_are_readable_by_their_owner_alone() {
    let bench = start().await;
    for file in ["ca.key", "server.key"] {
        let mode = bench.sandbox.dir().join("tls").join(file).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
}

/// Presents a certificate for `name` by the sandbox's authority to somebody who trusts it.
async fn vouched(bench: &Bench, name: &'static str) -> std::io::Result<()> {
    let tls = bench.sandbox.dir().join("tls");
    let text = |file: &str| fs::read_to_string(tls.join(file)).unwrap();
    let authority_key = rcgen::KeyPair::from_pem(&text("ca.key")).unwrap();
    let mut issuer = rcgen::CertificateParams::new(Vec::new()).unwrap();
    issuer.distinguished_name = rcgen::DistinguishedName::new();
    issuer.distinguished_name.push(rcgen::DnType::CommonName, "formidlingd sandbox CA (not Altinn)");
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &rcgen::Issuer::from_params(&issuer, &authority_key)).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    listener.set_nonblocking(true).unwrap();
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    let accepted = async {
        let (stream, _) = listener.accept().await.unwrap();
        TlsAcceptor::from(Arc::new(config)).accept(stream).await
    };
    let (connected, _accepted) = tokio::join!(connect(&address, authority(bench), name, &[]), accepted);
    connected.map(drop)
}

#[tokio::test]
async fn the_authority_can_vouch_for_loopback_alone() {
    let bench = start().await;
    vouched(&bench, "localhost").await.unwrap();
    vouched(&bench, "127.0.0.1").await.unwrap();
    for name in ["platform.altinn.no", "192.0.2.1"] {
        let refused = vouched(&bench, name).await.unwrap_err().to_string();
        assert!(refused.contains("NameConstraintViolation"), "{name}: {refused}");
    }
}
