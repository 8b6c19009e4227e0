//! What an earlier process, or an importer, has left: names that were chosen, markers, evidence, files that are gone.

use super::*;

#[tokio::test]
async fn a_name_that_was_chosen_before_this_start_is_kept_for_its_transfer() {
    let bench = Bench::new(Duration::from_hours(1), true).await;
    let transfer = bench.heard().await;
    let route = &bench.route;
    let (md5, sha256) = crate::files::Digests::default().finish();
    let now = route.means.now();
    let received = Received { md5, sha256, size: 0, received: now, checksum_verified: true };
    let place = InboxPlace { folder: None, name: "a.bin".parse().unwrap(), metadata: true };
    let mut intended = transfer.clone();
    let events = [
        IncomingEvent::DownloadBegun,
        IncomingEvent::DownloadVerified(received),
        IncomingEvent::DeliveryIntended(place),
    ];
    route.means.store_events(&mut intended, events, Transfer::after_incoming).await.unwrap();
    assert_eq!(route.names.reserved(), 0, "as after a start");
    super::super::recover::recover(route).await.unwrap();
    let Work::Incoming { progress, .. } = &transfer.work else { panic!("{transfer:?}") };
    let offer = Offer { file_name: "A.BIN".to_owned(), ..progress.offer().clone() };
    let other = route.means.store.new_id();
    let chosen = route.choose_place(other, &offer).await.unwrap();
    assert_eq!(chosen.name.as_str(), format!("A~{}.BIN", other.short()));
    let again = route.choose_place(transfer.id, progress.offer()).await.unwrap();
    assert_eq!(again.name.as_str(), "a.bin");
}

#[tokio::test]
async fn a_record_that_is_older_than_its_delivery_goes_on_from_its_marker() {
    for deleted in [false, true] {
        let bench = Bench::new(Duration::from_hours(1), true).await;
        let mut transfer = bench.heard().await;
        let begun = transfer.clone().after_incoming(IncomingEvent::DownloadBegun, transfer.created).unwrap();
        bench.will_answer([Bytes::from(content()).into_response(), StatusCode::NO_CONTENT.into_response()]);
        bench.drive(&mut transfer).await.unwrap();
        assert_eq!(transfer.state_name(), "confirmed");
        // An importer has taken it, and an export from before that is taken in.
        for name in ["a.bin", "a.bin.meta.json"] {
            std::fs::remove_file(bench.inbox.path().join(name)).unwrap();
        }
        bench.will_answer([problem(400, "BRO-00010")]);
        if deleted {
            bench.set("fileTransferStatus", json!("Purged"));
        }
        bench.set(
            "recipients",
            json!([{ "recipient": "0192:910753614",
                "currentRecipientFileTransferStatusCode": "DownloadConfirmed" }]),
        );
        let mut older = begun;
        older.id = bench.route.means.store.new_id();
        bench.route.means.store.insert(older.clone()).await.unwrap();
        super::super::recover::recover(&bench.route).await.unwrap();
        let driven = tokio::time::timeout(Duration::from_secs(30), bench.drive(&mut older)).await;
        driven.expect("it was fetched again, and there is nothing to fetch").unwrap();
        assert_eq!(older.state_name(), "confirmed", "{}", bench.log());
        assert_eq!(bench.asked("download"), 1, "it was not fetched again");
        assert!(!bench.inbox.path().join("a.bin").exists(), "and not delivered again");
    }
}

#[tokio::test]
async fn a_file_that_vanishes_before_it_is_laid_down_is_fetched_again_and_not_confirmed() {
    for layout in [Layout::Flat, Layout::BySender, Layout::ByTransfer] {
        for (with_metadata, is_tried_before) in [(true, false), (false, false), (true, true)] {
            let mut bench = Bench::new(Duration::from_hours(1), true).await;
            {
                let settings = &mut Arc::get_mut(&mut bench.route).unwrap().settings;
                (settings.layout, settings.write_metadata) = (layout, with_metadata);
            }
            let mut transfer = bench.heard().await;
            bench.will_answer([Bytes::from(content()).into_response()]);
            let driver = Driver(Arc::clone(&bench.route));
            while transfer.phase() != "delivering" {
                driver.step(&mut transfer).await.unwrap();
            }
            let file = own(&bench, &transfer).join("file");
            if is_tried_before {
                // The move is refused, and will be for as long as somebody pleases.
                let Work::Incoming { progress: Incoming::Delivering { offer, received, place }, .. } =
                    &transfer.work
                else {
                    panic!("{transfer:?}")
                };
                let (id, marker) = (transfer.id, deliver::marker(transfer.id, offer, received, place));
                let moved = bench.route.on_files(move |folders| {
                    let refused = || {
                        let refused =
                            std::io::Error::from_raw_os_error(rustix::io::Errno::ACCESS.raw_os_error());
                        Err(Error::new("move", "file", refused))
                    };
                    deliver::move_marked(folders, &folders.own(id)?, "file", &marker, refused)
                });
                assert_eq!(moved.await.unwrap_err().failure.code, "folder_not_accessible");
            }
            std::fs::remove_file(&file).unwrap();
            let trouble = bench.drive(&mut transfer).await.unwrap_err();
            assert_eq!((trouble.failure.code.as_str(), transfer.phase()), ("file_vanished", "discovered"));
            assert!(bench.log().contains("ERROR") && bench.asked("confirmdownload") == 0, "{}", bench.log());
            bench.will_answer([
                Bytes::from(content()).into_response(),
                StatusCode::NO_CONTENT.into_response(),
            ]);
            bench.drive(&mut transfer).await.unwrap();
            assert_eq!(transfer.state_name(), "confirmed");
            let folder = match layout {
                Layout::Flat => bench.inbox.path().to_owned(),
                Layout::BySender => bench.inbox.path().join("991825827"),
                Layout::ByTransfer => bench.inbox.path().join(ID),
            };
            assert_eq!(std::fs::read(folder.join("a.bin")).unwrap(), content());
            let others = std::fs::read_dir(&folder).unwrap().flatten();
            let others = others.filter(|entry| entry.file_name() != ".formidlingd").count();
            assert_eq!(others, 1 + usize::from(with_metadata), "no other metadata stays");
        }
    }
}

#[tokio::test]
async fn evidence_that_a_death_left_behind_blocks_nothing() {
    let bench = Bench::new(Duration::from_hours(1), true).await;
    let mut transfer = bench.heard().await;
    let own = own(&bench, &transfer);
    std::fs::create_dir(&own).unwrap();
    for name in ["evidence.json", "durable.json"] {
        std::fs::write(own.join(name), "{}").unwrap();
    }
    std::fs::create_dir(own.join("whole")).unwrap();
    bench.will_answer([Bytes::from(content()).into_response(), StatusCode::NO_CONTENT.into_response()]);
    bench.drive(&mut transfer).await.unwrap();
    assert_eq!(transfer.state_name(), "confirmed");
    assert!(!own.exists());
}

#[tokio::test]
async fn markers_that_are_damaged_cost_nothing_that_is_not_delivered() {
    let long = vec![b'['; 2 * 1024 * 1024];
    let garbage: [&[u8]; 6] = [b"", b"{", b"null", b"{\"transferId\":\"x\"}", b"\xff\xfe\x00", &long];
    for garbage in garbage {
        let bench = Bench::new(Duration::from_hours(1), true).await;
        let markers = bench.inbox.path().join(".formidlingd/delivered");
        for name in [ID, "nonsense", "6f0fad5b-d9cb-469f-a165-70867728950e"] {
            std::fs::write(markers.join(name), garbage).unwrap();
        }
        let mut transfer = bench.heard().await;
        super::super::recover::recover(&bench.route).await.unwrap();
        drop(bench.route.on_files(|folders| folders.prune_markers(Timestamp::MAX)).await);
        bench.will_answer([Bytes::from(content()).into_response(), StatusCode::NO_CONTENT.into_response()]);
        bench.drive(&mut transfer).await.unwrap();
        assert_eq!(transfer.state_name(), "confirmed");
        assert_eq!(std::fs::read(bench.inbox.path().join("a.bin")).unwrap(), content());
        let id = ID.parse().unwrap();
        let marker = bench.route.on_files(move |folders| folders.marker(id)).await.unwrap();
        assert_eq!(marker.unwrap().transfer_id, transfer.id, "it is written anew");
    }
}

#[tokio::test]
async fn a_marker_that_is_damaged_after_the_file_was_laid_down_still_speaks_for_it() {
    let bench = Bench::new(Duration::from_hours(1), true).await;
    let mut transfer = bench.heard().await;
    bench.will_answer([Bytes::from(content()).into_response()]);
    let driver = Driver(Arc::clone(&bench.route));
    while transfer.phase() != "delivering" {
        driver.step(&mut transfer).await.unwrap();
    }
    // As a death between the move and the store leaves it; and then the disk has its day.
    std::fs::rename(own(&bench, &transfer).join("file"), bench.inbox.path().join("a.bin")).unwrap();
    std::fs::write(bench.inbox.path().join(".formidlingd/delivered").join(ID), "{").unwrap();
    bench.will_answer([StatusCode::NO_CONTENT.into_response()]);
    bench.drive(&mut transfer).await.unwrap();
    assert_eq!((transfer.state_name(), bench.asked("download")), ("confirmed", 1));
}

#[tokio::test]
async fn a_folder_that_vanishes_with_its_file_is_fetched_again_and_not_confirmed() {
    for layout in [Layout::Flat, Layout::ByTransfer] {
        let mut bench = Bench::new(Duration::from_hours(1), true).await;
        Arc::get_mut(&mut bench.route).unwrap().settings.layout = layout;
        let mut transfer = bench.heard().await;
        bench.will_answer([Bytes::from(content()).into_response()]);
        let driver = Driver(Arc::clone(&bench.route));
        while transfer.phase() != "delivering" {
            driver.step(&mut transfer).await.unwrap();
        }
        std::fs::remove_dir_all(own(&bench, &transfer)).unwrap();
        let trouble = bench.drive(&mut transfer).await.unwrap_err();
        assert_eq!((trouble.failure.code.as_str(), transfer.phase()), ("file_vanished", "discovered"));
        assert!(bench.log().contains("ERROR") && bench.asked("confirmdownload") == 0, "{}", bench.log());
        bench.will_answer([Bytes::from(content()).into_response(), StatusCode::NO_CONTENT.into_response()]);
        bench.drive(&mut transfer).await.unwrap();
        assert_eq!(transfer.state_name(), "confirmed");
        let folder = bench.inbox.path().join(if layout == Layout::Flat { "" } else { ID });
        assert_eq!(std::fs::read(folder.join("a.bin")).unwrap(), content());
    }
}

#[tokio::test]
async fn while_the_services_own_folder_is_put_away_nothing_counts_as_removed_or_delivered() {
    for what in ["", "incoming", "delivered"] {
        let bench = Bench::new(Duration::from_hours(1), true).await;
        let mut transfer = bench.heard().await;
        bench.will_answer([Bytes::from(content()).into_response()]);
        let driver = Driver(Arc::clone(&bench.route));
        while transfer.phase() != "delivering" {
            driver.step(&mut transfer).await.unwrap();
        }
        // As a death between the move and the store leaves it; and then somebody cleans up.
        let private = bench.inbox.path().join(".formidlingd");
        std::fs::rename(own(&bench, &transfer).join("file"), bench.inbox.path().join("a.bin")).unwrap();
        std::fs::remove_dir(own(&bench, &transfer)).unwrap();
        let away = bench.inbox.path().join("away");
        std::fs::rename(private.join(what), &away).unwrap();
        let trouble = bench.drive(&mut transfer).await.unwrap_err();
        assert_eq!(
            (trouble.failure.code.as_str(), transfer.phase()),
            ("folder_not_recognised", "delivering")
        );
        assert!(bench.log().contains("ERROR") && bench.log().contains(ID), "{}", bench.log());
        assert_eq!((bench.asked("download"), bench.asked("confirmdownload")), (1, 0));
    }
}
