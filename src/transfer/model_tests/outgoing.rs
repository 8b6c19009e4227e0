//! A file on its way out: an Altinn that may cut, lose, delay, fail and purge, and a sender that may die at any time.

use serde_json::Value;

use super::super::samples::{at, booking, broker_id, claim, dispatch, failure, place, recipients};
use super::super::{
    LastByte, Outgoing, OutgoingEvent as E, Transfer, TransferId, Unpublished, UploadSession, Work,
};
use super::{World, explore};

/// Transfers at Altinn, and uploads to one of them, beyond which nobody asks for more.
const MAX_REMOTES: usize = 2;
const MAX_UPLOADS: u32 = 3;

/// A transfer's status at Altinn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Initialized,
    UploadStarted,
    Processing,
    Published,
    Failed,
    Purged,
}

/// A transfer at Altinn.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Remote {
    status: Status,
    /// It has been published, whatever the status is now; recipients have it.
    published: bool,
    /// Uploads whose last byte has left, and which may yet arrive whole.
    whole_under_way: u8,
    /// It was given up on.
    abandoned: bool,
}

impl Remote {
    /// Whether it was or may yet be published.
    fn may_publish(&self) -> bool {
        let may_arrive = self.whole_under_way > 0 && !matches!(self.status, Status::Failed | Status::Purged);
        self.published || self.status == Status::Processing || may_arrive
    }
}

/// What the sender waits for an answer to, which a death makes it forget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    None,
    Initialize,
    /// Bytes, and whether the last of them was let go.
    Upload {
        released: bool,
    },
}

#[derive(Debug, Clone)]
struct Sending {
    record: Transfer,
    call: Call,
    remotes: Vec<Remote>,
    /// Requests for a transfer that have yet to arrive at Altinn, whose sender waits no more.
    late_initialize: bool,
    /// Nobody knows, and a person was asked.
    undecided: bool,
    /// What went wrong in the move that led here.
    broken: Option<&'static str>,
}

fn number(record: &Transfer) -> Option<usize> {
    record.broker_id().map(|id| usize::from(id.as_bytes()[15]))
}

impl Sending {
    fn new() -> Self {
        let id: TransferId = "0199f6a0-0000-7000-8000-000000000001".parse().unwrap();
        let record = Transfer::outgoing(id, "out".parse().unwrap(), claim(1), at(0));
        Self {
            record,
            call: Call::None,
            remotes: Vec::new(),
            late_initialize: false,
            undecided: false,
            broken: None,
        }
    }

    fn progress(&self) -> &Outgoing {
        match &self.record.work {
            Work::Outgoing { progress, .. } => progress,
            Work::Incoming { .. } => panic!("this is on its way out"),
        }
    }

    /// The transfer at Altinn that is booked.
    fn booked(&self) -> Option<&Remote> {
        self.remotes.get(number(&self.record)?)
    }

    /// The same world with another transfer at Altinn.
    fn with(&self, number: usize, change: impl FnOnce(&mut Remote)) -> Self {
        let mut world = self.clone();
        change(&mut world.remotes[number]);
        world
    }

    fn with_booked(&self, change: impl FnOnce(&mut Remote)) -> Self {
        number(&self.record).map_or_else(|| self.clone(), |number| self.with(number, change))
    }

    fn calling(mut self, call: Call) -> Self {
        self.call = call;
        self
    }

    /// The world after an event, if the machine takes it.
    fn after(&self, event: E) -> Option<Self> {
        let mut world = self.clone();
        let gives_up =
            matches!(event, E::Abandoned(_) | E::FailureIntended { .. } | E::DecisionNeeded { .. });
        if let (true, Some(number)) = (gives_up, number(&self.record)) {
            world.remotes[number].abandoned = true;
        }
        if let E::Adopted(booking) = &event {
            let remote = &self.remotes[usize::from(booking.id.as_bytes()[15])];
            if remote.abandoned {
                world.broken = Some("adopted what was given up on");
            }
        }
        world.undecided |= matches!(event, E::DecisionNeeded { .. });
        world.record = self.record.clone().after_outgoing(event, at(0)).ok()?;
        Some(world)
    }

    /// What happens without the sender.
    fn outside(&self, moves: &mut Vec<(&'static str, Self)>) {
        if self.late_initialize {
            let mut world = self.clone();
            world.late_initialize = false;
            moves.push(("a late request is lost", world.clone()));
            if let Some(world) = world.with_remote() {
                moves.push(("a late request makes a transfer", world));
            }
        }
        for (number, remote) in self.remotes.iter().enumerate() {
            let change = |name, change: fn(&mut Remote)| (name, self.with(number, change));
            if remote.whole_under_way > 0 {
                moves.push(change("a whole upload is lost on the way", |remote| remote.whole_under_way -= 1));
                moves.push(change("a whole upload is cut", |remote| {
                    remote.whole_under_way -= 1;
                    remote.cut();
                }));
                moves.push(change("a whole upload arrives", Remote::arrive));
            }
            match remote.status {
                Status::Processing => {
                    moves.push(change("it is published", |remote| {
                        (remote.status, remote.published) = (Status::Published, true);
                    }));
                    moves.push(change("the scan refuses it", |remote| remote.status = Status::Failed));
                }
                Status::UploadStarted => {
                    moves.push(change("Altinn gives up waiting", |remote| remote.status = Status::Failed));
                }
                _ => {}
            }
            if remote.status != Status::Purged && remote.status != Status::Processing {
                moves.push(change("Altinn purges it", |remote| remote.status = Status::Purged));
            }
        }
    }

    fn with_remote(&self) -> Option<Self> {
        let remote =
            Remote { status: Status::Initialized, published: false, whole_under_way: 0, abandoned: false };
        let mut world = self.clone();
        world.remotes.push(remote);
        (world.remotes.len() <= MAX_REMOTES).then_some(world)
    }

    /// What the sender may do that waits for an answer.
    fn answers(&self, moves: &mut Vec<(&'static str, Self)>) {
        let idle = self.clone().calling(Call::None);
        let mut also = |name, world: Option<Self>| moves.extend(world.map(|world| (name, world)));
        match self.call {
            Call::None => {}
            Call::Initialize => {
                also("the answer is lost, or the sender dies, and nothing was made", Some(idle.clone()));
                also("refused", idle.after(E::InitializeHadNoEffect));
                also("the request is late", Some(Self { late_initialize: true, ..idle.clone() }));
                if let Some(made) = idle.with_remote() {
                    let id = u8::try_from(made.remotes.len() - 1).unwrap();
                    also("a transfer is made", made.after(E::Adopted(booking(id))));
                    also("a transfer is made, and nobody hears of it", Some(made));
                }
            }
            Call::Upload { released: false } => {
                also("the last byte is let go", {
                    let left = self.after(E::LastByteLeaving);
                    left.map(|world| {
                        world
                            .with_booked(|remote| remote.whole_under_way += 1)
                            .calling(Call::Upload { released: true })
                    })
                });
                also("the upload never began, or the sender died", Some(idle.clone()));
                also("the upload is cut", Some(idle.with_booked(Remote::cut)));
                also("not a byte has left", idle.after(E::UploadHadNoEffect));
                also(
                    "the file was written",
                    idle.with_booked(Remote::cut).after(E::Abandoned(Unpublished::NeverWhole)),
                );
            }
            Call::Upload { released: true } => {
                also("the answer is lost, or the sender dies", Some(idle.clone()));
                let is_open = self.booked().is_some_and(|remote| {
                    remote.whole_under_way > 0
                        && matches!(remote.status, Status::Initialized | Status::UploadStarted)
                });
                if is_open {
                    let arrived = idle.with_booked(Remote::arrive);
                    also("Altinn has it", arrived.after(E::UploadAccepted { at: at(1) }));
                    let gone = idle.with_booked(|remote| remote.whole_under_way -= 1);
                    also("the connection was refused", gone.after(E::UploadHadNoEffect));
                    let proof = Some(Unpublished::NothingBegun);
                    if gone.booked().is_some_and(|remote| remote.status == Status::Initialized) {
                        also("the file is refused", gone.after(failing(proof)));
                    }
                }
            }
        }
    }

    /// What the sender may do by its record and by what Altinn says now. Of that which is for the machine to refuse
    /// everything is tried.
    fn steps(&self, moves: &mut Vec<(&'static str, Self)>) {
        let mut also = |name, world: Option<Self>| moves.extend(world.map(|world| (name, world)));
        for (name, event) in [
            ("the file is taken", E::FileTaken),
            ("the file is withdrawn", E::FileWithdrawn),
            ("described", E::Described(dispatch())),
            ("described anew", E::DescriptionOutdated),
            ("the file cannot be sent", failing(None)),
            ("it was never whole", E::Abandoned(Unpublished::NeverWhole)),
            ("it was never whole, and cannot be sent", failing(Some(Unpublished::NeverWhole))),
            ("the failure is filed", E::FailureFiled),
            ("a place is chosen", E::ArchiveIntended(place())),
            ("archived", E::Archived),
        ] {
            also(name, self.after(event));
        }
        let intended = self.after(E::InitializeIntended { at: at(1) });
        also("a transfer is asked for", intended.map(|world| world.calling(Call::Initialize)));
        also("no transfer was made", self.after(E::InitializeHadNoEffect));
        for (number, remote) in self.remotes.iter().enumerate() {
            if remote.status == Status::Initialized {
                let number = u8::try_from(number).unwrap();
                debug_assert_eq!(broker_id(number), booking(number).id);
                also("a transfer is found", self.after(E::Adopted(booking(number))));
            }
        }
        if self.progress().uploads() < MAX_UPLOADS {
            let begun = self.after(E::UploadBegun { at: at(1) });
            also("bytes are sent", begun.map(|world| world.calling(Call::Upload { released: false })));
        }
        self.sessions(&mut also);
        if let Some(remote) = self.booked() {
            self.asks(remote, also);
        }
    }

    /// What the sender may do where the bytes go resumably: a session is one upload, however often it is gone on with.
    fn sessions(&self, also: &mut impl FnMut(&'static str, Option<Self>)) {
        let session = Box::new(UploadSession::plan(10, 5, 2, 0));
        also("a session is begun", self.after(E::SessionBegun { at: at(1), session }));
        for part in 0..2 {
            let location = format!("/part/{part}");
            also("a part is created", self.after(E::PartCreated { part, location }));
        }
        also("the session is given up", self.after(E::SessionGivenUp));
        let Outgoing::Uploading { session: Some(session), last_byte, .. } = self.progress() else { return };
        match last_byte {
            _ if session.given_up => {}
            LastByte::Kept => {
                also("bytes go to the session", Some(self.clone().calling(Call::Upload { released: false })));
            }
            LastByte::MayHaveLeft => {
                let again = self.with_booked(|remote| {
                    if matches!(remote.status, Status::Initialized | Status::UploadStarted) {
                        remote.whole_under_way = 1;
                    }
                });
                also("the end of it is sent again", Some(again.calling(Call::Upload { released: true })));
            }
        }
    }

    /// What Altinn's overview leads to.
    fn asks(&self, remote: &Remote, mut also: impl FnMut(&'static str, Option<Self>)) {
        if remote.published {
            let event = E::PublishedSeen { published: at(2), expires: at(3), recipients: recipients() };
            also("it is seen to be published", self.after(event));
            also("all have confirmed", self.after(E::AllConfirmed { at: at(4) }));
            if remote.status == Status::Purged {
                also("it has expired", self.after(E::Expired { at: at(4) }));
            }
            return;
        }
        let over = match remote.status {
            Status::Processing => {
                also("it is seen to be processed", self.after(E::ProcessingSeen { at: at(1) }));
                return;
            }
            Status::Initialized => {
                // What has not begun to arrive so long afterwards never will.
                let waited = self.with_booked(|remote| remote.whole_under_way = 0);
                also("the file is another by then", waited.after(E::Abandoned(Unpublished::NothingBegun)));
                also("nothing has arrived", waited.after(E::NothingArrived));
                if matches!(self.progress(), Outgoing::Initialized { .. }) {
                    also("the file is another", self.after(E::Abandoned(Unpublished::NothingBegun)));
                }
                return;
            }
            Status::Failed => Unpublished::Failed,
            Status::Purged => Unpublished::Purged,
            Status::UploadStarted | Status::Published => return,
        };
        also("a new transfer is wanted", self.after(E::Abandoned(over)));
        also("it is given up", self.after(failing(Some(over))));
        let event = E::DecisionNeeded { failure: failure(), place: place() };
        also("somebody has to decide", self.after(event));
    }
}

impl Remote {
    /// Half a file has come.
    fn cut(&mut self) {
        if self.status == Status::Initialized {
            self.status = Status::UploadStarted;
        }
    }

    /// All of a file has come. Where another was first, its content is lost, and the transfer fails; what is over is
    /// not begun again.
    fn arrive(&mut self) {
        self.whole_under_way -= 1;
        self.status = match self.status {
            Status::Initialized | Status::UploadStarted => Status::Processing,
            Status::Processing | Status::Published => Status::Failed,
            over @ (Status::Failed | Status::Purged) => over,
        };
    }
}

fn failing(proof: Option<Unpublished>) -> E {
    E::FailureIntended { failure: failure(), place: place(), proof }
}

impl World for Sending {
    fn key(&self) -> String {
        let mut record = serde_json::to_value(&self.record.work).unwrap();
        if let Some(Value::Object(progress)) = record.get_mut("progress") {
            progress.remove("dispatch");
        }
        let Self { call, remotes, late_initialize, undecided, broken, .. } = self;
        format!("{record} {call:?} {remotes:?} {late_initialize} {undecided} {broken:?}")
    }

    fn moves(&self) -> Vec<(&'static str, Self)> {
        let mut moves = Vec::new();
        self.outside(&mut moves);
        self.answers(&mut moves);
        if self.call == Call::None {
            self.steps(&mut moves);
        }
        moves
    }

    fn check(&self) -> Result<(), String> {
        let wrong = |words: &str| Err(words.to_owned());
        if let Some(broken) = self.broken {
            return wrong(broken);
        }
        if self.remotes.iter().filter(|remote| remote.may_publish()).count() > 1 {
            return wrong("two transfers of one file may be published");
        }
        // A transfer whose upload is lost by a second one may have been published first, or never.
        if self.remotes.iter().any(|remote| remote.whole_under_way > 1) {
            return wrong("two whole uploads to one transfer are under way");
        }
        let booked = self.booked();
        match self.progress() {
            Outgoing::Failing { .. } | Outgoing::Failed { .. } if !self.undecided => {
                if self.remotes.iter().any(Remote::may_publish) {
                    return wrong("failed, though it may be published");
                }
            }
            Outgoing::Cancelled | Outgoing::Claiming => {
                if !self.remotes.is_empty() {
                    return wrong("something is at Altinn of a file that is not ours");
                }
            }
            Outgoing::Published { .. } => {
                if !booked.is_some_and(|remote| remote.published) {
                    return wrong("taken for published, and is not");
                }
            }
            Outgoing::Completed { .. } | Outgoing::Expired { .. } => {
                if !booked.is_some_and(|remote| remote.published) {
                    return wrong("over, and never published");
                }
            }
            // No call without its intent: what may have left was said to be about to leave.
            Outgoing::Uploading { last_byte: LastByte::Kept, .. } | Outgoing::Initialized { .. } => {
                if booked.is_some_and(Remote::may_publish) {
                    return wrong("a last byte has left, and the record says that it was kept");
                }
            }
            Outgoing::Claimed | Outgoing::Described { .. } | Outgoing::Initializing { .. } => {
                if self.remotes.iter().any(Remote::may_publish) {
                    return wrong("about to be sent to a new transfer, though an old one may be published");
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.progress().is_finished()
    }
}

#[test]
fn no_world_publishes_twice_fails_what_is_published_or_has_no_way_to_an_end() {
    let states = explore(Sending::new()).unwrap_or_else(|wrong| panic!("{wrong}"));
    eprintln!("{states} worlds of a file on its way out");
    assert!(states > 1000, "{states}: the model does not get far");
}
