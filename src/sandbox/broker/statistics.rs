//! `GET /broker/api/v1/statistics/monthly`: what came and went in a month, as CSV for the service
//! owner (Broker API, resource, service owner and the rest).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use url::form_urlencoded;

use super::OwnerFault;
use super::transfer::{RecipientStatus, Status, Transfer};
use crate::sandbox::auth::{Caller, normalised};
use crate::sandbox::problem::{Fault, Messages, Refusal, answer};
use crate::sandbox::site::Site;

const HEAD: &str = "year,month,resourceId,senderVendor,recipientVendor,sender,recipient,totalFileTransfers,uploadCount,totalTransferDownloadAttempts,transfersWithDownloadConfirmed\n";

struct Query {
    resource: Option<String>,
    year: i16,
    month: i8,
    end_user: bool,
    vendor: bool,
}

/// What a row counts.
#[derive(Default)]
struct Counts {
    transfers: u64,
    uploads: u64,
    downloads: u64,
    confirmed: u64,
}

/// Resource, sender, sender's vendor, recipient, recipient's vendor: also the order of the rows.
type Key = [String; 5];

/// Counts the month.
pub(super) fn monthly(site: &Site, caller: &Caller, query: &str) -> Result<Response<Body>, Refusal> {
    let query = parse(query)?;
    let owner = caller.organization().ok_or(Fault::NoAccess)?;
    let resources: Vec<String> = site.look(|world| match &query.resource {
        None => {
            let own = world.resources.iter().filter(|(_, resource)| resource.owner.as_deref() == Some(owner));
            Ok(own.map(|(id, _)| id.clone()).collect())
        }
        Some(id) => {
            let resource = world.resources.get(id).filter(|it| it.configured && it.owner.is_some());
            let resource = resource.ok_or(OwnerFault::ResourceNotConfigured)?;
            if resource.owner.as_deref() == Some(owner) {
                Ok(vec![id.clone()])
            } else {
                Err(Refusal::from(Fault::NoAccess))
            }
        }
    })?;
    let mut rows: BTreeMap<Key, Counts> = BTreeMap::new();
    site.depot.all(|transfer| {
        if resources.contains(&transfer.resource) {
            query.count(transfer, &mut rows);
        }
        None::<()>
    });
    let mut text = HEAD.to_owned();
    for ([resource, sender, sender_vendor, recipient, recipient_vendor], counts) in &rows {
        let Counts { transfers, uploads, downloads, confirmed } = counts;
        let row = format_args!(
            "{},{},{},{sender_vendor},{recipient_vendor},{sender},{recipient},{transfers},{uploads},{downloads},{confirmed}\n",
            query.year,
            query.month,
            escaped(resource),
        );
        // Writing to a String cannot fail.
        if text.write_fmt(row).is_err() {
            break;
        }
    }
    Ok(query.file(text))
}

impl Query {
    fn contains(&self, time: Timestamp) -> bool {
        let date = time.to_zoned(TimeZone::UTC).date();
        (date.year(), date.month()) == (self.year, self.month)
    }

    /// Each recipient that did something in the month, or whose file was published in it.
    fn count(&self, transfer: &Transfer, rows: &mut BTreeMap<Key, Counts>) {
        let published =
            transfer.history.iter().any(|row| row.status == Status::Published && self.contains(row.time));
        for recipient in transfer.recipient_organizations() {
            let of_month: Vec<_> =
                transfer.rows_of(recipient).filter(|row| self.contains(row.time)).collect();
            let addressed = transfer.rows_of(recipient).any(|row| row.status == RecipientStatus::Initialized);
            if of_month.is_empty() && !(published && addressed) {
                continue;
            }
            let party = |number: &str| if self.end_user { normalised(number) } else { String::new() };
            let vendor = |number: Option<&String>| {
                number.filter(|_| self.vendor).map_or_else(String::new, |number| normalised(number))
            };
            let key = [
                transfer.resource.clone(),
                party(&transfer.sender),
                vendor(transfer.vendor.as_ref()),
                party(recipient),
                vendor(of_month.iter().rev().find_map(|row| row.vendor.as_ref())),
            ];
            let times = |status| of_month.iter().filter(|row| row.status == status).count() as u64;
            let counts = rows.entry(key).or_default();
            counts.transfers += u64::from(self.contains(transfer.created));
            counts.uploads += u64::from(published);
            counts.downloads += times(RecipientStatus::DownloadStarted);
            counts.confirmed += times(RecipientStatus::DownloadConfirmed).min(1);
        }
    }

    fn file(&self, text: String) -> Response<Body> {
        let resource = self.resource.as_deref().unwrap_or("all-resources").replace('/', "_");
        let name = format!("monthly_statistics_{resource}_{:04}-{:02}.csv", self.year, self.month);
        let mut response = answer(StatusCode::OK, "text/csv", text);
        let disposition = super::download::disposition(&name);
        if let Ok(value) = HeaderValue::from_str(&disposition) {
            response.headers_mut().insert(header::CONTENT_DISPOSITION, value);
        }
        response
    }
}

fn escaped(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

fn parse(text: &str) -> Result<Query, Refusal> {
    let mut errors = Messages::new();
    let find = |name: &str| {
        let mut pairs = form_urlencoded::parse(text.as_bytes());
        pairs.find(|(key, value)| key.eq_ignore_ascii_case(name) && !value.is_empty())
    };
    let mut complain = |name: &str, value: &str| {
        errors
            .entry(name.to_owned())
            .or_default()
            .push(format!("The value '{value}' is not valid for {name}."));
    };
    // What is missing is zero, which is no month.
    let mut number = |name: &str| match find(name) {
        None => 0,
        Some((_, value)) => value.trim().parse::<i32>().unwrap_or_else(|_| {
            complain(name, &value);
            0
        }),
    };
    let (year, month) = (number("Year"), number("Month"));
    let mut flag = |name: &str, default| match find(name) {
        None => default,
        Some((_, value)) => value.trim().to_ascii_lowercase().parse().unwrap_or_else(|_| {
            complain(name, &value);
            default
        }),
    };
    let (end_user, vendor) = (flag("IncludeEndUser", true), flag("IncludeVendor", false));
    if !errors.is_empty() {
        return Err(Refusal::Invalid(errors));
    }
    let in_range = (1..=9999).contains(&year) && (1..=12).contains(&month) && (year, month) != (9999, 12);
    let (Ok(year), Ok(month), true) = (i16::try_from(year), i8::try_from(month), in_range) else {
        return Err(OwnerFault::MonthFormat.into());
    };
    if !end_user && !vendor {
        return Err(OwnerFault::EveryoneExcluded.into());
    }
    let resource = find("ResourceId").map(|(_, value)| value.trim().to_owned()).filter(|id| !id.is_empty());
    Ok(Query { resource, year, month, end_user, vendor })
}
