//! Whether the service may give files to the groups that the routes name.

use crate::config::Config;
use crate::files;

use super::Found;

/// Reports groups that do not exist, and those that the kernel would not let this process give a file to.
pub(super) fn check(config: &Config, found: &mut Found) {
    let process = Process::this();
    let outboxes = config.outboxes.values().map(|outbox| ("outbox", &outbox.name, &outbox.group));
    let inboxes = config.inboxes.values().map(|inbox| ("inbox", &inbox.name, &inbox.group));
    for (section, name, group) in outboxes.chain(inboxes) {
        let Some(group) = group else { continue };
        let key = format!("{section}.{name}.group");
        match files::group_number(group) {
            Err(error) => found.add(key, error.full_message(), "name a group that exists"),
            Ok(number) if !process.may_give_to(number) => {
                let reason = format!("the user that runs this is not in the group {group:?}");
                let remedy = format!(
                    "run: usermod -aG {group} formidlingd (or whoever the service runs as), and restart it"
                );
                found.add(key, reason, remedy);
            }
            Ok(_) => {}
        }
    }
}

/// Who this process is, as far as chown(2) asks.
#[derive(Debug)]
struct Process {
    is_root: bool,
    groups: Vec<u32>,
}

impl Process {
    fn this() -> Self {
        let mut groups = vec![rustix::process::getegid().as_raw()];
        // Where they cannot be read, the first attempt to give a file away will tell.
        let more = rustix::process::getgroups().unwrap_or_default();
        groups.extend(more.into_iter().map(rustix::process::Gid::as_raw));
        Self { is_root: rustix::process::geteuid().is_root(), groups }
    }

    fn may_give_to(&self, group: u32) -> bool {
        self.is_root || self.groups.contains(&group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_given_to_groups_of_ones_own_alone() {
        let service = Process { is_root: false, groups: vec![990, 1200] };
        assert!(service.may_give_to(990) && service.may_give_to(1200));
        assert!(!service.may_give_to(0) && !service.may_give_to(1201));
        assert!(Process { is_root: true, groups: vec![0] }.may_give_to(1201));
    }

    #[test]
    fn this_process_may_give_to_its_own_group() {
        assert!(Process::this().may_give_to(rustix::process::getegid().as_raw()));
    }
}
