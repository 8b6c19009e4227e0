//! What a rule does when it strikes.

use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use bytes::Bytes;

use super::canned::{Canned, Text};
use super::quirk::Quirk;
use super::read::{Members, RuleError, one_of};
use super::shape::Twist;
use crate::sandbox::line::End;

/// What a rule does.
#[derive(Debug, Clone)]
pub(super) enum Effect {
    /// Before or after the request has had its effect.
    Ending(When, Ending),
    /// The request goes on later, or its answer does.
    Delay(When, Duration),
    /// The request's body comes in another way.
    Request(Twist),
    /// The answer's body goes out in another way.
    Response(Twist),
    /// A step of the sandbox takes a peculiar turn, with an amount.
    Quirk(Quirk, u64),
}

/// On which side of the request's effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    Before,
    After,
}

/// What comes instead of the real answer.
#[derive(Debug, Clone)]
pub(super) enum Ending {
    /// Another answer.
    Answer(Canned),
    /// None: the connection ends.
    Lost(End),
    /// These bytes, and the end of the connection.
    Raw(Bytes),
}

/// The effects that can be done to any request; the quirks come to these.
pub(in crate::sandbox) const EFFECTS: [&str; 13] = [
    "answer",
    "lose",
    "raw",
    "delay",
    "request-cut",
    "request-stall",
    "request-slow",
    "response-cut",
    "response-stall",
    "response-slow",
    "response-truncate",
    "response-corrupt",
    "response-length",
];

const CLOSES: [(&str, End); 2] = [("reset", End::Reset), ("clean", End::Close)];

/// Reads `effect` and the members that go with it.
pub(super) fn read(members: &mut Members) -> Result<Effect, RuleError> {
    let name = members.text("effect")?;
    let name = members.must("effect", name)?;
    let effect = match name.as_str() {
        "answer" => Effect::Ending(when(members)?, Ending::Answer(answer(members)?)),
        "lose" => {
            let when = when(members)?;
            Effect::Ending(when, Ending::Lost(close(members)?))
        }
        "raw" => {
            let when = when(members)?;
            let text = members.text("text")?;
            Effect::Ending(when, Ending::Raw(members.must("text", text)?.into()))
        }
        "delay" => Effect::Delay(when(members)?, duration(members)?),
        "request-cut" => Effect::Request(Twist::Cut { at: at(members)?, end: close(members)? }),
        "request-stall" => Effect::Request(Twist::Stall { at: at(members)?, pause: duration(members)? }),
        "request-slow" => Effect::Request(Twist::Slow { rate: rate(members)? }),
        "response-cut" => Effect::Response(Twist::Cut { at: at(members)?, end: close(members)? }),
        "response-stall" => Effect::Response(Twist::Stall { at: at(members)?, pause: duration(members)? }),
        "response-slow" => Effect::Response(Twist::Slow { rate: rate(members)? }),
        "response-truncate" => Effect::Response(Twist::Truncate { at: at(members)? }),
        "response-corrupt" => Effect::Response(Twist::Corrupt { at: at(members)? }),
        "response-length" => {
            let length = members.whole("length", 0)?;
            Effect::Response(Twist::Length { length: members.must("length", length)? })
        }
        name => {
            let Some(quirk) = Quirk::named(name) else {
                let quirks = Quirk::ALL.iter().map(|(name, _)| *name);
                let all: Vec<&str> = EFFECTS.into_iter().chain(quirks).collect();
                return Err(members.wrong(format!("`effect` must be {}, not \"{name}\"", one_of(&all))));
            };
            Effect::Quirk(quirk, members.whole("amount", 0)?.unwrap_or(1))
        }
    };
    Ok(effect)
}

fn when(members: &mut Members) -> Result<When, RuleError> {
    let when = members.choice("when", &[("before", When::Before), ("after", When::After)])?;
    Ok(when.unwrap_or(When::Before))
}

fn close(members: &mut Members) -> Result<End, RuleError> {
    Ok(members.choice("close", &CLOSES)?.unwrap_or(End::Reset))
}

fn at(members: &mut Members) -> Result<u64, RuleError> {
    let at = members.whole("at", 0)?;
    members.must("at", at)
}

fn duration(members: &mut Members) -> Result<Duration, RuleError> {
    let duration = members.duration("duration")?;
    members.must("duration", duration)
}

fn rate(members: &mut Members) -> Result<u64, RuleError> {
    let rate = members.whole("bytes_per_second", 1)?;
    members.must("bytes_per_second", rate)
}

fn answer(members: &mut Members) -> Result<Canned, RuleError> {
    let text = if let Some(text) = members.text("text")? {
        if members.has("body") {
            return Err(members.wrong("`body` and `text` exclude each other"));
        }
        Text::Given(text)
    } else {
        members.choice("body", &Text::presets())?.map_or(Text::Empty, Text::Preset)
    };
    let status = match (members.whole("status", 200)?, text.own_status()) {
        (Some(status), _) => u16::try_from(status)
            .ok()
            .filter(|status| *status < 600)
            .and_then(|status| StatusCode::from_u16(status).ok())
            .ok_or_else(|| members.wrong(format!("`status` must be from 200 to 599, not {status}")))?,
        (None, Some(status)) => status,
        (None, None) => return Err(members.wrong("`status` is missing")),
    };
    let mut headers = Vec::new();
    for (name, value) in members.table("headers")? {
        headers.push(self::header(members, &name, &value)?);
    }
    if let Some(pause) = members.duration("retry_after")? {
        let seconds = pause.as_secs() + u64::from(pause.subsec_nanos() > 0);
        headers.push((header::RETRY_AFTER, HeaderValue::from(seconds)));
    }
    Ok(Canned { status, text, headers })
}

fn header(members: &Members, name: &str, value: &str) -> Result<(HeaderName, HeaderValue), RuleError> {
    let wrong = || members.wrong(format!("`headers` cannot hold \"{name}\": \"{value}\""));
    let pair = (HeaderName::try_from(name).ok(), HeaderValue::from_str(value).ok());
    let (Some(name), Some(value)) = pair else { return Err(wrong()) };
    // The server sets these to what is true; `response-length` is for what is not.
    let framing = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::CONNECTION, header::UPGRADE];
    if framing.contains(&name) { Err(wrong()) } else { Ok((name, value)) }
}
