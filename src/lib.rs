//! formidlingd.

/// A local Altinn to build and test against.
pub mod sandbox;
