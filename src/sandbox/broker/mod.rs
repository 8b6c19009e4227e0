//! Formidling itself (Broker API): transfers, their endpoints, and what happens to them by themselves.

pub(in crate::sandbox) mod depot;
pub(in crate::sandbox) mod download;
mod form;
mod initialize;
mod intake;
pub(in crate::sandbox) mod jobs;
mod members;
mod metadata;
mod owner_fault;
mod range;
mod resource;
mod search;
mod serve;
mod service_owner;
mod show;
mod statistics;
mod time_span;
pub(in crate::sandbox) mod transfer;
pub(in crate::sandbox) mod tus;
mod upload;

pub(in crate::sandbox) use download::Delivery;
pub(in crate::sandbox) use owner_fault::OwnerFault;
pub(in crate::sandbox) use serve::serve;
pub(in crate::sandbox) use upload::hex;
