//! What real mounts have shown to be wrong once.

use std::io::Write;
use std::os::unix::fs::chown;

use super::users::{GROUP, SERVICE, as_service};
use super::{OtherOutbox, folder, names};
use crate::support::{Bench, Content, Mount, OUTBOX, Setup};

#[test]
#[ignore = "needs root: mounts"]
fn a_file_that_is_written_behind_fuse_is_waited_for_longer() {
    let mut bench = Bench::new(&Setup::default());
    let behind = folder(&bench, "behind");
    let _mount = Mount::fuse(&behind, &bench.sender.outbox());
    bench.sender.set(OUTBOX, "settle_unverified", "\"1h\"");
    let mut other = OtherOutbox::of(&mut bench);
    bench.start();
    let path = behind.join("a.bin");
    let mut file = std::fs::File::create(&path).unwrap();
    file.write_all(b"first half").unwrap();
    other.sends(&mut bench);
    assert!(path.exists(), "half of a file was taken");
    file.write_all(b", second half").unwrap();
    drop(file);
    let check = bench.sender.run("check");
    assert!(check.text.contains("writers cannot be seen"), "{check:?}");
    assert_eq!(bench.sender.stop(), Some(0));
    bench.sender.set(OUTBOX, "settle_unverified", "\"300ms\"");
    bench.promise(&path, Content::of(b"first half, second half"));
    bench.sender.start();
    bench.assert_promises();
}

#[test]
#[ignore = "needs root: mounts"]
fn an_archive_whose_file_system_is_away_is_waited_for() {
    let mut bench = Bench::new(&Setup::default());
    let archive = folder(&bench, "archive");
    let mut mount = Mount::bind(&folder(&bench, "behind"), &archive);
    bench.sender.archive_in(&archive);
    let mut other = OtherOutbox::of(&mut bench);
    bench.drop_file("first.txt", b"first");
    bench.start();
    bench.wait_for_completion();
    assert_eq!(bench.sender.stop(), Some(0));
    mount.lift();
    bench.sender.start();
    bench.drop_file("second.txt", b"second");
    other.sends(&mut bench);
    assert_eq!(names(&archive), Vec::<String>::new(), "archived below the mount point");
    mount.mount();
    bench.assert_promises();
}

#[test]
#[ignore = "needs root: mounts"]
fn a_start_with_a_mount_point_that_is_not_the_services_serves_the_other_routes() {
    let mut bench = Bench::new(&Setup::default());
    let behind = folder(&bench, "behind");
    let mut other = OtherOutbox::of(&mut bench);
    bench.sender.launcher = as_service(&bench, &bench.sender, true);
    let outbox = bench.sender.outbox();
    for folder in [&behind, &bench.dir.path().join("other")] {
        chown(folder, Some(SERVICE), Some(GROUP)).unwrap();
    }
    chown(&outbox, Some(0), Some(0)).unwrap();
    let mut mount = Mount::bind(&behind, &outbox);
    bench.drop_at(&behind.join("first.txt"), b"first");
    bench.start();
    bench.settle();
    assert_eq!(bench.sender.stop(), Some(0));
    mount.lift();
    let check = bench.sender.run("check");
    assert_eq!(check.code, Some(0), "{check:?}");
    bench.sender.start();
    other.sends(&mut bench);
    mount.mount();
    bench.drop_at(&behind.join("second.txt"), b"second");
    bench.assert_promises();
}

#[test]
#[ignore = "needs root: mounts"]
fn an_empty_mount_on_the_private_folder_is_refused() {
    let mut bench = Bench::running();
    bench.drop_file("first.txt", b"first");
    bench.wait_for_completion();
    assert_eq!(bench.sender.stop(), Some(0));
    let other = folder(&bench, "other");
    let _mount = Mount::bind(&other, &bench.sender.outbox().join(".formidlingd"));
    let check = bench.sender.run("check");
    assert_eq!(check.code, Some(78), "{check:?}");
}
