//! The sandbox against the Broker's statements, in-process over loopback.

mod faults;
mod faults_effects;
mod faults_quirks;
mod house;
mod identity;
mod initialize;
mod ledger;
mod limits;
mod receive;
mod search;
mod settings;
mod support;
mod transport;
mod upload;
