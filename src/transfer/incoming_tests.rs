//! The incoming machine against the table drawn from its page, and the promise it makes.

use proptest::prelude::*;

use super::samples::{at, failure, inbox_place, incoming_states, offer, received};
use super::{Confirmation, Incoming, IncomingEvent as E, Notification};

/// Every event.
fn events() -> Vec<(&'static str, E)> {
    let delivered = |confirmation| E::Delivered { at: at(22), confirmation, notification: Notification::Due };
    vec![
        ("download begun", E::DownloadBegun),
        ("download verified", E::DownloadVerified(received())),
        ("download damaged", E::DownloadDamaged),
        ("vanished", E::Vanished),
        ("offer renewed", E::OfferRenewed(offer(2, "910753614"))),
        ("delivery intended", E::DeliveryIntended(inbox_place())),
        ("delivered", delivered(Confirmation::Due)),
        ("delivered, by hand", delivered(Confirmation::Manual)),
        ("confirmation asked", E::ConfirmationAsked),
        ("confirmed", E::Confirmed { at: at(23) }),
        ("confirmation too late", E::ConfirmationTooLate),
        ("notified", E::Notified),
        ("failed", E::Failed(failure())),
        ("expired", E::Expired { at: at(24) }),
    ]
}

/// The drawing as a table: from, event, to. Whatever is not here must be refused.
const TABLE: &[(&str, &[(&str, &str)])] = &[
    (
        "discovered",
        &[
            ("download begun", "downloading"),
            ("offer renewed", "discovered"),
            ("failed", "failed"),
            ("expired", "expired"),
        ],
    ),
    (
        "downloading",
        &[
            ("download begun", "downloading"),
            ("download verified", "downloaded"),
            ("download damaged", "discovered"),
            ("offer renewed", "downloading"),
            ("failed", "failed"),
            ("expired", "expired"),
        ],
    ),
    (
        "downloaded",
        &[
            ("download damaged", "discovered"),
            ("vanished", "discovered"),
            ("delivery intended", "delivering"),
            ("failed", "failed"),
        ],
    ),
    (
        "delivering",
        &[
            ("vanished", "discovered"),
            ("delivery intended", "delivering"),
            ("delivered", "delivered"),
            ("delivered, by hand", "delivered, by hand"),
        ],
    ),
    (
        "delivered",
        &[
            ("confirmed", "confirmed"),
            ("confirmation too late", "delivered, too late"),
            ("notified", "delivered"),
        ],
    ),
    (
        "delivered, by hand",
        &[
            ("confirmation asked", "delivered"),
            ("confirmed", "confirmed"),
            ("confirmation too late", "delivered, too late"),
            ("notified", "delivered, by hand"),
        ],
    ),
    (
        "delivered, too late",
        &[
            ("confirmed", "confirmed"),
            ("confirmation too late", "delivered, too late"),
            ("notified", "delivered, too late"),
        ],
    ),
    ("confirmed", &[("notified", "confirmed")]),
    ("failed", &[("expired", "expired")]),
    ("expired", &[]),
];

/// The table's name of a state.
fn name(state: &Incoming) -> &'static str {
    match state {
        Incoming::Delivered { confirmation: Confirmation::Manual, .. } => "delivered, by hand",
        Incoming::Delivered { confirmation: Confirmation::TooLate, .. } => "delivered, too late",
        other => other.phase(),
    }
}

#[test]
fn every_pair_of_state_and_event_is_as_drawn() {
    let states = incoming_states();
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
fn every_state_is_read_back_as_it_was() {
    for (label, state) in incoming_states() {
        let text = serde_json::to_string(&state).unwrap();
        assert_eq!(serde_json::from_str::<Incoming>(&text).unwrap(), state, "{label}: {text}");
    }
}

/// Events in an order that gets far, so that random ones meet late states too.
fn start() -> impl Strategy<Value = Vec<E>> {
    let way = [
        E::DownloadBegun,
        E::DownloadVerified(received()),
        E::DeliveryIntended(inbox_place()),
        E::Delivered { at: at(22), confirmation: Confirmation::Manual, notification: Notification::Due },
        E::ConfirmationAsked,
        E::Confirmed { at: at(23) },
    ];
    (0..=way.len()).prop_map(move |length| way.iter().take(length).cloned().collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_sequence_of_events_confirms_before_delivery_or_delivers_twice(
        start in start(),
        events in proptest::collection::vec(
            proptest::sample::select(events().into_iter().map(|(_, event)| event).collect::<Vec<_>>()),
            0..40,
        ),
    ) {
        let mut state = Incoming::Discovered { offer: offer(2, "910753614") };
        let (mut verified, mut intended, mut deliveries) = (false, false, 0);
        for event in start.into_iter().chain(events) {
            let Ok(after) = state.clone().apply(event.clone()) else { continue };
            match &event {
                E::DownloadVerified(_) => verified = true,
                E::DownloadDamaged => verified = false,
                // The caller has proof that it was not laid down.
                E::Vanished => (verified, intended) = (false, false),
                E::DeliveryIntended(_) => {
                    prop_assert!(verified, "a place for what was not verified");
                    intended = true;
                }
                E::Delivered { .. } => deliveries += 1,
                E::Confirmed { .. } | E::ConfirmationAsked => {
                    prop_assert_eq!(deliveries, 1, "confirmed before it was delivered");
                }
                _ => {}
            }
            prop_assert!(deliveries <= 1, "delivered twice");
            if intended {
                prop_assert!(
                    matches!(
                        after,
                        Incoming::Delivering { .. } | Incoming::Delivered { .. } | Incoming::Confirmed { .. }
                    ),
                    "{} after the intent to deliver",
                    after.phase()
                );
            }
            prop_assert_eq!(after.offer().id, state.offer().id);
            state = after;
        }
    }
}
