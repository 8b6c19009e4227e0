//! Initialize and upload in one.

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::support::{BASE, Bench, HELLO_MD5, RECIPIENT, RESOURCE, Reply, SENDER, THIRD, eventually, send};

const BOUNDARY: &str = "----a boundary of 1";
const FILE: (&str, &str) = ("FileTransfer", "hello");

/// The fields of a correct form.
fn fields() -> Vec<(&'static str, String)> {
    [
        ("Metadata.FileName", "a.txt"),
        ("Metadata.ResourceId", RESOURCE),
        ("Metadata.SendersFileTransferReference", "case-77"),
        ("Metadata.Sender", SENDER),
        ("Metadata.Recipients", RECIPIENT),
        ("Metadata.DisableVirusScan", "true"),
    ]
    .map(|(name, value)| (name, value.to_owned()))
    .into()
}

/// A body with values and a file, in the order in which they are given.
fn body(fields: &[(&str, String)], file: Option<(&str, &str)>) -> String {
    let value = |(name, value): &(&str, String)| {
        format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    let file = file.map(|(name, content)| {
        format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"x.bin\"\r\nContent-Type: application/octet-stream\r\n\r\n{content}\r\n"
        )
    });
    let values: Vec<String> = fields.iter().map(value).chain(file).collect();
    format!("{}--{BOUNDARY}--\r\n", values.concat())
}

async fn post(bench: &Bench, body: impl Into<reqwest::Body>) -> Reply {
    let declared = format!("multipart/form-data; boundary=\"{BOUNDARY}\"");
    send(bench.post_as(SENDER, "/upload").header(CONTENT_TYPE, declared).body(body)).await
}

async fn with(bench: &Bench, change: impl FnOnce(&mut Vec<(&'static str, String)>)) -> Reply {
    let mut fields = fields();
    change(&mut fields);
    post(bench, body(&fields, Some(FILE))).await
}

fn set(fields: &mut [(&'static str, String)], name: &str, value: &str) {
    fields.iter_mut().find(|(it, _)| *it == name).unwrap().1 = value.to_owned();
}

fn id_of(reply: &Reply) -> String {
    assert_eq!(reply.status, 200, "{}", reply.text());
    let answer = reply.json();
    assert_eq!(answer.as_object().unwrap().len(), 1);
    answer["fileTransferId"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn s054_a_form_initializes_and_uploads() {
    let bench = Bench::start().await;
    let reply = with(&bench, |fields| {
        fields.push(("metadata.recipients", THIRD.to_owned()));
        fields.push(("Metadata.PropertyList[Key]", "value".to_owned()));
        fields.push(("metadata.propertylist[other]", "x".to_owned()));
        fields.push(("Metadata.Checksum", HELLO_MD5.to_owned()));
    })
    .await;
    let overview = bench.overview(&id_of(&reply)).await;
    assert_eq!(overview["fileTransferStatus"], "Published");
    assert_eq!((&overview["fileName"], &overview["fileTransferSize"]), (&"a.txt".into(), &5.into()));
    assert_eq!(overview["sendersFileTransferReference"], "case-77");
    assert_eq!(overview["propertyList"], json!({ "Key": "value", "other": "x" }));
    assert_eq!(overview["checksum"], HELLO_MD5);
    assert_eq!(overview["useVirusScan"], false);
    assert_eq!(overview["recipients"].as_array().unwrap().len(), 2);
    let id = overview["fileTransferId"].as_str().unwrap();
    assert_eq!(bench.download(RECIPIENT, id, None).await.body, b"hello");
    assert_eq!(bench.count_events(id, "filetransferinitialized"), 1);
    assert_eq!(bench.count_events(id, "published"), 3);
}

#[tokio::test]
async fn s054_the_file_may_come_first_and_recipients_may_be_numbered() {
    let bench = Bench::start().await;
    let mut fields = fields();
    fields.retain(|(name, _)| !name.starts_with("Metadata.R") || name.starts_with("Metadata.Res"));
    fields.push(("Metadata.Recipients[1]", THIRD.to_owned()));
    fields.push(("Metadata.Recipients[0]", RECIPIENT.to_owned()));
    // The list ends before the first index that is missing.
    fields.push(("Metadata.Recipients[3]", SENDER.to_owned()));
    set(&mut fields, "Metadata.DisableVirusScan", "FALSE");
    let file = body(&[], Some(FILE));
    let file = file.strip_suffix(&format!("--{BOUNDARY}--\r\n")).unwrap();
    let reply = post(&bench, format!("{file}{}", body(&fields, None))).await;
    let overview = bench.overview(&id_of(&reply)).await;
    assert_eq!(overview["fileTransferStatus"], "UploadProcessing");
    assert_eq!(overview["checksum"], "");
    let recipients = overview["recipients"].as_array().unwrap();
    let mut recipients: Vec<_> = recipients.iter().map(|it| it["recipient"].as_str().unwrap()).collect();
    recipients.sort_unstable();
    assert_eq!(recipients, [THIRD, RECIPIENT]);
}

#[tokio::test]
async fn s055_complaints_name_the_fields_of_the_form() {
    let bench = Bench::start().await;
    let reply = with(&bench, |fields| set(fields, "Metadata.Sender", "991825827")).await;
    reply.is_invalid("Metadata.Sender", "Organization numbers should be on the form");
    assert_eq!(reply.header("Content-Type"), Some("application/json; charset=utf-8"));
    let reply = with(&bench, |fields| set(fields, "Metadata.Recipients", "x")).await;
    reply.is_invalid("Metadata.Recipients", "Each recipient should be on the form");
    let reply = with(&bench, |fields| set(fields, "Metadata.DisableVirusScan", "perhaps")).await;
    reply.is_invalid("Metadata.DisableVirusScan", "The value 'perhaps' is not valid for DisableVirusScan.");
    let reply = with(&bench, |fields| fields.push(("Metadata.Checksum", "abc".to_owned()))).await;
    reply.is_invalid("Metadata.Checksum", "The checksum, if used, must be");
    let nothing = post(&bench, body(&[], None)).await;
    nothing.is_invalid("Metadata.FileName", "The FileName field is required.");
    nothing.is_invalid("Metadata.ResourceId", "The ResourceId field is required.");
    nothing.is_invalid("Metadata.Recipients", "One or more recipients are required");
    nothing.is_invalid("FileTransfer", "The FileTransfer field is required.");
    // A part without a file name is a value, not a file.
    let mut fields = fields();
    fields.push(("FileTransfer", "hello".to_owned()));
    let reply = post(&bench, body(&fields, None)).await;
    reply.is_invalid("FileTransfer", "The FileTransfer field is required.");
    assert!(bench.sandbox.transfers().is_empty());
}

#[tokio::test]
async fn s056_a_failed_upload_leaves_a_transfer_whose_id_nobody_was_told() {
    let bench = Bench::start().await;
    let reply = with(&bench, |fields| fields.push(("Metadata.Checksum", "0".repeat(32)))).await;
    reply.is_fault(400, 9);
    bench.resource(|resource| resource.max_file_transfer_size = Some(4));
    let too_large = with(&bench, |_| {}).await;
    too_large.is_fault(400, 16);
    let orphans = bench.sandbox.transfers();
    let statuses: Vec<_> = orphans.iter().map(|transfer| transfer.status().name()).collect();
    assert_eq!(statuses.len(), 2);
    assert!(statuses.contains(&"Failed") && statuses.contains(&"Initialized"), "{statuses:?}");
    for orphan in &orphans {
        let id = orphan.id.to_string();
        assert!(!reply.text().contains(&id) && !too_large.text().contains(&id));
        assert!(bench.search(SENDER, "&role=Sender").await.contains(&id));
    }
    eventually(|| bench.blobs() == 0, || "both files to go".to_owned()).await;
}

#[tokio::test]
async fn a_form_is_refused_as_initialize_is() {
    let bench = Bench::start().await;
    with(&bench, |fields| set(fields, "Metadata.ResourceId", "unknown")).await.is_fault(401, 6);
    bench.resource(|resource| resource.storage_ready = false);
    with(&bench, |_| {}).await.is_fault(503, 21);
    let read_only = bench.token_with_scope(SENDER, "altinn:broker.read");
    let request = bench.http.post(bench.url(&format!("{BASE}/upload"))).bearer_auth(read_only);
    send(request).await.is_bare(403);
    send(bench.post_as(SENDER, "/upload").json(&Value::Null)).await.is_bare(415);
    send(bench.post_as(SENDER, "/upload").header("Accept", "text/html")).await.status_is(406);
    let unbounded = bench.post_as(SENDER, "/upload").header(CONTENT_TYPE, "multipart/form-data").body("x");
    send(unbounded).await.is_invalid("", "Failed to read the request form. Missing content-type boundary.");
    let cut = body(&fields(), Some(FILE));
    let reply = post(&bench, cut.strip_suffix(&format!("--{BOUNDARY}--\r\n")).unwrap().to_owned()).await;
    reply.is_invalid("", "Failed to read the request form. Unexpected end of Stream");
    assert!(bench.sandbox.transfers().is_empty());
    eventually(|| bench.blobs() == 0, || "the files to go".to_owned()).await;
}

#[tokio::test]
async fn a_form_has_at_most_two_gibibytes() {
    let bench = Bench::start().await;
    let address = bench.sandbox.url().strip_prefix("http://").unwrap().to_owned();
    let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
    let head = format!(
        "POST {BASE}/upload HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {}\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: 2147483648\r\n\r\n",
        bench.token(SENDER)
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 4096];
    let length = stream.read(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains("Multipart body length limit 2147483647 exceeded."), "{answer}");
}

#[tokio::test]
async fn values_have_limits_and_the_answer_reaches_who_is_still_writing() {
    let bench = Bench::start().await;
    let mut long = fields();
    long.push(("x", "y".repeat(4 * 1024 * 1024 + 1)));
    long.push(("rest", "z".repeat(4 * 1024 * 1024)));
    let reply = post(&bench, body(&long, Some(FILE))).await;
    reply.is_invalid("", "Failed to read the request form. Form value length limit 4194304 exceeded.");
    let mut many = fields();
    many.extend((0..1024).map(|_| ("x", String::new())));
    let reply = post(&bench, body(&many, Some(FILE))).await;
    reply.is_invalid("", "Failed to read the request form. Form value count limit 1024 exceeded.");
    // What is not asked for is read and forgotten.
    let mut extra = fields();
    extra.push(("x", "y".repeat(4 * 1024 * 1024)));
    let twice = body(&extra, Some(FILE)).replace(&format!("--{BOUNDARY}--\r\n"), "");
    id_of(&post(&bench, twice + &body(&[], Some(("FileTransfer", "another")))).await);
    assert_eq!(bench.sandbox.transfers()[0].size, 5, "the first file counts");
}

#[tokio::test]
async fn a_large_file_goes_to_the_disk_while_the_form_is_read() {
    let bench = Bench::start().await;
    let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Bytes, std::io::Error>>(1);
    let blocks = futures_util::stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|block| (block, receiver))
    });
    let declared = format!("multipart/form-data; boundary=\"{BOUNDARY}\"");
    let request = bench.post_as(SENDER, "/upload").header(CONTENT_TYPE, declared);
    let request = request.body(reqwest::Body::wrap_stream(blocks));
    let mut upload = tokio::task::JoinSet::new();
    upload.spawn(send(request));
    let whole = body(&fields(), Some(FILE));
    let (head, tail) = whole.split_at(whole.find("hello").unwrap() + 5);
    sender.send(Ok(Bytes::from(head.to_owned()))).await.unwrap();
    for _ in 0..64 {
        sender.send(Ok(Bytes::from(vec![b'x'; 64 * 1024]))).await.unwrap();
    }
    let written = || {
        let blobs = std::fs::read_dir(bench.sandbox.dir().join("blobs")).unwrap();
        blobs.map(|blob| blob.unwrap().metadata().unwrap().len()).sum::<u64>()
    };
    eventually(|| written() > 4_000_000, || "bytes on the disk".to_owned()).await;
    assert!(bench.sandbox.transfers().is_empty(), "nothing happens before the form has ended");
    sender.send(Ok(Bytes::from(tail.to_owned()))).await.unwrap();
    drop(sender);
    let reply = upload.join_all().await.remove(0);
    assert_eq!(bench.overview(&id_of(&reply)).await["fileTransferSize"], 5 + 64 * 64 * 1024);
}

#[tokio::test]
async fn a_form_that_was_cut_leaves_nothing() {
    let bench = Bench::start().await;
    let address = bench.sandbox.url().strip_prefix("http://").unwrap().to_owned();
    let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
    let whole = body(&fields(), Some(FILE));
    let half = whole.split_at(whole.find("hello").unwrap() + 2).0;
    let head = format!(
        "POST {BASE}/upload HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {}\r\nContent-Type: multipart/form-data; boundary=\"{BOUNDARY}\"\r\nContent-Length: 2000\r\n\r\n{half}",
        bench.token(SENDER)
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    eventually(|| bench.blobs() == 1, || "the file on the disk".to_owned()).await;
    drop(stream);
    let ended = || bench.sandbox.ledger().entries().iter().any(|it| it.status.is_none());
    eventually(ended, || "the end of the request".to_owned()).await;
    eventually(|| bench.blobs() == 0, || "the file to go".to_owned()).await;
    assert!(bench.sandbox.transfers().is_empty());
    bench.clock.advance(Duration::from_secs(1));
    assert_eq!(bench.publish("hello").await.len(), 36, "the sandbox is as it was");
}
