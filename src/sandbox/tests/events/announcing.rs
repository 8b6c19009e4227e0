//! What Formidling announces, when, and to whom.

use std::time::Duration;

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::{RECIPIENT, SENDER, THIRD};
use crate::sandbox::tests::support::{self, Bench, MD5_OF_NOTHING};
use crate::sandbox::{Event, Part};

/// The events about a transfer as (kind, number), sorted.
fn told(bench: &Bench, id: &str) -> Vec<(&'static str, String)> {
    let mut events = bench.events(id);
    events.sort_unstable();
    events
}

fn rows(rows: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
    let mut rows: Vec<_> = rows.iter().map(|(kind, number)| (*kind, (*number).to_owned())).collect();
    rows.sort_unstable();
    rows
}

fn event(bench: &Bench, kind: &str, part: Part) -> Event {
    let events = bench.sandbox.events();
    events.into_iter().find(|event| event.kind == kind && event.part == part).unwrap()
}

#[tokio::test]
async fn s122_published_has_a_derived_id_for_each_role_and_party() {
    let bench = Bench::start().await;
    let id = bench.publish("hello").await;
    for (part, role, party) in
        [(Part::Sender, "Sender", support::SENDER), (Part::Recipient, "Recipient", support::RECIPIENT)]
    {
        let hash = Sha256::digest(format!("published:{id}:{role}:{party}").as_bytes());
        // A .NET GUID shows its first three fields the other way round.
        let hex: String = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15]
            .map(|place| format!("{:02x}", hash[place]))
            .concat();
        assert_eq!(event(&bench, "published", part).id.simple().to_string(), hex);
    }
    let other = event(&bench, "filetransferinitialized", Part::Sender).id;
    assert_eq!(other.get_version(), Some(uuid::Version::Random));
}

#[tokio::test]
async fn s122_the_same_organisation_as_sender_and_recipient_gets_two() {
    let bench = Bench::start().await;
    let id =
        bench.publish_with("hello", |body| body["recipients"] = [support::SENDER].as_slice().into()).await;
    assert_eq!(bench.count_events(&id, "published"), 2);
    let ids = [Part::Sender, Part::Recipient].map(|part| event(&bench, "published", part).id);
    assert_ne!(ids[0], ids[1]);
}

#[tokio::test]
async fn a_repeated_publication_is_stored_once() {
    let bench = Bench::start().await;
    bench.publish("hello").await;
    let before = bench.sandbox.events().len();
    let transfer = bench.sandbox.transfers().remove(0);
    bench.sandbox.site.tell_sender("published", &transfer);
    assert_eq!(bench.sandbox.events().len(), before);
    bench.sandbox.site.tell_sender("filepurged", &transfer);
    bench.sandbox.site.tell_sender("filepurged", &transfer);
    assert_eq!(bench.sandbox.events().len(), before + 2, "only that of published is derived");
}

#[tokio::test]
async fn s123_the_subject_is_a_urn_with_nine_digits_in_whatever_form_the_sender_wrote() {
    let bench = Bench::start().await;
    let id = bench
        .publish_with("hello", |body| {
            body["sender"] = "urn:altinn:organization:identifier-no:991825827".into();
        })
        .await;
    let reply = support::send(bench.request(reqwest::Method::GET, "/_sandbox/events")).await;
    for line in reply.text().lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        let number = if event["role"] == "Sender" { SENDER } else { RECIPIENT };
        assert_eq!(event["subject"], format!("urn:altinn:organization:identifier-no:{number}"));
        assert_eq!(event["transfer"], id.as_str());
        assert!(event["transfer"].as_str().unwrap().parse::<Uuid>().is_ok());
    }
}

#[tokio::test]
async fn a_transfer_is_announced_from_its_beginning_to_its_end() {
    let bench = Bench::start().await;
    bench.permit_third();
    let both = [support::RECIPIENT, support::THIRD];
    let id = bench
        .initialize(|body| {
            body["disableVirusScan"] = false.into();
            body["recipients"] = both.as_slice().into();
        })
        .await;
    let mut wanted = vec![("filetransferinitialized", SENDER)];
    assert_eq!(told(&bench, &id), rows(&wanted));
    bench.upload(&id, "hello").await;
    wanted.push(("uploadprocessing", SENDER));
    assert_eq!(told(&bench, &id), rows(&wanted));
    bench.clock.advance(Duration::from_secs(1));
    support::eventually(|| bench.count_events(&id, "published") == 3, || "published".to_owned()).await;
    wanted.extend([("published", SENDER), ("published", RECIPIENT), ("published", THIRD)]);
    assert_eq!(told(&bench, &id), rows(&wanted));
    bench.download(support::RECIPIENT, &id, None).await;
    bench.download(support::THIRD, &id, None).await;
    assert_eq!(told(&bench, &id), rows(&wanted), "a download is not announced");
    bench.confirm(support::RECIPIENT, &id).await;
    wanted.extend([("downloadconfirmed", RECIPIENT), ("downloadconfirmed", SENDER)]);
    assert_eq!(told(&bench, &id), rows(&wanted));
    bench.confirm(support::RECIPIENT, &id).await;
    assert_eq!(told(&bench, &id), rows(&wanted), "nor is a confirmation that was one before");
    bench.confirm(support::THIRD, &id).await;
    wanted.extend([
        ("downloadconfirmed", THIRD),
        ("downloadconfirmed", SENDER),
        ("allconfirmeddownloaded", SENDER),
    ]);
    assert_eq!(told(&bench, &id), rows(&wanted));
    bench.clock.advance(Duration::from_hours(2));
    support::eventually(|| bench.count_events(&id, "filepurged") == 1, || "a purge".to_owned()).await;
    bench.until(&id, "Purged").await;
    wanted.push(("filepurged", SENDER));
    assert_eq!(told(&bench, &id), rows(&wanted));
}

#[tokio::test]
async fn an_expired_transfer_tells_those_who_did_not_confirm_and_the_sender_once() {
    let bench = Bench::start().await;
    bench.permit_third();
    let both = [support::RECIPIENT, support::THIRD];
    let id = bench.publish_with("hello", |body| body["recipients"] = both.as_slice().into()).await;
    let never = bench.initialize(|body| body["recipients"] = both.as_slice().into()).await;
    bench.download(support::THIRD, &id, None).await;
    bench.confirm(support::THIRD, &id).await;
    bench.clock.advance(Duration::from_hours(30 * 24));
    let kind = "fileneverconfirmeddownloaded";
    for (id, recipients) in [(&id, vec![RECIPIENT]), (&never, vec![RECIPIENT, THIRD])] {
        support::eventually(
            || {
                bench.count_events(id, kind) == recipients.len() + 1
                    && bench.count_events(id, "filepurged") == 1
            },
            || format!("the end of it: {:?}", bench.events(id)),
        )
        .await;
        let mut told: Vec<_> = bench.events(id).into_iter().filter(|(it, _)| *it == kind).collect();
        told.sort_unstable();
        let mut wanted: Vec<_> = recipients.iter().map(|recipient| (kind, *recipient)).collect();
        wanted.push((kind, SENDER));
        assert_eq!(told, rows(&wanted));
    }
}

#[tokio::test]
async fn s121_malware_is_told_to_all_and_the_end_of_it_as_well() {
    let bench = Bench::start().await;
    let id = bench.initialize(|body| body["disableVirusScan"] = false.into()).await;
    let eicar = concat!(r"X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR-", "STANDARD-ANTIVIRUS-TEST-FILE!$H+H*");
    bench.upload(&id, eicar).await;
    bench.clock.advance(Duration::from_secs(1));
    let kind = "fileneverconfirmeddownloaded";
    support::eventually(|| bench.count_events(&id, kind) == 2, || "malware".to_owned()).await;
    bench.until(&id, "Failed").await;
    let wanted = [
        ("filetransferinitialized", SENDER),
        ("uploadprocessing", SENDER),
        ("uploadfailed", SENDER),
        (kind, SENDER),
        (kind, RECIPIENT),
    ];
    assert_eq!(told(&bench, &id), rows(&wanted));
    // That the content went was not announced; that the transfer does is, like any other's end.
    bench.clock.advance(Duration::from_hours(30 * 24));
    bench.until(&id, "Purged").await;
    support::eventually(|| bench.count_events(&id, kind) == 4, || "the end".to_owned()).await;
    let wanted = [&wanted[..], &[("filepurged", SENDER), (kind, SENDER), (kind, RECIPIENT)]].concat();
    assert_eq!(told(&bench, &id), rows(&wanted));
}

#[tokio::test]
async fn a_mismatch_of_a_plain_upload_is_not_announced() {
    let bench = Bench::start().await;
    let id = bench.initialize(|body| body["checksum"] = MD5_OF_NOTHING.into()).await;
    bench.upload(&id, "hello").await.is_fault(400, 9);
    assert_eq!(told(&bench, &id), rows(&[("filetransferinitialized", SENDER)]));
}

#[tokio::test]
async fn a_broken_or_stuck_upload_is_told_to_the_sender() {
    let bench = Bench::start().await;
    bench.resource(|resource| resource.storage_fails = true);
    let broken = bench.initialize(|_| {}).await;
    bench.upload(&broken, "hello").await.is_fault(500, 8);
    assert_eq!(bench.count_events(&broken, "uploadfailed"), 1);
    assert_eq!(bench.events(&broken).len(), 2);
    bench.resource(|resource| resource.storage_fails = false);
    let (stuck, _) = bench.begin(5, |_| {}).await;
    bench.clock.advance(Duration::from_mins(24 * 60 + 31));
    bench.until(&stuck, "Failed").await;
    support::eventually(|| bench.events(&stuck).len() == 2, || "the event".to_owned()).await;
    assert_eq!(told(&bench, &stuck), rows(&[("filetransferinitialized", SENDER), ("uploadfailed", SENDER)]));
}

#[tokio::test]
async fn a_resumable_upload_that_fails_is_told_to_the_sender() {
    let bench = Bench::start().await;
    let (id, path) = bench.begin(5, |body| body["checksum"] = MD5_OF_NOTHING.into()).await;
    assert_eq!(support::send(bench.chunk(&path, 0, "hello")).await.status, 204);
    bench.run_until(&id, "Failed").await;
    support::eventually(|| bench.count_events(&id, "uploadfailed") == 1, || "the event".to_owned()).await;
    let wanted =
        [("filetransferinitialized", SENDER), ("uploadprocessing", SENDER), ("uploadfailed", SENDER)];
    assert_eq!(told(&bench, &id), rows(&wanted));
}
