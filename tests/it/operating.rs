//! What an operator does and sees: starting, stopping, mistakes in the configuration, logs.

use serde_json::{Value, json};

use crate::support::{Bench, Content, Fate, Fault, INBOX, OUTBOX, Rule, Setup, files_below, noise, run};

#[test]
fn stopping_in_the_middle_of_a_large_upload_loses_nothing() {
    // A resumable upload ends between two chunks, and goes on there: nothing waits until Altinn has given up.
    let mut bench = Bench::new(&Setup::default());
    bench.recipient.start();
    bench.drop_noise("stor.bin", 1, 300 * 1024 * 1024);
    bench.drop_file("liten.txt", b"liten");
    bench.sender.start();
    let uploading =
        |transfer: &Value| transfer["status"] == "UploadStarted" && transfer["fileName"] == "stor.bin";
    bench.wait_until("the upload is under way", || bench.look("transfers").iter().any(uploading));
    assert_eq!(bench.sender.stop(), Some(0));
    bench.sender.start();
    bench.assert_promises();
}

#[test]
fn stopping_while_altinn_is_away_takes_no_longer_than_elsewhere() {
    let mut bench = Bench::running();
    bench.drop_file("a.txt", b"a");
    bench.settle();
    for party in [&mut bench.sender, &mut bench.recipient] {
        assert_eq!(party.stop(), Some(0));
        party
            .set("retry", "probe_every", "\"10m\"")
            .set("retry", "initial", "\"10ms\"")
            .set("retry", "max", "\"20ms\"");
    }
    bench.set_faults(&json!([{
        "operation": ["initialize", "search", "overview", "exchange"],
        "effect": "answer",
        "status": 503,
        "body": "html",
    }]));
    bench.start();
    bench.drop_file("b.txt", b"b");
    bench.wait_until("both know that Altinn is away", || {
        [&bench.sender, &bench.recipient].iter().all(|party| party.said().contains("does not answer"))
    });
    for party in [&mut bench.sender, &mut bench.recipient] {
        assert_eq!(party.stop(), Some(0));
        assert!(!party.said().contains("did not end in time"), "{}", party.said());
    }
    bench.set_faults(&json!([]));
    bench.start();
    bench.assert_promises();
}

#[test]
fn stopping_and_starting_all_the_time_loses_nothing() {
    let mut bench = Bench::new(&Setup::default());
    for number in 0..20 {
        bench.drop_file(&format!("{number}.bin"), &noise(number, 50_000));
    }
    for number in 1..=6 {
        bench.start();
        bench.wait_until("something has been confirmed", || bench.confirmations() >= (3 * number).min(20));
        assert_eq!(bench.sender.stop(), Some(0));
        assert_eq!(bench.recipient.stop(), Some(0));
    }
    bench.start();
    bench.assert_promises();
}

#[test]
fn a_second_process_on_the_same_state_says_so_and_ends() {
    let mut bench = Bench::running();
    bench.wait_until("the first runs", || bench.sender.log().contains("started"));
    let configuration = bench.sender.configuration().to_str().unwrap().to_owned();
    let second = run(&["run", "--config", &configuration], &[]);
    assert_eq!(second.code, Some(1), "{second:?}");
    let state = bench.sender.state().display().to_string();
    assert!(second.text.contains(&state) && second.text.contains("in use"), "{second:?}");
    bench.drop_file("a.txt", b"a");
    bench.assert_promises();
}

#[test]
fn check_says_what_run_dies_of() {
    let bench = Bench::new(&Setup::default());
    let mut party = bench.sender.settings.clone();
    let wrong = bench.dir.path().join("wrong.toml");
    let path = wrong.to_str().unwrap();
    let both = |text: &str| {
        std::fs::write(&wrong, text).unwrap();
        (run(&["check", "--config", path], &[]), run(&["run", "--config", path], &[]))
    };
    let right = bench.sender.configuration().to_str().unwrap();
    let check = run(&["check", "--config", right], &[]);
    assert_eq!(check.code, Some(0), "{check:?}");
    assert!(!check.text.contains("warning"), "what the sandbox prints is beyond reproach: {check:?}");
    party
        .set(OUTBOX, "recipient", "[]")
        .set(OUTBOX, "settle", "\"soon\"")
        .unset("client.default", "client_id");
    let (check, served) = both(party.text());
    assert_eq!((check.code, served.code), (Some(78), Some(78)), "{check:?} {served:?}");
    for words in ["outbox.to-mottaker.recipient", "outbox.to-mottaker.settle", "client_id"] {
        assert!(check.text.contains(words), "{words}: {check:?}");
    }
    let lines = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(lines(&check.text), lines(&served.text));

    let mut party = bench.sender.settings.clone();
    let nowhere = bench.dir.path().join("nowhere");
    party.set(OUTBOX, "path", format!("\"{}\"", nowhere.display()));
    let (check, served) = both(party.text());
    assert!(check.code != Some(0) && check.text.contains("nowhere"), "{check:?}");
    assert!(served.code != Some(0) && served.text.contains("nowhere"), "{served:?}");
    assert!(!nowhere.exists(), "what is missing is not made up");
}

#[test]
fn wrong_usage_and_a_missing_configuration_have_their_exit_codes() {
    assert_eq!(run(&["run", "--no-such-flag"], &[]).code, Some(2));
    assert_eq!(run(&["no-such-command"], &[]).code, Some(2));
    let missing = run(&["check", "--config", "/nowhere/config.toml"], &[]);
    assert_eq!(missing.code, Some(78), "{missing:?}");
    assert!(missing.text.contains("/nowhere/config.toml"), "{missing:?}");
    assert_eq!(run(&["--version"], &[]).code, Some(0));
}

#[test]
fn the_demo_shows_a_file_arriving() {
    let dir = tempfile::Builder::new().prefix("fd-").tempdir().unwrap();
    let demo = run(&["demo", "--once", "--dir", dir.path().join("demo").to_str().unwrap()], &[]);
    assert_eq!(demo.code, Some(0), "{demo:?}");
}

#[test]
fn a_key_that_maskinporten_does_not_know_holds_the_route() {
    let mut bench = Bench::new(&Setup::default());
    let right = bench.sender.settings.clone();
    bench.sender.set("client.default", "key_id", "\"no-such-key\"");
    bench.drop_file("a.txt", b"a").fate = Fate::Waiting;
    bench.sender.start();
    bench.wait_until("the route is held", || bench.sender.log().contains("route held"));
    // It has been claimed, or waits in the folder; either way it is there.
    assert!(files_below(&bench.sender.outbox()).iter().any(|path| Content::of_file(path).unwrap().size == 1));
    assert!(bench.errors().is_empty());
    assert_eq!(bench.sender.stop(), Some(0));
    bench.sender.settings = right;
    bench.dropped[0].fate = Fate::Confirmed;
    bench.start();
    bench.assert_promises();
}

#[test]
fn a_resource_without_rights_holds_the_route_and_fails_no_file() {
    let mut bench = Bench::new(&Setup::default());
    let right = [bench.sender.settings.clone(), bench.recipient.settings.clone()];
    bench.sender.set(OUTBOX, "resource_id", "\"no-such-resource\"");
    bench.recipient.set(INBOX, "resource_id", "\"no-such-resource\"");
    for number in 0..20 {
        bench.drop_file(&format!("{number}.txt"), &noise(number, 10));
    }
    bench.start();
    for party in [&bench.sender, &bench.recipient] {
        bench.wait_until("the route is held", || party.log().contains("route held"));
    }
    bench.wait_until("Altinn has refused again", || bench.requests("initialize", 401).len() > 2);
    assert!(bench.errors().is_empty(), "no file is to blame");
    assert!(bench.look("transfers").is_empty());
    assert_eq!(bench.sender.stop(), Some(0));
    assert_eq!(bench.recipient.stop(), Some(0));
    let kept: Vec<Content> =
        files_below(&bench.sender.outbox()).iter().filter_map(|path| Content::of_file(path)).collect();
    assert!(bench.dropped.iter().all(|dropped| kept.contains(&dropped.content)), "every file is still there");
    // What was claimed under the wrong resource goes with the right one, too.
    [bench.sender.settings, bench.recipient.settings] = right;
    bench.start();
    bench.assert_promises();
}

#[test]
fn a_subscription_key_is_sent_where_one_is_configured() {
    let mut bench = Bench::new(&Setup {
        arguments: vec!["--subscription-key", "hemmelig-abonnement"],
        ..Setup::default()
    });
    bench.drop_file("a.txt", b"a");
    bench.start();
    bench.assert_promises();
}

#[test]
fn secrets_are_never_logged() {
    let mut bench = Bench::new(&Setup {
        arguments: vec!["--subscription-key", "hemmelig-abonnement-4711"],
        proxied: true,
    });
    for party in [&mut bench.sender, &mut bench.recipient] {
        party.set("telemetry", "log_level", "\"trace\"");
    }
    let refused = Fault::Answer { status: 401, headers: "" };
    bench.proxy().rule(Rule::first("POST", "/token", refused.clone()));
    bench.proxy().rule(Rule::first("POST", "/upload", refused.clone()));
    bench.proxy().rule(Rule::first("GET", "/exchange/maskinporten", refused));
    bench.proxy().rule(Rule::first("POST", "/confirmdownload", Fault::LoseAnswer));
    bench.drop_file("a.txt", b"a");
    bench.start();
    bench.assert_promises();
    let heads = bench.proxy().heads();
    let mut secrets = vec!["hemmelig-abonnement-4711".to_owned(), "PRIVATE KEY".to_owned()];
    for key in files_below(&bench.dir.path().join("a/keys")) {
        let text = std::fs::read_to_string(key).unwrap_or_default();
        secrets.extend(text.lines().filter(|line| line.len() > 40 && !line.contains('-')).map(str::to_owned));
    }
    let tokens: Vec<String> = heads
        .iter()
        .filter_map(|head| head.split("Bearer ").nth(1)?.split("\r\n").next().map(str::to_owned))
        .collect();
    assert!(tokens.len() > 4, "the proxy has seen tokens go by");
    // Header and signature of each token, so that a part of one is found, too.
    secrets.extend(tokens.iter().flat_map(|token| token.split('.').skip(1)).map(str::to_owned));
    assert!(secrets.len() > 20, "{}", secrets.len());
    for party in [&bench.sender, &bench.recipient] {
        let log = party.log();
        assert!(log.contains("TRACE") || log.contains("DEBUG"), "the log says much");
        for secret in &secrets {
            assert!(!log.contains(secret.as_str()), "the {} has logged {secret}", party.name);
        }
        assert!(!log.contains("assertion="), "a grant was logged");
        assert!(!log.to_lowercase().contains("bearer ey"), "a token was logged");
    }
}

#[test]
fn identity_numbers_stay_out_of_every_log_and_names_where_the_settings_say_so() {
    let mut bench = Bench::new(&Setup::default());
    bench.sender.set("telemetry", "log_file_names", "\"masked\"");
    for party in [&mut bench.sender, &mut bench.recipient] {
        party.set("telemetry", "log_level", "\"trace\"");
    }
    bench.drop_file("Nordmann 01019012345.txt", b"a");
    bench.drop_file("Nordmann 010190 12345.txt", b"bc");
    // What cannot be sent is told of, too.
    let sidecar = bench.sender.outbox().join("Nordmann.txt.meta.json");
    std::fs::write(sidecar, r#"{"fileName": "../Nordmann"}"#).unwrap();
    bench.drop_file("Nordmann.txt", b"abc").fate = Fate::Refused("sidecar_invalid");
    bench.start();
    bench.assert_promises();
    let (sender, recipient) = (bench.sender.log(), bench.recipient.log());
    assert!(!sender.contains("Nordmann"), "{:?}", sender.lines().find(|line| line.contains("Nordmann")));
    assert!(sender.contains("claimed") && sender.contains("name=***"), "the log says what happens");
    assert!(recipient.contains("Nordmann ***********"), "the recipient shows names");
    for log in [sender, recipient] {
        for number in ["01019012345", "010190 12345"] {
            assert!(!log.contains(number), "{:?}", log.lines().find(|line| line.contains(number)));
        }
    }
}

#[test]
fn a_json_log_is_json() {
    let mut bench = Bench::new(&Setup::default());
    bench.sender.set("telemetry", "log_format", "\"json\"");
    bench.drop_file("a.txt", b"a");
    bench.start();
    bench.assert_promises();
    let log = bench.sender.log();
    assert!(!log.is_empty());
    for line in log.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert!(line.is_object());
    }
}
