//! Tokens, from a small Maskinporten and a small exchange.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::future::join_all;
use jiff::Timestamp;
use serde_json::json;
use tokio::sync::Notify;

use super::super::*;
use super::{PEM, part};
use crate::http::testing::{Server, chain, clients};
use crate::seams::{SeededRandom, SystemClock};
use crate::transfer::Effect;

/// Maskinporten and Altinn's exchange in one.
#[derive(Clone, Default)]
struct Issuer {
    grants: Arc<Mutex<Vec<String>>>,
    exchanges: Arc<AtomicUsize>,
    /// What to answer instead of a token, for so many calls.
    refuse_grants: Arc<Mutex<Vec<(u16, String)>>>,
    refuse_exchanges: Arc<Mutex<Vec<(u16, String)>>>,
    headers: Arc<Mutex<Vec<(&'static str, HeaderMap)>>>,
    /// Whether its tokens are over when they are issued.
    stale: bool,
    gate: Option<Arc<Notify>>,
    quoted: bool,
}

impl Issuer {
    fn grants(&self) -> usize {
        self.grants.lock().unwrap().len()
    }

    fn exchanges(&self) -> usize {
        self.exchanges.load(Ordering::SeqCst)
    }

    async fn serve(&self) -> Server {
        let router = Router::new()
            .route("/token", post(token))
            .route("/authentication/api/v1/exchange/maskinporten", get(exchange))
            .with_state(self.clone());
        Server::start(router).await
    }
}

fn refused(answers: &Mutex<Vec<(u16, String)>>) -> Option<Response> {
    let (status, body) = answers.lock().unwrap().pop()?;
    Some((StatusCode::from_u16(status).unwrap(), body).into_response())
}

async fn token(State(issuer): State<Issuer>, headers: HeaderMap, body: String) -> Response {
    issuer.headers.lock().unwrap().push(("token", headers));
    let form: Vec<(String, String)> = url::form_urlencoded::parse(body.as_bytes()).into_owned().collect();
    assert_eq!(form[0], ("grant_type".into(), "urn:ietf:params:oauth:grant-type:jwt-bearer".into()));
    assert_eq!(form[1].0, "assertion");
    issuer.grants.lock().unwrap().push(form[1].1.clone());
    if let Some(gate) = &issuer.gate {
        gate.notified().await;
    }
    refused(&issuer.refuse_grants).unwrap_or_else(|| {
        let number = issuer.grants();
        axum::Json(
            json!({ "access_token": format!("raw.{number}"), "token_type": "Bearer", "expires_in": 119 }),
        )
        .into_response()
    })
}

async fn exchange(State(issuer): State<Issuer>, headers: HeaderMap) -> Response {
    let number = issuer.exchanges.fetch_add(1, Ordering::SeqCst);
    assert!(headers[header::AUTHORIZATION].to_str().unwrap().starts_with("Bearer raw."));
    issuer.headers.lock().unwrap().push(("exchange", headers));
    if let Some(refusal) = refused(&issuer.refuse_exchanges) {
        return refusal;
    }
    #[expect(clippy::disallowed_methods, reason = "a server has a clock of its own")]
    let exp = Timestamp::now().as_second() + if issuer.stale { -1 } else { 1_800 };
    let claims = URL_SAFE_NO_PAD.encode(json!({ "exp": exp, "number": number }).to_string());
    let quote = if issuer.quoted { "\"" } else { "" };
    format!("{quote}e30.{claims}.c2ln{quote}\n").into_response()
}

fn parameters(server: &Server) -> Parameters {
    Parameters {
        name: "default".parse().unwrap(),
        organization: "991825827".parse().unwrap(),
        client_id: "f5a1".into(),
        key: SigningKey::parse(&PEM).unwrap(),
        naming: KeyNaming::KeyId("2026-11".into()),
        system_user: false,
        system_user_reference: None,
        token_url: server.url.join("token").unwrap(),
        audience: "https://test.maskinporten.no/".into(),
        platform_url: server.url.clone(),
        subscription_key: None,
        slow_probe: SLOW_PROBE,
    }
}

fn identity(parameters: Parameters, initial: Duration) -> Identity {
    let backoff = Backoff::new(initial, Duration::from_mins(1), Arc::new(SeededRandom::new(3))).unwrap();
    let breaker = |host| {
        let random = Arc::new(SeededRandom::new(4));
        Arc::new(Breaker::new(host, Duration::from_millis(20), random))
    };
    let means = Means {
        clients: clients(),
        clock: Arc::new(SystemClock),
        skew: Arc::new(Skew::new()),
        backoff,
        issuer: breaker("issuer"),
        platform: breaker("platform"),
    };
    Identity::new(parameters, means).unwrap()
}

fn patient(server: &Server) -> Identity {
    identity(parameters(server), Duration::from_secs(30))
}

#[tokio::test]
async fn i22_a_hundred_who_wait_make_one_grant_and_one_exchange() {
    let issuer = Issuer { quoted: true, ..Issuer::default() };
    let server = issuer.serve().await;
    let identity = patient(&server);
    let tokens = join_all((0..100).map(|_| identity.token(Scope::BrokerWrite))).await;
    let first = tokens[0].as_ref().unwrap().expose();
    assert!(tokens.iter().all(|token| token.as_ref().unwrap().expose() == first));
    assert_eq!((issuer.grants(), issuer.exchanges()), (1, 1));
    identity.token(Scope::BrokerWrite).await.unwrap();
    assert_eq!(issuer.grants(), 1, "it is kept");
    identity.token(Scope::BrokerRead).await.unwrap();
    assert_eq!(issuer.grants(), 2, "another scope is another token");
    assert!(identity.skew().is_confirmed());
}

#[tokio::test]
async fn i20_a_refusal_reaches_all_and_is_not_asked_for_again() {
    let issuer = Issuer::default();
    let body = json!({ "error": "x", "error_description": "no", "error_uri": "…/MP-303" }).to_string();
    issuer.refuse_grants.lock().unwrap().push((400, body));
    let server = issuer.serve().await;
    let identity = patient(&server);
    let ask = || join_all((0..100).map(|_| identity.token(Scope::BrokerWrite)));
    for error in ask().await.into_iter().chain(ask().await).map(Result::unwrap_err) {
        assert_eq!((error.code(), error.effect()), ("maskinporten_refused", Effect::None));
        assert_eq!(error.refusal().unwrap().number, Some(303));
        assert!(!error.is_passing());
    }
    assert_eq!(issuer.grants(), 1);
    identity.forget_failures();
    identity.token(Scope::BrokerWrite).await.unwrap();
    assert_eq!(issuer.grants(), 2);
}

#[tokio::test]
async fn a_refusal_is_probed_slowly() {
    let issuer = Issuer::default();
    issuer.refuse_grants.lock().unwrap().push((400, "{}".into()));
    let server = issuer.serve().await;
    let identity = identity(
        Parameters { slow_probe: Duration::from_millis(50), ..parameters(&server) },
        Duration::from_secs(30),
    );
    identity.token(Scope::BrokerWrite).await.unwrap_err();
    while identity.token(Scope::BrokerWrite).await.is_err() {
        tokio::task::yield_now().await;
    }
    assert_eq!(issuer.grants(), 2);
}

#[tokio::test]
async fn i21_an_outage_is_waited_out() {
    let issuer = Issuer::default();
    *issuer.refuse_grants.lock().unwrap() =
        vec![(429, String::new()), (503, "<html>".into()), (500, String::new())];
    let server = issuer.serve().await;
    let identity = identity(parameters(&server), Duration::from_millis(20));
    let mut asked = 0;
    while let Err(error) = identity.token(Scope::BrokerWrite).await {
        assert!(error.is_passing(), "{error}");
        assert_eq!(error.effect(), Effect::None);
        asked += 1;
        tokio::task::yield_now().await;
    }
    assert_eq!((issuer.grants(), asked > 4), (4, true));
    let ids: BTreeSet<String> =
        issuer.grants.lock().unwrap().iter().map(|grant| part(grant, 1)["jti"].to_string()).collect();
    assert_eq!(ids.len(), 4, "each attempt has a grant of its own");
}

#[tokio::test]
async fn a_grant_that_came_too_late_is_made_anew_once() {
    for number in ["MP-012", "MP-130"] {
        let issuer = Issuer::default();
        let body = json!({ "error_uri": format!("https://maskinporten.no/errors/{number}") }).to_string();
        issuer.refuse_grants.lock().unwrap().push((400, body));
        let server = issuer.serve().await;
        patient(&server).token(Scope::BrokerRead).await.unwrap();
        assert_eq!(issuer.grants(), 2);
    }
}

#[tokio::test]
async fn i43_an_exchange_that_refuses_is_tried_with_one_more_token() {
    let issuer = Issuer::default();
    *issuer.refuse_exchanges.lock().unwrap() = vec![(401, String::new())];
    let server = issuer.serve().await;
    patient(&server).token(Scope::BrokerRead).await.unwrap();
    assert_eq!((issuer.grants(), issuer.exchanges()), (2, 2));

    *issuer.refuse_exchanges.lock().unwrap() = vec![(401, String::new()), (401, String::new())];
    let identity = patient(&server);
    for _ in 0..10 {
        let error = identity.token(Scope::BrokerRead).await.unwrap_err();
        assert_eq!((error.code(), error.is_passing()), ("exchange_refused", true));
        assert!(!error.remedy().contains("subscription"));
    }
    assert_eq!((issuer.grants(), issuer.exchanges()), (4, 4));
}

#[tokio::test]
async fn i56_the_gateways_refusal_names_the_subscription_key() {
    let issuer = Issuer::default();
    let body =
        r#"{ "statusCode": 401, "message": "Access denied due to missing subscription key. Make sure" }"#;
    issuer.refuse_exchanges.lock().unwrap().push((401, body.into()));
    let server = issuer.serve().await;
    let error = patient(&server).token(Scope::BrokerRead).await.unwrap_err();
    assert!(error.remedy().contains("subscription_key"), "{error:?}");
    assert_eq!(issuer.grants(), 1);
}

#[tokio::test]
async fn i55_the_subscription_key_goes_to_the_platform_alone() {
    let issuer = Issuer::default();
    let server = issuer.serve().await;
    let key = Some(Secret::new("the-key"));
    let identity = identity(Parameters { subscription_key: key, ..parameters(&server) }, SLOW_PROBE / 10);
    identity.token(Scope::BrokerRead).await.unwrap();
    let headers = issuer.headers.lock().unwrap();
    let with_key: Vec<&str> = headers
        .iter()
        .filter(|(_, headers)| headers.values().any(|value| value == "the-key"))
        .map(|(to, _)| *to)
        .collect();
    assert_eq!(with_key, ["exchange"]);
    assert!(!format!("{identity:?}").contains("the-key"));
}

#[tokio::test]
async fn a_leader_that_is_cancelled_does_not_wedge_the_others() {
    let gate = Arc::new(Notify::new());
    let issuer = Issuer { gate: Some(Arc::clone(&gate)), ..Issuer::default() };
    let server = issuer.serve().await;
    let identity = patient(&server);
    let mut leader = Box::pin(identity.token(Scope::BrokerWrite));
    let mut others = Box::pin(join_all((0..10).map(|_| identity.token(Scope::BrokerWrite))));
    while issuer.grants() == 0 {
        assert!(futures_util::poll!(&mut leader).is_pending());
        assert!(futures_util::poll!(&mut others).is_pending());
        tokio::task::yield_now().await;
    }
    drop(leader);
    gate.notify_one();
    let release = async {
        while issuer.grants() < 2 {
            tokio::task::yield_now().await;
        }
        gate.notify_one();
    };
    let (others, ()) = tokio::join!(others, release);
    assert!(others.iter().all(Result::is_ok));
    assert_eq!(issuer.exchanges(), 1);
}

#[tokio::test]
async fn i25_a_token_that_is_nearly_over_is_used_once() {
    let issuer = Issuer { stale: true, ..Issuer::default() };
    let server = issuer.serve().await;
    let identity = patient(&server);
    assert!(join_all((0..100).map(|_| identity.token(Scope::BrokerRead))).await.iter().all(Result::is_ok));
    assert_eq!(issuer.grants(), 1);
    identity.token(Scope::BrokerRead).await.unwrap();
    assert_eq!(issuer.grants(), 2, "who comes later does not get it");
}

#[tokio::test]
async fn a_token_that_is_not_taken_is_renewed_once_a_while() {
    let issuer = Issuer::default();
    let server = issuer.serve().await;
    let identity = patient(&server);
    let first = identity.token(Scope::BrokerRead).await.unwrap();
    identity.refuse(Scope::BrokerWrite, &first);
    identity.refuse(Scope::BrokerRead, &first);
    let second = identity.token(Scope::BrokerRead).await.unwrap();
    assert_ne!(first.expose(), second.expose());
    identity.refuse(Scope::BrokerRead, &first);
    assert_eq!(identity.token(Scope::BrokerRead).await.unwrap().expose(), second.expose(), "a late word");
    for _ in 0..10 {
        identity.refuse(Scope::BrokerRead, &second);
        identity.token(Scope::BrokerRead).await.unwrap();
    }
    assert_eq!(issuer.grants(), 2, "new tokens do not help");
}

#[tokio::test]
async fn i57_no_error_shows_a_grant_or_a_token() {
    let issuer = Issuer::default();
    *issuer.refuse_exchanges.lock().unwrap() = vec![(400, "no".into())];
    *issuer.refuse_grants.lock().unwrap() = vec![(400, "{}".into()), (503, String::new())];
    let server = issuer.serve().await;
    for _ in 0..3 {
        let identity = patient(&server);
        let error = identity.token(Scope::BrokerRead).await.unwrap_err();
        let shown = format!("{} {} {identity:?}", chain(&error), error.remedy());
        for secret in ["raw.", "eyJ", "MII", "Bearer"] {
            assert!(!shown.contains(secret), "{secret}: {shown}");
        }
    }
}
