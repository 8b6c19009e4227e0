//! Rate limits of the gateway: so many calls of an operation by a Maskinporten client in a minute.
//!
//! What is refused here has not reached the Broker.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use jiff::Timestamp;
use serde_json::json;

use super::clock::{earlier, later};
use super::problem::answer;

/// The sliding window.
const WINDOW: Duration = Duration::from_mins(1);
/// Client ids are not verified, so those that are silent are forgotten when there are this many.
const CLIENTS: usize = 10_000;

/// How many calls of each operation a client may make in a minute; `None` is as many as it likes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RateLimits {
    /// Initialize.
    pub initialize: Option<u32>,
    /// Stream upload.
    pub upload: Option<u32>,
    /// Form upload.
    pub form_upload: Option<u32>,
    /// Overview.
    pub overview: Option<u32>,
    /// Download.
    pub download: Option<u32>,
    /// Confirm.
    pub confirm: Option<u32>,
    /// Search.
    pub search: Option<u32>,
    /// Details.
    pub details: Option<u32>,
    /// All calls of resumable upload together.
    pub tus: Option<u32>,
}

impl RateLimits {
    /// The limits that Altinn documents; it documents none for resumable upload.
    #[must_use]
    pub fn altinn() -> Self {
        let many = Some(120);
        Self {
            initialize: many,
            upload: many,
            form_upload: many,
            overview: many,
            download: many,
            confirm: many,
            search: Some(10),
            details: Some(10),
            tus: None,
        }
    }

    /// Limits that are so many times as high.
    #[must_use]
    pub fn times(self, factor: u32) -> Self {
        let times = |limit: Option<u32>| limit.map(|limit| limit.saturating_mul(factor));
        Self {
            initialize: times(self.initialize),
            upload: times(self.upload),
            form_upload: times(self.form_upload),
            overview: times(self.overview),
            download: times(self.download),
            confirm: times(self.confirm),
            search: times(self.search),
            details: times(self.details),
            tus: times(self.tus),
        }
    }

    /// The counter of an operation (by its name in the ledger), and its limit.
    fn of(self, operation: &'static str) -> Option<(&'static str, usize)> {
        let limit = match operation {
            "initialize" => self.initialize,
            "upload" => self.upload,
            "form-upload" => self.form_upload,
            "overview" => self.overview,
            "download" => self.download,
            "confirm" => self.confirm,
            "search" => self.search,
            "details" => self.details,
            _ if operation.starts_with("tus-") => self.tus,
            _ => None,
        };
        let counter = if operation.starts_with("tus-") { "tus" } else { operation };
        Some((counter, usize::try_from(limit?).ok()?))
    }
}

/// What each client has called lately.
pub(super) struct Limits {
    pub(super) rates: RateLimits,
    calls: Mutex<HashMap<String, Calls>>,
}

/// The times of the calls of one client in the window, by counter.
type Calls = HashMap<&'static str, VecDeque<Timestamp>>;

impl Limits {
    pub(super) fn new(rates: RateLimits) -> Self {
        Self { rates, calls: Mutex::default() }
    }

    /// Counts a call, or refuses it; without a client there is nobody to count it for.
    pub(super) fn refuse(
        &self,
        now: Timestamp,
        operation: &'static str,
        client: Option<&str>,
    ) -> Option<Response<Body>> {
        let (counter, limit) = self.rates.of(operation)?;
        let client = client?;
        let begin = earlier(now, WINDOW);
        let mut all = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= CLIENTS && !all.contains_key(client) {
            let is_recent = |calls: &VecDeque<Timestamp>| calls.back().is_some_and(|time| *time > begin);
            all.retain(|_, calls| calls.values().any(is_recent));
            // Clients are not verified here: whoever invents so many is not worth the memory.
            if all.len() >= CLIENTS {
                all.clear();
            }
        }
        if !all.contains_key(client) {
            all.insert(client.to_owned(), Calls::new());
        }
        let calls = all.get_mut(client)?.entry(counter).or_default();
        while calls.front().is_some_and(|time| *time <= begin) {
            calls.pop_front();
        }
        if calls.len() < limit {
            calls.push_back(now);
            return None;
        }
        let free = calls.front().map_or(now, |first| later(*first, WINDOW));
        drop(all);
        Some(too_many(free.duration_since(now).as_millis()))
    }
}

/// What API Management answers.
fn too_many(milliseconds: i128) -> Response<Body> {
    let seconds = u64::try_from(milliseconds.max(1)).unwrap_or(u64::MAX).div_ceil(1000);
    let message = format!("Rate limit is exceeded. Try again in {seconds} seconds.");
    let body = json!({ "statusCode": 429, "message": message });
    let mut response = answer(StatusCode::TOO_MANY_REQUESTS, "application/json", body.to_string());
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    response
}
