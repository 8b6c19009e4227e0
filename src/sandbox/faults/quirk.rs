//! Peculiar turns that single steps of the sandbox can take, beyond what can be done to any request.

/// One of them. The amount that a rule gives is named with each; 1 unless it says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::sandbox) enum Quirk {
    /// Altinn Authorization says no, as when it cannot be reached.
    AuthorizationDown,
    /// The storage account is not ready (503 BRO-00021).
    StorageNotReady,
    /// A cut stream upload leaves the transfer `Failed` instead of `UploadStarted`.
    CutUploadFails,
    /// A cut stream upload is committed after all, that many milliseconds later.
    LateCommit,
    /// A transfer stays in `UploadProcessing`.
    ProcessingForever,
    /// The malware scan finds something.
    Malware,
    /// The content does not have the checksum that was given.
    ChecksumMismatch,
    /// Content is purged that many milliseconds after `Published`.
    PurgeEarly,
    /// The overview shows a recipient more.
    ExtraRecipient,
    /// Two last confirmations miss each other.
    AllConfirmedMissed,
    /// Search is that many milliseconds behind.
    SearchLag,
    /// `Range` is not looked at.
    RangeIgnored,
    /// A byte of a download is wrong: the one at that place.
    WrongByte,
    /// Accepted TUS bytes are stored that many chunks later.
    TusLag,
    /// Accepted TUS bytes are never stored, although the answer was 204.
    TusWedge,
    /// Another request holds the upload (423).
    TusLocked,
    /// The upload's session is forgotten.
    TusExpired,
    /// Partial uploads are joined in another order.
    TusPermuted,
    /// Maskinporten's clock is that many seconds ahead.
    MaskinportenAhead,
    /// Maskinporten's clock is that many seconds behind.
    MaskinportenBehind,
    /// An event is never sent.
    EventLost,
    /// An event is sent twice.
    EventDoubled,
    /// An event is sent that many milliseconds late, and so out of order.
    EventLate,
    /// An event is sent before its state can be read: reads show it that many milliseconds later.
    EventEarly,
    /// An event is pushed to nobody, and can still be pulled; asked for each subscription.
    DeliveryLost,
    /// An event is pushed twice; asked for each subscription.
    DeliveryDoubled,
    /// A new subscription hears nothing for that many milliseconds.
    SubscriptionSilent,
    /// A removed subscription goes on being delivered to for that many milliseconds.
    SubscriptionLingers,
}

impl Quirk {
    /// All of them, by the name that a rule gives.
    pub(in crate::sandbox) const ALL: [(&'static str, Quirk); 28] = [
        ("authorization-down", Quirk::AuthorizationDown),
        ("storage-not-ready", Quirk::StorageNotReady),
        ("cut-upload-fails", Quirk::CutUploadFails),
        ("late-commit", Quirk::LateCommit),
        ("processing-forever", Quirk::ProcessingForever),
        ("malware", Quirk::Malware),
        ("checksum-mismatch", Quirk::ChecksumMismatch),
        ("purge-early", Quirk::PurgeEarly),
        ("extra-recipient", Quirk::ExtraRecipient),
        ("all-confirmed-missed", Quirk::AllConfirmedMissed),
        ("search-lag", Quirk::SearchLag),
        ("range-ignored", Quirk::RangeIgnored),
        ("wrong-byte", Quirk::WrongByte),
        ("tus-lag", Quirk::TusLag),
        ("tus-wedge", Quirk::TusWedge),
        ("tus-locked", Quirk::TusLocked),
        ("tus-expired", Quirk::TusExpired),
        ("tus-permuted", Quirk::TusPermuted),
        ("maskinporten-ahead", Quirk::MaskinportenAhead),
        ("maskinporten-behind", Quirk::MaskinportenBehind),
        ("event-lost", Quirk::EventLost),
        ("event-doubled", Quirk::EventDoubled),
        ("event-late", Quirk::EventLate),
        ("event-early", Quirk::EventEarly),
        ("delivery-lost", Quirk::DeliveryLost),
        ("delivery-doubled", Quirk::DeliveryDoubled),
        ("subscription-silent", Quirk::SubscriptionSilent),
        ("subscription-lingers", Quirk::SubscriptionLingers),
    ];

    /// Whether each event is an occurrence of it.
    pub(super) fn is_about_events(self) -> bool {
        use Quirk as Q;
        matches!(
            self,
            Q::EventLost
                | Q::EventDoubled
                | Q::EventLate
                | Q::EventEarly
                | Q::DeliveryLost
                | Q::DeliveryDoubled
        )
    }

    /// The quirk of that name.
    pub(in crate::sandbox) fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(it, _)| *it == name).map(|(_, quirk)| *quirk)
    }
}
