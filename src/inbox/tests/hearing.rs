//! What others have to wait for: files that do not fit, an inbox that is held, tokens that do not come.

use super::*;

#[tokio::test]
async fn files_that_are_too_large_do_not_keep_others_from_being_heard_of() {
    for max_file_size in [Some(1), None] {
        let mut bench = Bench::new(Duration::from_hours(1), true).await;
        Arc::get_mut(&mut bench.route).unwrap().settings.max_file_size = max_file_size;
        let min_free_space = if max_file_size.is_none() { u64::MAX } else { 1 };
        Arc::get_mut(&mut bench.route).unwrap().settings.min_free_space = MinFreeSpace::Bytes(min_free_space);
        let mut transfer = bench.heard().await;
        bench.route.note(&transfer);
        assert_eq!(bench.route.backlog.counted(), 1);
        let trouble = bench.drive(&mut transfer).await.unwrap_err();
        if trouble.kind == Kind::Slow {
            Driver(Arc::clone(&bench.route)).waits_for_people(&transfer);
        }
        assert_eq!(bench.route.backlog.counted(), 0, "{}", trouble.failure.code);
        bench.route.note(&transfer);
        assert_eq!(bench.route.backlog.counted(), 1, "something has happened to it");
    }
}

/// Lets the inbox ask what waits, until it has asked so often.
async fn hear(bench: &Bench, searches: usize) {
    let stop = tokio_util::sync::CancellationToken::new();
    let asked = async {
        while bench.asked("filetransfer") < searches {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // It has the answer, and waits for the next time.
        tokio::time::sleep(Duration::from_millis(50)).await;
        stop.cancel();
    };
    let (heard, ()) = tokio::join!(hear::run(Arc::clone(&bench.route), stop.clone()), asked);
    heard.unwrap();
}

#[tokio::test]
async fn an_inbox_that_may_ask_and_not_fetch_stays_held_until_it_may() {
    let bench = Bench::new(Duration::from_hours(1), true).await;
    let mut transfer = bench.heard().await;
    bench.will_answer([problem(403, "BRO-00006")]);
    let trouble = bench.drive(&mut transfer).await.unwrap_err();
    assert_eq!(trouble.kind, Kind::Route, "{trouble}");
    for _ in 0..2 {
        bench.route.hold.failed(transfer.id, &trouble.failure, bench.route.means.now());
    }
    assert!(bench.route.hold.is_held());
    bench.will_answer([axum::Json(json!([])).into_response(), axum::Json(json!([])).into_response()]);
    hear(&bench, 2).await;
    assert!(bench.route.hold.is_held(), "that it may ask says nothing of fetching");
    bench.will_answer([Bytes::from(content()).into_response(), StatusCode::NO_CONTENT.into_response()]);
    tokio::time::sleep(Duration::from_millis(5)).await;
    bench.drive(&mut transfer).await.unwrap();
    assert!(!bench.route.hold.is_held());
}

#[tokio::test]
async fn who_waits_for_a_token_keeps_no_slot() {
    let bench = Bench::new(Duration::from_hours(1), true).await;
    let mut transfer = bench.heard().await;
    let identity = bench.route.means.broker.identity();
    let token = identity.token(crate::identity::Scope::BrokerRead).await.unwrap();
    identity.refuse(crate::identity::Scope::BrokerRead, &token);
    bench.altinn.keeps_tokens.store(true, Ordering::Release);
    let asked = bench.asked("token");
    bench.will_answer([Bytes::from(content()).into_response(), StatusCode::NO_CONTENT.into_response()]);
    let look = async {
        while bench.asked("token") == asked {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let free = bench.route.means.slots.available_permits();
        bench.altinn.keeps_tokens.store(false, Ordering::Release);
        free
    };
    let (driven, free) = tokio::join!(bench.drive(&mut transfer), look);
    driven.unwrap();
    assert_eq!((free, transfer.state_name()), (4, "confirmed"));
}
