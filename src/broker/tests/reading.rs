//! Answers of every form.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::json;

use super::super::content::content_range;
use super::super::effect::judge;
use super::super::*;
use super::{ID, id, overview_json};
use crate::http::Reply;
use crate::transfer::Effect;

fn reply(status: u16, body: &str) -> Reply {
    Reply {
        status,
        headers: reqwest::header::HeaderMap::new(),
        body: Bytes::copy_from_slice(body.as_bytes()),
    }
}

#[test]
fn problems_are_read_in_every_form() {
    let twice = r#"{"type":"t","title":"Unauthorized","status":401,"detail":"You must","code":"BRO-00006",
        "traceId":"00-a","statusDescription":"Unauthorized","traceId":"00-b"}"#;
    let problem = Problem::read(&reply(401, twice));
    assert_eq!((problem.code, problem.detail.as_str()), (Some(Code::NoAccess), "You must"));
    assert!(!problem.is_empty && !problem.has_errors);

    let invalid =
        r#"{"title":"One or more","status":400,"errors":{"FileName":["Is required.","And short."],"x":3}}"#;
    let problem = Problem::read(&reply(400, invalid));
    assert!(problem.has_errors && problem.code.is_none());
    assert_eq!(problem.detail, "FileName: Is required. And short.; x:");

    let gate =
        r#"{ "statusCode": 401, "message": "Access denied due to invalid subscription key. Make sure" }"#;
    assert!(Problem::read(&reply(401, gate)).is_key_gate);
    assert!(!Problem::read(&reply(403, gate)).is_key_gate);

    let page = format!("<html>\n\t<h1>Bad   gateway</h1>\u{7}{}", "x".repeat(1_000));
    let problem = Problem::read(&reply(502, &page));
    assert!(problem.detail.starts_with("<html> <h1>Bad gateway</h1> xxx"), "{}", problem.detail);
    assert_eq!(problem.detail.chars().count(), 200);

    for body in ["", " \r\n"] {
        let problem = Problem::read(&reply(401, body));
        assert!(problem.is_empty && problem.code.is_none() && problem.detail.is_empty());
    }
    for code in ["BRO-", "BRO-x", "BRO--1", "BRO-99999999999999999999", "AUTH-00006", "bro-6"] {
        assert_eq!(Problem::read(&reply(400, &json!({ "code": code }).to_string())).code, None, "{code}");
    }
}

#[test]
fn an_overview_is_read() {
    let overview = parse::overview(&reply(200, &overview_json().to_string())).unwrap();
    assert_eq!((overview.id, overview.status, overview.size), (id(), Status::Published, 1_048_576));
    assert_eq!(overview.created.unwrap().to_string(), "2026-08-18T11:40:01.5Z");
    assert_eq!(overview.published, overview.status_changed);
    assert_eq!(overview.properties["Key"], "v");
    assert_eq!(overview.recipients[0].status, RecipientStatus::DownloadStarted);
    assert_eq!(overview.recipients[0].organization, Some("910753614".parse().unwrap()));
}

#[test]
fn an_overview_that_lacks_things_is_read_as_far_as_it_goes() {
    let mut value = overview_json();
    for (member, other) in [
        ("checksum", json!("")),
        ("fileTransferSize", json!("42")),
        ("fileTransferStatus", json!("Teleported")),
        ("created", json!("2026-08-18T11:40:01.5")),
        ("expirationTime", json!("soon")),
        ("published", json!(null)),
        ("sender", json!("urn:altinn:organization:identifier-no:991825827")),
        ("recipients", json!([null, { "recipient": "0192:123456789" }, 7])),
        ("propertyList", json!({ "a": null, "b": "c" })),
    ] {
        value[member] = other;
    }
    let overview = parse::overview(&reply(200, &value.to_string())).unwrap();
    assert_eq!((overview.checksum, overview.size, overview.published), (None, 42, None));
    assert_eq!(overview.status, Status::Unknown("Teleported".into()));
    assert_eq!(overview.created.unwrap().to_string(), "2026-08-18T11:40:01.5Z");
    assert_eq!((overview.expiration, overview.sender), (None, Some("991825827".parse().unwrap())));
    assert_eq!((overview.recipients.len(), overview.recipients[0].organization), (1, None));
    assert_eq!(overview.recipients[0].raw, "0192:123456789");
    assert_eq!(overview.properties, BTreeMap::from([("b".into(), "c".into())]));

    let least = json!({ "fileTransferId": ID, "fileTransferStatus": "Failed" });
    assert_eq!(parse::overview(&reply(200, &least.to_string())).unwrap().status, Status::Failed);
    for member in ["fileTransferId", "fileTransferStatus"] {
        let mut least = least.clone();
        least.as_object_mut().unwrap().remove(member);
        let garbled = parse::overview(&reply(200, &least.to_string())).unwrap_err();
        assert!(matches!(garbled, Kind::Garbled { lacks, .. } if lacks == member), "{garbled:?}");
    }
}

#[test]
fn texts_that_unicode_does_not_know_hide_nothing() {
    let json = overview_json().to_string();
    let overview = |old: &str, new: &[u8]| {
        let (before, behind) = json.split_once(old).unwrap();
        let body = [before.as_bytes(), new, behind.as_bytes()].concat();
        parse::overview(&Reply { body: Bytes::from(body), ..reply(200, "") }).unwrap()
    };
    for (escaped, read) in [
        (&b"faktura_\xf8.pdf"[..], "faktura_\u{FFFD}.pdf"),
        (b"half \\ud83d.pdf", "half \u{FFFD}.pdf"),
        (b"\\udE00\\ud83d", "\u{FFFD}\u{FFFD}"),
        (b"\\ud83d\\ud83d\\ude00", "\u{FFFD}😀"),
        (b"\\ud83d\\u0041", "\u{FFFD}A"),
        (b"\xff\\ud83d\\ude00 \\\\ud83d \\\"", "\u{FFFD}😀 \\ud83d \""),
        (b"\xf0\x9f\x98", "\u{FFFD}"),
    ] {
        assert_eq!(overview("../a.zip", escaped).file_name, read, "{escaped:?}");
        assert_eq!(overview("case-77", escaped).reference, read);
        assert_eq!(overview("0192:991825827", escaped).sender_raw, read);
        assert_eq!(overview("\"v\"", &[b"\"", escaped, b"\""].concat()).properties["Key"], read);
    }
    for body in ["{\"a\":\"\\ud83", "{\"a\":\"\\", "\\ud83d", "{\"a\":\"\\uD83D\\"] {
        assert!(parse::overview(&reply(200, body)).is_err(), "{body}");
    }
    assert_eq!(parse::ids(&reply(200, &json!([ID]).to_string())).unwrap(), [id()]);
}

#[test]
fn histories_are_put_in_order() {
    let mut value = overview_json();
    value["fileTransferStatusHistory"] = json!([
        { "fileTransferStatus": "Published", "fileTransferStatusText": "b", "fileTransferStatusChanged": "2026-08-18T11:40:02+00:00" },
        { "fileTransferStatus": "Initialized", "fileTransferStatusText": "a", "fileTransferStatusChanged": "2026-08-18T11:40:01+00:00" },
    ]);
    value["recipientFileTransferStatusHistory"] = json!([
        { "recipient": "0192:910753614", "recipientFileTransferStatusCode": "DownloadStarted", "recipientFileTransferStatusChanged": "2026-08-18T11:40:03+00:00" },
    ]);
    let details = parse::details(&reply(200, &value.to_string())).unwrap();
    assert_eq!(details.history[0].status, Status::Initialized);
    assert_eq!(details.history[1].status, Status::Published);
    assert_eq!(details.recipient_history[0].status, RecipientStatus::DownloadStarted);
}

#[test]
fn an_id_that_cannot_be_read_does_not_vanish() {
    assert_eq!(parse::ids(&reply(200, "[]")).unwrap(), []);
    assert_eq!(parse::ids(&reply(200, &json!([ID]).to_string())).unwrap(), [id()]);
    for body in [json!([ID, "x"]), json!([ID, null]), json!({}), json!(null)] {
        assert!(parse::ids(&reply(200, &body.to_string())).is_err(), "{body}");
    }
}

#[test]
fn content_ranges_are_read() {
    assert_eq!(content_range("bytes 100-199/200"), Some((100, 199, Some(200))));
    assert_eq!(content_range("bytes 0-0/*"), Some((0, 0, None)));
    for text in ["", "bytes", "bytes */200", "bytes 9-2/10", "bytes 0-10/10", "octets 0-1/2", "bytes a-b/c"] {
        assert_eq!(content_range(text), None, "{text}");
    }
}

proptest! {
    #[test]
    fn any_answer_is_read_without_a_panic(status in 100u16..600, body in proptest::collection::vec(0u8.., 0..300)) {
        let reply = Reply { body: Bytes::from(body), ..reply(status, "") };
        let problem = Problem::read(&reply);
        prop_assert!(problem.detail.chars().count() <= 400);
        for call in Call::ALL {
            prop_assert!(judge(call, problem.facts()).effect != Effect::Refused || status >= 400);
        }
        prop_assert!(parse::overview(&reply).is_err());
        prop_assert!(parse::details(&reply).is_err());
    }

    #[test]
    fn any_bytes_in_a_name_leave_the_rest_readable(name in proptest::collection::vec(0x20u8.., 0..40)) {
        let name: Vec<u8> = name.into_iter().filter(|byte| !b"\\\"".contains(byte)).collect();
        let json = overview_json().to_string();
        let (before, behind) = json.split_once("../a.zip").unwrap();
        let body = [before.as_bytes(), &name, behind.as_bytes()].concat();
        let overview = parse::overview(&Reply { body: Bytes::from(body), ..reply(200, "") }).unwrap();
        prop_assert_eq!(overview.file_name, String::from_utf8_lossy(&name).into_owned());
        prop_assert_eq!(overview.size, 1_048_576);
    }

    #[test]
    fn any_escapes_in_a_name_leave_the_rest_readable(units in proptest::collection::vec(0xD7FFu16..0xE001, 0..8)) {
        let name = units.iter().fold(String::new(), |name, unit| format!("{name}\\u{unit:04x}"));
        let text = overview_json().to_string().replace("../a.zip", &name);
        let overview = parse::overview(&reply(200, &text)).unwrap();
        prop_assert_eq!(overview.file_name, String::from_utf16_lossy(&units));
    }

    #[test]
    fn any_json_is_read_without_a_panic(member in "[a-zA-Z]{1,24}", value in "[-0-9a-zA-Z\":,{}\\[\\]]{0,24}") {
        let mut all = overview_json();
        all[member.as_str()] = serde_json::from_str(&value).unwrap_or(json!(value));
        let _read = parse::details(&reply(200, &all.to_string()));
        let text = all.to_string().replace("published", &member);
        let _read = parse::overview(&reply(200, &text));
    }
}
