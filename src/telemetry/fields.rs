//! Masks the fields of events and spans on their way to the formatter of text logs. Numbers pass as they are.

use std::error::Error;
use std::fmt::{self, Debug};

use tracing::field::{Field, Visit};
use tracing_subscriber::field::{RecordFields, VisitOutput};
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{DefaultVisitor, Writer};

use super::mask::Mask;

/// Formats fields as `tracing-subscriber` does by default, masked.
#[derive(Debug)]
pub(super) struct MaskedFields(pub(super) Mask);

impl<'writer> FormatFields<'writer> for MaskedFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut visitor = MaskedVisitor { mask: &self.0, to: DefaultVisitor::new(writer, true) };
        fields.record(&mut visitor);
        visitor.to.finish()
    }
}

struct MaskedVisitor<'a, 'writer> {
    mask: &'a Mask,
    to: DefaultVisitor<'writer>,
}

impl Visit for MaskedVisitor<'_, '_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.to.record_f64(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.to.record_i64(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.to.record_u64(field, value);
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        self.to.record_i128(field, value);
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.to.record_u128(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.to.record_bool(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.to.record_str(field, &self.mask.field(field.name(), value));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        let mut text = value.to_string();
        let mut cause = value.source();
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        self.record_debug(field, &format_args!("{text}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let text = format!("{value:?}");
        let masked = self.mask.field(field.name(), &text);
        self.to.record_debug(field, &format_args!("{masked}"));
    }
}
