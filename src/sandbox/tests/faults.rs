//! Faults by rule: what a rule can match, when it strikes, and how it is set while the sandbox runs.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::support::{BASE, Bench, RECIPIENT, RESOURCE, Reply, SENDER, THIRD, eventually, send};
use crate::sandbox::{FaultRules, Role};

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
    let Value::Object(mut rule) = more else { panic!("{more} is no rule") };
    rule.entry("effect").or_insert("answer".into());
    rule.entry("status").or_insert(503.into());
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

/// The document, and the rules of its examples.
const DOCUMENT: &str = include_str!("../../../docs/sandbox-faults.md");

#[tokio::test]
async fn the_document_names_everything_and_its_examples_are_rules() {
    use crate::sandbox::faults::{BODIES, EFFECTS, GROUPS, NAMES, Quirk};
    let blocks: Vec<&str> =
        DOCUMENT.split("```toml\n").skip(1).map(|it| it.split("```").next().unwrap()).collect();
    assert_eq!(blocks.len(), 2);
    for block in &blocks {
        FaultRules::from_toml(block).unwrap();
    }
    let refused = FaultRules::from_json(json!({ "effect": "malware", "operation": "upload" })).unwrap_err();
    assert!(DOCUMENT.contains(&json!({ "error": refused.to_string() }).to_string()), "{refused}");
    let shown = |effect: &str| blocks.iter().any(|block| block.contains(&format!("effect = \"{effect}\"")));
    let named = |word: &str| DOCUMENT.contains(&format!("`{word}`"));
    let effects = EFFECTS.into_iter().chain(Quirk::ALL.iter().map(|(name, _)| *name));
    let missing: Vec<&str> = effects.filter(|effect| !shown(effect) || !named(effect)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    let words = NAMES.iter().chain(GROUPS.iter().map(|(group, _)| group));
    let missing: Vec<&&str> = words.filter(|word| !named(word)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    let missing: Vec<&str> = BODIES.into_iter().filter(|body| !named(&format!("\"{body}\""))).collect();
    assert!(missing.is_empty(), "{missing:?}");
    // Every effect that the document speaks of is there.
    for row in DOCUMENT.lines().filter(|line| line.starts_with("| `") && line.matches('|').count() > 3) {
        let name = row.split('`').nth(1).unwrap();
        let known = EFFECTS.contains(&name) || Quirk::named(name).is_some() || name == "effect";
        assert!(known, "{row}");
    }
}

#[tokio::test]
async fn every_operation_of_the_ledger_can_be_named() {
    use crate::sandbox::faults::NAMES;
    use crate::sandbox::route;
    let methods = [
        Method::GET,
        Method::PUT,
        Method::POST,
        Method::PATCH,
        Method::DELETE,
        Method::HEAD,
        Method::OPTIONS,
    ];
    let paths = [
        "/token",
        "/jwk",
        "/.well-known/oauth-authorization-server",
        "/authentication/api/v1/exchange/x",
        "/authentication/api/v1/refresh",
        "/authentication/api/v1/openid/.well-known/openid-configuration",
        "/authentication/api/v1/openid/.well-known/openid-configuration/jwks",
        BASE,
        "/broker/api/v1/filetransfer/upload",
        "/broker/api/v1/filetransfer/x",
        "/broker/api/v1/filetransfer/x/details",
        "/broker/api/v1/filetransfer/x/upload",
        "/broker/api/v1/filetransfer/x/download",
        "/broker/api/v1/filetransfer/x/confirmdownload",
        "/broker/api/v1/filetransfer/upload/tus/x",
        "/broker/api/v1/resource/x",
        "/broker/api/v1/serviceowner",
        "/broker/api/v1/statistics/monthly",
        "/resourceregistry/api/v1/resource/x",
        "/events/api/v1/events",
        "/events/api/v1/subscriptions",
        "/events/api/v1/subscriptions/1",
        "/events/api/v1/subscriptions/validate/1",
    ];
    let mut found = std::collections::BTreeSet::from(["any"]);
    for (path, method) in paths.iter().flat_map(|path| methods.iter().map(move |method| (path, method))) {
        if let Ok(operation) = route::find(method, path) {
            assert!(NAMES.contains(&operation.name()), "{method} {path}");
            found.insert(operation.name());
        }
    }
    assert_eq!(found, NAMES.into_iter().collect());
}

mod parser {
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;

    use super::*;

    fn anything() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,6}".prop_map(Value::from),
            prop::sample::select(WORDS).prop_map(Value::from),
        ];
        leaf.prop_recursive(2, 8, 4, |inner| {
            prop_oneof![
                vec(inner.clone(), 0..3).prop_map(Value::from),
                btree_map("[a-z-]{0,5}", inner, 0..3)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    const MEMBERS: &[&str] = &[
        "name",
        "effect",
        "operation",
        "organization",
        "resource",
        "transfer",
        "nth",
        "from",
        "every",
        "times",
        "probability",
        "seed",
        "for",
        "when",
        "status",
        "body",
        "text",
        "headers",
        "retry_after",
        "close",
        "at",
        "duration",
        "bytes_per_second",
        "length",
        "amount",
    ];
    const WORDS: &[&str] = &[
        "answer",
        "lose",
        "raw",
        "delay",
        "request-cut",
        "response-length",
        "malware",
        "wrong-byte",
        "before",
        "after",
        "reset",
        "html",
        "bro-00006",
        "10m",
        "0192:991825827",
        "any",
        "search",
    ];

    fn rule() -> impl Strategy<Value = Value> {
        let member =
            prop_oneof![5 => prop::sample::select(MEMBERS).prop_map(str::to_owned), 1 => "[a-z_]{1,8}"];
        btree_map(member, anything(), 0..6).prop_map(|map| Value::Object(map.into_iter().collect()))
    }

    proptest! {
        #[test]
        fn a_rule_is_read_or_refused_whatever_it_is(rules in vec(rule(), 0..3)) {
            let unknown = rules.iter().any(|rule| {
                rule.as_object().unwrap().keys().any(|member| !MEMBERS.contains(&member.as_str()))
            });
            let read = FaultRules::from_json(Value::from(rules));
            prop_assert!(!(unknown && read.is_ok()));
        }

        #[test]
        fn any_json_and_any_text_is_read_or_refused(json in anything(), text in ".{0,80}") {
            drop(FaultRules::from_json(json));
            drop(FaultRules::from_toml(&text));
        }

        #[test]
        fn a_good_rule_with_an_unknown_member_is_refused_by_its_name(member in "[a-z]{1,10}", value in anything()) {
            prop_assume!(!MEMBERS.contains(&member.as_str()));
            let error = FaultRules::from_json(json!([{ "effect": "malware", (member.clone()): value }])).unwrap_err();
            let words = format!("`{member}` is not known here");
            prop_assert!(error.to_string().contains(&words));
        }
    }
}

#[tokio::test]
async fn a_rule_about_an_organization_strikes_at_its_grants_too() {
    let bench = Bench::start().await;
    for (organization, struck) in [(SENDER, 503), (RECIPIENT, 200)] {
        put(&bench, unavailable(json!({ "operation": "token", "organization": organization }))).await;
        assert_eq!(bench.post_grant(&bench.grant(Role::Sender, |_| {})).await.status, struck);
    }
    // A system user's grant is for its organisation, whoever owns the client.
    put(&bench, unavailable(json!({ "operation": "token", "organization": RECIPIENT }))).await;
    let grant = bench.grant(Role::Sender, |claims| {
        claims["authorization_details"] = json!([{ "systemuser_org": { "ID": RECIPIENT } }]);
    });
    assert_eq!(bench.post_grant(&grant).await.status, 503);
}

#[tokio::test]
async fn a_rule_about_a_resource_strikes_wherever_the_resource_is_named() {
    let bench = Bench::start().await;
    for (resource, struck) in [(RESOURCE, 503), ("another", 200)] {
        put(&bench, unavailable(json!({ "resource": resource }))).await;
        assert_eq!(bench.try_initialize(|_| {}).await.status, struck);
        let urn = format!("urn:altinn:resource:{RESOURCE}");
        assert_eq!(bench.try_initialize(|body| body["resourceId"] = urn.into()).await.status, struck);
        let registry = format!("/resourceregistry/api/v1/resource/{RESOURCE}");
        assert_eq!(send(bench.request(Method::GET, &registry)).await.status, struck);
    }
}
