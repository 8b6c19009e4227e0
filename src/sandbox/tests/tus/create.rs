//! OPTIONS and POST.

use reqwest::Method;

use super::{ALREADY, NO_ACCESS, UNKNOWN, path, scanned};
use crate::sandbox::Status;
use crate::sandbox::tests::support::{BASE, Bench, HELLO_MD5, NOBODY, RECIPIENT, SENDER, THIRD, send};

const CHUNK: &str = "application/offset+octet-stream";

#[tokio::test]
async fn s096_options_shows_version_and_extensions_and_no_largest_size() {
    let bench = Bench::start().await;
    for path in [path(NOBODY), format!("{BASE}/upload/tus")] {
        let request = bench.request(Method::OPTIONS, &path);
        send(request.try_clone().unwrap()).await.is_bare(401);
        let reply = send(request.bearer_auth(bench.token(SENDER))).await;
        reply.is_bare(204);
        assert_eq!(reply.header("Tus-Version"), Some("1.0.0"));
        assert_eq!(
            reply.header("Tus-Extension"),
            Some(
                "creation,creation-with-upload,termination,checksum,checksum-trailer,concatenation,expiration"
            )
        );
        assert_eq!(reply.header("Tus-Checksum-Algorithm"), Some("md5"));
        assert_eq!(reply.header("Tus-Max-Size"), None);
    }
}

#[tokio::test]
async fn s098_without_the_version_it_is_404_and_with_another_412() {
    let bench = Bench::start().await;
    let (_, path) = bench.begin(5, |_| {}).await;
    for method in [Method::POST, Method::HEAD, Method::PATCH, Method::DELETE] {
        let request = bench.request(method, &path).bearer_auth(bench.token(SENDER));
        send(request.try_clone().unwrap()).await.is_bare(404);
        let reply = send(request.header("Tus-Resumable", "0.2.2")).await;
        assert_eq!(reply.status, 412);
        assert_eq!(reply.header("Tus-Version"), Some("1.0.0"));
    }
}

#[tokio::test]
async fn s099_a_create_is_201_with_location_and_expiry_and_starts_the_upload() {
    let bench = Bench::start().await;
    let id = bench.initialize(|_| {}).await;
    let reply = bench.create(&path(&id), 5).await;
    reply.is_bare(201);
    assert_eq!(reply.header("Location"), Some(path(&id).as_str()));
    assert_eq!(reply.header("Tus-Resumable"), Some("1.0.0"));
    assert_eq!(reply.header("Upload-Expires"), Some("Wed, 19 Aug 2026 11:40:01 GMT"));
    assert_eq!(reply.header("Upload-Offset"), None);
    assert_eq!(bench.status(&id).await, "UploadStarted");
    let entries = bench.sandbox.ledger().entries();
    let entry = entries.iter().find(|entry| entry.operation == "tus-create").unwrap();
    assert_eq!((entry.status, entry.effect), (Some(201), Some("tus created")));
    assert_eq!(entry.transfer.unwrap().to_string(), id);
}

#[tokio::test]
async fn s100_a_create_needs_a_length_that_is_allowed() {
    let bench = Bench::start().await;
    bench.resource(|resource| resource.max_file_transfer_size = Some(1000));
    let id = bench.initialize(|_| {}).await;
    let request = || bench.tus(Method::POST, &path(&id));
    send(request()).await.is_refused(400, "Missing Upload-Length header");
    let deferred = request().header("Upload-Defer-Length", "1");
    send(deferred).await.is_refused(400, "Header Upload-Defer-Length is not supported");
    send(request().header("Upload-Length", "x")).await.is_refused(400, "Could not parse Upload-Length");
    let negative = "Header Upload-Length must be a positive number";
    send(request().header("Upload-Length", "-1")).await.is_refused(400, negative);
    bench.create(&path(&id), 1001).await.is_refused(400, "File size exceeds maximum");
    assert_eq!(bench.status(&id).await, "Initialized");
    assert_eq!(bench.create(&path(&id), 1000).await.status, 201);
    bench.resource(|resource| resource.max_file_transfer_size = None);
    let id = bench.initialize(scanned).await;
    bench.create(&path(&id), 50_000_000_001).await.is_refused(400, "File size exceeds maximum");
    assert_eq!(bench.create(&path(&id), 50_000_000_000).await.status, 201);
}

#[tokio::test]
async fn s101_a_create_after_the_upload_is_409() {
    let bench = Bench::start().await;
    let processing = bench.initialize(scanned).await;
    assert_eq!(bench.upload(&processing, "hello").await.status, 200);
    let failed = bench.initialize(|body| body["checksum"] = "0".repeat(32).into()).await;
    assert_eq!(bench.upload(&failed, "hello").await.status, 400);
    for id in [bench.publish("hello").await, processing, failed] {
        bench.create(&path(&id), 5).await.is_forbidden(409, ALREADY);
        assert_ne!(bench.transfer(&id).status(), Status::UploadStarted);
    }
}

#[tokio::test]
async fn a_create_needs_the_transfer_and_the_rights() {
    let bench = Bench::start().await;
    bench.permit_third();
    let id = bench.initialize(|_| {}).await;
    bench.create(&path(NOBODY), 5).await.is_forbidden(404, UNKNOWN);
    for path in [format!("{BASE}/upload/tus"), path("x")] {
        bench.create(&path, 5).await.is_forbidden(404, "Missing file transfer id");
    }
    for organization in [RECIPIENT, THIRD] {
        let request = bench.request(Method::POST, &path(&id)).bearer_auth(bench.token(organization));
        send(request.header("Tus-Resumable", "1.0.0")).await.is_forbidden(401, NO_ACCESS);
    }
    let token = bench.token_with_scope(SENDER, "altinn:broker.read");
    let request = bench.request(Method::POST, &path(&id)).bearer_auth(token);
    send(request.header("Tus-Resumable", "1.0.0").header("Upload-Length", 5)).await.is_bare(403);
    bench.resource(|resource| resource.storage_ready = false);
    bench
        .create(&path(&id), 5)
        .await
        .is_forbidden(503, "Storage provider is not ready yet. Please try again later.");
    assert_eq!(bench.status(&id).await, "Initialized");
}

#[tokio::test]
async fn a_partial_path_takes_no_post() {
    let bench = Bench::start().await;
    let (_, path) = bench.begin(5, |_| {}).await;
    bench.create(&format!("{path}/partial/{}", "0".repeat(32)), 5).await.is_bare(404);
}

#[tokio::test]
async fn s111_shortcut_a_create_is_not_idempotent() {
    let bench = Bench::start().await;
    let (id, path) = bench.begin(10, |_| {}).await;
    bench.patch(&path, 0, "hello").await.is_accepted(5);
    bench.until_durable(&path, 5).await;
    assert_eq!(bench.create(&path, 10).await.status, 201);
    bench
        .patch(&path, 5, "world")
        .await
        .is_refused(409, "Offset does not match file. File offset: 0. Request offset: 5");
    assert_eq!(bench.durable(&path).await, Some(5), "blocks that are left are still shown");
    bench.patch(&path, 0, "HELLO").await.is_accepted(5);
    bench.patch(&path, 5, "WORLD").await.is_accepted(10);
    bench.run_until(&id, "Published").await;
    assert_eq!(bench.download(RECIPIENT, &id, None).await.body, b"HELLOWORLD");
}

#[tokio::test]
async fn metadata_is_checked_and_ignored() {
    let bench = Bench::start().await;
    let (_, path) = bench.begin(5, |_| {}).await;
    let request = |metadata: &str| {
        bench.tus(Method::POST, &path).header("Upload-Length", 5).header("Upload-Metadata", metadata)
    };
    for good in ["filename YS50eHQ=", "filename YS50eHQ=,is_confidential", ""] {
        let reply = send(request(good)).await;
        assert_eq!(reply.status, 201, "{good}: {}", reply.text());
    }
    assert_eq!(bench.head(&path).await.header("Upload-Metadata"), None);
    for (bad, text) in [
        ("filename a.txt", "Value for filename is not properly encoded using base64"),
        ("a YQ==,a YQ==", "Duplicate keys are not allowed"),
        ("a YQ==,,b YQ==", "Key must not be empty"),
    ] {
        send(request(bad)).await.is_refused(400, &format!("Header Upload-Metadata: {text}"));
    }
    assert_eq!(send(request("a b c")).await.status, 400);
}

#[tokio::test]
async fn data_may_come_with_the_create() {
    let bench = Bench::start().await;
    let id = bench.initialize(|_| {}).await;
    let path = path(&id);
    let request = |body: &'static str| {
        bench.tus(Method::POST, &path).header("Upload-Length", 5).header("Content-Type", CHUNK).body(body)
    };
    let reply = send(request("hel")).await;
    assert_eq!((reply.status, reply.number("Upload-Offset")), (201, Some(3)));
    let entry = bench.sandbox.ledger().entries().pop().unwrap();
    assert_eq!((entry.effect, entry.received), (Some("tus created"), 3));
    bench.patch(&path, 3, "lo").await.is_accepted(5);
    bench.run_until(&id, "Published").await;
    assert_eq!(bench.transfer(&id).md5.as_deref(), Some(HELLO_MD5));
}

#[tokio::test]
async fn what_goes_wrong_with_data_of_a_create_is_not_told() {
    let bench = Bench::start().await;
    let id = bench.initialize(|_| {}).await;
    let request = || bench.tus(Method::POST, &path(&id)).header("Upload-Length", 5);
    let wrong_type = send(request().header("Content-Type", "text/plain").body("hello")).await;
    assert_eq!((wrong_type.status, wrong_type.number("Upload-Offset")), (201, Some(0)));
    let too_much = send(request().header("Content-Type", CHUNK).body("hello!")).await;
    assert_eq!((too_much.status, too_much.number("Upload-Offset")), (201, Some(0)));
    let checksum = request().header("Content-Type", CHUNK).header("Upload-Checksum", "md5 AAAA");
    let counted = send(checksum.body("hel")).await;
    assert_eq!((counted.status, counted.number("Upload-Offset")), (201, Some(3)));
}
