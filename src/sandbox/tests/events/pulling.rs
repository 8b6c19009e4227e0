//! Events read page by page.

use std::time::Duration;

use reqwest::Method;
use serde_json::Value;

use super::{RECIPIENT, SENDER, THIRD, as_token, claims, token};
use crate::sandbox::tests::support::{Bench, Reply, send};

const EVENTS: &str = "/events/api/v1/events";
const RESOURCE: &str = "resource=urn:altinn:resource:sandbox-files";
const OF_SENDER: &str = "subject=urn:altinn:organization:identifier-no:991825827";
const LAG: Duration = Duration::from_secs(30);

async fn pull(bench: &Bench, organization: &str, query: &str) -> Reply {
    as_token(bench, Method::GET, &format!("{EVENTS}?{query}"), &token(bench, organization)).await
}

/// The page for a query after the resource.
async fn page(bench: &Bench, organization: &str, query: &str) -> Vec<Value> {
    let reply = pull(bench, organization, &format!("{RESOURCE}&{query}")).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.headers.contains_key("next"), reply.text() != "[]");
    reply.json().as_array().unwrap().clone()
}

fn ids(page: &[Value]) -> Vec<&str> {
    page.iter().map(|event| event["id"].as_str().unwrap()).collect()
}

fn is_problem(reply: &Reply, detail: &str) {
    assert_eq!(reply.status, 400, "{}", reply.text());
    assert_eq!(reply.header("Content-Type"), Some("application/problem+json; charset=utf-8"));
    assert_eq!((&reply.json()["detail"], &reply.json()["status"]), (&detail.into(), &400.into()));
}

/// A sandbox with so many published transfers, whose events can be pulled.
async fn with_transfers(count: usize) -> Bench {
    let bench = Bench::start().await;
    for _ in 0..count {
        bench.publish("hello").await;
    }
    bench.clock.advance(LAG);
    bench
}

#[tokio::test]
async fn e045_events_come_in_the_order_of_registration_thirty_seconds_later() {
    let bench = Bench::start().await;
    let first = bench.publish("hello").await;
    bench.clock.advance(Duration::from_secs(29));
    let query = format!("after=0&{OF_SENDER}");
    assert!(page(&bench, SENDER, &query).await.is_empty());
    let second = bench.publish("hello").await;
    bench.clock.advance(Duration::from_secs(1));
    let events = page(&bench, SENDER, &query).await;
    let rows: Vec<_> = events
        .iter()
        .map(|event| (event["type"].as_str().unwrap(), event["resourceinstance"].as_str().unwrap()))
        .collect();
    let wanted = [
        ("no.altinn.broker.filetransferinitialized", first.as_str()),
        ("no.altinn.broker.published", first.as_str()),
    ];
    assert_eq!(rows, wanted);
    bench.clock.advance(Duration::from_secs(29));
    assert_eq!(page(&bench, SENDER, &query).await.len(), 4);
    let after = format!("after={}&{OF_SENDER}", ids(&events)[1]);
    let events = page(&bench, SENDER, &after).await;
    assert!(events.len() == 2 && events.iter().all(|event| event["resourceinstance"] == second.as_str()));
}

#[tokio::test]
async fn e045_an_event_is_pulled_as_it_is_pushed_in_another_order() {
    let bench = with_transfers(1).await;
    let reply = pull(&bench, RECIPIENT, &format!("{RESOURCE}&after=0&type=no.altinn.broker.published")).await;
    assert_eq!(reply.header("Content-Type"), Some("application/cloudevents+json; charset=utf-8"));
    let event = reply.json()[0].clone();
    let wanted = serde_json::json!({
        "specversion": "1.0", "id": event["id"], "type": "no.altinn.broker.published",
        "time": "2026-08-18T11:40:01.5Z", "resource": "urn:altinn:resource:sandbox-files",
        "resourceinstance": bench.sandbox.transfers()[0].id.to_string(),
        "subject": "urn:altinn:organization:identifier-no:910753614",
        "source": bench.url("/broker/api/v1/filetransfer"),
        "datacontenttype": "application/json", "data": { "Role": "Recipient" },
    });
    assert_eq!(event, wanted);
    assert!(reply.text().starts_with(r#"[{"id":"#), "{}", reply.text());
}

#[tokio::test]
async fn e045_the_next_page_begins_after_the_last_id() {
    let bench = with_transfers(2).await;
    let query = format!("{RESOURCE}&after=0&{OF_SENDER}&type=no.altinn.%25&size=3");
    let reply = pull(&bench, SENDER, &query).await;
    let first = reply.json().as_array().unwrap().clone();
    assert_eq!(first.len(), 3);
    let wanted = format!(
        "{}?after={}&{RESOURCE}&{OF_SENDER}&type=no.altinn.%&size=3",
        bench.url(EVENTS),
        ids(&first)[2]
    );
    assert_eq!(reply.header("next"), Some(wanted.as_str()), "nothing in it is encoded");
    let query = format!("after={}&{OF_SENDER}&size=3", ids(&first)[2]);
    let rest = page(&bench, SENDER, &query).await;
    assert_eq!(rest.len(), 1);
    assert!(page(&bench, SENDER, &format!("after={}&{OF_SENDER}", ids(&rest)[0])).await.is_empty());
}

#[tokio::test]
async fn e046_an_unknown_event_starts_from_the_oldest() {
    let bench = with_transfers(1).await;
    let all = page(&bench, SENDER, &format!("after=0&{OF_SENDER}")).await;
    for after in ["00000000-0000-0000-0000-000000000000", "never", "1"] {
        assert_eq!(page(&bench, SENDER, &format!("after={after}&{OF_SENDER}")).await, all, "{after}");
    }
}

#[tokio::test]
async fn e046_a_known_id_in_another_form_is_unknown() {
    let bench = with_transfers(1).await;
    let all = page(&bench, SENDER, &format!("after=0&{OF_SENDER}")).await;
    let id = ids(&all)[0];
    assert_eq!(page(&bench, SENDER, &format!("after={id}&{OF_SENDER}")).await, all[1..]);
    let forms = [
        id.to_uppercase(),
        id.replace('-', ""),
        format!("{{{id}}}"),
        format!("urn:uuid:{id}"),
        format!("%20{id}"),
    ];
    for form in forms {
        assert_eq!(page(&bench, SENDER, &format!("after={form}&{OF_SENDER}")).await, all, "{form}");
    }
}

#[tokio::test]
async fn e046_after_ninety_days_a_bookmark_starts_from_the_oldest_in_silence() {
    let bench = with_transfers(1).await;
    let all = format!("after=0&{OF_SENDER}");
    let bookmark = page(&bench, SENDER, &all).await[1]["id"].as_str().unwrap().to_owned();
    let after_it = format!("after={bookmark}&{OF_SENDER}");
    bench.clock.advance(Duration::from_hours(24));
    let second = bench.publish("hello").await;
    // It is ninety days old at 11:40, and forgotten only at three o'clock after that.
    bench.clock.advance(Duration::from_hours(89 * 24 + 14));
    bench.until(&second, "Purged").await;
    assert_eq!(page(&bench, SENDER, &all).await.len(), 4);
    assert_eq!(page(&bench, SENDER, &after_it).await.len(), 2);
    bench.clock.advance(Duration::from_hours(2));
    let is_there = || bench.sandbox.events().iter().any(|event| event.id.to_string() == bookmark);
    super::eventually(|| !is_there(), || "the night".to_owned()).await;
    let rest = page(&bench, SENDER, &after_it).await;
    assert_eq!(rest, page(&bench, SENDER, &all).await);
    assert_eq!(rest[0]["resourceinstance"], second.as_str());
}

#[tokio::test]
async fn e047_a_page_of_others_events_is_empty_and_has_no_next() {
    let bench = with_transfers(3).await;
    // The third organisation has no event at all; the first page is the sender's and the recipient's.
    bench.permit_third();
    let world = |world: &mut crate::sandbox::World| {
        world.permit("sandbox-files", THIRD, crate::sandbox::Action::Subscribe);
    };
    bench.sandbox.world(world).unwrap();
    bench
        .publish_with("hello", |body| {
            body["recipients"] = [crate::sandbox::tests::support::THIRD].as_slice().into();
        })
        .await;
    bench.clock.advance(LAG);
    let reply = pull(&bench, THIRD, &format!("{RESOURCE}&after=0&size=9")).await;
    assert_eq!((reply.status, reply.text().as_str(), reply.header("next")), (200, "[]", None));
    // So there is no way to what comes after, but to ask for more or for less.
    assert_eq!(page(&bench, THIRD, "after=0&size=1000").await.len(), 1);
    let own = format!("after=0&size=1&subject=urn:altinn:organization:identifier-no:{THIRD}");
    assert_eq!(page(&bench, THIRD, &own).await.len(), 1);
    let mixed = page(&bench, RECIPIENT, "after=0&size=3").await;
    assert_eq!(mixed.len(), 1, "a page is read first and filtered after that");
}

#[tokio::test]
async fn e048_faults_have_their_texts() {
    let bench = with_transfers(1).await;
    is_problem(
        &pull(&bench, SENDER, "resource=sandbox-files&after=0").await,
        "The 'resource' parameter must begin with `urn:altinn:resource:` ",
    );
    is_problem(&pull(&bench, SENDER, RESOURCE).await, "The 'after' parameter must be defined.");
    is_problem(
        &pull(&bench, SENDER, &format!("{RESOURCE}&after=")).await,
        "The 'after' parameter must be defined.",
    );
    let request = bench.request(Method::GET, &format!("{EVENTS}?{RESOURCE}&after=0&{OF_SENDER}"));
    let request = request.bearer_auth(token(&bench, SENDER)).header("Altinn-AlternativeSubject", "/person/1");
    is_problem(&send(request).await, "Only one of 'subject' or 'alternativeSubject' can be defined.");
    pull(&bench, SENDER, "after=0").await.is_invalid("resource", "The resource field is required.");
    pull(&bench, SENDER, &format!("{RESOURCE}&after=0&size=x")).await.is_invalid("size", "The value 'x'");
}

#[tokio::test]
async fn e048_the_size_has_limits() {
    let bench = with_transfers(26).await;
    // 52 of the sender's.
    for (size, length) in [("", 50), ("&size=0", 50), ("&size=-1", 50), ("&size=7", 7), ("&size=51", 51)] {
        let events = page(&bench, SENDER, &format!("after=0&{OF_SENDER}{size}")).await;
        assert_eq!(events.len(), length, "{size}");
    }
    // Straight into the log: a thousand transfers would take a while.
    let site = &bench.sandbox.site;
    let transfer = bench.sandbox.transfers().remove(0);
    for _ in 0..1000 {
        site.tell_sender("uploadfailed", &transfer);
    }
    bench.clock.advance(LAG);
    assert_eq!(page(&bench, SENDER, &format!("after=0&{OF_SENDER}&size=5000")).await.len(), 1000);
}

#[tokio::test]
async fn e048_the_scope_and_the_content_type_come_first() {
    let bench = with_transfers(1).await;
    let mut without = claims(&bench, SENDER);
    without.insert("scope".to_owned(), "altinn:broker.read".into());
    let path = format!("{EVENTS}?{RESOURCE}");
    send(bench.request(Method::GET, &path)).await.is_bare(401);
    as_token(&bench, Method::GET, &path, &bench.sign(&without)).await.is_bare(403);
    let with_type = |content_type: &str| {
        let request = bench.request(Method::GET, &path).bearer_auth(token(&bench, SENDER));
        send(request.header("Content-Type", content_type))
    };
    with_type("application/cloudevents+json").await.is_bare(415);
    is_problem(&with_type("application/json; charset=utf-8").await, "The 'after' parameter must be defined.");
}

#[tokio::test]
async fn e048_types_are_like_sql() {
    let bench = with_transfers(1).await;
    let count = async |kinds: &str| page(&bench, SENDER, &format!("after=0&{OF_SENDER}{kinds}")).await.len();
    assert_eq!(count("&type=no.altinn.broker.%25").await, 2);
    assert_eq!(count("&type=%25published").await, 1);
    assert_eq!(count("&type=%25pub%25ed").await, 1);
    assert_eq!(count("&type=no.altinn.broker._ublished").await, 1);
    assert_eq!(count("&type=no.altinn.broker.publish").await, 0);
    assert_eq!(count("&type=no.altinn.broker.Published").await, 0);
    assert_eq!(count("&type=no.altinn.broker.publishe%5C_").await, 0);
    assert_eq!(count("&type=no.altinn.broker.published&type=%25initialized").await, 2);
    assert_eq!(count("&type=%25a%25a%25b%25i%25i%25i%25i%25i%25i%25i%25i%25i%25i%25i%25x").await, 0);
}

#[tokio::test]
async fn other_subjects_and_resources_have_no_events() {
    let bench = with_transfers(1).await;
    for subject in ["/organisation/991825827", "urn:altinn:organization:identifier-no:313579246", "991825827"]
    {
        assert!(page(&bench, SENDER, &format!("after=0&subject={subject}")).await.is_empty(), "{subject}");
    }
    let reply = pull(&bench, SENDER, "resource=urn:altinn:resource:other&after=0").await;
    assert_eq!((reply.status, reply.text().as_str()), (200, "[]"));
    let request = bench.request(Method::GET, &format!("{EVENTS}?{RESOURCE}&after=0"));
    let request = request.bearer_auth(token(&bench, SENDER)).header("Altinn-AlternativeSubject", "/person/1");
    assert_eq!(send(request).await.text(), "[]");
}
