//! Who can read what is laid down: the folder's group and its default ACL reach everything that is made for people.

use std::fs::File;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{XattrFlags, fgetxattr, fsetxattr};
use rustix::io::Errno;
use rustix::process::{getegid, geteuid, getgroups};

use crate::support::{Bench, Fate, INBOX, OUTBOX, Setup, files_below};

/// A group of a number that nobody has, which the ACL lets in.
const IMPORTERS: u32 = 54_321;
const EPERM: i32 = 1;

/// A group that this user may give to files and that they do not get by themselves.
fn another_group() -> Option<u32> {
    if geteuid().is_root() {
        return Some(12_345);
    }
    let groups = getgroups().unwrap_or_default();
    let group = groups.into_iter().find(|group| *group != getegid()).map(rustix::fs::Gid::as_raw);
    if group.is_none() {
        eprintln!("NOT TESTED: other groups, since this user is in none");
    }
    group
}

/// Owner and importers everything, the group less, others nothing.
fn default_acl() -> Vec<u8> {
    let entry = |tag: u16, permissions: u16, id: u32| {
        [&tag.to_le_bytes()[..], &permissions.to_le_bytes(), &id.to_le_bytes()].concat()
    };
    let entries = [
        entry(0x01, 7, u32::MAX),
        entry(0x04, 5, u32::MAX),
        entry(0x08, 7, IMPORTERS),
        entry(0x10, 7, u32::MAX),
        entry(0x20, 0, u32::MAX),
    ];
    [&2_u32.to_le_bytes()[..], &entries.concat()].concat()
}

/// Whether importers may read it; nothing where there are no ACLs.
fn lets_importers_in(path: &Path) -> bool {
    let mut acl = [0; 1024];
    let length = fgetxattr(File::open(path).unwrap(), "system.posix_acl_access", &mut acl).unwrap_or(0);
    let mut entries = acl[..length].get(4..).unwrap_or_default().chunks_exact(8);
    let (tag, id) = (8_u16.to_le_bytes(), IMPORTERS.to_le_bytes());
    entries.any(|entry| entry[..2] == tag && entry[4..] == id && entry[2] & 4 != 0)
}

/// Gives a folder to a group and a default ACL; whether it has the latter.
fn share(folder: &Path, group: Option<u32>) -> bool {
    std::os::unix::fs::chown(folder, None, group).unwrap();
    std::fs::set_permissions(folder, PermissionsExt::from_mode(0o2770)).unwrap();
    let open = File::open(folder).unwrap();
    match fsetxattr(&open, "system.posix_acl_default", &default_acl(), XattrFlags::empty()) {
        Ok(()) => true,
        Err(error) => {
            assert_eq!(error, Errno::OPNOTSUPP);
            eprintln!("NOT TESTED: default ACLs, which the temporary folder's file system has not");
            false
        }
    }
}

/// Files and folders for people below a folder.
fn made_for_people(folder: &Path) -> Vec<PathBuf> {
    let mut made = Vec::new();
    for path in files_below(folder) {
        let below = path.strip_prefix(folder).unwrap();
        if below.starts_with(".formidlingd") {
            continue;
        }
        made.extend(path.ancestors().take_while(|above| *above != folder).map(Path::to_owned));
    }
    made
}

#[test]
fn what_is_laid_down_can_be_read_by_those_it_is_for() {
    for layout in ["flat", "by_sender", "by_transfer"] {
        let mut bench = Bench::new(&Setup::default());
        bench.recipient.set(INBOX, "layout", format!("\"{layout}\""));
        bench.recipient.set(INBOX, "file_mode", "\"0644\"");
        bench.sender.set(OUTBOX, "file_mode", "\"0660\"");
        // Once, so that the service's own folders are there before the others have group and ACL.
        bench.start();
        assert_eq!((bench.sender.stop(), bench.recipient.stop()), (Some(0), Some(0)));
        let group = another_group();
        let (inbox, outbox) = (bench.recipient.inbox(), bench.sender.outbox());
        let has_acl = share(&inbox, group);
        for folder in ["sent", "failed"] {
            std::fs::remove_dir(outbox.join(folder)).unwrap();
        }
        share(&outbox, group);
        bench.drop_file("a.txt", b"a");
        bench.sidecar("b.txt", &serde_json::json!({ "recipients": ["0192:910753614"], "x": 1 }));
        bench.drop_file("b.txt", b"b").fate = Fate::Refused("sidecar_invalid");
        bench.start();
        bench.assert_promises();
        let own_files = [outbox.join("failed/b.txt"), outbox.join("failed/b.txt.meta.json")];
        let mut count = 0;
        for path in made_for_people(&inbox).into_iter().chain(made_for_people(&outbox)) {
            // What a user dropped stays as the user made it.
            let is_dropped = own_files.contains(&path)
                || (path.starts_with(&outbox) && path.file_name().is_some_and(|name| name == "a.txt"));
            if is_dropped {
                continue;
            }
            let metadata = path.metadata().unwrap();
            let around = path.parent().unwrap().metadata().unwrap();
            assert_eq!(metadata.gid(), around.gid(), "{}", path.display());
            assert_eq!(metadata.gid(), inbox.metadata().unwrap().gid(), "{}", path.display());
            assert_eq!(lets_importers_in(&path), has_acl, "{}", path.display());
            let mode = match metadata.is_dir() {
                true => 0o2770,
                false if path.starts_with(&outbox) => 0o660,
                false => 0o644,
            };
            assert_eq!(metadata.mode() & 0o7777, mode, "{}", path.display());
            count += 1;
        }
        assert!(count >= 8, "{count}");
    }
}

#[test]
fn permissions_that_a_file_system_does_not_take_cost_a_warning_and_no_file() {
    for layout in ["flat", "by_sender", "by_transfer"] {
        let mut bench = Bench::new(&Setup::default());
        bench.recipient.set(INBOX, "layout", format!("\"{layout}\""));
        bench.sender.start();
        let fault = format!("set the mode for:1:100000:{EPERM}");
        bench.recipient.start_with(&[("FORMIDLINGD_FAIL_AT", &fault)]);
        for name in ["a.txt", "b.txt"] {
            bench.drop_file(name, name.as_bytes());
        }
        bench.assert_promises();
        assert_eq!(bench.recipient.log().matches("mode_not_given").count(), 1, "{}", bench.recipient.log());
    }
}

#[test]
fn a_group_that_the_service_is_not_in_costs_a_warning_and_no_file() {
    let Some(group) = another_group() else { return };
    let mut bench = Bench::new(&Setup::default());
    std::os::unix::fs::chown(bench.recipient.inbox(), None, Some(group)).unwrap();
    bench.sender.start();
    let fault = format!("set the group for:1:100000:{EPERM}");
    bench.recipient.start_with(&[("FORMIDLINGD_FAIL_AT", &fault)]);
    for name in ["a.txt", "b.txt"] {
        bench.drop_file(name, name.as_bytes());
    }
    bench.settle();
    assert_eq!(bench.recipient.log().matches("group_not_given").count(), 1, "{}", bench.recipient.log());
    assert_eq!(bench.recipient.inbox().join("a.txt").metadata().unwrap().gid(), getegid().as_raw());
    // One that somebody has asked for is another matter.
    assert_eq!(bench.recipient.stop(), Some(0));
    bench.recipient.set(INBOX, "group", format!("\"{group}\""));
    bench.recipient.start_with(&[("FORMIDLINGD_FAIL_AT", &fault)]);
    bench.drop_file("c.txt", b"c").fate = Fate::Published;
    bench.wait_until("it is told", || bench.recipient.log().contains("folder_not_accessible"));
    assert!(!bench.recipient.inbox().join("c.txt").exists());
    assert_eq!(bench.recipient.stop(), Some(0));
    bench.recipient.start();
    bench.dropped[2].fate = Fate::Confirmed;
    bench.assert_promises();
    assert_eq!(bench.recipient.inbox().join("c.txt").metadata().unwrap().gid(), group);
}
