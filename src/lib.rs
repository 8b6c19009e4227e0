//! formidlingd sends and receives files through Altinn Formidling (Altinn 3 Broker): a file that is dropped
//! in a folder is published exactly once, a file that is sent to us appears in a folder exactly once.
//!
//! # The house
//!
//! Rooms stand on floors. A room uses only what stands below it, and rooms of one floor do not use each
//! other; a test (`tests/it/house.rs`) holds both. From the top floor down:
//!
//! | floor | rooms |
//! |---|---|
//! | commands | [`cli`]: what a person types, and what is printed |
//! | assembly | [`daemon`]: builds the parts, supervises them, stops them in order |
//! | work | [`outbox`]: watch, settle, claim, send, follow, archive · [`inbox`]: hear, download, deliver, confirm |
//! | both ways | [`route`]: what both directions share: the loop over due transfers, the hold on a route in trouble |
//! | Altinn | [`broker`]: Formidling's API, typed |
//! | access | [`identity`]: Maskinporten grants, the exchange, cached tokens |
//! | means | [`http`]: the one place that makes HTTP clients · [`pace`]: rate budget and backoff · [`store`]: durable records · [`files`]: durable and safe file operations |
//! | settings | [`config`]: schema, loading, validation · [`telemetry`]: logs |
//! | domain | [`transfer`]: ids, organisations, states and transitions, without any I/O |
//! | seams | [`seams`]: clock, randomness, crash points, failing file operations: what a test may take into its own hands |
//!
//! Apart from the house stands [`sandbox`], a local Altinn. It shares no code with the client, so that one
//! cannot flatter the other.
//!
//! A newcomer starts at [`transfer::outgoing`], the states of a file on its way out, then reads
//! [`outbox::driver`], which takes one step at a time.

pub mod broker;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod files;
pub mod http;
pub mod identity;
pub mod inbox;
pub mod outbox;
pub mod pace;
pub mod route;
pub mod sandbox;
pub mod seams;
pub mod store;
pub mod telemetry;
pub mod transfer;
