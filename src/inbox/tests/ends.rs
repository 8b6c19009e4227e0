//! How a file ends: deleted under way, confirmed or too late for it, with and without a checksum.

use super::*;

#[tokio::test]
async fn a_file_that_is_deleted_under_way_has_expired_and_leaves_nothing() {
    let bench = Bench::new(Duration::from_hours(1), true).await;
    let mut transfer = bench.heard().await;
    bench.will_answer([cut_after(300_000), problem(403, "BRO-00007")]);
    bench.set("fileTransferStatus", json!("Purged"));
    bench.drive(&mut transfer).await.unwrap();
    assert_eq!(transfer.state_name(), "expired");
    assert_eq!(bench.asked("download"), 2);
    let incoming = bench.inbox.path().join(".formidlingd/incoming");
    assert_eq!(std::fs::read_dir(incoming).unwrap().count(), 0, "the beginning of the file is removed");
    assert_eq!(std::fs::read_dir(bench.inbox.path()).unwrap().count(), 1, "nothing was delivered");
    assert!(bench.log().contains("ERROR"), "{}", bench.log());
    let journal = bench.route.means.store.journal_find(transfer.id).await.unwrap();
    assert_eq!(journal.unwrap().state_name(), "expired");
}

#[tokio::test]
async fn a_file_that_is_refused_for_a_moment_has_not_expired() {
    let bench = Bench::new(Duration::from_hours(1), true).await;
    let mut transfer = bench.heard().await;
    bench.will_answer([cut_after(300_000), problem(403, "BRO-00007")]);
    let trouble = bench.drive(&mut transfer).await.unwrap_err();
    assert_eq!(trouble.kind, Kind::Temporary(None), "Altinn says that it is published");
    bench.will_answer([Bytes::from(content()).into_response(), StatusCode::NO_CONTENT.into_response()]);
    bench.drive(&mut transfer).await.unwrap();
    assert_eq!(transfer.state_name(), "confirmed");
    assert_eq!(std::fs::read(bench.inbox.path().join("a.bin")).unwrap(), content());
}

#[tokio::test]
async fn a_delivered_file_that_cannot_be_confirmed_any_more_stays_delivered() {
    for purged in ["Purged", "Failed"] {
        let bench = Bench::new(Duration::from_hours(1), true).await;
        let mut transfer = bench.heard().await;
        bench.will_answer([Bytes::from(content()).into_response(), problem(400, "BRO-00010")]);
        bench.set("fileTransferStatus", json!(purged));
        bench.drive(&mut transfer).await.unwrap();
        assert_eq!(transfer.state_name(), "delivered");
        let Work::Incoming { progress: Incoming::Delivered { confirmation, .. }, .. } = &transfer.work else {
            panic!("{transfer:?}");
        };
        assert_eq!(*confirmation, Confirmation::TooLate);
        assert_eq!(transfer.problem.as_ref().unwrap().code, "confirm_too_late");
        assert!(bench.log().contains("confirm_too_late"), "{}", bench.log());
        assert_eq!(std::fs::read(bench.inbox.path().join("a.bin")).unwrap(), content());
        let journal = bench.route.means.store.journal_find(transfer.id).await.unwrap();
        assert_eq!(journal, Some(transfer));
    }
}

#[tokio::test]
async fn a_confirmation_that_was_taken_and_not_heard_of_is_found_in_the_overview() {
    let bench = Bench::new(Duration::from_hours(1), true).await;
    let mut transfer = bench.heard().await;
    bench.will_answer([Bytes::from(content()).into_response(), problem(400, "BRO-00010")]);
    bench.set(
        "recipients",
        json!([{ "recipient": "0192:910753614",
            "currentRecipientFileTransferStatusCode": "DownloadConfirmed" }]),
    );
    bench.set("fileTransferStatus", json!("Purged"));
    bench.drive(&mut transfer).await.unwrap();
    assert_eq!((transfer.state_name(), &transfer.problem), ("confirmed", &None));
}

#[tokio::test]
async fn a_checksum_that_altinn_has_yet_to_compute_is_waited_for() {
    let bench = Bench::new(Duration::from_mins(29), false).await;
    let mut transfer = bench.heard().await;
    for _ in 0..3 {
        let trouble = bench.drive(&mut transfer).await.unwrap_err();
        assert_eq!(trouble.failure.code, "checksum_pending");
    }
    assert_eq!((bench.asked(ID), bench.asked("download")), (4, 0), "asked again, and not fetched");
    let mut digests = crate::files::Digests::default();
    digests.update(&content());
    bench.set("checksum", json!(digests.finish().0.to_string()));
    bench.will_answer([Bytes::from(content()).into_response(), StatusCode::NO_CONTENT.into_response()]);
    bench.drive(&mut transfer).await.unwrap();
    assert_eq!((transfer.state_name(), &bench.metadata()["checksumVerified"]), ("confirmed", &json!(true)));
}

#[tokio::test]
async fn a_file_without_a_checksum_is_delivered_on_its_size_after_half_an_hour() {
    let bench = Bench::new(Duration::from_mins(31), false).await;
    let mut transfer = bench.heard().await;
    // One byte too few is not the file, whatever its checksum.
    bench.will_answer([cut_after(BYTES - 1), problem(500, "BRO-00099")]);
    for _ in 0..6 {
        bench.will_answer([problem(500, "BRO-00099")]);
    }
    bench.drive(&mut transfer).await.unwrap_err();
    assert!(!bench.inbox.path().join("a.bin").exists());
    bench.altinn.answers.lock().unwrap().clear();
    bench.will_answer([Bytes::from(content()).into_response(), StatusCode::NO_CONTENT.into_response()]);
    bench.drive(&mut transfer).await.unwrap();
    let metadata = bench.metadata();
    assert_eq!((transfer.state_name(), &metadata["checksumVerified"]), ("confirmed", &json!(false)));
    assert_eq!(metadata["fileTransferSize"], BYTES);
    assert!(bench.log().contains("only its size is verified"), "{}", bench.log());
    let published: Timestamp = metadata["published"].as_str().unwrap().parse().unwrap();
    assert!(published < SystemClock.now());
}
