//! Altinn cannot store what is sent, or refuses it for no reason that is the file's: nothing fails for that.

use std::path::Path;
use std::time::Duration;

use formidlingd::sandbox::{Filter, Options, RateLimits, Role};
use serde_json::json;

use crate::support::{InProcess, OUTBOX, files_below, in_process, noise};

const OUTAGE: Duration = Duration::from_hours(6);
const FILES: u64 = 20;

fn options() -> Options {
    Options { rate_limits: RateLimits::altinn(), ..Options::default() }
}

fn drop_files(outbox: &Path) {
    for number in 0..FILES {
        std::fs::write(outbox.join(format!("{number}.bin")), noise(number, 5000)).unwrap();
    }
}

fn storage_fails(site: &InProcess, fails: bool) {
    let resource = site.sandbox().resource();
    let change = |world: &mut formidlingd::sandbox::World| {
        world.resources.get_mut(resource).unwrap().storage_fails = fails;
    };
    site.sandbox().world(change).unwrap();
}

fn uploads(site: &InProcess) -> usize {
    site.sandbox().ledger().find(&Filter { operation: Some("upload".into()), ..Filter::default() }).len()
}

async fn assert_all_arrive_once(site: &InProcess) {
    let arrived = || {
        (0..FILES).all(|number| {
            std::fs::read(site.inbox().join(format!("{number}.bin")))
                .is_ok_and(|bytes| bytes == noise(number, 5000))
        })
    };
    assert!(site.until(Duration::from_hours(12), arrived).await, "not everything arrived");
    assert_eq!(files_below(&site.outbox().join("failed")), [""; 0].map(std::path::PathBuf::from));
    let published: usize =
        site.sandbox().transfers().iter().map(formidlingd::sandbox::Transfer::published).sum();
    assert_eq!(published as u64, FILES);
}

#[test]
fn six_hours_in_which_altinn_stores_nothing_fail_no_file_and_cost_little() {
    in_process(
        options(),
        |_, _| {},
        async |site| {
            storage_fails(site, true);
            drop_files(&site.outbox());
            let start = site.clock.passed();
            while site.clock.passed() < start + OUTAGE {
                tokio::time::sleep(Duration::from_mins(5)).await;
                assert!(files_below(&site.outbox().join("failed")).is_empty(), "no file is to blame");
            }
            // Those that were under way at once when it began, and one that looks each five minutes.
            let tried = uploads(site);
            assert!((30..=120).contains(&tried), "{tried} uploads in six hours");
            storage_fails(site, false);
            assert_all_arrive_once(site).await;
        },
    );
}

#[test]
fn a_single_refusal_of_an_upload_that_altinn_says_never_began_fails_no_file() {
    for answer in [
        json!({"effect": "answer", "body": "bro-00001"}),
        json!({"effect": "answer", "body": "bro-00008"}),
        json!({"effect": "answer", "status": 431, "body": "empty"}),
    ] {
        in_process(
            options(),
            |role, settings| {
                if role == Role::Sender {
                    settings.set(OUTBOX, "settle", "\"2s\"");
                }
            },
            async |site| {
                let mut rule = answer.clone();
                rule["operation"] = json!("upload");
                rule["nth"] = json!(1);
                site.faults(vec![rule]);
                drop_files(&site.outbox());
                assert_all_arrive_once(site).await;
            },
        );
    }
}
