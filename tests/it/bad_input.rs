//! What people and servers get wrong: each mistake is named where it was made, and costs no file.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use rustix::fs::{CWD, FileType, Mode};
use serde_json::json;

use crate::support::{Bench, Fate, Fault, MOTTAKER, OUTBOX, Rule, Settings, Setup, noise, run};

const CLIENT: &str = "client.default";

/// A configuration that is wrong in one way, what is said of it, and whether `check` sees it as `run` does.
struct Wrong {
    settings: String,
    said: Vec<String>,
}

impl Wrong {
    fn new(settings: &Settings, said: &[&str]) -> Self {
        Self { settings: settings.text().to_owned(), said: said.iter().copied().map(str::to_owned).collect() }
    }
}

/// The sender's configuration with one key set.
fn with(bench: &Bench, section: &str, key: &str, value: impl std::fmt::Display, said: &[&str]) -> Wrong {
    let mut settings = bench.sender.settings.clone();
    settings.set(section, key, value);
    Wrong::new(&settings, said)
}

fn key_file(bench: &Bench, name: &str, content: &[u8], mode: u32) -> String {
    let path = bench.dir.path().join(name);
    std::fs::write(&path, content).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    format!("{{ file = \"{}\" }}", path.display())
}

fn the_key_of(bench: &Bench) -> Vec<u8> {
    let line = bench.sender.settings.text().lines().find(|line| line.starts_with("private_key")).unwrap();
    std::fs::read(line.split('"').nth(1).unwrap()).unwrap()
}

fn elliptic_key() -> Vec<u8> {
    let random = aws_lc_rs::rand::SystemRandom::new();
    let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).unwrap();
    pem::encode(&pem::Pem::new("PRIVATE KEY", key.as_ref())).into_bytes()
}

#[test]
fn a_wrong_configuration_is_told_with_file_and_key_and_costs_nothing() {
    let mut bench = Bench::new(&Setup::default());
    bench.drop_file("a.txt", b"a");
    let right = the_key_of(&bench);
    let private_key = "client.default.private_key";
    let outbox = bench.sender.outbox();
    let link = bench.dir.path().join("link-to-outbox");
    symlink(&outbox, &link).unwrap();
    let second = |path: &Path, said: &[&str]| {
        let mut settings = bench.sender.settings.clone();
        settings
            .set("outbox.second", "path", format!("\"{}\"", path.display()))
            .set("outbox.second", "identity", "\"default\"")
            .set("outbox.second", "resource_id", "\"sandbox-files\"")
            .set("outbox.second", "recipients", format!("[\"{MOTTAKER}\"]"));
        Wrong::new(&settings, said)
    };
    let missing_key = format!("{{ file = \"{}\" }}", bench.dir.path().join("no-key.pem").display());
    let open_key = key_file(&bench, "open.pem", &right, 0o644);
    let elliptic = key_file(&bench, "elliptic.pem", &elliptic_key(), 0o600);
    let garbage = key_file(&bench, "garbage.pem", b"-----BEGIN NOTHING-----\n", 0o600);
    let address = "\"http://platform.example.no\"";
    let wrong = [
        Wrong { settings: "[altinn]\nenvironment = \"sandbox\n".to_owned(), said: vec!["line 2".to_owned()] },
        with(&bench, OUTBOX, "settle", 2, &["outbox.to-mottaker.settle", "whole number"]),
        with(
            &bench,
            OUTBOX,
            "recipients",
            "[\"0192:910753615\"]",
            &["outbox.to-mottaker.recipients", "910753615"],
        ),
        with(&bench, CLIENT, "private_key", missing_key, &[private_key, "cannot be read"]),
        with(&bench, CLIENT, "private_key", open_key, &[private_key, "chmod"]),
        with(&bench, CLIENT, "private_key", elliptic, &[private_key, "RSA"]),
        with(&bench, CLIENT, "private_key", garbage, &[private_key]),
        with(&bench, "altinn", "platform_url", address, &["altinn.platform_url", "loopback"]),
        with(&bench, OUTBOX, "path", "\"/nowhere/at/all\"", &["outbox.to-mottaker.path", "/nowhere/at/all"]),
        second(&outbox, &["outbox.second.path", "outbox.to-mottaker"]),
        second(&link, &["outbox.second.path", "outbox.to-mottaker"]),
        second(&outbox.join("sent"), &["outbox.second.path", "outbox.to-mottaker"]),
    ];
    std::fs::create_dir(outbox.join("sent")).unwrap();
    let path = bench.dir.path().join("wrong.toml");
    let name = path.to_str().unwrap();
    for Wrong { settings, said } in wrong {
        std::fs::write(&path, &settings).unwrap();
        for command in ["check", "run"] {
            let ended = run(&[command, "--config", name], &[]);
            assert_eq!(ended.code, Some(78), "{command}: {said:?} {ended:?}");
            for words in said.iter().map(String::as_str).chain(["wrong.toml"]) {
                assert!(ended.text.contains(words), "{command}: {words}: {ended:?}");
            }
        }
        assert_eq!(std::fs::read(outbox.join("a.txt")).unwrap(), b"a");
    }
    bench.start();
    bench.assert_promises();
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let mut bench = Bench::new(&Setup::default());
    bench.drop_file("a.txt", b"a");
    let outbox = bench.sender.outbox();
    let configuration = bench.sender.configuration().to_str().unwrap().to_owned();
    let is_named = |text: &str| text.contains(outbox.to_str().unwrap());
    // As on a file system that is mounted read-only, which root cannot write either.
    let faults = [("FORMIDLINGD_FAIL_AT", "make folder:1:1000:30")];
    let ended = run(&["run", "--config", &configuration], &faults);
    assert!(ended.code.is_some_and(|code| code != 0) && is_named(&ended.text), "{ended:?}");
    if rustix::process::geteuid().is_root() {
        eprintln!("not run: permissions do not keep root from writing");
    } else {
        std::fs::set_permissions(&outbox, std::fs::Permissions::from_mode(0o555)).unwrap();
        for command in ["check", "run"] {
            let ended = run(&[command, "--config", &configuration], &[]);
            assert_eq!(ended.code, Some(78), "{command}: {ended:?}");
            assert!(is_named(&ended.text) && ended.text.contains("outbox.to-mottaker.path"), "{ended:?}");
        }
        std::fs::set_permissions(&outbox, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    bench.start();
    bench.assert_promises();
}

#[test]
fn what_is_wrong_in_a_sidecar_is_named() {
    let mut bench = Bench::new(&Setup::default());
    let many: serde_json::Map<_, _> = (0..11).map(|number| (format!("key{number}"), json!("x"))).collect();
    // 128 letters of two units each, and a name of more than 255 units that has fewer characters.
    let long = "🦊".repeat(128);
    let wrong = [
        ("syntax", "{\n  \"recipients\": [\n}".to_owned(), "sidecar_invalid", &["line 3 column 1"][..]),
        (
            "member",
            json!({ "receivers": [MOTTAKER] }).to_string(),
            "sidecar_invalid",
            &["receivers", "line 1"],
        ),
        (
            "number",
            json!({ "recipients": ["0192:910753615"] }).to_string(),
            "sidecar_invalid",
            &["910753615"],
        ),
        ("name", json!({ "fileName": long }).to_string(), "sidecar_invalid", &["255"]),
        ("properties", json!({ "propertyList": many }).to_string(), "properties_invalid", &["11"]),
        ("type", json!({ "propertyList": { "a": 1 } }).to_string(), "sidecar_invalid", &["line 1 column"]),
    ];
    for (name, sidecar, code, _) in &wrong {
        let name = format!("{name}.txt");
        std::fs::write(bench.sender.outbox().join(format!("{name}.meta.json")), sidecar).unwrap();
        bench.drop_file(&name, name.as_bytes()).fate = Fate::Refused(code);
    }
    bench.start();
    bench.assert_promises();
    for (path, error) in bench.errors() {
        let stem = path.file_stem().unwrap().to_str().unwrap();
        let (_, sidecar, _, words) = wrong.iter().find(|(name, ..)| *name == stem).unwrap();
        let message = error["message"].as_str().unwrap();
        assert!(words.iter().all(|words| message.contains(words)), "{stem}: {message}");
        if error["code"] == "sidecar_invalid" {
            assert!(message.contains(&format!("{stem}.txt.meta.json")), "{stem}: {message}");
        }
        let kept = std::fs::read_to_string(format!("{}.meta.json", path.display())).unwrap();
        assert_eq!(&kept, sidecar, "the sidecar is kept");
    }
    assert!(bench.look("transfers").is_empty(), "Altinn was not asked");
}

#[test]
fn a_file_that_is_too_large_is_put_aside_unread() {
    let mut bench = Bench::new(&Setup::default());
    let path = bench.sender.outbox().join("large.bin");
    std::fs::File::create(&path).unwrap().set_len(50_000_000_001).unwrap();
    bench.sender.start();
    bench.wait_until("it is in failed/", || {
        bench.errors().iter().any(|(path, _)| path.metadata().is_ok_and(|file| file.len() == 50_000_000_001))
    });
    let (_, error) = bench.errors().pop().unwrap();
    assert_eq!(error["code"], "file_too_large");
    assert!(error["message"].as_str().unwrap().contains("50000000001"), "{error}");
    assert!(bench.look("transfers").is_empty(), "Altinn was not asked");
    assert_eq!(bench.sender.stop(), Some(0));
}

#[test]
fn what_is_no_file_stays_where_it_is() {
    let mut bench = Bench::new(&Setup::default());
    // The kernel does not tell who writes to a pipe; that it takes long to be sure is not what keeps it here.
    bench.sender.set(OUTBOX, "settle_unverified", "\"200ms\"");
    let outbox = bench.sender.outbox();
    symlink("/etc/hostname", outbox.join("link.txt")).unwrap();
    symlink("/nowhere", outbox.join("dangling.txt")).unwrap();
    symlink("/dev/zero", outbox.join("zero.txt")).unwrap();
    rustix::fs::mknodat(CWD, outbox.join("fifo.txt"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let socket = UnixListener::bind(outbox.join("socket.txt")).unwrap();
    std::fs::create_dir(outbox.join("folder.txt")).unwrap();
    let device = rustix::fs::makedev(1, 5);
    let mode = Mode::RUSR | Mode::WUSR;
    if rustix::fs::mknodat(CWD, outbox.join("device.txt"), FileType::CharacterDevice, mode, device).is_err() {
        eprintln!("no device was tried: this user may not make one");
    }
    let names = || {
        let mut names: Vec<_> =
            std::fs::read_dir(&outbox).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.retain(|name| name.to_string_lossy().ends_with(".txt"));
        names.sort();
        names
    };
    let before = names();
    bench.drop_file("file.txt", b"file");
    bench.start();
    bench.settle();
    bench.drop_file("later.txt", b"later");
    bench.settle();
    assert_eq!(names(), before);
    drop(socket);
    for name in before {
        let path = outbox.join(name);
        if path.is_dir() && !path.is_symlink() {
            std::fs::remove_dir(path).unwrap();
        } else {
            std::fs::remove_file(path).unwrap();
        }
    }
    bench.assert_promises();
}

#[test]
fn a_sidecar_that_is_no_file_is_not_tried_all_the_time() {
    let mut bench = Bench::new(&Setup::default());
    let sidecar = bench.sender.outbox().join("a.txt.meta.json");
    std::fs::create_dir(&sidecar).unwrap();
    bench.drop_file("a.txt", b"a").fate = Fate::Waiting;
    bench.start();
    for number in 0..4 {
        bench.drop_file(&format!("{number}.txt"), b"x");
        bench.settle();
    }
    let claims = bench.sender.log().matches("name=a.txt").count();
    assert!(claims <= 1, "claimed {claims} times");
    std::fs::remove_dir(&sidecar).unwrap();
    bench.dropped[0].fate = Fate::Confirmed;
    bench.assert_promises();
}

const FILETRANSFER: &str = "/broker/api/v1/filetransfer";

/// The calls by which a file goes from one end to the other.
const CALLS: [(&str, &str); 8] = [
    ("POST", "/token"),
    ("GET", "/exchange/maskinporten"),
    ("POST", FILETRANSFER),
    ("POST", "/upload"),
    ("GET", OVERVIEW),
    ("GET", FILETRANSFER),
    ("GET", "/download"),
    ("POST", "/confirmdownload"),
];

/// The one by which a sender asks what has become of a file. Where its answer makes no sense, or is about rights,
/// it is asked again only after five minutes.
const OVERVIEW: &str = "/broker/api/v1/filetransfer/*";

/// Each call but some is answered wrongly that many times; the file arrives all the same, once, and the logs say
/// what was the matter.
fn each_call_is_answered(fault: &Fault, times: usize, but: &[&str], said: &str) {
    for size in [1000, 600_000] {
        let mut bench = Bench::proxied(&["--stuck-after", "3s"]);
        let calls: Vec<_> = CALLS.into_iter().filter(|(_, path)| !but.contains(path)).collect();
        for (method, path) in &calls {
            bench.proxy().rule(Rule::first(method, path, fault.clone()).times(times));
        }
        bench.drop_file("a.bin", &noise(1, size));
        bench.start();
        bench.assert_promises();
        let broken = bench.proxy().broken();
        assert!(broken >= calls.len() * times, "{broken} requests were broken: {fault:?}");
        let logs = bench.sender.log() + &bench.recipient.log();
        assert!(logs.contains(said), "{said} is not in the logs:\n{logs}");
    }
}

const JSON: &str = "Content-Type: application/json\r\n";
const HTML: &str = "Content-Type: text/html\r\n";

#[test]
fn a_server_in_trouble_costs_a_delay() {
    let body = "<html><body><h1>Internal Server Error</h1></body></html>";
    let page = Fault::Say { status: 500, headers: HTML, body };
    each_call_is_answered(&page, 1, &[], "HTTP 500");
    each_call_is_answered(&Fault::Answer { status: 500, headers: "" }, 2, &[], "HTTP 500");
}

#[test]
fn a_token_that_is_not_taken_costs_a_delay() {
    // One that is not taken is renewed without a word, so there are two.
    each_call_is_answered(&Fault::Answer { status: 401, headers: "" }, 2, &[OVERVIEW], "token_refused");
}

#[test]
fn rights_that_are_missing_for_a_while_cost_a_delay() {
    let body =
        r#"{"title":"Unauthorized","status":401,"code":"BRO-00006","detail":"no access to the resource"}"#;
    let refused = Fault::Say { status: 401, headers: "Content-Type: application/problem+json\r\n", body };
    each_call_is_answered(&refused, 1, &[OVERVIEW], "BRO-00006");
}

#[test]
fn too_many_requests_cost_a_delay_with_and_without_its_length() {
    for headers in ["Retry-After: 1\r\n", ""] {
        each_call_is_answered(&Fault::Answer { status: 429, headers }, 1, &[], "HTTP 429");
    }
}

#[test]
fn a_page_in_place_of_an_answer_is_not_taken_for_one() {
    let body = "<html><body>Log in to the network first</body></html>";
    let page = Fault::Say { status: 200, headers: HTML, body };
    each_call_is_answered(&page, 1, &[OVERVIEW, "/upload"], "altinn_garbled");
}

#[test]
fn garbage_in_place_of_an_answer_is_not_taken_for_one() {
    let half = Fault::Say { status: 200, headers: JSON, body: "{\"fileTransferId\": \"" };
    each_call_is_answered(&half, 1, &[OVERVIEW, "/upload"], "altinn_garbled");
}

#[test]
fn a_page_in_place_of_the_answer_to_an_upload_is_not_taken_for_one() {
    let mut bench = Bench::proxied(&["--stuck-after", "3s"]);
    let body = "<html><body>Log in to the network first</body></html>";
    bench.proxy().rule(Rule::first("POST", "/upload", Fault::Say { status: 200, headers: HTML, body }));
    bench.drop_file("a.bin", &noise(1, 1000));
    bench.start();
    bench.assert_promises();
}

#[test]
fn half_an_answer_is_not_taken_for_one() {
    // A confirmation is answered without a body, of which there is no half.
    each_call_is_answered(&Fault::CutAnswer { after: 1 }, 1, &["/confirmdownload"], "connection_broke");
}
