//! The sandbox as a server: starting, stopping, restarting, looking inside.

use serde_json::Value;

use super::support::{BASE, Bench, HELLO_MD5, RECIPIENT, SENDER, send};
use crate::sandbox::{Error, Options, Role, Sandbox};

#[tokio::test]
async fn a_file_goes_from_sender_to_recipient() {
    let bench = Bench::start().await;
    let raw = bench.raw_token(Role::Sender).await;
    let exchange = bench.url("/authentication/api/v1/exchange/maskinporten");
    let altinn = send(bench.http.get(exchange).bearer_auth(&raw)).await;
    assert_eq!(altinn.status, 200);
    let request = bench.http.post(bench.url(BASE)).bearer_auth(altinn.text()).json(&Bench::metadata());
    let id = send(request).await.json()["fileTransferId"].as_str().unwrap().to_owned();
    assert_eq!(bench.upload(&id, "hello").await.status, 200);
    assert_eq!(bench.search(RECIPIENT, "&status=Published&recipientStatus=Initialized").await, [id.as_str()]);
    assert_eq!(bench.download(RECIPIENT, &id, None).await.body, b"hello");
    assert_eq!(bench.confirm(RECIPIENT, &id).await.status, 204);
    assert_eq!(bench.status(&id).await, "AllConfirmedDownloaded");
}

#[tokio::test]
async fn it_listens_on_loopback_only() {
    let options = Options { listen: "0.0.0.0:0".parse().unwrap(), ..Options::default() };
    assert!(matches!(Sandbox::start(options).await, Err(Error::NotLoopback(_))));
}

#[tokio::test]
async fn one_directory_serves_one_sandbox() {
    let bench = Bench::start().await;
    let options = Options {
        listen: "127.0.0.1:0".parse().unwrap(),
        dir: Some(bench.sandbox.dir().to_owned()),
        ..Options::default()
    };
    assert!(matches!(Sandbox::start(options).await, Err(Error::InUse(_))));
}

#[tokio::test]
async fn a_temporary_directory_goes_with_the_sandbox() {
    let options = Options { listen: "127.0.0.1:0".parse().unwrap(), ..Options::default() };
    let sandbox = Sandbox::start(options).await.unwrap();
    let dir = sandbox.dir().to_owned();
    assert!(dir.join("keys/avsender.pem").exists());
    sandbox.stop().await;
    assert!(!dir.exists());
}

#[tokio::test]
async fn a_restart_keeps_keys_clients_transfers_and_content() {
    let bench = Bench::start().await;
    let id = bench.publish("hello").await;
    let waiting = bench.initialize(|body| body["disableVirusScan"] = false.into()).await;
    assert_eq!(bench.upload(&waiting, "scan me").await.status, 200);
    let (client, before) = (bench.party(Role::Sender).client_id.clone(), bench.overview(&id).await);
    let bench = bench.restart().await;
    assert_eq!(bench.party(Role::Sender).client_id, client);
    bench.raw_token(Role::Sender).await;
    assert_eq!(bench.overview(&id).await, before);
    assert_eq!(bench.search(RECIPIENT, "&status=Published").await, [id.as_str()]);
    assert_eq!(bench.download(RECIPIENT, &id, None).await.body, b"hello");
    bench.clock.advance(std::time::Duration::from_secs(1));
    bench.until(&waiting, "Published").await;
}

#[tokio::test]
async fn a_key_file_is_readable_by_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let options = Options {
        listen: "127.0.0.1:0".parse().unwrap(),
        key_gate: Some("the key".to_owned()),
        ..Options::default()
    };
    let sandbox = Sandbox::start(options).await.unwrap();
    for file in ["keys/avsender.pem", "keys/subscription-key"] {
        let mode = sandbox.dir().join(file).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    let text = std::fs::read_to_string(&sandbox.organizations()[0].private_key).unwrap();
    assert!(text.starts_with("-----BEGIN PRIVATE KEY-----"), "{text}");
    sandbox.stop().await;
}

/// The objects of a page of JSON lines.
async fn lines(bench: &Bench, path: &str) -> Vec<Value> {
    let reply = send(bench.http.get(bench.url(path))).await;
    assert_eq!(reply.status, 200);
    reply.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn the_ledger_has_an_entry_for_each_request() {
    let bench = Bench::start().await;
    let id = bench.publish("hello").await;
    bench.download(RECIPIENT, &id, None).await;
    let entries = lines(&bench, "/_sandbox/ledger").await;
    let row = |entry: &Value| {
        let text = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
        let number = |name: &str| entry[name].as_u64().unwrap();
        (
            text("operation"),
            text("organization"),
            number("status"),
            text("effect"),
            number("received"),
            number("sent"),
        )
    };
    let rows: Vec<_> = entries.iter().map(row).collect();
    let (sender, recipient) = ("991825827".to_owned(), "910753614".to_owned());
    assert_eq!(
        rows,
        [
            ("initialize".to_owned(), sender.clone(), 200, "initialized".to_owned(), 0, 0),
            ("upload".to_owned(), sender, 200, "published".to_owned(), 5, 0),
            ("download".to_owned(), recipient, 200, "download started".to_owned(), 0, 5),
        ]
    );
    assert!(entries.iter().all(|entry| entry["transfer"] == id.as_str()));
    assert_eq!(entries[2]["sequence"], 3);
    assert_eq!(bench.sandbox.ledger().count("upload", 200), 1);
}

#[tokio::test]
async fn transfers_and_content_are_counted() {
    let bench = Bench::start().await;
    let first = bench.publish("hello").await;
    bench.publish("hello").await;
    bench.download(RECIPIENT, &first, Some("bytes=0-1")).await;
    bench.download(RECIPIENT, &first, Some("bytes=2-")).await;
    bench.download(RECIPIENT, &first, None).await;
    bench.confirm(RECIPIENT, &first).await;
    let transfers = lines(&bench, "/_sandbox/transfers").await;
    let transfer = transfers.iter().find(|transfer| transfer["id"] == first.as_str()).unwrap();
    assert_eq!(transfer["delivered"], 2);
    assert_eq!(transfer["published"], 1);
    assert_eq!(transfer["md5"], HELLO_MD5);
    assert_eq!(transfer["recipients"][RECIPIENT], "DownloadConfirmed");
    let content = lines(&bench, "/_sandbox/content").await;
    let wanted = serde_json::json!(
        { "md5": HELLO_MD5, "fileName": "a.txt", "recipient": RECIPIENT, "published": 2, "delivered": 2, "confirmed": 1 }
    );
    assert_eq!(content, [wanted]);
}

#[tokio::test]
async fn every_answer_says_that_it_is_not_altinn() {
    let bench = Bench::start().await;
    for path in ["/token", "/jwk", "/_sandbox/ledger", "/broker/api/v1/filetransfer", "/elsewhere"] {
        let reply = send(bench.http.get(bench.url(path))).await;
        assert_eq!(reply.header("X-Formidlingd-Sandbox"), Some("not Altinn"), "{path}");
    }
}

fn parse(text: &str) -> Value {
    let source = config::File::from_str(text, config::FileFormat::Toml);
    config::Config::builder().add_source(source).build().unwrap().try_deserialize().unwrap()
}

#[tokio::test]
async fn configurations_name_what_the_sandbox_has() {
    let bench = Bench::with(|options| options.key_gate = Some("key".to_owned())).await;
    let sender = parse(&bench.sandbox.configuration(Role::Sender, None));
    let recipient =
        parse(&bench.sandbox.configuration(Role::Recipient, Some(std::path::Path::new("/srv/in \"box\""))));
    assert_eq!(sender["altinn"]["environment"].as_str(), Some("sandbox"));
    assert_eq!(sender["altinn"]["maskinporten_audience"].as_str(), Some(bench.url("/").as_str()));
    assert_eq!(
        sender["client"]["default"]["client_id"].as_str(),
        Some(bench.party(Role::Sender).client_id.as_str())
    );
    assert_eq!(sender["identity"]["default"]["organization"].as_str(), Some(SENDER));
    assert_eq!(sender["outbox"]["to-mottaker"]["recipients"][0].as_str(), Some(RECIPIENT));
    let key = sender["altinn"]["subscription_key"]["file"].as_str().unwrap();
    assert_eq!(std::fs::read_to_string(key).unwrap(), "key");
    assert_eq!(recipient["inbox"]["from-avsender"]["path"].as_str(), Some("/srv/in \"box\"/inbox"));
    assert_eq!(recipient["identity"]["default"]["organization"].as_str(), Some(RECIPIENT));
}

#[tokio::test]
async fn ended_resolves_when_a_part_dies() {
    let bench = Bench::start().await;
    bench.sandbox.parts.lock().await.abort_all();
    assert!(matches!(bench.sandbox.ended().await, Error::Broken(_)));
}

#[tokio::test]
async fn a_dropped_sandbox_cuts_its_connections() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let bench = Bench::start().await;
    let address = bench.sandbox.url().strip_prefix("http://").unwrap().to_owned();
    let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
    stream.write_all(b"POST /token HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf").await.unwrap();
    drop(bench);
    // The end of the connection, or a reset; not an answer.
    assert!(matches!(stream.read(&mut [0; 64]).await, Ok(0) | Err(_)));
    assert!(tokio::net::TcpStream::connect(&address).await.is_err());
}

#[tokio::test]
async fn by_the_machines_clock_a_scanned_file_is_published_by_itself() {
    use std::sync::Arc;

    use crate::sandbox::{Clock as _, ManualClock, SystemClock};
    let dir = tempfile::tempdir().unwrap();
    super::support::lay_keys(dir.path());
    let clock = Arc::new(ManualClock::new(SystemClock.now()));
    let bench = Bench::at(dir, clock, |options| {
        options.clock = Arc::new(SystemClock);
        options.scan_delay = std::time::Duration::from_millis(20);
    })
    .await;
    let id = bench.initialize(|body| body["disableVirusScan"] = false.into()).await;
    assert_eq!(bench.upload(&id, "hello").await.status, 200);
    bench.until(&id, "Published").await;
}

#[tokio::test]
async fn the_date_of_an_answer_is_by_its_own_clock() {
    let bench = Bench::start().await;
    let date = |reply: &super::support::Reply| reply.header("date").unwrap().to_owned();
    let reply = send(bench.http.get(bench.url("/nowhere"))).await;
    assert_eq!(date(&reply), "Tue, 18 Aug 2026 11:40:01 GMT");
    bench.clock.advance(std::time::Duration::from_hours(24));
    assert_eq!(date(&send(bench.http.get(bench.url("/nowhere"))).await), "Wed, 19 Aug 2026 11:40:01 GMT");
}
