//! Each call, against a small server that answers as Altinn and its gateways do.

use axum::http::{Method, StatusCode, header};
use axum::response::IntoResponse;
use bytes::Bytes;
use futures_util::{TryStreamExt, stream};
use serde_json::json;
use std::sync::atomic::Ordering;

use super::super::*;
use super::*;
use crate::http::testing::{Server, chain, dead_url, read_head, write};
use crate::transfer::Effect;
use crate::transfer::outgoing::LastByte;

#[tokio::test]
async fn a_file_is_made_and_uploaded() {
    let altinn = Altinn::answering([
        axum::Json(json!({ "fileTransferId": ID })).into_response(),
        axum::Json(json!({ "fileTransferId": ID })).into_response(),
    ]);
    let server = altinn.serve().await;
    let client = client(&server);
    let made = client.initialize(&initialize()).await.unwrap();
    assert_eq!(made.id, id());
    assert!(made.server_time.is_some() && client.identity().skew().is_confirmed());
    client.upload(made.id, 5, block("bytes")).await.unwrap();

    let seen = altinn.seen();
    let upload = format!("/broker/api/v1/filetransfer/{ID}/upload");
    assert_eq!(seen[0], (Method::POST, "/broker/api/v1/filetransfer".into(), "Bearer token-0".into()));
    assert_eq!(seen[1], (Method::POST, upload, "Bearer token-0".into()));
    let seen = altinn.seen.lock().unwrap();
    assert_eq!(seen[1].headers()[header::CONTENT_LENGTH], "5");
    assert_eq!(seen[1].headers()[header::CONTENT_TYPE], "application/octet-stream");
    assert_eq!(seen[1].headers()["ocp-apim-subscription-key"], "the-key");
    let bodies = altinn.bodies.lock().unwrap();
    assert_eq!(bodies[1], "bytes");
    let body: serde_json::Value = serde_json::from_slice(&bodies[0]).unwrap();
    assert_eq!(
        body,
        json!({ "fileName": "a.zip", "resourceId": "agency", "sendersFileTransferReference": "case-77",
            "sender": "0192:991825827", "recipients": ["0192:910753614"], "propertyList": { "Key": "v" },
            "checksum": "9e107d9d372bb6826bd81d3542a419d6", "disableVirusScan": false })
    );
}

#[tokio::test]
async fn an_empty_file_is_uploaded() {
    let altinn = Altinn::default();
    let server = altinn.serve().await;
    client(&server).upload(id(), 0, stream::empty()).await.unwrap();
    assert_eq!(altinn.seen.lock().unwrap()[0].headers()[header::CONTENT_LENGTH], "0");
}

#[tokio::test]
async fn a_search_asks_in_altinns_words() {
    let altinn = Altinn::answering([axum::Json(json!([ID])).into_response()]);
    let server = altinn.serve().await;
    let search = Search {
        resource_id: "agency".parse().unwrap(),
        role: Role::Recipient,
        status: Some(Status::Published),
        recipient_status: Some(RecipientStatus::DownloadStarted),
        from: Some("2026-08-18T11:40:01.5Z".parse().unwrap()),
        to: None,
        ascending: true,
    };
    assert_eq!(client(&server).search(&search).await.unwrap(), [id()]);
    assert_eq!(
        altinn.seen()[0].1,
        "/broker/api/v1/filetransfer?resourceId=agency&role=Recipient&status=Published\
         &recipientStatus=DownloadStarted&from=2026-08-18T11%3A40%3A01.5Z&orderAscending=true"
    );
}

#[tokio::test]
async fn a_name_that_unicode_does_not_know_comes_with_its_transfer() {
    let json = overview_json().to_string();
    let (before, behind) = json.split_once("../a.zip").unwrap();
    let named = |name: &[u8]| {
        let body = [before.as_bytes(), name, behind.as_bytes()].concat();
        ([(header::CONTENT_TYPE, "application/json")], body).into_response()
    };
    let altinn = Altinn::answering([named(b"faktura_\xf8.pdf"), named(b"\\ud83d.pdf")]);
    let server = altinn.serve().await;
    let client = client(&server);
    for name in ["faktura_\u{FFFD}.pdf", "\u{FFFD}.pdf"] {
        let overview = client.overview(id(), Role::Recipient).await.unwrap();
        assert_eq!((overview.file_name.as_str(), overview.id, overview.size), (name, id(), 1_048_576));
    }
}

#[tokio::test]
async fn i51_an_empty_401_renews_the_token_once() {
    let altinn = Altinn::answering([empty(401), axum::Json(overview_json()).into_response()]);
    let server = altinn.serve().await;
    client(&server).overview(id(), Role::Sender).await.unwrap();
    let tokens: Vec<String> = altinn.seen().into_iter().map(|(_, _, token)| token).collect();
    assert_eq!(tokens, ["Bearer token-0", "Bearer token-1"]);

    let altinn = Altinn::answering((0..10).map(|_| empty(401)));
    let server = altinn.serve().await;
    let client = client(&server);
    for _ in 0..3 {
        let error = client.confirm(id()).await.unwrap_err();
        assert_eq!((error.effect(), error.trouble()), (Effect::None, Trouble::Token));
    }
    assert_eq!(altinn.tokens.load(Ordering::SeqCst), 2, "new tokens do not help");
}

#[tokio::test]
async fn i52_a_401_about_rights_renews_nothing() {
    let altinn = Altinn::answering((0..3).map(|_| problem(401, "BRO-00006")));
    let server = altinn.serve().await;
    let client = client(&server);
    let error = client.upload(id(), 5, block("bytes")).await.unwrap_err();
    assert_eq!((error.trouble(), error.last_byte()), (Trouble::Rights, LastByte::Kept));
    let error = client.initialize(&initialize()).await.unwrap_err();
    assert_eq!((error.effect(), error.trouble()), (Effect::None, Trouble::Rights));
    let answer = error.altinn().unwrap();
    assert_eq!((answer.status, answer.code.as_deref()), (Some(401), Some("BRO-00006")));
    client.confirm(id()).await.unwrap_err();
    client.confirm(id()).await.unwrap();
    // One for each scope.
    assert_eq!((altinn.tokens.load(Ordering::SeqCst), altinn.seen().len()), (2, 4));
}

#[tokio::test]
async fn i53_an_upload_is_not_repeated_after_a_401() {
    let altinn = Altinn::answering([empty(401)]);
    let server = altinn.serve().await;
    let client = client(&server);
    let error = client.upload(id(), 5, block("bytes")).await.unwrap_err();
    assert_eq!((error.effect(), error.trouble()), (Effect::None, Trouble::Token));
    assert_eq!((error.last_byte(), altinn.seen().len()), (LastByte::Kept, 1));
    client.upload(id(), 5, block("bytes")).await.unwrap();
    assert_eq!(altinn.seen()[1].2, "Bearer token-1");
}

#[tokio::test]
async fn nothing_has_happened_where_nobody_listens() {
    let altinn = Altinn::default();
    let server = altinn.serve().await;
    let client = client_to(dead_url().await, &server);
    let error = client.initialize(&initialize()).await.unwrap_err();
    assert_eq!((error.effect(), error.trouble(), error.was_sent()), (Effect::None, Trouble::Platform, false));
    assert!(chain(&error).contains("initialize"));
}

#[tokio::test]
async fn an_answer_that_is_lost_leaves_it_unknown() {
    let cut = Server::raw(async |mut stream| {
        read_head(&mut stream).await;
    })
    .await;
    let altinn = Altinn::default();
    let server = altinn.serve().await;
    let client = client_to(cut.url.clone(), &server);
    let error = client.initialize(&initialize()).await.unwrap_err();
    assert_eq!((error.effect(), error.trouble(), error.was_sent()), (Effect::Unknown, Trouble::Server, true));
    assert_eq!(client.confirm(id()).await.unwrap_err().effect(), Effect::Unknown);
    assert_eq!(client.overview(id(), Role::Sender).await.unwrap_err().effect(), Effect::None);
    let error = client.upload(id(), 0, stream::empty()).await.unwrap_err();
    assert_eq!((error.effect(), error.last_byte()), (Effect::Unknown, LastByte::MayHaveLeft));
}

#[tokio::test]
async fn a_download_goes_on_where_it_broke_or_begins_anew() {
    let part = |range: &'static str, text: &'static str| {
        (StatusCode::PARTIAL_CONTENT, [(header::CONTENT_RANGE, range)], text).into_response()
    };
    let altinn = Altinn::answering([
        "whole".into_response(),
        part("bytes 2-4/5", "ole"),
        "whole".into_response(),
        part("bytes 3-4/5", "le"),
        problem(416, "BRO-00029"),
        problem(403, "BRO-00007"),
    ]);
    let server = altinn.serve().await;
    let client = client(&server);
    let mut got = Vec::new();
    for from in [0, 2, 2] {
        let download = client.download(id(), from).await.unwrap();
        let place = (download.offset, download.total);
        let body: Vec<Bytes> = download.body.try_collect().await.unwrap();
        got.push((place, String::from_utf8(body.concat()).unwrap()));
    }
    assert_eq!(got[0], ((0, Some(5)), "whole".into()));
    assert_eq!(got[1], ((2, Some(5)), "ole".into()));
    assert_eq!(got[2], ((0, Some(5)), "whole".into()), "the range was ignored");
    assert_eq!(client.download(id(), 2).await.unwrap_err().trouble(), Trouble::Protocol);
    assert_eq!(client.download(id(), 5).await.unwrap_err().trouble(), Trouble::Range);
    assert_eq!(client.download(id(), 0).await.unwrap_err().trouble(), Trouble::NotReady);
    let seen = altinn.seen.lock().unwrap();
    assert!(!seen[0].headers().contains_key(header::RANGE));
    assert_eq!(seen[1].headers()[header::RANGE], "bytes=2-");
}

#[tokio::test]
async fn a_download_that_ends_early_is_an_error() {
    let platform = Server::raw(async |mut stream| {
        read_head(&mut stream).await;
        let short = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nsome";
        write(&mut stream, short).await;
    })
    .await;
    let altinn = Altinn::default();
    let server = altinn.serve().await;
    let client = client_to(platform.url.clone(), &server);
    let body = client.download(id(), 0).await.unwrap().body;
    let error = body.try_collect::<Vec<Bytes>>().await.unwrap_err();
    assert_eq!((error.call(), error.effect(), error.transfer()), (Call::Download, Effect::None, Some(id())));
}

#[tokio::test]
async fn a_touch_asks_for_one_byte_or_for_nothing() {
    let altinn = Altinn::default();
    let server = altinn.serve().await;
    let client = client(&server);
    client.touch(id(), false).await.unwrap();
    client.touch(id(), true).await.unwrap();
    let seen = altinn.seen.lock().unwrap();
    assert_eq!(seen[0].headers()[header::RANGE], "bytes=0-0");
    assert!(!seen[1].headers().contains_key(header::RANGE));
}

#[tokio::test]
async fn while_the_platform_is_down_one_probe_tries() {
    let altinn = Altinn::answering((0..6).map(|_| empty(503)));
    let server = altinn.serve().await;
    let client = client(&server);
    let look = async || loop {
        match client.confirm(id()).await {
            Ok(()) => return,
            Err(error) => assert_eq!(error.trouble(), Trouble::Platform),
        }
    };
    // The first to go find out; of those behind them, one at a time looks again.
    for _ in 0..3 {
        client.confirm(id()).await.unwrap_err();
    }
    futures_util::future::join_all((0..5).map(|_| look())).await;
    assert_eq!(altinn.seen().len(), 6 + 5);
}

#[tokio::test]
async fn too_many_requests_are_one_clients_trouble_and_stop_nobody_else() {
    let altinn = Altinn::answering((0..20).map(|_| empty(429)));
    let server = altinn.serve().await;
    let client = client(&server);
    for _ in 0..20 {
        let error = client.confirm(id()).await.unwrap_err();
        assert_eq!((error.effect(), error.trouble()), (Effect::None, Trouble::Server));
    }
    assert!(client.is_up());
}

#[tokio::test]
async fn a_probe_that_is_cut_is_no_reason_to_try_at_once() {
    let visits = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&visits);
    let platform = Server::raw(move |mut stream| {
        let visit = counted.fetch_add(1, Ordering::SeqCst);
        async move {
            read_head(&mut stream).await;
            if visit == 0 {
                write(&mut stream, "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                    .await;
            }
        }
    })
    .await;
    let altinn = Altinn::default();
    let server = altinn.serve().await;
    let client = client_to(platform.url.clone(), &server);
    let start = tokio::time::Instant::now();
    for _ in 0..6 {
        client.confirm(id()).await.unwrap_err();
    }
    // Before each after the third the time between two probes.
    assert!(start.elapsed() >= Duration::from_millis(3 * 40), "{:?}", start.elapsed());
}

#[tokio::test]
async fn an_upload_waits_for_the_platform_by_looking() {
    let altinn =
        Altinn::answering([empty(502), empty(502), empty(504), axum::Json(overview_json()).into_response()]);
    let server = altinn.serve().await;
    let client = client(&server);
    for _ in 0..3 {
        client.confirm(id()).await.unwrap_err();
    }
    client.upload(id(), 5, block("bytes")).await.unwrap();
    let ways: Vec<Method> = altinn.seen().into_iter().map(|(method, ..)| method).collect();
    assert_eq!(ways, [Method::POST, Method::POST, Method::POST, Method::GET, Method::POST]);
}

#[tokio::test]
async fn errors_about_one_transfer_stop_nobody_else() {
    let altinn = Altinn::answering((0..6).map(|_| empty(500)));
    let server = altinn.serve().await;
    let client = client(&server);
    let other = |number: u8| format!("{number:08x}-d9cb-469f-a165-70867728950e").parse().unwrap();
    for _ in 0..5 {
        let error = client.confirm(id()).await.unwrap_err();
        assert_eq!((error.effect(), error.trouble()), (Effect::Unknown, Trouble::Server));
    }
    assert!(client.is_up());
    // Another one, too: now it is probably Altinn.
    client.confirm(other(1)).await.unwrap_err();
    assert!(!client.is_up());
    client.confirm(other(2)).await.unwrap();
    assert!(client.is_up(), "it was not");

    let altinn = Altinn::answering((0..6).map(|_| problem(500, "BRO-00008")));
    let server = altinn.serve().await;
    let client = self::client(&server);
    for number in 0..6 {
        client.confirm(other(number)).await.unwrap_err();
        assert!(client.is_up(), "Formidling itself has answered");
    }
}

#[tokio::test]
async fn content_that_is_cut_on_its_way_says_nothing_of_the_host_and_what_follows_does() {
    let cut = Server::raw(async |mut stream| {
        read_head(&mut stream).await;
    })
    .await;
    let altinn = Altinn::default();
    let server = altinn.serve().await;
    let client = client_to(cut.url.clone(), &server);
    let location = format!("/broker/api/v1/filetransfer/upload/tus/{}", id());
    let chunk = Chunk { location: &location, offset: 0, size: 5, ends_part: false };
    // Many that are on their way together are cut by one breath of the line.
    for _ in 0..4 {
        let error = client.upload(id(), 5, block("bytes")).await.unwrap_err();
        assert_eq!((error.effect(), error.trouble()), (Effect::Unknown, Trouble::Server));
        client.tus_patch(id(), chunk, block("bytes")).await.unwrap_err();
    }
    assert!(client.is_up());
    for _ in 0..3 {
        assert!(client.is_up());
        client.overview(id(), Role::Sender).await.unwrap_err();
    }
    assert!(!client.is_up());
}

#[tokio::test]
async fn content_for_which_there_is_no_connection_tells_that_the_host_is_down() {
    let altinn = Altinn::default();
    let server = altinn.serve().await;
    let client = client_to(dead_url().await, &server);
    for _ in 0..3 {
        assert!(client.is_up());
        client.upload(id(), 5, block("bytes")).await.unwrap_err();
    }
    assert!(!client.is_up());
}

#[tokio::test]
async fn a_redirect_takes_no_token_elsewhere() {
    let elsewhere = Altinn::default();
    let trap = elsewhere.serve().await;
    let to = trap.url.to_string();
    let altinn = Altinn::answering([(StatusCode::FOUND, [(header::LOCATION, to)]).into_response()]);
    let server = altinn.serve().await;
    let error = client(&server).download(id(), 0).await.unwrap_err();
    assert_eq!((error.effect(), error.trouble()), (Effect::None, Trouble::Route));
    assert!(elsewhere.seen().is_empty());
}

#[tokio::test]
async fn no_error_shows_a_secret() {
    let altinn =
        Altinn::answering([empty(500), problem(400, "BRO-00016"), empty(302), "nonsense".into_response()]);
    let server = altinn.serve().await;
    let client = client(&server);
    for _ in 0..4 {
        let error = client.overview(id(), Role::Recipient).await.unwrap_err();
        let shown = format!("{} {} {client:?}", chain(&error), error.remedy());
        for secret in ["token-", "the-key", "raw", "Bearer", "eyJ"] {
            assert!(!shown.contains(secret), "{secret}: {shown}");
        }
        assert!(shown.contains(ID), "{shown}");
    }
}
