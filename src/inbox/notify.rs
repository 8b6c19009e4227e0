//! Running the operator's program for a delivered file: no shell, the arguments as they are configured, a time
//! limit; as a child of the service, or by the hook service. It runs at least once per file; what it does never loses
//! the file or delivers it again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tracing::info;

use super::Route;
use super::hook::{self, Ended, Request, Surroundings};
use crate::route::{Kind, Next, Trouble, text_for_people};
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
            let request = self.request(program, arguments, offer, delivery);
            self.run_program(&request).await?;
            crash_point("notify:ran");
        }
        self.happened_last(transfer, IncomingEvent::Notified).await
    }

    fn request(&self, program: &str, arguments: &[String], offer: &Offer, delivery: &Delivery) -> Request {
        let path = path(&self.settings.path, &delivery.place);
        let metadata = metadata_path(&path).to_string_lossy().into_owned();
        let path = path.to_string_lossy().into_owned();
        let id = offer.id.to_string();
        let values = [("{path}", &*path), ("{metadata}", &metadata), ("{fileTransferId}", &id)];
        let arguments = arguments.iter().map(|argument| filled(argument, &values)).collect();
        let environment = BTreeMap::from([
            ("FORMIDLINGD_PATH".to_owned(), path),
            ("FORMIDLINGD_METADATA".to_owned(), metadata),
            ("FORMIDLINGD_FILE_TRANSFER_ID".to_owned(), id),
            ("FORMIDLINGD_ROUTE".to_owned(), self.settings.name.to_string()),
        ]);
        let limit_ms = u64::try_from(self.settings.on_received_timeout.as_millis()).unwrap_or(u64::MAX);
        Request { program: program.to_owned(), arguments, environment, limit_ms }
    }

    async fn run_program(&self, request: &Request) -> Result<(), Trouble> {
        let ended = match &self.hooks.socket {
            Some(socket) => hook::ask(socket, request).await.map_err(|error| {
                let message = format!("on_received: {}", text_for_people(&error));
                self.trouble("hook_unavailable", message, error.remedy())
            })?,
            None => hook::run(request, Surroundings::Environment).await,
        };
        let program = &request.program;
        let how = match ended {
            Ended::Exited(0) => {
                info!(program = %program, "on_received has run");
                return Ok(());
            }
            Ended::Exited(code) => format!("ended with exit code {code}"),
            Ended::Signalled(signal) => format!("was ended by signal {signal}"),
            Ended::TimedOut => {
                format!("did not end within {:?} and was killed", self.settings.on_received_timeout)
            }
            Ended::NotRun(reason) => format!("could not be run: {reason}"),
        };
        let remedy = "correct the program; it is run again, and the file stays as it was delivered";
        Err(self.trouble("on_received_failed", format!("on_received: {program} {how}"), remedy))
    }

    fn trouble(&self, code: &str, message: String, remedy: &str) -> Trouble {
        Trouble::new(Kind::Temporary(None), code, message, remedy, self.means.now())
    }
}

/// A text with values in the place of their names. A value is not looked at again: the name of a file is chosen by a
/// stranger, and may look like one of ours.
fn filled(text: &str, values: &[(&str, &str)]) -> String {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, value, behind)) = values
        .iter()
        .filter_map(|(name, value)| rest.split_once(name).map(|(before, behind)| (before, *value, behind)))
        .min_by_key(|(before, ..)| before.len())
    {
        filled.push_str(before);
        filled.push_str(value);
        rest = behind;
    }
    filled.push_str(rest);
    filled
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_filled_in_is_not_filled_in_again() {
        let values = [("{path}", "/in/{fileTransferId}{path}"), ("{fileTransferId}", "17")];
        for (text, expected) in [
            ("{path}", "/in/{fileTransferId}{path}"),
            ("--file={path}; {fileTransferId} {path", "--file=/in/{fileTransferId}{path}; 17 {path"),
            ("{fileTransferId}{path}", "17/in/{fileTransferId}{path}"),
            ("", ""),
        ] {
            assert_eq!(filled(text, &values), expected);
        }
    }
}
