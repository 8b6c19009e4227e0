//! The sandbox against the Broker's statements, in-process over loopback.

mod customers;
mod events;
mod exchange;
mod faults;
mod faults_effects;
mod faults_quirks;
mod form;
mod founding;
mod house;
mod identity;
mod initialize;
mod ledger;
mod limits;
mod pace;
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
