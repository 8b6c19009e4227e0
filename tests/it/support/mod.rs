//! What every test works with.

mod accelerated;
mod bench;
mod caps;
mod child;
mod content;
mod http;
mod in_process;
mod log;
mod mounts;
mod party;
mod points;
mod promises;
mod proxy;
mod settings;
mod stranger;
mod swap;

pub(crate) use bench::{Bench, INBOX, MOTTAKER, OUTBOX, RESOURCE, Setup};
pub(crate) use child::{Child, DEADLINE, Ended, PROGRAM, command, run, until};
pub(crate) use content::{Content, noise};
pub(crate) use http::ask;
pub(crate) use in_process::{InProcess, in_process, in_process_at, in_process_off_by};
pub(crate) use log::TestLog;
pub(crate) use mounts::{Ballast, Mount, assert_alone_as_root};
pub(crate) use party::Party;
pub(crate) use points::{RARE, points, store_points_of, usual_points};
pub(crate) use promises::{Fate, files_below, sources_below};
pub(crate) use proxy::{Fault, Proxy, Rule};
pub(crate) use settings::Settings;
pub(crate) use stranger::Stranger;
pub(crate) use swap::Elsewhere;
