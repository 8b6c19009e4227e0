//! Running the operator's program for a delivered file: no shell, the arguments as they are configured, a time
//! limit. It runs at least once per file; what it does never loses the file or delivers it again.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use tokio::process::Command;
use tracing::info;

use super::Route;
use crate::route::{Kind, Next, Trouble};
use crate::seams::crash_point;
use crate::transfer::{
    Companion, Delivery, InboxPlace, Incoming, IncomingEvent, Notification, Offer, Transfer, Work,
};

impl Route {
    /// Runs the program, if it has yet to end well.
    pub(super) async fn notify(self: &Arc<Self>, transfer: &mut Transfer) -> Result<Next, Trouble> {
        let Work::Incoming { progress, .. } = &transfer.work else { return Ok(Next::Wait) };
        let (Incoming::Delivered { offer, delivery, .. } | Incoming::Confirmed { offer, delivery, .. }) =
            progress
        else {
            return Ok(Next::Step);
        };
        if delivery.notification == Notification::Due
            && let Some((program, arguments)) =
                self.settings.on_received.as_deref().and_then(<[String]>::split_first)
        {
            let command = self.command(program, arguments, offer, delivery);
            self.run_program(program, command).await?;
            crash_point("notify:ran");
        }
        self.happened_last(transfer, IncomingEvent::Notified).await
    }

    fn command(&self, program: &str, arguments: &[String], offer: &Offer, delivery: &Delivery) -> Command {
        let path = path(&self.settings.path, &delivery.place);
        let metadata = metadata_path(&path);
        let fill = |argument: &String| {
            argument
                .replace("{path}", &path.to_string_lossy())
                .replace("{metadata}", &metadata.to_string_lossy())
                .replace("{fileTransferId}", &offer.id.to_string())
        };
        let mut command = Command::new(program);
        command
            .args(arguments.iter().map(fill))
            .env("FORMIDLINGD_PATH", &path)
            .env("FORMIDLINGD_METADATA", &metadata)
            .env("FORMIDLINGD_FILE_TRANSFER_ID", offer.id.to_string())
            .env("FORMIDLINGD_ROUTE", self.settings.name.as_str())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .process_group(0);
        command
    }

    async fn run_program(&self, program: &str, mut command: Command) -> Result<(), Trouble> {
        let limit = self.settings.on_received_timeout;
        let message = match tokio::time::timeout(limit, command.status()).await {
            Ok(Ok(status)) if status.success() => {
                info!(program = %program, "on_received has run");
                return Ok(());
            }
            Ok(Ok(status)) => format!("on_received: {program} ended with {status}"),
            Ok(Err(error)) => format!("on_received: {program} could not be run: {error}"),
            Err(_elapsed) => format!("on_received: {program} did not end within {limit:?}"),
        };
        let remedy = "correct the program; it is run again, and the file stays as it was delivered";
        Err(Trouble::new(Kind::Temporary(None), "on_received_failed", message, remedy, self.means.now()))
    }
}

fn path(inbox: &Path, place: &InboxPlace) -> PathBuf {
    let folder = place.folder.as_ref().map_or_else(|| inbox.to_owned(), |folder| inbox.join(folder.as_str()));
    folder.join(place.name.as_str())
}

fn metadata_path(path: &Path) -> PathBuf {
    let mut metadata = path.as_os_str().to_owned();
    metadata.push(Companion::Metadata.suffix());
    metadata.into()
}
