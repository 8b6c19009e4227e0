//! Masks the texts of a JSON log line, which the formatter hands over as a whole. Numbers pass as they are.

use serde::Serializer;
use serde::ser::SerializeMap;
use serde_json::{Map, Value};

use super::mask::Mask;

/// Members that are not anybody's words.
const FIXED: [&str; 3] = ["timestamp", "level", "target"];
/// Members that stand first, so that a person finds them.
const FIRST: [&str; 3] = ["timestamp", "level", "message"];

/// The line with its texts masked. One that is not JSON is masked as a text.
pub(super) fn masked(line: &str, mask: &Mask) -> String {
    let Ok(Value::Object(mut event)) = serde_json::from_str(line) else {
        return mask.field("message", line).into_owned();
    };
    for (name, value) in &mut event {
        match (name.as_str(), value) {
            ("span", span) => mask_span(span, mask),
            ("spans", Value::Array(spans)) => spans.iter_mut().for_each(|span| mask_span(span, mask)),
            (name, value) if !FIXED.contains(&name) => mask_value(name, value, mask),
            _ => {}
        }
    }
    // Written to memory, which does not fail; an event that is lost is better than one that is not masked.
    ordered(&event).unwrap_or_default()
}

/// In a span, `name` is the name of the span.
fn mask_span(span: &mut Value, mask: &Mask) {
    let Value::Object(fields) = span else { return mask_value("span", span, mask) };
    for (name, value) in fields.iter_mut() {
        let name = if name == "name" { "message" } else { name.as_str() };
        mask_value(name, value, mask);
    }
}

fn mask_value(field: &str, value: &mut Value, mask: &Mask) {
    match value {
        Value::String(text) => *text = mask.field(field, text).into_owned(),
        Value::Array(values) => values.iter_mut().for_each(|value| mask_value(field, value, mask)),
        Value::Object(values) => values.iter_mut().for_each(|(name, value)| mask_value(name, value, mask)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn ordered(event: &Map<String, Value>) -> serde_json::Result<String> {
    let mut line = Vec::new();
    let mut serializer = serde_json::Serializer::new(&mut line);
    let mut map = serializer.serialize_map(Some(event.len()))?;
    let first = FIRST.iter().filter_map(|name| event.get_key_value(*name));
    let others = event.iter().filter(|(name, _)| !FIRST.contains(&name.as_str()));
    for (name, value) in first.chain(others) {
        map.serialize_entry(name, value)?;
    }
    map.end()?;
    Ok(String::from_utf8(line).unwrap_or_default())
}
