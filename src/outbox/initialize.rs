//! Asking Altinn for a transfer, and finding out whether it made one when the answer was lost.
//!
//! Altinn has no idempotency key. Before the call the reference is durable; after a lost answer the transfer is
//! looked for by search, overview and everything that Altinn was told, and adopted. Another one is asked for
//! only when it has not been found for a while: a transfer without bytes publishes nothing, and bytes go to one
//! of them alone.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::Route;
use super::take::write_claim;
use crate::broker::{self, Overview, Role, Search, Status};
use crate::route::{Kind, Next, Trouble, earlier, later};
use crate::seams::crash_point;
use crate::store;
use crate::transfer::document::ClaimFile;
use crate::transfer::{
    Booking, BrokerTransferId, Dispatch, Effect, Outgoing, OutgoingEvent, SendersReference, Transfer, Work,
};

/// Clocks differ and answers take time: a transfer of ours was made this much before we think at the earliest.
const MARGIN: Duration = Duration::from_mins(5);
/// The code of a lost answer that is being looked for.
pub(super) const UNSETTLED: &str = "initialize_unsettled";
/// What one search answers with at most.
const PAGE: usize = 100;

impl Route {
    /// Asks for a transfer: the intent is durable before.
    pub(super) async fn initialize(self: &Arc<Self>, transfer: &mut Transfer) -> Result<Next, Trouble> {
        self.pass(transfer)?;
        if self.pass_set_back(transfer).await? {
            return Ok(Next::Step);
        }
        self.happened(transfer, OutgoingEvent::InitializeIntended { at: self.means.server_now() }).await?;
        let Some(dispatch) = dispatch(transfer).cloned() else { return Ok(Next::Step) };
        crash_point("initialize:intended");
        match self.means.broker.initialize(&request(&dispatch)).await {
            Ok(initialized) => {
                crash_point("initialize:answered");
                self.adopt(transfer, initialized.id).await
            }
            Err(error) if error.effect() == Effect::Unknown => Err(Trouble::broker(&error, self.means.now())),
            Err(error) => {
                self.happened(transfer, OutgoingEvent::InitializeHadNoEffect).await?;
                Err(Trouble::broker(&error, self.means.now()))
            }
        }
    }

    /// Looks for the transfer that Altinn may have made.
    pub(super) async fn settle_initialize(
        self: &Arc<Self>,
        transfer: &mut Transfer,
    ) -> Result<Next, Trouble> {
        let Work::Outgoing { progress: Outgoing::Initializing { dispatch, since }, .. } = &transfer.work
        else {
            return Ok(Next::Step);
        };
        let (dispatch, since) = (dispatch.clone(), *since);
        let asked_at = self.means.server_now();
        match self.find(&dispatch, since).await {
            Ok(Some(id)) => self.adopt(transfer, id).await,
            // Searching takes rights that sending does not; an extra transfer without bytes does no harm.
            Ok(None) if later(since, self.means.retry.settle_initialize) <= asked_at => {
                self.happened(transfer, OutgoingEvent::InitializeHadNoEffect).await?;
                Ok(Next::Step)
            }
            Ok(None) => {
                let message =
                    "the answer to the request for a transfer was lost, and Altinn does not show one yet";
                let remedy = "nothing: it is looked for again, then asked for anew";
                Err(Trouble::new(Kind::Temporary(None), UNSETTLED, message.into(), remedy, self.means.now()))
            }
            Err(error) if error.trouble() == broker::Trouble::Rights => {
                self.happened(transfer, OutgoingEvent::InitializeHadNoEffect).await?;
                Ok(Next::Step)
            }
            Err(error) => Err(Trouble::broker(&error, self.means.now())),
        }
    }

    /// A transfer at Altinn that was made for this dispatch, has no bytes, and belongs to no other record.
    async fn find(
        &self,
        dispatch: &Dispatch,
        since: Timestamp,
    ) -> Result<Option<BrokerTransferId>, broker::Error> {
        let earliest = earlier(since, MARGIN);
        let mut search = Search {
            resource_id: dispatch.resource_id.clone(),
            role: Role::Sender,
            status: Some(Status::Initialized),
            recipient_status: None,
            from: Some(earliest),
            to: None,
            ascending: true,
        };
        loop {
            let ids = self.means.broker.search(&search).await?;
            let mut last = None;
            for id in &ids {
                if self.is_known(*id).await {
                    continue;
                }
                let overview = match self.means.broker.overview(*id, Role::Sender).await {
                    Ok(overview) => overview,
                    // Half made, or not ours to see: it is not the one, or nobody will ever use it.
                    Err(error) if is_about_one(error.trouble()) => continue,
                    Err(error) => return Err(error),
                };
                if is_made_for(&overview, dispatch, earliest) {
                    return Ok(Some(*id));
                }
                last = overview.status_changed.or(last);
            }
            match last {
                Some(last) if ids.len() >= PAGE && search.from != Some(last) => {
                    search.from = Some(last);
                    search.to = Some(later(self.means.server_now(), MARGIN));
                }
                _ => return Ok(None),
            }
        }
    }

    pub(super) async fn is_known(&self, id: BrokerTransferId) -> bool {
        let known = self.means.store.by_broker_id(&store::BrokerKey::Outgoing(id)).await;
        // If the store cannot tell, adopting will fail on its own index, which has the last word.
        known.is_ok_and(|known| known.is_some())
    }

    /// Makes a transfer at Altinn this record's: in the store, where no two records can have it, and beside the
    /// file.
    async fn adopt(self: &Arc<Self>, transfer: &mut Transfer, id: BrokerTransferId) -> Result<Next, Trouble> {
        let booking = Booking { id, initialized: self.means.now() };
        self.happened(transfer, OutgoingEvent::Adopted(booking)).await?;
        self.hold.release_asking();
        crash_point("initialize:adopted");
        Ok(Next::Step)
    }

    /// Brings the claim beside the file up to date: before any byte leaves, it names the transfer at Altinn.
    pub(super) async fn write_claim_file(self: &Arc<Self>, transfer: &Transfer) -> Result<(), Trouble> {
        let Some(claim_file) = claim_file(transfer) else { return Ok(()) };
        self.on_files(move |folders| write_claim(&folders.own(claim_file.transfer_id)?, &claim_file)).await
    }

    /// Goes on only if the route is not held, or it is this transfer's turn to look whether the trouble has passed.
    pub(super) fn pass(&self, transfer: &Transfer) -> Result<(), Trouble> {
        self.hold
            .pass(Some(transfer.id), self.means.now())
            .map_err(|(failure, next)| Trouble { failure, kind: Kind::Held(next) })
    }
}

/// Whether an answer is about one transfer at Altinn, and not about the platform or about us.
pub(super) fn is_about_one(trouble: broker::Trouble) -> bool {
    use broker::Trouble as Found;
    matches!(trouble, Found::Server | Found::Gone | Found::Rights | Found::Protocol)
}

/// What stands beside the file in `claim.json`.
pub(super) fn claim_file(transfer: &Transfer) -> Option<ClaimFile> {
    let Work::Outgoing { claim, progress, .. } = &transfer.work else { return None };
    let booking = progress.booking();
    Some(ClaimFile {
        transfer_id: transfer.id,
        route: transfer.route.clone(),
        created: transfer.created,
        claim: claim.clone(),
        dispatch: booking.and_then(|_| progress.dispatch().cloned().map(Box::new)),
        file_transfer_id: booking.map(|booking| booking.id),
    })
}

/// What Altinn is told, where it is known.
pub(super) fn dispatch(transfer: &Transfer) -> Option<&Dispatch> {
    match &transfer.work {
        Work::Outgoing { progress, .. } => progress.dispatch(),
        Work::Incoming { .. } => None,
    }
}

fn request(dispatch: &Dispatch) -> broker::Initialize {
    broker::Initialize {
        file_name: dispatch.file_name.clone(),
        resource_id: dispatch.resource_id.clone(),
        reference: dispatch.reference.clone(),
        sender: dispatch.sender,
        recipients: dispatch.recipients.clone(),
        properties: dispatch.properties.clone(),
        checksum: dispatch.md5,
        disable_virus_scan: dispatch.disable_virus_scan,
    }
}

/// Whether a transfer is equal to what was asked for in everything that Altinn was told. Two that are equal in
/// all of it and have no bytes are as good as each other.
fn is_made_for(overview: &Overview, dispatch: &Dispatch, earliest: Timestamp) -> bool {
    let mut addressed: Vec<_> =
        overview.recipients.iter().filter_map(|recipient| recipient.organization).collect();
    addressed.sort_unstable();
    addressed.dedup();
    overview.status == Status::Initialized
        && overview.published.is_none()
        && overview.created.is_some_and(|created| created >= earliest)
        && overview.reference.parse::<SendersReference>().as_ref() == Ok(&dispatch.reference)
        && overview.file_name == dispatch.file_name.as_str()
        && overview.checksum == Some(dispatch.md5)
        && overview.sender == Some(dispatch.sender)
        && overview.properties == dispatch.properties
        && addressed == dispatch.recipients
}
