//! One sample of every state, for tests of this room and of those that store or show transfers.

use jiff::Timestamp;

use super::{
    Archive, Booking, BrokerTransferId, Claim, Confirmation, Delivery, Dispatch, Failure, FileIdentity,
    InboxPlace, Incoming, LastByte, Md5, Notification, Offer, Outgoing, Place, Publication, Received,
    RecipientProgress, Sha256, UploadSession,
};

/// `2026-11-21T08:00:00.123456Z` and so many seconds.
pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::new(1_795_248_000 + seconds, 123_456_000).unwrap()
}

/// Altinn's id of this number.
pub(crate) fn broker_id(number: u8) -> BrokerTransferId {
    format!("00000000-0000-4000-8000-0000000000{number:02x}").parse().unwrap()
}

/// A claim of the file with this inode.
pub(crate) fn claim(inode: u64) -> Claim {
    Claim {
        name: "årsoppgjør.pdf".to_owned(),
        recipient_folder: Some("910753614".parse().unwrap()),
        other_folder: None,
        sidecar: true,
        file: FileIdentity { device: 64_769, inode, size: 10, modified_ns: 1_795_248_000_000_000_001 },
    }
}

/// What Altinn is told.
pub(crate) fn dispatch() -> Box<Dispatch> {
    Box::new(Dispatch {
        file_name: "årsoppgjør.pdf".parse().unwrap(),
        resource_id: "agency-accounts".parse().unwrap(),
        sender: "991825827".parse().unwrap(),
        recipients: vec!["910753614".parse().unwrap()],
        reference: "0199-ref".parse().unwrap(),
        properties: [("year".to_owned(), "2026".to_owned())].into(),
        disable_virus_scan: false,
        md5: Md5::from_bytes([7; 16]),
        sha256: Sha256::from_bytes([8; 32]),
        size: 10,
        file: None,
    })
}

/// A booking of Altinn's id of this number.
pub(crate) fn booking(number: u8) -> Booking {
    Booking { id: broker_id(number), initialized: at(3) }
}

/// A resumable upload in two parts, so many of which Altinn has begun.
pub(crate) fn session(created: usize) -> UploadSession {
    let mut session = UploadSession::plan(10, 8, 2, 1_795_248_000_000_000_002);
    for (number, part) in session.parts.iter_mut().enumerate().take(created) {
        part.location = Some(format!("/upload/tus/1/partial/{number}"));
    }
    session
}

/// How far recipients have come.
pub(crate) fn recipients() -> Vec<RecipientProgress> {
    vec![RecipientProgress {
        recipient: "910753614".parse().unwrap(),
        status: "DownloadStarted".to_owned(),
        changed: Some(at(9)),
    }]
}

/// A place in `sent/` or `failed/`.
pub(crate) fn place() -> Place {
    Place { date: Some("2026-11-21".to_owned()), name: "a.pdf".parse().unwrap() }
}

/// Why something did not work.
pub(crate) fn failure() -> Failure {
    Failure {
        code: "file_too_large".to_owned(),
        message: "it is too large".to_owned(),
        remedy: "split it".to_owned(),
        at: at(4),
        altinn: None,
    }
}

fn publication(archive: Archive) -> Publication {
    Publication { uploaded: at(5), published: at(6), expires: at(9_000), recipients: recipients(), archive }
}

/// Every state of a file on its way out, with a name of its own for each that has transitions of its own.
pub(crate) fn outgoing_states() -> Vec<(&'static str, Outgoing)> {
    use Outgoing as S;
    let dispatch = dispatch();
    let booking = booking(1);
    let uploading = |last_byte| S::Uploading {
        dispatch: dispatch.clone(),
        booking,
        begun: at(4),
        uploads: 1,
        last_byte,
        never_whole: false,
        session: None,
    };
    let published = |archive| S::Published {
        dispatch: dispatch.clone(),
        booking,
        publication: Box::new(publication(archive)),
    };
    let done = || Box::new(publication(Archive::Done(place())));
    vec![
        ("claiming", S::Claiming),
        ("claimed", S::Claimed),
        ("described", S::Described { dispatch: dispatch.clone() }),
        ("initializing", S::Initializing { dispatch: dispatch.clone(), since: at(2) }),
        ("initialized", S::Initialized { dispatch: dispatch.clone(), booking }),
        ("uploading", uploading(LastByte::Kept)),
        ("uploading to the end", uploading(LastByte::MayHaveLeft)),
        (
            "uploaded",
            S::Uploaded { dispatch: dispatch.clone(), booking, uploaded: at(5), uploads: 1, session: None },
        ),
        ("processing", S::Processing { dispatch: dispatch.clone(), booking, uploaded: at(5), uploads: 1 }),
        ("published", published(Archive::Due)),
        ("archiving", published(Archive::Intended(place()))),
        ("archived", published(Archive::Done(place()))),
        (
            "completed",
            S::Completed { dispatch: dispatch.clone(), booking, publication: done(), completed: at(10) },
        ),
        ("expired", S::Expired { dispatch: dispatch.clone(), booking, publication: done(), expired: at(10) }),
        ("failing", S::Failing { failure: failure(), place: place() }),
        ("failed", S::Failed { failure: failure(), place: place() }),
        ("cancelled", S::Cancelled),
    ]
}

/// Every state of a resumable upload, in the same way.
pub(crate) fn resumable_states() -> Vec<(&'static str, Outgoing)> {
    let sending = |last_byte, session: UploadSession| Outgoing::Uploading {
        dispatch: dispatch(),
        booking: booking(1),
        begun: at(4),
        uploads: 1,
        last_byte,
        never_whole: last_byte == LastByte::Kept,
        session: Some(Box::new(session)),
    };
    let whole = Outgoing::Uploaded {
        dispatch: dispatch(),
        booking: booking(1),
        uploaded: at(5),
        uploads: 1,
        session: Some(Box::new(session(2))),
    };
    vec![
        ("session", sending(LastByte::Kept, session(0))),
        ("session, half made", sending(LastByte::Kept, session(1))),
        ("session, made", sending(LastByte::Kept, session(2))),
        ("session, to the end", sending(LastByte::MayHaveLeft, session(2))),
        ("session, dead", sending(LastByte::MayHaveLeft, UploadSession { given_up: true, ..session(2) })),
        ("session, whole", whole),
    ]
}

/// What Altinn says of a transfer for us.
pub(crate) fn offer(number: u8, recipient: &str) -> Box<Offer> {
    Box::new(Offer {
        id: broker_id(number),
        resource_id: "agency-accounts".parse().unwrap(),
        file_name: "../årsoppgjør.pdf".to_owned(),
        sender: "0192:991825827".to_owned(),
        recipient: recipient.parse().unwrap(),
        reference: "their-ref".to_owned(),
        properties: [("year".to_owned(), "2026".to_owned())].into(),
        checksum: Some(Md5::from_bytes([7; 16])),
        size: 10,
        published: at(0),
        expires: at(9_000),
    })
}

/// What was downloaded.
pub(crate) fn received() -> Received {
    Received {
        md5: Md5::from_bytes([7; 16]),
        sha256: Sha256::from_bytes([8; 32]),
        size: 10,
        received: at(2),
        checksum_verified: true,
    }
}

/// A place in the inbox.
pub(crate) fn inbox_place() -> InboxPlace {
    InboxPlace {
        folder: Some("991825827".parse().unwrap()),
        name: "årsoppgjør.pdf".parse().unwrap(),
        metadata: true,
    }
}

/// Every state of a file that is sent to us, with a name of its own for each that has transitions of its own.
pub(crate) fn incoming_states() -> Vec<(&'static str, Incoming)> {
    use Incoming as S;
    let offer = offer(2, "910753614");
    let delivery = || {
        Box::new(Delivery {
            received: received(),
            place: inbox_place(),
            delivered: at(3),
            notification: Notification::Due,
        })
    };
    let delivered = |confirmation| S::Delivered { offer: offer.clone(), delivery: delivery(), confirmation };
    vec![
        ("discovered", S::Discovered { offer: offer.clone() }),
        ("downloading", S::Downloading { offer: offer.clone() }),
        ("downloaded", S::Downloaded { offer: offer.clone(), received: received() }),
        ("delivering", S::Delivering { offer: offer.clone(), received: received(), place: inbox_place() }),
        ("delivered", delivered(Confirmation::Due)),
        ("delivered, by hand", delivered(Confirmation::Manual)),
        ("delivered, too late", delivered(Confirmation::TooLate)),
        ("confirmed", S::Confirmed { offer: offer.clone(), delivery: delivery(), confirmed: at(4) }),
        ("failed", S::Failed { offer: offer.clone(), failure: failure() }),
        ("expired", S::Expired { offer: offer.clone(), expired: at(5) }),
    ]
}
