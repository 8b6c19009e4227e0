//! A network that breaks in the middle of requests and answers.

use std::collections::BTreeSet;

use crate::support::{Bench, Fate, Fault, Rule, noise};

const FILETRANSFER: &str = "/broker/api/v1/filetransfer";
/// Altinn gives up on a cut upload after this long, instead of a day.
const STUCK: [&str; 2] = ["--stuck-after", "3s"];

fn broken(rules: Vec<Rule>, files: &[(&str, usize)], arguments: &[&'static str]) -> Bench {
    let count = rules.len();
    let mut bench = Bench::proxied(arguments);
    // Whatever the size: resumable uploads have tests of their own.
    bench.sender.set(crate::support::OUTBOX, "upload", "\"stream\"");
    for rule in rules {
        bench.proxy().rule(rule);
    }
    for (seed, (name, size)) in (0..).zip(files) {
        bench.drop_file(name, &noise(seed, *size));
    }
    bench.start();
    bench.assert_promises();
    assert!(bench.proxy().broken() >= count, "{} requests were broken, of {count}", bench.proxy().broken());
    bench
}

#[test]
fn a_lost_answer_to_initialize_is_found_again() {
    let rule = Rule::first("POST", FILETRANSFER, Fault::LoseAnswer);
    let bench = broken(vec![rule], &[("a.txt", 1000)], &[]);
    assert_eq!(bench.requests("initialize", 200).len(), 1, "adopted, and not asked for again");
}

#[test]
fn lost_answers_for_files_that_are_alike_are_not_mixed_up() {
    let mut bench = Bench::proxied(&[]);
    bench.sender.set(crate::support::OUTBOX, "reference", "\"the same for all\"");
    bench.proxy().rule(Rule::first("POST", FILETRANSFER, Fault::LoseAnswer).times(3));
    // Altinn gets no bytes before each file has a transfer: until then any of them could be anybody's.
    let not_yet = Fault::Answer { status: 429, headers: "Retry-After: 0\r\n" };
    bench.proxy().rule(Rule::first("POST", "/upload", not_yet).times(1000));
    bench.start();
    for _ in 0..3 {
        bench.drop_file("a.txt", b"the same name, and the same content");
        let dropped = bench.sender.outbox().join("a.txt");
        bench.wait_until("it is claimed", || !dropped.exists());
    }
    let tried = || {
        let heads = bench.proxy().heads();
        let lines = heads.iter().filter_map(|head| head.lines().next()).map(str::to_owned);
        lines.filter(|line| line.contains("/upload ")).collect::<BTreeSet<_>>()
    };
    bench.wait_until("each goes to a transfer of its own", || tried().len() == 3);
    bench.proxy().clear();
    bench.assert_promises();
    assert_eq!(bench.look("transfers").len(), 3, "each was found again");
}

#[test]
fn an_initialize_that_never_reached_altinn_is_repeated() {
    let rule = Rule::first("POST", FILETRANSFER, Fault::CutRequest { after: 10 });
    let bench = broken(vec![rule], &[("a.txt", 1000)], &[]);
    assert_eq!(bench.look("transfers").len(), 1);
}

#[test]
fn a_refused_initialize_is_repeated_without_asking() {
    let rule =
        Rule::first("POST", FILETRANSFER, Fault::Answer { status: 503, headers: "Retry-After: 0\r\n" });
    broken(vec![rule], &[("a.txt", 1000)], &[]);
}

#[test]
fn too_many_requests_are_waited_out() {
    let too_many = || Fault::Answer { status: 429, headers: "Retry-After: 1\r\n" };
    let rules = vec![
        Rule::first("POST", FILETRANSFER, too_many()),
        Rule::first("GET", FILETRANSFER, too_many()),
        Rule::first("POST", "/upload", too_many()),
        Rule::first("GET", "/download", too_many()),
        Rule::first("POST", "/confirmdownload", too_many()),
        Rule::first("POST", "/token", too_many()),
    ];
    let bench = broken(rules, &[("a.txt", 1000)], &[]);
    assert_eq!(bench.requests("upload", 200).len(), 1);
}

#[test]
fn a_lost_answer_to_an_upload_is_settled_by_asking() {
    for size in [0, 1000, 3 * 1024 * 1024] {
        let rule = Rule::first("POST", "/upload", Fault::LoseAnswer);
        let bench = broken(vec![rule], &[("a.bin", size)], &[]);
        assert_eq!(bench.requests("upload", 200).len(), 1, "{size} bytes went up once");
    }
}

#[test]
fn a_small_upload_that_was_cut_goes_to_another_transfer_when_altinn_has_given_up() {
    let rule = Rule::first("POST", "/upload", Fault::CutRequest { after: 500 });
    let bench = broken(vec![rule], &[("a.bin", 1000)], &STUCK);
    let published = bench.look("transfers").iter().filter(|transfer| transfer["published"] == 1).count();
    assert_eq!(published, 1);
}

#[test]
fn a_large_upload_that_was_cut_before_its_end_is_sent_again_to_the_same_transfer() {
    let rule = Rule::first("POST", "/upload", Fault::CutRequest { after: 1024 * 1024 });
    // What has not left this machine is more than the system's buffers hold.
    let bench = broken(vec![rule], &[("a.bin", 24 * 1024 * 1024)], &[]);
    assert_eq!(bench.look("transfers").len(), 1);
}

#[test]
fn an_upload_that_is_cut_again_and_again_ends_well() {
    let rule = Rule::first("POST", "/upload", Fault::CutRequest { after: 100_000 }).times(3);
    broken(vec![rule], &[("a.bin", 24 * 1024 * 1024), ("b.bin", 10)], &STUCK);
}

#[test]
fn a_lost_answer_to_a_confirmation_does_not_fetch_the_file_again() {
    let rule = Rule::first("POST", "/confirmdownload", Fault::LoseAnswer);
    let bench = broken(vec![rule], &[("a.bin", 100_000)], &[]);
    assert_eq!(bench.requests("download", 200).len(), 1);
    assert_eq!(bench.confirmations(), 1);
}

#[test]
fn a_download_that_was_cut_goes_on_where_it_ended() {
    let rule = Rule::first("GET", "/download", Fault::CutAnswer { after: 3 * 1024 * 1024 });
    let bench = broken(vec![rule], &[("a.bin", 8 * 1024 * 1024)], &[]);
    assert_eq!(bench.requests("download", 206).len(), 1, "resumed");
    assert_eq!(bench.requests("download", 200).len(), 1, "begun once");
}

#[test]
fn a_download_that_breaks_off_often_ends_well() {
    let rule = Rule::first("GET", "/download", Fault::CutAnswer { after: 300_000 }).times(12);
    let bench = broken(vec![rule], &[("a.bin", 4 * 1024 * 1024), ("b.bin", 0)], &[]);
    let fetched: u64 =
        bench.requests("download", 206).iter().filter_map(|entry| entry["sent"].as_u64()).sum();
    assert!(fetched > 0, "resumed");
}

#[test]
fn lost_answers_to_questions_do_no_harm() {
    let lost = |method, path| Rule::first(method, path, Fault::LoseAnswer).times(2);
    let rules = vec![
        lost("GET", FILETRANSFER),
        lost("POST", "/token"),
        lost("GET", "/exchange/maskinporten"),
        lost("GET", "/download"),
    ];
    broken(rules, &[("a.bin", 1000), ("b.bin", 0)], &[]);
}

#[test]
fn a_request_that_is_never_answered_is_given_up_on() {
    let mut bench = Bench::proxied(&[]);
    for party in [&mut bench.sender, &mut bench.recipient] {
        party.set("http", "idle_timeout", "\"1s\"");
    }
    bench.proxy().rule(Rule::first("GET", "/download", Fault::Silence));
    bench.drop_file("a.bin", &noise(1, 1000));
    bench.start();
    bench.assert_promises();
    assert_eq!(bench.proxy().broken(), 1);
}

#[test]
fn a_platform_that_is_down_for_a_while_is_waited_for() {
    let mut bench = Bench::proxied(&[]);
    bench.proxy().set_down(true);
    bench.drop_file("before.bin", &noise(1, 1000));
    bench.start();
    bench.wait_until("both have noticed", || {
        [&bench.sender, &bench.recipient].iter().all(|party| party.log().contains("trying again"))
            || bench.sender.log().contains("will try again")
    });
    bench.proxy().set_down(false);
    bench.settle();
    bench.proxy().set_down(true);
    bench.drop_file("again.bin", &noise(2, 1000));
    let looks = bench.recipient.log().matches("trying again").count();
    bench.wait_until("the recipient has noticed again", || {
        bench.recipient.log().matches("trying again").count() > looks + 1
    });
    bench.proxy().set_down(false);
    bench.assert_promises();
}

#[test]
fn a_token_endpoint_that_is_down_for_a_while_is_waited_for() {
    let rule = Rule::first("POST", "/token", Fault::Answer { status: 503, headers: "" }).times(6);
    broken(vec![rule], &[("a.bin", 1000)], &[]);
}

#[test]
fn a_maskinporten_that_refuses_holds_the_route_and_the_files() {
    let mut bench = Bench::proxied(&[]);
    let refused = Fault::Answer { status: 403, headers: "" };
    bench.proxy().rule(Rule::first("POST", FILETRANSFER, refused).times(3));
    bench.drop_file("a.bin", &noise(1, 1000));
    bench.start();
    bench.wait_until("the route is held", || bench.sender.log().contains("route held"));
    assert!(bench.errors().is_empty());
    bench.assert_promises();
    assert!(bench.dropped.iter().all(|dropped| dropped.fate == Fate::Confirmed));
}
