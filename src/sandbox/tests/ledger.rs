//! What the sandbox remembers, and how it is asked.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::faults::put;
use super::support::{BASE, Bench, HELLO_MD5, RECIPIENT, RESOURCE, SENDER, THIRD, send};
use crate::sandbox::{Filter, Role};

/// The objects of a page.
async fn page(bench: &Bench, path: &str) -> Vec<Value> {
    let reply = send(bench.request(Method::GET, path)).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn sequences(bench: &Bench, query: &str) -> Vec<u64> {
    let entries = page(bench, &format!("/_sandbox/ledger?{query}")).await;
    entries.iter().map(|entry| entry["sequence"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn the_ledger_is_filtered_by_what_it_holds() {
    let bench = Bench::start().await;
    let id = bench.publish("hello").await; // 1 and 2
    bench.download(RECIPIENT, &id, None).await; // 3
    bench.overview(&id).await; // 4
    put(&bench, json!({ "name": "down", "effect": "answer", "status": 503 })).await; // 5
    send(bench.get_as(SENDER, &format!("/{id}"))).await; // 6
    send(bench.request(Method::DELETE, "/_sandbox/faults")).await; // 7
    for (query, wanted) in [
        ("operation=upload".to_owned(), vec![2]),
        ("operation=upload&operation=overview".to_owned(), vec![4, 6]),
        (format!("organization={RECIPIENT}"), vec![3]),
        ("organization=910753614".to_owned(), vec![3]),
        (format!("transfer={id}"), vec![1, 2, 3, 4, 6]),
        ("status=503".to_owned(), vec![6]),
        ("status=none".to_owned(), vec![]),
        ("effect=published".to_owned(), vec![2]),
        ("effect=none&operation=overview".to_owned(), vec![4, 6]),
        ("fault=down".to_owned(), vec![6]),
        ("after=3&operation=overview".to_owned(), vec![4, 6]),
        ("after=4&operation=overview".to_owned(), vec![6]),
        ("after=99999".to_owned(), vec![]),
        ("limit=2".to_owned(), vec![1, 2]),
        ("after=2&limit=1".to_owned(), vec![3]),
    ] {
        assert_eq!(sequences(&bench, &query).await, wanted, "{query}");
    }
    let filter =
        Filter { operation: Some("overview".to_owned()), status: Some(Some(503)), ..Filter::default() };
    let found = bench.sandbox.ledger().find(&filter);
    assert_eq!(found.iter().map(|entry| entry.sequence).collect::<Vec<_>>(), [6]);
}

#[tokio::test]
async fn a_question_that_is_not_understood_is_refused_by_name() {
    let bench = Bench::start().await;
    for (path, name) in [
        ("/_sandbox/ledger?opration=upload", "`opration`"),
        ("/_sandbox/ledger?status=many", "`status`"),
        ("/_sandbox/ledger?transfer=x", "`transfer`"),
        ("/_sandbox/ledger?after=-1", "`after`"),
        ("/_sandbox/content?hash=x", "`hash`"),
        ("/_sandbox/content?by=name", "`by`"),
    ] {
        let reply = send(bench.request(Method::GET, path)).await;
        assert_eq!(reply.status, 400, "{path}");
        assert!(reply.json()["error"].as_str().unwrap().starts_with(name), "{}", reply.text());
    }
}

#[tokio::test]
async fn an_entry_has_method_path_client_and_duration_but_no_secrets() {
    let bench = Bench::start().await;
    let token = bench.raw_token(Role::Sender).await;
    put(&bench, json!({ "effect": "delay", "duration": "2s", "when": "after", "operation": "search" })).await;
    let path = format!("{BASE}?resourceId={RESOURCE}&subscription-key=s3cret&status=Published");
    let request = send(bench.request(Method::GET, &path).bearer_auth(&token));
    let advance = async {
        while bench.sandbox.ledger().count("search", 200) == 0 {
            tokio::task::yield_now().await;
        }
        bench.clock.advance(Duration::from_secs(2));
    };
    let (reply, ()) = tokio::join!(request, advance);
    assert_eq!(reply.status, 200);
    let entries = page(&bench, "/_sandbox/ledger").await;
    let entry = entries.iter().find(|entry| entry["operation"] == "search").unwrap();
    assert_eq!(entry["method"], "GET");
    assert_eq!(entry["path"], format!("{BASE}?resourceId={RESOURCE}&subscription-key=***&status=Published"));
    assert_eq!(entry["client"], bench.party(Role::Sender).client_id.as_str());
    assert_eq!(entry["milliseconds"], 2000);
    let granted = entries.iter().find(|entry| entry["operation"] == "token").unwrap();
    assert_eq!(granted["client"], entry["client"]);
}

#[tokio::test]
async fn a_very_long_path_is_kept_in_part() {
    let bench = Bench::start().await;
    send(bench.request(Method::GET, &format!("/{}", "ø".repeat(1000)))).await;
    let path = bench.sandbox.ledger().entries()[0].path.clone();
    assert!(path.len() < 310 && path.ends_with('…'), "{path}");
}

#[tokio::test]
async fn the_two_promises_can_be_read_per_content_and_recipient_and_per_hash() {
    let bench = Bench::start().await;
    bench.permit_third();
    let both = |body: &mut Value| body["recipients"] = json!([RECIPIENT, THIRD]);
    let id = bench.publish_with("hello", both).await;
    bench.publish("other").await;
    bench.download(RECIPIENT, &id, None).await;
    bench.download(RECIPIENT, &id, None).await;
    bench.download(THIRD, &id, Some("bytes=0-1")).await;
    bench.confirm(RECIPIENT, &id).await;
    let row = |recipient: &str, delivered, confirmed| {
        json!({
            "md5": HELLO_MD5, "fileName": "a.txt", "recipient": recipient,
            "published": 1, "delivered": delivered, "confirmed": confirmed,
        })
    };
    let rows = page(&bench, &format!("/_sandbox/content?md5={HELLO_MD5}")).await;
    assert_eq!(rows, [row(THIRD, 0, 0), row(RECIPIENT, 2, 1)]);
    assert_eq!(page(&bench, "/_sandbox/content").await.len(), 3);
    let hashes = page(&bench, &format!("/_sandbox/content?md5={HELLO_MD5}&by=hash")).await;
    let wanted = json!({
        "md5": HELLO_MD5, "recipients": [THIRD, RECIPIENT], "published": 2, "delivered": 2, "confirmed": 1,
    });
    assert_eq!(hashes, [wanted]);
}
