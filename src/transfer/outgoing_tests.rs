//! The outgoing machine against the table drawn from its page, and the promise it makes.

use proptest::prelude::*;

use super::samples::{
    at, booking, dispatch, failure, outgoing_states, place, recipients, resumable_states, session,
};
use super::{Archive, LastByte, Outgoing, OutgoingEvent as E, Unpublished, UploadPart};

/// Every event, with a name of its own for each that is treated in its own way.
fn events() -> Vec<(&'static str, E)> {
    let failing = |proof| E::FailureIntended { failure: failure(), place: place(), proof };
    vec![
        ("file taken", E::FileTaken),
        ("file withdrawn", E::FileWithdrawn),
        ("described", E::Described(dispatch())),
        ("description outdated", E::DescriptionOutdated),
        ("initialize intended", E::InitializeIntended { at: at(20) }),
        ("initialize had no effect", E::InitializeHadNoEffect),
        ("adopted", E::Adopted(booking(9))),
        ("upload begun", E::UploadBegun { at: at(21) }),
        ("last byte leaving", E::LastByteLeaving),
        ("session begun", E::SessionBegun { at: at(21), session: Box::new(session(0)) }),
        ("session begun half made", E::SessionBegun { at: at(21), session: Box::new(session(1)) }),
        ("part 0 created", E::PartCreated { part: 0, location: "/0".to_owned() }),
        ("part 1 created", E::PartCreated { part: 1, location: "/1".to_owned() }),
        ("session given up", E::SessionGivenUp),
        ("nothing arrived", E::NothingArrived),
        ("upload had no effect", E::UploadHadNoEffect),
        ("upload accepted", E::UploadAccepted { at: at(22) }),
        ("nudged", E::Nudged),
        ("processing seen", E::ProcessingSeen { at: at(23) }),
        ("published seen", E::PublishedSeen { published: at(24), expires: at(99), recipients: recipients() }),
        ("abandoned: failed", E::Abandoned(Unpublished::Failed)),
        ("abandoned: purged", E::Abandoned(Unpublished::Purged)),
        ("abandoned: nothing begun", E::Abandoned(Unpublished::NothingBegun)),
        ("abandoned: never whole", E::Abandoned(Unpublished::NeverWhole)),
        ("archive intended", E::ArchiveIntended(place())),
        ("archived", E::Archived),
        ("recipients seen", E::RecipientsSeen(recipients())),
        ("all confirmed", E::AllConfirmed { at: at(25) }),
        ("expired", E::Expired { at: at(26) }),
        ("failure", failing(None)),
        ("failure: failed", failing(Some(Unpublished::Failed))),
        ("failure: purged", failing(Some(Unpublished::Purged))),
        ("failure: nothing begun", failing(Some(Unpublished::NothingBegun))),
        ("failure: never whole", failing(Some(Unpublished::NeverWhole))),
        ("decision needed", E::DecisionNeeded { failure: failure(), place: place() }),
        ("failure filed", E::FailureFiled),
    ]
}

/// The drawing as a table: from, event, to. Whatever is not here must be refused.
const TABLE: &[(&str, &[(&str, &str)])] = &[
    ("claiming", &[("file taken", "claimed"), ("file withdrawn", "cancelled")]),
    (
        "claimed",
        &[
            ("described", "described"),
            FAILURE,
            FAILURE_FAILED,
            FAILURE_PURGED,
            FAILURE_NOTHING,
            FAILURE_PARTIAL,
        ],
    ),
    (
        "described",
        &[
            ("description outdated", "claimed"),
            ("initialize intended", "initializing"),
            FAILURE,
            FAILURE_FAILED,
            FAILURE_PURGED,
            FAILURE_NOTHING,
            FAILURE_PARTIAL,
        ],
    ),
    (
        "initializing",
        &[
            ("initialize had no effect", "described"),
            ("adopted", "initialized"),
            FAILURE,
            FAILURE_FAILED,
            FAILURE_PURGED,
            FAILURE_NOTHING,
            FAILURE_PARTIAL,
        ],
    ),
    (
        "initialized",
        &[
            ("upload begun", "uploading"),
            ("session begun", "session"),
            ("processing seen", "processing"),
            ("published seen", "published"),
            ("abandoned: failed", "claimed"),
            ("abandoned: purged", "claimed"),
            ("abandoned: nothing begun", "claimed"),
            ("abandoned: never whole", "claimed"),
            FAILURE,
            FAILURE_FAILED,
            FAILURE_PURGED,
            FAILURE_NOTHING,
            FAILURE_PARTIAL,
        ],
    ),
    (
        "uploading",
        &[
            ("upload begun", "uploading"),
            ("last byte leaving", "uploading to the end"),
            ("nothing arrived", "uploading"),
            ("upload had no effect", "initialized"),
            ("processing seen", "processing"),
            ("published seen", "published"),
            ("abandoned: failed", "claimed"),
            ("abandoned: purged", "claimed"),
            ("abandoned: nothing begun", "claimed"),
            FAILURE_FAILED,
            FAILURE_PURGED,
            FAILURE_NOTHING,
            ("decision needed", "failing"),
        ],
    ),
    (
        "uploading to the end",
        &[
            ("last byte leaving", "uploading to the end"),
            ("nothing arrived", "uploading"),
            ("upload had no effect", "initialized"),
            ("upload accepted", "uploaded"),
            ("processing seen", "processing"),
            ("published seen", "published"),
            ("abandoned: failed", "claimed"),
            ("abandoned: purged", "claimed"),
            FAILURE_FAILED,
            FAILURE_PURGED,
            FAILURE_NOTHING,
            ("decision needed", "failing"),
        ],
    ),
    (
        "uploaded",
        &[
            ("processing seen", "processing"),
            ("published seen", "published"),
            ("abandoned: failed", "claimed"),
            ("abandoned: purged", "claimed"),
            FAILURE_FAILED,
            FAILURE_PURGED,
            ("decision needed", "failing"),
        ],
    ),
    (
        "processing",
        &[
            ("published seen", "published"),
            ("abandoned: failed", "claimed"),
            ("abandoned: purged", "claimed"),
            FAILURE_FAILED,
            FAILURE_PURGED,
            ("decision needed", "failing"),
        ],
    ),
    ("published", &[("archive intended", "archiving"), ("recipients seen", "published")]),
    (
        "archiving",
        &[("archive intended", "archiving"), ("archived", "archived"), ("recipients seen", "archiving")],
    ),
    ("archived", &[("recipients seen", "archived"), ("all confirmed", "completed"), ("expired", "expired")]),
    ("completed", &[]),
    ("expired", &[]),
    (
        "failing",
        &[
            FAILURE,
            FAILURE_FAILED,
            FAILURE_PURGED,
            FAILURE_NOTHING,
            FAILURE_PARTIAL,
            ("failure filed", "failed"),
        ],
    ),
    ("failed", &[]),
    ("cancelled", &[]),
    (
        "session",
        &[
            ("part 0 created", "session, half made"),
            ("processing seen", "processing"),
            ("published seen", "published"),
            ("abandoned: failed", "claimed"),
            ("abandoned: purged", "claimed"),
            ("abandoned: never whole", "claimed"),
            FAILURE_FAILED,
            FAILURE_PURGED,
            FAILURE_NOTHING,
            FAILURE_PARTIAL,
            ("decision needed", "failing"),
        ],
    ),
    (
        "session, half made",
        &[
            ("part 1 created", "session, made"),
            ("processing seen", "processing"),
            ("published seen", "published"),
            ("abandoned: failed", "claimed"),
            ("abandoned: purged", "claimed"),
            ("abandoned: never whole", "claimed"),
            FAILURE_FAILED,
            FAILURE_PURGED,
            FAILURE_NOTHING,
            FAILURE_PARTIAL,
            ("decision needed", "failing"),
        ],
    ),
    (
        "session, made",
        &[
            ("last byte leaving", "session, to the end"),
            ("processing seen", "processing"),
            ("published seen", "published"),
            ("abandoned: failed", "claimed"),
            ("abandoned: purged", "claimed"),
            ("abandoned: never whole", "claimed"),
            FAILURE_FAILED,
            FAILURE_PURGED,
            FAILURE_NOTHING,
            FAILURE_PARTIAL,
            ("decision needed", "failing"),
        ],
    ),
    (
        "session, to the end",
        &[
            ("last byte leaving", "session, to the end"),
            ("session given up", "session, dead"),
            ("upload accepted", "session, whole"),
            ("processing seen", "processing"),
            ("published seen", "published"),
            ("abandoned: failed", "claimed"),
            ("abandoned: purged", "claimed"),
            FAILURE_FAILED,
            FAILURE_PURGED,
            FAILURE_NOTHING,
            ("decision needed", "failing"),
        ],
    ),
    (
        "session, dead",
        &[
            ("session given up", "session, dead"),
            ("processing seen", "processing"),
            ("published seen", "published"),
            ("abandoned: failed", "claimed"),
            ("abandoned: purged", "claimed"),
            FAILURE_FAILED,
            FAILURE_PURGED,
            FAILURE_NOTHING,
            ("decision needed", "failing"),
        ],
    ),
    (
        "session, whole",
        &[
            ("nudged", "uploaded"),
            ("processing seen", "processing"),
            ("published seen", "published"),
            ("abandoned: failed", "claimed"),
            ("abandoned: purged", "claimed"),
            FAILURE_FAILED,
            FAILURE_PURGED,
            ("decision needed", "failing"),
        ],
    ),
];
const FAILURE: (&str, &str) = ("failure", "failing");
const FAILURE_FAILED: (&str, &str) = ("failure: failed", "failing");
const FAILURE_PURGED: (&str, &str) = ("failure: purged", "failing");
const FAILURE_NOTHING: (&str, &str) = ("failure: nothing begun", "failing");
const FAILURE_PARTIAL: (&str, &str) = ("failure: never whole", "failing");

fn states() -> Vec<(&'static str, Outgoing)> {
    outgoing_states().into_iter().chain(resumable_states()).collect()
}

/// The table's name of a state.
fn name(state: &Outgoing) -> &'static str {
    match state {
        Outgoing::Uploading { last_byte, session: Some(session), .. } => {
            match (last_byte, session.next_to_create()) {
                _ if session.given_up => "session, dead",
                (LastByte::MayHaveLeft, _) => "session, to the end",
                (LastByte::Kept, None) => "session, made",
                (LastByte::Kept, Some(0)) => "session",
                (LastByte::Kept, Some(_)) => "session, half made",
            }
        }
        Outgoing::Uploading { last_byte: LastByte::MayHaveLeft, .. } => "uploading to the end",
        Outgoing::Uploaded { session: Some(_), .. } => "session, whole",
        Outgoing::Published { publication, .. } => match publication.archive {
            Archive::Due => "published",
            Archive::Intended(_) => "archiving",
            Archive::Done(_) => "archived",
        },
        other => other.phase(),
    }
}

#[test]
fn every_pair_of_state_and_event_is_as_drawn() {
    let states = states();
    assert_eq!(
        states.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
        TABLE.iter().map(|(name, _)| *name).collect::<Vec<_>>()
    );
    for ((from, state), (_, drawn)) in states.iter().zip(TABLE) {
        assert_eq!(name(state), *from);
        for (label, event) in events() {
            let expected = drawn.iter().find(|(drawn, _)| *drawn == label).map(|(_, to)| *to);
            let reached = state.clone().apply(event.clone());
            assert_eq!(reached.as_ref().ok().map(name), expected, "{from} + {label}");
            if let Err(refusal) = reached {
                assert_eq!((refusal.state, refusal.event), (state.phase(), event.name()), "{from} + {label}");
            }
        }
    }
}

#[test]
fn what_altinn_was_told_and_gave_is_carried_along() {
    for (from, state) in states() {
        for (label, event) in events() {
            let Ok(after) = state.clone().apply(event.clone()) else { continue };
            if let (Some(before), Some(after)) = (state.booking(), after.booking()) {
                assert_eq!(before, after, "{from} + {label}");
            }
            if let (Some(before), Some(after)) = (state.dispatch(), after.dispatch()) {
                assert_eq!(before, after, "{from} + {label}");
            }
            assert!(state.holds_file() || !after.holds_file(), "{from} + {label}");
        }
    }
}

#[test]
fn every_state_is_read_back_as_it_was() {
    for (label, state) in states() {
        let text = serde_json::to_string(&state).unwrap();
        assert_eq!(serde_json::from_str::<Outgoing>(&text).unwrap(), state, "{label}: {text}");
    }
}

/// What an observer knows who sees only the events that were taken.
#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
struct Observer {
    /// A last byte may have left to the transfer that is booked.
    may_be_whole: bool,
    /// The id at Altinn that may have got a last byte and is not proven unpublished.
    may_publish: Option<u8>,
    /// The id at Altinn that is booked.
    booked: Option<u8>,
    published: bool,
    archived: bool,
    undecided: bool,
    /// The transfer that is booked is sent as a stream (false) or resumably.
    way: Option<bool>,
}

fn any_event() -> impl Strategy<Value = E> {
    let known = proptest::sample::select(events().into_iter().map(|(_, event)| event).collect::<Vec<_>>());
    prop_oneof![4 => known, 1 => (1u8..200).prop_map(|number| E::Adopted(booking(number)))]
}

/// Events in an order that gets far, so that random ones meet late states too.
fn start() -> impl Strategy<Value = Vec<E>> {
    let way = [
        E::FileTaken,
        E::Described(dispatch()),
        E::InitializeIntended { at: at(20) },
        E::Adopted(booking(1)),
        E::UploadBegun { at: at(21) },
        E::LastByteLeaving,
        E::UploadAccepted { at: at(22) },
        E::ProcessingSeen { at: at(23) },
        E::PublishedSeen { published: at(24), expires: at(99), recipients: recipients() },
        E::ArchiveIntended(place()),
        E::Archived,
    ];
    let mut resumable = way.to_vec();
    let session = [
        E::SessionBegun { at: at(21), session: Box::new(session(0)) },
        E::PartCreated { part: 0, location: "/0".to_owned() },
        E::PartCreated { part: 1, location: "/1".to_owned() },
    ];
    resumable.splice(4..5, session);
    proptest::sample::select(vec![way.to_vec(), resumable]).prop_flat_map(|way| {
        (0..=way.len()).prop_map(move |length| way.iter().take(length).cloned().collect())
    })
}

fn number_of(state: &Outgoing) -> Option<u8> {
    state.booking().map(|booking| booking.id.as_bytes()[15])
}

impl Observer {
    /// Looks at a step that was taken, and says what is wrong with it.
    #[expect(clippy::too_many_lines, reason = "one match, an arm for each kind of event")]
    fn see(&mut self, before: &Outgoing, event: &E, after: &Outgoing) -> Result<(), TestCaseError> {
        match event {
            E::Adopted(_) => {
                self.booked = number_of(after);
                self.may_be_whole = false;
                self.way = None;
            }
            E::UploadBegun { .. } | E::SessionBegun { .. } => {
                let way = matches!(event, E::SessionBegun { .. });
                prop_assert!(self.way != Some(!way), "a stream and a session to one transfer");
                prop_assert!(!way || self.way.is_none(), "two sessions of one transfer");
                self.way = Some(way);
                prop_assert!(self.booked.is_some(), "bytes need a transfer");
                prop_assert!(!self.undecided, "bytes while a person has to decide");
                prop_assert!(
                    self.may_publish.is_none() || self.may_publish == self.booked,
                    "bytes to a second transfer while the first may be published"
                );
            }
            E::LastByteLeaving | E::UploadAccepted { .. } | E::ProcessingSeen { .. } => {
                self.may_publish = self.booked;
                self.may_be_whole = true;
            }
            E::PublishedSeen { .. } => {
                prop_assert!(self.may_publish.is_none() || self.may_publish == self.booked);
                self.may_publish = self.booked;
                self.published = true;
            }
            E::Abandoned(_) | E::NothingArrived | E::UploadHadNoEffect => {
                prop_assert!(!self.published, "given up although published");
                self.may_publish = None;
                prop_assert!(
                    *event != E::Abandoned(Unpublished::NeverWhole) || !self.may_be_whole,
                    "given up as never whole although a last byte may have left"
                );
                // Back before the first upload: what left of it provably never arrived.
                if matches!(after, Outgoing::Initialized { .. }) {
                    self.may_be_whole = false;
                    self.way = None;
                }
                if matches!(event, E::Abandoned(_)) {
                    self.booked = None;
                }
            }
            E::FailureIntended { proof, .. } => {
                prop_assert!(!self.published, "failed although published");
                prop_assert!(
                    proof.is_some() || self.may_publish.is_none(),
                    "failed without proof while it may be published"
                );
                self.may_publish = None;
            }
            E::DecisionNeeded { .. } => {
                prop_assert!(!self.published, "a decision on a published file");
                // Nobody knows, and nothing may follow but the end.
                self.may_publish = None;
                self.undecided = true;
            }
            E::PartCreated { part, .. } => {
                let parts = |state: &Outgoing| {
                    state.session().map(|session| session.parts.clone()).unwrap_or_default()
                };
                let (before, after) = (parts(before), parts(after));
                let created =
                    |parts: &[UploadPart]| parts.iter().filter(|part| part.location.is_some()).count();
                prop_assert_eq!(created(&before), *part, "not in the order of the file");
                prop_assert_eq!(created(&after), *part + 1);
                prop_assert_eq!(before.get(..*part), after.get(..*part), "a part was begun twice");
            }
            E::Archived => self.archived = true,
            E::AllConfirmed { .. } | E::Expired { .. } => {
                prop_assert!(self.published && self.archived, "over before it was published and archived");
            }
            _ => {}
        }
        if self.published {
            prop_assert!(
                matches!(
                    after,
                    Outgoing::Published { .. } | Outgoing::Completed { .. } | Outgoing::Expired { .. }
                ),
                "{} + {} after it was published",
                before.phase(),
                event.name()
            );
        }
        prop_assert!(!before.is_finished(), "something happened after the end");
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_sequence_of_events_publishes_twice_or_fails_what_was_published(
        start in start(),
        events in proptest::collection::vec(any_event(), 0..60),
    ) {
        let mut state = Outgoing::Claiming;
        let mut observer = Observer::default();
        for event in start.into_iter().chain(events) {
            let Ok(after) = state.clone().apply(event.clone()) else { continue };
            observer.see(&state, &event, &after)?;
            state = after;
        }
    }
}

#[test]
fn an_only_upload_without_effect_leaves_the_transfer_untouched() {
    let begun = Outgoing::Initialized { dispatch: dispatch(), booking: booking(1) }
        .apply(E::UploadBegun { at: at(1) })
        .unwrap();
    assert_eq!(begun.uploads(), 1);
    let after = begun.clone().apply(E::LastByteLeaving).unwrap().apply(E::UploadHadNoEffect).unwrap();
    assert_eq!(after, Outgoing::Initialized { dispatch: dispatch(), booking: booking(1) });
    // With one before it, the count goes back to that one, so that its history is still looked at.
    let again = begun.apply(E::UploadBegun { at: at(2) }).unwrap().apply(E::UploadHadNoEffect).unwrap();
    assert_eq!((again.phase(), again.uploads()), ("uploading", 1));
}

#[test]
fn a_transfer_that_was_never_whole_can_be_given_up_and_one_that_may_have_been_cannot() {
    let never_whole = E::Abandoned(Unpublished::NeverWhole);
    let begun = Outgoing::Initialized { dispatch: dispatch(), booking: booking(1) }
        .apply(E::UploadBegun { at: at(1) })
        .unwrap();
    assert_eq!(begun.clone().apply(never_whole.clone()), Ok(Outgoing::Claimed));
    let again = begun.clone().apply(E::UploadBegun { at: at(2) }).unwrap();
    assert_eq!(again.apply(never_whole.clone()), Ok(Outgoing::Claimed), "however often it was begun");
    let left = begun.apply(E::LastByteLeaving).unwrap();
    assert!(left.clone().apply(never_whole.clone()).is_err());
    assert!(left.apply(E::NothingArrived).unwrap().apply(never_whole).is_err(), "it may arrive yet");
}
