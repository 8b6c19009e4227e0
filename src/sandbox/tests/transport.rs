//! Tokens, headers, errors: what holds on every endpoint.

use reqwest::Method;

use super::support::{BASE, Bench, NOBODY, RECIPIENT, RESOURCE, Reply, SENDER, THIRD, send};
use crate::sandbox::{Authorization, Role};

/// Every endpoint of Formidling.
fn endpoints() -> Vec<(Method, String)> {
    let of_transfer = |method: &Method, rest: &str| (method.clone(), format!("{BASE}/{NOBODY}{rest}"));
    let tus = |method: Method| (method, format!("{BASE}/upload/tus/{NOBODY}"));
    let partial = |method: Method| (method, format!("{BASE}/upload/tus/{NOBODY}/partial/{}", "0".repeat(32)));
    vec![
        tus(Method::OPTIONS),
        tus(Method::POST),
        tus(Method::HEAD),
        tus(Method::PATCH),
        tus(Method::DELETE),
        partial(Method::HEAD),
        partial(Method::PATCH),
        partial(Method::DELETE),
        (Method::POST, BASE.to_owned()),
        (Method::GET, format!("{BASE}?resourceId={RESOURCE}")),
        of_transfer(&Method::GET, ""),
        of_transfer(&Method::GET, "/details"),
        of_transfer(&Method::POST, "/upload"),
        of_transfer(&Method::GET, "/download"),
        of_transfer(&Method::POST, "/confirmdownload"),
        (Method::POST, format!("{BASE}/upload")),
        (Method::GET, format!("/broker/api/v1/resource/{RESOURCE}")),
        (Method::PUT, format!("/broker/api/v1/resource/{RESOURCE}")),
        (Method::GET, "/broker/api/v1/serviceowner".to_owned()),
        (Method::POST, "/broker/api/v1/serviceowner".to_owned()),
        (Method::GET, "/broker/api/v1/statistics/monthly".to_owned()),
    ]
}

#[tokio::test]
async fn s001_without_a_token_every_endpoint_answers_401_with_a_challenge() {
    let bench = Bench::start().await;
    for (method, path) in endpoints() {
        let reply = send(bench.request(method, &path)).await;
        reply.is_bare(401);
        assert!(reply.header("WWW-Authenticate").unwrap().starts_with("Bearer"), "{path}");
    }
}

#[tokio::test]
async fn s002_an_expired_token_is_401_without_a_body() {
    let bench = Bench::start().await;
    let mut claims = bench.claims(SENDER);
    claims.insert("exp".to_owned(), (bench.now() - 1).into());
    let token = bench.sign(&claims);
    for (method, path) in endpoints() {
        send(bench.request(method, &path).bearer_auth(&token)).await.is_bare(401);
    }
}

#[tokio::test]
async fn i050_an_expired_token_is_challenged_without_any_tolerance() {
    let bench = Bench::start().await;
    let mut claims = bench.claims(SENDER);
    claims.insert("exp".to_owned(), bench.now().into());
    let path = format!("{BASE}/{NOBODY}");
    let reply = send(bench.request(Method::GET, &path).bearer_auth(bench.sign(&claims))).await;
    reply.is_bare(401);
    assert!(reply.header("WWW-Authenticate").unwrap().starts_with("Bearer"));
    claims.insert("exp".to_owned(), (bench.now() + 1).into());
    send(bench.request(Method::GET, &path).bearer_auth(bench.sign(&claims))).await.is_fault(404, 1);
}

#[tokio::test]
async fn a_foreign_or_mangled_token_is_401_without_a_body() {
    let bench = Bench::start().await;
    let good = bench.claims(SENDER);
    let mut other_issuer = good.clone();
    other_issuer.insert("iss".to_owned(), "https://platform.altinn.no/authentication/api/v1/openid/".into());
    let mut borrowed_issuer = good.clone();
    borrowed_issuer.insert("iss".to_owned(), bench.url("/").into());
    let token = bench.sign(&good);
    let tokens =
        [bench.sign(&other_issuer), bench.sign(&borrowed_issuer), "x.y.z".to_owned(), format!("{token}A")];
    for token in tokens {
        let request = bench.request(Method::GET, &format!("{BASE}/{NOBODY}")).bearer_auth(token);
        send(request).await.is_bare(401);
    }
}

#[tokio::test]
async fn s003_a_token_without_the_scope_is_403_without_a_body() {
    let bench = Bench::start().await;
    let token = bench.token_with_scope(SENDER, "altinn:events.subscribe altinn:broker.writer");
    for (method, path) in endpoints() {
        send(bench.request(method, &path).bearer_auth(&token)).await.is_bare(403);
    }
}

#[tokio::test]
async fn s004_a_raw_maskinporten_token_works_as_an_exchanged_one() {
    let bench = Bench::start().await;
    let raw = bench.raw_token(Role::Sender).await;
    let exchange = bench.request(Method::GET, "/authentication/api/v1/exchange/maskinporten");
    let altinn = send(exchange.bearer_auth(&raw)).await.text();
    assert_ne!(raw, altinn);
    for token in [raw, altinn] {
        let ask = |method, rest: String| bench.request(method, &format!("{BASE}{rest}")).bearer_auth(&token);
        let initialized = send(ask(Method::POST, String::new()).json(&Bench::metadata())).await;
        assert_eq!(initialized.status, 200, "{}", initialized.text());
        let id = initialized.json()["fileTransferId"].as_str().unwrap().to_owned();
        assert_eq!(send(ask(Method::POST, format!("/{id}/upload")).body("hello")).await.status, 200);
        assert_eq!(send(ask(Method::GET, format!("/{id}"))).await.json()["fileTransferStatus"], "Published");
    }
}

#[tokio::test]
async fn s005_read_scope_alone_cannot_initialize_but_can_look() {
    let bench = Bench::start().await;
    let id = bench.initialize(|_| {}).await;
    let token = bench.token_with_scope(SENDER, "altinn:broker.read");
    send(bench.request(Method::POST, BASE).bearer_auth(&token).json(&Bench::metadata())).await.is_bare(403);
    let upload = bench.request(Method::POST, &format!("{BASE}/{id}/upload")).bearer_auth(&token);
    send(upload.body("hello")).await.is_bare(403);
    let overview = send(bench.request(Method::GET, &format!("{BASE}/{id}")).bearer_auth(&token)).await;
    assert_eq!(overview.status, 200);
}

#[tokio::test]
async fn s006_write_scope_alone_cannot_download_or_confirm_but_can_look() {
    let bench = Bench::start().await;
    let id = bench.publish("hello").await;
    let token = bench.token_with_scope(RECIPIENT, "altinn:broker.write");
    let ask =
        |method, rest: String| send(bench.request(method, &format!("{BASE}{rest}")).bearer_auth(&token));
    ask(Method::GET, format!("/{id}/download")).await.is_bare(403);
    ask(Method::POST, format!("/{id}/confirmdownload")).await.is_bare(403);
    assert_eq!(ask(Method::GET, format!("/{id}")).await.status, 200);
    assert_eq!(ask(Method::GET, format!("?resourceId={RESOURCE}")).await.status, 200);
}

#[tokio::test]
async fn s007_a_wrong_accept_is_406_even_without_a_token() {
    let bench = Bench::start().await;
    let reply =
        send(bench.request(Method::GET, &format!("{BASE}/{NOBODY}")).header("Accept", "text/plain")).await;
    assert_eq!(reply.status, 406);
    assert_eq!(reply.header("Content-Type"), None);
    assert_eq!(
        reply.text(),
        "This endpoint does not support the requested Accept header. Supported Accept headers are: application/json, */*."
    );
}

#[tokio::test]
async fn s008_a_wildcard_subtype_is_not_acceptable() {
    let bench = Bench::start().await;
    for accept in ["application/*", "text/*", "application/problem+json"] {
        let request = bench.get_as(SENDER, &format!("?resourceId={RESOURCE}"));
        assert_eq!(send(request.header("Accept", accept)).await.status, 406, "{accept}");
    }
}

#[tokio::test]
async fn s009_one_acceptable_element_is_enough() {
    let bench = Bench::start().await;
    for accept in ["text/html, application/json;q=0.5", "*/*", "APPLICATION/JSON"] {
        let request = bench.get_as(SENDER, &format!("?resourceId={RESOURCE}"));
        assert_eq!(send(request.header("Accept", accept)).await.status, 200, "{accept}");
    }
}

#[tokio::test]
async fn s010_no_accept_header_passes() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let bench = Bench::start().await;
    let address = bench.sandbox.url().strip_prefix("http://").unwrap().to_owned();
    let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
    let token = bench.token(SENDER);
    let request = format!(
        "GET {BASE}?resourceId={RESOURCE} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn s011_download_does_not_look_at_accept() {
    let bench = Bench::start().await;
    let id = bench.publish("hello").await;
    let request = bench.get_as(RECIPIENT, &format!("/{id}/download")).header("Accept", "text/plain");
    assert_eq!(send(request).await.status, 200);
}

#[tokio::test]
async fn s012_every_answer_forbids_sniffing_and_storing() {
    let bench = Bench::start().await;
    let id = bench.publish("hello").await;
    let lost = bench.publish("hello").await;
    std::fs::remove_file(blob_of(&bench, &lost)).unwrap();
    let overview = |method: Method| bench.request(method, &format!("{BASE}/{id}"));
    let resource = || bench.request(Method::PUT, &format!("/broker/api/v1/resource/{RESOURCE}"));
    let owner = bench.token_with_scope(super::support::OWNER, "altinn:serviceowner");
    for (status, request) in [
        (401, bench.request(Method::GET, BASE)),
        (404, bench.request(Method::GET, "/nowhere")),
        (200, bench.get_as(RECIPIENT, &format!("/{id}/download"))),
        (206, bench.get_as(RECIPIENT, &format!("/{id}/download")).header("Range", "bytes=0-0")),
        (416, bench.get_as(RECIPIENT, &format!("/{id}/download")).header("Range", "bytes=9-")),
        (500, bench.get_as(RECIPIENT, &format!("/{lost}/download"))),
        (401, bench.get_as(RECIPIENT, "?resourceId=x")),
        (406, overview(Method::GET).header("Accept", "text/plain")),
        (405, overview(Method::HEAD)),
        (405, overview(Method::DELETE)),
        (200, bench.post_as(SENDER, "").json(&Bench::metadata())),
        (400, bench.post_as(SENDER, "").json(&1)),
        (415, bench.post_as(SENDER, "").body("x")),
        (204, bench.post_as(RECIPIENT, &format!("/{id}/confirmdownload"))),
        (401, resource()),
        (204, resource().bearer_auth(owner).json(&serde_json::json!({}))),
    ] {
        let reply = send(request).await;
        assert_eq!(reply.status, status, "{}", reply.text());
        assert_eq!(reply.header("X-Content-Type-Options"), Some("nosniff"));
        assert_eq!(reply.header("Cache-Control"), Some("no-store"));
        assert_eq!((reply.header("ETag"), reply.header("Retry-After")), (None, None));
    }
}

/// The file that a transfer's content lies in.
fn blob_of(bench: &Bench, id: &str) -> std::path::PathBuf {
    bench.sandbox.dir().join("blobs").join(bench.transfer(id).blob.unwrap())
}

#[tokio::test]
async fn an_unhandled_exception_has_a_body_only_for_a_client_that_accepts_json() {
    let bench = Bench::start().await;
    let id = bench.publish("hello").await;
    std::fs::remove_file(blob_of(&bench, &id)).unwrap();
    let download =
        |accept: &str| send(bench.get_as(RECIPIENT, &format!("/{id}/download")).header("Accept", accept));
    for accept in ["*/*", "application/json", "text/html, application/*;q=0.1", "application/problem+json"] {
        let reply = download(accept).await;
        assert_eq!(reply.json()["title"], "Internal Server Error", "{accept}");
        assert!(reply.json().get("code").is_none());
    }
    for accept in ["application/octet-stream", "text/plain", "application/json;version=2"] {
        download(accept).await.is_bare(500);
    }
}

#[tokio::test]
async fn s013_no_subscription_key_is_needed() {
    let bench = Bench::start().await;
    let search = || bench.get_as(SENDER, &format!("?resourceId={RESOURCE}"));
    assert_eq!(send(search()).await.status, 200);
    assert_eq!(send(search().header("Ocp-Apim-Subscription-Key", "any")).await.status, 200);
}

#[tokio::test]
async fn i054_the_key_gate_demands_the_key_in_the_gateways_own_words() {
    let gated = Bench::with(|options| options.key_gate = Some("right".to_owned())).await;
    for (key, text) in [
        (
            None,
            "Access denied due to missing subscription key. Make sure to include subscription key when making requests to an API.",
        ),
        (
            Some("wrong"),
            "Access denied due to invalid subscription key. Make sure to provide a valid key for an active subscription.",
        ),
    ] {
        for path in [
            format!("{BASE}?resourceId={RESOURCE}"),
            "/authentication/api/v1/exchange/maskinporten".to_owned(),
        ] {
            let request = gated.request(Method::GET, &path);
            let reply =
                send(key.into_iter().fold(request, |it, key| it.header("Ocp-Apim-Subscription-Key", key)))
                    .await;
            assert_eq!(reply.status, 401);
            assert_eq!(reply.json(), serde_json::json!({ "statusCode": 401, "message": text }));
            assert!(reply.header("WWW-Authenticate").unwrap().starts_with("AzureApiManagementKey"));
        }
    }
    let request = gated.get_as(SENDER, &format!("?resourceId={RESOURCE}"));
    assert_eq!(send(request.header("Ocp-Apim-Subscription-Key", "right")).await.status, 200);
    gated.raw_token(Role::Sender).await;
}

#[tokio::test]
async fn s014_initialize_with_another_content_type_is_415() {
    let bench = Bench::start().await;
    let request =
        bench.post_as(SENDER, "").header("Content-Type", "text/plain").body(Bench::metadata().to_string());
    send(request).await.is_bare(415);
}

#[tokio::test]
async fn s015_head_is_405() {
    let bench = Bench::start().await;
    let id = bench.publish("hello").await;
    for rest in ["", "/download"] {
        let request = bench.request(Method::HEAD, &format!("{BASE}/{id}{rest}"));
        send(request.bearer_auth(bench.token(RECIPIENT))).await.is_bare(405);
    }
    send(bench.request(Method::DELETE, &format!("{BASE}/{id}"))).await.is_bare(405);
    send(bench.request(Method::GET, "/broker/api/v1/nothing")).await.is_bare(404);
}

#[tokio::test]
async fn paths_match_in_any_case_and_with_a_slash_at_the_end() {
    let bench = Bench::start().await;
    let id = bench.initialize(|_| {}).await;
    let braced = format!("%7B{}%7D", id.to_uppercase());
    for path in [
        format!("/Broker/API/v1/FileTransfer/{}/", id.to_uppercase()),
        format!("{BASE}/{}", id.replace('-', "")),
        format!("{BASE}/{braced}"),
    ] {
        let reply = send(bench.request(Method::GET, &path).bearer_auth(bench.token(SENDER))).await;
        assert_eq!(reply.status, 200, "{path}");
        assert_eq!(reply.json()["fileTransferId"], id.as_str());
    }
}

/// A reply's `traceId` occurs twice, and its `code` is the word and five digits.
#[track_caller]
fn is_a_problem(reply: &Reply) {
    assert_eq!(reply.text().matches("\"traceId\":").count(), 2, "{}", reply.text());
    let body = reply.json();
    let digits = body["code"].as_str().unwrap().strip_prefix("BRO-").unwrap();
    assert!(digits.len() == 5 && digits.bytes().all(|byte| byte.is_ascii_digit()), "{body}");
    assert_eq!((&body["status"], &body["title"]), (&reply.status.into(), &body["statusDescription"]));
}

#[tokio::test]
async fn s124_every_problem_has_a_code_and_two_trace_ids() {
    let bench = Bench::start().await;
    bench.permit_third();
    let id = bench.initialize(|_| {}).await;
    let published = bench.publish("hello").await;
    let mut problems = vec![
        send(bench.get_as(SENDER, &format!("/{NOBODY}"))).await,
        send(bench.get_as(THIRD, &format!("/{id}"))).await,
        send(bench.get_as(SENDER, "?resourceId=unknown")).await,
        bench.try_initialize(|body| body["resourceId"] = "unknown".into()).await,
        bench.upload(&published, "hello").await,
        bench.download(RECIPIENT, &id, None).await,
        bench.download(RECIPIENT, &published, Some("bytes=9-")).await,
        bench.confirm(RECIPIENT, &id).await,
        bench.confirm(RECIPIENT, &published).await,
    ];
    bench.resource(|resource| resource.storage_ready = false);
    problems.push(bench.try_initialize(|_| {}).await);
    bench.resource(|resource| (resource.storage_ready, resource.registered) = (true, false));
    problems.push(bench.try_initialize(|_| {}).await);
    bench.resource(|resource| (resource.registered, resource.storage_fails) = (true, true));
    problems.push(bench.upload(&id, "hello").await);
    let mut codes = Vec::new();
    for problem in &problems {
        is_a_problem(problem);
        codes.push(problem.json()["code"].as_str().unwrap().to_owned());
    }
    let numbers = [1, 6, 6, 6, 4, 7, 29, 3, 19, 21, 5, 8];
    assert_eq!(codes, numbers.map(|number| format!("BRO-{number:05}")));
    let body = problems[0].json();
    assert_eq!(body["type"], "https://tools.ietf.org/html/rfc9110#section-15.5.5");
    assert_eq!((&body["title"], &body["status"]), (&"Not Found".into(), &404.into()));
    assert_eq!(body["detail"], "The requested file transfer was not found");
    // What is refused before the Broker's own code has neither.
    let invalid = send(bench.get_as(SENDER, "/x")).await.json();
    assert!(invalid.get("code").is_none() && invalid.get("errors").is_some(), "{invalid}");
}

#[tokio::test]
async fn shortcut_problems_are_not_problem_json_throughout() {
    let bench = Bench::start().await;
    let id = bench.initialize(|_| {}).await;
    let of_overview = send(bench.get_as(SENDER, &format!("/{NOBODY}"))).await;
    assert_eq!(of_overview.header("Content-Type"), Some("application/json; charset=utf-8"));
    let of_confirm = bench.confirm(RECIPIENT, &id).await;
    assert_eq!(of_confirm.header("Content-Type"), Some("application/json; charset=utf-8"));
    let of_download = bench.download(RECIPIENT, &id, None).await;
    assert_eq!(of_download.header("Content-Type"), Some("application/problem+json"));
}

#[tokio::test]
async fn get_upload_is_an_id_that_is_none() {
    let bench = Bench::start().await;
    send(bench.get_as(SENDER, "/upload"))
        .await
        .is_invalid("fileTransferId", "The value 'upload' is not valid.");
}

#[tokio::test]
async fn s125_authorization_out_of_order_looks_like_a_lack_of_rights() {
    let bench = Bench::start().await;
    let id = bench.publish("hello").await;
    bench.sandbox.world(|world| world.authorization = Authorization::Down).unwrap();
    bench.try_initialize(|_| {}).await.is_fault(401, 6);
    send(bench.get_as(SENDER, &format!("/{id}"))).await.is_fault(401, 6);
    send(bench.get_as(SENDER, &format!("?resourceId={RESOURCE}"))).await.is_fault(401, 6);
    bench.download(RECIPIENT, &id, None).await.is_fault(401, 6);
    bench.sandbox.world(|world| world.authorization = Authorization::Up).unwrap();
    assert_eq!(bench.status(&id).await, "Published");
}
