//! The sandbox against the Broker's statements, in-process over loopback.

mod customers;
mod events;
mod faults;
mod form;
mod house;
mod identity;
mod initialize;
mod receive;
mod registry;
mod resource;
mod search;
mod settings;
mod support;
mod tls;
mod transport;
mod tus;
mod upload;
