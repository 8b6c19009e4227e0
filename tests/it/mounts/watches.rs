//! A kernel that has no more watches to give: the folders are listed instead, and the log names the limit.

use crate::support::{Bench, PROGRAM, Setup, assert_alone_as_root};

#[test]
#[ignore = "needs root: mounts"]
fn a_kernel_without_watches_to_give_costs_no_file_and_is_told_of() {
    assert_alone_as_root();
    for limit in ["max_inotify_watches", "max_inotify_instances"] {
        let mut bench = Bench::new(&Setup::default());
        // The limits of a user namespace of its own.
        let script = format!("echo 0 > /proc/sys/user/{limit} && exec \"$@\"");
        let launcher = ["unshare", "--user", "--map-root-user", "sh", "-c", &script, "sh", PROGRAM];
        bench.sender.launcher = launcher.map(str::to_owned).to_vec();
        let check = bench.sender.run("check");
        assert_eq!(check.code, Some(0), "{check:?}");
        assert!(
            check.text.contains("since the kernel does not tell of new files here"),
            "{limit}: {check:?}"
        );
        bench.drop_file("before.txt", b"before");
        bench.start();
        bench.settle();
        let said = bench.sender.said();
        let told: Vec<&str> = said.lines().filter(|line| line.contains("no_notifications")).collect();
        let names_it = |sysctl| told.iter().any(|line| line.contains(sysctl));
        assert!(
            names_it("fs.inotify.max_user_watches") && names_it("fs.inotify.max_user_instances"),
            "{limit}: {told:?}"
        );
        bench.drop_file("after.txt", b"after");
        bench.assert_promises();
    }
}
