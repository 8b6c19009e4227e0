//! What the service makes, when it starts, of what was in flight when it ended; and that it does not hammer then.

use serde_json::Value;

use crate::support::{Bench, Content, Fate, Fault, Rule, Setup, files_below, noise};

/// Bytes of a file that is uploaded in several blocks.
const SEVERAL_BLOCKS: usize = 2 * 1024 * 1024 + 17;

/// The lines of a JSON log that have this code.
fn told(log: &str, code: &str) -> Vec<Value> {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["code"] == code).collect()
}

fn member<'a>(line: &'a Value, name: &str) -> &'a str {
    line[name].as_str().unwrap_or_default()
}

#[test]
fn each_file_that_was_on_its_way_is_compared_with_altinn_and_told_of_once() {
    let mut bench = Bench::new(&Setup { arguments: vec!["--stuck-after", "3s"], ..Setup::default() });
    bench.sender.set("telemetry", "log_format", "\"json\"");
    bench.recipient.start();
    // The point of death; what was in flight, what Altinn says, what is decided.
    let deaths = [
        ("initialize:intended", "initializing", &["shows none yet"][..], "looked for again"),
        ("initialize:answered", "initializing", &["has it"], "adopted"),
        ("initialize:adopted", "initialized", &["Initialized"], "sent"),
        // How much of it Altinn had seen is chance.
        ("upload:begun", "uploading", &["Initialized", "UploadStarted"], "asked again later"),
        ("upload:last_byte", "uploading", &["Initialized", "UploadStarted"], "asked again later"),
        ("upload:answered", "uploading", &["Published", "AllConfirmedDownloaded"], "archived"),
    ];
    for (seed, (point, was, altinn, decision)) in (0..).zip(deaths) {
        bench.drop_file(&format!("{}.bin", point.replace(':', "-")), &noise(seed, SEVERAL_BLOCKS));
        bench.sender.is_killed_at(point);
        if point == "upload:answered" {
            let published = |transfer: &Value| transfer["published"] == 1;
            bench.wait_until("it is published", || {
                bench.look("transfers").iter().filter(|t| published(t)).count() > 5
            });
        }
        bench.sender_goes_on(point);
        let said = bench.sender.said();
        let lines = told(&said, "recovered");
        let [line] = lines.as_slice() else { panic!("{point}: {lines:?}\n{said}") };
        assert_eq!((member(line, "was"), member(line, "decision")), (was, decision), "{point}: {line}");
        assert!(altinn.contains(&member(line, "altinn")), "{point}: {line}");
        assert!(!member(line, "reason").is_empty() && line.to_string().contains("transfer"), "{line}");
    }
    bench.assert_promises();
}

#[test]
fn each_file_that_was_on_its_way_in_is_compared_with_altinn() {
    let mut bench = Bench::new(&Setup::default());
    bench.recipient.set("telemetry", "log_format", "\"json\"");
    bench.sender.start();
    let deaths = [
        // Large enough that a download that was begun is remembered.
        ("download:begun", 9 * 1024 * 1024, "downloading", "resumed"),
        ("deliver:intended", 1000, "delivering", "confirmed"),
        ("confirm:before", 1000, "delivered", "confirmed"),
        ("confirm:answered", 1000, "delivered", "closed"),
    ];
    for (seed, (point, size, was, decision)) in (0..).zip(deaths) {
        bench.drop_file(&format!("{}.bin", point.replace(':', "-")), &noise(seed, size));
        bench.recipient.is_killed_at(point);
        bench.recipient.start();
        bench.settle();
        // Where Altinn had its confirmation before, nothing else is waited for.
        bench.wait_until("it is compared", || !told(&bench.recipient.said(), "recovered").is_empty());
        assert_eq!(bench.recipient.stop(), Some(0), "after {point}");
        let lines = told(&bench.recipient.said(), "recovered");
        let [line] = lines.as_slice() else { panic!("{point}: {lines:?}") };
        assert_eq!((member(line, "was"), member(line, "decision")), (was, decision), "{point}: {line}");
    }
    // What Altinn had was not confirmed again.
    assert_eq!(bench.confirmations(), deaths.len());
    assert!(bench.requests("confirm", 400).is_empty(), "no confirmation was repeated blindly");
    bench.assert_promises();
}

#[test]
fn a_start_asks_no_sooner_than_was_decided_before_it() {
    let mut bench = Bench::proxied(&[]);
    bench.sender.set("retry", "initial", "\"1h\"").set("retry", "max", "\"1h\"");
    let busy = Fault::Answer { status: 429, headers: "" };
    bench.proxy().rule(Rule::first("POST", "/broker/api/v1/filetransfer", busy).times(100));
    for start in 1..=3 {
        bench.drop_file(&format!("{start}.bin"), &noise(start, 1000)).fate = Fate::Waiting;
        bench.sender.start();
        // The new file is tried, and shows that the others have been looked at.
        bench.wait_until("it has been put off", || bench.sender.said().contains("will try again"));
        assert_eq!(bench.sender.stop(), Some(0));
        assert_eq!(
            bench.proxy().broken(),
            usize::try_from(start).unwrap(),
            "the next attempt is in the store"
        );
    }
    assert!(bench.errors().is_empty());
    let kept = files_below(&bench.sender.outbox()).into_iter().filter_map(|path| Content::of_file(&path));
    let kept: Vec<Content> = kept.collect();
    assert!(bench.dropped.iter().all(|dropped| kept.contains(&dropped.content)), "every file is still there");
}
