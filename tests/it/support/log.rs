//! What services in this process say.

use serde_json::Value;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;

/// Has somebody listen on every thread. Whether anybody wants what is said in a place is decided when it is said there
/// for the first time; a thread to which nobody listens would decide it for all the others.
pub(crate) fn listen_everywhere() {
    let everywhere = tracing_subscriber::registry().with(LevelFilter::INFO);
    // It is there already.
    drop(tracing::subscriber::set_global_default(everywhere));
}

/// What a service in this process says.
#[derive(Debug, Clone, Default)]
pub(crate) struct TestLog(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

impl TestLog {
    /// Everything that this thread says goes here until the guard is dropped.
    pub(crate) fn begin() -> (Self, tracing::subscriber::DefaultGuard) {
        listen_everywhere();
        let log = Self::default();
        let subscriber = tracing_subscriber::fmt().json().with_writer(log.clone()).finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    /// The lines with this code.
    pub(crate) fn lines(&self, code: &str) -> Vec<Value> {
        let text = String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned();
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line["fields"]["code"] == code).collect()
    }
}

impl std::io::Write for TestLog {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl tracing_subscriber::fmt::MakeWriter<'_> for TestLog {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}
