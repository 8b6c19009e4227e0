//! The sandbox against the Broker's statements, in-process over loopback.

mod form;
mod house;
mod identity;
mod initialize;
mod receive;
mod registry;
mod resource;
mod search;
mod support;
mod transport;
mod upload;
