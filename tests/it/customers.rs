//! A system vendor: one service, one client, many customers.

use std::collections::BTreeSet;

use crate::support::{Bench, Content, Setup};

#[test]
fn every_customer_sends_a_file_to_the_next() {
    let mut bench = Bench::new(&Setup { arguments: vec!["--organisations", "3"], ..Setup::default() });
    let names = ["kunde-0001", "kunde-0002", "kunde-0003"];
    let vendor = bench.vendor.as_mut().unwrap();
    for name in names {
        let outbox = format!("outbox.{name}-out");
        vendor.set(&outbox, "settle", "\"200ms\"").set(&outbox, "poll_interval", "\"300ms\"");
        vendor.set(&format!("inbox.{name}-in"), "poll_interval", "\"300ms\"");
    }
    vendor.start();
    let folder = vendor.folder.clone();
    for name in names {
        std::fs::write(folder.join(name).join("outbox/from.txt"), name).unwrap();
    }
    for (name, next) in names.iter().zip(names.iter().cycle().skip(1)) {
        let arrived = folder.join(next).join("inbox/from.txt");
        bench.wait_until(&format!("{next} has what {name} sent"), || {
            std::fs::read_to_string(&arrived).is_ok_and(|content| content == *name)
        });
    }
    bench.wait_until("all is confirmed", || bench.confirmations() == names.len());
    assert_eq!(bench.vendor.as_mut().unwrap().stop(), Some(0));
    let transfers = bench.look("transfers");
    assert_eq!(transfers.len(), names.len());
    let parties = |member: &str| -> BTreeSet<String> {
        transfers.iter().map(|transfer| transfer[member].to_string()).collect()
    };
    assert_eq!(parties("sender").len(), names.len(), "{transfers:?}");
    assert_eq!(parties("recipients").len(), names.len(), "{transfers:?}");
    assert_eq!(parties("vendor"), BTreeSet::from(["\"210000003\"".to_owned()]), "one client for all");
    let wanted: BTreeSet<String> = names.iter().map(|name| Content::of(name.as_bytes()).md5).collect();
    let content = bench.look("content");
    let md5s: BTreeSet<String> = content.iter().map(|row| row["md5"].as_str().unwrap().to_owned()).collect();
    assert_eq!(md5s, wanted);
    for row in content {
        assert_eq!((row["published"].as_u64(), row["confirmed"].as_u64()), (Some(1), Some(1)), "{row}");
    }
}
