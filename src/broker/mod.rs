//! Formidling's API, typed (docs.altinn.studio/broker): make a transfer, upload (also
//! resumably, [`tus`]), look, search, download, confirm.
//!
//! Each call waits for its budget, carries a token, is made once, and says what its failure means: [`effect`]
//! holds the one table from what Altinn answered to what may be done next. Nothing is repeated here, except once
//! after an empty 401, which says that the token was not taken and the call not looked at.

mod call;
mod client;
mod content;
pub mod effect;
mod error;
mod model;
mod parse;
mod problem;
mod tus;

pub use call::Call;
pub use client::{Client, Parts};
pub use content::{Body, Download};
pub use effect::{Answer, Code, Facts, Trouble, TusRefusal};
pub use error::{Error, Kind};
pub use model::{
    Details, Initialize, Initialized, Overview, Recipient, RecipientMoment, RecipientStatus, Role, Search,
    Status, StatusMoment,
};
pub use problem::Problem;
pub use tus::{Chunk, Stored};

#[cfg(test)]
mod tests;
