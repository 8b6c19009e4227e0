//! The `Range` header, as the Broker reads it (Broker API, download).

/// What a `Range` header comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sandbox) enum Range {
    /// None, several, another unit, or unreadable: the whole file.
    Whole,
    /// The first and the last byte.
    Part { first: u64, last: u64 },
    /// 416.
    NotSatisfiable,
}

/// Reads the header for a file of `size` bytes.
pub(in crate::sandbox) fn parse(header: Option<&str>, size: u64) -> Range {
    let Some((unit, ranges)) = header.and_then(|header| header.split_once('=')) else { return Range::Whole };
    if !unit.trim().eq_ignore_ascii_case("bytes") || ranges.contains(',') {
        return Range::Whole;
    }
    let Some((first, last)) = ranges.trim().split_once('-') else { return Range::Whole };
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if digits { text.parse::<u64>().ok() } else { None }
    };
    match (number(first), number(last)) {
        (Some(first), _) if last.is_empty() => part(first, u64::MAX, size),
        (Some(first), Some(last)) if first <= last => part(first, last, size),
        (None, Some(suffix)) if first.is_empty() => {
            if suffix == 0 {
                Range::NotSatisfiable
            } else {
                part(size.saturating_sub(suffix), u64::MAX, size)
            }
        }
        _ => Range::Whole,
    }
}

fn part(first: u64, last: u64, size: u64) -> Range {
    match size.checked_sub(1) {
        Some(end) if first <= end => Range::Part { first, last: last.min(end) },
        _ => Range::NotSatisfiable,
    }
}
