//! From the drop folder to the receipt.

use std::fs::File;
use std::io::Write;

use serde_json::json;

use crate::support::{Bench, Content, Fate, MOTTAKER, OUTBOX, Setup, files_below, noise};

#[test]
fn a_dropped_file_is_published_archived_received_and_confirmed() {
    let mut bench = Bench::running();
    bench.drop_file("rapport.pdf", &noise(1, 100_000));
    bench.wait_for_completion();
    bench.assert_promises();

    let (path, receipt) = bench.receipts().pop().unwrap();
    let members: Vec<&str> = receipt.as_object().unwrap().keys().map(String::as_str).collect();
    let mut documented = vec![
        "transferId",
        "fileTransferId",
        "route",
        "resourceId",
        "fileName",
        "sender",
        "recipients",
        "sendersFileTransferReference",
        "propertyList",
        "checksum",
        "sha256",
        "fileTransferSize",
        "status",
        "claimed",
        "initialized",
        "uploaded",
        "published",
        "completed",
    ];
    documented.sort_unstable();
    assert_eq!(members, documented);
    assert_eq!(receipt["route"], "to-mottaker");
    assert_eq!(receipt["sender"], "0192:991825827");
    assert_eq!(receipt["sendersFileTransferReference"], receipt["transferId"]);
    assert_eq!(receipt["recipients"][0]["recipient"], MOTTAKER);
    assert_eq!(receipt["recipients"][0]["status"], "DownloadConfirmed");
    let times = ["claimed", "initialized", "uploaded", "published", "completed"];
    let times: Vec<&str> = times.iter().map(|name| receipt[name].as_str().unwrap()).collect();
    for time in &times {
        assert!(time.len() == "2026-11-21T08:00:00.000Z".len() && time.ends_with('Z'), "{time}");
    }
    assert!(times[0] <= times[1] && times[1] <= times[2] && times[3] <= times[4], "{times:?}");
    let day = path.parent().unwrap().file_name().unwrap().to_str().unwrap();
    assert_eq!(day.len(), "2026-11-21".len());
    assert_eq!(path.file_name().unwrap(), "rapport.pdf");
    assert_eq!(bench.inbox_files(), [bench.recipient.inbox().join("rapport.pdf")]);
}

#[test]
fn names_of_many_kinds_arrive_as_they_are() {
    let mut bench = Bench::running();
    let longest = "ø".repeat(120) + ".txt";
    // No sidecar's name has room beside this one.
    let too_long = "l".repeat(251) + ".txt";
    let names = [
        "årsrapport for Sør-Øst.pdf",
        "čáhppes guovža ŋ đ ŧ.docx",
        "🦊 og 🧀.zip",
        "to  mellomrom og 'anførsel' & 100 %.txt",
        "uten-ending",
        "mange.punktum.i.navnet.tar.gz",
        "#+&=%20.txt",
        "$(touch x);`id`.sh",
        longest.as_str(),
        too_long.as_str(),
    ];
    for (seed, name) in (0..).zip(names) {
        bench.drop_file(name, &noise(seed, 1000));
    }
    bench.assert_promises();
    for name in &names[..8] {
        assert!(bench.recipient.inbox().join(name).exists(), "{name}");
    }
}

#[test]
fn an_empty_file_is_a_file() {
    let mut bench = Bench::running();
    bench.drop_file("tom.txt", b"");
    bench.assert_promises();
}

#[test]
fn a_file_of_several_blocks_arrives_whole() {
    let mut bench = Bench::running();
    bench.drop_noise("stor.bin", 7, 20 * 1024 * 1024 + 1);
    bench.assert_promises();
}

#[test]
fn a_sidecar_says_what_altinn_is_told() {
    let mut bench = Bench::new(&Setup::default());
    let third = "0192:987654325";
    let sidecar = json!({
        "fileName": "Vedtak 17.pdf",
        "recipients": [MOTTAKER, third],
        "sendersFileTransferReference": "sak 2026/17",
        "propertyList": { "saksnummer": "2026/17", "kø": "æøå" },
    });
    bench.sidecar("scan0001.pdf", &sidecar);
    let dropped = bench.drop_file("scan0001.pdf", b"vedtaket");
    dropped.shown = "Vedtak 17.pdf".to_owned();
    dropped.recipients.push(third.to_owned());
    bench.start();
    bench.assert_promises();

    let (path, receipt) = bench.receipts().pop().unwrap();
    assert_eq!(path.file_name().unwrap(), "scan0001.pdf");
    assert_eq!(receipt["sendersFileTransferReference"], "sak 2026/17");
    let beside = path.with_file_name("scan0001.pdf.meta.json");
    assert_eq!(std::fs::read_to_string(beside).unwrap(), sidecar.to_string(), "the sidecar is kept");
    let (path, metadata) = bench.received().pop().unwrap();
    assert_eq!(path.file_name().unwrap(), "Vedtak 17.pdf");
    assert_eq!(metadata["propertyList"], sidecar["propertyList"]);
    assert_eq!(metadata["sendersFileTransferReference"], "sak 2026/17");
}

#[test]
fn what_cannot_be_sent_is_explained_in_failed() {
    let mut bench = Bench::new(&Setup::default());
    let mut refuse = |name: &str, sidecar: &str, code| {
        std::fs::write(bench.sender.outbox().join(format!("{name}.meta.json")), sidecar).unwrap();
        bench.drop_file(name, name.as_bytes()).fate = Fate::Refused(code);
    };
    refuse("not-json.txt", "{", "sidecar_invalid");
    refuse("unknown.txt", r#"{"recipient": "0192:910753614", "to": 1}"#, "sidecar_invalid");
    refuse("nobody.txt", r#"{"recipients": []}"#, "no_recipients");
    refuse("number.txt", r#"{"recipients": ["0192:910753615"]}"#, "sidecar_invalid");
    refuse("power.txt", r#"{"resourceId": "another-one"}"#, "sidecar_not_allowed");
    refuse("path.txt", r#"{"fileName": "../../etc/passwd"}"#, "sidecar_invalid");
    bench.drop_file("good.txt", b"good");
    bench.start();
    bench.assert_promises();
    for (path, error) in bench.errors() {
        assert!(error["fileTransferId"].is_null() && error["altinn"].is_null(), "{error}");
        let beside = format!("{}.meta.json", path.display());
        assert!(std::fs::exists(&beside).unwrap(), "the sidecar is kept: {beside}");
    }
    assert_eq!(bench.look("transfers").len(), 1, "Altinn was not asked for the others");
}

#[test]
fn malware_is_refused_and_the_rest_goes_on() {
    let mut bench = Bench::running();
    // In two halves, so that no scanner takes the test for it.
    let eicar = [&br"X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR-"[..], b"STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"].concat();
    bench.drop_file("virus.com", &eicar).fate = Fate::Refused("malware_found");
    bench.drop_file("clean.txt", b"clean");
    bench.assert_promises();
    let (_, error) = bench.errors().pop().unwrap();
    assert!(error["fileTransferId"].is_string(), "{error}");
    let mut members: Vec<&str> = error.as_object().unwrap().keys().map(String::as_str).collect();
    members.sort_unstable();
    let documented = [
        "altinn",
        "attempts",
        "code",
        "failed",
        "fileName",
        "fileTransferId",
        "message",
        "remedy",
        "route",
        "transferId",
    ];
    assert_eq!(members, documented);
}

#[test]
fn folders_named_by_recipients_choose_them() {
    let mut bench = Bench::new(&Setup::default());
    bench.sender.settings.unset(OUTBOX, "recipients");
    bench.sender.set(OUTBOX, "recipients_from", "\"directory\"");
    let folder = bench.sender.outbox().join("910753614");
    std::fs::create_dir(&folder).unwrap();
    bench.drop_at(&folder.join("til-mottaker.txt"), b"hei");
    bench.drop_file("til-ingen.txt", b"hei?").fate = Fate::Refused("no_recipients");
    bench.start();
    bench.settle();
    // A folder that is made while the service runs is seen, too.
    let folder = bench.sender.outbox().join("987654325");
    std::fs::create_dir(&folder).unwrap();
    let dropped = bench.drop_at(&folder.join("til-en-annen.txt"), b"hallo");
    (dropped.recipients, dropped.fate) = (vec!["0192:987654325".to_owned()], Fate::Published);
    bench.assert_promises();
}

#[test]
fn two_files_of_one_name_on_one_day_both_keep_their_receipts() {
    let mut bench = Bench::running();
    for content in [&b"one"[..], b"two", b"three"] {
        bench.drop_file("faktura.pdf", content);
        bench.settle();
    }
    bench.assert_promises();
    let names: Vec<String> = bench.inbox_files().iter().map(|path| path.display().to_string()).collect();
    assert_eq!(names.iter().filter(|name| name.ends_with("/faktura.pdf")).count(), 1, "{names:?}");
    assert_eq!(names.iter().filter(|name| name.contains("/faktura~")).count(), 2, "{names:?}");
}

#[test]
fn the_same_content_dropped_twice_is_sent_twice() {
    let mut bench = Bench::running();
    bench.drop_file("a.txt", b"same");
    bench.settle();
    bench.drop_file("a.txt", b"same");
    bench.drop_file("b.txt", b"same");
    bench.assert_promises();
}

#[test]
fn a_file_that_is_being_written_is_not_taken() {
    let mut bench = Bench::running();
    let path = bench.sender.outbox().join("log.txt");
    let mut file = File::create(&path).unwrap();
    file.write_all(b"first").unwrap();
    // Long after `settle`, another file comes and goes, and this one is still open.
    bench.drop_file("other.txt", b"other");
    bench.settle();
    bench.drop_file("another.txt", b"another");
    bench.settle();
    assert!(path.exists());
    file.write_all(b" and last").unwrap();
    drop(file);
    bench.promise(&path, Content::of(b"first and last"));
    bench.assert_promises();
}

#[test]
fn what_is_ignored_stays_where_it_is() {
    let mut bench = Bench::new(&Setup::default());
    bench.sender.set(OUTBOX, "exclude", "[\"*.bak\"]");
    let names = [
        ".hidden",
        "half.part",
        "half.tmp",
        "~$brev.docx",
        "Thumbs.db",
        "gammel.BAK",
        "alone.pdf.meta.json",
        "x.crdownload",
    ];
    for name in names {
        bench.drop_file(name, name.as_bytes()).fate = Fate::Waiting;
    }
    let outbox = bench.sender.outbox();
    std::fs::create_dir(outbox.join("folder")).unwrap();
    bench.drop_at(&outbox.join("folder/inside.txt"), b"inside").fate = Fate::Waiting;
    std::os::unix::fs::symlink("/etc/hostname", outbox.join("link.txt")).unwrap();
    bench.drop_file("sent-after-all.txt", b"x");
    bench.start();
    bench.settle();
    assert!(outbox.join("link.txt").is_symlink());
    std::fs::remove_file(outbox.join("link.txt")).unwrap();
    bench.assert_promises();
}

#[test]
fn nothing_but_the_receipt_is_kept_where_files_are_deleted() {
    let mut bench = Bench::new(&Setup::default());
    bench.sender.set(OUTBOX, "after_send", "\"delete\"");
    bench.drop_file("hemmelig.txt", b"hemmelig").kept = false;
    bench.drop_file("hemmelig2.txt", b"").kept = false;
    bench.start();
    bench.wait_for_completion();
    bench.assert_promises();
    let left = files_below(&bench.sender.outbox());
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn a_sidecar_is_waited_for_where_it_is_required() {
    let mut bench = Bench::new(&Setup::default());
    bench.sender.set(OUTBOX, "sidecar", "\"required\"");
    bench.start();
    bench.drop_file("early.pdf", b"early");
    bench.sidecar("late.pdf", &json!({}));
    bench.drop_file("late.pdf", b"late");
    bench.wait_until("the one with its sidecar is sent", || bench.receipts().len() == 1);
    assert!(bench.sender.outbox().join("early.pdf").exists());
    bench.sidecar("early.pdf", &json!({ "fileName": "Early.pdf" }));
    bench.dropped[0].shown = "Early.pdf".to_owned();
    bench.assert_promises();
}

#[test]
fn a_sidecar_that_comes_while_its_file_settles_is_used() {
    let mut bench = Bench::new(&Setup::default());
    bench.sender.set(OUTBOX, "settle", "\"2s\"");
    bench.start();
    bench.wait_until("the folder is watched", || bench.sender.log().contains("watching"));
    bench.drop_file("a.pdf", b"a").shown = "Brev.pdf".to_owned();
    bench.sidecar("a.pdf", &json!({ "fileName": "Brev.pdf" }));
    bench.assert_promises();
    assert!(!bench.sender.outbox().join("a.pdf.meta.json").exists());
}

#[test]
fn received_metadata_can_be_dropped_again_as_it_is() {
    let mut bench = Bench::running();
    bench.sidecar(
        "a.pdf",
        &json!({ "propertyList": { "sak": "17" }, "sendersFileTransferReference": "first" }),
    );
    bench.drop_file("a.pdf", b"a");
    bench.settle();
    let (_, metadata) = bench.received().pop().unwrap();
    bench.sidecar("igjen.pdf", &metadata);
    bench.drop_file("igjen.pdf", b"a").shown = "a.pdf".to_owned();
    // The metadata names its sender as sender, which says nothing of who sends it now, or to whom.
    bench.assert_promises();
    let references: Vec<String> = bench
        .receipts()
        .iter()
        .map(|(_, receipt)| receipt["sendersFileTransferReference"].to_string())
        .collect();
    assert_eq!(
        references.iter().filter(|reference| reference.as_str() == "\"first\"").count(),
        1,
        "{references:?}"
    );
    assert!(bench.receipts().iter().all(|(_, receipt)| receipt["propertyList"]["sak"] == "17"));
}

#[test]
fn only_allowed_recipients_can_be_chosen() {
    let mut bench = Bench::new(&Setup::default());
    bench.sender.set(OUTBOX, "allowed_recipients", format!("[\"{MOTTAKER}\"]"));
    bench.sidecar("a.txt", &json!({ "recipients": ["0192:987654325"] }));
    bench.drop_file("a.txt", b"a").fate = Fate::Refused("recipient_not_allowed");
    bench.sidecar("b.txt", &json!({ "recipients": [MOTTAKER] }));
    bench.drop_file("b.txt", b"b");
    bench.start();
    bench.assert_promises();
}

#[test]
fn files_from_before_the_start_are_sent() {
    let mut bench = Bench::new(&Setup::default());
    for number in 0..30 {
        bench.drop_file(&format!("{number}.txt"), &noise(number, 100));
    }
    bench.start();
    bench.assert_promises();
}

#[test]
fn a_folder_that_is_only_listed_is_sent_too() {
    let mut bench = Bench::new(&Setup::default());
    bench.sender.set(OUTBOX, "watch", "\"poll\"");
    bench.start();
    bench.drop_file("a.txt", b"a");
    bench.settle();
    bench.drop_file("b.txt", b"b");
    bench.assert_promises();
}
