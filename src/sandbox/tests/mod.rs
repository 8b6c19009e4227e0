//! The sandbox against the Broker's statements, in-process over loopback.

mod events;
mod house;
mod identity;
mod initialize;
mod receive;
mod search;
mod settings;
mod support;
mod transport;
mod upload;
