//! How the service is told to stop: once for "no new work, and end what you are doing", twice for "now".

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// SIGTERM and SIGINT, caught from the moment this is made: until then they end the process.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Catches them. To be called on a runtime.
    pub fn catch() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }
}

/// A stop in two stages. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    soon: CancellationToken,
    now: CancellationToken,
}

impl Shutdown {
    /// Nobody has asked for a stop.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks for a stop; asking again asks for it at once.
    pub fn ask(&self) {
        if self.soon.is_cancelled() {
            self.now.cancel();
        } else {
            self.soon.cancel();
        }
    }

    /// What parts listen to.
    #[must_use]
    pub fn soon(&self) -> &CancellationToken {
        &self.soon
    }

    /// Cancelled when there is no more time.
    #[must_use]
    pub fn now(&self) -> &CancellationToken {
        &self.now
    }

    /// Turns SIGTERM and SIGINT into a stop; never returns.
    pub async fn listen(&self, mut signals: Signals) {
        loop {
            let signal = tokio::select! {
                _ = signals.terminate.recv() => "SIGTERM",
                _ = signals.interrupt.recv() => "SIGINT",
            };
            if self.soon.is_cancelled() {
                warn!(signal, "stopping at once");
            } else {
                info!(signal, "stopping: no new work, and what is in hand is given time");
            }
            self.ask();
        }
    }
}
