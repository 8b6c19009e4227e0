//! Durations of the service owner's endpoints: ISO 8601 in, .NET's own form out.

use std::time::Duration;

const DAY: u64 = 24 * 3600;
/// .NET counts time in units of 100 ns.
const TICKS: u32 = 10_000_000;

/// A duration as XML Schema writes it, `P1DT2H`: a year counts 365 days and a month 30, as in
/// .NET. There are no weeks. A negative one is as long as none at all.
pub(super) fn parse(text: &str) -> Option<Duration> {
    let (negative, rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let rest = rest.strip_prefix('P')?;
    let (date, time) = match rest.split_once('T') {
        Some((_, "")) => return None,
        Some((date, time)) => (date, time),
        None if rest.is_empty() => return None,
        None => (rest, ""),
    };
    let length = units(date, &[('Y', 365 * DAY), ('M', 30 * DAY), ('D', DAY)])?
        .checked_add(units(time, &[('H', 3600), ('M', 60), ('S', 1)])?)?;
    Some(if negative { Duration::ZERO } else { length })
}

/// Numbers with their designators, each at most once and in this order.
fn units(text: &str, designators: &[(char, u64)]) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut left = text;
    for (designator, seconds) in designators {
        let Some((number, rest)) = left.split_once(*designator) else { continue };
        let (whole, fraction) = match number.split_once('.') {
            Some((whole, fraction)) if *designator == 'S' => (whole, Some(fraction)),
            Some(_) => return None,
            None => (number, None),
        };
        let whole = Duration::from_secs(digits(whole)?.checked_mul(*seconds)?);
        total = total.checked_add(whole)?.checked_add(nanoseconds(fraction)?)?;
        left = rest;
    }
    left.is_empty().then_some(total)
}

fn digits(text: &str) -> Option<u64> {
    let all = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if all { text.parse().ok() } else { None }
}

/// A fraction of a second; digits beyond the ninth are cut.
fn nanoseconds(fraction: Option<&str>) -> Option<Duration> {
    let Some(fraction) = fraction else { return Some(Duration::ZERO) };
    digits(fraction)?;
    let nine: String = fraction.chars().chain(std::iter::repeat('0')).take(9).collect();
    nine.parse().ok().map(Duration::from_nanos)
}

/// `[d.]hh:mm:ss[.fffffff]`, as .NET writes a `TimeSpan`.
pub(super) fn text(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (days, hours) = (seconds / DAY, seconds % DAY / 3600);
    let days = if days == 0 { String::new() } else { format!("{days}.") };
    let ticks = duration.subsec_nanos() / (1_000_000_000 / TICKS);
    let fraction = if ticks == 0 { String::new() } else { format!(".{ticks:07}") };
    format!("{days}{hours:02}:{:02}:{:02}{fraction}", seconds % 3600 / 60, seconds % 60)
}
