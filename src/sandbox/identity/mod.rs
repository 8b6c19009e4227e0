//! Maskinporten, and Altinn's exchange of its tokens.

pub(in crate::sandbox) mod exchange;
pub(in crate::sandbox) mod maskinporten;
