//! Resumable uploads: what is asked, and which answers are believed.

use axum::http::HeaderMap;

use super::super::*;
use super::*;

const UPLOAD: &str = "/broker/api/v1/filetransfer/upload/tus/0f8fad5b-d9cb-469f-a165-70867728950e";

fn with(status: u16, headers: &[(&'static str, &str)]) -> Response {
    let mut response = empty(status);
    for (name, value) in headers {
        response.headers_mut().insert(*name, value.parse().unwrap());
    }
    response
}

fn text(status: u16, text: &'static str) -> Response {
    (StatusCode::from_u16(status).unwrap(), text).into_response()
}

fn headers_of(altinn: &Altinn, number: usize) -> HeaderMap {
    altinn.seen.lock().unwrap()[number].headers().clone()
}

#[tokio::test]
async fn each_call_says_what_it_is_and_where_it_goes() {
    let part = format!("{UPLOAD}/partial/3f2b7c0d9e814a55b6c7d8e9f0a1b2c3");
    let altinn = Altinn::answering([
        with(201, &[("location", UPLOAD)]),
        with(201, &[("location", &part)]),
        with(204, &[("upload-offset", "5")]),
        with(200, &[("upload-offset", "5"), ("upload-length", "9")]),
        with(204, &[("upload-offset", "9")]),
        empty(201),
    ]);
    let server = altinn.serve().await;
    let client = client(&server);
    assert_eq!(client.tus_create(id(), 9, false).await.unwrap(), UPLOAD);
    assert_eq!(client.tus_create(id(), 9, true).await.unwrap(), part);
    let chunk = Chunk { location: &part, offset: 0, size: 5, ends_part: false };
    assert_eq!(client.tus_patch(id(), chunk, block("bytes")).await.unwrap(), 5);
    let stored = client.tus_head(id(), &part).await.unwrap();
    assert_eq!(stored, Stored { offset: 5, length: Some(9) });
    assert_eq!(client.tus_finish(id(), UPLOAD, 9).await.unwrap(), 9);
    client.tus_join(id(), &[part.clone(), part.clone()]).await.unwrap();

    let asked: Vec<(Method, String)> =
        altinn.seen().into_iter().map(|(method, path, _)| (method, path)).collect();
    let expected = [
        (Method::POST, UPLOAD),
        (Method::POST, UPLOAD),
        (Method::PATCH, &part),
        (Method::HEAD, &part),
        (Method::PATCH, UPLOAD),
        (Method::POST, UPLOAD),
    ];
    assert_eq!(asked, expected.map(|(method, path)| (method, path.to_owned())));
    let header = |number: usize, name: &str| {
        headers_of(&altinn, number).get(name).map(|value| value.to_str().unwrap().to_owned())
    };
    for number in 0..6 {
        assert_eq!(header(number, "tus-resumable").as_deref(), Some("1.0.0"), "{number}");
        assert!(header(number, "upload-checksum").is_none(), "it never matches");
    }
    assert_eq!(header(0, "upload-length").as_deref(), Some("9"));
    assert_eq!((header(0, "upload-concat"), header(1, "upload-concat").as_deref()), (None, Some("partial")));
    for (number, offset) in [(2, "0"), (4, "9")] {
        assert_eq!(header(number, "upload-offset").as_deref(), Some(offset));
        assert_eq!(header(number, "content-type").as_deref(), Some("application/offset+octet-stream"));
    }
    assert_eq!(header(2, "content-length").as_deref(), Some("5"));
    assert_eq!(header(5, "upload-concat"), Some(format!("final;{part} {part}")));
    assert!(header(5, "upload-length").is_none());
}

#[tokio::test]
async fn a_location_elsewhere_is_refused_and_gets_no_token() {
    let part = format!("{UPLOAD}/partial/3f2b");
    let whole = [
        "https://elsewhere.example/broker/api/v1/filetransfer/upload/tus/0f8fad5b-d9cb-469f-a165-70867728950e",
        "//elsewhere.example/x",
        "/broker/api/v1/filetransfer/upload/tus/00000000-d9cb-469f-a165-70867728950e",
        "/elsewhere",
        "..",
        "?a=b",
        part.as_str(),
        "",
    ];
    for location in whole {
        // An empty one is the address itself, and fits.
        let fits = location.is_empty();
        let altinn = Altinn::answering([with(201, &[("location", location)])]);
        let server = altinn.serve().await;
        let created = client(&server).tus_create(id(), 9, false).await;
        assert_eq!(created.is_ok(), fits, "{location:?}");
    }
    for (location, fits) in [
        (part.as_str(), true),
        (UPLOAD, false),
        ("partial/3f2b", false),
        ("/broker/api/v1/filetransfer/upload/tus/0f8fad5b-d9cb-469f-a165-70867728950e/partial/", false),
        ("/broker/api/v1/filetransfer/upload/tus/0f8fad5b-d9cb-469f-a165-70867728950e/partial/a/b", false),
        ("/broker/api/v1/filetransfer/upload/tus/0f8fad5b-d9cb-469f-a165-70867728950e/partial/a%20b", false),
    ] {
        let altinn = Altinn::answering([with(201, &[("location", location)])]);
        let server = altinn.serve().await;
        assert_eq!(client(&server).tus_create(id(), 9, true).await.is_ok(), fits, "{location:?}");
    }
    // One that was remembered is looked at again.
    let altinn = Altinn::default();
    let server = altinn.serve().await;
    let error = client(&server).tus_head(id(), "//elsewhere.example/x").await.unwrap_err();
    assert_eq!((error.trouble(), altinn.seen().len()), (Trouble::Protocol, 0));
}

#[tokio::test]
async fn a_refused_chunk_tells_how_far_altinn_is_and_is_not_repeated() {
    let conflict = "Offset does not match file. File offset: 16777216. Request offset: 8388608";
    let altinn = Altinn::answering([text(409, conflict), empty(401), with(204, &[])]);
    let server = altinn.serve().await;
    let client = client(&server);
    let chunk = Chunk { location: UPLOAD, offset: 8_388_608, size: 5, ends_part: false };
    let error = client.tus_patch(id(), chunk, block("bytes")).await.unwrap_err();
    assert_eq!((error.accepted_offset(), error.status()), (Some(16_777_216), Some(409)));
    let error = client.tus_patch(id(), chunk, block("bytes")).await.unwrap_err();
    assert_eq!((error.trouble(), error.accepted_offset()), (Trouble::Token, None));
    // The next call has another token. A success that says nothing is none of Altinn's.
    let error = client.tus_patch(id(), chunk, block("bytes")).await.unwrap_err();
    assert_eq!(error.trouble(), Trouble::Protocol);
    let tokens: Vec<String> = altinn.seen().into_iter().map(|(_, _, token)| token).collect();
    assert_eq!(tokens, ["Bearer token-0", "Bearer token-0", "Bearer token-1"]);
}

#[tokio::test]
async fn looking_is_repeated_with_a_new_token_and_waits_for_no_budget() {
    let altinn = Altinn::default();
    *altinn.answers.lock().unwrap() =
        (0..300).map(|_| with(200, &[("upload-offset", "1")])).chain([empty(401)]).collect();
    let server = altinn.serve().await;
    let client = client(&server);
    for _ in 0..300 {
        assert_eq!(client.tus_head(id(), UPLOAD).await.unwrap(), Stored { offset: 1, length: None });
    }
    assert_eq!(altinn.seen().len(), 301);
}
