//! The sandbox against the Broker's statements, in-process over loopback.

mod house;
mod identity;
mod initialize;
mod receive;
mod search;
mod support;
mod transport;
mod tus;
mod upload;
