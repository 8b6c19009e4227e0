//! Rate limits of the gateway (Broker API, rate limits).

use std::time::Duration;

use reqwest::Method;
use serde_json::{Map, Value, json};

use super::support::{BASE, Bench, NOBODY, RESOURCE, Reply, SENDER, send};
use crate::sandbox::{RateLimits, Role};

async fn limited() -> Bench {
    Bench::with(|options| options.rate_limits = RateLimits::altinn()).await
}

fn token(bench: &Bench, client: &str) -> String {
    let mut claims: Map<String, Value> = bench.claims(SENDER);
    claims.insert("client_id".to_owned(), client.into());
    bench.sign(&claims)
}

async fn get(bench: &Bench, token: &str, rest: &str) -> Reply {
    send(bench.request(Method::GET, &format!("{BASE}{rest}")).bearer_auth(token)).await
}

#[tokio::test]
async fn search_is_limited_to_ten_a_minute_in_a_sliding_window() {
    let bench = limited().await;
    let (token, query) = (token(&bench, "one"), format!("?resourceId={RESOURCE}"));
    let search = async || get(&bench, &token, &query).await;
    for _ in 0..5 {
        assert_eq!(search().await.status, 200);
    }
    bench.clock.advance(Duration::from_secs(30));
    for _ in 0..5 {
        assert_eq!(search().await.status, 200);
    }
    let refused = search().await;
    assert_eq!((refused.status, refused.header("Retry-After")), (429, Some("30")));
    assert_eq!(refused.header("Content-Type"), Some("application/json"));
    let text = "Rate limit is exceeded. Try again in 30 seconds.";
    assert_eq!(refused.json(), json!({ "statusCode": 429, "message": text }));
    bench.clock.advance(Duration::from_millis(29_500));
    assert_eq!(search().await.header("Retry-After"), Some("1"));
    bench.clock.advance(Duration::from_millis(500));
    for _ in 0..5 {
        assert_eq!(search().await.status, 200);
    }
    assert_eq!(search().await.status, 429);
    let entries = bench.sandbox.ledger().entries();
    let refused: Vec<_> = entries.iter().filter(|entry| entry.status == Some(429)).collect();
    assert_eq!(refused.len(), 3);
    assert!(refused.iter().all(|it| it.effect.is_none() && it.client.as_deref() == Some("one")));
    assert!(refused.iter().all(|it| it.organization.is_none()));
}

#[tokio::test]
async fn each_client_and_each_operation_has_a_counter_of_its_own() {
    let bench = limited().await;
    let (one, other) = (token(&bench, "one"), token(&bench, "other"));
    let (search, details) = (format!("?resourceId={RESOURCE}"), format!("/{NOBODY}/details"));
    for _ in 0..10 {
        get(&bench, &one, &search).await;
    }
    assert_eq!(get(&bench, &one, &search).await.status, 429);
    assert_eq!(get(&bench, &other, &search).await.status, 200);
    for _ in 0..10 {
        assert_eq!(get(&bench, &one, &details).await.status, 404);
    }
    assert_eq!(get(&bench, &one, &details).await.status, 429);
}

#[tokio::test]
async fn the_other_operations_are_limited_to_120_a_minute() {
    let bench = limited().await;
    let token = token(&bench, "one");
    for (method, path) in [
        (Method::POST, BASE.to_owned()),
        (Method::POST, format!("{BASE}/upload")),
        (Method::POST, format!("{BASE}/{NOBODY}/upload")),
        (Method::GET, format!("{BASE}/{NOBODY}")),
        (Method::GET, format!("{BASE}/{NOBODY}/download")),
        (Method::POST, format!("{BASE}/{NOBODY}/confirmdownload")),
    ] {
        let mut refused = Vec::new();
        for place in 1..=122 {
            let reply = send(bench.request(method.clone(), &path).bearer_auth(&token)).await;
            if reply.status == 429 {
                refused.push(place);
            }
        }
        assert_eq!(refused, [121, 122], "{method} {path}");
    }
}

#[tokio::test]
async fn the_limit_comes_before_authentication_and_binds_nobody_without_a_token() {
    let bench = limited().await;
    let mut claims = bench.claims(SENDER);
    claims.insert("client_id".to_owned(), "one".into());
    claims.insert("iss".to_owned(), "https://elsewhere.example".into());
    let forged = bench.sign(&claims);
    let query = format!("?resourceId={RESOURCE}");
    for _ in 0..10 {
        assert_eq!(get(&bench, &forged, &query).await.status, 401);
    }
    assert_eq!(get(&bench, &forged, &query).await.status, 429);
    for _ in 0..15 {
        assert_eq!(send(bench.request(Method::GET, &format!("{BASE}{query}"))).await.status, 401);
    }
}

#[tokio::test]
async fn a_token_of_maskinporten_names_its_client() {
    let bench = limited().await;
    let token = bench.raw_token(Role::Sender).await;
    let query = format!("?resourceId={RESOURCE}");
    for _ in 0..10 {
        assert_eq!(get(&bench, &token, &query).await.status, 200);
    }
    assert_eq!(get(&bench, &token, &query).await.status, 429);
    let entries = bench.sandbox.ledger().entries();
    assert_eq!(entries.last().unwrap().client.as_deref(), Some(bench.party(Role::Sender).client_id.as_str()));
}

#[tokio::test]
async fn limits_are_off_by_default_and_can_be_multiplied() {
    let off = Bench::start().await;
    let multiplied = Bench::with(|options| options.rate_limits = RateLimits::altinn().times(2)).await;
    for (bench, accepted) in [(&off, 25), (&multiplied, 20)] {
        let (token, query) = (token(bench, "one"), format!("?resourceId={RESOURCE}"));
        let mut count = 0;
        for _ in 0..25 {
            count += usize::from(get(bench, &token, &query).await.status == 200);
        }
        assert_eq!(count, accepted);
    }
}

#[tokio::test]
async fn a_configuration_raises_the_clients_budget_only_where_the_limits_are_higher() {
    for (limits, lines) in [
        (
            RateLimits::default(),
            Some("searches_per_minute = 60000\ndetails_per_minute = 60000\ncalls_per_minute = 600000\n"),
        ),
        (RateLimits::altinn(), None),
        (
            RateLimits::altinn().times(10),
            Some("searches_per_minute = 100\ndetails_per_minute = 100\ncalls_per_minute = 1200\n"),
        ),
    ] {
        let bench = Bench::with(|options| options.rate_limits = limits).await;
        let text = bench.sandbox.configuration(Role::Sender, None);
        assert_eq!(text.contains("_per_minute"), lines.is_some(), "{text}");
        assert!(text.contains(lines.unwrap_or_default()), "{text}");
    }
}
