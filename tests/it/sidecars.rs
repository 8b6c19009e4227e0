//! Sidecars: in which order they may come, what they may say, and what becomes of those without a file.

use serde_json::json;

use crate::support::{Bench, Fate, MOTTAKER, OUTBOX, Setup};

const OTHER: &str = "0192:987654325";

/// A bench whose sender does not wait long for what does not come.
fn impatient() -> Bench {
    let mut bench = Bench::new(&Setup::default());
    bench.sender.set(OUTBOX, "sidecar_patience", "\"1s\"");
    bench
}

/// The names in `failed/`.
fn failed(bench: &Bench) -> Vec<String> {
    let entries = std::fs::read_dir(bench.sender.outbox().join("failed")).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_sidecar_without_its_file_is_set_aside_and_not_used_for_the_next() {
    let mut bench = impatient();
    bench.start();
    bench.sidecar("a.pdf", &json!({ "recipients": [OTHER] }));
    bench.wait_until("it is set aside", || failed(&bench) == ["a.pdf.error.json", "a.pdf.meta.json"]);
    let (_, error) = bench.errors().pop().unwrap();
    assert_eq!(error["code"], "sidecar_orphaned");
    assert_eq!(error["fileName"], "a.pdf.meta.json");
    assert!(error["transferId"].is_null(), "{error}");
    bench.wait_until("it is told", || bench.sender.log().contains("sidecar_orphaned"));
    assert!(!bench.sender.outbox().join("a.pdf.meta.json").exists());

    // Its file comes after all: it must go neither to the sidecar's recipient unseen, nor to the default one.
    bench.drop_file("a.pdf", b"for the other alone").recipients = vec![OTHER.to_owned()];
    bench.dropped[0].fate = Fate::Published;
    bench.wait_until("it is told why it waits", || bench.sender.log().contains("sidecar_set_aside"));
    bench.drop_file("b.pdf", b"for anybody");
    bench.wait_until("another is sent", || bench.receipts().len() == 1);
    assert!(bench.sender.outbox().join("a.pdf").exists());
    let failed = bench.sender.outbox().join("failed");
    std::fs::rename(failed.join("a.pdf.meta.json"), bench.sender.outbox().join("a.pdf.meta.json")).unwrap();
    std::fs::remove_file(failed.join("a.pdf.error.json")).unwrap();
    bench.assert_promises();
}

#[test]
fn a_sidecar_that_comes_after_its_file_was_taken_is_not_used_for_the_next() {
    let mut bench = Bench::running();
    bench.drop_file("a.pdf", b"one");
    bench.wait_until("it is taken", || !bench.sender.outbox().join("a.pdf").exists());
    bench.sidecar("a.pdf", &json!({ "recipients": [OTHER] }));
    bench.wait_until("the sidecar is set aside at once", || {
        failed(&bench) == ["a.pdf.error.json", "a.pdf.meta.json"]
    });
    assert_eq!(bench.errors()[0].1["code"], "sidecar_late");
    for name in failed(&bench) {
        std::fs::remove_file(bench.sender.outbox().join("failed").join(name)).unwrap();
    }
    bench.drop_file("a.pdf", b"two");
    bench.assert_promises();
}

#[test]
fn a_sidecar_waits_as_long_as_its_file_is_on_its_way() {
    let mut bench = impatient();
    let partial = bench.sender.outbox().join("a.pdf.filepart");
    std::fs::write(&partial, "half").unwrap();
    bench.sidecar("a.pdf", &json!({ "propertyList": { "sak": "1" } }));
    // Shows that the patience has run out for those who wait for nothing.
    bench.sidecar("other.pdf", &json!({}));
    bench.start();
    bench.wait_until("the other is set aside", || {
        failed(&bench) == ["other.pdf.error.json", "other.pdf.meta.json"]
    });
    let path = bench.sender.outbox().join("a.pdf");
    std::fs::write(&partial, "whole").unwrap();
    std::fs::rename(&partial, &path).unwrap();
    bench.promise(&path, crate::support::Content::of(b"whole"));
    bench.assert_promises();
    assert_eq!(bench.receipts()[0].1["propertyList"]["sak"], "1");
}

#[test]
fn a_sidecar_is_in_one_place_whenever_the_sender_dies() {
    let mut bench = impatient();
    bench.recipient.start();
    bench.sidecar("a.pdf", &json!({}));
    bench.sender.is_killed_at("orphan:explained");
    assert!(bench.sender.outbox().join("a.pdf.meta.json").exists());
    bench.sender.start();
    bench.wait_until("it is set aside", || !bench.sender.outbox().join("a.pdf.meta.json").exists());
    let sidecars: Vec<String> =
        failed(&bench).into_iter().filter(|name| name.ends_with(".meta.json")).collect();
    assert_eq!(sidecars.len(), 1, "{:?}", failed(&bench));
    let explanation = sidecars[0].replace(".meta.json", ".error.json");
    assert!(failed(&bench).contains(&explanation), "{:?}", failed(&bench));
}

#[test]
fn what_is_wrong_with_a_sidecar_is_named_by_line_and_column() {
    let mut bench = Bench::new(&Setup::default());
    let outbox = bench.sender.outbox();
    for (name, sidecar, place) in [
        ("syntax.txt", "{\n  \"fileName\": \"a\",\n}", "line 3 column 1"),
        ("member.txt", "{\n  \"recipient\": \"x\",\n  \"to\": 1\n}", "line 3 column 6"),
        ("number.txt", "{\n  \"recipients\": [\n    \"0192:910753615\"]\n}", "line 3 column 21"),
        ("type.txt", "{ \"propertyList\": [] }", "line 1 column 18"),
        ("twice.txt", "{ \"fileName\": \"a\", \"fileName\": \"b\" }", "line 1 column"),
    ] {
        std::fs::write(outbox.join(format!("{name}.meta.json")), sidecar).unwrap();
        bench.drop_file(name, place.as_bytes()).fate = Fate::Refused("sidecar_invalid");
    }
    bench.start();
    bench.assert_promises();
    for (path, error) in bench.errors() {
        let (message, place) = (error["message"].as_str().unwrap(), std::fs::read_to_string(&path).unwrap());
        assert!(message.contains(&place), "{}: {message}", path.display());
        assert!(message.contains(".meta.json"), "{message}");
    }
}

#[test]
fn only_allowed_resources_can_be_chosen() {
    let mut bench = Bench::new(&Setup::default());
    let may = r#"["fileName", "recipients", "resourceId"]"#;
    bench.sender.set(OUTBOX, "sidecar_may", may).set(OUTBOX, "allowed_resources", r#"["another-resource"]"#);
    bench.sidecar("a.txt", &json!({ "resourceId": "a-third-resource" }));
    bench.drop_file("a.txt", b"a").fate = Fate::Refused("resource_not_allowed");
    bench.sidecar("b.txt", &json!({ "resourceId": crate::support::RESOURCE }));
    bench.drop_file("b.txt", b"b");
    bench.start();
    bench.assert_promises();
    assert_eq!(bench.look("transfers").len(), 1, "Altinn was not asked for the other");
}

#[test]
fn a_folder_that_names_nobody_and_a_sidecar_that_names_another_are_refused() {
    let mut bench = Bench::new(&Setup::default());
    bench.sender.settings.unset(OUTBOX, "recipients");
    bench.sender.set(OUTBOX, "recipients_from", "\"directory\"");
    let outbox = bench.sender.outbox();
    for folder in ["910753614", "910753615", "kunder"] {
        std::fs::create_dir(outbox.join(folder)).unwrap();
    }
    // A check digit that does not fit, and no number at all.
    bench.drop_at(&outbox.join("910753615/a.txt"), b"a").fate = Fate::Refused("recipient_folder_invalid");
    bench.drop_at(&outbox.join("kunder/b.txt"), b"b").fate = Fate::Refused("recipient_folder_invalid");
    std::fs::write(outbox.join("910753614/c.txt.meta.json"), json!({ "recipients": [OTHER] }).to_string())
        .unwrap();
    bench.drop_at(&outbox.join("910753614/c.txt"), b"c").fate = Fate::Refused("recipients_conflict");
    std::fs::write(outbox.join("910753614/d.txt.meta.json"), json!({ "recipients": [MOTTAKER] }).to_string())
        .unwrap();
    bench.drop_at(&outbox.join("910753614/d.txt"), b"d");
    bench.start();
    bench.assert_promises();
}

#[test]
fn a_sidecar_whose_name_differs_in_case_is_not_passed_over() {
    let mut bench = Bench::new(&Setup::default());
    let outbox = bench.sender.outbox();
    let sidecar = json!({ "recipients": [OTHER] }).to_string();
    for (file, beside) in [("a.pdf", "a.pdf.META.JSON"), ("b.pdf", "B.pdf.meta.json")] {
        std::fs::write(outbox.join(beside), &sidecar).unwrap();
        let dropped = bench.drop_file(file, file.as_bytes());
        (dropped.recipients, dropped.fate) = (vec![OTHER.to_owned()], Fate::Published);
    }
    bench.start();
    bench.drop_file("c.pdf", b"c");
    bench.wait_until("they wait, and are told of", || {
        bench.sender.log().matches("sidecar_name_differs").count() == 2 && bench.receipts().len() == 1
    });
    assert!(outbox.join("a.pdf").exists() && outbox.join("b.pdf").exists());
    std::fs::rename(outbox.join("a.pdf.META.JSON"), outbox.join("a.pdf.meta.json")).unwrap();
    std::fs::rename(outbox.join("B.pdf.meta.json"), outbox.join("b.pdf.meta.json")).unwrap();
    bench.assert_promises();
}

#[test]
fn a_sidecar_that_is_set_aside_under_another_name_stops_its_file_too() {
    let mut bench = impatient();
    bench.start();
    // An earlier file of that name lies in failed/.
    bench.sidecar("a.pdf", &json!({ "recipients": [] }));
    bench.drop_file("a.pdf", b"first").fate = Fate::Refused("no_recipients");
    bench.settle();
    bench.sidecar("a.pdf", &json!({ "recipients": [OTHER] }));
    bench.wait_until("it is set aside", || failed(&bench).len() == 5);
    let dropped = bench.drop_file("a.pdf", b"second");
    (dropped.recipients, dropped.fate) = (vec![OTHER.to_owned()], Fate::Published);
    bench.wait_until("its file waits", || bench.sender.log().contains("sidecar_set_aside"));
    assert!(bench.sender.outbox().join("a.pdf").exists());
    let names = failed(&bench);
    let aside = names.iter().find(|name| name.contains('~') && name.ends_with(".meta.json")).unwrap();
    let folder = bench.sender.outbox().join("failed");
    std::fs::rename(folder.join(aside), bench.sender.outbox().join("a.pdf.meta.json")).unwrap();
    std::fs::remove_file(folder.join(aside.replace(".meta.json", ".error.json"))).unwrap();
    bench.assert_promises();
}

#[test]
fn a_file_whose_sidecar_got_lost_goes_to_nobody() {
    let mut bench = Bench::new(&Setup::default());
    bench.recipient.start();
    bench.sidecar("a.pdf", &json!({ "recipients": [OTHER] }));
    bench.drop_file("a.pdf", b"for the other alone").fate = Fate::Refused("sidecar_missing");
    bench.sender.is_killed_at("claim:synced");
    let sending = bench.sender.outbox().join(".formidlingd/sending");
    let sidecar = crate::support::files_below(&sending)
        .into_iter()
        .find(|path| path.ends_with("sidecar.json"))
        .unwrap();
    // Back where it was, as after a loss of power, it is found.
    let dropped = bench.sender.outbox().join("a.pdf.meta.json");
    std::fs::rename(&sidecar, &dropped).unwrap();
    bench.sender.is_killed_at("initialize:intended");
    assert!(!dropped.exists() && sidecar.exists());
    std::fs::remove_file(&sidecar).unwrap();
    bench.dropped[0].fate = Fate::Published;
    bench.dropped[0].recipients = vec![OTHER.to_owned()];
    bench.sender.start();
    bench.assert_promises();

    // Before Altinn was told who it is for, it is not sent at all.
    let mut bench = Bench::new(&Setup::default());
    bench.recipient.start();
    bench.sidecar("a.pdf", &json!({ "recipients": [OTHER] }));
    bench.drop_file("a.pdf", b"for the other alone").fate = Fate::Refused("sidecar_missing");
    bench.sender.is_killed_at("claim:synced");
    let sending = bench.sender.outbox().join(".formidlingd/sending");
    for path in crate::support::files_below(&sending) {
        if path.ends_with("sidecar.json") {
            std::fs::remove_file(path).unwrap();
        }
    }
    bench.sender.start();
    bench.assert_promises();
}

#[test]
fn a_sidecar_that_is_too_large_is_refused() {
    let mut bench = Bench::new(&Setup::default());
    std::fs::write(bench.sender.outbox().join("a.pdf.meta.json"), vec![b' '; 1024 * 1024 + 1]).unwrap();
    bench.drop_file("a.pdf", b"a").fate = Fate::Refused("sidecar_invalid");
    bench.start();
    bench.assert_promises();
}
