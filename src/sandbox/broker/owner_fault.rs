//! Errors that only a service owner meets (Broker API, errors): setting up, and statistics.
//!
//! Numbers that no request can provoke are left out: 6001, 6002 and 6004 belong to Altinn's own
//! reports, 7003 to a database that lost a row it has just written.

use axum::http::StatusCode;

/// A numbered error of the service owner's endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sandbox) enum OwnerFault {
    LimitNegative,
    LimitZero,
    LimitAboveScan,
    TimeToLiveFormat,
    TimeToLiveTooLong,
    GraceFormat,
    GraceTooLong,
    LimitAboveAll,
    ShimWithoutCodes,
    OwnerNotConfigured,
    ResourceNotConfigured,
    MonthFormat,
    EveryoneExcluded,
    CallerUnknown,
    OwnerExists,
    OwnerNotFound,
}

impl OwnerFault {
    /// The number in `code`, and the status.
    pub(in crate::sandbox) fn row(self) -> (u16, StatusCode) {
        let number = match self {
            Self::LimitNegative => 11,
            Self::LimitZero => 12,
            Self::LimitAboveScan => 13,
            Self::TimeToLiveFormat => 14,
            Self::TimeToLiveTooLong => 15,
            Self::GraceFormat => 17,
            Self::GraceTooLong => 18,
            Self::LimitAboveAll => 22,
            Self::ShimWithoutCodes => 23,
            Self::OwnerNotConfigured => 24,
            Self::ResourceNotConfigured => 25,
            Self::MonthFormat => 6003,
            Self::EveryoneExcluded => 6005,
            Self::CallerUnknown => 7001,
            Self::OwnerExists => return (7002, StatusCode::CONFLICT),
            Self::OwnerNotFound => return (7004, StatusCode::NOT_FOUND),
        };
        (number, StatusCode::BAD_REQUEST)
    }

    /// The `detail`.
    pub(in crate::sandbox) fn text(self) -> &'static str {
        match self {
            Self::LimitNegative => "Max file transfer size cannot be negative",
            Self::LimitZero => "Max file transfer size cannot be zero",
            Self::LimitAboveScan => {
                "Max file transfer size cannot be set higher than 50GB in production unless the resource has been pre-approved for disabled virus scan. Contact us @ Slack."
            }
            Self::TimeToLiveFormat => {
                "Invalid file transfer time to live format. Should follow ISO8601 standard for duration. Example: 'P30D' for 30 days."
            }
            Self::TimeToLiveTooLong => "Time to live cannot exceed 365 days",
            Self::GraceFormat => {
                "Invalid grace period format. Should follow ISO8601 standard for duration. Example: 'PT2H' for 2 hours."
            }
            Self::GraceTooLong => "Grace period cannot exceed 24 hours",
            // The text is older than the limit.
            Self::LimitAboveAll => {
                "Max file transfer size cannot be set higher than 100GB in production because it has not yet been tested for it. Contact us @ Slack if you need it."
            }
            Self::ShimWithoutCodes => {
                "In order to use manifest file shim you need to provide external service code and edition code"
            }
            Self::OwnerNotConfigured => {
                "The service owner associated with the resource has not been configured."
            }
            Self::ResourceNotConfigured => "The resource has not been configured.",
            Self::MonthFormat => "Invalid year or month. Provide a valid year and a month between 1 and 12.",
            Self::EveryoneExcluded => "At least one of includeEndUser or includeVendor must be true.",
            Self::CallerUnknown => "Caller organization id could not be determined",
            Self::OwnerExists => "Service owner already exists",
            Self::OwnerNotFound => "Service owner not found",
        }
    }
}
