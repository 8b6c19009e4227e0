//! One end of a bench: a configuration, folders, and the process that runs with them.

use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::Value;

use super::OUTBOX;
use super::child::{Child, DEADLINE, Ended, PROGRAM, run_by, until};
use super::settings::Settings;

/// One end: a configuration, and the process that runs with it.
#[derive(Debug)]
pub(crate) struct Party {
    /// `sender` or `recipient`.
    pub(crate) name: String,
    /// Where its folders lie.
    pub(crate) folder: PathBuf,
    pub(crate) settings: Settings,
    pub(crate) child: Option<Child>,
    /// The program, perhaps with a command before it that puts it in other circumstances and then runs it.
    pub(crate) launcher: Vec<String>,
    archive: Option<PathBuf>,
    configuration: PathBuf,
    log: PathBuf,
    /// How much of the log is from processes before this one.
    said_before: usize,
}

impl Party {
    pub(super) fn new(dir: &Path, name: &str, printed: &Value) -> Self {
        let text = std::fs::read_to_string(printed["configuration"].as_str().unwrap()).unwrap();
        let mut settings = Settings::new(text);
        settings
            .set("retry", "initial", "\"100ms\"")
            .set("retry", "max", "\"1s\"")
            .set("retry", "cut_upload_wait", "\"1s\"")
            .set("retry", "settle_initialize", "\"2s\"")
            .set("retry", "wedged_after", "\"1s\"")
            .set("retry", "probe_every", "\"500ms\"")
            .set("state", "ballast", "\"1MiB\"")
            .set("state", "min_free_space", "\"1MiB\"")
            .set("telemetry", "log_level", "\"info\"");
        let folder = PathBuf::from(printed["folder"].as_str().unwrap());
        let configuration = dir.join(format!("{name}.toml"));
        let log = dir.join(format!("{name}.log"));
        let launcher = vec![PROGRAM.to_owned()];
        Self {
            name: name.to_owned(),
            folder,
            settings,
            child: None,
            launcher,
            archive: None,
            configuration,
            log,
            said_before: 0,
        }
    }

    /// Sets a key; see [`Settings::set`].
    pub(crate) fn set(&mut self, section: &str, key: &str, value: impl std::fmt::Display) -> &mut Self {
        self.settings.set(section, key, value);
        self
    }

    /// Writes the configuration down; its path.
    pub(crate) fn configuration(&self) -> &Path {
        std::fs::write(&self.configuration, self.settings.text()).unwrap();
        &self.configuration
    }

    pub(crate) fn start(&mut self) {
        self.start_with(&[]);
    }

    /// Starts it with variables in its environment.
    pub(crate) fn start_with(&mut self, environment: &[(&str, &str)]) {
        assert!(self.child.is_none(), "the {} runs already", self.name);
        let configuration = self.configuration().to_owned();
        self.said_before = self.log().len();
        let arguments = ["run".as_ref(), "--config".as_ref(), configuration.as_os_str()];
        self.child = Some(Child::start(&self.launcher, &arguments, environment, &self.log));
    }

    /// What `check` or another command that takes a configuration says of its own.
    pub(crate) fn run(&self, command: &str) -> Ended {
        self.command(&[command], &[])
    }

    /// A command of its operator, with variables in its environment.
    pub(crate) fn command(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Ended {
        let mut all = arguments.to_vec();
        all.extend(["--config", self.configuration().to_str().unwrap()]);
        run_by(&self.launcher, &all, environment)
    }

    /// `state verify` finds nothing. It must be stopped.
    pub(crate) fn assert_all_fits(&self) {
        let verified = self.command(&["state", "verify"], &[]);
        assert!(
            verified.code == Some(0) && verified.text.contains("all fits"),
            "{}: {verified:?}",
            self.name
        );
    }

    /// Starts it so that it dies at a crash point; see [`Self::has_died`].
    pub(crate) fn die_at(&mut self, point: &str) {
        self.start_with(&[("FORMIDLINGD_CRASH_AT", point)]);
    }

    /// Starts it so that it dies at a crash point, and sees it killed there.
    pub(crate) fn is_killed_at(&mut self, point: &str) {
        self.die_at(point);
        assert!(self.has_died(), "the {} was not killed at {point}", self.name);
    }

    /// Starts it so that it stops at a crash point, and waits until it stands still there.
    pub(crate) fn stop_at(&mut self, point: &str) {
        self.stop_at_with(point, &[]);
    }

    /// The same, with more in its environment.
    pub(crate) fn stop_at_with(&mut self, point: &str, environment: &[(&str, &str)]) {
        self.start_with(&[&[("FORMIDLINGD_STOP_AT", point)], environment].concat());
        let child = self.child.as_ref().unwrap();
        let stopped = until(DEADLINE, || !child.is_running() || child.is_stopped());
        assert!(stopped && child.is_running(), "the {} did not stop at {point}\n{}", self.name, self.said());
    }

    /// Lets it go on after [`Self::stop_at`].
    pub(crate) fn go_on(&self) {
        self.child.as_ref().unwrap().signal(Signal::CONT);
    }

    /// What it has said since it was last started.
    pub(crate) fn said(&self) -> String {
        self.log().get(self.said_before..).unwrap_or_default().to_owned()
    }

    /// Waits until it has been killed; the status it ended with otherwise.
    pub(crate) fn has_died(&mut self) -> bool {
        let Some(child) = &mut self.child else { return false };
        let Some(status) = child.wait() else { return false };
        self.child = None;
        Child::was_killed(status)
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.signal(Signal::KILL);
            assert!(child.wait().is_some(), "the {} survived kill -9", self.name);
        }
    }

    /// SIGTERM, once it runs; the exit code.
    pub(crate) fn stop(&mut self) -> Option<i32> {
        let mut child = self.child.take()?;
        until(DEADLINE, || self.said().contains("started") || !child.is_running());
        child.signal(Signal::TERM);
        child.wait().and_then(|status| status.code())
    }

    /// Everything it has said.
    pub(crate) fn log(&self) -> String {
        std::fs::read(&self.log).map(|log| String::from_utf8_lossy(&log).into_owned()).unwrap_or_default()
    }

    pub(crate) fn outbox(&self) -> PathBuf {
        self.folder.join("outbox")
    }

    /// Puts what it has sent somewhere else.
    pub(crate) fn archive_in(&mut self, folder: &Path) {
        self.set(OUTBOX, "archive_path", format!("\"{}\"", folder.display()));
        self.archive = Some(folder.to_owned());
    }

    /// Where it puts what it has sent.
    pub(crate) fn sent(&self) -> PathBuf {
        self.archive.clone().unwrap_or_else(|| self.outbox().join("sent"))
    }

    pub(crate) fn inbox(&self) -> PathBuf {
        self.folder.join("inbox")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.folder.join("state")
    }
}
