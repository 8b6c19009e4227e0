//! What Maskinporten says when it says no.

use proptest::prelude::*;
use serde_json::json;

use super::super::refusal::{Refusal, Values};

fn values() -> Values {
    Values {
        client_id: "f5a1".into(),
        organization: "0192:991825827".into(),
        reference: Some("ref-7".into()),
        audience: "https://test.maskinporten.no/".into(),
        key: "key \"2026-11\"".into(),
        scope: "altinn:broker.write",
    }
}

fn refusal(number: u16) -> Refusal {
    let body = json!({
        "error": "invalid_grant",
        "error_description": "Invalid assertion. (trace_id: 0af7651916cd43dd)",
        "error_uri": format!("https://test.maskinporten.no/errors/MP-{number:03}"),
    });
    Refusal::read(400, body.to_string().as_bytes(), None)
}

#[test]
fn i19_each_number_has_a_remedy_and_the_trace_id() {
    let cases = [
        (11, "f5a1"),
        (12, "new one"),
        (100, "f5a1"),
        (110, "slash"),
        (120, "certificate"),
        (121, "2026-11"),
        (122, "certificate"),
        (123, "chain"),
        (124, "2026-11"),
        (130, "clock"),
        (200, "altinn:broker.write"),
        (201, "maskinporten"),
        (250, "servicedesk@altinn.no"),
        (251, "delegate"),
        (301, "report"),
        (302, "report"),
        (303, "0192:991825827"),
        (999, "docs.digdir.no"),
    ];
    for (number, part) in cases {
        let refusal = refusal(number);
        assert_eq!(refusal.name(), format!("MP-{number:03}"));
        let remedy = refusal.remedy(&values());
        assert!(remedy.contains(part) && remedy.contains("0af7651916cd43dd"), "{number}: {remedy}");
    }
}

#[test]
fn i33_mp_303_lists_its_four_causes_with_the_values() {
    let remedy = refusal(303).remedy(&values());
    for part in
        ["(1) 0192:991825827", "(2) client f5a1", "(3) system_user_reference \"ref-7\"", "(4) 0192:991825827"]
    {
        assert!(remedy.contains(part), "{part}: {remedy}");
    }
    let remedy = refusal(303).remedy(&Values { reference: None, ..values() });
    assert!(remedy.contains("system_user_reference is not set"), "{remedy}");
}

#[test]
fn i26_a_wrong_clock_is_named() {
    let mut refusal = refusal(130);
    refusal.skew = Some(jiff::SignedDuration::from_secs(-75));
    let remedy = refusal.remedy(&values());
    assert!(remedy.starts_with("set this machine's clock, which is 1m 15s behind"), "{remedy}");
}

#[test]
fn refusals_without_a_number_are_understood() {
    let read = |status, description: &str| {
        let body = json!({ "error": "invalid_grant", "error_description": description });
        Refusal::read(status, body.to_string().as_bytes(), None)
    };
    let unknown = read(
        400,
        "Invalid assertion. Client authentication failed. Unknown key identifier (kid) for client.",
    );
    assert!(unknown.is_unknown_key());
    assert!(unknown.remedy(&values()).contains("2026-11"));
    let missing =
        read(400, "Invalid JWT. The client requires pre-registered jwk and no key identifier (kid) provided");
    assert!(missing.remedy(&values()).contains("key_id"));
    let scope = read(403, "Consumer has not been granted access to the scope altinn:broker.write.");
    assert!(scope.remedy(&values()).contains("servicedesk@altinn.no"));
    let older = read(400, "Something (correlation id: ab-12)");
    assert_eq!(older.trace_id.as_deref(), Some("ab-12"));
    let page = Refusal::read(403, b"<html>\n<title>Blocked</title>", None);
    assert_eq!((page.name().as_str(), page.number), ("HTTP 403", None));
    assert!(page.description.contains("Blocked"));
}

proptest! {
    #[test]
    fn any_refusal_is_read_without_a_panic(status in 400u16..600, body in proptest::collection::vec(0u8.., 0..300)) {
        let refusal = Refusal::read(status, &body, None);
        prop_assert!(!refusal.remedy(&values()).is_empty());
        prop_assert!(refusal.description.chars().count() <= 400);
    }
}
