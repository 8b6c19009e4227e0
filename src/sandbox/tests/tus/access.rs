//! Sessions, rights, and tokens that expire.

use std::time::Duration;

use reqwest::{Method, RequestBuilder};

use super::{ALREADY, DAY, NO_ACCESS, path};
use crate::sandbox::tests::support::{Bench, RECIPIENT, SENDER, THIRD, send};
use crate::sandbox::{Action, Authorization, Delegation};

/// A token for half an hour, of a client with an id.
pub(super) fn token(bench: &Bench, organization: &str) -> String {
    let mut claims = bench.claims(organization);
    claims.insert("client_id".to_owned(), "0d8e9f1c".into());
    bench.sign(&claims)
}

pub(super) fn with(bench: &Bench, method: Method, path: &str, token: &str) -> RequestBuilder {
    bench.request(method, path).bearer_auth(token).header("Tus-Resumable", "1.0.0")
}

fn chunk(bench: &Bench, path: &str, token: &str, offset: u64, content: &'static str) -> RequestBuilder {
    with(bench, Method::PATCH, path, token)
        .header("Upload-Offset", offset)
        .header("Content-Type", "application/offset+octet-stream")
        .body(content)
}

/// Lets a third organisation upload for the sender.
fn delegate(bench: &Bench) {
    bench.permit_third();
    let delegation =
        Delegation { from: "991825827".to_owned(), to: "313579246".to_owned(), action: Action::Write };
    bench.resource(|resource| resource.delegations.push(delegation));
}

#[tokio::test]
async fn s097_an_expired_token_is_accepted_where_an_upload_is_active() {
    let bench = Bench::start().await;
    delegate(&bench);
    // Once by its activity, as the sender itself, and once by a session.
    for by_session in [false, true] {
        let token = if by_session { token(&bench, THIRD) } else { bench.token(SENDER) };
        let id = bench.initialize(|_| {}).await;
        let path = path(&id);
        let create = || with(&bench, Method::POST, &path, &token).header("Upload-Length", 10);
        assert_eq!(send(create()).await.status, 201);
        bench.clock.advance(Duration::from_hours(1));
        send(chunk(&bench, &path, &token, 0, "hello")).await.is_accepted(5);
        assert_eq!(send(with(&bench, Method::HEAD, &path, &token)).await.status, 200);
        assert_eq!(send(create()).await.status, 201);
        send(with(&bench, Method::GET, &format!("/broker/api/v1/filetransfer/{id}"), &token))
            .await
            .is_bare(401);
        send(with(&bench, Method::OPTIONS, &path, &token)).await.is_bare(401);
        send(with(&bench, Method::DELETE, &path, &token)).await.is_bare(204);
    }
}

#[tokio::test]
async fn s097_an_expired_token_opens_nothing() {
    let bench = Bench::start().await;
    delegate(&bench);
    let (mine, third) = (token(&bench, SENDER), token(&bench, THIRD));
    let forged = format!("{third}A");
    let id = bench.initialize(|_| {}).await;
    let (_, active) = bench.begin(5, |_| {}).await;
    bench.clock.advance(Duration::from_hours(1));
    let create = with(&bench, Method::POST, &path(&id), &mine).header("Upload-Length", 5);
    send(create).await.is_bare(401);
    send(with(&bench, Method::HEAD, &path(&id), &mine)).await.is_bare(401);
    // Another's upload: no session, and activity speaks for the sender alone.
    send(with(&bench, Method::HEAD, &active, &third)).await.is_bare(401);
    send(with(&bench, Method::HEAD, &active, &forged)).await.is_bare(401);
    assert_eq!(send(with(&bench, Method::HEAD, &active, &mine)).await.status, 200);
}

#[tokio::test]
async fn s097_the_courtesy_ends_with_the_upload() {
    let bench = Bench::start().await;
    let (id, path) = bench.begin(5, |_| {}).await;
    let token = token(&bench, SENDER);
    send(chunk(&bench, &path, &token, 0, "hello")).await.is_accepted(5);
    bench.run_until(&id, "Published").await;
    send(with(&bench, Method::HEAD, &path, &token)).await.is_forbidden_to_look(409);
    bench.clock.advance(Duration::from_hours(1));
    send(with(&bench, Method::HEAD, &path, &token)).await.is_bare(401);
}

#[tokio::test]
async fn s097_the_courtesy_ends_with_the_session() {
    let bench = Bench::with(|options| options.stuck_after = DAY * 100).await;
    let (_, path) = bench.begin(5, |_| {}).await;
    let token = token(&bench, SENDER);
    assert_eq!(send(with(&bench, Method::HEAD, &path, &token)).await.status, 200);
    bench.clock.advance(Duration::from_secs(86_399));
    assert_eq!(send(with(&bench, Method::HEAD, &path, &token)).await.status, 200);
    bench.clock.advance(Duration::from_secs(86_399));
    assert_eq!(send(with(&bench, Method::HEAD, &path, &token)).await.status, 200, "use renews it");
    bench.clock.advance(DAY + Duration::from_secs(1));
    send(with(&bench, Method::HEAD, &path, &token)).await.is_bare(401);
}

#[tokio::test]
async fn a_session_is_not_asked_for_its_rights_but_create_and_delete_are() {
    let bench = Bench::start().await;
    delegate(&bench);
    let token = token(&bench, THIRD);
    let id = bench.initialize(|_| {}).await;
    let path = path(&id);
    let create = || with(&bench, Method::POST, &path, &token).header("Upload-Length", 10);
    assert_eq!(send(create()).await.status, 201);
    let set = |state| bench.sandbox.world(|world| world.authorization = state).unwrap();
    set(Authorization::Down);
    send(chunk(&bench, &path, &token, 0, "hello")).await.is_accepted(5);
    assert_eq!(send(with(&bench, Method::HEAD, &path, &token)).await.status, 200);
    send(create()).await.is_forbidden(401, NO_ACCESS);
    send(with(&bench, Method::DELETE, &path, &token)).await.is_forbidden(401, NO_ACCESS);
    // The sender itself is known by the activity; nobody else is.
    assert_eq!(bench.head(&path).await.status, 200);
    let other = send(with(&bench, Method::HEAD, &path, &bench.token(RECIPIENT))).await;
    assert_eq!(other.status, 401);
    assert_eq!(other.header("Tus-Resumable"), None);
    set(Authorization::Up);
    // A delete ends the session, though not the activity.
    send(with(&bench, Method::DELETE, &path, &token)).await.is_bare(204);
    set(Authorization::Down);
    assert_eq!(send(with(&bench, Method::HEAD, &path, &token)).await.status, 401);
}

#[tokio::test]
async fn with_a_session_an_upload_that_is_over_is_409() {
    let bench = Bench::start().await;
    let token = token(&bench, SENDER);
    let (id, path) = bench.begin(5, |body| body["checksum"] = "0".repeat(32).into()).await;
    send(chunk(&bench, &path, &token, 0, "hello")).await.is_accepted(5);
    bench.run_until(&id, "Failed").await;
    send(with(&bench, Method::HEAD, &path, &token)).await.is_forbidden_to_look(409);
    send(chunk(&bench, &path, &token, 0, "hello")).await.is_forbidden(409, ALREADY);
    assert_eq!(bench.head(&path).await.status, 404, "without one the rights suffice, but nothing is left");
}

impl super::Reply {
    /// A refusal to HEAD, which has no body.
    #[track_caller]
    fn is_forbidden_to_look(&self, status: u16) {
        assert_eq!((self.status, self.header("Tus-Resumable")), (status, None));
        assert_eq!(self.header("Content-Type"), Some("text/plain"));
    }
}
