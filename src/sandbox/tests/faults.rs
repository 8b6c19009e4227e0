//! Faults by rule: what a rule can match, when it strikes, and how it is set while the sandbox runs.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::support::{BASE, Bench, RECIPIENT, RESOURCE, Reply, SENDER, THIRD, eventually, send};
use crate::sandbox::FaultRules;

const FAULTS: &str = "/_sandbox/faults";

/// Puts rules in force, from outside.
pub(super) async fn put(bench: &Bench, rules: Value) -> Reply {
    let reply = send(bench.request(Method::PUT, FAULTS).json(&rules)).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply
}

/// How often the rule in that place matched, and how often it struck.
async fn counts(bench: &Bench, place: usize) -> (u64, u64) {
    let rules = send(bench.request(Method::GET, FAULTS)).await.json();
    (rules[place]["matched"].as_u64().unwrap(), rules[place]["struck"].as_u64().unwrap())
}

/// The statuses of so many searches by an organisation.
async fn searches(bench: &Bench, organization: &str, times: usize) -> Vec<u16> {
    let mut statuses = Vec::new();
    for _ in 0..times {
        let request = bench.get_as(organization, &format!("?resourceId={RESOURCE}"));
        statuses.push(send(request).await.status);
    }
    statuses
}

fn unavailable(more: Value) -> Value {
    let mut rule = json!({ "effect": "answer", "status": 503 });
    rule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!([rule])
}

#[tokio::test]
async fn a_rule_strikes_at_its_operation() {
    let bench = Bench::start().await;
    for (operation, struck) in [
        (json!("search"), true),
        (json!(["confirm", "search"]), true),
        (json!("any"), true),
        (json!("transfers"), true),
        (json!("overview"), false),
        (json!("identity"), false),
    ] {
        put(&bench, unavailable(json!({ "operation": operation }))).await;
        let status = searches(&bench, SENDER, 1).await[0];
        assert_eq!(status, if struck { 503 } else { 200 }, "{operation}");
    }
}

#[tokio::test]
async fn a_rule_without_an_operation_strikes_at_all_but_the_sandboxs_own_pages() {
    let bench = Bench::start().await;
    put(&bench, unavailable(json!({}))).await;
    for path in ["/jwk", "/authentication/api/v1/exchange/maskinporten", BASE] {
        assert_eq!(send(bench.request(Method::GET, path)).await.status, 503, "{path}");
    }
    assert_eq!(bench.post_grant("nonsense").await.status, 503);
    for path in ["/_sandbox/ledger", "/_sandbox/content", FAULTS] {
        assert_eq!(send(bench.request(Method::GET, path)).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn a_rule_strikes_at_its_organization_in_either_form() {
    let bench = Bench::start().await;
    for organization in [SENDER, "991825827"] {
        put(&bench, unavailable(json!({ "organization": organization }))).await;
        assert_eq!(searches(&bench, SENDER, 1).await, [503]);
        assert_eq!(searches(&bench, RECIPIENT, 1).await, [200]);
        assert_eq!(counts(&bench, 0).await, (1, 1));
    }
}

#[tokio::test]
async fn a_rule_strikes_at_its_transfer_or_resource() {
    let bench = Bench::start().await;
    let (this, other) = (bench.initialize(|_| {}).await, bench.initialize(|_| {}).await);
    let status = async |id: &str| send(bench.get_as(SENDER, &format!("/{id}"))).await.status;
    put(&bench, unavailable(json!({ "transfer": this }))).await;
    assert_eq!((status(&this).await, status(&other).await), (503, 200));
    put(&bench, unavailable(json!({ "resource": RESOURCE }))).await;
    assert_eq!((status(&this).await, status(&other).await), (503, 503));
    assert_eq!(searches(&bench, SENDER, 1).await, [503]);
    put(&bench, unavailable(json!({ "resource": "another" }))).await;
    assert_eq!((status(&this).await, searches(&bench, SENDER, 1).await), (200, vec![200]));
}

#[tokio::test]
async fn a_rule_strikes_at_the_nth_match_at_every_nth_from_one_on_and_so_many_times() {
    let bench = Bench::start().await;
    for (occurrence, wanted) in [
        (json!({ "nth": 3 }), [200, 200, 503, 200, 200, 200]),
        (json!({ "every": 2 }), [200, 503, 200, 503, 200, 503]),
        (json!({ "from": 4 }), [200, 200, 200, 503, 503, 503]),
        (json!({ "times": 2 }), [503, 503, 200, 200, 200, 200]),
        (json!({ "from": 2, "every": 2, "times": 1 }), [200, 200, 503, 200, 200, 200]),
    ] {
        put(&bench, unavailable(occurrence.clone())).await;
        assert_eq!(searches(&bench, SENDER, 6).await, wanted, "{occurrence}");
        let struck = wanted.iter().filter(|status| **status == 503).count() as u64;
        assert_eq!(counts(&bench, 0).await, (6, struck));
    }
}

#[tokio::test]
async fn a_probability_is_reproducible_by_its_seed() {
    let bench = Bench::start().await;
    let mut runs = Vec::new();
    for seed in [7, 7, 8] {
        put(&bench, unavailable(json!({ "probability": 0.5, "seed": seed }))).await;
        runs.push(searches(&bench, SENDER, 40).await);
    }
    assert_eq!(runs[0], runs[1]);
    assert_ne!(runs[0], runs[2]);
    let struck = runs[0].iter().filter(|status| **status == 503).count();
    assert!((10..=30).contains(&struck), "{struck}");
    for (probability, status) in [(0.0, 200), (1.0, 503)] {
        put(&bench, unavailable(json!({ "probability": probability }))).await;
        assert_eq!(searches(&bench, SENDER, 5).await, [status; 5]);
    }
}

#[tokio::test]
async fn a_rule_holds_for_its_time_by_the_sandboxs_clock() {
    let bench = Bench::start().await;
    put(&bench, unavailable(json!({ "for": "10m" }))).await;
    assert_eq!(searches(&bench, SENDER, 2).await, [503, 503]);
    bench.clock.advance(Duration::from_secs(599));
    assert_eq!(searches(&bench, SENDER, 1).await, [503]);
    bench.clock.advance(Duration::from_secs(1));
    assert_eq!(searches(&bench, SENDER, 1).await, [200]);
    assert_eq!(counts(&bench, 0).await, (3, 3));
}

#[tokio::test]
async fn the_first_rule_that_answers_hides_the_request_from_those_below() {
    let bench = Bench::start().await;
    let rules = json!([
        { "effect": "answer", "status": 503, "nth": 1 },
        { "effect": "answer", "status": 504, "nth": 1 },
    ]);
    put(&bench, rules).await;
    assert_eq!(searches(&bench, SENDER, 3).await, [503, 504, 200]);
    assert_eq!((counts(&bench, 0).await, counts(&bench, 1).await), ((3, 1), (2, 1)));
}

#[tokio::test]
async fn rules_are_read_replaced_added_and_removed_while_it_runs() {
    let bench = Bench::start().await;
    let fault =
        |name: &str| json!({ "name": name, "effect": "answer", "status": 503, "operation": "search" });
    let names = async || {
        let rules = send(bench.request(Method::GET, FAULTS)).await.json();
        let names = rules.as_array().unwrap().iter().map(|rule| rule["name"].as_str().unwrap().to_owned());
        names.collect::<Vec<_>>()
    };
    assert!(names().await.is_empty());
    put(&bench, json!({ "fault": [fault("a"), fault("b")] })).await;
    let added = send(bench.request(Method::POST, FAULTS).json(&json!({ "effect": "malware" }))).await;
    assert_eq!(added.status, 200, "{}", added.text());
    assert_eq!(names().await, ["a", "b", "fault-1"]);
    let taken = send(bench.request(Method::POST, FAULTS).json(&fault("b"))).await;
    assert_eq!((taken.status, taken.json()["error"].as_str().unwrap().contains("\"b\"")), (409, true));
    let one = send(bench.request(Method::GET, "/_sandbox/faults/a")).await.json();
    assert_eq!((&one["rule"], &one["set"]), (&fault("a"), &json!("2026-08-18T11:40:01.5Z")));
    assert_eq!(send(bench.request(Method::DELETE, "/_sandbox/faults/a")).await.status, 204);
    assert_eq!(send(bench.request(Method::DELETE, "/_sandbox/faults/a")).await.status, 404);
    assert_eq!(send(bench.request(Method::GET, "/_sandbox/faults/a")).await.status, 404);
    assert_eq!(searches(&bench, SENDER, 1).await, [503]);
    put(&bench, json!([fault("c")])).await;
    assert_eq!(names().await, ["c"]);
    assert_eq!(send(bench.request(Method::DELETE, FAULTS)).await.status, 204);
    assert!(names().await.is_empty());
    assert_eq!(searches(&bench, SENDER, 1).await, [200]);
}

#[tokio::test]
async fn rules_that_are_wrong_are_refused_by_member_and_change_nothing() {
    let bench = Bench::start().await;
    put(&bench, unavailable(json!({ "name": "kept" }))).await;
    let rule = |more: Value| unavailable(more)[0].clone();
    for (rule, words) in [
        (rule(json!({ "satus": 503 })), ["fault 1", "`satus`", "`status`"]),
        (rule(json!({ "at": 5 })), ["fault 1", "`at`", "`retry_after`"]),
        (rule(json!({ "name": "x", "nth": 0 })), ["fault 1 (\"x\")", "`nth`", "at least 1"]),
        (rule(json!({ "nth": 1, "every": 2 })), ["`nth`", "`every`", "exclude"]),
        (rule(json!({ "operation": "serach" })), ["`operation`", "\"serach\"", "\"search\""]),
        (rule(json!({ "organization": "12" })), ["`organization`", "nine digits", "12"]),
        (rule(json!({ "probability": 2 })), ["`probability`", "0 to 1", "2"]),
        (rule(json!({ "seed": 2 })), ["`seed`", "`probability`", ""]),
        (rule(json!({ "for": "soon" })), ["`for`", "duration", "soon"]),
        (rule(json!({ "when": "later" })), ["`when`", "\"before\"", "\"after\""]),
        (rule(json!({ "body": "htlm" })), ["`body`", "\"html\"", "\"bro-00006\""]),
        (rule(json!({ "headers": { "content-length": "3" } })), ["`headers`", "content-length", ""]),
        (rule(json!({ "status": 99 })), ["`status`", "200", "99"]),
        (rule(json!({ "status": 700 })), ["`status`", "599", "700"]),
        (rule(json!({ "transfer": "x" })), ["`transfer`", "UUID", "x"]),
        (json!({ "effect": "answer" }), ["`status`", "missing", ""]),
        (json!({ "name": "x" }), ["`effect`", "missing", ""]),
        (json!({ "effect": "explode" }), ["`effect`", "\"lose\"", "\"late-commit\""]),
        (
            json!({ "effect": "malware", "operation": "upload" }),
            ["`operation`", "not known here", "`amount`"],
        ),
        (json!({ "effect": "delay", "duration": 5 }), ["`duration`", "\"10m\"", "5"]),
        (json!({ "effect": "request-cut" }), ["`at`", "missing", ""]),
        (json!([1]), ["fault 1", "table", ""]),
        (json!("x"), ["list of rules", "", ""]),
        (json!({ "fault": [], "other": 1 }), ["`other`", "`fault`", ""]),
        (
            json!([{ "name": "a", "effect": "malware" }, { "name": "a", "effect": "malware" }]),
            ["\"a\"", "twice", ""],
        ),
    ] {
        let reply = send(bench.request(Method::PUT, FAULTS).json(&rule)).await;
        assert_eq!(reply.status, 400, "{rule}");
        let error = reply.json()["error"].as_str().unwrap().to_owned();
        assert!(words.iter().all(|word| error.contains(word)), "{rule}: {error}");
    }
    let reply = send(bench.request(Method::PUT, FAULTS).body("{")).await;
    assert_eq!(reply.status, 400);
    assert_eq!(counts(&bench, 0).await, (0, 0));
}

#[tokio::test]
async fn rules_can_be_there_from_the_start_and_are_set_from_rust() {
    let toml =
        "[[fault]]\noperation = \"search\"\neffect = \"answer\"\nstatus = 502\nbody = \"html\"\ntimes = 1\n";
    let rules = FaultRules::from_toml(toml).unwrap();
    let bench = Bench::with(|options| options.faults = rules.clone()).await;
    assert_eq!(searches(&bench, SENDER, 2).await, [502, 200]);
    bench.sandbox.set_faults(rules);
    assert_eq!(searches(&bench, SENDER, 2).await, [502, 200]);
    let error = FaultRules::from_toml("[[fault]]\neffect = 1\n").unwrap_err();
    assert!(error.to_string().contains("`effect`"), "{error}");
    assert!(FaultRules::from_toml("[[fault]\n").is_err());
}

#[tokio::test]
async fn the_ledger_names_the_rules_that_struck() {
    let bench = Bench::start().await;
    put(
        &bench,
        json!([
            { "name": "slow", "effect": "delay", "duration": "3s" },
            { "name": "down", "effect": "answer", "status": 503 },
            { "name": "below", "effect": "answer", "status": 504 },
        ]),
    )
    .await;
    let asked = searches(&bench, THIRD, 1);
    let advance = async {
        let rules = || bench.sandbox.ledger().entries().iter().any(|entry| entry.operation == "search");
        while !rules() {
            bench.clock.advance(Duration::from_secs(1));
            tokio::task::yield_now().await;
        }
    };
    let (statuses, ()) = tokio::join!(asked, advance);
    assert_eq!(statuses, [503]);
    eventually(|| bench.sandbox.ledger().count("search", 503) == 1, || "the entry".to_owned()).await;
    let entries = bench.sandbox.ledger().entries();
    let entry = entries.iter().find(|entry| entry.operation == "search").unwrap();
    assert_eq!(entry.faults, ["slow", "down"]);
}
