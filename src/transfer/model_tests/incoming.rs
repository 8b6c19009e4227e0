//! A file on its way in: an Altinn that may lose answers and delete, a disk, an importer who takes what is delivered,
//! and a recipient that may die at any time, and lose its store once.

use serde_json::Value;

use super::super::samples::{at, failure, inbox_place, offer, received};
use super::super::{
    Confirmation, Incoming, IncomingEvent as E, IncomingStep, Notification, Transfer, TransferId, Work,
};
use super::{World, explore};

/// Complete downloads that are not what Altinn has, after which it is given up.
const MAX_DAMAGED: u32 = 2;

/// What lies in the private folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Partial {
    Nothing,
    /// Some of it, or all of it, unverified; and whether it is what Altinn has.
    Fetched {
        is_good: bool,
        is_whole: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Remote {
    Published,
    Confirmed,
    Purged,
}

#[derive(Debug, Clone)]
struct Receiving {
    /// Nothing, where the store was lost.
    record: Option<Transfer>,
    remote: Remote,
    /// Altinn has noted that the download was begun, and takes a confirmation.
    is_started: bool,
    partial: Partial,
    /// The file lies in the inbox under its final name.
    is_there: bool,
    /// How often it has appeared there.
    deliveries: u8,
    /// The marker stands beside the inbox.
    is_marked: bool,
    /// Waits for the answer to a confirmation.
    is_confirming: bool,
    has_lost_store: bool,
    /// The store was taken from an export that is older than what has happened.
    is_set_back: bool,
    broken: Option<&'static str>,
}

impl Receiving {
    fn new(confirmation: Confirmation) -> (Self, Confirmation) {
        let world = Self {
            record: Some(discovered()),
            remote: Remote::Published,
            is_started: false,
            partial: Partial::Nothing,
            is_there: false,
            deliveries: 0,
            is_marked: false,
            is_confirming: false,
            has_lost_store: false,
            is_set_back: false,
            broken: None,
        };
        (world, confirmation)
    }

    fn progress(&self) -> Option<&Incoming> {
        match &self.record.as_ref()?.work {
            Work::Incoming { progress, .. } => Some(progress),
            Work::Outgoing { .. } => None,
        }
    }

    fn damaged(&self) -> u32 {
        match self.record.as_ref().map(|record| &record.work) {
            Some(Work::Incoming { damaged, .. }) => *damaged,
            _ => 0,
        }
    }

    fn after(&self, event: E) -> Option<Self> {
        let record = self.record.clone()?.after_incoming(event, at(0)).ok()?;
        Some(Self { record: Some(record), ..self.clone() })
    }

    fn after_all(&self, events: impl IntoIterator<Item = E>) -> Option<Self> {
        events.into_iter().try_fold(self.clone(), |world, event| world.after(event))
    }

    /// What happens without the recipient's doing.
    fn outside(&self, moves: &mut Vec<(&'static str, Self)>) {
        if self.remote != Remote::Purged {
            moves.push(("Altinn deletes it", Self { remote: Remote::Purged, ..self.clone() }));
        }
        if self.is_there {
            moves.push(("an importer takes it", Self { is_there: false, ..self.clone() }));
        }
        if self.record.is_some() && !self.has_lost_store {
            let lost = Self { record: None, has_lost_store: true, is_confirming: false, ..self.clone() };
            let set_back = Self { record: Some(discovered()), is_set_back: true, ..lost.clone() };
            moves.push(("the store is lost", lost));
            moves.push(("an older store is put in its place", set_back));
        }
        if self.partial != Partial::Nothing && !self.is_marked {
            moves.push(("somebody removes the file", Self { partial: Partial::Nothing, ..self.clone() }));
        }
        if self.is_confirming {
            let idle = Self { is_confirming: false, ..self.clone() };
            moves.push(("the confirmation is lost, or the recipient dies", idle.clone()));
            if self.remote == Remote::Published && self.is_started {
                let mut taken = Self { remote: Remote::Confirmed, ..idle };
                if self.deliveries == 0 {
                    taken.broken = Some("confirmed before it was delivered");
                }
                moves.push(("the confirmation is taken, and nobody hears of it", taken.clone()));
                moves.extend(taken.after(E::Confirmed { at: at(5) }).map(|world| ("it is confirmed", world)));
            }
        }
    }

    /// A start without a record: what is found on the disk, and what Altinn offers.
    fn starts_anew(&self, moves: &mut Vec<(&'static str, Self)>, confirmation: Confirmation) {
        if self.partial != Partial::Nothing {
            // The marker first: without the file it would say that it was delivered.
            let unmarked = Self { is_marked: false, ..self.clone() };
            moves.push(("a marker is removed, and the recipient dies", unmarked.clone()));
            moves.push(("what is not known is removed", Self { partial: Partial::Nothing, ..unmarked }));
            return;
        }
        if self.remote != Remote::Published {
            return;
        }
        let heard = Self { record: Some(discovered()), ..self.clone() };
        if !self.is_marked {
            moves.push(("it is heard of", heard));
            return;
        }
        let delivered = heard.after_all(as_delivered(confirmation));
        moves.extend(delivered.map(|world| ("it is known by its marker", world)));
    }

    /// What the recipient may do by its record. What is for the machine to refuse is tried.
    fn steps(&self, moves: &mut Vec<(&'static str, Self)>, confirmation: Confirmation) {
        let Some(progress) = self.progress() else { return self.starts_anew(moves, confirmation) };
        let mut also = |name, world: Option<Self>| moves.extend(world.map(|world| (name, world)));
        match progress.next_step() {
            IncomingStep::Download if self.is_marked => {
                if self.partial == Partial::Nothing {
                    also("it is known by its marker", self.after_all(as_delivered(confirmation)));
                } else {
                    also("the marker is removed", Some(self.unmarked()));
                }
            }
            IncomingStep::Download => self.downloads(&mut also),
            IncomingStep::IntendDelivery => {
                also("a name is chosen", self.after(E::DeliveryIntended(inbox_place())));
            }
            IncomingStep::Deliver => {
                also("another name is chosen", self.after(E::DeliveryIntended(inbox_place())));
                if self.partial == Partial::Nothing {
                    if self.is_marked {
                        also("it was delivered", self.after(delivered(confirmation)));
                    } else {
                        also("it has vanished", self.after(E::Vanished));
                    }
                } else if !self.is_marked {
                    also("it is marked, and the recipient dies", Some(self.marked()));
                } else {
                    also("the marker is removed", Some(self.unmarked()));
                    let laid_down = Self {
                        partial: Partial::Nothing,
                        is_there: true,
                        deliveries: self.deliveries + 1,
                        ..self.clone()
                    };
                    also("the file is moved, and the recipient dies", Some(laid_down.clone()));
                    also("the file is delivered", laid_down.after(delivered(confirmation)));
                }
            }
            IncomingStep::Confirm if !self.is_confirming => {
                also("a confirmation is sent", Some(Self { is_confirming: true, ..self.clone() }));
                also("a byte is fetched", Some(Self { is_started: true, ..self.clone() }));
                match self.remote {
                    Remote::Confirmed => also("it was confirmed", self.after(E::Confirmed { at: at(5) })),
                    Remote::Purged => also("it is too late", self.after(E::ConfirmationTooLate)),
                    Remote::Published => {}
                }
            }
            IncomingStep::Confirm | IncomingStep::Nothing => {}
            IncomingStep::Notify => also("the program has run", self.after(E::Notified)),
            IncomingStep::Remember => {
                also("a person asks for the confirmation", self.after(E::ConfirmationAsked));
                if self.remote == Remote::Purged {
                    also("it is too late", self.after(E::ConfirmationTooLate));
                    also("it is forgotten", self.after(E::Expired { at: at(9) }));
                }
            }
        }
        // Whoever believes that all is well, or that nothing is.
        let mut believed = |name, event: E, wrong: &'static str, is_wrong: bool| {
            // A record that is older knows nothing, and the machine cannot know better: the marker does.
            if self.is_set_back {
                return;
            }
            let world = self.after(event);
            also(name, world.map(|world| Self { broken: is_wrong.then_some(wrong), ..world }));
        };
        let (is_confirmed, is_over) = (self.remote == Remote::Confirmed, self.deliveries > 0);
        if is_confirmed {
            believed(
                "it is taken for confirmed",
                E::Confirmed { at: at(5) },
                "confirmed, and not delivered",
                !is_over,
            );
        }
        believed("it is given up", E::Failed(failure()), "failed, though it was delivered", is_over);
        if self.remote == Remote::Purged {
            believed("it has expired", E::Expired { at: at(9) }, "expired, though it was delivered", is_over);
        }
        // A count without an end is no other world.
        if self.damaged() < MAX_DAMAGED {
            believed(
                "it is fetched again",
                E::DownloadDamaged,
                "to be fetched again, though it was delivered",
                is_over,
            );
        }
    }

    fn marked(&self) -> Self {
        Self { is_marked: true, ..self.clone() }
    }

    fn unmarked(&self) -> Self {
        Self { is_marked: false, ..self.clone() }
    }

    fn downloads(&self, also: &mut impl FnMut(&'static str, Option<Self>)) {
        also("a download is begun", self.after(E::DownloadBegun));
        if self.remote == Remote::Purged {
            let removed = Self { partial: Partial::Nothing, ..self.clone() };
            also("it was deleted", removed.after(E::Expired { at: at(9) }));
        }
        let Partial::Fetched { is_good, is_whole: true } = self.partial else {
            if self.remote == Remote::Purged {
                return;
            }
            for (name, is_good, is_whole) in [
                ("some of it comes", true, false),
                ("all of it comes", true, true),
                ("something else comes", false, true),
            ] {
                // What is damaged once is not mended by what follows.
                let is_good = is_good && !matches!(self.partial, Partial::Fetched { is_good: false, .. });
                let partial = Partial::Fetched { is_good, is_whole };
                also(name, Some(Self { partial, is_started: true, ..self.clone() }));
            }
            return;
        };
        if is_good {
            let events =
                [E::DownloadBegun, E::DownloadVerified(received()), E::DeliveryIntended(inbox_place())];
            also("it is verified, and a name chosen", self.after_all(events));
        } else if self.damaged() + 1 < MAX_DAMAGED {
            let removed = Self { partial: Partial::Nothing, ..self.clone() };
            also("it is damaged, and the recipient dies", Some(removed.clone()));
            also("it is damaged", removed.after_all([E::DownloadBegun, E::DownloadDamaged]));
        } else {
            let aside = Self { partial: Partial::Nothing, ..self.clone() };
            also("it is kept, and the recipient dies", Some(aside.clone()));
            also("it is kept", aside.after(E::Failed(failure())));
        }
    }
}

fn discovered() -> Transfer {
    let id: TransferId = "0199f6a0-0000-7000-8000-000000000002".parse().unwrap();
    let progress = Incoming::Discovered { offer: offer(2, "910753614") };
    Transfer::incoming(id, "in".parse().unwrap(), progress, at(0))
}

fn delivered(confirmation: Confirmation) -> E {
    E::Delivered { at: at(4), confirmation, notification: Notification::Due }
}

/// What a marker says has happened.
fn as_delivered(confirmation: Confirmation) -> [E; 4] {
    [
        E::DownloadBegun,
        E::DownloadVerified(received()),
        E::DeliveryIntended(inbox_place()),
        delivered(confirmation),
    ]
}

impl World for (Receiving, Confirmation) {
    fn key(&self) -> String {
        let mut work = serde_json::to_value(self.0.record.as_ref().map(|record| &record.work)).unwrap();
        if let Some(Value::Object(progress)) = work.get_mut("progress") {
            progress.remove("offer");
        }
        let nameless = Receiving { record: None, ..self.0.clone() };
        format!("{work} {nameless:?}")
    }

    fn moves(&self) -> Vec<(&'static str, Self)> {
        let mut moves = Vec::new();
        self.0.outside(&mut moves);
        if !self.0.is_confirming {
            self.0.steps(&mut moves, self.1);
        }
        moves.into_iter().map(|(name, world)| (name, (world, self.1))).collect()
    }

    fn check(&self) -> Result<(), String> {
        let world = &self.0;
        let wrong = |words: &str| Err(words.to_owned());
        if let Some(broken) = world.broken {
            return wrong(broken);
        }
        if world.deliveries > 1 {
            return wrong("delivered twice");
        }
        if world.remote == Remote::Confirmed && world.deliveries == 0 {
            return wrong("confirmed before it was delivered");
        }
        match world.progress() {
            Some(Incoming::Delivered { .. } | Incoming::Confirmed { .. }) if world.deliveries == 0 => {
                wrong("taken for delivered, and is not")
            }
            Some(Incoming::Confirmed { .. }) if world.remote == Remote::Published => {
                wrong("taken for confirmed, and is not")
            }
            Some(Incoming::Failed { .. } | Incoming::Expired { .. }) if world.deliveries > 0 => {
                wrong("given up, though it was delivered")
            }
            _ => Ok(()),
        }
    }

    fn is_over(&self) -> bool {
        match self.0.progress() {
            Some(progress) => progress.is_finished(),
            // Without a record, and with nothing on offer, there is nothing to do.
            None => self.0.remote != Remote::Published && self.0.partial == Partial::Nothing,
        }
    }
}

#[test]
fn no_world_delivers_twice_confirms_too_early_or_has_no_way_to_an_end() {
    for confirmation in [Confirmation::Due, Confirmation::Manual] {
        let states = explore(Receiving::new(confirmation)).unwrap_or_else(|wrong| panic!("{wrong}"));
        eprintln!("{states} worlds of a file on its way in ({confirmation:?})");
        assert!(states > 300, "{states}: the model does not get far");
    }
}
