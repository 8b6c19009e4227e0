//! A claimed file that is not there any more, or is another: somebody with root's rights, or a virus scanner, has
//! removed or replaced it where only the service has business. It goes to nobody; `failed/` says what happened.

use std::sync::Arc;

use super::Route;
use super::folders::{CLAIM, FILE, Folders};
use super::initialize::claim_file;
use super::take;
use crate::files::{Entry, Error};
use crate::route::{Kind, Next, Trouble};
use crate::transfer::{FileIdentity, Transfer, TransferId, Work};

/// The code of a step that did not find what it needs.
pub(super) const MISSING: &str = "file_missing";

impl Route {
    /// Finds out why a step did not find its file. One that a loss of power has put back where it was dropped is
    /// taken again.
    pub(super) async fn settle_missing(
        self: &Arc<Self>,
        transfer: &Transfer,
        trouble: Trouble,
    ) -> Result<Next, Trouble> {
        let (Work::Outgoing { claim, .. }, Some(beside)) = (&transfer.work, claim_file(transfer)) else {
            return Err(trouble);
        };
        let (id, claim) = (transfer.id, claim.clone());
        let looked = self.on_files(move |folders| {
            let is_back = take::take_back(folders, id, &claim, &beside)?;
            Ok((is_back, !is_back && has_vanished(folders, id)?))
        });
        match looked.await? {
            (true, _) => Ok(Next::Step),
            (_, false) => Err(trouble),
            (_, true) => {
                let message = "the file was taken to be sent, and somebody has removed it from the service's own folder";
                let remedy = "find out who did (a virus scanner?), and drop the file again";
                Err(self.trouble("file_vanished", message, remedy))
            }
        }
    }

    /// Whether a claimed file is still the one that was claimed, however much it was written since.
    pub(super) fn is_claimed_one(&self, found: &Entry, seen: FileIdentity) -> Result<(), Trouble> {
        let found = found.identity;
        // Some file systems number their files anew at each mount.
        let looks_alike = (found.size, found.modified_ns) == (seen.size, seen.modified_ns);
        if found.inode == seen.inode || looks_alike {
            return Ok(());
        }
        let message = "the file was taken to be sent, and somebody has put another in its place in the service's own folder";
        let remedy = "see in failed/ what it is now; drop the file again that is to be sent";
        Err(self.trouble("file_replaced", message, remedy))
    }

    fn trouble(&self, code: &str, message: &str, remedy: &str) -> Trouble {
        Trouble::new(Kind::Permanent, code, message.to_owned(), remedy, self.means.now())
    }
}

/// Whether the file alone is missing: where its claim is missing, too, this is not the folder that it was taken into.
fn has_vanished(folders: &Folders, id: TransferId) -> Result<bool, Error> {
    let own = match folders.own(id) {
        Ok(own) => own,
        Err(error) if error.is_missing() => return Ok(false),
        Err(error) => return Err(error),
    };
    Ok(own.look(FILE)?.is_none() && own.look(CLAIM)?.is_some())
}
