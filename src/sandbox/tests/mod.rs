//! The sandbox against the Broker's statements, in-process over loopback.

mod house;
mod support;
