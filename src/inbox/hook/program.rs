//! One run of a program: in a process group of its own, with a time limit. What was started and is not waited for any
//! more is killed, with everything that it has started in its turn.

use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};

use super::{Ended, Request};

/// What a program shares with the process that runs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::inbox) enum Surroundings {
    /// The environment, and no output.
    Environment,
    /// What every program needs of the environment, and standard error for what it prints.
    Output,
}

/// What is left of the environment where it is not shared.
const NEEDED: [&str; 3] = ["PATH", "LANG", "TZ"];

/// Runs a program to its end, or to that of its time. If the future is dropped, the program is killed.
pub(in crate::inbox) async fn run(request: &Request, surroundings: Surroundings) -> Ended {
    let mut group = match command(request, surroundings).spawn() {
        Ok(child) => Group(child),
        Err(error) => return Ended::NotRun(error.to_string()),
    };
    match tokio::time::timeout(request.limit(), group.0.wait()).await {
        Ok(Ok(status)) => Ended::from(status),
        Ok(Err(error)) => Ended::NotRun(format!("it was started and cannot be waited for: {error}")),
        Err(_elapsed) => Ended::TimedOut,
    }
}

fn command(request: &Request, surroundings: Surroundings) -> Command {
    let mut command = Command::new(&request.program);
    match surroundings {
        Surroundings::Environment => command.stdout(Stdio::null()).stderr(Stdio::null()),
        Surroundings::Output => {
            let needed = NEEDED.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
            command.env_clear().envs(needed).stdout(std::io::stderr()).stderr(Stdio::inherit())
        }
    };
    command
        .args(&request.arguments)
        .envs(&request.environment)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .process_group(0);
    command
}

/// A program that leads a process group.
#[derive(Debug)]
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        // There is no id any more once the program has ended and been waited for: what it left running on purpose is
        // its own affair, and its id may be another's by now.
        if let Some(id) = self.0.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw) {
            // It fails where the group has just ended.
            let _ended = kill_process_group(id, Signal::KILL);
        }
    }
}

impl From<ExitStatus> for Ended {
    fn from(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Exited(code),
            (None, Some(signal)) => Self::Signalled(signal),
            (None, None) => Self::NotRun(format!("it ended with {status}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn shell(script: &str, limit: Duration) -> Request {
        Request {
            program: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into()],
            environment: [("FORMIDLINGD_ROUTE".into(), "reports".into())].into(),
            limit_ms: u64::try_from(limit.as_millis()).unwrap(),
        }
    }

    #[tokio::test]
    async fn the_end_of_a_program_is_told() {
        let minute = Duration::from_mins(1);
        let cases = [
            (shell("exit 0", minute), Ended::Exited(0)),
            (shell("exit 3", minute), Ended::Exited(3)),
            (shell("kill -9 $$", minute), Ended::Signalled(9)),
            (shell("sleep 600", Duration::from_millis(50)), Ended::TimedOut),
        ];
        for surroundings in [Surroundings::Environment, Surroundings::Output] {
            for (request, ended) in &cases {
                assert_eq!(run(request, surroundings).await, *ended, "{request:?}");
            }
            let missing = Request { program: "/nowhere/at/all".into(), ..shell("", minute) };
            assert!(matches!(run(&missing, surroundings).await, Ended::NotRun(_)));
        }
    }

    #[tokio::test]
    async fn only_the_hook_service_hands_on_next_to_nothing() {
        // Cargo sets it for every test.
        let looks =
            |test: &str| shell(&format!("[ {test} \"$CARGO_MANIFEST_DIR\" ]"), Duration::from_mins(1));
        assert_eq!(run(&looks("-n"), Surroundings::Environment).await, Ended::Exited(0));
        assert_eq!(run(&looks("-z"), Surroundings::Output).await, Ended::Exited(0));
        let route = shell("[ \"$FORMIDLINGD_ROUTE\" = reports ] && [ -n \"$PATH\" ]", Duration::from_mins(1));
        assert_eq!(run(&route, Surroundings::Output).await, Ended::Exited(0));
    }
}
