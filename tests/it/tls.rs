//! The service and an Altinn behind TLS, by the certificate authority that its configuration names.

use crate::support::{Bench, Setup};

fn bench() -> Bench {
    Bench::new(&Setup { arguments: vec!["--tls"], ..Setup::default() })
}

#[test]
fn files_go_by_tls() {
    let mut bench = bench();
    assert!(bench.url.starts_with("https://"), "{}", bench.url);
    bench.start();
    bench.drop_file("hei.txt", b"hei");
    bench.drop_noise("large.bin", 1, 5_000_000);
    bench.assert_promises();
}

#[test]
fn an_authority_that_is_not_named_is_not_trusted() {
    let mut bench = bench();
    bench.sender.settings.unset("http", "ca_file");
    bench.sender.start();
    std::fs::write(bench.sender.outbox().join("hei.txt"), b"hei").unwrap();
    bench.wait_until("the sender has tried", || bench.sender.said().contains("certificate"));
    assert!(bench.look("transfers").is_empty());
    assert_eq!(bench.sender.stop(), Some(0));
}
