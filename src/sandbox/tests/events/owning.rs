//! Whose a subscription is, and what its owner can do with it.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::subscribing::{get, wished};
use super::{RECIPIENT, SENDER, SUBSCRIPTIONS, Stage, as_token, claims, subscribe, system_user_token, token};
use crate::sandbox::Role;
use crate::sandbox::tests::support::{Bench, Reply, send};

async fn delete(stage: &Stage, path: &str, token: &str) -> Reply {
    as_token(&stage.bench, Method::DELETE, &format!("{SUBSCRIPTIONS}{path}"), token).await
}

#[tokio::test]
async fn e014_the_list_has_ones_own_validated_or_not() {
    let stage = Stage::start().await;
    let (sender, recipient) = (token(&stage.bench, SENDER), token(&stage.bench, RECIPIENT));
    assert_eq!(get(&stage, "", &sender).await.json(), json!({ "count": 0, "subscriptions": [] }));
    let validated = stage.subscribe(SENDER, "/hook", |_| {}).await;
    let dead = stage.subscribe(SENDER, "/x", |wish| wish["endPoint"] = "https://127.0.0.1:1/x".into()).await;
    stage.subscribe(RECIPIENT, "/hook", |_| {}).await;
    let list = get(&stage, "", &sender).await.json();
    assert_eq!(list["count"], 2);
    let rows = list["subscriptions"].as_array().unwrap().iter();
    let rows: Vec<_> = rows.map(|row| (row["id"].as_i64(), row["validated"].as_bool())).collect();
    assert_eq!(rows, [(Some(validated), Some(true)), (Some(dead), Some(false))]);
    assert_eq!(get(&stage, "", &recipient).await.json()["count"], 1);
}

#[tokio::test]
async fn e015_foreign_is_403_and_unknown_404() {
    let stage = Stage::start().await;
    let id = stage.subscribe(SENDER, "/hook", |_| {}).await;
    let (sender, recipient) = (token(&stage.bench, SENDER), token(&stage.bench, RECIPIENT));
    let path = format!("/{id}");
    get(&stage, &path, &recipient).await.is_bare(403);
    delete(&stage, &path, &recipient).await.is_bare(403);
    get(&stage, "/4711", &sender).await.is_bare(404);
    delete(&stage, "/4711", &sender).await.is_bare(404);
    assert_eq!(get(&stage, &path, &sender).await.json()["id"], id);
    for path in ["/x", "/1.5", "/99999999999"] {
        get(&stage, path, &sender).await.is_invalid("id", "The value '");
        delete(&stage, path, &sender).await.is_invalid("id", "The value '");
    }
}

#[tokio::test]
async fn e015_validating_is_the_platforms_own() {
    let stage = Stage::start().await;
    let id = stage.subscribe(SENDER, "/x", |wish| wish["endPoint"] = "https://127.0.0.1:1/x".into()).await;
    let path = format!("{SUBSCRIPTIONS}/validate/{id}");
    send(stage.bench.request(Method::PUT, &path)).await.is_bare(401);
    as_token(&stage.bench, Method::PUT, &path, &token(&stage.bench, SENDER)).await.is_bare(403);
    assert_eq!(stage.subscription(SENDER, id).await["validated"], false);
}

#[tokio::test]
async fn e016_a_deleted_subscription_is_gone() {
    let stage = Stage::start().await;
    let id = stage.subscribe(SENDER, "/hook", |_| {}).await;
    let (path, sender) = (format!("/{id}"), token(&stage.bench, SENDER));
    delete(&stage, &path, &sender).await.is_bare(200);
    get(&stage, &path, &sender).await.is_bare(404);
    delete(&stage, &path, &sender).await.is_bare(404);
    assert_ne!(stage.subscribe(SENDER, "/hook", |_| {}).await, id, "an id is not used again");
}

#[tokio::test]
async fn e017_each_kind_of_token_is_an_owner_of_its_own() {
    let stage = Stage::start().await;
    let bench = &stage.bench;
    let claiming = |claim: &str, value: Value| {
        let mut claims = claims(bench, SENDER);
        claims.insert(claim.to_owned(), value);
        bench.sign(&claims)
    };
    let (plain, system_user) = (token(bench, SENDER), system_user_token(bench, SENDER));
    let (owner, user) = (
        claiming("urn:altinn:org", stage.owner_code().into()),
        claiming("urn:altinn:userid", 20_000_490.into()),
    );
    let wish = stage.wish(SENDER, "/hook");
    let user_id = bench.sandbox.world(|world| world.system_users[0].id.clone()).unwrap();
    let consumers = [
        (&plain, "/organisation/991825827".to_owned()),
        (&system_user, format!("/systemuser/{user_id}")),
        (&owner, format!("/org/{}", stage.owner_code())),
    ];
    for (token, consumer) in &consumers {
        let reply = subscribe(bench, token, &wish).await;
        assert_eq!(reply.status, 201, "{}", reply.text());
        assert_eq!(reply.json()["consumer"], consumer.as_str());
        assert_eq!(reply.json()["createdBy"], consumer.as_str());
    }
    for (token, consumer) in &consumers {
        let list = get(&stage, "", token).await.json();
        assert_eq!(
            (list["count"].as_i64(), &list["subscriptions"][0]["consumer"]),
            (Some(1), &consumer.as_str().into())
        );
    }
    assert_eq!(get(&stage, "", &user).await.json()["count"], 0);
    get(&stage, "/1", &user).await.is_bare(403);
}

#[tokio::test]
async fn e017_a_system_user_that_is_gone_has_no_right() {
    let stage = Stage::start().await;
    let token = system_user_token(&stage.bench, SENDER);
    stage.bench.sandbox.world(|world| world.system_users[0].approved = false).unwrap();
    let reply = subscribe(&stage.bench, &token, &stage.wish(SENDER, "/hook")).await;
    assert_eq!(reply.status, 403, "{}", reply.text());
    assert!(reply.text().contains("Not authorized"), "{}", reply.text());
}

#[tokio::test]
async fn a_subscription_is_kept_over_a_restart() {
    let Stage { bench, receiver } = Stage::start().await;
    let stage = Stage { bench, receiver };
    let id = stage.subscribe(SENDER, "/hook", |_| {}).await;
    let before = stage.subscription(SENDER, id).await;
    let bench: Bench = stage.bench.restart().await;
    let stage = Stage { bench, receiver: stage.receiver };
    assert_eq!(stage.subscription(SENDER, id).await, before);
    assert_eq!(before["validated"], true);
    stage.advance(Duration::from_secs(1));
    assert_eq!(wished(&stage, |_| {}).await.json()["id"], id);
}

#[tokio::test]
async fn e017_a_service_owners_scope_makes_another_owner_of_an_exchanged_token() {
    let stage = Stage::start().await;
    stage
        .bench
        .sandbox
        .world(|world| {
            world.owner_codes.insert(SENDER.to_owned(), "avs".to_owned());
            for scopes in [&mut world.organizations[0].granted, &mut world.clients[0].scopes] {
                scopes.insert("altinn:serviceowner/instances.read".to_owned());
            }
        })
        .unwrap();
    let consumer = async |scope: &str| {
        let grant = stage.bench.grant(Role::Sender, |claims| claims["scope"] = scope.into());
        let raw = stage.bench.post_grant(&grant).await.json()["access_token"].as_str().unwrap().to_owned();
        let exchange = "/authentication/api/v1/exchange/maskinporten";
        let token = as_token(&stage.bench, Method::GET, exchange, &raw).await.text();
        stage.bench.resource(|resource| resource.owner = Some(SENDER.to_owned()));
        let reply = subscribe(&stage.bench, &token, &stage.wish(SENDER, "/hook")).await;
        reply.json()["consumer"].as_str().unwrap().to_owned()
    };
    assert_eq!(consumer("altinn:events.subscribe").await, "/organisation/991825827");
    assert_eq!(consumer("altinn:events.subscribe altinn:serviceowner/instances.read").await, "/org/avs");
}
