//! How much the inbox takes: the size of a file, the number of files, the room on the disk.

use crate::support::{Bench, Content, Fate, INBOX, MOTTAKER, Setup, noise};

#[test]
fn what_there_is_no_room_for_waits_at_altinn() {
    let mut bench = Bench::new(&Setup::default());
    bench.recipient.set(INBOX, "min_free_space", "\"4096TiB\"");
    bench.drop_file("a.txt", b"one").fate = Fate::Published;
    bench.start();
    bench.settle();
    bench.wait_until("the recipient tells", || bench.recipient.log().contains("not_enough_room"));
    assert!(bench.requests("download", 200).is_empty());
    assert_eq!(bench.recipient.stop(), Some(0));
    bench.recipient.set(INBOX, "min_free_space", "\"1KiB\"");
    bench.recipient.start();
    bench.dropped[0].fate = Fate::Confirmed;
    bench.assert_promises();
}

#[test]
fn a_file_that_is_larger_than_allowed_waits_at_altinn_until_it_is_allowed() {
    let mut bench = Bench::new(&Setup::default());
    bench.recipient.set(INBOX, "max_file_size", "\"1000B\"");
    bench.drop_file("large.bin", &noise(1, 1001)).fate = Fate::Published;
    bench.drop_file("small.bin", &noise(2, 1000));
    bench.start();
    bench.settle();
    let alarms = |bench: &Bench| {
        let is_alarm = |line: &&str| line.contains("ERROR") && line.contains("file_larger_than_allowed");
        bench.recipient.log().lines().filter(is_alarm).count()
    };
    bench.wait_until("the recipient tells", || alarms(&bench) > 0);
    assert_eq!(alarms(&bench), 1);
    assert_eq!(bench.requests("download", 200).len(), 1, "the small one");
    assert!(!bench.recipient.inbox().join("large.bin").exists());
    assert_eq!(bench.recipient.stop(), Some(0));
    bench.recipient.set(INBOX, "max_file_size", "\"1001B\"");
    bench.recipient.start();
    bench.dropped[0].fate = Fate::Confirmed;
    bench.assert_promises();
}

#[test]
fn a_full_inbox_takes_nothing_until_somebody_takes_from_it() {
    for layout in ["flat", "by_sender", "by_transfer"] {
        let mut bench = Bench::new(&Setup::default());
        bench.recipient.set(INBOX, "layout", format!("\"{layout}\"")).set(INBOX, "max_waiting", 3);
        let stranger = bench.stranger();
        for seed in 0..8 {
            let (name, bytes) = (format!("{seed}.bin"), noise(seed, 100));
            stranger.send(&name, MOTTAKER, &bytes);
            bench.promise(&bench.recipient.inbox().join(&name), Content::of(&bytes)).ours = false;
        }
        bench.recipient.start();
        let said = |bench: &Bench, what: &str| bench.recipient.log().matches(what).count();
        bench.wait_until("the inbox is full", || {
            bench.confirmations() == 3 && said(&bench, "inbox_full") == 1
        });
        // It is asked again and again, and nothing more is fetched.
        let searches = bench.requests("search", 200).len();
        bench.wait_until("the inbox was polled", || bench.requests("search", 200).len() > searches + 6);
        assert_eq!((bench.inbox_files().len(), bench.requests("download", 200).len()), (3, 3), "{layout}");
        let taken = bench.dir.path().join("taken");
        std::fs::create_dir(&taken).unwrap();
        for round in 0..3 {
            // An importer takes the metadata and the file; in these layouts, with their folder.
            for (number, (path, _)) in bench.received().into_iter().enumerate() {
                let to = taken.join(format!("{round}-{number}"));
                if layout == "by_transfer" {
                    std::fs::rename(path.parent().unwrap(), &to).unwrap();
                    continue;
                }
                std::fs::rename(&path, &to).unwrap();
                let metadata = |path: &std::path::Path| format!("{}.meta.json", path.display());
                std::fs::rename(metadata(&path), metadata(&to)).unwrap();
            }
            let expected = (3 * (round + 2)).min(8);
            bench.wait_until("it goes on", || bench.confirmations() >= expected);
        }
        assert_eq!(bench.requests("download", 200).len(), 8);
        assert_eq!(said(&bench, "inbox has place again"), said(&bench, "inbox_full"), "{layout}");
        assert!(said(&bench, "inbox_full") <= 3, "{}", bench.recipient.log());
        assert_eq!(bench.recipient.stop(), Some(0));
    }
}
